//! Questions to the kernel from a thread that waits for the answer.
//!
//! A look at a thousand namespaces is a few thousand short questions. Asked one after the other on the thread
//! that is in the namespace, each takes microseconds; through the runtime it would take a socket, a task and
//! several switches.

use std::io;

use anyhow::{Context as _, Result, bail};
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
    sys::{Socket, SocketAddr, constants},
};

/// Flag of linux/netlink.h: what was listed changed meanwhile.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// A list that changes more often than this while it is read is taken as it is.
const ATTEMPTS: usize = 8;
/// Bytes; the kernel puts at most 32 KiB of a list into one message.
const BUFFER: usize = 64 << 10;

/// A socket in the network namespace of the thread that opened it.
pub(super) struct Asker {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Asker {
    /// Opens it.
    pub(super) fn open() -> Result<Self> {
        let mut socket = Socket::new(constants::NETLINK_ROUTE).context("open a netlink socket")?;
        socket.bind_auto().context("open a netlink socket")?;
        socket.connect(&SocketAddr::new(0, 0)).context("connect to netlink")?;
        Ok(Self { socket, buffer: Vec::with_capacity(BUFFER) })
    }

    /// All that the kernel lists for `question`.
    pub(super) fn list(&mut self, question: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>> {
        let mut answers = Vec::new();
        for _ in 0..ATTEMPTS {
            let is_whole = self.exchange(question.clone(), NLM_F_DUMP, &mut answers)?;
            if is_whole {
                break;
            }
        }
        Ok(answers)
    }

    /// What the kernel answers to a single question, or to an order.
    pub(super) fn ask(&mut self, question: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>> {
        let mut answers = Vec::new();
        self.exchange(question, NLM_F_ACK, &mut answers)?;
        Ok(answers)
    }

    /// Replaces `answers` by those to `question`; whether they belong together.
    fn exchange(
        &mut self,
        question: RouteNetlinkMessage,
        flags: u16,
        answers: &mut Vec<RouteNetlinkMessage>,
    ) -> Result<bool> {
        answers.clear();
        let mut message = NetlinkMessage::from(question);
        message.header.flags = NLM_F_REQUEST | flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).context("ask the kernel")?;
        let mut is_whole = true;
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0).context("hear the kernel's answer")?;
            let mut rest = &self.buffer[..];
            while !rest.is_empty() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|error| anyhow::anyhow!("understand the kernel: {error}"))?;
                is_whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
                let length = (message.header.length as usize).next_multiple_of(4);
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(is_whole),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(is_whole),
                    NetlinkPayload::Error(error) => return Err(error.to_io().into()),
                    NetlinkPayload::Overrun(_) => bail!("the kernel's answer was lost"),
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    _ => {}
                }
                let Some(next) = rest.get(length.max(1)..) else { break };
                rest = next;
            }
            if self.buffer.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof))
                    .context("hear the kernel's answer");
            }
        }
    }
}

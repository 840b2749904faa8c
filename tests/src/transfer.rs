//! Large transfers over TCP of which each byte is checked.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use crate::{
    Namespace,
    traffic::{ANSWER, listen},
};

/// What is written and read at once; each begins with its own number.
const BLOCK: usize = 1 << 20;
/// How long one block may take.
const STALL: Duration = Duration::from_secs(20);

/// Both ends of one TCP connection.
#[derive(Debug)]
pub struct Pipe {
    near: TcpStream,
    far: TcpStream,
}

impl Pipe {
    /// Connects from inside `from` to `address`, behind which `port` of `to` stands.
    ///
    /// # Panics
    /// When the connection is not established in time.
    #[must_use]
    pub fn open(from: &Namespace, address: &str, (to, port): (&Namespace, u16)) -> Self {
        let address: SocketAddr = address.parse().expect("ADDRESS:PORT");
        let listener = listen(to, port);
        let near = from.enter(|| TcpStream::connect_timeout(&address, ANSWER).expect("connect"));
        let (far, _) = listener.accept().expect("accept");
        for end in [&near, &far] {
            end.set_read_timeout(Some(STALL)).expect("a limit");
            end.set_write_timeout(Some(STALL)).expect("a limit");
        }
        Self { near, far }
    }

    /// Sends `blocks` MiB from the end that connected, and asserts that each byte arrives.
    ///
    /// # Panics
    /// When one does not, or the transfer stands still.
    #[track_caller]
    pub fn assert_carries_there(&mut self, blocks: u64) {
        carry(&mut self.near, &mut self.far, blocks);
    }

    /// Sends `blocks` MiB to the end that connected, and asserts that each byte arrives.
    ///
    /// # Panics
    /// When one does not, or the transfer stands still.
    #[track_caller]
    pub fn assert_carries_back(&mut self, blocks: u64) {
        carry(&mut self.far, &mut self.near, blocks);
    }
}

fn carry(from: &mut TcpStream, to: &mut TcpStream, blocks: u64) {
    let (sent, received) = thread::scope(|scope| {
        let sender = scope.spawn(|| send(from, blocks));
        let received = receive(to, blocks);
        (sender.join().expect("the sender"), received)
    });
    assert!(sent.is_ok() && received.is_ok(), "sent: {sent:?}, received: {received:?}");
}

/// Bytes in which no two places look alike to a checksum.
fn pattern() -> Vec<u8> {
    (0..BLOCK as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn send(stream: &mut TcpStream, blocks: u64) -> io::Result<()> {
    let mut block = pattern();
    for number in 0..blocks {
        block[..8].copy_from_slice(&number.to_le_bytes());
        stream.write_all(&block)?;
    }
    Ok(())
}

fn receive(stream: &mut TcpStream, blocks: u64) -> Result<(), String> {
    let (mut expected, mut block) = (pattern(), vec![0; BLOCK]);
    for number in 0..blocks {
        stream.read_exact(&mut block).map_err(|error| format!("block {number} of {blocks}: {error}"))?;
        expected[..8].copy_from_slice(&number.to_le_bytes());
        if block != expected {
            return Err(format!("block {number} of {blocks} arrived with other bytes"));
        }
    }
    Ok(())
}

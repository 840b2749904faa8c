//! Messages, with what the suites use of them.

use std::net::Ipv4Addr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::{CLIENT, SERVER};
use crate::frames::{Eth, MacAddr, udp4};

/// The cookie before the options (RFC 2131 section 3).
const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
/// Bytes before the options, the cookie among them.
const FIXED: usize = 240;
/// Says that the client cannot be spoken to before it has its address (RFC 2131 section 2).
const BROADCAST: u8 = 0x80;

/// Numbers of options (RFC 2132).
mod option {
    pub(super) const SUBNET_MASK: u8 = 1;
    pub(super) const ROUTER: u8 = 3;
    pub(super) const REQUESTED: u8 = 50;
    pub(super) const LEASE_TIME: u8 = 51;
    pub(super) const KIND: u8 = 53;
    pub(super) const SERVER: u8 = 54;
    pub(super) const END: u8 = 255;
}

/// What kind of message it is (RFC 2132 section 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who lets me have an address?
    Discover = 1,
    /// You may have this one.
    Offer = 2,
    /// I take it, or keep it.
    Request = 3,
    /// It is yours.
    Ack = 5,
    /// It is not.
    Nak = 6,
    /// I give it back.
    Release = 7,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// What kind of message it is.
    pub kind: Kind,
    /// The client's number for the exchange.
    pub transaction: u32,
    /// The client.
    pub client: MacAddr,
    /// The address that the client has already.
    pub client_addr: Ipv4Addr,
    /// The address that the client gets.
    pub your_addr: Ipv4Addr,
    /// The address that the client asks for.
    pub requested: Option<Ipv4Addr>,
    /// The server.
    pub server: Option<Ipv4Addr>,
    /// For how long, in seconds.
    pub secs: Option<u32>,
    /// Whether the client is to be answered by a broadcast.
    pub broadcast: bool,
}

impl Message {
    /// A message of a client that has no address.
    #[must_use]
    pub const fn of(kind: Kind, client: MacAddr) -> Self {
        Self {
            kind,
            transaction: 0x766e_6574,
            client,
            client_addr: Ipv4Addr::UNSPECIFIED,
            your_addr: Ipv4Addr::UNSPECIFIED,
            requested: None,
            server: None,
            secs: None,
            broadcast: false,
        }
    }

    /// The payload of the datagram.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; FIXED];
        let is_reply = matches!(self.kind, Kind::Offer | Kind::Ack | Kind::Nak);
        // Over Ethernet, with addresses of six bytes.
        bytes[..3].copy_from_slice(&[if is_reply { 2 } else { 1 }, 1, 6]);
        bytes[4..8].copy_from_slice(&self.transaction.to_be_bytes());
        bytes[10] = if self.broadcast { BROADCAST } else { 0 };
        bytes[12..16].copy_from_slice(&self.client_addr.octets());
        bytes[16..20].copy_from_slice(&self.your_addr.octets());
        bytes[28..34].copy_from_slice(&self.client.0);
        bytes[236..].copy_from_slice(&COOKIE);
        let mut add = |number: u8, value: &[u8]| {
            bytes.extend([number, value.len() as u8]);
            bytes.extend(value);
        };
        add(option::KIND, &[self.kind as u8]);
        if let Some(addr) = self.requested {
            add(option::REQUESTED, &addr.octets());
        }
        if let Some(server) = self.server {
            add(option::SERVER, &server.octets());
        }
        if let (Some(secs), Some(server)) = (self.secs, self.server) {
            add(option::LEASE_TIME, &secs.to_be_bytes());
            add(option::SUBNET_MASK, &[255, 255, 255, 0]);
            add(option::ROUTER, &server.octets());
        }
        bytes.push(option::END);
        bytes
    }

    /// What a payload says, if it is a message.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (fixed, mut options) = bytes.split_at_checked(FIXED)?;
        if fixed[236..] != COOKIE {
            return None;
        }
        let address = |at: &[u8]| <[u8; 4]>::try_from(at).ok().map(Ipv4Addr::from);
        let client = MacAddr(fixed[28..34].try_into().ok()?);
        let mut message = Self::of(Kind::Discover, client);
        message.transaction = u32::from_be_bytes(fixed[4..8].try_into().ok()?);
        message.broadcast = fixed[10] & BROADCAST != 0;
        (message.client_addr, message.your_addr) = (address(&fixed[12..16])?, address(&fixed[16..20])?);
        let mut kind = None;
        while let [number, len, rest @ ..] = options
            && *number != option::END
        {
            let (value, after) = rest.split_at_checked(usize::from(*len))?;
            match *number {
                option::KIND => kind = kind_of(*value.first()?),
                option::REQUESTED => message.requested = address(value),
                option::SERVER => message.server = address(value),
                option::LEASE_TIME => message.secs = value.try_into().ok().map(u32::from_be_bytes),
                _ => {}
            }
            options = after;
        }
        Some(Self { kind: kind?, ..message })
    }

    /// The message in `frame` from a client to a server, and who sent it.
    pub(super) fn to_server(frame: &[u8]) -> Option<(Self, Eth)> {
        Self::in_frame(frame, SERVER)
    }

    /// The message in `frame` from a server to a client.
    pub(super) fn to_client(frame: &[u8]) -> Option<Self> {
        Some(Self::in_frame(frame, CLIENT)?.0)
    }

    fn in_frame(frame: &[u8], to: u16) -> Option<(Self, Eth)> {
        let parsed = SlicedPacket::from_ethernet(frame).ok()?;
        let (Some(NetSlice::Ipv4(_)), Some(TransportSlice::Udp(udp))) = (&parsed.net, &parsed.transport)
        else {
            return None;
        };
        let mac = |at: usize| Some(MacAddr(frame.get(at..at + 6)?.try_into().ok()?));
        let message = Self::parse(udp.payload())?;
        (udp.destination_port() == to).then_some((message, Eth::new(mac(6)?, mac(0)?)))
    }

    /// The frame by which a client without an address sends it.
    #[must_use]
    pub fn frame(&self, sender: MacAddr) -> Vec<u8> {
        let eth = Eth::broadcast(sender);
        udp4(eth, (Ipv4Addr::UNSPECIFIED, CLIENT), (Ipv4Addr::BROADCAST, SERVER), &self.bytes())
    }
}

/// The frame by which `sender` asks for an address for `client`.
#[must_use]
pub fn discovery(sender: MacAddr, client: MacAddr) -> Vec<u8> {
    Message::of(Kind::Discover, client).frame(sender)
}

const fn kind_of(number: u8) -> Option<Kind> {
    Some(match number {
        1 => Kind::Discover,
        2 => Kind::Offer,
        3 => Kind::Request,
        5 => Kind::Ack,
        6 => Kind::Nak,
        7 => Kind::Release,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let message = Message {
            your_addr: Ipv4Addr::new(192, 0, 2, 44),
            requested: Some(Ipv4Addr::new(192, 0, 2, 45)),
            server: Some(Ipv4Addr::new(192, 0, 2, 1)),
            secs: Some(600),
            broadcast: true,
            ..Message::of(Kind::Ack, CLIENT_MAC)
        };
        assert_eq!(Message::parse(&message.bytes()), Some(message));
    }

    #[test]
    fn a_message_is_found_in_its_frame() {
        let message = Message::of(Kind::Discover, CLIENT_MAC);
        let found = Message::to_server(&message.frame(CLIENT_MAC)).map(|(message, eth)| (message, eth.src));
        assert_eq!(found, Some((message, CLIENT_MAC)));
        assert_eq!(Message::to_client(&message.frame(CLIENT_MAC)), None);
    }
}

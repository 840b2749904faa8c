//! What a DHCP message says about who has an address (RFC 2131).
//!
//! Pure. Messages come from beyond this host and from workloads: whatever is wrong with one, it says nothing.

use std::net::Ipv4Addr;

use smoltcp::wire::{DhcpMessageType, DhcpOpCode, DhcpPacket};
use vnet_common::MacAddr;

/// The cookie before the options (RFC 2131 section 3).
const MAGIC: u32 = 0x6382_5363;
/// Ethernet, and bytes of its addresses.
const ETHERNET: (u16, u8) = (1, 6);
/// The requested address (RFC 2132 section 9.1).
const REQUESTED: u8 = 50;
/// For how long, in seconds (RFC 2132 section 9.2).
const LEASE_TIME: u8 = 51;
/// What kind of message it is (RFC 2132 section 9.6).
const MESSAGE_TYPE: u8 = 53;

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dhcp {
    /// A server lets a client have an address, for a time in seconds.
    Granted {
        /// The client.
        client: MacAddr,
        /// The address.
        addr: Ipv4Addr,
        /// The time; `u32::MAX` is for ever (RFC 2131 section 3.3).
        secs: u32,
    },
    /// A server tells a client that it has no address.
    Denied {
        /// The client.
        client: MacAddr,
    },
    /// A client gives an address back, or has found that somebody else has it.
    GivenUp {
        /// The client.
        client: MacAddr,
        /// The address.
        addr: Ipv4Addr,
    },
}

/// What the UDP payload of a message says; `None` if nothing that counts.
pub(super) fn read(payload: &[u8]) -> Option<Dhcp> {
    let packet = DhcpPacket::new_checked(payload).ok()?;
    let is_ethernet = (u16::from(packet.hardware_type()), packet.hardware_len()) == ETHERNET;
    if !is_ethernet || packet.magic_number() != MAGIC {
        return None;
    }
    let client = MacAddr(packet.client_hardware_address().0);
    let option = |kind: u8| packet.options().find(|option| option.kind == kind).map(|option| option.data);
    let [kind] = option(MESSAGE_TYPE)? else { return None };
    let is_address = |addr: &Ipv4Addr| !addr.is_unspecified();
    match (packet.opcode(), DhcpMessageType::from(*kind)) {
        // One without a time answers who has an address already, and asked for something else (RFC 2131 section 3.4).
        (DhcpOpCode::Reply, DhcpMessageType::Ack) => {
            let secs = u32::from_be_bytes(option(LEASE_TIME)?.try_into().ok()?);
            let addr = Some(packet.your_ip()).filter(is_address)?;
            Some(Dhcp::Granted { client, addr, secs })
        }
        (DhcpOpCode::Reply, DhcpMessageType::Nak) => Some(Dhcp::Denied { client }),
        (DhcpOpCode::Request, DhcpMessageType::Release) => {
            Some(Dhcp::GivenUp { client, addr: Some(packet.client_ip()).filter(is_address)? })
        }
        (DhcpOpCode::Request, DhcpMessageType::Decline) => {
            let addr: [u8; 4] = option(REQUESTED)?.try_into().ok()?;
            Some(Dhcp::GivenUp { client, addr: addr.into() })
        }
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use smoltcp::wire::{DhcpRepr, EthernetAddress};

    use super::*;

    pub(in crate::daemon) const CLIENT: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);
    pub(in crate::daemon) const ADDR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 44);

    pub(in crate::daemon) fn message(message_type: DhcpMessageType) -> DhcpRepr<'static> {
        let none = Ipv4Addr::UNSPECIFIED;
        DhcpRepr {
            message_type,
            transaction_id: 1,
            secs: 0,
            client_hardware_address: EthernetAddress(CLIENT.0),
            client_ip: none,
            your_ip: none,
            server_ip: none,
            router: None,
            subnet_mask: None,
            relay_agent_ip: none,
            broadcast: false,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(Ipv4Addr::new(192, 0, 2, 1)),
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        }
    }

    pub(in crate::daemon) fn bytes(message: &DhcpRepr<'_>) -> Vec<u8> {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).unwrap();
        bytes
    }

    pub(in crate::daemon) fn acknowledgement() -> DhcpRepr<'static> {
        DhcpRepr { your_ip: ADDR, lease_duration: Some(600), ..message(DhcpMessageType::Ack) }
    }

    #[test]
    fn an_acknowledgement_grants_an_address_for_a_time() {
        let granted = Dhcp::Granted { client: CLIENT, addr: ADDR, secs: 600 };
        let bytes = bytes(&acknowledgement());
        assert_eq!(read(&bytes), Some(granted));
        // What is cut off behind the options that count does not matter.
        let padded = [&bytes[..bytes.len() - 1], &[0; 30]].concat();
        assert_eq!(read(&padded), Some(granted));
    }

    #[test]
    fn only_an_acknowledgement_of_a_lease_grants_anything() {
        let inform = DhcpRepr { lease_duration: None, ..acknowledgement() };
        let nothing = DhcpRepr { your_ip: Ipv4Addr::UNSPECIFIED, ..acknowledgement() };
        let offer = DhcpRepr { message_type: DhcpMessageType::Offer, ..acknowledgement() };
        let request = DhcpRepr { message_type: DhcpMessageType::Request, ..acknowledgement() };
        for message in [inform, nothing, offer, request] {
            assert_eq!(read(&bytes(&message)), None, "{message:?}");
        }
    }

    #[test]
    fn an_address_is_denied_and_given_up() {
        assert_eq!(read(&bytes(&message(DhcpMessageType::Nak))), Some(Dhcp::Denied { client: CLIENT }));
        let release = DhcpRepr { client_ip: ADDR, ..message(DhcpMessageType::Release) };
        let decline = DhcpRepr { requested_ip: Some(ADDR), ..message(DhcpMessageType::Decline) };
        for message in [release, decline] {
            assert_eq!(read(&bytes(&message)), Some(Dhcp::GivenUp { client: CLIENT, addr: ADDR }));
        }
    }

    #[test]
    fn whatever_is_wrong_says_nothing() {
        let right = bytes(&acknowledgement());
        for end in 0..right.len() - 1 {
            // No panic; cut off before the options that count, it says nothing.
            let said = read(&right[..end]);
            assert!(said.is_none() || end > 240, "{end}: {said:?}");
        }
        // Its direction, hardware, length of hardware addresses and cookie.
        for (offset, value) in [(0, 1), (1, 6), (2, 255), (2, 16), (236, 0)] {
            let mut wrong = right.clone();
            wrong[offset] = value;
            assert_eq!(read(&wrong), None, "byte {offset} is {value}");
        }
    }
}

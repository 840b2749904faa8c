//! What the host's own processes connect to.
//!
//! A packet from the host to a forward's address never leaves it, so the address is translated before there is a
//! packet: when a socket is told whom to speak to.

use vnet_common::{ForwardKey, ForwardKind, SocketAddress};

use crate::tables::{Snapshot, Tables};

/// How often it is looked again when the tables changed meanwhile. They change a few times in a second at most.
const ATTEMPTS: u32 = 4;

/// Whom a process of the host really speaks to that asks for `to`; nothing if for nobody else.
///
/// Unlike what handles a packet, this can be interrupted: the controller does not wait for it before it writes
/// a side. What was found counts only if the generation is still the same.
#[inline(always)]
pub fn destination<T: Tables>(tables: &T, to: SocketAddress, protocol: u8) -> Option<SocketAddress> {
    for _ in 0..ATTEMPTS {
        let snapshot = Snapshot::take(tables).ok()?;
        let found = find(&snapshot, to, protocol);
        if Snapshot::take(tables).ok()?.generation == snapshot.generation {
            return found;
        }
    }
    None
}

#[inline(always)]
fn find<T: Tables>(snapshot: &Snapshot<'_, T>, to: SocketAddress, protocol: u8) -> Option<SocketAddress> {
    let scope = if to.addr.is_local() { ForwardKey::HOST } else { 0 };
    for protocol in [protocol, ForwardKey::ANY_PROTOCOL] {
        let head = ForwardKey::head(scope, snapshot.side(), to.addr, protocol);
        if let Some(target) = under(snapshot, head, to.port) {
            return Some(target);
        }
    }
    None
}

/// What the entry under `head` makes of `port`.
#[inline(always)]
fn under<T: Tables>(snapshot: &Snapshot<'_, T>, head: ForwardKey, port: u16) -> Option<SocketAddress> {
    let mut sizes = snapshot.tables.forward(&head)?.sizes();
    let mut key = head;
    for _ in 0..=16 {
        if sizes == 0 {
            break;
        }
        let prefix_len = sizes.trailing_zeros() as u8;
        sizes &= sizes - 1;
        key.narrow(port, prefix_len);
        if let Some(forward) = snapshot.tables.forward(&key)
            && !forward.is(ForwardKind::Metadata)
        {
            return Some(SocketAddress::new(forward.target, forward.translate(port)));
        }
    }
    None
}

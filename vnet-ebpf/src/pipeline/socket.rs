//! What the host's own processes connect to.
//!
//! A packet from the host to a forward's address never leaves it, so the address is translated before there is a
//! packet: when a socket is told whom to speak to.

use vnet_common::{ForwardKey, ForwardKind, SocketAddress};

use crate::{
    spread,
    stages::translate,
    tables::{Snapshot, Tables},
};

/// How often it is looked again when the tables changed meanwhile. They change a few times in a second at most.
const ATTEMPTS: u32 = 4;

/// Whom the socket with `cookie` of a process of the host really speaks to that asks for `to`; nothing if for nobody
/// else.
///
/// Unlike what handles a packet, this can be interrupted: the controller does not wait for it before it writes
/// a side. What was found counts only if the generation is still the same.
#[inline(always)]
pub fn destination<T: Tables>(
    tables: &T,
    to: SocketAddress,
    protocol: u8,
    cookie: u64,
) -> Option<SocketAddress> {
    for _ in 0..ATTEMPTS {
        let snapshot = Snapshot::take(tables).ok()?;
        let found = find(&snapshot, to, protocol, cookie);
        if Snapshot::take(tables).ok()?.generation == snapshot.generation {
            return found;
        }
    }
    None
}

#[inline(always)]
fn find<T: Tables>(
    snapshot: &Snapshot<'_, T>,
    to: SocketAddress,
    protocol: u8,
    cookie: u64,
) -> Option<SocketAddress> {
    let scope = if to.addr.is_local() { ForwardKey::HOST } else { 0 };
    for protocol in [protocol, ForwardKey::ANY_PROTOCOL] {
        let mut key = ForwardKey::head(scope, snapshot.side(), to.addr, protocol);
        let Some(mut forward) = translate::under(snapshot, &mut key, to.port) else { continue };
        if forward.is(ForwardKind::List) {
            let number = if forward.is_by_client() { spread::HOST } else { spread::socket(cookie, to) };
            key = ForwardKey::slot(forward.network, snapshot.side(), forward.slot(number));
            let Some(backend) = snapshot.tables.forward(&key) else { continue };
            forward = backend;
        }
        if !forward.is(ForwardKind::Metadata) {
            return Some(SocketAddress::new(forward.target, forward.translate(to.port)));
        }
    }
    None
}

//! What the host's own processes connect to.
//!
//! A packet from the host to a forward's address never leaves it, so the address is translated before there is a
//! packet: when a socket is told whom to speak to.

use vnet_common::{ForwardKey, ForwardKind, SocketAddress};

use crate::{
    spread,
    stages::{judge, translate},
    tables::{Snapshot, Tables},
};

/// How often it is looked again when the tables changed meanwhile. They change a few times in a second at most.
const ATTEMPTS: u32 = 4;

/// Whom an address stands for that a process of the host asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Itself.
    Itself,
    /// A port of a workload.
    Workload(SocketAddress),
    /// A workload of a network that keeps the host out. The host would look for its address elsewhere, where somebody
    /// else may have it.
    Closed,
}

/// Whom the socket with `cookie` of a process of the host really speaks to that asks for `to`.
///
/// Unlike what handles a packet, this can be interrupted: the controller does not wait for it before it writes
/// a side. What was found counts only if the generation is still the same.
#[inline(always)]
pub fn destination<T: Tables>(tables: &T, to: SocketAddress, protocol: u8, cookie: u64) -> Destination {
    for _ in 0..ATTEMPTS {
        let Ok(snapshot) = Snapshot::take(tables) else { break };
        let found = find(&snapshot, to, protocol, cookie);
        if Snapshot::take(tables).is_ok_and(|now| now.generation == snapshot.generation) {
            return found;
        }
    }
    Destination::Itself
}

#[inline(always)]
fn find<T: Tables>(snapshot: &Snapshot<'_, T>, to: SocketAddress, protocol: u8, cookie: u64) -> Destination {
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
        if forward.is(ForwardKind::Metadata) {
            continue;
        }
        if judge::host_may_speak(snapshot, forward.network).is_err() {
            return Destination::Closed;
        }
        return Destination::Workload(SocketAddress::new(forward.target, forward.translate(to.port)));
    }
    Destination::Itself
}

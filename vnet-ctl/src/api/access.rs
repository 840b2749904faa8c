//! Who may speak to the daemon: root, the user that it runs as, and the group that owns the socket.
//!
//! The socket's mode says the same; this holds even if somebody opened it up.

use axum::{
    extract::{ConnectInfo, Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{Refusal, socket::Peer};

/// The owner of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Owner {
    fn admits(self, peer: &Peer) -> bool {
        let Peer(Some((uid, groups))) = peer else { return false };
        *uid == 0 || *uid == self.uid || groups.contains(&self.gid)
    }
}

/// Refuses the requests of strangers.
pub(super) async fn check(
    State(owner): State<Owner>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if owner.admits(&peer) {
        return next.run(request).await;
    }
    Refusal::new(StatusCode::FORBIDDEN, "only root and the group that owns the socket may speak to vnet")
        .help("run the command with sudo")
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_owner_and_its_group_are_admitted() {
        let owner = Owner { uid: 100, gid: 200 };
        for admitted in [(0, vec![7]), (100, vec![7]), (7, vec![200]), (7, vec![7, 8, 200])] {
            assert!(owner.admits(&Peer(Some(admitted))));
        }
        assert!(!owner.admits(&Peer(Some((7, vec![7, 8])))) && !owner.admits(&Peer(None)));
    }
}

//! Who may do what at the socket, by the credentials that the kernel has for the other end.
//!
//! Root, the user that the daemon runs as, and the group that owns the socket may read and change. Groups
//! that were named for it may read. The socket's mode says the same as long as nobody but these may read;
//! this holds even if somebody opened it up.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::{
    Extension,
    extract::{Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use nix::unistd::{Gid, Group};

use super::{Refusal, socket::Peer};

/// The group that may change things, where it exists and no other is named.
const GROUP: &str = "vnet";
/// In the place of a group: every user of this host.
const ANYBODY: &str = "any";

/// Who is let in besides root and the user that the daemon runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessOptions {
    /// The group that may change things; by default `vnet`, where it exists.
    pub group: Option<String>,
    /// Groups that may read; `any` lets everybody on this host.
    pub read_groups: Vec<String>,
}

/// What somebody may do, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Right {
    /// Nothing.
    Nothing,
    /// Ask.
    Read,
    /// Ask and change.
    Write,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    /// The user; `None` where the kernel does not tell.
    pub(super) uid: Option<u32>,
    /// What they may do.
    pub(super) right: Right,
}

/// Who may do what.
#[derive(Clone, Debug)]
pub(super) struct Access {
    owner: u32,
    /// With its name, for messages.
    writers: (u32, String),
    readers: Readers,
}

#[derive(Clone, Debug)]
enum Readers {
    Groups(Vec<u32>),
    Everybody,
}

impl Access {
    /// For a socket that belongs to the user `owner`.
    pub(super) fn new(options: &AccessOptions, owner: u32, own_group: u32) -> Result<Self> {
        let writers = match &options.group {
            Some(name) => (group(name)?, name.clone()),
            None => match Group::from_name(GROUP) {
                Ok(Some(found)) => (found.gid.as_raw(), GROUP.to_owned()),
                _ => (own_group, name_of(own_group)),
            },
        };
        let readers = if options.read_groups.iter().any(|name| name == ANYBODY) {
            Readers::Everybody
        } else {
            Readers::Groups(options.read_groups.iter().map(|name| group(name)).collect::<Result<_>>()?)
        };
        Ok(Self { owner, writers, readers })
    }

    /// The group that the socket is to have.
    pub(super) const fn group(&self) -> u32 {
        self.writers.0
    }

    /// The mode that the socket is to have: where others than its owners may come in, credentials decide.
    pub(super) const fn mode(&self) -> u32 {
        match &self.readers {
            Readers::Groups(groups) if groups.is_empty() => 0o660,
            _ => 0o666,
        }
    }

    /// What `peer` may do.
    pub(super) fn caller(&self, peer: &Peer) -> Caller {
        let Peer(Some((uid, groups))) = peer else { return Caller { uid: None, right: Right::Nothing } };
        let may_read = match &self.readers {
            Readers::Everybody => true,
            Readers::Groups(readers) => readers.iter().any(|gid| groups.contains(gid)),
        };
        let right = if *uid == 0 || *uid == self.owner || groups.contains(&self.writers.0) {
            Right::Write
        } else if may_read {
            Right::Read
        } else {
            Right::Nothing
        };
        Caller { uid: Some(*uid), right }
    }

    fn refuse(&self, right: Right) -> Refusal {
        let group = &self.writers.1;
        let error = match right {
            Right::Nothing => format!("only root and members of the group {group} may speak to vnet"),
            _ => {
                format!("you may ask vnet, but only root and members of the group {group} may change things")
            }
        };
        Refusal::new(StatusCode::FORBIDDEN, error).help(format!(
            "run the command with sudo, or let an administrator add you to the group (`usermod -aG {group} USER`), \
             and log in again"
        ))
    }
}

/// Refuses what the caller may not do.
pub(super) async fn check(
    State(access): State<Arc<Access>>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let needed = if is_read(request.method()) { Right::Read } else { Right::Write };
    if caller.right >= needed {
        return next.run(request).await;
    }
    access.refuse(caller.right).into_response()
}

/// Whether a method changes nothing (RFC 9110 section 9.2.1).
pub(super) fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn group(name: &str) -> Result<u32> {
    let found = Group::from_name(name).with_context(|| format!("look up the group {name}"))?;
    let found = found.with_context(|| {
        format!("there is no group {name:?} on this host; make it with `groupadd --system {name}`, or name another")
    })?;
    Ok(found.gid.as_raw())
}

fn name_of(gid: u32) -> String {
    let found = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    found.map_or_else(|| gid.to_string(), |group| group.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(readers: Readers) -> Access {
        Access { owner: 100, writers: (200, "vnet".to_owned()), readers }
    }

    fn right(access: &Access, uid: u32, groups: &[u32]) -> Right {
        access.caller(&Peer(Some((uid, groups.to_vec())))).right
    }

    #[test]
    fn root_the_owner_and_its_group_may_change_things() {
        let access = access(Readers::Groups(Vec::new()));
        for (uid, groups) in [(0, vec![7]), (100, vec![7]), (7, vec![200]), (7, vec![7, 8, 200])] {
            assert_eq!(right(&access, uid, &groups), Right::Write);
        }
        assert_eq!(right(&access, 7, &[7, 8]), Right::Nothing);
        assert_eq!(access.caller(&Peer(None)).right, Right::Nothing);
        assert_eq!(access.mode(), 0o660);
    }

    #[test]
    fn readers_may_read_and_writers_still_write() {
        let some = access(Readers::Groups(vec![300]));
        assert_eq!((right(&some, 7, &[300]), right(&some, 7, &[7])), (Right::Read, Right::Nothing));
        assert_eq!((right(&some, 7, &[300, 200]), some.mode()), (Right::Write, 0o666));
        let everybody = access(Readers::Everybody);
        assert_eq!((right(&everybody, 7, &[7]), everybody.mode()), (Right::Read, 0o666));
    }

    #[test]
    fn a_group_that_is_not_there_is_told() {
        let options = AccessOptions { group: Some("no-such-group".to_owned()), ..AccessOptions::default() };
        let error = Access::new(&options, 0, 0).unwrap_err().to_string();
        assert!(error.contains("no-such-group") && error.contains("groupadd"), "{error}");
        let options = AccessOptions { read_groups: vec!["root".to_owned(), "any".to_owned()], group: None };
        assert_eq!(right(&Access::new(&options, 0, 0).unwrap(), 7, &[7]), Right::Read);
    }
}

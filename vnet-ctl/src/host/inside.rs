//! What is inside namespaces: looked up on a thread that enters one after the other, and remembered until
//! something there may have changed.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, anyhow};
use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    nsid::{NsidAttribute, NsidMessage},
};

use super::{
    ask::Asker,
    namespace::{Netns, Opened},
    observe::links,
    routes,
};
use crate::plan::{Inside, Namespace, NetnsRef};

/// Threads that look at the same time: the kernel's locks let no more of them get ahead.
const WORKERS: usize = 2;

/// What was last seen inside namespaces.
#[derive(Debug, Default)]
pub(super) struct Insides(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    insides: BTreeMap<NetnsRef, Inside>,
    /// How often something was forgotten: what was looked at before may be older than that.
    forgotten: u64,
}

impl Seen {
    fn retain(&mut self, keep: impl Fn(&NetnsRef, &Inside) -> bool) {
        self.insides.retain(|netns, inside| keep(netns, inside));
        self.forgotten += 1;
    }
}

impl Insides {
    /// Forgets everything.
    pub(super) fn forget_all(&self) {
        self.seen().retain(|_, _| false);
    }

    /// Forgets what is behind `netns`.
    pub(super) fn forget(&self, netns: &NetnsRef) {
        self.seen().retain(|seen, _| seen != netns);
    }

    /// Forgets what the host calls by the namespace id `nsid`.
    pub(super) fn forget_nsid(&self, nsid: i32) {
        self.seen().retain(|_, inside| inside.nsid.is_some_and(|id| id != nsid));
    }

    /// Forgets the namespace that the other end of the host's device `ifindex` is in.
    pub(super) fn forget_behind(&self, ifindex: u32) {
        let leads_there = |inside: &Inside| {
            inside.links.values().any(|link| link.peer.is_some_and(|peer| peer.ifindex == ifindex))
        };
        self.seen().retain(|_, inside| !leads_there(inside));
    }

    /// What is known of the namespace with the identity `id` behind `netns`.
    fn known(&self, netns: &NetnsRef, id: &str) -> Option<Inside> {
        self.seen().insides.get(netns).filter(|inside| inside.id == id).cloned()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks into `wanted`, where nothing is known. Blocks, in a thread of the host's namespace `own` that is
    /// not the runtime's.
    pub(super) fn look(&self, wanted: &[NetnsRef], own: &Netns) -> Result<Vec<(NetnsRef, Namespace)>> {
        let share = wanted.len().div_ceil(WORKERS).max(1);
        let looked: Vec<Result<Vec<_>>> = thread::scope(|scope| {
            let look = |share| {
                let work = move || self.look_one_by_one(share, own);
                thread::Builder::new().name("vnet-netns".to_owned()).spawn_scoped(scope, work)
            };
            let workers: Vec<_> = wanted.chunks(share).map(look).collect();
            let join = |worker: std::io::Result<thread::ScopedJoinHandle<'_, _>>| {
                let worker = worker.context("start a thread")?;
                worker.join().map_err(|_| anyhow!("the thread in the namespaces ended early"))?
            };
            workers.into_iter().map(join).collect()
        });
        let looked: Vec<Vec<_>> = looked.into_iter().collect::<Result<_>>()?;
        Ok(looked.into_iter().flatten().collect())
    }

    /// Ends in the last of the namespaces, and so must its thread.
    fn look_one_by_one(&self, wanted: &[NetnsRef], own: &Netns) -> Result<Vec<(NetnsRef, Namespace)>> {
        let mut host = Asker::open()?;
        let look = |netns: &NetnsRef| {
            let found = self
                .look_into(netns, own, &mut host)
                .with_context(|| format!("look into namespace {netns}"))?;
            Ok((netns.clone(), found))
        };
        wanted.iter().map(look).collect()
    }

    fn look_into(&self, netns: &NetnsRef, own: &Netns, host: &mut Asker) -> Result<Namespace> {
        let file = match Netns::open(netns)? {
            Opened::Missing => return Ok(Namespace::Missing),
            Opened::NotANamespace => return Ok(Namespace::NotANamespace),
            Opened::Netns(file) => file,
        };
        if file.is(own)? {
            return Ok(Namespace::Own);
        }
        let id = file.id()?;
        if let Some(inside) = self.known(netns, &id) {
            return Ok(Namespace::Present(inside));
        }
        let forgotten = self.seen().forgotten;
        let nsid = nsid(host, &file)?;
        file.enter()?;
        let mut inside = Asker::open()?;
        let mut links = links(&mut inside)?;
        for route in routes::list(&mut inside)? {
            if let Some(link) = links.get_mut(&route.ifindex) {
                link.gateways.push(route.gateway);
            }
        }
        let links = links.into_values().map(|link| (link.name.clone(), link)).collect();
        let inside = Inside { nsid, links, id };
        let mut seen = self.seen();
        // Of one without an id, no monitor tells what changes there.
        if seen.forgotten == forgotten && nsid.is_some() {
            seen.insides.insert(netns.clone(), inside.clone());
        }
        Ok(Namespace::Present(inside))
    }
}

/// The host's id of a namespace, if it has one.
fn nsid(host: &mut Asker, netns: &Netns) -> Result<Option<i32>> {
    let mut question = NsidMessage::default();
    question.attributes.push(NsidAttribute::Fd(netns.raw_fd().cast_unsigned()));
    let answers = host.ask(RouteNetlinkMessage::GetNsId(question)).context("ask for the namespace's id")?;
    let ids = answers.iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewNsId(message) => Some(message),
        _ => None,
    });
    let mut ids = ids.flat_map(|message| &message.attributes).filter_map(|attribute| match attribute {
        NsidAttribute::Id(id) if *id >= 0 => Some(*id),
        _ => None,
    });
    Ok(ids.next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Link, Peer};

    fn inside(nsid: Option<i32>, ifindex: u32) -> Inside {
        let peer = Some(Peer { ifindex, nsid: Some(0) });
        let link = Link { name: "eth0".to_owned(), peer, ..Link::default() };
        Inside { nsid, links: [("eth0".to_owned(), link)].into(), id: "1@2".to_owned() }
    }

    #[test]
    fn what_may_have_changed_is_forgotten_and_nothing_else() {
        let insides = Insides::default();
        let netns = |name: &str| NetnsRef::Name(name.to_owned());
        for (name, nsid, ifindex) in [("a", Some(1), 11), ("b", Some(2), 12), ("c", None, 13)] {
            insides.seen().insides.insert(netns(name), inside(nsid, ifindex));
        }
        let left = || insides.seen().insides.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert!(insides.known(&netns("a"), "1@2").is_some());
        assert!(insides.known(&netns("a"), "1@3").is_none(), "another namespace has the name by now");

        insides.forget_behind(12);
        assert_eq!(left(), "a c");
        insides.forget_nsid(3);
        assert_eq!(left(), "a", "one without a known id may be meant");
        insides.forget_nsid(1);
        assert_eq!(left(), "");
    }
}

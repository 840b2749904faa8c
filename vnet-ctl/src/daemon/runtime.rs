//! Ports that runtimes create and remove through the API.
//!
//! A change is stored before it is made, and taken out of the store again if it fails, so that what a client
//! was told outlives a crash. Changes that come while another is made wait in a queue, and one change of the
//! host makes all of them; if that fails, they are tried in halves, so that one bad port fails alone. A client
//! that goes away stops nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::oneshot;

use super::{
    Daemon,
    apply::Occasion,
    declared::{Declared, Reason},
    engine::Engine,
    error::{ApplyError, PortError},
    outcome::Outcome,
    view::View,
};
use crate::{
    api::types::{EventKind, POLICY_ORIGIN, PortCreated, PortRemoved, PortState, RuntimePort},
    state::PortChanges,
};

/// Characters of an origin.
const MAX_ORIGIN: usize = 63;

/// Changes that wait for the one under way to end.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<Vec<Request>>);

/// A change that somebody waits for.
#[derive(Debug)]
struct Request {
    name: String,
    /// The port as it should be; `None` removes it.
    port: Option<RuntimePort>,
    answer: oneshot::Sender<Result<Done, PortError>>,
}

/// A change that was made.
#[derive(Debug)]
struct Done {
    generation: u32,
    changed: bool,
    /// Its addresses before.
    addresses: Vec<IpAddr>,
    warnings: Vec<String>,
    view: Arc<View>,
}

impl Queue {
    fn push(&self, request: Request) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }

    /// Takes what waits, in order, up to the second change of one port.
    fn take(&self) -> Vec<Request> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = BTreeSet::new();
        let is_second = |request: &Request| !names.insert(request.name.clone());
        let end = waiting.iter().position(is_second).unwrap_or(waiting.len());
        let rest = waiting.split_off(end);
        mem::replace(&mut waiting, rest)
    }
}

impl Daemon {
    /// Creates the port `name`, or makes it what `port` says.
    pub(crate) async fn put_port(
        self: &Arc<Self>,
        name: String,
        port: RuntimePort,
    ) -> Result<PortCreated, PortError> {
        check_origin(&port.origin)?;
        let done = self.change_port(name.clone(), Some(port)).await?;
        let state = |ifindex| if ifindex == 0 { PortState::Missing } else { PortState::Up };
        let port = done.view.port(&name, state).ok_or(PortError::NotFound(name))?;
        Ok(PortCreated { generation: done.generation, changed: done.changed, port })
    }

    /// Removes the port `name`.
    pub(crate) async fn delete_port(self: &Arc<Self>, name: String) -> Result<PortRemoved, PortError> {
        let done = self.change_port(name.clone(), None).await?;
        let Done { generation, addresses, warnings, .. } = done;
        Ok(PortRemoved { generation, port: name, addresses, warnings })
    }

    async fn change_port(
        self: &Arc<Self>,
        name: String,
        port: Option<RuntimePort>,
    ) -> Result<Done, PortError> {
        let (answer, answered) = oneshot::channel();
        self.queue.push(Request { name, port, answer });
        let daemon = self.clone();
        tokio::spawn(async move { daemon.work_off().await });
        answered.await.unwrap_or(Err(PortError::Apply(ApplyError::Stopping)))
    }

    /// Makes the changes that wait; there are none if another has made them already.
    async fn work_off(&self) {
        let mut engine = self.engine.lock().await;
        let requests = self.queue.take();
        // A thousand that come at once are made by few, and each of the others would ask for nothing as long as for
        // everything.
        if requests.is_empty() {
            return;
        }
        let mut parts = vec![requests];
        let Some(engine) = engine.as_mut() else {
            let requests = parts.into_iter().flatten();
            requests.for_each(|request| request.refuse(PortError::Apply(ApplyError::Stopping)));
            return;
        };
        while let Some(requests) = parts.pop() {
            check_repeated(engine, &requests).await;
            let mut requests = self.answer_at_once(engine, requests);
            if requests.is_empty() {
                continue;
            }
            match self.make(engine, &requests).await {
                Ok(outcome) => requests.into_iter().for_each(|request| request.done(&outcome)),
                Err(_) if requests.len() > 1 => {
                    parts.push(requests.split_off(requests.len() / 2));
                    parts.push(requests);
                }
                Err(error) => {
                    if let Some(alone) = requests.pop() {
                        alone.refuse(error);
                    }
                }
            }
        }
    }

    /// Answers what needs no change, and what cannot be; returns the rest.
    fn answer_at_once(&self, engine: &Engine, requests: Vec<Request>) -> Vec<Request> {
        let generation = self.datapath.lock().generation();
        let mut declared = engine.declared.clone();
        let mut rest = Vec::new();
        for request in requests {
            match judge(engine, &mut declared, &request) {
                Ok(Judged::Needed) => rest.push(request),
                Ok(Judged::Holds) => {
                    let view = self.view();
                    let done = Done {
                        generation,
                        changed: false,
                        addresses: Vec::new(),
                        warnings: Vec::new(),
                        view,
                    };
                    // An error means that the client is gone.
                    let _ = request.answer.send(Ok(done));
                }
                Err(error) => request.refuse(error),
            }
        }
        // What each wants beside what all others want.
        let conflicts = declared.join(&engine.state.addresses).conflicts;
        let mut fitting = Vec::new();
        for request in rest {
            match conflicts.of(&request.name).filter(|_| request.port.is_some()) {
                Some(conflict) => request.refuse(PortError::of(&conflict.reasons)),
                None => fitting.push(request),
            }
        }
        fitting
    }

    /// Makes all of `requests`, or nothing.
    async fn make(&self, engine: &mut Engine, requests: &[Request]) -> Result<Made, PortError> {
        let mut declared = engine.declared.clone();
        let (mut changes, mut before) = (PortChanges::new(), PortChanges::new());
        let mut addresses = BTreeMap::new();
        for Request { name, port, .. } in requests {
            before.insert(name.clone(), declared.set_runtime(name, port.clone()));
            changes.insert(name.clone(), port.clone());
            addresses.insert(name.clone(), engine.state.addresses.get(name).cloned().unwrap_or_default());
        }
        engine
            .store
            .change(&changes)
            .map_err(|error| PortError::Store(format!("{error}; {}", error.help())))?;
        let occasion = Occasion::Ports(changes.keys().cloned().collect());
        match engine.enforce(&mut declared, &occasion).await {
            Ok(outcome) => {
                engine.declared = declared;
                self.publish(&outcome);
                self.events.tell(EventKind::Applied, describe(&changes, &before));
                Ok(Made { outcome, addresses })
            }
            Err(error) => {
                if let Err(left) = engine.store.change(&before) {
                    let message =
                        format!("a change of ports failed, and comes back at the next start: {left}");
                    self.events.tell(EventKind::Problem, message);
                }
                Err(PortError::Apply(error))
            }
        }
    }
}

/// A change of several ports that was made.
struct Made {
    outcome: Outcome,
    /// The addresses of each before.
    addresses: BTreeMap<String, Vec<IpAddr>>,
}

impl Request {
    // An error means that the client is gone.
    fn refuse(self, error: PortError) {
        let _ = self.answer.send(Err(error));
    }

    fn done(self, made: &Made) {
        let Made { outcome, addresses } = made;
        let done = Done {
            generation: outcome.generation,
            changed: true,
            addresses: addresses.get(&self.name).cloned().unwrap_or_default(),
            warnings: outcome.warnings.clone(),
            view: outcome.view.clone(),
        };
        let _ = self.answer.send(Ok(done));
    }
}

/// Whether the port is as `request` wants it already. One that waits is tried again: its workload may have come.
fn is_repeated(engine: &Engine, Request { name, port, .. }: &Request) -> bool {
    port.is_some() && engine.declared.runtime(name) == port.as_ref() && !engine.waiting.names().contains(name)
}

/// Sees whether what is asked for again is still there: its workload may be another one by now.
async fn check_repeated(engine: &mut Engine, requests: &[Request]) {
    let repeated = requests.iter().filter(|request| is_repeated(engine, request));
    let names: BTreeSet<String> = repeated.map(|request| request.name.clone()).collect();
    if !names.is_empty()
        && let Err(error) = engine.check_in_place(&names).await
    {
        tracing::warn!("look at ports that are there: {error:#}");
    }
}

enum Judged {
    Needed,
    Holds,
}

/// Whether something has to change for `request`, which is then part of `declared`.
fn judge(engine: &Engine, declared: &mut Declared, request: &Request) -> Result<Judged, PortError> {
    let Request { name, port, .. } = request;
    let known = engine.declared.runtime(name);
    // One of a runtime that the file has displaced may still go.
    let is_displaced = port.is_none() && known.is_some();
    if engine.declared.file.policy.ports.contains_key(name) && !is_displaced {
        let origin = engine.declared.file.origin.clone();
        return Err(PortError::InFile { name: name.clone(), origin });
    }
    if engine.is_settled() && is_repeated(engine, request) {
        return Ok(Judged::Holds);
    }
    if port.is_none() && known.is_none() {
        return Err(PortError::NotFound(name.clone()));
    }
    declared.set_runtime(name, port.clone());
    Ok(Judged::Needed)
}

fn check_origin(origin: &str) -> Result<(), PortError> {
    let is_right = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let mistake = if origin == POLICY_ORIGIN {
        format!(
            "the origin `{POLICY_ORIGIN}` stands for the policy file; name the runtime that creates the port"
        )
    } else if origin.is_empty() || origin.len() > MAX_ORIGIN || !origin.chars().all(is_right) {
        format!(
            "`{}` cannot be an origin; name the runtime that creates the port with at most {MAX_ORIGIN} ASCII \
             letters, digits, `.`, `_` and `-`",
            origin.escape_default()
        )
    } else {
        return Ok(());
    };
    Err(PortError::Invalid(mistake))
}

/// The changes in words, for the journal.
fn describe(changes: &PortChanges, before: &PortChanges) -> String {
    let is = |name: &String| before.get(name).is_some_and(Option::is_some);
    let mut parts = Vec::new();
    for (what, is_meant) in [
        (
            "created",
            &(|name: &String, port: &Option<RuntimePort>| port.is_some() && !is(name)) as &dyn Fn(_, _) -> _,
        ),
        ("changed", &|name: &String, port: &Option<RuntimePort>| port.is_some() && is(name)),
        ("removed", &|_: &String, port: &Option<RuntimePort>| port.is_none()),
    ] {
        let names: Vec<_> = changes
            .iter()
            .filter(|(name, port)| is_meant(name, port))
            .map(|(name, _)| name.as_str())
            .collect();
        if !names.is_empty() {
            parts.push(format!("{what} {}", names.join(", ")));
        }
    }
    format!("ports of runtimes: {}", parts.join("; "))
}

impl PortError {
    fn of(reasons: &[Reason]) -> Self {
        let text = reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        if reasons.iter().all(|reason| matches!(reason, Reason::Invalid(_))) {
            Self::Invalid(text)
        } else {
            Self::Taken(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str) -> Request {
        Request { name: name.to_owned(), port: None, answer: oneshot::channel().0 }
    }

    #[test]
    fn two_changes_of_one_port_are_made_one_after_the_other() {
        let queue = Queue::default();
        for name in ["a", "b", "a", "c"] {
            queue.push(request(name));
        }
        let names = || queue.take().into_iter().map(|request| request.name).collect::<Vec<_>>();
        assert_eq!(names(), ["a", "b"]);
        assert_eq!(names(), ["a", "c"]);
        assert!(names().is_empty());
    }

    #[test]
    fn an_origin_names_a_runtime() {
        assert!(check_origin("cni").is_ok() && check_origin("docker-1.2_x").is_ok());
        for wrong in ["", "policy", "a b", "ä", &"x".repeat(64)] {
            assert!(matches!(check_origin(wrong), Err(PortError::Invalid(_))), "{wrong:?}");
        }
    }
}

//! Rounds: in each, every peer is measured once, in an order drawn anew. *Direct* is measured before and after each few of
//! them, which are a leg: a machine drifts from minute to minute.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use vnet_tests::random::Random;

use crate::{
    Extent,
    load::{self, Load},
    peers::{Group, Peer, Ready},
    progress::Progress,
    shell::lacks,
};

/// A leg in which *direct* has changed by more than this does not count.
const DRIFT: f64 = 0.05;
/// So many quiet legs tell more than all of them do.
const ENOUGH: usize = 3;
/// Peers in a leg.
const LEG: usize = 5;
/// Rounds that may be thrown away for each one that counts.
const PATIENCE: usize = 2;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Rounds that have to count.
    pub(crate) rounds: usize,
    /// How long something is measured, a stream aside.
    pub(crate) time: Duration,
    stream: Duration,
    /// Rounds for every round that has to count, at most.
    patience: usize,
}

impl Plan {
    /// The plan of an extent; `rounds` other than usual.
    pub(crate) fn of(extent: Extent, rounds: Option<usize>) -> Self {
        let plan = match extent {
            Extent::Quick => {
                let time = Duration::from_millis(250);
                Self { rounds: 5, time, stream: Duration::from_secs(1), patience: 1 }
            }
            Extent::Full => {
                let time = Duration::from_millis(500);
                Self { rounds: 5, time, stream: Duration::from_secs(2), patience: PATIENCE }
            }
        };
        Self { rounds: rounds.unwrap_or(plan.rounds), ..plan }
    }

    fn time_for(&self, load: Load) -> Duration {
        if load == Load::Stream { self.stream } else { self.time }
    }
}

/// What was measured in the same rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    rounds: usize,
    legs: usize,
    peers: Vec<Measured>,
}

/// What was measured of a peer.
#[derive(Debug, Serialize)]
struct Measured {
    name: String,
    what: String,
    group: Group,
    /// The curve that it is a point of, and where.
    curve: Option<(&'static str, u32)>,
    /// The peers that it is held against, besides *direct*.
    beside: Vec<&'static str>,
    /// Why it is not there.
    absent: Option<String>,
    /// How long its rules took to be put in force. s.
    applied_s: Option<f64>,
    results: Vec<Results>,
}

/// Values of one load, one for each round; those of *direct* for each leg.
#[derive(Debug, Serialize)]
struct Results {
    load: Load,
    /// Per second.
    values: Vec<f64>,
    /// Part of what *direct* did in the same leg, on average of before and after.
    of_direct: Vec<f64>,
    /// By how much *direct* differed between the beginning and the end of the leg.
    drift: Vec<f64>,
    /// Which of them count: those of quiet legs, or all of them if there were too few of these.
    counts: Vec<bool>,
}

/// What a peer did in a round, by load.
type Values = BTreeMap<Load, f64>;

/// Sets the peers up, proves that they do what they say, and measures them.
pub(crate) fn run(plan: &Plan, peers: &[Peer]) -> Result<Run> {
    let bar = Progress::begin();
    let mut ready = Vec::new();
    for peer in peers {
        bar.say(&format!("set up {}", peer.name));
        let here = set_up(peer)?;
        if let Err(why) = &here {
            bar.say(&format!("{} is not here: {why}", peer.name));
        }
        ready.push(here);
    }
    let Some(Ok(direct)) = ready.first() else { bail!("without *direct* there is nothing to compare with") };
    let (mut legs, mut rounds): (Vec<Leg>, usize) = (Vec::new(), 0);
    let mut random = Random::seeded(u64::from(std::process::id()));
    // Values that count, of whatever has the fewest of them.
    let here: Vec<_> = (0..peers.len()).filter(|number| ready[*number].is_ok()).collect();
    let quiet = |legs: &[Leg]| {
        let counted = |number: usize, load: Load| {
            legs.iter().filter(|leg| leg.value(number, load).is_some() && leg.drift(load) <= DRIFT).count()
        };
        let of_peer = |number: &usize| peers[*number].loads.iter().map(|load| counted(*number, *load)).min();
        here.iter().filter_map(of_peer).min().unwrap_or_default()
    };
    while quiet(&legs) < plan.rounds && rounds < plan.rounds * plan.patience {
        let told = format!("round {}, {} of {} counted", rounds + 1, quiet(&legs), plan.rounds);
        legs.extend(round(plan, peers, (&ready, direct), &mut random, (&bar, &told))?);
        rounds += 1;
    }
    let measured = peers.iter().zip(&ready).enumerate();
    Ok(Run {
        rounds,
        legs: legs.len(),
        peers: measured.map(|(number, (peer, ready))| Measured::new(number, peer, ready, &legs)).collect(),
    })
}

/// A peer at work; why it is not here; or an error if it is, and does not do what it says.
pub(crate) fn set_up(peer: &Peer) -> Result<Result<Ready, String>> {
    if let Some(why) = peer.needs.iter().find_map(|program| lacks(program)) {
        return Ok(Err(why));
    }
    // A kernel without what a peer is made of is a reason of its own, and no failure.
    let made = catch_unwind(AssertUnwindSafe(|| (peer.set_up)()));
    let ready = match made {
        Ok(Ok(ready)) => ready,
        Ok(Err(error)) => return Ok(Err(format!("{error:#}"))),
        Err(_) => return Ok(Err("it could not be set up: see above".to_owned())),
    };
    let proven = prove(&ready).and_then(|()| ready.gather_flows());
    proven.with_context(|| format!("{} is not what it says", peer.name))?;
    Ok(Ok(ready))
}

/// Sees that packets get through, that the rules are what lets them, and that others do not.
fn prove(ready: &Ready) -> Result<()> {
    ensure!(load::answered(&ready.ends, load::UDP)?, "the server is not reached");
    if ready.filters {
        ensure!(!load::answered(&ready.ends, load::SHUT)?, "a port that no rule opens is open");
    }
    if let Some(counted) = &ready.counted {
        let before = counted()?;
        let time = Duration::from_millis(100);
        let arrived = Load::Packets.measure(&ready.ends, time)? * time.as_secs_f64();
        let more = counted()?.saturating_sub(before);
        ensure!(more as f64 > arrived / 2.0, "{arrived:.0} packets arrived, its rules counted {more}");
    }
    Ok(())
}

/// What happened in a leg.
struct Leg {
    /// By the number of the peer.
    values: BTreeMap<usize, Values>,
    /// *Direct*, before and after.
    direct: [Values; 2],
}

impl Leg {
    fn drift(&self, load: Load) -> f64 {
        let [before, after] =
            self.direct.each_ref().map(|values| values.get(&load).copied().unwrap_or(f64::NAN));
        (after - before).abs() / before
    }

    fn direct(&self, load: Load) -> f64 {
        self.direct.iter().filter_map(|values| values.get(&load)).sum::<f64>() / 2.0
    }

    /// What the peer of this number did, if it was measured; *direct* always is.
    fn value(&self, number: usize, load: Load) -> Option<f64> {
        match number {
            0 => Some(self.direct(load)),
            _ => self.values.get(&number)?.get(&load).copied(),
        }
    }
}

fn round<'a>(
    plan: &Plan,
    peers: &[Peer],
    (ready, direct): (&'a [Result<Ready, String>], &Ready),
    random: &mut Random,
    (bar, told): (&Progress, &str),
) -> Result<Vec<Leg>> {
    let limit = peers.first().context("a peer")?;
    let measure = |peer: &Peer, ready: &Ready| -> Result<Values> {
        bar.say(&format!("{told}: {}", peer.name));
        let value = |load: &Load| Ok((*load, ready.measure(*load, plan.time_for(*load))?));
        let values = || -> Result<Values> {
            ready.gather_flows()?;
            let values = peer.loads.iter().map(value).collect::<Result<_>>()?;
            ready.prove_flows()?;
            Ok(values)
        };
        values().with_context(|| peer.name.clone())
    };
    let here = |(number, ready): (usize, &'a Result<Ready, String>)| Some((number, ready.as_ref().ok()?));
    let mut order: Vec<_> = ready.iter().enumerate().skip(1).filter_map(here).collect();
    for last in (1..order.len()).rev() {
        order.swap(last, random.within(0..last as u64 + 1) as usize);
    }
    let mut before = measure(limit, direct)?;
    let mut legs = Vec::new();
    // Without any other, *direct* is a leg by itself.
    let alone = order.is_empty().then_some(&[][..]);
    for peers_of_leg in order.chunks(LEG).chain(alone) {
        let mut values = BTreeMap::new();
        for (number, ready) in peers_of_leg {
            values.insert(*number, measure(&peers[*number], ready)?);
        }
        let after = measure(limit, direct)?;
        legs.push(Leg { values, direct: [before, after.clone()] });
        before = after;
    }
    Ok(legs)
}

impl Measured {
    fn new(number: usize, peer: &Peer, ready: &Result<Ready, String>, legs: &[Leg]) -> Self {
        let results = |load: &Load| {
            let mut results =
                Results { load: *load, values: vec![], of_direct: vec![], drift: vec![], counts: vec![] };
            for leg in legs {
                let Some(value) = leg.value(number, *load) else { continue };
                results.values.push(value);
                results.of_direct.push(value / leg.direct(*load));
                results.drift.push(leg.drift(*load));
                results.counts.push(leg.drift(*load) <= DRIFT);
            }
            if results.counts.iter().filter(|counts| **counts).count() < ENOUGH {
                results.counts.fill(true);
            }
            results
        };
        Self {
            name: peer.name.clone(),
            what: peer.what.clone(),
            group: peer.group,
            curve: peer.curve,
            beside: peer.beside.clone(),
            absent: ready.as_ref().err().cloned(),
            applied_s: ready.as_ref().ok().and_then(|ready| ready.applied_s),
            results: if ready.is_ok() { peer.loads.iter().map(results).collect() } else { Vec::new() },
        }
    }
}

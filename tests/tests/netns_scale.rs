//! A policy of 100,000 rules: read from a file, in force, right, and changed by one rule in no time.
//!
//! `cargo xtask bench controller` measures each step; here it is only held to be right.

use std::{
    thread,
    time::{Duration, Instant},
};

use vnet_tests::{
    World,
    random::Random,
    rules::{Question, RulePool},
    traffic::{Outcome, Probe},
};

/// How many rules.
const RULES: usize = 100_000;
/// How many answers of the datapath are held against a search through all rules.
const SAMPLE: usize = 400;
/// A refusal of the workload itself, as nobody listens there, comes at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// What became of a connection that `question` stands for: whether the receiver saw it.
fn ask(world: &World, question: Question) -> bool {
    let to = (RulePool::address(question.to), question.port).into();
    match Probe::Tcp(to).run(&world.port(&format!("p{}", question.from)), PATIENCE) {
        // A reset of the receiver's.
        Outcome::Refused | Outcome::Answered => true,
        Outcome::Silence => false,
    }
}

/// The questions that the datapath answers otherwise than a search through all rules.
fn wrong(world: &World, pool: &RulePool, questions: &[Question]) -> Vec<Question> {
    let answers = thread::scope(|scope| {
        let started: Vec<_> =
            questions.iter().map(|question| scope.spawn(|| ask(world, *question))).collect();
        started.into_iter().map(|thread| thread.join().expect("an answer")).collect::<Vec<_>>()
    });
    let differs = |(question, answer): &(&Question, bool)| pool.allows(**question) != *answer;
    questions.iter().zip(answers).filter(differs).map(|(question, _)| *question).collect()
}

#[test]
fn a_hundred_thousand_rules_are_in_force_and_right() {
    let mut random = Random::told();
    let pool = RulePool::random(&mut random, RULES);
    let begin = Instant::now();
    let mut world = World::prepare(&pool.policy());
    let _ = world.ctl(&["validate"]).ok();
    println!("validated after {:.1?}", begin.elapsed());
    let begin = Instant::now();
    world.start(&[]);
    println!("in force after {:.1?}", begin.elapsed());

    let questions = pool.questions(&mut random, SAMPLE);
    let allowed = questions.iter().filter(|question| pool.allows(**question)).count();
    assert!(allowed > SAMPLE / 10 && allowed < SAMPLE * 9 / 10, "{allowed} of {SAMPLE} are allowed");
    let differ = wrong(&world, &pool, &questions);
    assert!(differ.is_empty(), "{} of {SAMPLE} answers are wrong: {differ:?}", differ.len());

    // One rule more opens what it says, and nothing of what was asked before.
    let shut = questions.iter().find(|question| !pool.allows(**question)).expect("one of them is refused");
    let (group, port) = (format!("g{}", shut.to), shut.port.to_string());
    let from = format!("{}/32", RulePool::address(shut.from));
    let begin = Instant::now();
    let text = world.policy_text().replacen(
        &format!("[security_groups.{group}]\ningress = ["),
        &format!("[security_groups.{group}]\ningress = [\n  {{ protocol = \"tcp\", ports = [{port}], from = [\"{from}\"] }},"),
        1,
    );
    let applied = world.api().apply(&text).ok().json();
    println!("one rule more in force after {:.1?}: {applied}", begin.elapsed());
    assert!(ask(&world, *shut), "{shut:?} is open now");
    let others: Vec<_> = questions.iter().filter(|question| *question != shut).copied().collect();
    assert_eq!(wrong(&world, &pool, &others), []);
}

//! Random trees, outcomes and delays against a model that knows no frames: it works out, node by node, what comes out
//! and when, while the plan is fed one outcome after another in the order of time.

use crate::notation::{Course, KINDS, local_name};
use keyway_policies::routes::explain::ExplainAt;
use keyway_policies::{
    Distribution, ExplainUse, Failure, HealthView, NodeId, OnDown, Outcome, OutcomeClass, PlacementSpec, PoolSpec,
    RouteNode, Routes, RoutesBuilder, ServerId,
};
use keyway_protocol::Operation;
use std::collections::BTreeMap;

const ROUNDS: u64 = 20_000;

#[test]
fn random_trees_do_what_the_model_says() {
    check(one_round);
}

/// No model here, since it knows no changing health: whatever happens, there is one answer, at the latest with the last
/// outcome.
#[test]
fn one_answer_comes_whatever_servers_come_and_go() {
    check(|random, name| {
        let mut world = World { up: Vec::new(), outcomes: Vec::new(), delays: Vec::new() };
        let mut builder = Routes::builder();
        let (root, model) = grow(random, &mut builder, &mut world, 0);
        let routes = builder.build(root).expect("small trees can be built");
        let mut course = Course::new(&routes, Operation::Get, b"key");
        let mut told = course.begin(&world.up);
        let mut waiting: Vec<ServerId> = Vec::new();
        let (mut seen, mut answers) = (0, 0);
        loop {
            waiting.extend(&course.dispatched[seen..]);
            seen = course.dispatched.len();
            answers += told.matches('=').count();
            assert!(answers == 1 || !waiting.is_empty(), "{name}: {model:?}, {world:?}");
            if waiting.is_empty() {
                break;
            }
            let server = waiting.swap_remove(random.below(waiting.len()));
            world.up.iter_mut().for_each(|up| *up ^= if random.below(4) == 0 { u8::MAX } else { 0 });
            told = course.resume(server, world.outcomes[server.0 as usize], &world.up);
        }
        assert_eq!(answers, 1, "{name}: {model:?}, {world:?}");
    });
}

fn check(one_round: impl Fn(&mut Random, &str)) {
    let seed: u64 = match std::env::var("KEYWAY_SEED") {
        Ok(text) => text.parse().expect("KEYWAY_SEED is a number"),
        Err(_) => std::process::id().into(),
    };
    println!("KEYWAY_SEED={seed}");
    for round in 0..ROUNDS {
        let mut random = Random(seed ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        one_round(&mut random, &format!("KEYWAY_SEED={seed}, round {round}"));
    }
}

fn one_round(random: &mut Random, name: &str) {
    let mut world = World { up: Vec::new(), outcomes: Vec::new(), delays: Vec::new() };
    let mut builder = Routes::builder();
    let (root, model) = grow(random, &mut builder, &mut world, 0);
    let routes = builder.build(root).expect("small trees can be built");
    let operation = [Operation::Get, Operation::Set][random.below(2)];
    let mut course = Course::new(&routes, operation, b"key");
    let name = format!("{name}: {model:?}, {operation:?}, {world:?}");

    let told = course.begin(&world.up);
    let explained: Vec<ServerId> = routes
        .explain(&course.request(), HealthView(&world.up), ExplainAt::default())
        .into_iter()
        .filter_map(|step| step.server.filter(|_| step.usage == ExplainUse::Now))
        .collect();
    assert_eq!(explained, course.dispatched, "{name}: explain and begin agree");
    let expected = match model.run(operation, &world, 0) {
        Ran::At(time, word) => (time, word),
        Ran::Unusable(word) => (0, word),
    };
    assert_eq!(play(&mut course, &world, told, &name), expected, "{name}");
}

/// Feeds outcomes in the order of time; the time and the word of the answer.
fn play(course: &mut Course<'_>, world: &World, told: String, name: &str) -> (u64, Word) {
    let mut arrivals = BTreeMap::new();
    let mut seen = 0;
    let mut answer = None;
    let mut kept: Vec<u32> = Vec::new();
    let mut time = 0;
    let mut told = told;
    let mut asleep = false;
    loop {
        assert!(!asleep || course.dispatched.len() == seen, "{name}: no dispatch after may_dispatch_again denied it");
        for server in &course.dispatched[seen..] {
            arrivals.insert(time + world.delays[server.0 as usize], *server);
        }
        seen = course.dispatched.len();
        asleep = !course.routes.may_dispatch_again(&course.plan, course.operation);
        if let Some(word) = told.split(' ').find_map(|word| word.strip_prefix('=')) {
            assert!(answer.is_none(), "{name}: answered once");
            answer = Some((time, word.to_owned()));
            let lingers = course.routes.lingers(&course.plan, course.operation);
            assert!(asleep || lingers, "{name}: nothing is dispatched after the answer but for its effect");
            assert!(asleep || course.operation != Operation::Get, "{name}: a read has no effect");
        }
        let Some((arrived, server)) = arrivals.pop_first() else { break };
        time = arrived;
        let before: Vec<u32> = kept.clone();
        told = course.resume(server, world.outcomes[server.0 as usize], &world.up);
        if told.split(' ').any(|word| word == "keep") {
            kept.push(server.0);
        }
        // The router drops what is no longer held, so only these may be the answer.
        let answered = told.split(' ').find_map(|word| word.strip_prefix('=')).and_then(|word| word.parse().ok());
        assert!(
            answered.is_none_or(|word| word == server.0 || before.contains(&word)),
            "{name}: {answered:?} was kept"
        );
        kept.retain(|server| {
            let at = course.dispatched.iter().position(|other| other.0 == *server).expect("dispatched");
            course.plan.holds(keyway_policies::TryId(at as u16))
        });
    }
    answer.unwrap_or_else(|| panic!("{name}: no answer"))
}

/// A server's number or a local reply's name.
type Word = String;

#[derive(Debug)]
struct World {
    up: Vec<u8>,
    outcomes: Vec<Outcome>,
    delays: Vec<u64>,
}

/// The tree once more, in the model's own terms.
#[derive(Debug)]
enum Model {
    Server(usize),
    Pool(Option<usize>),
    Local,
    Selector { get: Box<Model>, other: Box<Model> },
    Default(Vec<Model>),
    Fastest(Vec<Model>),
    Failover(Vec<Model>),
}

enum Ran {
    At(u64, Word),
    Unusable(Word),
}

impl Model {
    /// What comes out when started at `time`.
    fn run(&self, operation: Operation, world: &World, time: u64) -> Ran {
        let none = || Ran::Unusable("no_healthy_server".to_owned());
        match self {
            Model::Server(server) if world.up[*server] > 0 => {
                Ran::At(time + world.delays[*server], world.word(*server))
            }
            Model::Pool(Some(server)) if world.up[*server] > 0 => {
                Ran::At(time + world.delays[*server], world.word(*server))
            }
            Model::Pool(Some(_)) => Ran::Unusable("unavailable".to_owned()),
            Model::Server(_) | Model::Pool(None) => none(),
            Model::Local => Ran::At(time, "not_local".to_owned()),
            Model::Selector { get, other } => {
                let child = if operation == Operation::Get { get } else { other };
                child.run(operation, world, time)
            }
            Model::Default(children) if children.len() == 1 => children[0].run(operation, world, time),
            Model::Fastest(children) if children.len() == 1 => children[0].run(operation, world, time),
            Model::Failover(children) if children.len() == 1 => children[0].run(operation, world, time),
            Model::Default(children) => children
                .iter()
                .map(|child| child.run(operation, world, time))
                .find(|ran| matches!(ran, Ran::At(..)))
                .unwrap_or_else(none),
            Model::Fastest(children) => {
                let ran = children.iter().filter_map(|child| match child.run(operation, world, time) {
                    Ran::At(time, word) => Some((time, word)),
                    Ran::Unusable(_) => None,
                });
                fastest(world, ran.collect()).map_or_else(none, |(time, word)| Ran::At(time, word))
            }
            Model::Failover(children) => failover(children, operation, world, time).unwrap_or_else(none),
        }
    }
}

fn fastest(world: &World, ran: Vec<(u64, Word)>) -> Option<(u64, Word)> {
    let good = ran.iter().filter(|(_, word)| world.class(word) == OutcomeClass::Success).min();
    if let Some(first) = good {
        return Some(first.clone());
    }
    let end = ran.iter().map(|(time, _)| *time).max()?;
    // min_by_key takes the first of equals.
    let (_, word) = ran.iter().min_by_key(|(_, word)| world.class(word))?;
    Some((end, word.clone()))
}

fn failover(children: &[Model], operation: Operation, world: &World, start: u64) -> Option<Ran> {
    let mut time = start;
    let mut words: Vec<Word> = Vec::new();
    for child in children {
        let Ran::At(end, word) = child.run(operation, world, time) else { continue };
        time = end;
        let stop = word == Failure::DeadlineExceeded.name() || word == Failure::NotReplayable.name();
        if world.class(&word) == OutcomeClass::Success {
            return Some(Ran::At(time, word));
        }
        if !stop || words.is_empty() {
            words.push(word);
        }
        if stop {
            break;
        }
    }
    // The last of the best.
    let best = words.iter().map(|word| world.class(word)).min()?;
    let word = words.iter().rev().find(|word| world.class(word) == best)?;
    Some(Ran::At(time, word.clone()))
}

impl World {
    fn word(&self, server: usize) -> Word {
        match self.outcomes[server] {
            Outcome::Reply(_) => server.to_string(),
            Outcome::Failure(failure) => local_name(keyway_policies::LocalReply::Failed(failure)),
        }
    }

    fn class(&self, word: &str) -> OutcomeClass {
        match word.parse::<usize>() {
            Ok(server) => self.outcomes[server].class(),
            Err(_) if word == "not_local" => OutcomeClass::Error,
            Err(_) => OutcomeClass::Lost,
        }
    }

    /// A new server, with its fate.
    fn server(&mut self, random: &mut Random) -> ServerId {
        let outcome = match random.below(3) {
            0 => Outcome::Failure(Failure::ALL[random.below(Failure::COUNT)]),
            _ => Outcome::Reply(KINDS[random.below(KINDS.len())].1),
        };
        let success = outcome.class() == OutcomeClass::Success;
        // Most successes become misses, so that joins have something to do.
        let outcome = if success && random.below(3) > 0 { Outcome::Reply(KINDS[1].1) } else { outcome };
        self.up.push(if random.below(5) > 0 { u8::MAX } else { 0 });
        self.outcomes.push(outcome);
        self.delays.push(1 + random.next() % (1 << 40));
        ServerId(self.up.len() as u32 - 1)
    }
}

fn grow(random: &mut Random, builder: &mut RoutesBuilder, world: &mut World, depth: usize) -> (NodeId, Model) {
    let kind = if depth == 4 { random.below(6) } else { random.below(14) };
    match kind {
        0..=3 => {
            let server = world.server(random);
            (builder.server(server).expect("it can be built"), Model::Server(server.0 as usize))
        }
        4 => {
            let servers: Vec<ServerId> = (0..random.below(4)).map(|_| world.server(random)).collect();
            let placement = PlacementSpec::new(Distribution::Ch3, servers.iter().map(|server| server.0.to_string()));
            let spec = PoolSpec { servers, placement, on_down: OnDown::Error };
            (builder.pool(&spec).expect("it can be built"), Model::Pool(home(&spec)))
        }
        5 => (builder.local().expect("it can be built"), Model::Local),
        6 => {
            let (get, get_model) = grow(random, builder, world, depth + 1);
            let (other, other_model) = grow(random, builder, world, depth + 1);
            let node = builder.operation_selector(&[(Operation::Get, get)], other).expect("it can be built");
            (node, Model::Selector { get: get_model.into(), other: other_model.into() })
        }
        _ => {
            let grown = (0..random.below(5)).map(|_| grow(random, builder, world, depth + 1));
            let (ids, models): (Vec<NodeId>, Vec<Model>) = grown.unzip();
            match kind {
                7 => (builder.default_route(&ids).expect("it can be built"), Model::Default(models)),
                8..=10 => (builder.all_fastest(&ids).expect("it can be built"), Model::Fastest(models)),
                _ => (builder.miss_failover(&ids).expect("it can be built"), Model::Failover(models)),
            }
        }
    }
}

fn home(spec: &PoolSpec) -> Option<usize> {
    let mut builder = Routes::builder();
    let root = builder.pool(spec).expect("it can be built");
    let routes = builder.build(root).expect("it can be built");
    let RouteNode::Pool(pool) = routes.node(routes.root()) else { panic!("the root is the pool") };
    pool.home(b"key").map(|server| server.0 as usize)
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

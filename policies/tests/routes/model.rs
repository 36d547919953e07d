//! Random trees, outcomes and delays against a model that knows no frames: it works out, node by node, what comes out
//! and when, while the plan is fed one outcome after another in the order of time.

use crate::notation::{Course, KINDS, env, local_name};
use keyway_policies::routes::all_fastest::AllFastest;
use keyway_policies::routes::all_initial::AllInitial;
use keyway_policies::routes::all_majority::AllMajority;
use keyway_policies::routes::all_sync::AllSync;
use keyway_policies::routes::explain::ExplainAt;
use keyway_policies::routes::failover::Failover;
use keyway_policies::routes::miss_failover::MissFailover;
use keyway_policies::routes::primary::{Follow, Primary};
use keyway_policies::routes::replicated::Replicated;
use keyway_policies::routes::walk::{Budget, Hedge, Order, Rule, Walk};
use keyway_policies::{
    Action, Answer, ByOperation, Choose, Distribution, ExplainUse, Failure, HealthView, ItemView, NodeId, OnDown,
    Outcome, OutcomeClass, PlacementSpec, Plan, PoolSpec, ReplyPolicy, Reported, RequestView, RouteNode, RouteStates,
    Routes, RoutesBuilder, ServerId, Step, Success, TryId,
};
use keyway_protocol::Operation;
use std::collections::BTreeMap;

const ROUNDS: u64 = 20_000;

#[test]
fn random_trees_do_what_the_model_says() {
    check(one_round);
}

/// The same for the routes that the model doesn't know.
#[test]
fn one_answer_comes_from_every_route() {
    check(|random, name| {
        let mut world = World { up: Vec::new(), outcomes: Vec::new(), delays: Vec::new() };
        let mut builder = Routes::builder();
        let root = grow_any(random, &mut builder, &mut world, 0);
        let routes = builder.build(root).expect("small trees can be built");
        let operations = [Operation::Get, Operation::Gets, Operation::Set, Operation::Cas, Operation::Delete];
        let mut state = routes.states(1, 1);
        // Several requests, so that estimates, budgets and counters take part.
        for request in 0..3 {
            let operation = operations[random.below(operations.len())];
            let name = || format!("{name}, request {request}: {operation:?}, {routes:?}");
            one_answer(random, &routes, &mut state, operation, &mut world, &name);
        }
    });
}

/// Reports outcomes and wakes in any order, and everything after the answer that is asked for.
fn one_answer(
    random: &mut Random,
    routes: &Routes,
    state: &mut RouteStates,
    operation: Operation,
    world: &mut World,
    name: &dyn Fn() -> String,
) {
    let frame: &[u8] = match operation {
        Operation::Set => b"set key 0 0 1\r\nx\r\n",
        Operation::Cas => b"cas key 0 0 1 7\r\nx\r\n",
        _ => b"get key\r\n",
    };
    let request = RequestView { operation, key: b"key", head: frame, tail: b"" };
    let (mut plan, mut out, mut open, mut wakes) = (Plan::default(), Vec::new(), Vec::new(), Vec::new());
    let step = routes.begin(&mut plan, &request, env(&world.up, state), &mut out);
    let mut answers = usize::from(step != Step::Wait);
    let mut kept: Vec<TryId> = Vec::new();
    let item = ItemView { flags: b"0", data: b"x", cas: b"7", ttl: Some(60) };
    loop {
        for action in out.drain(..) {
            match action {
                Action::Send(dispatch) => open.push(dispatch),
                Action::Spool(_) | Action::Log(_) => panic!("{}: nothing here spools or logs", name()),
                Action::Wake(wake) => wakes.push(wake.frame),
            }
        }
        assert!(answers == 1 || !open.is_empty(), "{}, {world:?}: somebody has to be waited for", name());
        let over = open.is_empty() || (answers == 1 && !routes.lingers(&plan, operation));
        if over {
            break;
        }
        let step = if !wakes.is_empty() && random.below(2) == 0 {
            let frame = wakes.swap_remove(random.below(wakes.len()));
            routes.wake(&mut plan, &request, env(&world.up, state), frame, &mut out)
        } else {
            let dispatch = open.swap_remove(random.below(open.len()));
            let outcome = world.outcomes[dispatch.server.0 as usize];
            let is_value = outcome == Outcome::Reply(KINDS[0].1);
            let reported = Reported { outcome, item: is_value.then_some(item), line: b"" };
            let env = env(&world.up, state);
            let verdict = routes.resume(&mut plan, &request, env, dispatch.try_id, &reported, &mut out);
            if verdict.kept {
                kept.push(dispatch.try_id);
            }
            if let Step::Answer(Answer::Try(answer)) = verdict.step {
                assert!(
                    answer == dispatch.try_id || kept.contains(&answer),
                    "{}, {world:?}: the answer was kept",
                    name()
                );
            }
            verdict.step
        };
        answers += usize::from(step != Step::Wait);
        world.up.iter_mut().for_each(|up| *up ^= if random.below(6) == 0 { u8::MAX } else { 0 });
    }
    assert_eq!(answers, 1, "{}, {world:?}", name());
}

fn grow_any(random: &mut Random, builder: &mut RoutesBuilder, world: &mut World, depth: usize) -> NodeId {
    if depth == 3 || random.below(3) == 0 {
        return grow(random, builder, world, 3).0;
    }
    let children: Vec<NodeId> = (0..random.below(5)).map(|_| grow_any(random, builder, world, depth + 1)).collect();
    let policy = ReplyPolicy {
        success: Success::ALL[random.below(3)],
        ignore_down: random.below(2) == 0,
        answer: Choose::ALL[random.below(Choose::ALL.len())],
    };
    let rule = [Rule::FAILOVER, Rule::MISS_FAILOVER][random.below(2)];
    let walk = Walk {
        order: if random.below(2) == 0 { Order::InOrder } else { Order::LeastFailures { max_tries: 3 } },
        budget: if random.below(2) == 0 { None } else { Budget::new(0.5, 1) },
        tag: random.below(2) == 0,
        gutter_exptime: [None, Some(60)][random.below(2)],
        backfill: random.below(2) == 0,
        hedge: if random.below(2) == 0 { None } else { Hedge::new(0.9, 1, 0) },
        ..Walk::new(rule)
    };
    let added = match random.below(8) {
        0 => builder.add(AllSync { replies: ByOperation::same(policy) }, &children),
        1 => builder.add(AllFastest { replies: ByOperation::same(policy) }, &children),
        2 => builder.add(AllMajority, &children),
        3 => builder.add(AllInitial, &children),
        4 => builder.replicated(&children, &Replicated::default()),
        5 => builder.add(Primary { follow: Follow::Set }, &children),
        6 => builder.add(Failover(walk), &children),
        _ => builder.add(MissFailover(walk), &children),
    };
    added.expect("it can be built")
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
            course.plan.holds(TryId(at as u16))
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

//! A plan that is cleared and used again routes without allocating.

use keyway_policies::hash::MAX_SALT_BYTES;
use keyway_policies::routes::all_majority::AllMajority;
use keyway_policies::routes::failover::Failover;
use keyway_policies::routes::keep_routing_prefix::KeepRoutingPrefix;
use keyway_policies::routes::key_parse::KeyParse;
use keyway_policies::routes::load_balancer::LoadBalancer;
use keyway_policies::routes::logging::Logging;
use keyway_policies::routes::modify_exptime::{ExptimeAction, ModifyExptime};
use keyway_policies::routes::modify_key::ModifyKey;
use keyway_policies::routes::outstanding_limit::OutstandingLimit;
use keyway_policies::routes::prefix_selector::PrefixSelector;
use keyway_policies::routes::rate_limit::{Rate, RateLimit};
use keyway_policies::routes::replicated::Replicated;
use keyway_policies::routes::root::Root;
use keyway_policies::routes::slow_warm_up::SlowWarmUp;
use keyway_policies::routes::walk::{Hedge, Order, Rule, Walk};
use keyway_policies::{
    Action, ClientView, Dispatch, Distribution, Env, Failure, HashTag, HealthView, KeyHash, NodeId, OnDown, Outcome,
    Placement, PlacementSpec, Plan, PoolSpec, Reported, RequestView, RouteStates, Routes, RoutesBuilder, ServerId,
    Step,
};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::ReplyKind;

const OUTCOMES: [Outcome; 4] = [
    Outcome::Reply(ReplyKind::End),
    Outcome::Reply(ReplyKind::ServerError),
    Outcome::Failure(Failure::Timeout),
    Outcome::Reply(ReplyKind::Value),
];

#[test]
fn nothing_is_allocated_after_warm_up() {
    check(&routes());
    check(&selectors());
}

fn check(routes: &Routes) {
    let mut bench = Bench { plan: Plan::default(), state: routes.states(1, 1), out: Vec::new(), waiting: Vec::new() };
    let mut rounds = |count: usize| {
        for round in 0..count {
            bench.route(routes, round);
        }
    };
    let warm_up = allocation_counter::measure(|| rounds(1000));
    assert!(warm_up.count_total > 0, "the counter counts");
    let warm = allocation_counter::measure(|| rounds(10_000));
    assert_eq!(warm.count_total, 0, "{warm:?}");
}

#[test]
fn no_choice_allocates() {
    let longest = [b"k:{3}".as_slice(), &[b'x'; 245]].concat();
    let keys = [b"user:{42}:name|#|x".as_slice(), b"7:3:rest", b"", &longest];
    let functions =
        "ch3 one_at_a_time md5 crc16 crc32 crc32a fnv1_64 fnv1a_64 fnv1_32 fnv1a_32 hsieh murmur jenkins xxh3";
    let distributions = "ch3 weighted_ch3 crc32 const_shard rendezvous weighted_rendezvous ketama modula random \
                         libmemcached_ketama libmemcached_ketama_weighted libmemcached_modula overlord_ketama jump \
                         ring codis kvstore";
    let functions = functions.split(' ').map(Some).chain([None]);
    let pairs = functions.flat_map(|function| distributions.split(' ').map(move |name| (function, Some(name))));
    for distribution in pairs.filter_map(|(function, name)| Distribution::from_names(function, name)) {
        let spec = PlacementSpec {
            tag: HashTag::from_pair(b"{}"),
            salt: "s".repeat(MAX_SALT_BYTES),
            ..PlacementSpec::new(distribution, (0..8).map(|id| format!("10.0.0.{id}")))
        };
        let placement = Placement::new(&spec).expect("it can be built");
        let mut sum = placement.home(b"warm");
        let chosen = allocation_counter::measure(|| {
            for key in keys {
                sum += placement.home(key) + placement.drawn(key, 3) + placement.candidates(key).sum::<usize>();
                sum += placement.first_up(key, |member| member == 5);
            }
        });
        assert_eq!(chosen.count_total, 0, "{distribution:?} {sum}");
    }
}

/// What a shard keeps from request to request.
struct Bench {
    plan: Plan,
    state: RouteStates,
    out: Vec<Action>,
    waiting: Vec<Dispatch>,
}

impl Bench {
    /// One request from beginning to end, with every outcome reported.
    fn route(&mut self, routes: &Routes, round: usize) {
        let operations = [Operation::Get, Operation::Set, Operation::Delete, Operation::Incr, Operation::Version];
        let up = |of: usize| if round.is_multiple_of(of) { 0 } else { u8::MAX };
        let health = [u8::MAX, up(3), u8::MAX, up(7), u8::MAX, up(11), u8::MAX, u8::MAX];
        let request = RequestView::of_key(operations[round % operations.len()], b"/a/b/user:{42}:name|#|x");
        let begun = routes.begin(&mut self.plan, &request, env(&health, &mut self.state), &mut self.out);
        let mut answers = usize::from(begun != Step::Wait);
        self.take_sends();
        let mut step = round;
        while !self.waiting.is_empty() {
            let dispatch = self.waiting.swap_remove(step % self.waiting.len());
            let reported = Reported::bare(OUTCOMES[step % 3 + usize::from(step.is_multiple_of(17))]);
            let env = env(&health, &mut self.state);
            let verdict = routes.resume(&mut self.plan, &request, env, dispatch.try_id, &reported, &mut self.out);
            answers += usize::from(verdict.step != Step::Wait);
            self.take_sends();
            step += 1;
        }
        assert_eq!(answers, 1);
        self.plan.clear();
    }

    fn take_sends(&mut self) {
        self.waiting.extend(self.out.drain(..).filter_map(|action| match action {
            Action::Send(dispatch) => Some(dispatch),
            Action::Spool(_) | Action::Wake(_) | Action::Log(_) => None,
        }));
    }
}

fn env<'a>(health: &'a [u8], state: &'a mut RouteStates) -> Env<'a> {
    let client = ClientView::default();
    Env { health: HealthView(health), now: 0, unix_ms: 0, client, request: 0, spare_bytes: usize::MAX, state }
}

fn routes() -> Routes {
    let mut builder = Routes::builder();
    let servers: Vec<NodeId> = (0..8).map(|id| builder.server(ServerId(id)).expect("it can be built")).collect();
    let ch3 = pool(&mut builder, Distribution::Ch3);
    let ketama = pool(&mut builder, Distribution::Ketama(KeyHash::Fnv1a64));
    let some = builder.all_fastest(&servers[..3]).expect("it can be built");
    let others = builder.default_route(&servers[3..]).expect("it can be built");
    let order = Order::LeastFailures { max_tries: 4 };
    let hedge = Hedge::new(0.9, 1, 1);
    let walk = Walk { order, hedge, backfill: true, ..Walk::new(Rule::MISS_FAILOVER) };
    let least = builder.add(Failover(walk), &servers).expect("it can be built");
    let replicas = builder.replicated(&servers[..3], &Replicated::default()).expect("it can be built");
    let most = builder.add(AllMajority, &servers[2..6]).expect("it can be built");
    let reads = builder.miss_failover(&[some, ch3, least, others, ketama, some]).expect("it can be built");
    let writes = builder.all_fastest(&[reads, others, most, ketama, replicas]).expect("it can be built");
    let entries = [(Operation::Get, reads), (Operation::Set, writes), (Operation::Delete, some)];
    let root = builder.operation_selector(&entries, ch3).expect("it can be built");
    builder.build(root).expect("it can be built")
}

/// Routes that choose, change and count, one above the other.
fn selectors() -> Routes {
    const GOOD: &str = "it can be built";
    let mut builder = Routes::builder();
    let servers: Vec<NodeId> = (0..8).map(|id| builder.server(ServerId(id)).expect(GOOD)).collect();
    let pool = pool(&mut builder, Distribution::Ch3);
    let balanced = builder.add(LoadBalancer { load_ttl: 1, failovers: 2 }, &servers).expect(GOOD);
    let limit = OutstandingLimit { most: 1, most_waiting: 10, wait: 1 };
    let limited = builder.add(limit, &[balanced]).expect(GOOD);
    let warm_up = SlowWarmUp { enable_threshold: 0.7, disable_threshold: 0.9, start: 0.1, step: 1.0, min_requests: 20 };
    let warmed = builder.add(warm_up, &[pool, balanced]).expect(GOOD);
    let rate = Some(Rate { per_second: 1.0, burst: 1e9 });
    let rated = builder.add(RateLimit { gets: rate, sets: rate, deletes: rate }, &[limited]).expect(GOOD);
    let logged = builder.add(Logging { lines_per_second: 1000 }, &[warmed]).expect(GOOD);
    let both = builder.all_fastest(&[rated, logged]).expect(GOOD);
    let key = ModifyKey { ensure_prefix: b"p:".to_vec(), suffix: b":s".to_vec(), ..ModifyKey::default() };
    let changed = builder.add(key, &[both]).expect(GOOD);
    let exptime = builder.add(ModifyExptime::new(60, ExptimeAction::Min), &[changed]).expect(GOOD);
    let parsed = builder.add(KeyParse { parts: 2, delimiter: b':' }, &[exptime]).expect(GOOD);
    let kept = builder.add(KeepRoutingPrefix, &[parsed]).expect(GOOD);
    let prefixes = PrefixSelector::new([b"user:".as_slice(), b"u"], true);
    let prefixed = builder.add(prefixes, &[kept, pool, pool]).expect(GOOD);
    let root = Root::new(&[("/a/b/", 0), ("/a/c/", 1)], "/a/b/", false).expect(GOOD);
    let root = builder.add(root, &[prefixed, pool]).expect(GOOD);
    builder.build(root).expect(GOOD)
}

fn pool(builder: &mut RoutesBuilder, distribution: Distribution) -> NodeId {
    let placement = PlacementSpec {
        tag: HashTag::from_pair(b"{}"),
        salt: "salt".to_owned(),
        ..PlacementSpec::new(distribution, (0..8).map(|id| format!("10.0.0.{id}")))
    };
    let servers = (0..8).map(ServerId).collect();
    builder.pool(&PoolSpec { servers, placement, on_down: OnDown::Rehash }).expect("it can be built")
}

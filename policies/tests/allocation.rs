//! A plan that is cleared and used again routes without allocating.

use keyway_policies::{
    Dispatch, Distribution, Failure, HashTag, HealthView, KeyHash, NodeId, OnDown, Outcome, Plan, PoolServer, PoolSpec,
    RequestView, Routes, RoutesBuilder, ServerId, Step,
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
    let routes = routes();
    let mut plan = Plan::default();
    let mut out = Vec::new();
    let mut waiting = Vec::new();
    let mut rounds = |count: usize| {
        for round in 0..count {
            route(&routes, round, &mut plan, &mut out, &mut waiting);
        }
    };
    let warm_up = allocation_counter::measure(|| rounds(64));
    assert!(warm_up.count_total > 0, "the counter counts");
    let warm = allocation_counter::measure(|| rounds(10_000));
    assert_eq!(warm.count_total, 0, "{warm:?}");
}

/// One request from beginning to end, with every outcome reported.
fn route(routes: &Routes, round: usize, plan: &mut Plan, out: &mut Vec<Dispatch>, waiting: &mut Vec<Dispatch>) {
    let operations = [Operation::Get, Operation::Set, Operation::Delete, Operation::Incr, Operation::Version];
    let health =
        [true, !round.is_multiple_of(3), true, !round.is_multiple_of(7), true, !round.is_multiple_of(11), true, true];
    let request = RequestView { operation: operations[round % operations.len()], key: b"user:{42}:name|#|x" };
    let mut answers = usize::from(routes.begin(plan, request, HealthView(&health), out) != Step::Wait);
    waiting.append(out);
    let mut step = round;
    while !waiting.is_empty() {
        let dispatch = waiting.swap_remove(step % waiting.len());
        let outcome = OUTCOMES[step % 3 + usize::from(step.is_multiple_of(17))];
        let verdict = routes.resume(plan, request, HealthView(&health), dispatch.try_id, outcome, out);
        answers += usize::from(verdict.step != Step::Wait);
        waiting.append(out);
        step += 1;
    }
    assert_eq!(answers, 1);
    plan.clear();
}

fn routes() -> Routes {
    let mut builder = Routes::builder();
    let servers: Vec<NodeId> = (0..8).map(|id| builder.server(ServerId(id)).expect("it can be built")).collect();
    let ch3 = pool(&mut builder, Distribution::Ch3);
    let ketama = pool(&mut builder, Distribution::Ketama(KeyHash::Fnv1a64));
    let some = builder.all_fastest(&servers[..3]).expect("it can be built");
    let others = builder.default_route(&servers[3..]).expect("it can be built");
    let reads = builder.miss_failover(&[some, ch3, others, ketama, some]).expect("it can be built");
    let writes = builder.all_fastest(&[reads, others, ketama]).expect("it can be built");
    let entries = [(Operation::Get, reads), (Operation::Set, writes), (Operation::Delete, some)];
    let root = builder.operation_selector(&entries, ch3).expect("it can be built");
    builder.build(root).expect("it can be built")
}

fn pool(builder: &mut RoutesBuilder, distribution: Distribution) -> NodeId {
    let server = |id| PoolServer { server: ServerId(id), label: format!("10.0.0.{id}"), weight: 1 };
    let servers = (0..8).map(server).collect();
    let tag = HashTag::from_pair(b"{}");
    builder.pool(&PoolSpec { servers, distribution, tag, on_down: OnDown::Rehash }).expect("it can be built")
}

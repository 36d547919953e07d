//! Deletes that race with what WarmUpRoute puts into cold: random clients on random shards against two caches, whose
//! requests and replies travel in order on each connection but otherwise as they like.
//!
//! The model is the value itself: a number that grows with each change of the truth. After a change the key is deleted through
//! the route. Whatever the order, in the end neither cache may have a value from before a delete that was answered; and with
//! one shard no read that began after that answer may get one.

use crate::cases::tree;
use keyway_policies::routes::backfill::Backfill;
use keyway_policies::routes::warm_up::WarmUp;
use keyway_policies::{
    Action, Answer, ClientView, Env, Failure, HealthView, ItemView, Outcome, Plan, Reported, RequestView, RouteStates,
    Routes, Step, TryId, Wire,
};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::ReplyKind;
use std::collections::VecDeque;

const KEYS: [&str; 2] = ["a", "b"];
const ROUNDS: u64 = 4000;
const CLIENTS: usize = 5;
const STEPS: usize = 30;

const SAFE: Backfill = Backfill { exptime: None, ask_ttl: true, delete_both: true };

#[test]
fn on_one_shard_no_read_gets_what_was_deleted_before() {
    assert_eq!(rounds(SAFE, 1, false, true), None);
}

#[test]
fn between_shards_nothing_deleted_stays() {
    assert_eq!(rounds(SAFE, 3, false, false), None);
}

#[test]
fn servers_that_are_late_change_nothing_about_it() {
    assert_eq!(rounds(SAFE, 3, true, false), None);
}

/// The test can fail: without the second look, and with deletes for cold alone, it does.
#[test]
fn as_mcrouter_does_it_deleted_values_stay() {
    let mcrouter = Backfill { delete_both: false, ..SAFE };
    assert!(rounds(mcrouter, 1, false, false).is_some());
}

/// What went wrong first, if anything.
fn rounds(fill: Backfill, shards: usize, late: bool, strict: bool) -> Option<String> {
    let seed: u64 = match std::env::var("KEYWAY_SEED") {
        Ok(text) => text.parse().expect("KEYWAY_SEED is a number"),
        Err(_) => std::process::id().into(),
    };
    println!("KEYWAY_SEED={seed}");
    let routes =
        tree(2, |builder, servers| builder.add(WarmUp { fill, invalidate_warm: false }, servers).expect("a route"));
    (0..ROUNDS).find_map(|round| {
        let random = Random(seed ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut world = World::new(&routes, shards, late, random);
        world.run(strict).err().map(|fault| format!("KEYWAY_SEED={seed}, round {round}: {fault}"))
    })
}

/// One of the two caches.
#[derive(Default)]
struct Cache {
    items: [Option<(u64, u64)>; KEYS.len()],
    next_cas: u64,
}

impl Cache {
    fn store(&mut self, key: usize, value: u64) {
        self.next_cas += 1;
        self.items[key] = Some((value, self.next_cas));
    }

    /// Does what is asked; the reply's kind and item.
    fn execute(&mut self, frame: &str) -> (ReplyKind, Option<(u64, u64)>) {
        let mut lines = frame.split("\r\n");
        let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let key = KEYS.iter().position(|key| *key == words[1]).expect("a key of the test");
        match (words[0], self.items[key]) {
            ("delete", found) => {
                self.items[key] = None;
                (if found.is_some() { ReplyKind::Deleted } else { ReplyKind::NotFound }, None)
            }
            ("add", Some(_)) => (ReplyKind::NotStored, None),
            ("add", None) => {
                self.store(key, lines.next().and_then(|data| data.parse().ok()).expect("a value of the test"));
                (ReplyKind::Stored, None)
            }
            ("get" | "gets" | "mg", found) => (if found.is_some() { ReplyKind::Value } else { ReplyKind::End }, found),
            (other, _) => panic!("nobody asks {other}"),
        }
    }
}

/// What travels on a connection between a shard and a cache.
enum Parcel {
    Asked { request: usize, generation: u64, try_id: TryId, frame: String, overdue: bool },
    Told { request: usize, generation: u64, try_id: TryId, kind: ReplyKind, item: Option<(u64, u64)>, overdue: bool },
}

/// A request under way, or the place of the next.
#[derive(Default)]
struct Client {
    plan: Plan,
    generation: u64,
    operation: Option<Operation>,
    key: usize,
    shard: usize,
    frame: Vec<u8>,
    /// For a delete, the truth when it began; for a read, the last delete that was answered when it began.
    since: u64,
    answered: bool,
    open: usize,
}

struct World<'a> {
    routes: &'a Routes,
    states: Vec<RouteStates>,
    caches: [Cache; 2],
    clients: Vec<Client>,
    /// To and from each cache, for each shard.
    asked: Vec<[VecDeque<Parcel>; 2]>,
    told: Vec<[VecDeque<Parcel>; 2]>,
    truth: [u64; KEYS.len()],
    deleted: [u64; KEYS.len()],
    late: bool,
    /// For how many steps a connection carries nothing.
    frozen: Vec<[usize; 2]>,
    random: Random,
}

impl<'a> World<'a> {
    fn new(routes: &'a Routes, shards: usize, late: bool, random: Random) -> World<'a> {
        let links = || (0..shards).map(|_| [VecDeque::new(), VecDeque::new()]).collect();
        World {
            routes,
            states: (0..shards).map(|shard| routes.states(shard as u64 + 1, 1)).collect(),
            caches: Default::default(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            asked: links(),
            told: links(),
            truth: [1; KEYS.len()],
            deleted: [0; KEYS.len()],
            late,
            frozen: vec![[0; 2]; shards],
            random,
        }
    }

    fn run(&mut self, strict: bool) -> Result<(), String> {
        for step in 0.. {
            let link = (self.random.below(self.states.len()), self.random.below(2));
            match self.random.below(12) {
                0..3 if step < STEPS => self.begin_somewhere(),
                3 if step < STEPS => {
                    // Somebody else fills warm with the truth.
                    let key = self.random.below(KEYS.len());
                    self.caches[1].store(key, self.truth[key]);
                }
                4 if self.late => self.give_up(link, strict)?,
                5..8 => self.arrive(link),
                _ => self.tell(link, strict)?,
            }
            let travelling = |links: &[[VecDeque<Parcel>; 2]]| links.iter().flatten().any(|link| !link.is_empty());
            if step > STEPS && !travelling(&self.asked) && !travelling(&self.told) {
                break;
            }
        }
        if let Some(waiting) = self.clients.iter().find(|client| client.open > 0 && !client.answered) {
            return Err(format!("{:?} was never answered", waiting.operation));
        }
        for (key, deleted) in self.deleted.into_iter().enumerate() {
            for (cache, name) in self.caches.iter().zip(["cold", "warm"]) {
                if let Some((value, _)) = cache.items[key].filter(|(value, _)| *value < deleted) {
                    return Err(format!("{name} still has {value} of {}, deleted at {deleted}", KEYS[key]));
                }
            }
        }
        Ok(())
    }

    fn begin_somewhere(&mut self) {
        let Some(at) = self.clients.iter().position(|client| client.open == 0) else { return };
        let key = self.random.below(KEYS.len());
        let operation = [Operation::Get, Operation::Get, Operation::Gets, Operation::Delete][self.random.below(4)];
        if operation == Operation::Delete {
            self.truth[key] += 1;
        }
        let since = if operation == Operation::Delete { self.truth[key] } else { self.deleted[key] };
        let shard = self.random.below(self.states.len());
        let client = &mut self.clients[at];
        client.plan.clear();
        let generation = client.generation + 1;
        let frame = format!("{} {}\r\n", operation.name(), KEYS[key]).into_bytes();
        let plan = std::mem::take(&mut client.plan);
        *client =
            Client { plan, generation, operation: Some(operation), key, shard, frame, since, answered: false, open: 0 };
        let step = self.act(at, |routes, plan, view, env, out| routes.begin(plan, view, env, out));
        assert_eq!(step, Step::Wait, "caches are asked first");
    }

    fn act<T>(
        &mut self,
        at: usize,
        act: impl FnOnce(&Routes, &mut Plan, &RequestView<'_>, Env<'_>, &mut Vec<Action>) -> T,
    ) -> T {
        let client = &mut self.clients[at];
        let view = RequestView {
            operation: client.operation.expect("under way"),
            key: KEYS[client.key].as_bytes(),
            head: &client.frame,
            tail: b"",
        };
        let env = Env {
            health: HealthView(&[u8::MAX; 2]),
            now: 0,
            unix_ms: 0,
            client: ClientView::default(),
            request: at as u64,
            spare_bytes: 1 << 20,
            state: &mut self.states[client.shard],
        };
        let mut out = Vec::new();
        let done = act(self.routes, &mut client.plan, &view, env, &mut out);
        for action in out {
            let Action::Send(dispatch) = action else { panic!("{action:?}") };
            let frame = match client.plan.wire(dispatch.try_id) {
                Wire::AsAsked => &client.frame,
                Wire::Frame { bytes, .. } => bytes,
                Wire::WithKey(_) => panic!("no key is changed"),
            };
            let frame = String::from_utf8_lossy(frame).into_owned();
            let parcel = Parcel::Asked {
                request: at,
                generation: client.generation,
                try_id: dispatch.try_id,
                frame,
                overdue: false,
            };
            self.asked[client.shard][dispatch.server.0 as usize].push_back(parcel);
            client.open += 1;
        }
        done
    }

    /// A cache takes the oldest request of a connection.
    fn arrive(&mut self, (shard, cache): (usize, usize)) {
        if self.frozen[shard][cache] > 0 {
            self.frozen[shard][cache] -= 1;
            return;
        }
        let Some(Parcel::Asked { request, generation, try_id, frame, overdue }) = self.asked[shard][cache].pop_front()
        else {
            return;
        };
        let (kind, item) = self.caches[cache].execute(&frame);
        self.told[shard][cache].push_back(Parcel::Told { request, generation, try_id, kind, item, overdue });
    }

    /// The oldest reply of a connection comes back.
    fn tell(&mut self, (shard, cache): (usize, usize), strict: bool) -> Result<(), String> {
        match self.told[shard][cache].pop_front() {
            Some(Parcel::Told { request, generation, try_id, kind, item, overdue: false }) => {
                self.report(request, generation, try_id, Outcome::Reply(kind), item, strict)
            }
            // Nobody waits for it any more.
            _ => Ok(()),
        }
    }

    /// A try times out; the cache will still see it.
    fn give_up(&mut self, (shard, cache): (usize, usize), strict: bool) -> Result<(), String> {
        let Some(Parcel::Asked { request, generation, try_id, overdue, .. }) = self.asked[shard][cache].front_mut()
        else {
            return Ok(());
        };
        if std::mem::replace(overdue, true) {
            return Ok(());
        }
        let (request, generation, try_id) = (*request, *generation, *try_id);
        self.frozen[shard][cache] = self.random.below(15);
        self.report(request, generation, try_id, Outcome::Failure(Failure::Timeout), None, strict)
    }

    fn report(
        &mut self,
        at: usize,
        generation: u64,
        try_id: TryId,
        outcome: Outcome,
        item: Option<(u64, u64)>,
        strict: bool,
    ) -> Result<(), String> {
        assert_eq!(self.clients[at].generation, generation, "a place is only taken when nothing of the last is open");
        self.clients[at].open -= 1;
        let [data, cas] = item.map_or_else(Default::default, |(value, cas)| [value.to_string(), cas.to_string()]);
        let view = ItemView { flags: b"0", data: data.as_bytes(), cas: cas.as_bytes(), ttl: Some(-1) };
        let reported = Reported { outcome, item: item.map(|_| view), line: b"" };
        let verdict =
            self.act(at, |routes, plan, view, env, out| routes.resume(plan, view, env, try_id, &reported, out));
        let Step::Answer(answer) = verdict.step else { return Ok(()) };
        let client = &mut self.clients[at];
        client.answered = true;
        let is_hit = answer == Answer::Try(try_id) && item.is_some();
        match client.operation {
            Some(Operation::Delete) if outcome != Outcome::Failure(Failure::Timeout) => {
                let is_done = matches!(answer, Answer::Try(_));
                let deleted = &mut self.deleted[client.key];
                *deleted = if is_done { (*deleted).max(client.since) } else { *deleted };
            }
            Some(Operation::Get | Operation::Gets) if strict && is_hit => {
                let value = item.map_or(0, |(value, _)| value);
                if value < client.since {
                    return Err(format!("{value} of {} was read, deleted at {}", KEYS[client.key], client.since));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

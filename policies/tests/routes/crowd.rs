//! Several requests at once over what the nodes remember: limits, queues and loads.
//!
//! A course is a list of (what happens, what is told). What happens: `a@7 get` begins request `a` of client 7; `a STORED`
//! reports the outcome of its oldest open try; `a gone` takes its client away; `+100` lets milliseconds pass. What is told:
//! `a>0` for a try at server 0, `a=STORED` for an answer, `a=null` and the like for the router's own words.

use crate::cases::tree;
use crate::notation::{local_name, outcome};
use crate::play::outcome_name;
use crate::selectors::pool;
use keyway_policies::routes::blackhole::Blackhole;
use keyway_policies::routes::load_balancer::LoadBalancer;
use keyway_policies::routes::outstanding_limit::OutstandingLimit;
use keyway_policies::{
    Action, Answer, ClientView, Env, HealthView, Plan, Reported, RequestView, RouteEvent, RouteStates, Routes,
    ServerId, Step, TryId, Wake,
};
use keyway_protocol::Operation;
use std::collections::{BTreeMap, VecDeque};

const MS: u64 = 1_000_000;

/// Requests of many clients, under way at once.
struct Crowd<'a> {
    routes: &'a Routes,
    state: RouteStates,
    now_ms: u64,
    up: Vec<u8>,
    requests: BTreeMap<char, Asked>,
    wakes: Vec<Wake>,
}

struct Asked {
    plan: Plan,
    client: u32,
    operation: Operation,
    key: String,
    open: VecDeque<(TryId, ServerId)>,
    outcomes: BTreeMap<TryId, &'static str>,
    /// Nothing is reported once it is over, as the shard does it.
    over: bool,
}

impl<'a> Crowd<'a> {
    fn new(routes: &'a Routes) -> Crowd<'a> {
        let servers = routes.servers().iter().map(|server| server.0 as usize + 1).max().unwrap_or(0);
        let state = routes.states(1, 1);
        Crowd { routes, state, now_ms: 0, up: vec![u8::MAX; servers], requests: BTreeMap::new(), wakes: Vec::new() }
    }

    fn check(&mut self, course: &[(&str, &str)]) {
        let told: Vec<(&str, String)> = course.iter().map(|(happens, _)| (*happens, self.step(happens))).collect();
        let expected: Vec<(&str, String)> =
            course.iter().map(|(happens, told)| (*happens, (*told).to_owned())).collect();
        assert_eq!(told, expected);
    }

    fn step(&mut self, happens: &str) -> String {
        let mut words = Vec::new();
        if let Some(ms) = happens.strip_prefix('+') {
            self.now_ms += ms.parse::<u64>().expect("milliseconds");
        } else if let Some(digits) = happens.strip_prefix("up=") {
            self.up = crate::notation::health(digits);
        } else {
            let (who, what) = happens.split_once(' ').expect("who and what");
            let name = who.chars().next().expect("a letter");
            match who.split_once('@') {
                Some((_, client)) => self.begin(name, client.parse().expect("a number"), what, &mut words),
                None if what == "gone" => self.abandon(name, &mut words),
                None => self.report(name, what, &mut words),
            }
        }
        self.wake(&mut words);
        words.join(" ")
    }

    /// `get`, or `get other-key`.
    fn begin(&mut self, name: char, client: u32, what: &str, words: &mut Vec<String>) {
        let (operation, key) = what.split_once(' ').unwrap_or((what, "key"));
        let operation = Operation::from_name(operation.as_bytes()).expect("an operation");
        let (open, key) = (VecDeque::new(), key.to_owned());
        let plan = Plan::default();
        self.requests
            .insert(name, Asked { plan, client, operation, key, open, outcomes: BTreeMap::new(), over: false });
        let routes = self.routes;
        let (step, out) = self.with(name, |plan, view, env, out| routes.begin(plan, view, env, out));
        self.tell(name, step, &out, words);
    }

    fn report(&mut self, name: char, what: &str, words: &mut Vec<String>) {
        let reported = Reported::bare(outcome(what));
        let asked = self.requests.get_mut(&name).expect("a request");
        let (try_id, _) = asked.open.pop_front().expect("an open try");
        asked.outcomes.insert(try_id, outcome_name(reported.outcome));
        let routes = self.routes;
        let (verdict, out) =
            self.with(name, |plan, view, env, out| routes.resume(plan, view, env, try_id, &reported, out));
        self.tell(name, verdict.step, &out, words);
        self.end_lingering(name);
    }

    /// As the shard does it: one that still counts, or goes on for its effect, is told outcomes.
    fn abandon(&mut self, name: char, words: &mut Vec<String>) {
        let routes = self.routes;
        let ((), out) = self.with(name, |plan, view, env, out| routes.abandon(plan, view, env, out));
        self.requests.get_mut(&name).expect("a request").over = true;
        self.tell(name, Step::Wait, &out, words);
        self.end_lingering(name);
    }

    fn end_lingering(&mut self, name: char) {
        let asked = &self.requests[&name];
        if asked.over && !self.routes.lingers(&asked.plan, asked.operation) {
            self.requests.remove(&name);
        }
    }

    /// Whoever's time has come.
    fn wake(&mut self, words: &mut Vec<String>) {
        while let Some(at) = self.wakes.iter().position(|wake| wake.at <= self.now_ms * MS) {
            let wake = self.wakes.remove(at);
            let name = char::from_u32(wake.request as u32).expect("a letter");
            if self.requests.contains_key(&name) {
                let routes = self.routes;
                let (step, out) = self.with(name, |plan, view, env, out| routes.wake(plan, view, env, wake.frame, out));
                self.tell(name, step, &out, words);
                self.end_lingering(name);
            }
        }
    }

    fn with<T>(
        &mut self,
        name: char,
        act: impl FnOnce(&mut Plan, &RequestView<'_>, Env<'_>, &mut Vec<Action>) -> T,
    ) -> (T, Vec<Action>) {
        let asked = self.requests.get_mut(&name).expect("a request");
        let view = RequestView::of_key(asked.operation, asked.key.as_bytes());
        let env = Env {
            health: HealthView(&self.up),
            now: self.now_ms * MS,
            unix_ms: 0,
            client: ClientView { number: asked.client, address_hash: 0 },
            request: u64::from(name as u32),
            spare_bytes: 1 << 20,
            state: &mut self.state,
        };
        let mut out = Vec::new();
        let done = act(&mut asked.plan, &view, env, &mut out);
        (done, out)
    }

    fn tell(&mut self, name: char, step: Step, out: &[Action], words: &mut Vec<String>) {
        let asked = self.requests.get_mut(&name).expect("a request");
        for action in out {
            match action {
                Action::Send(dispatch) => {
                    words.push(format!("{name}>{}", dispatch.server.0));
                    asked.open.push_back((dispatch.try_id, dispatch.server));
                }
                Action::Wake(wake) => self.wakes.push(*wake),
                Action::Spool(_) | Action::Log(_) => panic!("{action:?} has no place here"),
            }
        }
        if let Step::Answer(answer) = step {
            assert!(!asked.over, "answered once");
            asked.over = true;
            let word = match answer {
                Answer::Try(try_id) => asked.outcomes[&try_id].to_owned(),
                Answer::Composed => panic!("nothing composes here"),
                Answer::Local(reply) => local_name(reply),
            };
            words.push(format!("{name}={word}"));
        }
    }

    /// Reports the same outcome for all that is open, until nothing is.
    fn finish(&mut self, outcome: &str) {
        while let Some(name) = self.requests.iter().find(|(_, asked)| !asked.open.is_empty()).map(|(name, _)| *name) {
            self.step(&format!("{name} {outcome}"));
        }
    }

    /// True when a new request of a new client is sent at once: no slot was lost.
    fn has_free_slot(&mut self) -> bool {
        let told = self.step("z@999 get");
        self.finish("END");
        told.starts_with("z>")
    }
}

fn limited(most: u32, most_waiting: u32) -> OutstandingLimit {
    OutstandingLimit { most, most_waiting, wait: 100 * MS }
}

#[test]
fn outstanding_requests_wait_their_turn_client_by_client() {
    let routes = tree(1, |builder, servers| builder.add(limited(2, 10), servers).expect("a route"));
    let mut crowd = Crowd::new(&routes);
    crowd.check(&[
        ("a@1 get", "a>0"),
        ("b@1 get", "b>0"),
        ("c@1 get", ""),
        ("d@1 set", ""),
        ("e@2 get", ""),
        ("a VALUE", "a=VALUE c>0"),
        ("c timeout", "c=timeout e>0"),
        ("b END", "b=END d>0"),
        ("d STORED", "d=STORED"),
        ("f@3 get", "f>0"),
        ("e END", "e=END"),
        ("f END", "f=END"),
    ]);
    assert_eq!(crowd.state.take_events()[RouteEvent::OutstandingQueued as usize], 3);
}

#[test]
fn a_wait_has_an_end_and_so_has_the_queue() {
    let routes = tree(1, |builder, servers| builder.add(limited(1, 2), servers).expect("a route"));
    let mut crowd = Crowd::new(&routes);
    crowd.check(&[
        ("a@1 get", "a>0"),
        ("b@2 get", ""),
        ("+60", ""),
        ("c@3 get", ""),
        ("d@4 get", "d=queue_full"),
        ("+40", "b=timeout"),
        // Its place is free again.
        ("e@5 get", ""),
        ("a END", "a=END c>0"),
        ("+60", ""),
        ("+40", "e=timeout"),
        ("c END", "c=END"),
    ]);
    assert!(crowd.has_free_slot());
    let events = crowd.state.take_events();
    assert_eq!(events[RouteEvent::OutstandingRefused as usize], 1);
    assert_eq!(events[RouteEvent::OutstandingExpired as usize], 2);
}

#[test]
fn a_request_that_finds_the_queue_full_may_go_elsewhere() {
    let routes = tree(2, |builder, servers| {
        let limit = builder.add(limited(1, 0), &servers[..1]).expect("a route");
        builder.miss_failover(&[limit, servers[1]]).expect("a route")
    });
    Crowd::new(&routes).check(&[("a@1 get", "a>0"), ("b@1 get", "b>1"), ("a VALUE", "a=VALUE"), ("c@1 get", "c>0")]);
}

#[test]
fn clients_that_go_away_leave_their_slots_and_places() {
    let routes = tree(1, |builder, servers| builder.add(limited(1, 10), servers).expect("a route"));
    let mut crowd = Crowd::new(&routes);
    crowd.check(&[
        ("a@1 get", "a>0"),
        ("b@2 get", ""),
        ("c@3 get", ""),
        ("d@4 set", ""),
        // One that waits loses its place; one that is served has its slot until the server is done with it.
        ("b gone", ""),
        ("a gone", ""),
        ("a END", "c>0"),
        // A write goes on for its effect.
        ("d gone", ""),
        ("c END", "c=END d>0"),
        ("e@5 get", ""),
        ("d STORED", "e>0"),
        ("e END", "e=END"),
    ]);
    assert!(crowd.has_free_slot());
    // A slot handed to a request whose client goes before it is woken goes to the next.
    crowd.check(&[("a@1 get", "a>0"), ("b@2 get", ""), ("c@3 get", "")]);
    let routes = crowd.routes;
    let (try_id, _) = crowd.requests.get_mut(&'a').and_then(|asked| asked.open.pop_front()).expect("a try");
    let reported = Reported::bare(outcome("END"));
    let (_, out) = crowd.with('a', |plan, view, env, out| routes.resume(plan, view, env, try_id, &reported, out));
    assert!(matches!(out[..], [Action::Wake(Wake { request, .. })] if request == u64::from('b')), "{out:?}");
    crowd.requests.remove(&'a');
    crowd.check(&[("b gone", "c>0"), ("c END", "c=END")]);
    assert!(crowd.has_free_slot());
}

#[test]
fn a_slot_comes_back_when_another_child_answered() {
    for below in ["server", "failover", "fastest", "blackhole"] {
        let routes = tree(4, |builder, servers| {
            let child = match below {
                "server" => servers[0],
                "failover" => builder.miss_failover(&servers[..2]).expect("a route"),
                "fastest" => builder.all_fastest(&servers[..2]).expect("a route"),
                _ => builder.add(Blackhole { time: 50 * MS }, &[]).expect("a route"),
            };
            let limit = builder.add(limited(1, 10), &[child]).expect("a route");
            let both = builder.all_fastest(&[limit, servers[3]]).expect("a route");
            // The probe goes by the limit alone.
            let entries = [(Operation::Gets, both)];
            builder.operation_selector(&entries, limit).expect("a route")
        });
        let mut crowd = Crowd::new(&routes);
        crowd.step("a@1 gets");
        // The last try is the one beside the limit.
        let asked = crowd.requests.get_mut(&'a').expect("a request");
        let last = asked.open.pop_back().expect("a try");
        asked.open.push_front(last);
        assert!(crowd.step("a VALUE").contains("a=VALUE"), "{below}");
        // As the shard does it once the reply has left.
        assert_eq!(crowd.step("a gone"), "", "{below}");
        while crowd.requests.get(&'a').is_some_and(|asked| !asked.open.is_empty()) {
            assert_eq!(crowd.step("a END"), "", "{below}");
        }
        assert!(!crowd.requests.contains_key(&'a'), "{below}: nothing is left of it");
        let begun = crowd.step("b@2 get");
        assert!(below == "blackhole" || begun.starts_with("b>0"), "{below}: {begun}");
        assert_eq!(crowd.state.take_events()[RouteEvent::OutstandingQueued as usize], 0, "{below}");
    }
}

#[test]
fn above_a_pool_each_server_has_its_slots() {
    let routes = tree(0, |builder, _| {
        let pool = pool(builder, 2);
        builder.add(limited(1, 10), &[pool]).expect("a route")
    });
    let mut crowd = Crowd::new(&routes);
    // ch3 puts "key" on server 0 and "k1" on server 1.
    crowd.check(&[
        ("a@1 get key", "a>0"),
        ("b@1 get k1", "b>1"),
        ("c@1 get key", ""),
        ("d@1 get k1", ""),
        ("b END", "b=END d>1"),
        ("a END", "a=END c>0"),
        // One that is down needs no slot to say so; one that goes down while a request waits is told then.
        ("e@1 get key", ""),
        ("up=01", ""),
        ("f@1 get key", "f=unavailable"),
        ("c END", "c=END e=unavailable"),
        ("d END", "d=END"),
        ("up=11", ""),
        ("g@1 get key", "g>0"),
    ]);
}

#[test]
fn random_crowds_lose_no_slot() {
    let routes = tree(3, |builder, servers| {
        let inner = builder.miss_failover(&servers[..2]).expect("a route");
        let limit = builder.add(limited(2, 5), &[inner]).expect("a route");
        let entries = [(Operation::Set, limit)];
        let both = builder.all_fastest(&[limit, servers[2]]).expect("a route");
        builder.operation_selector(&entries, both).expect("a route")
    });
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % bound as u64) as usize
    };
    let mut crowd = Crowd::new(&routes);
    for _ in 0..5_000 {
        let name = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'][below(8)];
        match crowd.requests.get(&name) {
            None => {
                crowd.step(&format!("{name}@{} {}", below(3), ["get", "set"][below(2)]));
            }
            Some(asked) if below(4) == 0 || asked.over && asked.open.is_empty() => {
                crowd.step(&format!("{name} gone"));
            }
            Some(asked) if !asked.open.is_empty() => {
                let outcome = ["END", "VALUE", "timeout", "SERVER_ERROR"][below(4)];
                crowd.step(&format!("{name} {outcome}"));
            }
            Some(_) => {
                crowd.step(&format!("+{}", below(30)));
            }
        }
    }
    let names: Vec<char> = crowd.requests.keys().copied().collect();
    for name in names {
        crowd.step(&format!("{name} gone"));
    }
    crowd.finish("END");
    assert!(crowd.requests.is_empty(), "all have ended");
    crowd.check(&[
        ("a@1 set", "a>0"),
        ("b@1 set", "b>0"),
        ("c@1 set", ""),
        ("c gone", ""),
        ("a STORED", "a=STORED c>0"),
    ]);
}

fn balanced(servers: u32, failovers: usize) -> Routes {
    tree(servers, |builder, servers| {
        builder.add(LoadBalancer { load_ttl: 100 * MS, failovers }, servers).expect("a route")
    })
}

/// How many of 100 requests each server gets that are all answered at once.
fn shares(crowd: &mut Crowd<'_>) -> [usize; 2] {
    let mut shares = [0; 2];
    for _ in 0..100 {
        let told = crowd.step("s@1 get");
        shares[usize::from(told == "s>1")] += 1;
        crowd.step("s END");
    }
    shares
}

#[test]
fn the_less_busy_child_is_chosen() {
    let routes = balanced(2, 0);
    let mut crowd = Crowd::new(&routes);
    // What is under way counts: the second goes to the other child.
    let first = crowd.step("a@1 get");
    let second = crowd.step("b@1 get");
    assert_ne!(first[1..], second[1..]);
    // Server 1 takes its time.
    let (quick, slow) = if first == "a>0" { ("a END", "b END") } else { ("b END", "a END") };
    crowd.step(quick);
    crowd.step("+50");
    crowd.step(slow);
    assert_eq!(shares(&mut crowd), [100, 0], "it is slow");
    crowd.step("+3000");
    let shares = shares(&mut crowd);
    assert!(shares[1] > 0, "it may have become better: {shares:?}");
}

#[test]
fn a_child_that_owes_a_reply_gets_no_better_with_time() {
    let routes = balanced(2, 0);
    let mut crowd = Crowd::new(&routes);
    let first = crowd.step("a@1 get");
    crowd.step("+60000");
    let owing = usize::from(first == "a>1");
    assert_eq!(shares(&mut crowd)[owing], 0);
    // Its client's going changes nothing about that; its reply does.
    crowd.step("a gone");
    crowd.step("+60000");
    assert_eq!(shares(&mut crowd)[owing], 0);
    crowd.step("a END");
    crowd.step("+600000");
    assert!(shares(&mut crowd)[owing] > 0);
}

#[test]
fn a_child_that_refuses_at_once_draws_no_requests() {
    let routes = balanced(2, 0);
    let mut crowd = Crowd::new(&routes);
    let first = crowd.step("a@1 get");
    assert_eq!(crowd.step("a SERVER_ERROR"), "a=SERVER_ERROR");
    assert_eq!(shares(&mut crowd)[usize::from(first == "a>1")], 0);
}

#[test]
fn a_load_balancer_fails_over_so_often() {
    let routes = balanced(3, 1);
    for (first, second, answer) in [
        ("timeout", "END", "a=END"),
        ("SERVER_ERROR", "timeout", "a=SERVER_ERROR"),
        ("timeout", "unavailable", "a=unavailable"),
    ] {
        let mut crowd = Crowd::new(&routes);
        let begun = crowd.step("a@1 get");
        let other = crowd.step(&format!("a {first}"));
        assert!(other.starts_with("a>") && other != begun, "{begun} {other}");
        assert_eq!(crowd.step(&format!("a {second}")), answer);
    }
    for last in ["VALUE", "END", "CLIENT_ERROR", "deadline_exceeded"] {
        let mut crowd = Crowd::new(&routes);
        crowd.step("a@1 get");
        assert_eq!(crowd.step(&format!("a {last}")), format!("a={last}"));
    }
    // Down ones are passed over, whatever the choice.
    let mut crowd = Crowd::new(&routes);
    for (up, told) in [("010", "a>1"), ("001", "a>2"), ("000", "a=no_healthy_server")] {
        crowd.check(&[(&format!("up={up}"), "")]);
        for _ in 0..10 {
            assert_eq!(crowd.step("a@1 get"), told);
            crowd.finish("END");
        }
    }
}

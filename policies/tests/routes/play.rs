//! One request played through a tree with its bytes: what is sent, what is answered, step by step. For routes that send
//! something else than they were asked, or wait for time.
//!
//! A play is a list of (what happens, what is told). What happens: `go` at first; then `0 STORED`, `0 VALUE abc`,
//! `0 VALUE abc f=3 t=60 c=7`, `0 timeout` for the oldest open try at server 0 (a reply line, an item with flags, seconds to live
//! and cas, or a failure's name), `spooled` or `lost` for the oldest open spool, `+100` for time that passes, in
//! milliseconds; `up=10` changes the servers' health, `gone` is the client's end. What is told: `>0 get k` for what is sent to server 0, with `|` for
//! line ends and `(mg)` before a meta get's own form; `@0 delete k` for the async log; `~100` for a wish to be woken in so many
//! milliseconds; `log END` for a line in the log; `=STORED`, `=VALUE abc f=0` for the answer, `=null` and the like for the router's own words; `kept`.

use crate::notation::{KINDS, local_name, outcome};
use keyway_policies::{
    Action, Answer, ClientView, Env, HealthView, ItemView, KeptReply, Outcome, Plan, Reported, RequestView,
    RouteStates, Routes, ServerId, Step, TryId, Verdict, Wire,
};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::{Limits, Parsed, ReplyKind, RequestParser};

/// A request on its way through a tree.
pub(crate) struct Play<'a> {
    pub(crate) routes: &'a Routes,
    plan: Plan,
    /// What the nodes remember; outlives requests.
    pub(crate) state: RouteStates,
    /// Milliseconds of the shard's clock.
    pub(crate) now_ms: u64,
    /// Milliseconds since 1970 when the clock was 0.
    pub(crate) unix_ms: u64,
    pub(crate) client: ClientView,
    pub(crate) up: Vec<u8>,
    pub(crate) spare_bytes: usize,
    /// What is sent is told apart from what is kept: false for a request too large to be kept once it was sent.
    pub(crate) keeps: bool,
    request: Vec<u8>,
    operation: Operation,
    key: std::ops::Range<usize>,
    open: Vec<(TryId, ServerId, bool)>,
    wakes: Vec<(u64, u16)>,
    answered: bool,
}

impl<'a> Play<'a> {
    /// Everything up, time 0.
    pub(crate) fn new(routes: &'a Routes) -> Play<'a> {
        let servers = routes.servers().iter().map(|server| server.0 as usize + 1).max().unwrap_or(0);
        Play {
            routes,
            plan: Plan::default(),
            state: routes.states(1, 1),
            now_ms: 0,
            unix_ms: 1_700_000_000_000,
            client: ClientView::default(),
            up: vec![u8::MAX; servers],
            spare_bytes: 1 << 20,
            keeps: true,
            request: Vec::new(),
            operation: Operation::Get,
            key: 0..0,
            open: Vec::new(),
            wakes: Vec::new(),
            answered: false,
        }
    }

    /// Plays a request, written with `|` for line ends, and compares every step. States last from one to the next.
    pub(crate) fn check(&mut self, request: &str, steps: &[(&str, &str)]) {
        self.take(request);
        self.check_on(steps);
    }

    /// What is told step by step, of a request whose course can't be written down in advance.
    pub(crate) fn tell_all(&mut self, request: &str, steps: &[&str]) -> Vec<String> {
        self.take(request);
        steps.iter().map(|happens| self.step(happens)).collect()
    }

    /// The cas of the item that was put together.
    pub(crate) fn composed_cas(&self) -> String {
        let item = self.plan.composed().expect("an item was put together");
        String::from_utf8_lossy(item.cas).into_owned()
    }

    /// Goes on with a request that was played before.
    pub(crate) fn check_on(&mut self, steps: &[(&str, &str)]) {
        let mut told = Vec::new();
        for (happens, _) in steps {
            told.push((*happens, self.step(happens)));
        }
        let expected: Vec<(&str, String)> =
            steps.iter().map(|(happens, told)| (*happens, (*told).to_owned())).collect();
        assert_eq!(told, expected, "{}", String::from_utf8_lossy(&self.request));
    }

    /// Begins a request whose course isn't known beforehand; what is told.
    pub(crate) fn go(&mut self, request: &str) -> String {
        self.take(request);
        self.step("go")
    }

    /// True while the plan is to be told outcomes though its answer is given.
    pub(crate) fn lingers(&self) -> bool {
        self.routes.lingers(&self.plan, self.operation)
    }

    /// How many bytes the plan holds.
    pub(crate) fn held_bytes(&self) -> usize {
        self.plan.held_bytes()
    }

    /// What is told when that happens to a new request.
    pub(crate) fn told(&mut self, request: &str, happens: &str) -> String {
        self.take(request);
        self.step(happens)
    }

    /// The next request, as bytes with `|` for line ends, but for hash stops, and `¦` for a bar.
    fn take(&mut self, request: &str) {
        let bytes =
            request.replace("|#|", "\0").replace('|', "\r\n").replace('\0', "|#|").replace('¦', "|").into_bytes();
        let mut parser = RequestParser::new(Limits::default());
        let Parsed::Request(parsed) = parser.parse(&bytes) else { panic!("{request:?} is a request") };
        (self.operation, self.key) = (parsed.operation, parsed.key.clone());
        assert_eq!(parsed.frame.len(), bytes.len(), "{request:?} is one request");
        self.request = bytes;
        self.plan.clear();
        self.open.clear();
        self.wakes.clear();
        self.answered = false;
    }

    /// What is told when that happens to the request at hand.
    pub(crate) fn step(&mut self, happens: &str) -> String {
        if happens == "go" {
            let (step, out) = self.with(|play, view, env, out| play.0.begin(play.1, view, env, out));
            return self.tell(Verdict { step, kept: false }, out, None);
        }
        if happens == "gone" {
            let ((), out) = self.with(|play, view, env, out| play.0.abandon(play.1, view, env, out));
            return self.tell(Verdict { step: Step::Wait, kept: false }, out, None);
        }
        if let Some(digits) = happens.strip_prefix("up=") {
            self.up = digits.bytes().map(|digit| if digit == b'1' { u8::MAX } else { 0 }).collect();
            return String::new();
        }
        if let Some(ms) = happens.strip_prefix('+') {
            return self.pass(ms.parse().expect("milliseconds"));
        }
        let (server, word) = match happens {
            "spooled" => (None, "OK"),
            "lost" => (None, "unavailable"),
            other => {
                let (server, word) = other.split_once(' ').expect("server and outcome");
                (Some(ServerId(server.parse().expect("a server"))), word)
            }
        };
        let is_it = |open: &&(TryId, ServerId, bool)| server.map_or(open.2, |server| !open.2 && open.1 == server);
        let at =
            self.open.iter().position(|open| is_it(&open)).unwrap_or_else(|| panic!("no open try for {happens:?}"));
        let (try_id, ..) = self.open.remove(at);
        let item = word.strip_prefix("VALUE ").map(Item::parse);
        let reported_outcome = match item {
            Some(_) => Outcome::Reply(ReplyKind::Value),
            None => outcome(word),
        };
        let line = format!("{word}\r\n");
        let line = if item.is_none() && matches!(reported_outcome, Outcome::Reply(_)) { line.as_bytes() } else { b"" };
        let reported = Reported { outcome: reported_outcome, item: item.as_ref().map(Item::view), line };
        let (verdict, out) = self.with(|play, view, env, out| play.0.resume(play.1, view, env, try_id, &reported, out));
        self.tell(verdict, out, Some((try_id, word)))
    }

    /// Time passes; what asked to be woken is.
    fn pass(&mut self, ms: u64) -> String {
        self.now_ms += ms;
        let mut words = Vec::new();
        while let Some(at) = self.wakes.iter().position(|(at, _)| *at <= self.now_ms) {
            let (_, frame) = self.wakes.remove(at);
            let (step, out) = self.with(|play, view, env, out| play.0.wake(play.1, view, env, frame, out));
            let told = self.tell(Verdict { step, kept: false }, out, None);
            if !told.is_empty() {
                words.push(told);
            }
        }
        words.join(" ")
    }

    fn with<T>(
        &mut self,
        act: impl FnOnce((&Routes, &mut Plan), &RequestView<'_>, Env<'_>, &mut Vec<Action>) -> T,
    ) -> (T, Vec<Action>) {
        let mut out = Vec::new();
        let view = RequestView {
            operation: self.operation,
            key: &self.request[self.key.clone()],
            head: if self.keeps || self.plan.is_settled() { &self.request } else { b"" },
            tail: b"",
        };
        let env = Env {
            health: HealthView(&self.up),
            now: self.now_ms * 1_000_000,
            unix_ms: self.unix_ms + self.now_ms,
            client: self.client,
            request: 0,
            spare_bytes: self.spare_bytes,
            state: &mut self.state,
        };
        let done = act((self.routes, &mut self.plan), &view, env, &mut out);
        (done, out)
    }

    fn tell(&mut self, verdict: Verdict, out: Vec<Action>, at_hand: Option<(TryId, &str)>) -> String {
        let mut words = Vec::new();
        if verdict.kept {
            words.push("kept".to_owned());
        }
        for action in out {
            match action {
                Action::Send(dispatch) => {
                    words.push(format!(">{} {}", dispatch.server.0, self.sent(dispatch.try_id)));
                    self.open.push((dispatch.try_id, dispatch.server, false));
                }
                Action::Spool(dispatch) => {
                    words.push(format!("@{} {}", dispatch.server.0, self.sent(dispatch.try_id)));
                    self.open.push((dispatch.try_id, dispatch.server, true));
                }
                Action::Log(outcome) => words.push(format!("log {}", outcome_name(outcome))),
                Action::Wake(wake) => {
                    let at_ms = wake.at / 1_000_000;
                    words.push(format!("~{}", at_ms.saturating_sub(self.now_ms)));
                    self.wakes.push((at_ms, wake.frame));
                }
            }
        }
        if let Step::Answer(answer) = verdict.step {
            assert!(!self.answered, "answered once");
            self.answered = true;
            words.push(format!("={}", self.answer(answer, at_hand)));
        }
        words.join(" ")
    }

    fn sent(&self, try_id: TryId) -> String {
        let own = &self.request;
        let bytes = match self.plan.wire(try_id) {
            Wire::AsAsked => own.clone(),
            Wire::WithKey(key) => [&own[..self.key.start], key, &own[self.key.end..]].concat(),
            Wire::Frame { bytes, key } => {
                assert_eq!(&bytes[key], self.plan.key_of(try_id, b""), "the key lies where it is said to");
                bytes.to_vec()
            }
        };
        String::from_utf8_lossy(&bytes).replace("\r\n", "|").trim_end_matches('|').to_owned()
    }

    fn answer(&self, answer: Answer, at_hand: Option<(TryId, &str)>) -> String {
        let said = |item: ItemView<'_>| {
            format!("VALUE {} f={}", String::from_utf8_lossy(item.data), String::from_utf8_lossy(item.flags))
        };
        match (answer, at_hand) {
            (Answer::Try(wanted), Some((try_id, word))) if wanted == try_id => match word.strip_prefix("VALUE ") {
                Some(item) => said(Item::parse(item).view()),
                None => word.to_owned(),
            },
            (Answer::Try(wanted), _) => match self.plan.kept(wanted).expect("what is answered was kept") {
                KeptReply::Item(item) => said(item),
                KeptReply::Line(kind, _) => {
                    let named = KINDS.iter().find(|(_, known)| *known == kind);
                    named.map(|(name, _)| (*name).to_owned()).expect("a known kind")
                }
            },
            (Answer::Composed, _) => said(self.plan.composed().expect("composed")),
            (Answer::Local(reply), _) => local_name(reply),
        }
    }
}

/// A reply's kind or a failure's name.
pub(crate) fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Reply(kind) => KINDS.iter().find(|(_, known)| *known == kind).map_or("?", |(name, _)| name),
        Outcome::Failure(failure) => failure.name(),
    }
}

/// `abc f=3 t=60 c=7`
struct Item {
    data: String,
    flags: String,
    cas: String,
    ttl: Option<i64>,
}

impl Item {
    fn parse(text: &str) -> Item {
        let mut words = text.split(' ');
        let data = words.next().unwrap_or_default().to_owned();
        let mut item = Item { data, flags: "0".to_owned(), cas: String::new(), ttl: None };
        for word in words {
            match word.split_once('=') {
                Some(("f", flags)) => item.flags = flags.to_owned(),
                Some(("c", cas)) => item.cas = cas.to_owned(),
                Some(("t", ttl)) => item.ttl = Some(ttl.parse().expect("seconds")),
                Some(_) | None => panic!("{word:?} says nothing of an item"),
            }
        }
        item
    }

    fn view(&self) -> ItemView<'_> {
        ItemView { flags: self.flags.as_bytes(), data: self.data.as_bytes(), cas: self.cas.as_bytes(), ttl: self.ttl }
    }
}

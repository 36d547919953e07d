//! The hash of a pool: a map of Keyway's keys, mcrouter's `hash_func` form, or a bare name.
//!
//! Owns which keys go together. Never knows servers: what they say of themselves (name, weight, buckets) is read here on
//! request, the lists that mcrouter keeps in the hash (`weights`, `tags`) are laid over it at the end.

use super::error::{Faults, Path, did_you_mean, seen};
use super::keys::{HASH, SERVER};
use super::reader::{Map, items, text_of};
use super::tree::{Node, Value};
use keyway_policies::hash::{
    HashStop, KeyHash, MAX_LABEL_BYTES, MAX_SALT_BYTES, RingMode, SpecError, WeightRule, WideHash,
};
use keyway_policies::{Distribution, HashTag, Member, PlacementSpec, Weight};

/// Largest whole weight.
const MAX_WEIGHT: f64 = 1_000_000.0;

/// How keys are placed, without the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hash {
    /// How keys are spread.
    pub distribution: Distribution,
    /// Which part of a key is hashed.
    pub tag: Option<HashTag>,
    /// Where the hashed part of a key ends.
    pub stop: Option<HashStop>,
    /// Appended to what is hashed.
    pub salt: String,
    /// The members' weights, in order, where they stand in the hash.
    pub weights: Option<Vec<Weight>>,
    /// The members' labels, in order, where they stand in the hash.
    pub tags: Option<Vec<String>>,
}

impl Default for Hash {
    /// mcrouter's.
    fn default() -> Hash {
        Hash::of(Distribution::Ch3)
    }
}

impl Hash {
    fn of(distribution: Distribution) -> Hash {
        let stop = distribution.is_mcrouters().then_some(HashStop::MCROUTER);
        Hash { distribution, tag: None, stop, salt: String::new(), weights: None, tags: None }
    }

    /// Reads `hash`. `None` stands for a fault, so that nothing is concluded from it.
    pub(super) fn read(node: &Node, path: &Path<'_>, faults: &mut Faults) -> Option<Hash> {
        match &node.value {
            Value::Scalar { .. } => read_name(node, path, faults).map(Hash::of),
            Value::Map(_) | Value::List(_) => {
                let map = Map::read(node, &HASH, path, faults);
                let distribution = read_distribution(&map, node, faults);
                let mut hash = distribution.map_or_else(Hash::default, Hash::of);
                hash.tag = read_tag(&map, faults);
                hash.stop = read_stop(&map, hash.stop, faults);
                hash.salt = read_salt(&map, faults);
                hash.distribution = distribution?;
                read_settings(&mut hash.distribution, &map, faults);
                hash.weights = read_weights(&map, hash.distribution, faults);
                hash.tags = read_tags(&map, hash.distribution, faults);
                Some(hash)
            }
        }
    }

    /// True where a server's name, or its address, says which keys it has.
    pub(super) fn goes_by_servers_labels(&self) -> bool {
        self.distribution.goes_by_label() && self.tags.is_none()
    }

    /// The distribution, and why it doesn't look at what a server says.
    pub(super) fn described(&self) -> String {
        let name = self.distribution.name();
        match (self.distribution.goes_by_label(), &self.tags) {
            (false, _) if self.distribution != Distribution::Random => {
                format!("{name}, which goes by the order of servers")
            }
            (true, Some(_)) => "`tags` in the hash".to_owned(),
            (true, None) | (false, _) => name.to_owned(),
        }
    }

    /// The placement over members, with the hash's own weights and tags in the stead of theirs.
    pub fn placement(&self, mut members: Vec<Member>) -> PlacementSpec {
        for (member, weight) in members.iter_mut().zip(self.weights.iter().flatten()) {
            member.weight = *weight;
        }
        for (member, tag) in members.iter_mut().zip(self.tags.iter().flatten()) {
            member.label.clone_from(tag);
        }
        let Hash { distribution, tag, stop, .. } = *self;
        PlacementSpec { distribution, members, tag, stop, salt: self.salt.clone() }
    }

    /// Notes what members and hash have against each other and no single member could be blamed for.
    pub(super) fn check_members(&self, spec: &PlacementSpec, node: &Node, path: &Path<'_>, faults: &mut Faults) {
        let members = spec.members.len();
        let lists = [("weights", self.weights.as_ref().map(Vec::len)), ("tags", self.tags.as_ref().map(Vec::len))];
        for (key, len) in lists {
            if let Some(len) = len.filter(|len| *len != members) {
                let problem = format!("{len} {key} for {members} servers");
                faults.at(node.position, Path::Key(path, key), problem, format!("{members}, one for each server"));
            }
        }
        match spec.check() {
            Ok(()) => {}
            Err(
                SpecError::WeightNotWhole { .. }
                | SpecError::WeightAboveOne { .. }
                | SpecError::WeightsUnused { .. }
                | SpecError::DuplicateLabel { .. }
                | SpecError::LabelLength { .. }
                | SpecError::BucketsUnused { .. }
                | SpecError::SaltLength,
            ) => debug_assert!(!faults.is_empty(), "said where it stands"),
            Err(
                error @ (SpecError::WeightsTooLarge
                | SpecError::RingPoints { .. }
                | SpecError::BucketRange { .. }
                | SpecError::BucketTwice { .. }
                | SpecError::BucketMissing { .. }
                | SpecError::TooFewBuckets { .. }),
            ) => faults.at(node.position, *path, error.to_string(), String::new()),
        }
    }
}

/// A bare name: mcrouter's, or a distribution's own.
fn read_name(node: &Node, path: &Path<'_>, faults: &mut Faults) -> Option<Distribution> {
    let text = text_of(node, path, "a map or a name", faults)?;
    let named = Distribution::from_hash_func(text).or_else(|| Distribution::from_names(None, Some(text)));
    if named.is_none() {
        let distributions = HASH.key("distribution").kind.allowed();
        let (problem, allowed) = match KeyHash::from_name(text) {
            Some(_) => (format!("{} is a function", seen(text)), format!("{{function: {text}}}, or {distributions}")),
            None => {
                let near = did_you_mean(text, distributions.split(", "));
                (format!("{} is unknown{near}", seen(text)), distributions)
            }
        };
        faults.at(node.position, *path, problem, allowed);
    }
    named
}

fn read_distribution(map: &Map<'_, '_>, node: &Node, faults: &mut Faults) -> Option<Distribution> {
    let function = map.given_word("function", faults);
    let distribution = map.given_word("distribution", faults);
    if let Some((text, text_node)) = map.given_text("hash_func", faults) {
        if map.find("function").is_some() || map.find("distribution").is_some() {
            let problem = "hash_func stands beside function or distribution".to_owned();
            faults.at(node.position, *map.path, problem, "one of the two forms".to_owned());
            return None;
        }
        let named = Distribution::from_hash_func(text);
        if named.is_none() {
            map.refuse("hash_func", text_node, format!("{} is unknown", seen(text)), faults);
        }
        return named;
    }
    let is_good = |name: &str, word: Option<&str>| word.is_some() || map.find(name).is_none();
    if !is_good("function", function) || !is_good("distribution", distribution) || map.find("hash_func").is_some() {
        return None;
    }
    let together = Distribution::from_names(function, distribution);
    if together.is_none() {
        let (function, distribution) = (function.unwrap_or_default(), distribution.unwrap_or_default());
        let problem = format!("function {function} and distribution {distribution} don't go together");
        let functions = HASH.key("function").kind.allowed();
        let fitting: Vec<&str> = functions
            .split(", ")
            .filter(|function| Distribution::from_names(Some(function), Some(distribution)).is_some())
            .collect();
        let allowed = match fitting.as_slice() {
            [] => format!("no function with {distribution}"),
            fitting => format!("with {distribution}: {}", fitting.join(", ")),
        };
        faults.at(node.position, *map.path, problem, allowed);
    }
    together
}

/// The keys that only some distributions have.
fn read_settings(distribution: &mut Distribution, map: &Map<'_, '_>, faults: &mut Faults) {
    let name = distribution.name();
    let seed = map.given_text("seed", faults).map(|(text, _)| WideHash::seed_of(text));
    let omode = map.given_word("omode", faults).and_then(RingMode::from_name);
    let obuckets = map.given_number("obuckets", faults).and_then(|number| u16::try_from(number).ok());
    let given_buckets = map.given_number("buckets", faults).and_then(|number| u16::try_from(number).ok());
    let mut used: &[&str] = &[];
    match distribution {
        Distribution::Jump(WideHash::Xxh3 { seed: own }) => {
            *own = seed.unwrap_or(*own);
            used = &["seed"];
        }
        Distribution::Ring { hash, mode, points } => {
            *mode = omode.unwrap_or(*mode);
            *points = obuckets.unwrap_or(*points);
            used = match hash {
                WideHash::Xxh3 { seed: own } => {
                    *own = seed.unwrap_or(*own);
                    &["seed", "omode", "obuckets"]
                }
                WideHash::Md5 => &["omode", "obuckets"],
            };
        }
        Distribution::Kvstore { buckets } => {
            *buckets = given_buckets.unwrap_or(*buckets);
            used = &["buckets"];
        }
        Distribution::Jump(WideHash::Md5)
        | Distribution::Ch3
        | Distribution::WeightedCh3
        | Distribution::Crc32
        | Distribution::ConstShard
        | Distribution::Rendezvous
        | Distribution::WeightedRendezvous
        | Distribution::Ketama(_)
        | Distribution::Modula(_)
        | Distribution::Random
        | Distribution::LibmemcachedKetama(_)
        | Distribution::LibmemcachedKetamaWeighted(_)
        | Distribution::LibmemcachedModula(_)
        | Distribution::OverlordKetama(_)
        | Distribution::Codis => {}
    }
    let whose = [
        ("seed", "with distribution jump or ring and function xxh3"),
        ("omode", "with distribution ring"),
        ("obuckets", "with distribution ring"),
        ("buckets", "with distribution kvstore"),
    ];
    for (key, allowed) in whose.into_iter().filter(|(key, _)| !used.contains(key)) {
        if let Some(node) = map.find(key) {
            let problem = format!("{key} has no effect with {name}");
            faults.at(node.position, Path::Key(map.path, key), problem, allowed.to_owned());
        }
    }
}

fn read_tag(map: &Map<'_, '_>, faults: &mut Faults) -> Option<HashTag> {
    let (text, node) = map.given_text("tag", faults)?;
    let tag = HashTag::from_pair(text.as_bytes()).filter(|_| text.bytes().all(|byte| byte.is_ascii_graphic()));
    if tag.is_none() {
        map.refuse("tag", node, format!("{} isn't two characters", seen(text)), faults);
    }
    tag
}

fn read_stop(map: &Map<'_, '_>, default: Option<HashStop>, faults: &mut Faults) -> Option<HashStop> {
    let Some((text, node)) = map.given_text("stop", faults) else { return default };
    if text == "off" {
        return None;
    }
    let stop = HashStop::new(text.as_bytes()).filter(|_| text.bytes().all(|byte| byte.is_ascii_graphic()));
    if stop.is_none() {
        map.refuse("stop", node, format!("{} can't end a key", seen(text)), faults);
    }
    stop
}

fn read_salt(map: &Map<'_, '_>, faults: &mut Faults) -> String {
    let Some((text, node)) = map.given_text("salt", faults) else { return String::new() };
    if text.len() > MAX_SALT_BYTES {
        map.refuse("salt", node, format!("a salt of {} bytes", text.len()), faults);
        return String::new();
    }
    text.to_owned()
}

fn read_weights(map: &Map<'_, '_>, distribution: Distribution, faults: &mut Faults) -> Option<Vec<Weight>> {
    let node = map.find("weights")?;
    let path = Path::Key(map.path, "weights");
    let rule = distribution.weights();
    if rule == WeightRule::Unused {
        let problem = format!("weights have no effect with {}", distribution.name());
        faults.at(node.position, path, problem, "with weighted_ch3 or weighted_rendezvous".to_owned());
        return None;
    }
    let mut weights = Vec::new();
    for (at, item) in items(node, &path, faults)?.iter().enumerate() {
        weights.push(weight_of(item, rule, &Path::Item(&path, at), faults).unwrap_or(Weight::ONE));
    }
    Some(weights)
}

fn read_tags(map: &Map<'_, '_>, distribution: Distribution, faults: &mut Faults) -> Option<Vec<String>> {
    let node = map.find("tags")?;
    let path = Path::Key(map.path, "tags");
    if !distribution.goes_by_label() {
        let problem = format!("tags have no effect with {}", distribution.name());
        faults.at(node.position, path, problem, "with rendezvous or weighted_rendezvous".to_owned());
        return None;
    }
    let mut tags: Vec<String> = Vec::new();
    for (at, item) in items(node, &path, faults)?.iter().enumerate() {
        let path = Path::Item(&path, at);
        let allowed = format!("1 to {MAX_LABEL_BYTES} bytes, each tag once");
        let text = text_of(item, &path, &allowed, faults).unwrap_or_default();
        let is_known = tags.iter().any(|tag| tag == text);
        if item.text().is_some() && (text.is_empty() || text.len() > MAX_LABEL_BYTES || is_known) {
            let problem = if is_known { "is given twice" } else { "is no good tag" };
            faults.at(item.position, path, format!("{} {problem}", seen(text)), allowed);
        }
        tags.push(text.to_owned());
    }
    Some(tags)
}

/// The weight a server gives itself.
pub(super) fn read_weight(server: &Map<'_, '_>, hash: Option<&Hash>, faults: &mut Faults) -> Weight {
    let Some(node) = server.find("weight") else { return Weight::ONE };
    let path = Path::Key(server.path, "weight");
    if hash.is_some_and(|hash| hash.weights.is_some()) {
        let problem = "the hash has `weights` already".to_owned();
        faults.at(node.position, path, problem, "one of the two".to_owned());
    }
    // Whether a weight has an effect is for the caller to say.
    let rule = hash.map_or(WeightRule::Positive, |hash| hash.distribution.weights());
    weight_of(node, rule, &path, faults).unwrap_or(Weight::ONE)
}

fn weight_of(node: &Node, rule: WeightRule, path: &Path<'_>, faults: &mut Faults) -> Option<Weight> {
    let number = match node.typed() {
        serde_yaml::Value::Number(number) => number.as_f64(),
        _ => None,
    };
    let weight = number.filter(|number| *number <= MAX_WEIGHT).and_then(Weight::new);
    let (is_good, allowed) = match rule {
        WeightRule::Whole | WeightRule::Unused => {
            (weight.is_some_and(|weight| weight.whole().is_some()), "1 to 1000000")
        }
        WeightRule::Fraction => (weight.is_some_and(|weight| weight.as_f64() <= 1.0), "0 to 1"),
        WeightRule::Positive => (weight.is_some(), "0 to 1000000"),
    };
    if is_good {
        return weight;
    }
    let problem = match (number, rule) {
        (None, WeightRule::Whole | WeightRule::Unused) => format!("{} is no whole number", node.seen()),
        (Some(number), WeightRule::Whole | WeightRule::Unused) if number.fract() != 0.0 => {
            format!("{} is no whole number", node.seen())
        }
        (None, WeightRule::Fraction | WeightRule::Positive) => format!("{} is no number", node.seen()),
        (Some(_), _) => format!("{} is out of range", node.seen()),
    };
    faults.at(node.position, *path, problem, allowed.to_owned());
    None
}

/// The buckets a server has: `0-511` or `7`, or several of them, with commas or as a list.
pub(super) fn read_buckets(server: &Map<'_, '_>, hash: Option<&Hash>, faults: &mut Faults) -> Vec<(u16, u16)> {
    let Some(node) = server.find("buckets") else { return Vec::new() };
    let path = Path::Key(server.path, "buckets");
    let parts = match &node.value {
        Value::List(items) => items.iter().collect(),
        Value::Scalar { .. } | Value::Map(_) => vec![node],
    };
    let count = hash.and_then(|hash| hash.distribution.buckets()).unwrap_or(u16::MAX);
    let allowed = SERVER.key("buckets").kind.allowed();
    let mut ranges = Vec::new();
    for part in parts {
        let Some(text) = text_of(part, &path, &allowed, faults) else { continue };
        for range in text.split(',').map(str::trim) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
                (Ok(first), Ok(last)) if first <= last && last < count => ranges.push((first, last)),
                (Ok(_), Ok(_)) => {
                    let problem = format!("there are no buckets {}", seen(range));
                    faults.at(part.position, path, problem, format!("0-{}", count - 1));
                }
                _ => faults.at(part.position, path, format!("{} is no bucket", seen(range)), allowed.clone()),
            }
        }
    }
    ranges
}

//! What a placement is made from: the distribution, its members, and the checks that make the two go together.
//!
//! Owns which programs' distributions there are and what each needs of its members. Knows no route: a member is
//! whatever the caller counts, a pool's server or a route's child.

use super::functions::{KeyHash, WideHash};
use super::routing_key::{HashStop, HashTag};
use std::collections::HashSet;
use std::fmt;

/// Longest label; twemproxy's own buffer ends at 273.
pub const MAX_LABEL_BYTES: usize = 255;
/// Longest salt.
pub const MAX_SALT_BYTES: usize = 64;
/// Most points of memcached's proxy's ring: 32 MiB.
pub const MAX_RING_POINTS: u64 = 1 << 22;
/// Codis' buckets.
pub const CODIS_BUCKETS: u16 = 1024;

/// How keys are spread over members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// mcrouter's default: by position. Hashes for itself.
    Ch3,
    /// mcrouter's ch3 with weights from 0 to 1.
    WeightedCh3,
    /// mcrouter's: CRC-32 without its top bit, modulo the number of members. Not the function of that name.
    Crc32,
    /// mcrouter's: the number in `x:NUMBER:rest` is the position; ch3 for all other keys.
    ConstShard,
    /// mcrouter's: the member whose label scores highest with the key.
    Rendezvous,
    /// mcrouter's rendezvous with weights.
    WeightedRendezvous,
    /// twemproxy's default: a ring of the labels' digests, with weights.
    Ketama(KeyHash),
    /// twemproxy's: modulo the sum of weights, members sorted by label.
    Modula(KeyHash),
    /// twemproxy's: any member, whatever the key.
    Random,
    /// libmemcached's consistent ring: 100 points for each label, made by the key's own function.
    LibmemcachedKetama(KeyHash),
    /// libmemcached's weighted ring: twemproxy's points.
    LibmemcachedKetamaWeighted(KeyHash),
    /// libmemcached's default: modulo the number of members, in the order given.
    LibmemcachedModula(KeyHash),
    /// Overlord's: twemproxy's ring, labels cut at 64 bytes, shares in double precision, bytes unsigned.
    OverlordKetama(KeyHash),
    /// memcached's proxy's default: jump hash.
    Jump(WideHash),
    /// memcached's proxy's ring.
    Ring {
        /// The function of keys.
        hash: WideHash,
        /// `omode`: how points are made.
        mode: RingMode,
        /// `obuckets`: how many a member has.
        points: u16,
    },
    /// Codis': CRC-32 modulo 1024 buckets, in ranges.
    Codis,
    /// Kvstore's: MurmurHash2 modulo so many buckets, dealt out in turn.
    Kvstore {
        /// How many.
        buckets: u16,
    },
}

/// `omode` of memcached's proxy: what a point of its ring is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingMode {
    /// XXH3 of `host:port-i`.
    Default,
    /// Digests of `host:port-i`.
    Ketama,
    /// Digests of `host:port-i`, without port 11211.
    Twemproxy,
    /// Digests of `host/host:port-i`.
    EvCache,
}

impl RingMode {
    /// Every mode.
    pub const ALL: [RingMode; 4] = [RingMode::Default, RingMode::Ketama, RingMode::Twemproxy, RingMode::EvCache];

    /// The name, as the proxy has it.
    pub const fn name(self) -> &'static str {
        match self {
            RingMode::Default => "default",
            RingMode::Ketama => "ketama",
            RingMode::Twemproxy => "twemproxy",
            RingMode::EvCache => "evcache",
        }
    }

    /// The mode of that name.
    pub fn from_name(name: &str) -> Option<RingMode> {
        RingMode::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// What a distribution makes of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightRule {
    /// Nothing: all must be 1.
    Unused,
    /// Whole numbers from 1.
    Whole,
    /// 0 to 1.
    Fraction,
    /// 0 or more.
    Positive,
}

/// How a label is made of an address where a member has no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LabelForm {
    /// `host:port`, but `host` at port 11211.
    ShortAtDefaultPort,
    /// The same; a Unix socket has port 0.
    Libmemcached,
    /// `host:port`.
    Full,
    /// `host/host:port`.
    EvCache,
}

/// The port that some leave out of the label.
const DEFAULT_PORT: u16 = 11211;

impl Distribution {
    /// What members' weights must be.
    pub const fn weights(self) -> WeightRule {
        match self {
            Distribution::Ketama(_)
            | Distribution::Modula(_)
            | Distribution::LibmemcachedKetamaWeighted(_)
            | Distribution::OverlordKetama(_) => WeightRule::Whole,
            Distribution::WeightedCh3 => WeightRule::Fraction,
            Distribution::WeightedRendezvous => WeightRule::Positive,
            Distribution::Ch3
            | Distribution::Crc32
            | Distribution::ConstShard
            | Distribution::Rendezvous
            | Distribution::Random
            | Distribution::LibmemcachedKetama(_)
            | Distribution::LibmemcachedModula(_)
            | Distribution::Jump(_)
            | Distribution::Ring { .. }
            | Distribution::Codis
            | Distribution::Kvstore { .. } => WeightRule::Unused,
        }
    }

    /// True where keys go by the members' labels, else by their position.
    pub const fn goes_by_label(self) -> bool {
        match self {
            Distribution::Rendezvous
            | Distribution::WeightedRendezvous
            | Distribution::Ketama(_)
            | Distribution::Modula(_)
            | Distribution::LibmemcachedKetama(_)
            | Distribution::LibmemcachedKetamaWeighted(_)
            | Distribution::OverlordKetama(_)
            | Distribution::Ring { .. } => true,
            Distribution::Ch3
            | Distribution::WeightedCh3
            | Distribution::Crc32
            | Distribution::ConstShard
            | Distribution::Random
            | Distribution::LibmemcachedModula(_)
            | Distribution::Jump(_)
            | Distribution::Codis
            | Distribution::Kvstore { .. } => false,
        }
    }

    /// How many buckets its members share, where it has buckets.
    pub const fn buckets(self) -> Option<u16> {
        match self {
            Distribution::Codis => Some(CODIS_BUCKETS),
            Distribution::Kvstore { buckets } => Some(buckets),
            Distribution::Ch3
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
            | Distribution::Jump(_)
            | Distribution::Ring { .. } => None,
        }
    }

    /// True for mcrouter's, which cut keys at `|#|` unless told otherwise.
    pub const fn is_mcrouters(self) -> bool {
        matches!(
            self,
            Distribution::Ch3
                | Distribution::WeightedCh3
                | Distribution::Crc32
                | Distribution::ConstShard
                | Distribution::Rendezvous
                | Distribution::WeightedRendezvous
        )
    }

    /// Whether a tag around nothing counts, so that the empty text is hashed. twemproxy takes the whole key then.
    pub(super) const fn empty_tag_counts(self) -> bool {
        matches!(
            self,
            Distribution::OverlordKetama(_) | Distribution::Jump(_) | Distribution::Ring { .. } | Distribution::Codis
        )
    }

    const fn label_form(self) -> LabelForm {
        match self {
            Distribution::Ketama(_) | Distribution::Modula(_) => LabelForm::ShortAtDefaultPort,
            Distribution::LibmemcachedKetama(_) | Distribution::LibmemcachedKetamaWeighted(_) => {
                LabelForm::Libmemcached
            }
            Distribution::Ring { mode, .. } => match mode {
                RingMode::Default | RingMode::Ketama => LabelForm::Full,
                RingMode::Twemproxy => LabelForm::ShortAtDefaultPort,
                RingMode::EvCache => LabelForm::EvCache,
            },
            Distribution::Ch3
            | Distribution::WeightedCh3
            | Distribution::Crc32
            | Distribution::ConstShard
            | Distribution::Rendezvous
            | Distribution::WeightedRendezvous
            | Distribution::Random
            | Distribution::LibmemcachedModula(_)
            | Distribution::OverlordKetama(_)
            | Distribution::Jump(_)
            | Distribution::Codis
            | Distribution::Kvstore { .. } => LabelForm::Full,
        }
    }

    /// What this distribution hashes for a member: its name, else what the program it comes from makes of the address.
    /// A Unix socket has no port; its path is the host.
    pub fn label(self, name: Option<&str>, host: &str, port: Option<u16>) -> String {
        if let Some(name) = name {
            return name.to_owned();
        }
        match (self.label_form(), port) {
            (LabelForm::ShortAtDefaultPort | LabelForm::Libmemcached, Some(DEFAULT_PORT)) => host.to_owned(),
            (LabelForm::Libmemcached, None) => format!("{host}:0"),
            (LabelForm::EvCache, Some(port)) => format!("{host}/{host}:{port}"),
            (LabelForm::ShortAtDefaultPort | LabelForm::Libmemcached | LabelForm::Full, Some(port)) => {
                format!("{host}:{port}")
            }
            (LabelForm::ShortAtDefaultPort | LabelForm::Full | LabelForm::EvCache, None) => host.to_owned(),
        }
    }
}

/// A member's share of the keys: a number from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight(f64);

/// It holds no NaN.
impl Eq for Weight {}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Weight {
    /// What a member has that doesn't say.
    pub const ONE: Weight = Weight(1.0);

    /// None for what is no number, endless or below 0.
    pub fn new(weight: f64) -> Option<Weight> {
        (weight.is_finite() && weight >= 0.0).then_some(Weight(weight))
    }

    /// As a number.
    pub const fn as_f64(self) -> f64 {
        self.0
    }

    /// As a whole number from 1, if it is one.
    pub fn whole(self) -> Option<u32> {
        let whole = self.0 as u32;
        (whole >= 1 && f64::from(whole) == self.0).then_some(whole)
    }
}

impl From<u32> for Weight {
    fn from(weight: u32) -> Weight {
        Weight(f64::from(weight))
    }
}

/// One of those that keys are spread over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What is hashed for it: `Distribution::label` makes it for a server; mcrouter calls it a tag.
    pub label: String,
    /// Its share of the keys.
    pub weight: Weight,
    /// Its buckets, first and last of each range, where the distribution has buckets. With none for all members each
    /// gets its share.
    pub buckets: Vec<(u16, u16)>,
}

impl Member {
    /// A member of weight 1.
    pub fn new(label: impl Into<String>) -> Member {
        Member { label: label.into(), weight: Weight::ONE, buckets: Vec::new() }
    }
}

/// A placement to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementSpec {
    /// How keys are spread.
    pub distribution: Distribution,
    /// Over what, in order.
    pub members: Vec<Member>,
    /// The pair of characters between which the hashed part of a key stands.
    pub tag: Option<HashTag>,
    /// The mark at which the hashed part of a key ends.
    pub stop: Option<HashStop>,
    /// Appended to what is hashed.
    pub salt: String,
}

impl PlacementSpec {
    /// With members of weight 1, and what else is usual for the distribution.
    pub fn new<L: Into<String>>(distribution: Distribution, labels: impl IntoIterator<Item = L>) -> PlacementSpec {
        PlacementSpec {
            distribution,
            members: labels.into_iter().map(Member::new).collect(),
            tag: None,
            stop: distribution.is_mcrouters().then_some(HashStop::MCROUTER),
            salt: String::new(),
        }
    }

    /// Whether members and distribution go together.
    pub fn check(&self) -> Result<(), SpecError> {
        if self.salt.len() > MAX_SALT_BYTES {
            return Err(SpecError::SaltLength);
        }
        self.check_weights()?;
        if self.distribution.goes_by_label() {
            self.check_labels()?;
        }
        if let Distribution::Ring { mode, points, .. } = self.distribution {
            let total = self.members.len() as u64 * u64::from(points);
            // A digest makes four points.
            let whole = points > 0 && (mode == RingMode::Default || points % 4 == 0);
            if !whole || total > MAX_RING_POINTS {
                return Err(SpecError::RingPoints { points });
            }
        }
        match self.distribution.buckets() {
            Some(buckets) => super::buckets::table(self.distribution, &self.members, buckets).map(|_| ()),
            None => match self.members.iter().find(|member| !member.buckets.is_empty()) {
                Some(_) => Err(SpecError::BucketsUnused { distribution: self.distribution.name() }),
                None => Ok(()),
            },
        }
    }

    fn check_weights(&self) -> Result<(), SpecError> {
        let distribution = self.distribution.name();
        let mut total = 0_u32;
        for Member { label, weight, .. } in &self.members {
            match self.distribution.weights() {
                WeightRule::Unused if *weight != Weight::ONE => return Err(SpecError::WeightsUnused { distribution }),
                WeightRule::Whole => {
                    let Some(whole) = weight.whole() else {
                        return Err(SpecError::WeightNotWhole { label: label.clone() });
                    };
                    total = total.checked_add(whole).ok_or(SpecError::WeightsTooLarge)?;
                }
                WeightRule::Fraction if weight.as_f64() > 1.0 => {
                    return Err(SpecError::WeightAboveOne { label: label.clone() });
                }
                WeightRule::Unused | WeightRule::Fraction | WeightRule::Positive => {}
            }
        }
        Ok(())
    }

    fn check_labels(&self) -> Result<(), SpecError> {
        let mut known = HashSet::with_capacity(self.members.len());
        for Member { label, .. } in &self.members {
            if !(1..=MAX_LABEL_BYTES).contains(&label.len()) {
                return Err(SpecError::LabelLength { label: label.clone() });
            }
            if !known.insert(label) {
                return Err(SpecError::DuplicateLabel { label: label.clone() });
            }
        }
        Ok(())
    }
}

/// Why a placement can't be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecError {
    /// A weight that is no whole number from 1.
    WeightNotWhole {
        /// Whose.
        label: String,
    },
    /// A weight above 1 where 1 is all.
    WeightAboveOne {
        /// Whose.
        label: String,
    },
    /// The weights add up to more than 32 bits hold.
    WeightsTooLarge,
    /// Weights where the distribution has no use for them.
    WeightsUnused {
        /// The distribution's name.
        distribution: &'static str,
    },
    /// Two members with the same label would own the same keys.
    DuplicateLabel {
        /// The label.
        label: String,
    },
    /// A label that is empty or longer than `MAX_LABEL_BYTES`.
    LabelLength {
        /// The label.
        label: String,
    },
    /// A salt longer than `MAX_SALT_BYTES`.
    SaltLength,
    /// A ring of no points, or too many, or a number that digests can't make.
    RingPoints {
        /// For each member.
        points: u16,
    },
    /// Buckets where the distribution has none.
    BucketsUnused {
        /// The distribution's name.
        distribution: &'static str,
    },
    /// A range of buckets that ends before it begins or beyond the last one.
    BucketRange {
        /// The first.
        first: u16,
        /// The last.
        last: u16,
    },
    /// A bucket of two members.
    BucketTwice {
        /// Which.
        bucket: u16,
    },
    /// A bucket of none.
    BucketMissing {
        /// Which.
        bucket: u16,
    },
    /// More members than there are buckets to share.
    TooFewBuckets {
        /// How many there are.
        buckets: u16,
    },
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpecError::WeightNotWhole { label } => {
                write!(f, "the weight of {label:?} is no whole number from 1")
            }
            SpecError::WeightAboveOne { label } => write!(f, "the weight of {label:?} is above 1"),
            SpecError::WeightsTooLarge => write!(f, "the weights add up to more than {}", u32::MAX),
            SpecError::WeightsUnused { distribution } => write!(f, "distribution {distribution} has no weights"),
            SpecError::DuplicateLabel { label } => {
                write!(f, "two servers of a pool are called {label:?}; give one of them a name")
            }
            SpecError::LabelLength { label } => {
                write!(f, "the server name {label:?} must be 1 to {MAX_LABEL_BYTES} bytes long")
            }
            SpecError::SaltLength => write!(f, "a salt is at most {MAX_SALT_BYTES} bytes long"),
            SpecError::RingPoints { points } => write!(
                f,
                "a ring can't have {points} points for each server: multiples of 4, at most {MAX_RING_POINTS} in all"
            ),
            SpecError::BucketsUnused { distribution } => write!(f, "distribution {distribution} has no buckets"),
            SpecError::BucketRange { first, last } => write!(f, "there are no buckets {first} to {last}"),
            SpecError::BucketTwice { bucket } => write!(f, "two servers have bucket {bucket}"),
            SpecError::BucketMissing { bucket } => write!(f, "no server has bucket {bucket}"),
            SpecError::TooFewBuckets { buckets } => write!(f, "there are more servers than the {buckets} buckets"),
        }
    }
}

impl std::error::Error for SpecError {}

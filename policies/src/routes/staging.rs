//! StagingRoute: a staging child is kept as the warm one is, which answers everything.
//!
//! | operation | what is answered | and staging |
//! |---|---|---|
//! | get | warm's | on a hit it is asked whether it has the key (which also moves it in its LRU); if not, the item is added with its flags and what is left of its life |
//! | gets | warm's | on a hit it is asked whether it has the key |
//! | set, cas | warm's | once stored at warm, it is set, without waiting |
//! | delete | the worse of both, asked at once | |
//! | everything else | warm's | unless warm's reply is an error it is asked the same, without waiting |
//!
//! The item to add is read at warm once more, with a meta get: nothing is held while staging is asked. A staging server that
//! answers with an error is left alone; so is one whose warm side knows no meta get.

use super::backfill::{exptime_token, is_refused, parts_of};
use super::{Collapse, Policy, Shape, both};
use crate::outcome::OutcomeClass;
use crate::plan::{Frame, Place, Run, Seat, Settled, Started};
use crate::variant::Written;
use keyway_protocol::memcached::text::Parts;
use keyway_protocol::{Operation, OperationClass};

const WARM: usize = 0;
const STAGING: usize = 1;

/// `Frame::words`: what the frame is there for; at first, to wait for warm's answer.
const PURPOSE: usize = 0;
/// Waits for both answers to a delete.
const DELETE: u64 = 1;
/// Looks after the item in staging, behind the answer.
const MIRROR: u64 = 2;

/// StagingRoute. Its children: warm, staging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staging;

impl Policy for Staging {
    fn shape(&self) -> Shape {
        Shape::Join(2, Collapse::Never)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        if run.operation(seat.variant).class() == OperationClass::DeleteLike {
            return both::start(run, seat, DELETE);
        }
        let at = run.open(seat);
        match run.start_child(at, WARM) {
            Started::Waiting => Started::Waiting,
            Started::Settled(settled) => {
                mirror(run, at, settled);
                run.close(at, settled)
            }
            Started::Unusable(reply) => run.take_back(at, reply),
        }
    }

    fn child_settled(&self, run: &mut Run<'_>, at: usize, child: u16, settled: Settled) -> Option<Settled> {
        match run.frame(at).words[PURPOSE] {
            DELETE => both::settled(run, at, child, settled),
            MIRROR => mirrored(run, at, usize::from(child), settled),
            _ => {
                mirror(run, at, settled);
                Some(settled)
            }
        }
    }

    fn may_start_more(&self, frame: &Frame, _children: usize) -> bool {
        frame.words[PURPOSE] != DELETE
    }

    /// A write is mirrored whoever has gone away meanwhile.
    fn lingers(&self, operation: Operation) -> bool {
        operation.class() != OperationClass::GetLike
    }
}

/// Warm has answered: what staging is to do.
fn mirror(run: &mut Run<'_>, at: usize, settled: Settled) {
    let frame = run.frame(at);
    let (node, variant) = (frame.node, frame.variant);
    let is_good = settled.class() == OutcomeClass::Success;
    let form = match run.operation(variant) {
        Operation::Get if is_good => {
            let behind = run.open(Seat { node, place: Place::NOBODY, variant });
            run.frame(behind).words[PURPOSE] = MIRROR;
            if let Some(settled) = ask(run, behind, STAGING) {
                run.close(behind, settled);
            }
            return;
        }
        Operation::Gets if is_good => run.derive(variant, |parts, _, out| Some(Written::peek(parts.key, out))),
        Operation::Get | Operation::Gets => return,
        Operation::Set | Operation::Cas if is_good => run.derive(variant, |parts, _, out| {
            Some(Written::write(Parts { operation: Operation::Set, number: b"", ..parts }, out))
        }),
        Operation::Set | Operation::Cas => return,
        _ if settled.class() <= OutcomeClass::Miss => Ok(variant),
        _ => return,
    };
    if let Ok(form) = form {
        run.background(node, STAGING, form);
    }
}

/// One step behind the answer: staging has the key or not, or warm's item is there.
fn mirrored(run: &mut Run<'_>, at: usize, child: usize, settled: Settled) -> Option<Settled> {
    if child == STAGING {
        let misses = settled.class() == OutcomeClass::Miss;
        return if misses { ask(run, at, WARM) } else { Some(settled) };
    }
    let frame = run.frame(at);
    let (node, variant) = (frame.node, frame.variant);
    let unix_s = run.env.unix_ms / 1000;
    if is_refused(settled) {
        return Some(settled);
    }
    let form = run.derive_of(variant, Some(settled.answer), |parts, item, out| {
        let item = item?;
        let exptime = match item.ttl? {
            -1 => exptime_token(0, unix_s),
            // In its last second it isn't worth it, and 0 would mean no end.
            left => exptime_token(u64::try_from(left).ok().filter(|left| *left > 0)?, unix_s),
        };
        Some(Written::write(Parts { exptime: exptime.as_bytes(), ..parts_of(Operation::Add, parts.key, &item) }, out))
    });
    if let Ok(form) = form {
        run.background(node, STAGING, form);
    }
    Some(settled)
}

/// Asks staging whether it has the key, or warm for the item.
fn ask(run: &mut Run<'_>, at: usize, child: usize) -> Option<Settled> {
    let variant = run.frame(at).variant;
    let form = run.derive(variant, |parts, _, out| {
        Some(match child {
            STAGING => Written::peek(parts.key, out),
            _ => Written::write(Parts { meta: true, ..Parts::of_key(Operation::Get, parts.key) }, out),
        })
    });
    let started = match form {
        Ok(form) => run.start_child_as(at, child, form),
        Err(reply) => Started::Unusable(reply),
    };
    match started {
        Started::Waiting => None,
        Started::Settled(settled) => mirrored(run, at, child, settled),
        Started::Unusable(reply) => Some(run.settled(reply, variant)),
    }
}

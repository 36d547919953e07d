//! The forms a request takes on its way down the tree: as it was asked, with another key, or as another request.
//!
//! Owns the bytes of what is sent instead of the request (`Plan::bytes`, which only grows until the plan is cleared).
//! Routes name a form by its `VariantId` and never see where it lies.
//!
//! Invariant: form 0 is the request as it was asked and takes no memory, so that trees which change nothing pay nothing.

use crate::plan::{Plan, Run};
use crate::request::{ItemView, KeptReply, Reported, TryId, Wire};
use crate::{Answer, Failure, LocalReply, Outcome};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::{Expect, KEY_BYTES_MAX, Parts, ReplyKind};
use std::ops::Range;

/// One form of the request, as an index; 0 is the request as it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VariantId(u16);

impl VariantId {
    pub(crate) const ASKED: VariantId = VariantId(0);

    /// A number to remember it by.
    pub(crate) fn number(self) -> u16 {
        self.0
    }

    /// The form of that number.
    pub(crate) fn from_number(number: u16) -> VariantId {
        VariantId(number)
    }
}

/// A range of `Plan::bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The memory bound of a request keeps its bytes far below 32 bits (`Run::fits`).
    fn new(range: Range<usize>) -> Span {
        Span { start: range.start as u32, end: range.end as u32 }
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// How a form asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// As clients do.
    Text,
    /// A meta get.
    Meta,
    /// A meta get without the data.
    Peek,
}

/// One form of the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    operation: Operation,
    dialect: Dialect,
    /// A copy of what is done elsewhere: it leaves no trace in the async log.
    copy: bool,
    /// Another key than the request's.
    key: Option<Span>,
    /// What pools hash in the key's stead.
    routing_key: Option<Span>,
    /// mcrouter's routing prefix, apart from the key.
    routing_prefix: Option<Span>,
    /// Another frame than the request's.
    frame: Option<Span>,
}

impl Variant {
    /// The request as it was asked, as a form to be changed.
    fn asked(operation: Operation) -> Variant {
        Variant {
            operation,
            dialect: Dialect::Text,
            copy: false,
            key: None,
            routing_key: None,
            routing_prefix: None,
            frame: None,
        }
    }
}

/// A reply that may still become the answer, or whose item a route still needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    try_id: TryId,
    kind: ReplyKind,
    line: Span,
    item: Option<KeptItem>,
}

/// An item in `Plan::bytes`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeptItem {
    flags: Span,
    data: Span,
    cas: Span,
    ttl: Option<i64>,
}

impl KeptItem {
    pub(crate) fn flags_range(&self) -> Range<usize> {
        self.flags.range()
    }

    pub(crate) fn data_range(&self) -> Range<usize> {
        self.data.range()
    }

    /// The item with other flags and data.
    pub(crate) fn with(self, flags: Range<usize>, data: Range<usize>) -> KeptItem {
        KeptItem { flags: Span::new(flags), data: Span::new(data), ..self }
    }
}

/// A request that was written: what it asks for, and where its key lies.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    operation: Operation,
    dialect: Dialect,
    key: Range<usize>,
}

impl Written {
    /// Writes `parts` to `out`, which is empty.
    pub(crate) fn write(parts: Parts<'_>, out: &mut Vec<u8>) -> Written {
        let dialect = if parts.meta { Dialect::Meta } else { Dialect::Text };
        Written { operation: parts.operation, dialect, key: parts.write(out) }
    }

    /// Writes a meta get that tells all of an item but its data.
    pub(crate) fn peek(key: &[u8], out: &mut Vec<u8>) -> Written {
        Written { operation: Operation::Get, dialect: Dialect::Peek, key: Parts::write_peek(key, out) }
    }
}

impl Plan {
    fn slice(&self, span: Span) -> &[u8] {
        &self.bytes[span.range()]
    }

    fn variant(&self, id: VariantId) -> Option<&Variant> {
        id.0.checked_sub(1).map(|at| &self.variants[usize::from(at)])
    }

    /// What a form asks for, where the request asks for `asked`.
    pub(crate) fn operation_of(&self, id: VariantId, asked: Operation) -> Operation {
        self.variant(id).map_or(asked, |variant| variant.operation)
    }

    fn append(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Span::new(start..self.bytes.len())
    }

    fn add_variant(&mut self, variant: Variant) -> VariantId {
        self.variants.push(variant);
        VariantId(self.variants.len() as u16)
    }

    /// The bytes to send for a try.
    pub fn wire(&self, try_id: TryId) -> Wire<'_> {
        let Some(variant) = self.variant(self.tries[usize::from(try_id.0)].variant) else { return Wire::AsAsked };
        match (variant.frame, variant.key) {
            (Some(frame), key) => {
                let frame = frame.range();
                let key = key.map_or(0..0, |key| key.start as usize - frame.start..key.end as usize - frame.start);
                Wire::Frame { bytes: &self.bytes[frame], key }
            }
            (None, Some(key)) => Wire::WithKey(self.slice(key)),
            (None, None) => Wire::AsAsked,
        }
    }

    /// What a try asks for, where the request asks for `asked`: the operation, and the shape of its reply.
    pub fn sent(&self, try_id: TryId, asked: Operation) -> (Operation, Expect) {
        match self.variant(self.tries[usize::from(try_id.0)].variant) {
            None => (asked, Expect::from_operation(asked)),
            Some(variant) => {
                let expect = match variant.dialect {
                    Dialect::Text => Expect::from_operation(variant.operation),
                    Dialect::Meta => Expect::Meta,
                    Dialect::Peek => Expect::Peek,
                };
                (variant.operation, expect)
            }
        }
    }

    /// True when a try sends the request's own bytes, so that its reply can be passed on as it is.
    pub fn is_as_asked(&self, try_id: TryId) -> bool {
        let variant = self.tries[usize::from(try_id.0)].variant;
        self.variant(variant).is_none_or(|variant| variant.frame.is_none() && variant.key.is_none())
    }

    /// The key a try asks for, where the request's is `own`.
    pub fn key_of<'s>(&'s self, try_id: TryId, own: &'s [u8]) -> &'s [u8] {
        let variant = self.variant(self.tries[usize::from(try_id.0)].variant);
        variant.and_then(|variant| variant.key).map_or(own, |key| self.slice(key))
    }

    /// The reply that was kept of a try.
    pub fn kept(&self, try_id: TryId) -> Option<KeptReply<'_>> {
        let kept = self.kept.iter().find(|kept| kept.try_id == try_id)?;
        Some(match kept.item {
            Some(item) => KeptReply::Item(self.item_at(item)),
            None => KeptReply::Line(kept.kind, self.slice(kept.line)),
        })
    }

    /// The item that a route put together, the answer `Answer::Composed`.
    pub fn composed(&self) -> Option<ItemView<'_>> {
        self.composed.map(|item| self.item_at(item))
    }

    fn item_at(&self, item: KeptItem) -> ItemView<'_> {
        ItemView {
            flags: self.slice(item.flags),
            data: self.slice(item.data),
            cas: self.slice(item.cas),
            ttl: item.ttl,
        }
    }

    pub(crate) fn keep_item(&mut self, item: ItemView<'_>) -> KeptItem {
        KeptItem {
            flags: self.append(item.flags),
            data: self.append(item.data),
            cas: self.append(item.cas),
            ttl: item.ttl,
        }
    }

    /// Keeps a copy of a reply, unless one is there.
    pub(crate) fn keep(&mut self, try_id: TryId, reported: &Reported<'_>) {
        let Outcome::Reply(kind) = reported.outcome else { return };
        if self.kept.iter().any(|kept| kept.try_id == try_id) {
            return;
        }
        self.drop_unheld();
        let line = self.append(reported.line);
        let item = reported.item.map(|item| self.keep_item(item));
        self.kept.push(Kept { try_id, kind, line, item });
    }
}

impl Plan {
    /// Gives the memory of replies back that can't become the answer any more, as far as nothing lies behind them: of
    /// values that replace each other one is kept.
    fn drop_unheld(&mut self) {
        while let Some(last) = self.kept.last() {
            let end = last.item.map_or(last.line.end, |item| item.cas.end) as usize;
            if end != self.bytes.len() || self.holds(last.try_id) {
                return;
            }
            self.bytes.truncate(last.line.start as usize);
            self.kept.pop();
        }
    }
}

/// What routes do with forms of the request.
impl Run<'_> {
    /// What a form asks for.
    pub(crate) fn operation(&self, variant: VariantId) -> Operation {
        self.plan.operation_of(variant, self.request.operation)
    }

    /// The key of a form.
    pub(crate) fn key(&self, variant: VariantId) -> &[u8] {
        let key = self.plan.variant(variant).and_then(|variant| variant.key);
        key.map_or(self.request.key, |key| self.plan.slice(key))
    }

    /// What pools hash of a form: its key, unless a route said otherwise.
    pub(crate) fn routing_key(&self, variant: VariantId) -> &[u8] {
        let routing_key = self.plan.variant(variant).and_then(|variant| variant.routing_key);
        routing_key.map_or_else(|| self.key(variant), |key| self.plan.slice(key))
    }

    /// A form's parts. None where its bytes were too large to be kept for another try.
    pub(crate) fn parts(&self, variant: VariantId) -> Option<Parts<'_>> {
        let operation = self.operation(variant);
        let form = self.plan.variant(variant);
        let key = self.key(variant);
        let parts = match form.and_then(|form| form.frame) {
            Some(frame) => Parts::parse(operation, self.plan.slice(frame), b"")?,
            None if self.request.head.is_empty() => match operation {
                Operation::Get | Operation::Gets | Operation::Delete => Parts::of_key(operation, key),
                _ => return None,
            },
            None => Parts::parse(operation, self.request.head, self.request.tail)?,
        };
        Some(Parts { key, ..parts })
    }

    /// The form as a copy of what is done elsewhere.
    pub(crate) fn as_copy(&mut self, variant: VariantId) -> Result<VariantId, LocalReply> {
        self.fits(0)?;
        let form = self.plan.variant(variant).copied().unwrap_or(Variant::asked(self.operation(variant)));
        Ok(self.plan.add_variant(Variant { copy: true, ..form }))
    }

    /// True for a copy of what is done elsewhere.
    pub(crate) fn is_copy(&self, variant: VariantId) -> bool {
        self.plan.variant(variant).is_some_and(|form| form.copy)
    }

    /// True for a form that asks for an item without its data.
    pub(crate) fn is_peek(&self, variant: VariantId) -> bool {
        self.plan.variant(variant).is_some_and(|form| form.dialect == Dialect::Peek)
    }

    /// The form with another key: `write` gets the key as it is and appends what replaces it.
    pub(crate) fn with_key(
        &mut self,
        variant: VariantId,
        write: impl FnOnce(&[u8], &mut Vec<u8>),
    ) -> Result<VariantId, LocalReply> {
        self.fits(KEY_BYTES_MAX)?;
        let mut key = std::mem::take(&mut self.plan.scratch);
        key.clear();
        write(self.key(variant), &mut key);
        let form = self.plan.variant(variant).copied();
        let good = !key.is_empty() && key.len() <= KEY_BYTES_MAX;
        let made = match form.and_then(|form| form.frame) {
            _ if !good => Err(LocalReply::BadKey),
            // A frame of its own has its key inside.
            Some(_) => self.derive(variant, |parts, _, out| Some(Written::write(Parts { key: &key, ..parts }, out))),
            None => {
                let span = self.plan.append(&key);
                let form = form.unwrap_or(Variant::asked(self.operation(variant)));
                Ok(self.plan.add_variant(Variant { key: Some(span), ..form }))
            }
        };
        self.plan.scratch = key;
        made
    }

    /// The form with another routing key: `choose` gets the routing key as it is and says which part of it counts.
    pub(crate) fn with_routing_key(
        &mut self,
        variant: VariantId,
        choose: impl FnOnce(&[u8]) -> Range<usize>,
    ) -> Result<VariantId, LocalReply> {
        self.fits(KEY_BYTES_MAX)?;
        let mut key = std::mem::take(&mut self.plan.scratch);
        key.clear();
        let whole = self.routing_key(variant);
        key.extend_from_slice(&whole[choose(whole)]);
        let span = self.plan.append(&key);
        self.plan.scratch = key;
        let form = self.plan.variant(variant).copied().unwrap_or(Variant::asked(self.operation(variant)));
        Ok(self.plan.add_variant(Variant { routing_key: Some(span), ..form }))
    }

    /// The routing prefix of a form, which isn't part of its key; empty without one.
    pub(crate) fn routing_prefix(&self, variant: VariantId) -> &[u8] {
        let prefix = self.plan.variant(variant).and_then(|variant| variant.routing_prefix);
        prefix.map_or(b"", |prefix| self.plan.slice(prefix))
    }

    /// The form with another routing prefix; with an empty one it has none.
    pub(crate) fn with_routing_prefix(&mut self, variant: VariantId, prefix: &[u8]) -> Result<VariantId, LocalReply> {
        self.fits(prefix.len())?;
        let span = (!prefix.is_empty()).then(|| self.plan.append(prefix));
        let form = self.plan.variant(variant).copied().unwrap_or(Variant::asked(self.operation(variant)));
        Ok(self.plan.add_variant(Variant { routing_prefix: span, ..form }))
    }

    /// The form with the first bytes of its key as its routing prefix.
    pub(crate) fn with_prefix_apart(&mut self, variant: VariantId, bytes: usize) -> Result<VariantId, LocalReply> {
        self.fits(2 * KEY_BYTES_MAX)?;
        let mut prefix = std::mem::take(&mut self.plan.frame_scratch);
        prefix.clear();
        prefix.extend_from_slice(&self.key(variant)[..bytes]);
        let apart = self.with_routing_prefix(variant, &prefix);
        self.plan.frame_scratch = prefix;
        self.with_key(apart?, |key, out| out.extend_from_slice(&key[bytes..]))
    }

    /// Another request, made of a form's parts and, where there is one, the item of the reply at hand. Fails where the
    /// form's bytes weren't kept, and where `write` writes nothing.
    pub(crate) fn derive(
        &mut self,
        variant: VariantId,
        write: impl FnOnce(Parts<'_>, Option<ItemView<'_>>, &mut Vec<u8>) -> Option<Written>,
    ) -> Result<VariantId, LocalReply> {
        self.derive_of(variant, self.reported.map(|(try_id, _)| Answer::Try(try_id)), write)
    }

    /// The same with the item of any settled child, be it one that was kept.
    pub(crate) fn derive_of(
        &mut self,
        variant: VariantId,
        answer: Option<Answer>,
        write: impl FnOnce(Parts<'_>, Option<ItemView<'_>>, &mut Vec<u8>) -> Option<Written>,
    ) -> Result<VariantId, LocalReply> {
        let mut frame = std::mem::take(&mut self.plan.frame_scratch);
        frame.clear();
        let item = answer.and_then(|answer| self.item(answer));
        let written = self.parts(variant).and_then(|parts| write(parts, item, &mut frame));
        let made = match written {
            None => Err(LocalReply::Failed(Failure::NotReplayable)),
            Some(written) => self.add_frame(variant, &frame, written),
        };
        self.plan.frame_scratch = frame;
        made
    }

    /// Another request for a form's key, of an operation that needs nothing but a key.
    pub(crate) fn derive_from_key(
        &mut self,
        variant: VariantId,
        operation: Operation,
    ) -> Result<VariantId, LocalReply> {
        let mut frame = std::mem::take(&mut self.plan.frame_scratch);
        frame.clear();
        let written = Written::write(Parts::of_key(operation, self.key(variant)), &mut frame);
        let made = self.add_frame(variant, &frame, written);
        self.plan.frame_scratch = frame;
        made
    }

    fn add_frame(&mut self, of: VariantId, frame: &[u8], written: Written) -> Result<VariantId, LocalReply> {
        self.fits(frame.len())?;
        let span = self.plan.append(frame);
        let start = span.start as usize;
        let form = self.plan.variant(of).copied().unwrap_or(Variant::asked(written.operation));
        Ok(self.plan.add_variant(Variant {
            operation: written.operation,
            dialect: written.dialect,
            key: Some(Span::new(start + written.key.start..start + written.key.end)),
            frame: Some(span),
            ..form
        }))
    }

    /// The item of a settled child: the reply at hand, or one that was kept.
    pub(crate) fn item(&self, answer: Answer) -> Option<ItemView<'_>> {
        match answer {
            Answer::Try(try_id) => match self.reported {
                Some((at_hand, reported)) if at_hand == try_id => reported.item,
                Some(_) | None => match self.plan.kept(try_id) {
                    Some(KeptReply::Item(item)) => Some(item),
                    Some(KeptReply::Line(..)) | None => None,
                },
            },
            Answer::Composed => self.plan.composed(),
            Answer::Local(_) => None,
        }
    }

    /// Checks that the plan may hold so many bytes more.
    pub(crate) fn fits(&self, bytes: usize) -> Result<(), LocalReply> {
        let most = self.env.spare_bytes.min(u32::MAX as usize);
        match self.plan.bytes.len() + bytes <= most && self.plan.variants.len() < usize::from(u16::MAX) - 1 {
            true => Ok(()),
            false => Err(LocalReply::Failed(Failure::NotReplayable)),
        }
    }
}

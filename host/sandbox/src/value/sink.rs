//! Builds canonical CBOR in one pass, within bounds: what the readers of CBOR, JSON and WAVE have in common.
//!
//! A reader follows the type and the input; each value it meets goes straight into the output. Where the input gives
//! things in another order than the canonical form wants them, or its end is not known at its start, the bytes are
//! written as they come and put right at the end of the list or record. Nothing is ever held as a tree.

use std::collections::HashMap;
use std::rc::Rc;

use omniq_model::wit::{Field, Labels, Type};

use super::cbor::{self, Major, Writer};
use super::error::{Noun, integer_range};
use super::names::{Found, Names, nearest};
use super::{Bounds, Error};

/// The canonical CBOR written so far and what may still be written.
#[derive(Debug)]
pub(super) struct Sink<'t> {
    pub out: Writer,
    pub names: Names<'t>,
    bounds: Bounds,
    depth: u32,
    items: u64,
    entries: Vec<Entry>,
    orders: HashMap<usize, Rc<[usize]>>,
    scratch: Vec<u8>,
}

/// A field of an open record: its key is at `start`, its value behind it.
#[derive(Debug, Clone, Copy)]
struct Entry {
    field: usize,
    start: usize,
}

/// A record that is being written; its fields may come in any order.
#[derive(Debug)]
pub(super) struct Record<'t> {
    fields: &'t [Field],
    noun: Noun,
    base: usize,
    in_order: bool,
}

impl<'t> Sink<'t> {
    /// Starts with room for `expected` bytes, if the bounds have it.
    pub fn new(bounds: &Bounds, expected: usize) -> Self {
        let depth = bounds.depth.min(Bounds::MAX_DEPTH);
        Self {
            out: Writer::with_capacity(expected.min(bounds.bytes)),
            names: Names::default(),
            bounds: Bounds { depth, ..*bounds },
            depth: 0,
            items: 0,
            entries: Vec::new(),
            orders: HashMap::new(),
            scratch: Vec::new(),
        }
    }

    /// What was written, once it is complete.
    ///
    /// # Errors
    /// It is larger than it may be.
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        self.room(0)?;
        Ok(self.out.into_bytes())
    }

    /// Begins a value one level below the one that is open. Ends with [`Sink::leave`].
    #[inline]
    pub fn enter(&mut self) -> Result<(), Error> {
        if self.depth > self.bounds.depth {
            return Err(Error::too_deep(self.bounds.depth));
        }
        self.depth += 1;
        self.count(1)?;
        self.items += 1;
        self.room(0)
    }

    /// Ends what [`Sink::enter`] began.
    #[inline]
    pub fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Checks that `more` values may follow, before anything is done for them.
    #[inline]
    pub fn count(&self, more: usize) -> Result<(), Error> {
        if more as u64 > self.bounds.items - self.items {
            return Err(Error::too_many(self.bounds.items));
        }
        Ok(())
    }

    /// Checks that `more` bytes may follow, before they are copied.
    #[inline]
    pub fn room(&self, more: usize) -> Result<(), Error> {
        if self.out.len().saturating_add(more) > self.bounds.bytes {
            return Err(Error::too_large(self.bounds.bytes));
        }
        Ok(())
    }

    /// Writes an integer of the integer type `ty`.
    #[inline]
    pub fn int(&mut self, ty: &Type, value: i128) -> Result<(), Error> {
        match integer_range(ty) {
            Some((least, most)) if (least..=most).contains(&value) => {
                // Every range lies within what 64 bits and a sign can say.
                match u64::try_from(value) {
                    Ok(value) => self.out.uint(value),
                    Err(_) => self.out.head(Major::Negative, !value as u64),
                }
                Ok(())
            }
            _ => Err(Error::mismatch(ty, value.to_string())),
        }
    }

    /// Writes a float of type `ty`, rounded to it; `f32` refuses what would round to infinity.
    #[inline]
    pub fn float(&mut self, ty: &Type, value: f64) -> Result<(), Error> {
        if *ty == Type::F64 {
            self.out.f64(value);
            return Ok(());
        }
        #[expect(clippy::cast_possible_truncation, reason = "rounding is the rule for f32")]
        let single = value as f32;
        if single.is_infinite() && value.is_finite() {
            return Err(Error::mismatch(ty, format!("{value:?}")));
        }
        self.out.f32(single);
        Ok(())
    }

    /// Writes text.
    #[inline]
    pub fn text(&mut self, text: &str) -> Result<(), Error> {
        self.room(text.len())?;
        self.out.text(text);
        Ok(())
    }

    /// Writes a byte string.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.room(bytes.len())?;
        self.out.bytes(bytes);
        Ok(())
    }

    /// Writes text that must be one character.
    #[inline]
    pub fn char(&mut self, text: &str) -> Result<(), Error> {
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(_), None) => self.text(text),
            _ => Err(Error::mismatch(&Type::Char, super::error::quoted(text))),
        }
    }

    /// Writes the one of `labels`, which are those of `ty`, that `label` is.
    #[inline]
    pub fn label(&mut self, ty: &Type, labels: &'t Labels, label: &str) -> Result<(), Error> {
        match self.names.find(&labels.labels, label) {
            Some(_) => self.text(label),
            None => Err(Error::unknown_label(ty, label, nearest(&labels.labels, label))),
        }
    }

    /// The position of a flag's label.
    pub fn flag(&mut self, ty: &Type, labels: &'t Labels, label: &str) -> Result<usize, Error> {
        self.names
            .find(&labels.labels, label)
            .ok_or_else(|| Error::unknown_label(ty, label, nearest(&labels.labels, label)))
    }

    /// Writes flags, given by the positions of their labels in any order.
    pub fn flags(&mut self, labels: &Labels, chosen: &mut [usize]) -> Result<(), Error> {
        chosen.sort_unstable();
        if let Some(twice) = chosen.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::repeated(Noun::Flag, &labels.labels[twice[0]]));
        }
        self.out.array(chosen.len());
        for &label in &*chosen {
            self.text(&labels.labels[label])?;
        }
        Ok(())
    }

    /// Starts an item whose length is known at its end only.
    #[inline]
    pub fn open(&mut self) -> usize {
        let start = self.out.len();
        self.out.buffer().push(0);
        start
    }

    /// Ends the item that began at `start`: an array of `length` items, or a string of as many bytes.
    pub fn close(&mut self, start: usize, major: Major, length: usize) {
        let (head, size) = cbor::encode_head(major, length as u64);
        let buffer = self.out.buffer();
        buffer[start] = head[0];
        if size > 1 {
            buffer.splice(start + 1..start + 1, head[1..size].iter().copied());
        }
    }

    /// Starts a record, or an argument list.
    #[inline]
    pub fn open_record(&mut self, fields: &'t [Field], noun: Noun) -> Record<'t> {
        self.out.map(fields.len());
        Record { fields, noun, base: self.entries.len(), in_order: true }
    }

    /// The position of the field that `key` names.
    #[inline]
    pub fn find_field(&mut self, record: &Record<'t>, key: &str) -> Result<usize, Error> {
        match self.names.find_spelled(record.fields, key) {
            Found::At(field) => Ok(field),
            Found::Nowhere => Err(Error::unknown(record.noun, key, nearest(record.fields, key))),
            Found::Ambiguous => Err(Error::ambiguous(record.noun, key)),
        }
    }

    /// Writes the key of a field; its value must follow.
    #[inline]
    pub fn key(&mut self, record: &mut Record<'t>, field: usize) -> Result<(), Error> {
        let name = &record.fields[field].name;
        if let Some(last) = self.entries[record.base..].last() {
            let last = &record.fields[last.field].name;
            record.in_order &= cbor::key_order(last, name).is_lt();
        }
        self.entries.push(Entry { field, start: self.out.len() });
        // More keys than fields: one of them came twice, and there is no use in reading on.
        if self.entries.len() - record.base > record.fields.len() {
            return self.arrange(record);
        }
        self.text(name)
    }

    /// Ends a record: absent options become none, and the fields get into order.
    #[inline]
    pub fn close_record(&mut self, record: &Record<'t>) -> Result<(), Error> {
        if self.entries.len() - record.base < record.fields.len() || !record.in_order {
            self.arrange(record)?;
        }
        self.entries.truncate(record.base);
        Ok(())
    }

    /// Ends an argument list that was given by position: `given` of them, of which only options may be left out.
    pub fn close_args(&mut self, record: &Record<'t>, given: usize) -> Result<(), Error> {
        let params = record.fields;
        let required = params
            .iter()
            .rposition(|param| !matches!(param.ty, Type::Option(_)))
            .map_or(0, |last| last + 1);
        if given < required || given > params.len() {
            return Err(Error::arity(params.len(), given));
        }
        self.close_record(record)
    }

    /// Puts the entries of `record` into canonical order, and none where an option is absent.
    fn arrange(&mut self, record: &Record<'t>) -> Result<(), Error> {
        let fields = record.fields;
        let mut given: Vec<Option<(usize, usize)>> = vec![None; fields.len()];
        let mut end = self.out.len();
        for entry in self.entries[record.base..].iter().rev() {
            if given[entry.field].replace((entry.start, end)).is_some() {
                return Err(Error::repeated(record.noun, &fields[entry.field].name));
            }
            end = entry.start;
        }
        // Now `end` is where the first field starts.
        self.scratch.clear();
        for &field in &*self.order(fields) {
            let Field { name, ty } = &fields[field];
            match given[field] {
                Some((start, end)) => {
                    self.scratch.extend_from_slice(&self.out.as_bytes()[start..end])
                }
                None if matches!(ty, Type::Option(_)) => {
                    self.count(1)?;
                    self.items += 1;
                    self.room(self.scratch.len() + name.len())?;
                    let (head, size) = cbor::encode_head(Major::Text, name.len() as u64);
                    self.scratch.extend_from_slice(&head[..size]);
                    self.scratch.extend_from_slice(name.as_bytes());
                    self.scratch.push(0xf6);
                }
                None => return Err(Error::missing(record.noun, name, ty)),
            }
        }
        self.out.buffer().truncate(end);
        self.out.buffer().extend_from_slice(&self.scratch);
        Ok(())
    }

    fn order(&mut self, fields: &[Field]) -> Rc<[usize]> {
        let order = self.orders.entry(fields.as_ptr().addr());
        Rc::clone(order.or_insert_with(|| cbor::canonical_order(fields).into()))
    }
}

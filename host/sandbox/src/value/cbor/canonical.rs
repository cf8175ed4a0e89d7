//! Makes canonical CBOR of a type from any well-formed CBOR that fits the type.

use std::borrow::Cow;

use omniq_model::wit::{Field, Labels, ResultType, Type, Variant};

use super::{Flaw, Head, Major, Reader};
use crate::value::error::{Noun, quoted};
use crate::value::names::nearest;
use crate::value::sink::Sink;
use crate::value::{Bounds, Error};

/// The tag of a byte string that holds CBOR; tolerated and dropped.
const TAG_EMBEDDED: u64 = 24;
/// The tag that only says "this is CBOR"; tolerated and dropped.
const TAG_SELF_DESCRIBED: u64 = 55799;

/// Checks `input` against `ty` and gives it back in canonical form.
///
/// Input may use indefinite lengths, keys in any order and in other spellings, numbers longer than they need to be,
/// integers for floats, arrays of integers for `list<u8>`, and the tags 24 and 55799. Canonical input comes back as
/// it is.
///
/// # Errors
/// The bytes are not one well-formed item, do not fit the type, or exceed the bounds.
pub fn canonicalize(ty: &Type, input: &[u8], bounds: &Bounds) -> Result<Vec<u8>, Error> {
    let mut canonicalizer = Canonicalizer::new(input, bounds)?;
    canonicalizer.value(ty)?;
    canonicalizer.finish()
}

/// One pass over CBOR input.
pub(in crate::value) struct Canonicalizer<'a, 't> {
    pub reader: Reader<'a>,
    pub sink: Sink<'t>,
}

impl<'a, 't> Canonicalizer<'a, 't> {
    pub fn new(input: &'a [u8], bounds: &Bounds) -> Result<Self, Error> {
        if input.len() > bounds.bytes {
            return Err(Error::too_large(bounds.bytes));
        }
        Ok(Self { reader: Reader::new(input), sink: Sink::new(bounds, input.len() + 16) })
    }

    pub fn finish(self) -> Result<Vec<u8>, Error> {
        self.reader.finish()?;
        self.sink.finish()
    }

    /// Reads the value of `ty` that comes next.
    pub fn value(&mut self, ty: &'t Type) -> Result<(), Error> {
        self.sink.enter()?;
        self.untag()?;
        match ty {
            Type::Bool => {
                let value = self.scalar(ty, Head::bool)?;
                self.sink.out.bool(value);
            }
            Type::U8
            | Type::U16
            | Type::U32
            | Type::U64
            | Type::S8
            | Type::S16
            | Type::S32
            | Type::S64 => {
                let value = self.scalar(ty, Head::int)?;
                self.sink.int(ty, value)?;
            }
            Type::F32 | Type::F64 => self.float(ty)?,
            Type::Char => {
                let text = self.text(ty)?;
                self.sink.char(&text)?;
            }
            Type::String => {
                let text = self.text(ty)?;
                self.sink.text(&text)?;
            }
            Type::List(_) if ty.is_bytes() => self.bytes(ty)?,
            Type::List(element) => self.list(ty, element)?,
            Type::Tuple(types) => self.tuple(ty, types)?,
            Type::Record(record) => {
                let entries = self.map(ty)?;
                self.record(entries, &record.fields, Noun::Field)?;
            }
            Type::Variant(variant) => self.variant(ty, variant)?,
            Type::Enum(labels) => {
                let label = self.text(ty)?;
                self.sink.label(ty, labels, &label)?;
            }
            Type::Flags(labels) => self.flags(ty, labels)?,
            Type::Option(inner) => self.option(ty, inner)?,
            Type::Result(result) => self.result(ty, result)?,
        }
        self.sink.leave();
        Ok(())
    }

    /// Moves past the tags that say nothing about the value.
    #[inline]
    pub fn untag(&mut self) -> Result<(), Flaw> {
        while self.reader.peek().is_some_and(|first| first >> 5 == Major::Tag as u8) {
            let start = self.reader.position();
            let head = self.reader.read_head()?;
            if !matches!(head.argument, TAG_EMBEDDED | TAG_SELF_DESCRIBED) {
                self.reader.rewind(start);
                break;
            }
        }
        Ok(())
    }

    #[inline]
    fn scalar<T>(&mut self, ty: &Type, of: impl FnOnce(Head) -> Option<T>) -> Result<T, Error> {
        let start = self.reader.position();
        match of(self.reader.read_head()?) {
            Some(value) => Ok(value),
            None => Err(self.mismatch(ty, start)),
        }
    }

    #[inline]
    fn float(&mut self, ty: &Type) -> Result<(), Error> {
        let start = self.reader.position();
        let head = self.reader.read_head()?;
        if let Some(value) = head.float() {
            return self.sink.float(ty, value);
        }
        match head.int().and_then(|int| exact(ty, int)) {
            Some(value) => self.sink.float(ty, value),
            None => Err(self.mismatch(ty, start)),
        }
    }

    /// Reads text; from chunks it is put together, never longer than the input.
    #[inline]
    fn text(&mut self, ty: &Type) -> Result<Cow<'a, str>, Error> {
        let start = self.reader.position();
        let head = self.reader.read_head()?;
        if head.major != Major::Text {
            return Err(self.mismatch(ty, start));
        }
        if !head.is_indefinite() {
            return Ok(Cow::Borrowed(self.utf8(head)?));
        }
        let mut text = String::new();
        while let Some(head) = self.chunk(Major::Text)? {
            text.push_str(self.utf8(head)?);
        }
        Ok(Cow::Owned(text))
    }

    #[inline]
    fn utf8(&mut self, head: Head) -> Result<&'a str, Error> {
        let start = self.reader.position();
        let bytes = self.reader.take(head.argument)?;
        std::str::from_utf8(bytes)
            .map_err(|_| Flaw { at: start, what: "text that is not UTF-8" }.into())
    }

    /// The head of the next chunk of a string of indefinite length; `None` at its end.
    fn chunk(&mut self, major: Major) -> Result<Option<Head>, Error> {
        let start = self.reader.position();
        let head = self.reader.read_head()?;
        if head.is_break() {
            return Ok(None);
        }
        if head.major != major || head.is_indefinite() {
            return Err(Flaw { at: start, what: "a chunk of another kind than its string" }.into());
        }
        Ok(Some(head))
    }

    fn bytes(&mut self, ty: &Type) -> Result<(), Error> {
        let start = self.reader.position();
        let head = self.reader.read_head()?;
        match head.major {
            Major::Bytes if !head.is_indefinite() => {
                let bytes = self.reader.take(head.argument)?;
                self.sink.bytes(bytes)
            }
            Major::Bytes => {
                let open = self.sink.open();
                while let Some(head) = self.chunk(Major::Bytes)? {
                    let bytes = self.reader.take(head.argument)?;
                    self.sink.room(bytes.len())?;
                    self.sink.out.buffer().extend_from_slice(bytes);
                }
                self.sink.close(open, Major::Bytes, self.sink.out.len() - open - 1);
                Ok(())
            }
            Major::Array => {
                let open = self.sink.open();
                let mut left = Left::of(&self.reader, head, 1)?;
                while let Some(index) = left.next(&mut self.reader)? {
                    self.untag()?;
                    let byte = self.scalar(&Type::U8, |head| {
                        head.int().and_then(|int| u8::try_from(int).ok())
                    });
                    let byte = byte.map_err(|error| error.at(index))?;
                    self.sink.room(1)?;
                    self.sink.out.buffer().push(byte);
                }
                self.sink.close(open, Major::Bytes, self.sink.out.len() - open - 1);
                Ok(())
            }
            _ => Err(self.mismatch(ty, start)),
        }
    }

    fn list(&mut self, ty: &Type, element: &'t Type) -> Result<(), Error> {
        let mut left = self.array(ty)?;
        let open = match left {
            Left::Items { end, .. } => {
                self.sink.count(end)?;
                self.sink.out.array(end);
                None
            }
            Left::UntilBreak { .. } => Some(self.sink.open()),
        };
        while let Some(index) = left.next(&mut self.reader)? {
            self.value(element).map_err(|error| error.at(index))?;
        }
        if let Some(open) = open {
            self.sink.close(open, Major::Array, left.done());
        }
        Ok(())
    }

    fn tuple(&mut self, ty: &Type, types: &'t [Type]) -> Result<(), Error> {
        let start = self.reader.position();
        let mut left = self.array(ty)?;
        self.sink.out.array(types.len());
        for (index, part) in types.iter().enumerate() {
            if left.next(&mut self.reader)?.is_none() {
                return Err(self.mismatch(ty, start));
            }
            self.value(part).map_err(|error| error.at(index))?;
        }
        if left.next(&mut self.reader)?.is_some() {
            return Err(self.mismatch(ty, start));
        }
        Ok(())
    }

    /// Reads the entries of a map as a record, or as arguments by name.
    pub fn record(&mut self, mut left: Left, fields: &'t [Field], noun: Noun) -> Result<(), Error> {
        let mut record = self.sink.open_record(fields, noun);
        while left.next(&mut self.reader)?.is_some() {
            let key = self.text(&Type::String)?;
            let field = self.sink.find_field(&record, &key)?;
            self.sink.key(&mut record, field)?;
            self.value(&fields[field].ty).map_err(|error| error.within(&fields[field].name))?;
        }
        self.sink.close_record(&record)
    }

    fn variant(&mut self, ty: &Type, variant: &'t Variant) -> Result<(), Error> {
        let start = self.reader.position();
        let mut left = self.members(Major::Map)?;
        if let Some(left) = &mut left
            && left.next(&mut self.reader)?.is_none()
        {
            return Err(self.mismatch(ty, start));
        }
        let label = self.text(ty)?;
        let Some(at) = self.sink.names.find(&variant.cases, &label) else {
            return Err(Error::unknown_label(ty, &label, nearest(&variant.cases, &label)));
        };
        let case = &variant.cases[at];
        match (&case.ty, left) {
            (None, None) => self.sink.text(&case.name),
            (Some(payload), Some(mut left)) => {
                self.sink.out.map(1);
                self.sink.text(&case.name)?;
                self.value(payload).map_err(|error| error.within(&case.name))?;
                self.end(&mut left, ty, start)
            }
            (None, Some(_)) => {
                Err(Error::expected(format!("{} without a payload", quoted(&case.name)), "a map"))
            }
            (Some(payload), None) => Err(Error::expected(
                format!("{{{}: {payload}}}", quoted(&case.name)),
                quoted(&label),
            )),
        }
    }

    fn flags(&mut self, ty: &Type, labels: &'t Labels) -> Result<(), Error> {
        let mut left = self.array(ty)?;
        let mut chosen = Vec::new();
        while let Some(index) = left.next(&mut self.reader)? {
            let label = self.text(ty).and_then(|label| self.sink.flag(ty, labels, &label));
            chosen.push(label.map_err(|error| error.at(index))?);
            // One more than there are is enough to know that one came twice.
            if chosen.len() > labels.labels.len() {
                break;
            }
        }
        self.sink.flags(labels, &mut chosen)
    }

    fn option(&mut self, ty: &'t Type, inner: &'t Type) -> Result<(), Error> {
        if self.reader.at_null() {
            self.reader.read_null()?;
            self.sink.out.null();
            return Ok(());
        }
        if !matches!(inner, Type::Option(_)) {
            return self.value(inner);
        }
        let start = self.reader.position();
        let mut left = self.array(ty)?;
        if left.next(&mut self.reader)?.is_none() {
            return Err(self.mismatch(ty, start));
        }
        self.sink.out.array(1);
        self.value(inner)?;
        self.end(&mut left, ty, start)
    }

    fn result(&mut self, ty: &Type, result: &'t ResultType) -> Result<(), Error> {
        let start = self.reader.position();
        let mut left = self.map(ty)?;
        if left.next(&mut self.reader)?.is_none() {
            return Err(self.mismatch(ty, start));
        }
        let label = self.text(ty)?;
        let payload = match &*label {
            "ok" => &result.ok,
            "err" => &result.err,
            _ => return Err(self.mismatch(ty, start)),
        };
        self.sink.out.map(1);
        self.sink.out.text(&label);
        match payload {
            Some(payload) => self.value(payload).map_err(|error| error.within(&label))?,
            None if self.reader.at_null() => {
                self.reader.read_null()?;
                self.sink.out.null();
            }
            None => {
                let got = describe(&self.reader);
                return Err(Error::expected("null, as it has no type", got).within(&label));
            }
        }
        self.end(&mut left, ty, start)
    }

    /// Checks that the array or map that began at `start` has no further member.
    fn end(&mut self, left: &mut Left, ty: &Type, start: usize) -> Result<(), Error> {
        if left.next(&mut self.reader)?.is_none() { Ok(()) } else { Err(self.mismatch(ty, start)) }
    }

    #[inline]
    fn array(&mut self, ty: &Type) -> Result<Left, Error> {
        match self.members(Major::Array)? {
            Some(left) => Ok(left),
            None => Err(self.mismatch(ty, self.reader.position())),
        }
    }

    #[inline]
    fn map(&mut self, ty: &Type) -> Result<Left, Error> {
        match self.members(Major::Map)? {
            Some(left) => Ok(left),
            None => Err(self.mismatch(ty, self.reader.position())),
        }
    }

    /// Moves past the head of an array or map; `None`, and no move, if something else comes.
    #[inline]
    pub fn members(&mut self, major: Major) -> Result<Option<Left>, Error> {
        let start = self.reader.position();
        let head = self.reader.read_head()?;
        if head.major != major {
            self.reader.rewind(start);
            return Ok(None);
        }
        let each = if major == Major::Map { 2 } else { 1 };
        Ok(Some(Left::of(&self.reader, head, each)?))
    }

    /// The item at `start` is not what `ty` needs.
    #[cold]
    pub fn mismatch(&self, ty: &Type, start: usize) -> Error {
        let mut reader = self.reader.clone();
        reader.rewind(start);
        Error::mismatch(ty, describe(&reader))
    }
}

/// How much of an array or map is still to come.
#[derive(Debug, Clone, Copy)]
pub(in crate::value) enum Left {
    Items { done: usize, end: usize },
    UntilBreak { done: usize },
}

impl Left {
    /// After the head of an array or map whose members take `each` bytes at least.
    #[inline]
    fn of(reader: &Reader<'_>, head: Head, each: usize) -> Result<Self, Flaw> {
        if head.is_indefinite() {
            return Ok(Left::UntilBreak { done: 0 });
        }
        if head.argument > (reader.rest().len() / each) as u64 {
            return Err(reader.flaw("a length beyond the end of the input"));
        }
        Ok(Left::Items { done: 0, end: head.argument as usize })
    }

    /// The index of the next member, or `None` at the end, which is then behind the reader.
    #[inline]
    pub fn next(&mut self, reader: &mut Reader<'_>) -> Result<Option<usize>, Flaw> {
        match self {
            Left::Items { done, end } if done == end => Ok(None),
            Left::UntilBreak { .. } if reader.peek() == Some(0xff) => {
                reader.read_head().map(|_| None)
            }
            Left::Items { done, .. } | Left::UntilBreak { done } => {
                *done += 1;
                Ok(Some(*done - 1))
            }
        }
    }

    /// How many there are in all, where that was said.
    pub fn end(self) -> Option<usize> {
        match self {
            Left::Items { end, .. } => Some(end),
            Left::UntilBreak { .. } => None,
        }
    }

    fn done(self) -> usize {
        match self {
            Left::Items { done, .. } | Left::UntilBreak { done } => done,
        }
    }
}

/// The float that is exactly this integer, if `ty` has it.
fn exact(ty: &Type, int: i128) -> Option<f64> {
    let float = int as f64;
    #[expect(clippy::cast_possible_truncation, reason = "whether it is exact is the question")]
    let same = float as i128 == int && (*ty == Type::F64 || f64::from(float as f32) == float);
    same.then_some(float)
}

/// A short rendering of the item that comes next.
#[cold]
pub(in crate::value) fn describe(reader: &Reader<'_>) -> String {
    let mut after = reader.clone();
    let Ok(head) = after.read_head() else { return "malformed CBOR".to_owned() };
    let members = |what: &str| match head.is_indefinite() {
        true => format!("{what} of indefinite length"),
        false => format!("{what} of {}", head.argument),
    };
    match head.major {
        Major::Unsigned | Major::Negative => head.int().unwrap_or_default().to_string(),
        Major::Bytes if head.is_indefinite() => members("a byte string"),
        Major::Bytes => format!("a byte string of {} bytes", head.argument),
        Major::Text => match reader.clone().read_text() {
            Ok(text) => quoted(text),
            Err(_) => "text".to_owned(),
        },
        Major::Array => members("an array"),
        Major::Map => members("a map"),
        Major::Tag => format!("the tag {}", head.argument),
        Major::Simple => match (head.float(), head.info) {
            (Some(float), _) => format!("{float:?}"),
            (None, 20) => "false".to_owned(),
            (None, 21) => "true".to_owned(),
            (None, 22) => "null".to_owned(),
            (None, 23) => "undefined".to_owned(),
            (None, Head::INDEFINITE) => "a break".to_owned(),
            (None, _) => format!("the simple value {}", head.argument),
        },
    }
}

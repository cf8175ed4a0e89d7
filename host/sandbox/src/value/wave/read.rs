//! Reads WAVE: a type says what is next, and what comes goes to the output.

use omniq_model::wit::{Field, Labels, ResultType, Type, Variant};

use super::text::Text;
use crate::value::Error;
use crate::value::cbor::Major;
use crate::value::error::{Noun, shown};
use crate::value::names::nearest;
use crate::value::sink::Sink;

/// Reads the whole of `text` as one value of `ty`.
pub(in crate::value) fn read_into<'t>(
    sink: &mut Sink<'t>,
    ty: &'t Type,
    text: &str,
) -> Result<(), Error> {
    let mut wave = Wave { text: Text::new(text), sink };
    wave.value(ty)?;
    match wave.text.peek() {
        None => Ok(()),
        Some(_) => Err(wave.text.unexpected("the end")),
    }
}

/// One pass over WAVE text.
struct Wave<'a, 's, 't> {
    text: Text<'a>,
    sink: &'s mut Sink<'t>,
}

impl<'t> Wave<'_, '_, 't> {
    fn value(&mut self, ty: &'t Type) -> Result<(), Error> {
        self.sink.enter()?;
        self.text.skip_space();
        match ty {
            Type::Bool => match self.text.word() {
                Some("true") => self.sink.out.bool(true),
                Some("false") => self.sink.out.bool(false),
                word => return Err(self.mismatch_before(ty, word)),
            },
            Type::U8
            | Type::U16
            | Type::U32
            | Type::U64
            | Type::S8
            | Type::S16
            | Type::S32
            | Type::S64 => {
                let token = self.text.number();
                match token.and_then(|token| token.parse().ok()) {
                    Some(value) => self.sink.int(ty, value)?,
                    None => return Err(self.mismatch_before(ty, token)),
                }
            }
            Type::F32 | Type::F64 => {
                let token = self.text.number();
                match token.and_then(|token| float(ty, token)) {
                    Some(value) => self.sink.float(ty, value)?,
                    None => return Err(self.mismatch_before(ty, token)),
                }
            }
            Type::Char => {
                let Some(text) = self.text.quoted('\'')? else { return Err(self.mismatch(ty)) };
                self.sink.char(&text)?;
            }
            Type::String if self.text.rest().starts_with("\"\"\"") => {
                let text = self.text.block()?;
                self.sink.text(&text)?;
            }
            Type::String => {
                let Some(text) = self.text.quoted('"')? else { return Err(self.mismatch(ty)) };
                self.sink.text(&text)?;
            }
            Type::List(_) if ty.is_bytes() => self.bytes(ty)?,
            Type::List(element) => self.list(ty, element)?,
            Type::Tuple(types) => self.tuple(ty, types)?,
            Type::Record(record) => self.record(ty, &record.fields)?,
            Type::Variant(variant) => self.variant(ty, variant)?,
            Type::Enum(labels) => {
                let Some(label) = self.text.word() else { return Err(self.mismatch(ty)) };
                self.sink.label(ty, labels, unescaped(label))?;
            }
            Type::Flags(labels) => self.flags(ty, labels)?,
            Type::Option(inner) => self.option(inner)?,
            Type::Result(result) => self.result(ty, result)?,
        }
        self.sink.leave();
        Ok(())
    }

    fn list(&mut self, ty: &Type, element: &'t Type) -> Result<(), Error> {
        self.open('[', ty)?;
        let open = self.sink.open();
        let mut length = 0;
        while self.text.more(length, ']')? {
            self.value(element).map_err(|error| error.at(length))?;
            length += 1;
        }
        self.sink.close(open, Major::Array, length);
        Ok(())
    }

    fn bytes(&mut self, ty: &Type) -> Result<(), Error> {
        self.open('[', ty)?;
        let open = self.sink.open();
        let mut length = 0;
        while self.text.more(length, ']')? {
            let token = self.text.number();
            let number = token.and_then(|token| token.parse::<i128>().ok());
            let Some(byte) = number.and_then(|number| u8::try_from(number).ok()) else {
                return Err(self.mismatch_before(&Type::U8, token).at(length));
            };
            self.sink.room(1)?;
            self.sink.out.buffer().push(byte);
            length += 1;
        }
        self.sink.close(open, Major::Bytes, length);
        Ok(())
    }

    fn tuple(&mut self, ty: &Type, types: &'t [Type]) -> Result<(), Error> {
        let start = self.text.at;
        self.open('(', ty)?;
        self.sink.out.array(types.len());
        for (index, part) in types.iter().enumerate() {
            if !self.text.more(index, ')')? {
                return Err(self.mismatch_at(ty, start));
            }
            self.value(part).map_err(|error| error.at(index))?;
        }
        if self.text.more(types.len(), ')')? { Err(self.mismatch_at(ty, start)) } else { Ok(()) }
    }

    fn record(&mut self, ty: &Type, fields: &'t [Field]) -> Result<(), Error> {
        self.open('{', ty)?;
        let mut record = self.sink.open_record(fields, Noun::Field);
        // A record without fields is written `{:}`, since `{}` is flags; here the type tells.
        if self.text.eat(':') {
            self.text.expect('}')?;
            return self.sink.close_record(&record);
        }
        let mut length = 0;
        while self.text.more(length, '}')? {
            let Some(key) = self.text.word() else {
                return Err(self.text.unexpected("a field's name"));
            };
            let field = self.sink.find_field(&record, unescaped(key))?;
            self.text.expect(':')?;
            self.sink.key(&mut record, field)?;
            self.value(&fields[field].ty).map_err(|error| error.within(&fields[field].name))?;
            length += 1;
        }
        self.sink.close_record(&record)
    }

    fn flags(&mut self, ty: &Type, labels: &'t Labels) -> Result<(), Error> {
        self.open('{', ty)?;
        let mut chosen = Vec::new();
        // One more than there are is enough to know that one came twice.
        while chosen.len() <= labels.labels.len() && self.text.more(chosen.len(), '}')? {
            let Some(label) = self.text.word() else { return Err(self.text.unexpected("a flag")) };
            let flag = self.sink.flag(ty, labels, unescaped(label));
            chosen.push(flag.map_err(|error| error.at(chosen.len()))?);
        }
        self.sink.flags(labels, &mut chosen)
    }

    fn variant(&mut self, ty: &Type, variant: &'t Variant) -> Result<(), Error> {
        let Some(label) = self.text.word().map(unescaped) else { return Err(self.mismatch(ty)) };
        let Some(at) = self.sink.names.find(&variant.cases, label) else {
            return Err(Error::unknown_label(ty, label, nearest(&variant.cases, label)));
        };
        match &variant.cases[at].ty {
            Some(payload) => {
                self.sink.out.map(1);
                self.sink.text(label)?;
                self.payload(label, payload)
            }
            None => {
                self.sink.text(label)?;
                self.no_payload(label)
            }
        }
    }

    fn option(&mut self, inner: &'t Type) -> Result<(), Error> {
        let start = self.text.at;
        match self.text.word() {
            Some("none") => {
                self.sink.out.null();
                return Ok(());
            }
            Some("some") if self.text.peek() == Some('(') => {
                if let Type::Option(_) = inner {
                    self.sink.out.array(1);
                }
                self.text.at += 1;
                self.value(inner)?;
                return self.text.expect(')');
            }
            _ => self.text.at = start,
        }
        // Without `some` it is the value itself, unless that could be meant for another level.
        if matches!(inner, Type::Option(_) | Type::Result(_)) {
            return Err(self.expected(format!("none or some({})", shown(&inner.to_string()))));
        }
        self.value(inner)
    }

    fn result(&mut self, ty: &Type, result: &'t ResultType) -> Result<(), Error> {
        let start = self.text.at;
        let (label, payload) = match self.text.word() {
            Some("ok") => ("ok", &result.ok),
            Some("err") => ("err", &result.err),
            _ => {
                self.text.at = start;
                return match &result.ok {
                    Some(ok) if !matches!(ok, Type::Option(_) | Type::Result(_)) => {
                        self.sink.out.map(1);
                        self.sink.out.text("ok");
                        self.value(ok)
                    }
                    _ => Err(self.mismatch(ty)),
                };
            }
        };
        self.sink.out.map(1);
        self.sink.out.text(label);
        match payload {
            Some(payload) => self.payload(label, payload),
            None => {
                self.sink.out.null();
                self.no_payload(label)
            }
        }
    }

    /// Reads what stands in parentheses behind a label.
    fn payload(&mut self, label: &str, ty: &'t Type) -> Result<(), Error> {
        if !self.text.eat('(') {
            return Err(self.text.unexpected(&format!("`(` and the payload of `{label}`")));
        }
        self.value(ty).map_err(|error| error.within(label))?;
        self.text.expect(')')
    }

    fn no_payload(&mut self, label: &str) -> Result<(), Error> {
        match self.text.peek() {
            Some('(') => {
                Err(Error::expected(format!("{label} without a payload"), format!("{label}(…)")))
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, bracket: char, ty: &Type) -> Result<(), Error> {
        if self.text.eat(bracket) { Ok(()) } else { Err(self.mismatch(ty)) }
    }

    /// What comes next is not of type `ty`.
    #[cold]
    fn mismatch(&mut self, ty: &Type) -> Error {
        let next = self.text.next_token();
        Error::mismatch(ty, next)
    }

    /// What starts at `start` is not of type `ty`.
    #[cold]
    fn mismatch_at(&mut self, ty: &Type, start: usize) -> Error {
        let got = self.text.since(start).trim();
        Error::mismatch(ty, shown(got))
    }

    /// What was just read, or else comes next, is not of type `ty`.
    #[cold]
    fn mismatch_before(&mut self, ty: &Type, read: Option<&str>) -> Error {
        match read {
            Some(token) => Error::mismatch(ty, shown(token)),
            None => self.mismatch(ty),
        }
    }

    #[cold]
    fn expected(&mut self, expected: String) -> Error {
        let next = self.text.next_token();
        Error::expected(expected, next)
    }
}

/// The float of type `ty` nearest to a number of WAVE.
fn float(ty: &Type, token: &str) -> Option<f64> {
    // Straight to the width that is asked for: by way of `f64` a number would be rounded twice.
    let value = if *ty == Type::F32 {
        f64::from(token.parse::<f32>().ok()?)
    } else {
        token.parse().ok()?
    };
    (!value.is_infinite() || token.ends_with("inf")).then_some(value)
}

/// A label without the `%` that keeps it from being a keyword.
fn unescaped(word: &str) -> &str {
    word.strip_prefix('%').unwrap_or(word)
}

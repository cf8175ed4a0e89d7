//! Walks canonical CBOR by its type and prints it: what the writers of JSON and WAVE have in common.

use std::collections::HashMap;
use std::fmt::{Arguments, Write as _};
use std::rc::Rc;

use omniq_model::wit::{Field, Labels, ResultType, Type, Variant};

use super::Error;
use super::cbor::{Flaw, Major, Reader, canonical_order};
use super::names::Names;

/// Adds what is formatted to `out`, without another string in between.
pub(super) fn push(out: &mut String, formatted: Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(formatted);
}

/// How one encoding writes the parts of a value.
pub(super) trait Format {
    /// What stands between two members.
    const SEPARATOR: &'static str;

    /// What stands before and after the members of a tuple.
    const TUPLE: (char, char);

    /// What stands before and after the labels of flags.
    const FLAGS: (char, char);

    fn int(out: &mut String, value: i128);
    /// A float, given with its digits.
    fn float(out: &mut String, value: f64, digits: Arguments<'_>);
    fn char(out: &mut String, text: &str);
    fn text(out: &mut String, text: &str);
    fn bytes(out: &mut String, bytes: &[u8]);
    /// The key of a field and what stands between it and its value.
    fn key(out: &mut String, name: &str);
    fn flag(out: &mut String, label: &str);
    /// An enum's label, or a variant's case without payload.
    fn label(out: &mut String, label: &str);
    /// A variant's case with its payload.
    fn case(
        out: &mut String,
        label: &str,
        payload: impl FnOnce(&mut String) -> Result<(), Error>,
    ) -> Result<(), Error>;
    fn none(out: &mut String);
    /// A present option; `wraps_option` if what is inside is an option again.
    fn some(
        out: &mut String,
        wraps_option: bool,
        inner: impl FnOnce(&mut String) -> Result<(), Error>,
    ) -> Result<(), Error>;
    /// A result's `ok` or `err` with its payload.
    fn side(
        out: &mut String,
        label: &str,
        payload: impl FnOnce(&mut String) -> Result<(), Error>,
    ) -> Result<(), Error>;
    /// A result's `ok` or `err` without payload.
    fn empty_side(out: &mut String, label: &str);
}

/// Prints `canonical`, which is a value of `ty`.
pub(super) fn value<F: Format>(ty: &Type, canonical: &[u8]) -> Result<String, Error> {
    print::<F>(canonical, |printer, out| printer.value::<F>(ty, out))
}

/// Prints a canonical map as a record of `fields`, in the order of `fields`.
pub(super) fn fields<F: Format>(
    fields: &[Field],
    canonical: &[u8],
    brackets: (char, char),
    key: fn(&mut String, &str),
) -> Result<String, Error> {
    print::<F>(canonical, |printer, out| printer.fields::<F>(fields, brackets, key, out))
}

fn print<'c, 't, F: Format>(
    canonical: &'c [u8],
    with: impl FnOnce(&mut Printer<'c, 't>, &mut String) -> Result<(), Error>,
) -> Result<String, Error> {
    let reader = Reader::new(canonical);
    let mut printer = Printer { reader, names: Names::default(), orders: HashMap::new() };
    let mut out = String::with_capacity(canonical.len() + canonical.len() / 2);
    with(&mut printer, &mut out)?;
    printer.reader.finish()?;
    Ok(out)
}

struct Printer<'a, 't> {
    reader: Reader<'a>,
    names: Names<'t>,
    orders: HashMap<usize, Rc<[usize]>>,
}

impl<'t> Printer<'_, 't> {
    fn value<F: Format>(&mut self, ty: &'t Type, out: &mut String) -> Result<(), Error> {
        match ty {
            Type::Bool => out.push_str(if self.reader.read_bool()? { "true" } else { "false" }),
            Type::U8
            | Type::U16
            | Type::U32
            | Type::U64
            | Type::S8
            | Type::S16
            | Type::S32
            | Type::S64 => {
                F::int(out, self.reader.read_int()?);
            }
            // The shortest digits that read back as the same float of the same width.
            Type::F32 => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "canonical CBOR holds nothing wider for f32"
                )]
                let value = self.reader.read_float()? as f32;
                F::float(out, value.into(), format_args!("{value:?}"));
            }
            Type::F64 => {
                let value = self.reader.read_float()?;
                F::float(out, value, format_args!("{value:?}"));
            }
            Type::Char => F::char(out, self.reader.read_text()?),
            Type::String => F::text(out, self.reader.read_text()?),
            Type::List(_) if ty.is_bytes() => F::bytes(out, self.reader.read_bytes()?),
            Type::List(element) => {
                let length = self.reader.read_array()?;
                self.members::<F>(('[', ']'), out, length, |printer, _, out| {
                    printer.value::<F>(element, out)
                })?;
            }
            Type::Tuple(types) => {
                self.array_of(types.len())?;
                self.members::<F>(F::TUPLE, out, types.len(), |printer, index, out| {
                    printer.value::<F>(&types[index], out)
                })?;
            }
            Type::Record(record) => self.fields::<F>(&record.fields, ('{', '}'), F::key, out)?,
            Type::Variant(variant) => self.variant::<F>(variant, out)?,
            Type::Enum(labels) => F::label(out, self.label(labels)?),
            Type::Flags(labels) => {
                let length = self.reader.read_array()?;
                self.members::<F>(F::FLAGS, out, length, |printer, _, out| {
                    F::flag(out, printer.label(labels)?);
                    Ok(())
                })?;
            }
            Type::Option(inner) => self.option::<F>(inner, out)?,
            Type::Result(result) => self.result::<F>(result, out)?,
        }
        Ok(())
    }

    fn members<F: Format>(
        &mut self,
        (open, close): (char, char),
        out: &mut String,
        length: usize,
        mut member: impl FnMut(&mut Self, usize, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(open);
        for index in 0..length {
            if index > 0 {
                out.push_str(F::SEPARATOR);
            }
            member(self, index, out)?;
        }
        out.push(close);
        Ok(())
    }

    /// Prints a map's values in the order of `fields`, although they come in canonical order.
    fn fields<F: Format>(
        &mut self,
        fields: &'t [Field],
        (open, close): (char, char),
        key: fn(&mut String, &str),
        out: &mut String,
    ) -> Result<(), Error> {
        if self.reader.read_map()? != fields.len() {
            return Err(self.flaw("a map of other fields than the type has"));
        }
        let order = self.orders.entry(fields.as_ptr().addr());
        let order = Rc::clone(order.or_insert_with(|| canonical_order(fields).into()));
        let start = out.len();
        let mut spans = vec![(0, 0); fields.len()];
        for &field in &*order {
            if self.reader.read_text()? != fields[field].name {
                return Err(self.flaw("a field out of order"));
            }
            let from = out.len();
            key(out, &fields[field].name);
            self.value::<F>(&fields[field].ty, out)?;
            spans[field] = (from, out.len());
        }
        let printed = out.split_off(start);
        out.push(open);
        for (index, &(from, to)) in spans.iter().enumerate() {
            if index > 0 {
                out.push_str(F::SEPARATOR);
            }
            out.push_str(&printed[from - start..to - start]);
        }
        out.push(close);
        Ok(())
    }

    fn variant<F: Format>(&mut self, variant: &'t Variant, out: &mut String) -> Result<(), Error> {
        let has_payload = self.reader.peek().is_some_and(|first| first >> 5 == Major::Map as u8);
        if has_payload {
            self.map_of_one()?;
        }
        let label = self.reader.read_text()?;
        let case = self.names.find(&variant.cases, label);
        match case.map(|case| (&variant.cases[case].ty, has_payload)) {
            Some((Some(payload), true)) => F::case(out, label, |out| self.value::<F>(payload, out)),
            Some((None, false)) => {
                F::label(out, label);
                Ok(())
            }
            _ => Err(self.flaw("a case that the type does not have")),
        }
    }

    fn option<F: Format>(&mut self, inner: &'t Type, out: &mut String) -> Result<(), Error> {
        if self.reader.at_null() {
            self.reader.read_null()?;
            F::none(out);
            return Ok(());
        }
        let wraps_option = matches!(inner, Type::Option(_));
        if wraps_option {
            self.array_of(1)?;
        }
        F::some(out, wraps_option, |out| self.value::<F>(inner, out))
    }

    fn result<F: Format>(&mut self, result: &'t ResultType, out: &mut String) -> Result<(), Error> {
        self.map_of_one()?;
        let (label, payload) = match self.reader.read_text()? {
            "ok" => ("ok", &result.ok),
            "err" => ("err", &result.err),
            _ => return Err(self.flaw("neither ok nor err")),
        };
        match payload {
            Some(payload) => F::side(out, label, |out| self.value::<F>(payload, out)),
            None => {
                self.reader.read_null()?;
                F::empty_side(out, label);
                Ok(())
            }
        }
    }

    fn label(&mut self, labels: &'t Labels) -> Result<&'t str, Error> {
        let label = self.reader.read_text()?;
        match self.names.find(&labels.labels, label) {
            Some(at) => Ok(&labels.labels[at]),
            None => Err(self.flaw("a label that the type does not have")),
        }
    }

    fn array_of(&mut self, length: usize) -> Result<(), Error> {
        if self.reader.read_array()? == length {
            Ok(())
        } else {
            Err(self.flaw("an array of another length"))
        }
    }

    fn map_of_one(&mut self) -> Result<(), Error> {
        if self.reader.read_map()? == 1 {
            Ok(())
        } else {
            Err(self.flaw("a map that has not one entry"))
        }
    }

    #[cold]
    fn flaw(&self, what: &'static str) -> Error {
        Flaw { at: self.reader.position(), what }.into()
    }
}

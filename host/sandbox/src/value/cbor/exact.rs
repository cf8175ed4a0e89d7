//! Recognises canonical CBOR of a type without copying it.
//!
//! Stored arguments are canonical already, and may be megabytes: all that is left to do with them is to look.

use std::rc::Rc;

use omniq_model::wit::{Field, Labels, Type};

use super::{Head, Major, Reader, Writer, canonical_order};
use crate::value::few::Few;
use crate::value::names::Names;

/// Whether `input` is the canonical map of values for `fields`, of at most `items` values in all.
pub(in crate::value) fn is_canonical_map(fields: &[Field], input: &[u8], items: u64) -> bool {
    let (names, orders) = (Names::default(), Few::default());
    let mut exact = Exact { reader: Reader::new(input), items, names, orders };
    exact.record(fields).is_some() && exact.reader.finish().is_ok()
}

/// One pass over the input; every method gives `None` for what is not exactly as it must be.
struct Exact<'a, 't> {
    reader: Reader<'a>,
    items: u64,
    names: Names<'t>,
    /// The order of the fields of records met so far, by where the fields are.
    orders: Few<*const Field, Rc<[usize]>>,
}

impl<'a, 't> Exact<'a, 't> {
    fn value(&mut self, ty: &'t Type) -> Option<()> {
        self.items = self.items.checked_sub(1)?;
        match ty {
            Type::Bool => self.reader.read_bool().ok().map(|_| ()),
            Type::U8 => self.int(0, u8::MAX.into()),
            Type::U16 => self.int(0, u16::MAX.into()),
            Type::U32 => self.int(0, u32::MAX.into()),
            Type::U64 => self.int(0, u64::MAX.into()),
            Type::S8 => self.int(i8::MIN.into(), i8::MAX.into()),
            Type::S16 => self.int(i16::MIN.into(), i16::MAX.into()),
            Type::S32 => self.int(i32::MIN.into(), i32::MAX.into()),
            Type::S64 => self.int(i64::MIN.into(), i64::MAX.into()),
            Type::F32 | Type::F64 => self.float(*ty == Type::F32),
            Type::Char => {
                let mut text = self.text()?.chars();
                (text.next().is_some() && text.next().is_none()).then_some(())
            }
            Type::String => self.text().map(|_| ()),
            Type::List(_) if ty.is_bytes() => self.bytes(),
            Type::List(element) => {
                let length = self.head(Major::Array)?;
                (0..length).try_for_each(|_| self.value(element))
            }
            Type::Tuple(types) => {
                self.length(Major::Array, types.len())?;
                types.iter().try_for_each(|ty| self.value(ty))
            }
            Type::Record(record) => self.record(&record.fields),
            Type::Variant(variant) => {
                let carries = self.at(Major::Map);
                if carries {
                    self.length(Major::Map, 1)?;
                }
                let label = self.text()?;
                let case = self.names.find(&variant.cases, label)?;
                match (&variant.cases[case].ty, carries) {
                    (Some(ty), true) => self.value(ty),
                    (None, false) => Some(()),
                    _ => None,
                }
            }
            Type::Enum(labels) => {
                let label = self.text()?;
                self.names.find(&labels.labels, label).map(|_| ())
            }
            Type::Flags(labels) => self.flags(labels),
            Type::Option(_) if self.reader.at_null() => self.reader.read_null().ok(),
            Type::Option(inner) => {
                if matches!(**inner, Type::Option(_)) {
                    self.length(Major::Array, 1)?;
                }
                self.value(inner)
            }
            Type::Result(sides) => {
                self.length(Major::Map, 1)?;
                let side = match self.text()? {
                    "ok" => &sides.ok,
                    "err" => &sides.err,
                    _ => return None,
                };
                match side {
                    Some(ty) => self.value(ty),
                    None => self.reader.read_null().ok(),
                }
            }
        }
    }

    fn record(&mut self, fields: &'t [Field]) -> Option<()> {
        self.length(Major::Map, fields.len())?;
        let order = match self.orders.get(fields.as_ptr()) {
            Some(order) => Rc::clone(order),
            None => {
                let order: Rc<[usize]> = canonical_order(fields).into();
                self.orders.insert(fields.as_ptr(), Rc::clone(&order));
                order
            }
        };
        order.iter().try_for_each(|index| {
            let field = &fields[*index];
            (self.text()? == field.name).then_some(())?;
            self.value(&field.ty)
        })
    }

    /// Labels of flags stand in the order of their declaration, each once.
    fn flags(&mut self, labels: &Labels) -> Option<()> {
        let mut known = labels.labels.iter();
        (0..self.head(Major::Array)?).try_for_each(|_| {
            let label = self.text()?;
            known.any(|known| known == label).then_some(())
        })
    }

    fn int(&mut self, least: i128, most: i128) -> Option<()> {
        let head = self.shortest()?;
        let value = head.int()?;
        (least <= value && value <= most).then_some(())
    }

    fn float(&mut self, single: bool) -> Option<()> {
        let start = self.reader.rest();
        let value = self.reader.read_float().ok()?;
        let mut writer = Writer::default();
        if single {
            writer.f32(value as f32);
        } else {
            writer.f64(value);
        }
        let length = start.len() - self.reader.rest().len();
        (writer.as_bytes() == &start[..length]).then_some(())
    }

    fn text(&mut self) -> Option<&'a str> {
        let mut head = self.reader.clone();
        let shortest = is_shortest(head.read_head().ok()?);
        self.reader.read_text().ok().filter(|_| shortest)
    }

    fn bytes(&mut self) -> Option<()> {
        let mut head = self.reader.clone();
        let shortest = is_shortest(head.read_head().ok()?);
        self.reader.read_bytes().ok().filter(|_| shortest).map(|_| ())
    }

    fn at(&self, major: Major) -> bool {
        self.reader.clone().read_head().is_ok_and(|head| head.major == major)
    }

    /// Reads the head of an array or map; gives its length.
    fn head(&mut self, major: Major) -> Option<u64> {
        let head = self.shortest()?;
        (head.major == major).then_some(head.argument)
    }

    fn length(&mut self, major: Major, length: usize) -> Option<()> {
        (self.head(major)? == length as u64).then_some(())
    }

    fn shortest(&mut self) -> Option<Head> {
        self.reader.read_head().ok().filter(|head| is_shortest(*head))
    }
}

/// Whether a head is written in as few bytes as its argument needs (RFC 8949 §4.2.1), and has a definite length.
fn is_shortest(head: Head) -> bool {
    let needed = match head.argument {
        0..=23 => return u64::from(head.info) == head.argument,
        24..=0xff => 24,
        0x100..=0xffff => 25,
        0x1_0000..=0xffff_ffff => 26,
        _ => 27,
    };
    head.info == needed
}

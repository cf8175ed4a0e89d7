//! What a core module costs beside its code and its memories: for the compiler once, and for the host with each instance.
//!
//! The engine keeps globals, function references and the elements of passive segments outside of linear memory, where no
//! limit of a call counts them; and it writes out what sets them up, element by element, as one function. A few kilobytes
//! describe gigabytes of either. The bytes here are those of the engine's own structures, or a little more.

use wasmparser::{ConstExpr, DataKind, ElementItems, ElementKind, Payload, TableInit};

/// What is known of one core module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weight {
    /// What the function that sets up an instance consists of: initial values, elements and data segments.
    pub(super) values: u64,
    /// Bytes that an instance takes, without memories and tables.
    pub(super) bytes: u64,
}

/// A value of the engine: a global, or an element of a passive segment.
const VALUE: u64 = 16;
/// What an import or an export takes, or a function that something refers to: most of these are function references.
const REFERENCE: u64 = 40;
/// A table that is still empty, with what the engine keeps beside it.
const TABLE: u64 = 128;

impl Weight {
    /// Takes in the next part of the module.
    pub(super) fn read(&mut self, payload: &Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    import?;
                    self.bytes += REFERENCE;
                }
            }
            Payload::ExportSection(section) => self.bytes += REFERENCE * u64::from(section.count()),
            Payload::TagSection(section) => self.bytes += VALUE * u64::from(section.count()),
            Payload::TableSection(section) => {
                for table in section.clone() {
                    self.bytes += TABLE;
                    if let TableInit::Expr(value) = table?.init {
                        self.value(&value);
                    }
                }
            }
            Payload::GlobalSection(section) => {
                for global in section.clone() {
                    self.value(&global?.init_expr);
                    self.bytes += VALUE + REFERENCE;
                }
            }
            Payload::ElementSection(section) => {
                for segment in section.clone() {
                    let segment = segment?;
                    let count = match segment.items {
                        ElementItems::Functions(items) => {
                            self.values += u64::from(items.count());
                            items.count()
                        }
                        ElementItems::Expressions(_, items) => {
                            let count = items.count();
                            for item in items {
                                self.value(&item?);
                            }
                            count
                        }
                    };
                    let each = match segment.kind {
                        ElementKind::Passive => VALUE + REFERENCE,
                        ElementKind::Active { .. } | ElementKind::Declared => REFERENCE,
                    };
                    self.bytes += each * u64::from(count);
                }
            }
            Payload::DataSection(section) => {
                for segment in section.clone() {
                    if let DataKind::Active { offset_expr, .. } = segment?.kind {
                        self.value(&offset_expr);
                    }
                    self.bytes += VALUE;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Counts an initial value, a long one as several.
    fn value(&mut self, value: &ConstExpr<'_>) {
        const LONG: u64 = 8;
        self.values += 1 + value.get_binary_reader().bytes_remaining() as u64 / LONG;
    }
}

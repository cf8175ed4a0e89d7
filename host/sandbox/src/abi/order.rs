//! Where a record's fields lie, in the order CBOR has them.
//!
//! Deterministic CBOR sorts a map by its keys' encodings (RFC 8949 §4.2.1): for field names, by length and then by bytes.
//! The order is worked out once for each record type of a call.

use std::sync::Arc;

use wasmtime::component::__internal::ComponentTypes;
use wasmtime::component::__internal::wasmtime_environ::component::TypeRecordIndex;

use crate::value::few::Few;

/// One field of a record.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its position in the declaration.
    pub field: usize,
    /// Its distance from the record's start in a 32-bit memory, in bytes.
    pub offset: usize,
    /// Its distance from the record's start among flattened values.
    pub flat: usize,
}

/// The records met so far.
#[derive(Debug, Default)]
pub struct Orders {
    known: Few<TypeRecordIndex, Arc<[Place]>>,
}

impl Orders {
    /// The fields of a record in the order of their keys.
    pub fn of(&mut self, types: &ComponentTypes, record: TypeRecordIndex) -> Arc<[Place]> {
        if let Some(places) = self.known.get(record) {
            return Arc::clone(places);
        }
        let fields = &types[record].fields;
        let (mut offset, mut flat) = (0, 0);
        let mut places: Vec<Place> = Vec::with_capacity(fields.len());
        for (field, declared) in fields.iter().enumerate() {
            let abi = types.canonical_abi(&declared.ty);
            places.push(Place { field, offset: abi.next_field32_size(&mut offset), flat });
            flat += abi.flat_count(usize::MAX).unwrap_or(usize::MAX / 2);
        }
        places.sort_by_key(|place| {
            let name = &fields[place.field].name;
            (name.len(), name.as_bytes())
        });
        let places: Arc<[Place]> = places.into();
        self.known.insert(record, Arc::clone(&places));
        places
    }
}

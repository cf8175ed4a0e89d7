//! One pass over the bytes: validates all but the functions' code, and keeps the few parts that inspection looks at.
//!
//! Code is validated when it is compiled; skipping it here is what makes reading 20 MB take milliseconds.

use wasmparser::types::Types;
use wasmparser::{
    KnownCustom, Parser, Payload, ProducersSectionReader, ValidPayload, Validator, WasmFeatures,
};

use super::count::{Counter, Most};
use super::error::{Error, shorten};
use super::{Producers, Rules};

/// Compositions add a level each; nobody has this many, and each one costs the validator memory.
const MAX_NESTING: usize = 32;
/// Each one costs the validator some ten microseconds however small it is. Components for Python have about twenty.
const MAX_PARTS: usize = 1000;
/// All that is to be wired up between instances, counted for each of them. Components for Python have some thousand.
const MAX_ITEMS: usize = 200_000;
/// Elements, initial values and data segments of all modules: the compiler keeps some hundred bytes for each. A program in
/// Go has ten thousand data segments for each megabyte, up to the hundred thousand that a module may have.
const MAX_VALUES: usize = 500_000;
/// Bytes of globals, function references and passive elements of all core instances, of which the limits of a call know
/// nothing. Components for Python have about one MiB.
const MAX_STATE: usize = 16 << 20;
/// The custom section in which the SDK keeps the documentation.
const DOCS: &str = "omniq:task";
/// All documentation together may have this many bytes; the rest is ignored.
const MAX_DOCS: usize = 1 << 20;

/// A validated component.
pub(super) struct Component<'a> {
    pub(super) types: Types,
    /// The names of its imports, in order.
    pub(super) imports: Vec<&'a str>,
    /// The names of its exports, in order.
    pub(super) exports: Vec<&'a str>,
    /// The sections with documentation, of the component and of the modules in it.
    pub(super) docs: Vec<&'a [u8]>,
    pub(super) producers: Producers,
}

/// Why bytes are no component.
pub(super) enum Failure {
    /// They need a feature that is off.
    Feature(WasmFeatures),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<wasmparser::Error> for Failure {
    fn from(error: wasmparser::Error) -> Self {
        if let Some(features) = error.missing_wasm_feature() {
            return Self::Feature(features);
        }
        let offset = error.offset();
        // The validator has no kind for it, only these words.
        if error.message().starts_with("unexpected end") {
            return Self::Other(Error::Truncated { offset });
        }
        Self::Other(Error::Invalid { offset, message: shorten(error.message()) })
    }
}

/// Reads and validates a component with these features.
pub(super) fn read<'a>(
    bytes: &'a [u8],
    features: WasmFeatures,
    rules: &Rules,
) -> Result<Component<'a>, Failure> {
    check_header(bytes)?;
    let mut validator = Validator::new_with_features(features);
    let mut parser = Parser::new(0);
    parser.set_features(features);

    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut docs = Vec::new();
    let mut producers = Producers::default();
    let mut types = None;
    let (mut depth, mut parts) = (0, 0);
    let mut counter = Counter::new(Most {
        instances: rules.max_instances,
        items: MAX_ITEMS,
        values: MAX_VALUES,
        bytes: MAX_STATE,
    });
    for payload in parser.parse_all(bytes) {
        let payload = payload?;
        if let ValidPayload::End(all) = validator.payload(&payload)? {
            types = Some(all);
        }
        counter.read(&payload)?;
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                depth += 1;
                parts += 1;
                if parts > MAX_PARTS {
                    return Err(Error::TooManyParts { max: MAX_PARTS }.into());
                }
                if depth > MAX_NESTING {
                    return Err(Error::Nesting { max: MAX_NESTING }.into());
                }
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import?.name.name);
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export?.name.name);
                }
            }
            Payload::CustomSection(section) if section.name() == DOCS => docs.push(section.data()),
            Payload::CustomSection(section) => {
                if let KnownCustom::Producers(section) = section.as_known() {
                    // Nothing depends on it, so that a broken one is as good as none.
                    let _ = add_producers(&mut producers, section);
                }
            }
            _ => {}
        }
    }
    let types = types.ok_or(Error::Truncated { offset: bytes.len() })?;
    let mut room = MAX_DOCS;
    docs.retain(|section| match room.checked_sub(section.len()) {
        Some(rest) => {
            room = rest;
            true
        }
        None => false,
    });
    Ok(Component { types, imports, exports, docs, producers })
}

/// Tells everything that is no component apart by its first bytes.
fn check_header(bytes: &[u8]) -> Result<(), Error> {
    const MAGIC: &[u8] = b"\0asm";
    if bytes.is_empty() {
        return Err(Error::Empty);
    }
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        if MAGIC.starts_with(bytes) {
            return Err(Error::Truncated { offset: bytes.len() });
        }
        return Err(Error::NotWasm { looks_like: looks_like(bytes) });
    };
    let Some(&[a, b, c, d]) = rest.first_chunk::<4>() else {
        return Err(Error::Truncated { offset: bytes.len() });
    };
    match (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])) {
        (0x1, 0) => Err(Error::CoreModule { preview1: uses_preview1(bytes) }),
        (0xd, 1) => Ok(()),
        (version, layer) => Err(Error::Encoding { version, layer }),
    }
}

fn looks_like(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x7f, b'E', b'L', b'F', ..] => "a native program or compiled code",
        [b'M', b'Z', ..] => "a Windows program",
        [0x1f, 0x8b, ..] | [b'P', b'K', 3, 4, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => "an archive",
        [b'#', b'!', ..] => "a script",
        _ if bytes
            .iter()
            .take(64)
            .all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) =>
        {
            "text"
        }
        _ => "some other data",
    }
}

/// Whether a core module imports WASI 0.1.
fn uses_preview1(bytes: &[u8]) -> bool {
    let mut parser = Parser::new(0);
    parser.set_features(WasmFeatures::all());
    let sections = parser.parse_all(bytes).map_while(Result::ok);
    sections
        .take_while(|payload| !matches!(payload, Payload::CodeSectionStart { .. }))
        .filter_map(|payload| match payload {
            Payload::ImportSection(section) => Some(section),
            _ => None,
        })
        .flat_map(|section| section.into_imports())
        .map_while(Result::ok)
        .any(|import| import.module == "wasi_snapshot_preview1")
}

fn add_producers(
    producers: &mut Producers,
    section: ProducersSectionReader<'_>,
) -> wasmparser::Result<()> {
    /// Real components name five or six.
    const MAX: usize = 32;
    for field in section {
        let field = field?;
        let list = match field.name {
            "language" => &mut producers.languages,
            _ => &mut producers.tools,
        };
        for value in field.values {
            let value = value?;
            let text = shorten(format!("{} {}", value.name, value.version).trim());
            if list.len() < MAX && !list.contains(&text) {
                list.push(text);
            }
        }
    }
    Ok(())
}

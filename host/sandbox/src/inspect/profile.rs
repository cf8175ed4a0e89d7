//! Which part of WebAssembly is run: the two profiles, and the features each has.

use serde::{Deserialize, Serialize};
use wasmparser::WasmFeatures;

/// Which features of WebAssembly a component may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// WebAssembly 2.0 with tail calls, several memories, extended constants and relaxed SIMD, and the component
    /// model as WASI 0.2 uses it: what has been in use long enough to be trusted with hostile code. The default.
    #[default]
    Strict,
    /// All of WebAssembly 3.0 except shared memories, and the asynchronous component model on top.
    Full,
}

impl Profile {
    /// The features that components of this profile are validated with; the engine turns on the same ones.
    pub const fn features(self) -> WasmFeatures {
        // Named one by one and not as "the defaults", which grow with every release of the validator.
        let strict = WasmFeatures::WASM2
            .union(WasmFeatures::TAIL_CALL)
            .union(WasmFeatures::MULTI_MEMORY)
            .union(WasmFeatures::EXTENDED_CONST)
            .union(WasmFeatures::RELAXED_SIMD)
            .union(WasmFeatures::COMPONENT_MODEL);
        match self {
            // A marker without a proposal of its own: `externref` and its like need a collector in the host.
            Self::Strict => strict.difference(WasmFeatures::GC_TYPES),
            // Shared memories escape the limits: nobody is asked when they grow.
            Self::Full => strict
                .union(WasmFeatures::WASM3)
                .union(WasmFeatures::CM_ASYNC)
                .difference(WasmFeatures::THREADS),
        }
    }
}

/// What signatures are read with to say where one uses a feature that is off. Proposals that the validator itself is
/// still learning stay out: this runs on bytes that were refused already.
pub(super) const EXPLAINED: WasmFeatures = Profile::Full
    .features()
    .union(WasmFeatures::THREADS)
    .union(WasmFeatures::CM_ERROR_CONTEXT)
    .union(WasmFeatures::CM_FIXED_LENGTH_LISTS)
    .union(WasmFeatures::CM_MAP);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_leaves_out_what_most_advisories_are_about() {
        let strict = Profile::Strict.features();
        for feature in [
            WasmFeatures::GC,
            WasmFeatures::GC_TYPES,
            WasmFeatures::FUNCTION_REFERENCES,
            WasmFeatures::EXCEPTIONS,
            WasmFeatures::MEMORY64,
            WasmFeatures::CM_ASYNC,
        ] {
            assert!(!strict.intersects(feature), "{feature:?}");
            assert!(Profile::Full.features().contains(feature), "{feature:?}");
        }
        assert!(Profile::Full.features().contains(strict));
        assert!(!Profile::Full.features().intersects(WasmFeatures::THREADS));
    }
}

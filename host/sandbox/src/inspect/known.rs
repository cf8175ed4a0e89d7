//! Every interface a task may import, with the versions that are served and the capability it needs.
//!
//! One table for the two sides that must agree: inspection refuses what is not here, and the engine serves all that
//! is. Versions match as Semantic Versioning 2.0 says they are compatible: `0.2` stands for every `0.2.x`, while a
//! pre-release such as `0.2.0-draft` matches itself alone.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::Interface as InterfaceName;

/// What a component can do with an import. A request only: what is not granted is refused when it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Capability {
    /// Nothing that reaches beyond the guest: always there and harmless.
    None,
    /// What the host tells a task about itself, and progress, log lines and output back to it; always there.
    Task,
    /// Standard input, output and error; always there, and captured.
    Stdio,
    /// The time of day, and timers.
    Clock,
    /// Random numbers.
    Random,
    /// Environment variables and arguments.
    Environment,
    /// Files and directories.
    Filesystem,
    /// Sockets and name look-ups.
    Network,
    /// HTTP requests to other hosts.
    Http,
    /// The key-value store.
    KeyValue,
    /// Settings given by whoever runs the task.
    Config,
    /// Log lines through `wasi:logging`.
    Logging,
}

impl Capability {
    /// The name programs match on; the same as in serde.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Task => "task",
            Self::Stdio => "stdio",
            Self::Clock => "clock",
            Self::Random => "random",
            Self::Environment => "environment",
            Self::Filesystem => "filesystem",
            Self::Network => "network",
            Self::Http => "http",
            Self::KeyValue => "key-value",
            Self::Config => "config",
            Self::Logging => "logging",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An interface that is served to tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// The name without a version, such as `wasi:cli/environment`.
    pub name: &'static str,
    /// The versions: `0.2` for every release compatible with it, one with a hyphen for itself alone, and an empty
    /// text for the name without a version.
    pub versions: &'static [&'static str],
    /// What it gives.
    pub capability: Capability,
}

impl Interface {
    /// Whether this version, in full as an import states it, is served.
    pub fn serves(&self, version: Option<&str>) -> bool {
        self.versions.contains(&version.map_or("", track))
    }
}

const fn one(
    name: &'static str,
    versions: &'static [&'static str],
    capability: Capability,
) -> Interface {
    Interface { name, versions, capability }
}

const WASI: &[&str] = &["0.2"];
const OMNIQ: &[&str] = &["0.1"];
// Proposals without a release: the drafts that published toolchains and hosts have settled on.
const CONFIG: &[&str] = &["0.2.0-rc.1", "0.2.0-draft"];
const KEYVALUE: &[&str] = &["0.2.0-draft", "0.2.0-draft2"];
const LOGGING: &[&str] = &["", "0.1.0-draft"];

/// The table.
pub const INTERFACES: &[Interface] = &[
    one("omniq:task/types", OMNIQ, Capability::None),
    one("omniq:task/context", OMNIQ, Capability::Task),
    one("omniq:task/progress", OMNIQ, Capability::Task),
    one("omniq:task/log", OMNIQ, Capability::Task),
    one("omniq:task/output", OMNIQ, Capability::Task),
    one("wasi:io/error", WASI, Capability::None),
    one("wasi:io/poll", WASI, Capability::None),
    one("wasi:io/streams", WASI, Capability::None),
    one("wasi:cli/exit", WASI, Capability::None),
    one("wasi:cli/environment", WASI, Capability::Environment),
    one("wasi:cli/stdin", WASI, Capability::Stdio),
    one("wasi:cli/stdout", WASI, Capability::Stdio),
    one("wasi:cli/stderr", WASI, Capability::Stdio),
    one("wasi:cli/terminal-input", WASI, Capability::Stdio),
    one("wasi:cli/terminal-output", WASI, Capability::Stdio),
    one("wasi:cli/terminal-stdin", WASI, Capability::Stdio),
    one("wasi:cli/terminal-stdout", WASI, Capability::Stdio),
    one("wasi:cli/terminal-stderr", WASI, Capability::Stdio),
    one("wasi:clocks/monotonic-clock", WASI, Capability::Clock),
    one("wasi:clocks/wall-clock", WASI, Capability::Clock),
    one("wasi:random/random", WASI, Capability::Random),
    one("wasi:random/insecure", WASI, Capability::Random),
    one("wasi:random/insecure-seed", WASI, Capability::Random),
    one("wasi:filesystem/types", WASI, Capability::Filesystem),
    one("wasi:filesystem/preopens", WASI, Capability::Filesystem),
    one("wasi:sockets/network", WASI, Capability::Network),
    one("wasi:sockets/instance-network", WASI, Capability::Network),
    one("wasi:sockets/ip-name-lookup", WASI, Capability::Network),
    one("wasi:sockets/tcp", WASI, Capability::Network),
    one("wasi:sockets/tcp-create-socket", WASI, Capability::Network),
    one("wasi:sockets/udp", WASI, Capability::Network),
    one("wasi:sockets/udp-create-socket", WASI, Capability::Network),
    // Builds requests and reads responses; only `outgoing-handler` sends anything.
    one("wasi:http/types", WASI, Capability::None),
    one("wasi:http/outgoing-handler", WASI, Capability::Http),
    one("wasi:config/store", CONFIG, Capability::Config),
    one("wasi:keyvalue/store", KEYVALUE, Capability::KeyValue),
    one("wasi:keyvalue/atomics", KEYVALUE, Capability::KeyValue),
    one("wasi:keyvalue/batch", KEYVALUE, Capability::KeyValue),
    one("wasi:logging/logging", LOGGING, Capability::Logging),
];

/// The entry for an interface's name without its version.
pub fn interface(name: &str) -> Option<&'static Interface> {
    INTERFACES.iter().find(|interface| interface.name == name)
}

/// The entry that serves an import, given its full name such as `wasi:cli/environment@0.2.3`.
pub fn serving(import: &str) -> Option<&'static Interface> {
    let asked = InterfaceName::parse(import);
    interface(asked.name).filter(|interface| interface.serves(asked.version))
}

/// Whether `name`, an import or export with its version, is `base` in a version of `track`.
pub(super) fn is(name: &str, base: &str, versions: &str) -> bool {
    let name = InterfaceName::parse(name);
    name.name == base && name.version.is_some_and(|version| track(version) == versions)
}

/// The part of a version that all versions compatible with it share, as the engine's linker cuts it too.
pub fn track(version: &str) -> &str {
    let version = version.split_once('+').map_or(version, |(version, _build)| version);
    if version.contains('-') {
        return version;
    }
    let mut dots = version.match_indices('.').map(|(at, _)| at);
    match (dots.next(), dots.next()) {
        (Some(first), _) if &version[..first] != "0" => &version[..first],
        (Some(first), Some(second)) if &version[first + 1..second] != "0" => &version[..second],
        _ => version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_cut_to_what_stays_compatible() {
        for (version, expected) in [
            ("0.2.0", "0.2"),
            ("0.2.12", "0.2"),
            ("0.2.12+build-7", "0.2"),
            ("1.4.2", "1"),
            ("12.0.0", "12"),
            ("0.0.3", "0.0.3"),
            ("0.2.0-rc-2023-11-10", "0.2.0-rc-2023-11-10"),
            ("nonsense", "nonsense"),
            ("1", "1"),
            ("", ""),
        ] {
            assert_eq!(track(version), expected, "{version}");
        }
    }

    #[test]
    fn an_import_is_served_in_every_compatible_version_and_no_other() {
        for (import, served) in [
            ("wasi:cli/environment@0.2.0", true),
            ("wasi:cli/environment@0.2.99", true),
            ("wasi:cli/environment@0.3.0", false),
            ("wasi:cli/environment@0.2.0-rc-2023-11-10", false),
            ("wasi:cli/environment", false),
            ("wasi:cli/nothing@0.2.0", false),
            ("wasi:config/store@0.2.0-rc.1", true),
            ("wasi:config/store@0.2.0", false),
            ("wasi:keyvalue/store@0.2.0-draft2", true),
            ("wasi:logging/logging", true),
            ("wasi:logging/logging@0.1.0-draft", true),
            ("omniq:task/log@0.1.7", true),
            ("omniq:task/log@0.2.0", false),
            ("", false),
        ] {
            assert_eq!(serving(import).is_some(), served, "{import}");
        }
    }

    #[test]
    fn the_table_names_each_interface_once_and_in_full() {
        for (index, interface) in INTERFACES.iter().enumerate() {
            assert!(!interface.versions.is_empty(), "{}", interface.name);
            assert!(
                INTERFACES[..index].iter().all(|other| other.name != interface.name),
                "{} stands twice",
                interface.name
            );
            for version in interface.versions {
                assert_eq!(track(version), *version, "{}", interface.name);
            }
        }
    }

    #[test]
    fn a_capability_is_named_as_serde_writes_it() {
        for interface in INTERFACES {
            let written = serde_json::to_value(interface.capability).unwrap();
            assert_eq!(written, interface.capability.name());
        }
    }
}

//! The table of known interfaces and the linker say the same.

use super::{binary, sandbox};
use crate::inspect::known::INTERFACES;

/// An import that another one takes types from.
pub(super) struct Needed {
    pub interface: &'static str,
    pub types: &'static [&'static str],
    pub body: &'static str,
}

const fn taken(
    interface: &'static str,
    name: &'static [&'static str],
    body: &'static str,
) -> Needed {
    Needed { interface, types: name, body }
}

const ERROR: Needed =
    taken("wasi:io/error", &["error"], r#"(export "error" (type (sub resource)))"#);
const POLLABLE: Needed =
    taken("wasi:io/poll", &["pollable"], r#"(export "pollable" (type (sub resource)))"#);
pub(super) const STREAMS: Needed = taken(
    "wasi:io/streams",
    &["input-stream", "output-stream"],
    r#"(export "input-stream" (type (sub resource))) (export "output-stream" (type (sub resource)))"#,
);
const TERMINAL_IN: Needed = taken(
    "wasi:cli/terminal-input",
    &["terminal-input"],
    r#"(export "terminal-input" (type (sub resource)))"#,
);
const TERMINAL_OUT: Needed = taken(
    "wasi:cli/terminal-output",
    &["terminal-output"],
    r#"(export "terminal-output" (type (sub resource)))"#,
);
const DESCRIPTOR: Needed = taken(
    "wasi:filesystem/types",
    &["descriptor"],
    r#"(export "descriptor" (type (sub resource)))"#,
);
pub(super) const NETWORK: Needed = taken(
    "wasi:sockets/network",
    &["network", "error-code", "ip-address-family"],
    r#"(export "network" (type (sub resource)))
       (type $error (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
         "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
         "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused" "connection-reset"
         "connection-aborted" "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
         "permanent-resolver-failure"))
       (export "error-code" (type (eq $error)))
       (type $family (enum "ipv4" "ipv6"))
       (export "ip-address-family" (type (eq $family)))"#,
);
const TCP: Needed =
    taken("wasi:sockets/tcp", &["tcp-socket"], r#"(export "tcp-socket" (type (sub resource)))"#);
const UDP: Needed =
    taken("wasi:sockets/udp", &["udp-socket"], r#"(export "udp-socket" (type (sub resource)))"#);
pub(super) const HTTP: Needed = taken(
    "wasi:http/types",
    &["outgoing-request", "request-options", "future-incoming-response", "error-code"],
    r#"(export "outgoing-request" (type $request (sub resource)))
       (export "request-options" (type (sub resource)))
       (export "future-incoming-response" (type $future (sub resource)))
       (type $dns (record (field "rcode" (option string)) (field "info-code" (option u16))))
       (export "DNS-error-payload" (type $d (eq $dns)))
       (type $tls (record (field "alert-id" (option u8)) (field "alert-message" (option string))))
       (export "TLS-alert-received-payload" (type $t (eq $tls)))
       (type $size (record (field "field-name" (option string)) (field "field-size" (option u32))))
       (export "field-size-payload" (type $s (eq $size)))
       (type $error (variant (case "DNS-timeout") (case "DNS-error" $d) (case "destination-not-found")
         (case "destination-unavailable") (case "destination-IP-prohibited") (case "destination-IP-unroutable")
         (case "connection-refused") (case "connection-terminated") (case "connection-timeout")
         (case "connection-read-timeout") (case "connection-write-timeout") (case "connection-limit-reached")
         (case "TLS-protocol-error") (case "TLS-certificate-error") (case "TLS-alert-received" $t)
         (case "HTTP-request-denied") (case "HTTP-request-length-required") (case "HTTP-request-body-size" (option u64))
         (case "HTTP-request-method-invalid") (case "HTTP-request-URI-invalid") (case "HTTP-request-URI-too-long")
         (case "HTTP-request-header-section-size" (option u32)) (case "HTTP-request-header-size" (option $s))
         (case "HTTP-request-trailer-section-size" (option u32)) (case "HTTP-request-trailer-size" $s)
         (case "HTTP-response-incomplete") (case "HTTP-response-header-section-size" (option u32))
         (case "HTTP-response-header-size" $s) (case "HTTP-response-body-size" (option u64))
         (case "HTTP-response-trailer-section-size" (option u32)) (case "HTTP-response-trailer-size" $s)
         (case "HTTP-response-transfer-coding" (option string)) (case "HTTP-response-content-coding" (option string))
         (case "HTTP-response-timeout") (case "HTTP-upgrade-failed") (case "HTTP-protocol-error")
         (case "loop-detected") (case "configuration-error") (case "internal-error" (option string))))
       (export "error-code" (type $error-code (eq $error)))"#,
);
const BUCKET: Needed = taken(
    "wasi:keyvalue/store",
    &["bucket", "error"],
    r#"(export "bucket" (type (sub resource)))
       (type $e (variant (case "no-such-store") (case "access-denied") (case "other" string)))
       (export "error" (type (eq $e)))"#,
);
pub(super) const PAYLOAD: Needed = taken(
    "omniq:task/types",
    &["payload", "denial"],
    r#"(type $p (record (field "media-type" string) (field "body" (list u8))))
       (export "payload" (type (eq $p)))
       (type $d (variant (case "not-granted" string) (case "over-quota" string) (case "bad-argument" string)
         (case "unavailable" string) (case "other" string)))
       (export "denial" (type (eq $d)))"#,
);

/// One function of each interface, or what else of it a host must serve.
fn row(interface: &str, version: &str) -> (Vec<&'static Needed>, String) {
    let (needed, body): (&[&'static Needed], &str) = match interface {
        "omniq:task/types" => (&[], r#"(type $id string) (export "task-id" (type (eq $id)))"#),
        "omniq:task/context" => (&[], r#"(export "remaining" (func (result (option u64))))"#),
        "omniq:task/progress" => {
            (&[&PAYLOAD], r#"(export "last-cursor" (func (result (option $payload))))"#)
        }
        "omniq:task/log" => (
            &[],
            r#"(type $l (enum "trace" "debug" "info" "warn" "error"))
               (export "level" (type $level (eq $l)))
               (export "emit" (func (param "level" $level) (param "message" string)
                 (param "fields" (list (tuple string string)))))"#,
        ),
        "omniq:task/output" => (
            &[&PAYLOAD],
            r#"(export "write" (func (param "bytes" (list u8)) (result (result (error $denial)))))"#,
        ),
        "wasi:io/error" => (
            &[],
            r#"(export "error" (type $error (sub resource)))
               (export "[method]error.to-debug-string" (func (param "self" (borrow $error)) (result string)))"#,
        ),
        "wasi:io/poll" => (
            &[],
            r#"(export "pollable" (type $pollable (sub resource)))
               (export "[method]pollable.block" (func (param "self" (borrow $pollable))))"#,
        ),
        "wasi:io/streams" => (
            &[&ERROR, &POLLABLE],
            r#"(export "input-stream" (type $stream (sub resource)))
               (export "[method]input-stream.subscribe" (func (param "self" (borrow $stream)) (result (own $pollable))))"#,
        ),
        "wasi:cli/exit" => (&[], r#"(export "exit" (func (param "status" (result))))"#),
        "wasi:cli/environment" => {
            (&[], r#"(export "get-arguments" (func (result (list string))))"#)
        }
        "wasi:cli/stdin" => {
            (&[&STREAMS], r#"(export "get-stdin" (func (result (own $input-stream))))"#)
        }
        "wasi:cli/stdout" => {
            (&[&STREAMS], r#"(export "get-stdout" (func (result (own $output-stream))))"#)
        }
        "wasi:cli/stderr" => {
            (&[&STREAMS], r#"(export "get-stderr" (func (result (own $output-stream))))"#)
        }
        "wasi:cli/terminal-input" => (&[], TERMINAL_IN.body),
        "wasi:cli/terminal-output" => (&[], TERMINAL_OUT.body),
        "wasi:cli/terminal-stdin" => (
            &[&TERMINAL_IN],
            r#"(export "get-terminal-stdin" (func (result (option (own $terminal-input)))))"#,
        ),
        "wasi:cli/terminal-stdout" => (
            &[&TERMINAL_OUT],
            r#"(export "get-terminal-stdout" (func (result (option (own $terminal-output)))))"#,
        ),
        "wasi:cli/terminal-stderr" => (
            &[&TERMINAL_OUT],
            r#"(export "get-terminal-stderr" (func (result (option (own $terminal-output)))))"#,
        ),
        "wasi:clocks/monotonic-clock" => (
            &[&POLLABLE],
            r#"(export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))"#,
        ),
        "wasi:clocks/wall-clock" => (
            &[],
            r#"(type $t (record (field "seconds" u64) (field "nanoseconds" u32)))
               (export "datetime" (type $datetime (eq $t)))
               (export "now" (func (result $datetime)))"#,
        ),
        "wasi:random/random" => {
            (&[], r#"(export "get-random-bytes" (func (param "len" u64) (result (list u8))))"#)
        }
        "wasi:random/insecure" => {
            (&[], r#"(export "get-insecure-random-u64" (func (result u64)))"#)
        }
        "wasi:random/insecure-seed" => {
            (&[], r#"(export "insecure-seed" (func (result (tuple u64 u64))))"#)
        }
        "wasi:filesystem/types" => (
            &[],
            r#"(export "descriptor" (type $file (sub resource)))
               (export "[method]descriptor.is-same-object"
                 (func (param "self" (borrow $file)) (param "other" (borrow $file)) (result bool)))"#,
        ),
        "wasi:filesystem/preopens" => (
            &[&DESCRIPTOR],
            r#"(export "get-directories" (func (result (list (tuple (own $descriptor) string)))))"#,
        ),
        // Its only function is behind a gate that no toolchain opens.
        "wasi:sockets/network" => (&[], NETWORK.body),
        "wasi:sockets/instance-network" => {
            (&[&NETWORK], r#"(export "instance-network" (func (result (own $network))))"#)
        }
        "wasi:sockets/ip-name-lookup" => (
            &[&NETWORK],
            r#"(export "resolve-address-stream" (type $stream (sub resource)))
               (export "resolve-addresses" (func (param "network" (borrow $network)) (param "name" string)
                 (result (result (own $stream) (error $error-code)))))"#,
        ),
        "wasi:sockets/tcp" => (
            &[],
            r#"(export "tcp-socket" (type $socket (sub resource)))
               (export "[method]tcp-socket.is-listening" (func (param "self" (borrow $socket)) (result bool)))"#,
        ),
        "wasi:sockets/tcp-create-socket" => (
            &[&NETWORK, &TCP],
            r#"(export "create-tcp-socket" (func (param "address-family" $ip-address-family)
                 (result (result (own $tcp-socket) (error $error-code)))))"#,
        ),
        "wasi:sockets/udp" => (
            &[&POLLABLE],
            r#"(export "udp-socket" (type $socket (sub resource)))
               (export "[method]udp-socket.subscribe" (func (param "self" (borrow $socket)) (result (own $pollable))))"#,
        ),
        "wasi:sockets/udp-create-socket" => (
            &[&NETWORK, &UDP],
            r#"(export "create-udp-socket" (func (param "address-family" $ip-address-family)
                 (result (result (own $udp-socket) (error $error-code)))))"#,
        ),
        "wasi:http/types" => (
            &[],
            r#"(export "fields" (type $fields (sub resource)))
               (export "[constructor]fields" (func (result (own $fields))))"#,
        ),
        "wasi:http/outgoing-handler" => (
            &[&HTTP],
            r#"(export "handle" (func (param "request" (own $outgoing-request))
                 (param "options" (option (own $request-options)))
                 (result (result (own $future-incoming-response) (error $error-code)))))"#,
        ),
        "wasi:config/store" => (
            &[],
            r#"(type $e (variant (case "upstream" string) (case "io" string)))
               (export "error" (type $error (eq $e)))
               (export "get" (func (param "key" string) (result (result (option string) (error $error)))))"#,
        ),
        "wasi:keyvalue/store" => (
            &[],
            r#"(export "bucket" (type $bucket (sub resource)))
               (type $e (variant (case "no-such-store") (case "access-denied") (case "other" string)))
               (export "error" (type $error (eq $e)))
               (export "open" (func (param "identifier" string) (result (result (own $bucket) (error $error)))))"#,
        ),
        "wasi:keyvalue/atomics" if version.ends_with('2') => (
            &[&BUCKET],
            r#"(export "increment" (func (param "bucket" (borrow $bucket)) (param "key" string) (param "delta" s64)
                 (result (result s64 (error $error)))))"#,
        ),
        "wasi:keyvalue/atomics" => (
            &[&BUCKET],
            r#"(export "increment" (func (param "bucket" (borrow $bucket)) (param "key" string) (param "delta" u64)
                 (result (result u64 (error $error)))))"#,
        ),
        "wasi:keyvalue/batch" => (
            &[&BUCKET],
            r#"(export "delete-many" (func (param "bucket" (borrow $bucket)) (param "keys" (list string))
                 (result (result (error $error)))))"#,
        ),
        "wasi:logging/logging" => (
            &[],
            r#"(type $l (enum "trace" "debug" "info" "warn" "error" "critical"))
               (export "level" (type $level (eq $l)))
               (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))"#,
        ),
        other => panic!("`{other}` is known but has no row here"),
    };
    (needed.to_vec(), body.to_owned())
}

/// The text of an import, and of the names its types get.
pub(super) fn import(interface: &str, version: &str, types: &[&str], body: &str) -> String {
    let version = if version.is_empty() { String::new() } else { format!("@{version}") };
    let label = interface.replace([':', '/'], "-");
    let aliases: String = types
        .iter()
        .map(|name| format!("(alias export ${label} \"{name}\" (type ${name}))\n"))
        .collect();
    format!("(import \"{interface}{version}\" (instance ${label} {body}))\n{aliases}")
}

/// A component that imports one function of an interface.
fn importing(interface: &str, version: &str) -> Vec<u8> {
    let (needed, body) = row(interface, version);
    let needed: String = needed
        .iter()
        .map(|needed| import(needed.interface, version, needed.types, needed.body))
        .collect();
    let import = import(interface, version, &[], &body);
    binary(&format!(
        r#"(component {needed} {import}
             (core module $code (func (export "run")))
             (core instance $code (instantiate $code))
             (func (export "run") (canon lift (core func $code "run"))))"#
    ))
}

#[test]
fn everything_known_is_linked_in_every_version_it_is_known_in() {
    for interface in INTERFACES {
        for track in interface.versions {
            let versions = match *track {
                "0.2" => vec!["0.2.0", "0.2.3", "0.2.12"],
                "0.1" => vec!["0.1.0"],
                exact => vec![exact],
            };
            for version in versions {
                let loaded = sandbox().load(&importing(interface.name, version));
                let loaded =
                    loaded.unwrap_or_else(|error| panic!("{}@{version}: {error}", interface.name));
                let imports = &loaded.inspection().imports;
                assert!(
                    imports.iter().any(|import| import.name.starts_with(interface.name)),
                    "{}",
                    interface.name
                );
            }
        }
    }
}

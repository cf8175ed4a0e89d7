//! What a guest gets, and what it is denied, when it uses what it imports.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use omniq_model::Kind;

use super::linked::{HTTP, NETWORK, STREAMS, import};
use super::{Host, guest, run, run_to_end};
use crate::import::http::HttpLimits;
use crate::import::keyvalue::{Bucket, Buckets, MemoryBucket};
use crate::import::task::{Info, Level, LocalTask, Payload, TaskHost};
use crate::{Call, DirGrant, Grants, Limits};

fn granting(grants: Grants) -> Call {
    Call { grants: Arc::new(grants), ..Call::default() }
}

/// Text of a core module's memory at the address 0.
fn data(text: &str) -> String {
    format!("(data (i32.const 0) \"{text}\")")
}

// ---- HTTP

/// A guest that can make a request in its function `run`.
fn http_guest(body: &str) -> Vec<u8> {
    let poll = import(
        "wasi:io/poll",
        "0.2.0",
        &["pollable"],
        r#"(export "pollable" (type $p (sub resource)))
           (export "[method]pollable.block" (func (param "self" (borrow $p))))"#,
    );
    let types = format!(
        r#"{}
           (export "fields" (type $fields (sub resource)))
           (export "incoming-response" (type $response (sub resource)))
           (type $h (variant (case "HTTP") (case "HTTPS") (case "other" string)))
           (export "scheme" (type $scheme (eq $h)))
           (type $m (variant (case "get") (case "head") (case "post") (case "put") (case "delete") (case "connect")
             (case "options") (case "trace") (case "patch") (case "other" string)))
           (export "method" (type $method (eq $m)))
           (export "[constructor]fields" (func (result (own $fields))))
           (export "[constructor]outgoing-request" (func (param "headers" (own $fields)) (result (own $request))))
           (export "[method]outgoing-request.set-method"
             (func (param "self" (borrow $request)) (param "method" $method) (result (result))))
           (export "[method]outgoing-request.set-scheme"
             (func (param "self" (borrow $request)) (param "scheme" (option $scheme)) (result (result))))
           (export "[method]outgoing-request.set-authority"
             (func (param "self" (borrow $request)) (param "authority" (option string)) (result (result))))
           (export "[method]incoming-response.status" (func (param "self" (borrow $response)) (result u16)))
           (export "[method]future-incoming-response.subscribe"
             (func (param "self" (borrow $future)) (result (own $pollable))))
           (export "[method]future-incoming-response.get" (func (param "self" (borrow $future))
             (result (option (result (result (own $response) (error $error-code)))))))"#,
        HTTP.body
    );
    let types = import(HTTP.interface, "0.2.0", HTTP.types, &types);
    let handler = import(
        "wasi:http/outgoing-handler",
        "0.2.0",
        &[],
        r#"(export "handle" (func (param "request" (own $outgoing-request)) (param "options" (option (own $request-options)))
             (result (result (own $future-incoming-response) (error $error-code)))))"#,
    );
    let hosts = [
        ("block", "$wasi-io-poll \"[method]pollable.block\"", "(param i32)"),
        ("fields", "$wasi-http-types \"[constructor]fields\"", "(result i32)"),
        (
            "request",
            "$wasi-http-types \"[constructor]outgoing-request\"",
            "(param i32) (result i32)",
        ),
        (
            "method",
            "$wasi-http-types \"[method]outgoing-request.set-method\"",
            "(param i32 i32 i32 i32) (result i32)",
        ),
        (
            "scheme",
            "$wasi-http-types \"[method]outgoing-request.set-scheme\"",
            "(param i32 i32 i32 i32 i32) (result i32)",
        ),
        (
            "authority",
            "$wasi-http-types \"[method]outgoing-request.set-authority\"",
            "(param i32 i32 i32 i32) (result i32)",
        ),
        (
            "status",
            "$wasi-http-types \"[method]incoming-response.status\"",
            "(param i32) (result i32)",
        ),
        (
            "subscribe",
            "$wasi-http-types \"[method]future-incoming-response.subscribe\"",
            "(param i32) (result i32)",
        ),
        ("get", "$wasi-http-types \"[method]future-incoming-response.get\"", "(param i32 i32)"),
        ("handle", "$wasi-http-outgoing-handler \"handle\"", "(param i32 i32 i32 i32)"),
    ];
    let hosts = hosts.map(|(name, func, ty)| Host { name, func, ty });
    guest(&format!("{poll}{types}{handler}"), &hosts, body)
}

/// Asks the host at `authority`, and returns the status of the answer, or 1000 and the number of the error.
fn asking(authority: &str, scheme: u32) -> Vec<u8> {
    let length = authority.len();
    http_guest(&format!(
        r#"{data}
           (func (export "run") (result i32)
             (local $request i32) (local $future i32)
             (local.set $request (call $request (call $fields)))
             (drop (call $scheme (local.get $request) (i32.const 1) (i32.const {scheme}) (i32.const 0) (i32.const 0)))
             (drop (call $authority (local.get $request) (i32.const 1) (i32.const 0) (i32.const {length})))
             (call $handle (local.get $request) (i32.const 0) (i32.const 0) (i32.const 1024))
             (if (i32.load8_u (i32.const 1024)) (then unreachable))
             (local.set $future (i32.load (i32.const 1032)))
             (call $block (call $subscribe (local.get $future)))
             (call $get (local.get $future) (i32.const 2048))
             (if (result i32) (i32.load8_u (i32.const 2064))
               (then (i32.add (i32.const 1000) (i32.load8_u (i32.const 2072))))
               (else (call $status (i32.load (i32.const 2072))))))"#,
        data = data(authority)
    ))
}

const DENIED: u64 = 1015;

#[test]
fn a_request_without_a_grant_is_denied_by_name() {
    let (answer, denials) = run_to_end(&asking("example.com", 1), Call::default());
    assert_eq!(answer, DENIED);
    assert_eq!(denials, ["http: GET https://example.com/"]);
}

#[test]
fn a_granted_request_is_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut head = [0; 512];
        let length = stream.read(&mut head).expect("a request");
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("an answer");
        String::from_utf8_lossy(&head[..length]).into_owned()
    });
    let grants = Grants { http: vec![address.parse().expect("a grant")], ..Grants::default() };
    let (answer, denials) = run_to_end(&asking(&address, 0), granting(grants));
    assert_eq!((answer, denials), (204, Vec::new()));
    let head = server.join().expect("served");
    assert!(
        head.starts_with("GET / HTTP/1.1\r\n") && head.contains(&format!("host: {address}")),
        "{head}"
    );
}

/// A guest that never sends anything must not make the host hold much.
#[test]
fn parts_of_requests_that_are_never_sent_are_bounded() {
    for (length, refused) in [(512, 0), (513, 3)] {
        let guest = http_guest(&format!(
            r#"{data}
               (func (export "run") (result i32)
                 (local $request i32)
                 (local.set $request (call $request (call $fields)))
                 (i32.add
                   (call $method (local.get $request) (i32.const 9) (i32.const 0) (i32.const {length}))
                   (i32.mul (i32.const 2)
                     (call $authority (local.get $request) (i32.const 1) (i32.const 0) (i32.const {length})))))"#,
            data = data(&"a".repeat(length))
        ));
        assert_eq!(run_to_end(&guest, Call::default()).0, refused, "{length}");
    }
}

#[test]
fn header_maps_are_counted() {
    let guest = http_guest(
        r#"(func (export "run") (result i32)
             (loop $again (drop (call $fields)) (br $again))
             unreachable)"#,
    );
    let http = HttpLimits { requests: 2, ..HttpLimits::default() };
    let failure =
        run(&guest, Call { limits: Limits { http, ..Limits::default() }, ..Call::default() })
            .result;
    let failure = failure.expect_err("never ends otherwise");
    assert_eq!(failure.kind, Kind::Handles);
    assert_eq!(failure.message, "the guest made more than 110 header maps for HTTP requests");
}

// ---- key-value

const ERROR: &str = r#"(type $e (variant (case "no-such-store") (case "access-denied") (case "other" string)))
                       (export "error" (type $error (eq $e)))"#;

/// A guest that has a bucket open as `$bucket` when it comes to `body`; without the bucket it returns 1000 and the error.
fn bucket_guest(draft: &str, name: &str, body: &str) -> Vec<u8> {
    let (number, cursor) = if draft == "draft" { ("u64", "u64") } else { ("s64", "string") };
    let version = format!("0.2.0-{draft}");
    let store = import(
        "wasi:keyvalue/store",
        &version,
        &["bucket", "error"],
        &format!(
            r#"{ERROR}
               (export "bucket" (type $b (sub resource)))
               (type $r (record (field "keys" (list string)) (field "cursor" (option {cursor}))))
               (export "key-response" (type $response (eq $r)))
               (export "open" (func (param "identifier" string) (result (result (own $b) (error $error)))))
               (export "[method]bucket.set" (func (param "self" (borrow $b)) (param "key" string)
                 (param "value" (list u8)) (result (result (error $error)))))
               (export "[method]bucket.list-keys" (func (param "self" (borrow $b)) (param "cursor" (option {cursor}))
                 (result (result $response (error $error)))))"#
        ),
    );
    let swap = r#"(export "cas" (type $cas (sub resource)))
                  (type $c (variant (case "store-error" $error) (case "cas-failed" (own $cas))))
                  (export "cas-error" (type $cas-error (eq $c)))
                  (export "[static]cas.new" (func (param "bucket" (borrow $bucket)) (param "key" string)
                    (result (result (own $cas) (error $error)))))
                  (export "swap" (func (param "cas" (own $cas)) (param "value" (list u8))
                    (result (result (error $cas-error)))))"#;
    let atomics = import(
        "wasi:keyvalue/atomics",
        &version,
        &[],
        &format!(
            r#"(export "increment" (func (param "bucket" (borrow $bucket)) (param "key" string) (param "delta" {number})
                 (result (result {number} (error $error)))))
               {}"#,
            if draft == "draft" { "" } else { swap }
        ),
    );
    let mut hosts = vec![
        ("open", "$wasi-keyvalue-store \"open\"", "(param i32 i32 i32)"),
        ("set", "$wasi-keyvalue-store \"[method]bucket.set\"", "(param i32 i32 i32 i32 i32 i32)"),
        ("increment", "$wasi-keyvalue-atomics \"increment\"", "(param i32 i32 i32 i64 i32)"),
    ];
    if draft == "draft" {
        hosts.push((
            "list",
            "$wasi-keyvalue-store \"[method]bucket.list-keys\"",
            "(param i32 i32 i64 i32)",
        ));
    } else {
        hosts.push((
            "list",
            "$wasi-keyvalue-store \"[method]bucket.list-keys\"",
            "(param i32 i32 i32 i32 i32)",
        ));
        hosts.push((
            "cas",
            "$wasi-keyvalue-atomics \"[static]cas.new\"",
            "(param i32 i32 i32 i32)",
        ));
        hosts.push(("swap", "$wasi-keyvalue-atomics \"swap\"", "(param i32 i32 i32 i32)"));
    }
    let hosts: Vec<_> = hosts.into_iter().map(|(name, func, ty)| Host { name, func, ty }).collect();
    let length = name.len();
    let body = format!(
        r#"{data}
           (func (export "run") (result i32)
             (local $bucket i32)
             (call $open (i32.const 0) (i32.const {length}) (i32.const 1024))
             (if (i32.load8_u (i32.const 1024))
               (then (return (i32.add (i32.const 1000) (i32.load8_u (i32.const 1028))))))
             (local.set $bucket (i32.load (i32.const 1028)))
             {body})"#,
        data = data(name)
    );
    guest(&format!("{store}{atomics}"), &hosts, &body)
}

/// Adds 5 to the number under the key that is called like the bucket.
fn counting(draft: &str) -> Vec<u8> {
    bucket_guest(
        draft,
        "hits",
        r#"(call $increment (local.get $bucket) (i32.const 0) (i32.const 4) (i64.const 5) (i32.const 2048))
           (if (i32.load8_u (i32.const 2048)) (then unreachable))
           (i32.load (i32.const 2056))"#,
    )
}

#[test]
fn a_bucket_without_a_grant_is_denied_by_name() {
    let other = Grants {
        keyvalue: Some(Arc::new(Buckets::new().with("other", MemoryBucket::default()))),
        ..Grants::default()
    };
    for grants in [Grants::default(), other] {
        for draft in ["draft", "draft2"] {
            let (answer, denials) = run_to_end(&counting(draft), granting(grants.clone()));
            assert_eq!(answer, 1001, "access-denied");
            assert_eq!(denials, ["key-value: bucket `hits`"]);
        }
    }
}

#[test]
fn a_granted_bucket_is_shared_between_calls_and_drafts() {
    let buckets = Arc::new(Buckets::new().with("hits", MemoryBucket::default()));
    for (draft, expected) in [("draft", 5), ("draft2", 10), ("draft", 15)] {
        let grants = Grants { keyvalue: Some(Arc::clone(&buckets)), ..Grants::default() };
        assert_eq!(run_to_end(&counting(draft), granting(grants)), (expected, Vec::new()));
    }
}

#[tokio::test]
async fn keys_are_listed_page_by_page_in_both_drafts() {
    let bucket = MemoryBucket::default();
    for number in 0..1500 {
        bucket.set(&format!("{number:04}"), Vec::new()).await.expect("fits");
    }
    let grants =
        Grants { keyvalue: Some(Arc::new(Buckets::new().with("b", bucket))), ..Grants::default() };
    // Twice the first page, to see that its cursor is the same place each time; then the rest.
    let first = r#"(call $list (local.get $bucket) (i32.const 0) (i64.const 0) (i32.const 2048))
                   (call $list (local.get $bucket) (i32.const 0) (i64.const 0) (i32.const 2048))"#;
    let draft = bucket_guest(
        "draft",
        "b",
        &format!(
            r#"{first}
               (call $list (local.get $bucket) (i32.load8_u (i32.const 2064)) (i64.load (i32.const 2072)) (i32.const 3072))
               (i32.add (i32.mul (i32.const 10000) (i32.load (i32.const 2060)))
                 (i32.add (i32.mul (i32.const 10) (i32.load (i32.const 3084))) (i32.load8_u (i32.const 3088))))"#
        ),
    );
    let draft2 = bucket_guest(
        "draft2",
        "b",
        r#"(call $list (local.get $bucket) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2048))
           (call $list (local.get $bucket) (i32.load8_u (i32.const 2060)) (i32.load (i32.const 2064))
             (i32.load (i32.const 2068)) (i32.const 3072))
           (i32.add (i32.mul (i32.const 10000) (i32.load (i32.const 2056)))
             (i32.add (i32.mul (i32.const 10) (i32.load (i32.const 3080))) (i32.load8_u (i32.const 3084))))"#,
    );
    for guest in [draft, draft2] {
        let grants = grants.clone();
        let ended = tokio::task::spawn_blocking(move || run_to_end(&guest, granting(grants)));
        assert_eq!(
            ended.await.expect("ends"),
            (10_005_000, Vec::new()),
            "1000 keys, 500 more, no cursor"
        );
    }
}

#[test]
fn a_swap_fails_once_when_the_value_changed() {
    let guest = bucket_guest(
        "draft2",
        "k",
        // The value changes after the handle is made; the handle that comes back with the failure then succeeds.
        r#"(call $cas (local.get $bucket) (i32.const 0) (i32.const 1) (i32.const 2048))
           (if (i32.load8_u (i32.const 2048)) (then unreachable))
           (call $set (local.get $bucket) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 2064))
           (call $swap (i32.load (i32.const 2052)) (i32.const 0) (i32.const 0) (i32.const 2080))
           (if (i32.eqz (i32.load8_u (i32.const 2080))) (then unreachable))
           (if (i32.ne (i32.load8_u (i32.const 2084)) (i32.const 1)) (then unreachable))
           (call $swap (i32.load (i32.const 2088)) (i32.const 0) (i32.const 0) (i32.const 2112))
           (i32.load8_u (i32.const 2112))"#,
    );
    let buckets = Buckets::new().with("k", MemoryBucket::default());
    let grants = Grants { keyvalue: Some(Arc::new(buckets)), ..Grants::default() };
    assert_eq!(run_to_end(&guest, granting(grants)), (0, Vec::new()));
}

// ---- settings and log lines

#[test]
fn a_setting_is_there_or_not_and_neither_is_a_refusal() {
    for version in ["0.2.0-rc.1", "0.2.0-draft"] {
        let store = import(
            "wasi:config/store",
            version,
            &[],
            r#"(type $e (variant (case "upstream" string) (case "io" string)))
               (export "error" (type $error (eq $e)))
               (export "get" (func (param "key" string) (result (result (option string) (error $error)))))
               (export "get-all" (func (result (result (list (tuple string string)) (error $error)))))"#,
        );
        let hosts = [
            Host { name: "get", func: "$wasi-config-store \"get\"", ty: "(param i32 i32 i32)" },
            Host { name: "all", func: "$wasi-config-store \"get-all\"", ty: "(param i32)" },
        ];
        // 1000 if there is one, 100 times its length, and how many there are in all.
        let body = format!(
            r#"{data}
               (func (export "run") (result i32)
                 (call $get (i32.const 0) (i32.const 5) (i32.const 1024))
                 (call $all (i32.const 2048))
                 (i32.add (i32.mul (i32.const 1000) (i32.load8_u (i32.const 1028)))
                   (i32.add (i32.mul (i32.const 100) (i32.load (i32.const 1036))) (i32.load (i32.const 2056)))))"#,
            data = data("color")
        );
        let guest = guest(&store, &hosts, &body);
        assert_eq!(run_to_end(&guest, Call::default()), (0, Vec::new()));
        let config = BTreeMap::from([
            ("color".to_owned(), "red".to_owned()),
            ("size".to_owned(), "9".to_owned()),
        ]);
        let call = granting(Grants { config, ..Grants::default() });
        assert_eq!(run_to_end(&guest, call), (1302, Vec::new()));
    }
}

/// Keeps log lines.
struct Logged(LocalTask, Arc<Mutex<Vec<String>>>);

impl TaskHost for Logged {
    fn info(&self) -> Info {
        self.0.info()
    }

    fn header(&self, name: &str) -> Option<String> {
        self.0.header(name)
    }

    fn report(&mut self, done: u64, total: Option<u64>, note: Option<&str>) {
        self.0.report(done, total, note);
    }

    fn heartbeat(&mut self, cursor: Option<Payload>) {
        self.0.heartbeat(cursor);
    }

    fn last_cursor(&self) -> Option<Payload> {
        self.0.last_cursor()
    }

    fn log(&mut self, level: Level, message: &str, fields: &[(String, String)]) {
        self.1.lock().expect("whole").push(format!("{level:?} {message} {fields:?}"));
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), crate::import::task::Denial> {
        self.0.write(bytes)
    }

    fn media_type(&mut self, media_type: &str) {
        self.0.media_type(media_type);
    }
}

#[test]
fn log_lines_go_to_the_task_s_log_and_are_counted() {
    for version in ["", "0.1.0-draft"] {
        let logging = import(
            "wasi:logging/logging",
            version,
            &[],
            r#"(type $l (enum "trace" "debug" "info" "warn" "error" "critical"))
               (export "level" (type $level (eq $l)))
               (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))"#,
        );
        let hosts = [Host {
            name: "log",
            func: "$wasi-logging-logging \"log\"",
            ty: "(param i32 i32 i32 i32 i32)",
        }];
        let body = format!(
            r#"{data}
               (func (export "run") (result i32)
                 (call $log (i32.const 3) (i32.const 0) (i32.const 2) (i32.const 2) (i32.const 5))
                 (call $log (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 2) (i32.const 5))
                 (i32.const 7))"#,
            data = data("dbhello")
        );
        let guest = guest(&logging, &hosts, &body);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let task = Box::new(Logged(LocalTask::default(), Arc::clone(&lines)));
        assert_eq!(run_to_end(&guest, Call { task, ..Call::default() }).0, 7);
        let lines = std::mem::take(&mut *lines.lock().expect("whole"));
        assert_eq!(lines, [r#"Level::Warn hello [("context", "db")]"#, "Level::Error hello []"]);

        let limits = Limits { log_lines: 1, ..Limits::default() };
        let failure = run(&guest, Call { limits, ..Call::default() }).result.expect_err("too many");
        assert_eq!(failure.kind, Kind::LogLines);
    }
}

// ---- files

/// Opens `path` in the first directory, and returns 0, or 1000 and the number of the error. Without a directory it traps.
fn opening(path: &str, create: bool, times: u32) -> Vec<u8> {
    let codes = "access would-block already bad-descriptor busy deadlock quota exist file-too-large illegal-byte-sequence \
        in-progress interrupted invalid io is-directory loop too-many-links message-size name-too-long no-device no-entry \
        no-lock insufficient-memory insufficient-space not-directory not-empty not-recoverable unsupported no-tty \
        no-such-device overflow not-permitted pipe read-only invalid-seek text-file-busy cross-device";
    let codes: String = codes.split_whitespace().map(|code| format!("\"{code}\" ")).collect();
    let types = import(
        "wasi:filesystem/types",
        "0.2.0",
        &["descriptor"],
        &format!(
            r#"(export "descriptor" (type $file (sub resource)))
               (type $e (enum {codes}))
               (export "error-code" (type $error (eq $e)))
               (type $p (flags "symlink-follow"))
               (export "path-flags" (type $at (eq $p)))
               (type $o (flags "create" "directory" "exclusive" "truncate"))
               (export "open-flags" (type $how (eq $o)))
               (type $d (flags "read" "write" "file-integrity-sync" "data-integrity-sync" "requested-write-sync"
                 "mutate-directory"))
               (export "descriptor-flags" (type $flags (eq $d)))
               (export "[method]descriptor.open-at" (func (param "self" (borrow $file)) (param "path-flags" $at)
                 (param "path" string) (param "open-flags" $how) (param "flags" $flags)
                 (result (result (own $file) (error $error)))))"#
        ),
    );
    let preopens = import(
        "wasi:filesystem/preopens",
        "0.2.0",
        &[],
        r#"(export "get-directories" (func (result (list (tuple (own $descriptor) string)))))"#,
    );
    let hosts = [
        Host {
            name: "open",
            func: "$wasi-filesystem-types \"[method]descriptor.open-at\"",
            ty: "(param i32 i32 i32 i32 i32 i32 i32)",
        },
        Host {
            name: "directories",
            func: "$wasi-filesystem-preopens \"get-directories\"",
            ty: "(param i32)",
        },
    ];
    let (how, flags) = if create { (1, 2) } else { (0, 1) };
    let length = path.len();
    let body = format!(
        r#"{data}
           (func (export "run") (result i32)
             (local $left i32)
             (call $directories (i32.const 1024))
             (if (i32.eqz (i32.load (i32.const 1028))) (then unreachable))
             (local.set $left (i32.const {times}))
             (loop $again
               (call $open (i32.load (i32.load (i32.const 1024))) (i32.const 1) (i32.const 0) (i32.const {length})
                 (i32.const {how}) (i32.const {flags}) (i32.const 2048))
               (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
             (if (result i32) (i32.load8_u (i32.const 2048))
               (then (i32.add (i32.const 1000) (i32.load8_u (i32.const 2052))))
               (else (i32.const 0))))"#,
        data = data(path)
    );
    guest(&format!("{types}{preopens}"), &hosts, &body)
}

fn directory(host: &Path, writable: bool) -> Call {
    let dir = DirGrant { host: host.to_owned(), guest: "/data".to_owned(), writable };
    granting(Grants { dirs: vec![dir], ..Grants::default() })
}

const NOT_PERMITTED: u64 = 1031;
const NO_ENTRY: u64 = 1020;

#[test]
fn a_guest_stays_in_its_directory_and_what_it_tried_is_noted() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("made");
    std::fs::write(folder.path().join("secret"), "s").expect("written");
    std::fs::write(data.join("here"), "h").expect("written");
    std::os::unix::fs::symlink(folder.path().join("secret"), data.join("away")).expect("linked");
    for (path, create, writable, answer, denial) in [
        ("here", false, false, 0, None),
        ("nothing", false, false, NO_ENTRY, None),
        ("../secret", false, false, NOT_PERMITTED, Some("filesystem: read /data/../secret")),
        ("/etc/passwd", false, true, NOT_PERMITTED, Some("filesystem: read /etc/passwd")),
        ("away", false, true, NOT_PERMITTED, Some("filesystem: read /data/away")),
        ("here", true, false, NOT_PERMITTED, Some("filesystem: write /data/here")),
        ("new", true, false, NOT_PERMITTED, Some("filesystem: write /data/new")),
        ("new", true, true, 0, None),
        ("../new", true, true, NOT_PERMITTED, Some("filesystem: write /data/../new")),
    ] {
        let ended = run_to_end(&opening(path, create, 1), directory(&data, writable));
        assert_eq!(
            ended,
            (answer, denial.map(str::to_owned).into_iter().collect()),
            "{path} {create} {writable}"
        );
    }
    assert!(data.join("new").exists() && !folder.path().join("new").exists());
}

#[test]
fn open_files_are_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let failure = run(&opening(".", false, 1000), directory(folder.path(), false))
        .result
        .expect_err("too many");
    assert_eq!(failure.kind, Kind::Handles);
    assert_eq!(failure.message, "the guest has more than 256 files and directories open");
}

#[test]
fn a_guest_that_fails_without_a_directory_gets_a_hint_and_no_blame() {
    let outcome = run(&opening("x", false, 1), Call::default());
    let failure = outcome.result.expect_err("traps");
    assert_eq!(failure.kind, Kind::Trap);
    assert_eq!(failure.hint, Some("the guest looked for files, and no directory is granted to it"));
    assert!(outcome.denials.is_empty());
}

// ---- sockets

/// A guest that can make TCP sockets and look names up.
fn network_guest(body: &str) -> Vec<u8> {
    let network = import(
        NETWORK.interface,
        "0.2.0",
        &["network", "error-code", "ip-address-family", "ip-socket-address"],
        &format!(
            r#"{}
           (type $a4 (tuple u8 u8 u8 u8)) (export "ipv4-address" (type $v4 (eq $a4)))
           (type $a6 (tuple u16 u16 u16 u16 u16 u16 u16 u16)) (export "ipv6-address" (type $v6 (eq $a6)))
           (type $s4 (record (field "port" u16) (field "address" $v4)))
           (export "ipv4-socket-address" (type $socket4 (eq $s4)))
           (type $s6 (record (field "port" u16) (field "flow-info" u32) (field "address" $v6) (field "scope-id" u32)))
           (export "ipv6-socket-address" (type $socket6 (eq $s6)))
           (type $s (variant (case "ipv4" $socket4) (case "ipv6" $socket6)))
           (export "ip-socket-address" (type (eq $s)))"#,
            NETWORK.body
        ),
    );
    let instance = import(
        "wasi:sockets/instance-network",
        "0.2.0",
        &[],
        r#"(export "instance-network" (func (result (own $network))))"#,
    );
    let lookup = import(
        "wasi:sockets/ip-name-lookup",
        "0.2.0",
        &[],
        r#"(export "resolve-address-stream" (type $stream (sub resource)))
           (export "resolve-addresses" (func (param "network" (borrow $network)) (param "name" string)
             (result (result (own $stream) (error $error-code)))))"#,
    );
    let streams = import(STREAMS.interface, "0.2.0", STREAMS.types, STREAMS.body);
    let tcp = import(
        "wasi:sockets/tcp",
        "0.2.0",
        &["tcp-socket"],
        r#"(export "tcp-socket" (type $socket (sub resource)))
           (export "[method]tcp-socket.start-connect" (func (param "self" (borrow $socket))
             (param "network" (borrow $network)) (param "remote-address" $ip-socket-address)
             (result (result (error $error-code)))))
           (export "[method]tcp-socket.finish-connect" (func (param "self" (borrow $socket))
             (result (result (tuple (own $input-stream) (own $output-stream)) (error $error-code)))))"#,
    );
    let create = import(
        "wasi:sockets/tcp-create-socket",
        "0.2.0",
        &[],
        r#"(export "create-tcp-socket" (func (param "address-family" $ip-address-family)
             (result (result (own $tcp-socket) (error $error-code)))))"#,
    );
    let hosts = [
        ("network", "$wasi-sockets-instance-network \"instance-network\"", "(result i32)"),
        (
            "look-up",
            "$wasi-sockets-ip-name-lookup \"resolve-addresses\"",
            "(param i32 i32 i32 i32)",
        ),
        ("create", "$wasi-sockets-tcp-create-socket \"create-tcp-socket\"", "(param i32 i32)"),
        (
            "connect",
            "$wasi-sockets-tcp \"[method]tcp-socket.start-connect\"",
            "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)",
        ),
        ("connected", "$wasi-sockets-tcp \"[method]tcp-socket.finish-connect\"", "(param i32 i32)"),
    ];
    let hosts = hosts.map(|(name, func, ty)| Host { name, func, ty });
    guest(&format!("{network}{instance}{lookup}{streams}{tcp}{create}"), &hosts, body)
}

#[test]
fn names_are_not_looked_up() {
    let guest = network_guest(&format!(
        r#"{data}
           (func (export "run") (result i32)
             (call $look-up (call $network) (i32.const 0) (i32.const 11) (i32.const 1024))
             (i32.add (i32.mul (i32.const 100) (i32.load8_u (i32.const 1024))) (i32.load8_u (i32.const 1028))))"#,
        data = data("example.com")
    ));
    let access_denied = 101;
    assert_eq!(
        run_to_end(&guest, Call::default()),
        (access_denied, vec!["sockets: look up example.com".to_owned()])
    );
}

#[test]
fn a_connection_is_refused_by_its_address() {
    let guest = network_guest(
        r#"(func (export "run") (result i32)
             (call $create (i32.const 0) (i32.const 1024))
             (call $connect (i32.load (i32.const 1028)) (call $network)
               (i32.const 0) (i32.const 443) (i32.const 192) (i32.const 0) (i32.const 2) (i32.const 7)
               (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2048))
             (call $connected (i32.load (i32.const 1028)) (i32.const 3072))
             (i32.add (i32.mul (i32.const 100) (i32.load8_u (i32.const 3072))) (i32.load8_u (i32.const 3076))))"#,
    );
    let access_denied = 101;
    assert_eq!(
        run_to_end(&guest, Call::default()),
        (access_denied, vec!["sockets: connect to 192.0.2.7:443".to_owned()])
    );
}

#[test]
fn sockets_are_counted() {
    let guest = network_guest(
        r#"(func (export "run") (result i32)
             (local $made i32)
             (loop $again
               (call $create (i32.const 0) (i32.const 1024))
               (if (i32.eqz (i32.load8_u (i32.const 1024)))
                 (then (local.set $made (i32.add (local.get $made) (i32.const 1))) (br $again))))
             (i32.add (i32.mul (i32.const 100) (local.get $made)) (i32.load8_u (i32.const 1028))))"#,
    );
    let new_socket_limit = 10;
    assert_eq!(run_to_end(&guest, Call::default()), (1600 + new_socket_limit, Vec::new()));
}

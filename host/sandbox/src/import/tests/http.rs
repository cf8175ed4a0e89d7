//! Guests that send HTTP requests, or only get ready to.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use omniq_model::Kind;

use super::linked::{HTTP, import};
use super::{Host, data, granting, guest, run, run_to_end};
use crate::import::http::HttpLimits;
use crate::{Call, Grants, Limits};

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
           (export "[method]outgoing-request.set-path-with-query"
             (func (param "self" (borrow $request)) (param "path-with-query" (option string)) (result (result))))
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
            "path",
            "$wasi-http-types \"[method]outgoing-request.set-path-with-query\"",
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
fn paths_that_are_never_sent_are_no_longer_than_those_that_are() {
    for (length, refused) in [(8192, 0), (8193, 1)] {
        let guest = http_guest(&format!(
            r#"{data}
               (func (export "run") (result i32)
                 (call $path (call $request (call $fields)) (i32.const 1) (i32.const 0) (i32.const {length})))"#,
            data = data(&format!("/{}", "a".repeat(length - 1)))
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

#[test]
fn a_call_that_ends_takes_its_connections_with_it() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    // Never answers, and ends when the connection does.
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.read_to_end(&mut Vec::new())
    });
    let grants = Grants { http: vec![address.parse().expect("a grant")], ..Grants::default() };
    let limits = Limits { timeout: Duration::from_millis(300), ..Limits::default() };
    let failure = run(&asking(&address, 0), Call { limits, ..granting(grants) }).result;
    assert_eq!(failure.expect_err("waits in vain").kind, Kind::Timeout);
    server.join().expect("served").expect("the connection is over");
}

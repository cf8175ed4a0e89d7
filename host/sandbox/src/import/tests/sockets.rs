//! Guests that try to reach the network.

use super::linked::{NETWORK, STREAMS, import};
use super::{Host, data, guest, run_to_end};
use crate::Call;

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

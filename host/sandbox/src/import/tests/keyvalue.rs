//! Guests that open buckets, through both drafts of the interface.

use std::sync::Arc;

use super::linked::import;
use super::{Host, data, granting, guest, run_to_end};
use crate::Grants;
use crate::import::keyvalue::{Bucket, Buckets, MemoryBucket};

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
             (local $bucket i32) (local $made i32)
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
            assert_eq!(denials, ["key-value: hits"]);
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

#[test]
fn what_handles_for_swaps_hold_is_bounded_and_given_back() {
    // Keys of 200 000 bytes: 83 of them fit into 16 MiB. What one swap gives back is room for one more.
    let guest = bucket_guest(
        "draft2",
        "k",
        r#"(block $full
             (loop $again
               (call $cas (local.get $bucket) (i32.const 60000) (i32.const 200000) (i32.const 2048))
               (br_if $full (i32.load8_u (i32.const 2048)))
               (local.set $made (i32.add (local.get $made) (i32.const 1)))
               (i32.store (i32.const 2112) (i32.load (i32.const 2052)))
               (br_if $again (i32.lt_u (local.get $made) (i32.const 1000)))))
           (call $swap (i32.load (i32.const 2112)) (i32.const 0) (i32.const 0) (i32.const 2080))
           (call $cas (local.get $bucket) (i32.const 60000) (i32.const 200000) (i32.const 2048))
           (if (i32.load8_u (i32.const 2048)) (then unreachable))
           (local.get $made)"#,
    );
    let buckets = Buckets::new().with("k", MemoryBucket::default());
    let grants = Grants { keyvalue: Some(Arc::new(buckets)), ..Grants::default() };
    assert_eq!(run_to_end(&guest, granting(grants)), (83, Vec::new()));
}

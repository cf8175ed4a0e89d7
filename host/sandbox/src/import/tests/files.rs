//! Guests that open files: inside their directory, outside of it, and without one.

use std::path::Path;

use omniq_model::Kind;

use super::linked::{STREAMS, import};
use super::{Host, data, granting, guest, run, run_to_end};
use crate::{Call, Grants};

/// Opens `path` in the first directory, and returns 0, or 1000 and the number of the error. Without a directory it traps.
fn opening(path: &str, create: bool, times: u32) -> Vec<u8> {
    let (how, flags) = if create { (1, 2) } else { (0, 1) };
    let length = path.len();
    opener(&format!(
        r#"{data}
           (func (export "run") (result i32)
             (local $left i32)
             (call $directories (i32.const 16384))
             (if (i32.eqz (i32.load (i32.const 16388))) (then unreachable))
             (local.set $left (i32.const {times}))
             (loop $again
               (call $open (i32.load (i32.load (i32.const 16384))) (i32.const 1) (i32.const 0) (i32.const {length})
                 (i32.const {how}) (i32.const {flags}) (i32.const 20480))
               (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
             (if (result i32) (i32.load8_u (i32.const 20480))
               (then (i32.add (i32.const 1000) (i32.load8_u (i32.const 20484))))
               (else (i32.const 0))))"#,
        data = data(path)
    ))
}

/// Opens `here` in the first directory for reading and writing and then, forever, a stream over it or over the names
/// in the directory, as `function` does; each is dropped if `drops`.
fn streaming(function: &str, drops: bool) -> Vec<u8> {
    let (of, more) = match function {
        "list" => ("(i32.load (i32.load (i32.const 16384)))", ""),
        "append" => ("(local.get $file)", ""),
        _ => ("(local.get $file)", "(i64.const 0)"),
    };
    let drop = match function {
        _ if !drops => "",
        "list" => "(call $drop-list (i32.load (i32.const 20484)))",
        "read" => "(call $drop-read (i32.load (i32.const 20484)))",
        _ => "(call $drop-write (i32.load (i32.const 20484)))",
    };
    opener(&format!(
        r#"{data}
           (func (export "run") (result i32)
             (local $file i32) (local $left i32)
             (call $directories (i32.const 16384))
             (call $open (i32.load (i32.load (i32.const 16384))) (i32.const 1) (i32.const 0) (i32.const 4)
               (i32.const 0) (i32.const 3) (i32.const 20480))
             (if (i32.load8_u (i32.const 20480)) (then unreachable))
             (local.set $file (i32.load (i32.const 20484)))
             (local.set $left (i32.const 1000))
             (loop $again
               (call ${function} {of} {more} (i32.const 20480))
               (if (i32.load8_u (i32.const 20480)) (then unreachable))
               {drop}
               (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
             (i32.const 0))"#,
        data = data("here")
    ))
}

/// A guest that can open files and streams over them.
fn opener(body: &str) -> Vec<u8> {
    let codes = "access would-block already bad-descriptor busy deadlock quota exist file-too-large illegal-byte-sequence \
        in-progress interrupted invalid io is-directory loop too-many-links message-size name-too-long no-device no-entry \
        no-lock insufficient-memory insufficient-space not-directory not-empty not-recoverable unsupported no-tty \
        no-such-device overflow not-permitted pipe read-only invalid-seek text-file-busy cross-device";
    let codes: String = codes.split_whitespace().map(|code| format!("\"{code}\" ")).collect();
    let streams = import(STREAMS.interface, "0.2.0", STREAMS.types, STREAMS.body);
    let types = import(
        "wasi:filesystem/types",
        "0.2.0",
        &["descriptor", "directory-entry-stream"],
        &format!(
            r#"(export "directory-entry-stream" (type $names (sub resource)))
               (export "descriptor" (type $file (sub resource)))
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
                 (result (result (own $file) (error $error)))))
               (export "[method]descriptor.read-via-stream" (func (param "self" (borrow $file)) (param "offset" u64)
                 (result (result (own $input-stream) (error $error)))))
               (export "[method]descriptor.write-via-stream" (func (param "self" (borrow $file)) (param "offset" u64)
                 (result (result (own $output-stream) (error $error)))))
               (export "[method]descriptor.append-via-stream" (func (param "self" (borrow $file))
                 (result (result (own $output-stream) (error $error)))))
               (export "[method]descriptor.read-directory" (func (param "self" (borrow $file))
                 (result (result (own $names) (error $error)))))"#
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
        Host {
            name: "read",
            func: "$wasi-filesystem-types \"[method]descriptor.read-via-stream\"",
            ty: "(param i32 i64 i32)",
        },
        Host {
            name: "write",
            func: "$wasi-filesystem-types \"[method]descriptor.write-via-stream\"",
            ty: "(param i32 i64 i32)",
        },
        Host {
            name: "append",
            func: "$wasi-filesystem-types \"[method]descriptor.append-via-stream\"",
            ty: "(param i32 i32)",
        },
        Host {
            name: "list",
            func: "$wasi-filesystem-types \"[method]descriptor.read-directory\"",
            ty: "(param i32 i32)",
        },
        Host { name: "drop-read", func: "drop $input-stream", ty: "(param i32)" },
        Host { name: "drop-write", func: "drop $output-stream", ty: "(param i32)" },
        Host { name: "drop-list", func: "drop $directory-entry-stream", ty: "(param i32)" },
    ];
    guest(&format!("{streams}{types}{preopens}"), &hosts, body)
}

fn directory(host: &Path, writable: bool) -> Call {
    let mut grants = Grants::default();
    grants.grant_dir(host, "/data", writable).expect("a directory");
    granting(grants)
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
        (
            "../secret",
            false,
            false,
            NOT_PERMITTED,
            Some("read /data/../secret, outside of what is granted"),
        ),
        (
            "/etc/passwd",
            false,
            true,
            NOT_PERMITTED,
            Some("read /etc/passwd, outside of what is granted"),
        ),
        ("away", false, true, NOT_PERMITTED, Some("read /data/away, outside of what is granted")),
        ("here", true, false, NOT_PERMITTED, Some("write /data/here")),
        ("new", true, false, NOT_PERMITTED, Some("write /data/new")),
        ("new", true, true, 0, None),
        (
            "../new",
            true,
            true,
            NOT_PERMITTED,
            Some("write /data/../new, outside of what is granted"),
        ),
    ] {
        let ended = run_to_end(&opening(path, create, 1), directory(&data, writable));
        assert_eq!(
            ended,
            (answer, denial.map(|what| format!("filesystem: {what}")).into_iter().collect()),
            "{path} {create} {writable}"
        );
    }
    assert!(data.join("new").exists() && !folder.path().join("new").exists());
}

/// What lies at the path of a granted directory may change between two calls; the directory stays what was granted.
#[test]
fn a_granted_directory_is_opened_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let [granted, secret] = ["granted", "secret"].map(|name| folder.path().join(name));
    std::fs::create_dir(&granted).expect("made");
    std::fs::create_dir(&secret).expect("made");
    std::fs::write(granted.join("here"), "h").expect("written");
    std::fs::write(secret.join("key"), "s").expect("written");
    let mut grants = Grants::default();
    grants.grant_dir(&granted, "/data", false).expect("a directory");
    let grants = std::sync::Arc::new(grants);
    std::fs::rename(&granted, folder.path().join("away")).expect("renamed");
    std::os::unix::fs::symlink(&secret, &granted).expect("linked");
    for (path, answer) in [("here", 0), ("key", NO_ENTRY)] {
        let call = Call { grants: std::sync::Arc::clone(&grants), ..Call::default() };
        assert_eq!(run_to_end(&opening(path, false, 1), call), (answer, Vec::new()), "{path}");
    }
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
fn streams_are_counted_until_they_are_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("here"), "h").expect("written");
    for function in ["read", "write", "append", "list"] {
        let outcome = run(&streaming(function, false), directory(folder.path(), true));
        let failure = outcome.result.expect_err("too many");
        assert_eq!(failure.kind, Kind::Handles, "{function}: {failure:?}");
        assert_eq!(failure.message, "the guest has more than 256 files and directories open");
        let ended = run_to_end(&streaming(function, true), directory(folder.path(), true));
        assert_eq!(ended, (0, Vec::new()), "{function}");
    }
}

/// A guest that goes from directory to directory must not make the host keep an ever longer path.
#[test]
fn a_path_is_kept_only_so_far() {
    let folder = tempfile::tempdir().expect("a folder");
    let long = format!("{}nothing", "./".repeat(2000));
    let outcome = run(&opening(&long, true, 1), directory(folder.path(), false));
    let denial = &outcome.denials[0];
    assert_eq!(denial.target.chars().count(), 501, "{denial}");
    assert!(denial.target.starts_with("write /data/././"), "{denial}");
}

#[test]
fn a_guest_that_fails_without_a_directory_gets_a_hint_and_no_blame() {
    let outcome = run(&opening("x", false, 1), Call::default());
    let failure = outcome.result.expect_err("traps");
    assert_eq!(failure.kind, Kind::Trap);
    assert_eq!(failure.hint, Some("the guest looked for files, and no directory is granted to it"));
    assert!(outcome.denials.is_empty());
}

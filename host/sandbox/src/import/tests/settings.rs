//! Guests that read settings and write log lines.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use omniq_model::Kind;

use super::linked::import;
use super::{Host, data, granting, guest, run, run_to_end};
use crate::import::task::{Denial, Info, Level, LocalTask, Payload, TaskHost};
use crate::{Call, Grants, Limits};

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

    fn write(&mut self, bytes: &[u8]) -> Result<(), Denial> {
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

//! Workers on the command line: several processes on one queue, how they stop, `dev`, `doctor`.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use omniq_model::{Lane, Pool, Task, TaskId};
use omniq_store::{Options, TaskStore, open_tasks};
use serde_json::json;

use crate::support::built::component;
use crate::support::omniq::wat;
use crate::support::place::Place;

#[test]
fn another_process_runs_what_is_enqueued_and_the_result_comes_back() {
    let place = Place::with_jobs();
    let worker = place.start("worker");
    assert_eq!(place.run("enqueue jobs add 5 10 --wait").says(), "15\n");
    assert_eq!(place.run("enqueue jobs echo hello --wait=60s -o json").says(), "\"hello\"\n");
    let failed = place.run("enqueue jobs find 7 --retries 0 --wait").end();
    assert_eq!(failed.code, 9, "{}", failed.stderr);
    worker.signal("TERM");
    let (code, said) = worker.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("2 tasks succeeded, 1 failed"), "{said}");
}

#[test]
fn whoever_reads_the_log_and_stands_still_stops_no_worker() {
    let place = Place::with_jobs();
    let guest = component("guests", "context.wasm").expect("only other languages are left out");
    place.run(&format!("push {guest}")).end();
    // Nobody reads what it says on stderr: a pipe that is full soon.
    let mut worker = place.run("--log-level info worker --grace 1s").into_command();
    let mut worker = worker.spawn().expect("the binary starts");
    for _ in 0..4 {
        place.enqueue("context log-lines 1000");
    }
    assert_eq!(place.run("enqueue jobs add 5 10 --wait=60s").says(), "15\n");
    let term = Command::new("kill").args(["-s", "TERM", &worker.id().to_string()]).status();
    assert!(term.expect("`kill` is there").success());
    let until = Instant::now() + Duration::from_secs(30);
    let ended = loop {
        match worker.try_wait().expect("it is ours") {
            Some(status) => break status,
            None if Instant::now() > until => {
                worker.kill().expect("it runs");
                panic!("it does not stop");
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    assert!(ended.success(), "{ended}");
}

#[test]
fn several_workers_and_producers_share_one_file() {
    const EACH: usize = 300;
    let place = Place::with_jobs();
    let workers = [place.start("worker"), place.start("worker")];
    let lines: String = (0..EACH).map(|number| format!("[{number}, 1]\n")).collect();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| place.run("enqueue jobs add --ndjson -").stdin(lines.clone()).says());
        }
    });
    let ended = place.run("worker --drain").end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let counts = place.run("task count -o json").end().json();
    assert_eq!(counts["states"]["succeeded"], 3 * EACH, "{counts}");
    assert_eq!(counts["total"], 3 * EACH);
    for worker in workers {
        worker.signal("INT");
        assert_eq!(worker.end().0, 0);
    }
}

#[test]
fn what_a_killed_worker_had_is_run_by_another() {
    let place = Place::with_jobs();
    let id = place.enqueue("jobs spin --fuel 1000T --timeout 1h --retries 0");
    let victim = place.start("--set workers.lease=1s worker");
    wait_for_state(&place, &id, "running");
    victim.kill();
    // Its lease runs out, and the next worker takes the task over: the attempt does not count, the crash does.
    let heir = place.start("--set workers.lease=1s worker");
    loop {
        let task = place.task(&id);
        if task["crashes"] == 1 && task["state"] == "running" {
            assert_eq!(task["attempt"], 1, "{task}");
            break;
        }
        assert!(["running", "ready"].contains(&task["state"].as_str().unwrap()), "{task}");
    }
    assert_eq!(place.omniq(["task", "cancel", &id]).says(), "0 cancelled, 1 asked to stop\n");
    wait_for_state(&place, &id, "cancelled");
    heir.signal("TERM");
    assert_eq!(heir.end().0, 0);
}

/// Asks again and again; each question is a process of its own, so nothing is kept busy.
#[track_caller]
fn wait_for_state(place: &Place, id: &str, state: &str) {
    let begin = std::time::Instant::now();
    while place.task(id)["state"] != state {
        assert!(begin.elapsed().as_secs() < 60, "{}", place.task(id));
    }
}

#[test]
fn a_worker_that_is_told_to_stop_puts_back_what_does_not_end() {
    let place = Place::with_jobs();
    let id = place.enqueue("jobs spin --fuel 1000T --timeout 1h");
    let mut worker = place.start("worker --grace 100ms");
    wait_for_state(&place, &id, "running");
    worker.signal("TERM");
    worker.wait_for("once more to end at once");
    let (code, said) = worker.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("1 put back"), "{said}");
    let task = place.task(&id);
    assert_eq!((&task["state"], &task["attempt"]), (&json!("ready"), &json!(0)), "{task}");

    let mut worker = place.start("worker --grace 1h");
    wait_for_state(&place, &id, "running");
    worker.signal("TERM");
    worker.wait_for("once more to end at once");
    worker.signal("TERM");
    assert_eq!(worker.end().0, 143, "the second signal ends it at once");
}

#[test]
fn whoever_stops_waiting_is_told_the_id() {
    let place = Place::with_jobs();
    let enqueue = place.start("enqueue jobs add 1 2 --wait");
    let id = loop {
        let ids = place.run("task list -o id").says();
        if let Some(id) = ids.lines().next() {
            break id.to_owned();
        }
    };
    let result = place.start(&format!("result {id} --wait"));
    result.wait_until_it_catches_interrupts();
    for waiting in [enqueue, result] {
        waiting.signal("INT");
        let (code, said) = waiting.end();
        assert_eq!(code, 130, "{said}");
        for part in [
            format!("error: stopped waiting; the task `{id}` goes on"),
            format!("hint: `omniq result {id} --wait`"),
        ] {
            assert!(said.contains(&part), "{said}");
        }
    }
    assert_eq!(place.task(&id)["state"], "ready");
}

#[test]
fn a_drain_that_is_stopped_with_work_left_has_failed() {
    let place = Place::with_jobs();
    let id = place.enqueue("jobs spin --fuel 1000T --timeout 1h");
    let worker = place.start("worker --drain --grace 100ms");
    wait_for_state(&place, &id, "running");
    worker.signal("TERM");
    let (code, said) = worker.end();
    assert_eq!(code, 130, "{said}");
    assert!(said.contains("1 put back") && said.contains("; 1 task to go"), "{said}");
    assert_eq!(place.task(&id)["state"], "ready");
}

#[test]
fn a_worker_keeps_to_its_queues() {
    let place = Place::with_jobs();
    let mine = place.enqueue("jobs add 1 2 --queue mine");
    let other = place.enqueue("jobs add 1 2 --queue other");
    assert_eq!(
        place.run("worker --drain --queue mine --slots 2 --pool thread --name w1").end().code,
        0
    );
    assert_eq!(place.task(&mine)["state"], "succeeded");
    assert_eq!(place.task(&other)["state"], "ready");
    let refused = place.run("worker --pool green").end();
    assert_eq!(refused.code, 2, "{}", refused.stderr);
}

#[test]
fn a_worker_whose_log_nobody_reads_any_more_can_be_ended() {
    let place = Place::with_jobs();
    let (_reader, log) = std::io::pipe().unwrap();
    let mut filler = log.try_clone().unwrap();
    let mut worker = place.run("worker").into_command().stderr(log).spawn().unwrap();
    let status = format!("/proc/{}/status", worker.id());
    wait_until("it catches SIGTERM", || {
        let status = fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & 1 << 14 != 0
    });
    let (written, mut before) = (Arc::new(AtomicUsize::new(0)), 0);
    let count = Arc::clone(&written);
    thread::spawn(move || {
        while filler.write(b"x").is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    wait_until("the pipe is full", || {
        let last = std::mem::replace(&mut before, written.load(Ordering::Relaxed));
        last > 0 && last == before
    });
    // The second one ends it at once, whatever the first one came to.
    wait_until("it ends", || {
        let id = worker.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
        worker.try_wait().unwrap().is_some()
    });
}

/// Waits for something that nobody tells of.
#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_drain_waits_for_retries_and_not_for_tomorrow() {
    let place = Place::with_jobs();
    let retried = place.enqueue("jobs broken --retries 1");
    let tomorrow = place.enqueue("jobs add 1 2 --delay 1d");
    let ended = place.run("--set retry.delay=50ms worker --drain").end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let task = place.task(&retried);
    assert_eq!((&task["state"], &task["attempt"]), (&json!("failed"), &json!(2)), "{task}");
    assert_eq!(place.task(&tomorrow)["state"], "scheduled");
    // Nor for what other queues have before long.
    let elsewhere = place.enqueue("jobs add 1 2 --delay 4m --queue other");
    assert_eq!(place.run("worker --drain --queue default").end().code, 0);
    assert_eq!(place.task(&elsewhere)["state"], "scheduled");
}

#[test]
fn a_drain_ends_and_says_what_nobody_can_run() {
    let place = Place::with_jobs();
    let done = place.enqueue("jobs add 1 2");
    let lost = place.enqueue("jobs add 1 2 --delay 1ms --queue other");
    assert_eq!(place.run("worker --drain --queue default").end().code, 0);
    assert_eq!(place.task(&done)["state"], "succeeded");
    place.run("module rm jobs@1").says();
    let ended = place.run("worker --drain").end();
    assert_eq!(ended.code, 8, "{}", ended.stderr);
    let part = "1 task whose module is not there, such as `jobs@";
    assert!(ended.stderr.contains(part) && ended.stderr.contains("hint: push"), "{}", ended.stderr);
    assert_eq!(place.task(&lost)["attempt"], 0);

    let place = Place::with_jobs();
    pause(&place, "media");
    let held = place.enqueue("jobs add 1 2 --queue media");
    let done = place.enqueue("jobs add 1 2");
    let ended = place.run("worker --drain").end();
    assert_eq!(ended.code, 8, "{}", ended.stderr);
    assert!(ended.stderr.contains("left: 1 ready task in paused queues"), "{}", ended.stderr);
    assert_eq!(place.task(&held)["state"], "ready");
    assert_eq!(place.task(&done)["state"], "succeeded");
}

#[test]
fn a_drain_ends_where_a_module_is_damaged_and_a_push_puts_that_right() {
    let place = Place::empty();
    let run = |words: &str| place.run(&format!("--set tasks.url=file:jobs.d {words}"));
    let push = format!("push {} --module-version 1", wat("jobs"));
    run(&push).says();
    let id = run("enqueue jobs add 1 2").says();
    let bytes = place.path("jobs.d/modules/bytes");
    let module = fs::read_dir(bytes).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read_dir(module).unwrap().next().unwrap().unwrap().path();
    // Also where only the record of the module is left.
    let damages: [fn(&PathBuf) -> std::io::Result<()>; 2] =
        [|bytes| fs::write(bytes, "damaged"), |bytes| fs::remove_file(bytes)];
    for damage in damages {
        damage(&bytes).unwrap();
        let ended = run("worker --drain").end();
        assert_eq!(ended.code, 8, "{}", ended.stderr);
        let part = "1 task whose module is damaged in the store, such as `jobs@1`";
        let hint = "hint: push `jobs@1` once more, and drain again";
        assert!(ended.stderr.contains(part) && ended.stderr.contains(hint), "{}", ended.stderr);
    }
    assert!(run(&push).says().ends_with("  unchanged\n"));
    assert_eq!(run("worker --drain").end().code, 0);
    assert_eq!(run(&format!("result {}", id.trim_end())).says(), "3\n");
}

#[test]
fn a_drain_ends_where_a_task_is_for_a_pool_that_is_not_there() {
    let place = Place::with_jobs();
    let done = place.enqueue("jobs add 1 2");
    with_tasks(&place, async |tasks| {
        let info = tasks.get(&[done.parse().unwrap()]).await.unwrap().pop().flatten();
        let mut task = Task::clone(&info.unwrap().task.unwrap());
        (task.id, task.pool) = (TaskId::derived(&[b"elsewhere"]), Some(Pool::Process));
        tasks.enqueue(vec![task]).await.unwrap();
    });
    let ended = place.run("worker --drain").end();
    assert_eq!(ended.code, 8, "{}", ended.stderr);
    let part = "1 task for a pool that this worker does not have, such as `process`";
    assert!(ended.stderr.contains(part), "{}", ended.stderr);
    assert_eq!(place.task(&done)["state"], "succeeded");
}

#[test]
fn an_option_that_cannot_be_is_named() {
    let place = Place::with_jobs();
    for (words, part) in [
        ("worker --threads 100000", "`--threads`"),
        ("worker --slots 1e9", "`--slots`"),
        ("worker --slots=", "'--slots <N>'"),
        ("worker --queue a=b", "'--queue <NAME>': `a=b` is not a name"),
        ("enqueue jobs add 1 2 --queue a=b", "'--queue <NAME>'"),
        ("enqueue jobs add 1 2 --tenant a=b", "'--tenant <NAME>'"),
        ("push a.wat --name a=b", "'--name <NAME>'"),
        ("push a.wat --module-version a=b", "'--module-version <VERSION>'"),
    ] {
        let ended = place.run(words).end();
        assert!(ended.code == 2 && ended.stderr.contains(part), "{words}: {}", ended.stderr);
    }
    fs::copy(wat("jobs"), place.path("a=b.wat")).unwrap();
    let ended = place.run("push a=b.wat").end();
    let hint = "hint: give it one with `--name`";
    assert!(ended.code == 2 && ended.stderr.contains(hint), "{}", ended.stderr);
}

/// Holds a queue back, as a program does that embeds the library.
fn pause(place: &Place, queue: &str) {
    let lane = Lane { queue: queue.parse().expect("it is a name"), ..Lane::default() };
    with_tasks(place, async |tasks| tasks.pause(&lane, true).await.expect("it is paused"));
}

/// Does something with the tasks that no command does.
fn with_tasks(place: &Place, work: impl AsyncFnOnce(&dyn TaskStore)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(async {
        let url = format!("sqlite:{}", place.path(".omniq/omniq.db").display());
        let tasks = open_tasks(&url, &Options::default()).await.expect("tasks open");
        work(&*tasks).await;
        tasks.close().await.expect("tasks close");
    });
}

#[test]
fn dev_pushes_what_changes_and_says_what_to_type() {
    let place = Place::empty();
    let jobs = fs::read_to_string(wat("jobs")).unwrap();
    fs::write(place.path("jobs.wat"), &jobs).unwrap();
    let mut dev = place.start("dev jobs.wat");
    dev.wait_for("module   jobs@dev-");
    dev.wait_for("  omniq enqueue jobs add 1 1 --wait");
    assert_eq!(place.run("enqueue jobs add 1 1 --wait").says(), "2\n");
    // What does not compile is told, and what was there stays.
    fs::write(place.path("jobs.wat"), "(component").unwrap();
    dev.wait_for("warning: jobs.wat: ");
    assert_eq!(place.run("enqueue jobs add 1 1 --wait").says(), "2\n");
    let changed = jobs.replace(
        "i32.add (local.get 0) (local.get 1)))\n",
        "i32.sub (local.get 0) (local.get 1)))\n",
    );
    assert_ne!(changed, jobs);
    fs::write(place.path("jobs.wat"), changed).unwrap();
    dev.wait_for("changed");
    assert_eq!(place.run("enqueue jobs add 1 1 --wait").says(), "0\n");
    fs::write(place.path("jobs.wat"), &jobs).unwrap();
    dev.wait_for("changed");
    assert_eq!(place.run("enqueue jobs add 1 1 --wait").says(), "2\n", "it is as it was before");
    dev.signal("INT");
    assert_eq!(dev.end().0, 0);
    let missing = place.run("dev missing.wat").end();
    assert_eq!(missing.code, 3, "{}", missing.stderr);
}

#[test]
fn doctor_says_what_is_wrong_and_what_to_do() {
    let place = Place::with_jobs();
    let ended = place.run("doctor -o json").end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let checks = ended.json()["checks"].as_array().unwrap().clone();
    for name in [
        "settings",
        "durability",
        "tasks",
        "clocks",
        "modules",
        "results",
        "events",
        "disk",
        "code cache",
        "endless loop",
        "memory bomb",
        "clock",
        "open files",
    ] {
        let check = checks.iter().find(|check| check["name"] == name);
        let check = check.unwrap_or_else(|| panic!("no {name} in {checks:?}"));
        assert_ne!(check["state"], "failed", "{check}");
        assert_ne!(check["why"], "", "{check}");
    }
    fs::write(place.path(".omniq/omniq.db"), "this is no database, and longer than a header is")
        .unwrap();
    let broken = place.run("doctor").end();
    assert_eq!(broken.code, 1, "{}", broken.text());
    let text = broken.text();
    let row = text.lines().find(|line| line.contains("failed")).unwrap();
    assert!(row.contains("omniq.db"), "{row}");
    let wrong = place.run("doctor --set workers.max=none").end();
    assert_eq!(wrong.code, 1, "{}", wrong.text());
    assert!(wrong.text().contains("workers.max"), "{}", wrong.text());
}

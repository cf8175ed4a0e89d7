//! The queue on the command line, without a worker unless a result is wanted: push, module, enqueue, result, task, dlq.

use serde_json::{Value, json};

use crate::support::omniq::{Ended, wat};
use crate::support::place::Place;

/// The exit code of a command, and the kind of its failure.
#[track_caller]
fn fails(place: &Place, words: &str, code: i32, kind: &str) -> Ended {
    let ended = place.run(&format!("{words} -o json")).end();
    assert_eq!(ended.code, code, "{words}: {}", ended.stderr);
    assert_eq!(ended.error()["kind"], kind, "{words}: {}", ended.stderr);
    ended
}

#[test]
fn a_push_may_be_repeated_and_a_version_is_for_ever() {
    let place = Place::with_jobs();
    let jobs = wat("jobs");
    let again = place.omniq(["push", &jobs, "--module-version", "1"]).says();
    assert!(again.starts_with("jobs@1  sha256:") && again.ends_with("  unchanged\n"), "{again}");
    let ended = place
        .omniq(["push", &wat("both"), "--name", "jobs", "--module-version", "1", "-o", "json"])
        .end();
    assert_eq!((ended.code, &ended.error()["kind"]), (6, &json!("conflict")));
    assert_eq!(ended.stderr.matches("sha256:").count(), 2, "both digests: {}", ended.stderr);
    let json = place.omniq(["push", &jobs, "-o", "json"]).end().json();
    assert_eq!(json["new"], true);
    assert_eq!(json["version"].as_str().unwrap(), &json["digest"].as_str().unwrap()[7..19]);
    let back = place.omniq(["push", &jobs, "--module-version", "1"]).end();
    let part = format!(
        "`jobs` without a version still means `jobs@{}`",
        &json["digest"].as_str().unwrap()[7..19]
    );
    assert!(back.code == 0 && back.stderr.contains(&part), "{}", back.stderr);
    let other = place.omniq(["push", "-", "-o", "json"]).stdin(std::fs::read(&jobs).unwrap()).end();
    assert_eq!(other.code, 2, "a module from stdin needs a name: {}", other.stderr);
}

#[test]
fn modules_are_listed_shown_and_forgotten() {
    let place = Place::with_jobs();
    place.omniq(["push", &wat("echo"), "--name", "acme/echo", "--module-version", "2.0"]).says();
    let list = place.run("module list").says();
    assert_eq!(list.lines().count(), 3, "{list}");
    assert!(list.lines().nth(1).unwrap().starts_with("acme/echo  2.0"), "{list}");
    let shown = place.run("module show jobs").says();
    assert!(shown.contains("  find(row: u32) -> result<u64, missing>\n"), "{shown}");
    assert!(shown.contains("    record missing { row: u32, reason: string }\n"), "{shown}");
    let json = place.run("module show jobs@1 -o json").end().json();
    assert_eq!(json["functions"][0]["wit"], "(a: s32, b: s32) -> s32");
    assert!(place.run("module rm jobs@1").says().contains("forgotten"));
    fails(&place, "module show jobs", 3, "not-found");
    fails(&place, "module rm jobs@1", 3, "not-found");
    fails(&place, "module rm acme/echo", 2, "usage");
}

#[test]
fn nothing_is_enqueued_of_what_cannot_run() {
    let place = Place::with_jobs();
    for (words, code, kind, says) in [
        ("enqueue jobs add 5 ten", 7, "args-mismatch", "`b` must be s32"),
        ("enqueue jobs add 5", 7, "args-mismatch", "`b` of type s32 is missing"),
        ("enqueue jobs ad 5 10", 3, "not-found", "did you mean `add`?"),
        ("enqueue jbs add 5 10", 3, "not-found", "there is `jobs@1`"),
        ("enqueue jobs@2 add 5 10", 3, "not-found", "there is `jobs@1`"),
        ("enqueue jobs", 2, "usage", "is no command"),
        ("enqueue jobs add 5 10 --priority 10", 2, "usage", "from -9 to 9"),
        (
            "enqueue jobs add 5 10 --after 01a21309-3382-77f0-b579-6417890950ad",
            3,
            "not-found",
            "does not exist",
        ),
        ("enqueue jobs add 5 10 --args [5,10]", 2, "usage", ""),
    ] {
        if says.is_empty() {
            // What clap refuses is not in JSON.
            assert_eq!(place.run(words).end().code, code, "{words}");
            continue;
        }
        let ended = fails(&place, words, code, kind);
        assert!(ended.stderr.contains(says), "{words}: {}", ended.stderr);
    }
    assert_eq!(place.run("task count -o json").end().json()["total"], 0);
}

#[test]
fn what_was_said_is_what_is_kept() {
    let place = Place::with_jobs();
    let parent = place.enqueue("jobs add 1 2");
    let words = "jobs add b=10 a=5 --queue media --priority -3 --delay 1h --retries 4 --ttl 1d --label who=acme \
                 --unique k --timeout 7s --after";
    let id = place.enqueue(&format!("{words} {}", &parent[28..]));
    let task = place.task(&id);
    for (key, expected) in [
        ("state", json!("blocked")),
        ("phase", json!("pending")),
        ("queue", json!("media")),
        ("module", json!("jobs@1")),
        ("function", json!("add")),
        ("args", json!({"a": 5, "b": 10})),
        ("priority", json!(-3)),
        ("labels", json!({"who": "acme"})),
        ("after", json!([parent])),
        ("attempts", json!(5)),
    ] {
        assert_eq!(task[key], expected, "{key}");
    }
    let twice = place.run("enqueue jobs add 0 0 --unique k -o json").end().json();
    assert_eq!((&twice["id"], &twice["new"]), (&json!(id), &json!(false)));
    let text = place.omniq(["task", "show", &id[28..]]).says();
    assert!(text.contains("args       (5, 10)\n"), "{text}");
}

#[test]
fn results_are_written_as_they_are_wanted() {
    let place = Place::with_jobs();
    let sum = place.enqueue("jobs add 5 10");
    let area = place.enqueue("jobs area --args [{\"width\":3,\"height\":4}]");
    let unfound = place.enqueue("jobs find 7 --retries 0");
    let broken = place.enqueue("jobs broken --retries 0");
    let off = place.enqueue("jobs add 1 1");
    assert_eq!(place.omniq(["task", "cancel", &off]).says(), "1 cancelled\n");
    let early = fails(&place, &format!("result {sum}"), 8, "wait-timeout");
    assert!(early.stderr.contains("is ready; it has no result yet"), "{}", early.stderr);
    fails(&place, &format!("result {sum} --wait=10ms"), 8, "wait-timeout");
    let ended = place.run("worker --drain").end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("2 tasks succeeded, 2 failed\n"), "{}", ended.stderr);
    assert!(ended.stdout.is_empty(), "there is no data to write");

    assert_eq!(place.run(&format!("result {sum}")).says(), "15\n");
    assert_eq!(place.run(&format!("result {}", &sum[28..])).says(), "15\n");
    assert_eq!(place.run(&format!("result {area} -o json")).says(), "12\n");
    assert_eq!(place.run(&format!("result {sum} -o cbor")).end().stdout, [15]);
    let ended = fails(&place, &format!("result {unfound}"), 9, "err-result");
    assert_eq!(ended.error()["value"], json!({"row": 7, "reason": "no such row"}));
    assert!(ended.stderr.contains("{row: 7, reason: \"no such row\"}"), "{}", ended.stderr);
    let ended = fails(&place, &format!("result {broken}"), 12, "trap");
    assert_eq!(ended.error()["state"], "failed");
    assert!(ended.stderr.contains("    at resize_row"), "{}", ended.stderr);
    fails(&place, &format!("result {off} --wait"), 11, "cancelled");
    fails(&place, "result 01a21309-3382-77f0-b579-6417890950ad", 3, "not-found");
    fails(&place, "result 00000000", 3, "not-found");
}

#[test]
fn a_command_gets_arguments_and_stdin_and_gives_stdout() {
    let place = Place::empty();
    place.omniq(["push", &wat("echo")]).says();
    std::fs::write(place.path("book.txt"), "one two\n").unwrap();
    let id = place.enqueue("echo --stdin book.txt -- --lines");
    let by_pipe = place.run("enqueue echo --stdin - -- x").stdin("piped").says();
    assert_eq!(place.run("worker --drain").end().code, 0);
    let direct = place.run(&format!("run {} -- --lines", wat("echo"))).stdin("one two\n").says();
    assert_eq!(place.run(&format!("result {id}")).says(), direct);
    assert!(place.run(&format!("result {}", by_pipe.trim_end())).says().contains("piped"));
    fails(&place, "enqueue echo --args []", 2, "usage");
}

#[test]
fn many_lines_are_enqueued_and_wrong_ones_are_named() {
    let place = Place::with_jobs();
    let mut lines: Vec<_> = (1..=2500).map(|number| format!("[{number}, 1]")).collect();
    lines[9] = String::from("[10]");
    lines[2400] = String::from("nonsense");
    lines.push(String::new());
    let text = lines.join("\n");
    let many = |words: &str| place.run(&format!("enqueue jobs add --ndjson {words}"));
    let ended = many("- -o json").stdin(text.clone()).end();
    assert_eq!(ended.code, 7, "{}", ended.stderr);
    assert!(ended.stderr.contains("line 10: the arguments do not fit"), "{}", ended.stderr);
    assert!(ended.stderr.contains("line 2401: "), "{}", ended.stderr);
    assert!(ended.stderr.contains("2498 of 2500 lines enqueued, 2 refused"), "{}", ended.stderr);
    let out = ended.text();
    let objects: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 2501, "each line, and the failure of the whole");
    assert_eq!(objects[9]["error"]["kind"], "args-mismatch");
    assert_eq!((&objects[10]["line"], &objects[10]["new"]), (&json!(11), &json!(true)));
    assert_eq!(place.run("task count -o json").end().json()["states"]["ready"], 2498);

    // The same lines under the same name are kept once, however often they are enqueued.
    std::fs::write(place.path("lines"), "[1, 1]\n[2, 2]\n").unwrap();
    let ids = many("lines --batch nightly").says();
    assert_eq!(ids.lines().count(), 2);
    let again = many("lines --batch nightly").end();
    assert_eq!((again.code, again.text()), (0, ids));
    assert!(again.stderr.contains("0 of 2 lines enqueued, 2 there already"), "{}", again.stderr);
    fails(&place, "enqueue jobs add --ndjson missing", 3, "not-found");
    fails(&place, "enqueue jobs nothing-such --ndjson lines", 3, "not-found");
    fails(&place, "enqueue jobs add --ndjson lines --unique k", 2, "usage");
}

#[test]
fn tasks_are_listed_counted_and_acted_on_by_filter() {
    let place = Place::with_jobs();
    for number in 0..6 {
        let queue = if number % 2 == 0 { "even" } else { "odd" };
        place.enqueue(&format!("jobs add {number} 1 --queue {queue} --label n={number}"));
    }
    let list = place.run("task list queue:even").says();
    assert_eq!(list.lines().count(), 4, "{list}");
    assert!(list.starts_with("ID "), "{list}");
    assert_eq!(place.run("task list label.n:3 -o id").says().lines().count(), 1);
    assert_eq!(place.run("task list -o jsonl -n 4").says().lines().count(), 4);
    let json = place.run("task list queue:odd -o json").end().json();
    assert_eq!(json.as_array().unwrap().len(), 3);
    assert_eq!(json[0]["args"]["a"], 5, "the newest first");
    assert_eq!(place.run("task list -o id -- -state:ready").says(), "");
    assert!(place.run("task count queue:odd").says().contains("ready  3\n"));

    fails(&place, "task list stat:ready", 2, "usage");
    let refused = fails(&place, "task cancel queue:even", 2, "usage");
    assert!(refused.stderr.contains("--yes"), "nobody is here to ask: {}", refused.stderr);
    assert_eq!(place.run("task cancel queue:even --dry-run").says(), "would cancel 3 (3 ready)\n");
    assert_eq!(place.run("task cancel queue:even --yes").says(), "3 cancelled\n");
    assert_eq!(place.run("task cancel queue:even --yes").says(), "0 cancelled\n");
    assert_eq!(place.run("task retry state:cancelled -y -o json").end().json()["changed"], 3);
    let id = place.run("task list label.n:0 -o id").says();
    let id = id.trim_end();
    fails(&place, &format!("task retry {id}"), 6, "conflict");
    fails(&place, "task cancel 01a21309-3382-77f0-b579-6417890950ad", 3, "not-found");
    assert_eq!(place.run("task cancel --all -y").says(), "6 cancelled\n");
    assert_eq!(place.run(&format!("task rm {id} {}", &id[28..])).says(), "1 removed\n");
    assert_eq!(place.run("task rm --all -y").says(), "5 removed\n");
    assert_eq!(place.run("task count -o json").end().json()["total"], 0);
}

#[test]
fn what_has_failed_for_good_is_kept_and_can_be_retried() {
    let place = Place::with_jobs();
    place.enqueue("jobs broken --retries 0");
    place.enqueue("jobs add 1 2");
    assert_eq!(place.run("worker --drain").end().code, 0);
    let list = place.run("dlq list").says();
    assert_eq!(list.lines().count(), 2, "{list}");
    assert!(list.contains("the guest trapped"), "{list}");
    fails(&place, "dlq list state:ready", 2, "usage");
    assert_eq!(place.run("dlq retry --all -y").says(), "1 ready again\n");
    assert_eq!(place.run("dlq list -o id").says(), "");
    assert_eq!(place.run("worker --drain").end().code, 0);
    assert_eq!(place.run("dlq rm --all --yes").says(), "1 removed\n");
}

#[test]
fn the_dead_letter_queue_is_about_what_has_failed_even_by_id() {
    let place = Place::with_jobs();
    let failed = place.enqueue("jobs broken --retries 0");
    let succeeded = place.enqueue("jobs add 1 2");
    assert_eq!(place.run("worker --drain").end().code, 0);
    let cancelled = place.enqueue("jobs add 1 2");
    place.omniq(["task", "cancel", &cancelled]).says();
    let ready = place.enqueue("jobs add 1 2");
    for (words, id, state, hint) in [
        ("rm", &succeeded, "succeeded", "`omniq task rm "),
        ("rm", &cancelled, "cancelled", "`omniq task rm "),
        ("rm", &ready, "ready", "`omniq task cancel "),
        ("retry", &cancelled, "cancelled", "`omniq task retry "),
        ("retry", &succeeded, "succeeded", "`omniq task show "),
    ] {
        let ended = fails(&place, &format!("dlq {words} {id}"), 6, "conflict");
        let expected = format!("is {state}; this command is about tasks whose state is failed");
        for part in [&expected, &id[28..], hint] {
            assert!(ended.stderr.contains(part), "{words} {state}: {}", ended.stderr);
        }
        let told: Value = serde_json::from_str(ended.text().lines().next().unwrap()).unwrap();
        assert_eq!(told["skipped"], json!([{"id": id, "state": state}]), "{words} {state}");
        assert_eq!(place.task(id)["state"], state, "{words}");
    }
    fails(&place, "dlq rm 01a21309-3382-77f0-b579-6417890950ad", 3, "not-found");
    let dry = place.run(&format!("dlq rm --dry-run {failed} {succeeded}")).says();
    assert_eq!(dry, "would remove 1 (1 failed)\n");
    // Those that are meant are not kept from it by others.
    let both = place.run(&format!("dlq rm {succeeded} {failed}")).end();
    assert_eq!((both.code, &*both.text()), (6, "1 removed, 1 left as they are\n"));
    assert_eq!(place.omniq(["task", "rm", &succeeded]).says(), "1 removed\n");
    // Nor is one retried whose unique key is another's by now.
    let first = place.enqueue("jobs broken --retries 0 --unique k");
    assert_eq!(place.run("worker --drain").end().code, 0);
    place.enqueue("jobs add 1 2 --unique k");
    let refused = fails(&place, &format!("dlq retry {first}"), 6, "conflict");
    let part = "is failed, and another one has its unique key `k` by now";
    assert!(refused.stderr.contains(part), "{}", refused.stderr);
    let refused = fails(&place, "dlq list state:ready", 2, "usage");
    assert!(refused.stderr.contains("is about tasks whose state is failed"), "{}", refused.stderr);
}

#[test]
fn a_batch_has_a_name_and_lines() {
    let place = Place::with_jobs();
    for words in ["1 2 --batch b", "--batch b", "--batch b --wait", "--args [1,2] --batch b"] {
        let ended = place.run(&format!("enqueue jobs add {words}")).end();
        assert_eq!(ended.code, 2, "{words}: {}", ended.stderr);
        assert!(ended.stderr.contains("--ndjson"), "{words}: {}", ended.stderr);
    }
    let nameless = place.run("enqueue jobs add --ndjson - --batch=").stdin("[1, 2]\n").end();
    assert_eq!(nameless.code, 2, "{}", nameless.stderr);
    assert_eq!(place.run("task count -o json").end().json()["total"], 0);
    let many = |lines: &str| place.run("enqueue jobs add --ndjson - --batch b").stdin(lines).end();
    assert_eq!(many("[1, 1]\n[2, 2]\n").code, 0);
    let changed = many("[1, 1]\n[2, 3]\n");
    assert_eq!(changed.code, 6, "{}", changed.stderr);
    let expected = "line 2: it differs from the line that batch `b` had here before";
    assert!(changed.stderr.contains(expected), "{}", changed.stderr);
}

#[test]
fn a_refusal_names_the_file_and_the_option_that_are_meant() {
    let place = Place::with_jobs();
    place.omniq(["push", &wat("echo")]).says();
    std::fs::create_dir(place.path("folder")).unwrap();
    std::fs::write(place.path("lines"), "[1, 1]\n").unwrap();
    for (words, code, says) in [
        ("jobs add 1 2 --stdin lines", 2, "`add` is a function"),
        ("jobs add --ndjson folder", 1, "line 1 of `folder` cannot be read"),
        ("echo --stdin missing", 3, "the command's stdin cannot be read from `missing`"),
        ("jobs add --ndjson lines -o cbor", 2, "hint: take `-o json`"),
    ] {
        let ended = place.run(&format!("enqueue {words}")).end();
        assert_eq!(ended.code, code, "{words}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{words}: {}", ended.stderr);
    }
    assert!(place.run("module rm --help").says().contains("a name alone is refused"));
}

#[test]
fn a_command_that_looks_at_tasks_makes_no_queue() {
    let place = Place::empty();
    for words in ["task list", "module list", "enqueue jobs add 1 2", "result 00000000", "dlq list"]
    {
        let ended = fails(&place, words, 5, "unavailable");
        assert!(ended.stderr.contains("omniq push FILE"), "{}", ended.stderr);
    }
    assert!(!place.path(".omniq").exists());
    let other = place.run("push x --store postgres://u:secret@h/d").end();
    assert_ne!(other.code, 0);
    assert!(!other.stderr.contains("secret"), "{}", other.stderr);
}

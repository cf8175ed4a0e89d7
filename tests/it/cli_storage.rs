//! `omniq storage`: what the stores are, and how a queue goes from one to another.

use omniq_services::{Kind, Server};
use serde_json::json;

use crate::support::omniq::wat;
use crate::support::place::Place;

/// A queue with tasks that have succeeded, failed and wait; values of results stand apart from their records. Gives the
/// id of one that returned something.
fn used() -> (Place, String) {
    let place = Place::with_jobs();
    let echoed = place.enqueue("jobs echo hello");
    place.enqueue("jobs find 7 --retries 0");
    place.run("--set storage.inline_bytes=0 worker --drain").says();
    place.enqueue("jobs add 5 10");
    place.enqueue("jobs add 5 11 --delay 1h");
    (place, echoed)
}

#[test]
fn every_store_says_what_it_is_and_promises() {
    let (place, _) = used();
    let json = place.run("storage check -o json").end().json();
    let stores = json["stores"].as_array().unwrap();
    let roles: Vec<_> = stores.iter().map(|store| store["store"].as_str().unwrap()).collect();
    assert_eq!(roles, ["tasks", "results", "events", "modules"]);
    for store in stores {
        assert_eq!((&store["state"], &store["type"]), (&json!("ok"), &json!("sqlite")), "{store}");
        assert_eq!(store["guard"]["state"], "closed", "{store}");
    }
    assert_eq!(stores[0]["durability"], "disk");
    assert!(stores[0]["version"].as_str().unwrap().starts_with("SQLite 3."), "{json}");
    assert_eq!(stores[0]["layout"]["schema"], stores[0]["layout"]["newest"]);
    let text = place.run("--set storage.durability=os storage check").says();
    assert!(text.contains("tasks: an answered write survives a crash of the process"), "{text}");
}

#[test]
fn looking_makes_nothing() {
    let place = Place::empty();
    let text = place.run("storage check").says();
    assert_eq!(text.matches("absent").count(), 4, "{text}");
    let ended = place.run("storage stats").end();
    assert_eq!(ended.code, 5, "{}", ended.stderr);
    assert!(!place.path(".omniq").exists());
}

#[test]
fn a_mistyped_folder_is_no_queue() {
    let place = Place::empty();
    std::fs::create_dir(place.path("there")).unwrap();
    for folder in ["typo", "there"] {
        for words in [
            "task count",
            "task list",
            "dlq list",
            "module list",
            "result 00000000",
            "enqueue jobs add 1 2",
            "storage stats",
            "storage migrate",
            "storage restored --yes",
            "storage copy --to sqlite:copy.db",
        ] {
            let ended = place.run(&format!("{words} --store file:{folder}")).end();
            assert_eq!(ended.code, 5, "{words}: {}", ended.stderr);
            let expected = format!("there is no queue at `{folder}`");
            assert!(ended.stderr.contains(&expected), "{words}: {}", ended.stderr);
        }
        let text = place.run(&format!("storage check --store file:{folder}")).says();
        assert!(text.contains("\ntasks    absent"), "{text}");
        place.run(&format!("doctor --store file:{folder}")).says();
    }
    assert!(!place.path("typo").exists() && !place.path("copy.db").exists());
    assert_eq!(std::fs::read_dir(place.path("there")).unwrap().count(), 0);
    // What makes a queue makes one there as well.
    place.omniq(["push", &wat("jobs"), "--store", "file:typo"]).says();
    assert!(place.run("module list --store file:typo").says().contains("jobs"));
    assert!(place.run("task count --store file:typo").says().contains("all    0\n"));
}

#[test]
fn what_cannot_be_reached_is_said_without_its_password() {
    let place = Place::empty();
    for url in [
        "postgres://ada:secret@127.0.0.1:1/jobs",
        "redis://:secret@127.0.0.1:1/0",
        "nats://ada:secret@127.0.0.1:1",
        "mysql://ada:secret@127.0.0.1:1",
    ] {
        for words in ["storage check", "storage stats", "doctor", "config show", "task list"] {
            let words = format!("--set storage.deadline=500ms {words} --store {url}");
            let ended = place.run(&words).end();
            let said = ended.text() + &ended.stderr;
            assert!(!said.contains("secret"), "{words}: {said}");
            let scheme = url.split(':').next().unwrap();
            assert!(said.contains(scheme), "{words}: {said}");
            assert!(ended.code != 0 || words.contains("config show"), "{words}: {said}");
        }
    }
}

#[test]
fn stats_say_how_much_there_is() {
    let (place, _) = used();
    let json = place.run("storage stats -o json").end().json();
    let tasks = &json["tasks"];
    assert_eq!(
        (&tasks["succeeded"], &tasks["failed"], &tasks["ready"], &tasks["scheduled"]),
        (&json!(1), &json!(1), &json!(1), &json!(1)),
        "{json}"
    );
    assert!(json["oldest_ready"].is_string() && json["history"]["first"].is_string(), "{json}");
    assert!(json["bytes"]["used"].as_u64().unwrap() > 4096, "{json}");
    let text = place.run("storage stats").says();
    assert!(text.contains("ready      1\n") && text.contains("oldest ready  "), "{text}");
}

#[test]
fn layouts_are_brought_up_to_date_and_closed_to_older_versions() {
    let (place, _) = used();
    let text = place.run("storage migrate").says();
    assert!(text.contains("the stores have layout "), "{text}");
    let json = place.run("storage migrate --finish -o json").end().json();
    assert_eq!(json["layout"]["min_writer"], json["layout"]["schema"]);
}

#[test]
fn a_queue_moves_to_another_file_and_goes_on_there() {
    moves_to("sqlite:there/jobs.db");
}

#[test]
fn a_queue_moves_to_a_folder_and_goes_on_there() {
    moves_to("file:there");
}

#[test]
fn a_file_of_settings_says_where_a_queue_goes() {
    let (place, echoed) = used();
    let settings = "[data]\nfolder = \"there\"\n[storage]\ndurability = \"os\"\n";
    std::fs::write(place.path("there.toml"), settings).unwrap();
    let text = place.run("storage copy --to-config there.toml").says();
    assert!(text.starts_with("copied 4 tasks"), "{text}");
    assert!(place.path("there/omniq.db").exists());
    assert_eq!(place.run(&format!("result {echoed} --config there.toml")).says(), "\"hello\"\n");
    // What the file leaves open is as it is here.
    std::fs::write(place.path("url.toml"), "[tasks]\nurl = \"sqlite:other.db\"\n").unwrap();
    place.run("storage copy --to-config url.toml").says();
    assert!(place.path("other.db").exists());
}

fn moves_to(url: &str) {
    let (place, echoed) = used();
    let copy = format!("storage copy --to {url} --to-events sqlite:there-events.db");
    let text = place.run(&copy).says();
    assert!(text.starts_with("copied 4 tasks (0 were there, 0 ran"), "{text}");
    assert!(text.contains(" 1 values, 1 modules, 0 schedules, "), "{text}");
    assert!(text.contains("compared: 4 tasks are the same, none differs\n"), "{text}");
    let again = place.run(&copy).says();
    assert!(again.starts_with("copied 4 tasks (4 were there"), "{again}");
    let there = format!("--store {url} --set events.url=sqlite:there-events.db");
    assert_eq!(place.run(&format!("result {echoed} {there}")).says(), "\"hello\"\n");
    place.run(&format!("worker --drain {there}")).says();
    let json = place.run(&format!("storage stats -o json {there}")).end().json();
    assert_eq!((&json["tasks"]["succeeded"], &json["tasks"]["ready"]), (&json!(2), &json!(0)));
    // Nothing has changed where it was, so now they differ.
    let differs = place.run(&format!("{copy} --compare -o json")).end();
    assert_eq!(differs.code, 1, "{}", differs.stderr);
    assert!(differs.text().contains("its state"), "{}", differs.text());
}

#[test]
fn nothing_is_copied_while_somebody_works_on_it() {
    let (place, _) = used();
    let worker = place.start("worker");
    place.run("enqueue jobs add 1 1 --wait").says();
    let ended = place.run("storage copy --to sqlite:there.db -o json").end();
    assert_eq!((ended.code, &ended.error()["kind"]), (6, &json!("conflict")), "{}", ended.stderr);
    assert!(ended.stderr.contains("a worker is alive where the queue is"), "{}", ended.stderr);
    worker.signal("TERM");
    worker.end();
    for (words, code) in [
        ("storage copy --to memory:", 2),
        ("storage copy --to sqlite:.omniq/omniq.db", 2),
        ("storage copy --to sqlite:./.omniq/omniq.db", 2),
        ("storage copy", 2),
    ] {
        let ended = place.run(words).end();
        assert_eq!(ended.code, code, "{words}: {}", ended.stderr);
    }
}

#[test]
fn a_server_is_reached_over_tls_or_it_is_said_why_not() {
    let server = Server::start(Kind::Redis, &[("tls", "on")]);
    let place = Place::empty();
    let json = place.run(&format!("storage check -o json --store {}", server.url())).end().json();
    assert_eq!(json["stores"][0]["state"], "ok", "{json}");

    // Without the file of the authority.
    let address = server.address();
    for words in ["storage check", "doctor", "task list"] {
        let url = format!("rediss://:secret@{address}/0");
        let ended = place.run(&format!("{words} --store {url}")).end();
        let said = ended.text() + &ended.stderr;
        assert_ne!(ended.code, 0, "{words}: {said}");
        for part in [&format!("rediss://{address}/0"), "nobody who is trusted", "`tls_ca=FILE`"] {
            assert!(said.contains(part), "{words}: no `{part}` in {said}");
        }
        assert!(!said.contains("secret"), "{words}: {said}");
    }
}

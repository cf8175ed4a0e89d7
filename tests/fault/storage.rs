//! A disk that is full, a file that may not be written, is damaged, or is of another version: the message names the file and
//! the next step, nothing is half written, and tasks can still end when no more are accepted.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use omniq_conformance::history::Entry;
use rustix::process::Signal;
use sqlx::{Connection as _, SqliteConnection};

use crate::support::disk::{Disk, MEBIBYTE};
use crate::support::judge::Judge;
use crate::support::place::{Place, STEPS};
use crate::support::process::{PATIENCE, Process, fails, is_clear, until};
use crate::support::story::{self, Batch, acknowledged};

#[test]
fn a_full_disk_refuses_tasks_before_ends() {
    let outer = Place::new();
    let Some(disk) = Disk::mount(&outer, 96) else { return };
    let place = Place::at(disk.path().to_owned());
    place.says(&format!("push {STEPS}"));
    let first = Batch::twice("first", 1, 300);
    first.enqueue(&place);

    // Little more is free than what is kept for tasks to end.
    disk.fill_up_to(66 * MEBIBYTE);
    let (mut known, mut offers) = (vec![first], Vec::new());
    for number in 0.. {
        let batch = Batch::twice(&format!("more-{number}"), number * 10_000, 5000);
        let mut process = batch.start(&place);
        let status = process.wait(PATIENCE);
        if status.success() {
            known.push(batch);
            continue;
        }
        is_clear(&process, "enqueue", &["omniq.db", "full", "free some space"]);
        // A part of it may have been accepted: what was told is there, the rest is not known.
        let told = acknowledged(&process.stdout());
        let entry = |id| if told.contains(&id) { Entry::acked(id) } else { Entry::unknown(id) };
        offers.extend(batch.ids().into_iter().map(entry));
        break;
    }
    assert!(number_of(&known) < 100_000, "the disk was never full");

    // Less than what is kept is free, yet all that was accepted comes to its end.
    disk.fill_up_to(40 * MEBIBYTE);
    fails(&place, "enqueue steps draw", &["omniq.db", "full", "free some space"]);
    place.says("worker --drain");
    fails(&place, "enqueue steps draw", &["omniq.db", "full", "free some space"]);
    let judge = Judge::new(&place);
    judge.drained(PATIENCE);

    // The log had to stand back; with room again a worker mends it.
    disk.make_room();
    let mut worker = place.start("worker", ["worker"]);
    judge.reconciled(PATIENCE);
    worker.signal(Signal::TERM);
    assert!(worker.wait(PATIENCE).success(), "{}", worker.said());
    offers.extend(known.iter().flat_map(Batch::ids).map(Entry::acked));
    judge.verdict(&offers).assert_clean();
}

fn number_of(batches: &[Batch]) -> usize {
    batches.iter().map(|batch| batch.ids().len()).sum()
}

#[test]
fn a_worker_outlives_a_disk_without_any_room() {
    let outer = Place::new();
    let Some(disk) = Disk::mount(&outer, 96) else { return };
    let place = Place::at(disk.path().to_owned()).with("OMNIQ_LEASE_TIME", "5s");
    place.says(&format!("push {STEPS}"));
    let batches = [Batch::new("slow", "rest", ["[1000]"; 8]), Batch::twice("quick", 1, 300)];
    batches.iter().for_each(|batch| batch.enqueue(&place));
    let command = place.command(["worker"]);
    let mut worker = Process::start(outer.path(), "worker", command);
    let judge = Judge::new(&place);
    judge.until(batches[0].ids()[0], PATIENCE, |info| info.head.lease.is_some());
    // Nobody can write anything from here on: neither ends nor heartbeats.
    disk.fill_up_to(0);
    until("the worker to say so", PATIENCE, || worker.stderr().contains("full"));
    assert_eq!(worker.ended(), None, "it keeps what it has, and tries again");
    let refused = place.command(["enqueue", "steps", "draw"]);
    let mut refused = Process::start(outer.path(), "refused", refused);
    assert!(!refused.wait(PATIENCE).success(), "{}", refused.said());
    is_clear(&refused, "enqueue", &["omniq.db", "full"]);
    // Whoever comes to see what is wrong can look.
    place.says("task count");

    disk.make_room();
    judge.drained(PATIENCE);
    judge.reconciled(PATIENCE * 2);
    worker.signal(Signal::TERM);
    let status = worker.wait(PATIENCE);
    assert!(status.success(), "it ended with {status}\n{}", worker.said());
    story::check(&judge, &batches);
}

#[test]
fn a_file_that_may_not_be_written_is_named() {
    let outer = Place::new();
    let Some(disk) = Disk::mount(&outer, 96) else { return };
    let place = Place::at(disk.path().to_owned());
    place.says(&format!("push {STEPS}"));
    disk.remount("ro");
    for words in ["enqueue steps draw", "worker --drain", &format!("push {STEPS} --name other")] {
        let words: Vec<_> = words.split(' ').collect();
        let mut process = Process::start(outer.path(), "read-only", place.command(&words));
        assert!(!process.wait(PATIENCE).success(), "{}", process.said());
        is_clear(&process, words[0], &["omniq.db", "writable"]);
    }
    disk.remount("rw");
    place.says("enqueue steps draw");
}

/// A queue with some tasks in it, all files closed.
fn settled() -> Place {
    let place = Place::new();
    place.says(&format!("push {STEPS}"));
    Batch::twice("some", 1, 2000).enqueue(&place);
    place.says("worker --drain");
    place
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).expect("the file is there");
    file.seek(SeekFrom::Start(at)).expect("it is long enough");
    file.write_all(bytes).expect("it can be written");
}

#[test]
fn a_damaged_file_is_named_and_left_as_it_is() {
    // What is written where: no database at all, a database whose first page is damaged, one that is damaged inside.
    for (at, length, parts) in [
        (0, 16, ["omniq.db", "damaged", "restore it from a backup"]),
        (100, 3900, ["omniq.db", "damaged", "restore it from a backup"]),
        (4096, 200 << 10, ["omniq.db", "damaged", "restore it from a backup"]),
    ] {
        let place = settled();
        let path = place.database();
        overwrite(&path, at, &vec![0xab; length]);
        let damaged = fs::read(&path).expect("it can be read");
        for words in ["enqueue steps draw", "worker --drain"] {
            fails(&place, words, &parts);
        }
        let now = fs::read(&path).expect("it can be read");
        assert_eq!(
            now[at as usize..at as usize + length],
            damaged[at as usize..at as usize + length]
        );
    }
}

#[test]
fn a_file_that_was_cut_short_is_named() {
    let place = settled();
    let length = fs::metadata(place.database()).expect("it is there").len();
    File::options().write(true).open(place.database()).unwrap().set_len(length / 2).unwrap();
    for words in ["enqueue steps draw", "worker --drain"] {
        fails(&place, words, &["omniq.db", "damaged"]);
    }
}

/// Changes what a file says about itself.
fn note(place: &Place, key: &str, value: i64) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let mut file = SqliteConnection::connect(&place.url("omniq.db")).await.expect("it opens");
        let noted = sqlx::query("update omniq_meta set value = ?1 where key = ?2");
        noted.bind(value).bind(key).execute(&mut file).await.expect("it can be changed");
        file.close().await.expect("it closes");
    });
}

fn noted(place: &Place, key: &str) -> i64 {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let mut file = SqliteConnection::connect(&place.url("omniq.db")).await.expect("it opens");
        let value = sqlx::query_scalar("select value from omniq_meta where key = ?1").bind(key);
        value.fetch_one(&mut file).await.expect("it is noted")
    })
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let place = settled();
    note(&place, "schema", 999);
    note(&place, "min_writer", 999);
    for words in ["enqueue steps draw", "worker --drain", "task list"] {
        fails(&place, words, &["omniq.db", "999", "start an omniq at least as new"]);
    }
    assert_eq!(noted(&place, "schema"), 999);
}

#[test]
fn a_newer_version_that_lets_this_one_write_works_beside_it() {
    let place = settled();
    note(&place, "schema", 2);
    let batch = Batch::twice("beside", 1, 50);
    batch.enqueue(&place);
    place.says("worker --drain");
    assert_eq!(noted(&place, "schema"), 2, "nothing is turned back");
    let judge = Judge::new(&place);
    for (id, expected) in batch.expected() {
        story::check_one(&judge, &judge.info(id), &expected);
    }
}

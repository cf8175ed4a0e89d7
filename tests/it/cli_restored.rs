//! `omniq storage restored`: a backup is put back, and what ran when it was made runs again at once.

use std::fs;
use std::path::Path;
use std::time::Duration;

use omniq_model::{Lane, SessionId, State, TaskId};
use omniq_store::{
    Beat, End, EventFilter, FENCE_STEP, Finished, Held, How, Lease, Options, Session, TaskStore,
    Want, WorkerInfo, open_events, open_tasks,
};
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::support::omniq::wat;
use crate::support::place::Place;

/// Far longer than the test lasts: whoever waits for a lease to be over never gets there.
const LEASE: Duration = Duration::from_secs(3600);

/// Where the tasks are, and how an operator backs them up and puts them back.
struct Kind {
    scheme: &'static str,
    save: fn(&Path, &Path),
    put_back: fn(&Path, &Path),
}

#[test]
fn a_file_that_was_put_back_goes_on_at_once() {
    goes_on(&Kind { scheme: "sqlite", save: save_file, put_back: put_file_back });
}

#[test]
fn a_folder_that_was_put_back_goes_on_at_once() {
    goes_on(&Kind { scheme: "file", save: copy_folder, put_back: put_folder_back });
}

fn goes_on(kind: &Kind) {
    let place = Place::empty();
    let (tasks, backup) = (place.path("jobs"), place.path("backup"));
    let url = format!("{}:{}", kind.scheme, tasks.display());
    let store = ["--store", &url, "--set", "events.url=sqlite:events.db"];
    let run = |words: &str| place.omniq(words.split(' ').chain(store));
    run(&format!("push {} --module-version 1", wat("jobs"))).says();
    let id: TaskId = run("enqueue jobs add 5 10").says().trim_end().parse().expect("an id");

    // The backup is made while it runs. Then it goes on, and is claimed a second time.
    let (session, leases) = block_on(async {
        let open = open(&url).await;
        let session = open.open_session(SessionId::new(7), &WorkerInfo::default(), LEASE).await;
        let session = session.expect("a session is opened");
        let first = claim(&*open, &session).await;
        (kind.save)(&tasks, &backup);
        let released = finish(&*open, &session, &first, release()).await;
        assert_eq!(released, Finished::Applied(State::Ready));
        let second = claim(&*open, &session).await;
        open.close().await.expect("tasks close");
        (session, [first, second])
    });
    (kind.put_back)(&backup, &tasks);

    let before = incarnation(&run("storage check -o json").end().json());
    let asked = run("storage restored").end();
    assert_eq!(asked.code, 2, "nobody is there to be asked: {}", asked.stderr);
    assert!(asked.stderr.contains("the lease of 1 running task"), "{}", asked.stderr);
    assert!(asked.stderr.contains("--yes"), "{}", asked.stderr);
    let done = run("storage restored --yes -o json").end().json();
    let expected = (json!(1), json!(1), json!(0), json!(FENCE_STEP));
    let [void, ready, cancelled, step] =
        ["void", "ready", "cancelled", "fences_raised_by"].map(|key| done[key].clone());
    assert_eq!((void, ready, cancelled, step), expected, "{done}");
    let after = incarnation(&run("storage check -o json").end().json());
    assert_eq!(done["incarnation"], after);
    assert_ne!(before, after);

    block_on(async {
        let open = open(&url).await;
        for lease in &leases {
            let late = finish(&*open, &session, lease, release()).await;
            assert_eq!(late, Finished::Stale, "whoever worked on it before is refused");
        }
        let beat = open.heartbeat(&session, Held::default()).await.expect("it is answered");
        assert_eq!(beat, Beat::Dead);
        let found = open.get(&[id]).await.expect("tasks are read").pop().flatten();
        let head = found.expect("the task is there").head;
        assert_eq!((head.state, head.attempt), (State::Ready, 0));
        assert_eq!(head.fence, leases[0].token.fence + FENCE_STEP);
        open.close().await.expect("tasks close");
    });
    run("worker --drain").says();
    assert_eq!(run(&format!("result {id}")).says(), "15\n");
    let kinds = logged(&place, id);
    assert_eq!(kinds, ["enqueued", "released", "started", "succeeded"], "{kinds:?}");

    // By mistake, with nothing to put back: nothing is lost.
    let text = run("storage restored --yes").says();
    assert!(text.starts_with("every session is over; no task was leased\n"), "{text}");
    assert!(text.contains("are 1000000 higher\nthe store's incarnation is now "), "{text}");
    assert_eq!(run(&format!("result {id}")).says(), "15\n");
}

fn incarnation(checked: &serde_json::Value) -> serde_json::Value {
    checked["stores"][0]["layout"]["incarnation"].clone()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(work)
}

async fn open(url: &str) -> std::sync::Arc<dyn TaskStore> {
    open_tasks(url, &Options::default()).await.expect("tasks open")
}

async fn claim(tasks: &dyn TaskStore, session: &Session) -> Lease {
    let want = Want::new(Lane::default(), 1, 7);
    tasks.claim(session, &[want]).await.expect("it is answered").pop().expect("it is ready")
}

async fn finish(tasks: &dyn TaskStore, of: &Session, lease: &Lease, how: How) -> Finished {
    let Lease { id, token, .. } = *lease;
    tasks.finish(of, vec![End { id, token, how }]).await.expect("it is answered")[0]
}

fn release() -> How {
    How::Release { after: Duration::ZERO, error: None }
}

/// What the log says of a task.
fn logged(place: &Place, task: TaskId) -> Vec<String> {
    let url = format!("sqlite:{}", place.path("events.db").display());
    block_on(async {
        let events = open_events(&url, &Options::default()).await.expect("events open");
        let filter = EventFilter { task: Some(task), ..EventFilter::default() };
        let found = events.query(&filter, None, 100).await.expect("events are read");
        events.close().await.expect("events close");
        found.into_iter().map(|(_, event)| event.kind.to_string()).collect()
    })
}

/// As `sqlite3 PATH ".backup COPY"` does, while others have the file open.
fn save_file(from: &Path, to: &Path) {
    let (from, to) = (from.to_owned(), to.display().to_string());
    let save = async move {
        let mut file =
            SqliteConnectOptions::new().filename(from).connect().await.expect("it opens");
        sqlx::query("vacuum into ?1").bind(to).execute(&mut file).await.expect("it copies");
        file.close().await.expect("it closes");
    };
    std::thread::spawn(|| block_on(save)).join().expect("the backup is made");
}

fn put_file_back(from: &Path, to: &Path) {
    for end in ["-wal", "-shm"] {
        let beside = format!("{}{end}", to.display());
        let _ = fs::remove_file(beside); // it goes with the last process that has it open
    }
    fs::copy(from, to).expect("it is put back");
}

/// Copies a folder that others have open, images first.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    let mut entries: Vec<_> = fs::read_dir(from).expect("it can be read").flatten().collect();
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let (kind, target) = (entry.file_type().expect("it is there"), to.join(entry.file_name()));
        if kind.is_dir() {
            copy_folder(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), target).expect("a file can be copied");
        }
    }
}

fn put_folder_back(from: &Path, to: &Path) {
    fs::remove_dir_all(to).expect("it goes");
    copy_folder(from, to);
}

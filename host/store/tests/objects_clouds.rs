//! Results, events and modules in Azure, for which Azurite stands, and in a bucket of Google, for which an endpoint of this
//! process does: what every store promises, races, and what is said when it cannot be used.
#![cfg(all(feature = "cloud", feature = "sqlite"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "place/object.rs"]
mod place;
#[path = "support/task.rs"]
mod sample;

use std::sync::Arc;
use std::time::Duration;

use omniq_model::{Payload, TaskId, Timestamp, Token};
use omniq_services::{Google, Mode, Proxy};
use omniq_store::object::{Config, ObjectResults, ObjectTasks};
use omniq_store::{
    ErrorKind, ManualClock, Options, ResultKey, ResultStore as _, StagedResult, TaskStore as _,
    open_events, open_modules, open_results, open_tasks,
};

#[tokio::test]
async fn azure_keeps_what_stores_promise() {
    place::hold(&place::Objects::Bucket(omniq_services::azure().url())).await;
}

#[tokio::test]
async fn google_keeps_what_stores_promise() {
    place::hold(&place::Objects::Bucket(omniq_services::google().url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_several_that_create_a_name_at_the_same_time_exactly_one_does() {
    place::creates_once(omniq_services::azure().url()).await;
    place::creates_once(omniq_services::google().url()).await;
}

#[tokio::test]
async fn what_is_in_many_objects_is_listed_page_by_page() {
    place::lists_pages(omniq_services::google().url()).await;
}

/// Keeps a value in the bucket at `url`, and reads it.
async fn put(url: &str) -> omniq_store::Result<()> {
    let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
    let results = ObjectResults::new(place::bucket(&place::bucket_url(url)), Arc::new(clock));
    let key = ResultKey { task: TaskId::derived(&[b"task"]), token: Token { fence: 1, nonce: 1 } };
    let (value, ttl) = (Payload::raw(vec![7; 20_000]), Duration::from_secs(60).into());
    results.put(vec![StagedResult { key, value: value.clone(), ttl }]).await?;
    assert_eq!(results.get(&[key]).await?, [Some(value)]);
    Ok(())
}

/// What is said of the bucket at `url`, which cannot be used.
async fn refused(url: &str, kind: ErrorKind, parts: &[&str]) {
    let error = put(url).await.unwrap_err();
    let said = omniq_store::chain(&error);
    println!("{said}");
    assert_eq!(error.kind(), kind, "{said}");
    for part in parts {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
    let shown = said.replace('\n', " ");
    assert!(!shown.contains("b21u") && !shown.contains("PRIVATE KEY"), "{said}");
}

#[tokio::test]
async fn a_place_that_refuses_is_told_from_one_that_is_not_there() {
    let azure = omniq_services::azure();
    let google = omniq_services::google();
    put(azure.url()).await.unwrap();
    put(google.url()).await.unwrap();
    for (url, parts) in [
        (
            azure.url().replace("access_key=", "access_key=AAAA"),
            ["az://omniq/", "check the credentials, and whether"],
        ),
        (format!("gs://omniq?{}", google.stranger()), ["gs://omniq/", "check the credentials"]),
    ] {
        refused(&url, ErrorKind::Config, &parts).await;
    }
    for (url, address) in
        [(azure.url(), azure.address().to_string()), (google.url(), google.address().to_string())]
    {
        let proxy = Proxy::to(address.parse().unwrap());
        proxy.set(Mode::Refuse);
        let away = url.replace(&address, &proxy.addr().to_string());
        refused(&away, ErrorKind::Unavailable, &[]).await;
    }
}

#[tokio::test]
async fn all_that_a_queue_needs_is_opened_by_one_url() {
    let options = Options::default();
    for url in [omniq_services::azure().url(), omniq_services::google().url()] {
        let url = place::bucket_url(url);
        let tasks = open_tasks(&url, &options).await.unwrap();
        tasks.enqueue(vec![sample::task(1)]).await.unwrap();
        assert_eq!(tasks.get(&[sample::task(1).id]).await.unwrap().len(), 1);
        open_results(&url, &options).await.unwrap();
        assert!(open_modules(&url, &options).await.unwrap().list().await.unwrap().is_empty());
        open_events(&url, &options).await.unwrap();
        tasks.close().await.unwrap();
        let nowhere = url.replacen("//omniq", "//nowhere", 1);
        let error = open_tasks(&nowhere, &options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("make it first"), "{error}");
    }
}

/// Google takes one write of a name a second, and an owner has something to tell at each call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_under_load_writes_no_name_faster_than_google_takes_it() {
    let google = Google::start();
    google.pace();
    let root = place::bucket(&google.url().replacen('?', "?lease=5&", 1));
    let config = Config::with(root, &Options::default());
    assert_eq!(config.lease, Duration::from_secs(5));
    let owner = ObjectTasks::open(config.clone()).await.unwrap();
    let begun = std::time::Instant::now();
    let mut tasks = 0;
    // For longer than an owner may speak that has given no sign of life.
    while begun.elapsed() < config.lease.mul_f64(0.7) {
        tasks += 1;
        owner.enqueue(vec![sample::task(tasks)]).await.unwrap();
        let found = owner.get(&[sample::task(tasks).id]).await.unwrap();
        assert!(matches!(found[..], [Some(_)]), "{found:?}");
    }
    println!("{tasks} tasks");
    assert!(tasks > 100, "{tasks}");
    let guest = ObjectTasks::open(config).await.unwrap();
    let found = guest.get(&[sample::task(tasks).id]).await.unwrap();
    assert!(matches!(found[..], [Some(_)]), "{found:?}");
    for store in [guest, owner] {
        store.close().await.unwrap();
    }
    assert_eq!(google.too_fast(), 0);
}

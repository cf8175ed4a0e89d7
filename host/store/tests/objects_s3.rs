//! Results, events and modules in buckets of a real S3 server: what every store promises, races, and a server that fails.
#![cfg(all(feature = "cloud", feature = "sqlite"))]

#[path = "place/object.rs"]
mod place;

use std::sync::Arc;

use futures_util::future::join_all;
use omniq_model::{Digest, Module, Payload, TaskId, Timestamp, Token};
use omniq_services::{Mode, Proxy};
use omniq_store::object::{ObjectModules, ObjectResults, Root};
use omniq_store::{
    ErrorKind, ManualClock, ModuleStore as _, Pushed, ResultKey, ResultStore as _, StagedResult,
};

/// The bucket of the server, as a client of its own sees it.
fn bucket(url: &str) -> Root {
    place::bucket(url)
}

#[tokio::test]
async fn a_bucket_keeps_what_stores_promise() {
    place::hold(&place::Objects::Bucket(omniq_services::s3().url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_several_that_create_a_name_at_the_same_time_exactly_one_does() {
    place::creates_once(omniq_services::s3().url()).await;
}

fn module(version: &str, fill: u8) -> Module {
    Module {
        name: "m".parse().expect("a name"),
        version: version.parse().expect("a version"),
        digest: Digest::from_sha256([fill; 32]),
        size: 1,
        functions: Vec::new(),
        command: false,
        capabilities: Vec::new(),
        pushed: Timestamp::default(),
        unknown: Default::default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_version_that_two_processes_push_belongs_to_one() {
    let url = place::bucket_url(omniq_services::s3().url());
    let stores = [1, 2].map(|fill| (fill, Arc::new(ObjectModules::new(bucket(&url)))));
    for round in 0..20 {
        let version = format!("1.{round}");
        let push = |(fill, store): &(u8, Arc<ObjectModules>)| {
            let (module, store, fill) = (module(&version, *fill), Arc::clone(store), *fill);
            tokio::spawn(async move { store.push(module, vec![fill]).await.unwrap() })
        };
        let pushed = join_all(stores.iter().map(push)).await;
        let pushed: Vec<_> = pushed.into_iter().map(Result::unwrap).collect();
        let won = match pushed[..] {
            [Pushed::Created, Pushed::Conflict(_)] => 1,
            [Pushed::Conflict(_), Pushed::Created] => 2,
            _ => panic!("round {round}: {pushed:?}"),
        };
        let [_, (_, store)] = &stores;
        let (name, version) = ("m".parse().unwrap(), version.parse().unwrap());
        let found = store.find(&name, Some(&version)).await.unwrap().unwrap();
        assert_eq!(found.digest, Digest::from_sha256([won; 32]));
    }
}

fn staged(number: u64) -> StagedResult {
    let token = Token { fence: 1, nonce: number };
    let key = ResultKey { task: TaskId::derived(&[&number.to_be_bytes()]), token };
    StagedResult {
        key,
        value: Payload::raw(vec![7; 20_000]),
        ttl: std::time::Duration::from_secs(60).into(),
    }
}

fn results(root: Root) -> ObjectResults {
    ObjectResults::new(root, Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000))))
}

/// Connections are cut at every few kilobytes, in either direction: after each cut a call has failed or not, its outcome
/// is unknown, and once it has been repeated until it answers, all is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn puts_that_are_cut_anywhere_are_repeated_until_they_answer() {
    let server = omniq_services::s3();
    let proxy = Proxy::to(server.address());
    let url = place::bucket_url(&server.url_through(&proxy));
    let (store, direct) = (results(bucket(&url)), place::through(&url, server.url()));
    let mut failed = 0;
    for number in 0..30_u64 {
        let after = number * 1000;
        let (up, down) =
            if number % 3 == 0 { (None, Some(after % 400)) } else { (Some(after), None) };
        proxy.set(Mode::CutAfter { up, down });
        while let Err(error) = store.put(vec![staged(number)]).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            failed += 1;
            proxy.set(Mode::Pass);
        }
        proxy.set(Mode::Pass);
        let there = results(direct.clone()).get(&[staged(number).key]).await.unwrap();
        assert_eq!(there, [Some(staged(number).value)]);
    }
    println!("{failed} of 30 puts failed and were repeated");
    assert!(failed > 0, "no cut was noticed");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_from_one_that_refuses() {
    let server = omniq_services::s3();
    let wrong =
        place::bucket_url(server.url()).replace("secret_access_key=", "secret_access_key=wrong");
    let error = results(bucket(&wrong)).put(vec![staged(1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let message = error.to_string();
    assert!(message.contains("s3://omniq/") && !message.contains("wrong"), "{message}");
    let proxy = Proxy::to(server.address());
    proxy.set(Mode::Refuse);
    let url = place::bucket_url(&server.url_through(&proxy));
    let error = results(bucket(&url)).put(vec![staged(1)]).await.unwrap_err();
    assert!(error.kind().is_passing(), "{error}");
}

#[tokio::test]
async fn values_of_many_tasks_are_listed_page_by_page() {
    place::lists_pages(omniq_services::s3().url()).await;
}

/// Stands before a server: answers so many requests with 503 and passes the others on.
fn refusing(server: std::net::SocketAddr, requests: usize) -> std::net::SocketAddr {
    use std::io::{Read as _, Write as _};
    use std::net::{Shutdown, TcpListener, TcpStream};
    let listener = TcpListener::bind("127.0.0.1:0").expect("sockets of loopback work");
    let addr = listener.local_addr().expect("sockets of loopback work");
    let mut left = requests;
    let serve = move || {
        for client in listener.incoming() {
            let mut client = client.expect("sockets of loopback work");
            if left > 0 {
                left -= 1;
                // What the client sends meanwhile is read, or it would see a cut and not the answer.
                let _ = client.read(&mut [0; 64 << 10]);
                let _ = client.write_all(
                    b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                );
                let _ = client.shutdown(Shutdown::Write);
                let _ = std::io::copy(&mut client, &mut std::io::sink());
                continue;
            }
            let server = TcpStream::connect(server).expect("sockets of loopback work");
            for (mut from, mut to) in [
                (
                    client.try_clone().expect("sockets of loopback work"),
                    server.try_clone().expect("sockets of loopback work"),
                ),
                (server.try_clone().expect("sockets of loopback work"), client),
            ] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    };
    std::thread::spawn(serve);
    addr
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again_and_then_given_up() {
    let server = omniq_services::s3();
    for (requests, fine) in [(3, true), (usize::MAX, false)] {
        let addr = refusing(server.address(), requests);
        let through = server.url().replace(&server.address().to_string(), &addr.to_string());
        let store = results(bucket(&place::bucket_url(&through)));
        match store.put(vec![staged(1)]).await {
            Ok(()) => assert!(fine),
            Err(error) => {
                assert!(!fine, "{error}");
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            }
        }
        let there = if fine { Some(Some(staged(1).value)) } else { None };
        assert_eq!(store.get(&[staged(1).key]).await.ok().and_then(|mut got| got.pop()), there);
    }
}

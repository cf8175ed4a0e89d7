//! Encrypted connections on real servers, with certificates of an authority of their own that is in no list.
#![cfg(all(feature = "nats", feature = "postgres", feature = "redis"))]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use omniq_model::{Digest, Lane, ModuleRef, Payload, SessionId, Task, TaskId, TaskResult};
use omniq_model::{State, Timestamp};
use omniq_services::{Kind, Server};
use omniq_store::{
    End, ErrorKind, Finished, How, Options, Session, TaskStore, Want, WorkerInfo, chain, open_tasks,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn fresh() -> u64 {
    static MADE: AtomicU64 = AtomicU64::new(1);
    MADE.fetch_add(1, Ordering::Relaxed)
}

fn task() -> Task {
    let module = ModuleRef {
        digest: Digest::from_sha256([7; 32]),
        name: "job".parse().expect("it is a name"),
        version: "1".parse().expect("it is a name"),
        unknown: Default::default(),
    };
    let mut random = [0; 10];
    random[2..].copy_from_slice(&fresh().to_be_bytes());
    let id = TaskId::new(Timestamp::from_millis(1_700_000_000_000), random);
    Task::new(id, module, "run", Payload::raw(*b"arguments"))
}

/// Makes the same call again while it fails for the moment.
macro_rules! repeat {
    ($call:expr) => {{
        let begun = Instant::now();
        loop {
            match $call.await {
                Ok(answer) => break answer,
                Err(error) => {
                    let passing = error.kind().is_passing() && begun.elapsed() < PATIENCE;
                    assert!(passing, "{}", chain(&error));
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }};
}

/// A server that takes encrypted connections only, and what is in its folder for clients.
struct Safe(Server);

impl Safe {
    fn start(kind: Kind, tls: &str) -> Self {
        Self(Server::start(kind, &[("tls", tls)]))
    }

    fn file(&self, name: &str) -> String {
        self.0.folder().join("tls").join(name).display().to_string()
    }

    /// `text` with the server's port and files in the place of `{port}`, `{ca}`, `{cert}` and `{key}`.
    fn fill(&self, text: &str) -> String {
        text.replace("{port}", &self.0.address().port().to_string())
            .replace("{ca}", &self.file("ca.pem"))
            .replace("{cert}", &self.file("client.pem"))
            .replace("{key}", &self.file("client.key"))
    }

    /// Opens with that URL, which is to fail for good; the message has all of that in it, and no password.
    async fn refuses(&self, url: &str, parts: &[&str]) {
        let url = self.fill(url);
        let options = Options { timeout: Duration::from_secs(3), ..Options::default() };
        let opened = tokio::time::timeout(PATIENCE, open_tasks(&url, &options)).await;
        let error = opened.expect("it does not hang").err();
        let error = error.unwrap_or_else(|| panic!("`{url}` was opened"));
        let said = chain(&error);
        assert_eq!(error.kind(), ErrorKind::Config, "{url}: {said}");
        for part in parts {
            let part = self.fill(part);
            assert!(said.contains(&part), "{url}: no `{part}` in: {said}");
        }
        assert!(!said.contains("secret"), "{url}: {said}");
        println!("{url}\n    {said}");
    }

    /// Works through that URL, also after the server was away.
    async fn serves(&self, url: &str) {
        let url = self.fill(url);
        let store = open_tasks(&url, &Options::default()).await;
        let store = store.unwrap_or_else(|error| panic!("{url}: {}", chain(&error)));
        work(&store).await;
        self.0.restart();
        work(&store).await;
        store.close().await.expect("it closes");
    }
}

/// A task goes all its way.
async fn work(store: &Arc<dyn TaskStore>) {
    let task = task();
    let id = task.id;
    repeat!(store.enqueue(vec![task.clone()]));
    let lease = Duration::from_secs(15);
    let session: Session =
        repeat!(store.open_session(SessionId::new(fresh()), &WorkerInfo::default(), lease));
    let want = Want::new(Lane::default(), 1, fresh());
    let leases = repeat!(store.claim(&session, std::slice::from_ref(&want)));
    assert_eq!(leases.iter().map(|lease| lease.id).collect::<Vec<_>>(), [id]);
    let result = TaskResult::success(Payload::raw(*b"done"));
    let end = End { id, token: leases[0].token, how: How::Succeeded(result.into()) };
    let ended = repeat!(store.finish(&session, vec![end.clone()]));
    let succeeded = |end: &Finished| {
        matches!(
            end,
            Finished::Applied(State::Succeeded) | Finished::AppliedBefore(State::Succeeded)
        )
    };
    assert!(ended.len() == 1 && ended.iter().all(succeeded), "{ended:?}");
}

/// Holds a server to all that is said of Redis; `name` is that of its URLs, which is `SCHEMEs` for encrypted ones.
async fn as_redis(kind: Kind, name: &str) {
    let server = Safe::start(kind, "on");
    let place = &format!("`{name}s://127.0.0.1:{{port}}`");
    let plain = &format!("`{name}://127.0.0.1:{{port}}`");
    for (url, parts) in [
        ("s://:secret@127.0.0.1:{port}", [place, "nobody who is trusted", "`tls_ca=FILE`"]),
        (
            "s://:secret@localhost:{port}?tls_ca={ca}",
            [&format!("`{name}s://localhost:{{port}}`"), "for another name", "localhost"],
        ),
        ("://:secret@127.0.0.1:{port}", [plain, "speaks TLS there", "`rediss://`"]),
        (
            "s://:secret@127.0.0.1:{port}?tls_ca=/no/ca.pem",
            [place, "`tls_ca=/no/ca.pem`", "No such file"],
        ),
        ("s://:secret@127.0.0.1:{port}?tls_ca={key}", [place, "no certificate in it", "in PEM"]),
    ] {
        server.refuses(&format!("{name}{url}"), &parts).await;
    }
    server.serves(&format!("{name}s://127.0.0.1:{{port}}?tls_ca={{ca}}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis() {
    as_redis(Kind::Redis, "redis").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn valkey() {
    as_redis(Kind::Valkey, "valkey").await;
}

/// Holds a server that lets nobody in without a certificate to what is said of Redis.
async fn as_redis_that_asks(kind: Kind, scheme: &str) {
    let server = Safe::start(kind, "mutual");
    let url = format!("{scheme}://:secret@127.0.0.1:{{port}}?tls_ca={{ca}}");
    server.refuses(&url, &["a certificate of ours", "`tls_cert=FILE&tls_key=FILE`"]).await;
    let url =
        format!("{scheme}://127.0.0.1:{{port}}?tls_ca={{ca}}&tls_cert={{cert}}&tls_key={{key}}");
    server.serves(&url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_wants_to_know_who_we_are() {
    as_redis_that_asks(Kind::Redis, "rediss").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn valkey_that_wants_to_know_who_we_are() {
    as_redis_that_asks(Kind::Valkey, "rediss").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_in_a_cluster() {
    let cluster = Server::start(Kind::Redis, &[("tls", "on"), ("cluster", "3")]);
    let store = open_tasks(cluster.url(), &Options::default()).await;
    work(&store.expect("it opens")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats() {
    let server = Safe::start(Kind::Nats, "on");
    let place = "nats+tls://127.0.0.1:{port}/omniq";
    for (url, parts) in [
        (
            "nats+tls://ada:secret@127.0.0.1:{port}",
            [place, "nobody who is trusted", "`tls_ca=FILE`"],
        ),
        // The server says that it wants TLS, and gets it.
        (
            "nats://ada:secret@127.0.0.1:{port}",
            ["nats://127.0.0.1:{port}/omniq", "nobody who is trusted", "`tls_ca=FILE`"],
        ),
        (
            "nats+tls://ada:secret@localhost:{port}?tls_ca={ca}",
            ["nats+tls://localhost:{port}", "for another name", "localhost"],
        ),
        (
            "nats+tls://ada:secret@127.0.0.1:{port}?tls_ca=/no/ca.pem",
            [place, "`tls_ca=/no/ca.pem`", "No such file"],
        ),
        (
            "nats+tls://ada:secret@127.0.0.1:{port}?tls_ca={key}",
            [place, "no certificate in it", "in PEM"],
        ),
    ] {
        server.refuses(url, &parts).await;
    }
    server.serves("nats+tls://127.0.0.1:{port}?tls_ca={ca}").await;
    server.serves("nats://127.0.0.1:{port}/second?tls_ca={ca}").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_that_wants_to_know_who_we_are() {
    let server = Safe::start(Kind::Nats, "mutual");
    let url = "nats+tls://ada:secret@127.0.0.1:{port}?tls_ca={ca}";
    server.refuses(url, &["a certificate of ours", "`tls_cert=FILE&tls_key=FILE`"]).await;
    server.serves("nats+tls://127.0.0.1:{port}?tls_ca={ca}&tls_cert={cert}&tls_key={key}").await;
}

/// With `handshake_first` a server says nothing before the connection is encrypted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_that_says_nothing_unencrypted() {
    let server = Safe::start(Kind::Nats, "first");
    let url = "nats+tls://ada:secret@127.0.0.1:{port}?tls_first=true";
    server.refuses(url, &["nobody who is trusted", "`tls_ca=FILE`"]).await;
    server.serves("nats://127.0.0.1:{port}?tls_ca={ca}&tls_first=true").await;
    let options = Options { timeout: Duration::from_secs(2), ..Options::default() };
    let url = server.fill("nats+tls://127.0.0.1:{port}/other?tls_ca={ca}");
    let waited = tokio::time::timeout(PATIENCE, open_tasks(&url, &options)).await;
    let error = waited.expect("it does not hang").expect_err("each waits for the other");
    let said = chain(&error);
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{said}");
    assert!(said.contains("`tls_first=true`"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    let server = Safe::start(Kind::Postgres, "on");
    let place = "`127.0.0.1:{port}`";
    for (url, parts) in [
        (
            "postgres://omniq:secret@127.0.0.1:{port}/omniq?sslmode=verify-full",
            [place, "nobody who is trusted", "`sslrootcert=FILE`"],
        ),
        (
            "postgres://omniq:secret@localhost:{port}/omniq?sslmode=verify-full&sslrootcert={ca}",
            ["`localhost:{port}`", "for another name", "localhost"],
        ),
        (
            "postgres://omniq:secret@127.0.0.1:{port}/omniq?sslmode=disable",
            [place, "no encryption", "`sslmode=verify-full`"],
        ),
        (
            "postgres://omniq:secret@127.0.0.1:{port}/omniq?sslmode=verify-full&sslrootcert=/no/ca.pem",
            [place, "`sslrootcert=/no/ca.pem`", "No such file"],
        ),
        (
            "postgres://omniq:secret@127.0.0.1:{port}/omniq?sslmode=require&sslrootcert={cert}",
            [place, "nobody who is trusted", "`sslrootcert=FILE`"],
        ),
        (
            "postgres://mutual:secret@127.0.0.1:{port}/omniq?sslmode=verify-full&sslrootcert={ca}",
            [place, "client certificate", "`sslcert=FILE&sslkey=FILE`"],
        ),
    ] {
        server.refuses(url, &parts).await;
    }
    let url = "postgres://omniq@127.0.0.1:{port}/omniq?sslmode=verify-full&sslrootcert={ca}";
    let store = open_tasks(&server.fill(url), &Options::default()).await.expect("it opens");
    let mut connection = server.administrator().await;
    // The pool's connection, and the one that listens.
    let begun = Instant::now();
    loop {
        let sql = "select count(*) filter (where ssl), count(*) filter (where not ssl)
             from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'omniq'";
        let counts: (i64, i64) =
            sqlx::query_as(sql).fetch_one(&mut connection).await.expect("it answers");
        if counts.0 >= 2 && counts.1 == 0 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "encrypted and not: {counts:?}");
        work(&store).await;
    }
    drop(store);
    server.serves(url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_that_wants_to_know_who_we_are() {
    let server = Safe::start(Kind::Postgres, "mutual");
    let sql = "create role mutual login; create schema omniq authorization mutual";
    sqlx::raw_sql(sql).execute(&mut server.administrator().await).await.expect("it is made");
    let url = "postgres://mutual@127.0.0.1:{port}/omniq?sslmode=verify-full&sslrootcert={ca}&sslcert={cert}&sslkey={key}";
    server.serves(url).await;
}

impl Safe {
    async fn administrator(&self) -> sqlx::PgConnection {
        let connected = <sqlx::PgConnection as sqlx::Connection>::connect(self.0.url()).await;
        connected.expect("it connects")
    }
}

/// Who asks for TLS where there is none is told so, and gets no other connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_without_it() {
    let vouched = Safe::start(Kind::Redis, "on");
    let authority = vouched.file("ca.pem");
    for (server, url, part) in [
        (omniq_services::redis(), "rediss://127.0.0.1:{port}?tls_ca={ca}", "`redis://`"),
        (omniq_services::nats(), "nats+tls://127.0.0.1:{port}?tls_ca={ca}", "`nats://`"),
        (omniq_services::nats(), "nats://127.0.0.1:{port}?tls_first=true&tls_ca={ca}", "`nats://`"),
        (
            omniq_services::postgres(),
            "postgres://omniq@127.0.0.1:{port}/omniq?sslmode=verify-full&sslrootcert={ca}",
            "`sslmode=disable`",
        ),
    ] {
        let port = server.address().port().to_string();
        let url = url.replace("{port}", &port).replace("{ca}", &authority);
        let options = Options { timeout: Duration::from_secs(5), ..Options::default() };
        let opened = tokio::time::timeout(PATIENCE, open_tasks(&url, &options)).await;
        let error = opened.expect("it does not hang").expect_err("it is refused");
        let said = chain(&error);
        assert_eq!(error.kind(), ErrorKind::Config, "{url}: {said}");
        assert!(said.contains("TLS") && said.contains(part), "{url}: {said}");
        println!("{url}\n    {said}");
    }
}

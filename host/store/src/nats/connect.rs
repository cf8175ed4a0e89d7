//! The connection, and the streams and buckets of a store: made where they are missing, checked where they are there.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::{self, Context, kv, object_store, stream};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use tokio::sync::watch;

use super::config::{Config, TLS};
use super::fault::{self, Fault, Result};
use super::send::LIFE;
use super::values::Values;
use crate::tls;

/// How the log is written. Goes up when an older version could not read what this one writes.
pub(super) const SCHEMA: u32 = 1;
/// The oldest server that can do all this.
const OLDEST: (i64, i64, i64) = (2, 10, 0);
/// How long the server knows messages by their id; longer than any call waits.
const DUPLICATES: Duration = Duration::from_secs(120);
/// How long one request waits for its answer, and a connection for its server to say something.
const REQUEST: Duration = Duration::from_secs(3);
/// After how much silence the server is asked whether it is there. After three times as much it is taken for dead, though the
/// connection stands: well within a lease, so that another server of its cluster hears of who lives.
const SILENCE: Duration = Duration::from_secs(2);

const SCHEMA_KEY: &str = "omniq_schema";
const WRITER_KEY: &str = "omniq_min_writer";

/// A connection to a store.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub client: Client,
    pub context: Context,
    pub log: stream::Stream<()>,
    pub values: Values,
    /// Goes up whenever the connection is lost.
    pub losses: watch::Receiver<u64>,
}

/// How a store's stream is laid out.
#[derive(Debug)]
pub(super) struct Layout {
    pub schema: u32,
    pub min_writer: u32,
    /// When the stream was made, and what came of it when the store was last said to be restored.
    pub incarnation: String,
    /// The server's version.
    pub server: String,
}

impl Connection {
    pub(super) async fn layout(&self) -> Result<Layout> {
        let info = self.log.get_info().await.map_err(|error| fault::of(&error))?;
        let (schema, min_writer) = versions(&info.config)?;
        let made = info.created.unix_timestamp_nanos().to_string();
        let restored = self.values.incarnation().await?;
        Ok(Layout {
            schema,
            min_writer,
            incarnation: restored.map_or(made.clone(), |restored| format!("{made}-{restored}")),
            server: self.client.server_info().version,
        })
    }

    /// The three streams as the server has them, by what is in them.
    pub(super) async fn streams(&self) -> Result<Vec<(&'static str, stream::Info)>> {
        let log = self.log.get_info().await.map_err(|error| fault::of(&error))?;
        let mut streams = vec![("log", log)];
        for (what, large) in [("values", false), ("objects", true)] {
            let stream = self.values.stream_of(large).await?;
            let info = stream.get_info().await.map_err(|error| fault::of(&error))?;
            streams.push((what, info));
        }
        Ok(streams)
    }
}

/// Connects, makes what is missing and checks what is there.
pub(super) async fn connect(config: &Config) -> Result<Connection> {
    let (client, losses) = client(config).await?;
    let version = client.server_info().version;
    if !client.is_server_compatible(OLDEST.0, OLDEST.1, OLDEST.2) {
        return Err(Fault::Config(format!(
            "the server has version {version}, and {}.{} is the oldest that will do: update it",
            OLDEST.0, OLDEST.1
        )));
    }
    let context = jetstream::ContextBuilder::new().timeout(REQUEST).ack_timeout(REQUEST);
    let context = match &config.domain {
        Some(domain) => context.domain(domain.clone()).build(client.clone()),
        None => context.build(client.clone()),
    };
    let account = context.query_account().await;
    account
        .map_err(|error| missing(&error, "JetStream is not there: start the server with `-js`"))?;
    let log = log(config, &context).await?;
    let values = values(config, &context).await?;
    Ok(Connection { client, context, log, values, losses })
}

async fn client(config: &Config) -> Result<(Client, watch::Receiver<u64>)> {
    let (lost, losses) = watch::channel(0);
    let mut options = ConnectOptions::new()
        .name("omniq")
        // Of several servers one that stands still must not keep us from the others.
        .connection_timeout(REQUEST.min(config.patience))
        .ping_interval(SILENCE)
        .request_timeout(Some(REQUEST))
        .event_callback(move |event| {
            if matches!(event, Event::Disconnected | Event::Closed) {
                lost.send_modify(|count| *count += 1);
            }
            async {}
        })
        .reconnect_delay_callback(|attempt| {
            // Full jitter: after an outage not everybody comes back at once.
            let most = Duration::from_millis(50 << attempt.min(6));
            most.mul_f64(super::roll())
        })
        .require_tls(config.tls);
    if let Some(login) = &config.login {
        let (user, password) = login.parts();
        options = if password.is_empty() {
            options.token(user)
        } else {
            options.user_and_password(user, password)
        };
    }
    if let Some(path) = &config.credentials {
        options = options.credentials_file(path).await.map_err(|error| {
            Fault::Config(format!("the credentials `{}` cannot be read: {error}", path.display()))
        })?;
    }
    options = encrypted(options, config)?;
    // Where all stand still, they are asked again for as long as there is patience.
    let connecting = async {
        loop {
            match options.clone().connect(&config.servers[..]).await {
                Err(error) if error.kind() == ConnectErrorKind::TimedOut => {}
                connected => return connected,
            }
        }
    };
    match tokio::time::timeout(config.patience, connecting).await {
        Ok(Ok(client)) => Ok((client, losses)),
        Ok(Err(error)) => Err(refused(&error)),
        Err(_) => Err(Fault::Unknown(silence(config))),
    }
}

/// Why there may have been no answer.
fn silence(config: &Config) -> String {
    let first = "one with `handshake_first` needs `tls_first=true` in the URL";
    let hint = if config.tls_first { String::new() } else { format!("; {first}") };
    format!("no server said anything within {:?}{hint}", config.patience)
}

/// With what a connection is encrypted, should it be.
fn encrypted(mut options: ConnectOptions, config: &Config) -> Result<ConnectOptions> {
    let files = &config.tls_files;
    tls::provide();
    if config.tls_first {
        options = options.tls_first();
    }
    // The client reads them itself, for each connection, and says less about what is wrong with them.
    files.read(&TLS).map_err(|error| Fault::Config(error.to_string()))?;
    if let Some(path) = &files.authority {
        options = options.add_root_certificates(path.clone());
    }
    if let (Some(certificate), Some(key)) = (&files.certificate, &files.key) {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(options)
}

fn refused(error: &async_nats::ConnectError) -> Fault {
    use ConnectErrorKind as Kind;
    if let Some(reason) = tls::explain(error, &TLS) {
        return Fault::Config(reason);
    }
    match error.kind() {
        Kind::Authentication | Kind::AuthorizationViolation => Fault::Config(
            "the server does not accept who we are; check user, password or credentials".into(),
        ),
        Kind::ServerParse | Kind::Tls => Fault::Config(fault::chain(error)),
        _ => Fault::Unknown(fault::chain(error)),
    }
}

/// An error that most likely means that something is not there, or not allowed.
fn missing(error: &(dyn std::error::Error + 'static), hint: &str) -> Fault {
    match fault::of(error) {
        Fault::Unknown(reason) if reason.contains("timed out") => Fault::Unknown(reason),
        Fault::Unknown(reason) => Fault::Config(format!("{hint} ({reason})")),
        other => other,
    }
}

async fn log(config: &Config, context: &Context) -> Result<stream::Stream<()>> {
    let name = config.log_stream();
    let wanted = stream::Config {
        name: name.clone(),
        description: Some("the commands of an OmniQ store".into()),
        subjects: vec![config.log_subject()],
        retention: stream::RetentionPolicy::Limits,
        // What is old is work that waits: new commands are refused before any of it goes.
        discard: stream::DiscardPolicy::New,
        storage: stream::StorageType::File,
        num_replicas: config.replicas,
        duplicate_window: DUPLICATES,
        allow_direct: true,
        metadata: HashMap::from([
            (SCHEMA_KEY.to_owned(), SCHEMA.to_string()),
            (WRITER_KEY.to_owned(), SCHEMA.to_string()),
        ]),
        ..Default::default()
    };
    let hint =
        "the stream of commands cannot be made or read: rights to the JetStream API are needed";
    let stream =
        context.get_or_create_stream(wanted).await.map_err(|error| missing(&error, hint))?;
    check_log(&stream.cached_info().config)?;
    context.get_stream_no_info(name).await.map_err(|error| missing(&error, hint))
}

/// The schema a stream has, and the oldest whose writers may work with it.
fn versions(config: &stream::Config) -> Result<(u32, u32)> {
    let number = |key: &str| config.metadata.get(key).and_then(|text| text.parse::<u32>().ok());
    let foreign = || Fault::Config(format!("the stream `{}` is not one of OmniQ's", config.name));
    number(SCHEMA_KEY).zip(number(WRITER_KEY)).ok_or_else(foreign)
}

/// Checks a stream of commands that was there.
fn check_log(config: &stream::Config) -> Result<()> {
    let (schema, writer) = versions(config)?;
    if writer > SCHEMA || schema < SCHEMA {
        return Err(Fault::Schema { found: schema, newer: writer > SCHEMA });
    }
    check(
        config,
        &[
            (config.max_messages > 0, "`max_msgs` must not be limited"),
            (config.max_messages_per_subject > 0, PER_SUBJECT),
            (config.duplicate_window < LIFE, "`duplicate_window` must be 30 s or more"),
        ],
    )
}

const PER_SUBJECT: &str = "`max_msgs_per_subject` must not be limited";

/// Checks a stream that was there: for what makes any of them lose what it holds, and for `more`.
fn check(config: &stream::Config, more: &[(bool, &str)]) -> Result<()> {
    let name = &config.name;
    if config.storage != stream::StorageType::File {
        return Err(Fault::Config(format!(
            "the stream `{name}` is lost with its server: its storage must be `file`, which cannot be changed; \
             remove it with `nats stream rm` if nothing is in it, or give the store another name"
        )));
    }
    let lossy = [
        (config.discard != stream::DiscardPolicy::New, "`discard` must be `new`"),
        (config.retention != stream::RetentionPolicy::Limits, "its retention must be `limits`"),
        (!config.max_age.is_zero(), "`max_age` must not be limited"),
        (config.no_ack, "it must acknowledge"),
        (
            config.persist_mode == Some(stream::PersistenceMode::Async),
            "`persist_mode` must not be `async`",
        ),
    ];
    match lossy.iter().chain(more).find(|(wrong, _)| *wrong) {
        Some((_, reason)) => Err(Fault::Config(format!(
            "the stream `{name}` may lose what it holds, or have it twice: {reason}; change it with `nats stream edit`"
        ))),
        None => Ok(()),
    }
}

async fn values(config: &Config, context: &Context) -> Result<Values> {
    let bucket = config.bucket();
    let hint =
        "the bucket of values cannot be made or read: rights to the JetStream API are needed";
    let values = match context.get_key_value(&bucket).await {
        Ok(values) => values,
        Err(_) => context
            .create_key_value(kv::Config {
                bucket: bucket.clone(),
                description: "arguments and results of an OmniQ store".into(),
                history: 1,
                storage: stream::StorageType::File,
                num_replicas: config.replicas,
                ..Default::default()
            })
            .await
            .map_err(|error| missing(&error, hint))?,
    };
    // Of each key the newest message is enough.
    check(&values.stream.cached_info().config, &[])?;
    let objects = match context.get_object_store(&bucket).await {
        Ok(objects) => objects,
        Err(_) => context
            .create_object_store(object_store::Config {
                bucket: bucket.clone(),
                description: Some("modules, images and large values of an OmniQ store".into()),
                storage: stream::StorageType::File,
                num_replicas: config.replicas,
                ..Default::default()
            })
            .await
            .map_err(|error| missing(&error, hint))?,
    };
    let values = Values::new(context.clone(), bucket, values, objects, config.grace);
    let objects = values.stream_of(true).await?.get_info().await;
    let objects = objects.map_err(|error| missing(&error, hint))?.config;
    // All pieces of an object have the same subject.
    check(&objects, &[(objects.max_messages_per_subject > 0, PER_SUBJECT)])?;
    Ok(values)
}

//! What a server must be before tasks are trusted to it, checked at every start: its version, that it writes, that it
//! forgets nothing, and how soon what it does is on its disk.

use std::collections::HashMap;

use redis::Value;

use super::config::Config;
use super::fault::{Fault, Result};
use super::link::Link;
use super::reply;
use crate::{Durability, Error};

/// The oldest Redis whose scripts and commands are used here.
const OLDEST: (u32, u32) = (6, 2);

/// What was found.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    /// What the server is, with its version.
    pub version: String,
    /// What is weaker than asked for or could not be found out, and what to do.
    pub warnings: Vec<(String, String)>,
}

/// What the server says of itself: `INFO`, and of its settings what it tells.
struct Found {
    info: HashMap<String, String>,
    /// `None`: it does not tell.
    fsync: Option<String>,
}

impl Found {
    /// Asks the server; of a cluster, every node that takes something in.
    async fn ask(link: &Link) -> Result<Vec<Self>> {
        let settings = link.query_all(redis::cmd("CONFIG").arg("GET").arg("appendfsync")).await;
        let fsync = settings.ok().and_then(weakest);
        let mut all = Vec::new();
        for text in link.query_all(&redis::cmd("INFO")).await? {
            let text = reply::bytes(text)?;
            let mut info = HashMap::new();
            for line in String::from_utf8_lossy(&text).lines() {
                if let Some((name, value)) = line.split_once(':') {
                    info.insert(name.to_owned(), value.trim().to_owned());
                }
            }
            all.push(Self { info, fsync: fsync.clone() });
        }
        Ok(all)
    }

    fn get(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }
}

/// How the log is synced by the node that does so most seldom; `None`: one of them does not tell.
fn weakest(settings: Vec<Value>) -> Option<String> {
    let rank = |fsync: &String| match fsync.as_str() {
        "always" => 2,
        "everysec" => 1,
        _ => 0,
    };
    let all = settings.into_iter().map(second).collect::<Option<Vec<String>>>()?;
    all.into_iter().min_by_key(rank)
}

/// The value of an answer that is a name and a value.
fn second(value: Value) -> Option<String> {
    let value = match value {
        Value::Array(mut values) if values.len() == 2 => values.pop(),
        Value::Map(mut pairs) if pairs.len() == 1 => pairs.pop().map(|(_, value)| value),
        _ => None,
    };
    String::from_utf8(reply::bytes(value?).ok()?).ok()
}

/// Checks the server against what was asked for.
pub(super) async fn check(link: &Link, config: &Config) -> crate::Result<Checked> {
    let place = config.place();
    let nodes = Found::ask(link).await.map_err(|fault| match fault {
        Fault::Denied(reason) => Error::Config(format!(
            "`{place}` does not let us in: {reason}; check user and password, and that the user may run scripts, INFO and PUBLISH"
        )),
        other => other.into_error(place, "look at how it is set up"),
    })?;
    let mut checked = None;
    for found in &nodes {
        let one = judge(found, config.durability)
            .map_err(|reason| Error::Config(format!("`{place}` {reason}")))?;
        checked.get_or_insert(one);
    }
    checked.ok_or_else(|| Error::Config(format!("`{place}` is a cluster without a node")))
}

fn judge(found: &Found, wanted: Durability) -> std::result::Result<Checked, String> {
    let (product, version) = match found.get("valkey_version") {
        "" => ("Redis", found.get("redis_version")),
        version => ("Valkey", version),
    };
    let numbers: Vec<u32> = version.split('.').map_while(|part| part.parse().ok()).collect();
    if (numbers.first().copied().unwrap_or(0), numbers.get(1).copied().unwrap_or(0)) < OLDEST {
        return Err(format!(
            "is {product} {version}, and {}.{} is the oldest that can keep tasks; use a newer server",
            OLDEST.0, OLDEST.1
        ));
    }
    if found.get("role") == "slave" {
        let primary = format!("{}:{}", found.get("master_host"), found.get("master_port"));
        return Err(format!("is a copy of `{primary}` and takes nothing in; name that one"));
    }
    let mut checked = Checked { version: format!("{product} {version}"), warnings: Vec::new() };
    let policy = found.get("maxmemory_policy");
    match (policy, wanted) {
        ("noeviction", _) => {}
        ("", _) => checked.warnings.push((
            "whether the server forgets keys when its memory is full could not be found out"
                .to_owned(),
            "make sure of `maxmemory-policy noeviction`".to_owned(),
        )),
        (policy, Durability::None) => checked.warnings.push((
            format!(
                "the server forgets tasks when its memory is full: `maxmemory-policy {policy}`"
            ),
            "set `maxmemory-policy noeviction`".to_owned(),
        )),
        (policy, _) => {
            return Err(format!(
                "forgets tasks when its memory is full: it has `maxmemory-policy {policy}`; set `maxmemory-policy noeviction`"
            ));
        }
    }
    judge_durability(found, wanted, &mut checked)?;
    Ok(checked)
}

/// What an answer has survived, as far as the server tells, must be what was asked for or more.
fn judge_durability(
    found: &Found,
    wanted: Durability,
    checked: &mut Checked,
) -> std::result::Result<(), String> {
    let writes = found.get("aof_enabled");
    if wanted == Durability::None {
        return Ok(());
    }
    let weaker = |has: &str, loses: &str, next: &str| {
        Err(format!(
            "{loses}: it has `{has}`; {next}, or say with `durability=…` in the URL that less will do"
        ))
    };
    match (writes, found.fsync.as_deref(), wanted) {
        ("0", ..) => weaker(
            "appendonly no",
            "loses tasks when it ends",
            "set `appendonly yes` and `appendfsync always`",
        ),
        ("1", Some("always"), _) => Ok(()),
        ("1", Some("everysec"), Durability::Os) => Ok(()),
        ("1", Some("everysec"), _) => weaker(
            "appendfsync everysec",
            "loses the last second when its machine loses power",
            "set `appendfsync always`",
        ),
        ("1", Some(other), _) => weaker(
            &format!("appendfsync {other}"),
            "leaves it to its operating system when tasks are on the disk",
            "set `appendfsync always`, or at least `everysec`",
        ),
        ("1", None, _) => {
            checked.warnings.push((
                "when the server syncs its log could not be found out: it does not tell its settings".to_owned(),
                "look up `appendfsync` where the server is hosted; `always` survives a loss of power".to_owned(),
            ));
            Ok(())
        }
        _ => {
            checked.warnings.push((
                "whether the server writes a log could not be found out".to_owned(),
                "look up where the server is hosted what survives its end".to_owned(),
            ));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(info: &[(&str, &str)], fsync: Option<&str>) -> Found {
        let defaults = [
            ("redis_version", "7.0.15"),
            ("role", "master"),
            ("maxmemory_policy", "noeviction"),
            ("aof_enabled", "1"),
        ];
        let info = defaults.iter().chain(info);
        Found {
            info: info.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            fsync: fsync.map(str::to_owned),
        }
    }

    #[test]
    fn a_server_that_promises_less_is_refused_unless_that_will_do() {
        use Durability::{Disk, None as Nothing, Os};
        for (info, fsync, wanted, refused) in [
            (&[][..], Some("always"), Disk, None),
            (&[], Some("everysec"), Disk, Some("loses the last second")),
            (&[], Some("everysec"), Os, None),
            (&[], Some("no"), Os, Some("leaves it to its operating system")),
            (&[], Some("no"), Nothing, None),
            (&[("aof_enabled", "0")], Some("always"), Os, Some("loses tasks when it ends")),
            (&[("aof_enabled", "0")], Some("always"), Nothing, None),
            (&[("maxmemory_policy", "allkeys-lru")], Some("always"), Disk, Some("forgets tasks")),
            (
                &[("role", "slave"), ("master_host", "h")],
                Some("always"),
                Disk,
                Some("a copy of `h:"),
            ),
            (&[("redis_version", "6.0.16")], Some("always"), Disk, Some("Redis 6.0.16")),
            (&[("redis_version", "6.2.0")], Some("always"), Disk, None),
        ] {
            let judged = judge(&found(info, fsync), wanted);
            match refused {
                Some(part) => assert!(judged.unwrap_err().contains(part), "{info:?} {fsync:?}"),
                None => assert!(judged.is_ok(), "{info:?} {fsync:?} {judged:?}"),
            }
        }
    }

    #[test]
    fn what_a_hosted_server_does_not_tell_is_a_warning() {
        let checked = judge(&found(&[], None), Durability::Disk).unwrap();
        assert_eq!(checked.version, "Redis 7.0.15");
        assert!(checked.warnings[0].0.contains("could not be found out"), "{checked:?}");
        let valkey = [("valkey_version", "8.1.8"), ("maxmemory_policy", "")];
        let checked = judge(&found(&valkey, Some("always")), Durability::Disk).unwrap();
        assert_eq!(checked.version, "Valkey 8.1.8");
        assert_eq!(checked.warnings.len(), 1, "{checked:?}");
    }
}

//! The next step after a failure.

use omniq_model::Kind;
use omniq_sandbox::{Denial, Frame};

/// What to do after a call that failed.
pub fn after_call(kind: Kind, denials: &[Denial], backtrace: &[Frame]) -> Option<String> {
    if let Some(option) = option_of(kind) {
        return Some(format!("raise the limit with {option}"));
    }
    match kind {
        Kind::Denied => denials.first().map(grant),
        Kind::Trap if backtrace.iter().any(|frame| frame.function.is_none()) => {
            Some(String::from("build the component with its names for a backtrace that says more"))
        }
        Kind::NoCapacity => Some(String::from("run it again")),
        _ => None,
    }
}

/// The option that raises the limit a kind stands for.
pub fn option_of(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Fuel => "`--fuel`",
        Kind::Timeout => "`--timeout`",
        Kind::Cpu => "`--cpu`",
        Kind::Memory => "`--memory`",
        Kind::Tables => "`--table-elements`",
        Kind::Instances => "`--instances` or `--memories`",
        Kind::Stack => "`--stack`",
        Kind::ArgsTooLarge => "`--max-args`",
        Kind::OutputTooLarge => "`--max-result`, `--max-stdout`, `--max-stderr` or `--max-output`",
        Kind::LogLines => "`--log-lines`",
        Kind::HostCalls => "`--host-calls`",
        Kind::Handles => "`--handles`",
        _ => return None,
    })
}

/// What would have allowed it.
pub fn grant(denial: &Denial) -> String {
    advice(denial.capability, &denial.target)
}

fn advice(capability: &str, target: &str) -> String {
    match capability {
        "http" if target.ends_with("is not a public address)") => String::from(
            "a name never leads into a private network; allow the address itself with `--grant-http`",
        ),
        "http" if target.ends_with("requests in one call)") => {
            String::from("spread the work over more calls")
        }
        "http" => format!("allow the host with `--grant-http {}`", host(target)),
        "key-value" => format!("give it the bucket with `--grant-kv {}`", quoted(target)),
        "sockets" => String::from(
            "sockets are never granted; a guest reaches others by HTTP, see `--grant-http`",
        ),
        _ => String::from("`omniq help grants` lists what can be granted"),
    }
}

/// The host in `GET https://example.com/path`, with its port.
fn host(target: &str) -> &str {
    let url = target.split(' ').nth(1).unwrap_or(target);
    let rest = url.split_once("://").map_or(url, |(_scheme, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// What stands in backticks, or all of it.
fn quoted(target: &str) -> &str {
    target.split('`').nth(1).unwrap_or(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_an_option() {
        for kind in Kind::ALL {
            assert_eq!(option_of(*kind).is_some(), kind.is_limit(), "{kind}");
        }
    }

    #[test]
    fn a_refusal_names_what_would_have_allowed_it() {
        for (capability, target, expected) in [
            ("http", "GET https://example.com/a?b", "`--grant-http example.com`"),
            ("http", "POST http://localhost:8080", "`--grant-http localhost:8080`"),
            (
                "http",
                "GET http://a.example (10.0.0.1 is not a public address)",
                "the address itself",
            ),
            ("http", "GET http://a.example (more than 100 requests in one call)", "more calls"),
            ("key-value", "bucket `cache`", "`--grant-kv cache`"),
            ("sockets", "TcpConnect 127.0.0.1:80", "never granted"),
            ("something", "new", "`omniq help grants`"),
        ] {
            let text = advice(capability, target);
            assert!(text.contains(expected), "{capability} {target}: {text}");
        }
    }
}

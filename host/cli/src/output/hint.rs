//! The next step after a failure.

use omniq_model::Kind;
use omniq_sandbox::{Denial, Failure, Frame};

/// What to do after a call that failed.
pub fn after_call(failure: &Failure, denials: &[Denial]) -> Option<String> {
    let kind = failure.kind;
    if kind == Kind::OutputTooLarge {
        return Some(format!("raise the limit with {}", output_option(&failure.message)));
    }
    if let Some(option) = option_of(kind) {
        return Some(format!("raise the limit with {option}"));
    }
    if let Some(hint) = &failure.hint {
        return Some(format!("{hint}; allow one with `--grant-dir`"));
    }
    let is_nameless = |frames: &[Frame]| frames.iter().all(|frame| frame.function.is_none());
    match kind {
        Kind::Denied => denials.first().map(grant),
        Kind::Trap if is_nameless(&failure.backtrace) => {
            Some(String::from("build the component with its names for a backtrace that says more"))
        }
        Kind::NoCapacity => Some(String::from("run it again")),
        _ => None,
    }
}

/// Which of the limits on output is meant; all of them where the message does not begin with its name.
fn output_option(message: &str) -> &'static str {
    const OPTIONS: &[(&str, &str)] = &[
        ("the result ", "`--max-result`"),
        ("stdout ", "`--max-stdout`"),
        ("stderr ", "`--max-stderr`"),
        ("the output ", "`--max-output`"),
    ];
    let named = OPTIONS.iter().find(|(name, _)| message.starts_with(name));
    named.map_or(
        "`--max-result`, `--max-stdout`, `--max-stderr` or `--max-output`",
        |(_, option)| option,
    )
}

/// The option that raises the limit a kind stands for.
fn option_of(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Fuel => "`--fuel`",
        Kind::Timeout => "`--timeout`",
        Kind::Cpu => "`--cpu`",
        Kind::Memory => "`--memory`",
        Kind::Tables => "`--table-elements`",
        Kind::Instances => "`--instances` or `--memories`",
        Kind::Stack => "`--stack`",
        Kind::ArgsTooLarge => "`--max-args`",
        Kind::OutputTooLarge => output_option(""),
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

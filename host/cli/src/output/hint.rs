//! The next step after a failure.

use omniq_model::Kind;
use omniq_sandbox::{Denial, Failure, Frame};

/// What to do after a call that failed.
pub fn after_call(failure: &Failure, denials: &[Denial]) -> Option<String> {
    let kind = failure.kind;
    if kind == Kind::OutputTooLarge {
        return Some(format!("raise the limit with {}", output_option(&failure.message)));
    }
    if let Some(text) = after_limit(kind, &failure.message) {
        return Some(text);
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

fn after_limit(kind: Kind, message: &str) -> Option<String> {
    // Files and header maps are counted apart from the handles to them.
    if kind == Kind::Handles && !message.contains("handles") {
        return Some(String::from("this limit is fixed: let the guest close what it is done with"));
    }
    Some(format!("raise the limit with {}", option_of(kind)?))
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
        Kind::Tables => "`--table-elements` or `--tables`",
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
    // `GET http://db.internal/ at http://10.0.0.5/`: what would have to be granted stands last.
    let (first, last) = target.split_once(' ').unwrap_or(("", target));
    match (capability, last.rsplit_once(" at ")) {
        ("http", Some((_name, address))) => format!(
            "a name does not open a private address; allow the address too with `--grant-http {}`",
            host(address)
        ),
        ("http", None) => format!("allow the host with `--grant-http {}`", host(last)),
        ("http-requests", _) => String::from("spread the requests over more calls"),
        ("key-value", _) => format!("give it the bucket with `--grant-kv {target}`"),
        ("filesystem", _) if first == "write" && !target.ends_with(OUTSIDE) => {
            String::from("let it write with `:rw` at the end of `--grant-dir`")
        }
        ("filesystem", _) => {
            String::from("give it a directory with all it needs, see `--grant-dir`")
        }
        ("sockets", _) => String::from(
            "sockets are never granted; a guest reaches others by HTTP, see `--grant-http`",
        ),
        _ => String::from("`omniq help grants` lists what can be granted"),
    }
}

/// How the sandbox marks a path that no directory of the guest contains.
const OUTSIDE: &str = ", outside of what is granted";

/// The host in `https://example.com:8443/path`, with its port.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_scheme, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
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
    fn a_limit_without_an_option_says_so() {
        let hint = |message| after_limit(Kind::Handles, message).unwrap();
        assert!(hint("the guest holds too many handles; its limit is 5").contains("`--handles`"));
        assert!(hint("the guest has more than 256 files and directories open").contains("fixed"));
        assert!(
            hint("the guest made more than 600 header maps for HTTP requests").contains("fixed")
        );
    }

    #[test]
    fn a_refusal_names_what_would_have_allowed_it() {
        for (capability, target, expected) in [
            ("http", "GET https://example.com/", "`--grant-http example.com`"),
            ("http", "POST http://localhost:8080/", "`--grant-http localhost:8080`"),
            (
                "http",
                "GET http://a.example/ at http://10.0.0.1:8080/",
                "`--grant-http 10.0.0.1:8080`",
            ),
            ("http", "GET http://[::1]:80/", "`--grant-http [::1]:80`"),
            ("http-requests", "GET http://a.example/ after 100 requests", "more calls"),
            ("key-value", "cache", "`--grant-kv cache`"),
            ("key-value", "my cache", "`--grant-kv my cache`"),
            ("filesystem", "write /data/x y", "`:rw`"),
            ("filesystem", "read /data/../x, outside of what is granted", "directory with all"),
            ("filesystem", "write /data/../x, outside of what is granted", "directory with all"),
            ("sockets", "connect to 127.0.0.1:80", "never granted"),
            ("sockets", "", "never granted"),
            ("something", "new", "`omniq help grants`"),
        ] {
            let text = advice(capability, target);
            assert!(text.contains(expected), "{capability} {target}: {text}");
        }
    }
}

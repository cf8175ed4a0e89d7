//! Takes bytes and gives bytes back: the fixed world.

use std::time::Duration;

use omniq::handler::Target;
use omniq::{Failure, Handler, Payload};

struct Bytes;

impl Handler for Bytes {
    fn run(target: &str, args: Payload) -> Result<Payload, Failure> {
        match target {
            "echo" => Ok(args),
            "reverse" => {
                Ok(Payload::new(args.media_type, args.body.into_iter().rev().collect::<Vec<_>>()))
            }
            "upper" => Ok(Payload::text(String::from_utf8(args.body)?.to_uppercase())),
            "later" => Err(Failure::new("try again").retry_after(Duration::from_secs(60))),
            other => Err(Failure::permanent(format!("unknown target `{other}`"))
                .code("unknown-target")
                .details(Payload::text(other))),
        }
    }

    fn targets() -> Vec<Target> {
        let target = |name: &str, summary: &str| Target {
            name: name.to_owned(),
            summary: summary.to_owned(),
            args_schema: None,
            result_schema: None,
        };
        vec![
            target("echo", "Gives back what it is given."),
            target("reverse", "Gives back the bytes from last to first."),
            target("upper", "Writes a text in capitals."),
            target("later", "Fails, and asks for another attempt in a minute."),
        ]
    }
}

omniq::export_handler!(Bytes);

//! What of a component is to be run, and with what: worked out before anything is compiled.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use omniq_model::Kind;
use omniq_model::wit::{Signature, Type};
use omniq_sandbox::inspect::Function;
use omniq_sandbox::value::{self, Bounds, args};
use omniq_sandbox::{Command, Inspection};

use crate::component::{Component, is_stdin, read_bounded, read_stdin_within};
use crate::output::problem::{Problem, chain};

/// What was asked for, as it stands on the command line.
#[derive(Debug, Default)]
pub struct Request {
    /// The function, if one is named.
    pub function: Option<String>,
    /// The words before `--`.
    pub words: Vec<String>,
    /// The words after `--`.
    pub rest: Vec<String>,
    /// Whether there is a `--`.
    pub has_separator: bool,
    /// `--args`
    pub json: Option<String>,
    /// `--args-cbor`
    pub cbor: Option<PathBuf>,
    /// Bytes that arguments and stdin may have.
    pub max_bytes: u64,
    /// How long stdin is waited for.
    pub timeout: Duration,
    /// Whether stdin is used up already.
    pub stdin_is_taken: bool,
}

/// What is to be run.
#[derive(Debug)]
pub enum Job {
    /// A function with its arguments in canonical CBOR.
    Function {
        /// Its name, in the shortest form that means it alone.
        name: String,
        /// Its arguments.
        args: Vec<u8>,
    },
    /// The component as a program.
    Command(Command),
}

impl Job {
    /// Works out what a request means.
    ///
    /// # Errors
    /// The component has no such thing, or the arguments do not fit.
    pub fn new(request: &Request, component: &Component) -> Result<Self, Problem> {
        match &request.function {
            Some(name) => function(name, request, component.inspection()),
            None => command(request, component),
        }
    }

    /// What is run, in words for the guest.
    pub fn target(&self) -> String {
        match self {
            Self::Function { name, .. } => name.clone(),
            Self::Command(_) => String::from("command"),
        }
    }
}

fn function(name: &str, request: &Request, inspection: &Inspection) -> Result<Job, Problem> {
    let function = inspection.function(name).map_err(|error| {
        let problem = Problem::new(error.kind(), error.to_string());
        match inspection.command {
            Some(_) => problem.hint("it is a command: put its arguments after `--`"),
            None => problem.hint("`omniq inspect FILE` lists the functions with their types"),
        }
    })?;
    let name = inspection.short_name(&function.name);
    let args = arguments(&name, &function.signature, request)?;
    Ok(Job::Function { name, args })
}

/// Arguments of a function in canonical CBOR.
///
/// # Errors
/// They cannot be read, or do not fit; the hint has the function's types.
pub fn arguments(name: &str, signature: &Signature, request: &Request) -> Result<Vec<u8>, Problem> {
    let max = usize::try_from(request.max_bytes).unwrap_or(usize::MAX);
    let bounds = Bounds::with_bytes(max);
    let mut read = |name: &str| read_argument(Path::new(name), max, request);
    let result = if let Some(json) = &request.json {
        match json.strip_prefix('@') {
            Some(path) => {
                let json = read_whole(ARGUMENTS, Path::new(path), request)?;
                args::from_json(signature, &json, &bounds)
            }
            None => args::from_json(signature, json.as_bytes(), &bounds),
        }
    } else if let Some(path) = &request.cbor {
        args::from_cbor(signature, &read_whole(ARGUMENTS, path, request)?, &bounds)
    } else {
        let words: Vec<_> = request.words.iter().chain(&request.rest).cloned().collect();
        args::from_words(signature, &words, &mut read, &bounds)
    };
    result.map_err(|error| refused(&error, name, signature))
}

/// What a file of arguments is called.
const ARGUMENTS: &str = "the arguments";

/// Reads a file that all arguments, or a command's stdin, are in; `-` is our stdin. `what` is which of them.
///
/// # Errors
/// It cannot be read, or stdin does not end.
pub fn read_whole(what: &str, path: &Path, request: &Request) -> Result<Vec<u8>, Problem> {
    let max = usize::try_from(request.max_bytes).unwrap_or(usize::MAX);
    read_argument(path, max, request).map_err(|error| {
        let message = format!("{what} cannot be read from `{}`: {error}", path.display());
        match error.kind() {
            ErrorKind::NotFound => Problem::new(Kind::NotFound, message),
            ErrorKind::TimedOut => Problem::new(Kind::Timeout, message).hint(STDIN_IS_OPEN),
            _ => Problem::new(Kind::Usage, message),
        }
    })
}

/// Arguments that do not fit, with what would.
fn refused(error: &value::Error, name: &str, signature: &Signature) -> Problem {
    let problem = Problem::new(error.kind(), chain(error));
    match error.kind() {
        Kind::ArgsMismatch => {
            let types = signature.named_types().into_iter().filter_map(Type::declaration);
            let start = format!("the function is `{name}{signature}`");
            problem.hint(types.fold(start, |text, ty| text + "\n      " + &ty))
        }
        Kind::ArgsTooLarge if error.is_too_many_bytes() => {
            problem.hint("raise the limit with `--max-args`")
        }
        Kind::ArgsTooLarge => {
            problem.hint("this limit is fixed: pass less in one call, or bulk data as bytes")
        }
        Kind::Timeout => problem.hint(STDIN_IS_OPEN),
        _ => problem,
    }
}

/// What to do about a stdin that nobody closes.
const STDIN_IS_OPEN: &str =
    "close stdin (`< /dev/null`) if nothing is to be read, or wait longer with `--timeout`";

/// Reads a file that an argument names, `-` being stdin, and a byte more than `max` of it at most.
fn read_argument(path: &Path, max: usize, request: &Request) -> io::Result<Vec<u8>> {
    if !is_stdin(path) {
        return read_bounded(File::open(path)?, max, 0);
    }
    if request.stdin_is_taken {
        return Err(io::Error::other("stdin is read already, for the component"));
    }
    read_stdin_within(max, request.timeout)
}

fn command(request: &Request, component: &Component) -> Result<Job, Problem> {
    let inspection = component.inspection();
    let names: Vec<_> = inspection.functions.iter().map(|function| &function.name).collect();
    let names = list(names.iter().map(|name| inspection.short_name(name)));
    let is_handler = |function: &Function| Some(&function.name) == inspection.handler.as_ref();
    let has_functions = !inspection.functions.iter().all(is_handler);
    if inspection.command.is_none() {
        let usage =
            Problem::new(Kind::Usage, "the component is no command: say which function to call");
        return Err(usage.hint(format!("it has {names}")));
    }
    if has_functions && !request.has_separator {
        let usage =
            Problem::new(Kind::Usage, "the component is a command and has functions as well");
        let hint = format!("name one of {names}, or put `--` before the command's arguments");
        return Err(usage.hint(hint));
    }
    if request.json.is_some() || request.cbor.is_some() {
        let usage = Problem::new(Kind::Usage, "a command takes no typed arguments");
        return Err(usage.hint("put its arguments after `--`, and pipe its input into stdin"));
    }
    let mut args = vec![component.name.clone()];
    args.extend(request.rest.iter().cloned());
    Ok(Job::Command(Command { args, stdin: stdin_for(request, inspection)? }))
}

/// All of stdin, if the command can read it and somebody has sent something.
fn stdin_for(request: &Request, inspection: &Inspection) -> Result<Vec<u8>, Problem> {
    let reads = inspection.imports.iter().any(|import| import.name.starts_with("wasi:cli/stdin@"));
    if !reads || request.stdin_is_taken || io::stdin().is_terminal() {
        return Ok(Vec::new());
    }
    let max = usize::try_from(request.max_bytes).unwrap_or(usize::MAX);
    let bytes = match read_stdin_within(max, request.timeout) {
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            return Err(Problem::new(Kind::Timeout, error.to_string()).hint(STDIN_IS_OPEN));
        }
        read => read.context("stdin cannot be read")?,
    };
    if bytes.len() > max {
        let message = format!("stdin has more than {max} bytes");
        return Err(
            Problem::new(Kind::ArgsTooLarge, message).hint("raise the limit with `--max-args`")
        );
    }
    Ok(bytes)
}

/// The first ten of some names, in backticks.
fn list(names: impl ExactSizeIterator<Item = String>) -> String {
    const SHOWN: usize = 10;
    let more = names.len().saturating_sub(SHOWN);
    let shown: Vec<_> = names.take(SHOWN).map(|name| format!("`{name}`")).collect();
    let shown = shown.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

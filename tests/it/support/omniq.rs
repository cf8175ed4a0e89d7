//! Runs `omniq` and looks at how it ended.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::Value;

use super::binary;

/// The path of a component in `it/wat`.
pub fn wat(name: &str) -> String {
    format!("{}/it/wat/{name}.wat", env!("CARGO_MANIFEST_DIR"))
}

/// One run of the binary.
#[derive(Debug)]
pub struct Omniq {
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    stdin: Vec<u8>,
    folder: Option<PathBuf>,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Omniq {
    /// Will run with these arguments, and with a cache that all tests share.
    pub fn new<S: AsRef<str>>(args: impl IntoIterator<Item = S>) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().into()).collect();
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("omniq-cache");
        Self {
            args,
            env: vec![("OMNIQ_CACHE_DIR".to_owned(), cache.into())],
            stdin: Vec::new(),
            folder: None,
        }
    }

    /// Will run a component of `it/wat`; a text such as `jobs add 1 2` is split at its spaces.
    pub fn run(words: &str) -> Self {
        let mut words = words.split(' ');
        let file = wat(words.next().unwrap_or_default());
        Self::new(["run", &file].into_iter().chain(words))
    }

    /// In this folder.
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// With its result, or its failure, in JSON.
    pub fn in_json(mut self) -> Self {
        self.args.insert(1, "--format=json".into());
        self
    }

    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// The command itself, with all streams piped, for tests that do more than wait for its end.
    pub fn into_command(self) -> Command {
        let mut command = Command::new(binary::path());
        command.args(self.args).envs(self.env);
        if let Some(folder) = self.folder {
            command.current_dir(folder);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub fn end(mut self) -> Ended {
        let stdin = std::mem::take(&mut self.stdin);
        let mut command = self.into_command();
        let mut child = command.stdin(Stdio::piped()).spawn().expect("the binary starts");
        let mut pipe = child.stdin.take().expect("stdin is piped");
        // A run that does not read its stdin closes it, which is none of our business.
        let writer = thread::spawn(move || drop(pipe.write_all(&stdin)));
        let output = child.wait_with_output().expect("the binary ends");
        writer.join().expect("writing does not panic");
        output.into()
    }

    /// Runs it, expecting success, and gives what it wrote to stdout as text.
    #[track_caller]
    pub fn says(self) -> String {
        let ended = self.end();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        ended.text()
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it ends by itself"),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).expect("messages are UTF-8"),
        }
    }
}

impl Ended {
    /// Stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).expect("the result is UTF-8")
    }

    /// The JSON object on the last line of stdout.
    #[track_caller]
    pub fn json(&self) -> Value {
        let text = self.text();
        let line =
            text.lines().last().unwrap_or_else(|| panic!("nothing on stdout: {}", self.stderr));
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    /// What is under `error` in the JSON.
    #[track_caller]
    pub fn error(&self) -> Value {
        self.json()["error"].clone()
    }
}

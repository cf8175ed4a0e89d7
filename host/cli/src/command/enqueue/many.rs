//! Many tasks from a stream of lines: each line is one task's arguments in JSON. A line that is no such thing is named and
//! stands in nobody's way; what becomes of the others is known for each.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use omniq::{Error, NewTask, Queue, TaskHandle, TaskId};
use omniq_model::Kind;
use serde_json::json;
use tokio::sync::mpsc;

use super::EnqueueArgs;
use crate::component::is_stdin;
use crate::interrupt::Stop;
use crate::output::bar::Bar;
use crate::output::problem::{Problem, write_stdout};
use crate::output::value::Format;
use crate::output::{console, report};
use crate::queue::{self, Presence};
use crate::settings::SettingArgs;

/// Lines that are handed over at once.
const CHUNK: usize = 2000;
/// Lines that are read ahead, and bytes of them, unless one line alone has more.
const AHEAD: usize = 2 * CHUNK;
const AHEAD_BYTES: usize = 64 << 20;
/// The most bytes of a line: arguments in JSON are larger than in the form they are stored in, which has a limit of 8 MiB.
const MAX_LINE: u64 = 64 << 20;
/// Refused lines that are told one by one; the others are counted.
const TOLD: usize = 100;

/// A line of the stream.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// Nothing but spaces; it is passed over.
    Blank,
    /// Without its end.
    Text(Vec<u8>),
    /// It is longer than it may be, and was passed over.
    TooLong,
}

impl Line {
    fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Blank | Self::TooLong => 0,
        }
    }
}

/// Lines on their way from the thread that reads them.
struct Lines {
    read: mpsc::Receiver<io::Result<Line>>,
    ahead: Arc<Ahead>,
}

/// Bytes that were read and are not handed over.
#[derive(Debug, Default)]
struct Ahead {
    bytes: Mutex<usize>,
    freed: Condvar,
}

impl Ahead {
    fn bytes(&self) -> MutexGuard<'_, usize> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for so many.
    fn take(&self, size: usize) {
        let is_full = |bytes: &mut usize| *bytes > 0 && *bytes + size > AHEAD_BYTES;
        let bytes = self.freed.wait_while(self.bytes(), is_full);
        *bytes.unwrap_or_else(PoisonError::into_inner) += size;
    }

    fn give_back(&self, size: usize) {
        *self.bytes() -= size;
        self.freed.notify_one();
    }
}

/// What has become of the lines so far.
#[derive(Debug, Default)]
struct Sum {
    lines: usize,
    enqueued: usize,
    known: usize,
    refused: usize,
    /// The kind of the first refusal: it decides the exit code.
    first: Option<Kind>,
}

pub fn run(args: &EnqueueArgs, file: &Path, settings: &SettingArgs) -> crate::command::Result {
    args.policy.refuse_for_many()?;
    let size =
        if is_stdin(file) { None } else { std::fs::metadata(file).ok().map(|data| data.len()) };
    let input: Box<dyn Read + Send> = if is_stdin(file) {
        Box::new(io::stdin())
    } else {
        let unreadable = |error: io::Error| {
            let kind =
                if error.kind() == io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Host };
            Problem::new(kind, format!("the file `{}` cannot be read: {error}", file.display()))
        };
        Box::new(File::open(file).map_err(unreadable)?)
    };
    let stop = Stop::on_signals("stopping after the lines under way; once more to end at once\n");
    let sum = queue::with(settings, &args.store, Presence::Required, async |queue| {
        pump(args, &queue, read_ahead(input)?, size, &stop).await
    })?;
    finish(&sum, stop.is_asked())
}

/// What the lines come from, in words.
fn name(args: &EnqueueArgs) -> String {
    match args.ndjson.as_deref() {
        Some(file) if !is_stdin(file) => format!("`{}`", file.display()),
        _ => String::from("stdin"),
    }
}

async fn pump(
    args: &EnqueueArgs,
    queue: &Queue,
    mut input: Lines,
    size: Option<u64>,
    stop: &Stop,
) -> Result<Sum, Problem> {
    let function = args.function.clone().unwrap_or_default();
    // Said once, for all of them: neither module nor function depends on the line.
    let module = queue.module(&args.module).await?;
    let exact = format!("{}@{}", module.name, module.version);
    queue.function(&exact, &function).await?;
    let mut template = args.policy.apply(NewTask::new(exact, function))?;
    for parent in args.policy.parents() {
        template = template.after(parent.find(queue).await?);
    }
    let mut sum = Sum::default();
    let mut bar = Bar::new("lines", size);
    let mut read_bytes = 0;
    loop {
        // What has come by now makes a batch: a slow stream waits for nothing.
        let mut read = Vec::new();
        let count = tokio::select! {
            count = input.read.recv_many(&mut read, CHUNK) => count,
            () = stop.asked() => 0,
        };
        let good = read.iter().map_while(|line| line.as_ref().ok());
        let lines: Vec<_> = (sum.lines + 1..).zip(good).collect();
        let failure = read.iter().find_map(|line| line.as_ref().err());
        let tasks = lines.iter().filter_map(|(number, line)| {
            let Line::Text(text) = line else { return None };
            let task = template.clone().args_json(text.as_slice());
            Some(match &args.batch {
                Some(batch) => task.id(id_of(batch, *number)),
                None => task,
            })
        });
        let mut outcomes = queue.enqueue_many(tasks).await.into_iter();
        sum.lines += lines.len();
        let mut text = String::new();
        for (number, line) in &lines {
            let outcome = match line {
                Line::Blank => continue,
                Line::Text(line) => {
                    read_bytes += line.len() as u64 + 1;
                    outcomes.next().unwrap_or(Err(Error::Closed))
                }
                Line::TooLong => Err(too_long()),
            };
            tell(*number, outcome, args, &mut sum, &mut text, &bar)?;
        }
        write_stdout(text.as_bytes())?;
        input.ahead.give_back(lines.iter().map(|(_, line)| line.size()).sum());
        bar.at(sum.lines as u64, size.map(|_| read_bytes), &format!("{} enqueued", sum.enqueued));
        if let Some(error) = failure {
            let text = format!("line {} of {} cannot be read: {error}", sum.lines + 1, name(args));
            return Err(Problem::new(Kind::Host, text).hint(so_far(&sum)));
        }
        if count == 0 || stop.is_asked() {
            bar.finish();
            return Ok(sum);
        }
    }
}

fn tell(
    number: usize,
    outcome: Result<TaskHandle, Error>,
    args: &EnqueueArgs,
    sum: &mut Sum,
    text: &mut String,
    bar: &Bar,
) -> Result<(), Problem> {
    match outcome {
        Ok(handle) => {
            sum.enqueued += usize::from(handle.is_new());
            sum.known += usize::from(!handle.is_new());
            *text += &match args.format {
                Format::Json => format!(
                    "{}\n",
                    json!({ "line": number, "id": handle.id(), "new": handle.is_new() })
                ),
                _ => format!("{}\n", handle.id()),
            };
            Ok(())
        }
        // The store is gone: the lines after this one would only say the same.
        Err(error @ (Error::Store(_) | Error::Closed)) => {
            write_stdout(std::mem::take(text).as_bytes())?;
            let problem = Problem::from(error);
            let message = format!(
                "line {number} and those after it may not be enqueued: {}",
                problem.message()
            );
            let hint =
                "; with `--batch NAME` the same lines may be enqueued again, and are kept once";
            Err(Problem::new(problem.kind(), message).hint(so_far(sum) + hint))
        }
        Err(error) => {
            sum.refused += 1;
            sum.first.get_or_insert(error.kind());
            let message = why(&error, args.batch.as_deref());
            if args.format == Format::Json {
                let error = json!({ "kind": error.kind().name(), "message": message });
                *text += &format!("{}\n", json!({ "line": number, "error": error }));
            }
            if sum.refused <= TOLD {
                bar.line(&format!("line {number}: {}", console::tame(&message)));
            }
            Ok(())
        }
    }
}

/// Why a line was refused. Its id is ours where there is a batch, and says nothing to whoever wrote the line.
fn why(error: &Error, batch: Option<&str>) -> String {
    match (error, batch) {
        (Error::TaskConflict(_), Some(batch)) => format!(
            "it differs from the line that batch `{batch}` had here before: in its arguments, its options or the module's \
             version; enqueue what has changed under another name"
        ),
        _ => error.to_string(),
    }
}

fn finish(sum: &Sum, is_stopped: bool) -> crate::command::Result {
    console::note(&format!("{}\n", so_far(sum)));
    if is_stopped {
        return Err(
            Problem::new(Kind::Cancelled, "stopped before the end of the lines").interrupted()
        );
    }
    if let Some(kind) = sum.first {
        let noun = if sum.refused == 1 { "line was" } else { "lines were" };
        let text = format!("{} {noun} refused", sum.refused);
        return Err(Problem::new(kind, text)
            .hint("mend what was refused and enqueue it alone; the other lines are in the queue"));
    }
    Ok(())
}

/// `998 of 1000 lines enqueued, 2 refused`
fn so_far(sum: &Sum) -> String {
    let mut text = format!("{} of {} lines enqueued", sum.enqueued, sum.lines);
    for (count, what) in [(sum.known, "there already"), (sum.refused, "refused")] {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    text
}

/// The id of a line of a batch: the same line of the same batch always has the same.
fn id_of(batch: &str, number: usize) -> TaskId {
    TaskId::derived(&[b"batch", batch.as_bytes(), &number.to_be_bytes()])
}

fn too_long() -> Error {
    Error::Invalid(format!("the line has more than {}", report::bytes(MAX_LINE)))
}

/// Reads lines on a thread of their own, so that the store is not kept waiting, nor the reader of signals.
fn read_ahead(input: Box<dyn Read + Send>) -> Result<Lines, Problem> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let ahead = Arc::new(Ahead::default());
    let lines = Lines { read: receiver, ahead: Arc::clone(&ahead) };
    let read = move || {
        let mut input = BufReader::with_capacity(1 << 20, input);
        while let Some(line) = read_line(&mut input, MAX_LINE).transpose() {
            let is_end = line.is_err();
            ahead.take(line.as_ref().map_or(0, Line::size));
            // Nobody listens any more once the command has been stopped.
            if sender.blocking_send(line).is_err() || is_end {
                return;
            }
        }
    };
    thread::Builder::new().name(String::from("omniq-lines")).spawn(read).map_err(|error| {
        Problem::new(Kind::Host, format!("the thread that reads lines cannot be started: {error}"))
    })?;
    Ok(lines)
}

/// The next line; `None` after the last.
fn read_line(input: &mut impl BufRead, max: u64) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let read = input.by_ref().take(max + 1).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 > max {
        skip_line(input)?;
        return Ok(Some(Line::TooLong));
    }
    let is_blank = line.iter().all(u8::is_ascii_whitespace);
    Ok(Some(if is_blank { Line::Blank } else { Line::Text(line) }))
}

/// Reads up to the end of the line, and keeps nothing of it.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let length = buffer.len();
        input.consume(end.map_or(length, |end| end + 1));
        if end.is_some() || length == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_without_their_ends() {
        let mut input = &b"[1]\n \n12345678\n[2]"[..];
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut input, 7).unwrap() {
            lines.push(line);
        }
        let text = |text: &[u8]| Line::Text(text.to_vec());
        assert_eq!(lines, [text(b"[1]"), Line::Blank, Line::TooLong, text(b"[2]")]);
    }

    #[test]
    fn what_is_read_ahead_is_bounded_by_bytes() {
        const SIZE: usize = 1 << 20;
        const COUNT: usize = 200;
        let line = [&vec![b'x'; SIZE][..], b"\n"].concat();
        let mut lines = read_ahead(Box::new(io::Cursor::new(line.repeat(COUNT)))).unwrap();
        let mut read = 0;
        while let Some(line) = lines.read.blocking_recv() {
            let held = *lines.ahead.bytes();
            assert!(held <= AHEAD_BYTES, "{held}");
            lines.ahead.give_back(line.unwrap().size());
            read += 1;
        }
        assert_eq!(read, COUNT);
        let one = Ahead::default();
        one.take(2 * AHEAD_BYTES); // alone it has to go through
    }

    #[test]
    fn the_sum_is_a_sentence() {
        let sum = Sum { lines: 10, enqueued: 7, known: 1, refused: 2, first: None };
        assert_eq!(so_far(&sum), "7 of 10 lines enqueued, 1 there already, 2 refused");
    }
}

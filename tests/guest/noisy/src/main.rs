//! A command that does whatever its arguments say, to try what a command may do and what becomes of it.

mod http;

use std::error::Error;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

const USAGE: &str = "usage: noisy ACTION
  args [TEXT…]          prints its arguments, one a line
  cat                   copies stdin to stdout
  print BYTES           prints that many bytes in one write
  print-err BYTES       the same to stderr
  lines COUNT           prints that many lines, each in a write of its own
  env [NAME]            prints one variable, or all of them
  list FOLDER           prints the names in a folder, sorted
  read FILE             prints a file
  write FILE TEXT       writes a file
  get URL               prints the status and the body of an HTTP answer
  now                   prints the milliseconds since 1970
  random                prints a random number
  sleep MILLISECONDS    sleeps
  spin                  never ends, and never asks the host for anything
  allocate MIB          takes that much memory
  recurse               calls itself until the stack ends
  panic MESSAGE         panics
  return CODE           returns that exit code from `main`
  exit CODE             exits on the spot";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("noisy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<ExitCode, Box<dyn Error>> {
    let mut stdout = io::stdout().lock();
    match args {
        ["args", rest @ ..] => rest.iter().try_for_each(|arg| writeln!(stdout, "{arg}"))?,
        ["cat"] => {
            io::copy(&mut io::stdin().lock(), &mut stdout)?;
        }
        ["print", bytes] => stdout.write_all(&pattern(bytes.parse()?))?,
        ["print-err", bytes] => io::stderr().lock().write_all(&pattern(bytes.parse()?))?,
        ["lines", count] => {
            for line in 0..count.parse::<u64>()? {
                writeln!(stdout, "line {line}")?;
            }
        }
        ["env"] => {
            let mut variables: Vec<_> = std::env::vars().collect();
            variables.sort();
            variables.iter().try_for_each(|(name, value)| writeln!(stdout, "{name}={value}"))?;
        }
        ["env", name] => writeln!(stdout, "{}", std::env::var(name)?)?,
        ["list", folder] => {
            let entries = std::fs::read_dir(folder)?;
            let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name())).collect();
            let mut names = names?;
            names.sort();
            names.iter().try_for_each(|name| writeln!(stdout, "{}", name.to_string_lossy()))?;
        }
        ["read", file] => {
            let mut bytes = Vec::new();
            std::fs::File::open(file)?.read_to_end(&mut bytes)?;
            stdout.write_all(&bytes)?;
        }
        ["write", file, text] => std::fs::write(file, text)?,
        ["get", url] => {
            let answer = http::get(url)?;
            writeln!(stdout, "{}", answer.status)?;
            stdout.write_all(&answer.body)?;
        }
        ["now"] => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
            writeln!(stdout, "{}", now.as_millis())?;
        }
        ["random"] => writeln!(stdout, "{}", wasip2::random::random::get_random_u64())?,
        ["sleep", milliseconds] => {
            let start = Instant::now();
            std::thread::sleep(Duration::from_millis(milliseconds.parse()?));
            writeln!(stdout, "slept {} ms", start.elapsed().as_millis())?;
        }
        ["spin"] => spin(),
        ["allocate", mebibytes] => {
            let bytes = vec![1_u8; mebibytes.parse::<usize>()? << 20];
            writeln!(stdout, "{}", std::hint::black_box(bytes).len())?;
        }
        ["recurse"] => writeln!(stdout, "{}", recurse(1))?,
        ["panic", message] => panic!("{message}"),
        ["exit", code] => std::process::exit(code.parse()?),
        ["return", code] => return Ok(ExitCode::from(code.parse::<u8>()?)),
        _ => return Err(USAGE.into()),
    }
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Lines of 64 bytes, so that what arrives can be looked at, and cut where it has to be.
fn pattern(bytes: usize) -> Vec<u8> {
    let line = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n";
    line.iter().copied().cycle().take(bytes).collect()
}

fn spin() {
    let mut count = 0_u64;
    loop {
        count = std::hint::black_box(count).wrapping_add(1);
    }
}

/// Not in tail position, and with a frame that cannot be optimised away.
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 32]);
    match depth.checked_add(1) {
        Some(deeper) => recurse(deeper) + frame[31],
        None => 0,
    }
}

//! Counts the words of its standard input and prints the most frequent ones.
//!
//! An ordinary command line program. Nothing in it knows of OmniQ or of WebAssembly.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;

const USAGE: &str = "usage: wordcount [--top N] [--min-length N] [--keep-case] < TEXT";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    /// How many words are printed; all of them without a number.
    top: Option<usize>,
    /// Shorter words, in characters, are not counted.
    min_length: usize,
    /// Whether `The` and `the` are two words.
    keep_case: bool,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("wordcount: {message}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let counted = count(io::stdin().lock(), &options)
        .and_then(|counts| print(&mut io::stdout().lock(), &counts, options.top));
    match counted {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wordcount: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the arguments; `None` means that help was asked for.
fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options { top: None, min_length: 1, keep_case: false };
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().ok_or_else(|| format!("`{arg}` needs a number"))?;
            value.parse().map_err(|_| format!("`{arg}` needs a number, got `{value}`"))
        };
        match arg.as_str() {
            "--top" => options.top = Some(number()?),
            "--min-length" => options.min_length = number()?,
            "--keep-case" => options.keep_case = true,
            "--help" => return Ok(None),
            other => return Err(format!("unknown argument `{other}`")),
        }
    }
    Ok(Some(options))
}

/// Counts line by line, so that memory grows with the vocabulary and not with the text.
fn count(text: impl BufRead, options: &Options) -> io::Result<HashMap<String, u64>> {
    let mut counts = HashMap::new();
    for line in text.lines() {
        let line = line?;
        // An apostrophe within a word belongs to it: `don't`.
        let words = line
            .split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’')
            .map(|word| word.trim_matches(['\'', '’']))
            .filter(|word| !word.is_empty() && word.chars().count() >= options.min_length);
        for word in words {
            let word = if options.keep_case { word.to_owned() } else { word.to_lowercase() };
            *counts.entry(word).or_default() += 1;
        }
    }
    Ok(counts)
}

/// Prints the most frequent words first, equally frequent ones in alphabetical order.
fn print(
    out: &mut impl Write,
    counts: &HashMap<String, u64>,
    top: Option<usize>,
) -> io::Result<()> {
    let mut rows: Vec<_> = counts.iter().collect();
    rows.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    rows.truncate(top.unwrap_or(usize::MAX));
    for (word, count) in rows {
        writeln!(out, "{count:>7} {word}")?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Option<Options>, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments_are_read() {
        let options = parse_line("--top 5 --min-length 2 --keep-case").unwrap().unwrap();
        assert_eq!(options, Options { top: Some(5), min_length: 2, keep_case: true });
        assert_eq!(parse_line("--help"), Ok(None));
    }

    #[test]
    fn bad_arguments_are_named() {
        for (line, message) in [
            ("--top", "`--top` needs a number"),
            ("--top five", "`--top` needs a number, got `five`"),
            ("five", "unknown argument `five`"),
        ] {
            assert_eq!(parse_line(line), Err(message.to_owned()), "{line}");
        }
    }

    #[test]
    fn frequent_words_come_first() {
        let options = parse_line("").unwrap().unwrap();
        let counts = count(&b"To be, or not to be:\nthat's the 'question'"[..], &options).unwrap();
        let mut out = Vec::new();
        print(&mut out, &counts, Some(3)).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "      2 be\n      2 to\n      1 not\n");
        assert!(counts.contains_key("that's") && counts.contains_key("question"));
    }
}

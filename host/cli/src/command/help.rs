//! `omniq help`: of commands, and of topics that several of them share.

use clap::CommandFactory;
use omniq::config::ROWS;
use omniq_model::Kind;

use super::Cli;
use crate::option::{grants, limits};
use crate::output::problem::{INTERRUPTED, Problem, write_stdout};

/// Explain a command, or a topic: `configuration`, `exit-codes`, `limits`, `grants`
#[derive(Debug, clap::Args)]
pub struct HelpArgs {
    /// The command or topic
    #[arg(value_name = "TOPIC")]
    topic: Option<String>,
}

pub fn run(args: &HelpArgs) -> super::Result {
    let text = match args.topic.as_deref() {
        None => Cli::command().render_long_help().to_string(),
        Some("configuration") => configuration(),
        Some("exit-codes") => exit_codes(),
        Some("limits") => options(limits::HEADING),
        Some("grants") => options(grants::HEADING),
        Some(topic) => command(topic)?,
    };
    write_stdout(text.as_bytes())
}

fn command(name: &str) -> Result<String, Problem> {
    let mut cli = Cli::command();
    cli.build();
    match cli.find_subcommand_mut(name) {
        Some(command) => Ok(command.render_long_help().to_string()),
        None => {
            let known: Vec<_> =
                cli.get_subcommands().map(|command| format!("`{}`", command.get_name())).collect();
            let hint = format!(
                "there are {}, and `configuration`, `exit-codes`, `limits`, `grants`",
                known.join(", ")
            );
            Err(Problem::new(Kind::Usage, format!("there is no command or topic `{name}`"))
                .hint(hint))
        }
    }
}

/// The table of exit codes, from the same source as the codes themselves.
fn exit_codes() -> String {
    let mut rows = vec![(0, "", "It worked.")];
    rows.extend(
        Kind::ALL.iter().map(|kind| (kind.exit_code(), kind.name(), kind.meaning().trim())),
    );
    rows.push((INTERRUPTED, "cancelled", "The run was ended with Ctrl-C."));
    rows.sort_by_key(|(code, ..)| *code);
    let mut text =
        String::from("Exit codes, and what each failure is called in JSON (`-o json`):\n\n");
    for (code, name, meaning) in rows {
        text += &format!("{code:>3}  {name:<17}  {meaning}\n");
    }
    text + "\nThe hint of a failure says which option raises the limit it ran into; see `omniq help limits`.\n"
}

/// The settings, from the table they are read by.
fn configuration() -> String {
    let mut text = String::from(
        "Settings, strongest first: flags (`--set KEY=VALUE`), variables, `omniq.toml` (or `--config PATH`), defaults.\n\
         Sections and names in the file are the two halves of a key; `omniq config show --origin` shows what is in use.\n",
    );
    for row in ROWS {
        let doc = row.doc.split_whitespace().collect::<Vec<_>>().join(" ");
        text += &format!(
            "\n{}  {}\n    {doc}\n    Write {}. Default: {}\n",
            row.key,
            row.variables.join(", "),
            row.brief(),
            row.default_text()
        );
    }
    text
}

/// The options of `omniq run` under a heading.
fn options(heading: &str) -> String {
    let mut cli = Cli::command();
    cli.build();
    let run = cli.find_subcommand("run").expect("`run` is a command");
    let mut text = format!("{heading}:\n\n");
    for option in run.get_arguments().filter(|option| option.get_help_heading() == Some(heading)) {
        let value: Vec<_> =
            option.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
        let flag = format!("--{} {}", option.get_long().unwrap_or_default(), value.join(" "));
        let help = option.get_help().map(ToString::to_string).unwrap_or_default();
        let defaults: Vec<_> =
            option.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default = if defaults.is_empty() {
            String::new()
        } else {
            format!(" [default: {}]", defaults.join(" "))
        };
        text += &format!("  {flag:<35} {help}{default}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_listed_with_its_code() {
        let table = exit_codes();
        for kind in Kind::ALL {
            let start = format!("{:>3}  {} ", kind.exit_code(), kind.name());
            assert_eq!(table.lines().filter(|line| line.starts_with(&start)).count(), 1, "{kind}");
        }
    }

    #[test]
    fn every_code_is_in_the_documentation() {
        let page = include_str!("../../../../docs/cli.md");
        for kind in Kind::ALL {
            let start = format!("| {} | ", kind.exit_code());
            assert_eq!(page.lines().filter(|line| line.starts_with(&start)).count(), 1, "{kind}");
        }
    }

    #[test]
    fn topics_list_their_options() {
        for row in ROWS {
            assert!(
                configuration().contains(&format!("\n{}  {}", row.key, row.variables[0])),
                "{}",
                row.key
            );
        }
        assert!(options(limits::HEADING).contains("--fuel N "), "{}", options(limits::HEADING));
        assert!(options(limits::HEADING).contains("[default: 20G]"));
        assert!(options(limits::HEADING).contains("--max-module SIZE"));
        assert!(options(grants::HEADING).contains("--grant-dir HOST[:GUEST][:ro|:rw]"));
    }
}

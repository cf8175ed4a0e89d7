//! `omniq module`: what has been pushed.

use omniq::Module;
use serde_json::{Value, json};

use super::push::{AnswerArgs, Format};
use crate::output::problem::{Problem, write_stdout};
use crate::output::table::table;
use crate::output::tasks::moment;
use crate::output::value::Format as ErrorFormat;
use crate::output::{console, report};
use crate::queue::{self, Presence};
use crate::settings::SettingArgs;

/// Look at the modules that have been pushed, and forget some
#[derive(Debug, clap::Args)]
#[command(visible_alias = "modules")]
pub struct ModuleArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List all modules, the version pushed last first
    List(AnswerArgs),
    /// Show a module, with its functions and their types
    Show(NameArgs),
    /// Forget one version of a module; tasks of it that have not started wait until it is pushed again
    Rm(RmArgs),
}

#[derive(Debug, clap::Args)]
struct NameArgs {
    /// A name, or `NAME@VERSION`; without a version the one pushed last
    module: String,
    #[command(flatten)]
    answer: AnswerArgs,
}

#[derive(Debug, clap::Args)]
struct RmArgs {
    /// The module with its version; a name alone is refused, since it means another version after every push
    #[arg(value_name = "NAME@VERSION")]
    module: String,
    #[command(flatten)]
    answer: AnswerArgs,
}

impl ModuleArgs {
    /// How failures are written.
    pub fn format(&self) -> ErrorFormat {
        match &self.command {
            Command::List(args) => args.format.of_errors(),
            Command::Show(args) => args.answer.format.of_errors(),
            Command::Rm(args) => args.answer.format.of_errors(),
        }
    }
}

pub fn run(args: &ModuleArgs, settings: &SettingArgs) -> super::Result {
    match &args.command {
        Command::List(args) => list(args, settings),
        Command::Show(args) => show(args, settings),
        Command::Rm(args) => remove(args, settings),
    }
}

fn list(args: &AnswerArgs, settings: &SettingArgs) -> super::Result {
    let modules = queue::with(settings, &args.store, Presence::Required, async |queue| {
        Ok(queue.modules().await?)
    })?;
    let text = match args.format {
        Format::Text => {
            let row = |module: &Module| {
                [
                    module.name.to_string(),
                    module.version.to_string(),
                    module.digest.to_hex()[..12].to_owned(),
                    report::bytes(module.size),
                    contents(module),
                    moment(module.pushed),
                ]
            };
            table(["NAME", "VERSION", "DIGEST", "SIZE", "HAS", "PUSHED"], modules.iter().map(row))
        }
        Format::Json => {
            let modules: Vec<_> = modules.iter().map(json_of).collect();
            format!("{}\n", Value::Array(modules))
        }
    };
    write_stdout(text.as_bytes())
}

fn show(args: &NameArgs, settings: &SettingArgs) -> super::Result {
    let module = queue::with(settings, &args.answer.store, Presence::Required, async |queue| {
        Ok(queue.module(&args.module).await?)
    })?;
    let text = match args.answer.format {
        Format::Text => text_of(&module),
        Format::Json => format!("{}\n", json_of(&module)),
    };
    write_stdout(text.as_bytes())
}

fn remove(args: &RmArgs, settings: &SettingArgs) -> super::Result {
    let removed = queue::with(settings, &args.answer.store, Presence::Required, async |queue| {
        Ok(queue.remove_module(&args.module).await?)
    })?;
    if !removed {
        let text = format!("there is no module `{}`", args.module);
        let problem = Problem::new(omniq_model::Kind::NotFound, text);
        return Err(problem.hint("`omniq module list` shows all there are"));
    }
    let text = match args.answer.format {
        Format::Text => format!("{} is forgotten\n", args.module),
        Format::Json => format!("{}\n", json!({ "removed": args.module })),
    };
    write_stdout(text.as_bytes())
}

/// `3 functions`
fn contents(module: &Module) -> String {
    let functions = match module.functions.len() {
        0 => None,
        1 => Some(String::from("1 function")),
        count => Some(format!("{count} functions")),
    };
    let command = module.command.then(|| String::from("a command"));
    let all: Vec<_> = functions.into_iter().chain(command).collect();
    all.join(", ")
}

fn text_of(module: &Module) -> String {
    let mut text = format!(
        "module     {}@{}\ndigest     {}\nsize       {}\npushed     {}\n",
        module.name,
        module.version,
        module.digest,
        report::bytes(module.size),
        moment(module.pushed)
    );
    if !module.capabilities.is_empty() {
        text += &format!("wants      {}\n", module.capabilities.join(", "));
    }
    if module.command {
        text += "command    yes: put its arguments after `--`\n";
    }
    if !module.functions.is_empty() {
        text += "functions\n";
    }
    for function in &module.functions {
        text += &format!("  {}{}\n", function.short, function.signature);
        for line in function.docs.lines().filter(|line| !line.trim().is_empty()) {
            text += &format!("    {}\n", console::tame(line));
        }
        for ty in function.signature.named_types() {
            text += &ty.declaration().map(|ty| format!("    {ty}\n")).unwrap_or_default();
        }
    }
    text
}

fn json_of(module: &Module) -> Value {
    let function = |function: &omniq_model::ModuleFunction| {
        json!({
            "name": function.short,
            "full_name": function.name,
            "wit": function.signature.to_string(),
            "docs": function.docs,
        })
    };
    json!({
        "name": module.name.as_str(),
        "version": module.version.as_str(),
        "digest": module.digest.to_string(),
        "size": module.size,
        "functions": module.functions.iter().map(function).collect::<Vec<_>>(),
        "command": module.command,
        "capabilities": module.capabilities,
        "pushed": moment(module.pushed),
    })
}

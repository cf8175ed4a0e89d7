//! `omniq inspect`: what a component says about itself, read from its bytes; nothing is compiled or run.

use std::path::PathBuf;

use omniq_model::wit::{Signature, Type};
use omniq_sandbox::Inspection;
use omniq_sandbox::inspect::{Capability, Function, Import, OtherExport, Producers, Shape};
use serde::Serialize;

use crate::component;
use crate::option::limits::RuleArgs;
use crate::output::console::tame;
use crate::output::problem::{Problem, write_stdout};
use crate::output::{report, value};

/// Show what a component exports and what it asks for
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// The component: a `.wasm` or `.wat` file, or `-` for stdin
    file: PathBuf,
    /// How it is written to stdout
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    rules: RuleArgs,
}

/// How an inspection is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One line of JSON; failures are written to stdout as well
    Json,
}

impl InspectArgs {
    /// How failures are written.
    pub fn format(&self) -> value::Format {
        match self.format {
            Format::Text => value::Format::Wave,
            Format::Json => value::Format::Json,
        }
    }
}

pub fn run(args: &InspectArgs) -> super::Result {
    let component = component::read(&args.file, &args.rules.rules())?;
    let text = match args.format {
        Format::Text => text(&component.name, component.inspection()),
        Format::Json => json(component.inspection())?,
    };
    write_stdout(text.as_bytes())
}

fn text(name: &str, inspection: &Inspection) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| text += &format!("{name:<10} {value}\n");
    let kinds: Vec<_> = inspection.shapes().into_iter().map(word).collect();
    row("component", &tame(name));
    row("kind", &kinds.join(", "));
    row("digest", &inspection.digest.to_string());
    row("size", &report::bytes(inspection.size));
    let made: Vec<_> = [&inspection.producers.languages, &inspection.producers.tools]
        .into_iter()
        .flatten()
        .map(|tool| tame(tool))
        .collect();
    if !made.is_empty() {
        row("made with", &made.join(", "));
    }
    if let Some(command) = &inspection.command {
        row("command", command);
    }
    if let Some(handler) = &inspection.handler {
        row("handler", &handler.to_string());
    }
    if let Some(describe) = &inspection.describe {
        row("described", &describe.to_string());
    }
    functions(&mut text, inspection);
    imports(&mut text, &inspection.imports);
    let other = |export: &OtherExport| format!("{}: {}", tame(&export.name), tame(&export.reason));
    section(&mut text, "exports left alone", inspection.others.iter().map(other).collect());
    section(&mut text, "notes", inspection.notes.iter().map(|note| tame(note)).collect());
    text
}

/// Some lines under a title; nothing where there are none.
fn section(text: &mut String, title: &str, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    *text += &format!("\n{title}\n");
    for line in lines {
        *text += &format!("  {line}\n");
    }
}

fn word(shape: Shape) -> &'static str {
    match shape {
        Shape::Functions => "functions",
        Shape::Command => "command",
        Shape::Handler => "handler",
    }
}

fn functions(text: &mut String, inspection: &Inspection) {
    let mut lines = Vec::new();
    for function in &inspection.functions {
        let is_async = if function.signature.is_async { "async " } else { "" };
        let name = inspection.short_name(&function.name);
        lines.push(format!("{is_async}{name}{}", function.signature));
        let docs = function.docs.iter().flat_map(|docs| docs.lines());
        lines.extend(docs.map(|line| format!("  {}", tame(line)).trim_end().to_owned()));
    }
    section(text, "functions", lines);
    let signatures = inspection.functions.iter().map(|function| &function.signature);
    section(text, "types", declarations(signatures));
}

/// The declarations of all named types, each once, those that others depend on first.
fn declarations<'a>(signatures: impl Iterator<Item = &'a Signature>) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for ty in signatures.flat_map(Signature::named_types).filter_map(Type::declaration) {
        if !seen.contains(&ty) {
            seen.push(ty);
        }
    }
    seen
}

fn imports(text: &mut String, imports: &[Import]) {
    let mut capabilities: Vec<_> = imports.iter().map(|import| import.capability).collect();
    // What is harmless is of the least interest.
    capabilities.sort_unstable_by_key(|capability| (*capability == Capability::None, *capability));
    capabilities.dedup();
    let mut lines = Vec::new();
    for capability in capabilities {
        lines.push(format!("{:<12} {}", capability.name(), access(capability)));
        let wanting = imports.iter().filter(|import| import.capability == capability);
        lines.extend(wanting.map(|import| format!("  {}", tame(&import.name))));
    }
    section(text, "imports", lines);
}

/// How a guest gets what a capability stands for.
fn access(capability: Capability) -> &'static str {
    match capability {
        Capability::None => "reaches nothing outside the guest",
        Capability::Task => "always there: progress, log and output of the task",
        Capability::Stdio => "always there: captured",
        Capability::Clock => "always there; `--clock` stops it",
        Capability::Random => "always there; `--seed` makes it repeatable",
        Capability::Environment => "empty without `--grant-env`",
        Capability::Filesystem => "empty without `--grant-dir`",
        Capability::Network => "always refused",
        Capability::Http => "refused without `--grant-http`",
        Capability::KeyValue => "refused without `--grant-kv`",
        Capability::Config => "empty without `--grant-config`",
        Capability::Logging => "always there: log lines go to stderr",
        _ => "see `omniq help grants`",
    }
}

/// The option that grants a capability, if it takes one.
fn option_of(capability: Capability) -> Option<&'static str> {
    Some(match capability {
        Capability::Environment => "--grant-env",
        Capability::Filesystem => "--grant-dir",
        Capability::Http => "--grant-http",
        Capability::KeyValue => "--grant-kv",
        Capability::Config => "--grant-config",
        _ => return None,
    })
}

fn json(inspection: &Inspection) -> Result<String, Problem> {
    let body = Body {
        digest: inspection.digest.to_string(),
        size: inspection.size,
        kinds: inspection.shapes().into_iter().map(word).collect(),
        functions: inspection
            .functions
            .iter()
            .map(|function| FunctionBody::new(function, inspection))
            .collect(),
        command: inspection.command.as_deref(),
        handler: inspection.handler.as_ref().map(ToString::to_string),
        describe: inspection.describe.as_ref().map(ToString::to_string),
        imports: inspection.imports.iter().map(ImportBody::new).collect(),
        others: &inspection.others,
        producers: &inspection.producers,
        notes: &inspection.notes,
    };
    let text = serde_json::to_string(&body)
        .map_err(|error| Problem::new(omniq_model::Kind::Host, error.to_string()))?;
    Ok(text + "\n")
}

#[derive(Serialize)]
struct Body<'a> {
    digest: String,
    size: u64,
    kinds: Vec<&'static str>,
    functions: Vec<FunctionBody<'a>>,
    command: Option<&'a str>,
    handler: Option<String>,
    describe: Option<String>,
    imports: Vec<ImportBody<'a>>,
    others: &'a [OtherExport],
    producers: &'a Producers,
    notes: &'a [String],
}

#[derive(Serialize)]
struct FunctionBody<'a> {
    /// What `omniq run` understands.
    name: String,
    full_name: String,
    /// As WIT writes it.
    wit: String,
    /// The declarations it depends on.
    types: Vec<String>,
    docs: Option<&'a str>,
    signature: &'a Signature,
}

impl<'a> FunctionBody<'a> {
    fn new(function: &'a Function, inspection: &Inspection) -> Self {
        Self {
            name: inspection.short_name(&function.name),
            full_name: function.name.to_string(),
            wit: function.signature.to_string(),
            types: declarations(std::iter::once(&function.signature)),
            docs: function.docs.as_deref(),
            signature: &function.signature,
        }
    }
}

#[derive(Serialize)]
struct ImportBody<'a> {
    name: &'a str,
    functions: &'a [String],
    capability: Capability,
    option: Option<&'static str>,
}

impl<'a> ImportBody<'a> {
    fn new(import: &'a Import) -> Self {
        Self {
            name: &import.name,
            functions: &import.functions,
            capability: import.capability,
            option: option_of(import.capability),
        }
    }
}

//! The limits of a run, each with the sandbox's own default.

use std::sync::LazyLock;

use omniq_sandbox::{Limits, Profile, Rules};

use super::quantity::{Bytes, Count, Span};

/// The heading these options stand under in the help.
pub const HEADING: &str = "Limits";

static DEFAULT: LazyLock<Limits> = LazyLock::new(Limits::default);

/// What a run may use.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = HEADING)]
pub struct LimitArgs {
    /// Units of fuel, about one for each instruction
    #[arg(long, value_name = "N", default_value_t = Count(DEFAULT.fuel))]
    fuel: Count,
    /// Bytes of memory
    #[arg(long, value_name = "SIZE", default_value_t = Bytes(DEFAULT.memory))]
    memory: Bytes,
    /// Time from start to end, waits included
    #[arg(long, value_name = "TIME", default_value_t = Span(DEFAULT.timeout))]
    timeout: Span,
    /// Processor time
    #[arg(long, value_name = "TIME", default_value_t = Span(DEFAULT.cpu))]
    cpu: Span,
    /// Bytes of the arguments, or of a command's stdin
    #[arg(long, value_name = "SIZE", default_value_t = Bytes(DEFAULT.args))]
    max_args: Bytes,
    /// Bytes of the result
    #[arg(long, value_name = "SIZE", default_value_t = Bytes(DEFAULT.result))]
    max_result: Bytes,
    /// Bytes written to stdout
    #[arg(long, value_name = "SIZE", default_value_t = Bytes(DEFAULT.stdout))]
    max_stdout: Bytes,
    /// Bytes written to stderr
    #[arg(long, value_name = "SIZE", default_value_t = Bytes(DEFAULT.stderr))]
    max_stderr: Bytes,
    /// Bytes written through `omniq:task/output`
    #[arg(long, value_name = "SIZE", default_value_t = Bytes(DEFAULT.output))]
    max_output: Bytes,
    /// Lines written to the log
    #[arg(long, value_name = "N", default_value_t = Count(DEFAULT.log_lines))]
    log_lines: Count,
    /// Calls of host functions
    #[arg(long, value_name = "N", default_value_t = Count(DEFAULT.host_calls))]
    host_calls: Count,
    /// Handles to files, streams and the like, held at once
    #[arg(long, value_name = "N", default_value_t = Count(DEFAULT.handles.into()), value_parser = small)]
    handles: Count,
    /// Elements of all tables together
    #[arg(long, value_name = "N", default_value_t = Count(DEFAULT.table_elements))]
    table_elements: Count,
    /// Core instances the component may be made of
    #[arg(long, value_name = "N", default_value_t = Count(DEFAULT.instances.into()), value_parser = small)]
    instances: Count,
    /// Memories the component may have
    #[arg(long, value_name = "N", default_value_t = Count(DEFAULT.memories.into()), value_parser = small)]
    memories: Count,
    /// Tables the component may have
    #[arg(long, value_name = "N", default_value_t = Count(DEFAULT.tables.into()), value_parser = small)]
    tables: Count,
    /// Bytes of stack for the guest's calls
    #[arg(long, value_name = "SIZE", default_value_t = Bytes(512 << 10), value_parser = stack)]
    stack: Bytes,
    #[command(flatten)]
    rules: RuleArgs,
}

/// Which components are taken.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = HEADING)]
pub struct RuleArgs {
    /// Bytes of the component itself
    #[arg(long, value_name = "SIZE", default_value_t = Bytes(Rules::default().max_bytes as u64))]
    max_module: Bytes,
    /// Features it may use: `strict` is what WASI 0.2 needs, `full` adds async, GC, exceptions and more
    #[arg(long, value_name = "PROFILE", default_value = "strict", value_parser = profile)]
    profile: Profile,
}

impl LimitArgs {
    /// The limits of the call.
    pub fn limits(&self) -> Limits {
        Limits {
            fuel: self.fuel.0,
            memory: self.memory.0,
            timeout: self.timeout.0,
            cpu: self.cpu.0,
            args: self.max_args.0,
            result: self.max_result.0,
            stdout: self.max_stdout.0,
            stderr: self.max_stderr.0,
            output: self.max_output.0,
            log_lines: self.log_lines.0,
            host_calls: self.host_calls.0,
            table_elements: self.table_elements.0,
            handles: saturate(self.handles),
            instances: saturate(self.instances),
            memories: saturate(self.memories),
            tables: saturate(self.tables),
            ..Limits::default()
        }
    }

    /// Bytes of stack.
    pub fn stack(&self) -> usize {
        usize::try_from(self.stack.0).unwrap_or(usize::MAX)
    }

    /// Which components are taken.
    pub fn rules(&self) -> Rules {
        self.rules.rules()
    }
}

impl RuleArgs {
    /// Which components are taken.
    pub fn rules(&self) -> Rules {
        let max_bytes = usize::try_from(self.max_module.0).unwrap_or(usize::MAX);
        Rules { profile: self.profile, max_bytes, ..Rules::default() }
    }
}

fn saturate(count: Count) -> u32 {
    u32::try_from(count.0).unwrap_or(u32::MAX)
}

fn small(text: &str) -> Result<Count, String> {
    let count: Count = text.parse()?;
    if u32::try_from(count.0).is_ok() {
        Ok(count)
    } else {
        Err(format!("it is more than {}", u32::MAX))
    }
}

/// The guest's calls run on the stack of a thread, which has 8 MiB in most systems and 1 GiB at the very most.
fn stack(text: &str) -> Result<Bytes, String> {
    let bytes: Bytes = text.parse()?;
    let allowed = Bytes(4 << 10)..=Bytes(4 << 20);
    if (allowed.start().0..=allowed.end().0).contains(&bytes.0) {
        Ok(bytes)
    } else {
        Err(format!("it must lie between {} and {}", allowed.start(), allowed.end()))
    }
}

fn profile(text: &str) -> Result<Profile, String> {
    match text {
        "strict" => Ok(Profile::Strict),
        "full" => Ok(Profile::Full),
        _ => Err("it is `strict` or `full`".to_owned()),
    }
}

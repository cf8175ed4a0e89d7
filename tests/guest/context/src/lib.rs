//! Says what its host tells it, and tells its host what it is told to.

/// Every interface that the host offers, by way of the SDK.
#[omniq::tasks]
mod host {
    use std::time::{Duration, SystemTime};

    use omniq::log::Level;
    use omniq::{Denial, Failure, Payload};

    /// What a task may know about itself.
    pub struct Info {
        id: String,
        target: String,
        attempt: u32,
        max_attempts: u32,
        enqueued_at_ms: u64,
        deadline_ms: Option<u64>,
        idempotency_key: String,
        traceparent: Option<String>,
    }

    /// Why the host refused.
    pub enum Refusal {
        NotGranted(String),
        OverQuota(String),
        BadArgument(String),
        Unavailable(String),
        Other(String),
    }

    pub enum Severity {
        Trace,
        Debug,
        Info,
        Warn,
        Error,
    }

    pub fn info() -> Info {
        let context = omniq::context::get();
        Info {
            id: context.id,
            target: context.target,
            attempt: context.attempt,
            max_attempts: context.max_attempts,
            enqueued_at_ms: milliseconds(context.enqueued_at),
            deadline_ms: context.deadline.map(milliseconds),
            idempotency_key: context.idempotency_key,
            traceparent: context.traceparent,
        }
    }

    pub fn header(name: &str) -> Option<String> {
        omniq::context::header(name)
    }

    pub fn cancelled() -> bool {
        omniq::context::cancelled()
    }

    /// In milliseconds.
    pub fn remaining() -> Option<u64> {
        omniq::context::remaining().map(|left| left.as_millis().try_into().unwrap_or(u64::MAX))
    }

    /// Reports each of `total` steps.
    pub fn steps(total: u64, note: Option<String>) -> Result<(), Refusal> {
        for done in 1..=total {
            omniq::progress::report(done, Some(total), note.as_deref()).map_err(refusal)?;
        }
        Ok(())
    }

    /// Leaves a cursor, and gives back the one that was there before and the one that is there now.
    pub fn cursor(next: Payload) -> Result<(Option<Payload>, Option<Payload>), Refusal> {
        let before = omniq::progress::last_cursor();
        omniq::progress::heartbeat(Some(next)).map_err(refusal)?;
        Ok((before, omniq::progress::last_cursor()))
    }

    pub fn log(severity: Severity, message: &str, fields: Vec<(String, String)>) {
        let level = match severity {
            Severity::Trace => Level::Trace,
            Severity::Debug => Level::Debug,
            Severity::Info => Level::Info,
            Severity::Warn => Level::Warn,
            Severity::Error => Level::Error,
        };
        let fields: Vec<(&str, &dyn std::fmt::Display)> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value as &dyn std::fmt::Display))
            .collect();
        omniq::log::emit(level, message, &fields);
    }

    /// Logs that many lines.
    pub fn log_lines(count: u32) {
        for line in 0..count {
            omniq::log::info("a line", &[("number", &line)]);
        }
    }

    /// Writes that many chunks of that many bytes, and returns how many bytes they are.
    pub fn output(media_type: Option<String>, chunks: u32, bytes: u32) -> Result<u64, Refusal> {
        if let Some(media_type) = media_type {
            omniq::output::set_media_type(&media_type).map_err(refusal)?;
        }
        let chunk = vec![b'x'; bytes as usize];
        for _ in 0..chunks {
            omniq::output::write(&chunk).map_err(refusal)?;
        }
        Ok(u64::from(chunks) * u64::from(bytes))
    }

    /// Looks whether it was asked to stop until it was, and then says so.
    pub fn until_cancelled() -> Result<(), Failure> {
        while !omniq::context::cancelled() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(Failure::permanent("stopped as asked").code("stopped"))
    }

    fn milliseconds(moment: SystemTime) -> u64 {
        let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        since.as_millis().try_into().unwrap_or(u64::MAX)
    }

    fn refusal(denial: Denial) -> Refusal {
        match denial {
            Denial::NotGranted(text) => Refusal::NotGranted(text),
            Denial::OverQuota(text) => Refusal::OverQuota(text),
            Denial::BadArgument(text) => Refusal::BadArgument(text),
            Denial::Unavailable(text) => Refusal::Unavailable(text),
            Denial::Other(text) => Refusal::Other(text),
            other => Refusal::Other(other.to_string()),
        }
    }
}

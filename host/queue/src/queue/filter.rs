//! Filters as people write them: `state:failed queue:media label.customer:acme age:>1h`.
//!
//! Words are separated by spaces; all must fit. A value may have several forms separated by commas where that is said, and
//! stands in quotes where it has spaces. `-state:…` means any other state.

use std::time::Duration;

use omniq_model::{Phase, State, Timestamp};
use omniq_sandbox::inspect::nearest::suggestion;
use omniq_store::Filter;

use crate::config::quantity::Span;

/// The keys, and what each takes.
const KEYS: &[(&str, &str)] = &[
    (
        "state",
        "`ready`, `running`, `failed` and so on, or `pending`, `success` or `error`; several with commas",
    ),
    ("queue", "the name of a queue"),
    ("module", "the name of a module"),
    ("function", "the full name of a function"),
    ("tenant", "the name of a tenant"),
    ("id", "the id of a task; several with commas"),
    ("age", "`<1h` or `>2d`, since the task arrived"),
    ("label.KEY", "the value of a label"),
];

/// A text that is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is no part of a filter: {reason}")]
pub struct FilterError {
    /// Which part of it.
    pub word: String,
    /// What is wrong with it, and what is allowed.
    pub reason: String,
}

impl From<FilterError> for crate::Error {
    fn from(error: FilterError) -> Self {
        Self::invalid(error)
    }
}

/// Reads a filter; `now` is what ages are counted from. An empty text means all tasks.
///
/// ```
/// use omniq::{Timestamp, parse_filter};
///
/// let filter = parse_filter("state:failed queue:media label.customer:acme", Timestamp::default())?;
/// assert_eq!(filter.labels["customer"], "acme");
/// # Ok::<(), omniq::FilterError>(())
/// ```
///
/// # Errors
/// [`FilterError`] names the first part that is wrong.
pub fn parse_filter(text: &str, now: Timestamp) -> Result<Filter, FilterError> {
    let mut filter = Filter::default();
    let mut said = Said::default();
    for word in words(text)? {
        let fail = |reason: String| FilterError { word: word.clone(), reason };
        read(&word, now, &mut filter, &mut said).map_err(fail)?;
    }
    if said.states.is_some() || !said.excluded.is_empty() {
        let chosen = said.states.unwrap_or_else(|| State::ALL.to_vec());
        filter.states = chosen.into_iter().filter(|state| !said.excluded.contains(state)).collect();
        if filter.states.is_empty() {
            let reason = String::from("no state is left that a task could be in");
            return Err(FilterError { word: text.to_owned(), reason });
        }
    }
    Ok(filter)
}

#[derive(Default)]
struct Said {
    states: Option<Vec<State>>,
    excluded: Vec<State>,
}

fn read(word: &str, now: Timestamp, filter: &mut Filter, said: &mut Said) -> Result<(), String> {
    let (is_not, rest) = match word.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, word),
    };
    let Some((key, value)) = rest.split_once(':') else {
        return Err(format!("write `KEY:VALUE`, such as `state:failed`; the keys are {}", keys()));
    };
    let value = unquoted(value);
    if value.is_empty() {
        return Err(format!("the value is missing; write {}", takes(key)));
    }
    if is_not && key != "state" {
        return Err(String::from("only states can be excluded, as in `-state:succeeded`"));
    }
    let name = || value.parse().map_err(|error: omniq_model::id::ParseNameError| error.to_string());
    match key {
        "state" => {
            let states = states(&value)?;
            match (is_not, &mut said.states) {
                (true, _) => said.excluded.extend(states),
                (false, None) => said.states = Some(states),
                (false, Some(_)) => return Err(twice(key, "; write several states with commas")),
            }
        }
        "id" => {
            for id in value.split(',') {
                let id = id
                    .parse()
                    .map_err(|error: omniq_model::id::ParseTaskIdError| error.to_string())?;
                filter.ids.push(id);
            }
        }
        "queue" => once(&mut filter.queue, key, name()?)?,
        "module" => once(&mut filter.module, key, name()?)?,
        "tenant" => once(&mut filter.tenant, key, name()?)?,
        "function" => once(&mut filter.function, key, value)?,
        "age" => age(&value, now, filter)?,
        _ => match key.strip_prefix("label.").filter(|label| !label.is_empty()) {
            Some(label) => {
                if filter.labels.insert(label.to_owned(), value).is_some() {
                    return Err(twice(key, ""));
                }
            }
            None => {
                let near = suggestion(key, KEYS.iter().map(|(key, _)| *key));
                let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                return Err(format!("there is no key `{key}`{hint}; the keys are {}", keys()));
            }
        },
    }
    Ok(())
}

fn once<T>(place: &mut Option<T>, key: &str, value: T) -> Result<(), String> {
    if place.replace(value).is_some() { Err(twice(key, "")) } else { Ok(()) }
}

fn twice(key: &str, more: &str) -> String {
    format!("`{key}` is said twice{more}")
}

fn keys() -> String {
    let keys: Vec<_> = KEYS.iter().map(|(key, _)| format!("`{key}`")).collect();
    keys.join(", ")
}

fn takes(key: &str) -> &'static str {
    let key = if key.starts_with("label.") { "label.KEY" } else { key };
    KEYS.iter().find(|(known, _)| *known == key).map_or("`KEY:VALUE`", |(_, takes)| *takes)
}

/// The states that a list of words stands for: their own names, or the coarse ones.
fn states(value: &str) -> Result<Vec<State>, String> {
    let mut states = Vec::new();
    for word in value.split(',') {
        if let Some(state) = State::from_name(word) {
            states.push(state);
            continue;
        }
        let phases = [Phase::Pending, Phase::Running, Phase::Success, Phase::Error];
        let Some(phase) = phases.into_iter().find(|phase| phase.name() == word) else {
            let names = State::ALL.iter().map(|state| state.name());
            let all: Vec<_> = names.chain(phases.iter().map(|phase| phase.name())).collect();
            let near = suggestion(word, all.iter().copied());
            let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return Err(format!("there is no state `{word}`{hint}; there are {}", all.join(", ")));
        };
        states.extend(State::ALL.iter().copied().filter(|state| state.phase() == phase));
    }
    Ok(states)
}

/// `<1h`: arrived in the last hour. `>2d`: before that.
fn age(value: &str, now: Timestamp, filter: &mut Filter) -> Result<(), String> {
    let span = |text: &str| text.parse::<Span>().map(|Span(span)| span);
    let since = |span: Duration| Some(now - span);
    match (value.strip_prefix('<'), value.strip_prefix('>')) {
        (Some(text), _) => filter.created_from = since(span(text)?),
        (_, Some(text)) => filter.created_to = since(span(text)?),
        _ => return Err(format!("write {}", takes("age"))),
    }
    Ok(())
}

/// Words separated by spaces that do not stand in quotes.
fn words(text: &str) -> Result<Vec<String>, FilterError> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for character in text.chars() {
        if character == '"' {
            is_quoted = !is_quoted;
        }
        match words.last_mut() {
            Some(word) if is_quoted || !character.is_whitespace() => word.push(character),
            _ => words.push(String::new()),
        }
    }
    words.retain(|word| !word.is_empty());
    if is_quoted {
        let word = words.pop().unwrap_or_default();
        return Err(FilterError { word, reason: String::from("the quote is not closed") });
    }
    Ok(words)
}

fn unquoted(value: &str) -> String {
    value.replace('"', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Filter, String> {
        let now = Timestamp::from_millis(10 * 3_600_000);
        parse_filter(text, now).map_err(|error| error.to_string())
    }

    #[test]
    fn words_narrow_it_down() {
        assert_eq!(parse("").unwrap(), Filter::default());
        let filter =
            parse(r#"state:failed,expired queue:media  label.who:"A B" module:img"#).unwrap();
        assert_eq!(filter.states, [State::Failed, State::Expired]);
        assert_eq!(filter.queue.unwrap().as_str(), "media");
        assert_eq!(filter.module.unwrap().as_str(), "img");
        assert_eq!(filter.labels["who"], "A B");
        let filter = parse("-state:succeeded,failed -state:error age:<1h").unwrap();
        assert_eq!(filter.states, [State::Blocked, State::Scheduled, State::Ready, State::Running]);
        assert_eq!(filter.created_from, Some(Timestamp::from_millis(9 * 3_600_000)));
        let filter = parse("state:pending -state:blocked age:>2h").unwrap();
        assert_eq!(filter.states, [State::Scheduled, State::Ready]);
        assert_eq!(filter.created_to, Some(Timestamp::from_millis(8 * 3_600_000)));
        let filter = parse("function:acme:jobs/calc@1.0.0#add").unwrap();
        assert_eq!(filter.function.as_deref(), Some("acme:jobs/calc@1.0.0#add"));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (text, part, reason) in [
            ("failed", "`failed`", "write `KEY:VALUE`"),
            ("queue:a stat:failed", "`stat:failed`", "did you mean `state`?"),
            ("state:faild", "`state:faild`", "did you mean `failed`?"),
            ("state:", "`state:`", "the value is missing"),
            ("-queue:a", "`-queue:a`", "only states can be excluded"),
            ("queue:a queue:b", "`queue:b`", "said twice"),
            ("state:failed state:ready", "`state:ready`", "with commas"),
            ("state:failed -state:failed", "`state:failed -state:failed`", "no state is left"),
            ("age:1h", "`age:1h`", "`<1h`"),
            ("age:<soon", "`age:<soon`", "write"),
            ("id:x", "`id:x`", "is not a task id"),
            ("queue:a/", "`queue:a/`", "is not a name"),
            ("label.:x", "`label.:x`", "no key"),
            ("label.a:\"x", "`label.a:\"x`", "not closed"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part) && error.contains(reason), "{text}: {error}");
        }
    }
}

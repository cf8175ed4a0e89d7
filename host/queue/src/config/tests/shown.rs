//! What is shown means what is in use, and shows no secret; the documentation says what the table says.

use super::super::table::ROWS;
use super::super::{Config, Sources};
use super::sources;

#[test]
fn what_is_shown_as_a_file_means_the_same() {
    for variables in [
        &[][..],
        &[
            ("OMNIQ_DATA_DIR", "a \"b\"\\c"),
            ("OMNIQ_COMPONENT_LOG_LEVELS", r#"{"store":"DEBUG","cli":"ERROR"}"#),
        ],
        &[
            ("OMNIQ_TASK_STORAGE_URL", "memory:"),
            ("OMNIQ_TASK_TTL", "1.5"),
            ("OMNIQ_LOG_LEVEL", "ERROR"),
            ("OMNIQ_MAX_WORKERS", "3"),
        ],
    ] {
        let (from, _folder) = sources(variables, "");
        let from = from.variable("HOME", "/h");
        let config = Config::load(&from).unwrap();
        for origins in [false, true] {
            let file = config.to_toml(origins);
            let (from, _folder) = sources(&[("HOME", "/h")], &file);
            let again = Config::load(&from).unwrap_or_else(|error| panic!("{error}\n{file}"));
            let texts = |config: &Config| {
                config
                    .show()
                    .into_iter()
                    .map(|shown| (shown.row.key, shown.text))
                    .collect::<Vec<_>>()
            };
            assert_eq!(texts(&again), texts(&config), "{file}");
        }
    }
}

#[test]
fn every_setting_is_shown_once_in_the_order_of_the_table() {
    let shown: Vec<_> = Config::default().show().iter().map(|shown| shown.row.key).collect();
    let rows: Vec<_> = ROWS.iter().map(|row| row.key).collect();
    assert_eq!(shown, rows);
}

#[test]
fn passwords_are_shown_nowhere() {
    let config = Config::load(
        &Sources::new()
            .variable("OMNIQ_TASK_STORAGE_URL", "postgres://ada:s3cret@db/jobs")
            .variable("OMNIQ_RESULT_STORAGE_URL", "redis://:s3cret@cache")
            .variable("OMNIQ_OBSTORE_URI", "s3://b?secret_access_key=s3cret"),
    )
    .unwrap();
    let texts = [config.to_toml(true), format!("{config:?}"), format!("{:?}", config.show())];
    for text in texts {
        assert!(!text.contains("s3cret"), "{text}");
        assert!(text.contains("***"), "{text}");
    }
    // What this build leaves out, if anything.
    let unsupported = format!("{:?}", config.unsupported());
    assert!(!unsupported.contains("s3cret"), "{unsupported}");
    assert_eq!(config.tasks.url.as_str(), "postgres://ada:s3cret@db/jobs");
}

/// The rows of the page are made of the table; this prints what belongs there when they differ.
#[test]
fn the_page_says_what_the_table_says() {
    let page = include_str!("../../../../../docs/configuration.md");
    let mut expected = String::new();
    for row in ROWS {
        let variables: Vec<_> = row.variables.iter().map(|name| format!("`{name}`")).collect();
        let default = match row.default {
            "" => row.unset.to_owned(),
            default => format!("`{default}`"),
        };
        let doc = row.doc.split_whitespace().collect::<Vec<_>>().join(" ");
        expected += &format!(
            "| `{}` | {} | {} | {} | {default} |\n",
            row.key,
            variables.join(", "),
            doc.trim_end_matches('.'),
            row.brief(),
        );
    }
    let is_row =
        |line: &&str| ROWS.iter().any(|row| line.starts_with(&format!("| `{}` |", row.key)));
    let found: String = page.lines().filter(is_row).map(|line| format!("{line}\n")).collect();
    assert!(found == expected, "docs/configuration.md must have these rows:\n{expected}");
}

//! What settings mean together: precedence, variables, storages, mistakes. Files of their own hold each.

mod mistakes;
mod shown;
mod storages;
mod variables;

use std::fs;

use tempfile::TempDir;

use super::{Config, Sources};

/// Sources with these variables and, where `file` is not empty, an `omniq.toml` in a folder that lives as long as what is
/// returned beside them.
fn sources(variables: &[(&str, &str)], file: &str) -> (Sources, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    if !file.is_empty() {
        fs::write(folder.path().join("omniq.toml"), file).unwrap();
    }
    let sources = Sources::new().folder(folder.path());
    let sources =
        variables.iter().fold(sources, |sources, (name, value)| sources.variable(name, value));
    (sources, folder)
}

/// What a setting is, as it is shown.
fn value(config: &Config, key: &str) -> String {
    let shown = config.show();
    let row = shown.iter().find(|shown| shown.row.key == key);
    row.unwrap_or_else(|| panic!("`{key}` is not shown")).text.clone()
}

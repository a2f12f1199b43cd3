//! `index.jsonl`: all runs of a directory of results, a line each, for tools that want to know what there is.

use std::path::Path;

use super::ReportError;
use super::output::replace;
use crate::analyse::IndexLine;

/// The file's name.
const INDEX: &str = "index.jsonl";

/// Replaces the index of `results`. It is made from the runs each time, and nothing reads it back.
pub fn write_index(results: &Path, lines: &[IndexLine]) -> Result<(), ReportError> {
    let mut text = String::new();
    for line in lines {
        text += &serde_json::to_string(line).expect("plain data becomes JSON");
        text.push('\n');
    }
    replace(&results.join(INDEX), text.as_bytes())
}

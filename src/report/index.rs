//! `index.jsonl`: all runs of a directory of results, a line for each, for tools that look for runs.

use std::path::Path;

use super::ReportError;
use super::output::replace;
use crate::analyse::IndexLine;

/// The name of the index file.
const INDEX: &str = "index.jsonl";

/// Replaces the index of `results`. The index is made from the runs each time; replbench itself never reads it.
pub fn write_index(results: &Path, lines: &[IndexLine]) -> Result<(), ReportError> {
    let mut text = String::new();
    for line in lines {
        text += &serde_json::to_string(line).expect("plain data becomes JSON");
        text.push('\n');
    }
    replace(&results.join(INDEX), text.as_bytes())
}

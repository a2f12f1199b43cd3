//! Changes that people have accepted: `blessed.jsonl` beside the runs, a line each, fit to be committed and edited.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Metric, Series, declared};
use crate::record::read_file;

/// The file's name, in the directory of results.
pub const BLESSED: &str = "blessed.jsonl";

/// From this commit on the new level is as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blessing {
    /// Its full hash.
    pub commit: String,
    /// As for `--metric`: a figure or all of a kind; `null` for all.
    #[serde(default)]
    pub metric: Option<String>,
    /// `null` for all.
    #[serde(default)]
    pub mode: Option<String>,
    #[serde(default)]
    pub reason: Option<String>,
    /// RFC 3339, UTC; for a person.
    #[serde(default)]
    pub at: String,
}

impl Blessing {
    pub(super) fn is_about(&self, series: &Series) -> bool {
        let metric = self.metric.as_deref().is_none_or(|word| {
            declared(series).is_some_and(|metric| Metric::named(word).contains(&metric))
        });
        metric && self.mode.as_ref().is_none_or(|mode| *mode == series.mode)
    }

    /// A line, if it is one.
    fn parse(line: &[u8]) -> Result<Self, String> {
        let blessing: Self =
            serde_json::from_slice(line).map_err(|error| format!("does not read: {error}"))?;
        let is_hex = blessing.commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex || !matches!(blessing.commit.len(), 40 | 64) {
            return Err("its `commit` is not a full hash; `git rev-parse` gives it".into());
        }
        if let Some(word) = &blessing.metric
            && Metric::named(word).is_empty()
        {
            return Err(format!(
                "there is no figure `{word}`; `replbench bless --help` lists them"
            ));
        }
        Ok(Self {
            commit: blessing.commit.to_ascii_lowercase(),
            ..blessing
        })
    }
}

/// A line has some hundred bytes.
const MOST_BYTES: u64 = 16 << 20;

/// The blessings of a directory of results, none when it has no such file, and a warning for each line that is none.
pub fn read_blessings(results: &Path) -> io::Result<(Vec<Blessing>, Vec<String>)> {
    let path = results.join(BLESSED);
    let bytes = match read_file(&path, MOST_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut blessings = Vec::new();
    let mut warnings = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match Blessing::parse(line) {
            Ok(blessing) => blessings.push(blessing),
            Err(why) => warnings.push(format!(
                "`{}`, line {}: {why}; the line is left out",
                path.display(),
                index + 1
            )),
        }
    }
    Ok((blessings, warnings))
}

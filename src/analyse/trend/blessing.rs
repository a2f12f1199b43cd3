//! Changes that people have accepted: one line each in `blessed.jsonl` beside the runs, a file to be committed and edited.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Metric, Series, declared};
use crate::record::read_file;

/// The file's name, in the directory of results.
pub const BLESSED: &str = "blessed.jsonl";

/// An accepted change: from this commit on, the new level is as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blessing {
    /// Full hash of the commit.
    pub commit: String,
    /// A figure, or all figures of a kind, as in `--metric`; `null` for all figures.
    #[serde(default)]
    pub metric: Option<String>,
    /// `null` for all modes.
    #[serde(default)]
    pub mode: Option<String>,
    #[serde(default)]
    pub reason: Option<String>,
    /// When the change was accepted, RFC 3339, UTC; only for people to read.
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

    /// Parses a line; the error says why the line is not a blessing.
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

/// The most bytes of the file; a line has some hundred bytes.
const MOST_BYTES: u64 = 16 << 20;

/// The blessings in a directory of results (none if it has no such file), and a warning for each line that is not one.
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

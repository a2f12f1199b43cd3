//! The raw files of a run that are published: only files that replbench knows, since a run's directory may hold anything.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use crate::record::files;

/// The name of the page in a run's folder.
pub(super) const PAGE: &str = "index.html";

/// A link to a run's page. `root` is the path from the linking page to the site's root.
pub(super) fn link(root: &str, slug: &str) -> String {
    format!("{root}runs/{}/{PAGE}", href(slug))
}

/// A published file of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawFile {
    /// Path relative to the run's directory.
    pub(super) name: String,
    pub(super) bytes: u64,
    /// SHA-256 from the run's manifest. `None` if the manifest has none, as for the charts and reports of early runs.
    pub(super) sha256: Option<String>,
}

/// The files of a run that exist and are published; symbolic links are left out. `digests` holds SHA-256 sums by file name.
pub(super) fn raw_files(directory: &Path, digests: &BTreeMap<String, String>) -> Vec<RawFile> {
    const NAMES: [&str; 8] = [
        files::MANIFEST,
        files::REPORT,
        files::SUMMARY,
        files::CELLS,
        files::INTERVALS,
        files::LAG,
        files::VISIBILITY,
        files::EVENTS,
    ];
    let mut names: Vec<String> = NAMES.map(str::to_owned).into();
    names.extend(inside(directory, files::CHARTS, ".svg"));
    names.extend(inside(directory, files::HISTOGRAMS, ".hlog"));
    let found = names.into_iter().filter_map(|name| {
        let metadata = fs::symlink_metadata(directory.join(&name)).ok()?;
        metadata.is_file().then(|| RawFile {
            bytes: metadata.len(),
            sha256: digests.get(&name).cloned(),
            name,
        })
    });
    found.collect()
}

fn inside(directory: &Path, folder: &str, ending: &str) -> Vec<String> {
    let path = directory.join(folder);
    let is_folder = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
    let entries = is_folder.then(|| fs::read_dir(&path).ok()).flatten();
    let names = entries.into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| name.ends_with(ending) && !name.starts_with('.'))
        .map(|name| format!("{folder}/{name}"))
        .collect();
    names.sort();
    names
}

/// A relative path as it stands in a link: every byte that has a special meaning there is percent-encoded.
pub(super) fn href(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A name without characters that have a special meaning in paths or links on any system.
pub(super) fn slug(name: &str) -> String {
    const LONGEST: usize = 150;
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || "-._+".contains(c) {
            c
        } else {
            '_'
        }
    };
    let slug: String = name.chars().map(safe).take(LONGEST).collect();
    slug.trim_start_matches('.').to_owned()
}

/// Title and description from the SVG file of a chart; `None` if the file cannot be read or has no title.
pub(super) fn words_of(picture: &Path) -> Option<(String, String)> {
    const MOST: u64 = 8 << 10;
    const LONGEST: usize = 700;
    let mut head = Vec::new();
    let file = fs::File::open(picture).ok()?;
    file.take(MOST).read_to_end(&mut head).ok()?;
    let head = String::from_utf8_lossy(&head);
    let element = |name: &str| {
        let from = head.find(&format!("<{name} "))?;
        let start = from + head[from..].find('>')? + 1;
        let length = head[start..].find("</").unwrap_or(head.len() - start);
        let text = &head[start..start + length];
        let text = text
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&");
        let mut short: String = text.chars().take(LONGEST).collect();
        if short.len() < text.len() {
            short.push('…');
        }
        Some(short)
    };
    Some((element("title")?, element("desc").unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_names_hold_whatever_a_file_is_called() {
        assert_eq!(href("charts/a b\"<%.svg"), "charts/a%20b%22%3C%25.svg");
        assert_eq!(slug("2026-x </script>"), "2026-x___script_");
        assert_eq!(slug("..\u{202e}/x"), "__x");
    }

    #[test]
    fn a_picture_says_its_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.svg");
        let svg =
            "<svg><title id=\"a-t\">A &amp; B</title>\n<desc id=\"a-d\">1 &lt; 2</desc></svg>";
        fs::write(&path, svg).unwrap();
        assert_eq!(words_of(&path), Some(("A & B".into(), "1 < 2".into())));
        fs::write(&path, "no picture").unwrap();
        assert_eq!(words_of(&path), None);
    }
}

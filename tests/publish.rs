//! Runs become a site: whole, small, linked, silent, and never at the cost of an original.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test ends at the first thing that fails, and made-up figures are small"
)]

mod library;
mod made_up;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use library::{HOSTILE, Library, all_files, commit, pages};
use replbench::analyse::{Terms, compare_modes, run_summary};
use replbench::record::{OnMismatch, RunStatus, files};
use replbench::report;

/// Bytes that a page may have.
const MOST: usize = 1_000_000;

/// The values of an attribute, as they stand.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    let values = page.split(start.as_str()).skip(1);
    values.map(|rest| rest.split('"').next().unwrap()).collect()
}

/// The tags that begin with this name.
fn tags<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!("<{name} ");
    let found = page.split(start.as_str()).skip(1);
    found.map(|rest| rest.split('>').next().unwrap()).collect()
}

fn decoded(href: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = href.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            let digits = std::str::from_utf8(&digits).unwrap().to_owned();
            bytes.push(u8::from_str_radix(&digits, 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn every_page_is_small_and_asks_nothing_of_the_network_and_every_link_leads_somewhere() {
    let library = Library::grown();
    let published = library.publish();
    assert_eq!(published.warnings, [""; 0]);
    assert_eq!(published.runs, 16);
    let pages = pages(&library.site());
    for name in [
        "index.html",
        "trend.html",
        "method.html",
        "compare/index.html",
    ] {
        assert!(pages.contains_key(Path::new(name)), "{name}");
    }
    assert!(published.comparisons >= 3, "{published:?}");
    for (path, page) in &pages {
        let shown = path.display();
        assert!(page.len() < MOST, "{shown} has {} bytes", page.len());
        for target in attributes(page, "src")
            .into_iter()
            .chain(attributes(page, "href"))
        {
            assert!(
                !target.contains(':') && !target.starts_with("//"),
                "{shown}: {target}"
            );
            let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
            let linked = if file.is_empty() {
                library.site().join(path)
            } else {
                library
                    .site()
                    .join(path)
                    .parent()
                    .unwrap()
                    .join(decoded(file))
            };
            assert!(linked.is_file(), "{shown}: {target}");
            if !fragment.is_empty() {
                let text = fs::read_to_string(&linked).unwrap();
                let id = format!(" id=\"{fragment}\"");
                assert!(text.contains(&id), "{shown}: {target}");
            }
        }
        assert!(
            !page.contains("@import") && !page.contains("url("),
            "{shown}"
        );
    }
}

#[test]
fn the_newest_run_is_compared_with_an_earlier_one_and_a_session_with_itself() {
    let library = Library::grown();
    library.publish();
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(library.site().join("compare"))
        .unwrap()
        .flatten()
    {
        if let Ok(text) = fs::read_to_string(entry.path().join("comparison.json")) {
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            let runs =
                ["base", "head"].map(|side| json[side]["started_at"].as_str().unwrap().to_owned());
            kinds.insert(json["kind"].as_str().unwrap().to_owned(), runs);
        }
    }
    let at = |day: &str, hour: u32| format!("2026-03-{day}T{hour:02}:00:00Z");
    assert_eq!(kinds["session"], [at("01", 20), at("01", 21)]);
    assert_eq!(kinds["runs"], [at("01", 13), at("01", 21)]);
    assert_eq!(kinds["modes"][0], kinds["modes"][1]);
}

#[test]
fn pictures_have_words_and_headings_come_in_order() {
    let library = Library::grown();
    library.publish();
    let mut pictures = 0;
    for (path, page) in pages(&library.site()) {
        let shown = path.display();
        for tag in tags(&page, "img") {
            let words = [attributes(tag, "alt"), attributes(tag, "title")];
            assert!(
                words.iter().all(|it| it.len() == 1 && !it[0].is_empty()),
                "{shown}: {tag}"
            );
            pictures += 1;
        }
        for picture in page.split("<svg ").skip(1) {
            let picture = picture.split("</svg>").next().unwrap();
            assert!(
                picture.contains("role=\"img\"") && picture.contains("<title "),
                "{shown}"
            );
            pictures += 1;
        }
        let levels: Vec<u32> = page
            .split("<h")
            .skip(1)
            .filter_map(|rest| rest.chars().next()?.to_digit(10))
            .collect();
        assert_eq!(levels.first(), Some(&1), "{shown}");
        assert_eq!(
            levels.iter().filter(|level| **level == 1).count(),
            1,
            "{shown}"
        );
        for pair in levels.windows(2) {
            assert!(pair[1] <= pair[0] + 1, "{shown}: {levels:?}");
        }
        let ids = attributes(&page, "id");
        let distinct: BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len(), "{shown}: an id twice");
    }
    assert!(pictures > 30, "{pictures}");
}

#[test]
fn hostile_names_stay_text() {
    let library = Library::grown();
    library.publish();
    for (path, page) in pages(&library.site()) {
        let shown = path.display();
        assert!(
            !page.contains("<img src=x") && !page.contains('\u{202e}'),
            "{shown}"
        );
        assert!(!page.contains('\u{1b}'), "{shown}");
        let scripts = page.matches("<script").count();
        assert!(scripts <= 1, "{shown}: {scripts}");
    }
}

#[test]
fn publishing_again_gives_the_same_bytes_and_never_touches_an_original() {
    let library = Library::grown();
    let originals = || -> BTreeMap<PathBuf, (u64, Vec<u8>)> {
        let results = library.results();
        let files = all_files(&results).into_iter();
        files
            .map(|path| {
                let full = results.join(&path);
                let inode = fs::metadata(&full).unwrap().ino();
                (path, (inode, fs::read(full).unwrap()))
            })
            .collect()
    };
    let before = originals();
    let first = library.publish();
    let site = |path: &PathBuf| fs::read(library.site().join(path)).unwrap();
    let published: BTreeMap<_, _> = all_files(&library.site())
        .into_iter()
        .map(|path| (path.clone(), site(&path)))
        .collect();
    let second = library.publish();
    assert_eq!((second.pages, second.removed), (first.pages, 0));
    assert!(first.linked > 100 && first.copied == 0, "{first:?}");
    for (path, bytes) in &published {
        assert!(site(path) == *bytes, "{} changed", path.display());
    }
    assert!(originals() == before);

    // A report that was drawn anew is a new file; the site follows, and what it had goes nowhere else.
    let run = before.keys().next().unwrap().iter().next().unwrap();
    let report = library.results().join(run).join(files::REPORT);
    let fresh = library.dir.path().join("fresh");
    fs::write(&fresh, "drawn anew").unwrap();
    fs::rename(&fresh, &report).unwrap();
    library.publish();
    let shared = library.site().join("runs").join(run).join(files::REPORT);
    assert_eq!(fs::read_to_string(shared).unwrap(), "drawn anew");
}

#[test]
fn runs_that_are_gone_leave_the_site_and_what_is_not_ours_stays() {
    let library = Library::new();
    let gone = library.add(1, 1.0, |_| ());
    let kept = library.add(2, 1.0, |_| ());
    library.publish();
    let of_site = |run: &Path| library.site().join("runs").join(run.file_name().unwrap());
    assert!(of_site(&gone).join("index.html").is_file());
    fs::write(library.site().join("CNAME"), "bench.example").unwrap();
    fs::remove_dir_all(&gone).unwrap();
    let published = library.publish();
    assert!(published.removed > 10, "{published:?}");
    assert!(!of_site(&gone).exists());
    assert!(of_site(&kept).join(files::CELLS).is_file());
    assert!(library.site().join("CNAME").is_file());
}

#[test]
fn a_directory_of_somebody_else_is_refused_and_left_as_it_is() {
    let library = Library::new();
    library.add(1, 1.0, |_| ());
    fs::create_dir(library.site()).unwrap();
    fs::write(library.site().join("thesis.tex"), "years of work").unwrap();
    let assert = Command::new(env!("CARGO_BIN_EXE_replbench"))
        .args(["publish", "--results"])
        .arg(library.results())
        .arg("--out")
        .arg(library.site())
        .assert()
        .code(2);
    let error = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(
        error.contains("is not empty") && error.contains("new directory"),
        "{error}"
    );
    let left = all_files(&library.site());
    assert_eq!(left, BTreeSet::from([PathBuf::from("thesis.tex")]));
}

#[test]
fn the_command_says_what_it_made_and_where() {
    let library = Library::new();
    library.add(1, 1.0, |_| ());
    fs::create_dir(library.results().join("broken")).unwrap();
    fs::write(
        library.results().join("broken").join(files::MANIFEST),
        "{\"run",
    )
    .unwrap();
    let assert = Command::new(env!("CARGO_BIN_EXE_replbench"))
        .args(["publish", "--repo", "/", "--results"])
        .arg(library.results())
        .arg("--out")
        .arg(library.site())
        .assert()
        .code(0);
    let output = assert.get_output();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(out.starts_with("1 run, 1 comparison, "), "{out}");
    assert!(out.trim_end().ends_with("site/index.html"), "{out}");
    assert!(err.contains("warning: ") && err.contains("broken"), "{err}");
}

#[test]
fn damaged_and_foreign_directories_are_told_of_and_the_rest_is_published() {
    let library = Library::new();
    library.add(1, 1.0, |_| ());
    let cut = library.add(2, 1.0, |_| ());
    let summary = fs::read(cut.join(files::SUMMARY)).unwrap();
    fs::write(cut.join(files::SUMMARY), &summary[..summary.len() / 2]).unwrap();
    let bare = library.add(3, 1.0, |manifest| manifest.status = RunStatus::Running);
    for name in [files::CELLS, files::SUMMARY, files::REPORT] {
        fs::remove_file(bare.join(name)).unwrap();
    }
    fs::remove_dir_all(bare.join(files::CHARTS)).unwrap();
    // A link in a run leads nowhere: what it points to is nobody's business.
    let secret = library.dir.path().join("secret");
    fs::write(&secret, "password").unwrap();
    fs::remove_file(cut.join(files::LAG)).unwrap();
    std::os::unix::fs::symlink(&secret, cut.join(files::LAG)).unwrap();
    fs::write(cut.join("notes-of-mine.txt"), "not for publication").unwrap();
    let results = library.results();
    for (name, manifest) in [
        ("garbage", "\0\u{1}"),
        ("newer", "{\"schema_version\": 999}"),
        (".hidden", "{}"),
    ] {
        fs::create_dir(results.join(name)).unwrap();
        fs::write(results.join(name).join(files::MANIFEST), manifest).unwrap();
    }
    fs::write(results.join("blessed.jsonl"), "no blessing\n").unwrap();
    let published = library.publish();
    assert_eq!(published.runs, 3);
    let warnings = published.warnings.join("\n");
    for name in ["garbage", "newer", "blessed.jsonl"] {
        assert!(warnings.contains(name), "{name}: {warnings}");
    }
    assert!(!warnings.contains(".hidden"), "{warnings}");
    let index = fs::read_to_string(library.site().join("index.html")).unwrap();
    assert!(
        index.contains("garbage") && index.contains("Could not be read"),
        "{index}"
    );
    let shared = library.site().join("runs").join(cut.file_name().unwrap());
    assert!(!shared.join(files::LAG).exists() && !shared.join("notes-of-mine.txt").exists());
    assert!(shared.join(files::CELLS).is_file());
}

#[test]
fn nothing_to_publish_is_a_site_that_says_so() {
    let library = Library::new();
    let published = library.publish();
    assert_eq!((published.runs, published.series), (0, 0));
    let index = fs::read_to_string(library.site().join("index.html")).unwrap();
    assert!(index.contains("There is no run yet"), "{index}");
    assert!(!library.site().join("trend.html").exists());
    assert!(!index.contains("trend.html"));
}

#[test]
fn long_tables_go_over_several_pages() {
    let library = Library::new();
    let long = "x".repeat(9_000);
    for number in 0..100 {
        library.add(number, 1.0, |manifest| {
            manifest.subject.tags = BTreeMap::from([("tag".into(), long.clone())]);
        });
    }
    let published = library.publish();
    assert!(library.site().join("runs-2.html").is_file());
    assert!(published.largest_page < MOST, "{published:?}");
    let index = fs::read_to_string(library.site().join("index.html")).unwrap();
    let second = fs::read_to_string(library.site().join("runs-2.html")).unwrap();
    let rows = |page: &str| page.matches("<tr data-profile").count();
    assert_eq!(rows(&index) + rows(&second), 100);
    // With fewer runs the second page is gone.
    for number in 10..100 {
        let (day, hour) = (1 + number / 24, number % 24);
        let id = format!("202603{day:02}T{hour:02}0000Z-{}", &commit(number)[..7]);
        fs::remove_dir_all(library.results().join(id)).unwrap();
    }
    library.publish();
    assert!(!library.site().join("runs-2.html").exists());
}

#[test]
fn a_comparison_is_a_page_with_its_chart_and_its_other_forms_beside_it() {
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sync-vs-async-made-up");
    let mut run_summary = run_summary(&fixture, OnMismatch::LeaveOut).unwrap();
    run_summary.manifest.warnings.push(HOSTILE.into());
    let comparison = compare_modes(&run_summary, &Terms::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let page = report::write_comparison(&dir.path().join("new/folder"), &comparison).unwrap();
    let folder = page.parent().unwrap();
    let names = all_files(folder);
    let expected = [
        "charts/effects.svg",
        "comparison.csv",
        "comparison.html",
        "comparison.json",
        "comparison.md",
    ];
    assert_eq!(names, expected.map(PathBuf::from).into());
    let json = fs::read_to_string(folder.join("comparison.json")).unwrap();
    assert!(json == report::comparison_json(&comparison));
    let text = fs::read_to_string(&page).unwrap();
    assert!(
        !text.contains("<img") && !text.contains('\u{202e}'),
        "{text}"
    );
    for row in &comparison.rows {
        assert!(text.contains(row.word()), "{row:?}");
    }
    // Both widths are in the page, each with a title of its own.
    assert_eq!(text.matches("<svg ").count(), 2);
    let svg = fs::read_to_string(folder.join("charts/effects.svg")).unwrap();
    assert!(svg.contains("<title ") && svg.contains("worse"), "{svg}");
}

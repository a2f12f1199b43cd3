//! Runs become a site: whole, small, linked, silent, and never at the cost of an original.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test ends at the first thing that fails, and made-up figures are small"
)]

mod browser;
mod made_up;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use browser::Browser;
use made_up::{Shape, write_run};
use replbench::analyse::{Terms, compare_modes, sheet};
use replbench::plan::Side;
use replbench::publish::{Options, Published, publish};
use replbench::record::{Manifest, RunStatus, Session, files};
use replbench::report;
use tempfile::TempDir;

/// What no name may do to a page.
const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\"'\u{202e}\u{1b}[31m";
const MOST: usize = 1_000_000;

/// Runs that are copies of one, with other ids, commits, times and figures.
struct Library {
    dir: TempDir,
    model: PathBuf,
    manifest: Manifest,
}

impl Library {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        let shape = Shape {
            reps: 3,
            ..Shape::tiny()
        };
        write_run(&model, &shape);
        report::write(&model).unwrap();
        let text = fs::read_to_string(model.join(files::MANIFEST)).unwrap();
        fs::create_dir(dir.path().join("results")).unwrap();
        Self {
            dir,
            model,
            manifest: serde_json::from_str(&text).unwrap(),
        }
    }

    fn results(&self) -> PathBuf {
        self.dir.path().join("results")
    }

    fn site(&self) -> PathBuf {
        self.dir.path().join("site")
    }

    /// The run number `number`, whose times are `factor` times those of the model.
    fn add(&self, number: u32, factor: f64, edit: impl FnOnce(&mut Manifest)) -> PathBuf {
        let mut manifest = self.manifest.clone();
        let (day, hour) = (1 + number / 24, number % 24);
        manifest.started_at = format!("2026-03-{day:02}T{hour:02}:00:00Z");
        manifest.subject.git = Some(commit(number));
        manifest.run_id = format!("202603{day:02}T{hour:02}0000Z-{}", &commit(number)[..7]);
        edit(&mut manifest);
        let run = self.results().join(&manifest.run_id);
        for folder in ["", files::CHARTS, files::HISTOGRAMS] {
            fs::create_dir(run.join(folder)).unwrap();
            for entry in fs::read_dir(self.model.join(folder)).unwrap().flatten() {
                if entry.file_type().unwrap().is_file() {
                    fs::copy(entry.path(), run.join(folder).join(entry.file_name())).unwrap();
                }
            }
        }
        let text = serde_json::to_string(&manifest).unwrap();
        fs::write(run.join(files::MANIFEST), text).unwrap();
        scale(&run.join(files::SUMMARY), factor);
        run
    }

    fn publish(&self) -> Published {
        publish(&self.options()).unwrap()
    }

    fn options(&self) -> Options {
        Options {
            results: self.results(),
            out: self.site(),
            title: format!("Test {HOSTILE}"),
            order: (0..100).map(commit).collect(),
        }
    }

    /// Two weeks of which the second is slower, a session, an invalid run, and names that mean harm.
    fn grown() -> Self {
        let library = Self::new();
        for number in 0..14 {
            let factor = 1.0 + f64::from(number % 3) / 100.0;
            let factor = if number < 7 { factor } else { 1.5 * factor };
            library.add(number, factor, |manifest| {
                if number == 3 {
                    manifest.status = RunStatus::Invalid;
                    manifest.invalid_reasons = vec![HOSTILE.into()];
                }
                if number == 5 {
                    manifest.profile["profile"] = HOSTILE.into();
                    manifest.subject.tags = BTreeMap::from([("who".into(), HOSTILE.into())]);
                }
            });
        }
        for (number, side) in [(20, Side::Base), (21, Side::Head)] {
            library.add(number, 1.0 + f64::from(number - 20), |manifest| {
                manifest.session = Some(Session {
                    id: "a-session".into(),
                    side,
                    other: "the-other".into(),
                    items: vec!["wal_compression=on".into()],
                });
            });
        }
        library
    }
}

fn commit(number: u32) -> String {
    format!(
        "{:07x}{:033x}",
        0xabc_1234 + u64::from(number) * 0x11_1111,
        number
    )
}

/// Multiplies the times of a summary.
fn scale(summary: &Path, factor: f64) {
    let text = fs::read_to_string(summary).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().unwrap().clone();
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&head).unwrap();
    let place = |name: &str| head.iter().position(|it| it == name).unwrap();
    let (unit, value) = (place("unit"), place("value"));
    for record in reader.records() {
        let record = record.unwrap();
        let fields = record
            .iter()
            .enumerate()
            .map(|(index, field)| match field.parse::<f64>() {
                Ok(number) if index == value && &record[unit] == "us" => {
                    (number * factor).to_string()
                }
                _ => field.to_owned(),
            });
        writer.write_record(fields).unwrap();
    }
    fs::write(summary, writer.into_inner().unwrap()).unwrap();
}

/// Every file below a directory, relative.
fn all_files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                found.insert(entry.path().strip_prefix(directory).unwrap().to_owned());
            }
        }
    }
    found
}

/// The site's own pages; a run's report is a raw file.
fn pages(site: &Path) -> BTreeMap<PathBuf, String> {
    let is_page = |path: &PathBuf| {
        path.extension().is_some_and(|it| it == "html")
            && path.file_name().unwrap() != files::REPORT
    };
    let paths = all_files(site).into_iter().filter(is_page);
    paths
        .map(|path| {
            let text = fs::read_to_string(site.join(&path)).unwrap();
            (path, text)
        })
        .collect()
}

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
    let mut sheet = sheet(&fixture).unwrap();
    sheet.manifest.warnings.push(HOSTILE.into());
    let comparison = compare_modes(&sheet, &Terms::default()).unwrap();
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
        assert!(text.contains(row.verdict.as_str()), "{row:?}");
    }
    // Both widths are in the page, each with a title of its own.
    assert_eq!(text.matches("<svg ").count(), 2);
    let svg = fs::read_to_string(folder.join("charts/effects.svg")).unwrap();
    assert!(
        svg.contains("<title ") && svg.contains("regressed"),
        "{svg}"
    );
}

/// What has the focus: its tag, its role, its name.
const FOCUS: &str = "(() => { const it = document.activeElement; \
     return `${it.tagName} ${it.getAttribute('role')} ${it.getAttribute('aria-label') || it.textContent}`.slice(0, 80) })()";

#[test]
fn a_browser_without_a_network_shows_the_site_and_its_filters_and_tips_work() {
    let library = Library::grown();
    library.publish();
    let site = library.site();
    let mut browser = Browser::start();
    for path in pages(&site).into_keys() {
        browser.open(&site.join(&path));
        assert_eq!(browser.complaints(), [""; 0], "{}", path.display());
    }
    every_light_and_width_is_fit_to_look_at(&mut browser, &site);
    the_filter_hides_rows(&mut browser, &site);
    keys_reach_everything(&mut browser, &site);
    a_point_is_told_when_pointed_at(&mut browser, &site);
}

fn every_light_and_width_is_fit_to_look_at(browser: &mut Browser, site: &Path) {
    let folders = fs::read_dir(site.join("compare")).unwrap().flatten();
    let mut comparisons = folders.map(|entry| entry.path().join("comparison.html"));
    let run = fs::read_dir(site.join("runs")).unwrap().flatten().next();
    let pages = [
        ("index", site.join("index.html")),
        ("trend", site.join("trend.html")),
        ("method", site.join("method.html")),
        ("run", run.unwrap().path().join("index.html")),
        ("comparison", comparisons.find(|it| it.is_file()).unwrap()),
    ];
    for (name, page) in pages {
        for (scheme, background) in [("light", "rgb(255, 255, 255)"), ("dark", "rgb(21, 24, 28)")] {
            for width in [1280, 390] {
                browser.show(scheme, width);
                browser.open(&page);
                assert_eq!(browser.complaints(), [""; 0], "{name}");
                let drawn = browser.eval("getComputedStyle(document.body).backgroundColor");
                assert_eq!(drawn, background, "{name}");
                // What is wider than the window scrolls by itself, the page does not.
                let wide = browser.eval("document.documentElement.scrollWidth");
                assert!(
                    wide.as_u64().unwrap() <= width.into(),
                    "{name} at {width}: {wide}"
                );
                let broken =
                    "[...document.images].filter(it => it.complete && !it.naturalWidth).length";
                assert_eq!(
                    browser.eval(broken),
                    0,
                    "{name}: pictures that did not load"
                );
                browser.picture(&format!("{name}-{scheme}-{width}"));
            }
        }
    }
    browser.show("light", 1280);
}

fn the_filter_hides_rows(browser: &mut Browser, site: &Path) {
    browser.open(&site.join("index.html"));
    let shown =
        "[...document.querySelectorAll('#runs tbody tr')].filter(it => it.offsetHeight).length";
    assert_eq!(browser.eval(shown), 16);
    browser.eval("document.querySelector('form.filter input').focus()");
    browser.write("invalid");
    assert_eq!(browser.eval(shown), 1);
    let told = "document.querySelector('form.filter output').textContent";
    assert_eq!(browser.eval(told), "1 of 16 runs");
    // The hostile profile sorts first, and is one run.
    browser.eval(
        "(() => { const form = document.querySelector('form.filter'); form.reset(); \
         form.elements.profile.selectedIndex = 1; form.dispatchEvent(new Event('input')) })()",
    );
    assert_eq!(browser.eval(shown), 1);
    browser.open(&site.join("trend.html"));
    let shown =
        "[...document.querySelectorAll('section.series')].filter(it => it.offsetHeight).length";
    let all = browser.eval(shown).as_u64().unwrap();
    browser.eval("document.querySelector('form.filter input').focus()");
    browser.write("response.p50 async");
    let some = browser.eval(shown).as_u64().unwrap();
    assert!(0 < some && some < all, "{some} of {all}");
    assert_eq!(browser.complaints(), [""; 0]);
}

fn keys_reach_everything(browser: &mut Browser, site: &Path) {
    browser.open(&site.join("index.html"));
    let mut reached = Vec::new();
    for _ in 0..40 {
        browser.press("Tab");
        reached.push(browser.eval(FOCUS).as_str().unwrap().to_owned());
    }
    for wanted in [
        "To the content",
        "Comparisons",
        "DIV region Table of modes",
        "INPUT",
        "SELECT",
        "DIV region Table of runs",
    ] {
        let is_reached = reached.iter().any(|it| it.contains(wanted));
        assert!(is_reached, "{wanted}: {reached:#?}");
    }
}

fn a_point_is_told_when_pointed_at(browser: &mut Browser, site: &Path) {
    browser.open(&site.join("trend.html"));
    let plot = "document.querySelector('section.series[data-figure=\"response.p50\"] .plot.wide')";
    browser.eval(&format!("{plot}.scrollIntoView({{block: 'center'}})"));
    let mut side = |name: &str| {
        let side = browser.eval(&format!("{plot}.getBoundingClientRect().{name}"));
        side.as_f64().unwrap()
    };
    let (x, y) = (
        side("left") + side("width") * 0.9,
        side("top") + side("height") * 0.5,
    );
    let is_hidden = "document.getElementById('tip').hidden";
    let text = "document.getElementById('tip').textContent";
    assert_eq!(browser.eval(is_hidden), true);
    browser.point(x, y);
    assert_eq!(browser.eval(is_hidden), false);
    let told = browser.eval(text).as_str().unwrap().to_owned();
    for part in [
        "commit: ",
        "run: 2026-03-01 ",
        "value (ms): ",
        "95 %: ",
        "reps: 3",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    browser.picture("trend-tip");
    browser.point(1.0, 1.0);
    assert_eq!(browser.eval(is_hidden), true);
    // The same without a pointer.
    browser.eval(&format!("{plot}.focus({{preventScroll: true}})"));
    let newest = browser.eval(text);
    browser.press("ArrowLeft");
    let before = browser.eval(text);
    assert!(
        newest.as_str().unwrap().contains("commit: ") && newest != before,
        "{newest} {before}"
    );
    browser.press("Escape");
    assert_eq!(browser.eval(is_hidden), true);
    assert_eq!(browser.complaints(), [""; 0]);
}

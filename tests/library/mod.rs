//! Directories of results with many made-up runs, and the sites that are made of them.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]
#![allow(
    unreachable_pub,
    reason = "a test file that has this module has no public face of its own"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use replbench::plan::Side;
use replbench::publish::{Options, Published, publish};
use replbench::record::{Manifest, OnMismatch, RunStatus, Session, files};
use replbench::report;
use tempfile::TempDir;

use crate::made_up::{Shape, write_run};

/// What no name may do to a page.
pub const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\"'\u{202e}\u{1b}[31m";

/// Runs that are copies of one, with other ids, commits, times and figures.
pub struct Library {
    pub dir: TempDir,
    model: PathBuf,
    manifest: Manifest,
}

impl Library {
    pub fn new() -> Self {
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

    pub fn results(&self) -> PathBuf {
        self.dir.path().join("results")
    }

    pub fn site(&self) -> PathBuf {
        self.dir.path().join("site")
    }

    /// The run number `number`, whose times are `factor` times those of the model.
    pub fn add(&self, number: u32, factor: f64, edit: impl FnOnce(&mut Manifest)) -> PathBuf {
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

    pub fn publish(&self) -> Published {
        publish(&self.options()).unwrap()
    }

    fn options(&self) -> Options {
        Options {
            results: self.results(),
            out: self.site(),
            on_mismatch: OnMismatch::LeaveOut,
            title: format!("Test {HOSTILE}"),
            order: (0..100).map(commit).collect(),
        }
    }

    /// Two weeks of which the second is slower, a session, an invalid run, and names that mean harm.
    pub fn grown() -> Self {
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
                    let mut plan = serde_json::Value::from(manifest.plan.clone());
                    plan["profile"] = HOSTILE.into();
                    manifest.plan = plan.into();
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

pub fn commit(number: u32) -> String {
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
pub fn all_files(directory: &Path) -> BTreeSet<PathBuf> {
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
pub fn pages(site: &Path) -> BTreeMap<PathBuf, String> {
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

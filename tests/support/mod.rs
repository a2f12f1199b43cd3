//! Runs of the product itself on real servers, what is done to them meanwhile, and the files that they leave.
//!
//! Knows the command line, the layout of a cluster's directory and the files of a run; nothing else of the product's inside.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]
#![allow(
    unreachable_pub,
    reason = "a test file that has this module has no public face of its own"
)]

mod record;
mod server;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use replbench::clock;
use replbench::cluster::process;
use replbench::pg::{Endpoint, Password};
use replbench::record::files;
use replbench::sample::{CellRow, LagRow};
use rustix::process::Signal;
use tempfile::TempDir;

pub use record::Record;
pub use server::{Server, signal};

pub const REPLBENCH: &str = env!("CARGO_BIN_EXE_replbench");

/// Nothing here takes so long, on a machine with other things to do.
pub const PATIENCE: Duration = Duration::from_mins(5);

/// One cluster at a time: several would starve each other, and every figure with them.
static SERVERS: Mutex<()> = Mutex::new(());

/// A directory that the servers' user can enter, and the right to start servers.
pub struct TestDir {
    _turn: MutexGuard<'static, ()>,
    root: TempDir,
}

impl TestDir {
    pub fn new() -> Self {
        // A test that failed has left nothing half done.
        let turn = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
        let root = TempDir::with_prefix("replbench-truth-").unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { _turn: turn, root }
    }

    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Processes that belong to this dir, servers and their keepers, as `pid (state): command line`.
    pub fn processes(&self) -> Vec<String> {
        let root = self.path();
        let own = std::process::id().cast_signed();
        procfs::process::all_processes()
            .unwrap()
            .flatten()
            .filter(|process| process.pid() != own && process.is_alive())
            .filter_map(|process| {
                let line = process.cmdline().unwrap_or_default().join(" ");
                let inside = process
                    .cwd()
                    .is_ok_and(|directory| directory.starts_with(root));
                let is_ours = inside || line.contains(&*root.to_string_lossy());
                let state = process.stat().map_or('?', |stat| stat.state);
                is_ours.then(|| format!("{} ({state}): {line}", process.pid()))
            })
            .collect()
    }

    /// No server within five seconds, and soon not even a keeper, which may have a directory to remove.
    #[track_caller]
    pub fn no_process_is_left(&self) {
        let check = |limit, is_left: fn(&String) -> bool| {
            let left = until(limit, || {
                let mut left = self.processes();
                left.retain(is_left);
                if left.is_empty() { Ok(()) } else { Err(left) }
            });
            assert!(left.is_ok(), "these outlived it by {limit:?}: {left:#?}");
        };
        // SIGKILL ends nothing that sleeps in the kernel until a busy disk has answered (state D).
        check(Duration::from_secs(5), |it| {
            !it.contains("__keeper") && !it.contains("(D)")
        });
        check(PATIENCE, |_| true);
    }
}

/// Tries until it succeeds or the limit is over; then the last refusal.
pub fn until<T, E>(limit: Duration, mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let due = clock::now() + limit;
    loop {
        match attempt() {
            Ok(found) => return Ok(found),
            Err(error) if clock::now() >= due => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// `replbench run` on a profile, as a process.
pub struct Run {
    child: Child,
    pub dir: TestDir,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// As a shell says it: the exit code, or 128 and the signal.
    pub code: i32,
    pub text: String,
}

impl Ended {
    /// Checks that the run went to its end. Cells may be INVALID on a busy host, and then not comparable, which is not the matter here.
    #[track_caller]
    pub fn is_whole(&self) {
        assert!(matches!(self.code, 0 | 5 | 7), "{}", self.text);
    }
}

/// Runs what must come out valid, again where a busy host made it INVALID. When a cell is INVALID other tests say.
pub fn valid(mut attempt: impl FnMut() -> Run) -> (Run, Ended) {
    for _ in 0..4 {
        let mut run = attempt();
        let ended = run.ends();
        if !ended.text.contains("INVALID") {
            return (run, ended);
        }
    }
    let mut run = attempt();
    let ended = run.ends();
    (run, ended)
}

impl Run {
    /// A run of one cell of users inserts.
    #[track_caller]
    pub fn of_users(mode: &str, standbys: u8, load: &str, phases: &str) -> Self {
        let profile = format!(
            "modes = [\"{mode}\"]\n[topology]\nstandbys = {standbys}\n\
             [load]\narrivals = \"uniform\"\n{load}\n\
             [phases]\nwarmup = \"500 ms\"\nrepeats = 1\n{phases}\n\
             [[transaction]]\nkind = \"users-insert\"\n"
        );
        Self::start(&profile, &[])
    }

    #[track_caller]
    pub fn start(profile: &str, arguments: &[&str]) -> Self {
        Self::start_at(TestDir::new(), profile, arguments)
    }

    #[track_caller]
    pub fn start_at(dir: TestDir, profile: &str, arguments: &[&str]) -> Self {
        let path = dir.path().join("truth.toml");
        fs::write(&path, profile).unwrap();
        let mut all = vec!["run", "truth.toml"];
        all.extend(arguments);
        Self::launch(dir, &all)
    }

    /// A subcommand that runs something, in the directory's directory and with everything temporary below that.
    #[track_caller]
    pub fn launch(dir: TestDir, arguments: &[&str]) -> Self {
        Self::launch_program(REPLBENCH.as_ref(), dir, arguments)
    }

    /// As [`Run::launch`], with another program that takes the arguments.
    #[track_caller]
    pub fn launch_program(program: &Path, dir: TestDir, arguments: &[&str]) -> Self {
        let log = fs::File::create(dir.path().join("output")).unwrap();
        let child = process::command(program)
            .args(arguments)
            .args(["--results", "results", "--data-dir", "data"])
            .current_dir(dir.path())
            .env("NO_COLOR", "1")
            .env("TMPDIR", dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub fn interrupt(&self) {
        signal(self.pid(), Signal::INT);
    }

    fn output(&self) -> String {
        fs::read_to_string(self.dir.path().join("output")).unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Panics if the run has ended, which nobody is told of before the end otherwise.
    #[track_caller]
    pub fn goes_on(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the run ended early, {status}:\n{}", self.output());
        }
    }

    /// Waits for something to become true of the running run.
    #[track_caller]
    pub fn awaits<T>(&mut self, what: &str, mut attempt: impl FnMut(&Self) -> Option<T>) -> T {
        let due = clock::now() + PATIENCE;
        loop {
            if let Some(found) = attempt(self) {
                return found;
            }
            self.goes_on();
            assert!(
                clock::now() < due,
                "no {what} within {PATIENCE:?}:\n{}",
                self.output()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A server of the run's first cluster, once it takes connections and load is offered in a cell that counts.
    #[track_caller]
    pub fn server(&mut self, name: &str) -> Server {
        let primary = self.awaits("primary", |run| run.find("primary"));
        self.awaits("end of the discarded cell", |run| {
            let mut records = run.records().into_iter();
            let has_ended = records.any(|record| !record.discarded().is_empty());
            has_ended.then_some(())
        });
        self.awaits("load", |_| {
            let loads = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'replbench load'";
            primary.try_sql(loads).ok().filter(|rows| !rows.is_empty())
        });
        self.awaits(name, |run| run.find(name))
    }

    /// Where the run's first cluster lies.
    pub fn cluster(&self) -> Option<PathBuf> {
        let run = subdirectory(&self.dir.path().join("data"))?;
        Some(run.join("cluster-1"))
    }

    /// A server of the run's first cluster, if it takes connections.
    pub fn find(&self, name: &str) -> Option<Server> {
        let cluster = self.cluster()?;
        let pidfile = fs::read_to_string(cluster.join(name).join("data/postmaster.pid")).ok()?;
        let lines: Vec<_> = pidfile.lines().map(str::trim).collect();
        let passfile = fs::read_to_string(cluster.join("pgpass")).ok()?;
        let password = passfile.trim().rsplit(':').next()?;
        (*lines.get(7)? == "ready").then_some(())?;
        Some(Server {
            pid: lines[0].parse().ok()?,
            endpoint: Endpoint::on_loopback(
                name,
                lines[3].parse().ok()?,
                "replbench",
                Some(Password::new(password)),
            ),
        })
    }

    /// Waits until so many seconds of a cell's measurement have reached the disk.
    #[track_caller]
    pub fn has_measured(&mut self, cell: u32, seconds: i64) {
        self.awaits("measurement", |run| {
            let lag: Vec<LagRow> = run.record()?.try_rows(files::LAG)?;
            let far = |row: &LagRow| row.cell_id == cell && row.t_us >= seconds * 1_000_000;
            lag.iter().any(far).then_some(())
        });
    }

    /// All run directories as they are now, by name.
    pub fn records(&self) -> Vec<Record> {
        let Ok(entries) = fs::read_dir(self.dir.path().join("results")) else {
            return Vec::new();
        };
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut found: Vec<_> = paths.filter(|path| path.is_dir()).collect();
        found.sort();
        found.into_iter().map(Record).collect()
    }

    /// The run directory as it is now.
    pub fn record(&self) -> Option<Record> {
        subdirectory(&self.dir.path().join("results")).map(Record)
    }

    /// Waits for the end and checks that nothing outlives it.
    #[track_caller]
    pub fn ends(&mut self) -> Ended {
        self.ends_within(PATIENCE)
    }

    #[track_caller]
    pub fn ends_within(&mut self, limit: Duration) -> Ended {
        let ended = until(limit, || self.child.try_wait().unwrap().ok_or(()));
        let Ok(status) = ended else {
            panic!("the run did not end within {limit:?}:\n{}", self.output());
        };
        self.dir.no_process_is_left();
        Ended {
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            text: self.output(),
        }
    }

    /// SIGKILL, and nothing else.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Its servers end with it. After a proper end both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = until(Duration::from_secs(10), || {
            if self.dir.processes().is_empty() {
                Ok(())
            } else {
                Err(())
            }
        });
    }
}

pub fn subdirectory(parent: &Path) -> Option<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(parent)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    assert!(found.len() < 2, "one run makes one directory: {found:?}");
    found.pop()
}

/// Every arrival has exactly one end.
#[track_caller]
pub fn every_arrival_ends_once(cell: &CellRow) {
    let ends =
        cell.acked + cell.acked_with_warning + cell.failed + cell.indeterminate + cell.missed;
    assert_eq!(cell.offered, ends, "{cell:?}");
}

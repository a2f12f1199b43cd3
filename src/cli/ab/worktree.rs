//! A git worktree of a revision of the current repository, which is checked out and built for a session.
//!
//! Owns a temporary directory, git's record of the worktree, and the processes of the build. Dropping the worktree removes all three.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tempfile::TempDir;

use super::super::git::{commit_of, git, top_level};
use super::super::{Exit, OrExit as _, Stop, escape_lines};
use crate::clock;
use crate::cluster::{Claim, LogTail, process};
use crate::plan::Side;
use crate::profile::visible;
use crate::run::{Interrupt, RunError};

/// The prefix of the names of worktrees' directories in `TMPDIR`.
pub(crate) const WORKTREE: &str = "replbench-worktree-";
const CHECKOUT: Duration = Duration::from_mins(10);
const BUILD: Duration = Duration::from_mins(30);

#[derive(Debug)]
pub(super) struct Worktree {
    side: Side,
    commit: String,
    /// The repository that the worktree belongs to, and from which its record is removed.
    repository: PathBuf,
    /// The temporary directory with the checkout and the build's log. `None` once the directory has been removed.
    place: Option<TempDir>,
    /// Shows `replbench clean` that the directory is still in use.
    _claim: Claim,
}

impl Worktree {
    /// Checks a revision out, detached, into a directory that the servers' user can enter.
    pub(super) async fn add(
        side: Side,
        revision: &str,
        interrupt: &mut Interrupt,
    ) -> Result<Self, Stop> {
        let wrong =
            |problem: &str| Stop::usage(anyhow!("{side}: `git={}`: {problem}", visible(revision)));
        let repository = top_level(Path::new(".")).ok_or_else(|| {
            wrong("the current directory is in no git repository; run replbench where the revision is")
        })?;
        let commit = commit_of(&repository, revision).ok_or_else(|| {
            wrong("there is no such revision here; `git log` shows those that there are")
        })?;
        let place = place()
            .context("make a directory for a worktree; name another place with TMPDIR")
            .or_exit(Exit::Results)?;
        let claim = Claim::on(place.path())
            .context("mark the directory for a worktree")
            .or_exit(Exit::Results)?;
        let worktree = Self {
            side,
            commit,
            repository,
            place: Some(place),
            _claim: claim,
        };
        worktree.check_out(interrupt).await?;
        Ok(worktree)
    }

    async fn check_out(&self, interrupt: &mut Interrupt) -> Result<(), Stop> {
        let arguments = [
            OsString::from("-C"),
            self.repository.clone().into(),
            "worktree".into(),
            "add".into(),
            "--detach".into(),
            self.root().into(),
            self.commit.clone().into(),
        ];
        let git = process::supervisor("git", &arguments);
        let done = self
            .supervise(git, "git worktree add", CHECKOUT, interrupt)
            .await;
        done.map_err(|failure| failure.stop(&self.log(), None))?;
        // Output of git in a successful checkout does not belong in the build's log.
        let _ = fs::remove_file(self.log());
        Ok(())
    }

    /// The root of the checkout.
    pub(super) fn root(&self) -> PathBuf {
        self.directory().join("tree")
    }

    pub(super) fn commit(&self) -> &str {
        &self.commit
    }

    /// The first seven characters of the commit's id.
    pub(super) fn short(&self) -> &str {
        &self.commit[..self.commit.len().min(7)]
    }

    fn directory(&self) -> &Path {
        let place = self.place.as_ref();
        place.expect("taken by drop alone").path()
    }

    fn log(&self) -> PathBuf {
        self.directory().join("build.log")
    }

    /// Runs a shell command in the checkout. If the command fails its log is copied to the directory of results.
    pub(super) async fn build(
        &self,
        command: &str,
        results: &Path,
        interrupt: &mut Interrupt,
    ) -> Result<(), Stop> {
        let mut shell = process::supervisor("sh", &["-c".into(), command.into()]);
        shell.current_dir(self.root());
        // If replbench runs in a git hook or alias, GIT_* variables would point the build's git to another repository.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"GIT_") {
                shell.env_remove(name);
            }
        }
        let shown = visible(command);
        let done = self.supervise(shell, &shown, BUILD, interrupt).await;
        done.map_err(|failure| {
            let kept = match failure {
                Failure::Interrupted => None,
                Failure::Failed(_) => self.keep_log(results).ok(),
            };
            failure.stop(&self.log(), kept.as_deref())
        })
    }

    /// Runs a supervised command until it ends, its deadline passes, or the user interrupts replbench.
    async fn supervise(
        &self,
        mut command: Command,
        what: &str,
        deadline: Duration,
        interrupt: &mut Interrupt,
    ) -> Result<(), Failure> {
        let subject = format!("{}: `{what}` at {}", self.side, self.short());
        let failed = |error: std::io::Error| Failure::Failed(format!("{subject}: {error}"));
        let output = File::create(self.log()).map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        command.stdout(output).stderr(errors);
        let mut supervised = Supervised(command.spawn().map_err(failed)?);
        let ask = async || {
            let status = supervised.0.try_wait().map_err(failed)?;
            Ok(status.ok_or_else(String::new))
        };
        let late = |_| {
            let minutes = deadline.as_secs() / 60;
            Failure::Failed(format!("{subject} did not end within {minutes} min"))
        };
        let status = tokio::select! {
            ended = clock::wait_until(deadline, ask, late) => ended?,
            _ = interrupt.raised() => return Err(Failure::Interrupted),
        };
        if status.success() {
            Ok(())
        } else {
            Err(Failure::Failed(format!("{subject} failed, {status}")))
        }
    }

    /// Copies the log, since the temporary directory may be on another file system.
    fn keep_log(&self, results: &Path) -> std::io::Result<PathBuf> {
        fs::create_dir_all(results)?;
        let at = clock::wall().strftime("%Y%m%dT%H%M%SZ").to_string();
        let name = format!("{at}-build-{}-{}.log", self.side, self.short());
        let kept = results.join(name);
        fs::copy(self.log(), &kept)?;
        Ok(kept)
    }
}

impl Drop for Worktree {
    fn drop(&mut self) {
        let root = self.root();
        let mut remove = git(&self.repository);
        remove.args(["worktree", "remove", "--force"]).arg(root);
        let is_removed = remove.output().is_ok_and(|it| it.status.success());
        drop(self.place.take());
        if !is_removed {
            // `worktree prune` runs only if `worktree remove` failed, because it also drops the records of worktrees whose directories
            // are temporarily unavailable. Its own failure is ignored: nobody could act on it.
            let _ = git(&self.repository).args(["worktree", "prune"]).output();
        }
    }
}

/// Makes the temporary directory. The servers' user may enter it too, to run the programs that were built.
fn place() -> std::io::Result<TempDir> {
    let place = TempDir::with_prefix(WORKTREE)?;
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755))?;
    Ok(place)
}

/// Why a supervised command did not succeed.
#[derive(Debug)]
enum Failure {
    Interrupted,
    Failed(String),
}

impl Failure {
    /// The error for the user: the problem, the end of the log, and the path of the log's copy, which stays when the worktree is removed.
    fn stop(self, log: &Path, kept: Option<&Path>) -> Stop {
        let problem = match self {
            Self::Interrupted => return RunError::Stopped.into(),
            Self::Failed(problem) => problem,
        };
        let text = escape_lines(&LogTail::read(log).text);
        let path = kept.unwrap_or(Path::new("")).to_owned();
        // The arguments are correct, but the server to measure is missing, as when no server is installed.
        Stop::new(Exit::Server, anyhow!("{problem}{}", LogTail { path, text }))
    }
}

/// A supervisor process. It ends its command and all processes of the command when the pipe to the supervisor closes: when this value is
/// dropped or replbench ends.
struct Supervised(Child);

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

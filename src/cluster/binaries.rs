//! Finds the PostgreSQL server binaries of this machine in the places where distributions install them. Starts nothing but
//! `postgres --version` and `pg_config`.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::BinariesError;
use super::process;

/// The programs of one PostgreSQL installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    directory: PathBuf,
    version: String,
    major: i32,
    /// The directory of the installation's own libpq, which the loader would not find otherwise; `None` if it brings none.
    library_path: Option<PathBuf>,
}

impl Binaries {
    /// The oldest major version whose catalogs replbench reads.
    pub const OLDEST: i32 = 14;
    const PROGRAMS: [&'static str; 3] = ["initdb", "postgres", "pg_basebackup"];

    /// The installation in the named directory, or in the first of `PG_CONFIG`, `pg_config`, `PATH` and the directories of distributions
    /// that holds a usable server. An unusable installation is skipped during the search, but a named directory must be usable.
    pub fn find(explicit: Option<&Path>) -> Result<Self, BinariesError> {
        if let Some(directory) = explicit {
            return Self::at(directory);
        }
        let mut searched = Vec::new();
        for (place, directories) in candidates() {
            // An old or partial installation does not hide a good one in another place.
            let usable = directories.iter().filter_map(|it| Self::at(it).ok());
            // Among the newest versions the first one found is taken.
            if let Some(best) = usable.min_by_key(|it| Reverse(it.major)) {
                return Ok(best);
            }
            searched.push(place);
        }
        Err(BinariesError::NotFound { searched })
    }

    fn at(directory: &Path) -> Result<Self, BinariesError> {
        let directory = directory
            .canonicalize()
            .unwrap_or_else(|_| directory.to_owned());
        let incomplete = |program, problem: String| BinariesError::Incomplete {
            directory: directory.clone(),
            program,
            problem,
        };
        for program in Self::PROGRAMS {
            if !directory.join(program).is_file() {
                return Err(incomplete(program, "there is no such file".into()));
            }
        }
        let library_path = library_path(&directory);
        let text = process::output(
            &directory.join("postgres"),
            &["--version"],
            library_path.as_deref(),
            Duration::from_secs(10),
        )
        .map_err(|problem| incomplete("postgres", problem))?;
        let version = version_of(&text).ok_or_else(|| {
            incomplete("postgres", format!("its --version says `{}`", text.trim()))
        })?;
        if version.1 < Self::OLDEST {
            return Err(BinariesError::TooOld {
                directory,
                version: version.0,
                oldest: Self::OLDEST,
            });
        }
        Ok(Self {
            directory,
            version: version.0,
            major: version.1,
            library_path,
        })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The version as the server prints it, such as `15.8` or `18beta1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn library_path(&self) -> Option<&Path> {
        self.library_path.as_deref()
    }
}

/// Places to search in order of preference, each with the directories to look in.
fn candidates() -> Vec<(String, Vec<PathBuf>)> {
    let mut places = Vec::new();
    if let Some(config) = std::env::var_os("PG_CONFIG") {
        places.push(("PG_CONFIG".into(), bindir_of(Path::new(&config))));
    }
    places.push(("pg_config".into(), bindir_of(Path::new("pg_config"))));
    let path = std::env::var_os("PATH").unwrap_or_default();
    places.push(("PATH".into(), std::env::split_paths(&path).collect()));
    for root in [
        "/usr/lib/postgresql/",
        "/usr/pgsql-",
        "/opt/homebrew/opt/postgresql@",
        "/usr/local/opt/postgresql@",
        "/home/linuxbrew/.linuxbrew/opt/postgresql@",
    ] {
        let shown = root.trim_end_matches('/');
        places.push((format!("{shown}*"), versioned(root)));
    }
    places
}

/// The `bin` directories of all installed versions. `root` is the common beginning of the versions' directories.
fn versioned(root: &str) -> Vec<PathBuf> {
    let (parent, prefix) = root.rsplit_once('/').unwrap_or_default();
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join("bin"))
        .collect()
}

fn bindir_of(pg_config: &Path) -> Vec<PathBuf> {
    process::output(pg_config, &["--bindir"], None, Duration::from_secs(10))
        .map(|text| vec![PathBuf::from(text.trim_end_matches('\n'))])
        .unwrap_or_default()
}

/// The `lib` directory beside the binaries, if it holds a libpq. An installation unpacked by hand needs it: with another libpq its
/// walreceiver does not stream. A packaged installation has no such file and needs none.
fn library_path(directory: &Path) -> Option<PathBuf> {
    let library = directory.parent()?.join("lib");
    let own = std::fs::read_dir(&library)
        .ok()?
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libpq.so"));
    own.then_some(library)
}

/// Parses the output of `postgres --version`: `postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)` gives `15.8` and 15.
fn version_of(text: &str) -> Option<(String, i32)> {
    let version = text
        .split_once("(PostgreSQL)")?
        .1
        .split_whitespace()
        .next()?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((version.to_owned(), digits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_and_betas_write_them() {
        for (text, version, major) in [
            (
                "postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)\n",
                "15.8",
                15,
            ),
            ("postgres (PostgreSQL) 18beta1\n", "18beta1", 18),
            ("postgres (PostgreSQL) 9.6.24\n", "9.6.24", 9),
        ] {
            assert_eq!(version_of(text), Some((version.to_owned(), major)));
        }
        assert_eq!(version_of("mysqld 8.0"), None);
    }

    #[test]
    fn a_named_directory_without_a_server_is_refused_by_name() {
        let empty = tempfile::tempdir().unwrap();
        let error = Binaries::find(Some(empty.path())).unwrap_err().to_string();
        assert!(error.contains("no usable `initdb`"), "{error}");
        assert!(error.contains("--pg-bindir"), "{error}");
    }
}

//! The parts of a process's surroundings that libpq reads: the environment and the user.

use std::fs;

/// The environment and the user of a process, as far as libpq reads them.
pub trait Surroundings {
    /// The value of an environment variable; `None` if it is not set.
    fn variable(&self, name: &str) -> Option<String>;
    /// The name of the user who runs this process.
    fn user(&self) -> Option<String>;
}

/// The surroundings of this process.
#[derive(Debug, Clone, Copy)]
pub struct OwnSurroundings;

impl Surroundings for OwnSurroundings {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn user(&self) -> Option<String> {
        let own = rustix::process::geteuid().as_raw().to_string();
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let users = passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        let mut owned = users.filter(|user| user.get(2) == Some(&own.as_str()));
        let name = owned.next().map(|user| user[0].to_owned());
        name.or_else(|| self.variable("USER"))
    }
}

//! What libpq looks at around a process: its environment and its user.

use std::fs;

/// What surrounds a process, as far as libpq looks at it.
pub trait Surroundings {
    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
    /// The name of the user who runs this process.
    fn user(&self) -> Option<String>;
}

/// Those of this process.
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

//! Reads the items of a side of a session from the command line: `--head wal_compression=on --head mode=sync`.
//! Knows how items are written, but not what they do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::mode::{ModeError, ModeSpec};
use crate::plan::Client;
use crate::profile::{SettingError, setting, visible};
use crate::units::UnitError;

/// The parsed items of one side. Without items the side is the plain profile.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct SideItems {
    /// The items as written, for the manifest.
    pub(super) items: Vec<String>,
    /// The name of a built-in profile or a path; `None` for the profile of both sides.
    pub(super) profile: Option<String>,
    pub(super) modes: Vec<ModeSpec>,
    pub(super) bindir: Option<PathBuf>,
    /// A git revision. Relative paths of this side are resolved inside a worktree of the revision.
    pub(super) git: Option<String>,
    pub(super) client: Option<Client>,
    pub(super) settings: BTreeMap<String, String>,
}

/// An item that cannot be used.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum ItemError {
    #[error("`{item}` gives the {what} a second time; keep one")]
    Twice { item: String, what: &'static str },
    #[error("`{0}` has nothing after the `=`; write {0}VALUE")]
    Empty(String),
    #[error(transparent)]
    Mode(#[from] ModeError),
    #[error("client: {0}")]
    Client(#[from] UnitError),
    #[error("{error}; {remedy}")]
    Setting { error: SettingError, remedy: String },
    #[error(
        "`{0}` is no server setting; write it into a profile (`profile=PATH`), or give it to both sides as an option of its own"
    )]
    NotOfServer(String),
    #[error(
        "`git={0}` alone changes nothing that is measured; say what to take from that revision: `bindir=DIR` or `profile=PATH`, relative to the root of the repository"
    )]
    GitAlone(String),
}

/// Keys that a user may try as items, but which belong to a profile and are not server settings.
const OF_PROFILES: [&str; 17] = [
    "arrivals",
    "connections",
    "count",
    "drain",
    "duration",
    "fault",
    "modes",
    "quick",
    "rate",
    "repeats",
    "scale",
    "seed",
    "standbys",
    "subscribers",
    "threads",
    "visibility",
    "warmup",
];

impl SideItems {
    pub(super) fn parse(items: &[String]) -> Result<Self, ItemError> {
        let mut given = Self {
            items: items.to_vec(),
            ..Self::default()
        };
        for item in items {
            given.take(item)?;
        }
        match &given.git {
            Some(revision) if !given.takes_from_worktree() => {
                Err(ItemError::GitAlone(visible(revision)))
            }
            _ => Ok(given),
        }
    }

    fn take(&mut self, item: &str) -> Result<(), ItemError> {
        let (name, value) = item.split_once('=').unwrap_or(("profile", item));
        let known = matches!(name, "profile" | "mode" | "bindir" | "git" | "client");
        if known && value.is_empty() {
            return Err(ItemError::Empty(format!("{name}=")));
        }
        let (is_twice, what) = match name {
            "profile" => (self.profile.replace(value.to_owned()).is_some(), "profile"),
            "bindir" => (
                self.bindir.replace(value.into()).is_some(),
                "directory of PostgreSQL's programs",
            ),
            "git" => (self.git.replace(value.to_owned()).is_some(), "revision"),
            "client" => (self.client.replace(value.parse()?).is_some(), "client"),
            "mode" => {
                // A mode that is given twice is refused when the plan is resolved.
                self.modes.push(value.parse()?);
                return Ok(());
            }
            _ => {
                let (name, value) = server_setting(name, value)?;
                (self.settings.insert(name, value).is_some(), "setting")
            }
        };
        if is_twice {
            let item = visible(item);
            return Err(ItemError::Twice { item, what });
        }
        Ok(())
    }

    /// Whether a path of this side is resolved inside a worktree.
    fn takes_from_worktree(&self) -> bool {
        self.takes_profile_from_worktree()
            || self.bindir.as_ref().is_some_and(|path| path.is_relative())
    }

    pub(super) fn takes_profile_from_worktree(&self) -> bool {
        let path = self.profile.as_deref().map(Path::new);
        self.git.is_some() && path.is_some_and(|path| is_file(path) && path.is_relative())
    }

    /// The profile's name or path; a relative path is resolved inside the worktree if there is one.
    pub(super) fn profile_in(&self, worktree: Option<&Path>) -> Option<String> {
        let named = self.profile.as_ref()?;
        Some(match worktree {
            Some(root) if is_file(Path::new(named)) => {
                root.join(named).to_string_lossy().into_owned()
            }
            _ => named.clone(),
        })
    }

    pub(super) fn bindir_in(&self, worktree: Option<&Path>) -> Option<PathBuf> {
        let named = self.bindir.as_ref()?;
        Some(worktree.map_or_else(|| named.clone(), |root| root.join(named)))
    }
}

/// Whether a profile is a path and not a built-in name, by the rule of [`crate::profile::Profile::load`].
fn is_file(profile: &Path) -> bool {
    profile.to_string_lossy().contains('/') || profile.extension().is_some_and(|it| it == "toml")
}

fn server_setting(name: &str, value: &str) -> Result<(String, String), ItemError> {
    if OF_PROFILES.contains(&name) {
        return Err(ItemError::NotOfServer(name.to_owned()));
    }
    setting(name, value).map_err(|error| {
        let remedy = match &error {
            SettingError::Reserved { name, .. }
                if ["synchronous_commit", "synchronous_standby_names"]
                    .contains(&name.as_str()) =>
            {
                "what commits wait for is a mode: write `mode=off`, `mode=local`, `mode=remote_write`, `mode=sync` (on) or `mode=remote_apply`".into()
            }
            SettingError::Name(_) => {
                "an item is `profile=`, `mode=`, `bindir=`, `git=`, `client=` or a server setting with its value, such as `wal_compression=on`".into()
            }
            other => other.help().to_owned(),
        };
        ItemError::Setting { error, remedy }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(items: &[&str]) -> Result<SideItems, ItemError> {
        let items: Vec<_> = items.iter().map(|item| (*item).to_owned()).collect();
        SideItems::parse(&items)
    }

    fn refusal(items: &[&str]) -> String {
        parse(items).unwrap_err().to_string()
    }

    #[test]
    fn items_become_what_they_name() {
        let given = parse(&[
            "users-insert",
            "mode=sync",
            "mode=remote_apply:any-2",
            "bindir=/opt/pg/bin",
            "wal_compression=on",
            "Log_Line_Prefix=a,b=c ",
        ])
        .unwrap();
        assert_eq!(given.profile.as_deref(), Some("users-insert"));
        let modes: Vec<_> = given.modes.iter().map(ModeSpec::name).collect();
        assert_eq!(modes, ["sync", "remote_apply:any-2"]);
        assert_eq!(given.bindir, Some("/opt/pg/bin".into()));
        assert_eq!(given.settings["wal_compression"], "on");
        // A comma or a second `=` does not split an item.
        assert_eq!(given.settings["log_line_prefix"], "a,b=c ");
        assert_eq!(given.items.len(), 6);
    }

    #[test]
    fn nothing_given_is_the_plain_profile() {
        assert_eq!(parse(&[]), Ok(SideItems::default()));
    }

    #[test]
    fn what_commits_wait_for_is_said_to_be_a_mode() {
        for name in ["synchronous_commit", "SYNCHRONOUS_COMMIT"] {
            let refused = refusal(&[&format!("{name}=on")]);
            assert!(refused.contains("belongs to replbench"), "{refused}");
            assert!(refused.contains("`mode=remote_apply`"), "{refused}");
        }
    }

    #[test]
    fn settings_of_replbench_s_own_and_impossible_ones_are_refused() {
        assert!(refusal(&["fsync=off"]).contains("belongs to replbench"));
        assert!(refusal(&["port=5432"]).contains("belongs to replbench"));
        assert!(refusal(&["a b=1"]).contains("not the name"));
        assert!(refusal(&["=1"]).contains("not the name"));
        assert!(refusal(&["work_mem=1\n2"]).contains("control characters"));
        assert!(refusal(&["standbys=2"]).contains("profile=PATH"));
        assert!(refusal(&["visibility=push"]).contains("profile=PATH"));
        assert!(refusal(&["mode=snyc"]).contains("unknown mode"));
        assert!(refusal(&["bindir="]).contains("bindir=VALUE"));
    }

    #[test]
    fn one_thing_is_given_once() {
        assert!(refusal(&["users-insert", "profile=ecommerce"]).contains("second time"));
        assert!(refusal(&["work_mem=1MB", "Work_Mem=2MB"]).contains("setting a second"));
        assert!(refusal(&["bindir=a", "bindir=b"]).contains("second time"));
    }

    #[test]
    fn a_revision_needs_something_that_is_taken_from_it() {
        for items in [
            &["git=HEAD"][..],
            &["git=HEAD", "users-insert"],
            &["git=HEAD", "bindir=/usr/lib/postgresql/15/bin"],
            &["git=HEAD", "profile=/etc/p.toml"],
        ] {
            assert!(refusal(items).contains("`bindir=DIR` or `profile=PATH`"));
        }
        let given = parse(&["git=HEAD~1", "bindir=out/bin", "profile=a.toml"]).unwrap();
        let root = Some(Path::new("/tree"));
        assert_eq!(given.bindir_in(root), Some("/tree/out/bin".into()));
        assert_eq!(given.profile_in(root).as_deref(), Some("/tree/a.toml"));
    }

    #[test]
    fn a_built_in_profile_is_the_same_in_every_worktree() {
        let given = parse(&["git=HEAD", "users-insert", "bindir=bin"]).unwrap();
        let found = given.profile_in(Some(Path::new("/tree")));
        assert_eq!(found.as_deref(), Some("users-insert"));
        assert!(!given.takes_profile_from_worktree());
    }

    proptest! {
        #[test]
        fn no_item_is_too_strange(item in "\\PC{0,20}=?(\\PC|\n|\u{1b}){0,10}") {
            if let Err(error) = SideItems::parse(&[item]) {
                let shown = error.to_string();
                prop_assert!(!shown.is_empty());
            }
        }
    }
}

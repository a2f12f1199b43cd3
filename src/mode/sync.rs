//! What commits wait for: the two settings `synchronous_commit` and `synchronous_standby_names`.

use serde::{Deserialize, Serialize};

/// `synchronous_commit`: what a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncLevel {
    Off,
    Local,
    RemoteWrite,
    On,
    RemoteApply,
}

impl SyncLevel {
    /// The value of the setting `synchronous_commit`.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Local => "local",
            Self::RemoteWrite => "remote_write",
            Self::On => "on",
            Self::RemoteApply => "remote_apply",
        }
    }

    /// The level of a value of `synchronous_commit`; `None` if the value is none of the levels.
    pub fn parse(setting: &str) -> Option<Self> {
        let all = [
            Self::Off,
            Self::Local,
            Self::RemoteWrite,
            Self::On,
            Self::RemoteApply,
        ];
        all.into_iter().find(|level| level.setting() == setting)
    }
}

/// Which of the named standbys a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quorum {
    /// The first n by priority.
    First(u8),
    /// Any n of the named standbys.
    Any(u8),
}

impl Quorum {
    pub fn count(self) -> u8 {
        match self {
            Self::First(count) | Self::Any(count) => count,
        }
    }
}

/// The content of `synchronous_standby_names`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SyncSet {
    pub quorum: Quorum,
    /// The names of the standbys, in order of priority.
    pub nodes: Vec<String>,
}

impl SyncSet {
    /// Parses `synchronous_standby_names`; `None` if it is empty or malformed. `*` stands for every name in `all`. Names are matched with
    /// those in `all` without regard to case, as the server does.
    pub fn parse(setting: &str, all: &[String]) -> Option<Self> {
        let setting = setting.trim();
        let is_word = |it: &char| it.is_ascii_alphanumeric();
        let word: String = setting.chars().take_while(is_word).collect();
        let is_any = word.eq_ignore_ascii_case("any");
        let rest = if is_any || word.eq_ignore_ascii_case("first") {
            setting[word.len()..].trim_start()
        } else {
            setting
        };
        // `2 (a, b)` and `a, b` are older ways to write FIRST.
        let (count, list) = match rest.split_once('(') {
            Some((count, list)) => (
                count.trim().parse().ok()?,
                list.trim_end().strip_suffix(')')?,
            ),
            None => (1, setting),
        };
        let mut nodes = Vec::new();
        for name in list.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            let quoted = name.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
            let name = quoted.map_or_else(|| name.to_owned(), |it| it.replace("\"\"", "\""));
            let known = all.iter().find(|it| it.eq_ignore_ascii_case(&name));
            match (name.as_str(), known) {
                ("*", _) => nodes.extend(all.iter().cloned()),
                (_, Some(known)) => nodes.push(known.clone()),
                (_, None) => nodes.push(name),
            }
        }
        let quorum = if is_any {
            Quorum::Any(count)
        } else {
            Quorum::First(count)
        };
        (!nodes.is_empty()).then_some(Self { quorum, nodes })
    }

    /// The value of the setting, such as `FIRST 1 ("s1", "s2")`.
    pub fn setting(&self) -> String {
        let names: Vec<_> = self
            .nodes
            .iter()
            .map(|name| format!("\"{name}\""))
            .collect();
        let (word, count) = match self.quorum {
            Quorum::First(count) => ("FIRST", count),
            Quorum::Any(count) => ("ANY", count),
        };
        format!("{word} {count} ({})", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_server_are_read_as_it_reads_them() {
        let all = ["s1".to_owned(), "s2".to_owned()];
        let read =
            |names: &str| SyncSet::parse(names, &all).map(|set| set.setting().replace('"', ""));
        for (names, meaning) in [
            ("s1", "FIRST 1 (s1)"),
            ("s2, s1", "FIRST 1 (s2, s1)"),
            ("2 (s1, s2)", "FIRST 2 (s1, s2)"),
            ("first 2(s1,S2)", "FIRST 2 (s1, s2)"),
            ("ANY 1 (*)", "ANY 1 (s1, s2)"),
            (r#"any 1 ("s1", other)"#, "ANY 1 (s1, other)"),
            ("first", "FIRST 1 (first)"),
        ] {
            assert_eq!(read(names).as_deref(), Some(meaning), "{names}");
        }
        assert_eq!(read(""), None);
        assert_eq!(read("2 (s1"), None);
    }
}

//! The files that libpq reads: passwords and services.

use super::text::{Pairs, insert};
use super::{ConninfoError, Host};

/// The password for a server in a file in the format of `.pgpass`; `None` if no line matches.
pub(super) fn password(text: &str, host: &Host, database: &str, user: &str) -> Option<String> {
    let port = host.port.to_string();
    // In `.pgpass` a Unix-domain socket is written as `localhost`.
    let name = if host.name.starts_with('/') {
        "localhost"
    } else {
        &host.name
    };
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let mut rest = line;
            for wanted in [name, &port, database, user] {
                let (field, after) = take_field(rest)?;
                if field != "*" && unescape(field) != wanted {
                    return None;
                }
                rest = after;
            }
            let password = take_field(rest).map_or(rest, |(field, _)| field);
            Some(unescape(password))
        })
}

/// The text up to the next unescaped colon, and the text after it; `None` if there is no such colon.
fn take_field(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    let colon = text.char_indices().find(|(_, character)| {
        let ends = *character == ':' && !escaped;
        escaped = *character == '\\' && !escaped;
        ends
    });
    colon.map(|(at, _)| (&text[..at], &text[at + 1..]))
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            other => plain.push(other),
        }
    }
    plain
}

/// Adds the settings of a service to `pairs`, except keywords that `pairs` already has. `false` if the file has no such service.
pub(super) fn service(text: &str, name: &str, pairs: &mut Pairs) -> Result<bool, ConninfoError> {
    let lines = text.lines().map(str::trim);
    let mut lines = lines.skip_while(|line| {
        let section = line.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        section != Some(name)
    });
    if lines.next().is_none() {
        return Ok(false);
    }
    let mut said = Pairs::new();
    for line in lines.take_while(|line| !line.starts_with('[')) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| ConninfoError::NoEquals(line.to_owned()))?;
        if key == "service" {
            return Err(ConninfoError::NestedService(name.to_owned()));
        }
        insert(&mut said, key, value.to_owned())?;
    }
    for (key, value) in said {
        pairs.entry(key).or_insert(value);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_gives_the_password() {
        let file = "# a:5432:*:*:comment\na:5432:db:me:s\\:e\\\\c\n*:*:*:other:x\nlocalhost:*:*:me:local:rest\n";
        let of = |name: &str, port, user| {
            let host = Host {
                name: name.into(),
                address: None,
                port,
            };
            password(file, &host, "db", user)
        };
        assert_eq!(of("a", 5432, "me").as_deref(), Some("s:e\\c"));
        assert_eq!(of("a", 5433, "me"), None);
        assert_eq!(of("b", 1, "other").as_deref(), Some("x"));
        assert_eq!(of("/run/postgresql", 5432, "me").as_deref(), Some("local"));
    }

    #[test]
    fn a_service_fills_what_was_left_open() {
        let file = "[one]\nhost=a\n\n[two]\n# where\nhost=b\nport=6\n[three]\nport=7\n";
        let mut pairs = Pairs::from([("port", "5".to_owned())]);
        assert!(service(file, "two", &mut pairs).unwrap());
        assert_eq!((pairs["host"].as_str(), pairs["port"].as_str()), ("b", "5"));
        assert!(!service(file, "four", &mut pairs).unwrap());
        assert!(service("[a]\nhots=b\n", "a", &mut pairs).is_err());
    }
}

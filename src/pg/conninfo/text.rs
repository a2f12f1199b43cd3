//! The two forms of a connection string, `key=value ...` and `postgresql://...`, as keywords with their values.

use std::collections::BTreeMap;

use super::ConninfoError;

/// Keywords that replbench uses, each with the environment variable that supplies its value when it is missing.
pub(super) const USED: [(&str, &str); 16] = [
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("service", "PGSERVICE"),
    ("options", "PGOPTIONS"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("channel_binding", "PGCHANNELBINDING"),
];

/// Keywords of libpq that do not affect anything that replbench measures or promises. They are accepted and ignored.
const WITHOUT_EFFECT: [&str; 15] = [
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "sslcompression",
    "sslsni",
    "krbsrvname",
    "gsslib",
    "gssdelegation",
    "min_protocol_version",
    "max_protocol_version",
];

/// Keywords of libpq that ask for something that replbench does not support, each with the values that are accepted nevertheless because
/// they ask for nothing.
const UNSUPPORTED: [(&str, &[&str]); 12] = [
    ("replication", &["false", "off", "no", "0"]),
    ("gssencmode", &["disable", "prefer"]),
    ("sslnegotiation", &["postgres"]),
    ("sslcertmode", &["allow"]),
    ("load_balance_hosts", &["disable"]),
    ("require_auth", &[]),
    ("requirepeer", &[]),
    ("sslcrl", &[]),
    ("sslcrldir", &[]),
    ("sslpassword", &[]),
    ("ssl_min_protocol_version", &["TLSv1.2"]),
    ("ssl_max_protocol_version", &["TLSv1.3"]),
];

/// Values by keyword. If a keyword is given twice, the last value counts.
pub(super) type Pairs = BTreeMap<&'static str, String>;

/// Parses a connection string in either form.
pub(super) fn parse(text: &str) -> Result<Pairs, ConninfoError> {
    let uri = ["postgresql://", "postgres://"];
    if let Some(rest) = uri.iter().find_map(|scheme| text.strip_prefix(scheme)) {
        return parse_uri(rest);
    }
    let mut pairs = Pairs::new();
    for (key, value) in split(text)? {
        insert(&mut pairs, key, value)?;
    }
    Ok(pairs)
}

/// Whether libpq has a keyword of this name.
pub(super) fn is_keyword(word: &str) -> bool {
    USED.iter().any(|(key, _)| *key == word)
        || WITHOUT_EFFECT.contains(&word)
        || UNSUPPORTED.iter().any(|(key, _)| *key == word)
}

/// Stores a value under its keyword. As in libpq, an empty value counts as not given.
pub(super) fn insert(pairs: &mut Pairs, key: &str, value: String) -> Result<(), ConninfoError> {
    if let Some((key, _)) = USED.iter().find(|(it, _)| *it == key) {
        pairs.insert(key, value);
        return Ok(());
    }
    if WITHOUT_EFFECT.contains(&key) {
        return Ok(());
    }
    match UNSUPPORTED.iter().find(|(it, _)| *it == key) {
        Some((_, harmless)) if value.is_empty() || harmless.contains(&value.as_str()) => Ok(()),
        Some((key, _)) => Err(ConninfoError::Unsupported { key, value }),
        None => Err(ConninfoError::UnknownKey(key.to_owned())),
    }
}

/// Splits `key=value ...` into keywords and values. Accepts any keyword.
pub(super) fn split(text: &str) -> Result<Vec<(&str, String)>, ConninfoError> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest
            .find(|it: char| it == '=' || it.is_whitespace())
            .unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        let after = after.trim_start().strip_prefix('=');
        let after = after.ok_or_else(|| ConninfoError::NoEquals(key.to_owned()))?;
        let (value, after) = take_value(after.trim_start(), key)?;
        pairs.push((key, value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// Reads a value, quoted or not, and returns it with the rest of the text.
fn take_value<'a>(text: &'a str, key: &str) -> Result<(String, &'a str), ConninfoError> {
    let quoted = text.strip_prefix('\'');
    let text = quoted.unwrap_or(text);
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted.is_some() => return Ok((value, &text[at + 1..])),
            space if quoted.is_none() && space.is_whitespace() => return Ok((value, &text[at..])),
            other => value.push(other),
        }
    }
    if quoted.is_some() {
        return Err(ConninfoError::Unterminated(key.to_owned()));
    }
    Ok((value, ""))
}

/// Parses the part of a URI after the scheme: `[user[:password]@][host[:port],...][/database][?key=value&...]`.
fn parse_uri(text: &str) -> Result<Pairs, ConninfoError> {
    let mut pairs = Pairs::new();
    let (text, parameters) = match text.split_once('?') {
        Some((text, parameters)) => (text, Some(parameters)),
        None => (text, None),
    };
    let (authority, database) = match text.split_once('/') {
        Some((authority, database)) => (authority, Some(database)),
        None => (text, None),
    };
    let (credentials, hosts) = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => (Some(credentials), hosts),
        None => (None, authority),
    };
    let mut note = |key: &str, value: &str| {
        if value.is_empty() {
            return Ok(());
        }
        insert(&mut pairs, key, decode(value)?)
    };
    if let Some(credentials) = credentials {
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        note("user", user)?;
        note("password", password)?;
    }
    let hosts: Vec<_> = hosts.split(',').map(split_port).collect::<Result<_, _>>()?;
    let list = |which: fn(&(&str, &str)) -> String| {
        let all: Vec<_> = hosts.iter().map(which).collect();
        // A list of only commas counts as not given.
        if all.iter().all(String::is_empty) {
            String::new()
        } else {
            all.join(",")
        }
    };
    note("host", &list(|(host, _)| (*host).to_owned()))?;
    note("port", &list(|(_, port)| (*port).to_owned()))?;
    note("dbname", database.unwrap_or_default())?;
    for parameter in parameters.into_iter().flat_map(|it| it.split('&')) {
        let (key, value) = parameter
            .split_once('=')
            .ok_or_else(|| ConninfoError::NoEquals(parameter.to_owned()))?;
        match (decode(key)?.as_str(), value) {
            // JDBC's form of `sslmode=require`.
            ("ssl", "true") => note("sslmode", "require")?,
            (key, value) => note(key, value)?,
        }
    }
    Ok(pairs)
}

/// Splits `host`, `host:port` or `[address]:port` into host and port. A missing port is empty.
fn split_port(text: &str) -> Result<(&str, &str), ConninfoError> {
    let Some(rest) = text.strip_prefix('[') else {
        return Ok(text.split_once(':').unwrap_or((text, "")));
    };
    let malformed = || ConninfoError::Brackets(text.to_owned());
    let (address, after) = rest.split_once(']').ok_or_else(malformed)?;
    match after.strip_prefix(':') {
        Some(port) => Ok((address, port)),
        None if after.is_empty() => Ok((address, "")),
        None => Err(malformed()),
    }
}

/// Decodes percent-encoded bytes such as `%20`.
fn decode(text: &str) -> Result<String, ConninfoError> {
    let malformed = || ConninfoError::Percent(text.to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>().ok_or_else(malformed)?;
        let mut decoded = [0];
        hex::decode_to_slice(digits, &mut decoded).map_err(|_| malformed())?;
        if decoded == [0] {
            return Err(malformed());
        }
        bytes.extend(decoded);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(text: &str) -> Vec<(&'static str, String)> {
        parse(text).unwrap().into_iter().collect()
    }

    #[test]
    fn both_forms_say_the_same() {
        let words = pairs(
            r"host=a,b port = 1,2 dbname='my db' user=me password='it\'s \\ it' sslmode=require",
        );
        let uri = pairs("postgresql://me:it%27s%20%5C%20it@a:1,b:2/my%20db?sslmode=require");
        assert_eq!(words, uri);
    }

    #[test]
    fn parts_of_a_uri_may_be_absent() {
        assert_eq!(pairs("postgresql://"), []);
        assert_eq!(pairs("postgres:///db"), [("dbname", "db".into())]);
        assert_eq!(
            pairs("postgresql://[::1]:5433,h/?ssl=true"),
            [
                ("host", "::1,h".into()),
                ("port", "5433,".into()),
                ("sslmode", "require".into())
            ]
        );
        assert_eq!(
            pairs("postgresql://%2Frun%2Fpostgresql/db")[1],
            ("host", "/run/postgresql".into())
        );
        assert_eq!(
            pairs("postgresql://u@/?host=/tmp")[0],
            ("host", "/tmp".into())
        );
    }

    #[test]
    fn what_is_not_understood_is_named_without_secrets() {
        let said = |text: &str| parse(text).unwrap_err().to_string();
        assert!(said("hots=a").contains("`hots`"));
        assert!(said("host").contains("`=`"));
        assert!(said("host='a").contains("`host`"));
        assert!(said("postgresql://[::1/db").contains("bracket"));
        assert!(said("postgresql://h/%zz").contains("percent"));
        assert!(said("replication=database").contains("`replication`"));
        assert!(said("gssencmode=require").contains("`gssencmode`"));
        assert_eq!(pairs("replication=off gssencmode=prefer"), []);
    }

    proptest! {
        #[test]
        fn quoted_values_come_back(value in "[^\0]{0,20}") {
            let quoted = value.replace('\\', r"\\").replace('\'', r"\'");
            let read = parse(&format!("user=x password='{quoted}'")).unwrap();
            prop_assert_eq!(&read["password"], &value);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            let _ = parse(&text);
            let _ = parse(&format!("postgresql://{text}"));
        }
    }
}

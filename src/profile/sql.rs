//! Reads the SQL of a workload as far as replbench needs: where parameters and tables occur, and which table a statement changes. A
//! scanner that knows strings, quoted names and comments; PostgreSQL checks everything else.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// What a statement does to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Insert,
    Update,
    Delete,
}

/// What was found in a statement.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// The statement with `$1`, `$2` .. in place of `:name` and quoted table names in place of `{id}`.
    pub(super) sql: String,
    /// The names of the parameters `$1`, `$2` .. in order, each once.
    pub(super) parameters: Vec<String>,
    /// What the statement does to which table; the table's name is as written, without quotes. `None` if the statement
    /// does not begin with INSERT INTO, UPDATE or DELETE FROM.
    pub(super) change: Option<(Change, String)>,
    pub(super) verb: String,
    pub(super) has_returning: bool,
    /// Whether the statement is an INSERT that may update instead (`ON CONFLICT DO UPDATE`).
    pub(super) is_upsert: bool,
    /// All words and names outside of strings and comments in order, folded to lower case where they are not quoted.
    names: Vec<String>,
}

impl Read {
    /// Whether the column is named in the SET clause of an UPDATE.
    pub(super) fn sets(&self, column: &str) -> bool {
        let set = self.names.iter().position(|name| name == "set");
        let to_where = self.names.iter().position(|name| name == "where");
        let to_where = to_where.unwrap_or(self.names.len());
        set.is_some_and(|set| self.names[set..to_where].iter().any(|name| name == column))
    }
}

/// A piece of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    /// A word or a quoted name.
    Name(&'a str),
    /// A parameter, written `:name`.
    Parameter(&'a str),
    /// The table of an id, written `{id}`.
    Table(&'a str),
    /// A semicolon outside of strings, quoted names and comments.
    End,
    Other(&'a str),
}

/// Reads one statement. `name_of` gives the quoted name of the table with a given id, if there is such a table. The error is a sentence.
pub(super) fn read(text: &str, name_of: impl Fn(&str) -> Option<String>) -> Result<Read, String> {
    let mut read = Read {
        sql: String::with_capacity(text.len() + 64),
        parameters: Vec::new(),
        change: None,
        verb: String::new(),
        has_returning: false,
        is_upsert: false,
        names: Vec::new(),
    };
    let mut has_ended = false;
    for token in tokens(text) {
        if has_ended && !matches!(token, Token::Other(blank) if blank.trim().is_empty()) {
            return Err("more than one statement stands here; write them as a list".into());
        }
        match token {
            Token::Name(name) => {
                read.names.push(unquoted(name));
                read.sql.push_str(name);
            }
            Token::Parameter(name) => {
                let known = read.parameters.iter().position(|it| it == name);
                let index = known.unwrap_or_else(|| {
                    read.parameters.push(name.to_owned());
                    read.parameters.len() - 1
                });
                let _ = write!(read.sql, "${}", index + 1);
            }
            Token::Table(id) => match name_of(id) {
                Some(name) => {
                    read.names
                        .extend(name.rsplit_once('.').map(|(_, name)| unquoted(name)));
                    read.sql.push_str(&name);
                }
                None => {
                    let _ = write!(read.sql, "{{{id}}}");
                }
            },
            Token::End => has_ended = true,
            Token::Other(text) => read.sql.push_str(text),
        }
    }
    read.sql = read.sql.trim().to_owned();
    read.verb = read.names.first().cloned().unwrap_or_default();
    let mut neighbours = read.names.windows(2);
    read.is_upsert = neighbours.any(|it| it[0] == "do" && it[1] == "update");
    read.has_returning = read.names.iter().any(|name| name == "returning");
    let at = |index: usize| read.names.get(index).map_or("", String::as_str);
    let target = match at(0) {
        "insert" if at(1) == "into" => Some((Change::Insert, 2)),
        "update" => Some((Change::Update, 1)),
        "delete" if at(1) == "from" => Some((Change::Delete, 2)),
        _ => None,
    };
    read.change = target.map(|(change, mut index)| {
        for skipped in ["only", "public"] {
            if at(index) == skipped {
                index += 1;
            }
        }
        (change, at(index).to_owned())
    });
    Ok(read)
}

/// Replaces parameters such as `:rows` by their numbers and `{id}` by table names, in SQL that is sent as text.
pub(super) fn fill_in(
    text: &str,
    numbers: &[(&str, u64)],
    name_of: impl Fn(&str) -> Option<String>,
) -> String {
    let mut sql = String::with_capacity(text.len() + 64);
    for token in tokens(text) {
        let number = |name: &str| numbers.iter().find(|(known, _)| *known == name);
        match token {
            Token::Name(name) | Token::Other(name) => sql.push_str(name),
            Token::Parameter(name) => match number(name) {
                Some((_, number)) => {
                    let _ = write!(sql, "{number}");
                }
                None => {
                    let _ = write!(sql, ":{name}");
                }
            },
            Token::Table(id) => match name_of(id) {
                Some(name) => sql.push_str(&name),
                None => {
                    let _ = write!(sql, "{{{id}}}");
                }
            },
            Token::End => sql.push(';'),
        }
    }
    sql
}

fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|it| it.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => name.to_ascii_lowercase(),
    }
}

fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (token, length) = next(rest)?;
        rest = &rest[length..];
        Some(token)
    })
}

/// The first token and its length in bytes.
fn next(text: &str) -> Option<(Token<'_>, usize)> {
    let first = text.chars().next()?;
    let other = |length: usize| Some((Token::Other(&text[..length]), length));
    let word = |text: &str| {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        end.unwrap_or(text.len())
    };
    match first {
        '\'' => other(quoted(text, '\'')),
        '"' => {
            let length = quoted(text, '"');
            Some((Token::Name(&text[..length]), length))
        }
        '-' if text.starts_with("--") => other(text.find('\n').unwrap_or(text.len())),
        '/' if text.starts_with("/*") => other(text.find("*/").map_or(text.len(), |end| end + 2)),
        '$' => other(dollar_quoted(text)),
        ':' if text.starts_with("::") => other(2),
        ':' => {
            let length = word(&text[1..]);
            if length == 0 || text[1..].starts_with(|c: char| c.is_ascii_digit()) {
                return other(1);
            }
            Some((Token::Parameter(&text[1..=length]), length + 1))
        }
        '{' => {
            let end = text.find('}').filter(|end| *end > 1);
            match end {
                Some(end) if word(&text[1..end]) == end - 1 => {
                    Some((Token::Table(&text[1..end]), end + 1))
                }
                _ => other(1),
            }
        }
        ';' => Some((Token::End, 1)),
        // A string with escapes, such as E'it\'s'.
        'e' | 'E' if text[1..].starts_with('\'') => other(1 + escaped(&text[1..])),
        _ if first.is_alphabetic() || first == '_' => {
            let length = word(text);
            Some((Token::Name(&text[..length]), length))
        }
        _ => other(first.len_utf8()),
    }
}

/// The length in bytes of the string or quoted name at the start of `text`; a doubled quote inside does not end it.
fn quoted(text: &str, quote: char) -> usize {
    let mut end = 1;
    loop {
        match text[end..].find(quote) {
            None => return text.len(),
            Some(at) => end += at + 1,
        }
        if !text[end..].starts_with(quote) {
            return end;
        }
        end += 1;
    }
}

/// Like [`quoted`], for a string in which a backslash escapes the next character.
fn escaped(text: &str) -> usize {
    let mut is_escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '\'' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length in bytes of the string `$tag$ .. $tag$`, or 1 for a dollar sign alone.
fn dollar_quoted(text: &str) -> usize {
    let Some(end) = text[1..].find('$') else {
        return 1;
    };
    let tag = &text[..end + 2];
    if !tag[1..=end]
        .chars()
        .all(|c| c.is_alphanumeric() || c == '_')
    {
        return 1;
    }
    text[tag.len()..]
        .find(tag)
        .map_or(text.len(), |at| at + 2 * tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(id: &str) -> Option<String> {
        (id == "users").then(|| "public.\"my users\"".to_owned())
    }

    #[test]
    fn parameters_are_numbered_and_each_stands_once() {
        let read = read(
            "INSERT INTO {users} (a, b, c) VALUES (:a, :b::int, :a) -- :not\n",
            name_of,
        )
        .unwrap();
        assert_eq!(
            read.sql,
            "INSERT INTO public.\"my users\" (a, b, c) VALUES ($1, $2::int, $1) -- :not"
        );
        assert_eq!(read.parameters, ["a", "b"]);
        assert_eq!(read.change, Some((Change::Insert, "my users".into())));
        assert!(!read.has_returning);
    }

    #[test]
    fn strings_quoted_names_and_comments_are_left_alone() {
        for text in [
            "SELECT ':a {users} ;'",
            "SELECT E'\\':a' AS x",
            "SELECT \":a\"",
            "SELECT $$:a;$$, $t$ :b $t$",
            "SELECT /* :a; */ '{1,2}'::int[], '{}'",
            "SELECT x[1:2] FROM y",
        ] {
            let read = read(text, name_of).unwrap();
            assert_eq!(read.sql, text);
            assert!(read.parameters.is_empty(), "{text}");
        }
    }

    #[test]
    fn the_table_that_a_statement_changes_is_found() {
        let check = |text: &str, change, table: &str| {
            let read = read(text, name_of).unwrap();
            assert_eq!(read.change, Some((change, table.into())), "{text}");
        };
        check("update only public.\"T\" set x = 1", Change::Update, "T");
        check(
            "DELETE FROM Accounts WHERE id = :id",
            Change::Delete,
            "accounts",
        );
        check("INSERT INTO public.a VALUES (1)", Change::Insert, "a");
        assert_eq!(read("SELECT 1", name_of).unwrap().change, None);
        assert_eq!(
            read("WITH x AS (SELECT 1) DELETE FROM a", name_of)
                .unwrap()
                .change,
            None
        );
    }

    #[test]
    fn what_an_update_sets_is_known() {
        let update = read(
            "UPDATE a SET \"Version\" = \"Version\" + 1 WHERE other = 2",
            name_of,
        )
        .unwrap();
        assert!(update.sets("Version") && !update.sets("other") && !update.sets("version"));
    }

    #[test]
    fn two_statements_in_one_text_are_refused() {
        assert!(read("SELECT 1; SELECT 2", name_of).is_err());
        assert_eq!(read("SELECT 1;\n ", name_of).unwrap().sql, "SELECT 1");
    }

    #[test]
    fn numbers_and_names_are_filled_in() {
        let filled = fill_in(
            "INSERT INTO {users} SELECT :rows, ':rows', {x}; ",
            &[("rows", 7)],
            name_of,
        );
        assert_eq!(
            filled,
            "INSERT INTO public.\"my users\" SELECT 7, ':rows', {x}; "
        );
    }
}

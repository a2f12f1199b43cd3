//! The messages with which a server answers one request, up to the message that it is ready for the next request.

use postgres_protocol::message::backend;
use tokio_postgres::error::SqlState;

use super::input::{Broken, Message};
use crate::pg::Failure;

/// The most bytes of rows or notices that one answer may hold.
const MOST: usize = 16 * 1024 * 1024;

/// What an answer keeps of the messages, besides its counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keeps {
    #[default]
    LastRow,
    Rows,
    /// The texts of notices, and the last row.
    Notices,
}

/// The answer to one request. It is reused for the next request, to keep its memory.
#[derive(Debug, Default)]
pub struct Answer {
    /// The bodies of the kept row messages: all rows, or only the last.
    rows: Vec<u8>,
    /// The end of each kept row in `rows`.
    ends: Vec<usize>,
    /// The number of rows received.
    pub count: u64,
    /// What the answer keeps.
    pub keeps: Keeps,
    /// The texts of notices, one per line.
    pub notices: String,
    /// The number of rows that the command affected, according to its tag.
    pub affected: u64,
    /// The number of statements that the server has parsed to prepare them.
    pub parsed: usize,
    /// Whether the server warned that a commit may not have been replicated.
    pub warned: bool,
    pub failure: Option<Failure>,
    /// Whether the server ends the session after `failure`.
    pub is_fatal: bool,
}

/// The server is ready for the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// Whether a transaction block is open, even if it has failed.
    pub in_transaction: bool,
}

impl Answer {
    /// Clears the answer before the next request.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.ends.clear();
        (self.count, self.affected, self.parsed) = (0, 0, 0);
        (self.warned, self.is_fatal) = (false, false);
        self.failure = None;
        self.notices.clear();
    }

    /// Takes in the next message. `Some` if the message completes this answer.
    pub fn take(&mut self, message: Message<'_>) -> Result<Option<Ready>, Broken> {
        match message.tag {
            backend::READY_FOR_QUERY_TAG => {
                return match message.body {
                    Some(b"I") => Ok(Some(Ready {
                        in_transaction: false,
                    })),
                    Some(b"T" | b"E") => Ok(Some(Ready {
                        in_transaction: true,
                    })),
                    _ => Err(Broken("a transaction status that is unknown".into())),
                };
            }
            backend::DATA_ROW_TAG => {
                self.count += 1;
                if self.keeps != Keeps::Rows {
                    self.rows.clear();
                    self.ends.clear();
                }
                let row = message.body.unwrap_or_default();
                if self.rows.len() + row.len() > MOST {
                    return Err(Broken::new("more rows than were asked for"));
                }
                self.rows.extend_from_slice(row);
                self.ends.push(self.rows.len());
            }
            backend::COMMAND_COMPLETE_TAG => {
                self.affected = rows_affected(message.body.unwrap_or_default());
            }
            backend::ERROR_RESPONSE_TAG => {
                let said = ErrorOrNotice::of(message.body);
                self.is_fatal |= said.ends_session();
                self.failure.get_or_insert_with(|| said.failure());
            }
            backend::NOTICE_RESPONSE_TAG => {
                let said = ErrorOrNotice::of(message.body);
                self.warned |= said.warns_of_replication();
                if self.keeps == Keeps::Notices {
                    if self.notices.len() > MOST {
                        return Err(Broken::new("more notices than were asked for"));
                    }
                    self.notices
                        .push_str(&String::from_utf8_lossy(said.message));
                    self.notices.push('\n');
                }
            }
            backend::PARSE_COMPLETE_TAG => self.parsed += 1,
            backend::BIND_COMPLETE_TAG
            | backend::CLOSE_COMPLETE_TAG
            | backend::NO_DATA_TAG
            | backend::EMPTY_QUERY_RESPONSE_TAG
            | backend::ROW_DESCRIPTION_TAG
            | backend::PARAMETER_DESCRIPTION_TAG
            | backend::PARAMETER_STATUS_TAG
            | backend::NOTIFICATION_RESPONSE_TAG => {}
            other => {
                return Err(Broken(format!(
                    "a message of type {:?} that answers nothing",
                    char::from(other)
                )));
            }
        }
        Ok(None)
    }

    /// The first `N` columns of every kept row. A column is `None` if it is NULL or if the row does not have it.
    pub fn kept<const N: usize>(&self) -> impl Iterator<Item = Result<[Option<&[u8]>; N], Broken>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let rows = starts.zip(&self.ends);
        rows.map(|(start, end)| columns(&self.rows[start..*end]))
    }
}

fn columns<const N: usize>(row: &[u8]) -> Result<[Option<&[u8]>; N], Broken> {
    let mut columns = [None; N];
    let short = || Broken("a row that is shorter than it says".into());
    let (count, mut rest) = row.split_first_chunk::<2>().ok_or_else(short)?;
    let count = usize::from(u16::from_be_bytes(*count));
    for column in columns.iter_mut().take(count) {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        rest = after;
        if let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) {
            let (value, after) = rest.split_at_checked(length).ok_or_else(short)?;
            *column = Some(value);
            rest = after;
        }
    }
    Ok(columns)
}

/// The number at the end of a command tag, such as "INSERT 0 1" or "UPDATE 5"; zero if there is none.
fn rows_affected(body: &[u8]) -> u64 {
    let tag = body.strip_suffix(b"\0").unwrap_or(body);
    let digits = tag.iter().rev().take_while(|byte| byte.is_ascii_digit());
    let digits = digits.count();
    let number = &tag[tag.len() - digits..];
    number.iter().fold(0_u64, |sum, digit| {
        sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))
    })
}

/// The fields of an error or notice message.
#[derive(Debug, Default)]
pub(super) struct ErrorOrNotice<'a> {
    /// The severity of field `V`, which the server never translates, unlike that of field `S`.
    severity: &'a [u8],
    code: &'a [u8],
    message: &'a [u8],
    detail: &'a [u8],
    file: &'a [u8],
}

impl<'a> ErrorOrNotice<'a> {
    pub(super) fn of(body: Option<&'a [u8]>) -> Self {
        let Some(body) = body else {
            return Self {
                message: b"a message too long to keep",
                ..Self::default()
            };
        };
        let mut said = Self::default();
        for field in body.split(|byte| *byte == 0) {
            match field.split_first() {
                Some((b'V', text)) => said.severity = text,
                Some((b'C', text)) => said.code = text,
                Some((b'M', text)) => said.message = text,
                Some((b'D', text)) => said.detail = text,
                Some((b'F', text)) => said.file = text,
                _ => {}
            }
        }
        said
    }

    fn ends_session(&self) -> bool {
        [b"FATAL".as_slice(), b"PANIC"].contains(&self.severity)
    }

    /// A commit whose wait for synchronous replication was cancelled reports success; only this warning shows that it may not be
    /// replicated.
    fn warns_of_replication(&self) -> bool {
        self.code == SqlState::WARNING.code().as_bytes() && self.file == b"syncrep.c"
    }

    pub(super) fn failure(&self) -> Failure {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let code = (!self.code.is_empty()).then(|| SqlState::from_code(&text(self.code)));
        let detail = (!self.detail.is_empty()).then(|| text(self.detail));
        Failure::of_server(code, text(self.message), detail.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut as _, BytesMut};
    use fallible_iterator::FallibleIterator as _;
    use proptest::prelude::*;

    fn message(tag: u8, body: &[u8]) -> Message<'_> {
        Message {
            tag,
            body: Some(body),
        }
    }

    #[test]
    fn an_answer_tells_its_row_and_what_it_met() {
        let mut answer = Answer::default();
        let row = b"\0\x03\0\0\0\x02ab\xFF\xFF\xFF\xFF\0\0\0\x01c";
        assert_eq!(answer.take(message(b'D', row)).unwrap(), None);
        answer.take(message(b'C', b"INSERT 0 17\0")).unwrap();
        let ready = answer.take(message(b'Z', b"I")).unwrap();
        assert!(ready.is_some_and(|it| !it.in_transaction));
        assert_eq!((answer.count, answer.affected), (1, 17));
        let columns = [Some(b"ab".as_slice()), None, Some(b"c".as_slice()), None];
        assert_eq!(answer.kept::<4>().next(), Some(Ok(columns)));
        answer.keeps = Keeps::Rows;
        answer.take(message(b'D', b"\0\x01\0\0\0\x09d")).unwrap();
        assert!(answer.kept::<4>().nth(1).unwrap().is_err());
        answer.clear();
        assert_eq!(answer.kept::<1>().next(), None);
    }

    #[test]
    fn errors_and_warnings_say_what_they_mean_for_the_transaction() {
        let mut answer = Answer::default();
        let warning = b"SWARNUNG\0VWARNING\0C01000\0Mabgebrochen\0Fsyncrep.c\0L300\0\0";
        answer.take(message(b'N', warning)).unwrap();
        assert!(answer.warned);
        let error = b"SFATAL\0VFATAL\0C57P01\0Mterminating\0Dnow\0\0";
        answer.take(message(b'E', error)).unwrap();
        let failure = answer.failure.unwrap();
        assert!(failure.connection_lost && answer.is_fatal);
        assert_eq!(failure.to_string(), "terminating; now (SQLSTATE 57P01)");
    }

    /// The parser that tokio-postgres uses, given the same message.
    fn reference(tag: u8, body: &[u8]) -> Option<backend::Message> {
        let mut whole = BytesMut::new();
        whole.put_u8(tag);
        whole.put_u32(u32::try_from(body.len() + 4).unwrap());
        whole.put_slice(body);
        backend::Message::parse(&mut whole).ok().flatten()
    }

    fn row(columns: &[Option<Vec<u8>>]) -> Vec<u8> {
        let mut body = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
        for column in columns {
            let length = column
                .as_ref()
                .map_or(-1, |it| i32::try_from(it.len()).unwrap());
            body.extend(length.to_be_bytes());
            body.extend(column.iter().flatten());
        }
        body
    }

    proptest! {
        #[test]
        fn rows_are_read_as_tokio_postgres_reads_them(
            columns in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), 0..6),
            broken in prop::option::of((0_usize..100, any::<u8>())),
        ) {
            let mut body = row(&columns);
            if let Some((at, byte)) = broken
                && let Some(there) = body.get_mut(at)
            {
                *there = byte;
            }
            let Some(backend::Message::DataRow(theirs)) = reference(b'D', &body) else {
                return Ok(());
            };
            let ranges: Result<Vec<_>, _> = theirs.ranges().collect();
            let mut answer = Answer::default();
            answer.take(message(b'D', &body)).unwrap();
            let ours = answer.kept::<6>().last().unwrap();
            if let Ok(ranges) = ranges && ranges.len() <= 6 {
                let value = |range: &Option<std::ops::Range<usize>>| range.clone().map(|it| &theirs.buffer()[it]);
                let mut values: Vec<_> = ranges.iter().map(value).collect();
                values.resize(6, None);
                prop_assert_eq!(ours.unwrap().to_vec(), values);
            }
        }

        #[test]
        fn errors_are_read_as_tokio_postgres_reads_them(
            fields in prop::collection::vec((prop::sample::select(&b"SVCMDHPF"[..]), "[ -~]{0,20}"), 0..8),
        ) {
            let mut body: Vec<u8> = fields
                .iter()
                .flat_map(|(kind, text)| [&[*kind], text.as_bytes(), &[0]].concat())
                .collect();
            body.push(0);
            let Some(backend::Message::ErrorResponse(theirs)) = reference(b'E', &body) else {
                panic!("it is an error");
            };
            let said = ErrorOrNotice::of(Some(&body));
            let theirs: Vec<_> = theirs
                .fields()
                .map(|it| Ok((it.type_(), it.value_bytes().to_vec())))
                .collect()
                .unwrap();
            let last = |kind: u8| theirs.iter().rfind(|it| it.0 == kind).map(|it| it.1.as_slice());
            for (kind, ours) in [
                (b'V', said.severity),
                (b'C', said.code),
                (b'M', said.message),
                (b'D', said.detail),
                (b'F', said.file),
            ] {
                prop_assert_eq!(ours, last(kind).unwrap_or_default());
            }
        }

        #[test]
        fn whatever_a_server_says_is_an_answer_or_an_error(
            said in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..60)), 0..20),
        ) {
            let mut answer = Answer::default();
            for (tag, body) in &said {
                let _ = answer.take(message(*tag, body));
                answer.kept::<3>().for_each(drop);
            }
        }
    }
}

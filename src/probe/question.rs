//! The query that a look sends to a replica, and which commits the answer shows.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use tokio_postgres::types::{ToSql, Type};

use super::subscriber::{self, FoundRow};
use super::visibility::{Tracker, Watch};
use crate::clock::{Clocks, Stamp};
use crate::pg::Xid8;
use crate::pg::catalog::{VISIBLE_TRANSACTIONS, VisibleTransactions};
use crate::pg::wire::{Answer, Broken, Opening};
use crate::sample::RowKey;

/// The application name of the sessions that look.
pub(super) const NAME: &str = "replbench visibility";
/// The name of the prepared statement.
const LOOK: &str = "look";
/// Microseconds from 1970, the epoch of Unix, to 2000, the epoch of PostgreSQL.
const EPOCH_US: i64 = 946_684_800_000_000;
const MICROSECOND: Duration = Duration::from_micros(1);

/// Application name, options and prepared statement of a session that looks.
pub(super) fn opening(tracker: &Tracker) -> io::Result<Opening> {
    // A plan made for unknown parameters would assume that a third of the table is new, and read the whole table.
    let options = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off \
                   -c enable_bitmapscan=off -c jit=off";
    let mut opening = Opening::new(NAME, Some(options));
    match tracker {
        Tracker::Physical(_) => opening.prepare(LOOK, VISIBLE_TRANSACTIONS)?,
        Tracker::Logical(tracker) => {
            opening.prepare(LOOK, &subscriber::rows_sql(&tracker.tables, &tracker.keys))?;
        }
    }
    Ok(opening)
}

/// Writes the messages of the next look's query.
pub(super) fn write(tracker: &mut Tracker, out: &mut BytesMut) -> io::Result<()> {
    match tracker {
        Tracker::Physical(tracker) => {
            let asked: Vec<_> = tracker.question().into_iter().map(Xid8).collect();
            bind(&[(Box::new(asked), Type::XID8_ARRAY)], out)?;
        }
        Tracker::Logical(tracker) => {
            let asked = tracker.question();
            let parameters = subscriber::parameters(&tracker.keys, &tracker.tables, &asked);
            bind(&parameters, out)?;
        }
    }
    frontend::execute("", 0, out)?;
    frontend::sync(out);
    Ok(())
}

/// Takes the answer to a look. `start` is when the look began, `read` when its answer was read.
pub(super) fn answered(
    answer: &Answer,
    start: Stamp,
    read: &Clocks,
    watch: &mut Watch,
) -> Result<(), Broken> {
    let mut seen = Vec::new();
    match &mut watch.tracker {
        Tracker::Physical(tracker) => {
            let row = answer.kept::<4>().last();
            let [xmin, xmax, committed, made_at] =
                row.unwrap_or_else(|| Err(Broken::new("no row")))?;
            let visible = VisibleTransactions {
                xmin: number(xmin)?,
                xmax: number(xmax)?,
                committed: array(committed)?,
            };
            let end = made(made_at, start, read)?;
            tracker.poll(start, end, visible, &mut seen);
        }
        Tracker::Logical(tracker) => {
            let (mut rows, mut end) = (Vec::new(), read.monotonic());
            for row in answer.kept::<6>() {
                let [table, is_new, key, uuid, version, made_at] = row?;
                if made_at.is_some() {
                    end = made(made_at, start, read)?;
                    continue;
                }
                let number = fixed(key)?.map(|it| RowKey::Number(i64::from_be_bytes(it)));
                let uuid = fixed(uuid)?.map(|it| RowKey::Uuid(u128::from_be_bytes(it)));
                rows.push(FoundRow {
                    table: fixed(table)?.map(u16::from_be_bytes),
                    is_new: is_new == Some(&[1]),
                    key: number.or(uuid),
                    version: fixed(version)?.map(i64::from_be_bytes),
                });
            }
            tracker.poll(start, end, &rows, &mut seen);
        }
    }
    watch.settle(seen);
    Ok(())
}

fn bind(parameters: &[(Box<dyn ToSql + Sync + '_>, Type)], out: &mut BytesMut) -> io::Result<()> {
    frontend::bind(
        "",
        LOOK,
        [1],
        parameters,
        |(value, kind), out| value.to_sql_checked(kind, out).map(|_| IsNull::No),
        [1],
        out,
    )
    .map_err(|error| match error {
        frontend::BindError::Conversion(error) => io::Error::other(error.to_string()),
        frontend::BindError::Serialization(error) => error,
    })
}

/// An instant by which the look's snapshot had been taken. The server's clock gives it if its time lies between the query and the reading
/// of the answer, as it does on the same host; otherwise it is the time at which the answer was read.
fn made(at: Option<&[u8]>, start: Stamp, read: &Clocks) -> Result<Stamp, Broken> {
    let now = read.monotonic();
    let Some(since_2000) = fixed(at)?.map(i64::from_be_bytes) else {
        return Ok(now);
    };
    let made = since_2000
        .checked_add(EPOCH_US)
        .and_then(|unix_us| read.stamp_of(unix_us))
        // The server's clock gave whole microseconds: round up.
        .map(|it| it + MICROSECOND);
    Ok(made.filter(|it| (start..=now).contains(it)).unwrap_or(now))
}

fn fixed<const N: usize>(bytes: Option<&[u8]>) -> Result<Option<[u8; N]>, Broken> {
    let wrong = |_| Broken::new(format!("a value that is not {N} bytes long"));
    bytes.map(|it| it.try_into().map_err(wrong)).transpose()
}

fn number(bytes: Option<&[u8]>) -> Result<u64, Broken> {
    let number = fixed(bytes)?.map(u64::from_be_bytes);
    number.ok_or_else(|| Broken::new("NULL for a transaction id"))
}

/// The elements of a `xid8[]` in binary: dimensions, whether there are NULLs, type; then length and lower bound of the one dimension; then
/// each element after its length.
fn array(bytes: Option<&[u8]>) -> Result<Vec<u64>, Broken> {
    let bytes = bytes.unwrap_or_default();
    let elements = bytes.get(20..).unwrap_or_default();
    elements
        .chunks(12)
        .map(|element| number(element.get(4..)))
        .collect()
}

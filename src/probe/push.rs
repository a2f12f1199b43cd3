//! A standby that tells by itself which transactions a read there sees.
//!
//! A loop in one statement looks once a millisecond, which is the shortest sleep that SQL has, and tells in batches what has changed.
//! It costs the client next to nothing, and the server as much as its own looks. No snapshot is held for longer than one turn.

use super::by_transaction::ByTransaction;
use super::tracker::CommitVisibility;
use crate::clock::{Clocks, Stamp};
use crate::pg::catalog::VisibleTransactions;
use crate::pg::wire::Broken;

/// The statement ends with its connection, whatever limits the server has for others.
pub(super) const OPTIONS: &str = "-c client_min_messages=notice -c client_connection_check_interval=200ms \
     -c statement_timeout=0 -c jit=off";

/// Tells, for each look that saw something new: when the look before was begun, when this one was, and when it was over (seconds since
/// 1970), xmin, xmax, and which transactions between them a read sees, of the newest 256. A batch has 20 looks; nothing at all is
/// told twice a second.
pub(super) const SQL: &str = "DO $$
DECLARE
  before timestamptz := clock_timestamp();
  begun timestamptz;
  snapshot pg_snapshot;
  low bigint;
  high bigint;
  sees text;
  saw text := '';
  told text := '';
  looks int := 0;
BEGIN
  LOOP
    begun := clock_timestamp();
    snapshot := pg_current_snapshot();
    low := pg_snapshot_xmin(snapshot)::text::bigint;
    high := pg_snapshot_xmax(snapshot)::text::bigint;
    sees := low || ' ' || high;
    FOR id IN greatest(low, high - 256) .. high - 1 LOOP
      IF pg_xact_status(id::text::xid8) = 'committed' THEN
        sees := sees || ' ' || id;
      END IF;
    END LOOP;
    looks := looks + 1;
    IF sees <> saw THEN
      told := told || extract(epoch FROM before) || ' ' || extract(epoch FROM begun) || ' '
        || extract(epoch FROM clock_timestamp()) || ' ' || sees || ';';
      saw := sees;
    END IF;
    IF length(told) > 8000 OR (looks >= 20 AND told <> '') OR looks >= 500 THEN
      RAISE NOTICE '%', told;
      told := '';
      looks := 0;
    END IF;
    before := begun;
    COMMIT;
    PERFORM pg_sleep(0.0005);
  END LOOP;
END $$";

/// What a standby has told so far.
#[derive(Debug, Default)]
pub(super) struct Pushed {
    /// What it saw last, and the first transaction of which it said so.
    last: Option<(VisibleTransactions, u64)>,
    /// When that had been told.
    read: Stamp,
}

/// The newest transactions that a look names.
const NEWEST: u64 = 256;

impl Pushed {
    /// Takes notices that have just been read, a line each. `asked`: when the standby was asked to tell.
    pub(super) fn hear(
        &mut self,
        notices: &str,
        asked: Stamp,
        clocks: &Clocks,
        tracker: &mut ByTransaction,
        out: &mut Vec<CommitVisibility>,
    ) -> Result<(), Broken> {
        let now = clocks.monotonic();
        let since = self.read.max(asked);
        for told in notices.lines().flat_map(|line| line.split(';')) {
            let told = told.trim();
            if told.is_empty() {
                continue;
            }
            let wrong = || Broken::new(format!("`{told}` is not what was to be told"));
            let mut words = told.split(' ');
            let mut time = || {
                let unix_us = words.next().and_then(unix_us).ok_or_else(wrong)?;
                Ok(clocks.stamp_of(unix_us))
            };
            let times: [Option<Stamp>; 3] = [time()?, time()?, time()?];
            let mut ids = Vec::new();
            for word in words {
                ids.push(word.parse::<u64>().map_err(|_| wrong())?);
            }
            let [xmin, xmax, committed @ ..] = ids.as_slice() else {
                return Err(wrong());
            };
            // By the server's clock, if it says instants between the question and now, as the clock of the same host does.
            let by_server = match times {
                [Some(before), Some(begun), Some(over)]
                    if asked <= before && before <= begun && begun <= over && over <= now =>
                {
                    Some((before, begun, over))
                }
                _ => None,
            };
            let (before, begun, over) = by_server.unwrap_or((since, since, now));
            if let Some((visible, newest)) = &self.last {
                tracker.told(before, before, visible.clone(), *newest, out);
            }
            let visible = VisibleTransactions {
                xmin: *xmin,
                xmax: *xmax,
                committed: committed.to_vec(),
            };
            let newest = (*xmin).max(xmax.saturating_sub(NEWEST));
            tracker.told(begun, over, visible.clone(), newest, out);
            self.last = Some((visible, newest));
        }
        self.read = now;
        Ok(())
    }
}

/// Microseconds of a number of seconds with six decimals.
fn unix_us(text: &str) -> Option<i64> {
    let (seconds, micros) = text.split_once('.').unwrap_or((text, "0"));
    let micros = format!("{micros:0<6}");
    let micros: i64 = micros.get(..6)?.parse().ok()?;
    seconds
        .parse::<i64>()
        .ok()?
        .checked_mul(1_000_000)?
        .checked_add(micros)
}

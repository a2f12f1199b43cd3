//! A standby that reports by itself which transactions a read there sees.
//!
//! One statement loops on the standby. It looks once a millisecond, the shortest sleep that SQL has, and reports changes in batches. This
//! costs the client next to nothing, and the server as much as the looks themselves. No snapshot is held for longer than one turn of the
//! loop.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use super::by_transaction::ByTransaction;
use super::tracker::CommitVisibility;
use crate::clock::{Clocks, Stamp};
use crate::pg::catalog::VisibleTransactions;
use crate::pg::wire::Broken;

/// Options of the session. The statement runs until its connection ends, whatever time-outs the server sets for other sessions.
pub(super) const OPTIONS: &str = "-c client_min_messages=notice -c client_connection_check_interval=200ms \
     -c statement_timeout=0 -c jit=off";

/// Reports each look that saw something new: when the look before it began, when it began and when it ended (seconds since 1970), xmin,
/// xmax, and which of the newest 256 transactions between them a read sees. A batch covers at least 20 looks, unless its text is long. If
/// nothing is new, an empty notice is sent twice a second.
const SQL: &str = "DO $$
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

/// What a standby has reported since the statement was sent.
#[derive(Debug, Default)]
pub(super) struct Pushed {
    last: Option<Last>,
}

/// The last look that the standby reported.
#[derive(Debug)]
struct Last {
    visible: VisibleTransactions,
    /// The lowest transaction id from which on the look says whether it sees each transaction.
    newest: u64,
    /// When the look ended.
    over: Stamp,
}

/// How many of the newest transactions a look names.
const NEWEST: u64 = 256;
const MICROSECOND: Duration = Duration::from_micros(1);

impl Pushed {
    /// Sends the statement again. The last look is forgotten, because it says nothing about the time since then.
    pub(super) fn ask(&mut self, out: &mut BytesMut) -> io::Result<()> {
        self.last = None;
        frontend::query(SQL, out)
    }

    /// Takes notices that have just been read, one per line. `asked` is when the statement was sent.
    pub(super) fn take(
        &mut self,
        notices: &str,
        asked: Stamp,
        clocks: &Clocks,
        tracker: &mut ByTransaction,
        out: &mut Vec<CommitVisibility>,
    ) -> Result<(), Broken> {
        let now = clocks.monotonic();
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
            // The server's times are used if they lie between the statement and now, as those of a server on the same host do.
            let by_server = match times {
                [Some(before), Some(begun), Some(over)]
                    if asked <= before && before <= begun && begun <= over && over < now =>
                {
                    // The server's clock gave whole microseconds: round up.
                    Some((before, begun, over + MICROSECOND))
                }
                _ => None,
            };
            // Nothing had changed until the look before this one. That look adds nothing if it is the one that was reported last.
            if let (Some((before, ..)), Some(last)) = (by_server, &self.last)
                && before > last.over
            {
                tracker.told(before, before, last.visible.clone(), last.newest, out);
            }
            // Without the server's times, the look was made at some time between the statement and now.
            let (_, begun, over) = by_server.unwrap_or((asked, asked, now));
            let visible = VisibleTransactions {
                xmin: *xmin,
                xmax: *xmax,
                committed: committed.to_vec(),
            };
            let newest = (*xmin).max(xmax.saturating_sub(NEWEST));
            tracker.told(begun, over, visible.clone(), newest, out);
            self.last = Some(Last {
                visible,
                newest,
                over,
            });
        }
        Ok(())
    }
}

/// Microseconds of a text that gives seconds with six decimals.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::sample::Commit;

    /// A standby reports these looks. Each has, in microseconds before now, the begin of the look before it, its begin and its end; and
    /// what it sees.
    fn takes(
        pushed: &mut Pushed,
        tracker: &mut ByTransaction,
        clocks: &Clocks,
        looks: &[(u64, u64, u64, &str)],
    ) -> Vec<CommitVisibility> {
        let now_us = clock::wall().as_microsecond();
        let unix = |before: u64| {
            let us = now_us - i64::try_from(before).unwrap();
            format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
        };
        let told: Vec<_> = looks
            .iter()
            .map(|(before, begun, over, sees)| {
                format!("{} {} {} {sees}", unix(*before), unix(*begun), unix(*over))
            })
            .collect();
        let mut seen = Vec::new();
        let asked = clocks.monotonic() - Duration::from_mins(1);
        pushed
            .take(&told.join(";"), asked, clocks, tracker, &mut seen)
            .unwrap();
        seen
    }

    fn commit(xid: u64, clocks: &Clocks) -> Commit {
        let sent = clocks.monotonic() - Duration::from_secs(30);
        Commit {
            xid,
            sent,
            acked: sent,
            ..Commit::default()
        }
    }

    fn before_us(clocks: &Clocks, at: Stamp) -> u128 {
        clocks.monotonic().since(at).as_micros()
    }

    #[test]
    fn a_commit_lies_between_the_look_before_and_the_one_that_saw_it() {
        let clocks = Clocks::read();
        let (mut pushed, mut tracker) = (Pushed::default(), ByTransaction::default());
        tracker.commit(commit(7, &clocks));
        let looks = [
            (900_000, 800_000, 790_000, "7 7"),
            (300_000, 200_000, 190_000, "8 8"),
        ];
        let seen = takes(&mut pushed, &mut tracker, &clocks, &looks);
        // The clocks are read a moment apart, so there is a tolerance.
        assert!((250_000..=300_000).contains(&before_us(&clocks, seen[0].lo)));
        assert!((140_000..=190_000).contains(&before_us(&clocks, seen[0].hi)));
    }

    #[test]
    fn what_was_seen_before_a_connection_was_lost_says_nothing_of_the_time_since() {
        let clocks = Clocks::read();
        let (mut pushed, mut tracker) = (Pushed::default(), ByTransaction::default());
        tracker.commit(commit(7, &clocks));
        takes(
            &mut pushed,
            &mut tracker,
            &clocks,
            &[(900_000, 800_000, 790_000, "7 7")],
        );
        pushed.ask(&mut BytesMut::new()).unwrap();
        let seen = takes(
            &mut pushed,
            &mut tracker,
            &clocks,
            &[(300_000, 200_000, 190_000, "8 8")],
        );
        assert!((750_000..=800_000).contains(&before_us(&clocks, seen[0].lo)));
    }

    #[test]
    fn without_the_clock_of_this_host_a_look_was_made_at_some_time_since_the_question() {
        let clocks = Clocks::read();
        let (mut pushed, mut tracker) = (Pushed::default(), ByTransaction::default());
        let awaited = commit(7, &clocks);
        tracker.commit(awaited);
        // An hour before the question.
        let hour = 3_600_000_000;
        let looks = [
            (hour + 9, hour + 8, hour + 7, "7 7"),
            (hour + 3, hour + 2, hour + 1, "8 8"),
        ];
        let seen = takes(&mut pushed, &mut tracker, &clocks, &looks);
        assert_eq!((seen[0].lo, seen[0].hi), (awaited.sent, clocks.monotonic()));
    }
}

//! Whether a cell may be relied on, and what to know about it. Pure: from figures to sentences.

mod lateness;
mod rate;
mod replicas;

use super::figures::Figures;
use super::watchdog::Standstill;
use crate::load::{FailureCount, Uncommitted};
use crate::mode::Mode;
use crate::plan::{Offered, Plan};
use crate::units::{exact_share, format_duration, thousands};

/// If a greater share of the host's processors is busy, they shape the result.
const HOST_BUSY: f64 = 0.80;
/// A greater share of processor time that the hypervisor gave to other machines is noted. Each percent takes 10 ms of every processor's
/// second, at any moment of that second.
const STEAL_NOTED: f64 = 0.02;
/// A greater share of such time makes a cell invalid: with a tenth of the processors gone, the figures are about the neighbours.
const STEAL_INVALID: f64 = 0.10;

/// If full-page images are a greater share of the WAL, they shape the time that replicas take. The first change of each page after a
/// checkpoint writes one, so every cell has a few.
const FULL_PAGES: f64 = 0.10;
/// Bytes of the image of a page in the WAL; fewer with `wal_compression`.
const PAGE: u64 = 8_192;

/// What is to be said about one cell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Validity {
    /// Why the cell's figures are not to be relied on.
    pub(super) invalid: Vec<String>,
    /// What a reader should know about the cell, even if it is valid.
    pub(super) notes: Vec<String>,
    /// Whether more was offered than was answered; `None` if that cannot be told, as in a closed loop.
    pub(super) overloaded: Option<bool>,
}

impl Validity {
    pub(super) fn is_valid(&self) -> bool {
        self.invalid.is_empty()
    }

    /// Adds a sentence, as a reason against the cell or as a note.
    pub(super) fn add(&mut self, is_invalid: bool, sentence: String) {
        if is_invalid {
            self.invalid.push(sentence);
        } else {
            self.notes.push(sentence);
        }
    }

    /// All sentences for the cell's row.
    pub(super) fn text(&self) -> String {
        let all: Vec<_> = self.invalid.iter().chain(&self.notes).cloned().collect();
        all.join("; ")
    }
}

/// Judges a cell that has ended; `interrupted` if a person cut it short.
pub(super) fn judge(
    plan: &Plan,
    mode: &Mode,
    figures: &Figures,
    standstill: &Standstill,
    interrupted: bool,
) -> Validity {
    let mut validity = Validity {
        invalid: standstill.reasons(),
        ..Validity::default()
    };
    if interrupted || !figures.is_whole(plan) {
        validity.invalid.push(format!(
            "cut short: {} were measured",
            format_duration(figures.measured)
        ));
    }
    // If replbench stood still, lateness says nothing about generator, servers or replicas.
    if !standstill.stood_still() {
        rate::judge(plan, figures, &mut validity);
        lateness::judge(figures, &mut validity);
        replicas::judge(mode, &figures.lag, &mut validity);
    }
    if figures.arrivals.acknowledged() == 0 {
        validity.invalid.push(if figures.acks == 0 {
            "nothing was acknowledged".into()
        } else {
            "no arrival of the measurement phase was acknowledged: those of the warm-up were still waiting before them".into()
        });
    }
    judge_failures(plan, figures, standstill, &mut validity);
    if let Some(error) = &figures.arrival_counts.error {
        validity.invalid.push(format!(
            "the count of arrivals is wrong, please report this: {error}"
        ));
    }
    note_losses(figures, &mut validity);
    judge_host(plan, figures, &mut validity);
    note_maintenance(figures, &mut validity);
    validity
}

/// Judges whether the host's processors were available to the cell.
fn judge_host(plan: &Plan, figures: &Figures, validity: &mut Validity) {
    let Some((busy, steal)) = figures.host_shares() else {
        return;
    };
    if busy > HOST_BUSY {
        let remedy = match plan.load.offered {
            Offered::Open { .. } => ", lower --rate",
            // A closed loop has no rate to lower: it is as fast as the servers are.
            Offered::Closed => "",
        };
        validity.notes.push(format!(
            "the host was {:.0} % busy: the figures are about its processors as much as about replication{remedy}",
            busy * 100.0
        ));
    }
    if steal > STEAL_NOTED {
        let sentence = format!(
            "the hypervisor gave {:.1} % of the processors' time to others (steal)",
            steal * 100.0
        );
        validity.add(steal > STEAL_INVALID, sentence);
    }
}

/// Notes what the servers did besides serving, because it makes a cell unlike the others.
fn note_maintenance(figures: &Figures, validity: &mut Validity) {
    let checkpoints = figures.checkpoints().unwrap_or(0);
    if checkpoints > 0 {
        validity
            .notes
            .push(format!("{checkpoints} checkpoint(s) fell into the cell"));
    }
    // A server did not answer: then the columns are empty.
    let Some(done) = figures.maintenance else {
        return;
    };
    if done.autovacuums > 0 {
        validity.notes.push(format!(
            "autovacuum ran {} time(s) on a table (vacuum or analyze)",
            done.autovacuums
        ));
    }
    let images = (done.full_page_images * PAGE) as f64;
    if let Some(share) = figures.wal_bytes().map(|all| images / all as f64)
        && share > FULL_PAGES
    {
        validity.notes.push(format!(
            "full-page images were up to {:.0} % of the WAL",
            share.min(1.0) * 100.0
        ));
    }
}

/// Judges whether so many transactions failed that the others no longer represent the planned ones.
fn judge_failures(
    plan: &Plan,
    figures: &Figures,
    standstill: &Standstill,
    validity: &mut Validity,
) {
    let arrivals = &figures.arrivals;
    // If a primary was stopped on purpose, that is the reason for transactions without an answer or a connection. It is not the reason for
    // transactions that the server refused.
    let mut by_stop = figures.after_stop.no_connection;
    let mut failed = arrivals.failed + arrivals.no_connection;
    if !standstill.stood_still() {
        // If replbench stood still, the answers may have come in time without being read.
        by_stop += figures.after_stop.indeterminate;
        failed += arrivals.indeterminate;
    }
    failed -= by_stop;
    if by_stop > 0 {
        validity.notes.push(format!(
            "{} transactions had no answer or no connection after the primary had been stopped",
            thousands(by_stop)
        ));
    }
    let offered = arrivals.offered;
    if failed == 0 {
        return;
    }
    let share = failed as f64 / offered.max(1) as f64;
    let mut sentence = format!(
        "{} of {} transactions failed ({:.3} %)",
        thousands(failed),
        thousands(offered),
        share * 100.0
    );
    let is_told = |it: &&FailureCount| by_stop == 0 || it.how == Uncommitted::Failed;
    let failures = figures.failures.iter().filter(is_told);
    let commonest = failures.max_by_key(|found| found.count);
    if let Some(found) = commonest {
        let state = match found.sqlstate.as_str() {
            "" => "without SQLSTATE",
            state => state,
        };
        let (count, message) = (thousands(found.count), clause(&found.detail));
        sentence = format!("{sentence}: {count} times {state}, first `{message}`");
    }
    let is_invalid = share > plan.expect.failures;
    if is_invalid {
        let expected = exact_share(plan.expect.failures);
        sentence = format!("{sentence}, and at most {expected} are expected");
    }
    validity.add(is_invalid, sentence);
}

/// A server's message as part of a sentence of replbench: one line, not endless, and without the separator of sentences in `cells.csv`.
fn clause(message: &str) -> String {
    const LONGEST: usize = 200;
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.replace("; ", ", ");
    if line.chars().count() <= LONGEST {
        return line;
    }
    line.chars().take(LONGEST).chain(['…']).collect()
}

fn note_losses(figures: &Figures, validity: &mut Validity) {
    let arrivals = &figures.arrivals;
    for (count, what) in [
        (
            arrivals.indeterminate,
            "were sent and never answered (indeterminate)",
        ),
        (arrivals.missed, "were due and never sent (missed)"),
        (
            arrivals.acked_with_warning,
            "were acknowledged with a warning that they may not have been replicated",
        ),
    ] {
        if count > 0 {
            validity
                .notes
                .push(format!("{} transactions {what}", thousands(count)));
        }
    }
    for (node, count) in figures.unseen.iter().filter(|(_, count)| **count > 0) {
        validity.notes.push(format!(
            "{} commits were not visible on `{node}` by the end of the drain",
            thousands(*count)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::maintenance::Maintenance;
    use super::*;
    use crate::clock::Stamp;
    use crate::histogram::Histogram;
    use crate::load::{Outcomes, Second};
    use crate::plan::{Length, Overrides, Pace, resolve};
    use crate::probe::{HostSecond, HostShares};
    use crate::profile::Profile;
    use crate::run::faults::{FaultEvent, Happened};
    use crate::run::lag_evidence::{Expected, Streamed};
    use crate::run::watchdog::Stall;
    use crate::sample::{Phase, Timeline};
    use crate::units::Rate;
    use std::time::Duration;

    const SECONDS: u64 = 8;

    fn plan(rate: f64) -> Plan {
        let overrides = Overrides {
            rate: Some(Pace::At(Rate::per_second(rate).unwrap())),
            measure: Some(Length::For(Duration::from_secs(SECONDS))),
            ..Overrides::default()
        };
        resolve(&Profile::load("users-insert").unwrap(), &overrides).unwrap()
    }

    fn empty() -> Figures {
        let timeline = Timeline::new(Stamp::from_nanos(1_000_000_000), Duration::ZERO);
        Figures::new(1, timeline, Expected::default())
    }

    /// An empty second of the measurement.
    fn second(index: i64) -> Second {
        let mut second = Second::new(index, Phase::Measure, index * 1_000_000_000);
        second.end_ns = second.start_ns + 1_000_000_000;
        second
    }

    /// A cell with this many arrivals offered, acknowledged and failed in every second. Each acknowledgement comes 1 ms after the send.
    fn seconds(offered: u64, acked: u64, failed: u64) -> Figures {
        let mut figures = empty();
        let mut backlog = 0;
        for index in 0..SECONDS.cast_signed() {
            let mut second = second(index);
            backlog += offered - acked - failed;
            second.backlog = backlog;
            second.all = Outcomes {
                offered,
                sent: acked + failed,
                acked,
                failed,
                ..Outcomes::default()
            };
            second.measured = second.all;
            record(&mut second.service, acked);
            record(&mut second.response, acked);
            if failed > 0 {
                second.failures.add(FailureCount {
                    sqlstate: "42P01".into(),
                    how: Uncommitted::Failed,
                    count: failed,
                    detail: "relation \"x\" does not exist; give up\nnow".into(),
                });
            }
            figures.second(&second);
        }
        figures
    }

    fn record(histogram: &mut Histogram, count: u64) {
        for _ in 0..count {
            histogram.record(Duration::from_millis(1));
        }
    }

    fn of(plan: &Plan, figures: &Figures) -> Validity {
        let standstill = Standstill::default();
        let mut validity = judge(plan, &plan.modes[0], figures, &standstill, false);
        validity
            .invalid
            .retain(|reason| !reason.contains("no lag sample"));
        validity
    }

    #[test]
    fn servers_that_do_not_keep_up_are_told_with_a_rate_to_try() {
        let mut plan = plan(6_000.0);
        let figures = seconds(6_000, 5_021, 0);
        let sentence =
            "offered 6,000/s, answered 5,021/s: the servers did not keep up, try at most 4,000/s";
        let validity = of(&plan, &figures);
        assert_eq!(validity.invalid, [sentence]);
        plan.expect.overload = true;
        let validity = of(&plan, &figures);
        assert!(
            validity.is_valid() && validity.notes[0] == sentence,
            "{validity:?}"
        );
    }

    #[test]
    fn three_in_a_hundred_unanswered_at_the_end_are_no_overload() {
        assert!(of(&plan(6_000.0), &seconds(6_000, 5_830, 0)).is_valid());
        assert!(!of(&plan(6_000.0), &seconds(6_000, 5_810, 0)).is_valid());
    }

    #[test]
    fn a_few_arrivals_under_way_at_the_end_of_a_short_phase_are_no_queue() {
        let mut figures = empty();
        let mut second = second(0);
        second.all = Outcomes {
            offered: 114,
            sent: 114,
            acked: 110,
            ..Outcomes::default()
        };
        second.measured = second.all;
        record(&mut second.service, 110);
        figures.second(&second);
        assert_eq!(of(&plan(100.0), &figures).overloaded, Some(false));
    }

    #[test]
    fn what_servers_do_besides_serving_is_noted() {
        let mut figures = seconds(100, 100, 0);
        let mut note = |autovacuums| {
            figures.maintenance = Some(Maintenance {
                autovacuums,
                full_page_images: 1_000,
            });
            of(&plan(100.0), &figures).notes
        };
        assert_eq!(note(0), Vec::<String>::new());
        assert_eq!(
            note(2),
            ["autovacuum ran 2 time(s) on a table (vacuum or analyze)"]
        );
    }

    #[test]
    fn failures_are_told_and_more_than_expected_invalidate() {
        let mut plan = plan(100.0);
        let few = of(&plan, &seconds(100, 99, 1));
        assert!(few.is_valid(), "{few:?}");
        assert_eq!(
            few.notes,
            [
                "8 of 800 transactions failed (1.000 %): 8 times 42P01, first `relation \"x\" does not exist, give up now`"
            ]
        );
        let many = of(&plan, &seconds(100, 98, 2));
        assert_eq!(many.invalid.len(), 1);
        assert!(
            many.invalid[0].ends_with(", and at most 1 % are expected"),
            "{many:?}"
        );
        plan.expect.failures = 0.02;
        assert!(of(&plan, &seconds(100, 98, 2)).is_valid());
    }

    /// A cell whose primary is stopped in its fifth second. `before` and `after` are the outcomes of each second's 6,000 arrivals, before
    /// the stop and from then on.
    fn stopped(before: Outcomes, after: Outcomes) -> Validity {
        let mut figures = empty();
        let mut backlog = 0;
        for index in 0..SECONDS.cast_signed() {
            if index == 4 {
                figures.lag.fault(&FaultEvent {
                    fault: "primary-crash primary at 4s for 1s".parse().unwrap(),
                    what: Happened::Began,
                    at: figures.timeline.measure_from + Duration::from_millis(4_500),
                });
            }
            let mut second = second(index);
            second.all = if index < 4 { before } else { after };
            let ended = second.all.acked + second.all.failed + second.all.indeterminate;
            (second.all.offered, second.all.sent) = (6_000, ended);
            backlog += 6_000 - ended;
            second.backlog = backlog;
            second.measured = second.all;
            record(&mut second.service, second.all.acked);
            record(&mut second.response, second.all.acked);
            figures.second(&second);
        }
        of(&plan(6_000.0), &figures)
    }

    #[test]
    fn a_stopped_primary_is_the_reason_for_what_it_leaves_unanswered_and_for_nothing_else() {
        let acked = |acked| Outcomes {
            acked,
            ..Outcomes::default()
        };
        let unanswered = Outcomes {
            indeterminate: 200,
            ..acked(5_800)
        };
        let refused = Outcomes {
            failed: 200,
            ..acked(5_800)
        };
        let whole = acked(6_000);
        let fine = stopped(whole, unanswered);
        assert!(fine.is_valid(), "{fine:?}");
        assert!(
            fine.notes
                .iter()
                .any(|it| it.starts_with("800 transactions had no answer")),
            "{fine:?}"
        );
        assert!(
            !stopped(unanswered, whole).is_valid(),
            "before it was stopped"
        );
        assert!(
            !stopped(whole, refused).is_valid(),
            "a refusal is another matter"
        );
        let waiting = stopped(whole, acked(4_000));
        assert!(
            waiting.is_valid() && waiting.overloaded == Some(true),
            "{waiting:?}"
        );
        assert!(
            !stopped(acked(4_000), acked(4_000)).is_valid(),
            "there was a queue before"
        );
    }

    #[test]
    fn servers_are_not_blamed_for_what_came_late_while_replbench_stood_still() {
        let plan = plan(6_000.0);
        let mut figures = seconds(6_000, 4_000, 0);
        figures.lag.samples = 10;
        let gone = Streamed {
            at: Stamp::default(),
            streamed: false,
        };
        figures.lag.streaming.insert("s1".into(), vec![gone; 3]);
        let standstill = Standstill {
            stalls: vec![Stall {
                from: Stamp::default(),
                length: Duration::from_millis(1_500),
            }],
            ..Standstill::default()
        };
        let validity = judge(&plan, &plan.modes[0], &figures, &standstill, false);
        assert_eq!(validity.invalid.len(), 1, "{validity:?}");
        assert!(validity.invalid[0].starts_with("replbench itself stood still for 1.50 s"));
    }

    #[test]
    fn a_closed_loop_is_not_told_to_lower_its_rate_and_steal_is_judged() {
        let open = plan(100.0);
        let mut closed = open.clone();
        closed.load.offered = Offered::Closed;
        let check = |plan: &Plan, busy: f64, steal: f64| {
            let mut figures = seconds(100, 100, 0);
            for index in 0..SECONDS.cast_signed() {
                figures.host(HostSecond {
                    index,
                    shares: Some(HostShares {
                        busy,
                        steal,
                        iowait: 0.0,
                    }),
                    probe_cpu: Duration::ZERO,
                });
            }
            let mut validity = Validity::default();
            judge_host(plan, &figures, &mut validity);
            validity
        };
        assert!(check(&open, 0.9, 0.0).notes[0].contains("lower --rate"));
        let notes = check(&closed, 0.9, 0.0).notes;
        assert!(
            notes[0].contains("90 % busy") && !notes[0].contains("--rate"),
            "{notes:?}"
        );
        assert_eq!(check(&open, 0.5, 0.02), Validity::default());
        assert!(check(&open, 0.5, 0.03).notes[0].contains("3.0 %"));
        assert!(check(&open, 0.5, 0.11).invalid[0].contains("(steal)"));
    }

    #[test]
    fn an_account_that_does_not_add_up_is_told() {
        let mut figures = seconds(100, 100, 0);
        let mut second = Second::new(8, Phase::Drain, 8_000_000_000);
        second.all.missed = 1;
        figures.second(&second);
        let validity = of(&plan(100.0), &figures);
        assert!(
            validity.invalid[0].contains("count of arrivals"),
            "{validity:?}"
        );
    }
}

//! Reads faults: as one line from the command line, and as a table from a profile.

use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;

use super::super::diagnostics::{self, Diagnostics, Refusal};
use super::super::error::suggestion;
use super::super::wire::{self, Value};
use super::super::workload::Length;
use super::{Fault, FaultKind, Slowness, impossible};
use crate::mode::Mode;
use crate::units::{parse_bytes, parse_duration};

/// The longest time from the start of the measurement phase to a fault, and the longest duration of a fault.
const LONGEST: Duration = Duration::from_hours(24);
/// The longest delay and the longest jitter of a slow network.
const SLOWEST: Duration = Duration::from_mins(1);

/// A text of the command line that is not a fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{written}` is no fault; write KIND NODE at TIME for TIME, such as `pause-replay s1 at 2s for 3s`; a slow-network has at least one of `delay TIME`, `jitter TIME` and `bandwidth BYTES` behind it (a second); a pitr is an instant and has no `for`; kinds are {kinds}",
    kinds = FaultKind::ALL.map(FaultKind::as_str).join(", ")
)]
pub struct UnknownFault {
    written: String,
}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let read = || {
            let (kind, rest) = text.trim().split_once(char::is_whitespace)?;
            let (target, rest) = rest.trim_start().split_once(char::is_whitespace)?;
            let kind = FaultKind::ALL.into_iter().find(|it| it.as_str() == kind)?;
            let rest = rest.trim_start().strip_prefix("at ")?;
            let time = |text: &str| parse_duration(text.trim()).ok();
            if kind.is_instant() {
                return Some(Self {
                    kind,
                    target: target.into(),
                    at: time(rest)?,
                    length: Duration::ZERO,
                    slowness: Slowness::default(),
                });
            }
            let (at, rest) = rest.split_once(" for ")?;
            // The options are cut off the end of the text, from the last to the first in the order in which they are written.
            let (rest, bandwidth) = without(rest, " bandwidth ");
            let (rest, jitter) = without(rest, " jitter ");
            let (length, delay) = without(rest, " delay ");
            let slowness = Slowness {
                delay: delay.map_or(Some(Duration::ZERO), time)?,
                jitter: jitter.map_or(Some(Duration::ZERO), time)?,
                bandwidth: match bandwidth {
                    Some(text) => Some(parse_bytes(text.trim()).ok().filter(|it| *it > 0)?),
                    None => None,
                },
            };
            let is_slow = slowness != Slowness::default();
            (is_slow == (kind == FaultKind::SlowNetwork)).then_some(())?;
            Some(Self {
                kind,
                target: target.into(),
                at: time(at)?,
                length: time(length).filter(|length| !length.is_zero())?,
                slowness,
            })
        };
        read().ok_or_else(|| UnknownFault {
            written: text.into(),
        })
    }
}

/// The text before a word, and the text behind the word; the latter is `None` if the word does not occur.
fn without<'a>(text: &'a str, word: &str) -> (&'a str, Option<&'a str>) {
    match text.split_once(word) {
        Some((before, behind)) => (before, Some(behind)),
        None => (text, None),
    }
}

/// Reads the faults of a profile. `modes` is `None` if the modes themselves have mistakes; then targets are not checked.
pub(in crate::profile) fn faults(
    diagnostics: &mut Diagnostics,
    written: &[Spanned<wire::Fault>],
    modes: Option<&[Mode]>,
    measure: Length,
) -> Vec<Fault> {
    let (mut found, mut spans) = (Vec::new(), Vec::new());
    for entry in written {
        if let Some(fault) = fault(diagnostics, entry) {
            found.push(fault);
            spans.push(entry.span());
        }
    }
    if let Some(it) = modes.and_then(|modes| impossible(&found, modes, measure)) {
        diagnostics.refuse(spans[it.index].clone(), it.reason, &it.remedy);
    }
    found
}

fn fault(diagnostics: &mut Diagnostics, entry: &Spanned<wire::Fault>) -> Option<Fault> {
    let fields = entry.get_ref();
    let kind = diagnostics.required("kind", &fields.kind, entry.span(), diagnostics::text);
    let kind = kind.and_then(|text| {
        let span = fields.kind.as_ref().map_or(entry.span(), Spanned::span);
        let known = FaultKind::ALL.into_iter().find(|it| it.as_str() == text);
        if known.is_none() {
            refuse_kind(diagnostics, span, &text);
        }
        known
    });
    let target = diagnostics.required("target", &fields.target, entry.span(), diagnostics::text);
    let at = diagnostics::duration(Duration::ZERO..=LONGEST);
    let at = diagnostics.required("at", &fields.at, entry.span(), at);
    let length = length(diagnostics, entry, kind);
    let slowness = slowness(diagnostics, fields);
    let (kind, is_slow) = (kind?, slowness != Slowness::default());
    if is_slow != (kind == FaultKind::SlowNetwork) {
        let title = if is_slow {
            format!(
                "`{}` has neither delay, jitter nor bandwidth",
                kind.as_str()
            )
        } else {
            "a slow-network without delay, jitter and bandwidth is as fast as any".into()
        };
        diagnostics.refuse(
            entry.span(),
            title,
            "of a `slow-network` give at least one of `delay`, `jitter` and `bandwidth`",
        );
        return None;
    }
    Some(Fault {
        kind,
        target: target?,
        at: at?,
        length: length?,
        slowness,
    })
}

/// Reads how long a fault lasts; zero for a fault that is an instant, which may not have a `for`.
fn length(
    diagnostics: &mut Diagnostics,
    entry: &Spanned<wire::Fault>,
    kind: Option<FaultKind>,
) -> Option<Duration> {
    let written = &entry.get_ref().length;
    let Some(kind) = kind.filter(|kind| kind.is_instant()) else {
        let length = diagnostics::duration(Duration::from_millis(1)..=LONGEST);
        return diagnostics.required("for", written, entry.span(), length);
    };
    if let Some(written) = written {
        diagnostics.refuse(
            written.span(),
            format!("a `{}` is an instant and lasts for no time", kind.as_str()),
            "leave out `for`",
        );
        return None;
    }
    Some(Duration::ZERO)
}

fn slowness(diagnostics: &mut Diagnostics, fields: &wire::Fault) -> Slowness {
    let time = || diagnostics::duration(Duration::from_micros(1)..=SLOWEST);
    Slowness {
        delay: diagnostics.read_or("delay", &fields.delay, time(), Duration::ZERO),
        jitter: diagnostics.read_or("jitter", &fields.jitter, time(), Duration::ZERO),
        bandwidth: diagnostics.read("bandwidth", &fields.bandwidth, bandwidth),
    }
}

/// Bytes a second.
fn bandwidth(value: &Value) -> Result<u64, Refusal> {
    let bytes = diagnostics::bytes(value)?;
    if bytes == 0 {
        return Err(Refusal::new(
            "more than 0 B a second; a `partition` lets nothing through",
        ));
    }
    Ok(bytes)
}

fn refuse_kind(diagnostics: &mut Diagnostics, span: Range<usize>, kind: &str) {
    let kinds = FaultKind::ALL.map(FaultKind::as_str);
    let help = suggestion(kind, &kinds, "kinds");
    diagnostics.refuse(span, format!("unknown fault `{kind}`"), &help);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        text.parse().unwrap()
    }

    #[test]
    fn a_fault_is_read_as_it_is_written() {
        let text = "pause-replay s1 at 2 s for 500 ms";
        let read = fault(text);
        assert_eq!(read.to_string(), text);
        assert_eq!(fault(" pause-replay  s1  at 2s for 500ms "), read);
        let json = serde_json::to_string(&read).unwrap();
        assert!(json.contains(r#""kind":"pause-replay""#) && json.contains(r#""for""#));
        assert_eq!(serde_json::from_str::<Fault>(&json).unwrap(), read);
        for wrong in [
            "",
            "pause-replay",
            "pause s1 at 2s for 3s",
            "pause-replay s1 at 2s",
            "pause-replay s1 at 2s for 0s",
            "pause-replay s1 for 2s at 3s",
            "pause-replay s1 at soon for 3s",
        ] {
            assert!(wrong.parse::<Fault>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_slow_network_says_how_slow_and_no_other_fault_does() {
        let text = "slow-network s1 at 2 s for 3 s delay 20 ms jitter 5 ms bandwidth 1 MB";
        let read = fault(text);
        assert_eq!(read.to_string(), text);
        assert_eq!(read.slowness.bandwidth, Some(1_000_000));
        let json = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<Fault>(&json).unwrap(), read);
        let only = fault("slow-network s1 at 2s for 3s jitter 1ms").slowness;
        assert_eq!((only.delay, only.bandwidth), (Duration::ZERO, None));
        for wrong in [
            "slow-network s1 at 2s for 3s",
            "partition s1 at 2s for 3s delay 1ms",
            "slow-network s1 at 2s for 3s delay much",
            "slow-network s1 at 2s for 3s bandwidth 0 B",
        ] {
            assert!(wrong.parse::<Fault>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pitr_is_an_instant() {
        let text = "pitr primary at 2 s";
        let read = fault(text);
        assert_eq!(
            (read.to_string().as_str(), read.length),
            (text, Duration::ZERO)
        );
        let json = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<Fault>(&json).unwrap(), read);
        let error = "pitr primary at 2s for 3s".parse::<Fault>().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("a pitr is an instant and has no `for`")
        );
        for wrong in ["pitr primary", "pitr primary at soon", "pitr at 2s"] {
            assert!(wrong.parse::<Fault>().is_err(), "{wrong}");
        }
    }
}

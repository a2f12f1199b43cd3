//! Quantities with a unit: rates, LSNs, distances in the write-ahead log, durations as people write them. Pure; refuses values with which
//! nothing could be measured.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A value that cannot be parsed, and what was expected instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {expected}")]
pub struct UnitError {
    value: String,
    expected: &'static str,
}

impl UnitError {
    pub fn new(value: impl Into<String>, expected: &'static str) -> Self {
        Self {
            value: value.into(),
            expected,
        }
    }

    /// A description of the values that are accepted.
    pub fn expected(&self) -> &'static str {
        self.expected
    }
}

/// Transactions per second; finite and above zero.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Rate(f64);

impl Rate {
    pub const EXPECTED: &'static str =
        "a rate: transactions a second, above 0 and at most 10,000,000";

    pub fn per_second(value: f64) -> Result<Self, UnitError> {
        if value.is_finite() && value > 0.0 && value <= 1e7 {
            Ok(Self(value))
        } else {
            Err(UnitError::new(value.to_string(), Self::EXPECTED))
        }
    }

    pub fn as_per_second(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Rate {
    type Error = UnitError;

    fn try_from(value: f64) -> Result<Self, UnitError> {
        Self::per_second(value)
    }
}

impl From<Rate> for f64 {
    fn from(rate: Rate) -> Self {
        rate.as_per_second()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

/// A position in the write-ahead log, written as PostgreSQL does: `16/B374D848`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    pub const fn new(position: u64) -> Self {
        Self(position)
    }

    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Bytes of WAL from `earlier` to this position; negative if `earlier` is ahead.
    pub fn distance_from(self, earlier: Self) -> LsnDistance {
        LsnDistance(self.0.wrapping_sub(earlier.0).cast_signed())
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let parse = || {
            let (high, low) = text.split_once('/')?;
            let high = u32::from_str_radix(high, 16).ok()?;
            let low = u32::from_str_radix(low, 16).ok()?;
            Some(Self(u64::from(high) << 32 | u64::from(low)))
        };
        parse().ok_or_else(|| UnitError::new(text, "an LSN such as 16/B374D848"))
    }
}

/// A distance in the write-ahead log, in bytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LsnDistance(i64);

impl LsnDistance {
    pub const fn from_bytes(bytes: i64) -> Self {
        Self(bytes)
    }

    pub const fn bytes(self) -> i64 {
        self.0
    }
}

/// Parses a duration with a unit, such as `300 ms`, `5s` or `1 min 30 s`. Zero is accepted, else it is between 1 ns and 24 hours.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    const EXPECTED: &str =
        "a duration with a unit, such as `300 ms`, `5 s` or `2 min`, at most 24 h";
    let refuse = || UnitError::new(text, EXPECTED);
    let span: jiff::SignedDuration = text.trim().parse().map_err(|_| refuse())?;
    let duration = Duration::try_from(span).map_err(|_| refuse())?;
    if duration > Duration::from_hours(24) {
        return Err(refuse());
    }
    Ok(duration)
}

/// A duration as a person would write it, without rounding: `10 s`, `1.5 s`, `100 ms`, `24 h`.
pub fn exact_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration.is_zero() {
        return "0 s".into();
    }
    if duration.subsec_nanos() == 0 {
        if seconds.is_multiple_of(3600) {
            return format!("{} h", seconds / 3600);
        } else if seconds.is_multiple_of(60) {
            return format!("{} min", seconds / 60);
        }
    }
    // The standard library's format is exact; only the space before the unit is missing.
    let text = format!("{duration:?}");
    let unit = text
        .find(|it: char| !it.is_ascii_digit() && it != '.')
        .unwrap_or(text.len());
    format!("{} {}", &text[..unit], &text[unit..])
}

/// Parses a share such as `5%`, `5 %` or `0.05`. It must be above zero and at most 1,000 %.
///
/// Numbers from 1 up need the percent sign: a user who writes `5` means 5 %, and a share of 500 % would let everything pass.
pub fn parse_share(text: &str) -> Result<f64, String> {
    const EXPECTED: &str = "expected a share such as `5%` or `0.05`, above 0 and at most 1000%";
    let text = text.trim();
    let (number, percent) = match text.strip_suffix('%') {
        Some(percent) => (percent.trim_end(), true),
        None => (text, false),
    };
    match number.parse::<f64>() {
        Ok(share) if !percent && (1.0..=1000.0).contains(&share) => Err(format!(
            "{number} is {}%; did you mean {number}%?",
            share * 100.0
        )),
        Ok(share) if !percent && share > 0.0 && share < 1.0 => Ok(share),
        Ok(share) if percent && share > 0.0 && share <= 1000.0 => Ok(share / 100.0),
        _ => Err(EXPECTED.into()),
    }
}

/// `1 node`, `2 nodes`.
pub fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// As [`plural`], with commas between thousands: `10,000 rows`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", thousands(count))
}

/// A share as a percentage, with up to three decimals.
pub fn exact_share(share: f64) -> String {
    let percent = format!("{:.3}", share * 100.0);
    format!("{} %", percent.trim_end_matches('0').trim_end_matches('.'))
}

/// Parses a number of bytes with a unit: `512 B`, `64 kB` (64,000), `1.5 MiB` (powers of 1,024). It must be whole bytes, at most 1 PiB.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    const MOST: f64 = (1_u64 << 50) as f64;
    let refuse = || UnitError::new(text, BYTES_EXPECTED);
    let text = text.trim();
    let end = text
        .find(|it: char| !it.is_ascii_digit() && it != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = BYTE_UNITS
        .iter()
        .find(|(name, _)| *name == unit.trim_start());
    let scale = unit.ok_or_else(refuse)?.1;
    let number: f64 = number.parse().map_err(|_| refuse())?;
    let bytes = number * scale as f64;
    if bytes > MOST || bytes.fract() != 0.0 {
        return Err(refuse());
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number from 0 to 2^50: no sign is read"
    )]
    let bytes = bytes as u64;
    Ok(bytes)
}

/// The values that [`parse_bytes`] accepts.
pub const BYTES_EXPECTED: &str =
    "a number of bytes with a unit, such as \"512 B\", \"64 kB\" (64,000) or \"1 MiB\"";

/// Units of bytes, from the largest down.
const BYTE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("kiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// Bytes as a person would write them, without rounding: `1 MiB`, `64 kB`, `1,500 B`.
pub fn exact_bytes(bytes: u64) -> String {
    let fitting = BYTE_UNITS
        .iter()
        .filter(|(_, scale)| bytes.is_multiple_of(*scale) && bytes > 0);
    let (unit, scale) = fitting
        .min_by_key(|(_, scale)| bytes / scale)
        .unwrap_or(&("B", 1));
    format!("{} {unit}", thousands(bytes / scale))
}

/// A duration with three significant digits, for people: `0.21 ms`, `14.3 ms`, `2.05 s`.
pub fn format_duration(duration: Duration) -> String {
    format_seconds(duration.as_secs_f64())
}

/// As [`format_duration`], for a signed number of seconds.
pub fn format_seconds(seconds: f64) -> String {
    let magnitude = seconds.abs();
    let (value, unit) = if magnitude == 0.0 {
        return "0 s".into();
    } else if magnitude < 1e-3 {
        (seconds * 1e6, "µs")
    } else if magnitude < 1.0 {
        (seconds * 1e3, "ms")
    } else {
        (seconds, "s")
    };
    format!("{} {unit}", three_digits(value))
}

/// Bytes with three significant digits, for people, in powers of 1,024: `0 B`, `96 kiB`, `1.25 MiB`.
pub fn format_bytes(bytes: f64) -> String {
    let magnitude = bytes.abs();
    for (scale, unit) in [
        (1024.0_f64.powi(3), "GiB"),
        (1024.0_f64.powi(2), "MiB"),
        (1024.0, "kiB"),
    ] {
        if magnitude >= scale {
            return format!("{} {unit}", three_digits(bytes / scale));
        }
    }
    format!("{bytes:.0} B")
}

/// The value with three significant digits and without an exponent; from 100 up rounded to an integer.
pub fn three_digits(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 99.95 || magnitude == 0.0 {
        format!("{value:.0}")
    } else if magnitude >= 9.995 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// The limits of a share: `0.35 to 8.1 %`, or one figure if both round to the same text.
pub fn format_share_band((lo, hi): (f64, f64)) -> String {
    let (low, high) = (percent(lo), percent(hi));
    if low == high {
        format!("{high} %")
    } else {
        format!("{low} to {high} %")
    }
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 {
        "0".into()
    } else if percent < 0.01 {
        "< 0.01".into()
    } else if percent > 99.99 && percent < 100.0 {
        "> 99.99".into()
    } else if percent < 0.995 {
        format!("{percent:.2}")
    } else {
        format!("{percent:.1}")
    }
}

/// A ratio: with three decimals near one, where the difference from one matters, else with three significant digits.
pub fn format_ratio(value: f64) -> String {
    if value.abs() < 1.1 {
        format!("{value:.3}")
    } else {
        three_digits(value)
    }
}

/// An integer with commas between thousands: `10,000`.
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A rate for people: an integer from 10 up, else three significant digits.
pub fn format_rate(per_second: f64) -> String {
    if per_second < 10.0 {
        three_digits(per_second)
    } else {
        thousands(whole(per_second.round()))
    }
}

/// A rate that servers can sustain if they answered this many transactions per second under overload: four fifths of it, rounded down to
/// two digits. The rate under overload is the most that the servers can do, and queues grow long before a server is fully busy. `None`
/// below 1/s.
pub fn with_headroom(answered_per_second: f64) -> Option<u64> {
    let most = answered_per_second * 0.8;
    if most < 1.0 {
        return None;
    }
    let unit = 10_f64.powf((most.log10().floor() - 1.0).max(0.0));
    Some(whole((most / unit).floor() * unit))
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are not negative, and far from the largest integer"
)]
fn whole(rate: f64) -> u64 {
    rate as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_to_try_is_rounded_down_to_two_digits() {
        for (answered, most) in [
            (5_021.0, Some(4_000)),
            (12_490.0, Some(9_900)),
            (99.0, Some(79)),
            (5.0, Some(4)),
            (1.0, None),
        ] {
            assert_eq!(with_headroom(answered), most, "{answered}");
        }
    }

    #[test]
    fn rates_that_cannot_be_offered_are_refused() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e8] {
            assert!(Rate::per_second(bad).is_err(), "{bad}");
        }
        assert_eq!(
            Rate::per_second(500.0).unwrap().as_per_second().to_bits(),
            500.0_f64.to_bits()
        );
    }

    #[test]
    fn lsn_text_round_trips() {
        for text in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        assert!("16-3".parse::<Lsn>().is_err());
    }

    #[test]
    fn lsn_distance_is_signed() {
        let (low, high) = (Lsn::new(0x10), Lsn::new(0x1_0000_0000));
        assert_eq!(high.distance_from(low).bytes(), 0xffff_fff0);
        assert_eq!(low.distance_from(high).bytes(), -0xffff_fff0);
    }

    #[test]
    fn durations_need_a_unit_and_a_bound() {
        assert_eq!(
            parse_duration("300 ms").unwrap(),
            Duration::from_millis(300)
        );
        assert_eq!(parse_duration("2min").unwrap(), Duration::from_mins(2));
        assert_eq!(parse_duration("0 s").unwrap(), Duration::ZERO);
        for bad in ["5", "", "-3 s", "99999999999 h", "soon", "2 days"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn written_durations_keep_every_digit() {
        for (millis, text) in [
            (10_000, "10 s"),
            (1500, "1.5 s"),
            (100, "100 ms"),
            (120_000, "2 min"),
            (86_400_000, "24 h"),
            (0, "0 s"),
        ] {
            assert_eq!(exact_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(exact_duration(Duration::from_nanos(1_500)), "1.5 µs");
    }

    #[test]
    fn a_share_from_one_up_needs_its_percent_sign() {
        for (text, share) in [
            ("5%", 0.05),
            (" 5 % ", 0.05),
            ("0.05", 0.05),
            ("0.5%", 0.005),
            ("100%", 1.0),
            ("1000%", 10.0),
        ] {
            let parsed = parse_share(text).unwrap();
            assert!((parsed - share).abs() < 1e-12, "{text}: {parsed}");
        }
        assert_eq!(
            parse_share("5"),
            Err("5 is 500%; did you mean 5%?".to_owned())
        );
        assert!(parse_share("1").unwrap_err().contains("did you mean 1%?"));
        for bad in [
            "", "%", "0", "0%", "-5%", "-0.05", "nan", "NaN%", "inf", "inf%", "1001%", "1e9",
            "five",
        ] {
            let error = parse_share(bad).unwrap_err();
            assert!(error.contains("expected a share"), "{bad}: {error}");
        }
    }

    #[test]
    fn bytes_need_a_unit_and_come_back_as_written() {
        for (text, bytes) in [
            ("0 B", 0),
            ("512 B", 512),
            ("64 kB", 64_000),
            ("64 kiB", 65_536),
            ("1 MiB", 1 << 20),
            ("2 GB", 2_000_000_000),
            ("16 GiB", 16 << 30),
        ] {
            assert_eq!(parse_bytes(text).unwrap(), bytes);
            assert_eq!(exact_bytes(bytes), text);
        }
        assert_eq!(parse_bytes(" 1.5MiB ").unwrap(), 3 << 19);
        for bad in [
            "",
            "5",
            "5 bytes",
            "-1 B",
            "+1 B",
            "1e3 B",
            "0.5 B",
            "1.2.3 MB",
            "9999999999 GiB",
            "MiB",
            "nan B",
        ] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_share_is_told_with_both_its_bounds() {
        for (band, text) in [
            ((0.0, 0.1), "0 to 10.0 %"),
            ((0.0035, 0.081), "0.35 to 8.1 %"),
            ((0.0, 0.0), "0 %"),
            ((0.9, 0.999_99), "90.0 to > 99.99 %"),
        ] {
            assert_eq!(format_share_band(band), text);
        }
    }

    #[test]
    fn people_read_three_significant_digits() {
        assert_eq!(format_duration(Duration::from_micros(214)), "214 µs");
        assert_eq!(format_duration(Duration::from_micros(14_320)), "14.3 ms");
        assert_eq!(format_seconds(-0.000_035), "-35.0 µs");
        assert_eq!(format_bytes(1_310_720.0), "1.25 MiB");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }
}

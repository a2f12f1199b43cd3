//! Reads `HdrHistogram` interval logs (V2, compressed or not, tagged) without trusting them.
//!
//! The library's reader builds a histogram of 190 kB for each interval and believes the lengths that it finds, which costs seconds on a
//! long run and gigabytes on a damaged one. This reader adds the few recorded buckets of an interval straight to the histogram of its tag,
//! and refuses bytes that cannot be a histogram of durations. Format: <https://github.com/HdrHistogram/HdrHistogram>
//! (`AbstractHistogram.encodeIntoByteBuffer`, `HistogramLogReader`).

use std::io::{BufRead, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Buf as _;
use flate2::read::ZlibDecoder;

const PLAIN: u32 = 0x1c84_9313;
const COMPRESSED: u32 = 0x1c84_9314;
/// The most bytes of a decompressed histogram. One that replbench has written has 33,792 counts of at most nine bytes, and no run fills all
/// of them.
const MOST_BYTES: u64 = 1 << 20;
/// The most bytes of a line, which holds one histogram in base64.
const MOST_LINE: u64 = 2 << 20;

/// One line of an interval log.
#[derive(Debug)]
pub(super) struct Interval {
    pub(super) tag: Option<String>,
    /// Start of the interval in seconds, as written: since the log's base time, or since the epoch.
    pub(super) start_s: f64,
    pub(super) length_s: f64,
    /// The upper end and the count of each recorded bucket, in ascending order.
    pub(super) buckets: Vec<(u64, u64)>,
}

/// Iterates over the intervals of a log. Nothing after a damaged line can be relied on.
pub(super) struct Intervals<R> {
    source: R,
    line: Vec<u8>,
    number: usize,
}

impl<R: BufRead> Intervals<R> {
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            line: Vec::new(),
            number: 0,
        }
    }

    /// The next interval; `None` at the end of the log.
    fn advance(&mut self) -> Result<Option<Interval>, String> {
        loop {
            self.line.clear();
            self.number += 1;
            let mut limited = self.source.by_ref().take(MOST_LINE);
            let count = limited
                .read_until(b'\n', &mut self.line)
                .map_err(|error| error.to_string())?;
            if count == 0 {
                return Ok(None);
            }
            if count as u64 == MOST_LINE {
                return Err(format!("has more than {} MiB, the limit", MOST_LINE >> 20));
            }
            if self.line.last() != Some(&b'\n') {
                return Err("ends in the middle of a line".into());
            }
            let text = str::from_utf8(&self.line).map_err(|_| "is not text")?;
            let text = text.trim();
            // Comments, and the legend that other writers put above the first interval.
            if text.is_empty() || text.starts_with('#') || text.starts_with('"') {
                continue;
            }
            let interval = parse_line(text).ok_or("is not an interval")?;
            return Ok(Some(interval));
        }
    }
}

impl<R: BufRead> Iterator for Intervals<R> {
    type Item = Result<Interval, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.advance();
        let found = found.map_err(|problem| format!("line {} {problem}", self.number));
        found.transpose()
    }
}

fn parse_line(text: &str) -> Option<Interval> {
    let (tag, rest) = match text.strip_prefix("Tag=") {
        Some(tagged) => {
            let (tag, rest) = tagged.split_once(',')?;
            (Some(tag.to_owned()), rest)
        }
        None => (None, text),
    };
    let mut fields = rest.splitn(4, ',');
    let start_s: f64 = fields.next()?.parse().ok()?;
    let length_s: f64 = fields.next()?.parse().ok()?;
    let _max = fields.next()?;
    let encoded = STANDARD.decode(fields.next()?).ok()?;
    (start_s.is_finite() && length_s.is_finite()).then_some(())?;
    Some(Interval {
        tag,
        start_s,
        length_s,
        buckets: decode(&encoded)?,
    })
}

fn decode(mut bytes: &[u8]) -> Option<Vec<(u64, u64)>> {
    match bytes.try_get_u32().ok()? {
        PLAIN => decode_plain(bytes),
        COMPRESSED => {
            let _length = bytes.try_get_u32().ok()?;
            let mut plain = Vec::new();
            ZlibDecoder::new(bytes)
                .take(MOST_BYTES)
                .read_to_end(&mut plain)
                .ok()?;
            let mut plain = &plain[..];
            (plain.try_get_u32().ok()? == PLAIN).then_some(())?;
            decode_plain(plain)
        }
        _ => None,
    }
}

/// Decodes an uncompressed histogram; `bytes` begin after its first word.
fn decode_plain(mut bytes: &[u8]) -> Option<Vec<(u64, u64)>> {
    let payload = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    let offset = bytes.try_get_u32().ok()?;
    let digits = bytes.try_get_u32().ok()?;
    let lowest = bytes.try_get_u64().ok()?;
    let _highest = bytes.try_get_u64().ok()?;
    let ratio = bytes.try_get_f64().ok()?;
    (offset == 0 && ratio.to_bits() == 1.0_f64.to_bits()).then_some(())?;
    let layout = Layout::new(digits, lowest)?;
    let mut buckets = Vec::new();
    let mut rest = bytes.get(..payload)?;
    let mut index = 0_u64;
    while !rest.is_empty() {
        let number = read_varint(&mut rest)?;
        if number < 0 {
            index = index.checked_add(number.unsigned_abs())?;
        } else {
            if number > 0 {
                buckets.push((layout.value(index)?, number.unsigned_abs()));
            }
            index = index.checked_add(1)?;
        }
    }
    Some(buckets)
}

/// How the index of a count determines the values that are counted there.
struct Layout {
    half_magnitude: u32,
    unit_magnitude: u32,
}

impl Layout {
    fn new(digits: u32, lowest: u64) -> Option<Self> {
        (digits <= 5 && (1..1 << 40).contains(&lowest)).then_some(())?;
        let resolution = 2 * 10_u64.pow(digits);
        Some(Self {
            half_magnitude: resolution.next_power_of_two().ilog2().max(1) - 1,
            unit_magnitude: lowest.ilog2(),
        })
    }

    /// The upper end of the bucket at `index`, which is the value that percentiles are given at.
    fn value(&self, index: u64) -> Option<u64> {
        let half = 1_u64 << self.half_magnitude;
        let group = index >> self.half_magnitude;
        let within = index & (half - 1);
        let (bucket, sub) = if group == 0 {
            (0, within)
        } else {
            (group - 1, within + half)
        };
        let shift = u32::try_from(bucket)
            .ok()?
            .checked_add(self.unit_magnitude)?;
        (shift + self.half_magnitude + 1 < 63).then_some(())?;
        Some((sub << shift) + ((1_u64 << shift) - 1))
    }
}

/// Reads a `ZigZag LEB128-64b9B` number: seven bits of each byte, and all eight bits of the ninth.
fn read_varint(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for position in 0..9 {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        if position == 8 {
            value |= u64::from(byte) << 56;
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram as Hdr;
    use hdrhistogram::serialization::{Serializer, V2DeflateSerializer, V2Serializer};

    use super::*;

    fn sample(lowest: u64, highest: u64, digits: u8) -> Hdr<u64> {
        let mut hdr = Hdr::new_with_bounds(lowest, highest, digits).unwrap();
        let mut value = lowest;
        while value < highest / 3 {
            hdr.record_n(value, value % 7 + 1).unwrap();
            value = value * 5 / 4 + 1;
        }
        hdr
    }

    #[test]
    fn buckets_equal_those_of_the_library() {
        for (lowest, highest, digits) in [
            (1_000, 3_600_000_000_000, 3),
            (1, 3_600_000_000_000, 3),
            (1, 100_000, 2),
            (1, 10_000_000_000, 5),
            (7, 1_000_000, 0),
        ] {
            let hdr = sample(lowest, highest, digits);
            for compressed in [false, true] {
                let mut bytes = Vec::new();
                if compressed {
                    V2DeflateSerializer::new()
                        .serialize(&hdr, &mut bytes)
                        .unwrap();
                } else {
                    V2Serializer::new().serialize(&hdr, &mut bytes).unwrap();
                }
                let mut copy = Hdr::<u64>::new_from(&hdr);
                for (value, count) in decode(&bytes).unwrap() {
                    copy.record_n(value, count).unwrap();
                }
                assert_eq!(copy, hdr, "{lowest} {highest} {digits} {compressed}");
            }
        }
    }

    #[test]
    fn damaged_bytes_are_refused_without_a_panic() {
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(&sample(1_000, 3_600_000_000_000, 3), &mut bytes)
            .unwrap();
        for cut in 0..bytes.len() {
            let _ = decode(&bytes[..cut]);
        }
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut wrong = bytes.clone();
                wrong[at] ^= flip;
                let _ = decode(&wrong);
            }
        }
    }

    #[test]
    fn comments_and_legends_are_passed_over_and_a_torn_line_ends_the_log() {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&sample(1_000, 1_000_000, 3), &mut bytes)
            .unwrap();
        let line = format!("Tag=response,1.000,1.000,0.5,{}\n", STANDARD.encode(&bytes));
        let log = format!(
            "#[BaseTime: 5]\n\"StartTimestamp\",\"x\"\n{line}{}",
            &line[..40]
        );
        let read: Vec<_> = Intervals::new(log.as_bytes()).collect();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].as_ref().unwrap().tag.as_deref(), Some("response"));
        assert!(read[1].as_ref().unwrap_err().contains("line 4"));
    }
}

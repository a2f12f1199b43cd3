//! A histogram's recorded buckets in compact form, because a run of thousands of cells has tens of thousands of histograms.

/// For each bucket the difference of its value to the value before and its count, both in bytes of seven bits (LEB128).
#[derive(Debug, Default)]
pub(super) struct Packed(Box<[u8]>);

impl Packed {
    /// Packs values in ascending order and their counts.
    pub(super) fn of(buckets: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut bytes = Vec::new();
        let mut last = 0;
        for (value, count) in buckets {
            push(&mut bytes, value - last);
            push(&mut bytes, count);
            last = value;
        }
        Self(bytes.into_boxed_slice())
    }

    pub(super) fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut rest = &*self.0;
        let mut last = 0;
        std::iter::from_fn(move || {
            last += pop(&mut rest)?;
            Some((last, pop(&mut rest)?))
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len()
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "seven bits are kept of what does not fit"
)]
fn push(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn pop(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_come_back_as_they_were() {
        let buckets = [
            (0, 1),
            (1, 127),
            (129, 128),
            (1 << 40, u64::MAX),
            (u64::MAX, 1),
        ];
        let packed = Packed::of(buckets.into_iter());
        assert_eq!(packed.buckets().collect::<Vec<_>>(), buckets);
        assert_eq!(Packed::default().buckets().count(), 0);
    }
}

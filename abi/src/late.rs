// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The labels of a late row, packed as the programs pack them.

use crate::generated::AEGIS_WHY_LATE;

/// The labels in a word of a [`LateRow`](crate::LateRow): up to three, in 16 bits each.
pub fn late_labels(packed: u64) -> impl Iterator<Item = u32> {
    let each = (0..PLACES).map(move |place| packed >> (place * BITS) & LABEL);
    each.filter_map(|label| u32::try_from(label).ok()).filter(|label| *label != 0)
}

/// A word with these labels; `None` if it has no room for so many.
pub fn pack_late_labels(labels: impl IntoIterator<Item = u32>) -> Option<u64> {
    let mut packed = 0;
    for (place, label) in labels.into_iter().enumerate() {
        let place = u32::try_from(place).ok().filter(|place| *place < PLACES)?;
        let one = u64::from(label) & LABEL | u64::from(AEGIS_WHY_LATE) << LABEL.count_ones();
        packed |= one << (place * BITS);
    }
    Some(packed)
}

/// How many labels a word has room for.
const PLACES: u32 = 3;
/// A label, and above it why it holds.
const BITS: u32 = 16;
const LABEL: u64 = 0x1fff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_labels_fit_and_come_back() {
        for labels in [&[][..], &[1], &[7, 8191], &[3, 1, 2]] {
            let packed = pack_late_labels(labels.iter().copied()).unwrap();
            assert_eq!(late_labels(packed).collect::<Vec<_>>(), labels);
        }
        assert_eq!(pack_late_labels([1]), Some(1 | 7 << 13));
        assert_eq!(pack_late_labels([1, 2, 3, 4]), None);
    }
}

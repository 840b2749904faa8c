//! What a global function answers in one word: a small number, or why the packet is dropped.

use vnet_common::DropReason;

/// Above it are the numbers of reasons to drop.
const DROPPED: u32 = 1 << 8;

/// A number below 256, or a reason, as a word.
#[inline(always)]
#[must_use]
pub const fn of(result: Result<u32, DropReason>) -> u32 {
    match result {
        Ok(number) => number,
        Err(reason) => DROPPED | reason.number(),
    }
}

/// From [`of`].
///
/// # Errors
/// What that was given.
#[inline(always)]
pub fn result(word: u32) -> Result<u32, DropReason> {
    match word {
        number if number < DROPPED => Ok(number),
        dropped => Err(DropReason::try_from(dropped & !DROPPED).unwrap_or(DropReason::Internal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_reasons_come_back() {
        for number in [0, 1, 255] {
            assert_eq!(result(of(Ok(number))), Ok(number));
        }
        for &reason in DropReason::ALL {
            assert_eq!(result(of(Err(reason))), Err(reason));
        }
        assert_eq!(result(u32::MAX), Err(DropReason::Internal));
    }
}

//! How much an account may upload: bytes in 24 hours, and how many files, so that a million empty ones are no way around.

/// 24 hours in milliseconds.
pub(super) const DAY: i64 = 86_400_000;

/// Files of an account in 24 hours.
pub(super) const FILES: usize = 1_000;

/// Slots that an account may have open. Clients ask for one when they are about to use it.
pub(super) const OPEN_SLOTS: usize = 20;

/// Bytes of the disk that files leave to messages: those are refused on a full one.
const RESERVE: u64 = 256 * 1_024 * 1_024;

/// Whether a file fits on a disk with so many bytes free.
pub(super) fn leaves_room(free: u64, bytes: u64) -> bool {
    free >= bytes.saturating_add(RESERVE)
}

/// What an account has taken of its share.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken {
    /// What was uploaded lately, the oldest first: when, and how many bytes.
    pub files: Vec<(i64, u64)>,
    /// Bytes of each open slot.
    pub open: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Enough is a day old at this time (milliseconds since 1970).
    Quota { retry: i64 },
    /// As many slots are open as may be.
    Slots,
}

/// Whether an account may have a slot for so many bytes. `most`: its bytes in a day; `None`: no limit. A file of its own
/// larger than that is refused before.
pub(super) fn admit(taken: &Taken, bytes: u64, most: Option<u64>, now: i64) -> Result<(), Refused> {
    if taken.open.len() >= OPEN_SLOTS {
        return Err(Refused::Slots);
    }
    let recent = || {
        let files = taken.files.iter();
        files.filter(|(at, _)| at.saturating_add(DAY) > now)
    };
    let open: u64 = taken.open.iter().sum();
    let mut used = recent().fold(open, |sum, (_, bytes)| sum.saturating_add(*bytes));
    let mut count = recent().count().saturating_add(taken.open.len());
    let fits = |used: u64, count: usize| {
        let bytes = used.saturating_add(bytes);
        most.is_none_or(|most| bytes <= most) && count < FILES
    };
    if fits(used, count) {
        return Ok(());
    }
    for (at, bytes) in recent() {
        used = used.saturating_sub(*bytes);
        count = count.saturating_sub(1);
        if fits(used, count) {
            let retry = at.saturating_add(DAY);
            return Err(Refused::Quota { retry });
        }
    }
    // Open slots alone fill it; they are closed in minutes.
    Err(Refused::Slots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_leave_room_for_messages() {
        for (free, bytes, expected) in [
            (RESERVE, 0, true),
            (RESERVE, 1, false),
            (RESERVE + 1, 1, true),
            (0, 0, false),
            (u64::MAX, u64::MAX, true),
        ] {
            assert_eq!(leaves_room(free, bytes), expected, "{free} {bytes}");
        }
    }

    #[test]
    fn an_account_has_its_share_of_a_day_and_is_told_when_there_is_room_again() {
        struct Case {
            name: &'static str,
            files: Vec<(i64, u64)>,
            open: Vec<u64>,
            bytes: u64,
            most: Option<u64>,
            expected: Result<(), Refused>,
        }
        let now = 10 * DAY;
        let plain = || Case {
            name: "nothing yet",
            files: vec![],
            open: vec![],
            bytes: 100,
            most: Some(100),
            expected: Ok(()),
        };
        let quota = |retry| Err(Refused::Quota { retry });
        for case in [
            plain(),
            Case {
                name: "yesterday's",
                files: vec![(now - DAY, 100)],
                ..plain()
            },
            Case {
                name: "today's",
                files: vec![(now - DAY + 7, 100)],
                expected: quota(now + 7),
                ..plain()
            },
            Case {
                name: "as many as needed have to go",
                files: vec![(now - 9, 30), (now - 8, 30), (now - 7, 30)],
                bytes: 50,
                expected: quota(now - 8 + DAY),
                ..plain()
            },
            Case {
                name: "no limit",
                files: vec![(now, u64::MAX)],
                most: None,
                ..plain()
            },
            Case {
                name: "an open slot counts",
                open: vec![1],
                expected: Err(Refused::Slots),
                ..plain()
            },
            Case {
                name: "an open slot and a file",
                files: vec![(now - 5, 60)],
                open: vec![30],
                bytes: 20,
                expected: quota(now - 5 + DAY),
                ..plain()
            },
            Case {
                name: "many open slots",
                open: vec![0; OPEN_SLOTS],
                bytes: 0,
                expected: Err(Refused::Slots),
                ..plain()
            },
            Case {
                name: "many empty files",
                files: vec![(now - 3, 0); FILES],
                bytes: 0,
                expected: quota(now - 3 + DAY),
                ..plain()
            },
        ] {
            let taken = Taken {
                files: case.files,
                open: case.open,
            };
            let found = admit(&taken, case.bytes, case.most, now);
            assert_eq!(found, case.expected, "{}", case.name);
        }
    }
}

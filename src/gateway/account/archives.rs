//! Which archives are being read, and which are to be read again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jid::BareJid;
use tokio::time::Instant;

use crate::gateway::WireError;

/// After this an archive that did not answer is asked again.
const AGAIN: Duration = Duration::from_secs(15);

/// Which archives are behind what has come in. Until one has been read to its end, live messages do not move its position:
/// what lies between would never be read.
#[derive(Debug, Default)]
pub(super) struct Archives {
    /// Which session's readings count.
    session: u64,
    reading: BTreeSet<Option<BareJid>>,
    again: BTreeMap<Option<BareJid>, Instant>,
}

impl Archives {
    /// A new session: what reads is aborted, and everything is read anew.
    pub(super) fn reset(&mut self) {
        let session = self.session.wrapping_add(1);
        *self = Self {
            session,
            ..Self::default()
        };
    }

    /// Whether to read it now, and for which session.
    pub(super) fn begin(&mut self, archive: Option<BareJid>) -> Option<u64> {
        self.again.remove(&archive);
        self.reading.insert(archive).then_some(self.session)
    }

    /// A reading has ended. What may pass is tried again; a refusal is for good.
    pub(super) fn ended(
        &mut self,
        archive: Option<BareJid>,
        session: u64,
        outcome: &Result<(), WireError>,
        now: Instant,
    ) {
        if session != self.session {
            return;
        }
        self.reading.remove(&archive);
        match outcome {
            Err(err) if may_pass(err) => {
                self.again.insert(archive, now + AGAIN);
            }
            Err(_) => drop(self.again.remove(&archive)),
            Ok(()) => {}
        }
    }

    /// Something of it could not be taken in.
    pub(super) fn missed(&mut self, archive: Option<BareJid>, now: Instant) {
        self.again.insert(archive, now + AGAIN);
    }

    pub(super) fn is_behind(&self, archive: Option<&BareJid>) -> bool {
        let archive = archive.cloned();
        self.reading.contains(&archive) || self.again.contains_key(&archive)
    }

    /// What is to be read again.
    pub(super) fn due(&self, now: Instant) -> Vec<Option<BareJid>> {
        let due = self
            .again
            .iter()
            .filter(|(archive, at)| **at <= now && !self.reading.contains(*archive));
        due.map(|(archive, _)| archive.clone()).collect()
    }
}

/// Whether the same question may be answered another time.
fn may_pass(err: &WireError) -> bool {
    match err {
        WireError::Offline | WireError::TimedOut => true,
        WireError::Gone => false,
        WireError::Refused { condition, .. } => matches!(
            condition.as_str(),
            "internal-server-error"
                | "policy-violation"
                | "remote-server-not-found"
                | "remote-server-timeout"
                | "resource-constraint"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_behind_until_it_has_been_read_to_its_end() {
        struct Case {
            name: &'static str,
            outcome: Result<(), WireError>,
            missed: bool,
            behind: bool,
        }
        let refused = |condition: &str| {
            Err(WireError::Refused {
                condition: condition.into(),
                text: None,
            })
        };
        let now = Instant::now();
        for case in [
            Case {
                name: "read to its end",
                outcome: Ok(()),
                missed: false,
                behind: false,
            },
            Case {
                name: "a message was dropped meanwhile",
                outcome: Ok(()),
                missed: true,
                behind: true,
            },
            Case {
                name: "the connection was cut, and is resumed without a new session",
                outcome: Err(WireError::Offline),
                missed: false,
                behind: true,
            },
            Case {
                name: "no answer in time",
                outcome: Err(WireError::TimedOut),
                missed: false,
                behind: true,
            },
            Case {
                name: "the server is busy",
                outcome: refused("resource-constraint"),
                missed: false,
                behind: true,
            },
            Case {
                name: "there is no archive",
                outcome: refused("service-unavailable"),
                missed: true,
                behind: false,
            },
        ] {
            let mut archives = Archives::default();
            let session = archives.begin(None).unwrap();
            assert_eq!(archives.begin(None), None, "it is being read");
            if case.missed {
                archives.missed(None, now);
            }
            archives.ended(None, session, &case.outcome, now);
            assert_eq!(archives.is_behind(None), case.behind, "{}", case.name);
            assert_eq!(archives.due(now), [], "{}", case.name);
            let due = archives.due(now + AGAIN);
            assert_eq!(due == [None], case.behind, "{}", case.name);
        }
    }

    #[test]
    fn a_reading_of_an_old_session_ends_none_of_the_new() {
        let mut archives = Archives::default();
        let old = archives.begin(None).unwrap();
        archives.reset();
        archives.begin(None).unwrap();
        archives.ended(None, old, &Ok(()), Instant::now());
        assert!(archives.is_behind(None));
    }
}

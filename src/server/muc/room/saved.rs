//! What a persistent room is after a restart: one key for the room, one for each of its people.

use std::collections::BTreeMap;

use jid::BareJid;
use serde::{Deserialize, Serialize};

use super::affiliations::Affiliate;
use super::{Limits, Listing, Room, Subject};
use crate::server::muc::config::Config;
use crate::server::muc::event::{Change, Effect};

const STATE: &str = "state";
const PEOPLE: &str = "person/";
const APPLICANTS: &str = "applicant/";
const AVATAR: &str = "avatar";

#[derive(Serialize, Deserialize)]
struct State {
    creator: BareJid,
    config: Config,
    #[serde(default)]
    subject: Option<Subject>,
    secret: [u8; 32],
}

/// The keys of a room's store.
pub type Stored = BTreeMap<String, Vec<u8>>;

impl Room {
    /// The room that was stored; `None`: there is none, or what is there cannot be read.
    pub fn load(address: BareJid, limits: Limits, stored: &Stored) -> Option<Self> {
        let state = read(stored)?;
        let mut room = Self::create(
            address,
            state.creator,
            state.config,
            limits,
            state.secret,
            false,
        );
        room.subject = state.subject;
        room.fresh = false;
        room.affiliations = super::Affiliations::default();
        let avatar = stored.get(AVATAR);
        let avatar = avatar.and_then(|avatar| serde_json::from_slice(avatar).ok());
        room.avatar = avatar.unwrap_or_default();
        for (key, value) in stored {
            let applicant = key.strip_prefix(APPLICANTS);
            if let Some(who) = applicant.and_then(|who| BareJid::new(who).ok())
                && let Ok(nick) = String::from_utf8(value.clone())
            {
                room.applicants.insert(who, nick);
            }
            let who = key
                .strip_prefix(PEOPLE)
                .and_then(|who| BareJid::new(who).ok());
            let affiliate = serde_json::from_slice::<Affiliate>(value).ok();
            if let (Some(who), Some(affiliate)) = (who, affiliate) {
                room.affiliations.insert(who, affiliate);
            }
        }
        Some(room)
    }

    /// What the list of rooms says of a stored room, without making it.
    pub fn stored_listing(stored: &Stored) -> Option<Listing> {
        let state = read(stored)?;
        Some(Listing {
            name: state.config.name,
            public: state.config.public,
            creator: state.creator,
        })
    }

    /// The key that [`Self::stored_listing`] needs.
    pub fn listing_key() -> &'static str {
        STATE
    }

    pub(super) fn persist_state(&self, out: &mut Vec<Effect>) {
        if self.config.persistent {
            out.push(Effect::Persist(vec![self.state()]));
        }
    }

    pub(super) fn persist_affiliation(&self, who: &BareJid, out: &mut Vec<Effect>) {
        if self.config.persistent {
            let change = person(who, self.affiliations.get(who));
            out.push(Effect::Persist(vec![change]));
        }
    }

    pub(super) fn persist_applicant(&self, who: &BareJid, out: &mut Vec<Effect>) {
        if self.config.persistent {
            let change = applicant(who, self.applicants.get(who));
            out.push(Effect::Persist(vec![change]));
        }
    }

    pub(super) fn persist_avatar(&self, out: &mut Vec<Effect>) {
        if self.config.persistent {
            out.push(Effect::Persist(vec![self.picture()]));
        }
    }

    pub(super) fn persist_all(&self, out: &mut Vec<Effect>) {
        let people = self.affiliations.iter();
        let people = people.map(|(who, affiliate)| person(who, Some(affiliate)));
        let applicants = self.applicants.iter();
        let applicants = applicants.map(|(who, nick)| applicant(who, Some(nick)));
        let changes = [self.state(), self.picture()].into_iter();
        let changes = changes.chain(people).chain(applicants);
        out.push(Effect::Persist(changes.collect()));
    }

    /// No longer persistent: nothing of it stays.
    pub(super) fn forget_all(&self, out: &mut Vec<Effect>) {
        let people = self.affiliations.iter().map(|(who, _)| person(who, None));
        let applicants = self.applicants.iter();
        let applicants = applicants.map(|(who, _)| applicant(who, None));
        let keys = [STATE, AVATAR].into_iter().map(|key| Change {
            key: key.into(),
            value: None,
        });
        let changes = keys.chain(people).chain(applicants);
        out.push(Effect::Persist(changes.collect()));
    }

    fn picture(&self) -> Change {
        let avatar = (!self.avatar.is_none()).then_some(&self.avatar);
        Change {
            key: AVATAR.into(),
            value: avatar.and_then(|avatar| serde_json::to_vec(avatar).ok()),
        }
    }

    fn state(&self) -> Change {
        let state = State {
            creator: self.creator.clone(),
            config: self.config.clone(),
            subject: self.subject.clone(),
            secret: self.secret,
        };
        Change {
            key: STATE.into(),
            value: serde_json::to_vec(&state).ok(),
        }
    }
}

fn person(who: &BareJid, affiliate: Option<&Affiliate>) -> Change {
    Change {
        key: format!("{PEOPLE}{who}"),
        value: affiliate.and_then(|affiliate| serde_json::to_vec(affiliate).ok()),
    }
}

fn applicant(who: &BareJid, nick: Option<&str>) -> Change {
    Change {
        key: format!("{APPLICANTS}{who}"),
        value: nick.map(|nick| nick.as_bytes().to_vec()),
    }
}

fn read(stored: &Stored) -> Option<State> {
    serde_json::from_slice(stored.get(STATE)?).ok()
}

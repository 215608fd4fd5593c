//! What an owner configures (XEP-0045, 10.1.3 and 10.2): the settings, and what is told of a change of them.

mod form;

use serde::{Deserialize, Serialize};

use super::rank::Role;

pub use form::Submitted;

/// Who sees real JIDs: `muc#roomconfig_whois`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whois {
    /// Semi-anonymous.
    #[default]
    Moderators,
    /// Non-anonymous.
    Anyone,
}

/// Who may send private messages: `muc#roomconfig_allowpm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrivateMessages {
    #[default]
    Anyone,
    Participants,
    Moderators,
    None,
}

/// What becomes of somebody who has no affiliation and registers with the room (7.10). Members keep a nick in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// They may not.
    Closed,
    /// An admin is asked (9.9).
    #[default]
    Approval,
    /// They are a member at once.
    Open,
}

/// The roles that something holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    pub moderator: bool,
    pub participant: bool,
    pub visitor: bool,
}

/// The settings of a room. What an older version did not store keeps its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    pub name: String,
    pub description: String,
    pub language: String,
    pub persistent: bool,
    pub public: bool,
    pub members_only: bool,
    pub moderated: bool,
    /// Empty: entry without a password.
    pub password: String,
    pub whois: Whois,
    /// Members may invite to a members-only room. To an open room everybody with a voice may.
    pub allow_invites: bool,
    /// Participants may change the subject.
    pub change_subject: bool,
    pub private_messages: PrivateMessages,
    /// 0: no limit but the service's.
    pub max_users: usize,
    /// Messages are archived for those who may enter (XEP-0313).
    pub archived: bool,
    /// Whose presence the others get.
    pub presence_broadcast: Roles,
    /// Who may have the lists of members and those above them (7.11), beside admins.
    pub member_lists: Roles,
    pub registration: Registration,
    /// Who has registered a nick goes by that alone.
    pub locks_nicks: bool,
    /// So many messages are sent to who enters, at most; `None`: as many as the service allows.
    pub history: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            description: String::new(),
            language: String::new(),
            persistent: false,
            public: true,
            members_only: false,
            moderated: false,
            password: String::new(),
            whois: Whois::default(),
            allow_invites: false,
            change_subject: false,
            private_messages: PrivateMessages::default(),
            max_users: 0,
            archived: true,
            presence_broadcast: Roles::ALL,
            member_lists: Roles::NONE,
            registration: Registration::default(),
            locks_nicks: false,
            history: None,
        }
    }
}

impl Config {
    /// The status codes that tell occupants of a change (XEP-0045, 10.2.1).
    pub fn codes(&self, new: &Self) -> Vec<u16> {
        let mut codes = Vec::new();
        match (self.archived, new.archived) {
            (false, true) => codes.push(170),
            (true, false) => codes.push(171),
            _ => {}
        }
        match (self.whois, new.whois) {
            (Whois::Moderators, Whois::Anyone) => codes.push(172),
            (Whois::Anyone, Whois::Moderators) => codes.push(173),
            _ => {}
        }
        let rest = Self {
            archived: new.archived,
            whois: new.whois,
            ..self.clone()
        };
        if rest != *new {
            codes.push(104);
        }
        codes
    }
}

impl Roles {
    pub const ALL: Self = Self {
        moderator: true,
        participant: true,
        visitor: true,
    };
    pub const NONE: Self = Self {
        moderator: false,
        participant: false,
        visitor: false,
    };

    pub fn has(self, role: Role) -> bool {
        match role {
            Role::None => false,
            Role::Visitor => self.visitor,
            Role::Participant => self.participant,
            Role::Moderator => self.moderator,
        }
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        let named = Role::ALL.into_iter().filter(move |role| self.has(*role));
        named.map(Role::name)
    }

    /// "none" is a role of some clients' forms, and nobody's.
    fn read(names: &[String]) -> Option<Self> {
        let mut roles = Self::NONE;
        for name in names {
            match Role::read(name)? {
                Role::None => {}
                Role::Visitor => roles.visitor = true,
                Role::Participant => roles.participant = true,
                Role::Moderator => roles.moderator = true,
            }
        }
        Some(roles)
    }
}

/// A choice of a form: the word of each value.
macro_rules! words {
    ($type:ident, $($value:ident => $word:literal),*) => {
        impl $type {
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)*
                }
            }

            fn read(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$value),)*
                    _ => None,
                }
            }
        }
    };
}

words!(Whois, Moderators => "moderators", Anyone => "anyone");
words!(PrivateMessages, Anyone => "anyone", Participants => "participants", Moderators => "moderators", None => "none");
words!(Registration, Closed => "closed", Approval => "approval", Open => "open");

#[cfg(test)]
mod tests {
    use super::*;

    type Changed = fn(&mut Config);

    #[test]
    fn each_change_has_its_codes() {
        let config = Config::default();
        let table: [(&str, Changed, &[u16]); 6] = [
            ("nothing", |_| {}, &[]),
            ("the name", |config| config.name = "x".into(), &[104]),
            ("no more archive", |config| config.archived = false, &[171]),
            (
                "real addresses",
                |config| config.whois = Whois::Anyone,
                &[172],
            ),
            (
                "both",
                |config| {
                    config.archived = false;
                    config.whois = Whois::Anyone;
                },
                &[171, 172],
            ),
            (
                "all",
                |config| {
                    config.whois = Whois::Anyone;
                    config.moderated = true;
                },
                &[172, 104],
            ),
        ];
        for (name, change, expected) in table {
            let mut new = config.clone();
            change(&mut new);
            assert_eq!(config.codes(&new), expected, "{name}");
        }
        let mut hidden = config.clone();
        hidden.whois = Whois::Anyone;
        hidden.archived = false;
        assert_eq!(hidden.codes(&config), [170, 173]);
    }
}

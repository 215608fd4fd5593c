//! What an owner configures (XEP-0045, 10.1.3 and 10.2): the settings, their form, and what a submitted form changes.

use jid::BareJid;
use minidom::Element;
use serde::{Deserialize, Serialize};

use super::form::{self, Form};
use crate::server::StanzaError;
use crate::xmpp::ns;

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
        }
    }
}

/// What a submitted form asks for. The lists are whole (XEP-0045, 10.5 and 10.8, notes); `None`: not mentioned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    pub config: Config,
    pub owners: Option<Vec<BareJid>>,
    pub admins: Option<Vec<BareJid>>,
}

const WHOIS: [(&str, &str); 2] = [("moderators", "Moderators only"), ("anyone", "Anyone")];
const PRIVATE_MESSAGES: [(&str, &str); 4] = [
    ("anyone", "Anyone"),
    ("participants", "Those with a voice"),
    ("moderators", "Moderators only"),
    ("none", "Nobody"),
];

impl Config {
    /// The form with the settings as they are.
    pub fn form(&self, room: &BareJid, owners: &[&str], admins: &[&str]) -> Element {
        let max_users = match self.max_users {
            0 => String::new(),
            limit => limit.to_string(),
        };
        Form::new("form", ns::MUC_ROOMCONFIG)
            .title(
                &format!("Configuration of {room}"),
                "Submit the form to configure the room.",
            )
            .field("text-single", ROOM_NAME, "Name", [self.name.as_str()])
            .field(
                "text-single",
                ROOM_DESC,
                "Description",
                [self.description.as_str()],
            )
            .field(
                "text-single",
                LANG,
                "Language of the discussion",
                [self.language.as_str()],
            )
            .boolean(
                PERSISTENT,
                "Keep the room when the last occupant leaves",
                self.persistent,
            )
            .boolean(PUBLIC, "List the room publicly", self.public)
            .boolean(MEMBERS_ONLY, "Only members may enter", self.members_only)
            .boolean(
                ALLOW_INVITES,
                "Members may invite to a members-only room",
                self.allow_invites,
            )
            .boolean(
                MODERATED,
                "Only those with a voice may speak",
                self.moderated,
            )
            .boolean(
                PROTECTED,
                "A password is required to enter",
                !self.password.is_empty(),
            )
            .field("text-private", SECRET, "Password", [self.password.as_str()])
            .choice(WHO_IS, "Who sees real addresses", self.whois.name(), &WHOIS)
            .choice(
                ALLOW_PM,
                "Who may send private messages",
                self.private_messages.name(),
                &PRIVATE_MESSAGES,
            )
            .boolean(
                CHANGE_SUBJECT,
                "Participants may change the subject",
                self.change_subject,
            )
            .field(
                "text-single",
                MAX_USERS,
                "Largest number of occupants",
                [max_users.as_str()],
            )
            .boolean(ARCHIVE, "Archive the discussion", self.archived)
            .field("jid-multi", ADMINS, "Admins", admins.iter().copied())
            .field("jid-multi", OWNERS, "Owners", owners.iter().copied())
            .build()
    }

    /// Reads a submitted form over these settings: what it leaves out stays. `bad-request`: another form;
    /// `not-acceptable`: values that cannot be (XEP-0045, 10.1.3).
    pub fn submitted(&self, form: &Element) -> Result<Submitted, StanzaError> {
        let mut config = self.clone();
        if form::has_fields(form) {
            if form::form_type(form).as_deref() != Some(ns::MUC_ROOMCONFIG) {
                return Err(StanzaError::bad_request().text("Not the form of a room"));
            }
            config.read(form)?;
        }
        Ok(Submitted {
            config,
            owners: jids(form, OWNERS)?,
            admins: jids(form, ADMINS)?,
        })
    }

    fn read(&mut self, form: &Element) -> Result<(), StanzaError> {
        let texts = [
            (ROOM_NAME, &mut self.name),
            (ROOM_DESC, &mut self.description),
            (LANG, &mut self.language),
        ];
        for (var, setting) in texts {
            if let Some(lines) = form::values(form, var) {
                *setting = lines.join("\n");
            }
        }
        let booleans = [
            (PERSISTENT, &mut self.persistent),
            (PUBLIC, &mut self.public),
            (MEMBERS_ONLY, &mut self.members_only),
            (ALLOW_INVITES, &mut self.allow_invites),
            (MODERATED, &mut self.moderated),
            (CHANGE_SUBJECT, &mut self.change_subject),
        ];
        for (var, setting) in booleans {
            if let Some(value) = boolean(form, var)? {
                *setting = value;
            }
        }
        for var in [LOGGING, ARCHIVE] {
            self.archived = boolean(form, var)?.unwrap_or(self.archived);
        }
        if let Some(word) = form::value(form, WHO_IS) {
            self.whois = Whois::read(&word).ok_or_else(|| unacceptable(WHO_IS))?;
        }
        if let Some(word) = form::value(form, ALLOW_PM) {
            self.private_messages =
                PrivateMessages::read(&word).ok_or_else(|| unacceptable(ALLOW_PM))?;
        }
        if let Some(limit) = form::value(form, MAX_USERS) {
            self.max_users = match limit.trim() {
                "" | "none" => 0,
                number => number
                    .parse()
                    .map_err(|_malformed| unacceptable(MAX_USERS))?,
            };
        }
        self.read_password(form)
    }

    /// A password that is required must be given (XEP-0045, 10.1.3); one that is not is forgotten. A secret alone, as some
    /// clients send it, protects.
    fn read_password(&mut self, form: &Element) -> Result<(), StanzaError> {
        let secret = form::value(form, SECRET);
        match boolean(form, PROTECTED)? {
            Some(false) => self.password.clear(),
            Some(true) => {
                self.password = secret.unwrap_or_else(|| std::mem::take(&mut self.password));
                if self.password.is_empty() {
                    return Err(unacceptable(SECRET));
                }
            }
            None => self.password = secret.unwrap_or_else(|| std::mem::take(&mut self.password)),
        }
        Ok(())
    }

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

impl Whois {
    pub fn name(self) -> &'static str {
        match self {
            Self::Moderators => "moderators",
            Self::Anyone => "anyone",
        }
    }

    fn read(word: &str) -> Option<Self> {
        [Self::Moderators, Self::Anyone]
            .into_iter()
            .find(|one| one.name() == word)
    }
}

impl PrivateMessages {
    pub fn name(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::Participants => "participants",
            Self::Moderators => "moderators",
            Self::None => "none",
        }
    }

    fn read(word: &str) -> Option<Self> {
        [
            Self::Anyone,
            Self::Participants,
            Self::Moderators,
            Self::None,
        ]
        .into_iter()
        .find(|one| one.name() == word)
    }
}

fn unacceptable(var: &str) -> StanzaError {
    StanzaError::not_acceptable().text(format!("The value of {var} is not acceptable"))
}

fn boolean(form: &Element, var: &str) -> Result<Option<bool>, StanzaError> {
    match form::value(form, var) {
        None => Ok(None),
        Some(text) => match form::boolean(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(unacceptable(var)),
        },
    }
}

fn jids(form: &Element, var: &str) -> Result<Option<Vec<BareJid>>, StanzaError> {
    let Some(values) = form::values(form, var) else {
        return Ok(None);
    };
    let mut list = Vec::new();
    for value in values.iter().map(|value| value.trim()) {
        if !value.is_empty() {
            list.push(BareJid::new(value).map_err(|_malformed| unacceptable(var))?);
        }
    }
    Ok(Some(list))
}

const ROOM_NAME: &str = "muc#roomconfig_roomname";
const ROOM_DESC: &str = "muc#roomconfig_roomdesc";
const LANG: &str = "muc#roomconfig_lang";
const PERSISTENT: &str = "muc#roomconfig_persistentroom";
const PUBLIC: &str = "muc#roomconfig_publicroom";
const MEMBERS_ONLY: &str = "muc#roomconfig_membersonly";
const ALLOW_INVITES: &str = "muc#roomconfig_allowinvites";
const MODERATED: &str = "muc#roomconfig_moderatedroom";
const PROTECTED: &str = "muc#roomconfig_passwordprotectedroom";
const SECRET: &str = "muc#roomconfig_roomsecret";
const WHO_IS: &str = "muc#roomconfig_whois";
const ALLOW_PM: &str = "muc#roomconfig_allowpm";
const CHANGE_SUBJECT: &str = "muc#roomconfig_changesubject";
const MAX_USERS: &str = "muc#roomconfig_maxusers";
/// The registered name; `ARCHIVE` is what Prosody and ejabberd call it, and clients know both.
const LOGGING: &str = "muc#roomconfig_enablelogging";
const ARCHIVE: &str = "muc#roomconfig_enablearchiving";
const ADMINS: &str = "muc#roomconfig_roomadmins";
const OWNERS: &str = "muc#roomconfig_roomowners";

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and values.
    type Fields = &'static [(&'static str, &'static [&'static str])];
    type Changed = fn(&mut Config);

    fn submit(fields: Fields) -> Element {
        let mut form = Form::new("submit", ns::MUC_ROOMCONFIG);
        for (var, values) in fields {
            form = form.field("text-single", var, "", values.iter().copied());
        }
        form.build()
    }

    #[test]
    fn a_form_submitted_as_it_came_changes_nothing() {
        let config = Config {
            name: "Cave <1>".into(),
            password: "cauldronburn".into(),
            max_users: 7,
            whois: Whois::Anyone,
            archived: false,
            ..Config::default()
        };
        let room = BareJid::new("cave@rooms.example").unwrap();
        let form = config.form(&room, &["crone@example.org"], &[]);
        let submitted = config.submitted(&form).unwrap();
        assert_eq!(submitted.config, config);
        assert_eq!(submitted.owners.unwrap().len(), 1);
        assert_eq!(submitted.admins.unwrap(), Vec::<BareJid>::new());
        let empty = Element::bare("x", ns::DATA_FORMS);
        assert_eq!(
            Config::default().submitted(&empty).unwrap().config,
            Config::default()
        );
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        let table: [(&str, Fields, bool); 9] = [
            (
                "a password that is blank",
                &[(PROTECTED, &["1"]), (SECRET, &[""])],
                false,
            ),
            ("a password that is missing", &[(PROTECTED, &["1"])], false),
            (
                "a password",
                &[(PROTECTED, &["true"]), (SECRET, &["x"])],
                true,
            ),
            ("a boolean", &[(PUBLIC, &["maybe"])], false),
            ("a choice", &[(WHO_IS, &["nobody"])], false),
            ("a number", &[(MAX_USERS, &["-1"])], false),
            ("no limit", &[(MAX_USERS, &["none"])], true),
            ("an address", &[(OWNERS, &["@"])], false),
            (
                "a field that is unknown",
                &[("muc#roomconfig_x", &["y"])],
                true,
            ),
        ];
        for (name, fields, accepted) in table {
            let found = Config::default().submitted(&submit(fields));
            assert_eq!(found.is_ok(), accepted, "{name}");
        }
        let other = Form::new("submit", "urn:x").build();
        let refused = Config::default().submitted(&other).unwrap_err();
        assert_eq!(refused.condition, StanzaError::bad_request().condition);
    }

    #[test]
    fn a_password_is_kept_forgotten_or_changed() {
        let table: [(&str, Fields, &str); 4] = [
            ("not mentioned", &[(PUBLIC, &["1"])], "old"),
            ("off", &[(PROTECTED, &["0"]), (SECRET, &["old"])], ""),
            ("on, unchanged", &[(PROTECTED, &["1"])], "old"),
            ("changed", &[(SECRET, &["new"])], "new"),
        ];
        for (name, fields, expected) in table {
            let config = Config {
                password: "old".into(),
                ..Config::default()
            };
            let found = config.submitted(&submit(fields)).unwrap();
            assert_eq!(found.config.password, expected, "{name}");
        }
    }

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

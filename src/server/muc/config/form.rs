//! The form of the settings: as owners get it, and what a submitted one changes (XEP-0045, 10.1.3 and 10.2).

use jid::BareJid;
use minidom::Element;

use super::{Config, PrivateMessages, Registration, Roles, Whois};
use crate::server::StanzaError;
use crate::xmpp::form::{self, Field, Filled, Form};
use crate::xmpp::ns;

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
const REGISTRATION: [(&str, &str); 3] = [
    ("closed", "Nobody"),
    ("approval", "Anyone, if an admin agrees"),
    ("open", "Anyone"),
];
const ROLES: [(&str, &str); 3] = [
    ("moderator", "Moderators"),
    ("participant", "Participants"),
    ("visitor", "Visitors"),
];

/// How many bytes texts may have: they are told to everybody who asks.
const LONGEST_NAME: usize = 512;
const LONGEST_DESCRIPTION: usize = 4_096;
const LONGEST_WORD: usize = 256;

impl Config {
    /// The form with the settings as they are.
    pub fn form(&self, room: &BareJid, owners: &[&str], admins: &[&str]) -> Element {
        Form::new("form", ns::MUC_ROOMCONFIG)
            .title(&format!("Configuration of {room}"))
            .instructions("Submit the form to configure the room.")
            .fields(self.description())
            .fields(self.entry())
            .fields(self.talk())
            .field(multiple(ADMINS, "Admins", admins))
            .field(multiple(OWNERS, "Owners", owners))
            .build()
    }

    /// What the room is.
    fn description(&self) -> [Field; 5] {
        [
            text(ROOM_NAME, "Name", &self.name),
            text(ROOM_DESC, "Description", &self.description),
            text(LANG, "Language of the discussion", &self.language),
            Field::boolean(PERSISTENT, self.persistent)
                .label("Keep the room when the last occupant leaves"),
            Field::boolean(PUBLIC, self.public).label("List the room publicly"),
        ]
    }

    /// Who comes in, and as who.
    fn entry(&self) -> [Field; 8] {
        let max_users = match self.max_users {
            0 => String::new(),
            limit => limit.to_string(),
        };
        [
            Field::boolean(MEMBERS_ONLY, self.members_only).label("Only members may enter"),
            Field::boolean(ALLOW_INVITES, self.allow_invites)
                .label("Members may invite to a members-only room"),
            choice(
                REGISTRATION_OF,
                "Who may register as a member",
                self.registration.name(),
                &REGISTRATION,
            ),
            Field::boolean(LOCKED_NICKS, self.locks_nicks)
                .label("Who has registered a nick enters with that alone"),
            Field::boolean(PROTECTED, !self.password.is_empty())
                .label("A password is required to enter"),
            Field::new("text-private", SECRET)
                .label("Password")
                .value(&self.password),
            choice(WHO_IS, "Who sees real addresses", self.whois.name(), &WHOIS),
            text(MAX_USERS, "Largest number of occupants", &max_users),
        ]
    }

    /// What one may do in it, and what is kept.
    fn talk(&self) -> [Field; 7] {
        let history = self.history.map(|most| most.to_string());
        [
            Field::boolean(MODERATED, self.moderated).label("Only those with a voice may speak"),
            choice(
                ALLOW_PM,
                "Who may send private messages",
                self.private_messages.name(),
                &PRIVATE_MESSAGES,
            ),
            Field::boolean(CHANGE_SUBJECT, self.change_subject)
                .label("Participants may change the subject"),
            roles(
                BROADCAST,
                "Whose presence the others see",
                self.presence_broadcast,
            ),
            roles(
                MEMBER_LIST,
                "Who may have the list of members, beside admins",
                self.member_lists,
            ),
            text(
                HISTORY,
                "How many messages are shown to who enters, at most",
                &history.unwrap_or_default(),
            ),
            Field::boolean(ARCHIVE, self.archived).label("Archive the discussion"),
        ]
    }

    /// Reads a submitted form over these settings: what it leaves out stays. `bad-request`: another form;
    /// `not-acceptable`: values that cannot be (XEP-0045, 10.1.3).
    pub fn submitted(&self, form: &Filled) -> Result<Submitted, StanzaError> {
        let mut config = self.clone();
        if form.fields().next().is_some() || form.form_type().is_some() {
            if form.form_type() != Some(ns::MUC_ROOMCONFIG) {
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

    fn read(&mut self, form: &Filled) -> Result<(), StanzaError> {
        let texts = [
            (ROOM_NAME, &mut self.name, LONGEST_NAME),
            (ROOM_DESC, &mut self.description, LONGEST_DESCRIPTION),
            (LANG, &mut self.language, LONGEST_WORD),
        ];
        for (var, setting, longest) in texts {
            if let Some(lines) = form.values(var) {
                *setting = within(var, lines.join("\n"), longest)?;
            }
        }
        let booleans = [
            (PERSISTENT, &mut self.persistent),
            (PUBLIC, &mut self.public),
            (MEMBERS_ONLY, &mut self.members_only),
            (ALLOW_INVITES, &mut self.allow_invites),
            (LOCKED_NICKS, &mut self.locks_nicks),
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
        choose(form, WHO_IS, &mut self.whois, Whois::read)?;
        choose(
            form,
            ALLOW_PM,
            &mut self.private_messages,
            PrivateMessages::read,
        )?;
        choose(form, REGISTRATION_OF, &mut self.registration, registration)?;
        for (var, setting) in [
            (BROADCAST, &mut self.presence_broadcast),
            (MEMBER_LIST, &mut self.member_lists),
        ] {
            if let Some(names) = form.values(var) {
                *setting = Roles::read(names).ok_or_else(|| unacceptable(var))?;
            }
        }
        if let Some(limit) = limit(form, MAX_USERS)? {
            self.max_users = if limit == NONE { 0 } else { limit };
        }
        for var in [HISTORY, OTHER_HISTORY] {
            if let Some(limit) = limit(form, var)? {
                self.history = (limit != NONE).then_some(limit);
            }
        }
        self.read_password(form)
    }

    /// A password that is required must be given (XEP-0045, 10.1.3); one that is not is forgotten. A secret alone, as some
    /// clients send it, protects.
    fn read_password(&mut self, form: &Filled) -> Result<(), StanzaError> {
        let secret = form.value(SECRET).map(str::to_owned);
        let secret = secret.map(|secret| within(SECRET, secret, LONGEST_WORD));
        let secret = secret.transpose()?;
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
}

fn text(var: &str, label: &str, value: &str) -> Field {
    Field::new("text-single", var).label(label).value(value)
}

fn multiple(var: &str, label: &str, values: &[&str]) -> Field {
    Field::new("jid-multi", var).label(label).values(values)
}

fn choice(var: &str, label: &str, value: &str, options: &[(&str, &str)]) -> Field {
    let field = Field::new("list-single", var).label(label).value(value);
    let with = |field: Field, (value, label): &(&str, &str)| field.option(value, label);
    options.iter().fold(field, with)
}

fn roles(var: &str, label: &str, roles: Roles) -> Field {
    let field = Field::new("list-multi", var).label(label);
    let with = |field: Field, (value, label): &(&str, &str)| field.option(value, label);
    ROLES.iter().fold(field.values(roles.names()), with)
}

/// Other servers ask for this with a boolean.
fn registration(word: &str) -> Option<Registration> {
    match form::boolean(word) {
        Some(true) => Some(Registration::Open),
        Some(false) => Some(Registration::Closed),
        None => Registration::read(word),
    }
}

fn unacceptable(var: &str) -> StanzaError {
    StanzaError::not_acceptable().text(format!("The value of {var} is not acceptable"))
}

fn within(var: &str, text: String, longest: usize) -> Result<String, StanzaError> {
    if text.len() > longest {
        return Err(unacceptable(var));
    }
    Ok(text)
}

fn boolean(form: &Filled, var: &str) -> Result<Option<bool>, StanzaError> {
    let read = |text| form::boolean(text).ok_or_else(|| unacceptable(var));
    form.value(var).map(read).transpose()
}

fn choose<T>(
    form: &Filled,
    var: &str,
    setting: &mut T,
    read: impl Fn(&str) -> Option<T>,
) -> Result<(), StanzaError> {
    if let Some(word) = form.value(var) {
        *setting = read(word).ok_or_else(|| unacceptable(var))?;
    }
    Ok(())
}

/// A limit, where the form mentions it; `NONE`: there is to be none.
fn limit(form: &Filled, var: &str) -> Result<Option<usize>, StanzaError> {
    let read = |text: &str| match text.trim() {
        "" | "none" => Ok(NONE),
        number => number.parse().map_err(|_malformed| unacceptable(var)),
    };
    form.value(var).map(read).transpose()
}

const NONE: usize = usize::MAX;

fn jids(form: &Filled, var: &str) -> Result<Option<Vec<BareJid>>, StanzaError> {
    let Some(values) = form.values(var) else {
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
const BROADCAST: &str = "muc#roomconfig_presencebroadcast";
const MEMBER_LIST: &str = "muc#roomconfig_getmemberlist";
/// The registered name, and what Prosody calls it.
const HISTORY: &str = "muc#maxhistoryfetch";
const OTHER_HISTORY: &str = "muc#roomconfig_historylength";
/// These two have no registered name; Openfire calls them so.
const REGISTRATION_OF: &str = "x-muc#roomconfig_registration";
const LOCKED_NICKS: &str = "x-muc#roomconfig_reservednick";
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

    fn submit(fields: Fields) -> Filled {
        let fields = fields.iter();
        let fields = fields.map(|(var, values)| Field::new("text-single", var).values(*values));
        let form = Form::new("submit", ns::MUC_ROOMCONFIG).fields(fields);
        Filled::read(&form.build()).unwrap()
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
        let form = Filled::fields_of(&form).unwrap();
        let submitted = config.submitted(&form).unwrap();
        assert_eq!(submitted.config, config);
        assert_eq!(submitted.owners.unwrap().len(), 1);
        assert_eq!(submitted.admins.unwrap(), Vec::<BareJid>::new());
        assert_eq!(
            Config::default()
                .submitted(&Filled::default())
                .unwrap()
                .config,
            Config::default()
        );
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        let long: &'static str = Box::leak("x".repeat(513).into_boxed_str());
        let name: &'static [&'static str] = Box::leak(Box::new([long]));
        let long: Fields = Box::leak(Box::new([(ROOM_NAME, name)]));
        let table: [(&str, Fields, bool); 14] = [
            ("a name that is long", long, false),
            ("roles", &[(BROADCAST, &["moderator", "none"])], true),
            ("no roles", &[(MEMBER_LIST, &[])], true),
            ("roles that there are not", &[(BROADCAST, &["king"])], false),
            (
                "registration by a boolean",
                &[(REGISTRATION_OF, &["1"])],
                true,
            ),
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
        let other = Filled::read(&other).unwrap();
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
}

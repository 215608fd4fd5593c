//! What a room tells of itself (XEP-0045, 6.4 to 6.6, 7.12).

use jid::Jid;
use minidom::Element;

use super::Room;
use crate::server::StanzaError;
use crate::server::muc::config::Whois;
use crate::server::muc::event::Incoming;
use crate::server::muc::rank::Affiliation;
use crate::xmpp::element::{element, set};
use crate::xmpp::form::{Field, Form};
use crate::xmpp::ns;

const FEATURES: [&str; 14] = [
    ns::DISCO_INFO,
    ns::DISCO_ITEMS,
    ns::MUC,
    ns::MUC_REGISTER,
    ns::MUC_REQUEST,
    ns::MUC_STABLE_ID,
    ns::MUC_SELF_PING,
    ns::OID,
    ns::STANZA_ID,
    ns::PING,
    ns::REGISTER,
    ns::VCARD,
    ns::HATS,
    ns::MODERATE,
];

/// The node at which somebody learns the nick that is kept for them.
const RESERVED_NICK: &str = "x-roomuser-item";

impl Room {
    pub(super) fn disco_info(
        &self,
        incoming: &Incoming,
        query: &Element,
    ) -> Result<Element, StanzaError> {
        let mut answer = Element::bare("query", ns::DISCO_INFO);
        match query.attr("node") {
            None | Some("") => self.info(incoming, &mut answer),
            Some(RESERVED_NICK) => {
                set(&mut answer, "node", RESERVED_NICK);
                let own = self.affiliations.get(&incoming.from.to_bare());
                if let Some(nick) = own.and_then(|own| own.nick.as_deref()) {
                    answer.append_child(identity(nick));
                }
            }
            // Whatever is sent is let through (15.2).
            Some(ns::MUC_TRAFFIC) => return Err(StanzaError::service_unavailable()),
            Some(_) => return Err(StanzaError::item_not_found()),
        }
        Ok(answer)
    }

    fn info(&self, incoming: &Incoming, answer: &mut Element) {
        let name = match self.config.name.as_str() {
            "" => self.address.node().map_or("", |node| node.as_str()),
            name => name,
        };
        answer.append_child(identity(name));
        let archive: &[&str] = if self.is_archived() {
            &[ns::MAM, ns::MAM_EXTENDED, ns::RETRACT_TOMBSTONE]
        } else {
            &[]
        };
        let features = FEATURES.iter().chain(archive).copied();
        for feature in features.chain(self.kinds()) {
            answer.append_child(element("feature", ns::DISCO_INFO, &[("var", feature)]));
        }
        answer.append_child(self.form(incoming));
    }

    /// The kinds of XEP-0045, 4.2, as features.
    fn kinds(&self) -> [&'static str; 6] {
        let config = &self.config;
        let of = |is: bool, yes, no| if is { yes } else { no };
        [
            of(config.public, "muc_public", "muc_hidden"),
            of(config.persistent, "muc_persistent", "muc_temporary"),
            of(config.members_only, "muc_membersonly", "muc_open"),
            of(config.moderated, "muc_moderated", "muc_unmoderated"),
            of(
                config.password.is_empty(),
                "muc_unsecured",
                "muc_passwordprotected",
            ),
            of(
                config.whois == Whois::Anyone,
                "muc_nonanonymous",
                "muc_semianonymous",
            ),
        ]
    }

    /// XEP-0045, 6.4. What is said in a room, and how many say it, is for those who could be there.
    fn form(&self, incoming: &Incoming) -> Element {
        let config = &self.config;
        let invites = !config.members_only || config.allow_invites;
        let text = |var: &str, label: &str, value: &str| {
            Field::new("text-single", var).label(label).value(value)
        };
        let mut form = Form::new("result", ns::MUC_ROOMINFO)
            .field(text(
                "muc#roominfo_description",
                "Description",
                &config.description,
            ))
            .field(text("muc#roomconfig_roomname", "Name", &config.name))
            .field(text("muc#roominfo_lang", "Language", &config.language))
            .field(
                Field::boolean("muc#roomconfig_changesubject", config.change_subject)
                    .label("Participants may change the subject"),
            )
            .field(
                Field::boolean("muc#roominfo_subjectmod", config.change_subject)
                    .label("Occupants may modify the subject"),
            )
            .field(
                Field::boolean("muc#roomconfig_allowinvites", invites)
                    .label("Occupants may invite"),
            )
            .field(
                Field::new("list-single", "muc#roomconfig_allowpm")
                    .label("Who may send private messages")
                    .value(config.private_messages.name()),
            );
        if let Some(most) = config.history {
            let most = most.to_string();
            form = form.field(text("muc#maxhistoryfetch", "Messages on entering", &most));
        }
        if !self.avatar.is_none() {
            let hash = Field::new("text-multi", "muc#roominfo_avatarhash").label("Avatar hash");
            form = form.field(hash.values(self.avatar.hashes()));
        }
        if self.is_open_to(&incoming.from) {
            let count = self.occupants.len().to_string();
            let subject = self.subject.as_ref().map_or("", |subject| &subject.text);
            form = form
                .field(text(
                    "muc#roominfo_occupants",
                    "Number of occupants",
                    &count,
                ))
                .field(text("muc#roominfo_subject", "Subject", subject));
        }
        form.build()
    }

    /// Whether somebody is in the room, or need only come in.
    fn is_open_to(&self, who: &Jid) -> bool {
        let open = !self.config.members_only && self.config.password.is_empty();
        match self.affiliation(who) {
            Affiliation::Outcast => false,
            Affiliation::None => open || self.is_occupant(who),
            _ => true,
        }
    }

    /// Who is in the room is told those who are, too; where it is listed, also those who need only come in ("if that
    /// information is publicly available", XEP-0045, 6.5).
    pub(super) fn disco_items(&self, incoming: &Incoming, query: &Element) -> Element {
        let mut answer = Element::bare("query", ns::DISCO_ITEMS);
        if let Some(node) = query.attr("node") {
            set(&mut answer, "node", node);
        } else if self.is_occupant(&incoming.from)
            || (self.config.public && self.is_open_to(&incoming.from))
        {
            let shown = self.occupants.iter().filter(|one| self.is_shown(one.role));
            for occupant in shown {
                let address = self.address_of(&occupant.nick);
                let attributes = [("jid", address.as_str()), ("name", &occupant.nick)];
                answer.append_child(element("item", ns::DISCO_ITEMS, &attributes));
            }
        }
        answer
    }
}

fn identity(name: &str) -> Element {
    let attributes = [("category", "conference"), ("type", "text"), ("name", name)];
    element("identity", ns::DISCO_INFO, &attributes)
}

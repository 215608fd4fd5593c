//! What a room tells of itself (XEP-0045, 6.4 to 6.6, 7.12).

use jid::Jid;
use minidom::Element;

use super::Room;
use crate::server::StanzaError;
use crate::server::muc::config::Whois;
use crate::server::muc::event::Incoming;
use crate::server::muc::form::Form;
use crate::server::muc::rank::Affiliation;
use crate::xmpp::element::{element, set};
use crate::xmpp::ns;

const FEATURES: [&str; 9] = [
    ns::DISCO_INFO,
    ns::DISCO_ITEMS,
    ns::MUC,
    ns::MUC_REQUEST,
    ns::MUC_STABLE_ID,
    ns::MUC_SELF_PING,
    ns::OID,
    ns::STANZA_ID,
    ns::PING,
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
            &[ns::MAM, "urn:xmpp:mam:2#extended"]
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
        let yes = |value: bool| if value { "1" } else { "0" };
        let invites = !config.members_only || config.allow_invites;
        let mut form = Form::new("result", ns::MUC_ROOMINFO)
            .field(
                "text-single",
                "muc#roominfo_description",
                "Description",
                [config.description.as_str()],
            )
            .field(
                "text-single",
                "muc#roomconfig_roomname",
                "Name",
                [config.name.as_str()],
            )
            .field(
                "text-single",
                "muc#roominfo_lang",
                "Language",
                [config.language.as_str()],
            )
            .field(
                "boolean",
                "muc#roomconfig_changesubject",
                "Participants may change the subject",
                [yes(config.change_subject)],
            )
            .field(
                "boolean",
                "muc#roomconfig_allowinvites",
                "Occupants may invite",
                [yes(invites)],
            )
            .field(
                "list-single",
                "muc#roomconfig_allowpm",
                "Who may send private messages",
                [config.private_messages.name()],
            );
        if self.is_open_to(&incoming.from) {
            let count = self.occupants.len().to_string();
            let subject = self.subject.as_ref().map_or("", |subject| &subject.text);
            form = form
                .field(
                    "text-single",
                    "muc#roominfo_occupants",
                    "Number of occupants",
                    [count.as_str()],
                )
                .field("text-single", "muc#roominfo_subject", "Subject", [subject]);
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
            for occupant in self.occupants.iter() {
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

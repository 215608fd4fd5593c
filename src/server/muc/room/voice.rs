//! Asking for a voice, and a moderator's answer (XEP-0045, 7.13 and 8.6).

use minidom::Element;

use super::Room;
use crate::server::StanzaError;
use crate::server::mail::Mail;
use crate::server::muc::event::{Effect, Incoming};
use crate::server::muc::rank::Role;
use crate::xmpp::element::element;
use crate::xmpp::form::{self, Field, Filled, Form};
use crate::xmpp::ns;

impl Room {
    pub(super) fn voice(
        &mut self,
        incoming: &Incoming,
        form: &Filled,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let occupant = self.present(incoming)?;
        match occupant.role {
            Role::Moderator => self.answer_voice(incoming, form, out),
            Role::Visitor => {
                let jid = incoming.from.to_string();
                let request = self.voice_request(&jid, &occupant.nick);
                let to = self.occupants.sessions(|one| one.role == Role::Moderator);
                if !to.is_empty() {
                    let stanza = Mail::for_many(request);
                    out.push(Effect::Broadcast { to, stanza });
                }
                Ok(())
            }
            // They have a voice already.
            Role::Participant | Role::None => Ok(()),
        }
    }

    fn voice_request(&self, jid: &str, nick: &str) -> Element {
        let form = Form::new("form", ns::MUC_REQUEST)
            .title("Voice request")
            .instructions("Grant a voice to this person?")
            .field(
                Field::new("list-single", "muc#role")
                    .label("Requested role")
                    .value("participant"),
            )
            .field(
                Field::new("jid-single", "muc#jid")
                    .label("User ID")
                    .value(jid),
            )
            .field(
                Field::new("text-single", "muc#roomnick")
                    .label("Room nickname")
                    .value(nick),
            )
            .field(Field::boolean("muc#request_allow", false).label("Grant voice to this person?"))
            .build();
        let from = [("from", self.address.as_str())];
        let mut message = element("message", ns::JABBER_CLIENT, &from);
        message.append_child(form);
        message
    }

    fn answer_voice(
        &mut self,
        incoming: &Incoming,
        form: &Filled,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let allowed = form.value("muc#request_allow");
        if allowed.and_then(form::boolean) != Some(true) {
            return Ok(());
        }
        let nick = form.value("muc#roomnick");
        let nick = nick.ok_or_else(StanzaError::bad_request)?;
        let waits = self.occupants.get(nick).map(|one| one.role) == Some(Role::Visitor);
        if waits {
            self.change_role(incoming, nick, Role::Participant, None, out)?;
        }
        Ok(())
    }
}

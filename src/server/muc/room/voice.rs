//! Asking for a voice, and a moderator's answer (XEP-0045, 7.13 and 8.6).

use minidom::Element;

use super::Room;
use crate::server::StanzaError;
use crate::server::mail::Mail;
use crate::server::muc::event::{Effect, Incoming};
use crate::server::muc::form::{self, Form};
use crate::server::muc::rank::Role;
use crate::xmpp::element::element;
use crate::xmpp::ns;

impl Room {
    pub(super) fn voice(
        &mut self,
        incoming: &Incoming,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let form = form::find(&incoming.stanza);
        let Some(form) =
            form.filter(|form| form::form_type(form).as_deref() == Some(ns::MUC_REQUEST))
        else {
            return Err(self.unhandled(incoming));
        };
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
            .title("Voice request", "Grant a voice to this person?")
            .field("list-single", "muc#role", "Requested role", ["participant"])
            .field("jid-single", "muc#jid", "User ID", [jid])
            .field("text-single", "muc#roomnick", "Room nickname", [nick])
            .boolean("muc#request_allow", "Grant voice to this person?", false)
            .build();
        let from = [("from", self.address.as_str())];
        let mut message = element("message", ns::JABBER_CLIENT, &from);
        message.append_child(form);
        message
    }

    fn answer_voice(
        &mut self,
        incoming: &Incoming,
        form: &Element,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let allowed = form::value(form, "muc#request_allow");
        if allowed.and_then(|text| form::boolean(&text)) != Some(true) {
            return Ok(());
        }
        let nick = form::value(form, "muc#roomnick").ok_or_else(StanzaError::bad_request)?;
        let waits = self.occupants.get(&nick).map(|one| one.role) == Some(Role::Visitor);
        if waits {
            self.change_role(incoming, &nick, Role::Participant, None, out)?;
        }
        Ok(())
    }
}

//! Changing the nick (XEP-0045, 7.6). A session changes its own: with several sessions under one nick the others keep it.

use jid::FullJid;
use minidom::Element;

use super::Room;
use super::announce::Notice;
use super::occupants::Occupant;
use crate::server::StanzaError;
use crate::server::muc::event::Effect;

impl Room {
    pub(super) fn change_nick(
        &mut self,
        old: &str,
        new: &str,
        session: &FullJid,
        stanza: &Element,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let locked = self.locked_nick(&session.to_bare());
        if locked.is_some_and(|own| own != new) {
            return Err(StanzaError::not_acceptable().text("You have registered another nick"));
        }
        self.may_use(new, &session.to_bare())?;
        let Some(left) = self.occupants.take(session) else {
            return Err(StanzaError::internal_server_error());
        };
        let stays = self.occupants.get(old).is_some();
        let joins = self.occupants.get(new).is_some();
        if stays || joins {
            self.move_away(&left, new, stays, out);
        } else {
            self.announce_gone(&left, &[], &renamed(new), out);
        }
        self.update(new, session, stanza, left.is_own_bot);
        if !joins {
            // The role is of the visit, not of the nick.
            self.occupants
                .change(new, |occupant| occupant.role = left.role);
        }
        self.announce(new, &Notice::default(), out);
        if let Some(other) = self
            .occupants
            .get(old)
            .filter(|one| self.is_shown(one.role))
        {
            // What was the session's own nick is now another occupant to it.
            let stanzas = vec![self.seen(other, self.reveals_to(&left))];
            let to = session.clone();
            out.push(Effect::Deliver { to, stanzas });
        }
        Ok(())
    }

    /// Two nicks of one person, of which one stays or was there before: only the session sees a change of nick, the others
    /// see a session go and another come.
    fn move_away(&self, left: &Occupant, new: &str, stays: bool, out: &mut Vec<Effect>) {
        if let Some(own) = left.sessions.first() {
            let presence = self.own_gone(left, own, &[], &renamed(new));
            out.push(Effect::Send(presence));
        }
        if stays {
            self.announce(&left.nick, &Notice::default(), out);
        } else {
            let mut gone = left.clone();
            gone.sessions.clear();
            self.announce_gone(&gone, &[], &Notice::default(), out);
        }
    }
}

fn renamed(new: &str) -> Notice {
    Notice {
        nick: Some(new.to_owned()),
        ..Notice::code(303)
    }
}

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
        self.may_use(new, &session.to_bare())?;
        let Some(left) = self.occupants.take(session) else {
            return Err(StanzaError::internal_server_error());
        };
        let stays = self.occupants.get(old).is_some();
        let joins = self.occupants.get(new).is_some();
        self.update(new, session, stanza);
        if !joins {
            // The role is of the visit, not of the nick.
            self.occupants
                .change(new, |occupant| occupant.role = left.role);
        }
        if stays || joins {
            self.move_session(&left, old, new, session, stays, out);
        } else {
            self.announce_gone(&left, &[], &renamed(new), out);
        }
        self.announce(new, &Notice::default(), out);
        Ok(())
    }

    /// Two nicks of one person, of which one stays or was there before: only the session sees a change of nick, the others
    /// see a session go and another come.
    fn move_session(
        &self,
        left: &Occupant,
        old: &str,
        new: &str,
        session: &FullJid,
        stays: bool,
        out: &mut Vec<Effect>,
    ) {
        if let Some(own) = left.sessions.first() {
            let presence = self.own_gone(left, own, &[], &renamed(new));
            out.push(Effect::Send(presence));
        }
        if stays {
            self.announce(old, &Notice::default(), out);
            return;
        }
        // Its own session has seen this already.
        let mut gone = left.clone();
        gone.sessions.clear();
        let before = out.len();
        self.announce_gone(&gone, &[], &Notice::default(), out);
        for effect in out.iter_mut().skip(before) {
            if let Effect::Broadcast { to, .. } = effect {
                *to = to.iter().filter(|one| *one != session).cloned().collect();
            }
        }
    }
}

fn renamed(new: &str) -> Notice {
    Notice {
        nick: Some(new.to_owned()),
        ..Notice::code(303)
    }
}

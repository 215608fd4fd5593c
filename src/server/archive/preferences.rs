//! XEP-0441: with whom an account's messages are kept.

use jid::Jid;
use minidom::Element;
use serde::{Deserialize, Serialize};

use crate::server::StanzaError;
use crate::xmpp::element::{element, text_element};
use crate::xmpp::ns;

/// How many addresses one list may hold.
const MOST: usize = 1_000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preferences {
    pub default: Default_,
    pub always: Vec<Jid>,
    pub never: Vec<Jid>,
}

/// For those on neither list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Default_ {
    #[default]
    Always,
    Never,
    /// Those in the roster.
    Roster,
}

/// What is to be done with messages of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Keep,
    Skip,
    /// Keep it if the bare JID is in the roster.
    KeepIfKnown,
}

impl Preferences {
    pub fn read(prefs: &Element) -> Result<Self, StanzaError> {
        let default = match prefs.attr("default") {
            Some("always") => Default_::Always,
            Some("never") => Default_::Never,
            Some("roster") => Default_::Roster,
            _ => {
                return Err(
                    StanzaError::bad_request().text("The default is always, never or roster")
                );
            }
        };
        Ok(Self {
            default,
            always: list(prefs, "always")?,
            never: list(prefs, "never")?,
        })
    }

    pub fn to_element(&self) -> Element {
        let default = match self.default {
            Default_::Always => "always",
            Default_::Never => "never",
            Default_::Roster => "roster",
        };
        let mut prefs = element("prefs", ns::MAM, &[("default", default)]);
        for (name, jids) in [("always", &self.always), ("never", &self.never)] {
            let mut list = Element::bare(name, ns::MAM);
            for jid in jids {
                list.append_child(text_element("jid", ns::MAM, jid.as_str()));
            }
            prefs.append_child(list);
        }
        prefs
    }

    /// `with`: whom the message is to or from. Where both lists name it, it is not kept: that is the safe side.
    pub fn wish(&self, with: &Jid) -> Wish {
        let bare = with.to_bare();
        // XEP-0441, 2.3.1: a bare JID means all its resources.
        let named = |list: &[Jid]| list.iter().any(|jid| jid == with || *jid == bare);
        if named(&self.never) {
            return Wish::Skip;
        }
        if named(&self.always) {
            return Wish::Keep;
        }
        match self.default {
            Default_::Always => Wish::Keep,
            Default_::Never => Wish::Skip,
            Default_::Roster => Wish::KeepIfKnown,
        }
    }
}

fn list(prefs: &Element, name: &str) -> Result<Vec<Jid>, StanzaError> {
    let Some(list) = prefs.get_child(name, ns::MAM) else {
        return Ok(Vec::new());
    };
    let mut jids = Vec::new();
    for jid in list.children().filter(|child| child.is("jid", ns::MAM)) {
        let jid = Jid::new(jid.text().trim()).map_err(|_malformed| StanzaError::jid_malformed())?;
        if !jids.contains(&jid) {
            jids.push(jid);
        }
        if jids.len() > MOST {
            return Err(StanzaError::policy_violation().text("Too many addresses"));
        }
    }
    Ok(jids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(xml: &str) -> Result<Preferences, StanzaError> {
        Preferences::read(&xml.parse().unwrap())
    }

    const PREFS: &str = "<prefs xmlns='urn:xmpp:mam:2' default='roster'>
        <always><jid>romeo@montague.lit</jid></always>
        <never><jid>montague@montague.lit/home</jid></never></prefs>";

    #[test]
    fn they_are_written_as_they_were_read() {
        let prefs = read(PREFS).unwrap();
        assert_eq!(Preferences::read(&prefs.to_element()).unwrap(), prefs);
        let empty = Preferences::default().to_element();
        assert!(empty.has_child("always", ns::MAM) && empty.has_child("never", ns::MAM));
    }

    #[test]
    fn addresses_match_as_xep_0441_says() {
        let prefs = read(PREFS).unwrap();
        for (with, wish) in [
            ("romeo@montague.lit", Wish::Keep),
            ("romeo@montague.lit/orchard", Wish::Keep),
            ("montague@montague.lit", Wish::KeepIfKnown),
            ("montague@montague.lit/home", Wish::Skip),
            ("montague@montague.lit/away", Wish::KeepIfKnown),
            ("montague.lit", Wish::KeepIfKnown),
        ] {
            assert_eq!(prefs.wish(&Jid::new(with).unwrap()), wish, "{with}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        assert!(read("<prefs xmlns='urn:xmpp:mam:2'/>").is_err());
        assert!(read("<prefs xmlns='urn:xmpp:mam:2' default='sometimes'/>").is_err());
        let malformed =
            "<prefs xmlns='urn:xmpp:mam:2' default='never'><always><jid>@</jid></always></prefs>";
        assert!(read(malformed).is_err());
        let bare = read("<prefs xmlns='urn:xmpp:mam:2' default='never'/>").unwrap();
        assert!(bare.always.is_empty() && bare.never.is_empty());
    }
}

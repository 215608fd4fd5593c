//! XEP-0352: Client State Indication. For a client that nobody looks at, presence and chat states wait until something
//! comes that matters.

use minidom::Element;

use crate::server::mail::Mail;
use crate::xmpp::ns;

/// How much is held back before it goes out all the same.
const MOST: usize = 256;

/// What is held back from an inactive client.
#[derive(Debug, Default)]
pub(super) struct Held {
    inactive: bool,
    mail: Vec<Mail>,
}

impl Held {
    pub(super) fn inactive(&mut self) {
        self.inactive = true;
    }

    pub(super) fn is_inactive(&self) -> bool {
        self.inactive
    }

    /// What has waited.
    pub(super) fn active(&mut self) -> Vec<Mail> {
        self.inactive = false;
        self.take()
    }

    pub(super) fn take(&mut self) -> Vec<Mail> {
        std::mem::take(&mut self.mail)
    }

    /// Holds the stanza back, or answers it: `Ok` holds; with `Err`, what has waited goes out first, in order.
    pub(super) fn hold(&mut self, mail: Mail) -> Result<(), Mail> {
        if !self.inactive || self.mail.len() >= MOST || !can_wait(mail.shared()) {
            return Err(mail);
        }
        if mail.shared().name() == "presence" {
            // Only the last of each sender matters.
            let from = mail.shared().attr("from");
            self.mail.retain(|held| {
                held.shared().name() != "presence" || held.shared().attr("from") != from
            });
        }
        self.mail.push(mail);
        Ok(())
    }
}

/// Whether a client that nobody looks at can do without for now.
fn can_wait(stanza: &Element) -> bool {
    match stanza.name() {
        // Subscription requests and errors are for the person.
        "presence" => {
            matches!(stanza.attr("type"), None | Some("unavailable"))
            // Whether one is in a room does not wait (XEP-0045).
            && !stanza.children().any(|child| child.has_ns(ns::MUC_USER))
        }
        "message" => {
            let mut children = stanza.children().peekable();
            children.peek().is_some()
                && children.all(|child| {
                    child.has_ns(ns::CHATSTATES)
                        || child.has_ns(ns::HINTS)
                        || child.name() == "thread"
                })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(xml: &str) -> Mail {
        Mail::new(crate::server::testing::stanza(xml))
    }

    #[test]
    fn what_can_wait_waits_for_what_cannot() {
        for (name, xml, waits) in [
            ("presence", "<presence from='a@b/c'/>", true),
            (
                "its end",
                "<presence from='a@b/c' type='unavailable'/>",
                true,
            ),
            (
                "a request",
                "<presence from='a@b' type='subscribe'/>",
                false,
            ),
            (
                "a room's",
                "<presence from='r@b/c'><x xmlns='http://jabber.org/protocol/muc#user'/></presence>",
                false,
            ),
            (
                "typing",
                "<message><composing xmlns='http://jabber.org/protocol/chatstates'/><no-store xmlns='urn:xmpp:hints'/></message>",
                true,
            ),
            (
                "text",
                "<message><body>Hi</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>",
                false,
            ),
            ("nothing", "<message/>", false),
            ("a query", "<iq type='get' id='1'/>", false),
        ] {
            let mut held = Held::default();
            assert!(held.hold(mail(xml)).is_err(), "{name}: active");
            held.inactive();
            assert_eq!(held.hold(mail(xml)).is_ok(), waits, "{name}");
        }
    }

    #[test]
    fn only_the_last_presence_of_each_sender_waits() {
        let mut held = Held::default();
        held.inactive();
        for (from, kind) in [("a@b/1", "away"), ("a@b/2", "xa"), ("a@b/1", "dnd")] {
            let xml = format!("<presence from='{from}'><show>{kind}</show></presence>");
            held.hold(mail(&xml)).unwrap();
        }
        let shows: Vec<_> = held
            .active()
            .iter()
            .map(|mail| mail.shared().text_of_show())
            .collect();
        assert_eq!(shows, ["xa", "dnd"]);
    }

    trait Show {
        fn text_of_show(&self) -> String;
    }

    impl Show for Element {
        fn text_of_show(&self) -> String {
            self.get_child("show", ns::JABBER_CLIENT).unwrap().text()
        }
    }

    #[test]
    fn a_bounded_number_waits() {
        let mut held = Held::default();
        held.inactive();
        for number in 0..MOST {
            held.hold(mail(&format!("<presence from='a@b/{number}'/>")))
                .unwrap();
        }
        assert!(held.hold(mail("<presence from='c@d/e'/>")).is_err());
        assert_eq!(held.take().len(), MOST);
    }
}

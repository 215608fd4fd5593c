//! Subscriptions as a state machine without I/O (RFC 6121, 3 and appendix A): what a request does to the state of one
//! contact in one roster, and what then has to be done.

/// The state of a contact in a user's roster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The user sees the contact's presence.
    pub to: bool,
    /// The contact sees the user's presence.
    pub from: bool,
    /// The user has asked and waits: `ask='subscribe'`.
    pub pending_out: bool,
    /// The contact has asked and waits.
    pub pending_in: bool,
    /// The user has agreed before being asked (RFC 6121, 3.4).
    pub approved: bool,
}

impl State {
    /// The `subscription` attribute.
    pub fn name(self) -> &'static str {
        match (self.to, self.from) {
            (false, false) => "none",
            (true, false) => "to",
            (false, true) => "from",
            (true, true) => "both",
        }
    }

    /// What the roster shows of it.
    fn shown(self) -> (bool, bool, bool, bool) {
        (self.to, self.from, self.pending_out, self.approved)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
}

impl Request {
    /// Of a presence's `type`.
    pub fn of(kind: &str) -> Option<Self> {
        Some(match kind {
            "subscribe" => Self::Subscribe,
            "subscribed" => Self::Subscribed,
            "unsubscribe" => Self::Unsubscribe,
            "unsubscribed" => Self::Unsubscribed,
            _ => return None,
        })
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub state: State,
    /// The roster shows something else than before: push it.
    pub push: bool,
    /// Outgoing: it goes to the contact. Incoming: it goes to the user's sessions.
    pub deliver: bool,
    /// Incoming: the contact is answered `subscribed` on the user's behalf.
    pub accept: bool,
    /// The contact now sees the user's presence: send it.
    pub send_presence: bool,
    /// The contact no longer sees it: send `unavailable`.
    pub send_unavailable: bool,
}

fn outcome(before: State, after: State) -> Outcome {
    Outcome {
        state: after,
        push: before.shown() != after.shown(),
        send_presence: !before.from && after.from,
        send_unavailable: before.from && !after.from,
        ..Outcome::default()
    }
}

/// The user's own request to the contact (RFC 6121, appendix A.2).
pub fn outgoing(before: State, request: Request) -> Outcome {
    let mut after = before;
    let deliver = match request {
        Request::Subscribe => {
            after.pending_out = !before.to;
            true
        }
        Request::Unsubscribe => {
            after.to = false;
            after.pending_out = false;
            true
        }
        Request::Subscribed if before.pending_in => {
            after.from = true;
            after.pending_in = false;
            after.approved = false;
            true
        }
        Request::Subscribed => {
            after.approved = before.approved || !before.from;
            false
        }
        Request::Unsubscribed => {
            after.from = false;
            after.pending_in = false;
            after.approved = false;
            before.from || before.pending_in
        }
    };
    Outcome {
        deliver,
        ..outcome(before, after)
    }
}

/// The contact's request to the user (RFC 6121, appendix A.3).
pub fn incoming(before: State, request: Request) -> Outcome {
    let mut after = before;
    let mut accept = false;
    let deliver = match request {
        Request::Subscribe if before.from => {
            accept = true;
            false
        }
        Request::Subscribe if before.approved => {
            after.from = true;
            after.approved = false;
            accept = true;
            false
        }
        Request::Subscribe => {
            after.pending_in = true;
            true
        }
        Request::Unsubscribe => {
            after.from = false;
            after.pending_in = false;
            before.from || before.pending_in
        }
        Request::Subscribed => {
            after.to = before.to || before.pending_out;
            after.pending_out = false;
            before.pending_out
        }
        Request::Unsubscribed => {
            after.to = false;
            after.pending_out = false;
            before.to || before.pending_out
        }
    };
    Outcome {
        deliver,
        accept,
        ..outcome(before, after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(text: &str) -> State {
        State {
            to: text.contains("to"),
            from: text.contains("from"),
            pending_out: text.contains("out"),
            pending_in: text.contains("in"),
            approved: text.contains("approved"),
        }
    }

    struct Case {
        before: &'static str,
        request: Request,
        after: &'static str,
        deliver: bool,
        push: bool,
    }

    #[track_caller]
    fn check(cases: &[Case], apply: fn(State, Request) -> Outcome) {
        for case in cases {
            let outcome = apply(state(case.before), case.request);
            let name = format!("{:?} in {:?}", case.request, case.before);
            assert_eq!(outcome.state, state(case.after), "{name}");
            assert_eq!(outcome.deliver, case.deliver, "deliver {name}");
            assert_eq!(outcome.push, case.push, "push {name}");
        }
    }

    macro_rules! case {
        ($before:literal, $request:ident, $after:literal, $deliver:literal, $push:literal) => {
            Case {
                before: $before,
                request: Request::$request,
                after: $after,
                deliver: $deliver,
                push: $push,
            }
        };
    }

    #[test]
    fn what_the_user_asks_follows_appendix_a_2() {
        check(
            &[
                case!("", Subscribe, "out", true, true),
                case!("out", Subscribe, "out", true, false),
                case!("to", Subscribe, "to", true, false),
                case!("from", Subscribe, "from out", true, true),
                case!("out", Unsubscribe, "", true, true),
                case!("to from", Unsubscribe, "from", true, true),
                case!("in", Subscribed, "from", true, true),
                case!("to in", Subscribed, "to from", true, true),
                case!("", Subscribed, "approved", false, true),
                case!("from", Subscribed, "from", false, false),
                case!("from", Unsubscribed, "", true, true),
                case!("in", Unsubscribed, "", true, false),
                case!("approved", Unsubscribed, "", false, true),
                case!("", Unsubscribed, "", false, false),
            ],
            outgoing,
        );
    }

    #[test]
    fn what_the_contact_asks_follows_appendix_a_3() {
        check(
            &[
                case!("", Subscribe, "in", true, false),
                case!("in", Subscribe, "in", true, false),
                case!("from", Subscribe, "from", false, false),
                case!("approved", Subscribe, "from", false, true),
                case!("out", Subscribed, "to", true, true),
                case!("from out", Subscribed, "to from", true, true),
                case!("", Subscribed, "", false, false),
                case!("to", Subscribed, "to", false, false),
                case!("from", Unsubscribe, "", true, true),
                case!("in", Unsubscribe, "", true, false),
                case!("", Unsubscribe, "", false, false),
                case!("to from", Unsubscribed, "from", true, true),
                case!("out", Unsubscribed, "", true, true),
                case!("from", Unsubscribed, "from", false, false),
            ],
            incoming,
        );
    }

    #[test]
    fn presence_follows_the_contacts_subscription() {
        assert!(outgoing(state("in"), Request::Subscribed).send_presence);
        assert!(outgoing(state("from"), Request::Unsubscribed).send_unavailable);
        assert!(incoming(state("from"), Request::Unsubscribe).send_unavailable);
        let accepted = incoming(state("approved"), Request::Subscribe);
        assert!(accepted.accept && accepted.send_presence);
        assert!(incoming(state("from"), Request::Subscribe).accept);
    }
}

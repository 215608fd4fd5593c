//! What a stream must do, written down once more and without any of its code: a state, a step, and what has to come back.

use super::{Answer, Profile, Step, Target, Whose};

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A header must come.
    Header,
    /// Features have been listed.
    Open,
    Challenged(Profile),
    Bound,
    Over,
}

/// What must come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Nothing,
    Features,
    Proceed,
    Challenge(Profile),
    Success(Profile),
    /// A failed login with this condition; `true`: one too many, and the stream ends.
    Failure(Profile, &'static str, bool),
    /// An answer to a request, whichever; `true`: and then the end.
    Iq(bool),
    Bound,
    Failed,
    Enabled,
    Resumed,
    Count(u32),
    /// A stream error with one of these conditions (none: with any), and the end.
    Error(&'static [&'static str]),
    Closed,
}

/// Logins and tokens that may fail on a stream.
const MOST_FAILURES: u32 = 5;
/// Elements before a login.
const MOST_ELEMENTS: usize = 32;

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) place: Place,
    pub(super) tls: bool,
    pub(super) logged_in: bool,
    /// XEP-0198 is on, and how many stanzas it counts.
    pub(super) managed: bool,
    pub(super) resumable: bool,
    pub(super) handled: u32,
    failures: u32,
    elements: usize,
}

impl Model {
    pub(super) fn new(tls: bool) -> Self {
        Self {
            place: Place::Header,
            tls,
            logged_in: false,
            managed: false,
            resumable: false,
            handled: 0,
            failures: 0,
            elements: 0,
        }
    }

    /// Takes the step, which is `text` on the wire. `parked`: there is a session that `Whose::Own` names.
    pub(super) fn take(&mut self, step: &Step, text: &str, parked: bool) -> Reply {
        if !self.logged_in {
            let starts = text.as_bytes().windows(2);
            let tags = starts.filter(|two| two[0] == b'<' && two[1].is_ascii_alphabetic());
            self.elements += tags.count();
        }
        let reply = match step {
            Step::Cut => Reply::Closed,
            _ if self.elements > MOST_ELEMENTS => Reply::Error(&[]),
            Step::Space => Reply::Nothing,
            Step::Broken(_) => Reply::Error(&[]),
            _ => match self.place {
                Place::Header => self.header(step),
                Place::Open if self.logged_in => before_bound(step, parked),
                Place::Open => self.before_login(step),
                Place::Challenged(profile) => self.challenged(profile, step),
                Place::Bound => self.bound(step),
                Place::Over => panic!("the stream is over"),
            },
        };
        self.arrive(step, reply);
        reply
    }

    fn arrive(&mut self, step: &Step, reply: Reply) {
        self.place = match reply {
            Reply::Nothing | Reply::Count(_) | Reply::Failed | Reply::Iq(false) => self.place,
            Reply::Features | Reply::Failure(.., false) => Place::Open,
            Reply::Proceed => {
                self.tls = true;
                Place::Header
            }
            Reply::Challenge(profile) => Place::Challenged(profile),
            Reply::Success(profile) => {
                self.logged_in = true;
                match profile {
                    Profile::Sasl => Place::Header,
                    Profile::Sasl2 { bind: false, .. } => Place::Open,
                    Profile::Sasl2 { manage, .. } => {
                        self.managed = manage;
                        self.resumable = manage;
                        Place::Bound
                    }
                }
            }
            Reply::Bound => Place::Bound,
            Reply::Enabled => {
                self.managed = true;
                self.resumable = *step == Step::Enable(true);
                self.handled = 0;
                Place::Bound
            }
            Reply::Resumed => {
                self.managed = true;
                self.resumable = true;
                Place::Bound
            }
            Reply::Error(_) | Reply::Closed | Reply::Failure(.., true) | Reply::Iq(true) => {
                Place::Over
            }
        };
    }

    fn fail(&mut self, profile: Profile, condition: &'static str) -> Reply {
        self.failures += 1;
        Reply::Failure(profile, condition, self.failures >= MOST_FAILURES)
    }

    fn header(&self, step: &Step) -> Reply {
        match step {
            Step::Header(Target::AsAnother) if self.logged_in => Reply::Error(&["invalid-from"]),
            Step::Header(Target::Ours | Target::AsAnother) => Reply::Features,
            Step::Header(Target::Elsewhere) => Reply::Error(&["host-unknown"]),
            _ => Reply::Error(&[]),
        }
    }

    fn before_login(&mut self, step: &Step) -> Reply {
        match *step {
            Step::Header(_) => Reply::Error(&["restricted-xml"]),
            Step::Close => Reply::Closed,
            Step::StartTls if !self.tls => Reply::Proceed,
            _ if !self.tls => Reply::Error(&["not-authorized"]),
            Step::Scram(profile) => Reply::Challenge(profile),
            Step::Plain(profile, true) => Reply::Success(profile),
            Step::Plain(profile, false) => self.fail(profile, "not-authorized"),
            Step::Token => self.fail(Profile::BARE, "not-authorized"),
            Step::Register => Reply::Iq(false),
            Step::Preauth => {
                self.failures += 1;
                Reply::Iq(self.failures >= MOST_FAILURES)
            }
            _ => Reply::Error(&["not-authorized"]),
        }
    }

    fn challenged(&mut self, profile: Profile, step: &Step) -> Reply {
        match *step {
            Step::Header(_) => Reply::Error(&["restricted-xml"]),
            Step::Close => Reply::Closed,
            Step::Answer(Answer::Right) => Reply::Success(profile),
            Step::Answer(Answer::Wrong) => self.fail(profile, "not-authorized"),
            Step::Answer(Answer::Garbage) => self.fail(profile, "incorrect-encoding"),
            Step::Abort(other) if other.namespace() == profile.namespace() => {
                self.fail(profile, "aborted")
            }
            _ => self.fail(profile, "malformed-request"),
        }
    }

    fn bound(&mut self, step: &Step) -> Reply {
        let reply = match *step {
            Step::Header(_) => Reply::Error(&["restricted-xml"]),
            Step::Close => Reply::Closed,
            Step::Enable(_) if !self.managed => Reply::Enabled,
            Step::Request if self.managed => Reply::Count(self.handled),
            Step::Acknowledge(true) if self.managed => Reply::Error(&["undefined-condition"]),
            Step::Acknowledge(false) if self.managed => Reply::Nothing,
            Step::Enable(_) | Step::Resume(..) | Step::Request | Step::Acknowledge(_) => {
                Reply::Failed
            }
            Step::Csi(_) | Step::Message { .. } | Step::Presence => Reply::Nothing,
            Step::Forged => Reply::Error(&["invalid-from"]),
            Step::Bind
            | Step::Session
            | Step::Ping
            | Step::Odd
            | Step::Register
            | Step::Preauth => Reply::Iq(false),
            _ => Reply::Error(&["unsupported-stanza-type"]),
        };
        if step.is_stanza() && self.managed {
            self.handled += 1;
        }
        reply
    }
}

fn before_bound(step: &Step, parked: bool) -> Reply {
    match *step {
        Step::Header(_) => Reply::Error(&["restricted-xml"]),
        Step::Close => Reply::Closed,
        Step::Bind => Reply::Bound,
        Step::Resume(Whose::Own, too_high) if parked => {
            if too_high {
                Reply::Error(&["undefined-condition"])
            } else {
                Reply::Resumed
            }
        }
        Step::Resume(..) => Reply::Failed,
        Step::Session | Step::Ping | Step::Odd | Step::Register | Step::Preauth => {
            Reply::Error(&["not-authorized"])
        }
        _ => Reply::Error(&["unsupported-stanza-type"]),
    }
}

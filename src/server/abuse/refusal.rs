//! What somebody may be refused for, as the log and `/metrics` name it.

macro_rules! refusals {
    ($($name:ident, $label:literal, $sentence:literal;)*) => {
        /// Why somebody was refused, ended or slowed down.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Refusal {
            $(#[doc = $sentence] $name,)*
        }

        impl Refusal {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The label `reason` in `/metrics`.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }

            /// For the log.
            pub const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$name => $sentence,)*
                }
            }
        }
    };
}

refusals! {
    ConnectionsAtOnce, "connections_per_ip", "An address has as many connections as it may have";
    ConnectionRate, "connections_per_minute", "An address connects too often";
    Descriptors, "descriptors", "All connections but the reserve are taken; a new one is closed";
    LoginTimeout, "login_timeout", "A connection took too long to log in";
    LoginFailures, "login_failures", "An address with too many failed logins is not heard";
    StreamLimits, "stream_limits", "A stream broke a limit and is closed";
    BadXml, "bad_xml", "A stream was not what XMPP allows and is closed";
    Sessions, "sessions_per_user", "An account has as many sessions as it may have";
    Registrations, "registrations", "Too many accounts were made from an address";
    Invitations, "invitations", "An address tries too many invitations that there are not";
    Subscriptions, "subscriptions", "An account asks too many for their presence";
    RequestsFor, "subscriptions_received", "An account is asked for its presence by too many";
    Directed, "directed_presence", "A client shows itself to too many addresses";
    Requests, "requests", "A client asks too much at once";
    Strangers, "strangers", "An account writes to too many who do not know it";
    Domain, "strangers_of_a_domain", "A domain elsewhere writes to too many who do not know its people";
    Rooms, "rooms", "Somebody enters, creates or asks of rooms too often";
    RoomsOfADomain, "rooms_of_a_domain", "A domain elsewhere enters rooms too often";
    BlockList, "block_list", "Somebody on a block list was refused";
    Mailbox, "mailbox", "What waits for a client that does not read has no more room";
    Offline, "offline_messages", "As much waits for somebody who is away as may";
    Dialback, "dialback", "A server shows a key that is not its own, or asks too often to be believed";
    Reports, "reports", "An account reports too much to be listened to";
    Push, "push", "An app server does not keep up; a notification is left out";
}

impl Refusal {
    /// Why a stream was ended with this condition; `None`: for no fault of who sent it.
    pub fn of_stream(condition: &str) -> Option<Self> {
        Some(match condition {
            "policy-violation" => Self::StreamLimits,
            "resource-constraint" => Self::Mailbox,
            "connection-timeout" => Self::LoginTimeout,
            "not-well-formed" | "restricted-xml" | "bad-format" | "unsupported-encoding" => {
                Self::BadXml
            }
            _ => return None,
        })
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

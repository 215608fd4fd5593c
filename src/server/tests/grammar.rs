//! Stanzas as a hostile client makes them: real ones of every kind that the server knows, with other addresses and types,
//! and then changed at random places.

use minidom::Element;
use minidom::rxml::Namespace;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::server::stanza::clear;
use crate::server::testing;
use crate::xmpp::element::set;

/// What stands in an IQ that asks for something.
pub(super) const REQUESTS: &[&str] = &[
    "<ping xmlns='urn:xmpp:ping'/>",
    "<query xmlns='jabber:iq:roster' ver=''/>",
    "<query xmlns='jabber:iq:roster'><item jid='juliet@example.org' name='J'><group>Friends</group></item></query>",
    "<query xmlns='jabber:iq:roster'><item jid='juliet@example.org' subscription='remove'/></query>",
    "<query xmlns='http://jabber.org/protocol/disco#info'/>",
    "<query xmlns='http://jabber.org/protocol/disco#info' node='http://jabber.org/protocol/commands'/>",
    "<query xmlns='http://jabber.org/protocol/disco#items'/>",
    "<query xmlns='http://jabber.org/protocol/disco#items' node='secret'/>",
    "<query xmlns='jabber:iq:version'/>",
    "<time xmlns='urn:xmpp:time'/>",
    "<query xmlns='jabber:iq:last'/>",
    "<query xmlns='jabber:iq:private'><x xmlns='urn:x'>1</x></query>",
    "<query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'><conference jid='lobby@conference.example.org' name='L' autojoin='true'><nick>n</nick></conference></storage></query>",
    "<vCard xmlns='vcard-temp'><FN>R</FN><PHOTO><TYPE>image/png</TYPE><BINVAL>AAAA</BINVAL></PHOTO></vCard>",
    "<block xmlns='urn:xmpp:blocking'><item jid='mercutio@example.org'/></block>",
    "<unblock xmlns='urn:xmpp:blocking'/>",
    "<blocklist xmlns='urn:xmpp:blocking'/>",
    "<enable xmlns='urn:xmpp:carbons:2'/>",
    "<disable xmlns='urn:xmpp:carbons:2'/>",
    "<query xmlns='urn:xmpp:mam:2' queryid='q'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field><field var='with'><value>juliet@example.org</value></field><field var='start'><value>2010-06-07T00:00:00Z</value></field></x><set xmlns='http://jabber.org/protocol/rsm'><max>10</max><before/></set><flip-page/></query>",
    "<query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>4294967296</max><after>1</after></set></query>",
    "<metadata xmlns='urn:xmpp:mam:2'/>",
    "<prefs xmlns='urn:xmpp:mam:2' default='roster'><always><jid>juliet@example.org</jid></always><never/></prefs>",
    "<query xmlns='jabber:iq:register'/>",
    "<query xmlns='jabber:iq:register'><remove/></query>",
    "<command xmlns='http://jabber.org/protocol/commands' node='http://jabber.org/protocol/admin#get-online-users' action='execute'/>",
    "<command xmlns='http://jabber.org/protocol/commands' node='http://jabber.org/protocol/admin#delete-user' sessionid='1'><x xmlns='jabber:x:data' type='submit'><field var='accountjids'><value>juliet@example.org</value></field></x></command>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:avatar:metadata'><item id='1'><metadata xmlns='urn:xmpp:avatar:metadata'><info id='1' type='image/png' bytes='1'/></metadata></item></publish></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:avatar:data'><item id='1'><data xmlns='urn:xmpp:avatar:data'>AAAA</data></item></publish></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='mine'><item id='1'><x xmlns='urn:x'/></item></publish><publish-options><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/pubsub#publish-options</value></field><field var='pubsub#access_model'><value>open</value></field></x></publish-options></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:bookmarks:1'><item id='lobby@conference.example.org'><conference xmlns='urn:xmpp:bookmarks:1' name='L'/></item></publish></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:mds:displayed:0'><item id='juliet@example.org'><displayed xmlns='urn:xmpp:mds:displayed:0'><stanza-id xmlns='urn:xmpp:sid:0' by='romeo@example.org' id='1'/></displayed></item></publish></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='secret' max_items='1'><item id='1'/></items></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='shared'/></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><subscribe node='secret' jid='romeo@example.org'/></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><unsubscribe node='mine' jid='romeo@example.org' subid='1'/></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><create node='mine'/><configure><x xmlns='jabber:x:data' type='submit'/></configure></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><retract node='mine' notify='1'><item id='1'/></retract></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><affiliations/></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><options node='mine' jid='romeo@example.org'/></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><configure node='secret'/></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><affiliations node='secret'><affiliation jid='romeo@example.org' affiliation='owner'/></affiliations></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><purge node='mine'/></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><delete node='mine'/></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><subscriptions node='secret'/></pubsub>",
    "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='member'/></query>",
    "<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='juliet' role='none'><reason>x</reason></item></query>",
    "<query xmlns='http://jabber.org/protocol/muc#admin'><item jid='romeo@example.org' affiliation='owner'/></query>",
    "<query xmlns='http://jabber.org/protocol/muc#owner'/>",
    "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field><field var='muc#roomconfig_membersonly'><value>0</value></field></x></query>",
    "<query xmlns='http://jabber.org/protocol/muc#owner'><destroy jid='x@conference.example.org'><reason>x</reason></destroy></query>",
    "<moderate xmlns='urn:xmpp:message-moderate:1' id='1'><retract xmlns='urn:xmpp:message-retract:1'/></moderate>",
    "<query xmlns='jabber:iq:search'/>",
    "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>",
];

/// What stands in messages and presences.
pub(super) const PAYLOADS: &[&str] = &[
    "",
    "<body>x</body>",
    "<subject>x</subject>",
    "<subject/>",
    "<body>x</body><thread parent='1'>2</thread><active xmlns='http://jabber.org/protocol/chatstates'/>",
    "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
    "<body>x</body><request xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/>",
    "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>",
    "<body>x</body><no-store xmlns='urn:xmpp:hints'/>",
    "<body>x</body><store xmlns='urn:xmpp:hints'/><private xmlns='urn:xmpp:carbons:2'/><no-copy xmlns='urn:xmpp:hints'/>",
    "<body>x</body><stanza-id xmlns='urn:xmpp:sid:0' by='juliet@example.org' id='1'/><origin-id xmlns='urn:xmpp:sid:0' id='1'/>",
    "<received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='juliet@example.org/balcony' to='romeo@example.org'><body>x</body></message></forwarded></received>",
    "<result xmlns='urn:xmpp:mam:2' id='1' queryid='q'><forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2010-06-07T00:00:00Z'/><message xmlns='jabber:client'><body>x</body></message></forwarded></result>",
    "<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='urn:xmpp:avatar:metadata'><item id='1'/></items></event>",
    "<body>x</body><replace xmlns='urn:xmpp:message-correct:0' id='1'/>",
    "<retract xmlns='urn:xmpp:message-retract:1' id='1'/>",
    "<reactions xmlns='urn:xmpp:reactions:0' id='1'><reaction>y</reaction></reactions>",
    "<x xmlns='jabber:x:conference' jid='lobby@conference.example.org' password='p'/>",
    "<x xmlns='http://jabber.org/protocol/muc#user'><invite to='juliet@example.org'><reason>x</reason></invite></x>",
    "<x xmlns='http://jabber.org/protocol/muc#user'><decline to='juliet@example.org'/></x>",
    "<x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner' role='moderator'/><status code='110'/></x>",
    "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#request</value></field><field var='muc#role'><value>participant</value></field></x>",
    "<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='5' since='2010-06-07T00:00:00Z'/><password>p</password></x>",
    "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:x' ver='AAAA'/><priority>5</priority>",
    "<priority>-1</priority><show>away</show><status>x</status>",
    "<x xmlns='vcard-temp:x:update'><photo>00</photo></x>",
    "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
];

const ADDRESSES: &[&str] = &[
    "",
    "",
    "romeo@example.org",
    "romeo@example.org/orchard",
    "mercutio@example.org/street",
    "juliet@example.org",
    "juliet@example.org/balcony",
    "juliet@example.org/nowhere",
    "nobody@example.org",
    "example.org",
    "example.org/resource",
    "conference.example.org",
    "lobby@conference.example.org",
    "lobby@conference.example.org/romeo",
    "lobby@conference.example.org/juliet",
    "lobby@conference.example.org/nobody",
    "vault@conference.example.org",
    "vault@conference.example.org/juliet",
    "new@conference.example.org/n",
    "else@where.example.net",
    "@example.org",
    "a@b@c",
    "JULIET@EXAMPLE.ORG/Balcony",
    "juliet\\20@example.org",
    "\u{fe0f}@example.org/\u{202e}",
    "conference.example.org/x",
];

const TYPES: &[&str] = &[
    "get",
    "set",
    "get",
    "set",
    "result",
    "error",
    "chat",
    "normal",
    "headline",
    "groupchat",
    "subscribe",
    "subscribed",
    "unsubscribe",
    "unsubscribed",
    "unavailable",
    "probe",
    "invisible",
    "",
];

/// What an attribute or a text is replaced by.
const WORDS: &[&str] = &[
    "",
    "0",
    "-1",
    "18446744073709551616",
    "true",
    "owner",
    "none",
    "secret",
    "shared",
    "juliet@example.org",
    "juliet@example.org/balcony",
    "mercutio@example.org",
    "vault@conference.example.org",
    "@",
    "a@b@c/",
    "9999-99-99T99:99:99Z",
    "urn:xmpp:mam:2",
    "http://jabber.org/protocol/pubsub#owner",
    "'\"<>&]]>",
    "\u{0}\u{fffe}",
    "%00..//",
    "ﷺ",
];

const NAMESPACES: &[&str] = &[
    "jabber:client",
    "jabber:server",
    "jabber:iq:roster",
    "jabber:x:data",
    "vcard-temp",
    "urn:xmpp:mam:2",
    "urn:xmpp:sid:0",
    "urn:xmpp:forward:0",
    "urn:xmpp:carbons:2",
    "http://jabber.org/protocol/pubsub",
    "http://jabber.org/protocol/pubsub#owner",
    "http://jabber.org/protocol/pubsub#event",
    "http://jabber.org/protocol/muc",
    "http://jabber.org/protocol/muc#user",
    "http://jabber.org/protocol/muc#admin",
    "http://jabber.org/protocol/muc#owner",
    "http://jabber.org/protocol/rsm",
    "urn:nobody",
];

/// A change of one element of a stanza.
#[derive(Clone, Debug)]
enum Change {
    Set(&'static str, String),
    Unset(&'static str),
    Text(String),
    Rename(&'static str),
    Namespace(&'static str),
    /// One child twice.
    Double,
    /// No child any more.
    Empty,
    /// A foreign payload inside.
    Insert(&'static str),
    /// As many elements in each other.
    Deep(usize),
}

const NAMES: &[&str] = &[
    "jid",
    "id",
    "node",
    "type",
    "name",
    "subscription",
    "affiliation",
    "role",
    "nick",
    "var",
    "by",
    "to",
    "from",
    "stamp",
    "ver",
    "default",
    "queryid",
    "max_items",
    "action",
    "sessionid",
    "code",
    "xml",
];
const ELEMENTS: &[&str] = &[
    "query", "item", "items", "x", "pubsub", "message", "body", "field", "value", "set", "error",
    "iq",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => select(WORDS).prop_map(|word| word.chars().filter(|c| *c >= ' ' && *c < '\u{fffe}').collect()),
        2 => "[ -~]{0,12}",
        1 => (1000..20_000_usize).prop_map(|count| "ab ".repeat(count / 3)),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (select(NAMES), word()).prop_map(|(name, value)| Change::Set(name, value)),
        2 => select(NAMES).prop_map(Change::Unset),
        2 => word().prop_map(Change::Text),
        1 => select(ELEMENTS).prop_map(Change::Rename),
        1 => select(NAMESPACES).prop_map(Change::Namespace),
        1 => Just(Change::Double),
        1 => Just(Change::Empty),
        1 => prop_oneof![select(REQUESTS), select(PAYLOADS)].prop_map(Change::Insert),
        1 => (1..60_usize).prop_map(Change::Deep),
    ]
}

/// A stanza without its id.
pub(super) fn stanza() -> impl Strategy<Value = Element> {
    let kind = prop_oneof![
        5 => (Just("iq"), select(REQUESTS)),
        3 => (Just("message"), select(PAYLOADS)),
        2 => (Just("presence"), select(PAYLOADS)),
        1 => (select(vec!["iq", "message", "presence"]), prop_oneof![select(REQUESTS), select(PAYLOADS)]),
    ];
    let changes = prop_oneof![
        2 => Just(Vec::new()),
        3 => vec((any::<prop::sample::Index>(), change()), 1..4),
    ];
    // Most are of a type that fits.
    let fits = prop_oneof![4 => Just(true), 1 => Just(false)];
    (kind, select(ADDRESSES), select(TYPES), fits, changes).prop_map(
        |((name, payload), to, kind, fits, changes)| {
            let mut stanza = testing::stanza(&format!("<{name}>{payload}</{name}>"));
            for (place, change) in changes {
                // Of the stanza itself addresses and type are changed below.
                if let Some(payload) = stanza.children_mut().next() {
                    let count = count(payload);
                    at(payload, place.index(count), &change);
                }
            }
            if !to.is_empty() {
                set(&mut stanza, "to", to);
            }
            let kind = if fits { fitting(name, kind) } else { kind };
            if !kind.is_empty() {
                set(&mut stanza, "type", kind);
            }
            stanza
        },
    )
}

fn fitting(name: &str, kind: &'static str) -> &'static str {
    let of_iq = matches!(kind, "get" | "set" | "result" | "error");
    let of_message = matches!(kind, "chat" | "normal" | "headline" | "groupchat" | "error");
    match name {
        "iq" if !of_iq => "set",
        "message" if !of_message => "chat",
        "presence" if of_iq || of_message => "",
        _ => kind,
    }
}

/// How many elements, itself included.
fn count(element: &Element) -> usize {
    1 + element.children().map(count).sum::<usize>()
}

/// Changes the element of this number, counted as they are written. Answers how many were passed.
fn at(element: &mut Element, number: usize, change: &Change) -> usize {
    if number == 0 {
        apply(element, change);
        return usize::MAX;
    }
    let mut passed = 1;
    for child in element.children_mut() {
        let inside = at(child, number - passed, change);
        if inside == usize::MAX {
            return usize::MAX;
        }
        passed += inside;
    }
    passed
}

fn apply(element: &mut Element, change: &Change) {
    match change {
        Change::Set(name, value) => set(element, name, value),
        Change::Unset(name) => clear(element, name),
        Change::Text(text) => {
            element.take_contents_as_children();
            element.append_text(text);
        }
        Change::Rename(name) => *element = renamed(element, name, &element.ns()),
        Change::Namespace(namespace) => *element = renamed(element, element.name(), namespace),
        Change::Double => {
            let first = element.children().next().cloned();
            first.map(|first| element.append_child(first));
        }
        Change::Empty => {
            element.take_contents_as_children();
        }
        Change::Insert(xml) => {
            let holder = testing::stanza(&format!("<message>{xml}</message>"));
            for child in holder.children() {
                element.append_child(child.clone());
            }
        }
        Change::Deep(depth) => {
            let inner = (0..*depth).fold(Element::bare("x", "urn:x"), |inner, _| {
                Element::builder("x", "urn:x").append(inner).build()
            });
            element.append_child(inner);
        }
    }
}

fn renamed(element: &Element, name: &str, namespace: &str) -> Element {
    let mut renamed = Element::bare(name, namespace);
    for ((attribute_namespace, attribute), value) in element.attrs() {
        if *attribute_namespace == Namespace::NONE {
            set(&mut renamed, attribute.as_str(), value);
        }
    }
    for node in element.nodes() {
        renamed.append_node(node.clone());
    }
    renamed
}

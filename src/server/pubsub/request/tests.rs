use super::*;

const COMMON: &str = "http://jabber.org/protocol/pubsub";
const OWNER: &str = "http://jabber.org/protocol/pubsub#owner";

fn parse(set: bool, namespace: &str, inner: &str) -> Result<Request, StanzaError> {
    let pubsub = format!("<pubsub xmlns='{namespace}'>{inner}</pubsub>");
    Request::parse(set, &pubsub.parse().unwrap())
}

fn condition(error: &StanzaError) -> String {
    let detail = error.detail.as_ref().map_or("", |detail| detail.name());
    format!("{:?} {detail}", error.condition)
}

#[test]
fn requests_are_told_apart() {
    struct Case {
        name: &'static str,
        set: bool,
        namespace: &'static str,
        inner: &'static str,
        expected: fn(&Request) -> bool,
    }
    #[rustfmt::skip]
    let cases = [
        Case { name: "publish", set: true, namespace: COMMON, inner: "<publish node='n'><item id='i'><x xmlns='urn:x'/></item></publish>",
            expected: |request| matches!(request, Request::Publish { item: Some(NewItem { id: Some(_), payload: Some(_) }), options: None, .. }) },
        Case { name: "publish with options first", set: true, namespace: COMMON,
            inner: "<publish-options><x xmlns='jabber:x:data' type='submit'/></publish-options><publish node='n'><item/></publish>",
            expected: |request| matches!(request, Request::Publish { item: Some(NewItem { id: None, payload: None }), options: Some(_), .. }) },
        Case { name: "publish nothing", set: true, namespace: COMMON, inner: "<publish node='n'/>",
            expected: |request| matches!(request, Request::Publish { item: None, .. }) },
        Case { name: "retract", set: true, namespace: COMMON, inner: "<retract node='n' notify='true'><item id='i'/></retract>",
            expected: |request| matches!(request, Request::Retract { ids, notify: true, .. } if ids == &["i"]) },
        Case { name: "items", set: false, namespace: COMMON, inner: "<items node='n' max_items='3'/>",
            expected: |request| matches!(request, Request::Items { max: Some(3), .. }) },
        Case { name: "create and configure", set: true, namespace: COMMON, inner: "<create node='n'/><configure><x xmlns='jabber:x:data' type='submit'/></configure>",
            expected: |request| matches!(request, Request::Create { node: Some(_), configure: Some(_) }) },
        Case { name: "create an instant node", set: true, namespace: COMMON, inner: "<create/>",
            expected: |request| matches!(request, Request::Create { node: None, configure: None }) },
        Case { name: "subscribe with options", set: true, namespace: COMMON, inner: "<subscribe node='n' jid='a@b.example'/><options><x xmlns='jabber:x:data' type='submit'/></options>",
            expected: |request| matches!(request, Request::Subscribe { options: Some(_), .. }) },
        Case { name: "options alone", set: false, namespace: COMMON, inner: "<options node='n' jid='a@b.example'/>",
            expected: |request| matches!(request, Request::GetOptions { .. }) },
        Case { name: "one's subscriptions", set: false, namespace: COMMON, inner: "<subscriptions/>",
            expected: |request| matches!(request, Request::Subscriptions { node: None }) },
        Case { name: "everybody's subscriptions", set: false, namespace: OWNER, inner: "<subscriptions node='n'/>",
            expected: |request| matches!(request, Request::GetSubscribers { .. }) },
        Case { name: "configure", set: true, namespace: OWNER, inner: "<configure node='n'><x xmlns='jabber:x:data' type='cancel'/></configure>",
            expected: |request| matches!(request, Request::Configure { form, .. } if form.cancelled) },
        Case { name: "delete", set: true, namespace: OWNER, inner: "<delete node='n'><redirect uri='xmpp:x'/></delete>",
            expected: |request| matches!(request, Request::Delete { redirect: Some(_), .. }) },
        Case { name: "affiliations", set: true, namespace: OWNER, inner: "<affiliations node='n'><affiliation jid='a@b.example' affiliation='member'/></affiliations>",
            expected: |request| matches!(request, Request::SetAffiliates { changes, .. } if changes.len() == 1) },
    ];
    for case in cases {
        let request = parse(case.set, case.namespace, case.inner).unwrap();
        assert!((case.expected)(&request), "{}: {request:?}", case.name);
    }
}

#[test]
fn what_is_wrong_is_told() {
    struct Case {
        name: &'static str,
        set: bool,
        namespace: &'static str,
        inner: &'static str,
        error: &'static str,
    }
    #[rustfmt::skip]
    let cases = [
        Case { name: "nothing", set: true, namespace: COMMON, inner: "", error: "BadRequest " },
        Case { name: "a get that sets", set: false, namespace: COMMON, inner: "<publish node='n'/>", error: "BadRequest " },
        Case { name: "no node", set: true, namespace: COMMON, inner: "<publish/>", error: "BadRequest nodeid-required" },
        Case { name: "an empty node", set: false, namespace: COMMON, inner: "<items node=''/>", error: "BadRequest nodeid-required" },
        Case { name: "two payloads", set: true, namespace: COMMON, inner: "<publish node='n'><item><a xmlns='a'/><b xmlns='b'/></item></publish>", error: "BadRequest invalid-payload" },
        Case { name: "two items", set: true, namespace: COMMON, inner: "<publish node='n'><item/><item/></publish>", error: "BadRequest " },
        Case { name: "an item without id", set: true, namespace: COMMON, inner: "<retract node='n'><item/></retract>", error: "BadRequest item-required" },
        Case { name: "nobody", set: true, namespace: COMMON, inner: "<subscribe node='n'/>", error: "BadRequest jid-required" },
        Case { name: "no JID", set: true, namespace: COMMON, inner: "<subscribe node='n' jid='@'/>", error: "BadRequest invalid-jid" },
        Case { name: "half an item", set: false, namespace: COMMON, inner: "<items node='n' max_items='-1'/>", error: "BadRequest " },
        Case { name: "an unknown affiliation", set: true, namespace: OWNER, inner: "<affiliations node='n'><affiliation jid='a@b.example' affiliation='king'/></affiliations>", error: "BadRequest " },
    ];
    for case in cases {
        let error = parse(case.set, case.namespace, case.inner).unwrap_err();
        assert_eq!(condition(&error), case.error, "{}", case.name);
    }
}

#[test]
fn an_id_as_long_as_a_stanza_is_refused() {
    let long = "x".repeat(MAX_ID + 1);
    let error = parse(true, COMMON, &format!("<publish node='{long}'/>")).unwrap_err();
    assert_eq!(condition(&error), "PolicyViolation ");
}

#[test]
fn an_owner_approves_or_denies() {
    let message = |allow: &str, kind: &str| -> Element {
        format!(
            "<message xmlns='jabber:client'><x xmlns='jabber:x:data' type='{kind}'>\
             <field var='FORM_TYPE'><value>{}</value></field>\
             <field var='pubsub#node'><value>n</value></field>\
             <field var='pubsub#subscriber_jid'><value>a@b.example</value></field>\
             <field var='pubsub#allow'><value>{allow}</value></field></x></message>",
            crate::server::pubsub::form::SUBSCRIBE_AUTHORIZATION
        )
        .parse()
        .unwrap()
    };
    let allowed = |message: Element| Authorization::parse(&message).map(|answer| answer.allow);
    assert_eq!(allowed(message("1", "submit")), Some(true));
    assert_eq!(allowed(message("false", "submit")), Some(false));
    assert_eq!(allowed(message("1", "cancel")), None);
    assert_eq!(allowed(message("maybe", "submit")), None);
}

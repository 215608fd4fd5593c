//! A query as a client writes it (XEP-0313, 4): a form, a page of XEP-0059, and how the answer is to look.

use jid::Jid;
use minidom::Element;

use crate::server::StanzaError;
use crate::xmpp::element::element;
use crate::xmpp::form::{Field, Filled, Form};
use crate::xmpp::{datetime, form, ns};

/// How many ids one query may name.
const MOST_IDS: usize = 250;

/// What is asked. Ids are as the client wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub query_id: Option<String>,
    pub with: Option<Jid>,
    /// Milliseconds since 1970, both included.
    pub start: Option<i64>,
    pub end: Option<i64>,
    pub before_id: Option<String>,
    pub after_id: Option<String>,
    pub ids: Option<Vec<String>>,
    pub page: Page,
    /// The newest of the page first.
    pub flip: bool,
}

/// XEP-0059.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub max: Option<usize>,
    pub after: Option<String>,
    pub before: Option<String>,
    /// Backwards from `before` or, without one, from the end.
    pub backwards: bool,
}

impl Asked {
    /// Reads a `<query/>`. A `node` is of archives of pubsub (XEP-0442), which these are not.
    pub fn read(query: &Element) -> Result<Self, StanzaError> {
        if query.attr("node").is_some() {
            return Err(StanzaError::feature_not_implemented());
        }
        let mut asked = Self {
            query_id: query.attr("queryid").map(str::to_owned),
            flip: query.has_child("flip-page", ns::MAM),
            ..Self::default()
        };
        if let Some(form) = form::find(query) {
            asked.read_form(form)?;
        }
        if let Some(set) = query.get_child("set", ns::RSM) {
            asked.page = Page::read(set)?;
        }
        Ok(asked)
    }

    fn read_form(&mut self, form: &Element) -> Result<(), StanzaError> {
        let form = Filled::read(form)?;
        if form.form_type() != Some(ns::MAM) {
            return Err(StanzaError::bad_request().text("The form has another FORM_TYPE"));
        }
        for (name, values) in form.fields() {
            if name == "ids" {
                if values.len() > MOST_IDS {
                    return Err(StanzaError::policy_violation().text("Too many ids"));
                }
                self.ids = Some(values.to_vec());
                continue;
            }
            let Some(value) = values.first() else {
                continue;
            };
            match name {
                "with" => self.with = Some(jid(value)?),
                "start" => self.start = Some(time(value)?),
                "end" => self.end = Some(time(value)?),
                "before-id" => self.before_id = Some(value.clone()),
                "after-id" => self.after_id = Some(value.clone()),
                // There are none in these archives, and a room's archive has nothing else: nothing to leave out.
                "include-groupchat" => {}
                _ => {
                    return Err(StanzaError::feature_not_implemented()
                        .text("The form has a field that is not known here"));
                }
            }
        }
        Ok(())
    }
}

fn jid(value: &str) -> Result<Jid, StanzaError> {
    Jid::new(value).map_err(|_malformed| StanzaError::jid_malformed())
}

fn time(value: &str) -> Result<i64, StanzaError> {
    datetime::parse(value)
        .ok_or_else(|| StanzaError::bad_request().text("A time is not as XEP-0082 has it"))
}

impl Page {
    pub fn read(set: &Element) -> Result<Self, StanzaError> {
        let text = |name| set.get_child(name, ns::RSM).map(Element::text);
        let max = text("max")
            .map(|max| max.trim().parse())
            .transpose()
            .map_err(|_no_number| StanzaError::bad_request().text("<max/> is not a number"))?;
        if set.has_child("index", ns::RSM) {
            // XEP-0059, 2.6: where it is not supported.
            return Err(StanzaError::feature_not_implemented());
        }
        let before = text("before");
        Ok(Self {
            max,
            // An empty one is before the first.
            after: text("after").filter(|id| !id.is_empty()),
            backwards: before.is_some(),
            before: before.filter(|id| !id.is_empty()),
        })
    }
}

/// The fields that a query may have (XEP-0313, 4.1.6).
pub fn form() -> Element {
    let mut validate = element("validate", ns::XDATA_VALIDATE, &[("datatype", "xs:string")]);
    validate.append_child(Element::bare("open", ns::XDATA_VALIDATE));
    let times_and_ids = ["start", "end", "before-id", "after-id"];
    let form = Form::new("form", ns::MAM)
        .field(Field::new("jid-single", "with"))
        .fields(times_and_ids.map(|name| Field::new("text-single", name)))
        .field(Field::new("list-multi", "ids").child(validate))
        .field(Field::new("boolean", "include-groupchat"));
    let mut query = Element::bare("query", ns::MAM);
    query.append_child(form.build());
    query
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Condition;

    fn read(inner: &str) -> Result<Asked, StanzaError> {
        let xml = format!("<query xmlns='urn:xmpp:mam:2' queryid='q'>{inner}</query>");
        Asked::read(&xml.parse().unwrap())
    }

    fn fields(fields: &[(&str, &str)]) -> String {
        let field = |(name, value): &(&str, &str)| {
            format!("<field var='{name}'><value>{value}</value></field>")
        };
        let fields = fields.iter().map(field).collect::<Vec<_>>().concat();
        format!(
            "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>{fields}</x>"
        )
    }

    #[test]
    fn all_that_may_be_asked_is_read() {
        let form = fields(&[
            ("with", "Juliet@Capulet.lit"),
            ("start", "2010-06-07T00:00:00Z"),
            ("end", "2010-06-07T00:00:01.5Z"),
            ("before-id", "b"),
            ("after-id", "a"),
            ("include-groupchat", "true"),
        ]);
        let set = "<set xmlns='http://jabber.org/protocol/rsm'><max>10</max><before/></set>";
        let asked = read(&format!("{form}{set}<flip-page/>")).unwrap();
        let start = 1_275_868_800_000;
        let expected = Asked {
            query_id: Some("q".into()),
            with: Some(Jid::new("juliet@capulet.lit").unwrap()),
            start: Some(start),
            end: Some(start + 1_500),
            before_id: Some("b".into()),
            after_id: Some("a".into()),
            ids: None,
            page: Page {
                max: Some(10),
                after: None,
                before: None,
                backwards: true,
            },
            flip: true,
        };
        assert_eq!(asked, expected);
    }

    #[test]
    fn several_ids_are_several_values() {
        let ids = "<x xmlns='jabber:x:data' type='submit'>
            <field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>
            <field var='ids'><value>1</value><value>2</value></field></x>";
        let asked = read(ids).unwrap();
        assert_eq!(asked.ids, Some(vec!["1".to_owned(), "2".to_owned()]));
        let most = "<value>1</value>".repeat(MOST_IDS + 1);
        let too_many = ids.replace("<value>1</value><value>2</value>", &most);
        assert_eq!(
            read(&too_many).unwrap_err().condition,
            Condition::PolicyViolation
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let set =
            |inner: &str| format!("<set xmlns='http://jabber.org/protocol/rsm'>{inner}</set>");
        for (name, inner, condition) in [
            (
                "a field of no meaning",
                fields(&[("urn:x", "1")]),
                Condition::FeatureNotImplemented,
            ),
            (
                "no JID",
                fields(&[("with", "a@@b")]),
                Condition::JidMalformed,
            ),
            (
                "no time",
                fields(&[("start", "yesterday")]),
                Condition::BadRequest,
            ),
            (
                "another form",
                fields(&[("FORM_TYPE", "urn:x")]),
                Condition::BadRequest,
            ),
            (
                "no form",
                "<x xmlns='jabber:x:data' type='form'/>".into(),
                Condition::BadRequest,
            ),
            ("no number", set("<max>many</max>"), Condition::BadRequest),
            (
                "less than nothing",
                set("<max>-1</max>"),
                Condition::BadRequest,
            ),
            (
                "an index",
                set("<index>5</index>"),
                Condition::FeatureNotImplemented,
            ),
        ] {
            let error = read(&inner).unwrap_err();
            assert_eq!(error.condition, condition, "{name}");
        }
        let node = "<query xmlns='urn:xmpp:mam:2' node='n'/>".parse().unwrap();
        assert!(Asked::read(&node).is_err());
    }

    #[test]
    fn the_form_offers_what_is_read() {
        let form = form();
        let x = form.get_child("x", ns::DATA_FORMS).unwrap();
        let names: Vec<_> = x.children().filter_map(|field| field.attr("var")).collect();
        assert_eq!(
            names,
            [
                "FORM_TYPE",
                "with",
                "start",
                "end",
                "before-id",
                "after-id",
                "ids",
                "include-groupchat"
            ]
        );
    }
}

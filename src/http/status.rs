//! How things are, as JSON and as a page. No secrets; a claim code only for the machine itself.

use anyhow::Result;
use minijinja::Environment;
use serde::Serialize;

use crate::gateway::accounts;
use crate::server::s2s;

/// The document of `GET /status` and `moltis status`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    pub version: &'static str,
    pub services: Vec<Service>,
    pub accounts: Vec<accounts::Status>,
    pub conversations: Conversations,
    pub models: Models,
    /// Other servers, a row for each pair of domains; only for the machine itself, for it tells who talks to whom.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub federation: Vec<s2s::Row>,
    /// Why the configuration on disk is not the one in force; empty where it is.
    pub configuration_error: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Claim>,
}

/// One part that works or does not.
#[derive(Clone, Debug, Serialize)]
pub struct Service {
    pub name: String,
    pub status: bool,
    pub details: String,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Conversations {
    pub open: usize,
    pub waiting: usize,
    pub running: usize,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Models {
    pub default: String,
    pub providers: Vec<String>,
    /// Models that are not asked for now, each with the seconds that are left.
    pub resting: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Claim {
    pub account: String,
    pub code: String,
}

impl Status {
    /// A page of its own, without script. The template's name ends in html, so that every value is escaped.
    pub fn html(&self) -> Result<String> {
        let mut templates = Environment::new();
        templates.add_template("status.html", include_str!("status.html"))?;
        Ok(templates.get_template("status.html")?.render(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_escapes_what_strangers_chose() {
        let status = Status {
            services: vec![Service {
                name: "<script>alert(1)</script>".into(),
                status: false,
                details: "\"'&".into(),
            }],
            ..Status::default()
        };
        let html = status.html().unwrap();
        assert!(!html.contains("<script>"), "{html}");
        assert!(html.contains("&lt;script&gt;"), "{html}");
    }
}

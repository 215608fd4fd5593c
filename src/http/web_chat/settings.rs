//! What start.js passes on to Converse.js: what differs from server to server.

use jid::BareJid;
use serde::Serialize;

use super::{SIGN_IN, WebChat, converse, converse_folder};

#[derive(Serialize)]
pub(super) struct Document<'a> {
    title: &'a str,
    settings: Settings<'a>,
    /// Where emoji.json is not this server's own file.
    #[serde(skip_serializing_if = "Option::is_none")]
    fetched_emoji: Option<FetchedEmoji>,
}

/// The names are those of Converse.js (its docs/configuration).
#[derive(Serialize)]
struct Settings<'a> {
    assets_path: String,
    default_domain: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    muc_domain: Option<&'a str>,
    auto_join_private_chats: Vec<&'a BareJid>,
    #[serde(flatten)]
    sign_in: Option<SignIn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locales: Option<[&'static str; 1]>,
}

/// The password is asked for again with each connection: there is no reason to keep anything of it.
#[derive(Serialize)]
struct SignIn {
    auto_login: bool,
    credentials_url: &'static str,
    reuse_scram_keys: bool,
}

#[derive(Serialize)]
struct FetchedEmoji {
    url: String,
    integrity: &'static str,
}

/// `signs_in`: the demo's password is to be had.
pub(super) fn of(web_chat: &WebChat, is_built_in: bool, signs_in: bool) -> Document<'_> {
    Document {
        title: &web_chat.title,
        settings: Settings {
            assets_path: converse_folder(is_built_in),
            default_domain: &web_chat.domain,
            muc_domain: web_chat.rooms.as_deref(),
            auto_join_private_chats: web_chat.bot.iter().collect(),
            sign_in: signs_in.then_some(SignIn {
                auto_login: true,
                credentials_url: SIGN_IN,
                reuse_scram_keys: false,
            }),
            // Translations are scripts whose hashes nobody checks.
            locales: (!is_built_in).then_some(["en"]),
        },
        fetched_emoji: (!is_built_in).then(|| FetchedEmoji {
            url: format!("{}/{}", converse::CDN, converse::EMOJI.name),
            integrity: converse::EMOJI.integrity,
        }),
    }
}

//! What a turn asks: the instructions, the messages that are answered with what was overheard and what came with them, and
//! whether all that fits.

use tracing::{info, warn};

use super::compaction::{self, estimate, estimate_messages};
use super::failure::Reason;
use super::history::{Overheard, Stored};
use super::settle::date;
use super::turn::{Turn, look};
use crate::gateway::media::Media;
use crate::gateway::{Inbound, Place};
use crate::llm::{Content, Message, ModelId, Role};

impl Turn {
    pub(super) fn system(&self, model: &ModelId) -> Result<String, Reason> {
        super::system(&self.live, &self.account, &self.key, &self.settings, model).map_err(|err| {
            warn!("The system prompt cannot be filled in: {err:#}");
            Reason::Setting("The bot's system prompt has a mistake; its log says where.".into())
        })
    }

    /// The messages that are answered, as one of the request's.
    pub(super) async fn question(&self, model: &ModelId) -> Message {
        if let Place::Room(room) = &self.key.place {
            let limit = self.account.config.history_limit;
            let context = self.inner.overheard(&self.key.account, room, limit);
            look(&self.shared, |progress| progress.context = context);
        }
        let context = look(&self.shared, |progress| progress.context.clone());
        let mut content = Vec::new();
        if let [first, _, ..] = self.entries.as_slice()
            && first.is_stale()
        {
            content.push(Content::Text(format!(
                "[These {} messages came while you were away; the oldest was sent {}. Answer them together.]",
                self.entries.len(),
                date(first.inbound.delayed.unwrap_or(first.inbound.at)),
            )));
        }
        for (position, entry) in self.entries.iter().enumerate() {
            let context = if position == 0 {
                context.as_slice()
            } else {
                &[]
            };
            content.push(Content::Text(compaction::question(&entry.inbound, context)));
            content.extend(self.pictures(context, model).await);
            content.extend(self.files(position, &entry.inbound, model).await);
        }
        Message {
            role: Role::User,
            content,
        }
    }

    /// The last pictures of what was overheard: people show one and then ask about it, as it cannot carry a mention. What
    /// cannot be seen nobody has asked for, and nobody is told.
    async fn pictures(&self, context: &[Overheard], model: &ModelId) -> Vec<Content> {
        /// Somebody who asks has not asked for everything that was ever shown.
        const MOST: usize = 2;
        let shown = context.iter().rev().flat_map(|line| {
            let newest = line.attachments.iter().rev();
            newest.map(move |attachment| (line, attachment))
        });
        let mut shown: Vec<_> = shown.take(MOST).collect();
        shown.reverse();
        let mut contents = Vec::new();
        if shown.is_empty() || !self.live.models.info(model).sees_images {
            return contents;
        }
        let Ok(media) = Media::new(&self.account.config) else {
            return contents;
        };
        let uploads = self.account.uploads().await;
        for (line, attachment) in shown {
            match media.read(attachment, uploads).await {
                Ok(picture @ Content::Image(_)) => {
                    let label = compaction::overheard_picture(line, attachment);
                    contents.extend([Content::Text(label), picture]);
                }
                Ok(_) => {}
                Err(unread) => info!("An overheard file is not read: {unread}"),
            }
        }
        contents
    }

    /// What came with a message. A file that cannot be read is told to the model in its place, and to the person below the answer.
    async fn files(&self, position: usize, inbound: &Inbound, model: &ModelId) -> Vec<Content> {
        /// More than these of one message are not fetched.
        const MOST: usize = 8;
        /// Characters of one file.
        const MOST_REMEMBERED: usize = 40_000;
        let mut contents = Vec::new();
        if inbound.attachments.is_empty() {
            return contents;
        }
        let media = match Media::new(&self.account.config) {
            Ok(media) => media,
            Err(err) => {
                warn!("Files cannot be fetched: {err:#}");
                return contents;
            }
        };
        let sees = self.live.models.info(model).sees_images;
        let uploads = self.account.uploads().await;
        for attachment in inbound.attachments.iter().take(MOST) {
            let content = match media.read(attachment, uploads).await {
                Ok(Content::Image(_)) if !sees => {
                    Err(format!("I cannot see the image: {model} reads no images."))
                }
                Ok(content) => {
                    if let Content::Text(text) = &content {
                        // Later questions are about it too.
                        let text = text.chars().take(MOST_REMEMBERED).collect();
                        look(&self.shared, |progress| {
                            progress.read.push((position, text));
                        });
                    }
                    Ok(content)
                }
                Err(unread) => Err(unread.to_string()),
            };
            contents.push(content.unwrap_or_else(|line| {
                info!("A file is not read: {line}");
                look(&self.shared, |progress| progress.notes.push(line.clone()));
                Content::Text(format!("[{line}]"))
            }));
        }
        contents
    }

    /// Tokens; 0: unknown.
    pub(super) fn window(&self, model: &ModelId) -> u64 {
        super::window(&self.live, model).into()
    }

    /// How many tokens the session's messages may have after a compaction, where one is due.
    pub(super) fn too_full(
        &self,
        model: &ModelId,
        system: &str,
        lines: &[Stored],
        now: &Message,
    ) -> Option<u64> {
        let chat = &self.live.config.chat;
        let taken = estimate(system)
            .saturating_add(estimate_messages(std::slice::from_ref(now)))
            .saturating_add(chat.max_output_tokens.into());
        super::due(
            self.window(model),
            chat.compaction.threshold_percent,
            taken,
            estimate_messages(&compaction::messages(lines)),
        )
    }
}

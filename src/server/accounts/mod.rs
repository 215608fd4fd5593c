//! Who has an account here: names, SCRAM keys, tombstones.

use jid::NodeRef;

#[derive(Clone, Debug, Default)]
pub struct Accounts;

impl Accounts {
    pub fn exists(&self, name: &NodeRef) -> bool {
        !name.as_str().is_empty()
    }
}

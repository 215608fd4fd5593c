//! Accounts come, go and are shut out (XEP-0133, 4.1 to 4.7).

use super::super::form::required;
use super::super::{Asks, Call, Command, Done, Outcome};
use super::{account_field, accounts_field, ask, name_here, names_here, people_here, permitted};
use crate::server::StreamError;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        node: "http://jabber.org/protocol/admin#add-user",
        name: "Add a user",
        permitted,
        asks: Asks::Form(|| {
            let password = required("text-private", "password", "Password");
            let again = required("text-private", "password-verify", "Password again");
            ask("Add a user", [account_field(), password, again])
        }),
        run: |call| Box::pin(add(call)),
    },
    Command {
        node: "http://jabber.org/protocol/admin#delete-user",
        name: "Delete users",
        permitted,
        asks: Asks::Form(|| ask("Delete users", [accounts_field()])),
        run: |call| Box::pin(delete(call)),
    },
    Command {
        node: "http://jabber.org/protocol/admin#disable-user",
        name: "Disable users",
        permitted,
        asks: Asks::Form(|| ask("Disable users", [accounts_field()])),
        run: |call| Box::pin(disable(call)),
    },
    Command {
        node: "http://jabber.org/protocol/admin#reenable-user",
        name: "Re-enable users",
        permitted,
        asks: Asks::Form(|| ask("Re-enable users", [accounts_field()])),
        run: |call| Box::pin(enable(call)),
    },
    Command {
        node: "http://jabber.org/protocol/admin#end-user-session",
        name: "End sessions",
        permitted,
        asks: Asks::Form(|| ask("End sessions", [accounts_field()])),
        run: |call| Box::pin(end_sessions(call)),
    },
    Command {
        node: "http://jabber.org/protocol/admin#change-user-password",
        name: "Change a password",
        permitted,
        asks: Asks::Form(|| {
            let password = required("text-private", "password", "The new password");
            ask("Change a password", [account_field(), password])
        }),
        run: |call| Box::pin(change_password(call)),
    },
];

async fn add(call: Call) -> Outcome {
    let jid = call.fields.jid("accountjid")?;
    let name = name_here(&call.server, &jid)?;
    let password = call.fields.password()?;
    call.server.accounts().create(&name, password).await?;
    Ok(Done::Said(format!("{jid} has been added")))
}

async fn delete(call: Call) -> Outcome {
    let names = people_here(&call)?;
    for name in &names {
        call.server.delete_account(name).await?;
    }
    Ok(Done::Said(format!("Deleted: {}", names.len())))
}

async fn disable(call: Call) -> Outcome {
    let names = people_here(&call)?;
    for name in &names {
        call.server.accounts().disable(name).await?;
    }
    Ok(Done::Said(format!("Disabled: {}", names.len())))
}

async fn enable(call: Call) -> Outcome {
    let names = names_here(&call)?;
    for name in &names {
        call.server.accounts().enable(name).await?;
    }
    Ok(Done::Said(format!("Re-enabled: {}", names.len())))
}

async fn change_password(call: Call) -> Outcome {
    let jid = call.fields.jid("accountjid")?;
    let name = name_here(&call.server, &jid)?;
    let password = call.fields.password()?;
    let by = call.from.try_into_full().ok();
    let accounts = call.server.accounts();
    accounts.set_password(&name, password, by).await?;
    Ok(Done::Said(format!(
        "The password of {jid} has been changed"
    )))
}

/// A bare JID stands for all its sessions (XEP-0133, 4.5).
async fn end_sessions(call: Call) -> Outcome {
    let wanted = call.fields.jids("accountjids")?;
    let reason = StreamError::new("reset").text("An administrator has ended the session");
    let mut count = 0_usize;
    for session in call.server.sessions() {
        let (full, bare) = (session.jid(), session.account().jid());
        if wanted.iter().any(|jid| *jid == *full || *jid == *bare) {
            session.end(reason.clone());
            count = count.saturating_add(1);
        }
    }
    Ok(Done::Said(format!("Sessions ended: {count}")))
}

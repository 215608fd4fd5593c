//! Every combination of policy, place and standing, as tables.

use super::*;
use crate::config::Room;
use crate::gateway::testing::account;

const NOW: i64 = 1_000_000;

fn jid(text: &str) -> BareJid {
    BareJid::new(text).unwrap()
}

fn sender(from: &str, real: Option<&str>) -> Sender {
    Sender {
        from: jid::Jid::new(from).unwrap(),
        real: real.map(jid),
        nick: None,
        occupant_id: None,
        moderator: false,
        bot: false,
    }
}

/// In letters, so that the tables below fit a line.
fn letter(decision: Decision) -> &'static str {
    match decision {
        Decision::Admit(Standing { operator: true, .. }) => "operator",
        Decision::Admit(Standing { guest: true, .. }) => "guest",
        Decision::Admit(_) => "yes",
        Decision::AskPairing => "ask",
        Decision::Ignore(Reason::Blocked) => "blocked",
        Decision::Ignore(Reason::DirectDisabled | Reason::RoomsDisabled) => "off",
        Decision::Ignore(Reason::RoomDisabled) => "room off",
        Decision::Ignore(Reason::NotListed | Reason::RoomNotListed) => "no",
        Decision::Ignore(Reason::Hidden) => "hidden",
        Decision::Ignore(Reason::NotUser) => "not user",
        Decision::Ignore(Reason::RoomItself) => "itself",
        Decision::Ignore(Reason::Service) => "service",
        Decision::Ignore(Reason::Own) => "own",
        Decision::Ignore(Reason::InvitesOff | Reason::InviteNotListed) => "no invite",
    }
}

fn approvals() -> Approvals {
    let mut approvals = Approvals::default();
    approvals.set(&jid("allowed@a.org"), Grant::Allow);
    approvals.set(&jid("guest@a.org"), Grant::Guest { until: NOW + 1 });
    approvals.set(&jid("expired@a.org"), Grant::Guest { until: NOW });
    approvals.set(&jid("blocked@a.org"), Grant::Block);
    approvals.set(&jid("blocked@listed.org"), Grant::Block);
    approvals.set(&jid("owner@a.org"), Grant::Block);
    approvals.set(&jid("claimed@a.org"), Grant::Operator);
    approvals.set(&jid("approved@rooms.org"), Grant::Allow);
    approvals.set(&jid("blocked@rooms.org"), Grant::Block);
    approvals
}

#[test]
fn direct_chats_follow_dm_policy_approvals_and_pairing() {
    let open = (Policy::Open, true);
    let listed = (Policy::Allowlist, false);
    let pairing = (Policy::Allowlist, true);
    let disabled = (Policy::Disabled, true);
    let columns = [open, listed, pairing, disabled];
    let rows = [
        ("stranger@a.org", ["yes", "no", "ask", "off"]),
        ("someone@listed.org", ["yes", "yes", "yes", "off"]),
        ("allowed@a.org", ["yes", "yes", "yes", "off"]),
        ("guest@a.org", ["guest", "guest", "guest", "off"]),
        ("expired@a.org", ["yes", "no", "ask", "off"]),
        ("blocked@a.org", ["blocked"; 4]),
        ("blocked@listed.org", ["blocked"; 4]),
        // Named in `operators`, and blocked: the file wins.
        ("owner@a.org", ["operator"; 4]),
        ("claimed@a.org", ["operator"; 4]),
        // The operator's local part on another server is nobody.
        ("owner@evil.org", ["yes", "no", "ask", "off"]),
        ("a.org", ["service", "service", "service", "off"]),
        ("bot@example.com", ["own"; 4]),
    ];
    for (who, expected) in rows {
        for ((dm_policy, pairing), expected) in columns.iter().zip(expected) {
            let mut account = account();
            account.dm_policy = *dm_policy;
            account.pairing = *pairing;
            account.allowlist = vec!["*@listed.org".into()];
            account.operators = vec!["owner@a.org".into()];
            let rules = Rules {
                account: &account,
                approvals: &approvals(),
                now: NOW,
            };
            let place = Place::Direct(jid(who));
            let decision = decide(rules, &place, &sender(who, Some(who)));
            let name = format!("{who} under {dm_policy:?}, pairing {pairing}");
            assert_eq!(letter(decision), expected, "{name}");
            assert_eq!(decision, direct(rules, &jid(who)), "{name}: subscription");
        }
    }
}

#[test]
fn an_empty_allowlist_admits_nobody() {
    let mut account = account();
    account.dm_policy = Policy::Allowlist;
    account.group_policy = Policy::Allowlist;
    account.pairing = false;
    let rules = Rules {
        account: &account,
        approvals: &Approvals::default(),
        now: NOW,
    };
    assert_eq!(
        direct(rules, &jid("a@b.c")),
        Decision::Ignore(Reason::NotListed)
    );
    let room = Place::Room(jid("room@rooms.org"));
    assert_eq!(
        decide(rules, &room, &sender("room@rooms.org/nick", Some("a@b.c"))),
        Decision::Ignore(Reason::RoomNotListed)
    );
}

/// A room table with these users.
fn room(enabled: bool, users: Option<&[&str]>) -> Room {
    Room {
        enabled,
        require_mention: None,
        system_prompt: String::new(),
        skills: Vec::new(),
        users: users.map(|users| users.iter().map(|&user| user.into()).collect()),
        password: None,
        model: String::new(),
        model_provider: String::new(),
    }
}

#[test]
fn rooms_follow_group_policy_their_table_and_real_jids() {
    let columns = [Policy::Open, Policy::Allowlist, Policy::Disabled];
    let rows = [
        ("any@rooms.org", "/x", None, ["yes", "no", "off"]),
        ("listed@rooms.org", "/x", None, ["yes", "yes", "off"]),
        ("approved@rooms.org", "/x", None, ["yes", "yes", "off"]),
        ("blocked@rooms.org", "/x", None, ["blocked"; 3]),
        ("off@rooms.org", "/x", None, ["room off"; 3]),
        ("listed@rooms.org", "", None, ["itself", "itself", "off"]),
        (
            "listed@rooms.org",
            "/x",
            Some("blocked@a.org"),
            ["blocked", "blocked", "off"],
        ),
        (
            "listed@rooms.org",
            "/x",
            Some("owner@a.org"),
            ["yes", "yes", "off"],
        ),
        (
            "users@rooms.org",
            "/x",
            Some("user@a.org"),
            ["yes", "yes", "off"],
        ),
        (
            "users@rooms.org",
            "/x",
            Some("other@a.org"),
            ["not user", "not user", "off"],
        ),
        // The nick and the room JID say nothing of who it is.
        (
            "users@rooms.org",
            "/user@a.org",
            None,
            ["hidden", "hidden", "off"],
        ),
        (
            "nobody@rooms.org",
            "/x",
            Some("user@a.org"),
            ["not user", "not user", "off"],
        ),
        ("nobody@rooms.org", "/x", None, ["hidden", "hidden", "off"]),
    ];
    for (place, nick, real, expected) in rows {
        for (group_policy, expected) in columns.into_iter().zip(expected) {
            let mut account = account();
            account.group_policy = group_policy;
            account.group_allowlist = ["listed@rooms.org", "users@rooms.org", "nobody@rooms.org"]
                .map(Into::into)
                .to_vec();
            account.operators = vec!["owner@a.org".into()];
            account.muc_rooms = BTreeMap::from([
                (jid("off@rooms.org"), room(false, None)),
                (jid("users@rooms.org"), room(true, Some(&["user@a.org"]))),
                (jid("nobody@rooms.org"), room(true, Some(&[]))),
            ]);
            let rules = Rules {
                account: &account,
                approvals: &approvals(),
                now: NOW,
            };
            let name = format!("{place}{nick} as {real:?} under {group_policy:?}");
            let from = sender(&format!("{place}{nick}"), real);
            let decision = decide(rules, &Place::Room(jid(place)), &from);
            // An operator has no privileges in a room, so that "operator" appears nowhere above.
            assert_eq!(letter(decision), expected, "{name}");
        }
    }
}

#[test]
fn private_messages_follow_the_room_and_the_direct_lists() {
    use Policy::{Allowlist, Disabled, Open};
    struct Row {
        name: &'static str,
        dm: Policy,
        group: Policy,
        room: &'static str,
        real: Option<&'static str>,
        expected: &'static str,
    }
    let row = |name, dm, group, room, real, expected| Row {
        name,
        dm,
        group,
        room,
        real,
        expected,
    };
    let rows = [
        row(
            "an open room",
            Allowlist,
            Open,
            "any@rooms.org",
            None,
            "yes",
        ),
        row(
            "a closed room",
            Allowlist,
            Allowlist,
            "any@rooms.org",
            None,
            "no",
        ),
        row(
            "a closed room, dm open",
            Open,
            Allowlist,
            "any@rooms.org",
            None,
            "no",
        ),
        row(
            "known and listed",
            Allowlist,
            Disabled,
            "any@rooms.org",
            Some("x@listed.org"),
            "yes",
        ),
        row(
            "known and a guest",
            Allowlist,
            Disabled,
            "any@rooms.org",
            Some("guest@a.org"),
            "guest",
        ),
        row(
            "known, dm open",
            Open,
            Disabled,
            "any@rooms.org",
            Some("x@a.org"),
            "yes",
        ),
        row(
            "known, never asks",
            Allowlist,
            Disabled,
            "any@rooms.org",
            Some("x@a.org"),
            "off",
        ),
        row(
            "no user, but listed",
            Allowlist,
            Open,
            "users@rooms.org",
            Some("x@listed.org"),
            "yes",
        ),
        row(
            "no user",
            Allowlist,
            Open,
            "users@rooms.org",
            Some("x@a.org"),
            "not user",
        ),
        row(
            "hidden user",
            Allowlist,
            Open,
            "users@rooms.org",
            None,
            "hidden",
        ),
        row(
            "blocked",
            Open,
            Open,
            "any@rooms.org",
            Some("blocked@a.org"),
            "blocked",
        ),
        row(
            "an operator has no privileges",
            Allowlist,
            Disabled,
            "any@rooms.org",
            Some("owner@a.org"),
            "yes",
        ),
        row("dm off", Disabled, Open, "any@rooms.org", None, "off"),
        row(
            "dm off, listed",
            Disabled,
            Open,
            "any@rooms.org",
            Some("x@listed.org"),
            "off",
        ),
    ];
    for row in rows {
        let mut account = account();
        account.dm_policy = row.dm;
        account.group_policy = row.group;
        account.allowlist = vec!["*@listed.org".into()];
        account.operators = vec!["owner@a.org".into()];
        account.muc_rooms =
            BTreeMap::from([(jid("users@rooms.org"), room(true, Some(&["user@a.org"])))]);
        let rules = Rules {
            account: &account,
            approvals: &approvals(),
            now: NOW,
        };
        let from = format!("{}/nick", row.room);
        let place = Place::RoomPrivate(jid::FullJid::new(&from).unwrap());
        let decision = decide(rules, &place, &sender(&from, row.real));
        assert_eq!(letter(decision), row.expected, "{}", row.name);
    }
}

#[test]
fn invitations_follow_auto_join_invites() {
    let rows = [
        // room, inviter, [always, allowlist, off]
        (
            "any@rooms.org",
            Some("stranger@a.org"),
            ["yes", "no invite", "no invite"],
        ),
        ("any@rooms.org", None, ["yes", "no invite", "no invite"]),
        (
            "any@rooms.org",
            Some("x@listed.org"),
            ["yes", "yes", "no invite"],
        ),
        (
            "any@rooms.org",
            Some("allowed@a.org"),
            ["yes", "yes", "no invite"],
        ),
        (
            "any@rooms.org",
            Some("guest@a.org"),
            ["yes", "no invite", "no invite"],
        ),
        (
            "any@rooms.org",
            Some("claimed@a.org"),
            ["yes", "yes", "no invite"],
        ),
        ("any@rooms.org", Some("blocked@a.org"), ["blocked"; 3]),
        ("listed@rooms.org", None, ["yes", "yes", "no invite"]),
        (
            "known@rooms.org",
            Some("stranger@a.org"),
            ["yes", "yes", "no invite"],
        ),
        ("off@rooms.org", Some("claimed@a.org"), ["room off"; 3]),
        ("blocked@rooms.org", Some("claimed@a.org"), ["blocked"; 3]),
    ];
    for (to, inviter, expected) in rows {
        let columns = [AutoJoin::Always, AutoJoin::Allowlist, AutoJoin::Off];
        for (auto_join, expected) in columns.into_iter().zip(expected) {
            let mut account = account();
            account.dm_policy = Policy::Open;
            account.group_policy = Policy::Open;
            account.auto_join_invites = auto_join;
            account.allowlist = vec!["*@listed.org".into()];
            account.group_allowlist = vec!["listed@rooms.org".into()];
            account.rooms = vec![(jid("known@rooms.org"), None)];
            account.muc_rooms = BTreeMap::from([(jid("off@rooms.org"), room(false, None))]);
            let rules = Rules {
                account: &account,
                approvals: &approvals(),
                now: NOW,
            };
            let outcome = invite(rules, &jid(to), inviter.map(jid).as_ref());
            let decision =
                outcome.map_or_else(Decision::Ignore, |()| Decision::Admit(Standing::default()));
            let name = format!("{to} by {inviter:?} under {auto_join:?}");
            assert_eq!(letter(decision), expected, "{name}");
        }
    }
}

#[test]
fn a_room_that_the_group_policy_refuses_is_not_joined() {
    for group_policy in [Policy::Allowlist, Policy::Disabled] {
        let mut account = account();
        account.group_policy = group_policy;
        account.auto_join_invites = AutoJoin::Always;
        let rules = Rules {
            account: &account,
            approvals: &Approvals::default(),
            now: NOW,
        };
        assert!(invite(rules, &jid("any@rooms.org"), None).is_err());
    }
}

//! The rows, and what is done about a line.

mod played;

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_row_is_complete_and_has_its_own_name() {
    let names: BTreeSet<_> = COMMANDS.iter().map(|command| command.name).collect();
    assert_eq!(names.len(), COMMANDS.len());
    for command in COMMANDS {
        assert_eq!(command.name, command.name.to_lowercase(), "{command:?}");
        assert!(
            !command.help.is_empty() && !command.help.ends_with('.'),
            "{command:?}"
        );
        let (last, others) = match command.arguments.split_last() {
            Some((last, others)) => (Some(last), others),
            None => (None, &[][..]),
        };
        assert!(others.iter().all(|argument| !argument.rest), "{command:?}");
        // What is required comes first.
        let after_optional = command
            .arguments
            .windows(2)
            .any(|pair| !pair[0].required && pair[1].required);
        assert!(!after_optional, "{command:?}");
        assert!(
            last.is_none_or(|last| !last.label.is_empty()),
            "{command:?}"
        );
    }
}

#[test]
fn the_contracts_commands_are_all_there() {
    let everyone = "help new clear sessions title fork stop retry undo compact context model models system skills skill usage \
                    status whoami ping export claim";
    let operators = "allow guest block access join leave rooms say budget reload accounts log adduser deluser \
                     invite announce";
    for (names, who) in [(everyone, Who::Everyone), (operators, Who::Operator)] {
        for name in names.split_whitespace() {
            assert_eq!(find(name).map(|command| command.who), Some(who), "{name}");
        }
    }
    assert_eq!(
        COMMANDS.len(),
        everyone.split_whitespace().count() + operators.split_whitespace().count()
    );
}

#[test]
fn a_line_runs_or_is_answered() {
    let person = Standing::default();
    let operator = Standing {
        operator: true,
        guest: false,
    };
    let rows = [
        ("/ping", person, true, Ok("ping")),
        ("/PING", person, true, Ok("ping")),
        ("/join r@c.org Nick Name", operator, false, Ok("join")),
        (
            "/join",
            operator,
            false,
            Err("Please write `/join room [nick]`"),
        ),
        ("/ping now", person, false, Err("Please write `/ping`")),
        (
            "/allow a@b.c",
            person,
            false,
            Err("`/allow` is for my operators."),
        ),
        (
            "/allow a@b.c",
            person,
            true,
            Err("only in a direct chat with me: xmpp:bot@example.com"),
        ),
        ("/pnig", person, false, Err("did you mean `/ping`?")),
    ];
    let own = BareJid::new("bot@example.com").unwrap();
    for (body, standing, in_room, expected) in rows {
        match (
            decide(&parse(body).unwrap(), standing, in_room, &own),
            expected,
        ) {
            (Decision::Run(command, _), Ok(name)) => assert_eq!(command.name, name, "{body}"),
            (Decision::Say(text), Err(expected)) => {
                assert!(text.contains(expected), "{body}: {text}");
            }
            (decision, _) => panic!("{body}: {decision:?}"),
        }
    }
}

#[test]
fn arguments_keep_their_case() {
    let own = BareJid::new("bot@example.com").unwrap();
    let line = parse("/MODEL GPT-4o Mini").unwrap();
    let Decision::Run(_, arguments) = decide(&line, Standing::default(), true, &own) else {
        panic!("A command");
    };
    assert_eq!(arguments.get("name"), Some("GPT-4o Mini"));
}

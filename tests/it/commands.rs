//! Commands of a program that uses the library.

use moltis::gateway::Standing;
use moltis::gateway::command::{Answer, Command, Who, adhoc, extend, find};

static OWN: [Command; 2] = [command("dice"), command("help")];

const fn command(name: &'static str) -> Command {
    Command {
        name,
        arguments: &[],
        help: "throw a die",
        who: Who::Everyone,
        run: |_| Box::pin(async { Ok(Answer::from("6")) }),
    }
}

#[test]
fn a_programs_own_commands_are_listed_and_replace_none_of_ours() {
    extend(&OWN);
    assert_eq!(
        find("dice").map(|command| command.help),
        Some("throw a die")
    );
    assert_eq!(
        find("help").map(|command| command.help),
        Some("what there is")
    );
    let list = adhoc::list(&"bot@example.com".parse().unwrap(), Standing::default());
    let nodes: Vec<_> = list
        .children()
        .filter_map(|item| item.attr("node"))
        .collect();
    let count = |name| nodes.iter().filter(|node| **node == name).count();
    assert_eq!((count("dice"), count("help")), (1, 1));
}

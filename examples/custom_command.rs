//! moltis with a command of one's own, `/dice [sides]`: in `/help`, in clients' menus (XEP-0050), with its arguments checked.
//! `cargo run --example custom_command -- --config moltis.toml`; all else is as in moltis itself.

use std::process::ExitCode;

use anyhow::Result;
use moltis::gateway::command::{self, Answer, Argument, Command, Context, Who};

static COMMANDS: [Command; 1] = [Command {
    name: "dice",
    arguments: &[Argument {
        name: "sides",
        label: "How many sides the die has, usually 6",
        required: false,
        rest: false,
    }],
    help: "throw a die",
    who: Who::Everyone,
    run: |context| Box::pin(dice(context)),
}];

fn main() -> ExitCode {
    command::extend(&COMMANDS);
    moltis::cli::main()
}

/// An error would go to the log, and the person would be told where to look; what the person can mend is an answer.
async fn dice(context: Context) -> Result<Answer> {
    let sides = context.argument("sides").unwrap_or("6");
    Ok(match sides.parse::<u32>() {
        Ok(sides @ 2..) => {
            format!("{} shows {}.", context.inbound.sender.name(), throw(sides)).into()
        }
        _ => "A die has two sides or more.".into(),
    })
}

fn throw(sides: u32) -> u32 {
    rand::random_range(1..=sides)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_side_comes_up_and_no_other() {
        let mut seen: Vec<u32> = (0..1_000).map(|_| throw(6)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
    }
}

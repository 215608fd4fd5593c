//! The `moltis` binary. Everything is in the library; see `moltis::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Reading a PDF is done by this program again; see there.
    if let Some(code) = moltis::gateway::media::pdf::child() {
        return code;
    }
    moltis::cli::main()
}

# `just check` is what CI runs.

# Everything, in the order in which faults are cheapest to find
check: format lint test deny spelling

format:
    cargo fmt --check

lint:
    cargo clippy --all-targets --locked -- -D warnings

test:
    cargo test --locked

# Licences, advisories, sources
deny:
    cargo deny check

spelling:
    typos

# Real servers and clients: Prosody, ejabberd, slixmpp
peers *arguments:
    tests/peers/run {{ arguments }}

# Accept changed help, error and configuration texts
snapshots:
    UPDATE_SNAPSHOTS=1 cargo test --locked --test it

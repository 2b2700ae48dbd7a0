#!/bin/bash
# Format, lints, dependencies. `cargo-deny` is built into target/tools when it is not installed.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --all --check
cargo clippy --locked --workspace --all-targets -- -D warnings

tools=${CARGO_TARGET_DIR:-$PWD/target}/tools
PATH=$PATH:$tools/bin
if ! command -v cargo-deny >/dev/null; then
    echo "weft: building cargo-deny (once, a few minutes)"
    cargo install cargo-deny --locked --quiet --root "$tools" --target-dir "$tools/build"
    rm -rf "$tools/build"
fi
cargo deny --log-level warn check bans licenses sources
# The advisory database lives on another host than the crates; not every machine reaches it.
if timeout 60 cargo deny --log-level error fetch db >/dev/null 2>&1; then
    cargo deny --log-level warn check --disable-fetch advisories
else
    echo "weft: the advisory database cannot be reached from here; advisories were not checked"
fi

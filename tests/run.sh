#!/bin/bash
# Runs the tests: `tests/run.sh` what CI runs, `tests/run.sh soak` what takes longer.
# With cargo-nextest when it is installed (namespaces one at a time, the rest in parallel), else with `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:-test}

if [ "$(id -u)" != 0 ]; then
    echo "weft: the tests make network namespaces and need root" >&2
    exit 1
fi

# The scenarios start the real binary; cargo would not build it for a package that only depends on its library.
cargo build --locked --workspace --bins

if cargo nextest --version >/dev/null 2>&1; then
    ignored=(); [ "$kind" = soak ] && ignored=(--run-ignored only)
    cargo nextest run --locked --workspace --no-fail-fast "${ignored[@]}"
else
    ignored=(); [ "$kind" = soak ] && ignored=(--ignored)
    cargo test --locked --workspace --exclude weft-tests --lib --bins --tests --no-fail-fast -- "${ignored[@]}"
    # Namespaces, timings: one at a time.
    cargo test --locked -p weft-tests --no-fail-fast -- --test-threads=1 "${ignored[@]}"
fi

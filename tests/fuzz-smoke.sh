#!/bin/bash
# Runs every fuzz target for a short while over its corpus: `tests/fuzz-smoke.sh [seconds each]`.
# Needs cargo-fuzz and a nightly toolchain; builds cargo-fuzz into target/tools when it is not installed.
set -euo pipefail
cd "$(dirname "$0")/fuzz"
seconds=${1:-20}

if ! rustup run nightly rustc --version >/dev/null 2>&1; then
    echo "weft: fuzzing needs a nightly toolchain (rustup toolchain install nightly)" >&2
    exit 1
fi
tools=${CARGO_TARGET_DIR:-$PWD/../../target}/tools
PATH=$PATH:$tools/bin
if ! command -v cargo-fuzz >/dev/null; then
    echo "weft: building cargo-fuzz (once)"
    cargo install cargo-fuzz --locked --quiet --root "$tools" --target-dir "$tools/build"
    rm -rf "$tools/build"
fi
targets=$(cargo +nightly fuzz list --fuzz-dir .)
for target in $targets; do
    echo "weft: $target, $seconds s"
    cargo +nightly fuzz run --fuzz-dir . "$target" -- -max_total_time="$seconds" -timeout=5 -rss_limit_mb=2048 \
        -print_final_stats=0 >"${TMPDIR:-/tmp}/weft-fuzz-$target.log" 2>&1 || {
        tail -40 "${TMPDIR:-/tmp}/weft-fuzz-$target.log" >&2
        exit 1
    }
    rm -f "${TMPDIR:-/tmp}/weft-fuzz-$target.log"
done

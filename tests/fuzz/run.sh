#!/bin/bash
# Fuzzes every parser for a while: `tests/fuzz/run.sh [SECONDS_PER_TARGET] [TARGET]...`
#
# Needs nothing but the stable toolchain and a C++ compiler (libFuzzer is built from its crate): the coverage
# instrumentation is asked for by flags that stable rustc has. What libFuzzer invents stays in the target folder; the
# corpus in the repository is only read. An input that crashes a parser is left in tests/fuzz/artifacts/TARGET/; once
# understood, it goes to tests/fuzz/corpus/TARGET/ under a telling name, where `cargo test -p lisp --test corpus`
# keeps it for good.
set -euo pipefail

cd "$(dirname "$0")"
seconds=${1:-20}
shift || true

command -v c++ >/dev/null || { echo "fuzz: no C++ compiler (Debian: apt-get install g++)" >&2; exit 1; }

# The flags are for the target only, so that build scripts and macros are left as they are: hence --target.
triple=$(rustc -vV | sed -n 's/^host: //p')
build=${WEFT_FUZZ_TARGET_DIR:-$PWD/target}
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTFLAGS=$(echo $RUSTFLAGS) CARGO_TARGET_DIR=$build cargo build --quiet --release --target "$triple" --bins

[ $# -gt 0 ] || set -- $(cd fuzz_targets && ls | sed 's/\.rs$//')
failed=()
for target in "$@"; do
    mkdir -p "$build/corpus/$target" "artifacts/$target"
    log=$build/$target.log
    if "$build/$triple/release/$target" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -max_len=4096 \
        -print_final_stats=1 -artifact_prefix="artifacts/$target/" \
        "$build/corpus/$target" "corpus/$target" >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        covered=$(grep -o 'cov: [0-9]*' "$log" | tail -1)
        echo "fuzz: $target ok, $runs inputs, $covered"
    else
        echo "fuzz: $target FAILED" >&2
        tail -40 "$log" >&2
        failed+=("$target")
    fi
done
rmdir artifacts/* artifacts 2>/dev/null || true
[ ${#failed[@]} -eq 0 ] || { echo "fuzz: failed: ${failed[*]}" >&2; exit 1; }

#!/bin/bash
# Checks the models of the handshake: `docs/mesh-security/verify.sh [build]`, or `make verify-protocol`.
#
# Every query of mesh.vp and mesh-insider.vp must hold, the search exhausted. Then the check is checked: two variants with
# a known hole must be broken. The checker is Verifpal, a tool and never a dependency (it is GPL), built into target/tools
# when it is not there; `build` does only that.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."

version=1.5.0
tools=${CARGO_TARGET_DIR:-$PWD/target}/tools
verifpal=$tools/bin/verifpal
is_right() { "$1" --version 2>/dev/null | grep -qwF "$version"; }
if ! is_right "$verifpal"; then
    if is_right "$(command -v verifpal || echo false)"; then
        verifpal=$(command -v verifpal)
    else
        echo "weft: building verifpal $version (once, a few minutes)"
        cargo install verifpal --version "$version" --locked --ignore-rust-version --no-default-features --features cli \
            --quiet --force --root "$tools" --target-dir "$tools/build-verifpal"
        rm -rf "$tools/build-verifpal"
    fi
fi
[ "${1:-}" != build ] || exit 0

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() {
    cat "$scratch/log" >&2
    echo "weft: $1" >&2
    exit 1
}
# Exit status of the checker: 0 all queries hold, 2 an attack was found, 1 the model could not be checked.
check() {
    local status=0
    "$verifpal" verify --fail-on-attack --quiet --color never "$@" >"$scratch/log" 2>&1 || status=$?
    return "$status"
}

# MODEL QUERIES: as many queries must hold, none of them because the search was cut short.
holds() {
    check "$here/$1" || fail "$1 does not hold"
    local passed
    passed=$(grep -c 'PASS.*\[search exhausted' "$scratch/log" || true)
    [ "$passed" = "$2" ] || fail "$1: $passed of $2 queries hold with the search exhausted"
    echo "weft: $1 holds, $2 queries"
}

# NAME EDIT WHY: mesh.vp after EDIT (of sed) must be broken.
is_broken() {
    local variant=$scratch/$1.vp status=0
    sed -E "$2" "$here/mesh.vp" >"$variant"
    ! cmp -s "$variant" "$here/mesh.vp" || fail "the variant \"$1\" changes nothing in mesh.vp"
    check --sessions 1 "$variant" || status=$?
    [ "$status" = 2 ] || fail "no attack was found (status $status) on a variant that has one: $3"
    echo "weft: an attack is found, as it must be, when $3"
}

holds mesh.vp 6
holds mesh-insider.vp 5
is_broken without-dh 's/HASH\(nonce, gx, itr_eid/HASH(nonce, itr_eid/' \
    'the Map-Request is signed without its X25519 value'
is_broken without-hash '/ASSERT\(HASH\(/d' \
    'the hash of the EID key is not recomputed'

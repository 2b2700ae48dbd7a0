#!/bin/bash
# Installs what Weft needs to be built, shown (`demo`) or tested (`test`) on Debian 12 or a relative of it.
# Does nothing, and quickly, when everything is there. One run at a time on a machine; apt gets a folder of its own for
# temporary files, because it drops privileges and cannot always use the caller's.
#
#   tests/setup.sh build|demo|test
set -euo pipefail

build=(cc:gcc c++:g++ ld:binutils make:make)
demo=(ip:iproute2 ping:iputils-ping iperf3:iperf3 dhclient:isc-dhcp-client sysctl:procps setpriv:util-linux
      mount:mount flock:util-linux)
test=(tcpdump:tcpdump tshark:tshark ethtool:ethtool rdisc6:ndisc6 nft:nftables dig:dnsutils socat:socat curl:curl
      capsh:libcap2-bin)
# Of Python: modules.
test_modules=(cryptography:python3-cryptography)
modules=()

case ${1:-} in
build) wanted=("${build[@]}") ;;
demo) wanted=("${build[@]}" "${demo[@]}") ;;
test) wanted=("${build[@]}" "${demo[@]}" "${test[@]}"); modules=("${test_modules[@]}") ;;
*) echo "usage: tests/setup.sh build|demo|test" >&2; exit 2 ;;
esac

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
missing() {
    local pair
    for pair in "${wanted[@]}"; do
        command -v "${pair%%:*}" >/dev/null || echo "${pair#*:}"
    done
    for pair in "${modules[@]}"; do
        # Debian's Python has Debian's modules; another one before it in the path may have its own.
        python3 -c "import ${pair%%:*}" 2>/dev/null || /usr/bin/python3 -c "import ${pair%%:*}" 2>/dev/null ||
            echo "${pair#*:}"
    done
    # A compiler without the C library's headers links nothing.
    [ -e /usr/include/stdio.h ] || echo libc6-dev
}

if ! command -v cargo >/dev/null; then
    echo "weft: cargo is not installed; Weft needs Rust 1.91 or newer, for instance by rustup (https://rustup.rs)" >&2
    exit 1
fi

packages=$(missing | sort -u | tr '\n' ' ')
[ -n "$packages" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "weft: please install (Debian's names): $packages" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "weft: needs root to install: $packages" >&2
    echo "      sudo apt-get install --no-install-recommends $packages" >&2
    exit 1
fi

echo "weft: installing $packages"
exec 9>/var/lock/weft-setup.lock
flock 9
packages=$(missing | sort -u | tr '\n' ' ')
[ -n "$packages" ] || exit 0
TMPDIR=$(mktemp -d)
export TMPDIR DEBIAN_FRONTEND=noninteractive
chmod 1777 "$TMPDIR"
trap 'rm -rf "$TMPDIR"' EXIT
apt=(apt-get -q -y -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3)
"${apt[@]}" update >"$TMPDIR/log" 2>&1 || { cat "$TMPDIR/log" >&2; exit 1; }
# shellcheck disable=SC2086 # a list of words
"${apt[@]}" install --no-install-recommends $packages >"$TMPDIR/log" 2>&1 || { tail -30 "$TMPDIR/log" >&2; exit 1; }
packages=$(missing | sort -u | tr '\n' ' ')
[ -z "$packages" ] || { echo "weft: still missing after the installation: $packages" >&2; exit 1; }

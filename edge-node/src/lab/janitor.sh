# Ends and removes everything that begins with a lab's prefix, once standard input closes.
# $1: prefix of the lab's namespaces, also the value of WEFT_LAB in its processes; $2: its folder.
trap '' HUP INT QUIT TERM
PATH=$PATH:/usr/sbin:/sbin
cat >/dev/null

namespaces() { for n in /run/netns/"$1"*; do [ -e "$n" ] && echo "${n##*/}"; done; }
# Processes inside the lab's namespaces, and those that left them but still carry its mark. Never its maker.
processes() {
    { for n in $(namespaces "$1"); do ip netns pids "$n" 2>/dev/null; done
      grep -lzsxF "WEFT_LAB=$1" /proc/[0-9]*/environ | cut -d/ -f3
    } | grep -vx -e "$$" -e "$PPID"
}
send() { for p in $(processes "$2"); do kill "-$1" "$p" 2>/dev/null; done; }

send TERM "$1"
tries=0
while [ -n "$(processes "$1")" ]; do
    tries=$((tries + 1))
    [ $tries -le 40 ] || send KILL "$1"
    [ $tries -le 140 ] || break
    sleep 0.05
done
for n in $(namespaces "$1"); do ip netns del "$n"; done
rm -rf -- "$2"

#!/bin/sh
# What a guest's dhclient does with a lease: the address, the routes, the MTU and resolv.conf of its own namespace.
# The distribution's script is not used because it writes to the host.
resolv() {
    { for d in $new_domain_search$new_dhcp6_domain_search; do echo "search ${d%.}"; done
      for s in $new_domain_name_servers $new_dhcp6_name_servers; do echo "nameserver $s"; done
    } >"$WEFT_LAB_RESOLV.$1"
    cat "$WEFT_LAB_RESOLV".[46] >"$WEFT_LAB_RESOLV" 2>/dev/null
}
case $reason in
BOUND | RENEW | REBIND | REBOOT)
    ip -4 address replace "$new_ip_address/$new_subnet_mask" dev "$interface"
    [ -z "$new_interface_mtu" ] || ip link set "$interface" mtu "$new_interface_mtu"
    for r in $new_routers; do ip -4 route replace default via "$r" dev "$interface"; done
    resolv 4
    ;;
BOUND6 | RENEW6 | REBIND6)
    ip -6 address replace "$new_ip6_address/${new_ip6_prefixlen:-128}" dev "$interface" nodad
    resolv 6
    ;;
esac
exit 0

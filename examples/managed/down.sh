#!/bin/sh
# Takes away what up.sh made, also when that stopped half way.
set -u
vnet_ctl=${VNET_CTL:-vnet-ctl}
run=/run/vnet-managed

for pid in "$run"/*.pid; do
    [ -e "$pid" ] && kill "$(cat "$pid")" 2>/dev/null
done
for host in controller node-1 node-2; do
    [ -d "/sys/fs/bpf/managed-$host" ] || continue
    # The daemon ends within moments.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        nsenter "--net=/run/netns/managed-$host" "$vnet_ctl" --policy "$run/$host/policy.toml" --socket "$run/$host/vnet.sock" \
            teardown --state-dir "$run/$host/state" --bpffs "/sys/fs/bpf/managed-$host" >"$run/teardown.log" 2>&1 && break
        sleep 0.5
    done
    rmdir "/sys/fs/bpf/managed-$host" || cat "$run/teardown.log" >&2
done
for host in outside switch controller node-1 node-2; do
    [ -e "/run/netns/managed-$host" ] && ip netns delete "managed-$host"
done
rm -rf "$run"

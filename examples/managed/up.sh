#!/bin/sh
# Makes the cloud of this folder out of namespaces of one machine, and starts vnet on each of its hosts. Needs root,
# iproute2 and python3. VNET_CTL names the program if it is not on PATH. `down.sh` takes all of it away.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
vnet_ctl=${VNET_CTL:-vnet-ctl}
run=/run/vnet-managed

on() { host=$1; shift; nsenter "--net=/run/netns/managed-$host" "$@"; }
# A cable between two hosts: HOST DEVICE HOST DEVICE.
cable() {
    ip link add "$2" netns "managed-$1" type veth peer name "$4" netns "managed-$3"
    on "$1" ip link set "$2" up
    on "$3" ip link set "$4" up
}

mkdir "$run"
for host in outside switch controller node-1 node-2; do
    ip netns add "managed-$host"
    on "$host" ip link set lo up
done

# The switch passes tags as they are.
on switch ip link add lan type bridge
on switch ip link set lan up
cable controller eth1 switch controller
cable node-1 eth0 switch node-1
cable node-2 eth0 switch node-2
for port in controller node-1 node-2; do on switch ip link set "$port" master lan; done

# The controller's way outside. Who is there has a web server.
cable controller eth0 outside eth0
on controller ip address add 198.51.100.1/24 dev eth0
on controller ip route add default via 198.51.100.254
on outside ip address add 198.51.100.254/24 dev eth0

for host in controller node-1 node-2; do
    # `sg add` edits the policy file: this folder keeps its own.
    mkdir "$run/$host" "/sys/fs/bpf/managed-$host"
    cp "$here/$host.toml" "$run/$host/policy.toml"
    nsenter "--net=/run/netns/managed-$host" "$vnet_ctl" --policy "$run/$host/policy.toml" --socket "$run/$host/vnet.sock" \
        run --state-dir "$run/$host/state" --bpffs "/sys/fs/bpf/managed-$host" >"$run/$host/log" 2>&1 &
    echo $! >"$run/$host.pid"
done
nsenter --net=/run/netns/managed-controller python3 "$here/metadata.py" 8775 >"$run/metadata.log" 2>&1 &
echo $! >"$run/metadata.pid"
nsenter --net=/run/netns/managed-outside python3 "$here/metadata.py" 80 >"$run/outside.log" 2>&1 &
echo $! >"$run/outside.pid"

for host in controller node-1 node-2; do
    tries=0
    until on "$host" "$vnet_ctl" --socket "$run/$host/vnet.sock" status >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -gt 100 ]; then
            cat "$run/$host/log" >&2
            echo "vnet does not answer on $host" >&2
            exit 1
        fi
        sleep 0.2
    done
done
echo "ready"

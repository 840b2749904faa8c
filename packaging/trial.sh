#!/bin/sh
# Tries the package from its installation to its purge. Run by `cargo xtask package --trial` inside a container
# that systemd has booted; the package is /root/vnet.deb. Ends at the first thing that is not as it should be.
set -eu
export DEBIAN_FRONTEND=noninteractive

step() { echo "trial: $*"; }
fail() {
    echo "trial failed: $*" >&2
    systemctl status --no-pager --full vnet.service >&2 || true
    journalctl --no-pager --unit vnet.service --lines 50 >&2 || true
    exit 1
}
# Waits until a command succeeds, for 20 seconds.
until_true() {
    for _ in $(seq 100); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.2
    done
    fail "never true: $*"
}
ping_ok() { ip netns exec trial-a ping -q -c 2 -i 0.2 -W 2 10.77.0.2 >/dev/null || fail "trial-a does not reach trial-b: $1"; }
pid() { systemctl show --property MainPID --value vnet.service; }

step "a machine without vnet"
ip -o link >/root/links-before
find /etc /usr /var/lib -xdev 2>/dev/null | grep vnet >/root/files-before || true

step "installs and starts"
dpkg --install /root/vnet.deb >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; fail "dpkg --install"; }
systemctl is-active --quiet vnet.service || fail "it does not run"
systemctl is-enabled --quiet vnet.service || fail "it would not start at boot"
[ "$(systemctl show --property StatusText --value vnet.service)" != "" ] || fail "it tells no status"
vnet-ctl status >/dev/null || fail "it does not answer"
[ "$(stat -c '%U:%G %a' /run/vnet/vnet.sock)" = "root:vnet 660" ] || fail "socket $(stat -c '%U:%G %a' /run/vnet/vnet.sock)"
for file in bash-completion/completions/vnet-ctl zsh/vendor-completions/_vnet-ctl fish/vendor_completions.d/vnet-ctl.fish \
    vnet/policy.schema.json; do
    [ -s "/usr/share/$file" ] || fail "no /usr/share/$file"
done
systemd-analyze verify --man=no /usr/lib/systemd/system/vnet.service 2>/root/verify || { cat /root/verify; fail "systemd-analyze verify"; }

step "a policy with two workloads, made by the service as confined as it is"
cat >/etc/vnet/policy.toml <<'POLICY'
version = 1
[networks.trial]
type = "private"
subnets = ["10.77.0.0/24"]
[security_groups.ping]
ingress = [{ protocol = "icmp", icmp_type = 8, from = ["any"] }]
[ports.a]
network = "trial"
addresses = ["10.77.0.3"]
attach = { netns = "trial-a", create = true }
[ports.b]
network = "trial"
addresses = ["10.77.0.2"]
security_groups = ["ping"]
attach = { netns = "trial-b", create = true }
POLICY
systemctl reload vnet.service || fail "systemctl reload"
ip netns list | grep -q trial-a || fail "the host does not see the namespace"
ping_ok "after the reload"

step "a broken policy fails the reload and changes nothing"
cp /etc/vnet/policy.toml /root/policy.toml
echo 'nonsense = 1' >>/etc/vnet/policy.toml
if systemctl reload vnet.service 2>/dev/null; then fail "it was taken"; fi
ping_ok "after a broken reload"
cp /root/policy.toml /etc/vnet/policy.toml

step "members of the group may use it, others may not"
useradd --no-create-home --groups vnet member
useradd --no-create-home stranger
setpriv --reuid member --regid member --init-groups vnet-ctl status >/dev/null || fail "a member is refused"
if setpriv --reuid stranger --regid stranger --init-groups vnet-ctl status >/dev/null 2>&1; then fail "a stranger gets in"; fi

step "a crash is made good"
before=$(pid)
kill -KILL "$before"
until_true sh -c "[ \$(systemctl show --property MainPID --value vnet.service) -gt 1 ] && [ \$(systemctl show --property MainPID --value vnet.service) != $before ] && vnet-ctl status"
ping_ok "after a crash"

step "an upgrade restarts it without a lost packet"
before=$(pid)
ip netns exec trial-a ping -q -c 100 -i 0.05 -W 2 10.77.0.2 >/root/ping &
ping=$!
dpkg --install /root/vnet.deb >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; fail "dpkg --install again"; }
[ "$(pid)" != "$before" ] || fail "the old program still runs"
until_true vnet-ctl status
wait "$ping" || true
grep -q ' 0% packet loss' /root/ping || fail "$(cat /root/ping)"
cmp -s /root/policy.toml /etc/vnet/policy.toml || fail "the upgrade changed the policy"

step "is pinged by its watchdog"
sleep 1
[ "$(systemctl show --property WatchdogUSec --value vnet.service)" = 1min ] || fail "no watchdog"
[ "$(systemctl show --property WatchdogTimestampMonotonic --value vnet.service)" -gt 0 ] || fail "no ping"

step "is removed with everything that it made"
dpkg --remove vnet >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; fail "dpkg --remove"; }
systemctl is-active --quiet vnet.service && fail "it still runs"
ip -o link >/root/links-after
cmp -s /root/links-before /root/links-after || fail "links are left: $(cat /root/links-after)"
[ -z "$(ip netns list)" ] || fail "namespaces are left: $(ip netns list)"
[ ! -e /sys/fs/bpf/vnet ] || fail "pins are left: $(find /sys/fs/bpf/vnet)"
[ -s /etc/vnet/policy.toml ] || fail "the policy is gone before a purge"

step "is purged without a trace"
dpkg --purge vnet >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; fail "dpkg --purge"; }
find /etc /usr /var/lib -xdev 2>/dev/null | grep vnet >/root/files-after || true
cmp -s /root/files-before /root/files-after || fail "files are left: $(cat /root/files-after)"
[ ! -e /run/vnet ] || fail "/run/vnet is left: $(ls -a /run/vnet)"

step "passed"

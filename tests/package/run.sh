#!/usr/bin/env bash
# Builds the package and tries it in a clean root of its own, with systemd as its first process: install, use, kill, upgrade,
# reload, remove, purge. Needs root, debootstrap, and cargo-deb. The binary is the debug one that the tests use.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
[ "$(id -u)" = 0 ] || { echo "this needs root: it makes a root of its own and starts systemd there" >&2; exit 2; }
export DEBIAN_FRONTEND=noninteractive
if ! command -v debootstrap >/dev/null; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
fi
command -v cargo-deb >/dev/null || cargo install --quiet --locked cargo-deb

work=$(mktemp -d /var/tmp/embot-package.XXXXXX)
boot=
finish() {
    # With its first process all of the namespaces ends, mounts included.
    [ -z "$boot" ] || { kill -9 "$boot" 2>/dev/null || true; wait "$boot" 2>/dev/null || true; }
    for _ in $(seq 100); do
        rm -rf --one-file-system "$work" 2>/dev/null && break
        sleep 0.1
    done
}
trap finish EXIT
passed=0
ok() { passed=$((passed + 1)); echo "ok $passed $1"; }
no() {
    echo "FAILED: $1" >&2
    [ -z "${first:-}" ] || { inside systemctl status --no-pager embot || true; inside journalctl --no-pager -u embot -n 40 || true; } >&2
    exit 1
}
# Runs a command in the root.
inside() { nsenter -t "$first" -m -u -i -n -p -C -r -w env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive "$@"; }
# Waits until a command in the root succeeds.
until_so() {
    local what=$1
    shift
    for _ in $(seq 300); do
        if "$@" >/dev/null 2>&1; then ok "$what"; return; fi
        sleep 0.1
    done
    "$@" >&2 || true
    no "$what"
}
holds() { local what=$1; shift; "$@" >/dev/null 2>"$work/said" || { cat "$work/said" >&2; no "$what"; }; ok "$what"; }
fails() { local what=$1; shift; if "$@" >/dev/null 2>&1; then no "$what"; fi; ok "$what"; }
says() { local text=$1; shift; inside "$@" 2>&1 | grep -q -e "$text"; }
pid() { inside systemctl show -p MainPID --value embot; }

echo "building the package" >&2
cargo build --quiet
mkdir -p "$work/target/release"
cp target/debug/embot "$work/target/release/embot"
strip "$work/target/release/embot"
debian/generate "$work/target/release"
version=$(cargo metadata --no-deps --format-version 1 | sed -E 's/.*"name":"embot","version":"([^"]*)".*/\1/')
for revision in 1 2; do
    CARGO_TARGET_DIR=$work/target cargo deb --quiet --no-build --no-strip --fast --deb-version "$version-$revision" -o "$work/$revision.deb" >/dev/null
done

echo "making a clean root" >&2
. /etc/os-release
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
root=$work/root
debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,libvirt0,man-db,procps "$VERSION_CODENAME" "$root" "$mirror" >"$work/debootstrap.log" 2>&1 \
    || { tail -n 20 "$work/debootstrap.log" >&2; no "a clean root"; }
cp "$work"/[12].deb "$root/root/"
unshare --pid --mount --ipc --uts --net --cgroup --fork --kill-child "$here/boot.sh" "$root" >"$work/boot.log" 2>&1 &
boot=$!
first=
for _ in $(seq 100); do
    first=$(pgrep -P "$boot" || true)
    [ -n "$first" ] && [ "$(cat "/proc/$first/comm")" = systemd ] && break
    sleep 0.1
done
[ -n "$first" ] || { cat "$work/boot.log" >&2; no "systemd starts"; }
until_so "systemd is up" inside sh -c 'case $(systemctl is-system-running) in running|degraded) ;; *) exit 1 ;; esac'

holds "the package installs" inside dpkg -i /root/1.deb
until_so "the service is up" inside systemctl is-active embot
until_so "it answers without --config, and says that libvirt is absent" says '0 of 1 answer' embot status
holds "it runs as its own user" inside sh -c '[ "$(ps -o user= -p $(systemctl show -p MainPID --value embot))" = embot ]'
holds "its user may reach libvirt" inside sh -c 'id -nG embot | grep -qw libvirt'
holds "the shipped modules are in force" says 'restart-crashed *[0-9.]* *advise' embot modules
fails "nothing acts by itself" says ' act  ' embot modules
holds "there is a manual" says 'autonomic manager' man embot
holds "each command has its page" inside man -w embot-run
holds "completions are there" inside sh -c 'bash -n /usr/share/bash-completion/completions/embot && ls /usr/share/zsh/vendor-completions/_embot /usr/share/fish/vendor_completions.d/embot.fish'
holds "the journal has entries with their level, without time" inside sh -c 'journalctl -u embot -o json | grep "\"PRIORITY\":\"6\"" | grep -q "is in force" && ! journalctl -u embot -o cat | grep -q "^20[0-9][0-9]-"'
holds "nobody else reads its store" inside sh -c '[ "$(stat -c %a /var/lib/embot)" = 700 ]'
exposure=$(inside systemd-analyze security embot --no-pager 2>/dev/null | tail -n 1 || true)
echo "# $exposure"
holds "it is sandboxed" inside systemd-analyze security embot --no-pager --threshold=30

# A fleet that outlives the daemon in place of libvirt.
inside systemd-run --quiet --unit fleet -p User=embot -p RuntimeDirectory=fleet embot hypervisor --listen unix:/run/fleet/fleet.sock --fleet demo
until_so "a simulated fleet is there" inside test -S /run/fleet/fleet.sock
cat >"$work/plane.yaml" <<'CONFIG'
plane: local
poll: 200ms
hosts:
  - { name: north-1, uri: "simulated:unix:/run/fleet/fleet.sock" }
  - { name: north-2, uri: "simulated:unix:/run/fleet/fleet.sock" }
modules: modules
policies: policies
store: /var/lib/embot/embot.redb
socket: /run/embot/embot.sock
CONFIG
configure() { inside tee /etc/embot/plane.yaml <"$work/plane.yaml" >/dev/null; }
configure
holds "a reload names what needs a restart" says 'only after a restart:.*hosts' embot reload
holds "the service restarts" inside systemctl restart embot
until_so "the hosts answer" says '2 of 2 answer' embot status
guest=$(inside embot --output json elements --kind vm | grep -o '"name": "[^"]*"' | head -n 1 | cut -d'"' -f4)
until_so "a guest is managed" inside embot manage "$guest" --mode advise
holds "a module may act" inside embot modules mode restart-crashed act
kept() {
    until_so "$1: it answers" says '2 of 2 answer' embot status
    holds "$1: the module's mode stands" says 'restart-crashed *[0-9.]* *act' embot modules
    holds "$1: the guest is managed" says 'advise' embot elements "$guest"
}
kept "before"

old=$(pid)
inside kill -9 "$old"
until_so "it is started anew after kill -9" inside sh -c "new=\$(systemctl show -p MainPID --value embot); [ \$new != 0 ] && [ \$new != $old ] && systemctl is-active embot"
kept "after kill -9"

old=$(pid)
holds "it is upgraded" inside dpkg -i --force-confold /root/2.deb
holds "the new version is there" says "Version: $version-2" dpkg -s embot
until_so "the new one runs" inside sh -c "new=\$(systemctl show -p MainPID --value embot); [ \$new != 0 ] && [ \$new != $old ] && systemctl is-active embot"
kept "after the upgrade"
holds "the configuration is the admin's" says 'fleet.sock' cat /etc/embot/plane.yaml

echo 'guardrails: { cooldown: 1m }' >>"$work/plane.yaml"
configure
old=$(pid)
holds "systemctl reload" inside systemctl reload embot
holds "what changed is in force" says 'guardrails.cooldown (5m -> 1m)' journalctl --no-pager -u embot
echo 'guardrail: 5' >>"$work/plane.yaml"
configure
fails "a broken file fails the reload" inside systemctl reload embot
inside sed -i '$d' /etc/embot/plane.yaml
holds "and changes nothing" inside sh -c "[ \$(systemctl show -p MainPID --value embot) = $old ] && embot status"

# A daemon that no longer answers is started anew.
inside mkdir -p /run/systemd/system/embot.service.d
printf '[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n' | inside tee /run/systemd/system/embot.service.d/test.conf >/dev/null
inside systemctl daemon-reload
holds "with a short watchdog" inside systemctl restart embot
until_so "it beats" says '2 of 2 answer' embot status
old=$(pid)
inside kill -STOP "$old"
until_so "a daemon that hangs is started anew" inside sh -c "new=\$(systemctl show -p MainPID --value embot); [ \$new != 0 ] && [ \$new != $old ] && systemctl is-active embot"
kept "after it hung"

holds "it stops when it is told to" inside systemctl stop embot
holds "and has ended well" says 'Result=success' systemctl show -p Result embot
holds "it is removed" inside dpkg -r embot
fails "no process is left" inside pgrep -u embot -f 'embot run'
fails "no unit is left" inside test -e /lib/systemd/system/embot.service
holds "what it knew is kept" inside test -s /var/lib/embot/embot.redb
holds "it is purged" inside dpkg -P embot
fails "nothing of it is left" inside sh -c 'ls -d /etc/embot /var/lib/embot /usr/bin/embot 2>/dev/null | grep .'
echo "package: $passed passed, 0 failed"

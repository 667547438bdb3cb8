#!/usr/bin/env bash
# Shows embot at work on real libvirt hosts with real guests: `make lab`, or this as root after `cargo build`.
#
# It starts two hosts by lab.sh, four guests on one of them, and a plane with the modules that ship. Then one thing after the
# other goes wrong, and the plane's own words tell what it made of it. In a second part each host belongs to a plane of its own,
# and one shares its load with the other. At the end, also after Ctrl-C or a failure, everything that was started is removed again.

set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly here
readonly binary="${EMBOT:-$here/../../target/debug/embot}"
readonly run="demo-$$"
readonly guests=(web mail db cache)

# ---- telling and waiting ------------------------------------------------------------------------------------------

if [[ -t 1 && -z ${NO_COLOR-} ]]; then bold=$'\e[1m' cyan=$'\e[36m' plain=$'\e[0m'; else bold='' cyan='' plain=''; fi
step() { printf '\n%s== %s ==%s\n' "$bold" "$1" "$plain"; }
say() { printf '%s\n' "$@"; }
fail() { printf '\n%sfailed: %s%s\n' "$bold" "$*" "$plain" >&2; exit 1; }

lab() { "$here/lab.sh" "$1" --name "$run" "${@:2}"; }
embot() { "$binary" --config "$folder/plane.yaml" "$@"; }
# Shows a command and its output; its exit code is no failure here, for a refusal is something to be shown.
show() {
    printf '\n%s$ embot %s%s\n' "$cyan" "$*" "$plain"
    embot "$@" 2>&1 || true
}
# await SECONDS WHAT COMMAND...
await() {
    local deadline=$((SECONDS + $1)) what="$2"
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || fail "gave up waiting for $what"
        [[ -z ${daemon-} ]] || kill -0 "$daemon" 2>/dev/null || fail "the plane ended while waiting for $what"
        sleep 0.2
    done
}

json() { embot --output json "$@"; }
vm() { json elements --kind vm | jq -e --arg name "$1" ".[] | select(.name == \$name) | $2"; }
status() { json status | jq -e "$1"; }
# The latest action on a guest.
latest() { json explain "$1" | jq -e ".latest.action | $2"; }
answers() { status '.starting | not'; }
on_host() { vm "$1" ".host == \"$2\" and .state == \"running\" and .action == null"; }
all_on() { local guest; for guest in "${guests[@]}"; do on_host "$guest" "$1" || return 1; done; }
idle() { status '.open == 0'; }

position() { json events --details --limit 1 | jq -r '.[-1].position'; }
# What the plane says since a position, without what only says that time goes on.
show_since() {
    printf '\n%s$ embot events --since %s%s\n' "$cyan" "$1" "$plain"
    embot events --since "$1" --limit 60
}

# Has a guest counted without a gap? Every boot begins again at 1, and is told.
counted() {
    lab log --vm "$1" | tr -d '\r' | awk -v name="$1" '
        $1 == "count" { if ($2 == 1) boots++; else if ($2 != last + 1) gaps++; last = $2 }
        END { printf "%s: counted to %d, %d gaps, booted %d times\n", name, last, gaps + 0, boots; exit gaps > 0 }'
}

cleanup() {
    local code=$?
    trap - EXIT INT TERM HUP
    [[ -z ${other-} ]] || { kill -KILL "$other"; wait "$other"; } 2>/dev/null || true
    if ((code != 0)) && [[ -n ${daemon-} ]] && kill -0 "$daemon" 2>/dev/null; then
        for words in elements plan "events --limit 40"; do
            # shellcheck disable=SC2086 # words are words
            show $words >&2
        done
    fi
    if ((code != 0)) && [[ -s ${folder-}/log ]]; then
        printf '\nThe plane'\''s log ends with:\n' >&2
        tail -n 20 "$folder/log" >&2
    fi
    [[ -z ${daemon-} ]] || { kill -KILL "$daemon"; wait "$daemon"; } 2>/dev/null || true
    lab down >/dev/null 2>&1 || true
    [[ -z ${top-} ]] || rm -rf "$top"
    exit "$code"
}

start_plane() {
    # Not a member of the terminal's foreground group: Ctrl-C ends this script, which then ends the plane.
    setsid "$binary" --config "$folder/plane.yaml" run >>"$folder/log" 2>&1 </dev/null &
    daemon=$!
    await 60 "the plane to answer" answers
}

# ---- the walk -----------------------------------------------------------------------------------------------------

prepare() {
    ((EUID == 0)) || fail "real hosts need root: sudo make lab"
    [[ -x $binary ]] || fail "there is no $binary; run: cargo build"
    "$here/lab.sh" install
    "$here/lab.sh" down --stale >/dev/null 2>&1 || true
    trap cleanup EXIT
    trap 'exit 130' INT TERM HUP
    # What is removed at the end is the whole of it, whichever plane's `folder` is asked at that moment.
    top="$(mktemp -d /tmp/embot-demo.XXXXXX)"
    folder="$top"

    step "Two libvirt hosts, four guests"
    say "Each host is a libvirtd in namespaces of its own; guests run in QEMU without hardware virtualization, and count."
    lab up --hosts 2 --owner $$ >"$folder/lab.json"
    local guest
    for guest in "${guests[@]}"; do
        lab guest --host host-a --vm "$guest" --start --no-wait >/dev/null
    done
    for guest in "${guests[@]}"; do await 120 "$guest to count" counting "$guest" 2; done
    for guest in "${guests[@]}"; do counted "$guest"; done
}
counting() { (($(lab log --vm "$1" | grep -c '^count ') >= $2)); }

configure() {
    step "A plane with the modules that ship"
    say "embot init writes the configuration, the modules and their policies. The lab is in a hurry, so the waits are cut short;" \
        "and since emulated guests get little of a busy machine, a host is hot from 20 % on. The policies are as they ship." \
        "host-a counts as one core, host-b as three."
    "$binary" init "$folder" --mode act
    local hosts
    hosts="$(jq -r '.hosts[] | "  - name: \(.name)\n    uri: \(.uri)\n    migration_uri: \(.migration_uri)\n    migration_address: \(.migration_address)\n    load_from: guests\n    capacity: { cpus: \(if .name == "host-a" then 1 else 3 end), memory_mib: 1024 }"' "$folder/lab.json")"
    cat >"$folder/plane.yaml" <<CONF
plane: lab
adopt: act
new_modules: act
poll: 1s
hosts:
$hosts
guardrails:
  cooldown: 5s
  load_window: 10s
  blast_radius: 1
  target_max_cpu: 0.9
  migrations_per_host: 1
CONF
    sed -i -e 's/cooldown: 10m/cooldown: 20s/' -e 's/hot: 0.85/hot: 0.2/' -e "s/wait: 2m/wait: 10s\n  samples: 5\n  aim: 0.1/" \
        "$folder/embots/relieve-hot-host.yaml"
    sed -i -e 's/at_once: 2/at_once: 2\n  every: 1s\n  settle: 3s/' "$folder/embots/evacuate-maintenance.yaml"
    sed -i -e 's/first: 10s/first: 2s/' "$folder/embots/restart-crashed.yaml"
    show check
    start_plane
    await 60 "the guests to be adopted" adopted
    show elements
}
adopted() { json elements --kind vm | jq -e 'length == 4 and all(.owner == "lab" and .action == null)'; }

relieve() {
    step "A guest burns CPU: the policy moves one away"
    say "web begins to compute with all it has. Its host is hot for ten seconds, then the shipped policy proposes a move."
    local from
    from="$(position)"
    lab tell --vm web burn >/dev/null
    await 120 "host-a to be relieved" moved
    show_since "$from"
    local guest
    guest="$(json elements --kind vm | jq -r '.[] | select(.host == "host-b") | .name' | head -n 1)"
    say "" "Why? The whole chain, from the event to the result:"
    show explain "$guest"
    counted "$guest"
    lab tell --vm web calm >/dev/null
    say "" "From here on this module only watches, so that each step shows one thing."
    show modules mode relieve-hot-host observe
}
moved() { json elements --kind vm | jq -e 'any(.host == "host-b") and all(.action == null)' && idle; }

crash() {
    step "A guest's QEMU is killed: it is started again"
    say "The first restart waits two seconds, each further one twice as long, and in the end an alarm is raised instead."
    local from pid
    from="$(position)"
    pid="$(lab qemu-pid --vm db)"
    say "kill -9 $pid (the QEMU of db)"
    kill -KILL "$pid"
    await 60 "db to be started" latest db '.verb == "start" and .state == "done"'
    await 60 "db to count again" boots db 2
    pid="$(lab qemu-pid --vm db)"
    say "and once more: kill -9 $pid"
    local first
    first="$(latest db .id)"
    kill -KILL "$pid"
    await 60 "db to be started again" latest db ".verb == \"start\" and .state == \"done\" and .id > $first"
    show_since "$from"
    show explain db
    await 60 "db to count again" boots db 3
    counted db
}
boots() { (($(lab log --vm "$1" | tr -d '\r' | grep -cx 'count 1') >= $2)); }

maintain() {
    step "Maintenance: host-a is emptied"
    say "The policy asks for two moves at a time; this plane's configuration allows one for each host. So the second is refused" \
        "with the reason, and asked for again when there is room."
    local from
    await 30 "open actions to end" idle
    from="$(position)"
    show maintenance host-a on
    await 120 "host-a to be empty" all_on host-b
    await 30 "the word that it is empty" told_empty "$from"
    show_since "$from"
    say "" "What was refused in the same step is part of the explanation:"
    show explain "$(with_refusals)"
    say "" "Nothing may be placed there now, not even by an admin:"
    show migrate web --to host-a
    from="$(position)"
    show maintenance host-a off
    say "and those that were moved come back:"
    await 180 "the guests to be back" told "$from" "its guests are back"
    show_since "$from"
    show elements --kind vm
}
# The number of an action in whose step something else was refused.
with_refusals() {
    local guest
    for guest in "${guests[@]}"; do
        json explain "$guest" | jq -e '.latest | select(.refused != []) | .action.id' && return
    done | head -n 1
}
told() { json events --since "$1" --limit 1000 | jq -e --arg text "$2" 'any(.text | contains($text))'; }
told_empty() { told "$1" "is empty"; }

restart_libvirtd() {
    step "libvirtd is restarted: the plane connects again, and nothing moves by itself"
    local from before
    before="$(json elements --kind vm | jq -c 'map({name, host, state})')"
    from="$(position)"
    lab stop-libvirtd --host host-b
    await 30 "the host to be missed" status '.hosts_down | length == 1'
    show status
    lab start-libvirtd --host host-b
    await 60 "the host to be back" status '.hosts_down == []'
    sleep 3
    show_since "$from"
    [[ $(json elements --kind vm | jq -c 'map({name, host, state})') == "$before" ]] || fail "something changed while libvirtd was away"
    say "" "All guests are where they were, and none was touched."
}

die_in_migration() {
    step "kill -9 of the plane in the midst of a migration"
    say "mail rewrites its memory all the time, and the move is held to 4 MiB a second, so that it takes long."
    await 60 "open actions to end" idle
    local source target before
    source="$(vm mail .host | tr -d '"')"
    target="host-b"
    [[ $source == host-a ]] || target="host-a"
    lab tell --vm mail dirty 24 >/dev/null
    lab virsh --host "$source" migrate-setspeed mail 4 >/dev/null
    show migrate mail --to "$target"
    await 30 "the move to be under way" latest mail '.state == "started" and .progress.done_bytes > 0'
    before="$(position)"
    say "kill -9 $daemon (the plane)"
    { kill -KILL "$daemon"; wait "$daemon"; } 2>/dev/null || true
    daemon=
    say "libvirt goes on with the move:"
    lab virsh --host "$source" domjobinfo mail | grep -E 'Job type|Data processed|Data remaining' || true
    say "A new plane finds the action in its store and the job on the host, and puts both together:"
    start_plane
    show plan
    say "The move may take all the room it wants again, and ends:"
    lab virsh --host "$source" migrate-setspeed mail 1000 >/dev/null
    lab tell --vm mail calm >/dev/null
    await 120 "the action to end" latest mail '.state != "started" and .state != "planned"'
    show explain mail
    show_since "$before"
    await 30 "mail to be shown at $target" on_host mail "$target"
    counted mail
    say "" "It is on one host only:"
    local host
    for host in host-a host-b; do printf '%s: %s\n' "$host" "$(lab virsh --host "$host" list --all --name | xargs)"; done
}

account() {
    step "The journal holds all of it"
    embot journal export >"$folder/journal.jsonl"
    jq -es 'map(.batch) | unique | . == [range(1; length + 1)]' "$folder/journal.jsonl" >/dev/null || fail "the journal has gaps"
    jq -s -r '"\(length) inputs and records in \(.[-1].batch) batches, numbered without a gap, across the kill -9"' "$folder/journal.jsonl"
    say "" "The guests:"
    local guest
    for guest in "${guests[@]}"; do counted "$guest"; done
}

# ---- two planes ---------------------------------------------------------------------------------------------------

# at PLANE COMMAND...: `embot`, `show` and all that is built on them ask the plane whose folder this is.
at() { local folder="$top/$1"; "${@:2}"; }

two_planes() {
    step "Two planes: each host has a plane of its own from here on"
    say "The first plane is stopped and gives its guests back: without their mark they are nobody's. Then each host gets a daemon" \
        "with a store, a certificate and modules of its own; they know each other as peers."
    kill -TERM "$daemon"
    wait "$daemon" 2>/dev/null || true
    daemon=
    local guest host
    for guest in "${guests[@]}"; do
        # `grep -q` would end before virsh does, which then counts as failed.
        host="$(lab virsh --host host-a list --name | grep -x "$guest" >/dev/null && echo host-a || echo host-b)"
        [[ $host == host-a ]] || lab virsh --host host-b migrate --live --p2p --persistent --undefinesource "$guest" \
            "$(jq -r '.hosts[] | select(.name == "host-a") | .migration_uri' "$folder/lab.json")" >/dev/null
        lab virsh --host host-a metadata "$guest" --uri urn:embot:mark:1 --live --config --remove >/dev/null
    done
    "$binary" pki --folder "$folder/pki" init >/dev/null
    local plane port
    port=("$(free_port)" "$(free_port)")
    configure_plane site-a host-a 2 "${port[0]}" site-b "${port[1]}"
    configure_plane site-b host-b 6 "${port[1]}" site-a "${port[0]}"
    for plane in site-a site-b; do
        sed -i -e 's/hot: 0.8/hot: 0.3\n  every: 1s\n  wait: 10s\n  least: 0.05/' -e 's/cooldown: 10m/cooldown: 20s/' \
            "$folder/$plane/embots/share-load.yaml"
    done
    at site-b start_plane
    other="$daemon"
    at site-a start_plane
    await 60 "the planes to find each other" at site-a peer_is_up
    await 60 "the guests to be adopted" at site-a owned_by site-a
    at site-a show peers
    at site-a show elements
}
# A port that nobody listens on.
free_port() { perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport'; }
configure_plane() {
    "$binary" pki --folder "$folder/pki" issue "$1" --name localhost >/dev/null
    "$binary" init "$folder/$1" --mode act >/dev/null
    cat >"$folder/$1/plane.yaml" <<CONF
plane: $1
adopt: act
new_modules: act
poll: 1s
hosts:
$(jq -r --arg name "$2" --argjson cpus "$3" '.hosts[] | select(.name == $name) | "  - name: \(.name)\n    uri: \(.uri)\n    migration_uri: \(.migration_uri)\n    migration_address: \(.migration_address)\n    load_from: guests\n    capacity: { cpus: \($cpus), memory_mib: 1024 }"' "$folder/lab.json")
link:
  listen: "127.0.0.1:$4"
  certificate: $folder/pki/planes/$1/plane.crt
  key: $folder/pki/planes/$1/plane.key
  ca: $folder/pki/planes/$1/ca.crt
  crl: $folder/pki/planes/$1/crl.pem
peers:
  - { name: $5, address: "localhost:$6" }
guardrails: { cooldown: 5s, load_window: 10s, blast_radius: 1, target_max_cpu: 0.9 }
CONF
}
peer_is_up() { json peers | jq -e '.peers[0] | .reachable and .summary.hosts == 1'; }
owned_by() { json elements --kind vm | jq -e --arg plane "$1" 'length == 4 and all(.owner == $plane and .action == null)'; }

share_load() {
    step "A hot plane offers a guest to the other, with all that manages it"
    say "web and mail burn all the CPU there is, and the plane has no other host. After ten seconds its policy offers one to the" \
        "plane with most room; that plane's own policy decides, and lets it in."
    local from guest
    from="$(at site-a position)"
    for guest in web mail; do lab tell --vm "$guest" burn >/dev/null; done
    await 120 "a guest to be taken" at site-a has_moved
    guest="$(at site-a json migrations | jq -r 'map(select(.state == "moved"))[0].name')"
    at site-a show modules mode share-load observe
    for name in web mail; do lab tell --vm "$name" calm >/dev/null; done
    say "" "site-a:"
    at site-a show_since "$from"
    at site-a show migrations
    at site-a show elements "$guest"
    say "" "site-b, which owns $guest now, knows what was done with it and why, from before it came:"
    at site-b show elements --kind vm
    at site-b show explain "$guest"
    counted "$guest"
}
has_moved() { json migrations | jq -e 'any(.state == "moved")'; }

prepare
configure
relieve
crash
maintain
restart_libvirtd
die_in_migration
account
two_planes
share_load
step "Done in $SECONDS s; everything is removed again"

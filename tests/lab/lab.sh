#!/usr/bin/env bash
# Real libvirt hosts with real guests on one machine, without hardware virtualization. `lab.sh --help` tells the commands.
#
# A host is one libvirtd in network, mount and UTS namespaces of its own; all hosts of a run hang on one bridge in one more
# network namespace, so nothing of a run touches the machine's own network. Everything a run has is named after it:
#
#   /tmp/embot-lab-RUN/            the run's folder, removed by `down`
#     HOST/{run,lib,log,cache,etc} what this host sees as /run/libvirt, /var/lib/libvirt, ... ; HOST/run/libvirt-sock is its door
#     guests/VM/                   serial.log, tell.in, domain.xml, disks: the same path on every host, as shared storage would be
#   embot-lab-RUN-HOST, ...-switch network namespaces
#
# Every process of a run lives in one of its network namespaces. That is how `down` finds them, and why it finds no others.

set -euo pipefail

readonly base="${EMBOT_LAB_BASE:-/tmp}"
readonly cache="${EMBOT_LAB_CACHE:-/var/cache/embot-lab}"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly here

usage() {
    cat <<'HELP'
lab.sh: real libvirt hosts with real guests on one machine (root only)

  lab.sh install                     install the packages and the guests' kernel, where missing
  lab.sh up      --name RUN [--hosts N] [--owner PID|none]
                                     start N hosts (host-a, host-b, ...; default 2) and print them as JSON.
                                     The owner (default: the calling process) is whose death makes the run stale.
  lab.sh status  --name RUN          print hosts and guests as JSON
  lab.sh list                        print the names of all runs
  lab.sh down    --name RUN          end and remove everything of the run; may be repeated
  lab.sh down    --stale             the same for every run whose owner is gone

  lab.sh guest   --name RUN --host HOST --vm VM [--start] [--no-wait] [--memory MIB] [--vcpus N] [--burn]
                 [--agent] [--net] [--disk MIB] [--local-disk MIB] [--watchdog ACTION] [--on-crash ACTION]
                                     define a guest and print it as JSON; --start also starts it and waits until it counts.
                                     --disk lies in the folder both hosts see, --local-disk in each host's own (for
                                     migration with storage copy). Watchdog actions: none pause reset poweroff inject-nmi.
                                     Crash actions: destroy (default) preserve restart coredump-destroy.
  lab.sh tell    --name RUN --vm VM WORD [ARGUMENT]
                                     burn | calm | dirty [MIB] | disk | panic | hang | poweroff | reboot
  lab.sh log     --name RUN --vm VM  print the guest's serial log
  lab.sh qemu-pid --name RUN --vm VM [--host HOST]
                                     process id of the guest's QEMU (two lines during a migration)
  lab.sh virsh   --name RUN --host HOST ARGUMENTS...
                                     virsh on that host, from inside its network (last option: what follows is virsh's)

  lab.sh stop-libvirtd    --name RUN --host HOST [--kill]      --kill: SIGKILL instead of SIGTERM; guests go on
  lab.sh start-libvirtd   --name RUN --host HOST
  lab.sh restart-libvirtd --name RUN --host HOST [--kill]
  lab.sh freeze  --name RUN --host HOST    stop libvirtd's process without ending it: a host that hangs
  lab.sh thaw    --name RUN --host HOST
  lab.sh cut     --name RUN --host HOST    unplug the host from the network
  lab.sh mend    --name RUN --host HOST

Environment: EMBOT_LAB_BASE (/tmp), EMBOT_LAB_CACHE (/var/cache/embot-lab), EMBOT_LAB_KERNEL and EMBOT_LAB_MODULES (a
kernel image and its /lib/modules/VERSION folder, instead of Debian's cloud kernel).
Exit codes: 0 done, 1 failed, 2 wrong usage.
HELP
}

# ---- small things -------------------------------------------------------------------------------------------------

say() { printf 'lab: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
misuse() { say "$*"; say "try: lab.sh --help"; exit 2; }

# wait_until SECONDS WHAT COMMAND...: polls until the command succeeds; after the deadline it fails and says what it waited for.
wait_until() {
    local deadline=$((SECONDS + $1)) what="$2"
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || { say "gave up waiting for $what"; return 1; }
        sleep 0.1
    done
}

# start_time PID: tells a process from a later one with the same number.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
# gone PID: ended, or a zombie that nobody has buried yet.
gone() { ! grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status"; }

folder_of() { printf '%s/embot-lab-%s' "$base" "$1"; }
netns_of() { printf 'embot-lab-%s-%s' "$run" "$1"; }
socket_of() { printf '%s/%s/run/libvirt-sock' "$folder" "$1"; }
uri_of() { printf 'qemu+unix:///system?socket=%s' "$(socket_of "$1")"; }
address_of() { jq -r --arg host "$1" '.hosts[] | select(.name == $host) | .address' "$folder/run.json"; }
hosts_of() { jq -r '.hosts[].name' "$folder/run.json"; }
ask() { timeout "${ask_seconds:-20}" virsh --quiet --connect "$(uri_of "$1")" "${@:2}"; }

need_run() { [[ -f $folder/run.json ]] || fail "there is no run '$run'; start it with: lab.sh up --name $run"; }
need_host() {
    need_run
    [[ -n $host ]] || misuse "$command needs --host"
    [[ -n $(address_of "$host") ]] || fail "run '$run' has no host '$host', only: $(hosts_of | tr '\n' ' ')"
}
need_vm() {
    need_run
    [[ -n $vm ]] || misuse "$command needs --vm"
}
need_guest() {
    need_vm
    [[ -d $folder/guests/$vm ]] || fail "run '$run' has no guest '$vm'; make it with: lab.sh guest --name $run --host HOST --vm $vm"
}

# ---- install ------------------------------------------------------------------------------------------------------

readonly packages=(libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 qemu-utils busybox-static iproute2 cpio jq)

installed() { [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null) == ii* ]]; }

quietly() {
    local output
    output="$("$@" 2>&1 </dev/null)" || { printf '%s\n' "$output" >&2; fail "failed: $*"; }
}

update_lists_once() {
    [[ -n ${lists_fresh:-} ]] && return
    quietly apt-get update
    lists_fresh=1
}

install_packages() {
    local package wanted=()
    for package in "${packages[@]}"; do installed "$package" || wanted+=("$package"); done
    if ((${#wanted[@]} == 0)); then return 0; fi
    say "installing ${wanted[*]}"
    update_lists_once
    # QEMU refuses to stand beside the tools of another version: take the tools from where the emulator comes from, even if that is older.
    if [[ " ${wanted[*]} " == *" qemu-system-x86 "* ]] && installed qemu-utils; then
        local version
        version="$(apt-cache show --no-all-versions qemu-system-x86 | sed -n 's/^Version: //p')"
        [[ $(dpkg-query -W -f '${Version}' qemu-utils) == "$version" ]] || wanted+=("qemu-utils=$version")
    fi
    quietly env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends --allow-downgrades "${wanted[@]}"
}

# Prints the version folder of the newest kernel in the cache.
cached_kernel() { find "$cache" -maxdepth 1 -name 'kernel-*' 2>/dev/null | sort -V | tail -n 1; }

# The guests' kernel is unpacked into the cache, not installed: the machine's /boot is none of our business.
install_kernel() {
    [[ -n ${EMBOT_LAB_KERNEL:-} || -n $(cached_kernel) ]] && return
    local package scratch image
    update_lists_once
    package="$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9]\)/\1/p' | head -n 1)"
    [[ -n $package ]] || fail "no linux-image-cloud-amd64 in the package lists; set EMBOT_LAB_KERNEL and EMBOT_LAB_MODULES"
    say "unpacking $package"
    scratch="$(mktemp -d "$cache/unpack.XXXXXX")"
    (
        cd "$scratch"
        quietly apt-get -o APT::Sandbox::User=root download "$package"
        quietly dpkg-deb --extract ./*.deb .
    )
    image="$(find "$scratch/boot" -name 'vmlinuz-*')"
    mv "$image" "$scratch/vmlinuz"
    mv "$scratch/lib/modules/"* "$scratch/modules"
    find "$scratch" -mindepth 1 -maxdepth 1 ! -name vmlinuz ! -name modules -exec rm -rf {} +
    # A rival that was faster has left the same thing there.
    mv -T "$scratch" "$cache/kernel-${image##*/vmlinuz-}" 2>/dev/null || rm -rf "$scratch"
}

do_install() {
    mkdir -p "$cache"
    exec 9>"$cache/install.lock"
    flock 9
    install_packages
    install_kernel
    build_image >/dev/null
    exec 9>&-
}

# ---- the guests' image --------------------------------------------------------------------------------------------

readonly modules=(virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_console virtio_balloon
    failover net_failover virtio_net virtio_blk pvpanic pvpanic-mmio button evdev)

# Prints a folder with `vmlinuz` and `initramfs`, named by the hash of all that went in; builds it if it is not there.
build_image() {
    local kernel_image kernel_modules busybox key module file scratch
    if [[ -n ${EMBOT_LAB_KERNEL:-} ]]; then
        kernel_image="$EMBOT_LAB_KERNEL" kernel_modules="${EMBOT_LAB_MODULES:?goes with EMBOT_LAB_KERNEL}"
    else
        kernel_image="$(cached_kernel)/vmlinuz" kernel_modules="$(cached_kernel)/modules"
    fi
    [[ -f $kernel_image ]] || fail "no guest kernel at '$kernel_image'; run: lab.sh install"
    busybox="$(command -v busybox)" || fail "no busybox; run: lab.sh install"
    key="$(cat "$kernel_image" "$busybox" "$here/init.sh" <(echo "${modules[*]}") | sha256sum | cut -c 1-16)"
    if [[ ! -d $cache/image-$key ]]; then
        mkdir -p "$cache"
        scratch="$(mktemp -d "$cache/build.XXXXXX")"
        mkdir -p "$scratch/root/bin" "$scratch/root/dev" "$scratch/root/modules"
        cp "$busybox" "$scratch/root/bin/busybox"
        cp "$here/init.sh" "$scratch/root/init"
        chmod 755 "$scratch/root/init"
        for module in "${modules[@]}"; do
            # What this kernel has built in has no file.
            file="$(find "$kernel_modules/" -name "$module.ko*" -print -quit)"
            case "$file" in
            '') continue ;;
            *.xz) xz -dc "$file" >"$scratch/root/modules/$module.ko" ;;
            *.zst) zstd -qdc "$file" >"$scratch/root/modules/$module.ko" ;;
            *) cp "$file" "$scratch/root/modules/$module.ko" ;;
            esac
            echo "$module.ko" >>"$scratch/root/modules/order"
        done
        cp "$kernel_image" "$scratch/vmlinuz"
        (cd "$scratch/root" && find . | cpio --quiet --create --format newc) >"$scratch/initramfs"
        rm -rf "$scratch/root"
        mv -T "$scratch" "$cache/image-$key" 2>/dev/null || rm -rf "$scratch"
    fi
    printf '%s/image-%s' "$cache" "$key"
}

# ---- hosts --------------------------------------------------------------------------------------------------------

configure_host() {
    local name="$1" address="$2" uuid="$3" etc="$folder/$1/etc"
    mkdir -p "$folder/$name"/{run,lib/images,log,cache,etc}
    cat >"$etc/libvirtd.conf" <<CONF
listen_tls = 0
listen_tcp = 1
listen_addr = "$address"
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_dir = "/run/libvirt"
host_uuid = "$uuid"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
CONF
    cat >"$etc/qemu.conf" <<CONF
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
migration_host = "$address"
migration_address = "$address"
vnc_listen = "$address"
CONF
    # What QEMU can do takes seconds to find out, and libvirt itself notices when a copy is out of date.
    if [[ -d $cache/capabilities ]]; then
        mkdir -p "$folder/$name/cache/qemu"
        cp -r "$cache/capabilities" "$folder/$name/cache/qemu/capabilities"
    fi
}

connect_host() {
    local name="$1" address="$2" netns
    netns="$(netns_of "$name")"
    ip netns add "$netns"
    ip -n "$netns" link set lo up
    ip link add eth0 netns "$netns" type veth peer name "$name" netns "$(netns_of switch)"
    ip -n "$(netns_of switch)" link set "$name" master bridge0 up
    # Guests hang on the same bridge as the host's own address.
    ip -n "$netns" link add bridge0 type bridge forward_delay 0
    ip -n "$netns" link set eth0 master bridge0 up
    ip -n "$netns" link set bridge0 up
    ip -n "$netns" address add "$address/24" dev bridge0
}

libvirtd_pid() {
    local pid
    pid="$(cat "$folder/$1/run/libvirtd.pid" 2>/dev/null)" || return 1
    [[ -n $pid && $(cat "/proc/$pid/comm" 2>/dev/null) == libvirtd ]] || return 1
    [[ $(ip netns identify "$pid" 2>/dev/null) == "$(netns_of "$1")" ]] || return 1
    gone "$pid" && return 1
    printf '%s' "$pid"
}

declare -A launched
launch_libvirtd() {
    local name="$1"
    rm -f "$folder/$name/run/libvirtd.pid"
    # A QEMU is an orphan, and until someone buries it libvirt does not believe that it died. Process 1 of a container may be
    # slow at that, or never do it. So each libvirtd starts below a process that adopts orphans (prctl 157, subreaper 36).
    # shellcheck disable=SC2016 # the inner programs expand
    setsid ip netns exec "$(netns_of "$name")" \
        perl -e 'syscall(157, 36, 1, 0, 0, 0) == 0 or die "subreaper: $!"; fork or exec @ARGV or die "$ARGV[0]: $!"; 1 while wait != -1' \
        unshare --mount --uts --propagation private \
        bash -c 'set -e
            hostname "$1"
            for pair in run:/run/libvirt lib:/var/lib/libvirt log:/var/log/libvirt cache:/var/cache/libvirt etc:/etc/libvirt; do
                mkdir -p "${pair#*:}"
                mount --bind "$2/$1/${pair%%:*}" "${pair#*:}"
            done
            # libvirtd looks for this user before it reads that it is to use root; only Debian'\''s system package makes it.
            for kind in passwd group; do
                getent "$kind" libvirt-qemu >/dev/null || mount --bind "$2/$kind" "/etc/$kind"
            done
            # The machine'\''s own bus must not hear of lab guests: its machine registry would mix up those of several hosts.
            for bus in /run/dbus /run/systemd; do
                [[ ! -d $bus ]] || mount -t tmpfs -o size=64k,mode=755 none "$bus"
            done
            cd /
            exec libvirtd --listen --pid-file /run/libvirt/libvirtd.pid' \
        bash "$name" "$folder" </dev/null >>"$folder/$name/log/libvirtd.out" 2>&1 9>&- &
    launched["$name"]=$!
    disown
}

answers() { ask_seconds=5 ask "$1" list && libvirtd_pid "$1"; }
answers_or_gone() { gone "${launched[$1]}" || answers "$1"; }

await_libvirtd() {
    wait_until 60 "libvirtd of $1 to answer" answers_or_gone "$1" && answers "$1" >/dev/null 2>&1 && return
    say "libvirtd of $1 does not run as it should:"
    tail -n 20 "$folder/$1/log/libvirtd.out" "$folder/$1/log/libvirtd.log" >&2 2>/dev/null || true
    return 1
}

end_libvirtd() {
    local name="$1" signal="$2" pid
    pid="$(libvirtd_pid "$name")" || return 0
    kill "-$signal" "$pid"
    kill -CONT "$pid" 2>/dev/null || true
    wait_until 30 "libvirtd of $name to end" gone "$pid"
}

# ---- runs ---------------------------------------------------------------------------------------------------------

# Runs do not see each other, so equal subnets would do no harm; different ones read better in logs.
choose_subnet() {
    local sum second third other
    sum="$(printf '%s' "$run" | cksum | cut -d' ' -f1)"
    for ((other = 0; other < 200; other++)); do
        second=$((64 + (sum + other) % 128)) third=$(((sum / 128) % 256))
        if ! grep -qsF "\"10.$second.$third." "$base"/embot-lab-*/run.json &&
            ! ip -4 route show root "10.$second.$third.0/24" 2>/dev/null | grep -q .; then
            printf '10.%s.%s' "$second" "$third"
            return
        fi
    done
    fail "no free subnet"
}

abandon_up() {
    trap - EXIT INT TERM
    say "could not start run '$run'; removing what there is of it"
    take_down "$run"
    exit 1
}

do_up() {
    local tool
    ((host_count >= 1 && host_count <= 8)) || misuse "--hosts takes 1 to 8"
    for tool in libvirtd virsh qemu-system-x86_64 busybox ip unshare jq cpio; do
        command -v "$tool" >/dev/null || fail "no $tool; run: lab.sh install"
    done
    mkdir -m 700 "$folder" 2>/dev/null || fail "run '$run' exists already; end it with: lab.sh down --name $run"
    trap abandon_up EXIT
    trap 'exit 1' INT TERM
    local subnet index name names=()
    mkdir "$folder/guests"
    [[ $owner == none ]] || printf '%s %s\n' "$owner" "$(start_time "$owner")" >"$folder/owner"
    subnet="$(choose_subnet)"
    for ((index = 0; index < host_count; index++)); do
        printf -v name 'host-%b' "\\x$(printf '%x' $((97 + index)))"
        names+=("$name")
        jq -n --arg name "$name" --arg address "$subnet.$((index + 1))" --arg uuid "$(cat /proc/sys/kernel/random/uuid)" \
            --arg netns "$(netns_of "$name")" --arg socket "$(socket_of "$name")" --arg uri "$(uri_of "$name")" \
            '{name: $name, host_uuid: $uuid, address: $address, netns: $netns, socket: $socket, uri: $uri,
              migration_uri: "qemu+tcp://\($address)/system", migration_address: "tcp://\($address)"}'
    done | jq -s --arg run "$run" --arg folder "$folder" --arg subnet "$subnet.0/24" \
        '{run: $run, folder: $folder, subnet: $subnet, hosts: .}' >"$folder/run.json.new"
    mv "$folder/run.json.new" "$folder/run.json"

    { cat /etc/passwd && echo 'libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin'; } >"$folder/passwd"
    { cat /etc/group && echo 'libvirt-qemu:x:64055:'; } >"$folder/group"

    ip netns add "$(netns_of switch)"
    ip -n "$(netns_of switch)" link add bridge0 type bridge forward_delay 0
    ip -n "$(netns_of switch)" link set bridge0 up
    while read -r name address uuid; do
        configure_host "$name" "$address" "$uuid"
        connect_host "$name" "$address"
        launch_libvirtd "$name"
    done < <(jq -r '.hosts[] | "\(.name) \(.address) \(.host_uuid)"' "$folder/run.json")
    for name in $(hosts_of); do await_libvirtd "$name"; done
    # Finding out now what QEMU can do keeps the first guest's start short, and later runs can copy it.
    for name in $(hosts_of); do ask_seconds=60 ask "$name" domcapabilities >/dev/null; done
    keep_capabilities
    trap - EXIT INT TERM
    do_status
}

keep_capabilities() {
    local found="$folder/host-a/cache/qemu/capabilities" scratch
    [[ -d $found ]] && ! diff -rq "$found" "$cache/capabilities" >/dev/null 2>&1 || return 0
    scratch="$(mktemp -d "$cache/capabilities.XXXXXX")"
    cp "$found"/* "$scratch/"
    rm -rf "$cache/capabilities"
    mv -T "$scratch" "$cache/capabilities" 2>/dev/null || rm -rf "$scratch"
}

do_status() {
    need_run
    local name pid state
    for name in $(hosts_of); do
        state=stopped
        if pid="$(libvirtd_pid "$name")"; then
            state=running
            grep -qs '^State:[[:space:]]*T' "/proc/$pid/status" && state=frozen
        fi
        {
            # A host that does not answer has no guests to show.
            [[ $state != running ]] || ask "$name" list --all --name 2>/dev/null | sed '/^$/d' | while read -r guest; do
                jq -n --arg vm "$guest" --arg state "$(ask "$name" domstate "$guest" --reason | sed '/^$/d')" '{vm: $vm, state: $state}'
            done
        } | jq -s --arg name "$name" --arg state "$state" --arg pid "${pid:-0}" \
            '{name: $name, libvirtd: $state, pid: ($pid | tonumber), guests: .}'
    done | jq -s --slurpfile run "$folder/run.json" \
        '$run[0] + {hosts: [.[] as $now | $run[0].hosts[] | select(.name == $now.name) + $now]}'
}

do_list() {
    local found
    for found in "$base"/embot-lab-*/; do
        [[ -d $found ]] && basename "$found" | sed 's/^embot-lab-//'
    done
    return 0
}

# The processes of the run: those that live in its network namespaces.
processes() { local netns; for netns in $(namespaces); do ip netns pids "$netns" 2>/dev/null; done; }
namespaces() { ip netns list | cut -d' ' -f1 | grep -E "^embot-lab-$run-(switch|host-[a-h])$" || true; }
# The adopters of orphans (see launch_libvirtd) are spared at first: they end by themselves, once they have buried the others.
all_ended() {
    local spared="$1" pid ended=0
    for pid in $(processes); do
        gone "$pid" && continue
        ended=1
        [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$spared" ]] || kill -KILL "$pid" 2>/dev/null || true
    done
    return $ended
}

take_down() {
    run="$1" folder="$(folder_of "$1")"
    local netns
    wait_until 10 "the processes of run '$run' to end" all_ended perl || wait_until 20 "them after SIGKILL for all" all_ended ''
    # The bind mounts went with the last process of their mount namespaces, the links go with the network namespaces.
    for netns in $(namespaces); do ip netns delete "$netns"; done
    rm -rf "$folder"
}

do_down() {
    if [[ -z $stale ]]; then take_down "$run"; return; fi
    local each pid born
    for each in $(do_list); do
        read -r pid born 2>/dev/null <"$(folder_of "$each")/owner" || continue
        [[ $(start_time "$pid") == "$born" ]] || { say "removing stale run '$each'"; take_down "$each"; }
    done
}

# ---- guests -------------------------------------------------------------------------------------------------------

# Where a local disk lies, as the host sees it.
readonly local_images=/var/lib/libvirt/images

domain_xml() {
    local image="$1" number="$2" address="$3" words="console=ttyS0 quiet panic=0 nokaslr mitigations=off embot.vm=$vm"
    [[ -z $burn ]] || words+=" embot.burn=1"
    [[ -z $net ]] || words+=" embot.address=$address/24"
    cat <<XML
<domain type='qemu'>
  <name>$vm</name>
  <memory unit='MiB'>$memory</memory>
  <vcpu>$vcpus</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>$image/vmlinuz</kernel>
    <initrd>$image/initramfs</initrd>
    <cmdline>$words</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact' check='none'><model fallback='allow'>qemu64</model></cpu>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>$on_crash</on_crash>
  <devices>
    <emulator>$(command -v qemu-system-x86_64)</emulator>
    <controller type='usb' model='none'/>
    <serial type='file'><source path='$folder/guests/$vm/serial.log' append='on'/><target port='0'/></serial>
    <channel type='pipe'><source path='$folder/guests/$vm/tell'/><target type='virtio' name='embot.lab'/></channel>
$([[ -z $agent ]] || echo "    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>")
$([[ -z $disk ]] || echo "    <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='$folder/guests/$vm/disk.qcow2'/><target dev='vda' bus='virtio'/></disk>")
$([[ -z $local_disk ]] || echo "    <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='$local_images/$vm.qcow2'/><target dev='vd$([[ -z $disk ]] && echo a || echo b)' bus='virtio'/></disk>")
$([[ -z $net ]] || echo "    <interface type='bridge'><mac address='52:54:00:6c:$(printf '%02x:%02x' $((number / 256)) $((number % 256)))'/><source bridge='bridge0'/><model type='virtio'/><rom enabled='no'/></interface>")
$([[ -z $watchdog ]] || echo "    <watchdog model='i6300esb' action='$watchdog'/>")
    <panic model='isa'/>
    <memballoon model='virtio'><stats period='2'/></memballoon>
  </devices>
</domain>
XML
}

do_guest() {
    local image number address guest_folder="$folder/guests/$vm" name
    need_host
    need_vm
    [[ $vm =~ ^[a-z0-9][a-z0-9-]{0,31}$ ]] || misuse "--vm takes up to 32 of a-z 0-9 -"
    image="$(build_image)"
    mkdir "$guest_folder" 2>/dev/null || fail "run '$run' has a guest '$vm' already"
    # Guests are numbered from 1, in one step even when several are made at once.
    # shellcheck disable=SC2016 # the inner shell expands
    number="$(flock "$folder/guests" sh -c 'read -r n 2>/dev/null <"$1" || n=0; echo $((n + 1)) | tee "$1"' sh "$folder/guest-count")"
    : >"$guest_folder/serial.log"
    mkfifo "$guest_folder/tell.in" "$guest_folder/tell.out"
    [[ -z $disk ]] || quietly qemu-img create -q -f qcow2 "$guest_folder/disk.qcow2" "${disk}M"
    if [[ -n $local_disk ]]; then
        # A migration with storage copy wants an image of the same size waiting at the target.
        for name in $(hosts_of); do quietly qemu-img create -q -f qcow2 "$folder/$name/lib/images/$vm.qcow2" "${local_disk}M"; done
    fi
    ((number < 150)) || fail "run '$run' has no guest numbers left"
    address="$(jq -r '.subnet | sub("0/24$"; "")' "$folder/run.json")$((100 + number))"
    domain_xml "$image" "$number" "$address" | sed '/^$/d' >"$guest_folder/domain.xml"
    ask "$host" define --validate "$guest_folder/domain.xml" >/dev/null
    if [[ -n $start ]]; then
        ask_seconds=60 ask "$host" start "$vm" >/dev/null
        [[ -n $no_wait ]] || wait_until 120 "guest $vm to count" grep -q '^count ' "$guest_folder/serial.log"
    fi
    jq -n --arg vm "$vm" --arg host "$host" --arg uuid "$(ask "$host" domuuid "$vm" | sed '/^$/d')" \
        --arg folder "$guest_folder" --arg address "${net:+$address}" \
        '{vm: $vm, host: $host, uuid: $uuid, log: "\($folder)/serial.log", tell: "\($folder)/tell.in", xml: "\($folder)/domain.xml"}
         + if $address == "" then {} else {address: $address} end'
}

# acknowledged WORD BEFORE: the guest has said "told WORD" more often than BEFORE times.
acknowledged() { (($(grep -c "^told $1" "$folder/guests/$vm/serial.log" || true) > $2)); }

do_tell() {
    need_guest
    (($# > 0)) || misuse "tell needs a word: burn calm dirty disk panic hang poweroff reboot"
    local pipe="$folder/guests/$vm/tell.in" before
    before="$(grep -c "^told $1" "$folder/guests/$vm/serial.log" || true)"
    # Opening a pipe that no QEMU reads would wait for ever.
    # shellcheck disable=SC2016 # the inner shell expands
    timeout 5 bash -c 'printf "%s\n" "$1" >"$2"' bash "$*" "$pipe" || fail "guest '$vm' does not run"
    wait_until 60 "guest $vm to say 'told $1'" acknowledged "$1" "$before"
}

do_qemu_pid() {
    need_vm
    local name pid found=
    for name in ${host:-$(hosts_of)}; do
        pid="$(cat "$folder/$name/run/qemu/$vm.pid" 2>/dev/null)" || continue
        if ! gone "$pid" && [[ $(ip netns identify "$pid" 2>/dev/null) == "$(netns_of "$name")" ]]; then
            echo "$pid"
            found=1
        fi
    done
    [[ -n $found ]] || fail "guest '$vm' runs nowhere"
}

# ---- command line -------------------------------------------------------------------------------------------------

command="${1:---help}"
shift || true
run='' host='' vm='' host_count=2 owner="$PPID" stale='' signal=TERM
start='' no_wait='' memory=96 vcpus=1 burn='' agent='' net='' disk='' local_disk='' watchdog='' on_crash=destroy
rest=()
while (($# > 0)); do
    case "$1" in
    --name | --host | --vm | --hosts | --owner | --memory | --vcpus | --disk | --local-disk | --watchdog | --on-crash)
        [[ $# -gt 1 ]] || misuse "$1 needs a value"
        case "$1" in
        --name) run="$2" ;;
        --host) host="$2" ;;
        --vm) vm="$2" ;;
        --hosts) host_count="$2" ;;
        --owner) owner="$2" ;;
        --memory) memory="$2" ;;
        --vcpus) vcpus="$2" ;;
        --disk) disk="$2" ;;
        --local-disk) local_disk="$2" ;;
        --watchdog) watchdog="$2" ;;
        --on-crash) on_crash="$2" ;;
        esac
        shift 2
        # What follows is virsh's own.
        if [[ $command == virsh && -n $run && -n $host ]]; then rest=("$@"); break; fi
        ;;
    --stale) stale=1 && shift ;;
    --kill) signal=KILL && shift ;;
    --start) start=1 && shift ;;
    --no-wait) no_wait=1 && shift ;;
    --burn) burn=1 && shift ;;
    --agent) agent=1 && shift ;;
    --net) net=1 && shift ;;
    -h | --help) command=--help && shift ;;
    -*) misuse "unknown option '$1'" ;;
    *) rest+=("$1") && shift ;;
    esac
done

case "$command" in
-h | --help | help) usage; exit 0 ;;
esac
case "$command" in
install | up | status | list | down | guest | tell | log | qemu-pid | virsh) ;;
stop-libvirtd | start-libvirtd | restart-libvirtd | freeze | thaw | cut | mend) ;;
*) misuse "unknown command '$command'" ;;
esac
[[ $(id -u) == 0 ]] || fail "needs root"
for value in "$host_count" "$memory" "$vcpus" "${disk:-0}" "${local_disk:-0}" "${owner/none/0}"; do
    [[ $value =~ ^[0-9]+$ ]] || misuse "'$value' is no number"
done
case "$command" in
install | list) ;;
*)
    if [[ -z $stale || $command != down ]]; then
        [[ $run =~ ^[a-z0-9][a-z0-9-]{0,23}$ ]] || misuse "$command needs --name RUN, up to 24 of a-z 0-9 -"
    fi
    ;;
esac
[[ $command == tell || $command == virsh || ${#rest[@]} == 0 ]] || misuse "what is '${rest[0]}'?"
folder="$(folder_of "$run")"

case "$command" in
install) do_install ;;
up) do_up ;;
status) do_status ;;
list) do_list ;;
down) do_down ;;
guest) do_guest ;;
tell) do_tell "${rest[@]}" ;;
log) need_guest && cat "$folder/guests/$vm/serial.log" ;;
qemu-pid) do_qemu_pid ;;
virsh) need_host && exec ip netns exec "$(netns_of "$host")" virsh --connect "$(uri_of "$host")" "${rest[@]}" ;;
stop-libvirtd) need_host && end_libvirtd "$host" "$signal" ;;
start-libvirtd)
    need_host
    ! libvirtd_pid "$host" >/dev/null || fail "libvirtd of $host runs already"
    launch_libvirtd "$host"
    await_libvirtd "$host"
    ;;
restart-libvirtd)
    need_host
    end_libvirtd "$host" "$signal"
    launch_libvirtd "$host"
    await_libvirtd "$host"
    ;;
freeze) need_host && kill -STOP "$(libvirtd_pid "$host" || fail "libvirtd of $host does not run")" ;;
thaw) need_host && kill -CONT "$(libvirtd_pid "$host" || fail "libvirtd of $host does not run")" ;;
cut) need_host && ip -n "$(netns_of switch)" link set "$host" down ;;
mend) need_host && ip -n "$(netns_of switch)" link set "$host" up ;;
esac

#!/bin/busybox sh
# First and only program of a lab guest. It counts once a second on the serial console and obeys words that
# arrive on the virtio-serial port `embot.lab`. `lab.sh` packs it with busybox into the initramfs.

/bin/busybox mkdir -p /bin /proc /sys /dev /tmp
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
exec </dev/null >/dev/ttyS0 2>&1
stty -onlcr </dev/ttyS0

while read -r module; do insmod "/modules/$module"; done </modules/order

# Prints the value of a kernel parameter: `parameter embot.address`.
parameter() {
    tr ' ' '\n' </proc/cmdline | sed -n "s/^$1=//p"
}

# Prints the device of the virtio-serial port with this name, if the machine has one.
port() {
    for folder in /sys/class/virtio-ports/*; do
        [ -e "$folder/name" ] && [ "$(cat "$folder/name")" = "$1" ] && echo "/dev/${folder##*/}"
    done
}

calm() {
    # shellcheck disable=SC2046
    kill $(cat /tmp/load 2>/dev/null) 2>/dev/null
    rm -f /tmp/load /tmp/dirt
}

burn() {
    for _ in $(seq "$(nproc)"); do
        (while :; do :; done) &
        echo $! >>/tmp/load
    done
}

# Writes the same megabytes again and again, so that a live migration has something to chase.
dirty() {
    (while :; do dd if=/dev/urandom of=/tmp/grain bs=4k count=1 2>/dev/null
        grain=$(head -c 512 /tmp/grain | od -An -tx1 | tr -d ' \n')
        yes "$grain" | dd of=/tmp/dirt bs=1M count="$1" iflag=fullblock conv=notrunc 2>/dev/null
    done) &
    echo $! >>/tmp/load
}

# Reads and writes the first disk past every cache.
disk() {
    (while :; do
        dd if=/dev/zero of=/dev/vda bs=64k count=64 oflag=direct 2>/dev/null
        dd if=/dev/vda of=/dev/null bs=64k count=64 iflag=direct 2>/dev/null
        sleep 1
    done) &
    echo $! >>/tmp/load
}

# The i6300esb watchdog, driven by hand because the cloud kernel has no driver for it. Two stages of five seconds each.
watchdog_bar=
watchdog_word() { devmem $((watchdog_bar + 12)) 16 0x80; devmem $((watchdog_bar + 12)) 16 0x86; devmem $((watchdog_bar + $1)) "$2" "$3"; }
watchdog_feed() { [ -n "$watchdog_bar" ] && watchdog_word 12 16 0x100; }
watchdog_arm() {
    for device in /sys/bus/pci/devices/*; do
        [ "$(cat "$device/vendor" "$device/device" | tr '\n' ' ')" = "0x8086 0x25ab " ] || continue
        echo 1 >"$device/enable"
        read -r watchdog_bar _ <"$device/resource"
        watchdog_word 0 32 5086
        watchdog_word 4 32 5086
        watchdog_feed
        printf '\002' | dd of="$device/config" bs=1 seek=104 conv=notrunc 2>/dev/null
        echo "watchdog armed"
    done
}

obey() {
    while read -r word argument; do
        echo "told $word" >/dev/ttyS0
        case "$word" in
        burn) burn ;;
        calm) calm ;;
        dirty) dirty "${argument:-16}" ;;
        disk) disk ;;
        panic) echo c >/proc/sysrq-trigger ;;
        hang) touch /tmp/hang; while :; do :; done ;;
        poweroff) poweroff -f ;;
        reboot) reboot -f ;;
        *) echo "unknown word: $word" >/dev/ttyS0 ;;
        esac
    done
}

# As much of the QEMU guest agent as libvirt asks for: synchronize, ping, name, shut down.
agent() {
    while read -r request && [ ! -e /tmp/hang ]; do
        number=${request##*\"id\":}
        number=${number%%[!0-9]*}
        case "$request" in
        *'"guest-sync-delimited"'*) printf '\377{"return":%s}\n' "$number" ;;
        *'"guest-sync"'*) printf '{"return":%s}\n' "$number" ;;
        *'"guest-ping"'*) echo '{"return":{}}' ;;
        *'"guest-get-host-name"'*) printf '{"return":{"host-name":"%s"}}\n' "$(hostname)" ;;
        *'"guest-shutdown"'*reboot*) reboot -f ;;
        *'"guest-shutdown"'*) poweroff -f ;;
        *) echo '{"error":{"class":"CommandNotFound","desc":"not in this small agent"}}' ;;
        esac
    done
}

# listen HANDLER PORT: a migration hangs up the host's end for a moment, which reads as an end of file; the port stays open.
listen() {
    exec <>"$2" >&0
    while :; do "$1"; sleep 1; done
}

hostname "$(parameter embot.vm)"
ip link set lo up
address=$(parameter embot.address)
if [ -n "$address" ]; then
    ip link set eth0 up
    ip address add "$address" dev eth0
fi

words=$(port embot.lab)
[ -n "$words" ] && listen obey "$words" &
questions=$(port org.qemu.guest_agent.0)
[ -n "$questions" ] && listen agent "$questions" &

# The power button of `virsh shutdown`: any key event of an input device that calls itself a power button.
for input in /sys/class/input/event*; do
    grep -qs 'Power Button' "$input/device/name" || continue
    (head -c 24 "/dev/input/${input##*/}" >/dev/null && echo "power button" && poweroff -f) &
done

[ "$(parameter embot.burn)" = 1 ] && burn
watchdog_arm

count=0
while [ ! -e /tmp/hang ]; do
    count=$((count + 1))
    echo "count $count"
    watchdog_feed
    sleep 1
done
while :; do sleep 1000; done

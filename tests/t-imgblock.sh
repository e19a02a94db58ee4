# SPDX-License-Identifier: GPL-3.0-or-later
# contrib/xen/block-lsvdfs without Xen: what it sources from Xen is a few lines here, with files for xenstore. It makes a loop
# device with direct I/O; refuses what another disk of this machine (loop device or QEMU) or another machine has, and leaves
# nothing of the attempt; gives the image back. tests/t-imgxen.sh runs it in Xen.
. "$TESTS_DIR/lib.sh"
need_root
need_cmd losetup
losetup --find >/dev/null || skip "no loop device"
store_start
mount_lsvdfs a images=*.img
mount_lsvdfs b images=*.img,claim_wait=1
truncate -s 16M "$T/a/d.img"
settle
mkdir "$T/scripts"
cp "$top_srcdir/contrib/xen/block-lsvdfs" "$T/scripts/"
cat >"$T/scripts/block-common.sh" <<'S'
command=$1
mkdir -p "$XENBUS_PATH"
xenstore_read() { cat "$1"; }
xenstore_read_default() { cat "$1" 2>/dev/null || echo "$2"; }
xenstore_write() { while [ $# -gt 0 ]; do echo "$2" >"$1" || exit 1; shift 2; done; }
fatal() { echo "$*" >"$XENBUS_PATH/hotplug-error"; exit 1; }
ebusy() { fatal "busy: $*"; }
trap 'fatal "$0 failed; error detected."' ERR
write_dev() { xenstore_write "$XENBUS_PATH/physical-device" "$(stat -L -c %t:%T "$1")"; }
canonicalise_mode() { case $1 in *w*!*) echo '!' ;; *w*) echo w ;; *) echo r ;; esac; }
claim_lock() { mkdir "$XENBUS_PATH/../lock"; }
release_lock() { rmdir "$XENBUS_PATH/../lock"; }
S
mkdir "$T/xs"
# the script's loop devices, whatever becomes of the test
drop_loops() {
	local l
	for l in "$T"/xs/*/node; do
		[ ! -e "$l" ] || loop_drop "$(cat "$l")" "$(cat "${l%node}params")"
	done
}
on_exit drop_loops
block() { XENBUS_PATH=$T/xs/$2 bash "$T/scripts/block-lsvdfs" "$1"; }
# add NAME NODE MODE
add() {
	rm -rf "$T/xs/$1"
	mkdir "$T/xs/$1"
	echo "$T/$2/d.img" >"$T/xs/$1/params"
	echo "$2" >"$T/xs/$1/where"
	echo "$3" >"$T/xs/$1/mode"
	block add "$1"
}
loops() { losetup -n -O BACK-FILE | { grep -c "^$T/$1/" || true; }; }
refused() { # PATTERN NAME NODE MODE
	local n
	n=$(loops "$3")
	if add "$2" "$3" "$4"; then fail "$2 was let in (from line ${BASH_LINENO[0]})"; fi
	grep -q "^busy: .*$1" "$T/xs/$2/hotplug-error" || fail "$2: $(cat "$T/xs/$2/hotplug-error") (from line ${BASH_LINENO[0]})"
	eq "$(loops "$3")" "$n" "loop devices"
	[ ! -e "$T/xs/lock" ] || fail "the lock was kept"
}
remove() {
	local dev
	dev=$(cat "$T/xs/$1/node")
	block remove "$1"
	wait_for 10 loop_gone "$dev" "$T/$(cat "$T/xs/$1/where")/d.img"
	rm -r "$T/xs/$1"
}

add one a w
dev=$(cat "$T/xs/one/node")
eq "$(losetup -n -O DIO,RO "$dev" | tr -d ' ')" 10 "direct I/O, read-only"
eq "$(cat "$T/xs/one/physical-device")" "$(stat -L -c %t:%T "$dev")"
block add one # Xen may call it twice
eq "$(loops a)" 1
rnd 65536 one >"$T/one"
dd if="$T/one" of="$dev" bs=64k oflag=direct conv=fsync 2>/dev/null
refused "on this machine: $dev" two a w
refused "on this machine: $dev" two a r
refused 'another machine' two b w
add reader b r
eq "$(losetup -n -O RO "$(cat "$T/xs/reader/node")" | tr -d ' ')" 1 "read-only"
cmp -n 65536 "$T/one" "$dev"
remove reader
add anyhow a 'w!'
remove anyhow
remove one
# given back: the other machine has it, and what was written
wait_for 20 images_idle a
add two b w
cmp -n 65536 "$T/one" "$(cat "$T/xs/two/node")"
refused 'another machine' one a w
remove two
wait_for 20 images_idle b
# as QEMU marks a file that it has
py - "$T/a/d.img" "$T/held" "$T/go" <<-'P' &
	import fcntl, os, struct, sys, time
	f = os.open(sys.argv[1], os.O_RDWR)
	fcntl.fcntl(f, 37, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 100, 1, 0))  # F_OFD_SETLK
	open(sys.argv[2], 'w').close()
	while not os.path.exists(sys.argv[3]): time.sleep(.01)
	P
qemu=$!
wait_for 10 test -e "$T/held"
refused 'on this machine: a QEMU' three a w
: >"$T/go"
wait $qemu
add three a w
remove three
if add four nowhere w; then fail "a disk of nothing"; fi
grep -q 'no such file' "$T/xs/four/hotplug-error"
wait_for 20 images_idle a
finish

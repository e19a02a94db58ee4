# SPDX-License-Identifier: GPL-3.0-or-later
# Snapshots every EVERY seconds of the two disks of a virtual machine that writes to an ext4 and an xfs and syncs. Beside it a
# second one is started from each pair as IMAGE@NAME, with QEMU's own overlay: after the replay of their journals both are
# clean and hold every file that was synced before the command (tests/guests/files).
. "$TESTS_DIR/lib.sh"
. "$TESTS_DIR/guests/guest.sh"
ROUNDS=${ROUNDS:-3} EVERY=${EVERY:-5} SIZE=${SIZE:-400M} # xfs wants 300 MiB
guest_need
need_cmd mkfs.ext4 mkfs.xfs xfs_repair
store_start
guest_kit "$TESTS_DIR/guests/files"
export TMPDIR=$T # QEMU's overlays
echo 'exec files write /dev/vda /dev/vdb' >"$T/write"
echo 'exec files verify /dev/vda /dev/vdb /root' >"$T/verify"

mount_lsvdfs a "images=*.img,journal_size=256M"
mount_lsvdfs b "images=*.img,ro"
truncate -s "$SIZE" "$T/a/ext4.img" "$T/a/xfs.img"
guest_start w "$T/write" "$T/a/ext4.img,cache=none" "$T/a/xfs.img,cache=none"
guest_wait_said w '^done ext4 ' 240
guest_wait_said w '^done xfs ' 240
# promised FS: the last number that the guest has said to be synced
promised() { tr -d '\r\0' <"$T/w.out" | sed -n "s/^done $1 \([0-9]*\)\$/\1/p" | tail -n 1; }
for ((i = 1; i <= ROUNDS; i++)); do
	at=$SECONDS
	mkdir "$T/$i.root"
	for fs in ext4 xfs; do
		promised $fs >"$T/$i.root/last.$fs"
		"$LSVDFS" image snapshot "$T/a/$fs.img@s$i"
	done
	! guest_off w || fail "the guest ended: $(tail -n 5 "$T/w.out")"
	[ $((SECONDS - at)) -ge "$EVERY" ] || sleep $((EVERY - SECONDS + at))
done
for ((i = 1; i <= ROUNDS; i++)); do
	m=a
	[ $((i % 2)) = 0 ] || m=b
	wait_for 10 test -e "$T/$m/xfs.img@s$i"
	guest_start $i "$T/verify" "$T/$m/ext4.img@s$i,snapshot=on" "$T/$m/xfs.img@s$i,snapshot=on"
	guest_wait $i 240 || fail "snapshots $i on $m: $(cat "$T/$i.out")"
	note "snapshots $i on $m: $(tr -d '\r\0' <"$T/$i.out" | grep ': up to' | tr '\n' ';')"
	! guest_off w || fail "the guest that writes ended: $(tail -n 5 "$T/w.out")"
done
guest_kill w
wait_for 60 images_idle a
finish

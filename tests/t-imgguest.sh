# SPDX-License-Identifier: GPL-3.0-or-later
# A virtual machine with an ext4 and an xfs on two images; daemon and QEMU killed at once under its writes. With the
# state directory, a second machine finds every file that the first one had synced. Without it (another node) it finds
# the same where fsync=remote, and a state that once was where fsync=local.
#
# Round: CACHE-AIO-FSYNC-kept|lost. What the guest writes: tests/guests/files.
. "$TESTS_DIR/lib.sh"
. "$TESTS_DIR/guests/guest.sh"
# io_uring and native only with O_DIRECT in QEMU 7.2's eyes: cache=none
ROUNDS=${ROUNDS:-"none-threads-local-kept writeback-threads-local-kept none-threads-local-lost writeback-threads-local-lost
	none-threads-remote-lost writeback-threads-remote-lost none-threads-remote-kept none-native-local-kept
	none-io_uring-local-kept"}
TIMES=${TIMES:-1} LOAD=${LOAD:-8} SIZE=${SIZE:-400M} # xfs wants 300 MiB
guest_need
need_cmd mkfs.ext4 mkfs.xfs xfs_repair
store_start
guest_kit "$TESTS_DIR/guests/files"

echo 'exec files write /dev/vda /dev/vdb' >"$T/write"
echo 'exec files verify /dev/vda /dev/vdb /root' >"$T/verify"
prefixes=0 # files of states that nobody had promised

OPTS="images=*.img,takeover=always,journal_size=256M"
for round in $(for _ in $(seq "$TIMES"); do echo $ROUNDS; done); do
	IFS=- read -r cache aio where fate <<<"$round"
	mount_lsvdfs a "$OPTS,fsync=$where"
	rm -f "$T"/a/*.img
	truncate -s "$SIZE" "$T/a/ext4.img" "$T/a/xfs.img"
	drive=cache=$cache,aio=$aio
	guest_start w "$T/write" "$T/a/ext4.img,$drive" "$T/a/xfs.img,$drive"
	guest_wait_said w '^done ext4 ' 240
	guest_wait_said w '^done xfs ' 240
	sleep "$LOAD" # how long it writes
	! guest_off w || fail "the guest ended: $(tail -n 5 "$T/w.out")"
	kill -9 "${daemon[a]}" "${guest[w]}"
	guest_kill w
	daemon_died a
	for fs in ext4 xfs; do
		n=$(tr -d '\r\0' <"$T/w.out" | sed -n "s/^done $fs \([0-9]*\)\$/\1/p" | tail -n 1)
		mkdir -p "$T/v.root"
		echo "$n" >"$T/v.root/promised.$fs"
		[ "$fate-$where" != lost-local ] || n=0
		echo "$n" >"$T/v.root/last.$fs"
	done
	node=a
	[ "$fate" = kept ] || { rm -rf "$T/a.state" "$T/a.cache"; node=b; }
	mount_lsvdfs $node "$OPTS"
	guest_start v "$T/verify" "$T/$node/ext4.img,$drive" "$T/$node/xfs.img,$drive"
	guest_wait v 240 || fail "$round: $(cat "$T/v.out")"
	note "$round: promised ext4 $(cat "$T/v.root/promised.ext4"), xfs $(cat "$T/v.root/promised.xfs"); $(tr -d '\r\0' <"$T/v.out" |
		grep ': up to' | tr '\n' ';')"
	[ "$fate-$where" != lost-local ] || prefixes=$((prefixes + $(tr -d '\r\0' <"$T/v.out" | sed -n 's/.*: up to \([0-9]*\),.*/+ \1/p' |
		tr '\n' ' ')))
	wait_for 60 images_idle $node
	umount_lsvdfs $node
	rm -rf "$T/b.state" "$T/b.cache"
done
# or the rounds of fsync=local without the journal have looked at nothing
[[ $ROUNDS != *local-lost* ]] || at_least $prefixes 1 "files in the bucket that nobody waited for"
finish

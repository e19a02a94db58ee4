# SPDX-License-Identifier: GPL-3.0-or-later
# A file system in an image behind a loop device: direct I/O on and off, sectors of 512 and 4096 bytes. Discard gives
# blocks back. Then the same from the bucket alone. Without direct I/O, too, the daemon has what the device has answered.
. "$TESTS_DIR/lib.sh"
need_root
need_cmd losetup mkfs.ext4 e2fsck blkdiscard
store_start
mount_lsvdfs a 'images=*.img,journal_size=64M'
A=$T/a
mkdir "$T/fs"
blocks() { stat -c %b "$1"; }
blocks_at_most() { [ "$(blocks "$1")" -le "$2" ]; }
for dio in on off; do
	for sector in 512 4096; do
		img=$A/$dio-$sector.img
		truncate -s 64M "$img"
		attach_loop l "$img" --direct-io=$dio --sector-size $sector
		mkfs.ext4 -q -F -b 4096 "$loop_l"
		mount "$loop_l" "$T/fs"
		on_exit "umount $T/fs"
		rnd 3000000 "$dio$sector" >"$T/fs/data"
		(cd "$T/fs" && mkdir -p a/b && for i in $(seq 50); do echo "$i" >"a/b/$i"; done && find . -type f -exec sha256sum {} + >"$T/sums-$dio-$sector")
		sync -f "$T/fs"
		full=$(blocks "$img")
		at_least "$full" 5800 "blocks with 3 MB in it"
		rm "$T/fs/data"
		sync -f "$T/fs" # what is not committed is not trimmed
		fstrim "$T/fs"
		wait_for 20 blocks_at_most "$img" $((full - 5500)) # counted when the discards are in the log
		sed -i '/ \.\/data$/d' "$T/sums-$dio-$sector"
		umount "$T/fs"
		e2fsck -fn "$loop_l" >"$T/fsck.log" 2>&1 || fail "fsck: $(cat "$T/fsck.log")"
		detach_loop l
	done
done
# as Xen's file: writes: no page of the host stands between
truncate -s 8M "$A/kept.img"
attach_loop l "$A/kept.img" --direct-io=off
rnd $((3 << 20)) kept >"$T/kept"
dd if="$T/kept" of="$loop_l" bs=1M oflag=direct 2>/dev/null
kill9_daemon a
detach_loop l
mount_lsvdfs a 'images=*.img,journal_size=64M'
cmp -n $((3 << 20)) "$T/kept" "$A/kept.img"
remount_fresh a 'images=*.img,journal_size=64M'
for n in on-512 on-4096 off-512 off-4096; do
	attach_loop l "$A/$n.img" --read-only --sector-size ${n#*-}
	e2fsck -fn "$loop_l" >"$T/fsck.log" 2>&1 || fail "$n from the bucket alone: $(cat "$T/fsck.log")"
	mount -o ro,noload "$loop_l" "$T/fs"
	(cd "$T/fs" && sha256sum --quiet -c "$T/sums-$n")
	umount "$T/fs"
	detach_loop l
done
attach_loop l "$A/on-512.img"
"$LSVDFS" image import "$A/copy.img" "$loop_l" # a device of blocks has an end
eq "$(stat -c %s "$A/copy.img")" $((64 << 20)) "size of an imported device"
cmp "$A/copy.img" "$A/on-512.img"
said=$("$LSVDFS" image import "$A/copy2.img" "$loop_l" --size 63M 2>&1) && fail "a device was cut"
[[ $said == *"has 67108864 bytes, more than --size says" ]] || fail "it said: $said"
blkdiscard -f "$loop_l"
detach_loop l
wait_for 20 blocks_at_most "$A/on-512.img" 8
finish

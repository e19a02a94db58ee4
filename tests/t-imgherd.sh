# SPDX-License-Identifier: GPL-3.0-or-later
# Many virtual machines on images of one mount, each with an ext4 and an xfs that it writes to and syncs, while every disk is
# snapshotted again and again; then the daemon and all machines are killed at once. Afterwards every machine's file systems
# are clean and have what they had promised, and so has every snapshot what was promised before its command.
#	GUESTS=N	machines		SNAPS=N		snapshots of each disk		EVERY=S		at least between two
. "$TESTS_DIR/lib.sh"
. "$TESTS_DIR/guests/guest.sh"
GUESTS=${GUESTS:-2} SNAPS=${SNAPS:-2} EVERY=${EVERY:-3} SIZE=${SIZE:-320M} BOOT=${BOOT:-240} # xfs wants 300 MiB
guest_need
need_cmd mkfs.ext4 mkfs.xfs xfs_repair
store_start
guest_kit "$TESTS_DIR/guests/files"
echo 'exec files write /dev/vda /dev/vdb' >"$T/write"
echo 'exec files verify /dev/vda /dev/vdb /root' >"$T/verify"
OPTS="images=*.img,takeover=always,journal_size=64M,memory=512M"
drive=cache=none,aio=threads

# promised GUEST FS: the last number that it said is safe
promised() { tr -d '\r\0' <"$T/$1.out" | sed -n "s/^done $2 \([0-9]*\)\$/\1/p" | tail -n 1; }
# verified WHAT EXT4 XFS LAST-EXT4 LAST-XFS
verified() {
	mkdir -p "$T/v.root"
	echo "$4" >"$T/v.root/last.ext4"
	echo "$5" >"$T/v.root/last.xfs"
	guest_start v "$T/verify" "$2,$drive" "$3,$drive"
	guest_wait v "$BOOT" || fail "$1: $(cat "$T/v.out")"
	note "$1: $(tr -d '\r\0' <"$T/v.out" | grep ': up to' | tr '\n' ';')"
}

mount_lsvdfs a "$OPTS"
for ((g = 1; g <= GUESTS; g++)); do
	truncate -s "$SIZE" "$T/a/g$g.ext4.img" "$T/a/g$g.xfs.img"
	guest_start "g$g" "$T/write" "$T/a/g$g.ext4.img,$drive" "$T/a/g$g.xfs.img,$drive"
done
for ((g = 1; g <= GUESTS; g++)); do
	for fs in ext4 xfs; do guest_wait_said "g$g" "^done $fs " $((BOOT + 60 * GUESTS)); done
done
for ((s = 1; s <= SNAPS; s++)); do
	at=$SECONDS
	for ((g = 1; g <= GUESTS; g++)); do
		for fs in ext4 xfs; do
			promised "g$g" $fs >"$T/last.$g.$fs.$s"
			"$LSVDFS" image snapshot "$T/a/g$g.$fs.img@s$s"
		done
	done
	for ((g = 1; g <= GUESTS; g++)); do
		! guest_off "g$g" || fail "guest $g ended: $(tail -n 5 "$T/g$g.out")"
	done
	[ $((SECONDS - at)) -ge "$EVERY" ] || sleep $((EVERY - SECONDS + at)) # how long they write
done
pids=()
for ((g = 1; g <= GUESTS; g++)); do pids+=("${guest[g$g]}"); done
kill -9 "${daemon[a]}" "${pids[@]}"
for ((g = 1; g <= GUESTS; g++)); do guest_kill "g$g"; done
daemon_died a

mount_lsvdfs a "$OPTS"
for ((g = 1; g <= GUESTS; g++)); do
	verified "guest $g" "$T/a/g$g.ext4.img" "$T/a/g$g.xfs.img" "$(promised "g$g" ext4)" "$(promised "g$g" xfs)"
done
# a journal is to be replayed: on clones, as one would do it
for ((g = 1; g <= GUESTS; g++)); do
	for ((s = 1; s <= SNAPS; s++)); do
		for fs in ext4 xfs; do "$LSVDFS" image clone "$T/a/g$g.$fs.img@s$s" "$T/a/v.$fs.img" >/dev/null; done
		verified "guest $g, snapshot $s" "$T/a/v.ext4.img" "$T/a/v.xfs.img" "$(cat "$T/last.$g.ext4.$s")" \
			"$(cat "$T/last.$g.xfs.$s")"
		for fs in ext4 xfs; do "$LSVDFS" image delete "$T/a/v.$fs.img"; done
	done
done
wait_for 120 images_idle a
for ((g = 1; g <= GUESTS; g++)); do
	for fs in ext4 xfs; do "$LSVDFS" image check "$T/a/g$g.$fs.img" >/dev/null; done
done
finish

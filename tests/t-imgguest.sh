# SPDX-License-Identifier: GPL-3.0-or-later
# A virtual machine with an ext4 and an xfs on two images; daemon and QEMU killed at once under its writes. With the
# state directory, a second machine finds every file that the first one had synced. Without it (another node) it finds
# the same where fsync=remote, and a state that once was where fsync=local.
#
# Round: CACHE-AIO-FSYNC-kept|lost. The guest writes files 1, 2, ... with their checksums, one after the other, and says
# "done FS N" when N is synced: as N + 1 is begun after that, whatever there is of N + 1 says that N must be whole.
. "$TESTS_DIR/lib.sh"
. "$TESTS_DIR/guests/guest.sh"
# io_uring and native only with O_DIRECT in QEMU 7.2's eyes: cache=none
ROUNDS=${ROUNDS:-"none-threads-local-kept writeback-threads-local-kept none-threads-local-lost writeback-threads-local-lost
	none-threads-remote-lost writeback-threads-remote-lost none-native-local-kept none-io_uring-local-kept"}
TIMES=${TIMES:-1} LOAD=${LOAD:-8} SIZE=${SIZE:-400M} # xfs wants 300 MiB
guest_need
need_cmd mkfs.ext4 mkfs.xfs xfs_repair
store_start
guest_kit

cat >"$T/write" <<'G'
mkfs.ext4 -q -F /dev/vda && mkfs.xfs -q -f /dev/vdb && mkdir -p /mnt/ext4 /mnt/xfs &&
	mount /dev/vda /mnt/ext4 && mount /dev/vdb /mnt/xfs || exit 1
sync
one() {
	local n=0 d=/mnt/$1
	cd $d || exit 1
	while :; do
		n=$((n + 1))
		mkdir -p $((n % 7))
		head -c $((10000 + RANDOM * 25)) /dev/urandom >$((n % 7))/$n
		sha256sum $((n % 7))/$n >>sums
		sync -f sums && echo "done $1 $n"
		[ $n -lt 40 ] || { rm $(((n - 39) % 7))/$((n - 39)); sed -i 1d sums; fstrim $d; }
	done
}
one ext4 &
one xfs &
wait
G
cat >"$T/verify" <<'G'
# last.FS: the last that must be there
bad=0
mkdir -p /mnt/ext4 /mnt/xfs
mount /dev/vda /mnt/ext4 || bad=1
mount /dev/vdb /mnt/xfs || bad=1
for fs in ext4 xfs; do
	cd /mnt/$fs || exit 1
	last=$(cat /root/last.$fs)
	# whatever was begun says that all before it is whole
	begun=$(find . -type f -name '[0-9]*' | sed 's|.*/||' | sort -n | tail -n 1)
	[ "${begun:-0}" -le "$last" ] || last=$((begun - 1))
	echo "$fs: up to $last, begun ${begun:-0}, promised $(cat /root/last.$fs)"
	awk -v n=$last '{ f = $2; sub(".*/", "", f) } f + 0 <= n' sums >/tmp/s
	if [ $last -gt 0 ]; then
		grep -q "/$last\$" /tmp/s || { echo "$fs: $last is not in the list"; tail -n 3 sums; bad=1; }
		sha256sum -c /tmp/s >/tmp/o 2>&1 || { grep -v ': OK' /tmp/o; bad=1; }
	fi
	cd /
	umount /mnt/$fs || bad=1
done
e2fsck -fn /dev/vda >/tmp/o 2>&1 || { cat /tmp/o; bad=1; }
xfs_repair -n /dev/vdb >/tmp/o 2>&1 || { cat /tmp/o; bad=1; }
dmesg | grep -iE 'I/O error|corrupt' && bad=1
exit $bad
G

OPTS="images=*.img,takeover=always,journal_size=256M"
for round in $(for _ in $(seq "$TIMES"); do echo $ROUNDS; done); do
	IFS=- read -r cache aio where fate <<<"$round"
	mount_lsvdfs a "$OPTS,fsync=$where"
	rm -f "$T"/a/*.img
	truncate -s "$SIZE" "$T/a/ext4.img" "$T/a/xfs.img"
	drive=cache=$cache,aio=$aio
	guest_start w "$T/write" "$T/a/ext4.img,$drive" "$T/a/xfs.img,$drive"
	guest_wait_said w '^done ext4 ' 120
	guest_wait_said w '^done xfs ' 120
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
	[ "$fate" = kept ] || rm -rf "$T/a.state" "$T/a.cache"
	mount_lsvdfs a "$OPTS"
	guest_start v "$T/verify" "$T/a/ext4.img,$drive" "$T/a/xfs.img,$drive"
	guest_wait v 120 || fail "$round: $(cat "$T/v.out")"
	note "$round: promised ext4 $(cat "$T/v.root/promised.ext4"), xfs $(cat "$T/v.root/promised.xfs"); $(tr -d '\r\0' <"$T/v.out" |
		grep ': up to' | tr '\n' ';')"
	wait_for 60 images_idle a
	umount_lsvdfs a
done
finish

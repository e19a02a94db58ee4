# SPDX-License-Identifier: GPL-3.0-or-later
# The daemon runs in a virtual machine whose power is cut while images are written: what its kernel had not put on the disk
# of the state directory is lost, and of what that disk had in its write cache (tests/guests/disk) some. The machine boots
# again, with that disk or, as another node, with an empty one.
#
# Round: WHAT-FSYNC-kept|lost. stamp: an image is written as it is (tests/stamp.c); it must be a prefix of what was written
# and hold all that was before the last fsync that completed. files: an ext4 and an xfs on loop devices on two images
# (tests/guests/files); both are clean, and each file that was synced is whole. Without the disk and with fsync=local: a
# state that once was. The host sees the same in the bucket.
. "$TESTS_DIR/lib.sh"
. "$TESTS_DIR/guests/guest.sh"
ROUNDS=${ROUNDS:-"stamp-local-kept files-local-kept files-remote-lost stamp-remote-lost files-local-lost stamp-local-lost"}
TIMES=${TIMES:-1} LOAD=${LOAD:-4} SECTORS=65536 SLOW=${SLOW:-300}
need_backend rgw aws front
guest_need
need_cmd losetup xfs_repair
stamp=$top_builddir/tests/stamp
[ -x "$stamp" ] || skip "$stamp is not built"
prog=$LSVDFS
[ ! -x "$top_builddir/.libs/lsvdfs" ] || prog=$top_builddir/.libs/lsvdfs
store_start
guest_kit "$prog" "$stamp" "$TESTS_DIR/guests/files" losetup
export GUEST_NET=1 MEM=${MEM:-512M}
"$stamp" new "$T/log" $SECTORS "$SEED"

cat >"$T/common" <<G
export HOME=/root AWS_EC2_METADATA_DISABLED=true AWS_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY
OPTS=images=*.img,journal_size=64M,state_dir=/state/s,cache_dir=/state/c,takeover=always,${STORE_OPTS/127.0.0.1/10.0.2.2}
SOURCE=$SOURCE SECTORS=$SECTORS
G
cat >>"$T/common" <<'G'
IFS=- read -r what where fate </root/round
ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up || exit 1
mkdir -p /state /m
mount -t ext4 /dev/vda /state || exit 1
lsvdfs mount -f $SOURCE /m -o $OPTS,fsync=$where &
for i in $(seq 1200); do grep -q ' /m fuse' /proc/mounts && break; sleep 0.1; done
grep ' /m fuse' /proc/mounts || exit 1
loops() {
	ext4=$(losetup --find --show --direct-io=on /m/ext4.img) && xfs=$(losetup --find --show --direct-io=on /m/xfs.img) || exit 1
}
G
cat "$T/common" - >"$T/write" <<'G'
case $what in
stamp)
	[ -e /m/disk.img ] || truncate -s $((SECTORS * 512)) /m/disk.img || exit 1
	cp /root/log /tmp/log
	echo begin
	stamp run -m -t 1 /tmp/log /m/disk.img 90000
	;;
files)
	rm -f /m/ext4.img /m/xfs.img
	truncate -s 400M /m/ext4.img /m/xfs.img && loops || exit 1 # xfs wants 300 MiB
	files write $ext4 $xfs
	;;
esac
G
cat "$T/common" - >"$T/verify" <<'G'
case $what in
stamp) stamp check -w $(cat /root/mode) /root/log /m/disk.img || exit 1 ;;
files)
	loops
	files verify $ext4 $xfs /root || exit 1
	losetup -d $ext4 $xfs
	;;
esac
lsvdfs umount /m && wait && umount /state
G

new_disk() {
	rm -f "$T/state.disk"
	truncate -s 2G "$T/state.disk"
	mkfs.ext4 -q -F "$T/state.disk"
}
disk=
disk_off() {
	[ -n "$disk" ] || return 0
	kill "$disk"
	wait "$disk" || true
	disk=
}
disk_on() {
	rm -f "$T/disk.sock"
	"$TESTS_DIR/guests/disk" "$T/state.disk" "$T/disk.sock" "$SEED.$cuts" >"$T/disk.out" 2>"$T/disk.log" &
	disk=$!
	wait_for 30 test -S "$T/disk.sock"
}
on_exit disk_off
# two more objects of each image: then what was written when this begins is in the bucket, mkfs at least
objects() { obj_keys ".lsvd/img/$(uuid_of "$1")/" | wc -l; }
uploaded() {
	local e x
	e=$(objects ext4.img) x=$(objects xfs.img)
	more() { [ "$(objects ext4.img)" -ge $((e + 2)) ] && [ "$(objects xfs.img)" -ge $((x + 2)) ]; }
	wait_for "$SLOW" more
}
said_last() { tr -d '\r\0' <"$T/w.out" | sed -n "s/^$1 \([0-9]*\)\$/\1/p" | tail -n 1; }
judge() { "$@" >"$T/judge.log" 2>&1 || fail "$*: $(cat "$T/judge.log")"; }
host_checks() {
	mount_lsvdfs b images=*.img
	case $what in
	stamp) judge "$stamp" check "$mode" "$T/log" "$T/b/disk.img" ;;
	files)
		attach_loop ext4 "$T/b/ext4.img" --read-only
		judge e2fsck -fn "$loop_ext4"
		detach_loop ext4
		attach_loop xfs "$T/b/xfs.img" --read-only
		judge xfs_repair -n "$loop_xfs"
		detach_loop xfs
		;;
	esac
	umount_lsvdfs b
	rm -rf "$T/b.state" "$T/b.cache"
}

new_disk
mkdir -p "$T/w.root" "$T/v.root"
cuts=0 prefixes=0
for round in $(for _ in $(seq "$TIMES"); do echo $ROUNDS; done); do
	IFS=- read -r what where fate <<<"$round"
	first=$(py -c 'import struct,sys; print(struct.unpack_from("<4Q", open(sys.argv[1], "rb").read(32))[3])' "$T/log")
	echo "$round" | tee "$T/w.root/round" >"$T/v.root/round"
	cp --sparse=always "$T/log" "$T/w.root/log"
	disk_on
	guest_start w "$T/write" "nbd:unix:$T/disk.sock,cache=writeback"
	case $what in
	stamp) guest_wait_said w '^synced ' "$SLOW" ;;
	files) guest_wait_said w '^done ext4 ' "$SLOW" && guest_wait_said w '^done xfs ' "$SLOW" ;;
	esac
	[ "$what-$where-$fate" != files-local-lost ] || uploaded
	sleep "$(py -c 'import random,sys; print(random.Random(sys.argv[1]).uniform(.1, float(sys.argv[2])))' "$SEED.$cuts" "$LOAD")"
	! guest_off w || fail "the guest ended: $(tail -n 5 "$T/w.out")"
	guest_kill w
	disk_off
	cuts=$((cuts + 1))
	mode=synced
	if [ "$what" = stamp ]; then
		synced=$(said_last synced)
		told="synced up to $synced"
		promised=$synced
		[ "$fate-$where" != lost-local ] || mode=any promised=0
		"$stamp" told "$T/log" $((synced - first + 2000)) "$promised"
	else
		told="ext4 $(said_last 'done ext4'), xfs $(said_last 'done xfs')"
		for fs in ext4 xfs; do
			[ "$fate-$where" != lost-local ] && said_last "done $fs" || echo 0
		done | { read -r e && read -r x && echo "$e" >"$T/v.root/last.ext4" && echo "$x" >"$T/v.root/last.xfs"; }
	fi
	cp --sparse=always "$T/log" "$T/v.root/log"
	echo $mode >"$T/v.root/mode"
	[ "$fate" = kept ] || new_disk
	power=$(cat "$T/disk.out")
	disk_on
	guest_start v "$T/verify" "nbd:unix:$T/disk.sock,cache=writeback"
	guest_wait v "$SLOW" || fail "after cut $cuts of $round ($told; $power): $(cat "$T/v.out")"
	disk_off
	saw=$(tr -d '\r\0' <"$T/v.out" | sed -n 's/.*\(operations, \| up to \)/\1/p' | tr '\n' ';')
	note "cut $cuts, $round: $told;$saw ${power#ready?}"
	! has ' damaged' <"$T/v.out" || note "$(grep -a ' damaged' "$T/v.out")"
	[ "$what-$where-$fate" != files-local-lost ] ||
		prefixes=$((prefixes + $(tr -d '\r\0' <"$T/v.out" | sed -n 's/.*: up to \([0-9]*\),.*/+ \1/p' | tr '\n' ' ')))
	host_checks
done
note "$cuts cuts"
# or the rounds of fsync=local without the journal have looked at nothing
[[ $ROUNDS != *files-local-lost* ]] || at_least $prefixes 1 "files in the bucket that nobody waited for"
finish

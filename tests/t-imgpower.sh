# SPDX-License-Identifier: GPL-3.0-or-later
# The daemon runs in a virtual machine whose power is cut while an image is written: what its kernel had not put on the disk
# of the state directory is lost. The machine boots again, and the image holds all that was before the last fsync
# that completed, and is a prefix of what was written (tests/stamp.c). The host sees the same in the bucket.
. "$TESTS_DIR/lib.sh"
. "$TESTS_DIR/guests/guest.sh"
ROUNDS=${ROUNDS:-2} LOAD=${LOAD:-4} SECTORS=65536
need_backend rgw aws front
guest_need
stamp=$top_builddir/tests/stamp
[ -x "$stamp" ] || skip "$stamp is not built"
prog=$LSVDFS
[ ! -x "$top_builddir/.libs/lsvdfs" ] || prog=$top_builddir/.libs/lsvdfs
store_start
guest_kit "$prog" "$stamp"
export GUEST_NET=1
truncate -s 1G "$T/state.disk"
mkfs.ext4 -q -F "$T/state.disk"
"$stamp" new "$T/log" $SECTORS "$SEED"

cat >"$T/common" <<G
export HOME=/root AWS_EC2_METADATA_DISABLED=true AWS_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY
ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up || exit 1
mkdir -p /state /m
mount -t ext4 /dev/vda /state || exit 1
mkdir -p /state/s /state/c
lsvdfs mount -f $SOURCE /m -o images=*.img,journal_size=64M,state_dir=/state/s,cache_dir=/state/c,takeover=always,${STORE_OPTS/127.0.0.1/10.0.2.2} &
for i in \$(seq 300); do grep -q ' /m fuse' /proc/mounts && break; sleep 0.1; done
grep ' /m fuse' /proc/mounts || exit 1
G
{
	cat "$T/common"
	cat <<-G
	[ -e /m/disk.img ] || truncate -s $((SECTORS * 512)) /m/disk.img || exit 1
	cp /root/log /tmp/log
	echo begin
	stamp run -m -t 1 /tmp/log /m/disk.img 90000
	G
} >"$T/write"
{
	cat "$T/common"
	cat <<-G
	stamp check -w synced /root/log /m/disk.img || exit 1
	lsvdfs umount /m && wait && umount /state
	G
} >"$T/verify"

cuts=0
for i in $(seq "$ROUNDS"); do
	first=$(py -c 'import struct,sys; print(struct.unpack_from("<4Q", open(sys.argv[1], "rb").read(32))[3])' "$T/log")
	mkdir -p "$T/w.root" "$T/v.root"
	cp --sparse=always "$T/log" "$T/w.root/log"
	guest_start w "$T/write" "$T/state.disk,cache=writeback"
	guest_wait_said w '^synced ' 120
	sleep "$(py -c 'import random,sys; print(random.Random(sys.argv[1]).uniform(.1, float(sys.argv[2])))' "$SEED.$i" "$LOAD")"
	! guest_off w || fail "the guest ended: $(tail -n 5 "$T/w.out")"
	guest_kill w
	cuts=$((cuts + 1))
	synced=$(tr -d '\r\0' <"$T/w.out" | sed -n 's/^synced \([0-9]*\)$/\1/p' | tail -n 1)
	"$stamp" told "$T/log" $((synced - first + 2000)) "$synced"
	cp --sparse=always "$T/log" "$T/v.root/log"
	guest_start v "$T/verify" "$T/state.disk,cache=writeback"
	guest_wait v 180 || fail "after cut $i (synced $synced): $(cat "$T/v.out")"
	note "cut $i: synced up to $synced; $(grep -a operations "$T/v.out" | tr -d '\r')"
	mount_lsvdfs b
	"$stamp" check synced "$T/log" "$T/b/disk.img" >"$T/judge.log" || fail "$(cat "$T/judge.log")"
	umount_lsvdfs b
done
note "$cuts cuts"
finish

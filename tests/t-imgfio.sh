# SPDX-License-Identifier: GPL-3.0-or-later
# fio writes an image and verifies what it wrote: blocks of 4K, 64K, 1M, random and sequential, O_DIRECT, without, and through
# the page cache of a loop device. Then every image reads the same from the bucket alone.
. "$TESTS_DIR/lib.sh"
LOAD=${LOAD:-0} SIZE=${SIZE:-8M} LOOP=${LOOP:-4k}
need_cmd fio sha256sum
store_start
mount_lsvdfs a images=*.img,journal_size=64M
A=$T/a
job() { # NAME FILE BS ARGUMENT...: for LOAD seconds, and SIZE bytes once
	local name=$1 file=$2 bs=$3 rw backlog=128
	[ "$bs" != 1M ] || backlog=8 # less than a file has blocks, or nothing is read before the end
	shift 3
	for rw in randwrite write; do
		[ "$LOAD" = 0 ] || fio --name="$name" --filename="$file" --rw=$rw --bs="$bs" --size="$SIZE" --randseed="$SEED" --time_based --runtime="$LOAD" \
			--verify=crc32c --verify_backlog=$backlog --verify_fatal=1 --verify_dump=0 --allow_file_create=0 --group_reporting \
			--output-format=terse --terse-version=3 "$@" >"$T/fio.log" 2>&1 || fail "$name $rw: $(cat "$T/fio.log")"
		# KB read, to verify, and written
		[ "$LOAD" = 0 ] || awk -F';' '$1 == 3 { r = $6; w = $47 } END { print "# " n ": " r " KB verified of " w; exit !(r > 0 && w > 0) }' \
			n="$name $rw" "$T/fio.log" || fail "$name $rw: fio verified nothing: $(cat "$T/fio.log")"
		# all of it in one state: written once more, fio verifies at the end
		fio --name="$name" --filename="$file" --rw=$rw --bs="$bs" --size="$SIZE" --randseed="$SEED" --verify=crc32c --do_verify=1 \
			--verify_fatal=1 --verify_dump=0 --allow_file_create=0 "$@" >"$T/fio.log" 2>&1 || fail "$name $rw, all: $(cat "$T/fio.log")"
		# that it did verify
		grep -q ' read: ' "$T/fio.log" || fail "$name $rw: fio read nothing: $(cat "$T/fio.log")"
	done
}
names=
for bs in 4k 64k 1M; do
	for how in direct plain; do
		n=$how-$bs
		truncate -s "$SIZE" "$A/$n.img"
		case $how in
		direct) job $n "$A/$n.img" $bs --direct=1 --ioengine=libaio --iodepth=16 ;;
		plain) job $n "$A/$n.img" $bs --ioengine=psync --numjobs=1 --fsync=64 ;;
		esac
		names+=" $n"
	done
done
if [ "$(id -u)" = 0 ] && truncate -s "$SIZE" "$A/loop.img" && loop=$(losetup --find --show "$A/loop.img"); then
	on_exit "loop_drop $loop $A/loop.img"
	loop_loop=$loop
	for bs in ${LOOP//,/ }; do job "loop-$bs" "$loop" "$bs" --ioengine=psync --fsync=256 --size="$SIZE"; done
	detach_loop loop
	names+=" loop"
else
	note "no loop device"
fi
sums() { (cd "$A" && for n in $names; do sha256sum "$n.img"; done) >"$T/$1"; }
sums before
remount_fresh a images=*.img,journal_size=64M
sums after
same "$T/before" "$T/after"
finish

# SPDX-License-Identifier: GPL-3.0-or-later
# stat(2) and a listing of images that are open here while the store does not answer: size and blocks as of now, from
# memory, also of the directories above them; and no more requests the longer it lasts. Who asks for something else waits
# as ever.
. "$TESTS_DIR/lib.sh"
need_backend front
store_start
A=$T/a
mount_lsvdfs a images=vm/**,attr_timeout=0.2
mkdir "$A/vm" "$A/vm/deep"
echo plain >"$A/plain"
for i in vm/one vm/deep/two; do
	truncate -s 1G "$A/$i.img"
	sleep 100000 <>"$A/$i.img" &
	openers+=($!)
	dd if=/dev/urandom of="$A/$i.img" bs=64k count=3 conv=notrunc,fsync status=none
done
ls -lR "$A" >"$T/before"
told() { timeout 20 stat -c '%n %s %b' "$A/vm/one.img" "$A/vm/deep/two.img" || fail "stat waits for the store"; }
was=$(told)
sleep 0.5 # what was asked is too old from here on

for how in refuse hang; do
	if [ $how = refuse ]; then front_ctl refuse 1; else front_ctl rule hang act=stall; fi
	# written and grown meanwhile: the kernel has nothing of that
	truncate -s 2G "$A/vm/one.img"
	dd if=/dev/urandom of="$A/vm/one.img" bs=64k seek=16 count=5 conv=notrunc status=none
	now=$(told)
	eq "$(sed -n '1s/.* \(.*\) .*/\1/p' <<<"$now")" $((2 << 30)) "size ($how)"
	timeout 20 ls -l "$A/vm/deep" >"$T/ls" || fail "ls waits ($how)"
	eq "$(tail -n +2 "$T/ls" | awk '{ print $5, $NF }')" "$((1 << 30)) two.img" "listing ($how)"
	[ "$(timeout 20 ls "$A/vm" | tr '\n' ' ')" = "deep one.img " ] || fail "ls of a directory above waits ($how)"
	# the first question waited a second, these do not; and they do not pile up
	start=$(date +%s%N)
	for _ in $(seq 20); do
		told >/dev/null
		sleep 0.02
	done
	note "$how: $((($(date +%s%N) - start) / 20000000)) ms each"
	at_most $((($(date +%s%N) - start) / 1000000)) 10000 "ms for 20 times stat"
	# not open here: it waits
	! timeout 1 cat "$A/plain" >/dev/null || fail "a plain file was read ($how)"
	if [ $how = refuse ]; then front_ctl refuse 0; else front_ctl clear; fi
	front_reset
	wait_for 60 stat "$A/plain"
	told >/dev/null
	ls -lR "$A" >/dev/null
	n=$(front_count HEAD LIST)
	at_most "$n" 60 "questions once it is back ($how)"
	truncate -s 1G "$A/vm/one.img"
done
# what another node does is seen as ever
wait_for 60 test "$(told)" = "$(told)"
mount_lsvdfs b images=vm/**
mkdir "$T/b/vm/new"
wait_for 20 test -d "$A/vm/new"
umount_lsvdfs b
for p in "${openers[@]}"; do
	kill "$p"
	wait "$p" || true
done
umount_lsvdfs a
[ -n "$was" ]
finish

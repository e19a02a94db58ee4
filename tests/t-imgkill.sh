# SPDX-License-Identifier: GPL-3.0-or-later
# kill -9 of the daemon while images are written: what was acknowledged reaches the bucket by the next mount alone, which
# nobody uses. Also a removal that was cut short, and a rename.
. "$TESTS_DIR/lib.sh"
need_cmd jq
ROUNDS=${ROUNDS:-4}
store_start
A=$T/a O=images=*.img,journal_size=64M
mount_lsvdfs a "$O"
truncate -s 32M "$A/disk.img"
truncate -s 32M "$T/model"
for i in $(seq "$ROUNDS"); do
	# the model gets what was acknowledged, and the daemon dies with the file open
	[ $((i % 2)) = 1 ] && sync=sync || sync=
	write_both "$A/disk.img" "$T/model" "$i" $sync "${daemon[a]}"
	daemon_died a
	mount_lsvdfs a "$O"
	wait_for 60 images_idle a
	grep -q 'disk.img: what the last mount had not sent of this image is in the bucket' "$T/a.log"
	: >"$T/a.log"
	# another machine sees all of it
	mount_lsvdfs b
	same "$T/b/disk.img" "$T/model"
	umount_lsvdfs b
	rm -rf "$T/b.state" "$T/b.cache"
done
# opened for writing and closed, again and again: that leaves notes in the journal which no log has
for _ in 1 2 3 4 5; do
	py -c 'import os,sys; f = os.open(sys.argv[1], os.O_RDWR); os.pread(f, 1, 0); os.close(f)' "$A/disk.img"
	wait_for 20 images_idle a
done
rnd 8192 notes >"$T/notes"
dd if="$T/notes" of="$T/model" bs=4096 seek=3 conv=notrunc status=none
py - "$A/disk.img" "$T/notes" "${daemon[a]}" <<'P'
import os, signal, sys
f = os.open(sys.argv[1], os.O_RDWR)
os.pwrite(f, open(sys.argv[2], 'rb').read(), 3 * 4096)
os.fsync(f)
os.kill(int(sys.argv[3]), signal.SIGKILL)
P
daemon_died a
mount_lsvdfs a "$O"
wait_for 60 images_idle a
same "$A/disk.img" "$T/model"
# taken by another machine while this one stood still, and died of it: what was not sent is kept, and can be had
rnd 12288 taken >"$T/taken"
py - "$A/disk.img" "$T/taken" "$T/written" "${daemon[a]}" <<'P' &
import ctypes, os, signal, sys
f = os.open(sys.argv[1], os.O_RDWR)
libc, n = ctypes.CDLL(None), ctypes.c_long
taken = open(sys.argv[2], 'rb').read()
os.pread(f, 512, 0) # it is ours: from here to the signal nothing waits
os.pwrite(f, taken, 5 * 4096)
assert libc.fallocate(f, 3, n(1 << 20), n(1 << 16)) == 0 # a discard
os.fsync(f)
os.kill(int(sys.argv[4]), signal.SIGSTOP)
open(sys.argv[3], 'w').close()
signal.pause()
P
writing=$!
wait_for 30 test -e "$T/written"
mount_lsvdfs b takeover=always,claim_wait=0
cat <>"$T/b/disk.img" >"$T/other"
kill9_daemon a
kill $writing
wait $writing || true
mount_lsvdfs a "$O"
left_waiting() { status a fs.images | has 'set aside as aside-'; }
wait_for 60 left_waiting
cmp "$A/disk.img" "$T/other"
J() { "$LSVDFS" image journal "$@"; }
id=$(J "$A" --json | py -c 'import json,sys; j, = json.load(sys.stdin); assert j["unsent"] == 2 and j["path"] == "disk.img", j; print(j["id"])')
eq "$(J "$A/disk.img" --id "$id" | sed 's/^[0-9]* //' | grep 'not sent' | tr '\n' ';')" \
	"write 20480 12288 not sent;discard 1048576 65536 not sent;" "what the image lacks"
J "$A/disk.img" --id "$id" --out "$T/lost"
dd if="$T/lost" bs=4096 skip=5 status=none | cmp - "$T/taken"
cp "$T/other" "$T/patched"
J "$A/disk.img" --id "$id" --out "$T/patched" --force
for f in other model; do
	dd if="$T/taken" of="$T/$f" bs=4096 seek=5 conv=notrunc status=none
	dd if=/dev/zero of="$T/$f" bs=65536 seek=16 count=1 conv=notrunc status=none
done
same "$T/patched" "$T/other"
same "$T/patched" "$T/model"
# the journal that a command beside the mount leaves comes to that one's with the next mount
"$LSVDFS" image snapshot "$SOURCE" disk.img@beside -o "state_dir=$T/a.state,cache_dir=$T/a.cache${STORE_OPTS:+,$STORE_OPTS}"
umount_lsvdfs a
mount_lsvdfs a "$O"
eq "$(J "$A" --json | jq -r '.[] | select(.unsent == 2).id')" "$id" "what was set aside, after another journal came"
has 'stays there' <"$T/a.log" && fail "$(cat "$T/a.log")"
must_fail 'is there already' J "$A/disk.img" --id "$id" --out "$T/lost"
must_fail 'no such id' J "$A/disk.img" --id 0-5 --drop
must_fail 'which one' J "$A/disk.img" --drop
must_fail 'are of image journal' "$LSVDFS" image info "$A/disk.img" --drop
must_fail '--id needs an argument' J "$A/disk.img" --id
J "$A/disk.img" --id "$id" --drop
eq "$(J "$A" --json | jq -c 'map(select(.unsent > 0))')" '[]' "journals that are left"
umount_lsvdfs b
# removing: with the local note of what is to be erased, and the key "dead", but before anything went
u=$(uuid_of disk.img)
umount_lsvdfs a
mount_lsvdfs a "$O"
rm "$A/disk.img"
kill9_daemon a
mount_lsvdfs a "$O"
wait_for 60 images_idle a
not_noted() { [ -z "$(find "$T/a.state" -name deleting)" ]; }
wait_for 60 not_noted
eq "$(log_left "$u")" "claim dead " "what stays of a removed image"
must_fail 'no such' stat "$A/disk.img"
finish

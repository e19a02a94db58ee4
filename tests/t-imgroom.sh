# SPDX-License-Identifier: GPL-3.0-or-later
# Room of journals in the state directory: what was uploaded is given back when an image is idle, but for two segments, so
# that its guest can go on whatever fills the disk; and all of it when the image was closed. What is not in the bucket stays,
# and a crash at any time finds it.
. "$TESTS_DIR/lib.sh"
IMAGES=${IMAGES:-12}
store_start
A=$T/a O=images=*.img,journal_size=16M,dirty_age=0.2 SEGMENTS=8192 # KiB, two
mount_lsvdfs a "$O"
kib() { du -sk "$T/a.state" | cut -f1; }
small() { [ "$(kib)" -le "$1" ]; }
put() { py - "$@" <<'P'
import os, sys
path, mib, salt = sys.argv[1:]
f = os.open(path, os.O_RDWR | os.O_CREAT)
d = (salt.encode() * (1 << 20))[:1 << 20]
for i in range(int(mib)):
    os.pwrite(f, d, i << 20)
os.fsync(f)
P
}
none=$(kib)
for i in $(seq "$IMAGES"); do
	truncate -s 64M "$A/$i.img"
	sleep 100000 <>"$A/$i.img" &
	openers+=($!)
	put "$A/$i.img" 14 "$i"
done
note "$none KiB with nothing, $(kib) KiB when $IMAGES images were written to"
# open and ours, but idle
wait_for 120 small $((none + (SEGMENTS + 40) * IMAGES))
eq "$(status a fs.images | grep -o "'state': 'owner'" | wc -l)" "$IMAGES" "images that are held"
note "$(kib) KiB when they are idle"
# it goes on from there
put "$A/1.img" 40 x
put "$A/2.img" 1 y
at_least "$(kib)" $((none + 8000)) "KiB while there is something to be sent"
kill9_daemon a
for p in "${openers[@]}"; do
	kill "$p"
	wait "$p" || true
done
mount_lsvdfs a "$O"
wait_for 120 images_idle a
wait_for 60 small $((none + 40 * IMAGES)) # a header, a note, the nonces, where it is
note "$(kib) KiB when all are closed"
py - "$A/1.img" 40 x "$A/2.img" 1 y "$A/3.img" 14 3 <<'P'
import sys
a = sys.argv[1:]
for path, mib, salt in zip(a[0::3], a[1::3], a[2::3]):
    d, f = (salt.encode() * (1 << 20))[:1 << 20], open(path, 'rb')
    for i in range(int(mib)):
        assert f.read(1 << 20) == d, (path, i)
P
# an idle one dies: nothing is missing, and it may be written again
sleep 100000 <>"$A/2.img" &
holder=$!
put "$A/2.img" 13 z
wait_for 120 small $((none + SEGMENTS + 40 * IMAGES))
kill9_daemon a
kill $holder
wait $holder || true
mount_lsvdfs a "$O"
wait_for 120 images_idle a
put "$A/2.img" 1 w
wait_for 60 images_idle a
umount_lsvdfs a
small $((none + 40 * IMAGES)) || fail "$(kib) KiB after the mount: $(find "$T/a.state" -size +64k -exec ls -ls {} +)"

mount_lsvdfs b
py - "$T/b/2.img" <<'P'
import sys
f = open(sys.argv[1], 'rb')
for s in (b'w', b'z', b'z'):
    assert f.read(1 << 20) == s * (1 << 20), s
P
umount_lsvdfs b
finish

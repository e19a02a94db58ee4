# SPDX-License-Identifier: GPL-3.0-or-later
# One image, two machines: readers follow, one writes, the other waits for the release or is told who holds it; taking over
# fences the first.
. "$TESTS_DIR/lib.sh"
store_start
mount_lsvdfs a images=*.img,journal_size=64M
mount_lsvdfs b images=*.img,journal_size=64M,claim_wait=1
truncate -s 8M "$T/a/d.img"
wait_for 20 images_idle a
rnd 1000000 1 >"$T/1"
rnd 1000000 2 >"$T/2"
exec 7<>"$T/a/d.img"
dd if="$T/1" of=/dev/fd/7 bs=100000 conv=notrunc,fdatasync status=none
sent() { [ "$(py -c 'import sys; print(open(sys.argv[1], "rb").read(1000000) == open(sys.argv[2], "rb").read())' "$T/b/d.img" "$T/1")" = True ]; }
# b looks on: what a has sent by age is there, and opening claims nothing
wait_for 20 sent
eq "$(status a fs.images | has "'state': 'owner'" && echo yes)" yes "a is the owner"
# b wants to write: a holds it
must_fail 'busy' dd if="$T/2" of="$T/b/d.img" bs=512 count=1 conv=notrunc
grep -q "held by $(hostname)" "$T/b.log" || fail "the holder is not named: $(cat "$T/b.log")"
must_fail 'busy' rm "$T/b/d.img"
# hand-over: closed there, written here at once
exec 7<&-
dd if="$T/2" of="$T/b/d.img" bs=100000 conv=notrunc status=none
wait_for 20 images_idle b
cmp -n 1000000 "$T/a/d.img" "$T/2"
# an image stays with who wrote it last, until it is claimed
umount_lsvdfs a
mount_lsvdfs a images=*.img,journal_size=64M,takeover=never
must_fail 'busy' dd if="$T/2" of="$T/a/d.img" bs=512 count=1 conv=notrunc
grep -q "was last written by $(hostname)" "$T/a.log" || fail "not named: $(cat "$T/a.log")"
"$LSVDFS" image claim "$T/a/d.img" >/dev/null
dd if="$T/2" of="$T/a/d.img" bs=100000 conv=notrunc status=none
wait_for 20 images_idle a
umount_lsvdfs a
mount_lsvdfs a images=*.img,journal_size=64M
# and back, with both sides overlapping: b waits for a's release
umount_lsvdfs b
mount_lsvdfs b images=*.img,journal_size=64M
exec 7<>"$T/a/d.img"
dd if="$T/1" of=/dev/fd/7 bs=100000 conv=notrunc status=none
head -c 1000000 "$T/b/d.img" >/dev/null # a reader does not disturb
py -c '
import os,sys
f = os.open(sys.argv[1], os.O_RDWR)
d = b""
while len(d) < 1000000: d += os.pread(f, 1000000 - len(d), len(d))
assert d == open(sys.argv[2], "rb").read(), "a stale byte after the hand-over"
os.close(f)' "$T/b/d.img" "$T/1" 7<&- &
reader=$!
writing() { status b fs.images | has "'writers': 1"; }
wait_for 20 writing
exec 7<&-
wait $reader
wait_for 20 images_idle b
# taken over: the first is told, its unsent bytes are not in the image
umount_lsvdfs b
mount_lsvdfs b images=*.img,journal_size=64M,takeover=always,claim_wait=0
exec 7<>"$T/a/d.img"
dd if="$T/2" of=/dev/fd/7 bs=512 count=1 conv=notrunc status=none
dd if="$T/1" of="$T/b/d.img" bs=100000 conv=notrunc status=none
fenced() { ! dd if="$T/2" of=/dev/fd/7 bs=512 count=1 conv=notrunc,fsync status=none; }
wait_for 30 fenced
status a fs.images | has "'state': 'fenced'"
exec 7<&- || true
wait_for 20 images_idle b
cmp -n 1000000 "$T/b/d.img" "$T/1"
finish

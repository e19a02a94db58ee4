# SPDX-License-Identifier: GPL-3.0-or-later
# IMAGE@NAME as a file to be read: beside the writer, on another machine, through every way in which programs read a disk;
# nothing can be done to it; what is really called so comes first; what goes elsewhere is missed, never made up.
. "$TESTS_DIR/lib.sh"
need_cmd jq losetup
need_root
store_start
OPTS='images=*.img'
SIZE=$((24 << 20))
mount_lsvdfs a "$OPTS"
mount_lsvdfs b "$OPTS,ro"
A=$T/a B=$T/b
shows() { tr '\n' ' ' < <(cd "$1" && find . -mindepth 1 -printf '%P\n' | LC_ALL=C sort); }
for i in 1 2 3; do rnd $((2 << 20)) $i >"$T/v$i"; done
# want N: what the image is after version N was put at 1 MiB and, shorter, at 9 MiB
want() {
	truncate -s 0 "$T/want$1"
	truncate -s $SIZE "$T/want$1"
	dd if="$T/v$1" of="$T/want$1" bs=64k seek=16 conv=notrunc status=none
	dd if="$T/v$1" of="$T/want$1" bs=64k seek=144 count=9 conv=notrunc status=none
}
put() {
	dd if="$T/v$1" of="$A/d.img" bs=64k seek=16 conv=notrunc,fsync status=none
	dd if="$T/v$1" of="$A/d.img" bs=64k seek=144 count=9 conv=notrunc,fsync status=none
}
for i in 1 2 3; do want $i; done
truncate -s $SIZE "$A/d.img"
chmod 0640 "$A/d.img"
chown 1:2 "$A/d.img"

# --- made a moment ago, while somebody writes ---
exec 6<>"$A/d.img" # the writer's, for most of the test
put 1
must_fail 'no such file' stat "$A/d.img@one"
on snapshot "$A/d.img@one"
same "$A/d.img@one" "$T/want1"
put 2
must_fail 'no such file' stat "$A/d.img@two"
now=$(date +%s)
on snapshot "$A/d.img@two"
eq "$(stat -c '%s %a %u:%g %h %F' "$A/d.img@two")" "$SIZE 440 1:2 1 regular file" "stat of a snapshot"
at_least "$(stat -c %Y "$A/d.img@two")" "$now" "time of a snapshot"
at_least "$(stat -c %b "$A/d.img@two")" $(((2 << 20) / 512)) "blocks that nobody has looked for"
exec 7<"$A/d.img@two"
put 3
same "$A/d.img@one" "$T/want1"
same "$A/d.img@two" "$T/want2"
same /dev/fd/7 "$T/want2"
same "$A/d.img" "$T/want3"
eq "$(shows "$A")" "d.img " "what a listing shows"
(cd "$A" && eq "$(echo d.img*)" d.img "what a pattern matches")
ino=$(stat -c %i "$A/d.img@two")
[ "$ino" != "$(stat -c %i "$A/d.img@one")" ] || fail "two snapshots are one file"

# --- as programs read disks ---
eq "$(stat -c %b "$A/d.img@one")" $((((2 << 20) + (9 << 16)) / 512)) "blocks"
dd if="$A/d.img@one" of="$T/out" bs=64k iflag=direct status=none
same "$T/out" "$T/want1"
rm "$T/out"
cp --sparse=always "$A/d.img@one" "$T/out"
same "$T/out" "$T/want1"
at_most "$(stat -c %b "$T/out")" $(((3 << 20) / 512)) "blocks of a sparse copy"
py - "$A/d.img@one" "$T/want1" <<'EOF'
import mmap, os, sys
want = open(sys.argv[2], 'rb').read()
fd = os.open(sys.argv[1], os.O_RDONLY)
for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
    m = mmap.mmap(fd, 0, flags=flags, prot=mmap.PROT_READ)
    assert m[:] == want, 'mmap'
found, at = [], 0
while True:
    try:
        data = os.lseek(fd, at, os.SEEK_DATA)
    except OSError:
        break
    at = os.lseek(fd, data, os.SEEK_HOLE)
    found.append((data >> 16, at >> 16))
assert found == [(16, 48), (144, 153)], found
assert os.pread(fd, 100, len(want) - 10) == want[-10:] and os.pread(fd, 1, len(want)) == b''
assert os.listxattr(fd) == []
os.fsync(fd)
EOF
attach_loop d "$A/d.img@two" --read-only
same "$loop_d" "$T/want2"
detach_loop d
if command -v qemu-img >/dev/null; then
	eq "$(qemu-img info --output=json "$A/d.img@two" | jq '.["virtual-size"]')" $SIZE "qemu-img info"
	eq "$(qemu-img map --output=json "$A/d.img@two" | jq '[.[] | select(.data) | .length] | add')" \
		$(((2 << 20) + (9 << 16))) "qemu-img map"
	qemu-img convert -O qcow2 "$A/d.img@two" "$T/q"
	qemu-img compare -f qcow2 -F raw "$T/q" "$T/want2" >/dev/null || fail "qemu-img convert makes something else"
fi

# --- nothing can be done to it ---
ro() { must_fail 'read-only file system' "$@"; }
S=$A/d.img@one
before=$(stat -c '%a %u %g %Y %Z %s %i' "$S")
ro dd if=/dev/zero of="$S" count=1 conv=notrunc status=none
ro truncate -s 1 "$S"
ro truncate -s 0 "$S"
ro sh -c ': >"$1"' sh "$S"
ro sh -c ': >>"$1"' sh "$S"
ro chmod 0644 "$S"
ro chown 0:0 "$S"
ro touch "$S"
ro fallocate -l 1M "$S"
ro rm "$S"
ro mv -T "$S" "$A/other"
echo other >"$A/other"
ro mv -f -T "$A/other" "$S"
py - "$S" <<'EOF'
import errno, os, sys
def refused(fn, *a, want=errno.EROFS):
    try:
        fn(*a)
    except OSError as e:
        assert e.errno == want, (fn, e)
    else:
        raise AssertionError(fn)
s = sys.argv[1]
refused(os.setxattr, s, 'user.x', b'y')
refused(os.removexattr, s, 'user.x')
refused(os.getxattr, s, 'user.x', want=errno.ENODATA)
refused(os.rename, s, s + 'x')
refused(os.utime, s, (1, 1))
refused(os.open, s, os.O_RDWR)
refused(os.open, s, os.O_WRONLY | os.O_CREAT)
refused(os.open, s, os.O_RDONLY | os.O_TRUNC)
refused(os.open, s, os.O_RDWR | os.O_CREAT | os.O_EXCL, want=errno.EEXIST)
refused(os.mkdir, s, want=errno.EEXIST)
refused(os.symlink, 'x', s, want=errno.EEXIST)
refused(os.mknod, s, want=errno.EEXIST)
refused(os.link, s, s + 'x', want=errno.EPERM)
refused(os.rmdir, s, want=errno.ENOTDIR)
os.close(os.open(s, os.O_RDONLY | os.O_CREAT))
EOF
eq "$(stat -c '%a %u %g %Y %Z %s %i' "$S")" "$before" "attributes after all that"
same "$S" "$T/want1"
eq "$(cat "$A/other")" other
# the kernel's cheap copies need a file system that has them: FUSE has none; lsvdfs image clone makes one
must_fail 'not supported' cp --reflink=always "$S" "$A/clone.img"
rm -f "$A/clone.img" "$A/other"

# --- another machine ---
same "$B/d.img@one" "$T/want1"
same "$B/d.img@two" "$T/want2"
eq "$(stat -c %i "$B/d.img@two")" "$ino" "inode number elsewhere"
if [ "$BACKEND" = front ]; then # what it costs: the list is followed, and known for a second
	settle
	front_reset
	stat "$B/d.img@two" >/dev/null
	at_most "$(front_count GET PUT LIST)" 10 "requests of a look at a snapshot: $(front_counts)"
	front_reset
	exec 5<"$B/d.img@two"
	at_most "$(front_count GET PUT LIST)" 12 "requests of an open: $(front_counts)"
	exec 5<&-
fi
ro rm "$B/d.img@two"
on snapshot "$A/d.img@three"
wait_for 5 test -e "$B/d.img@three"
same "$B/d.img@three" "$T/want3"

# --- open here: it stays; so does its image ---
exec 6>&-
must_fail 'busy' rm "$A/d.img" & # both wait a while for a close that may be on its way
must_fail 'open on this mount' on delete "$A/d.img@two"
wait $!
same /dev/fd/7 "$T/want2"
exec 7<&-
on delete "$A/d.img@two"
must_fail 'no such file' cat "$A/d.img@two"
on snapshot "$A/d.img@two" # another one of that name
same "$A/d.img@two" "$T/want3"
[ "$(stat -c %i "$A/d.img@two")" != "$ino" ] || fail "another snapshot is the same file"
wait_for 5 cmp -s "$B/d.img@two" "$T/want3"

# --- deleted elsewhere while it is open: what is missing is missed ---
remount_fresh b "$OPTS,ro,cache_size=0" # nothing of it is in a cache
exec 7<"$B/d.img@one"
cmp -n 65536 -i 1048576 /dev/fd/7 "$T/want1"
on delete "$A/d.img@one"
wait_for 5 test ! -e "$B/d.img@one"
for i in 2 3; do # nothing needs what it was but its mark
	dd if="$T/v1" of="$A/d.img" bs=64k seek=$((16 * i)) conv=notrunc,fsync status=none
	wait_for 20 images_idle a
	on gc "$A/d.img" >/dev/null
done
py - "$T/want1" <<'EOF'
import errno, os, sys
want, missed = open(sys.argv[1], 'rb').read(), 0
for off in range(0, len(want), 65536):
    try:
        got = os.pread(7, 65536, off)
        assert got and want.startswith(got, off), f'other bytes at {off}'
        missed += len(got) < 65536 # up to what is missing
    except OSError as e:
        assert e.errno in (errno.EIO, errno.ESTALE), e
        missed += 1
print('# missed', missed, 'of', len(want) >> 16)
assert missed > 0, 'everything is still there'
EOF
grep -q 'd.img@one: read: .*(was it deleted' "$T/b.log" || fail "no word of the snapshot that went"
exec 7<&-

# --- what is really called so comes first; and images with an @ of their own ---
cp "$A/d.img" "$T/want4"
on snapshot "$A/d.img@four"
echo plain >"$T/plain"
obj_put d.img@four "$T/plain"
wait_for 5 cmp -s "$A/d.img@four" "$T/plain"
echo more >>"$A/d.img@four"
eq "$(tail -n 1 "$A/d.img@four")" more
rm "$A/d.img@four"
same "$A/d.img@four" "$T/want4"
on create "$A/d.img@3" 1M
on snapshot "$A/d.img@3@in"
eq "$(stat -c %s "$A/d.img@3@in")" $((1 << 20)) "size of a snapshot of an image with an @"
mkdir "$A/d.img@dir"
echo y >"$A/d.img@file"
eq "$(cat "$A/d.img@file")" y
on snapshot "$A/d.img@file" # hidden by the file
eq "$(cat "$A/d.img@file")" y
rm "$A/d.img@file"
eq "$(stat -c %s "$A/d.img@file")" $SIZE
for name in 'd.img@' '@one' 'd.img@a b' 'd.img@three@' 'd.img@@three' 'no.img@one' 'd.img@none' 'd.img.lsvd@one'; do
	must_fail 'no such file' stat "$A/$name"
done
for name in 'd.img@' '@one' 'd.img@none' 'no@one'; do
	echo z >"$A/$name"
	eq "$(cat "$A/$name")" z
	rm "$A/$name"
done

# --- the image goes by another name, or goes ---
exec 7<"$A/d.img@three"
mv "$A/d.img" "$A/e.img"
must_fail 'no such file' stat "$A/d.img@three"
same "$A/e.img@three" "$T/want3"
same /dev/fd/7 "$T/want3"
exec 7<&-
mkdir "$A/sub"
mv "$A/e.img" "$A/sub/e.img"
mv "$A/sub" "$A/sub2"
same "$A/sub2/e.img@three" "$T/want3"
remount_fresh a "$OPTS"
same "$A/sub2/e.img@three" "$T/want3"
rm "$A/sub2/e.img" "$A/d.img@3"
must_fail 'no such file' stat "$A/sub2/e.img@three"
must_fail 'no such file' stat "$A/d.img@3@in"
wait_for 5 test ! -e "$B/d.img@3@in"
wait_for 20 images_idle a
finish

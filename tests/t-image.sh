# SPDX-License-Identifier: GPL-3.0-or-later
# Disk images on the mount: made, written as a model says, listed, renamed, carried to another machine, removed.
. "$TESTS_DIR/lib.sh"
store_start
mount_lsvdfs a 'images=vm/*:**/*.img,journal_size=64M'
A=$T/a
mkdir "$A/vm" "$A/d"

# --- what becomes one, and how it looks ---
truncate -s 12M "$A/vm/sda"
eq "$(stat -c '%s %b %F' "$A/vm/sda")" "12582912 8 regular file"
: >"$A/d/x.img"
mknod "$A/d/y.img" p
echo plain >"$A/d/plain"
echo plain >"$A/d/plain.lsvd"
eq "$(ls "$A/d" | tr '\n' ' ')" "plain plain.lsvd x.img y.img "
wait_for 20 images_idle a
for n in vm/sda d/x.img; do obj_exists "$n.lsvd" || fail "$n is no image"; done
obj_get vm/sda.lsvd | has '^name=vm/sda$' || fail "the name object does not say its name"
must_fail 'not permitted' cat "$A/vm/sda.lsvd"
must_fail 'not permitted' touch "$A/vm/sda.lsvd"
must_fail 'exists' mkdir "$A/vm/sda"
echo hidden >"$T/hidden"
obj_put vm/sda "$T/hidden"
if [ "$BACKEND" = file ]; then note "an object beside an image"; fi
settle
eq "$(ls "$A/vm" | tr '\n' ' ')" "sda sda~object "
eq "$(cat "$A/vm/sda~object")" hidden
eq "$(stat -c %s "$A/vm/sda")" 12582912
rm "$A/vm/sda~object"
eq "$(ls "$A/vm")" sda
long=$(printf 'x%.0s' {1..250}) # shown by a name that is longer than any that can be made
: >"$A/vm/$long"
obj_put "vm/$long" "$T/hidden"
settle
eq "$(ls "$A/vm" | wc -l)" 3
eq "$(cat "$A/vm/$long~object")" hidden
echo more >>"$A/vm/$long~object"
mv "$A/vm/$long~object" "$A/vm/short"
eq "$(cat "$A/vm/short")" "$(printf 'hidden\nmore')"
rm "$A/vm/$long" "$A/vm/short"
must_fail 'too long' touch "$A/vm/${long}y.img"
must_fail 'invalid' touch "$A/vm/"$'a\nb'

# --- random operations against a plain file ---
OPS=${OPS:-250}
truncate -s 12M "$T/model"
export OPS
model() { # IMAGE MODEL SALT: the same operations on both; every read must agree
	py - "$@" <<'P'
import ctypes, os, random, sys
img, mod, salt = sys.argv[1:]
r = random.Random(f"{os.environ['SEED']}.{salt}")
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
PUNCH, ZERO, KEEP = 2, 16, 1
def falloc(fd, mode, off, n):
    if libc.fallocate(fd, mode, off, n): raise OSError(ctypes.get_errno(), 'fallocate')
def opened(): return os.open(img, os.O_RDWR), os.open(mod, os.O_RDWR)
a, b = opened()
for k in range(int(os.environ['OPS'])):
    size = os.fstat(b).st_size
    op = r.choice('wwwwwwwwrrrrpzztgfoa')
    off = r.randrange(0, max(size, 1))
    n = r.choice([r.randrange(1, 3000), r.randrange(1, 200000), 512 * r.randrange(1, 64), 4096 * r.randrange(1, 100)])
    if r.random() < .6: off = off // 4096 * 4096
    if op == 'w':
        d = r.randbytes(n)
        assert os.pwrite(a, d, off) == n
        os.pwrite(b, d, off)
    elif op == 'r':
        x, y = os.pread(a, n, off), os.pread(b, n, off)
        assert x == y, f'op {k}: read {off}+{n}: {len(x)} and {len(y)} bytes, first difference at {next((i for i, (p, q) in enumerate(zip(x, y)) if p != q), None)}'
    elif op == 'p':
        for f in (a, b): falloc(f, PUNCH | KEEP, off, n)
    elif op == 'z':
        for f in (a, b): falloc(f, ZERO | r.choice([KEEP]), off, n)
    elif op == 't' and r.random() < .3:
        s = r.randrange(size // 2, size + 1)
        for f in (a, b): os.ftruncate(f, s)
    elif op == 'g' and size < 16 << 20:
        s = size + r.choice([1, 511, 4096, 1 << 20, 777777])
        for f in (a, b): os.ftruncate(f, s)
    elif op == 'f': os.fsync(a)
    elif op == 'a':
        d = r.randbytes(n)
        for f in (a, b): os.pwrite(f, d, os.fstat(b).st_size)
    elif op == 'o' and r.random() < .5:
        os.close(a); os.close(b)
        a, b = opened()
    assert os.fstat(a).st_size == os.fstat(b).st_size, f'op {k} {op}: size {os.fstat(a).st_size}, model {os.fstat(b).st_size}'
# the map: no byte that is not zero may lie in a hole, and the extents cover the file
size, at, data = os.fstat(a).st_size, 0, 0
while at < size:
    try: s = os.lseek(a, at, os.SEEK_DATA)
    except OSError as e:
        assert e.errno == 6, e
        s = size
    assert not any(os.pread(b, s - at, at)), f'a hole at {at}+{s - at} has data'
    at = os.lseek(a, s, os.SEEK_HOLE) if s < size else size
    data += at - s
print(f'# {data} of {size} bytes are data')
P
}
model "$A/vm/sda" "$T/model" 1
same "$A/vm/sda" "$T/model"

# --- punch, allocated blocks, sparse copies ---
rnd 3000000 p >"$T/p"
: >"$A/d/p.img"
dd if="$T/p" of="$A/d/p.img" bs=64K conv=notrunc status=none
blocks() { stat -c %b "$1"; }
at_least "$(blocks "$A/d/p.img")" 5800 "blocks of 3 MB"
fallocate -p -o 0 -l 2097152 "$A/d/p.img"
few_blocks() { [ "$(blocks "$1")" -le 2000 ]; }
wait_for 20 few_blocks "$A/d/p.img" # counted when the discard is in the log
{ head -c 2097152 /dev/zero; tail -c +2097153 "$T/p"; } >"$T/punched"
same "$A/d/p.img" "$T/punched"
cp --sparse=always "$T/punched" "$A/d/q.img"
same "$A/d/q.img" "$T/punched"
at_most "$(blocks "$A/d/q.img")" 2000 "blocks of a sparse copy"
# the name learns what is allocated, though somebody begins to read while the writer still closes
for n in 1 2 3; do
	cp --sparse=always "$T/punched" "$A/d/r$n.img"
	same "$A/d/r$n.img" "$T/punched"
done
cp --sparse=auto "$A/d/q.img" "$T/q"
same "$T/q" "$T/punched"

# --- metadata does not touch the log ---
wait_for 30 images_idle a
u=$(uuid_of vm/sda)
before=$(obj_keys ".lsvd/img/$u/" | wc -l)
chmod 600 "$A/vm/sda"
py -c 'import os,sys; os.setxattr(sys.argv[1], "user.note", b"disk"); os.utime(sys.argv[1], (1, 1234567890))' "$A/vm/sda"
eq "$(obj_keys ".lsvd/img/$u/" | wc -l)" "$before" "objects of the log after a chmod"

# --- renames ---
mv "$A/vm/sda" "$A/vm/sdb"
eq "$(ls "$A/vm")" sdb
obj_get vm/sdb.lsvd | has '^name=vm/sdb$' || fail "the name did not follow the rename"
! obj_exists vm/sda.lsvd || fail "the old name is still there"
mkdir "$A/up"
mv "$A/vm" "$A/up/vm"
obj_get up/vm/sdb.lsvd | has '^name=up/vm/sdb$' || fail "the name did not follow the directory"
same "$A/up/vm/sdb" "$T/model"
echo x >"$A/up/vm/file"
mv "$A/up/vm/sdb" "$A/up/vm/file"
eq "$(ls "$A/up/vm")" file
same "$A/up/vm/file" "$T/model"
mv -f "$A/d/q.img" "$A/d/p.img"
same "$A/d/p.img" "$T/punched"

# --- another machine, which has only the bucket ---
remount_fresh a 'images=vm/*:**/*.img,journal_size=64M'
same "$A/up/vm/file" "$T/model"
same "$A/d/p.img" "$T/punched"
eq "$(stat -c '%a %Y %s' "$A/up/vm/file")" "600 1234567890 $(stat -c %s "$T/model")"
eq "$(py -c 'import os,sys; print(os.getxattr(sys.argv[1], "user.note").decode())' "$A/up/vm/file")" disk
at_least "$(blocks "$A/d/p.img")" 1700 "blocks that the name says"
for n in 1 2 3; do at_least "$(blocks "$A/d/r$n.img")" 1700 "blocks that the name of copy $n says"; done
model "$A/up/vm/file" "$T/model" 2
same "$A/up/vm/file" "$T/model"
wait_for 30 images_idle a

# --- a missing log is said, and never an empty image ---
u=$(uuid_of d/x.img)
obj_keys ".lsvd/img/$u/" >"$T/keys"
while read -r k; do obj_delete "$k"; done <"$T/keys"
must_fail 'input/output' cat "$A/d/x.img"
must_fail 'input/output' dd if=/dev/zero of="$A/d/x.img" bs=512 count=1 conv=notrunc
grep -q 'log of the image is nowhere' "$T/a.log" || fail "the missing log is not named"
rm "$A/d/x.img"

# --- removed ---
u=$(uuid_of up/vm/file)
exec 7<"$A/up/vm/file"
must_fail 'busy' rm "$A/up/vm/file"
exec 7<&-
rm "$A/up/vm/file"
must_fail 'no such file' stat "$A/up/vm/file"
wait_for 30 images_idle a
eq "$(log_left "$u")" "claim dead " "what stays of a removed image"
[ -z "$(obj_keys up/vm/)" ] || [ "$(obj_keys up/vm/)" = up/vm/ ] || fail "left: $(obj_keys up/vm/)"
for n in "$A"/d/*.img; do rm "$n"; done
finish

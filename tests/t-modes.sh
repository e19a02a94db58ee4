# SPDX-License-Identifier: GPL-3.0-or-later
# Stores of other habits than RGW's and plain AWS': parts of one size demanded (R2), ETags that are no MD5 (KMS). Multi-part
# files written, edited, appended to, cut, copied and renamed under each; the bytes are compared here, in the bucket and by
# a machine that never saw them.
. "$TESTS_DIR/lib.sh"
need_backend aws
store_start
cat >"$T/work.py" <<'P'
import os, random, shutil, sys
top, ref, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
r = random.Random(seed)
def both(what):
    for d in (top, ref): what(d)
def write(n, size):
    b = r.randbytes(size)
    def f(d):
        with open(f'{d}/{n}', 'wb') as h:
            for o in range(0, size, 1 << 20): h.write(b[o:o + (1 << 20)])
    both(f)
def edit(n, *offs):
    b = [r.randbytes(r.randrange(1, 70000)) for _ in offs]
    def f(d):
        with open(f'{d}/{n}', 'r+b') as h:
            for o, x in zip(offs, b): h.seek(o); h.write(x)
    both(f)
def append(n, size):
    b = r.randbytes(size)
    def f(d):
        with open(f'{d}/{n}', 'ab') as h: h.write(b)
    both(f)
M = 1 << 20
write('edited', 23 * M + 17); edit('edited', 11 * M); edit('edited', 3, 16 * M - 5, 23 * M)
write('grown', 12 * M + 1); append('grown', 1000); append('grown', 13 * M); append('grown', 7)
write('cut', 21 * M); both(lambda d: os.truncate(f'{d}/cut', 12 * M + 5)); append('cut', 6 * M)
write('stretched', 11 * M); both(lambda d: os.truncate(f'{d}/stretched', 24 * M)); edit('stretched', 20 * M)
both(lambda d: shutil.copyfile(f'{d}/edited', f'{d}/copy')); edit('copy', 6 * M)
both(lambda d: os.rename(f'{d}/copy', f'{d}/renamed')); append('renamed', 5 * M + 3)
write('replaced', 16 * M); both(lambda d: os.rename(f'{d}/replaced', f'{d}/grown2'))
both(lambda d: os.chmod(f'{d}/grown2', 0o640)); edit('grown2', 9 * M)
write('small', 100); append('small', 11 * M)
both(lambda d: os.truncate(f'{d}/small', 50))
P
for mode in equal_parts kms "equal_parts kms"; do
	for m in $mode; do front_ctl "$m" 1; done
	rm -rf "$T/ref" "$T/a.state" "$T/a.cache"
	mkdir "$T/ref"
	mount_lsvdfs a part_size=5M
	front_reset
	py "$T/work.py" "$T/a" "$T/ref" "$SEED" || fail "under '$mode'"
	eq "$(status a spool.parked)" 0 "parked under '$mode'"
	note "$mode: $(front_counts)"
	(cd "$T/ref" && for f in *; do cmp "$f" "$T/a/$f" || exit 1; done) || fail "read back under '$mode'"
	remount_fresh a part_size=5M
	(cd "$T/ref" && for f in *; do cmp "$f" "$T/a/$f" && s3 get "$f" | cmp - "$f" || exit 1; done) || fail "elsewhere under '$mode'"
	eq "$(stat -c %a "$T/a/grown2")" 640
	rm -f "$T/a"/*
	umount_lsvdfs a
	for m in $mode; do front_ctl "$m" 0; done
done
finish

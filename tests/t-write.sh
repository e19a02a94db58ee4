# SPDX-License-Identifier: GPL-3.0-or-later
# Bytes: write anywhere, append, truncate, fallocate, punch, seek, mmap, copy_file_range, large files - here, in the object,
# and after a remount.
. "$TESTS_DIR/lib.sh"
store_start
mount_lsvdfs a part_size=5M
cd "$T/a"

py - <<'P'
import errno, mmap, os
def no(e, f, *a):
    try: f(*a)
    except OSError as x: assert x.errno == e, x; return
    raise SystemExit(f'{f} {a} worked')
f = os.open('holes', os.O_RDWR | os.O_CREAT)
assert os.pwrite(f, b'end', 1000000) == 3 and os.fstat(f).st_size == 1000003
assert os.pread(f, 10, 0) == bytes(10) and os.pread(f, 100, 999998) == b'\0\0end'
os.pwrite(f, b'start', 0); os.fsync(f)
os.pwrite(f, b'middle', 500000); os.ftruncate(f, 500003)
assert os.pread(f, 100, 499998) == b'\0\0mid'
os.ftruncate(f, 600000); assert os.pread(f, 10, 500000) == b'mid' + bytes(7)
assert os.lseek(f, 0, os.SEEK_END) == 600000
assert os.lseek(f, 0, os.SEEK_DATA) == 0 and os.lseek(f, 0, os.SEEK_HOLE) <= 600000
no(errno.ENXIO, os.lseek, f, 600000, os.SEEK_DATA)
os.posix_fallocate(f, 600000, 100000); assert os.fstat(f).st_size == 700000
os.close(f)
f = os.open('holes', os.O_RDONLY)
assert os.pread(f, 5, 0) == b'start' and os.pread(f, 6, 500000) == b'mid\0\0\0' and os.fstat(f).st_size == 700000
no(errno.EBADF, os.write, f, b'x')
os.close(f)

# append by two descriptors; O_TRUNC; O_EXCL
a, b = (os.open('log', os.O_WRONLY | os.O_CREAT | os.O_APPEND) for _ in range(2))
for i in range(50): os.write(a, b'a%02d\n' % i); os.write(b, b'b%02d\n' % i)
os.close(a); os.close(b)
assert open('log').read() == ''.join(f'a{i:02}\nb{i:02}\n' for i in range(50))
no(errno.EEXIST, os.open, 'log', os.O_WRONLY | os.O_CREAT | os.O_EXCL)
f = os.open('log', os.O_WRONLY | os.O_TRUNC); assert os.fstat(f).st_size == 0; os.write(f, b'new'); os.close(f)
assert open('log').read() == 'new'
os.truncate('log', 1); assert open('log').read() == 'n'
os.truncate('log', 5); assert open('log', 'rb').read() == b'n\0\0\0\0'

# mmap: write, read, beyond a remap, after close
open('map', 'wb').write(bytes(10000))
f = os.open('map', os.O_RDWR); m = mmap.mmap(f, 10000); m[5000:5005] = b'hello'; os.close(f); m.flush(); m[9999:] = b'!'; m.close()
assert open('map', 'rb').read()[4999:5006] == b'\0hello\0'
os.sync()

# copy_file_range; holes by fallocate(1)
open('src', 'wb').write(os.urandom(300000))
s, d = os.open('src', os.O_RDONLY), os.open('dst', os.O_WRONLY | os.O_CREAT)
try:
    n = 0
    while n < 300000: n += os.copy_file_range(s, d, 300000 - n)
except OSError as x:
    assert x.errno == errno.EOPNOTSUPP, x  # the kernel of this machine does not fall back
    os.lseek(s, 0, 0); os.lseek(d, 0, 0); os.write(d, os.read(s, 300000))
os.close(d); assert open('dst', 'rb').read() == open('src', 'rb').read()
# zero-byte files, and one byte
open('empty', 'w').close(); open('one', 'w').write('1')
# dup and fork: every writer's close is good
f = os.open('shared', os.O_WRONLY | os.O_CREAT); g = os.dup(f); os.write(f, b'1'); os.close(f); os.write(g, b'2')
if os.fork() == 0: os.write(g, b'3'); os._exit(0)
os.wait(); os.write(g, b'4'); os.close(g); assert open('shared').read() == '1234'
P
fallocate --punch-hole --offset 1000 --length 5000 src
eq "$(dd if=src bs=1000 skip=1 count=5 status=none | tr -d '\0' | wc -c)" 0 "a punched hole"
(echo a; echo b) >sub
eq "$(cat sub | tr '\n' ' ')" "a b "

# larger than a part: written in order, in pieces anywhere, edited in the middle, appended to
rnd 23000001 big >"$T/big"
cp "$T/big" big
same "$T/big" big
printf 'EDITED' | dd of=big bs=1 seek=7000000 conv=notrunc status=none
printf 'EDITED' | dd of="$T/big" bs=1 seek=7000000 conv=notrunc status=none
same "$T/big" big
echo appended | tee -a big >>"$T/big"
same "$T/big" big
truncate -s 11111111 big "$T/big"
same "$T/big" big
py - "$T/big2" big2 <<'P'
import os, random, sys
r = random.Random(int(os.environ['SEED']))
fs = [open(p, 'wb', buffering=0) for p in sys.argv[1:]]
for _ in range(120):
    off, data = r.randrange(16 << 20), r.randbytes(r.randrange(1, 200000))
    for f in fs: f.seek(off); f.write(data)
for f in fs: f.close()
P
same "$T/big2" big2
cd "$T"
tree_facts a >before
umount_lsvdfs a
obj_get big2 | cmp - "$T/big2"
obj_get big | cmp - "$T/big"
rm -rf a.state a.cache
mount_lsvdfs a
tree_facts a >after
diff before after
# half of a large file through a small window; both ends
eq "$(tail -c 1000 a/big2 | sha256sum)" "$(tail -c 1000 big2 | sha256sum)"
eq "$(dd if=a/big2 bs=100k skip=50 count=30 status=none | sha256sum)" "$(dd if=big2 bs=100k skip=50 count=30 status=none | sha256sum)"
eq "$(dd if=a/one bs=1M skip=1 status=none | wc -c)" 0
finish

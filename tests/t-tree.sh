# SPDX-License-Identifier: GPL-3.0-or-later
# Names: create, list, rename, remove, links, special files, modes, owners, times, xattrs - and what is refused.
. "$TESTS_DIR/lib.sh"
store_start
mount_lsvdfs a
cd "$T/a"

eq "$(ls -A)" "" "a new mount"
echo one >f
mkdir -p d/e/f
echo two >d/e/f/g
eq "$(cat f)" one
eq "$(cat d/e/f/g)" two
eq "$(find . | sort | tr '\n' ' ')" ". ./d ./d/e ./d/e/f ./d/e/f/g ./f "
eq "$(stat -c '%s %F %h' f)" "4 regular file 1"
must_fail 'File exists' mkdir d
must_fail 'No such file' cat none
must_fail 'No such file' cat d/none
must_fail 'Not a directory' cat f/x
must_fail 'not empty' rmdir d
must_fail 'Is a directory' py -c 'import os; os.unlink("d")'
must_fail 'Not a directory' rmdir f
must_fail 'Operation not permitted' ln f hard
must_fail 'not permitted|denied' mkdir .lsvd
must_fail 'not permitted|denied' mkdir d/.lsvd
must_fail 'too long' touch "$(printf %256s | tr ' ' x)"
touch "$(printf %255s | tr ' ' x)" && rm x*
must_fail 'Invalid or incomplete|Illegal byte' py -c 'open(b"\xff\xfe", "w")'

# odd names, byte for byte
for n in 'a b' 'a+b' 'a%2Fb' 'ä' 'a&b<c>"d' "it's" 'a?b#c' '~x' 'a=b;c' '☃' $'tab\there' '-rf' 'x~object'; do
	echo "$n" >"./$n"
	eq "$(cat "./$n")" "$n"
	rm -- "$n"
done

# rename: files, onto files, directories, and what must fail
mv f f2
must_fail 'No such' cat f
eq "$(cat f2)" one
echo old >target
mv f2 target
eq "$(cat target)" one
ino=$(stat -c %i target)
mv target d/moved
eq "$(stat -c %i d/moved)" "$ino" "inode number over a rename"
must_fail 'File exists' py - <<'P'
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
open('n', 'w').close()
if libc.renameat2(-100, b'd/moved', -100, b'n', 1): sys.exit(os.strerror(ctypes.get_errno()))
P
must_fail 'Invalid argument' py - <<'P'
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.renameat2(-100, b'd/moved', -100, b'n', 2): sys.exit(os.strerror(ctypes.get_errno()))
P
rm n
mv d/e d/E
eq "$(cat d/E/f/g)" two
must_fail 'No such' ls d/e
mkdir empty full
touch full/x
must_fail 'not empty' mv -T d/E full
mv -T d/E empty
eq "$(cat empty/f/g)" two
must_fail 'subdirectory|Invalid' mv empty empty/f/inside
must_fail 'Not a directory|non-directory' mv -T empty d/moved
must_fail 'Is a directory|with directory' py -c 'import os; os.rename("d/moved", "empty")'
for i in $(seq 30); do echo "$i" >"full/$i"; done
mv full many
eq "$(ls many | wc -l)" 31
eq "$(cat many/17)" 17

# links and special files
ln -s 'to/nowhere and ä' s
eq "$(readlink s)" 'to/nowhere and ä'
eq "$(stat -c %s s)" 17 "size of a symlink"
ln -s d/moved s2
eq "$(cat s2)" one
must_fail 'File exists' ln -s x s
if [ "$(id -u)" = 0 ]; then
	mknod dev c 1 3
	eq "$(stat -c '%F %t %T' dev)" "character special file 1 3"
	mknod blk b 7 200
	eq "$(stat -c '%F %t %T' blk)" "block special file 7 c8"
fi
mkfifo fifo
eq "$(stat -c %F fifo)" fifo
(echo through >fifo) &
eq "$(cat fifo)" through
py -c 'import socket; s=socket.socket(socket.AF_UNIX); s.bind("sock")'
eq "$(stat -c %F sock)" socket

# modes, owners, times
echo x >m
for mode in 600 4755 1777 000 644; do
	chmod $mode m
	eq "$(stat -c %a m)" "$((10#$mode))" mode
done
chmod 2750 d
eq "$(stat -c %a d)" 2750
(umask 027 && touch um && mkdir umd)
eq "$(stat -c %a um umd | tr '\n' ' ')" "640 750 "
if [ "$(id -u)" = 0 ]; then
	chown 1234:4321 m d
	eq "$(stat -c %u:%g m d | tr '\n' ' ')" "1234:4321 1234:4321 "
	chmod 6755 m
	chown 5:5 m
	eq "$(stat -c %a m)" 755 "chown clears suid and sgid"
fi
touch -d '2001-02-03 04:05:06.123456789' m d
eq "$(stat -c %.9Y m | cut -d. -f2)" 123456789
eq "$(date -u -d "@$(stat -c %Y d)" +%F)" 2001-02-03
touch -d '1960-01-01' m
eq "$(stat -c %Y m)" -315619200 "a time before 1970"
before=$(stat -c %.9Z m)
chmod 600 m
[ "$(stat -c %.9Z m)" != "$before" ] || fail "chmod left ctime alone"

# xattrs
py - <<'P'
import os, errno
def no(e, f, *a):
    try: f(*a)
    except OSError as x: assert x.errno == e, x; return
    raise SystemExit(f'{f} {a} worked')
os.setxattr('m', 'user.a', b'1'); os.setxattr('m', 'user.long-name.' + 'x' * 100, b'v\0w' * 20)
assert os.getxattr('m', 'user.a') == b'1' and os.getxattr('m', 'user.long-name.' + 'x' * 100) == b'v\0w' * 20
assert sorted(os.listxattr('m'))[0] == 'user.a' and len(os.listxattr('m')) == 2
no(errno.EEXIST, os.setxattr, 'm', 'user.a', b'2', os.XATTR_CREATE)
no(errno.ENODATA, os.setxattr, 'm', 'user.b', b'2', os.XATTR_REPLACE)
no(errno.ENODATA, os.getxattr, 'm', 'user.b')
os.setxattr('m', 'user.a', b''); assert os.getxattr('m', 'user.a') == b''
os.removexattr('m', 'user.a'); no(errno.ENODATA, os.removexattr, 'm', 'user.a')
os.setxattr('d', 'user.dir', b'yes'); assert os.getxattr('d', 'user.dir') == b'yes'
P

# readdir survives removal while listing; statfs; access
mkdir big
py - <<'P'
import os
for i in range(300): open(f'big/{i:04}', 'w').close()
with os.scandir('big') as it:
    n = 0
    for e in it:
        os.unlink(e.path); n += 1
assert n == 300, n
os.rmdir('big')
P
# a listing that was fetched before a chmod and is handed out after it does not undo it: what is set next would seal that
mkdir set
py - <<'P'
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
libc.getdents64.restype = ctypes.c_ssize_t
def getdents(fd): # few at a time, so that the rest of the page is handed out later
    buf = ctypes.create_string_buffer(4096)
    n, names, o = libc.getdents64(fd, buf, ctypes.c_size_t(4096)), [], 0
    assert n >= 0
    while o < n:
        size = int.from_bytes(buf.raw[o + 16:o + 18], 'little')
        names.append(buf.raw[o + 19:o + size].split(b'\0')[0].decode()); o += size
    return names
for k in range(400):
    with open(f'set/f{k:03}', 'w') as f: f.write('x')
time.sleep(1.1) # the kernel's own knowledge has run out
fd = os.open('set', os.O_RDONLY | os.O_DIRECTORY)
seen = getdents(fd); os.stat('set/f000'); seen += getdents(fd); assert 'f000' in seen and 'f399' not in seen
os.chmod('set/f399', 0o600)
more = seen[2:]
while more: # the kernel asks for attributes along with the names, since it sees that they are wanted
    for n in more: os.stat(f'set/{n}')
    more = getdents(fd)
os.utime('set/f399', (5, 5)); s = os.stat('set/f399')
assert (s.st_mode & 0o7777, s.st_mtime) == (0o600, 5), f'a chmod was undone: {s}'
os.close(fd)
P
rm -r set
at_least "$(stat -f -c %a .)" 1000 "free blocks"
eq "$(stat -f -c %S .)" 4096 "block size"
[ -r m ] && [ ! -x m ]
rm -rf -- * .[!.]* 2>/dev/null || true
eq "$(ls -A)" "" "after rm -rf"
cd "$T"
umount_lsvdfs a
eq "$(obj_keys | grep -v '^\.lsvd/' || true)" "" "objects left"
finish

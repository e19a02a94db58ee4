# SPDX-License-Identifier: GPL-3.0-or-later
# Files that are open while their name goes: unlinked, replaced, moved, truncated by another; and locks on the node.
. "$TESTS_DIR/lib.sh"
store_start
mount_lsvdfs a
cd "$T/a"
rnd 3000000 x >"$T/x"
cp "$T/x" clean
py - "$T/x" <<'P'
import errno, fcntl, os, sys
x = open(sys.argv[1], 'rb').read()
def rd(f): return os.pread(f, 1 << 24, 0)
# unlinked while open: a clean one, one being written, one that was never closed
f = os.open('clean', os.O_RDWR); os.unlink('clean')
assert not os.path.exists('clean') and os.fstat(f).st_nlink == 0 and rd(f) == x
os.pwrite(f, b'still', 10); assert rd(f)[8:16] == x[8:10] + b'still' + x[15:16]; os.close(f)
assert not os.path.exists('clean')
f = os.open('fresh', os.O_RDWR | os.O_CREAT); os.write(f, b'abc'); os.unlink('fresh'); os.write(f, b'def')
assert rd(f) == b'abcdef'; os.fsync(f); os.close(f); assert not os.path.exists('fresh')
# a new file under the old name while the old one is open
f = os.open('n', os.O_RDWR | os.O_CREAT); os.write(f, b'old'); os.unlink('n')
open('n', 'w').write('new'); assert rd(f) == b'old' and open('n').read() == 'new'; os.close(f); assert open('n').read() == 'new'
# replaced by a rename: the old handle keeps the old bytes
f = os.open('n', os.O_RDONLY); open('n2', 'w').write('newer'); os.rename('n2', 'n')
assert rd(f) == b'new' and open('n').read() == 'newer' and os.fstat(f).st_nlink == 0; os.close(f)
# renamed while being written: the handle goes along
f = os.open('w1', os.O_RDWR | os.O_CREAT); os.write(f, b'first'); os.rename('w1', 'w2'); os.write(f, b' second')
os.close(f); assert open('w2').read() == 'first second' and not os.path.exists('w1')
os.mkdir('d'); f = os.open('d/w', os.O_RDWR | os.O_CREAT); os.write(f, b'in'); os.rename('d', 'D'); os.write(f, b'side')
os.close(f); assert open('D/w').read() == 'inside'
# written through a handle after rename onto an existing name
open('t', 'w').write('target'); f = os.open('w2', os.O_RDWR); os.pwrite(f, b'FIRST', 0); os.rename('w2', 't'); os.close(f)
assert open('t').read() == 'FIRST second'
# truncated under a reader on this node
open('r', 'w').write('0123456789'); f = os.open('r', os.O_RDONLY); os.truncate('r', 4); assert rd(f) == b'0123'; os.close(f)
# a writer and a reader with two handles see one file
w, r = os.open('wr', os.O_WRONLY | os.O_CREAT), os.open('wr', os.O_RDONLY)
for i in range(20): os.write(w, b'%03d' % i); assert rd(r)[-3:] == b'%03d' % i
os.close(w); os.close(r)
# mkstemp pattern of editors: write, fsync, rename
for i in range(5):
    f = os.open('.tmp', os.O_WRONLY | os.O_CREAT | os.O_EXCL); os.write(f, b'v%d' % i); os.fsync(f); os.close(f); os.rename('.tmp', 'edited')
    assert open('edited').read() == f'v{i}'
# locks of this node
a, b = os.open('l', os.O_RDWR | os.O_CREAT), os.open('l', os.O_RDWR)
fcntl.flock(a, fcntl.LOCK_EX)
try: fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB); raise SystemExit('two exclusive locks')
except BlockingIOError: pass
os.close(a); fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB); os.close(b)
# the working directory removed
os.mkdir('cwd'); os.chdir('cwd'); os.rmdir('../cwd')
try: open('x', 'w'); raise SystemExit('created a file in a removed directory')
except FileNotFoundError: pass
P
cd "$T"
remount_fresh a
cd a
eq "$(cat n t edited D/w)" "newerFIRST secondv4inside"
eq "$(ls | tr '\n' ' ')" "D edited l n r t wr "
cd ..
finish

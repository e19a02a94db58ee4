# SPDX-License-Identifier: GPL-3.0-or-later
# Close-to-open between two mounts: after close() on one, open() on the other reads those bytes - whatever changed, and
# whatever it has open or mapped. ROUNDS rounds each (10; soak: 1000).
. "$TESTS_DIR/lib.sh"
ROUNDS=${ROUNDS:-10}
store_start
mount_lsvdfs a
mount_lsvdfs b
export ROUNDS
py - "$T/a" "$T/b" <<'P'
import mmap, os, random, sys, time
A, B = sys.argv[1:]
rounds, r = int(os.environ['ROUNDS']), random.Random(int(os.environ['SEED']))
def put(p, data):
    with open(p, 'wb') as f: f.write(data)
def get(p):
    with open(p, 'rb') as f: return f.read()
def pages(tag, i, n):  # every 4 KiB page names its version: a mixture shows
    return b''.join(b'%s %08d ' % (tag, i) + b'.' * 4085 for _ in range(n))
def one_version(data, what):
    vs = {data[o:o + 17] for o in range(0, len(data), 4096)}
    assert len(vs) <= 1, f'{what}: mixed {sorted(vs)}'
def seen(p, want, what):
    got = get(p)
    assert got == want, f'{what}: stale or mixed: {len(got)} bytes {got[:20]!r}, should be {len(want)} bytes {want[:20]!r}'
def section(name, f):
    t = time.monotonic()
    for i in range(rounds): f(i)
    print(f'# {name}: {rounds} rounds, {(time.monotonic() - t) / rounds * 1000:.0f} ms each', flush=True)

def sizes(i):
    d = pages(b'S', i, r.randrange(1, 40))[:r.randrange(1, 100000)]; put(f'{A}/s', d); seen(f'{B}/s', d, f'round {i}, sizes')
def equal(i):
    d = pages(b'E', i, 20); put(f'{A}/e', d); seen(f'{B}/e', d, f'round {i}, equal sizes')
def swap(i):
    x, y = (A, B) if i % 2 else (B, A)
    d = pages(b'W', i, 5); put(f'{x}/w', d); seen(f'{y}/w', d, f'round {i}, written in turn')
def renamed(i):
    d = pages(b'R', i, 3); put(f'{A}/r.tmp', d); os.rename(f'{A}/r.tmp', f'{A}/r'); seen(f'{B}/r', d, f'round {i}, renamed')
def new_name(i):
    d = pages(b'N', i, 2); put(f'{A}/new{i}', d)
    end = time.monotonic() + 1.5
    while True:
        try: seen(f'{B}/new{i}', d, f'round {i}, a new name'); break
        except FileNotFoundError: assert time.monotonic() < end, f'round {i}: not seen within attr_timeout'
def old_open(i):
    d1, d2 = pages(b'1', i, 300), pages(b'2', i, 300)
    put(f'{A}/o', d1)
    f = os.open(f'{B}/o', os.O_RDONLY); os.posix_fadvise(f, 0, 0, os.POSIX_FADV_RANDOM)
    m = mmap.mmap(f, len(d1), prot=mmap.PROT_READ)
    first = os.pread(f, 4096 * r.randrange(1, 100), 0); assert first == d1[:len(first)]
    put(f'{A}/o', d2)
    seen(f'{B}/o', d2, f'round {i}, with the old version open')
    got = b''
    try:
        for o in range(0, len(d1), 65536): got += os.pread(f, 65536, o)
        one_version(got, f'round {i}, old handle'); assert got[:17] == d1[:17], f'round {i}: the old handle shows the new version'
    except OSError as e: assert e.errno == 116, e
    del m
    os.close(f)
    seen(f'{B}/o', d2, f'round {i}, after the old handle was closed')
def removed(i):
    known('x'); seen(f'{B}/x', b'first', 'x'); os.unlink(f'{A}/x')
    try: open(f'{B}/x'); raise SystemExit(f'round {i}: a removed file was opened')
    except FileNotFoundError: pass
def moved(i):  # what A renames is B's version by then: no old pages, and no old bytes written over it
    n = 4096 * 3; put(f'{A}/mv2', b'target'); put(f'{A}/mv1', b'1' * n); known_as(f'{B}/mv1', n); f = None
    seen(f'{A}/mv1', b'1' * n, 'mv1'); seen(f'{A}/mv1', b'1' * n, 'mv1')
    if i % 2: f = os.open(f'{A}/mv1', os.O_RDWR); os.pwrite(f, b'x', 0); os.fsync(f); seen(f'{B}/mv1', b'x' + b'1' * (n - 1), 'mv1')
    os.stat(f'{A}/mv1'); os.stat(f'{A}/mv2')
    put(f'{B}/mv1', b'2' * n); os.rename(f'{A}/mv1', f'{A}/mv2')
    seen(f'{A}/mv2', b'2' * n, f'round {i}, renamed after another mount wrote it')
    if f: refused(f, f'round {i}, renamed while open'); seen(f'{A}/mv2', b'2' * n, f'round {i}, renamed while open')
def refused(f, what):
    try: os.pwrite(f, b'y', 1)
    except OSError as e: assert e.errno == 116, e
    try: os.close(f); raise SystemExit(f'{what}: an old handle wrote over the version of another mount')
    except OSError as e: assert e.errno == 116, e
def beside(i):  # A has it open, written and synced: that handle is no reason not to ask
    n = 4096 * 3; put(f'{A}/bs', b'1' * n); known_as(f'{B}/bs', n)
    f = os.open(f'{A}/bs', os.O_RDWR); os.pwrite(f, b'x' * (n if i % 2 else 1), 0); os.fsync(f); os.stat(f'{A}/bs')
    put(f'{B}/bs', b'2' * n); seen(f'{A}/bs', b'2' * n, f'round {i}, opened beside a synced handle'); refused(f, f'round {i}, synced handle')
    seen(f'{B}/bs', b'2' * n, f'round {i}, after the synced handle was closed')
def known_as(p, n):
    end = time.monotonic() + 1.5
    while not (os.path.exists(p) and os.path.getsize(p) == n): assert time.monotonic() < end, f'{p}: not seen within attr_timeout'
def known(n):  # a name that is new to B is seen within attr_timeout; then the rounds count on it
    put(f'{A}/{n}', b'first'); end = time.monotonic() + 1.5
    while not os.path.exists(f'{B}/{n}'): assert time.monotonic() < end, f'{n}: not seen within attr_timeout'
for n in 'sewrox': known(n)
for n, f in (('sizes', sizes), ('equal size', equal), ('in turn', swap), ('renamed over', renamed), ('open and mapped', old_open)):
    section(n, f)
rounds = min(rounds // 2, 50); section('removed', removed)
section('moved', moved)
section('beside', beside)
section('new names', new_name)
P
# attributes: at most attr_timeout old
echo x >"$T/a/m"
wait_for 2 test -e "$T/b/m"
chmod 600 "$T/a/m"
touch -d '2010-10-10 10:10:10.101010101' "$T/a/m"
wait_for 5 test "$(stat -c %a.%.9Y "$T/a/m")" = "600.$(date -d '2010-10-10 10:10:10' +%s).101010101"
seen_attr() { [ "$(stat -c %a.%.9Y "$T/b/m")" = "600.$(date -d '2010-10-10 10:10:10' +%s).101010101" ]; }
wait_for 6 seen_attr
mkdir "$T/a/dir"
wait_for 3 test -d "$T/b/dir"
rmdir "$T/a/dir"
gone() { ! [ -d "$T/b/dir" ]; }
wait_for 3 gone
finish

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
import mmap, os, random, signal, sys, threading, time
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
def section(name, f, n=rounds):
    t = time.monotonic()
    for i in range(n): f(i)
    print(f'# {name}: {n} rounds, {(time.monotonic() - t) / n * 1000:.0f} ms each', flush=True)

def sizes(i):
    d = pages(b'S', i, r.randrange(1, 40))[:r.randrange(1, 100000)]; put(f'{A}/s', d); seen(f'{B}/s', d, f'round {i}, sizes')
def equal(i):
    d = pages(b'E', i, 20); put(f'{A}/e', d); seen(f'{B}/e', d, f'round {i}, equal sizes')
def swap(i):
    x, y = (A, B) if i % 2 else (B, A)
    d = pages(b'W', i, 5); put(f'{x}/w', d); seen(f'{y}/w', d, f'round {i}, written in turn')
def renamed(i):
    d = pages(b'R', i, 3); put(f'{A}/r.tmp', d); os.rename(f'{A}/r.tmp', f'{A}/r'); seen(f'{B}/r', d, f'round {i}, renamed')
def new_names(i):  # half of them B has just asked for in vain; each is seen within attr_timeout of its close
    names = [f'n{i % 7}/new{i}.{k}' for k in range(20)][:max(rounds - i * 20, 1)]
    for m in (A, B): os.makedirs(f'{m}/n{i % 7}', exist_ok=True)
    for n in names[::2]: assert not os.path.exists(f'{B}/{n}')
    if i % 2: os.listdir(f'{B}/n{i % 7}')
    closed = {}
    for n in names: put(f'{A}/{n}', pages(b'N', i, 2)); closed[n] = time.monotonic()
    while closed:
        for n, t in list(closed.items()):
            asked = time.monotonic()
            try: seen(f'{B}/{n}', pages(b'N', i, 2), f'round {i}, a new name'); del closed[n]
            except FileNotFoundError: assert asked < t + 1.05, f'round {i}: {n} not seen within attr_timeout, {asked - t:.3f} s'
def replace(p, i, data):  # in place and by rename, in turn
    put(p if i % 2 else p + '.new', data)
    if i % 2 == 0: os.rename(p + '.new', p)
def random_handle(p):
    f = os.open(p, os.O_RDONLY); os.posix_fadvise(f, 0, 0, os.POSIX_FADV_RANDOM); return f
def old_open(i):
    d1, d2 = pages(b'1', i, 300), pages(b'2', i, 300)
    put(f'{A}/o', d1)
    f = random_handle(f'{B}/o')
    first = os.pread(f, 4096 * r.randrange(1, 100), 0); assert first == d1[:len(first)]
    replace(f'{A}/o', i, d2)
    seen(f'{B}/o', d2, f'round {i}, with the old version open')
    got = b''
    try:
        for o in range(0, len(d1), 65536): got += os.pread(f, 65536, o)
        one_version(got, f'round {i}, old handle'); assert got[:17] == d1[:17], f'round {i}: the old handle shows the new version'
    except OSError as e: assert e.errno == 116, e
    os.close(f)
    seen(f'{B}/o', d2, f'round {i}, after the old handle was closed')
gone_pages = 0
def mapped(i):  # pages of the old version, or SIGBUS where it cannot be had any more
    global gone_pages
    n = r.choice([20, 300])
    d1, d2 = pages(b'1', i, n), pages(b'2', i, n)
    put(f'{A}/o', d1)
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            f = os.open(f'{B}/o', os.O_RDONLY); m = mmap.mmap(f, len(d1), prot=mmap.PROT_READ)
            m.madvise(mmap.MADV_RANDOM)
            ok = all(m[o:o + 17] == d1[:17] for o in range(0, len(d1), 4096 * r.randrange(1, 9)))
            os.write(ready[1], b'r'); os.read(go[0], 1)
            os._exit(0 if ok and m[:] == d1 else 1)
        except BaseException as e: print(f'round {i}: {e!r}', file=sys.stderr, flush=True); os._exit(2)
    os.close(ready[1]); os.close(go[0])
    try:
        assert os.read(ready[0], 1) == b'r', f'round {i}: not mapped'
        replace(f'{A}/o', i, d2)
        seen(f'{B}/o', d2, f'round {i}, with the old version mapped')
    finally: os.write(go[1], b'g'); st = os.waitpid(pid, 0)[1]; os.close(ready[0]); os.close(go[1])
    if os.WIFSIGNALED(st) and os.WTERMSIG(st) == signal.SIGBUS: gone_pages += 1
    else: assert st == 0, f'round {i}: the old mapping shows something else ({st:#x})'
    seen(f'{B}/o', d2, f'round {i}, after the mapping has gone')
stale_reads = 0
def two_handles(i):  # read in turn, at random, while the other node writes: each shows one version, or says ESTALE
    global stale_reads
    n = 600
    vs = [pages(b'%d' % k, i, n) for k in range(3)]
    put(f'{A}/h', vs[0])
    fs = [random_handle(f'{B}/h'), random_handle(f'{B}/h')]
    def write(): replace(f'{A}/h', i, vs[1]); replace(f'{A}/h', i + 1, vs[2])
    t = threading.Thread(target=write); t.start()
    shown = {f: set() for f in fs}; dead = set(); more = 8
    def look(f):
        global stale_reads
        o = r.randrange(n); k = r.randrange(1, min(8, n - o) + 1)
        got = b''
        try:  # a short read is one whose rest is ESTALE
            while len(got) < 4096 * k:
                more_got = os.pread(f, 4096 * k - len(got), 4096 * o + len(got))
                assert more_got, f'round {i}: {len(got)} bytes of {4096 * k}'
                got += more_got
        except OSError as e: assert e.errno == 116, e; stale_reads += 1; dead.add(f)
        shown[f] |= {got[j:j + 17] for j in range(0, len(got), 4096)}
    while t.is_alive() or more > 0:
        if not t.is_alive(): more -= 1
        if len(fs) < 8: fs.append(random_handle(f'{B}/h')); shown[fs[-1]] = set()
        for f in fs:
            if f not in dead: look(f)
    t.join()
    fs.append(random_handle(f'{B}/h')); shown[fs[-1]] = set()
    for _ in range(4): [look(f) for f in fs if f not in dead]
    for k, f in enumerate(fs): assert len(shown[f]) <= 1, f'round {i}: handle {k} shows {sorted(shown[f])}'
    for f in fs[:2]: assert shown[f] <= {vs[0][:17]}, f'round {i}: the old handle shows {shown[f]}'
    assert shown[fs[-1]] == {vs[2][:17]}, f'round {i}: the last handle shows {shown[fs[-1]]}'
    [os.close(f) for f in fs]
def removed(i):  # 20 names at once: each comes to B within attr_timeout
    if i % 20 == 0:
        for k in range(i, min(i + 20, rounds)): put(f'{A}/x{k}', b'first')
        for k in range(i, min(i + 20, rounds)): known(f'x{k}')
    seen(f'{B}/x{i}', b'first', 'x'); os.unlink(f'{A}/x{i}')
    try: open(f'{B}/x{i}'); raise SystemExit(f'round {i}: a removed file was opened')
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
def ghost(i):  # A has it open, synced: B's removal shows in A's listing all the same
    put(f'{A}/gh{i}', b'1'); known_as(f'{B}/gh{i}', 1)
    f = os.open(f'{A}/gh{i}', os.O_RDWR); os.pwrite(f, b'x', 0); os.fsync(f); os.unlink(f'{B}/gh{i}')
    end = time.monotonic() + 1.5
    while f'gh{i}' in os.listdir(A): assert time.monotonic() < end, f'round {i}: a removed file is listed'
    os.close(f)
def known_as(p, n):
    end = time.monotonic() + 1.5
    while not (os.path.exists(p) and os.path.getsize(p) == n): assert time.monotonic() < end, f'{p}: not seen within attr_timeout'
def known(n):  # a name that is new to B is seen within attr_timeout; then the rounds count on it
    end = time.monotonic() + 1.5
    while not os.path.exists(f'{B}/{n}'): assert time.monotonic() < end, f'{n}: not seen within attr_timeout'
for n in 'sewroh': put(f'{A}/{n}', b'first'); known(n)
for n, f in (('sizes', sizes), ('equal size', equal), ('in turn', swap), ('renamed over', renamed), ('old one open', old_open),
             ('old one mapped', mapped), ('handles at random', two_handles), ('removed', removed)): section(n, f)
print(f'# {gone_pages} mappings and {stale_reads} handles found their version gone')
section('new names (20 a round)', new_names, (rounds + 19) // 20)
for n, f, most in (('moved', moved, 50), ('beside', beside, 50), ('ghost', ghost, 5)): section(n, f, min(rounds // 2, most))
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

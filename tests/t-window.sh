# SPDX-License-Identifier: GPL-3.0-or-later
# The races of t-race.sh one moment at a time: a request of one node is held before or after its effect, the other node
# writes and closes meanwhile. Nothing acknowledged is lost in any of these moments, but between the HEAD and the DELETE of
# a rename where DELETE takes no condition (Ceph RGW): there the PUT must be lost, or `lsvdfs probe` warns for nothing.
. "$TESTS_DIR/lib.sh"
need_backend front aws
store_start
mount_lsvdfs a
mount_lsvdfs b
"$LSVDFS" probe "$SOURCE" -o "$STORE_OPTS" >"$T/probe"
[ "$BACKEND" = aws ] || grep -q 'a write of another node to it in the moment between is lost' "$T/probe"
export FRONT_CTL LSVDFS
py - "$T/a" "$T/b" <<'P'
import errno, json, os, socket, subprocess, sys, threading, time
A, B = sys.argv[1:]
aws = os.environ['BACKEND'] == 'aws'
def ctl(cmd):
    with socket.create_connection(('127.0.0.1', int(os.environ['FRONT_CTL']))) as s:
        s.sendall(cmd.encode() + b'\n'); line = s.makefile().readline().strip()
    assert line.startswith('ok') or line.isdigit(), f'{cmd}: {line}'
def hold(rule, act, op, name): ctl(f'rule {rule} act={act} op={op} exact={name} count=1')
def held(rule): ctl(f'wait {rule} 1 10000')
def get(p):
    try:
        with open(p, 'rb') as f: return f.read()
    except FileNotFoundError: return None
def put(p, data):
    try:
        f = os.open(p, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        n = 0
        while n < len(data): n += os.write(f, data[n:])
        os.close(f); return None
    except OSError as e: return e.errno
def append(p, data):
    try: f = os.open(p, os.O_WRONLY | os.O_APPEND); os.write(f, data); os.close(f); return None
    except OSError as e: return e.errno
def chmod(p, mode):
    os.chmod(p, mode); f = os.open(p, os.O_RDONLY)
    try: os.fsync(f)
    finally: os.close(f)
class Run(threading.Thread):
    def __init__(self, fn, *a): super().__init__(); self.fn, self.a, self.out = fn, a, 'nothing'; self.start()
    def run(self):
        try: self.out = self.fn(*self.a)
        except OSError as e: self.out = e.errno
    def end(self): self.join(20); assert not self.is_alive(), 'no end'; return self.out
def parked(m):
    l = json.loads(subprocess.check_output([os.environ['LSVDFS'], 'parked', 'list', '--json', m]))
    return [p['path'] for p in (l if isinstance(l, list) else l['parked'])]
seq = 0
def start(size):
    global seq
    seq += 1; n = f'w{seq}'
    v0, v1 = (t * (size // 4) for t in (b'old\n', b'put\n'))
    assert put(f'{A}/{n}', v0) is None
    end = time.monotonic() + 1.5
    while get(f'{B}/{n}') != v0: assert time.monotonic() < end, f'{n} is not seen'
    return n, v0, v1
def shown(n, want, what):  # by both, as soon as names must be known
    end = time.monotonic() + 1.5
    while [get(f'{m}/{n}') for m in (A, B)] != [want] * 2:
        assert time.monotonic() < end, f'{what}: {n} is {[x and (len(x), x[:4]) for x in (get(A + "/" + n), get(B + "/" + n))]}'

def rename(size, what, rule):
    n, v0, v1 = start(size)
    hold('r', *rule, n + '.new' if rule[1] == 'COPY' else n)
    if what == 'HEAD': ctl('del r'); hold('c', 'hold-after', 'COPY', n + '.new')
    t = Run(os.rename, f'{B}/{n}', f'{B}/{n}.new')
    if what == 'HEAD': held('c'); hold('r', *rule, n); ctl('release c')
    held('r'); err = put(f'{A}/{n}', v1); ctl('release r'); out = t.end(); ctl('clear')
    assert out is None and err is None, f'rename, {what}: {out}, PUT {err}'
    lost = what == 'DELETE' and not aws
    shown(n, None, f'rename, PUT {what}'); shown(n + '.new', v0 if lost else v1, f'rename, PUT {what}')
    return 'lost, as probe says' if lost else 'moved along'
def onto(size, act):
    n, v0, v1 = start(size)
    v2 = b'new\n' * (size // 4); assert put(f'{B}/{n}.src', v2) is None
    hold('r', act, 'COPY' if aws else 'PUT', n)
    t = Run(os.rename, f'{B}/{n}.src', f'{B}/{n}'); held('r')
    err = put(f'{A}/{n}', v1); ctl('release r'); out = t.end(); ctl('clear')
    assert out is None and err is None, f'rename onto: {out}, PUT {err}'
    shown(n, v2 if act == 'hold' else v1, f'rename onto, {act}'); shown(n + '.src', None, f'rename onto, {act}')
    return 'the last one stays'
def change_mode(size, act):
    n, v0, v1 = start(size)
    time.sleep(3.1)  # headers of what another node has just written are not replaced at once
    hold('r', act, 'COPY' if aws else 'PUT', n)
    t = Run(chmod, f'{B}/{n}', 0o611); held('r')
    err = put(f'{A}/{n}', v1); ctl('release r'); out = t.end(); ctl('clear')
    assert out is None and err is None, f'chmod: {out}, PUT {err}'
    shown(n, v1, f'chmod, {act}'); time.sleep(1.1)
    modes = [os.stat(f'{m}/{n}').st_mode & 0o777 for m in (A, B)]
    assert modes == [0o611] * 2, f'chmod, {act}: modes {[f"{m:o}" for m in modes]}'
    return 'both stay'
def add(size, act):
    n, v0, v1 = start(size)
    hold('r', act, 'PUT', n)
    t = Run(append, f'{B}/{n}', b'more'); held('r')
    err = put(f'{A}/{n}', v1); ctl('release r'); out = t.end(); ctl('clear')
    assert err is None and out == (errno.ESTALE if act == 'hold' else None), f'append: {out}, PUT {err}'
    shown(n, v1, f'append, {act}')
    assert (n in parked(B)) == (act == 'hold'), f'parked: {parked(B)}'
    return 'refused and parked' if act == 'hold' else 'both, one after the other'
for size in (100, 1 << 20):
    for what, rule in (('COPY', ('hold', 'COPY')), ('copied', ('hold-after', 'COPY')), ('HEAD', ('hold', 'HEAD')), ('DELETE', ('hold', 'DELETE'))):
        if what != 'HEAD' or not aws: print(f'# {size} bytes, PUT at {what} of a rename: {rename(size, what, rule)}', flush=True)
    for act in ('hold', 'hold-after'):
        when = 'before' if act == 'hold' else 'after'
        for name, fn in (('rename onto it', onto), ('chmod', change_mode), ('append', add)):
            print(f'# {size} bytes, PUT {when} the effect of a {name}: {fn(size, act)}', flush=True)
P
finish

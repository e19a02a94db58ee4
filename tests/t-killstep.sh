# SPDX-License-Identifier: GPL-3.0-or-later
# kill -9 of the daemon before and after every request to the store (and every step of the queue of waiting metadata), at
# a list of operations that needs them all: creating, multipart, editing and appending large files, chmod, renames of files
# and of directories, removal of open files. After the next mount what was answered is there, the operation that was not is
# done or not done, the spool is empty or says what it parked, and nothing is left in the bucket.
#
# KILLS fail points that the seed chooses are hit once each, at a passage that it chooses. KILLS=all (soak): each of them. ALL=1: at
# more and more distant passages, and at those of the spool, too.
. "$TESTS_DIR/lib.sh"
ALL=${ALL:-} KILLS=${KILLS:-6}
need_fuse
store_start
cat >"$T/steps.py" <<'P'
import json, os, stat, sys
SMALL, BIG = 3000, 12 << 20
def body(n, salt):
    line = b'%s %d ' % (salt.encode(), n)
    return (line * (n // len(line) + 1))[:n]
class World:
    """The mount and its model change together; both kept: before, after, and what else a kill may leave."""
    def __init__(self, top): self.top, self.m = top, {}
    def p(self, n): return f'{self.top}/{n}'
    # each returns models that a kill in the middle may leave besides before and after
    def mkdir(self, n, do):
        if do: os.mkdir(self.p(n))
        self.m[n] = ('d', 0o755)
    def rmdir(self, n, do):
        if do: os.rmdir(self.p(n))
        del self.m[n]
    def put(self, n, size, salt, do):
        if do:
            f = os.open(self.p(n), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            d = body(size, salt); o = 0
            while o < size: o += os.write(f, d[o:o + (128 << 10)])
            os.close(f)
        mode = self.m[n][1] if n in self.m else 0o644
        self.m[n] = ('f', mode, body(size, salt))
    def patch(self, n, off, data, do):
        if do:
            f = os.open(self.p(n), os.O_WRONLY); os.pwrite(f, data, off); os.fsync(f); os.close(f)
        k, mode, d = self.m[n]
        self.m[n] = (k, mode, d[:off] + data + d[off + len(data):])
    def chmod(self, n, mode, do):
        if do:
            os.chmod(self.p(n), mode); f = os.open(self.p(n), os.O_RDONLY); os.fsync(f); os.close(f)
        self.m[n] = (self.m[n][0], mode) + self.m[n][2:]
    def rename(self, a, b, do):
        if do: os.rename(self.p(a), self.p(b))
        both = dict(self.m); both[b] = both[a]
        if self.m[a][0] == 'd':
            self.m = {(b + n[len(a):] if n == a or n.startswith(a + '/') else n): v for n, v in self.m.items()}
            return [] # the next mount finishes it
        self.m[b] = self.m.pop(a)
        return [both]
    def rename_dirty(self, a, b, data, do):
        if do:
            f = os.open(self.p(a), os.O_WRONLY | os.O_APPEND); os.write(f, data)
            os.rename(self.p(a), self.p(b)); os.close(f)
        both = dict(self.m); k, mode, d = self.m.pop(a)
        self.m[b] = both[b] = (k, mode, d + data)
        return [both]
    def symlink(self, to, n, do):
        if do: os.symlink(to, self.p(n))
        self.m[n] = ('l', 0, to.encode())
    def unlink(self, n, do):
        if do: os.unlink(self.p(n))
        del self.m[n]
    def unlink_open(self, n, do):
        if do:
            f = os.open(self.p(n), os.O_RDONLY); os.pread(f, 1, 0); os.unlink(self.p(n))
            want, o = self.m[n][2], 0
            while o < len(want):
                d = os.pread(f, 1 << 20, o); assert d and d == want[o:o + len(d)], o; o += len(d)
            os.close(f)
        del self.m[n]
    def never_closed(self, n, do): # its parts go up while it is written; then it goes
        if do:
            f = os.open(self.p(n), os.O_WRONLY | os.O_CREAT); d = body(1 << 20, n)
            for k in range(14): os.write(f, d)
            os.unlink(self.p(n)); os.close(f)
STEPS = [
    ('mkdir', 'd'), ('put', 'a', SMALL, 'one'), ('chmod', 'a', 0o600), ('put', 'big', BIG, 'big'),
    ('patch', 'big', 6 << 20, b'edited here'), ('patch', 'big', BIG, b'appended'), ('chmod', 'big', 0o640),
    ('rename', 'a', 'b'), ('put', 'c', SMALL, 'two'), ('rename', 'c', 'b'), ('put', 'b', SMALL * 2, 'three'),
    ('rename_dirty', 'b', 'b2', b'more'), ('symlink', 'b2', 's'), ('mkdir', 'd/sub'), ('put', 'd/1', SMALL, 'd1'),
    ('put', 'd/sub/2', SMALL, 'd2'), ('rename', 'd', 'e'), ('unlink', 's'), ('unlink_open', 'big'), ('never_closed', 'm'),
    ('mkdir', 'g'), ('rmdir', 'g'), ('patch', 'e/1', SMALL, b'+'),
]
def shown(top):
    m = {}
    for d, ds, fs in os.walk(top):
        for n in ds + fs:
            p = os.path.join(d, n); s = os.lstat(p); rel = os.path.relpath(p, top)
            if stat.S_ISLNK(s.st_mode): m[rel] = ('l', 0, os.readlink(p).encode())
            elif stat.S_ISDIR(s.st_mode): m[rel] = ('d', s.st_mode & 0o7777)
            else: m[rel] = ('f', s.st_mode & 0o7777, open(p, 'rb').read())
    return m
def brief(m): return {n: v[:2] + ((len(v[2]), v[2][:12]) if len(v) > 2 else ()) for n, v in sorted(m.items())}
def main():
    what, top, log = sys.argv[1:]
    w = World(top)
    if what == 'run':
        os.umask(0o022)
        with open(log, 'w') as l:
            for k, (op, *a) in enumerate(STEPS):
                l.write(f'{k}\n'); l.flush()
                getattr(w, op)(*a, True)
            l.write(f'{len(STEPS)}\n')
        return
    k = int(open(log).read().split()[-1]) if os.path.getsize(log) else 0 # operation k had begun
    for op, *a in STEPS[:k]: getattr(w, op)(*a, False)
    allowed = [dict(w.m)]
    if k < len(STEPS):
        op, *a = STEPS[k]
        allowed += getattr(w, op)(*a, False) or []
        allowed.append(dict(w.m))
    got = shown(top)
    if got not in allowed:
        print('killed in', STEPS[k] if k < len(STEPS) else 'nothing')
        print('there is', brief(got), 'and should be one of', *map(brief, allowed), sep='\n')
        sys.exit(1)
    print('whole after', STEPS[k][:3] if k < len(STEPS) else 'all')
main()
P
# start [SPEC]: mounts with a fail point armed; false when it died of it before it was there
start() {
	LSVD_FAILPOINT=${1:-} LSVD_FAILPOINT_LIST=${2:-} "$LSVDFS" mount -f "$SOURCE" "$T/a" \
		-o "state_dir=$T/a.state,cache_dir=$T/a.cache,part_size=5M${STORE_OPTS:+,$STORE_OPTS}" >>"$T/a.log" 2>&1 &
	daemon[a]=$!
	until mountpoint -q "$T/a"; do
		kill -0 "${daemon[a]}" 2>/dev/null || return 1
		sleep 0.02
	done
}
mkdir -p "$T/a" "$T/a.state" "$T/a.cache"
start '' "$T/points"
py "$T/steps.py" run "$T/a" "$T/steps"
py "$T/steps.py" check "$T/a" "$T/steps" >/dev/null
rm -rf "$T/a/"*
umount_lsvdfs a
[ -s "$T/points" ] || skip "not a debug build: no fail points"
check_bucket_clean
if [ -n "$ALL" ]; then points=$(sort "$T/points"); else points=$(grep -E '^(store|metaq)\.' "$T/points" | sort); fi
for p in PUT DELETE COPY LIST; do has "store.before-$p\$" <<<"$points" || fail "no $p in the operations: $points"; done
[ "$BACKEND" = file ] || for p in MPU_CREATE MPU_PART MPU_COPY_PART MPU_COMPLETE MPU_ABORT DELETE_MANY; do
	has "store.before-$p\$" <<<"$points" || fail "no $p in the operations: $points"
done

[ -n "$ALL" ] || [ "$KILLS" = all ] || points=$(shuf -n "$KILLS" --random-source=<(yes "$SEED") <<<"$points")

# killed_at POINT PASSAGE: one life, kill, next life. $hit is empty when there are not so many passages.
killed_at() {
	local died=1 rc=0 parked ids
	: >"$T/steps"
	if start "$1:$2"; then py "$T/steps.py" run "$T/a" "$T/steps" >"$T/work.log" 2>&1 || died=; fi
	# what it does behind the operations (waiting metadata, the drain) has passages, too
	if [ -n "$died" ] && kill -0 "${daemon[a]}" 2>/dev/null; then
		timeout 60 "$LSVDFS" umount "$T/a" >>"$T/a.log" 2>&1 || true
	fi
	wait "${daemon[a]}" || rc=$?
	unset 'daemon[a]'
	umount -l "$T/a" 2>/dev/null || true
	[ $rc = 137 ] || { [ $rc = 0 ] && [ -n "$died" ] || fail "$1:$2: the daemon ended with $rc: $(cat "$T/work.log")"; }
	mount_lsvdfs a part_size=5M
	eq "$(status a spool.dirty_bytes)" 0 "$1:$2: dirty bytes after recovery"
	eq "$(status a recovery.failed)" 0 "$1:$2: not recovered"
	py "$T/steps.py" check "$T/a" "$T/steps" >"$T/check.out" || fail "$1:$2: $(cat "$T/check.out")"
	at_most "$(status a spool.parked)" 1 "$1:$2: parked"
	ids=$("$LSVDFS" parked list --json "$T/a" | py -c 'import json,sys; print(*(p["id"] for p in json.load(sys.stdin)))')
	for parked in $ids; do "$LSVDFS" parked drop "$T/a" "$parked" >/dev/null; done
	rm -rf "$T/a/"*
	umount_lsvdfs a
	check_bucket_clean orphans
	hit=
	[ $rc = 137 ] || return 0
	hit=1 kills=$((kills + 1))
	note "$1:$2: $(cat "$T/check.out")"
}
kills=0
for p in $points; do
	if [ -n "$ALL" ]; then
		hit=1 slow=8
		[[ $p != spool.* ]] || slow=2 # unit-spool-crash has all of these
		for ((k = 1; ${#hit}; k += 1 + k / slow)); do killed_at "$p" $k; done
	else
		k=$(py -c 'import random,sys; print(random.Random(sys.argv[1]).randrange(1, 7))' "$SEED$p")
		killed_at "$p" "$k"
		until [ -n "$hit" ]; do
			[ "$k" != 1 ] || fail "$p: never passed"
			k=$((k / 2))
			killed_at "$p" "$k"
		done
	fi
done
note "$kills kills at $(wc -w <<<"$points") fail points"
finish orphans

# SPDX-License-Identifier: GPL-3.0-or-later
# kill -9 of the daemon at random moments: what close() or fsync() acknowledged is there afterwards, the old object is whole
# otherwise, unfinished bytes are parked, and nothing is left behind. ROUNDS kills (5; soak: 50).
. "$TESTS_DIR/lib.sh"
ROUNDS=${ROUNDS:-5}
clean() { [ "$(status a spool.dirty_bytes)" = 0 ]; }
store_start
mount_lsvdfs a part_size=5M
cat >"$T/work.py" <<'P'
import json, os, random, sys
top, log, seed = sys.argv[1], open(sys.argv[2], 'a'), int(sys.argv[3])
r = random.Random(seed)
def say(*a): log.write(json.dumps(a) + '\n'); log.flush()
i = 0
while True:
    i += 1
    n = f'f{r.randrange(6)}'
    size = r.choice([10, 5000, 300000, 6000000]); data = b'%s %d %d\n' % (n.encode(), seed, i) * (size // 12)
    say('begin', n, seed, i, len(data))
    f = os.open(f'{top}/{n}', os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if r.randrange(2) else 0))
    os.ftruncate(f, 0)
    o = 0
    while o < len(data): o += os.write(f, data[o:o + 100000])
    if r.randrange(2): os.fsync(f); say('acked', n, seed, i, len(data))
    os.close(f); say('acked', n, seed, i, len(data))
P
cat >"$T/check.py" <<'P'
import json, os, sys
top = sys.argv[1]; acked, begun = {}, {}
for line in open(sys.argv[2]):
    what, n, seed, i, size = json.loads(line)
    if what == 'acked': acked[n] = (seed, i, size); begun[n] = []
    else: begun.setdefault(n, []).append((seed, i, size))
for n in sorted(set(acked) | set(begun)):
    ok = ([acked[n]] if n in acked else [None]) + begun.get(n, [])
    try: got = open(f'{top}/{n}', 'rb').read()
    except FileNotFoundError: got = None
    def body(v):
        if v is None: return None
        line = b'%s %d %d\n' % (n.encode(), v[0], v[1]); return (line * (v[2] // len(line) + 1))[:v[2]]
    assert any(got == body(v) for v in ok), f'{n}: {len(got) if got is not None else None} bytes {got[:40] if got else got!r}, should be one of {ok}'
print(f'# {len(acked)} acknowledged files are whole')
P
for round in $(seq "$ROUNDS"); do
	/usr/bin/python3 "$T/work.py" "$T/a" "$T/acks" $((SEED % 100000 + round)) >"$T/work.log" 2>&1 &
	worker=$!
	sleep "$(py -c 'import random,sys; print(random.Random(int(sys.argv[1])).uniform(0.2, 1.5))' $((SEED + round)))"
	kill9_daemon a
	kill -9 $worker 2>/dev/null || true
	wait $worker 2>/dev/null || true
	mount_lsvdfs a part_size=5M
	wait_for 30 clean
	py "$T/check.py" "$T/a" "$T/acks"
	note "round $round: recovery: $(status a recovery)"
done
# a file that was open, never closed and never synced is not published, but its bytes are kept
umount_lsvdfs a
mount_lsvdfs a
parked=$(status a spool.parked)
/usr/bin/python3 -c 'import os,sys,time
f=os.open(sys.argv[1],os.O_WRONLY|os.O_CREAT); os.write(f,b"never closed"); print("written",flush=True); time.sleep(100)' "$T/a/open" >"$T/open.out" &
holder=$!
wait_for 10 grep -q written "$T/open.out"
kill9_daemon a
kill -9 $holder
wait $holder 2>/dev/null || true
mount_lsvdfs a
[ ! -e "$T/a/open" ] || fail "an unfinished file was published"
eq "$(status a spool.parked)" $((parked + 1)) "parked"
finish orphans

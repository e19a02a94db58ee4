# SPDX-License-Identifier: GPL-3.0-or-later
# One winner at the call: x.lock with O_EXCL, mkdir and symlink on two mounts at once - through the front also when
# replies are lost, so that the winner's request is sent twice. ROUNDS rounds (8; soak: 200).
. "$TESTS_DIR/lib.sh"
ROUNDS=${ROUNDS:-8}
export ROUNDS
[ "$BACKEND" != swift ] || skip "Swift has no conditional writes: nobody can be told that he came second"
store_start
mount_lsvdfs a
mount_lsvdfs b
race() {
	py - "$T/a" "$T/b" "$1" <<-'P'
	import os, sys, threading
	A, B, tag = sys.argv[1:]
	def excl(p): os.close(os.open(p + '.lock', os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
	def link(p): os.symlink('same target', p + '.sym')
	def run(fn, p, out, barrier):
	    barrier.wait()
	    try: fn(p); out.append('won')
	    except FileExistsError: out.append('lost')
	    except OSError as e: out.append(os.strerror(e.errno))
	for i in range(int(os.environ['ROUNDS'])):
	    for fn in (excl, os.mkdir, link):
	        out, barrier = [], threading.Barrier(2)
	        ts = [threading.Thread(target=run, args=(fn, f'{m}/{tag}{i}', out, barrier)) for m in (A, B)]
	        [t.start() for t in ts]; [t.join() for t in ts]
	        assert sorted(out) == ['lost', 'won'], f'{tag} round {i}: {fn.__name__}: {out}'
	P
}
race plain
if [ "$BACKEND" = aws ] || [ "$BACKEND" = front ]; then
	front_ctl rule lost act=lost op=PUT p=0.3
	race lost
	at_least "$(front_ctl hits lost)" 1 "lost replies"
	front_ctl clear
fi
# the winner sees his file at once, the loser within attr_timeout
settle
eq "$(ls "$T/a" | wc -l)" "$(ls "$T/b" | wc -l)"
# not of the kind: O_EXCL of any other name is decided at the first close
py - "$T/a" "$T/b" <<'P'
import os, sys
f = os.open(sys.argv[1] + '/other', os.O_CREAT | os.O_EXCL | os.O_WRONLY)
g = os.open(sys.argv[2] + '/other', os.O_CREAT | os.O_EXCL | os.O_WRONLY)
os.write(f, b'a'); os.write(g, b'b'); os.close(f)
try: os.close(g); raise SystemExit('two winners')
except OSError as e: assert e.errno in (116, 17), e
assert open(sys.argv[1] + '/other').read() == 'a'
P
eq "$(status b spool.parked)" 1 "parked"
finish

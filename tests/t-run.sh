# SPDX-License-Identifier: GPL-3.0-or-later
# t-run.sh - nothing of a test outlives it: tests/run takes servers down that the test left running, when the test ends,
# when tests/run is told to end, and when the make far above it is.
. "$TESTS_DIR/lib.sh"
need_root
need_cmd pgrep setsid make
mkdir "$T/tmp"
export TMPDIR=$T/tmp

# a server with a session of its own; number $1 tells one case from another
cat >"$T/leaves.sh" <<'E2'
setsid sleep "98765$1" &
echo $$ >"$TMPDIR/../up$1"
[ "${2:-}" = end ] || wait
E2
here() { pgrep -f "sleep 98765$1" >/dev/null; }
gone() { ! here "$1"; }
dirs() { find "$T/tmp" -mindepth 1 | wc -l; }

"$TESTS_DIR/run" "$T/leaves.sh" 0 end
[ -s "$T/up0" ] && gone 0 || fail "a server outlived its test"

n=1
for s in HUP INT TERM; do
	# not through bash's &, which lets INT be ignored
	/usr/bin/python3 -c 'import os,signal,sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])' \
		"$TESTS_DIR/run" "$T/leaves.sh" $n >>"$T/out" 2>&1 &
	wait_for 20 test -s "$T/up$n"
	kill -$s $!
	rc=0
	wait $! || rc=$?
	eq "$rc" $((128 + $(kill -l $s))) "status after $s"
	gone $n || fail "a server outlived $s"
	n=$((n + 1))
done
eq "$(dirs)" 0 "directories left"

# make, a shell that dies of the signal in silence, make, a shell, the test: as in make check
printf 'all:\n\t@:; $(MAKE) -f %s sub; exit $$?\nsub:\n\t@:; %s %s 9; exit $$?\n' \
	"$T/Makefile" "$TESTS_DIR/run" "$T/leaves.sh" >"$T/Makefile"
env -u MAKELEVEL -u MAKEFLAGS -u MFLAGS make -f "$T/Makefile" all >>"$T/out" 2>&1 &
wait_for 20 test -s "$T/up9"
kill $!
wait_for 20 gone 9
no_make() { ! pgrep -f "$T/Makefile" >/dev/null; }
wait_for 20 no_make
empty() { [ "$(dirs)" = 0 ]; }
wait_for 20 empty
finish

# SPDX-License-Identifier: GPL-3.0-or-later
# The server is away: writes go on, close and fsync say so instead of lying, and nothing is lost when it is back.
. "$TESTS_DIR/lib.sh"
need_backend front aws
store_start
mount_lsvdfs a
cd "$T/a"
echo before >f
front_ctl refuse 1
py - <<'P' &
import os
# away for a short time: close waits and is good
f = os.open('g', os.O_WRONLY | os.O_CREAT); os.write(f, b'written while away'); os.fsync(f); os.close(f)
P
writer=$!
sleep 2
kill -0 $writer || fail "fsync did not wait for the server"
front_ctl refuse 0
wait $writer
eq "$(s3 get g)" "written while away"
# every request is refused for good: close says it, once, and the bytes are kept
front_ctl rule no act=status status=403 code=AccessDenied op=PUT
py - <<'P'
import errno, os
f = os.open('h', os.O_WRONLY | os.O_CREAT); os.write(f, b'refused')
try: os.fsync(f); raise SystemExit('fsync lied')
except OSError as e: assert e.errno in (errno.EACCES, errno.EPERM, errno.EIO), e
try: os.close(f); raise SystemExit('close lied')
except OSError as e: assert e.errno in (errno.EACCES, errno.EPERM, errno.EIO), e
try:
    with open('i', 'w') as f: f.write('refused')
    raise SystemExit('close lied')
except OSError as e: assert e.errno in (errno.EACCES, errno.EPERM, errno.EIO), e
P
front_ctl clear
# what could not be sent is not lost: it is in the bucket after the next try, or parked and named
cd "$T"
umount_lsvdfs a
kept() { s3 get h 2>/dev/null | has refused || "$LSVDFS" parked list "$SOURCE" -o "state_dir=$T/a.state${STORE_OPTS:+,$STORE_OPTS}" | has '(^|[ /])h( |$)'; }
kept || fail "bytes whose upload was refused are neither in the bucket nor parked"
mount_lsvdfs a
eq "$(cat a/f)" before
# a killed writer is gone at once, its upload goes on
front_ctl rule slow act=hold op=PUT
(cd a && echo held >k) &
writer=$!
front_ctl wait slow 1 10000
kill -9 $writer
start=$(date +%s%N)
wait $writer 2>/dev/null || true
at_most $((($(date +%s%N) - start) / 1000000)) 1500 "ms until a killed writer was gone"
front_ctl clear
wait_for 10 s3 head k
eq "$(s3 get k)" held
# a reader whose server hangs is killable, too
s3 put slow "$LSVDFS" >/dev/null 2>&1 || s3 put slow "$T/server.log" >/dev/null
wait_for 3 test -e a/slow
front_ctl rule hang act=stall op=GET
cat a/slow >/dev/null 2>&1 &
reader=$!
front_ctl wait hang 1 10000
kill -9 $reader
wait_for 5 bash -c "! kill -0 $reader"
front_ctl clear
finish

# SPDX-License-Identifier: GPL-3.0-or-later
# A rename onto a file whose close was answered (async_close) and whose upload is still under way: the new bytes stay, the old
# ones neither come back nor end as a conflict.
. "$TESTS_DIR/lib.sh"
need_backend front aws
settled() { [ "$(status a spool.uploading)" = 0 ]; }
store_start
mount_lsvdfs a async_close
echo new >"$T/a/n"
wait_for 10 obj_exists n
wait_for 10 settled
front_ctl rule slow act=hold op=PUT
# the thread that looks after uploads waits for another one
echo first >"$T/a/z"
front_ctl wait slow 1 10000
echo old >"$T/a/b"
front_ctl wait slow 2 10000
mv -f "$T/a/n" "$T/a/b" &
mover=$!
# the rename has to wait; one that does not would be done in this time
for _ in $(seq 40); do kill -0 $mover 2>/dev/null || break; sleep 0.05; done
front_ctl clear
wait $mover
wait_for 10 settled
eq "$(cat "$T/a/b")" new
eq "$(status a spool.parked)" 0 "parked by a rename over it"
umount_lsvdfs a
eq "$(obj_get b)" new
eq "$(obj_get z)" first
finish

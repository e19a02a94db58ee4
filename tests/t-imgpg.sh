# SPDX-License-Identifier: GPL-3.0-or-later
# PostgreSQL on ext4 on a loop device on an image; the daemon is killed under pgbench. After remount and fsck the server
# starts: every commit that a client saw is there, balances agree, pg_amcheck and the checksums of the pages are clean.
. "$TESTS_DIR/lib.sh"
ROUNDS=${ROUNDS:-1} LOAD=${LOAD:-5} SCALE=${SCALE:-2} CLIENTS=${CLIENTS:-4}
need_root
need_cmd losetup mkfs.ext4 e2fsck setpriv
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort | tail -n 1)
[ -n "$bin" ] && [ -x "$bin/pgbench" ] && [ -x "$bin/pg_amcheck" ] || skip "no PostgreSQL (tests/setup)"
id postgres >/dev/null 2>&1 || skip "no user postgres"
store_start

mkdir "$T/fs" "$T/pg"
chmod 755 "$T"
chown postgres "$T/pg"
pg() {
	(cd / && exec 8>&- setpriv --reuid postgres --regid postgres --clear-groups \
		env PATH="$bin:$PATH" HOME="$T/pg" PGHOST="$T/pg" PGDATABASE=postgres "$@")
}
start_server() {
	pg pg_ctl -D "$T/fs/data" -w -t 120 -l "$T/pg/server.log" start -o "-k $T/pg -c listen_addresses='' \
		-c shared_buffers=32MB -c max_wal_size=128MB -c checkpoint_timeout=30s" >/dev/null ||
		fail "the server does not start: $(tail -n 5 "$T/pg/server.log")"
	server=$(head -n 1 "$T/fs/data/postmaster.pid")
}
# its file system is gone below it: it dies with its children
kill_server() {
	local p=$server
	server=
	[ -n "$p" ] || return 0
	# shellcheck disable=SC2046
	kill -9 "$p" $(pgrep -P "$p") 2>/dev/null || true
	wait_for 60 bash -c "! pgrep -P $p && ! kill -0 $p || grep -q ') Z ' /proc/$p/stat"
}
server=
on_exit kill_server
disk_up() {
	attach_loop pg "$T/a/pg.img" --direct-io=on
	[ -z "${1:-}" ] || mkfs.ext4 -q -F "$loop_pg"
	# journal replay, by the kernel, which mends nothing; what is then found is damage
	mount "$loop_pg" "$T/fs"
	umount "$T/fs"
	e2fsck -fn "$loop_pg" >"$T/fsck.log" 2>&1 || fail "fsck: $(cat "$T/fsck.log")"
	mount "$loop_pg" "$T/fs"
}
on_exit "umount -l $T/fs"

OPTS=images=*.img,journal_size=256M
mount_lsvdfs a "$OPTS"
truncate -s 2G "$T/a/pg.img"
disk_up mkfs
mkdir "$T/fs/data"
chown postgres "$T/fs/data"
pg initdb -D "$T/fs/data" -A trust --data-checksums -E UTF8 --locale C >"$T/pg/initdb.log"
start_server
pg pgbench -q -i -s "$SCALE" >"$T/pg/init.log" 2>&1
pg psql -qc 'create extension amcheck'
seen=0
for i in $(seq "$ROUNDS"); do
	# each transaction that a client saw committed is a line
	pg pgbench -n -c "$CLIENTS" -j 2 -T 600 -l --log-prefix="$T/pg/tx.$i" >"$T/pg/bench.log" 2>&1 &
	bench=$!
	committed() { cat "$T/pg/tx.$i."* | wc -l; }
	some() { [ "$(committed)" -ge 20 ]; }
	wait_for 60 some
	sleep "$LOAD" # how long it runs
	kill9_daemon a
	kill_server
	wait $bench 2>/dev/null || true
	seen=$((seen + $(committed)))
	umount -l "$T/fs"
	detach_loop pg
	mount_lsvdfs a "$OPTS"
	disk_up
	rm -f "$T/fs/data/postmaster.pid" "$T"/pg/.s.PGSQL* # of a process that may be a zombie yet
	start_server
	rows=$(pg psql -Atc 'select count(*) from pgbench_history')
	note "round $i: $(committed) commits seen, $rows rows of at least $seen"
	at_least "$rows" "$seen" "rows of the history"
	eq "$(pg psql -Atc 'select (select sum(delta) from pgbench_history) = all (array[(select sum(abalance) from pgbench_accounts),
		(select sum(tbalance) from pgbench_tellers), (select sum(bbalance) from pgbench_branches)])')" t "balances agree"
	pg pg_amcheck --heapallindexed --parent-check -j 2 postgres >"$T/pg/amcheck.log" 2>&1 || fail "$(cat "$T/pg/amcheck.log")"
	pg pg_ctl -D "$T/fs/data" -w stop >/dev/null
	server=
	pg pg_checksums --check -D "$T/fs/data" >"$T/pg/checksums.log"
	grep -qE '^Bad checksums: +0$' "$T/pg/checksums.log" || fail "$(cat "$T/pg/checksums.log")"
	start_server
	seen=$rows
done
pg pg_ctl -D "$T/fs/data" -w stop >/dev/null
server=
umount "$T/fs"
detach_loop pg
finish

# SPDX-License-Identifier: GPL-3.0-or-later
# Snapshots every EVERY seconds of a disk with an ext4 on it, while a program writes files to it, syncs each and deletes old
# ones: each snapshot, read as IMAGE@NAME here or on another machine while all that goes on, is clean after the replay of
# its journal, and holds every file that was synced before the command.
. "$TESTS_DIR/lib.sh"
need_root
need_cmd losetup mkfs.ext4 e2fsck
ROUNDS=${ROUNDS:-2} EVERY=${EVERY:-1} SIZE=${SIZE:-96M} KEEP=${KEEP:-200}
store_start
mount_lsvdfs a 'images=*.img,journal_size=256M'
mount_lsvdfs b 'images=*.img,ro'
mkdir "$T/fs" "$T/snap"
truncate -s "$SIZE" "$T/a/d.img"
attach_loop l "$T/a/d.img" --direct-io=on
mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$loop_l"
mount "$loop_l" "$T/fs"
on_exit "umount $T/fs"

# "done N SUM" once file N cannot be lost any more, "del N" before it goes
cat >"$T/writer" <<'EOF'
import hashlib, os, random, sys
root, log, seed, keep = sys.argv[1], open(sys.argv[2], 'w', buffering=1), sys.argv[3], int(sys.argv[4])
rng, n = random.Random(seed), 0
while True:
    data = rng.randbytes(rng.choice((100, 5000, 40000, 200000)) + rng.randrange(4000))
    path = f'{root}/{n % 7}/{n}'
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, data)
    os.fsync(fd)
    os.close(fd)
    print('done', n, hashlib.sha256(data).hexdigest(), file=log)
    if n >= keep:
        print('del', n - keep, file=log)
        os.unlink(f'{root}/{(n - keep) % 7}/{n - keep}')
    n += 1
EOF
/usr/bin/python3 "$T/writer" "$T/fs" "$T/log" "$SEED" "$KEEP" &
writer=$!
on_exit "kill -9 $writer; wait $writer"
cat >"$T/verify" <<'EOF'
import hashlib, sys
root, before, after = sys.argv[1:]
want, gone = {}, set()
for line in open(before):
    w = line.split()
    if w[0] == 'done' and line.endswith('\n'):
        want[w[1]] = w[2]
gone = {line.split()[1] for line in open(after) if line.startswith('del')}
for n in want.keys() - gone:
    with open(f'{root}/{int(n) % 7}/{n}', 'rb') as f:
        assert hashlib.sha256(f.read()).hexdigest() == want[n], f'file {n}'
print(len(want), 'synced,', len(want.keys() - gone), 'of them kept')
EOF

# looks NUMBER: through the mount of this machine or of the other one
looks() {
	local i=$1 m=a dev rc=0
	[ $((i % 2)) = 0 ] || m=b
	wait_for 10 test -e "$T/$m/d.img@s$i"
	rm -f "$T/copy"
	cp --sparse=always "$T/$m/d.img@s$i" "$T/copy"
	dev=$(losetup --find --show "$T/copy")
	e2fsck -p "$dev" >"$T/fsck.log" 2>&1 || rc=$?
	[ "$rc" -le 1 ] || fail "snapshot $i, replay of its journal: $rc $(cat "$T/fsck.log")"
	e2fsck -fn "$dev" >"$T/fsck.log" 2>&1 || fail "snapshot $i after its replay: $(cat "$T/fsck.log")"
	mount -o ro "$dev" "$T/snap"
	note "snapshot $i on $m: $(py "$T/verify" "$T/snap" "$T/before.$i" "$T/after.$i")"
	umount "$T/snap"
	losetup -d "$dev"
	wait_for 10 loop_gone "$dev" "$T/copy"
	[ $((i % 3)) != 0 ] || "$LSVDFS" image delete "$T/a/d.img@s$i"
}
checker() {
	local i
	cleanups=() daemon=() # those of the test are not its own
	trap cleanup EXIT
	on_exit "umount $T/snap; losetup --noheadings --output NAME --associated $T/copy | xargs -r -n 1 losetup -d"
	for ((i = 1; i <= ROUNDS; i++)); do
		until [ -e "$T/after.$i" ]; do
			[ ! -e "$T/over" ] || exit 1
			sleep 0.1
		done
		looks $i
	done
}
checker &
checker=$!
on_exit "kill $checker; wait $checker; umount $T/snap"
wait_for 20 test -s "$T/log"
for ((i = 1; i <= ROUNDS; i++)); do
	at=$SECONDS
	cp "$T/log" "$T/before.$i"
	"$LSVDFS" image snapshot "$T/a/d.img@s$i" || { touch "$T/over"; fail "snapshot $i"; }
	cp "$T/log" "$T/after.tmp"
	mv "$T/after.tmp" "$T/after.$i"
	kill -0 $writer || fail "the writer ended"
	kill -0 $checker 2>/dev/null || wait $checker
	[ $((SECONDS - at)) -ge "$EVERY" ] || sleep $((EVERY - SECONDS + at))
done
wait $checker || fail "a snapshot is not what it should be"
kill $writer
wait $writer 2>/dev/null || true
umount "$T/fs"
e2fsck -fn "$loop_l" >"$T/fsck.log" 2>&1 || fail "the image itself: $(cat "$T/fsck.log")"
detach_loop l
wait_for 60 images_idle a
"$LSVDFS" image check "$T/a/d.img" >/dev/null
finish

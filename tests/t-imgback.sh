# SPDX-License-Identifier: GPL-3.0-or-later
# Back to positions of the log, on a mount and offline: every one that `image log` shows, while it shows it, gives the bytes
# that the image had then, and forward again those of later; refused where it would be a guess. And a snapshot, MIB of
# overwrites, back to it, forward again.
. "$TESTS_DIR/lib.sh"
MIB=${MIB:-24} ROUNDS=${ROUNDS:-5}
store_start
A=$T/a OPTS=images=*.img,fsync=remote
sum() { sha256sum <"$1" | cut -d' ' -f1; }
newest() { on log "$1" --json | jq -r '.[-1].number'; }
write() { # IMAGE MIB SALT: over all of it, in the bucket then
	py - "$@" "$SEED" <<'P'
import os, random, sys
path, mib, salt, seed = sys.argv[1:]
r, f = random.Random(seed + salt), os.open(path, os.O_RDWR)
for i in r.sample(range(int(mib)), int(mib)):
    os.pwrite(f, r.randbytes(1 << 20), i << 20)
os.fsync(f)
P
}
change() { # IMAGE SALT: a little of it; prints the sum of all
	py - "$@" "$SEED" <<'P'
import os, random, sys
path, salt, seed = sys.argv[1:]
r, f = random.Random(seed + salt), os.open(path, os.O_RDWR)
size = os.fstat(f).st_size
for i in range(8):
    os.pwrite(f, r.randbytes(4096 * r.randrange(1, 16)), r.randrange(size - 65536) >> 9 << 9)
os.fsync(f)
P
	wait_for 60 images_idle a
	sum "$1"
}
need_cmd jq

mount_lsvdfs a "$OPTS"
truncate -s 8M "$A/p.img"
declare -A then=()
for i in $(seq "$ROUNDS"); do
	s=$(change "$A/p.img" "$i")
	n=$(newest "$A/p.img")
	then[$n]=$s
done
last=$n
# a snapshot is a checkpoint: from there on, once its mark is there, which an owner sees to
oldest() { on log "$A/p.img" --json | jq '.[0].number'; }
marked() { [ "$(oldest)" -gt "$last" ]; }
sleep 100000 <>"$A/p.img" &
holder=$!
dd if="$A/p.img" of="$A/p.img" bs=512 count=1 conv=notrunc,fsync status=none
on snapshot "$A/p.img@mark"
wait_for 60 marked
kill $holder
wait $holder || true
wait_for 60 images_idle a
for i in $(seq "$ROUNDS"); do
	s=$(change "$A/p.img" "more.$i")
	n=$(newest "$A/p.img")
	then[$n]=$s order+=("$n")
done
latest=$s
on log "$A/p.img" >"$T/log"
eq "$(wc -l <"$T/log")" "$(on log "$A/p.img" --json | jq length)" "lines of the log"
[ -n "${then[$last]}" ]
marked || fail "$last is before the newest checkpoint, and shown: $(cat "$T/log")"
must_fail 'from its newest checkpoint' on rollback "$A/p.img" --position "$last"
must_fail 'has no object' on rollback "$A/p.img" --position 99999
must_fail 'expected a number' on rollback "$A/p.img" --position here
must_fail 'not both' on rollback "$A/p.img@mark" --position "$n"
must_fail 'is of image rollback' on info "$A/p.img" --position 1
must_fail 'missing arguments' on log
must_fail 'no image of this name' on log "$A/none.img"
exec 7<>"$A/p.img"
must_fail 'open on this mount' on rollback "$A/p.img" --position "${order[0]}"
exec 7>&-
wait_for 60 images_idle a
eq "$(sum "$A/p.img")" "$latest" "what was refused changed nothing"

# back, and forward again by the snapshot of before
k=${order[$((SEED % ROUNDS))]}
on rollback "$A/p.img" --position "$k" --json >"$T/back"
eq "$(jq .position "$T/back")" "$k"
eq "$(sum "$A/p.img")" "${then[$k]}" "the image as of $k"
on check "$A/p.img" --data >"$T/check" || fail "$(cat "$T/check")"
on rollback "$A/p.img@$(jq -r .before "$T/back")" >/dev/null
eq "$(sum "$A/p.img")" "$latest" "forward again"
# written on from an older state; everything is still there after idle time and what the cleaner made of it
s1=$(change "$A/p.img" on)
k=$(newest "$A/p.img")
change "$A/p.img" on2 >/dev/null
umount_lsvdfs a
# offline, by the URL
on rollback "$SOURCE" p.img --position "$k" -o "state_dir=$T/o.state${STORE_OPTS:+,$STORE_OPTS}" >"$T/said"
has "p.img is what it was at $k" <"$T/said"
rm -rf "$T/a.state" "$T/a.cache"
mount_lsvdfs a "$OPTS"
eq "$(sum "$A/p.img")" "$s1" "the image as of $k, on another node"
if [ "$BACKEND" = file ]; then
	py "$READER" dump "$T/bucket" p.img "$T/out" --force
	eq "$(sum "$T/out")" "$s1" "the independent reader"
fi
s2=$(change "$A/p.img" after)
on check "$A/p.img" --data >"$T/check" || fail "$(cat "$T/check")"

# --- much of it ---
truncate -s "${MIB}M" "$A/d.img"
write "$A/d.img" "$MIB" one
one=$(sum "$A/d.img")
on snapshot "$A/d.img@one"
write "$A/d.img" "$MIB" two
two=$(sum "$A/d.img")
[ "$one" != "$two" ]
wait_for 120 images_idle a
on rollback "$A/d.img@one" --json >"$T/back"
eq "$(sum "$A/d.img")" "$one" "rolled back over $MIB MiB"
on rollback "$A/d.img@$(jq -r .before "$T/back")" >/dev/null
eq "$(sum "$A/d.img")" "$two" "forward again"
remount_fresh a "$OPTS"
eq "$(sum "$A/d.img")" "$two" "... on another node"
eq "$(sum "$A/p.img")" "$s2" "and the other image"
on export "$A/d.img@one" "$T/one.raw"
eq "$(sum "$T/one.raw")" "$one" "the snapshot"
umount_lsvdfs a
finish

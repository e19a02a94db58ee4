# SPDX-License-Identifier: GPL-3.0-or-later
# The past of an image for a while: `image retain`, offline and on a mount, and mount option retain=. What was overwritten and
# marked over since stays a position, whichever node writes meanwhile; it gives the bytes of then; off, or old enough, it goes.
. "$TESTS_DIR/lib.sh"
store_start
A=$T/a OPTS=images=*.img,fsync=remote,dirty_age=0.2
OFF=state_dir=$T/off/state,cache_dir=$T/off/cache${STORE_OPTS:+,$STORE_OPTS}
on() { "$LSVDFS" image "$@"; }
idle() { [ "$(status a fs.images)" = '[]' ]; }
sum() { sha256sum <"$1" | cut -d' ' -f1; }
info() { on info "$1" --json | jq "$2"; }
newest() { on log "$1" --json | jq -r '.[-1].number'; }
marks() { on marks "$1" --json | jq '[.[] | select(.marked)] | length'; }
write() { # IMAGE SALT: all of it; prints the sum
	py - "$@" "$SEED" <<'P'
import os, random, sys
path, salt, seed = sys.argv[1:]
r, f = random.Random(seed + salt), os.open(path, os.O_RDWR)
os.pwrite(f, r.randbytes(os.fstat(f).st_size), 0)
os.fsync(f)
P
	wait_for 60 idle
	sum "$1"
}
settle() { # IMAGE: a checkpoint, and what an owner does after its mark, twice
	local i
	for i in 1 2; do
		on snapshot "$1@s$i" >/dev/null
		on delete "$1@s$i"
	done
	wait_for 60 idle
}
need_cmd jq

mount_lsvdfs a "$OPTS"
truncate -s 4M "$A/p.img"
truncate -s 4M "$A/q.img"
write "$A/q.img" only >/dev/null
has 'back to .*position 1 of' < <(on info "$A/p.img")
must_fail 'is no time' on retain "$A/p.img" soon
must_fail 'is no time' on retain "$A/p.img" 1y
must_fail 'missing arguments' on retain "$A/p.img"
must_fail 'no image of this name' on retain "$A/none.img" 1d
must_fail '--all is of image log' on info "$A/p.img" --all
must_fail 'bad value' "$LSVDFS" mount "$SOURCE" "$T/none" -o retain=soon
write "$A/p.img" one >/dev/null
p1=$(newest "$A/p.img")
settle "$A/p.img"
eq "$(info "$A/p.img" .retain)" 0
eq "$(on retain "$A/p.img" 1d --json | jq .retain)" 86400
eq "$(info "$A/p.img" .retain)" 86400
# what is kept from here on: this state, and each one after it
two=$(write "$A/p.img" two)
p2=$(newest "$A/p.img")
settle "$A/p.img"
three=$(write "$A/p.img" three)
p3=$(newest "$A/p.img")
umount_lsvdfs a
# another node, which knows nothing of it but what the log says
rm -rf "$T/a.state" "$T/a.cache"
mount_lsvdfs a "$OPTS"
four=$(write "$A/p.img" four)
settle "$A/p.img"
on gc "$A/p.img" >/dev/null 2>&1 || true # refused on a mount that has it
floor=$(info "$A/p.img" .back_to)
[ "$floor" -le "$p2" ] || fail "back to $floor, $p2 should be kept"
[ "$(info "$A/p.img" .retained)" -ge $((8 << 20)) ] || fail "two states of 4 MiB are kept: $(on info "$A/p.img")"
eq "$(on log "$A/p.img" --all --json | jq '.[0].number')" "$floor" "the first position"
[ "$(on log "$A/p.img" --json | jq '.[0].number')" -gt "$p3" ] || fail "$p3 is behind the newest checkpoint"
on log "$A/p.img" --all --json | jq -e --argjson n "$p2" 'any(.number == $n)' >/dev/null || fail "position $p2 is not listed"
has 'it keeps 86400 s; .* stored for that alone' < <(on info "$A/p.img")
# back, back further, and forward again
on rollback "$A/p.img" --position "$p3" >/dev/null
eq "$(sum "$A/p.img")" "$three" "the image as of $p3"
on rollback "$A/p.img" --position "$p2" --json >"$T/back"
eq "$(sum "$A/p.img")" "$two" "the image as of $p2"
on check "$A/p.img" --data >"$T/check" || fail "$(cat "$T/check")"
settle "$A/p.img"
on rollback "$A/p.img" --position "$p3" >/dev/null
eq "$(sum "$A/p.img")" "$three" "$p3 once more, from another line of the log"
must_fail 'from its oldest kept checkpoint' on rollback "$A/p.img" --position "$p1"
on check "$A/p.img" --data >"$T/check" || fail "$(cat "$T/check")"
# off: offline; then nothing but the newest checkpoint counts, and the space comes back
for s in $(on snapshots "$A/p.img" --json | jq -r '.[].name'); do on delete "$A/p.img@$s"; done
umount_lsvdfs a
on retain "$SOURCE" p.img off -o "$OFF"
eq "$(on info "$SOURCE" p.img --json -o "$OFF" | jq .retain)" 0
on gc "$SOURCE" p.img -o "$OFF" >/dev/null
eq "$(on info "$SOURCE" p.img --json -o "$OFF" | jq .retained)" 0
must_fail 'from its newest checkpoint' on rollback "$SOURCE" p.img --position "$p2" -o "$OFF"
stored=$(on check "$SOURCE" p.img --json -o "$OFF" | jq .bytes)
[ "$stored" -le $((6 << 20)) ] || fail "$stored bytes are stored for 4 MiB"
# the list of objects in the bucket is of before the deletes
said=$(on info "$SOURCE" p.img --json -o "$OFF" | jq .stored)
[ "$said" -le "$stored" ] || fail "info says that $said bytes are stored: it is $stored"

# by the mount: for images that say nothing; two seconds, which then are over
mount_lsvdfs a "$OPTS,retain=2"
sleep 100000 <>"$A/q.img" &
holder=$!
q=$(newest "$A/q.img")
py - "$A/q.img" <<'P'
import os, sys
f = os.open(sys.argv[1], os.O_RDWR)
os.pwrite(f, b"x" * (4 << 20), 0)
os.fsync(f)
os.close(f)
P
gone() { [ "$(on check "$A/q.img" --json | jq .bytes)" -le $((5 << 20)) ]; }
wait_for 90 gone
[ "$(info "$A/q.img" .back_to)" -gt "$q" ] || fail "back to $(info "$A/q.img" .back_to)"
eq "$(info "$A/q.img" .retain)" 0 "the image itself"
kill $holder
wait $holder || true
umount_lsvdfs a
finish

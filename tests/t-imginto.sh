# SPDX-License-Identifier: GPL-3.0-or-later
# `image journal --into` with kill -9 at each of its steps: the journal that it reads stays as it is, byte for byte; done again
# it gives the disk as its machine saw it; what the dead one left goes with gc, but not an image that has its name already.
#	ALL=1	all steps, not only those that differ most
. "$TESTS_DIR/lib.sh"
ALL=${ALL:-}
need_cmd jq
store_start
OPTS=images=*.img,journal_size=64M
OFF=state_dir=$T/off/state,cache_dir=$T/off/cache${STORE_OPTS:+,$STORE_OPTS}
HERE=state_dir=$T/a.state,cache_dir=$T/a.cache${STORE_OPTS:+,$STORE_OPTS}
mkdir -p "$T/off"
off() { local action=$1; shift; "$LSVDFS" image "$action" "$SOURCE" "$@" -o "$OFF"; }
here() { local action=$1; shift; "$LSVDFS" image "$action" "$SOURCE" "$@" -o "$HERE"; } # as the machine that lost it
journal() { (cd "$(dirname "$(find "$T/a.state" -path "*/$U/*" -print -quit)")" && find . -type f -exec sha256sum {} + | sort -k 2); }
is() { # IMAGE FILE
	rm -f "$T/out"
	off export "$1" "$T/out"
	same "$T/out" "$2"
}

# its machine dies with much that was not sent; another takes the image and goes on
mount_lsvdfs a "$OPTS,dirty_age=1000"
truncate -s 6M "$T/a/f.img"
rnd $((2 << 20)) 1 >"$T/v1"
rnd $((1 << 20)) 2 >"$T/v2"
rnd $((1 << 20)) 3 >"$T/v3"
dd if="$T/v1" of="$T/a/f.img" bs=64k conv=notrunc,fsync status=none
wait_for 60 images_idle a
exec 9<>"$T/a/f.img"
dd if="$T/v2" of=/dev/fd/9 bs=64k seek=24 conv=notrunc,fsync status=none
fallocate -p -o $((1 << 20)) -l 65536 "$T/a/f.img"
sync -d "$T/a/f.img"
cp --sparse=always /dev/fd/9 "$T/seen"
kill9_daemon a
exec 9>&-
off claim f.img >/dev/null 2>&1
mount_lsvdfs b "$OPTS"
dd if="$T/v3" of="$T/b/f.img" bs=64k seek=4 conv=notrunc,fsync status=none
umount_lsvdfs b
U=$(uuid_of f.img)
off export f.img "$T/theirs"
! cmp -s "$T/seen" "$T/theirs" || fail "both machines saw the same"
id=$(here journal f.img --json | jq -r '.[] | select(.unsent > 0).id')
[ -n "$id" ]
journal >"$T/journal"
[ "$(wc -l <"$T/journal")" -ge 2 ]
untouched() {
	journal >"$T/now"
	diff "$T/journal" "$T/now" || fail "the journal is another one after $1"
}

LSVD_FAILPOINT_LIST=$T/points here journal f.img --id "$id" --into whole.img >"$T/said"
is whole.img "$T/seen"
untouched "all of it"
[ -s "$T/points" ] || skip "not a debug build"
n=0
for p in $(sort -u "$T/points" | { [ "$ALL" ] && cat || grep -E 'into-(created|replayed|uploaded|named)$'; }); do
	n=$((n + 1)) rc=0
	LSVD_FAILPOINT=$p here journal f.img --id "$id" --into k$n.img >"$T/said" 2>&1 || rc=$?
	eq $rc 137 "status at $p: $(cat "$T/said")"
	untouched "a death at $p"
	if off info k$n.img >/dev/null 2>&1; then
		must_fail 'something of this name' here journal f.img --id "$id" --into k$n.img
		named=k$n.img
	else
		here journal f.img --id "$id" --into k$n.img >"$T/said"
	fi
done
at_least $n "$([ "$ALL" ] && echo 10 || echo 4)" "steps"
[ -n "${named:-}" ] || fail "no death came after the name: $(cat "$T/points")"
here gc >"$T/said"
note "$n steps; gc: $(wc -l <"$T/said") lines"
eq "$(off list --json | jq length)" $((n + 2)) "images"
for ((i = 1; i <= n; i++)); do is k$i.img "$T/seen"; done
eq "$(obj_keys .lsvd/img/ | grep -v '/dead$' | cut -d/ -f3 | sort -u | while read -r u; do
	obj_exists ".lsvd/img/$u/dead" || echo "$u"
done | wc -l)" $((n + 2)) "logs that live"
eq "$(here gc)" "nothing to remove" "gc again"
untouched gc
is f.img "$T/theirs"
finish

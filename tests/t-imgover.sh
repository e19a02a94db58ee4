# SPDX-License-Identifier: GPL-3.0-or-later
# A rename onto an image, and kill -9 of the daemon at each step of it: the name is the old image or the new one, the other
# is there as well or is gone for good, and nothing is left. ALL=1: also around each request to the store.
. "$TESTS_DIR/lib.sh"
ALL=${ALL:-}
store_start
O=images=*.img,journal_size=64M
rnd 300000 1 >"$T/1"
rnd 300000 2 >"$T/2"
starts_with() { cmp -s -n 300000 "$1" "$2"; }

mount_lsvdfs a "$O"
A=$T/a
# SOURCE: what is renamed onto d.img, an image (s.img) or a plain file (s)
prepare() {
	local n
	for n in "$1" d.img; do
		[ "$n" = "$1" ] && cp "$T/1" "$A/$n" || cp "$T/2" "$A/$n"
	done
	wait_for 20 images_idle a
	uuid=$(uuid_of d.img)
}
prepare s.img
umount_lsvdfs a
LSVD_FAILPOINT_LIST=$T/points mount_lsvdfs a "$O"
mv -f "$A/s.img" "$A/d.img"
starts_with "$A/d.img" "$T/1" || fail "the rename did not work"
wait_for 20 images_idle a
eq "$(ls "$A")" d.img
eq "$(log_left "$uuid")" "claim dead " "what stays of an image that was replaced"
obj_get d.img.lsvd | has "^replaces=$uuid\$" || fail "the name does not say whose it was"
rm "$A/d.img"
umount_lsvdfs a
[ -s "$T/points" ] || skip "not a debug build: no fail points"

# how far it came: old, new, or both (a plain file beside the image)
state() { # SOURCE
	local d=other
	starts_with "$A/d.img" "$T/1" && d=new
	starts_with "$A/d.img" "$T/2" && d=old
	case $d:$(ls "$A" | tr '\n' ' ') in
	new:"d.img ") echo new ;;
	old:"d.img $1 ") starts_with "$A/$1" "$T/1" && echo old ;;
	old:"d.img d.img~object ") starts_with "$A/d.img~object" "$T/1" && echo both ;;
	*) echo "$d: $(ls "$A")" ;;
	esac
}
# start POINT: mounts with a fail point armed; false when it died of it before it was there
start() {
	LSVD_FAILPOINT=$1 "$LSVDFS" mount -f "$SOURCE" "$A" \
		-o "state_dir=$A.state,cache_dir=$A.cache,$O${STORE_OPTS:+,$STORE_OPTS}" >>"$A.log" 2>&1 &
	daemon[a]=$!
	until mountpoint -q "$A"; do
		kill -0 "${daemon[a]}" 2>/dev/null || return 1
		sleep 0.02
	done
}
# killed_at POINT SOURCE: $hit says whether the daemon came there. The mount that finds it serves the next one, too.
killed_at() {
	local got
	prepare "$2"
	umount_lsvdfs a
	hit=1
	if start "$1"; then
		mv -f "$A/$2" "$A/d.img" 2>"$T/mv.log" && hit=
		[ -z "$hit" ] || has 'abort|not connected' <"$T/mv.log" || fail "$1: mv said: $(cat "$T/mv.log")"
	fi
	kill -9 "${daemon[a]}" 2>/dev/null || true # else the log of the old image may be on its way out
	daemon_died a
	mount_lsvdfs a "$O"
	wait_for 30 images_idle a
	got=$(state "$2")
	note "$1 $2: $got"
	case $got in new) ;; old | both) [ -n "$hit" ] || fail "$1: the rename was answered and is not there" ;; *) fail "$1: $got" ;; esac
	states="$states $got"
	while [ -n "$(ls "$A")" ]; do rm -f "$A/"*; done # what was hidden comes to light
}
mount_lsvdfs a "$O"
states=
for p in image.doomed image.renaming image.renamed image.burying image.gone; do
	has "^$p\$" <"$T/points" || fail "$p: not passed"
	killed_at $p s.img
	[ -n "$hit" ] || [ $p = image.gone ] || fail "$p: not hit"
done
for p in image.doomed image.burying image.buried; do killed_at $p s; done
for s in old new both; do has " $s( |\$)" <<<"$states" || fail "never $s: $states"; done
if [ -n "$ALL" ]; then
	for p in $(grep '^store\.' "$T/points" | sort -u); do
		for s in s.img s; do
			hit=1
			for ((k = 1; ${#hit}; k++)); do killed_at "$p:$k" $s; done # the last one is not reached
		done
	done
fi
wait_for 30 images_idle a
eq "$("$LSVDFS" image gc "$A")" "nothing to remove" "what gc finds after all of that"
finish

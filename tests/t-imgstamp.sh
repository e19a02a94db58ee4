# SPDX-License-Identifier: GPL-3.0-or-later
# kill -9 of the daemon under writes from several threads, many times over the same image. With the state directory all
# that was acknowledged is there; without it (another node) a prefix of that, with fsync=remote all that was synced.
# tests/stamp.c says what a prefix is.
. "$TESTS_DIR/lib.sh"
ROUNDS=${ROUNDS:-6} SECTORS=65536
stamp=$top_builddir/tests/stamp
[ -x "$stamp" ] || skip "$stamp is not built"

# --- the judge: an old state is a prefix; it does not hold what came later; a mixture is none ---
"$stamp" new "$T/log" $SECTORS "$SEED"
truncate -s $((SECTORS * 512)) "$T/disk"
"$stamp" run "$T/log" "$T/disk" 300
cp "$T/disk" "$T/old"
"$stamp" run "$T/log" "$T/disk" 600
judge() { cp "$T/log" "$T/judged" && "$stamp" check "$1" "$T/judged" "$2" >>"$T/judge.log"; }
judge any "$T/old" && judge all "$T/disk"
! judge all "$T/old" || fail "all: an old state passed"
! judge synced "$T/old" || fail "synced: an old state passed"
head -c 1M "$T/old" | dd of="$T/disk" conv=notrunc status=none
! judge any "$T/disk" || fail "any: half old, half new passed"

# --- the image ---
store_start
for mode in local remote; do
	mount_lsvdfs a "images=*.img,fsync=$mode,journal_size=64M"
	truncate -s $((SECTORS * 512)) "$T/a/$mode.img"
	umount_lsvdfs a
	"$stamp" new "$T/log.$mode" $SECTORS "$SEED"
done
pick() { py -c 'import random,sys; print(random.Random(sys.argv[1]).choice(sys.argv[2:]))' "$SEED.$*" "${@:2}"; }
for i in $(seq "$ROUNDS"); do
	mode=$(pick "m$i" local local remote)
	[ $((i % 6)) != 3 ] || mode=remote
	[ $((i % 6)) != 0 ] || mode=local
	ops=$(pick "o$i" $(seq 50 50 1500)) threads=$(pick "t$i" 1 4 8) direct=$(pick "d$i" '' -d)
	lost=$([ $((i % 3)) != 0 ] || pick "l$i" "$T/a.state" "$T/a.state $T/a.cache")
	[ "$mode" = local ] || ops=$((ops / 5))
	mount_lsvdfs a images=*.img,journal_size=64M,takeover=always
	# shellcheck disable=SC2086
	"$stamp" run $direct -t "$threads" -k "${daemon[a]}" "$T/log.$mode" "$T/a/$mode.img" "$ops"
	daemon_died a
	want=all
	if [ -n "$lost" ]; then
		[ "$mode" = local ] && want=any || want=synced
		# shellcheck disable=SC2086
		rm -rf $lost
	fi
	note "round $i: $mode, $ops operations, $threads threads $direct, $want${lost:+, lost: $(basename -a $lost | tr '\n' ' ')}"
	mount_lsvdfs a images=*.img,journal_size=64M,takeover=always
	# the reader comes while the journal is brought into the bucket, or takes part in that as a writer
	[ -n "$lost" ] || [ "$(pick "w$i" yes no)" = no ] || dd if=/dev/null of="$T/a/$mode.img" conv=notrunc status=none
	cp "$T/log.$mode" "$T/log.before"
	"$stamp" check $want "$T/log.$mode" "$T/a/$mode.img"
	wait_for 60 images_idle a
	umount_lsvdfs a
	# what the bucket alone says is the same, and stays so
	mount_lsvdfs b
	cp "$T/log.$mode" "$T/judged"
	"$stamp" check all "$T/judged" "$T/b/$mode.img" >/dev/null
	umount_lsvdfs b
	rm -rf "$T/b.state" "$T/b.cache"
done
finish

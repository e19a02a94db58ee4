# SPDX-License-Identifier: GPL-3.0-or-later
# One machine writes an image, another takes it: while the first writes, or while the first stands still (SIGSTOP) in the
# middle of its uploads, across writes, discards and a cleaner pass of the other; what the first has under way lands late. The
# first gets EIO, nothing of it reaches the image after the claim, what it synced before is there (fsync=remote), its
# journal tells what did not arrive, the rest of its mount goes on, and it can take the image back without a new mount.
#
# Sectors carry the number of the write (tests/stamp.c); the second machine's numbers begin behind all that the first can
# reach. `front`: the first machine's uploads are held back on their way, and let go when the image is another's.
. "$TESTS_DIR/lib.sh"
ROUNDS=${ROUNDS:-2} SECTORS=33024 OPS=90000
stamp=$top_builddir/tests/stamp
[ -x "$stamp" ] || skip "$stamp is not built"
need_cmd jq
store_start
O=images=*.img,journal_size=64M,takeover=always,claim_wait=0
for mode in local remote; do
	mount_lsvdfs a "$O,fsync=$mode"
	truncate -s $((SECTORS * 512)) "$T/a/$mode.img"
	umount_lsvdfs a
	"$stamp" new "$T/log.$mode" $SECTORS "$SEED"
done
mount_lsvdfs a "$O"
[ "$BACKEND" != front ] || STORE_OPTS=endpoint=$SERVER_ENDPOINT,path_style
mount_lsvdfs b "$O"
# another image of the first machine, written and synced all the time (not by this shell: all that it starts would close it, too)
truncate -s 8M "$T/a/other.img"
py - "$T/a/other.img" "$T/beat" "$T/stop" <<-'P' >"$T/beat.log" 2>&1 &
	import os, random, sys, time
	img, beat, stop = sys.argv[1:]
	f, n, r = os.open(img, os.O_RDWR), 0, random.Random(1)
	while not os.path.exists(stop):
	    n += 1
	    off, data = r.randrange(1, 2000) * 4096, n.to_bytes(8, 'little') * 512
	    os.pwrite(f, data, off); os.pwrite(f, data, 0)
	    os.fdatasync(f)
	    assert os.pread(f, 4096, off) == data == os.pread(f, 4096, 0)
	    with open(beat + '.new', 'w') as b: print(n, file=b)
	    os.rename(beat + '.new', beat)
	    time.sleep(.1)
	P
beating=$!
beats() { [ "$(cat "$T/beat")" -gt $(($1 + 1)) ]; }
wait_for 30 test -e "$T/beat"
# the seed's choices for a round: the mode, who takes it how, when, ...
py - "$SEED" "$ROUNDS" "$T/plan" <<-'P'
	import random, sys
	seed, rounds, plan = sys.argv[1:]
	r = random.Random(seed)
	with open(plan, 'w') as f:
	    for i in range(int(rounds)):
	        print(i + 1, r.choice(('local', 'remote')), 'live' if i % 2 else 'frozen', r.choice(('open', 'claim')),
	              r.choice(('now', 'aside')), r.choice((0, .1, .3, .7, 1.3)), r.choice((1, 2)), r.choice(('first', 'last')),
	              file=f)
	P
of_image() { # NODE PATH KEY
	"$LSVDFS" status --json "$T/$1" | jq -r --arg p "$2" ".fs.images[] | select(.path == \$p).$3"
}
# what was stored of it when it was claimed; then something else: more, or less when deletes followed what was sent
writes() { stored=$(of_image a "$1" 'state + " " + (.stored | tostring)') && [[ $stored == owner* ]]; }
sends() { [ "$(of_image a "$1" stored)" != "$2" ]; }
given_up() { [ "$(of_image a "$1" state)" = waiting ]; }
let_go() { [ -z "$(of_image "$1" "$2" state)" ]; }
# stamp check MODE on a copy of the log, which stays as it is
judge() { cp "$2" "$T/judged" && "$stamp" check "$1" "$T/judged" "$3"; }
# What the image went on without: what the second one found, with that laid over it, has all that the first was told to be
# written.
lost_id() {
	"$LSVDFS" image journal "$T/a/$1" --json >"$T/journal.json"
	id=$(jq -r '.[] | select(.unsent > 0).id' "$T/journal.json")
}
lost() { # IMAGE LOG
	lost_id "$1"
	[ -n "$id" ] && [ "$(wc -l <<<"$id")" = 1 ] || fail "not one journal of $1: $(cat "$T/journal.json")"
	eq "$("$LSVDFS" image journal "$T/a/$1" --id "$id" | grep -c 'not sent$')" "$(jq '.[] | select(.unsent > 0).unsent' "$T/journal.json")" "unsent changes"
	"$LSVDFS" image journal "$T/a/$1" --id "$id" --out "$T/copy" --force
	judge all "$2" "$T/copy" >"$T/judge.log" || fail "neither in the image nor in the journal: $(cat "$T/judge.log")"
}
# The image as the log says it, by another reader than ours.
read_log() { # UUID FILE
	local key bucket=$T/bucket
	if [ "$BACKEND" != file ]; then
		bucket=$T/dump
		rm -rf "$bucket"
		while read -r key; do
			mkdir -p "$bucket/$(dirname "$key")"
			obj_get "$key" >"$bucket/$key"
		done < <(obj_keys ".lsvd/img/$1/")
	fi
	py "$READER" dump "$bucket" ".lsvd/img/$1/" "$2" --verify --force
}

fence() { # a line of the plan
	local i=$1 mode=$2 how=$3 taken=$4 kept=$5 nap=$6 hold=$7 thaw=$8 img=$2.img log=$T/log.$2 rc=0 promise writer id stored uuid
	[ "$mode" = remote ] && promise=synced || promise=any
	if [ "$BACKEND:$how" = front:frozen ]; then # some of what arrives takes effect once more when all is over
		uuid=$(uuid_of "$img")
		front_ctl rule twice act=twice op=PUT "key=.lsvd/img/$uuid" skip=1 every=2 count=4
	fi
	timeout 200 "$stamp" run -t 4 "$log" "$T/a/$img" $OPS >"$T/run.log" 2>&1 &
	writer=$!
	wait_for 30 writes "$img"
	wait_for 60 sends "$img" "${stored#owner }"
	sleep "$nap"
	if [ "$how" = frozen ]; then
		if [ "$BACKEND" = front ]; then
			front_ctl rule late act=hold op=PUT "key=.lsvd/img/$uuid"
			front_ctl wait late "$hold" 60000
		fi
		kill -STOP "${daemon[a]}"
	fi

	# the other one takes it; what it finds is what it keeps
	[ "$taken" != claim ] || "$LSVDFS" image claim "$T/b/$img" 2>>"$T/claim.log" >&2
	cat <>"$T/b/$img" >"$T/copy"
	cp "$log" "$T/snap"
	"$stamp" check $promise "$T/snap" "$T/copy"
	"$stamp" skip "$T/snap" 100000
	"$stamp" run -t 4 "$T/snap" "$T/b/$img" 200
	"$stamp" check -w all "$T/snap" "$T/b/$img"
	if [ "$how" = frozen ]; then
		wait_for 30 let_go b "$img"
		"$LSVDFS" image gc "$T/b/$img" --json >"$T/gc.json"
		"$stamp" run "$T/snap" "$T/b/$img" 50
		"$stamp" check -w all "$T/snap" "$T/b/$img"
		[ "$BACKEND" != front ] || obj_keys ".lsvd/img/$uuid/" >"$T/keys"
		# and the first goes on, with what it has under way
		if [ "$BACKEND:$thaw" = front:first ]; then front_ctl clear; fi
		kill -CONT "${daemon[a]}"
		[ "$BACKEND" != front ] || front_ctl clear
	fi
	wait $writer || rc=$?
	if [ "$BACKEND:$how" = front:frozen ]; then
		obj_keys ".lsvd/img/$uuid/" | comm -13 "$T/keys" - >"$T/late"
		back=$((back + $(wc -l <"$T/late")))
	fi
	[ $rc = 2 ] && grep -q 'Input/output error' "$T/run.log" || fail "the first writer ended with $rc: $(cat "$T/run.log")"
	judge $promise "$log" "$T/copy" >"$T/judge.log" || fail "synced by the first, not in the image: $(cat "$T/judge.log")"

	wait_for 30 given_up "$img"
	cp "$log" "$T/first"
	[ "$kept" = aside ] || lost "$img" "$T/first"

	# the rest of its mount
	wait_for 30 beats "$(cat "$T/beat")"
	tail -c "1$i" "$T/copy" >"$T/other"
	cp "$T/other" "$T/a/plain"
	same "$T/b/plain" "$T/other"

	# the image is the other's, whoever looks
	wait_for 30 let_go b "$img"
	cp "$T/snap" "$log"
	cat "$T/b/$img" >"$T/model"
	judge all "$log" "$T/model" >"$T/judge.log" || fail "the second's data: $(cat "$T/judge.log")"
	"$LSVDFS" image check "$T/b/$img" --data >"$T/check.log" || fail "check: $(cat "$T/check.log")"
	if [ $((i % 25)) = 2 ] || [ "$i" = "$ROUNDS" ]; then
		read_log "$(uuid_of "$img")" "$T/read"
		same "$T/read" "$T/model"
	fi
	"$stamp" check -w all "$log" "$T/a/$img"
	same "$T/a/$img" "$T/model"
	wait_for 30 let_go a "$img"
	if [ "$kept" = aside ]; then lost "$img" "$T/first"; else lost_id "$img"; fi
	"$LSVDFS" image journal "$T/a/$img" --id "$id" --drop
	note "round $i: $mode, $how, $taken, $kept; $(jq -c '.[] | select(.unsent > 0) | [.changes, .unsent]' "$T/journal.json") changes; gc $(jq -c '[.moved, .deleted]' "$T/gc.json" 2>/dev/null)"
}

back=0
while read -r -a words; do
	fence "${words[@]}"
done <"$T/plan"
[ "$BACKEND" != front ] || at_least $back "$ROUNDS" "objects that late requests made"
: >"$T/stop"
wait $beating || fail "the other image of the first machine: $(cat "$T/beat.log")"
finish

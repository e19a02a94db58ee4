# SPDX-License-Identifier: GPL-3.0-or-later
# One machine writes an image, another takes it: while the first writes, or while the first stands still (SIGSTOP) in the
# middle of its uploads, across writes, discards and a cleaner pass of the other; what the first has under way lands late. The
# first gets EIO, nothing of it reaches the image after the claim, what it synced before is there (fsync=remote), its
# journal tells what did not arrive, the rest of its mount goes on, and it can take the image back without a new mount.
#
# Sectors carry the number of the write (tests/stamp.c); the second machine's numbers begin behind all that the first can
# reach. `front`: the first machine's uploads are held back on their way, and let go when the image is another's.
. "$TESTS_DIR/lib.sh"
ROUNDS=${ROUNDS:-2} SECTORS=65536 OPS=90000
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
pick() { py -c 'import random,sys; print(random.Random(sys.argv[1]).choice(sys.argv[2:]))' "$SEED.$*" "${@:2}"; }
of_image() { # NODE PATH KEY
	status "$1" fs.images | py -c 'import ast,sys
print(next((i[sys.argv[2]] for i in ast.literal_eval(sys.stdin.read()) if i["path"] == sys.argv[1]), ""))' "$2" "$3"
}
writes() { [ "$(of_image a "$1" state)" = owner ] && [ "$(of_image a "$1" journal_used)" -gt 100000 ]; }
sends() { [ "$(of_image a "$1" stored)" -ge "$2" ]; }
given_up() { [ "$(of_image a "$1" state)" = waiting ]; }
let_go() { [ -z "$(of_image "$1" "$2" state)" ]; }
# stamp check MODE on a copy of the log, which stays as it is
judge() { cp "$2" "$T/judged" && "$stamp" check "$1" "$T/judged" "$3"; }
# What the image went on without: what the second one found, with that laid over it, has all that the first was told to be
# written.
lost() { # IMAGE LOG
	local id
	"$LSVDFS" image journal "$T/a/$1" --json | jq '[.[] | select(.unsent > 0)]' >"$T/journal.json"
	eq "$(jq -r length "$T/journal.json")" 1 "journals of $1: $(cat "$T/journal.json")"
	id=$(jq -r '.[0].id' "$T/journal.json")
	"$LSVDFS" image journal "$T/a/$1" --id "$id" --json >"$T/changes.json"
	eq "$(jq '[.[] | select(.sent | not)] | length' "$T/changes.json")" "$(jq '.[0].unsent' "$T/journal.json")" "unsent changes"
	"$LSVDFS" image journal "$T/a/$1" --id "$id" --out "$T/copy" --force
	judge all "$2" "$T/copy" >"$T/judge.log" || fail "neither in the image nor in the journal: $(cat "$T/judge.log")"
}
none_lost() { [ "$("$LSVDFS" image journal "$T/a/$1" --json | jq '[.[] | select(.unsent > 0)] | length')" = 0 ]; }
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
	py "$TESTS_DIR/image-reader.py" "$bucket" --log ".lsvd/img/$1/" --verify --output "$2"
}

fence() { # ROUND MODE HOW TAKEN
	local i=$1 mode=$2 how=$3 taken=$4 img=$2.img log=$T/log.$2 rc=0 promise writer kept id stored
	[ "$mode" = remote ] && promise=synced || promise=any
	timeout 200 "$stamp" run -t 4 "$log" "$T/a/$img" $OPS >"$T/run.log" 2>&1 &
	writer=$!
	wait_for 30 writes "$img"
	stored=$(of_image a "$img" stored)
	wait_for 60 sends "$img" $((stored + 1))
	sleep "$(pick "s$i" 0.0 0.1 0.3 0.7 1.3)"
	if [ "$how" = frozen ]; then
		if [ "$BACKEND" = front ]; then
			front_ctl rule late act=hold op=PUT key=.lsvd/img/
			front_ctl wait late "$(pick "h$i" 1 2)" 20000
		fi
		kill -STOP "${daemon[a]}"
	fi

	# the other one takes it; what it finds is what it keeps
	[ "$taken" != claim ] || "$LSVDFS" image claim "$T/b/$img" 2>>"$T/claim.log" >&2
	py - "$T/b/$img" "$T/copy" <<-'P'
	import os, sys
	f = os.open(sys.argv[1], os.O_RDWR)
	with open(sys.argv[2], 'wb') as out:
	    while d := os.read(f, 1 << 20): out.write(d)
	os.close(f)
	P
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
		# and the first goes on, with what it has under way
		if [ "$BACKEND" = front ] && [ "$(pick "t$i" first last)" = first ]; then front_ctl clear; fi
		kill -CONT "${daemon[a]}"
		[ "$BACKEND" != front ] || front_ctl clear
	fi
	wait $writer || rc=$?
	[ $rc = 2 ] && grep -q 'Input/output error' "$T/run.log" || fail "the first writer ended with $rc: $(cat "$T/run.log")"
	judge $promise "$log" "$T/copy" >"$T/judge.log" || fail "synced by the first, not in the image: $(cat "$T/judge.log")"

	wait_for 30 given_up "$img"
	cp "$log" "$T/first"
	kept=$(pick "j$i" now aside)
	[ $kept = aside ] || lost "$img" "$T/first"

	# the rest of its mount
	wait_for 30 beats "$(cat "$T/beat")"
	rnd 100000 "other$i" >"$T/other"
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
	[ $kept = now ] || lost "$img" "$T/first"
	id=$("$LSVDFS" image journal "$T/a/$img" --json | jq -r '.[] | select(.unsent > 0).id')
	"$LSVDFS" image journal "$T/a/$img" --id "$id" --drop
	none_lost "$img" || fail "a journal is still there"
	note "round $i: $mode, $how, $taken, $kept; $(jq -c '.[0] | [.changes, .unsent]' "$T/journal.json") changes; gc $(jq -c '[.moved, .deleted]' "$T/gc.json" 2>/dev/null)"
}

for i in $(seq "$ROUNDS"); do
	fence "$i" "$(pick "m$((i / 2))" local remote)" "$([ $((i % 2)) = 0 ] && echo live || echo frozen)" "$(pick "c$i" open claim)"
done
: >"$T/stop"
wait $beating || fail "the other image of the first machine: $(cat "$T/beat.log")"
finish

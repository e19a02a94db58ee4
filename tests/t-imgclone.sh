# SPDX-License-Identifier: GPL-3.0-or-later
# Clones of disk images to their end: what one costs, flatten while a guest writes and with kill -9 at each of its steps,
# references that a dead command left, the space that comes back, and a herd of clones under load, half of which is deleted in
# random order while the daemon is killed: nothing live is lost, nothing dead stays.
#	CLONES=N	of one snapshot		KILLS=N	of the daemon, at most, while they are deleted
#	MIB=N		data of the parent	FAST=1	a clone takes less than a second, too
#	ALL=1		kills at all steps of flatten, not only at those that differ most
#	PARTS		all of "cost flatten refs space herd" unless it says less; cost needs the front, whose short form is that
. "$TESTS_DIR/lib.sh"
CLONES=${CLONES:-6} KILLS=${KILLS:-2} MIB=${MIB:-20} FAST=${FAST:-} ALL=${ALL:-}
PARTS=${PARTS:-$([ "$BACKEND$ALL" = front ] && echo cost || echo cost flatten refs space herd)}
need_cmd jq
store_start
part() { case " $PARTS " in *" $1 "*) ;; *) return 1 ;; esac; }
OPTS='images=*.img,dirty_age=0.2,journal_size=64M'
whole() { on check "$1" --data >"$T/said" || fail "$1: $(cat "$T/said")"; }
refs() { obj_keys ".lsvd/img/$(uuid_of "$1")/ref/" | wc -l; }
# A machine with the bucket alone, and its fail points.
OFF=state_dir=$T/off/state,cache_dir=$T/off/cache${STORE_OPTS:+,$STORE_OPTS}
mkdir -p "$T/off"
off() { local action=$1; shift; "$LSVDFS" image "$action" "$SOURCE" "$@" -o "$OFF"; }
killed() { # POINT ACTION ARGUMENT...: without a mount, as far as there
	local rc=0
	LSVD_FAILPOINT=$1 off "${@:2}" >"$T/said" 2>&1 || rc=$?
	eq $rc 137 "$*: status ($(cat "$T/said"))"
}
debug_build() { LSVD_FAILPOINT_LIST=$T/points off list >/dev/null && off create points.img 1M && LSVD_FAILPOINT_LIST=$T/points off delete points.img; [ -s "$T/points" ]; }
DEBUG=$(! debug_build >/dev/null 2>&1 || echo 1)

for ((i = 0; i < MIB; i += 20)); do rnd $((MIB - i < 20 ? (MIB - i) << 20 : 20 << 20)) base$i; done >"$T/base"
rnd 3000000 own >"$T/own"
[ "$PARTS" = cost ] || { cp "$T/base" "$T/mixed" && dd if="$T/own" of="$T/mixed" bs=1M conv=notrunc status=none; }
begin() { # the parent, with the snapshot
	mount_lsvdfs a "$OPTS"
	truncate -s 1T "$T/a/p.img"
	dd if="$T/base" of="$T/a/p.img" bs=1M conv=notrunc,fsync status=none
	on snapshot "$T/a/p.img@s"
	wait_for 60 images_idle a
}
end() { # all of it goes, and nothing stays
	local u=$(uuid_of p.img)
	on delete "$T/a/p.img@s"
	starts_as "$T/a/p.img" "$T/base"
	whole "$T/a/p.img"
	rm "$T/a/p.img"
	wait_for 60 images_idle a
	eq "$(log_left "$u" | sed 's|\(gone\)/[0-9a-f]*|\1|g' | tr ' ' '\n' | sort -u | xargs)" "claim dead gone" "what stays of the parent"
	umount_lsvdfs a
	rm -rf "$T/a.state" "$T/a.cache" "$T/off"/*
}

# --- cost ---
cost() {
	local at puts from
	begin
	truncate -s 1M "$T/a/other.img" # whatever is done once only
	on clone "$T/a/p.img@s" "$T/a/first.img"
	front_reset
	from=$(wc -l <"$T/front/requests")
	at=$(date +%s%N)
	on clone "$T/a/p.img@s" "$T/a/c.img"
	at=$((($(date +%s%N) - at) / 1000000))
	# the name of the parent may get its times meanwhile, which no clone asked for
	puts=$(tail -n "+$((from + 1))" "$T/front/requests" | grep ' PUT PUT ' | grep -cv ' p.img.lsvd$')
	note "a clone of 1 TiB with $MIB MiB of data: $at ms, $puts PUTs ($(front_counts))"
	at_least "$puts" 3 "PUTs of a clone"
	at_most "$puts" 3 "PUTs of a clone"
	[ -z "$FAST" ] || at_most $at 999 "ms of a clone"
	starts_as "$T/a/c.img" "$T/base"
	rm "$T/a/c.img" "$T/a/first.img" "$T/a/other.img"
	wait_for 60 images_idle a
	end
}

# --- flatten ---
parent_of() { on info "$1" --json | jq -r '.parent.path // "none"'; }
flatten() {
	local i p k
	begin
	on clone "$T/a/p.img@s" "$T/a/c.img"
	eq "$(parent_of "$T/a/c.img")" p.img "parent"
	eq "$(on info "$T/a/p.img" --json | jq -r '.clones[] | .path + "@" + .name')" c.img@s "clones"
	on info "$T/a/c.img" | has '^parent +p.img@s$' || fail "info: $(on info "$T/a/c.img")"
	on info "$T/a/p.img" | has '^clone +c.img of @s$' || fail "info: $(on info "$T/a/p.img")"
	refused 1 'is no clone' on flatten "$T/a/p.img"
	refused 2 'missing arguments' on flatten
	refused 1 'no image of this name' on flatten "$T/a/none.img"
	on snapshot "$T/a/c.img@mine"
	refused 1 "snapshot 'mine' still reads from its parent" on flatten "$T/a/c.img"
	on delete "$T/a/c.img@mine"
	# a guest writes meanwhile
	exec 6<>"$T/a/c.img"
	dd if="$T/own" of=/dev/fd/6 bs=64k conv=notrunc status=none &
	on flatten "$T/a/c.img" --json | jq -e '.copied > 0' >/dev/null
	wait $!
	exec 6>&-
	eq "$(parent_of "$T/a/c.img")" none "parent"
	eq "$(refs p.img)" 0 "references"
	refused 1 'was flattened' on flatten "$T/a/c.img"
	starts_as "$T/a/c.img" "$T/mixed"
	whole "$T/a/c.img"
	on delete "$T/a/p.img@s" # nobody is in the way
	remount_fresh a "$OPTS"
	starts_as "$T/a/c.img" "$T/mixed"
	[ "$BACKEND" != file ] || {
		"$READER" dump "$T/bucket" c.img "$T/out" >/dev/null
		starts_as "$T/out" "$T/mixed"
		rm "$T/out"
	}
	on snapshot "$T/a/p.img@s"
	# killed at each step: without a mount, and the daemon
	for p in ${DEBUG:+image.flatten-moved${ALL:+ image.flatten-moved:2 image.flatten-marked} image.flatten-said${ALL:+ image.flatten-cut}}; do
		on clone "$T/a/p.img@s" "$T/a/k.img"
		killed $p flatten k.img
		off check k.img --data >"$T/said" || fail "$p: $(cat "$T/said")"
		if [ $p = image.flatten-cut ]; then
			! off flatten k.img 2>"$T/said" || fail "$p: there was something left to do"
			has 'was flattened' <"$T/said" || fail "$p: $(cat "$T/said")"
		else
			off flatten k.img --json | jq -e '.copied >= 0' >/dev/null || fail "$p: not resumed"
		fi
		eq "$(off info k.img --json | jq -r '.parent.path // "none"')" none "parent after $p"
		eq "$(refs p.img)" 0 "references after $p"
		starts_as "$T/a/k.img" "$T/base"
		rm "$T/a/k.img"
		wait_for 60 images_idle a
	done
	for p in ${DEBUG:+${ALL:+image.flatten-moved image.flatten-said }image.flatten-marked}; do
		on clone "$T/a/p.img@s" "$T/a/k.img"
		umount_lsvdfs a
		LSVD_FAILPOINT=$p mount_lsvdfs a "$OPTS"
		dd if="$T/own" of="$T/a/k.img" bs=1M conv=notrunc,fsync status=none
		must_fail 'does not answer' on flatten "$T/a/k.img"
		daemon_died a
		mount_lsvdfs a "$OPTS"
		starts_as "$T/a/k.img" "$T/mixed"
		on flatten "$T/a/k.img" >/dev/null
		eq "$(refs p.img)" 0 "references after $p of a daemon"
		starts_as "$T/a/k.img" "$T/mixed"
		whole "$T/a/k.img"
		rm "$T/a/k.img"
		wait_for 60 images_idle a
	done
	rm "$T/a/c.img"
	wait_for 60 images_idle a
	end
}

# --- references that a dead command left ---
leaked() { # at a point of clone; the clone's uuid
	killed "$1" clone p.img@s "never$2.img"
	refused 1 'a clone was made' on delete "$T/a/p.img@s"
	obj_keys ".lsvd/img/$(uuid_of p.img)/ref/" | sed 's|.*/||'
}
removed() { jq -r '[.logs[] | select(.what | test("reference")) | select(.removed)] | length'; }
references() {
	local u here
	begin
	here="$LSVDFS image gc $SOURCE -o state_dir=$T/else/state,cache_dir=$T/else/cache${STORE_OPTS:+,$STORE_OPTS} --json"
	mkdir -p "$T/else"
	u=$(leaked image.clone-ref 1)
	on check "$T/a/p.img" | has "^note: .*never made \($u\)" || fail "check: $(on check "$T/a/p.img")"
	eq "$($here | jq -r '.logs[] | .why')" 'younger than a day: it may still come (--force: then it fails)' "gc elsewhere"
	eq "$(off gc --json | removed)" 1 "what gc removes where it died"
	eq "$(refs p.img)" 0 "references"
	eq "$(log_left "$u")" 'dead tombstone ' 'what is there of a clone that never comes'
	eq "$(off gc)" "nothing to remove" "gc once more"
	# a sweeper that dies itself; then another one, by force
	u=$(leaked image.clone-ref 2)
	killed image.entombed gc --force
	killed image.unref gc --force
	eq "$($here --force | removed)" 1 "what the third gc removes"
	eq "$(refs p.img)" 0 "references"
	# one that came as far as its log: it goes with what it began
	u=$(leaked image.clone-made 3)
	off gc >/dev/null
	eq "$(refs p.img)" 0 "references"
	eq "$(log_left "$u")" "claim dead " "what stays of a clone without a name"
	# and a deletion of the snapshot that died: the name is gone, the rest goes with gc
	for p in image.unsnap-hidden image.unsnap-gone; do
		off snapshot p.img@x
		killed $p delete p.img@x
		eq "$(off snapshots p.img --json | jq -c '[.[] | select(.name == "x") | .deleted]')" '[true]' "after $p"
		off gc p.img >/dev/null
		eq "$(off snapshots p.img --json | jq length)" 1 "snapshots after $p and gc"
	done
	end
	rm -rf "$T/else"
}

# --- space ---
bytes_of() {
	if [ "$BACKEND" = file ]; then
		{ find "$T/bucket/.lsvd/img/$1" -type f -printf 'x\t%s\n' 2>/dev/null || true; }
	else
		s3 list ".lsvd/img/$1/"
	fi | awk -F'\t' '{ n += $2 } END { printf "%.0f\n", n }'
}
small_enough() { [ $(($(bytes_of "$1") * 100)) -le $((($2 << 20) * 115 + (8 << 20) * 100)) ]; } # an object of 8 MiB is nothing
space() {
	local p c
	begin
	p=$(uuid_of p.img)
	exec 6<>"$T/a/p.img"
	dd if="$T/mixed" of=/dev/fd/6 bs=1M conv=notrunc,fsync status=none
	eq "$(on snapshots "$T/a/p.img" --pins --json | jq '.[0].pins')" $((MIB << 20)) "bytes that only the snapshot keeps"
	refused 2 'of image snapshots' on info "$T/a/p.img" --pins
	on clone "$T/a/p.img@s" "$T/a/c.img"
	c=$(uuid_of c.img)
	exec 7<>"$T/a/c.img"
	for _ in 1 2 3; do dd if="$T/mixed" of=/dev/fd/7 bs=1M conv=notrunc,fsync status=none; done
	wait_for 120 small_enough "$c" "$MIB"
	note "a clone that was written over three times: $(bytes_of "$c") bytes for $MIB MiB"
	at_least "$(bytes_of "$p")" $(((2 * MIB) << 20)) "bytes while the snapshot is there"
	exec 7>&-
	rm "$T/a/c.img"
	wait_for 60 sh -c "[ -z \"\$(ls $T/a.state/*/*/img/$c 2>/dev/null)\" ]"
	at_most "$(bytes_of "$c")" $((64 << 10)) "bytes of a deleted clone"
	on delete "$T/a/p.img@s"
	wait_for 120 small_enough "$p" "$MIB"
	note "without clone and snapshot: $(bytes_of "$p") bytes for $MIB MiB"
	exec 6>&-
	starts_as "$T/a/p.img" "$T/mixed"
	rm "$T/a/p.img"
	wait_for 60 images_idle a
	umount_lsvdfs a
	rm -rf "$T/a.state" "$T/a.cache"
}

# --- a herd ---
# What the guests of all clones do: 4 KiB that carry the clone's name and a number, at random places; an fsync now and then. The
# log LOG/<clone> has a line before each write ("w PLACE NUMBER") and after each fsync ("s"). A killed daemon ends it.
guests() { # SALT
	/usr/bin/python3 - "$T/a" "$T/herd" "$SEED.$1" "$((MIB << 8))" <<-'P'
	import os, random, sys
	mnt, logs, seed, blocks = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
	r, n, opened = random.Random(seed), int.from_bytes(os.urandom(6), 'little') << 16, {}
	try:
	    while not os.path.exists(logs + '.stop'):
	        live = sorted(os.listdir(logs))
	        name = r.choice(live)
	        if name not in opened:
	            if len(opened) > 8:
	                for f, l in opened.values():
	                    os.close(f); l.close()
	                opened = {}
	            try:
	                l = open(f'{logs}/{name}', 'r+') # never made anew: without it nobody counts on the clone
	                l.seek(0, 2)
	                opened[name] = os.open(f'{mnt}/{name}', os.O_RDWR), l
	            except FileNotFoundError:
	                continue # it goes just now
	        f, l = opened[name]
	        for _ in range(r.randrange(1, 12)):
	            n += 1
	            at = r.randrange(blocks)
	            l.write(f'w {at} {n}\n'); l.flush()
	            os.pwrite(f, (f'{name} {n}\n' * 512).encode()[:4096], at * 4096)
	        if r.random() < .3:
	            os.fsync(f)
	            l.write('s\n'); l.flush()
	        # whoever deletes it may do so
	        gone = [k for k in opened if not os.path.exists(f'{logs}/{k}')] + [k for k in opened if r.random() < .1]
	        for k in set(gone):
	            f, l = opened.pop(k)
	            os.close(f); l.close()
	except OSError as e:
	    print('guests end:', e)
	P
}
# holds CLONE: each block has what was synced last, or something that was written since, or is the parent's
holds() {
	/usr/bin/python3 - "$T/a/$1" "$T/herd/$1" "$T/base" "$1" <<-'P'
	import sys
	image, log, base, name = sys.argv[1:]
	may, fresh, known = {}, {}, {}
	for line in open(log):
	    w = line.split()
	    if w[0] == 'w':
	        fresh.setdefault(int(w[1]), []).append(int(w[2]))
	    else:
	        for at, v in fresh.items():
	            known[at] = {v[-1]}
	        fresh = {}
	with open(image, 'rb') as i, open(base, 'rb') as b:
	    for at in range(len(open(base, 'rb').read()) // 4096):
	        got, was = i.read(4096), b.read(4096)
	        ok = [(f'{name} {n}\n' * 512).encode()[:4096] for n in known.get(at, set()) | set(fresh.get(at, []))]
	        if at not in known:
	            ok.append(was)
	        if got not in ok:
	            sys.exit(f'{name}: block {at} is {got[:40]!r}, not one of {sorted(known.get(at, []))} {fresh.get(at)}')
	# what is there now is what counts from here on: the daemon that died lost the rest, or has it
	P
}
# a block that was written and not synced is one of both: it is so for good once somebody looked and synced
settled() {
	/usr/bin/python3 - "$T/a/$1" "$T/herd/$1" "$T/base" "$1" <<-'P'
	import os, sys
	image, log, base, name = sys.argv[1:]
	at = {int(l.split()[1]) for l in open(log) if l[0] == 'w'}
	f = os.open(image, os.O_RDONLY)
	out = []
	for a in sorted(at):
	    got = os.pread(f, 4096, a * 4096)
	    if got.startswith(name.encode() + b' '):
	        out.append(f'w {a} {got.split()[1].decode()}\n')
	open(log + '~', 'w').write(''.join(out) + 's\n')
	os.rename(log + '~', os.path.dirname(log) + '/../herd.tmp')
	os.rename(os.path.dirname(log) + '/../herd.tmp', log)
	P
}
shuffled() { py -c 'import random,sys; v=sys.argv[2:]; random.Random(sys.argv[1]).shuffle(v); print(*v)' "$SEED.$1" "${@:2}"; }
again() { # after a kill: all that lives is as it was told
	local c
	daemon_died a
	wait $herder || true
	mount_lsvdfs a "$OPTS"
	for c in "$T/herd/"*; do
		c=${c##*/}
		[ -e "$T/a/$c" ] || fail "$c is lost"
		holds "$c" || fail "$c: $(holds "$c" 2>&1)"
		settled "$c"
	done
}
herd() {
	local i c k=0 all=() dead=() round=0 gone=() u
	begin
	mkdir "$T/herd"
	for ((i = 0; i < CLONES; i++)); do
		on clone "$T/a/p.img@s" "$T/a/c$i.img"
		all+=("c$i.img")
		uuids[i]=$(uuid_of "c$i.img")
		: >"$T/herd/c$i.img"
	done
	eq "$(refs p.img)" "$CLONES" "references"
	guests 0 >"$T/guests.log" 2>&1 &
	herder=$!
	read -r -a dead <<<"$(shuffled order "${all[@]}")"
	dead=("${dead[@]:0:CLONES/2}")
	for c in "${dead[@]}"; do
		rm "$T/herd/$c" # the guest lets go of it; no more promises
		gone+=("$c")
		if [ $k -lt "$KILLS" ] && [ "$(shuffled "kill$c" 0 1 | cut -c1)" = 1 -o $((${#dead[@]} - ${#gone[@]})) -lt $((KILLS - k)) ]; then
			# while it goes, or a moment later
			k=$((k + 1))
			(until rm "$T/a/$c" 2>/dev/null || ! mountpoint -q "$T/a"; do sleep 0.05; done) &
			i=$!
			sleep "0.$(shuffled "when$c" 02 05 1 2 3 4 | cut -d' ' -f1)" # of all moments one
			kill -9 "${daemon[a]}"
			wait $i || true
			again
			guests $((++round)) >>"$T/guests.log" 2>&1 &
			herder=$!
		fi
		[ ! -e "$T/a/$c" ] || wait_for 60 rm -f "$T/a/$c"
	done
	note "$CLONES clones, ${#gone[@]} deleted, $k kills"
	at_least $k 1 "kills"
	# one that lives is flattened, under load as well
	for c in "${all[@]}"; do [ ! -e "$T/herd/$c" ] || break; done
	on flatten "$T/a/$c" >/dev/null
	touch "$T/herd.stop"
	wait $herder
	[ ! -s "$T/guests.log" ] || [ "$(grep -c 'guests end' "$T/guests.log")" = $k ] || fail "$(cat "$T/guests.log")"
	wait_for 60 images_idle a
	kill -9 "${daemon[a]}"
	again
	"$LSVDFS" image gc "$SOURCE" -o "$OFF" >/dev/null
	# nothing dead stays
	eq "$(refs p.img)" $((CLONES - ${#gone[@]} - 1)) "references of clones that live, but for the flattened one"
	for ((i = 0; i < CLONES; i++)); do
		if [ -e "$T/herd/c$i.img" ]; then
			whole "$T/a/c$i.img"
		else
			[ ! -e "$T/a/c$i.img" ] || fail "c$i.img is still there"
			eq "$(log_left "${uuids[i]}")" "claim dead " "what stays of c$i.img"
		fi
	done
	eq "$(ls "$T/a" | tr '\n' ' ')" "$({ ls "$T/herd"; echo p.img; } | sort | tr '\n' ' ')" "names"
	refused 1 'a clone was made' on delete "$T/a/p.img@s"
	for c in "$T/herd/"*; do rm "$T/a/${c##*/}"; done
	wait_for 120 images_idle a
	for u in "${uuids[@]}"; do eq "$(log_left "$u")" "claim dead " "what stays of $u"; done
	eq "$(refs p.img)" 0 "references in the end"
	rm -rf "$T/herd" "$T/herd.stop"
	end
}

! part cost || [ "$BACKEND" != front ] || cost
! part flatten || flatten
! part refs || [ -z "$DEBUG" ] || references
! part space || space
! part herd || herd
finish

# SPDX-License-Identifier: GPL-3.0-or-later
# What an image costs through a real mount: requests, bytes to the bucket, space in it, memory of the daemon.
#	LIVE=MiB	fills 70 % of an image so large and writes it over (0: not), in the ways of CASES
#	PARTS		of the rest: all of "trickle requests idle attach" unless it says less; attach needs the front
#	IMAGES=N	so many idle open images		EXTENTS=N	of the images that are attached
# Each line of the table is a figure and its limit; the test goes on and fails in the end.
. "$TESTS_DIR/lib.sh"
LIVE=${LIVE:-0} CASES=${CASES:-uniform hot sequential} IMAGES=${IMAGES:-20} EXTENTS=${EXTENTS:-20000}
PARTS=${PARTS:-trickle requests idle attach}
need_cmd fio jq
store_start
part() { case " $PARTS " in *" $1 "*) ;; *) return 1 ;; esac; }

# --- the table ---
wrong=0
calc() { py -c "print($1)"; }
line() { # FIGURE LIMIT WHAT
	local ok=ok
	[ "$(calc "float('$1') <= float('$2')")" = True ] || { ok=WRONG; wrong=$((wrong + 1)); }
	note "$(printf '%-5s %12s  <= %-10s %s' $ok "$1" "$2" "$3")"
}

# requests NAME [OP]: of a mount, all or of one kind; sent NAME: bytes
requests() { "$LSVDFS" status --json "$T/$1" | jq "[.store.requests | to_entries[] | ${2:+select(.key == \"$2\") |} .value.count] | add // 0"; }
sent() { status "$1" store.bytes_out; }
bytes_of() { # UUID: what its log takes in the bucket; files go meanwhile
	if [ "$BACKEND" = file ]; then
		{ find "$T/bucket/.lsvd/img/$1" -type f -printf 'x\t%s\n' 2>/dev/null || true; }
	else
		s3 list ".lsvd/img/$1/"
	fi | awk -F'\t' '{ n += $2 } END { printf "%.0f\n", n }'
}
named() { [ "$(status "$1" metadata.waiting)" = 0 ]; } # what names say is in the bucket
# Somebody has it open, so that the image stays ours. Not this shell: its children would inherit it, and each close(2) of
# theirs is a flush.
hold() {
	sleep 100000 <>"$1" &
	holder=$!
}
unhold() {
	kill $holder
	wait $holder || true
}
# still NAME SECONDS: no request for so long
still() {
	local n end=$((SECONDS + 900)) since=$SECONDS now
	n=$(requests "$1")
	while [ $((SECONDS - since)) -lt "$2" ]; do
		[ $SECONDS -lt $end ] || fail "requests do not end: $("$LSVDFS" status --json "$T/$1" | jq -c .store.requests)"
		sleep 0.25
		now=$(requests "$1")
		[ "$now" = "$n" ] || since=$SECONDS
		n=$now
	done
}

# --- a trickle: while all the rest goes on, on a mount of its own ---
trickle_begins() {
	mount_lsvdfs trickle images=*.img
	truncate -s 1G "$T/trickle/t.img"
	/usr/bin/python3 - "$T/trickle/t.img" "$T/stop" "$SEED" <<-'P' &
	import os, random, sys, time
	path, stop, seed = sys.argv[1:]
	r = random.Random(seed)
	f = os.open(path, os.O_RDWR)
	os.pwrite(f, r.randbytes(4096), 0)
	open(stop + '.began', 'w').close()
	while not os.path.exists(stop):
	    os.pwrite(f, r.randbytes(4096), r.randrange(262144) * 4096)
	    time.sleep(.1)
	open(stop + '.stopped', 'w').close()
	while os.path.exists(stop):
	    time.sleep(.05)
	P
	trickler=$!
	wait_for 60 test -e "$T/stop.began"
	wait_for 60 named trickle
	trickle_from=$(requests trickle PUT) trickle_at=$(date +%s%N)
}
trickle_ends() {
	local n seconds
	touch "$T/stop"
	wait_for 60 test -e "$T/stop.stopped"
	n=$(($(requests trickle PUT) - trickle_from)) seconds=$(calc "round(($(date +%s%N) - $trickle_at) / 1e9, 2)")
	# the first of them may have been due at once
	line "$n" "$(calc "round($seconds / 5 + 1, 2)")" "PUTs of a trickle in $seconds s"
	[ "$(calc "$seconds < 8")" = True ] || at_least "$n" 1 "PUTs of a trickle"
	rm "$T/stop"
	wait $trickler
	umount_lsvdfs trickle
}

# --- much in order, and a discard ---
in_order() {
	local puts bytes at
	wait_for 60 named a
	puts=$(requests a PUT) bytes=$(sent a) at=$(date +%s%N)
	py - "$T/a/a.img" "$SEED" <<-'P'
	import os, random, sys
	f, d = os.open(sys.argv[1], os.O_RDWR), random.Random(sys.argv[2]).randbytes(1 << 20)
	for i in range(256):
	    os.pwrite(f, d, i << 20)
	os.fsync(f)
	P
	puts=$(($(requests a PUT) - puts)) bytes=$(($(sent a) - bytes))
	note "in order: $((bytes * 1000 / (($(date +%s%N) - at) / 1000000) >> 20)) MiB/s"
	at_least "$bytes" $((256 << 20)) "bytes to the bucket"
	line "$puts" "$(calc "round(135 * $bytes / 2**30 + 1, 1)")" "PUTs for $((bytes >> 20)) MiB that were put (135 a GiB, and the rest of one object)"
}
discard() { # some thousand extents all over the image, and half of it goes
	local puts
	fio --name=d --filename="$T/a/a.img" --rw=randwrite --bs=4k --size=2T --io_size=16M --randseed="$SEED" --norandommap --allow_file_create=0 \
		--ioengine=psync --end_fsync=1 >"$T/fio.log" 2>&1 || fail "$(cat "$T/fio.log")"
	at_least "$("$LSVDFS" image info "$T/a/a.img" --json | jq .allocated)" $((270 << 20)) "allocated before"
	puts=$(requests a PUT)
	py - "$T/a/a.img" >"$T/took" <<-'P'
	import ctypes, os, sys, time
	f = os.open(sys.argv[1], os.O_RDWR)
	t = time.monotonic()
	r = ctypes.CDLL(None, use_errno=True).fallocate(f, 3, ctypes.c_long(0), ctypes.c_long(2 << 40))
	t, e = time.monotonic() - t, ctypes.get_errno()
	os.fsync(f)
	assert r == 0, os.strerror(e)
	print(round(t, 4))
	P
	line "$(cat "$T/took")" 1 "seconds for a discard of 2 TiB"
	line $(($(requests a PUT) - puts)) 2 "PUTs until it is in the bucket"
	eq "$("$LSVDFS" image info "$T/a/a.img" --json | jq .allocated)" 0 "allocated after it"
}
costs_of_requests() {
	mount_lsvdfs a images=*.img,fsync=remote
	truncate -s 4T "$T/a/a.img"
	hold "$T/a/a.img"
	dd if=/dev/zero of="$T/a/a.img" bs=4k count=1 conv=notrunc status=none # what the claim costs is not meant
	in_order
	discard
	unhold
	umount_lsvdfs a
	rm -rf "$T/a.cache"
}

# --- idle: cleaned in the end, then nothing more is sent; the clock of idleness runs faster ---
rss() { awk '/^VmRSS/ { print $2 }' "/proc/${daemon[$1]}/status"; }
open_images() { # FROM TO: and keeps them open
	/usr/bin/python3 - "$T/m" "$1" "$2" "$T/opened.$2" <<-'P' &
	import os, sys, time
	d, a, b, done = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
	f = []
	for i in range(a, b):
	    f.append(os.open(f'{d}/{i}.img', os.O_RDWR | os.O_CREAT))
	    os.ftruncate(f[-1], 100 << 30)
	    for k in range(64):
	        os.pwrite(f[-1], os.urandom(4096), (i * 64 + k) * 1048583 % 1000003 << 12)
	open(done, 'w').close()
	time.sleep(100000)
	P
	openers+=($!)
	wait_for 300 test -e "$T/opened.$2"
}
idle() {
	local i p from at before openers=()
	mount_lsvdfs a images=*.img,dirty_age=0.1
	truncate -s 1G "$T/a/i.img"
	hold "$T/a/i.img"
	for i in 1 2 3 4; do
		fio --name=i --filename="$T/a/i.img" --rw=randwrite --bs=64k --size=48M --randseed="$SEED$i" $([ $i = 1 ] || echo --norandommap) \
			--allow_file_create=0 --ioengine=psync >"$T/fio.log" 2>&1 || fail "$(cat "$T/fio.log")"
	done
	# beside it: one open image, for what is there once, then more
	mount_lsvdfs m images=*.img,dirty_age=0.1,journal_size=16M
	open_images 0 1
	still m 2
	before=$(rss m)
	still a 2
	# one object of 8 MiB is nothing that an idle image is tidied up for
	line "$(calc "round($(bytes_of "$(uuid_of i.img)") / (48 << 20), 3)")" "$(calc "round(1.15 + 8 / 48, 3)")" "x what is live in the bucket, idle (48 MiB)"
	from=$(requests a) at=$(date +%s%N)
	open_images 1 $((IMAGES + 1))
	still m 2
	line "$(calc "round(($(rss m) - $before) / 1024 / $IMAGES, 3)")" 4 "MiB of memory for each of $IMAGES idle images"
	eq "$(status m fs.images | grep -o "'state': 'owner'" | wc -l)" $((IMAGES + 1)) "images that are held"
	for p in "${openers[@]}"; do
		kill "$p"
		wait "$p" || true
	done
	umount_lsvdfs m
	at=$(calc "($(date +%s%N) - $at) // 10**8")
	line $(($(requests a) - from)) 0 "requests of an idle image in $at dirty ages"
	unhold
	umount_lsvdfs a
	rm -rf "$T/a.cache" "$T/m.cache"
}

# --- attach after kill -9: counted by the front, where each request takes a third of a second ---
read_at() { # IMAGE MODE PLACE: what stands there
	py - "$@" <<-'P'
	import os, sys
	f, at = os.open(sys.argv[1], os.O_RDWR if sys.argv[2] == 'rw' else os.O_RDONLY), int(sys.argv[3])
	got = os.pread(f, 4096, at)
	assert got[:8] == at.to_bytes(8, 'little'), got[:16]
	P
}
extents() { # IMAGE: 4 KiB each, anywhere; the last place is printed
	py - "$1" "$EXTENTS" "$SEED" <<-'P'
	import os, random, sys
	f, n, r = os.open(sys.argv[1], os.O_RDWR), int(sys.argv[2]), random.Random(sys.argv[3])
	size, block = os.fstat(f).st_size, os.urandom(4088)
	for i in range(n):
	    at = r.randrange(size >> 12) << 12
	    os.pwrite(f, at.to_bytes(8, 'little') + block, at)
	os.fsync(f)
	print(at)
	P
}
declare -A trips=() bytes=()
attach_after_kill() { # WHO SIZE FIRST: opened in that way first
	local last t n b mode from fsync=remote image=$1-$2.img
	[ "$1" = other ] || fsync=local # what was written last is in the journal only
	mount_lsvdfs k images=*.img,fsync=$fsync
	truncate -s "$2" "$T/k/$image"
	hold "$T/k/$image"
	last=$(extents "$T/k/$image")
	kill9_daemon k
	unhold
	[ "$1" = same ] || rm -rf "$T/k.state" "$T/k.cache"
	from=$(wc -l <"$T/front/requests")
	front_ctl latency 300
	mount_lsvdfs k images=*.img,takeover=always
	for mode in "$3" rw; do
		read_at "$T/k/$image" $mode "$last"
		round_trips "$from" 300 >"$T/cost"
		read -r t n b <"$T/cost"
		if [ "$mode$3" = rwr ]; then
			note "      $t round trips in a row ($n requests) until it is claimed and read as its owner"
			break
		fi
		line "$t" 10 "round trips in a row ($n requests) until $2 can be read ($mode), on the $1 node"
		line "$b" $((64 << 20)) "bytes read for that"
		trips[$1.$2]=$t bytes[$1.$2]=$b
		[ "$mode" = r ] || break
	done
	front_ctl latency 0
	umount_lsvdfs k
	rm -rf "$T/k.state" "$T/k.cache"
}
attaches() {
	local who
	for who in other same; do
		attach_after_kill $who 10G r
		attach_after_kill $who 10T r
		line "${trips[$who.10T]}" $((2 * trips[$who.10G])) "round trips for 10 TiB, twice those for 10 GiB, on the $who node"
		line "${bytes[$who.10T]}" $((2 * bytes[$who.10G])) "bytes for 10 TiB, twice those for 10 GiB, on the $who node"
	done
	attach_after_kill same 20G rw
}

# --- written over and over: bytes to the bucket, PUTs, space ---
most() { # UUID FILE: until FILE.stop is there, the most that lay in the bucket
	local most=0 n
	while [ ! -e "$2.stop" ]; do
		n=$(bytes_of "$1")
		[ "$n" -le "$most" ] || most=$n
		echo "$most" >"$2"
		sleep 1
	done
}
declare -A factor=([uniform]=2.0 [hot]=1.55 [sequential]=1.1)
write_over() { # CASE FILE BYTES SALT: all of it is in the bucket then
	local how='--rw=randwrite --bs=4k --norandommap --random_generator=tausworthe64 --iodepth=16'
	case $1 in
	hot) how+=' --random_distribution=zoned:90/10:10/90' ;;
	sequential) how='--rw=write --bs=256k --iodepth=4' ;;
	esac
	# shellcheck disable=SC2086
	fio --name="$1" --filename="$2" $how --size="${LIVE}M" --io_size="$3" --randseed="$SEED$4" --direct=1 --ioengine=libaio \
		--allow_file_create=0 >"$T/fio.log" 2>&1 || fail "$1: $(cat "$T/fio.log")"
	sync "$2"
}
overwrite() { # CASE
	local live=$((LIVE << 20)) file=$T/a/$1.img uuid bytes puts gets at sampler space
	truncate -s $((LIVE * 10 / 7))M "$file"
	hold "$file"
	uuid=$(uuid_of "$1.img")
	write_over sequential "$file" $live 0
	write_over "$1" "$file" $live 1
	rm -f "$T/space.stop"
	most "$uuid" "$T/space" &
	sampler=$!
	bytes=$(sent a) puts=$(requests a PUT) gets=$(requests a GET) at=$(date +%s%N)
	write_over "$1" "$file" $((live * 2)) 2
	at=$((($(date +%s%N) - at) / 1000000))
	bytes=$(($(sent a) - bytes)) puts=$(($(requests a PUT) - puts)) gets=$(($(requests a GET) - gets))
	touch "$T/space.stop"
	wait $sampler
	space=$(cat "$T/space")
	note "$1: $((live * 2000 / at >> 20)) MiB/s for $((at / 1000)) s; $puts PUTs, $gets GETs"
	line "$(calc "round($bytes / ($live * 2), 3)")" "${factor[$1]}" "bytes to the bucket for one of the guest, $1"
	line "$(calc "round($puts / $bytes * 2**30, 1)")" 135 "PUTs a GiB that was put, $1"
	line "$(calc "round($space / $live, 3)")" "$(calc "round(1.45 + 768 / $LIVE, 3)")" "x what is live in the bucket at most, $1 (1.45 and 768 MiB)"
	note "      without those 768 MiB: $(calc "round(($space - (768 << 20)) / $live, 3)")"
	at=$SECONDS
	while [ $(($(bytes_of "$uuid") * 100)) -gt $((live * 115)) ] && [ $((SECONDS - at)) -lt 600 ]; do sleep 2; done
	line "$(calc "round($(bytes_of "$uuid") / $live, 3)")" 1.15 "x what is live in the bucket after $((SECONDS - at)) s idle, $1"
	still a 95 # three times what makes an image idle
	note "      after $((SECONDS - at)) s: $(calc "round($(bytes_of "$uuid") / $live, 3)")"
	at=$(requests a)
	sleep 60
	line $(($(requests a) - at)) 0 "requests of an idle image in a minute, $1"
	unhold
	wait_for 60 images_idle a
	rm "$file"
}
overwrites() {
	local c
	mount_lsvdfs a images=*.img,fsync=remote,cache_size=512M
	for c in $CASES; do overwrite "$c"; done
	umount_lsvdfs a
	rm -rf "$T/a.cache"
}

! part trickle || trickle_begins
! part requests || costs_of_requests
! part idle || idle
[ "$BACKEND" = file ] || ! part attach || attaches
[ "$LIVE" = 0 ] || overwrites
! part trickle || trickle_ends
eq $wrong 0 "figures that are not what was promised"
finish

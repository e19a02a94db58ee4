# SPDX-License-Identifier: GPL-3.0-or-later
# lsvdfs image, each action on a mount and without one; what it says, as words and as JSON; and that check finds what is
# wrong with a bucket.
. "$TESTS_DIR/lib.sh"
need_cmd jq
store_start
mkdir -p "$T/off"
OFF=state_dir=$T/off/state,cache_dir=$T/off/cache${STORE_OPTS:+,$STORE_OPTS}
image() { # ACTION PATH [ARGUMENT...]: without a mount
	local action=$1 path=$2
	shift 2
	"$LSVDFS" image "$action" "$SOURCE" "$path" "$@" -o "$OFF"
}
j() { jq -er "$@"; }
info() { image info "$1" --json | j "$2"; }

# --- the caller's mistakes: status 2, the world's: 1; one line each ---
expect() { # STATUS PATTERN COMMAND...
	local want=$1 pat=$2 rc=0
	shift 2
	"$@" >"$T/said.out" 2>"$T/said" || rc=$?
	eq "$rc" "$want" "status of $*: $(cat "$T/said")"
	eq "$(wc -l <"$T/said")" 1 "lines that $* said: $(cat "$T/said")"
	grep -qE -- "$pat" "$T/said" || fail "$* said '$(cat "$T/said")', not /$pat/ (from line ${BASH_LINENO[0]})"
}
expect 2 'expected create, info' "$LSVDFS" image frobnicate x
expect 2 'missing arguments' "$LSVDFS" image create "$SOURCE" a
expect 2 'missing arguments' "$LSVDFS" image info
expect 2 'too many arguments' "$LSVDFS" image info "$SOURCE" a b
expect 2 'no size' image create a 10Q
expect 2 'no path of an image' image create a//b 1G
expect 2 'no path of an image' image create ../b 1G
expect 2 'unknown option' "$LSVDFS" image info "$SOURCE" a --bogus
expect 1 'not on a mount|not on an lsvdfs mount' "$LSVDFS" image info "$T/nothing"
expect 1 'no image of this name' image info a
expect 1 'no image of this name' image delete a
expect 1 'no image of this name' image export a "$T/none"
[ ! -e "$T/none" ] || fail "a file was made for an image that is not there"
expect 1 'No such file' image import a "$T/none"
expect 1 'read only' "$LSVDFS" image create "$SOURCE" a 1G -o "$OFF,ro"
eq "$("$LSVDFS" image list "$SOURCE" -o "$OFF" --json | j length)" 0 "images of an empty bucket"

expect 2 'more than the 131072T' image create a 999999T
expect 2 'no path of an image' image create $'a\nb' 1M
expect 1 'too long' image create "$(printf 'x%.0s' {1..251})" 1M

# --- create, list, info, resize ---
eq "$(image create vm/sda 10G --json | j '.size, .fsync' | tr '\n' ' ')" "10737418240 local "
expect 1 'something of this name already' image create vm/sda 10G
expect 1 'Not a directory' image create vm/sda/x 1G # would hide it
echo plain >"$T/plain"
obj_put vm/plain "$T/plain"
obj_put vm/plain.lsvd "$T/plain"
expect 1 'something of this name already' image create vm/plain 10G
expect 1 'no image of this name' image info vm/plain
"$LSVDFS" image create "$SOURCE" vm/remote 1M -o "$OFF,fsync=remote"
eq "$(info vm/remote '.fsync, .size' | tr '\n' ' ')" "remote 1048576 "
eq "$(image list vm --json | j '.[].path' | tr '\n' ' ')" "vm/remote vm/sda "
if [ "$BACKEND" = front ]; then # LISTs and one GET a name, whatever else lies there
	for i in {1..5}; do obj_put "vm/file$i" "$T/plain"; done
	front_reset
	image list '' >"$T/list"
	eq "$(front_count HEAD)" 0 "HEADs of a list: $(front_counts)"
	eq "$(front_count GET)" 3 "GETs of a list (two images, a plain file that is called like one): $(front_counts)"
	at_most "$(front_count LIST)" 3 "LISTs of a list: $(front_counts)"
fi
if [ "$BACKEND" = front ]; then # a name that was refused leaves no log; one that may be there all the same does
	obj_keys .lsvd/img/ >"$T/logs"
	front_ctl rule no act=status status=403 code=AccessDenied op=PUT key=refused.lsvd
	expect 1 'denied|403' image create vm/refused 1M
	obj_keys .lsvd/img/ | diff "$T/logs" - || fail "a refused name leaves a log"
	front_ctl del no
	front_ctl rule lost act=lost op=PUT key=unsure.lsvd count=1
	front_ctl rule no act=status status=403 code=AccessDenied op=PUT key=unsure.lsvd
	expect 1 'denied|403' image create vm/unsure 1M
	eq "$(front_ctl hits lost)" 1 "answers that were lost"
	front_ctl del lost
	front_ctl del no
	image check vm/unsure >"$T/said" || fail "the image whose name came through: $(cat "$T/said")"
	image delete vm/unsure
fi
if [ "$BACKEND" = front ]; then # who cannot tell whether an image is called so deletes neither that nor a snapshot
	image create keep 1M
	image snapshot keep@s
	image create keep@s 1M
	front_ctl rule no act=status status=403 code=AccessDenied op=GET key=keep@s.lsvd
	expect 1 'denied|403' image delete keep@s
	front_ctl del no
	eq "$(image snapshots keep --json | jq -r '[.[] | select(.deleted | not) | .name] | join(" ")')" s "the snapshot of an image, after X@NAME could not be looked up"
	image delete keep@s
	expect 1 'no image of this name' image info keep@s
	eq "$(image snapshots keep --json | jq -r '[.[] | select(.deleted | not) | .name] | join(" ")')" s "the snapshot whose name an image had"
	image delete keep@s
	image delete keep
fi
image list vm | has '10\.0 GiB +0 B  vm/sda$' || fail "list says: $(image list vm)"
image resize vm/sda 20G
expect 1 'would be lost' image resize vm/sda 1G
image resize vm/sda 1G --force
eq "$(info vm/sda '.size, (.held | tostring)' | tr '\n' ' ')" "1073741824 false "
image resize vm/sda 3G
eq "$(image list vm --json | j '.[] | select(.path == "vm/sda") | .size')" 3221225472 "size that the name says"
image info vm/sda | has '^holder      nobody' || fail "info says: $(image info vm/sda)"
image delete vm/remote --json | j '.path == "vm/remote"' >/dev/null
expect 1 'no image of this name' image info vm/remote

# --- import, export: sparse both ways ---
truncate -s 96M "$T/src"
rnd 3000000 a | dd of="$T/src" bs=1M seek=48 conv=notrunc iflag=fullblock status=none
rnd 70000 b | dd of="$T/src" bs=4K seek=3 conv=notrunc iflag=fullblock status=none
truncate -s 100663252 "$T/src" # ends within a sector
image import vm/big "$T/src" --json >"$T/json"
eq "$(j '.size' "$T/json")" 100663252
at_most "$(j '.allocated' "$T/json")" 3200000 "allocated of a sparse import"
image export vm/big "$T/out" --json >"$T/json"
same "$T/src" "$T/out"
at_most "$(stat -c %b "$T/out")" 7000 "blocks of a sparse export"
j '.log_end > 1 and .size == 100663252' "$T/json" >/dev/null
expect 1 'is there already' image export vm/big "$T/out"
rnd 100000 c >"$T/out"
image export vm/big "$T/out" --force
same "$T/src" "$T/out"
rm "$T/out"
rnd 2500001 d >"$T/odd"
dd if=/dev/zero of="$T/odd" bs=4096 seek=20 count=100 conv=notrunc status=none
image import vm/piped - <"$T/odd"
image delete vm/piped
cat "$T/odd" | image import vm/piped -
eq "$(info vm/piped .size)" 2500001
at_most "$(info vm/piped .allocated)" 2095000 "zeros of a pipe become holes"
image export vm/piped - | cmp - "$T/odd"
expect 2 'both go to standard output' image export vm/piped - --json
expect 1 'something of this name already' image import vm/piped "$T/odd"
"$LSVDFS" image check "$SOURCE" vm/piped --data -o "$OFF" | has ': whole: .* verified in full' || fail "check does not say whole"

# --- what has no end is read as far as --size says; that is also how long the image is ---
expect 1 '/dev/zero: a character device, which may have no end: say how much of it \(--size\)' image import vm/sized /dev/zero
expect 1 'a character device' image import vm/sized - </dev/urandom
image import vm/sized /dev/zero --size 3M
eq "$(info vm/sized '.size, .allocated' | tr '\n' ' ')" "3145728 0 "
image delete vm/sized
image import vm/sized - --size 2500001 < <(exec cat /dev/urandom 2>/dev/null)
eq "$(info vm/sized .size)" 2500001
image delete vm/sized
image import vm/sized "$T/odd" --size 4M
truncate -s 4M "$T/odd4"
dd if="$T/odd" of="$T/odd4" conv=notrunc status=none
image export vm/sized - | cmp - "$T/odd4"
image delete vm/sized
expect 1 'has 2500001 bytes, more than --size says' image import vm/sized "$T/odd" --size 2500000
expect 2 'no size of an image' image import vm/sized "$T/odd" --size 2X

# --- an import that does not end has no name, and its rest goes ---
images_of_bucket() { obj_keys .lsvd/img/ | cut -d/ -f3 | sort -u | wc -l; }
begin_import() { # fills the pipe $T/fifo and leaves it open at 9
	mkfifo "$T/fifo"
	"$LSVDFS" image import "$SOURCE" vm/half "$T/fifo" -o "$OFF" >"$T/half.log" 2>&1 &
	importer=$!
	exec 9>"$T/fifo"
	rnd 9000000 e >&9
	wait_for 30 eval 'find "$T/off/state" -name importing | grep -q .'
}
begin_import
kill -INT $importer # it waits for more, which does not come
rc=0
wait $importer || rc=$?
exec 9>&-
eq "$rc" 1 "status of an interrupted import: $(cat "$T/half.log")"
grep -q 'interrupted, nothing was made' "$T/half.log" || fail "it said: $(cat "$T/half.log")"
expect 1 'no image of this name' image info vm/half
[ -z "$(find "$T/off/state" -name importing)" ] || fail "the mark of the import stays"
rm "$T/fifo"
begin_import
kill -9 $importer
exec 9>&-
wait $importer || true
expect 1 'no image of this name' image info vm/half
"$LSVDFS" image gc "$SOURCE" -o "$OFF" --json | j '.local[0].what == "an import that did not end"' >/dev/null
[ -z "$(find "$T/off/state" -name importing)" ] || fail "gc left the mark of the import"
eq "$("$LSVDFS" image gc "$SOURCE" -o "$OFF")" "nothing to remove"

# --- on a mount ---
mount_lsvdfs a 'images=none,journal_size=64M'
A=$T/a
eq "$(stat -c %s "$A/vm/big")" 100663252
on create "$A/vm/new" 8M
eq "$(stat -c %s "$A/vm/new")" 8388608 "an image that was made is there at once"
rnd 500000 f >"$T/f"
exec 7<>"$A/vm/new"
dd if="$T/f" of=/dev/fd/7 conv=notrunc status=none
eq "$(on info "$A/vm/new" --json | j .here.state)" owner
on info "$A/vm/new" | has '^here        owner, 1 writers' || fail "info says: $(on info "$A/vm/new")"
on export "$A/vm/new" "$T/new" # with what waits in the journal
cmp -n 500000 "$T/new" "$T/f"
expect 1 'in use on this mount' on delete "$A/vm/new"
expect 1 "held by $(hostname) .*claim" image delete vm/new
expect 1 "held by $(hostname) .*claim" "$LSVDFS" image resize "$SOURCE" vm/new 9M -o "$OFF,claim_wait=0"
on resize "$A/vm/new" 16M
eq "$(stat -c %s "$A/vm/new")" 16777216 "size while in use"
epoch=$(on claim "$A/vm/new" 2>"$T/said")
eq "$epoch" "$(on info "$A/vm/new" --json | j .epoch)" "the epoch of who holds it"
exec 7<&-
wait_for 30 images_idle a
eq "$(on claim "$A/vm/new" 2>"$T/said")" $((epoch + 1)) "the epoch of a new claim"
[ ! -s "$T/said" ] || fail "a warning although nobody held it: $(cat "$T/said")"
on import "$A/vm/odd" "$T/odd"
same "$A/vm/odd" "$T/odd"
expect 1 'something of this name already' on import "$A/vm/plain" "$T/odd"
eq "$(on list "$A" --json | j '.[].path' | tr '\n' ' ')" "vm/big vm/new vm/odd vm/piped vm/sda "
eq "$(on list "$A/vm" --json | j length)" 5
on check "$A/vm/odd" --data --json | j '.whole and .verified == .objects' >/dev/null
on delete "$A/vm/odd"
must_fail 'no such file' stat "$A/vm/odd"
expect 1 'no image of this name' on delete "$A/vm/plain"
expect 1 'no image of this name' on export "$A/vm/plain" "$T/none"

# --- taken from who holds it ---
exec 7<>"$A/vm/new"
dd if="$T/f" of=/dev/fd/7 bs=512 count=1 conv=notrunc status=none
image claim vm/new --json >"$T/json" 2>"$T/said"
grep -q "warning: vm/new is held by $(hostname)" "$T/said" || fail "no warning: $(cat "$T/said")"
j '.taken and .epoch > 2' "$T/json" >/dev/null
fenced() { ! dd if="$T/f" of=/dev/fd/7 bs=512 count=1 conv=notrunc,fsync status=none; }
wait_for 30 fenced
exec 7<&- || true
left_behind() { status a fs.images | has "'state': 'waiting'"; }
wait_for 30 left_behind
info vm/new '.held == false' >/dev/null
umount_lsvdfs a

# --- no room for a journal ---
if [ "$BACKEND" = file ] && [ "$(id -u)" = 0 ]; then
	mkdir "$T/small"
	mount -t tmpfs -o size=1M none "$T/small"
	on_exit "umount -l $T/small"
	small=state_dir=$T/small,cache_dir=$T/off/cache
	expect 1 "$T/small.*No space" "$LSVDFS" image import "$SOURCE" vm/full "$T/src" -o "$small"
	expect 1 "$T/small.*No space" "$LSVDFS" image resize "$SOURCE" vm/sda 4G -o "$small"
	cat /dev/zero >"$T/small/fill" 2>/dev/null || true
	expect 1 "$T/small.*No space" "$LSVDFS" image import "$SOURCE" vm/full "$T/src" -o "$small"
	expect 1 "$T/small.*No space" "$LSVDFS" image delete "$SOURCE" vm/sda -o "$small"
	eq "$(info vm/sda '.size, (.held | tostring)' | tr '\n' ' ')" "3221225472 false " "what they left"
	[ -z "$(find "$T/small" -name importing)" ] || fail "an import without room left its mark"
fi

# --- what gc does with logs that nobody has a name for ---
u=$(uuid_of vm/new)
obj_delete vm/new.lsvd
"$LSVDFS" recover "$SOURCE" -o "$OFF" --json | j '.logs[] | select(.uuid == "'"$u"'") | .removed == false' >/dev/null
gc() { "$LSVDFS" image gc "$SOURCE" -o "$OFF" --json "$@" | j "$filter"; }
filter='.logs[] | select(.uuid == "'"$u"'") | "\(.removed) \(.why)"'
eq "$(gc)" "false --force removes it, if nobody needs it"
eq "$(gc --force)" "false younger than a day: its name may still come"
if [ "$BACKEND" = file ]; then
	py - "$T/bucket/.lsvd/img/$u" <<'P'
import json, os, sys
for d, _, fs in os.walk(sys.argv[1]):
    for p in (os.path.join(d, f) for f in fs):
        for x in os.listxattr(p):
            j = json.loads(os.getxattr(p, x))
            j['put'] -= 2 * 86400
            os.setxattr(p, x, json.dumps(j).encode())
P
	eq "$(gc --force)" "true null"
	eq "$(log_left "$u")" "claim dead " "what stays of a removed log"
	for n in vm/sda vm/big; do eq "$(image check $n --json | j .whole)" true "$n after gc"; done
fi
# what the remover of an image did not finish
u=$(uuid_of vm/piped)
image claim vm/piped >"$T/epoch" # the remover's, but for the release
: >"$T/empty"
obj_put ".lsvd/img/$u/dead" "$T/empty"
expect 1 'was deleted; this name is a leftover' image info vm/piped
filter='.logs[] | select(.uuid == "'"$u"'") | "\(.what) \(.removed)"'
eq "$(gc)" "left of a deleted image true"
eq "$(log_left "$u")" "claim dead release " "what stays of a dead image: the claims, and what is not below the last one's next"
image delete vm/piped
expect 1 'no image of this name' image info vm/piped

# --- check finds what is wrong ---
u=$(uuid_of vm/big)
LOG=.lsvd/img/$u
obj_keys "$LOG/" >"$T/keys"
largest() { while read -r k; do echo "$(obj_get "$k" | wc -c) $k"; done <"$T/keys" | sort -n | tail -n 1 | cut -d' ' -f2; }
DATA=$(largest)
saved() { obj_get "$1" >"$T/saved"; }
flip() { # KEY OFFSET
	saved "$1"
	py - "$T/saved" "$T/bad" "$2" <<'P'
import sys
b = bytearray(open(sys.argv[1], 'rb').read())
b[int(sys.argv[3])] ^= 4
open(sys.argv[2], 'wb').write(b)
P
	obj_put "$1" "$T/bad"
}
restore() { obj_put "$1" "$T/saved"; }
# finds KIND PATTERN [OPTION...]: a finding like this, and the right status
finds() {
	local kind=$1 pat=$2 rc=0
	shift 2
	"$LSVDFS" image check "$SOURCE" vm/big --json -o "$OFF" "$@" >"$T/json" 2>"$T/said" || rc=$?
	[ ! -s "$T/said" ] || fail "check said: $(cat "$T/said")"
	[ "$kind" != damage ] || eq "$rc" 1 "status of a check that finds damage"
	[ "$kind" = damage ] || eq "$rc" 0 "status of a check of a whole image"
	jq -r '.findings[] | "\(.kind): \(.what)"' "$T/json" | grep -qE "^$kind: .*($pat)" ||
		fail "check found $(jq -c .findings "$T/json"), not $kind /$pat/ (from line ${BASH_LINENO[0]})"
}
whole() { eq "$(image check vm/big --json "$@" | j '.whole, .strays' | tr '\n' ' ')" "true 0 "; }
whole --data
flip "$DATA" 300000 # a byte of data
whole
finds damage "${DATA##*/}.*" --data
eq "$(jq .damage "$T/json")" 1 "lines of damage for one flipped bit"
must_fail 'image check says more' image export vm/big "$T/none"
[ ! -e "$T/none" ] || fail "half an image was left"
restore "$DATA"
flip "$DATA" 200 # its header
finds damage "${DATA##*/}"
restore "$DATA"
saved "$DATA"
head -c 100000 "$T/saved" >"$T/bad" # cut short
obj_put "$DATA" "$T/bad"
finds damage "${DATA##*/} is cut short"
restore "$DATA"
obj_delete "$DATA"
finds damage "${DATA##*/} is missing"
restore "$DATA"
saved "$LOG/0000000000000001"
obj_delete "$LOG/0000000000000001"
finds damage 'comes first and is no create record|no log of the image'
restore "$LOG/0000000000000001"
saved "$LOG/0000000000000001"
obj_put "$LOG/00000000000fffff" "$T/saved"
finds damage 'is missing: 00000000000fffff was written after it'
obj_delete "$LOG/00000000000fffff"
obj_put "$LOG/what" "$T/plain"
finds stray 'what is no key of ours'
obj_delete "$LOG/what"
obj_put "$LOG/0000000000000005" "$T/saved" # where the first claim made everything void
finds stray 'where a claim ended a writer'
obj_delete "$LOG/0000000000000005"
obj_put "$LOG/mark/$(printf %016x $((0xffffffffffffffff - 0x13)))" "$T/empty" # no checkpoint
finds damage 'marked as a checkpoint and is none'
obj_delete "$LOG/mark/$(printf %016x $((0xffffffffffffffff - 0x13)))"
whole --data

for n in vm/sda vm/big; do image delete $n; done
eq "$("$LSVDFS" image list "$SOURCE" -o "$OFF")" ""
finish

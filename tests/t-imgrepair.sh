# SPDX-License-Identifier: GPL-3.0-or-later
# The recipes of lsvdfs-recovery(7), one after the other, each on a disaster that another S3 client or another machine made.
. "$TESTS_DIR/lib.sh"
need_cmd jq
store_start
OPTS='images=*.img,journal_size=64M,dirty_age=60' # nothing is sent unasked
OFF=claim_wait=1,state_dir=$T/off/state,cache_dir=$T/off/cache${STORE_OPTS:+,$STORE_OPTS}
mkdir -p "$T/off"
off() { local action=$1; shift; "$LSVDFS" image "$action" "$SOURCE" "$@" -o "$OFF"; }
damaged() { # CHECK ARGUMENT...: says so, status 1; findings in $T/json
	local rc=0
	off check "$@" --json >"$T/json" || rc=$?
	eq "$rc" 1 "status of check $*: $(cat "$T/json")"
	jq -e '.whole | not' "$T/json" >/dev/null || fail "check $* found nothing"
}
whole() { off check "$1" --data >"$T/said" || fail "$1 is damaged: $(cat "$T/said")"; }
is() { # IMAGE FILE [OPTION...]: by a machine that has the bucket alone
	rm -f "$T/out"
	off export "$1" "$T/out" "${@:3}"
	same "$T/out" "$2"
}
objects() { obj_keys ".lsvd/img/$(uuid_of "$1")/" | grep -E '/[0-9a-f]{32}/[0-9a-f]{16}$'; }
marks() { obj_keys ".lsvd/img/$(uuid_of "$1")/mark/"; }
keep() { obj_get "$1" >"$T/kept"; }
type_of() { # KEY: as FORMAT.md 3.2 numbers them
	obj_get "$1" | py -c 'import struct,sys; print(struct.unpack_from("<H", sys.stdin.buffer.read(4096), 10)[0])'
}
newest_of() { # IMAGE TYPE
	local key
	for key in $(objects "$1" | sort -r); do
		[ "$(type_of "$key")" != "$2" ] || { echo "$key"; return; }
	done
	fail "no object of type $2 in the log of $1"
}

# --- usage ---
refused 2 'are of image check' off info d.img --repair
refused 2 'goes with --repair' off check d.img --zero-lost
refused 2 'only reads' off check d.img --repair --mark 5
refused 2 'is of image export' off info d.img --mark 5
refused 2 'are of image journal' off info d.img --into x
refused 2 'no uuid of an image' off adopt d.img 123
refused 1 'no log at' off adopt d.img 0123456789abcdef0123456789abcdef

# --- an image with a snapshot, marks, more than one owner ---
truncate -s 4M "$T/v1" && rnd $((3 << 20)) 1 | dd of="$T/v1" conv=notrunc status=none
rnd $((4 << 20)) 4 >"$T/v4"
mount_lsvdfs a "$OPTS"
for i in v4 v1; do dd if="$T/$i" of="$T/a/d.img" bs=256k conv=notrunc,fsync status=none; done
umount_lsvdfs a
off gc d.img >/dev/null # without its marks it cannot be walked any more: objects are gone
off snapshot d.img@one
off snapshot d.img@two
at_least "$(off marks d.img --json | jq 'map(select(.marked and .whole)) | length')" 2 "marks"
mark=$(off marks d.img --json | jq -r '.[1].mark')
is d.img "$T/v1" --mark "$mark"
off check d.img --mark "$mark" --data >/dev/null
refused 1 'the log ends at' off export d.img "$T/none" --mark ffffff
refused 2 'is no mark' off check d.img --mark zz
refused 2 'not both' off export d.img@one "$T/none" --mark "$mark"

# --- cache and state directory gone, nothing waited: nothing to do ---
rm -rf "$T/off"
mkdir "$T/off"
is d.img "$T/v1"

# --- marks gone ---
for key in $(marks d.img); do obj_delete "$key"; done
damaged d.img
jq -e '.repairs[0] | test("mark")' "$T/json" >/dev/null || fail "no repair of marks: $(cat "$T/json")"
off check d.img --repair >"$T/said" || fail "not repaired: $(cat "$T/said")"
grep -q '^repair: no mark is there' "$T/said" || fail "the repair was not explained: $(cat "$T/said")"
whole d.img
is d.img "$T/v1"

# --- data that is cut short, by a little: told as lost without --data, and only that is made zeros ---
big=$(for key in $(objects d.img); do obj_get "$key" | wc -c | sed "s,$, $key,"; done | sort -n | tail -n 1 | cut -d' ' -f2)
keep "$big"
head -c -100 "$T/kept" >"$T/cut"
obj_put "$big" "$T/cut"
damaged d.img
at_least "$(jq '.lost | length' "$T/json")" 1 "ranges that are said to be lost"
at_most "$(jq '[.lost[].bytes] | add' "$T/json")" 65536 "bytes that are said to be lost"
obj_put "$big" "$T/kept"
whole d.img

# --- a claim, the create record ---
obj_delete "$(newest_of d.img 6)"
damaged d.img
off check d.img --repair --json | jq -e '.whole and .repaired' >/dev/null || fail "a claim was not made again"
whole d.img
obj_delete "$(objects d.img | head -n 1)"
damaged d.img
off check d.img --repair --json | jq -e '.whole and .repaired' >/dev/null || fail "the create record was not made again"
whole d.img
is d.img "$T/v1"
is d.img@one "$T/v1"

# --- the name: removed by another client, found, and given again ---
uuid=$(uuid_of d.img)
refused 1 'that log has a name' off adopt e.img "$uuid"
obj_get d.img.lsvd >"$T/name"
obj_delete d.img.lsvd
"$LSVDFS" recover "$SOURCE" -o "$OFF" >"$T/said"
grep -q "$uuid: a log without a name" "$T/said" || fail "recover says: $(cat "$T/said")"
off adopt d.img "$uuid"
refused 1 'something of this name' off adopt d.img "$uuid"
is d.img "$T/v1"
# ... copied back by a client that keeps no metadata: a plain file
obj_put d.img.lsvd "$T/name"
refused 1 'read only' off check d.img --repair -o ro
refused 1 'says enough' off check d.img
off check d.img --repair --json | jq -e .repaired >/dev/null || fail "the name was not repaired"
is d.img "$T/v1"
obj_put x.img.lsvd "$T/v1"
refused 1 'no image of this name' off check x.img --repair
sed 's/^uuid=.*/uuid=0123456789abcdef0123456789abcdef/' "$T/name" >"$T/name2"
obj_put y.img.lsvd "$T/name2"
refused 1 'leads to no log' off check y.img --repair
off create z.img 1M
eq "$(off marks z.img)" "z.img has no checkpoint yet"
uuid=$(uuid_of z.img)
off delete z.img
refused 1 'was deleted' off adopt z.img "$uuid"

# --- a data object gone: which bytes, and the rest ---
off delete d.img@one
off delete d.img@two
key=$(newest_of d.img 2)
keep "$key"
obj_delete "$key"
damaged d.img
jq -e '.lost | length > 0 and all(.[]; .bytes > 0)' "$T/json" >/dev/null || fail "no list of what is lost: $(cat "$T/json")"
refused 1 'missing|check says more' off export d.img "$T/none"
rc=0
off check d.img --repair >"$T/said" || rc=$?
eq $rc 1 "status of a repair that could not be"
grep -q '^lost: bytes ' "$T/said" || fail "repair does not say what is lost: $(cat "$T/said")"
obj_put "$key" "$T/kept" # it is found elsewhere: nothing was made worse
whole d.img
is d.img "$T/v1"
obj_delete "$key"
off check d.img --repair --zero-lost --json >"$T/json" || fail "--zero-lost: $(cat "$T/json")"
cp "$T/v1" "$T/zeroed"
jq -r '.lost[] | "\(.offset) \(.bytes)"' "$T/json" | while read -r at n; do
	dd if=/dev/zero of="$T/zeroed" bs=512 seek=$((at / 512)) count=$((n / 512)) conv=notrunc status=none
done
whole d.img
is d.img "$T/zeroed"

# --- held: a repair elsewhere is refused; after that the holder, fenced, keeps what it could not send ---
mount_lsvdfs a "$OPTS"
dd if="$T/v1" of="$T/a/f.img" bs=1M status=none
umount_lsvdfs a
# a claim that the walk needs: no checkpoint is behind it yet
obj_delete "$(objects f.img | sed -n 2p)"
damaged f.img
off check f.img --repair --json | jq -e '.whole and .repaired' >/dev/null || fail "a claim of the walk was not made again"
is f.img "$T/v1"
mount_lsvdfs a "$OPTS"
rnd $((1 << 20)) 2 >"$T/v2"
rnd $((1 << 20)) 3 >"$T/v3"
exec 9<>"$T/a/f.img"
dd if="$T/v3" of=/dev/fd/9 bs=64k seek=48 conv=notrunc,fsync status=none
on snapshot "$T/a/f.img@s"
"$LSVDFS" image export "$T/a/f.img" "$T/sent"
key=$(objects f.img | sed -n 2p) # the first claim
keep "$key"
obj_delete "$key"
refused 1 'in use on this mount' on check "$T/a/f.img" --repair
off check f.img --repair >"$T/said" 2>&1 && fail "an image that is held was repaired"
grep -q 'held by' "$T/said" || fail "the repair of a held image said: $(cat "$T/said")"
obj_put "$key" "$T/kept"
dd if="$T/v2" of=/dev/fd/9 bs=64k seek=16 conv=notrunc,fsync status=none
off claim f.img >/dev/null 2>&1
echo other >"$T/w"
mount_lsvdfs b "$OPTS"
dd if="$T/w" of="$T/b/f.img" conv=notrunc,fsync status=none
on export "$T/a/f.img" "$T/none" 2>/dev/null || true # sends
# until it is told; with bytes that are there already
fenced() { ! dd if="$T/v1" of=/dev/fd/9 bs=4k count=1 oflag=sync conv=notrunc status=none 2>/dev/null; }
wait_for 30 fenced
exec 9>&-
lost() { id=$(on journal "$T/a/f.img" --json | jq -r '.[] | select(.unsent > 0).id') && [ -n "$id" ]; }
wait_for 30 lost
refused 2 'needs the path' on journal "$T/a" --id "$id" --into "$T/a/g.img"
refused 2 'which one' on journal "$T/a/f.img" --into "$T/a/g.img"
refused 2 'one of' on journal "$T/a/f.img" --id "$id" --into "$T/a/g.img" --drop
refused 1 'something of this name' on journal "$T/a/f.img" --id "$id" --into "$T/a/f.img"
on journal "$T/a/f.img" --id "$id" --into "$T/a/g.img" --json | jq -e '.changes > 0' >/dev/null
cp "$T/sent" "$T/seen"
dd if="$T/v2" of="$T/seen" bs=64k seek=16 conv=notrunc status=none
cmp "$T/a/g.img" "$T/seen" || fail "the rescued disk is not what the machine saw"
cp "$T/sent" "$T/theirs"
dd if="$T/w" of="$T/theirs" conv=notrunc status=none
same "$T/b/f.img" "$T/theirs"
whole g.img
# too late: the other has written over what it took, and cleaned up
on delete "$T/b/f.img@s"
dd if="$T/v4" of="$T/b/f.img" bs=256k conv=notrunc,fsync status=none
umount_lsvdfs b
off gc f.img >/dev/null
refused 1 'missing|not whole' on journal "$T/a/f.img" --id "$id" --into "$T/a/h.img"
! off info h.img 2>/dev/null || fail "a half rescued disk has a name"
lost || fail "the journal went by itself"
refused 1 'may need it, or sets it aside' on journal "$T/a/f.img" --id "$id" --drop
cat <>"$T/a/f.img" >"$T/out" # the next writer here does
same "$T/out" "$T/v4"
lost
on journal "$T/a/f.img" --id "$id" --drop

# --- a machine that died, and lost nothing: a mount brings its journal ---
exec 9<>"$T/a/f.img"
dd if="$T/v2" of=/dev/fd/9 bs=64k conv=notrunc,fsync status=none
kill9_daemon a
exec 9>&-
refused 1 'did not go on without' "$LSVDFS" image journal "$SOURCE" f.img --id 0-now --into h.img \
	-o "state_dir=$T/a.state,cache_dir=$T/a.cache${STORE_OPTS:+,$STORE_OPTS}"
mount_lsvdfs a "$OPTS"
cmp -n $((1 << 20)) "$T/a/f.img" "$T/v2"
umount_lsvdfs a
finish

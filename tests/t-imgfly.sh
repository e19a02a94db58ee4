# SPDX-License-Identifier: GPL-3.0-or-later
# Import of volumes in Fly.io's bucket format, made here from its description alone: random writes over each other, at
# several restore points, and everything that can be wrong with such a bucket.
. "$TESTS_DIR/lib.sh"
need_cmd jq
OBJECTS=${OBJECTS:-20} KILLS=${KILLS:-1}
store_start
mkdir -p "$T/off"
: >"$T/empty"
OFF=state_dir=$T/off/state,cache_dir=$T/off/cache${STORE_OPTS:+,$STORE_OPTS}
image() { # ACTION PATH [ARGUMENT...]
	local action=$1 path=$2
	shift 2
	"$LSVDFS" image "$action" "$SOURCE" "$path" "$@" -o "$OFF"
}
j() { jq -er "$@"; }
expect() { # STATUS PATTERN COMMAND...: one line, and nothing is left
	local want=$1 pat=$2 rc=0
	shift 2
	"$@" >"$T/said.out" 2>"$T/said" || rc=$?
	eq "$rc" "$want" "status of $*: $(cat "$T/said")"
	eq "$(grep -vc '^lsvdfs: warning: ' "$T/said")" 1 "lines that $* said: $(cat "$T/said")"
	grep -v '^lsvdfs: warning: ' "$T/said" | grep -qE -- "$pat" ||
		fail "$* said '$(cat "$T/said")', not /$pat/ (from line ${BASH_LINENO[0]})"
	[ -z "$(find "$T/off/state" -name importing 2>/dev/null)" ] || fail "the mark of the import stays"
}
put_volume() { # NAME: the files of $T/NAME as objects NAME/...
	local f
	for f in "$T/$1"/*; do obj_put "$1/${f##*/}" "$f"; done
}

# --- the format, as its description says it ---
cat >"$T/fly.py" <<'P'
import os, random, struct, sys
def write(path, entries, data=None, pad=b''):
    head = b''.join(struct.pack('>QI', a, len(d) if n is None else n) for a, d, n in entries)
    assert len(head) <= 12288
    with open(path, 'wb') as f:
        f.write(head.ljust(12288, b'\0') + b''.join(d for _, d, _ in entries) + pad)
def volume(top, seed, objects):
    """Objects of random writes, and what the disk is after each, in top.N; prints how long it is then."""
    r = random.Random(seed)
    disk, size = bytearray(), 24 << 20
    os.makedirs(top)
    for number in range(1, objects + 1):
        entries = []
        n = 1024 if number == 3 else 0 if number == 4 else r.randrange(1, 60)
        hot = r.randrange(0, size >> 21)
        for i in range(n):
            length = 512 * (r.choice((1, 1, 2, 8, 8, 64)) if n < 1024 else 1)
            if number in (2, objects // 2) and i == 0:
                length = 3 << 20
            at = (hot << 20) + 512 * r.randrange(0, 4096) if r.random() < .8 else 512 * r.randrange(0, (size - length) // 512)
            d = bytes(length) if r.random() < .15 else r.randbytes(512) * (length // 512) if length > 65536 else r.randbytes(length)
            if number == objects // 2 + 1: # every other sector of what was written as one
                at, d = base + 1024 * i, r.randbytes(512)
            entries.append((at, d, None))
            if number == objects // 2 and i == 0:
                base = at
        if number == objects // 2 + 1:
            entries += [(base + 1024 * i, r.randbytes(512), None) for i in range(n, 900)]
        for a, d, _ in entries:
            if len(disk) < a + len(d):
                disk.extend(bytes(a + len(d) - len(disk)))
            disk[a:a + len(d)] = d
        write(os.path.join(top, r.choice(('%x', '%08X', '%016x')) % number), entries)
        with open(f'{top}.{number}', 'wb') as f:
            f.write(disk)
            f.truncate(-(-len(disk) // 4096) * 4096)
if __name__ == '__main__':
    volume(sys.argv[1], sys.argv[2], int(sys.argv[3]))
P
py "$T/fly.py" "$T/vol" "$SEED" "$OBJECTS"
put_volume vol
SRC=fly:$SOURCE/vol

# is PATH N: the image is the disk after object N
is() {
	rm -f "$T/out"
	image export "$1" "$T/out"
	same "$T/vol.$2" "$T/out"
}
[ "$BACKEND" != front ] || front_reset
image import vm/all "$SRC" --json >"$T/json" 2>"$T/said"
[ ! -s "$T/said" ] || fail "a whole volume gave: $(cat "$T/said")"
if [ "$BACKEND" = front ]; then # a GET a header; and the data in few
	at_least "$(front_count GET)" $((OBJECTS - 1))
	at_most "$(front_count GET)" $((OBJECTS * 45)) "GETs: $(front_counts)"
fi
is vm/all "$OBJECTS"
eq "$(j '.size, .objects, .missing, (.warnings | length)' "$T/json" | tr '\n' ' ')" "$(stat -c %s "$T/vol.$OBJECTS") $OBJECTS 0 0 "
at_most "$(j .allocated "$T/json")" "$(j .data "$T/json")" "what was written over is not in the image: $(cat "$T/json")"
eq "$(image check vm/all --data --json | j '.whole')" true
printf -v half %x $((OBJECTS / 2))
points="1 2 3 4 $half"
[ "$BACKEND" = file ] || points=$half
for n in $points; do
	# the other bucket may need other options than this one
	image import "vm/at$n" "$SRC" --restore-point "$n" --from-options "${STORE_OPTS:-attr_timeout=1}" --json >"$T/json"
	eq "$((16#$(j .last "$T/json")))" $((16#$n)) "last object of a restore point"
	is "vm/at$n" $((16#$n))
	image delete "vm/at$n"
done
if [ "$BACKEND" = file ]; then # what follows is the same whatever the store
	image import vm/size "$SRC" --size 1G --restore-point "0x$half" --stop-at-gap
	eq "$(image info vm/size --json | j .size)" 1073741824
	image delete vm/size
	expect 1 "object [0-9a-fA-F]+ has data up to byte [0-9]+, more than --size" image import vm/bad "$SRC" --size 1M
	expect 1 'something of this name already' image import vm/all "$SRC"
	expect 2 'no size' image import vm/bad "$SRC" --size x
	expect 2 'restore-point takes' image import vm/bad "$SRC" --restore-point last
	expect 2 'are of fly:URL' image import vm/bad "$T/vol.1" --stop-at-gap
	expect 2 'are of image import' image info vm/bad --restore-point 5
	expect 2 's3://|file://' image import vm/bad fly:/somewhere
	expect 2 'bogus' image import vm/bad "$SRC" --from-options bogus=1

	# --- on a mount ---
	mount_lsvdfs a 'images=none'
	"$LSVDFS" image import "$T/a/vm/mounted" "$SRC" --restore-point 3
	same "$T/a/vm/mounted" "$T/vol.3"
	umount_lsvdfs a
	image delete vm/mounted

	# --- gaps ---
	gone=$(cd "$T/vol" && for f in *; do [ $((16#$f)) != 6 ] || echo "$f"; done)
	obj_delete "vol/$gone"
	image import vm/gap "$SRC" --json >"$T/json" 2>"$T/said"
	grep -qE 'warning: .*: 1 number is missing between [0-9a-fA-F]+ and [0-9a-fA-F]+:' "$T/said" || fail "no warning of the gap: $(cat "$T/said")"
	eq "$(j '.missing, (.warnings | length)' "$T/json" | tr '\n' ' ')" "1 1 "
	image delete vm/gap
	image import vm/gap "$SRC" --stop-at-gap --json >"$T/json" 2>"$T/said"
	grep -q 'warning: .*the number behind .*5 is missing' "$T/said" || fail "it said: $(cat "$T/said")"
	is vm/gap 5
	image import vm/void "$SRC" --restore-point 6 2>"$T/said"
	grep -q 'warning: .*there is no object 6: the last one before it is .*5$' "$T/said" || fail "it said: $(cat "$T/said")"
	is vm/void 5
	image delete vm/void
	image delete vm/gap
	obj_put "vol/$gone" "$T/empty"
	image import vm/void "$SRC" --stop-at-gap --restore-point 6 2>"$T/said"
	grep -q "warning: .*object $gone is empty" "$T/said" || fail "it said: $(cat "$T/said")"
	is vm/void 5
	image delete vm/void

	# --- what is wrong names the object, and nothing is made ---
	# each: what is said, and the Python that makes object 2 of it (f)
	bad=(
		'object 2 entry 0 .*0x100000000000000, 4096 bytes. reaches beyond 64 TiB; nothing was made'
			'write(f, [(1 << 56, B, None)])'
		'object 2 entry 1 .*reaches beyond'
			'write(f, [(0, B, None), ((64 << 40) - 512, B, None)])'
		'object 2 entry 0 .*0xfffffffffffff000.* beyond'
			'write(f, [((1 << 64) - 4096, B * 2, None)])'
		'object 2 entry 1 .*more data than the object'
			'write(f, [(0, B, None), (4096, B, None)]); os.truncate(f, 12288 + 8191)'
		'object 2 entry 0 .*more data than the object'
			'write(f, [(0, b"", 0xfffffe00)])'
		'object 2 entry 0 .*whole sectors'
			'write(f, [(100, B, None)])'
		'object 2 entry 0 .*513 bytes.*whole sectors'
			'write(f, [(0, B[:513], None)])'
		'object 2 has 4 bytes, less than a header'
			'open(f, "wb").write(b"1234")'
		'object 2 has 12287 bytes, less than a header'
			'open(f, "wb").write(bytes(12287))'
		'object 2 entry [0-9]+ .*'
			'open(f, "wb").write(b"\xff" * 20000)'
		'objects (2|02|002) and (2|02|002) have the same number'
			'write(f, [(0, B, None)]); write(top + "02", [(0, B, None)])'
		'object 10000000000000002: a number of more than 64 bits'
			'write(top + "10000000000000002", [(0, B, None)])'
		'nothing before the first gap|object 5 .*less'
			'os.remove(top + "1"); os.remove(top + "3"); open(top + "5", "wb").write(bytes(5))'
	)
	py - "$T" "${bad[@]}" <<'P'
import os, sys
sys.path.insert(0, sys.argv[1])
from fly import write
B = os.urandom(4096)
for i, code in enumerate(sys.argv[3::2]):
    top = f'{sys.argv[1]}/bucket/bad/{i}/'
    os.makedirs(top)
    write(top + '1', [(0, B, None)])
    write(top + '3', [(8192, B, None)])
    f = top + '2'
    exec(code)
P
	for ((i = 0; i < ${#bad[@]} / 2; i++)); do
		expect 1 "${bad[2 * i]}" image import vm/bad "fly:$SOURCE/bad/$i"
	done
	eq "$("$LSVDFS" image list "$SOURCE" -o "$OFF" --json | j 'map(.path) | join(" ")')" vm/all "images after that"
	rm -r "$T/bucket/bad"
	obj_put few/README "$T/empty"
	obj_put few/0x3 "$T/empty"
	expect 1 'no objects of a volume: they are called' image import vm/bad "fly:$SOURCE/few"
	eq "$(grep -c 'warning: .*2 names are passed over.*README\|0x3' "$T/said")" 1 "it said: $(cat "$T/said")"
	expect 1 'up to the restore point' image import vm/bad "$SRC" --restore-point 0
	py - "$T" <<'P'
import os, sys
sys.path.insert(0, sys.argv[1])
from fly import write
write(sys.argv[1] + '/5', [(512, b'x' * 1024, None), (1024, b'y' * 512, None)], pad=b'zz')
with open(sys.argv[1] + '/want', 'wb') as f:
    f.write((bytes(512) + b'x' * 512 + b'y' * 512).ljust(4096, b'\0'))
P
	obj_put few/5 "$T/5"
	expect 1 'nothing before the first gap: object 5 is the first' image import vm/bad "fly:$SOURCE/few" --stop-at-gap
	image import vm/few "fly:$SOURCE/few" --json >"$T/json" 2>"$T/said"
	for w in 'no object before 5' 'object 5 has 2 bytes behind its data' '2 names are passed over'; do
		grep -q "warning: .*$w" "$T/said" || fail "no warning '$w': $(cat "$T/said")"
	done
	eq "$(wc -l <"$T/said") $(j '.warnings | length' "$T/json")" "3 3"
	image export vm/few - | cmp - "$T/want"
	image delete vm/few
fi

# --- the store fails, the importer dies: no image, and nothing that gc does not remove ---
if [ "$BACKEND" = front ]; then
	front_ctl rule late act=status status=403 code=AccessDenied op=GET key=vol/ skip=$((OBJECTS + 4))
	expect 1 'object [0-9a-fA-F]+ cannot be read: .*; nothing was made' image import vm/bad "$SRC"
	front_ctl del late
fi
begin_import() { # until it is among the data
	[ "$BACKEND" != front ] || front_ctl rule held act=hold op=GET key=vol/ skip=$((OBJECTS + 4))
	"$LSVDFS" image import "$SOURCE" vm/half "$SRC" -o "$OFF" >"$T/half.log" 2>&1 &
	importer=$!
	[ "$BACKEND" != front ] || front_ctl wait held 1 60000 >/dev/null
}
end_hold() {
	front_ctl release held >/dev/null
	front_ctl del held >/dev/null
}
for ((i = 0; i < KILLS; i++)); do
	begin_import
	[ "$BACKEND" = front ] || sleep "0.$(((SEED + i) % 10))"
	kill -9 $importer 2>/dev/null || true
	wait $importer || true
	[ "$BACKEND" != front ] || end_hold
	! image info vm/half >"$T/said" 2>&1 || image delete vm/half
	"$LSVDFS" image gc "$SOURCE" -o "$OFF" >/dev/null
	[ -z "$(find "$T/off/state" -name importing)" ] || fail "gc left the mark of the import"
	eq "$("$LSVDFS" image gc "$SOURCE" -o "$OFF")" "nothing to remove"
done
if [ "$BACKEND" = front ]; then # a signal, while an answer is waited for that does not come
	begin_import
	at=$(date +%s%N)
	kill -INT $importer
	rc=0
	wait $importer || rc=$?
	at=$((($(date +%s%N) - at) / 1000000))
	note "a signal ends an import within $at ms"
	at_most $at 15000 "ms from the signal to the end, with a GET under way"
	at_least "$(front_ctl hits held)" 1 "GETs that were held"
	end_hold
	eq "$rc $(cat "$T/half.log")" "1 lsvdfs: vm/half: interrupted, nothing was made"
	[ -z "$(find "$T/off/state" -name importing)" ] || fail "the mark of the import stays"
	expect 1 'no image of this name' image info vm/half
fi
image delete vm/all
eq "$("$LSVDFS" image list "$SOURCE" -o "$OFF")" ""
finish

# SPDX-License-Identifier: GPL-3.0-or-later
# contrib/lsvdfs-reader, from a copy of the bucket that has files and no more, as other programs make it: snapshots, clones of
# clones, a roll back, an image whose daemon was killed, damage. What it dumps is what `image export` says.
. "$TESTS_DIR/lib.sh"
need_cmd jq
need_backend file
MIB=${MIB:-3}
store_start
OPTS='images=vm/*'
mount_lsvdfs a "$OPTS"
reader() { "$READER" "$@"; }
# the files alone: no attributes, no headers
copy_bucket() {
	rm -rf "$T/copy"
	cp -R --no-preserve=all "$T/bucket" "$T/copy"
}
# says STATUS PATTERN ARGUMENT...: of the reader, in one line
says() {
	local want=$1 pat=$2 rc=0
	shift 2
	reader "$@" >"$T/said.out" 2>"$T/said" || rc=$?
	eq "$rc $(wc -l <"$T/said")" "$want 1" "status and lines of reader $*: $(cat "$T/said")"
	grep -qE -- "$pat" "$T/said" || fail "reader $* said '$(cat "$T/said")', not /$pat/ (from line ${BASH_LINENO[0]})"
}
# both IMAGE[@NAME]...: the reader and export give the same bytes
both() {
	local i
	for i; do
		rm -f "$T/x" "$T/r"
		on export "$T/a/$i" "$T/x"
		reader dump "$T/copy" "$i" "$T/r"
		cmp "$T/x" "$T/r" || fail "the reader reads another $i (from line ${BASH_LINENO[0]})"
	done
}
scribble() { # FILE SALT: overlapping writes, zeros and holes, synced
	py - "$1" "$SEED.$2" $((MIB << 20)) <<'P'
import os, random, sys
r, size = random.Random(sys.argv[2]), int(sys.argv[3])
with open(sys.argv[1], 'r+b', buffering=0) as f:
    for _ in range(40):
        n = 512 * r.choice((1, 3, 8, 64, 300, 2000))
        f.seek(512 * r.randrange((size - min(n, size)) // 512 + 1))
        f.write(r.randbytes(n) if r.random() < .85 else bytes(n))
    os.fsync(f.fileno())
P
}

mkdir -p "$T/a/vm"
truncate -s "${MIB}M" "$T/a/vm/d.img"
scribble "$T/a/vm/d.img" 1
on snapshot "$T/a/vm/d.img@one"
scribble "$T/a/vm/d.img" 2
fallocate -p -o 4096 -l 1000000 "$T/a/vm/d.img"
on snapshot "$T/a/vm/d.img@two"
on rollback "$T/a/vm/d.img@one" >/dev/null
scribble "$T/a/vm/d.img" 3
on clone "$T/a/vm/d.img@two" "$T/a/vm/c.img"
scribble "$T/a/vm/c.img" 4
on snapshot "$T/a/vm/c.img@of-c"
on clone "$T/a/vm/c.img@of-c" "$T/a/vm/cc.img"
scribble "$T/a/vm/cc.img" 5
wait_for 60 images_idle a
copy_bucket
before=$(reader snapshots "$T/copy" vm/d.img --json | jq -r '.[2].name')
both vm/d.img vm/d.img@one "vm/d.img@$before" vm/c.img@of-c vm/cc.img
eq "$(reader snapshots "$T/copy" vm/d.img --json | jq -r 'map(.name) | join(" ")')" "one two $before"
eq "$(reader snapshots "$T/copy" vm/d.img | awk '{ print $2, $4 }' | head -n 1)" "$((MIB << 20)) one"
eq "$(reader list "$T/copy" --json | jq -r 'map("\(.path) \(.size)") | join(", ")')" \
	"vm/c.img $((MIB << 20)), vm/cc.img $((MIB << 20)), vm/d.img $((MIB << 20))"
eq "$(reader info "$T/copy" vm/cc.img | awk '$1 == "size" { print $2 }')" $((MIB << 20))
eq "$(reader verify "$T/copy" vm/cc.img)" whole
eq "$(reader info "$T/copy" vm/d.img --json | jq '.data + .zero')" \
	"$(on info "$T/a/vm/d.img" --json | jq .allocated)" "allocated bytes"
at_most "$(($(stat -c %b "$T/r") * 512))" "$((MIB << 20))" "blocks of a dump"
reader dump "$T/copy" "vm/d.img@two" - | cmp - <(on export "$T/a/vm/d.img@two" -)
reader dump "$T/copy" "vm/cc.img" "$T/r" --force --no-verify
cmp "$T/x" "$T/r"

# --- without the name; with one that a snapshot could have ---
u=$(uuid_of vm/d.img)
reader dump "$T/copy" ".lsvd/img/$u/@two" - | cmp - <(on export "$T/a/vm/d.img@two" -)
mv "$T/copy/vm/d.img.lsvd" "$T/copy/vm/d.img@two.lsvd" # renamed elsewhere: an image, not the snapshot
reader dump "$T/copy" "vm/d.img@two" - | cmp - "$T/a/vm/d.img"
rm "$T/copy/vm/d.img@two.lsvd"
reader list "$T/copy" >"$T/list"
has "$u  \(no name\) .lsvd/img/$u/\$" <"$T/list" || fail "list says: $(cat "$T/list")"
has "^ *$((MIB << 20))  [0-9a-f]{32}  vm/c.img\$" <"$T/list" || fail "list says: $(cat "$T/list")"

# --- the daemon dies: the bucket alone is some state that export has as well, with the journal the last one ---
exec 9<>"$T/a/vm/d.img"
scribble "$T/a/vm/d.img" 6
cp --sparse=always "$T/a/vm/d.img" "$T/last"
kill9_daemon a
exec 9<&- || true
copy_bucket
reader dump "$T/copy" vm/d.img "$T/r" --force
"$LSVDFS" image export "$SOURCE" vm/d.img "$T/x" --force -o "state_dir=$T/off.state,cache_dir=$T/off.cache"
same "$T/x" "$T/r"
reader dump "$T/copy" vm/d.img "$T/r" --force --journal "$(echo "$T"/a.state/*/*/img/"$u")"
same "$T/last" "$T/r"
mount_lsvdfs a "$OPTS"
wait_for 60 images_idle a
same "$T/last" "$T/a/vm/d.img"
copy_bucket
both vm/d.img vm/c.img

# --- what it cannot do it says ---
says 1 'x.img: no image of this name' dump "$T/copy" x.img "$T/r2"
says 1 'there is no snapshot three' dump "$T/copy" vm/d.img@three "$T/r2"
says 1 'no directory' list "$T/nowhere"
says 1 'r: is there already' dump "$T/copy" vm/c.img "$T/r"
echo 'lsvdfs image 2' >"$T/copy/bad.img.lsvd"
says 1 'bad.img.lsvd: no name object' info "$T/copy" bad.img
rc=0
reader dump "$T/copy" >"$T/said.out" 2>&1 || rc=$?
eq "$rc" 2 "status without arguments"
rnd $((1 << 20)) e >"$T/a/vm/e.img" # in one object, without a hole
wait_for 60 images_idle a
copy_bucket
big=$(ls -S "$T/copy/.lsvd/img/$(uuid_of vm/e.img)/"0* | head -n 1)
py - "$big" <<'P'
import sys
with open(sys.argv[1], 'r+b') as f:
    f.seek(70000)
    b = f.read(1)
    f.seek(70000)
    f.write(bytes([b[0] ^ 16]))
P
says 1 "object .*${big##*/}.*group 1: block 1 does not check" verify "$T/copy" "vm/e.img"
if reader dump "$T/copy" vm/e.img "$T/r2" 2>"$T/said"; then
	fail "a damaged block was dumped"
fi
[ ! -e "$T/r2" ] || fail "half a dump stays"
rc=0
reader dump "$T/copy" vm/e.img "$T/r2" --keep-going 2>"$T/said" || rc=$?
eq "$rc" 1 "status with a hole"
at_least "$( (cmp -l "$T/a/vm/e.img" "$T/r2" || true) | wc -l)" 4000 "bytes that differ for one damaged block"
at_most "$( (cmp -l "$T/a/vm/e.img" "$T/r2" || true) | wc -l)" 4096 "bytes that differ for one damaged block"
eq "$(grep -c 'bytes [0-9]* to [0-9]* cannot be read' "$T/said")" 1 "it said: $(cat "$T/said")"
rm "$big"
says 1 "object .*${big##*/}.*missing" dump "$T/copy" vm/e.img "$T/r3"
on delete "$T/a/vm/cc.img"
on delete "$T/a/vm/c.img@of-c"
on delete "$T/a/vm/c.img"
wait_for 60 images_idle a
finish

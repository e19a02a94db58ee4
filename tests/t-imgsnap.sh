# SPDX-License-Identifier: GPL-3.0-or-later
# Snapshots, roll back and clones of disk images, while a guest writes and without a mount; every state is also what the
# independent reader finds in the bucket.
. "$TESTS_DIR/lib.sh"
need_cmd jq
store_start
OPTS='images=*.img'
mount_lsvdfs a "$OPTS"
names() { on snapshots "$1" --json | jq -r '[.[] | select(.deleted | not) | .name] | join(" ")'; }
# holds IMAGE@NAME FILE: by the command, and for who has the bucket alone
holds() {
	rm -f "$T/out" "$T/out2"
	on export "$T/a/$1" "$T/out"
	starts_as "$T/out" "$2"
	[ "$BACKEND" = file ] || return 0
	py "$READER" dump "$T/bucket" "$1" "$T/out2" --force
	cmp "$T/out" "$T/out2" || fail "the independent reader reads another $1"
}

truncate -s 64M "$T/a/d.img"
for i in 1 2 3 4; do rnd $((3 << 20)) $i >"$T/v$i"; done
put() { dd if="$T/v$1" of="$T/a/d.img" bs=256k conv=notrunc,fsync status=none; }

# --- made while somebody writes, listed, read, never twice ---
put 1
on snapshot "$T/a/d.img@one" --json | jq -e '.name == "one" and .number > 1' >/dev/null
exec 9<>"$T/a/d.img"
dd if="$T/v2" of=/dev/fd/9 bs=256k conv=notrunc status=none # neither synced nor closed
on snapshot "$T/a/d.img@two"
put 3
eq "$(names "$T/a/d.img")" "one two"
refused 1 "there is a snapshot 'two' already" on snapshot "$T/a/d.img@two"
refused 2 'no name of a snapshot' on snapshot "$T/a/d.img@a b"
refused 2 'write IMAGE@NAME' on snapshot "$T/a/d.img"
refused 1 "there is no snapshot 'three'" on export "$T/a/d.img@three" "$T/out"
holds d.img@one "$T/v1"
holds d.img@two "$T/v2"
starts_as "$T/a/d.img" "$T/v3"
refused 1 'open on this mount' on rollback "$T/a/d.img@one"
exec 9>&-

# --- back, and forward again ---
on rollback "$T/a/d.img@one" --json >"$T/json"
before=$(jq -r .before "$T/json")
starts_as "$T/a/d.img" "$T/v1"
holds "d.img@$before" "$T/v3"
eq "$(names "$T/a/d.img")" "one two $before"
put 4
on rollback "$T/a/d.img@$before"
starts_as "$T/a/d.img" "$T/v3"
holds d.img@two "$T/v2"
truncate -s 32M "$T/a/d.img" # the size goes back as well
on rollback "$T/a/d.img@two" >/dev/null
eq "$(stat -c %s "$T/a/d.img")" $((64 << 20)) "size after a roll back"
starts_as "$T/a/d.img" "$T/v2"

# --- a clone is an image of its own, and keeps its snapshot ---
on clone "$T/a/d.img@one" "$T/a/c.img"
tar -C "$T/a" -S -cf "$T/c.tar" c.img # it asks stat(2) whether there is anything
tar -xf "$T/c.tar" -O >"$T/out"
starts_as "$T/out" "$T/v1"
rm "$T/c.tar"
starts_as "$T/a/c.img" "$T/v1"
dd if="$T/v4" of="$T/a/c.img" bs=256k conv=notrunc,fsync status=none
starts_as "$T/a/d.img" "$T/v2"
holds d.img@one "$T/v1"
on snapshot "$T/a/c.img@mine"
on clone "$T/a/c.img@mine" "$T/a/cc.img"
starts_as "$T/a/cc.img" "$T/v4"
refused 1 'something of this name' on clone "$T/a/d.img@one" "$T/a/c.img"
refused 1 'a clone was made' on delete "$T/a/d.img@one"
refused 1 'a clone was made' on delete "$T/a/c.img"
must_fail 'busy' rm "$T/a/d.img"
for i in d c cc; do on check "$T/a/$i.img" --data >/dev/null || fail "check of $i.img: $(on check "$T/a/$i.img")"; done

# --- a node that has the bucket alone ---
remount_fresh a "$OPTS"
starts_as "$T/a/d.img" "$T/v2"
starts_as "$T/a/c.img" "$T/v4"
starts_as "$T/a/cc.img" "$T/v4"
holds d.img@one "$T/v1"
if [ "$BACKEND" = file ]; then
	for i in c cc; do
		py "$READER" dump "$T/bucket" "$i.img" "$T/out2" --force
		starts_as "$T/out2" "$T/v4"
		rm "$T/out2"
	done
fi

# --- they go, the youngest first ---
rm "$T/a/cc.img"
wait_for 20 images_idle a
on delete "$T/a/c.img@mine"
rm "$T/a/c.img"
wait_for 20 images_idle a
for s in $(names "$T/a/d.img"); do on delete "$T/a/d.img@$s"; done
eq "$(on snapshots "$T/a/d.img" --json | jq length)" 0 "snapshots that are left"
starts_as "$T/a/d.img" "$T/v2"
umount_lsvdfs a

# --- without a mount ---
OFF=state_dir=$T/off/state,cache_dir=$T/off/cache${STORE_OPTS:+,$STORE_OPTS}
mkdir -p "$T/off"
off() { local action=$1; shift; "$LSVDFS" image "$action" "$SOURCE" "$@" -o "$OFF"; }
off snapshot d.img@off
off clone d.img@off e.img
off rollback d.img@off >/dev/null
off export e.img "$T/oe"
starts_as "$T/oe" "$T/v2"
off delete e.img
off delete d.img@off
off gc d.img >/dev/null
off check d.img --data >/dev/null
mount_lsvdfs a "$OPTS"
starts_as "$T/a/d.img" "$T/v2"
rm "$T/a/d.img"
wait_for 20 images_idle a
finish

# SPDX-License-Identifier: GPL-3.0-or-later
# What a dead node leaves in the bucket: copies of removed files that it had open go when that node mounts again, and never
# while any node may read them; uploads that nobody knows are listed after a day, and aborted when somebody asks for it.
. "$TESTS_DIR/lib.sh"
store_start
recover() { # NAME [OPTION...]: with the state directory of that mount
	local name=$1
	shift
	"$LSVDFS" recover "$SOURCE" "$@" -o "state_dir=$T/$name.state${STORE_OPTS:+,$STORE_OPTS}"
}
copies() { obj_keys .lsvd/unlinked/ | wc -l; }
hold() { # NAME FILE: opened for reading by a process that lives on; asked by a file "copy", it copies what it reads to "held"
	rm -f "$T/copy" "$T/held"
	/usr/bin/python3 -c 'import os,sys,time
f = open(sys.argv[1], "rb"); f.read(1); print("open", flush=True)
while not os.path.exists(sys.argv[2] + "/copy"): time.sleep(0.02)
f.seek(0); open(sys.argv[2] + "/part", "wb").write(f.read()); os.rename(sys.argv[2] + "/part", sys.argv[2] + "/held")
time.sleep(1000)' "$T/$1/$2" "$T" >"$T/hold.out" &
	holder=$!
	wait_for 10 grep -q open "$T/hold.out"
}
mount_lsvdfs a
rnd 9000000 big >"$T/big"
cp "$T/big" "$T/a/big"
hold a big
rm "$T/a/big"
eq "$(copies)" 1 "copies"
# another node, and this machine's commands, beside the living mount
mount_lsvdfs b
recover b | has 'removed file .lsvd/unlinked/.*another machine' || fail "not listed as another machine's"
recover a | has 'removed file .lsvd/unlinked/.*open in a mount of this machine' || fail "not listed as open here"
mount_lsvdfs a2
umount_lsvdfs a2
eq "$(copies)" 1 "copies beside living mounts"
touch "$T/copy"
wait_for 30 test -e "$T/held"
same "$T/held" "$T/big"
kill9_daemon a
kill -9 $holder
wait $holder 2>/dev/null || true
umount_lsvdfs b
mount_lsvdfs b
eq "$(copies)" 1 "copies after another node has mounted"
recover b >/dev/null
eq "$(copies)" 1 "copies after another node's recover"
mount_lsvdfs a
eq "$(copies)" 0 "copies after the node's own mount"
# the same by the command
cp "$T/big" "$T/a/big"
hold a big
rm "$T/a/big"
kill9_daemon a
kill -9 $holder
wait $holder 2>/dev/null || true
recover a | has 'removed file .*gone' || fail "recover does not say that it removed it"
eq "$(copies)" 0 "copies after recover"

# an upload of a node that lost its state
mount_lsvdfs a part_size=5M
/usr/bin/python3 -c 'import os,sys,time
f = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
for i in range(30): os.write(f, b"x" * (1 << 20))
print("written", flush=True); time.sleep(1000)' "$T/a/m" >"$T/hold.out" &
holder=$!
wait_for 20 grep -q written "$T/hold.out"
uploads() {
	if [ "$BACKEND" = file ]; then
		find "$T/bucket/.lsvd/mpu" -mindepth 2 -name '0*' 2>/dev/null | wc -l
	else
		s3 uploads | wc -l
	fi
}
parts() { [ "$(uploads)" -gt 0 ]; }
wait_for 20 parts
kill9_daemon a
kill -9 $holder
wait $holder 2>/dev/null || true
rm -rf "$T/a.state"
recover a --abort-uploads | has 'nothing was left half way' || fail "a young upload is listed"
parts || fail "a young upload was aborted"
if [ "$BACKEND" = file ]; then
	py - "$T"/bucket/.lsvd/mpu/*/upload <<-'P'
	import json, sys
	j = json.load(open(sys.argv[1])); j['time'] -= 25 * 3600; json.dump(j, open(sys.argv[1], 'w'))
	P
	recover a | has 'upload of m: older than a day' || fail "an old upload is not listed"
	parts || fail "an old upload was aborted unasked"
	recover a --abort-uploads | has 'upload of m: aborted' || fail "an old upload is not aborted"
	! parts || fail "it is still there"
else
	s3 uploads | while IFS=$'\t' read -r key id; do s3 abort "$key" "$id" >/dev/null; done
fi
finish

# SPDX-License-Identifier: GPL-3.0-or-later
# Two machines that hand an image to and fro: closed here and opened there at once; opened there 2 s before it is closed here,
# with 64 MiB that are not in the bucket yet, and the first thing is a read. Never EBUSY, never a stale byte; a file
# system in it is clean. A round has both.
. "$TESTS_DIR/lib.sh"
ROUNDS=${ROUNDS:-2} SECTORS=65536
stamp=$top_builddir/tests/stamp
[ -x "$stamp" ] || skip "$stamp is not built"
need_cmd mkfs.ext4 e2fsck losetup
store_start
for n in a b; do mount_lsvdfs $n images=*.img,journal_size=256M; done
truncate -s $((SECTORS * 512)) "$T/a/stamp.img"
truncate -s 68M "$T/a/late.img"
truncate -s 64M "$T/a/fs.img"
"$stamp" new "$T/log" $SECTORS "$SEED"
mkdir "$T/fs"

# late FROM TO SALT: opened on TO while FROM writes
late() {
	rm -f "$T"/say.*
	py - "$T/$1/late.img" "$T/late" "$T/say" "$SEED.$3" <<-'P' &
	import os, random, sys, time
	img, model, said, seed = sys.argv[1:]
	def say(word): open(f'{said}.{word}', 'w').close()
	def heard(word):
	    while not os.path.exists(f'{said}.{word}'): time.sleep(.01)
	r = random.Random(seed)
	data = bytearray(r.randbytes(64 << 20))
	f = os.open(img, os.O_RDWR)
	at = os.pwrite(f, data[:4096], 0)
	say('owner')
	heard('held')
	while at < len(data): at += os.pwrite(f, data[at:at + (1 << 20)], at)
	os.fdatasync(f)
	say('dirty')
	heard('reads')
	time.sleep(2)
	# its last words: what the other one reads first
	for off in (0, 32 << 20, (64 << 20) - 4096):
	    data[off:off + 4096] = r.randbytes(4096)
	    os.pwrite(f, data[off:off + 4096], off)
	open(model, 'wb').write(data)
	os.close(f)
	P
	local writer=$!
	wait_for 60 test -e "$T/say.owner"
	[ "$BACKEND" = file ] || front_ctl rule late act=hold op=PUT key=.lsvd/img/
	: >"$T/say.held"
	wait_for 60 test -e "$T/say.dirty"
	if [ "$BACKEND" = file ]; then
		: >"$T/say.reads"
	else
		# while the store takes nothing, all of it is here only
		at_least "$(status "$1" fs.images | py -c 'import ast,sys
print(next(i["journal_used"] for i in ast.literal_eval(sys.stdin.read()) if i["path"] == "late.img"))')" $((60 << 20)) "bytes not in the bucket"
		{ : >"$T/say.reads"; sleep 1; front_ctl clear; } &
	fi
	py - "$T/$2/late.img" "$T/late" <<-'P'
	import os, sys
	f = os.open(sys.argv[1], os.O_RDWR)
	got = b''
	while len(got) < 64 << 20:
	    d = os.pread(f, 1 << 20, len(got))
	    assert d
	    got += d
	want = open(sys.argv[2], 'rb').read()
	bad = [o for o in range(0, len(want), 4096) if got[o:o + 4096] != want[o:o + 4096]]
	assert not bad, f'{len(bad)} stale blocks, first at {bad[0]}'
	os.pwrite(f, b'mine', 0)
	os.close(f)
	P
	wait $writer
}

# fs NODE SALT: what was left there is whole; more is written
fs() {
	attach_loop fs "$T/$1/fs.img" --direct-io=on
	[ "$2" != 1 ] || mkfs.ext4 -q -F "$loop_fs"
	e2fsck -fn "$loop_fs" >"$T/fsck.log" 2>&1 || fail "fsck on $1: $(cat "$T/fsck.log")"
	mount "$loop_fs" "$T/fs"
	on_exit "umount $T/fs"
	(
		cd "$T/fs"
		[ ! -e sums ] || sha256sum --quiet -c sums
		mkdir -p "$2"
		for n in 1 2 3 4 5; do rnd $((n * 50000)) "$2.$n" >"$2/$n"; done
		[ ! -d $(($2 - 20)) ] || rm -r $(($2 - 20))
		find . -path ./lost+found -prune -o -type f ! -name sums -exec sha256sum {} + >"$T/sums"
		cp "$T/sums" sums
	)
	umount "$T/fs"
	losetup -d "$loop_fs" # and there it is opened at once
}

from=a to=b
for i in $(seq "$ROUNDS"); do
	"$stamp" run -t 4 "$T/log" "$T/$from/stamp.img" 200
	"$stamp" check -w all "$T/log" "$T/$to/stamp.img" >>"$T/stamp.log"
	late $from $to "$i"
	if [ "$(id -u)" = 0 ]; then fs $from $((i * 2 - 1)); fs $to $((i * 2)); fi
	[ $from = a ] && from=b to=a || from=a to=b
done
for n in a b; do ! grep -iE 'EBUSY|busy|fenced|damaged' "$T/$n.log" || fail "$n complained"; done
[ -z "$(find "$T/a.state" "$T/b.state" -name 'aside-*')" ] || fail "journals of which nothing is missing were kept"
note "$ROUNDS rounds"
finish

# SPDX-License-Identifier: GPL-3.0-or-later
# After kill -9 the image is opened while the next mount still recovers it: at once, while that walks, claims, uploads and
# releases, or later, to read or to write. Everything that was acknowledged is read, few round trips pass until then, and
# whatever happened the image is released in the end: another node writes to it without taking anything over.
. "$TESTS_DIR/lib.sh"
ROUNDS=${ROUNDS:-3}
need_backend front
store_start
A=$T/a O=images=*.img,journal_size=64M
mount_lsvdfs a "$O"
truncate -s 32M "$A/d.img"
truncate -s 32M "$T/model"

cat >"$T/look" <<'P'
import os, sys, time
img, mod, mode, after = sys.argv[1:]
time.sleep(float(after))
a, m = os.open(img, os.O_RDWR if mode == 'rw' else os.O_RDONLY), open(mod, 'rb').read()
assert os.pread(a, 4096, 0) == m[:4096], 'the first block'
open(mod + '.opened', 'w').close()
for off in range(0, len(m), 1 << 20):
    assert os.pread(a, 1 << 20, off) == m[off:off + (1 << 20)], off
P

died() { # SALT: with what it acknowledged in its journal
	write_both "$A/d.img" "$T/model" "$1" "${daemon[a]}"
	daemon_died a
}
when=(0 0 0.8 0.4 0.8 1.2 1.6 2.2 3)
for i in $(seq "$ROUNDS"); do
	died "$i"
	[ $((i % 2)) = 1 ] && mode=rw || mode=r
	after=${when[$(((i - 1) % ${#when[@]}))]}
	front_ctl latency 200
	from=$(wc -l <"$T/front/requests")
	mount_lsvdfs a "$O"
	rm -f "$T/model.opened"
	py "$T/look" "$A/d.img" "$T/model" $mode "$after" &
	looking=$!
	wait_for 60 test -e "$T/model.opened"
	round_trips "$from" 200 >"$T/cost"
	read -r trips n _ <"$T/cost"
	note "round $i: $mode after $after s: $trips round trips, $n requests"
	[ "$after" != 0 ] || at_most "$trips" 10 "round trips until the first block is read ($mode)"
	front_ctl latency 0
	wait $looking
	[ $((i % 3)) != 0 ] || write_both "$A/d.img" "$T/model" "$i.more"
	[ $((i % 3)) = 1 ] || wait_for 60 images_idle a
done

# nobody opens it
died last
mount_lsvdfs a "$O"
wait_for 60 images_idle a
mount_lsvdfs b
same "$T/b/d.img" "$T/model"
write_both "$T/b/d.img" "$T/model" b
same "$T/b/d.img" "$T/model"
umount_lsvdfs b
# and after all of the above at once, with an opener
died again
mount_lsvdfs a "$O"
py "$T/look" "$A/d.img" "$T/model" r 0
wait_for 60 images_idle a
rm -rf "$T/b.state" "$T/b.cache"
mount_lsvdfs b
write_both "$T/b/d.img" "$T/model" c
same "$T/b/d.img" "$T/model"
umount_lsvdfs b
umount_lsvdfs a
finish

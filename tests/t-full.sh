# SPDX-License-Identifier: GPL-3.0-or-later
# The disk under state_dir is full: write says ENOSPC, nothing that was acknowledged is lost, and it goes on when there is room.
. "$TESTS_DIR/lib.sh"
need_root
store_start
mkdir -p "$T/a.state"
# a small ext4 where possible: a tmpfs is refused as state_dir by what needs it durable
truncate -s 24M "$T/disk"
if mkfs.ext4 -q -F "$T/disk" 2>/dev/null && mount -o loop "$T/disk" "$T/a.state" 2>/dev/null; then
	on_exit "umount -l $T/a.state"
else
	mount -t tmpfs -o size=24M none "$T/a.state" || skip "neither a loop device nor a tmpfs can be mounted"
	on_exit "umount -l $T/a.state"
fi
mount_lsvdfs a
echo safe >"$T/a/safe"
py - "$T/a" <<'P'
import errno, os, sys
os.chdir(sys.argv[1])
f = os.open('toobig', os.O_WRONLY | os.O_CREAT); n = 0
try:
    while n < 200 << 20: n += os.write(f, b'x' * (1 << 20))
    raise SystemExit('200 MiB went into 24')
except OSError as e: assert e.errno == errno.ENOSPC, e
print(f'# ENOSPC after {n >> 20} MiB')
try: os.close(f)
except OSError: pass
os.unlink('toobig')
P
eq "$(cat "$T/a/safe")" safe
room() { echo more >"$T/a/more"; }
wait_for 10 room
head -c 3000000 /dev/urandom >"$T/3m"
wait_for 10 cp "$T/3m" "$T/a/3m"
same "$T/3m" "$T/a/3m"
umount_lsvdfs a
eq "$(obj_get safe)" safe
eq "$(obj_get more)" more
obj_get 3m | cmp - "$T/3m"

# a disk image: where there is room for a part of its journal, writes wait until the store has taken that; where there is none
# at all they say so. What was acknowledged is there in the end
rnd 24000000 i >"$T/24m"
mount_lsvdfs a images=*.img,journal_size=16M
room_left() { # KIB
	local avail
	avail=$(df --output=avail -k "$T/a.state" | tail -n 1)
	head -c $(((avail - $1) * 1024)) /dev/zero >>"$T/a.state/fill"
}
room_left 10000 # two segments
exec 9<>"$T/a/d.img" # a guest
dd if="$T/24m" of="$T/a/d.img" bs=256K conv=notrunc,fsync iflag=fullblock status=none
same "$T/24m" "$T/a/d.img"
sent() { # and what the journal had of it is given back
	py - "$("$LSVDFS" status "$T/a" --json)" <<'P'
import json, sys
i, = json.loads(sys.argv[1])['fs']['images']
sys.exit(i['journal_used'] > 5 << 20)
P
}
wait_for 30 sent
room_left 0 2>"$T/fill.log" || true
must_fail 'no space' dd if="$T/3m" of="$T/a/e.img" bs=64K conv=notrunc status=none
dd if="$T/3m" of="$T/a/d.img" bs=256K conv=notrunc,fsync status=none # its own journal has room
exec 9<&-
rm "$T/a.state/fill"
cp "$T/3m" "$T/a/e.img"
cmp -n 3000000 "$T/3m" "$T/a/d.img"
same "$T/3m" "$T/a/e.img"
umount_lsvdfs a
rm -rf "$T/a.state/"* # the bucket alone
mount_lsvdfs a images=*.img
same "$T/3m" "$T/a/e.img"
cmp -n 3000000 "$T/3m" "$T/a/d.img"
cmp -i 3000000 "$T/24m" "$T/a/d.img"
finish

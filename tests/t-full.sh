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
mount_lsvdfs a
finish

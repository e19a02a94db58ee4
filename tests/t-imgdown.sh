# SPDX-License-Identifier: GPL-3.0-or-later
# The store is down while files are written through dirty mappings and a loop device on an image, all of it, daemon and
# programs, in 256 MiB of memory: writers wait with a reason in status, the rest of the mount answers, nothing is killed for
# want of memory, nothing stands still for good, and when the store is back everything is there.
. "$TESTS_DIR/lib.sh"
LOAD=${LOAD:-5} LIMIT=${LIMIT:-256} MIB=${MIB:-160}
need_backend front
need_root
# A daemon whose memory is limited must not wait for writeback that waits for it: PR_SET_IO_FLUSHER, which needs that right.
# Without it this test wedges the machine's loop devices (a daemon in D state that no signal ends).
(($((0x$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status))) >> 24 & 1)) || skip "no CAP_SYS_RESOURCE"
need_cmd losetup mkfs.ext4 e2fsck

# --- 256 MiB ---
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
	group=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/lsvdfs-$$ limit=memory.max events=memory.events
else
	group=/sys/fs/cgroup/memory$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)/lsvdfs-$$
	limit=memory.limit_in_bytes events=memory.oom_control
fi
mkdir "$group" 2>/dev/null || skip "no memory cgroup"
leave_group() {
	local n
	for n in $(seq 100); do
		! rmdir "$group" 2>/dev/null || return 0
		sleep 0.1
	done
}
on_exit leave_group
{ echo $((LIMIT << 20)) >"$group/$limit"; } 2>/dev/null || skip "no limit of memory ($limit)"
killed() { sed -n 's/^oom_kill //p' "$group/$events"; }
limited() { (echo "$BASHPID" >"$group/cgroup.procs" && exec "$@"); }
printf '%s\n' '#!/bin/bash' "echo \$\$ >$group/cgroup.procs" "exec $LSVDFS \"\$@\"" >"$T/limited"
chmod 755 "$T/limited"

# --- everything in it ---
store_start
LSVDFS=$T/limited mount_lsvdfs a images=*.img,journal_size=64M,memory=64M
A=$T/a
truncate -s 512M "$A/disk.img"
echo before >"$A/before"
attach_loop l "$A/disk.img" --direct-io=off
mkdir "$T/fs"
mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$loop_l"
mount "$loop_l" "$T/fs"
on_exit "umount -l $T/fs"

cat >"$T/writer" <<'P'
import mmap, os, random, sys
how, path, model, mib, seed = sys.argv[1:]
r = random.Random(seed)
with open(path, 'w+b') as f, open(model, 'wb') as m:
    f.truncate(int(mib) << 20)
    p = mmap.mmap(f.fileno(), int(mib) << 20) if how == 'map' else None
    for i in range(int(mib)):
        d = r.randbytes(1 << 20)
        m.write(d)
        if p:
            p[i << 20:(i + 1) << 20] = d
        else:
            f.write(d)
    m.flush()
    os.fsync(m.fileno())
    if p: p.flush()
    f.flush()
    os.fsync(f.fileno())
    os.posix_fadvise(m.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
P
front_ctl refuse 1
pids=()
for w in "map $A/map" "map $T/fs/map" "write $T/fs/file"; do
	# shellcheck disable=SC2086
	limited /usr/bin/python3 "$T/writer" $w "$T/model.${#pids[@]}" "$MIB" "$SEED.${#pids[@]}" &
	pids+=($!)
done

# --- down ---
full() { status a fs.images | has 'the journal is full'; }
wait_for 120 full
note "$(status a fs.images | grep -o "'why': [^}]*")"
end=$((SECONDS + LOAD))
while [ $SECONDS -lt $end ]; do
	# what needs no store: a name does, once what is known of it is a second old
	timeout 10 stat -f "$A" >/dev/null || fail "the mount does not answer"
	timeout 10 "$LSVDFS" status "$A" >/dev/null || fail "status does not answer"
	sleep 0.2
done
eq "$(killed)" 0 "processes killed for want of memory"
for p in "${pids[@]:1}"; do kill -0 "$p" || fail "a writer is done with the store down"; done

# --- and back ---
front_ctl refuse 0
done_all() { for p in "${pids[@]}"; do ! kill -0 "$p" 2>/dev/null || return 1; done; }
wait_for 240 done_all
for p in "${pids[@]}"; do wait "$p"; done
eq "$(killed)" 0 "processes killed for want of memory"
umount "$T/fs"
detach_loop l
wait_for 60 images_idle a
remount_fresh a images=*.img
same "$A/map" "$T/model.0"
attach_loop l "$A/disk.img" --read-only
e2fsck -fn "$loop_l" >"$T/fsck.log" 2>&1 || fail "fsck: $(cat "$T/fsck.log")"
mount -o ro "$loop_l" "$T/fs"
same "$T/fs/map" "$T/model.1"
same "$T/fs/file" "$T/model.2"
umount "$T/fs"
detach_loop l
finish

# SPDX-License-Identifier: GPL-3.0-or-later
# t-imgdown.sh in a virtual machine, whose root has every right and which nobody misses should it stand still: daemon and
# writers in a memory cgroup of 256 MiB, more than that dirtied through mappings and a loop device on an image, the store
# down until the journal is full and beyond. The daemon answers all the while, nothing is killed for want of memory, the
# writers end when the store is back, and everything is there: on the same mount, on one that never saw the bucket, on the host.
# Each ROUND is the cgroup's version and what the loop device does: v2-buffered.
# Nothing here has to be done in a given time: it fails when for STILL seconds nothing has moved, neither the writers nor
# the daemon (in the guest), or the guest has not said anything for QUIET seconds (on the host).
. "$TESTS_DIR/lib.sh"
. "$TESTS_DIR/guests/guest.sh"
ROUNDS=${ROUNDS:-"v2-buffered v1-buffered v2-direct v1-direct"} LOAD=${LOAD:-20} LIMIT=${LIMIT:-256} MIB=${MIB:-120}
STILL=${STILL:-900} QUIET=${QUIET:-1800}
need_backend front
guest_need
need_cmd losetup
pages=$top_builddir/tests/pages
[ -x "$pages" ] || skip "$pages is not built"
prog=$LSVDFS
[ ! -x "$top_builddir/.libs/lsvdfs" ] || prog=$top_builddir/.libs/lsvdfs
store_start
guest_kit "$prog" "$pages" losetup
export GUEST_NET=1 MEM=${MEM:-1G}

cat >"$T/script" <<G
export HOME=/root AWS_EC2_METADATA_DISABLED=true AWS_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY
IFS=- read -r version loop </root/round
OPTS=images=*.img,journal_size=64M,memory=64M,retry=$STILL,${STORE_OPTS/127.0.0.1/10.0.2.2}
SOURCE=$SOURCE CTL=$FRONT_CTL LIMIT=$((LIMIT << 20)) MIB=$MIB LOAD=$LOAD SEED=$SEED STILL=$STILL
G
cat >>"$T/script" <<'G'
fail() {
	{
		echo "FAILED: $*"
		sed 's/^/daemon: /' /state/log | tail -n 20
		dmesg | tail -n 60
		for p in $daemon "${pids[@]}"; do for t in /proc/$p/task/*; do echo "$(cat $t/comm): $(tr '\n' ' ' <$t/stack)"; done; done
		cat $g/memory.stat $g/$events
		grep -E 'Mem|Dirty|Writeback' /proc/meminfo
	} >/dev/ttyS1 2>&1
	exit 1
}
ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up || exit 1
mkdir -p /state /m /fs /cg
mount -t ext4 /dev/vda /state || exit 1
if [ $version = v2 ]; then
	mount -t cgroup2 cgroup2 /cg && echo +memory >/cg/cgroup.subtree_control || exit 1
	limit=memory.max events=memory.events peak=memory.peak
else
	mount -t cgroup -o memory memory /cg || exit 1
	limit=memory.limit_in_bytes events=memory.oom_control peak=memory.max_usage_in_bytes
fi
g=/cg/box
mkdir $g && echo $LIMIT >$g/$limit || exit 1
killed() { sed -n 's/^oom_kill //p' $g/$events; }
no_kill() { [ "$(killed)" = 0 ] || fail "$(killed) killed for want of memory"; }
limited() { echo $BASHPID >$g/cgroup.procs && exec "$@"; } # with & only
front() {
	local line
	exec 9<>/dev/tcp/10.0.2.2/$CTL && echo "$*" >&9 && IFS= read -r line <&9 && exec 9>&-
	[ "$line" = ok ] || fail "front $*: $line"
}
# without hardware support, on a machine that has much else to do, a program takes seconds to begin
asked() { timeout -s KILL $STILL "$@" || fail "no answer within $STILL s: $*"; }
# What has been done so far: by the loop device, by writers, to the journal; with the store up what was sent, in steps that
# connections which only live do not make. Nothing that goes on by itself, as tries and a log do.
done_so_far() {
	echo $journal
	[ -z "$dev" ] || awk '{ print $1, $5, $12 }' /sys/block/${dev#/dev/}/stat # what is complete, not the time that it takes
	cat /tmp/said.* 2>/dev/null
	[ $store = down ] || echo $(($(cat /sys/class/net/eth0/statistics/tx_bytes) / 16384))
}
# moves WHAT: called again and again while that is awaited
moved_at=0 moved='' said_at=0 store=up dev='' journal=''
moves() {
	local now
	now=$(done_so_far | tr -s ' \n' ' ')
	[ "$now" = "$moved" ] || moved=$now moved_at=$SECONDS
	[ $((SECONDS - moved_at)) -lt $STILL ] || fail "nothing has moved for $STILL s, still not: $1: $now"
	[ $((SECONDS - said_at)) -lt 30 ] || { echo "$SECONDS s: not yet $1: $now" && said_at=$SECONDS; }
}
status() { asked lsvdfs status --json /m; }
up() {
	mkdir -p /state/s$1 /state/c$1
	limited lsvdfs mount -f $SOURCE /m -o $OPTS,state_dir=/state/s$1,cache_dir=/state/c$1 >>/state/log 2>&1 &
	daemon=$!
	moved_at=$SECONDS
	until grep -q ' /m fuse' /proc/mounts; do
		kill -0 $daemon || fail "not mounted"
		moves "mounted"
		sleep 0.1
	done
}
down() {
	local p
	lsvdfs umount /m &
	p=$! moved_at=$SECONDS
	while kill -0 $p 2>/dev/null; do
		moves "unmounted"
		sleep 0.2
	done
	wait $p && wait $daemon || fail "umount of the mount"
	dev=''
}
loop_up() { dev=$(losetup --find --show --direct-io=$([ $loop = direct ] && echo on || echo off) "$@" /m/disk.img) || fail losetup; }
# Of a plain file fsync and close say it when the store is away for too long: then its bytes are parked, or on their way.
plain() {
	moved_at=$SECONDS
	for (( ; ; )); do
		! pages check /m/map $MIB ${SEED}0 >/dev/null 2>&1 || return 0
		if [[ $(lsvdfs parked list /m --json) =~ \"id\":\ *\"([0-9-]+)\" ]]; then
			lsvdfs parked save /m ${BASH_REMATCH[1]} /state/plain && pages check /state/plain $MIB ${SEED}0 || return 1
			echo "plain: parked"
			parked=1
			return 0
		fi
		moves "there: the plain file"
		sleep 5
	done
}
check() {
	pages check $1/map $MIB ${SEED}1 && pages check $1/file $MIB ${SEED}2 || fail "content of $1"
}

up 1
grep -q box /proc/$daemon/cgroup && grep -q lsvdfs /proc/$daemon/comm || fail "the daemon is not in the cgroup"
truncate -s 1G /m/disk.img || exit 1
loop_up
mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 $dev && mount $dev /fs || fail mkfs
echo "round $version $loop"
pids=()
for w in "map /m/map $MIB ${SEED}0" "map /fs/map $MIB ${SEED}1" "write /fs/file $MIB ${SEED}2"; do
	limited pages $w >/tmp/said.${#pids[@]} &
	pids+=($!)
done
# to open a file the store is needed
for i in 0 1 2; do
	until grep -q open /tmp/said.$i; do kill -0 ${pids[i]} || fail "writer $i"; moves "open: the file of writer $i"; sleep 0.1; done
done
front refuse 1
store=down moved_at=$SECONDS
# most of the time for the writers: here a question takes seconds, and the fuller the journal the slower they are
for (( ; ; )); do
	t=${EPOCHREALTIME/./}
	s=$(status)
	[[ $s != *'the journal is full'* ]] || break
	no_kill
	[[ $s =~ journal_used\":\ *([0-9]+) ]] && journal=${BASH_REMATCH[1]}
	moves "full: the journal"
	t=$(((${EPOCHREALTIME/./} - t) * 9 / 1000000 + 1))
	sleep $((t < 60 ? t : 60))
done
echo "full: $(grep -o '"why": *"[^"]*"' <<<"$s" | head -n 1)"
end=$((SECONDS + LOAD)) n=0
while [ $SECONDS -lt $end ]; do
	asked stat -f /m >/dev/null
	status >/dev/null
	no_kill
	n=$((n + 1))
	[ $((n % 10)) != 0 ] || echo "$SECONDS s: asked $n times"
	sleep 2
done
grep -E '^(Dirty|Writeback|MemFree):' /proc/meminfo | tr -s ' \n' ' '
for p in ${pids[@]:1}; do kill -0 $p || fail "a writer is done with the store down"; done
echo "down: asked $n times, peak $(cat $g/$peak) of $LIMIT, daemon $(grep VmRSS /proc/$daemon/status | tr -s '\t ' ' ')"
front refuse 0
store=up start=$SECONDS moved_at=$SECONDS
for i in 1 2 0; do
	p=${pids[i]}
	while kill -0 $p 2>/dev/null; do
		moves "done: writer $i, in $(tr '\n' ' ' </proc/$p/stack)"
		sleep 0.2
	done
	wait $p || { [ $i = 0 ] && echo "writer 0: $?"; } || fail "writer $i failed"
done
no_kill
echo "back: writers done after $((SECONDS - start)) s, peak $(cat $g/$peak), limit met $(sed -n 's/^max //p' $g/$events; cat $g/memory.failcnt 2>/dev/null) times"
echo 3 >/proc/sys/vm/drop_caches
check /fs
umount /fs && losetup -d $dev || fail "umount"
parked=0
plain || fail "the plain file is neither there nor parked"
down
no_kill
up 2 # knows nothing
loop_up
e2fsck -fn $dev >/tmp/o 2>&1 || fail "fsck: $(cat /tmp/o)"
mount -o ro $dev /fs || fail "mount"
[ $parked = 1 ] || pages check /m/map $MIB ${SEED}0 || fail "content of the file"
check /fs
umount /fs && losetup -d $dev || fail "umount"
down
no_kill
# "blocked for more than 120 seconds" is true of who waits for the store
grep -iE 'i/o error|out of memory' <(dmesg) && fail "the kernel complains"
echo "$version-$loop: right, oom_kill $(killed)"
G

guest_goes_on() { # NAME: until it is off, or quiet for too long
	local size=0 since=$SECONDS now
	until guest_off "$1"; do
		now=$(stat -c %s "$T/$1.out")
		[ "$now" = "$size" ] || size=$now since=$SECONDS
		[ $((SECONDS - since)) -lt "$QUIET" ] || fail "$1 has said nothing for $QUIET s: $(tail -n 20 "$T/$1.out" "$T/$1.console.log")"
		sleep 0.5
	done
}

for round in $ROUNDS; do
	rm -f "$T/state.disk"
	truncate -s 4G "$T/state.disk"
	mkfs.ext4 -q -F "$T/state.disk"
	mkdir -p "$T/g.root"
	echo "$round" >"$T/g.root/round"
	obj_keys | while read -r k; do obj_delete "$k"; done
	guest_start g "$T/script" "$T/state.disk,cache=unsafe"
	guest_goes_on g
	guest_wait g 60 || fail "$round: $(tail -n 60 "$T/g.out")"
	tr -d '\r' <"$T/g.out" | sed -n 's/^\(full\|down\|back\|v[12]-\)/# &/p'
	# the host, too
	mount_lsvdfs b images=*.img
	has '^plain: parked' <"$T/g.out" || "$pages" check "$T/b/map" "$MIB" "${SEED}0" >"$T/check.log" || fail "$(cat "$T/check.log")"
	attach_loop l "$T/b/disk.img" --read-only
	e2fsck -fn "$loop_l" >"$T/fsck.log" 2>&1 || fail "fsck: $(cat "$T/fsck.log")"
	detach_loop l
	umount_lsvdfs b
	rm -rf "$T/b.state" "$T/b.cache"
done
finish

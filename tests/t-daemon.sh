# SPDX-License-Identifier: GPL-3.0-or-later
# The daemon around the file system: sd_notify, signals, who may not unmount, slots of dead mounts, parked bytes.
. "$TESTS_DIR/lib.sh"
store_start
need_fuse
need_root
cd "$T"
mkdir -p m m2 st ca
O=state_dir=$T/st,cache_dir=$T/ca${STORE_OPTS:+,$STORE_OPTS}

status() { "$LSVDFS" status --json "$1" | jq -cr "$2"; }
listener() { # prints each datagram on a line, until the pipe that it holds breaks
	exec /usr/bin/python3 -u -c '
import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind("notify")
while True: print(s.recv(4096).replace(b"\n", b" ").decode())'
}

# hold FILE TEXT: a process writes and keeps the file open (the shell's own redirections close a copy each time, and a
# close uploads); drop ends it
hold() {
	rm -f held
	/usr/bin/python3 -c '
import os, signal, sys
f = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); os.write(f, sys.argv[2].encode()); open("held", "w"); signal.pause()' "$@" &
	holder=$!
	wait_for 10 test -e held
}
drop() { kill -9 "$holder"; wait "$holder" 2>/dev/null || true; }

# --- in the foreground: READY when it works, STOPPING when told to stop, the bytes in the bucket, status 0
listener >notify.log &
on_exit "kill $!"
wait_for 5 test -S notify
NOTIFY_SOCKET=$T/notify "$LSVDFS" mount "$SOURCE" m -f -o "$O" 2>fg.log &
pid=$!
wait_for 10 grep -q '^READY=1' notify.log
mountpoint -q m
grep -q "MAINPID=$pid" notify.log
echo x >m/x
hold m/open unfinished
kill -USR1 "$pid" # means nothing, and the signals after it still do
kill -USR2 "$pid"
wait_for 5 grep -q 'debug messages on' fg.log
kill -TERM "$pid"
wait_for 10 grep -q '^STOPPING=1' notify.log
wait "$pid"
drop
! mountpoint -q m
eq "$(obj_get x)" x
eq "$(obj_get open)" unfinished 'what an open file had written'

# --- umount: not while somebody is in it; what cannot be is said, and nothing is lost
"$LSVDFS" mount "$SOURCE" m -o "$O"
(cd m && exec sleep 60) &
user=$!
on_exit "kill $user"
wait_for 5 bash -c "[ \"\$(readlink /proc/$user/cwd)\" = '$T/m' ]"
must_fail 'in use' "$LSVDFS" umount m
mountpoint -q m
echo still >m/works
pid=$(status m .pid)
"$LSVDFS" umount -l m
! mountpoint -q m
kill "$user"
wait_for 10 bash -c "! kill -0 $pid"
eq "$(obj_get works)" still

# --- two mounts of a source have slots of their own; the second's dies, and the next mount takes over what it left
"$LSVDFS" mount "$SOURCE" m -o "$O"
"$LSVDFS" mount "$SOURCE" m2 -o "$O"
eq "$(status m .slot) $(status m2 .slot)" '0 1'
hold m2/torn half
pid=$(status m2 .pid)
kill -9 "$pid"
drop
"$LSVDFS" umount m
"$LSVDFS" mount "$SOURCE" m -o "$O" 2>mount.err
grep -q '1 parked' mount.err
eq "$(status m .recovery.parked)" 1
eq "$(status m .recovery.adopted_slots)" 1
must_fail 'No such file' cat m/torn

# --- parked bytes: the same by directory and by source
id=$("$LSVDFS" parked list m --json | jq -r '.[0].id')
"$LSVDFS" parked list m | grep -q torn
eq "$("$LSVDFS" parked list "$SOURCE" -o "$O" --json | jq -r '.[0].id')" "$id"
eq "$("$LSVDFS" parked save m "$id" -)" half
echo before >saved
must_fail 'exists' "$LSVDFS" parked save m "$id" saved
eq "$(cat saved)" before
"$LSVDFS" parked save "$SOURCE" "$id" saved2 -o "$O"
eq "$(cat saved2)" half
must_fail 'a mount uses' "$LSVDFS" parked retry "$SOURCE" "$id" -o "$O"
"$LSVDFS" parked retry m "$id"
eq "$(cat m/torn)" half
eq "$("$LSVDFS" parked list m --json)" '[]'

# somebody else made the name meanwhile: not without --force
hold m/torn2 mine
pid=$(status m .pid)
kill -9 "$pid"
drop
echo theirs >theirs
obj_put torn2 theirs
"$LSVDFS" recover "$SOURCE" -o "$O" | grep -q '1 parked'
id=$("$LSVDFS" parked list "$SOURCE" -o "$O" --json | jq -r '.[0].id')
must_fail . "$LSVDFS" parked retry "$SOURCE" "$id" -o "$O"
eq "$(obj_get torn2)" theirs
"$LSVDFS" parked retry "$SOURCE" "$id" --force -o "$O"
eq "$(obj_get torn2)" mine
eq "$("$LSVDFS" parked list "$SOURCE" -o "$O" --json)" '[]'

# --- renames that a crash cut in half: ours are finished, by the next mount or by recover; another machine's are shown
intent() { # NODE FROM TO KEY
	jq -nc --arg n "$1" --arg f "$2" --arg t "$3" '{version:1,what:"rename",from:$f,to:$t,node:$n,time:1}' >intent
	obj_put ".lsvd/intent/$4" intent
}
node=$(cat st/*/slot-0/node)
echo 1 >one
obj_put from/a one
obj_put from/sub/b one
intent "$node" from/ to/ i1
intent 00000000000000000000000000000000 elsewhere/ there/ i2
"$LSVDFS" mount "$SOURCE" m -o "$O"
eq "$(status m .recovery.renames)" 1
eq "$(cd m && find to -type f | sort | tr '\n' ' ')" 'to/a to/sub/b '
must_fail 'No such file' ls m/from
eq "$(obj_keys .lsvd/intent/)" .lsvd/intent/i2
# this one is of a slot that a mount holds now: hands off
intent "$node" to/ away/ i3
# what nobody can have begun, and a name that would steer a terminal
intent "$node" to/ to/below/ i4
intent 00000000000000000000000000000000 $'clear\e[2J/' there/ i5
"$LSVDFS" recover "$SOURCE" -o "$O" >recover.out
grep -q '^rename to/ -> away/: under way' recover.out
grep -q '^rename elsewhere/ -> there/: begun by another machine' recover.out
grep -q '^rename .lsvd/intent/i4 -> ?: damaged' recover.out
grep -q '^rename clear?\[2J/ -> there/: begun by another machine' recover.out
obj_delete .lsvd/intent/i4
obj_delete .lsvd/intent/i5
"$LSVDFS" umount m
obj_exists to/a
"$LSVDFS" recover "$SOURCE" -o "$O" --json | jq -e '.intents | map(.state) | sort == ["foreign", "resumed"]' >/dev/null
obj_exists away/sub/b
! obj_exists to/a
obj_delete .lsvd/intent/i2

# --- somebody else's mount, without XDG_RUNTIME_DIR: he finds it with one too, root finds it, a stranger may not ask; a
# socket that is not of who mounted is not believed
chmod 755 "$T"
mkdir -p bu um xdg
nobody=$(id -u nobody) stranger=$(id -u daemon) # fusermount3 wants users with names
chown "$nobody" bu um xdg
chmod 700 xdg
on_exit "rmdir --ignore-fail-on-non-empty /tmp/lsvdfs-$nobody"
mknod -m 666 fuse c 10 229 # not every machine lets others open it
mount --bind fuse /dev/fuse
as() { setpriv --reuid="$1" --regid="$1" --clear-groups env -u XDG_RUNTIME_DIR HOME="$T/bu" "${@:2}"; }
install -m 755 "$LSVDFS" theirs # the build may lie where only its owner can enter
as "$nobody" ./theirs mount "file://$T/bu" um -o "state_dir=$T/bu/st,cache_dir=$T/bu/ca"
pid=$(as "$nobody" ./theirs status --json um | jq .pid)
eq "$(as "$nobody" env XDG_RUNTIME_DIR="$T/xdg" ./theirs status --json um | jq .pid)" "$pid"
eq "$(status um .pid)" "$pid"
must_fail 'Permission denied' as "$stranger" ./theirs status um
sock=/tmp/lsvdfs-$nobody/$(awk -v dir="$T/um" '$5 == dir {print $3}' /proc/self/mountinfo).sock
mv "$sock" "$sock.ours"
py -c '
import socket, sys, time
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); time.sleep(60)' "$sock" &
liar=$!
on_exit "kill $liar"
wait_for 5 test -S "$sock"
must_fail 'daemon of this mount is gone' "$LSVDFS" status um
kill "$liar"
mv "$sock.ours" "$sock"
# what fusermount3 says is the reason: "in use" is only what is in use
setpriv --reuid="$nobody" --regid="$nobody" --clear-groups bash -c 'cd um && exec sleep 60' &
user=$!
on_exit "kill $user"
wait_for 5 bash -c "[ \"\$(readlink /proc/$user/cwd)\" = '$T/um' ]"
must_fail 'in use' as "$nobody" ./theirs umount um
kill "$user"
wait "$user" || true
mkdir etc empty
cp -L /etc/passwd /etc/group /etc/ld.so.cache etc/
mount --bind etc /etc # no mtab: fusermount3 will not, and root does not need it
must_fail 'cannot unmount: fusermount3: .*mtab' as "$nobody" ./theirs umount um
must_fail 'cannot unmount: cannot run fusermount3' as "$nobody" env PATH="$T/empty" "$T/theirs" umount um
"$LSVDFS" mount "$SOURCE" m -o "$O"
"$LSVDFS" umount m
! mountpoint -q m
umount /etc
as "$nobody" ./theirs umount um
wait_for 5 bash -c "! kill -0 $pid"
umount /dev/fuse

# --- a daemon that ends late: the next mount has the device number, and with it the name of the socket, meanwhile
mkdir -p n
late() { # until the kernel gives the number again: others take some, too
	"$LSVDFS" mount "$SOURCE" m -o "$O"
	pid=$(status m .pid) dev=$(stat -c %d m)
	kill -STOP "$pid"
	umount -i -l m
	"$LSVDFS" mount "$SOURCE" n -o "state_dir=$T/st.n,cache_dir=$T/ca.n${STORE_OPTS:+,$STORE_OPTS}"
	kill -CONT "$pid"
	wait_for 30 bash -c "! kill -0 $pid"
	[ "$(stat -c %d n)" = "$dev" ]
}
for ((i = 0; i < 20; i++)); do
	! late || break
	"$LSVDFS" umount n
done
[ $i -lt 20 ] || fail "no two mounts had one number"
pid=$(status n .pid) || fail "the socket of a mount went with the daemon of the one before"
kill -0 "$pid"
"$LSVDFS" umount n
wait_for 20 bash -c "! kill -0 $pid"

# --- umount -f: aborts; the next mount has the rest
"$LSVDFS" mount "$SOURCE" m -o "$O"
eq "$(cat m/torn2)" mine
pid=$(status m .pid)
"$LSVDFS" umount -f m
! mountpoint -q m
wait_for 20 bash -c "! kill -0 $pid"
umount -l m2
finish

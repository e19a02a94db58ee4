# SPDX-License-Identifier: GPL-3.0-or-later
# The command: mount and umount by themselves (daemonised), helpers with fstab noise, status, probe, a dead mount replaced, and
# one-line errors with the right status.
. "$TESTS_DIR/lib.sh"
store_start
need_fuse
need_root
cd "$T"
mkdir -p m st ca
# -o takes these; quoting is the shell's
O=state_dir=$T/st,cache_dir=$T/ca${STORE_OPTS:+,$STORE_OPTS}
# says STATUS 'PATTERN' CMD...: fails with that status and one line that matches
says() {
	local want=$1 pat=$2 rc=0 out
	shift 2
	out=$(timeout 60 "$@" 2>&1) || rc=$?
	eq "$rc" "$want" "status of '$*' which said '$out'"
	grep -qiE -- "$pat" <<<"$out" || fail "'$*' said '$out', not /$pat/ (from line ${BASH_LINENO[0]})"
	[ "$rc" = 2 ] || at_most "$(wc -l <<<"$out")" 2 "lines of the error '$out'"
}
"$LSVDFS" mount "$SOURCE" m -o "$O"
mountpoint -q m
echo works >m/f
pid=$("$LSVDFS" status --json m | jq .pid)
kill -0 "$pid"
"$LSVDFS" status m | has "$SOURCE"
eq "$(findmnt -n -o FSTYPE,SOURCE m | tr -s ' ')" "fuse.lsvdfs $SOURCE"
says 1 'busy|already|mounted' "$LSVDFS" mount "$SOURCE" m -o "$O"
"$LSVDFS" umount m
! mountpoint -q m
wait_for 5 bash -c "! kill -0 $pid"
eq "$(obj_get f)" works
# a directory whose name is no text: status is JSON all the same
d=$(printf 'caf\xe9')
mkdir "$d"
"$LSVDFS" mount "$SOURCE" "$d" -o "$O"
eq "$("$LSVDFS" status --json "$d" | jq -r .dir)" "$T/caf?"
eq "$("$LSVDFS" parked list "$d" --json)" '[]'
"$LSVDFS" umount "$d"
# as mount(8) and umount(8) call us; a second mount of the bucket beside the first
ln -sf "$LSVDFS" mount.lsvdfs
ln -sf "$LSVDFS" umount.fuse.lsvdfs
./mount.lsvdfs "$SOURCE" m -o "rw,_netdev,nofail,noauto,x-systemd.automount,user,$O"
mkdir -p m2
./mount.lsvdfs "$SOURCE" m2 -o "ro,$O"
eq "$(cat m2/f)" works
must_fail 'Read-only' touch m2/x
./umount.fuse.lsvdfs "$T/m2"
# a dead mount point is replaced
pid=$("$LSVDFS" status --json m | jq .pid)
kill -9 "$pid"
must_fail 'not connected|endpoint|abort' ls m
"$LSVDFS" mount "$SOURCE" m -o "$O"
eq "$(cat m/f)" works
"$LSVDFS" umount m
# probe
"$LSVDFS" probe "$SOURCE" ${STORE_OPTS:+-o "$STORE_OPTS"} >probe.out
"$LSVDFS" probe --json "$SOURCE" ${STORE_OPTS:+-o "$STORE_OPTS"} >probe.json
# what no probe can see of Ceph is said all the same
if [ "$BACKEND" = rgw ]; then
	grep -qE '^note: Ceph RGW: .*without conditions' probe.out
	jq -e '.note | test("without conditions")' probe.json >/dev/null
else
	eq "$(grep -c Ceph probe.out || true)" 0
	jq -e 'has("note") | not' probe.json >/dev/null
fi
# errors
says 2 'usage|source' "$LSVDFS" mount
says 2 'option' "$LSVDFS" mount "$SOURCE" m -o "$O,no_such_option"
says 2 'source' "$LSVDFS" mount nonsense m -o "$O"
says 1 'no such|not exist|does not' "$LSVDFS" mount "$SOURCE" "$T/none" -o "$O"
says 1 'not mounted|no lsvdfs|not a mount' "$LSVDFS" umount "$T/ca"
if [ "$BACKEND" = rgw ]; then
	bad() { says 1 "$1" env "${@:2}" "$LSVDFS" mount "$SOURCE" m -o "$O"; }
	bad 'secret|signature' AWS_SECRET_ACCESS_KEY=wrong
	bad 'access key|key id|credential|key' AWS_ACCESS_KEY_ID=WRONGKEY
	says 1 'bucket' "$LSVDFS" mount s3://nobucket m -o "$O"
	says 1 'refused|reach|connect' "$LSVDFS" mount "$SOURCE" m -o "state_dir=$T/st,cache_dir=$T/ca,endpoint=http://127.0.0.1:9,path_style"
	says 1 'TLS|SSL|certificate' "$LSVDFS" mount "$SOURCE" m -o "state_dir=$T/st,cache_dir=$T/ca,endpoint=https://127.0.0.1:${S3_ENDPOINT##*:},path_style"
	says 1 'credential|key' env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY "$LSVDFS" mount "$SOURCE" m -o "$O"
	echo "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" >pw
	chmod 644 pw
	says 1 '0?600' "$LSVDFS" mount "$SOURCE" m -o "$O,passwd_file=$T/pw"
	chmod 600 pw
	env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY "$LSVDFS" mount "$SOURCE" m -o "$O,passwd_file=$T/pw"
	eq "$(cat m/f)" works
	# no secret in sight
	pid=$("$LSVDFS" status --json m | jq .pid)
	! grep -aq "$AWS_SECRET_ACCESS_KEY" "/proc/$pid/cmdline"
	"$LSVDFS" umount m
	# a prefix is a root of its own
	"$LSVDFS" mount "$SOURCE/pre/fix" m -o "$O"
	echo inside >m/x
	eq "$(ls -A m)" x
	"$LSVDFS" umount m
	eq "$(s3 get pre/fix/x)" inside
else
	says 1 'no such|not exist|does not' "$LSVDFS" mount "file://$T/no/bucket" m -o "$O"
fi
finish

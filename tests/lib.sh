# SPDX-License-Identifier: GPL-3.0-or-later
# lib.sh - what the black-box tests share (bash; sourced first; tests/run gives $T, $TESTS_DIR, $top_builddir).
#
# A test says `. "$TESTS_DIR/lib.sh"`, `store_start`, `mount_lsvdfs a`, does things in $T/a, and ends with `finish`. Any
# command that fails ends it with the line number. Exit 0 passed, 77 skipped (with a reason), else failed.
#
# BACKEND says what stands behind the mount:
#	file	file:// on a directory			rgw	Ceph RGW itself
#	front	RGW behind the front (faults, counts)	aws	the same in AWS mode		swift	Swift's s3api

set -eEu -o pipefail
shopt -s inherit_errexit
# every command with its time goes to $T/trace: run shows the end of it when a test does not end
exec 8>"$T/trace"
BASH_XTRACEFD=8 PS4='+${EPOCHREALTIME:5:9} ${BASH_SOURCE[0]##*/}:$LINENO: '
set -x
BACKEND=${BACKEND:-file}
SEED=${SEED:-1}
LSVDFS=${LSVDFS:-$top_builddir/lsvdfs}
S3FRONT=$top_builddir/tests/s3front
READER=$TESTS_DIR/../contrib/lsvdfs-reader
S3TOOL="/usr/bin/python3 $TESTS_DIR/s3tool"
export HOME=$T LC_ALL=C.UTF-8 PATH=$PATH:/usr/sbin:/sbin
unset AWS_PROFILE AWS_CONFIG_FILE AWS_SHARED_CREDENTIALS_FILE AWS_SESSION_TOKEN AWS_CA_BUNDLE AWS_ENDPOINT_URL
export AWS_EC2_METADATA_DISABLED=true
# a daemon's stderr may be gone: sanitizers write files, which finish() looks for
export ASAN_OPTIONS="log_path=$T/asan.san:detect_leaks=${LSAN:-1}:${ASAN_OPTIONS:-}"
export UBSAN_OPTIONS="log_path=$T/ubsan.san:print_stacktrace=1" TSAN_OPTIONS="log_path=$T/tsan.san:second_deadlock_stack=1:${TSAN_OPTIONS:-}"
ulimit -c 0

# --- ends ---

cleanups=()
declare -A daemon=()
on_exit() { cleanups+=("$*"); }
cleanup() {
	local rc=$? i
	trap - EXIT ERR
	set +eE
	# away from the mounts and without their daemons, before the servers go: nothing may wait for a server that is gone
	cd /
	for i in "${!daemon[@]}"; do
		kill -9 "${daemon[$i]}"
		umount -l "$T/$i"
	done >>"$T/cleanup.log" 2>&1
	for ((i = ${#cleanups[@]} - 1; i >= 0; i--)); do eval "${cleanups[i]}"; done >>"$T/cleanup.log" 2>&1
	[ $rc = 0 ] || [ $rc = 77 ] || echo "seed $SEED backend $BACKEND"
	exit $rc
}
trap cleanup EXIT
trap '{ set +x; } 2>/dev/null; echo "FAILED: ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND" >&2; for i in "${!BASH_LINENO[@]}"; do
	[ "${BASH_LINENO[i]}" -gt 0 ] && echo "   from ${BASH_SOURCE[i+1]##*/}:${BASH_LINENO[i]}" >&2; done' ERR

fail() { echo "FAILED: ${BASH_SOURCE[1]##*/}:${BASH_LINENO[0]}: $*" >&2; exit 1; }
skip() { echo "SKIP: $*"; exit 77; }
note() { echo "# $*"; }

need_cmd() { local c; for c; do command -v "$c" >/dev/null || skip "$c not found (tests/setup)"; done; }
need_root() { [ "$(id -u)" = 0 ] || skip "needs root"; }
need_fuse() {
	[ -c /dev/fuse ] || skip "no /dev/fuse"
	[ -r /dev/fuse ] && [ -w /dev/fuse ] || skip "no access to /dev/fuse (mode 0666 where udev runs)"
	[ -x "$LSVDFS" ] || skip "$LSVDFS is not built"
	[ "$(id -u)" = 0 ] || command -v fusermount3 >/dev/null || skip "neither root nor fusermount3"
}
need_backend() { case " $* " in *" $BACKEND "*) ;; *) skip "not for BACKEND=$BACKEND" ;; esac; }

# --- assertions ---

# eq GOT WANT [WHAT]
eq() { [ "$1" = "$2" ] || fail "${3:-value}: got '$1', want '$2' (from line ${BASH_LINENO[0]})"; }
at_most() { [ "$1" -le "$2" ] || fail "${3:-value}: got $1, want at most $2 (from line ${BASH_LINENO[0]})"; }
at_least() { [ "$1" -ge "$2" ] || fail "${3:-value}: got $1, want at least $2 (from line ${BASH_LINENO[0]})"; }
# must_fail 'PATTERN' CMD...: non-zero status and PATTERN (extended, any case) in what it says
must_fail() {
	local pat=$1 out
	shift
	if out=$("$@" 2>&1); then fail "'$*' worked (from line ${BASH_LINENO[0]})"; fi
	grep -qiE -- "$pat" <<<"$out" || fail "'$*' said '$out', not /$pat/ (from line ${BASH_LINENO[0]})"
}
# wait_for SECONDS CMD...: until CMD works
wait_for() {
	local end=$(($(date +%s%N) + $1 * 1000000000))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$(date +%s%N)" -lt "$end" ] || fail "waited in vain for: $* (from line ${BASH_LINENO[0]})"
		sleep 0.02
	done
}
# CMD | has PATTERN: reads to the end, so that CMD does not die of a closed pipe
has() { [ "$(grep -acE -- "$1" || true)" -gt 0 ]; }
same() { cmp "$1" "$2" || fail "$1 and $2 differ (from line ${BASH_LINENO[0]})"; }
# starts_as PATH FILE: so many bytes as FILE has
starts_as() { cmp -n "$(stat -c %s "$2")" "$1" "$2" || fail "$1 does not start as $2 (from line ${BASH_LINENO[0]})"; }
py() { /usr/bin/python3 "$@"; }
# random bytes that the seed decides: rnd BYTES SALT
rnd() { py -c 'import random,sys; sys.stdout.buffer.write(random.Random(sys.argv[2]).randbytes(int(sys.argv[1])))' "$1" "$SEED.$2"; }
# tree_facts DIR [dirtimes]: one line a file: type, mode, owner, size, ns mtime, symlink's target, xattrs, content; for
# comparing trees. With dirtimes the mtimes of directories too (a change of their children is seen on one node only).
tree_facts() {
	py - "$@" <<-'P'
	import hashlib, os, stat, sys
	top = sys.argv[1]
	def one(p):
	    s = os.lstat(p)
	    f = [os.path.relpath(p, top), oct(s.st_mode), s.st_uid, s.st_gid]
	    if stat.S_ISDIR(s.st_mode):
	        f += [s.st_mtime_ns] if len(sys.argv) > 2 else []
	    else:
	        f += [s.st_mtime_ns, s.st_rdev if stat.S_ISCHR(s.st_mode) or stat.S_ISBLK(s.st_mode) else 0]
	    if stat.S_ISREG(s.st_mode):
	        f += [s.st_size, hashlib.sha256(open(p, 'rb').read()).hexdigest()]
	    if stat.S_ISLNK(s.st_mode):
	        f += [os.readlink(p)]
	    else:
	        f += [(n, os.getxattr(p, n)) for n in sorted(os.listxattr(p)) if n.startswith('user.')]
	    print(*f)
	for d, ds, fs in os.walk(top):
	    ds.sort()
	    if d != top:
	        one(d)
	    for n in sorted(fs + [x for x in ds if os.path.islink(os.path.join(d, x))]):
	        one(os.path.join(d, n))
	P
}

# --- stores ---

SOURCE='' STORE_OPTS=''
store_start() {
	case $BACKEND in
	file)
		mkdir -p "$T/bucket"
		py -c 'import os,sys; os.setxattr(sys.argv[1],"user.t",b"1")' "$T/bucket" 2>/dev/null ||
			skip "no user xattrs on $T"
		setfattr -x user.t "$T/bucket" 2>/dev/null || py -c 'import os,sys; os.removexattr(sys.argv[1],"user.t")' "$T/bucket"
		SOURCE=file://$T/bucket
		;;
	rgw | front | aws) start_rgw; [ "$BACKEND" = rgw ] || start_front; [ "$BACKEND" != aws ] || front_ctl aws 1 ;;
	swift) start_swift ;;
	*) fail "BACKEND=$BACKEND?" ;;
	esac
	note "backend $BACKEND seed $SEED"
}
server_env() {
	set -a
	# shellcheck disable=SC1090
	. "$1"
	set +a
	SERVER_ENDPOINT=$S3_ENDPOINT
	use_endpoint "$S3_ENDPOINT"
}
use_endpoint() {
	S3_ENDPOINT=$1 SOURCE=s3://$S3_BUCKET STORE_OPTS=endpoint=$1,path_style
}
start_rgw() {
	local rc=0
	"$TESTS_DIR/servers/rgw-start" "$T/rgw" >>"$T/server.log" 2>&1 || rc=$?
	[ $rc != 77 ] || skip "$(tail -n 1 "$T/server.log")"
	[ $rc = 0 ] || fail "rgw-start: $(tail -n 5 "$T/server.log")"
	on_exit "$TESTS_DIR/servers/rgw-stop $T/rgw"
	server_env "$T/rgw/env"
}
start_swift() {
	local rc=0
	"$TESTS_DIR/servers/swift-start" "$T/swift" >>"$T/server.log" 2>&1 || rc=$?
	[ $rc != 77 ] || skip "$(tail -n 1 "$T/server.log")"
	[ $rc = 0 ] || fail "swift-start: $(tail -n 5 "$T/server.log")"
	on_exit "$TESTS_DIR/servers/swift-stop $T/swift"
	server_env "$T/swift/env"
}
# The front stands before the server that runs; from here on s3tool goes to the server itself, mounts to the front.
start_front() {
	[ -x "$S3FRONT" ] || skip "$S3FRONT is not built"
	mkdir -p "$T/front"
	"$S3FRONT" --upstream "${S3_ENDPOINT##*:}" --dir "$T/front" --access "$AWS_ACCESS_KEY_ID" \
		--secret "$AWS_SECRET_ACCESS_KEY" --bucket "$S3_BUCKET" --seed "$SEED" "$@" >"$T/front.log" 2>&1 &
	FRONT_PID=$!
	on_exit "kill $FRONT_PID"
	wait_for 10 test -s "$T/front/port"
	read -r FRONT_PORT FRONT_CTL <"$T/front/port"
	use_endpoint "http://127.0.0.1:$FRONT_PORT"
}
# front_ctl COMMAND...: prints the answer; "err" is a failure
front_ctl() {
	local line
	exec 9<>"/dev/tcp/127.0.0.1/$FRONT_CTL"
	echo "$*" >&9
	IFS= read -r line <&9
	exec 9>&-
	[[ $line != err* ]] || fail "front: $* -> $line"
	[ "$line" = ok ] || echo "$line"
}
front_reset() { front_ctl reset >/dev/null; }
# front_count OP...: how many of these since the last reset ("total" for all)
front_count() {
	front_ctl stat | py -c 'import json,sys; s=json.load(sys.stdin); print(sum(s[k] for k in sys.argv[1:]))' "$@"
}
# "PUT=1 GET=2": every operation that was counted; for messages and golden tables
front_counts() {
	front_ctl stat | py -c '
import json,sys
s=json.load(sys.stdin)
print(" ".join(f"{k}={v}" for k,v in s.items() if v and k.isupper()))'
}

# --- objects, as another client sees them; the same words for every back end ---

# shellcheck disable=SC2086
s3() { $S3TOOL "$@"; }
obj_put() { # KEY FILE
	if [ "$BACKEND" = file ]; then
		mkdir -p "$(dirname "$T/bucket/$1")"
		cat "$2" >"$T/bucket/.other" && mv "$T/bucket/.other" "$T/bucket/$1"
	else
		s3 put "$1" "$2" >/dev/null
	fi
}
obj_get() { if [ "$BACKEND" = file ]; then cat "$T/bucket/$1"; else s3 get "$1"; fi; }
obj_delete() { if [ "$BACKEND" = file ]; then rm -f "$T/bucket/$1"; else s3 delete "$1" >/dev/null; fi; }
obj_exists() { if [ "$BACKEND" = file ]; then [ -e "$T/bucket/$1" ]; else s3 head "$1" >/dev/null; fi; }
obj_keys() { # [PREFIX]: files only, .lsvd too
	if [ "$BACKEND" = file ]; then
		(cd "$T/bucket" && find . -type f | sed 's|^\./||' | grep "^${1:-}" | sort) || true
	else
		s3 keys ${1:+"$1"} | grep -v '/$' || true
	fi
}

# Nothing of ours may stay: uploads under way, keys below .lsvd but the root's metadata (and the lock files of file://).
# "orphans": an upload whose CREATE was under way when the daemon was killed nobody can know of; it has no parts.
check_bucket_clean() {
	local left key id
	if [ "$BACKEND:${1:-}" = file:orphans ]; then
		for id in "$T"/bucket/.lsvd/mpu/*; do
			[ "$(ls "$id" 2>/dev/null)" = upload ] || continue
			note "an upload without parts, which nobody knows of"
			rm -r "$id"
		done
	fi
	# file://: what a kill left half written or half removed goes when the next daemon first writes
	if [ "$BACKEND" = file ] && [ -n "$(ls "$T"/bucket/.lsvd/tmp "$T"/bucket/.lsvd/mpu 2>/dev/null | grep -v :)" ]; then
		"$LSVDFS" probe "$SOURCE" >/dev/null
	fi
	# the logs of images are for their own tests to look at
	left=$(obj_keys | grep -E '(^|/)\.lsvd/' | grep -vE '^\.lsvd/(root|lock/..|img/.*)$') || true
	[ -z "$left" ] || fail "left in the bucket: $left"
	if [ "$BACKEND" = file ]; then
		left=$(find "$T/bucket" \( -name '*.tmp' -o -name '.lsvd-*' -o -name '.tmp*' \) | head -n 5)
	else
		left=$(s3 uploads)
		[ "${1:-}" != orphans ] || while IFS=$'\t' read -r key id; do
			[ -n "$id" ] && [ -z "$(s3 parts "$key" "$id")" ] || continue
			note "an upload of $key without parts, which nobody knows of"
			s3 abort "$key" "$id" >/dev/null
			left=$(s3 uploads)
		done <<<"$left"
	fi
	[ -z "$left" ] || fail "left in the bucket (uploads): $left"
}

# --- mounts ---

MOUNT_OPTS=${MOUNT_OPTS:-}
# mount_lsvdfs NAME [OPTIONS]: $SOURCE at $T/NAME, state and cache in $T/NAME.state and .cache (kept from mount to mount)
mount_lsvdfs() {
	need_fuse
	local name=$1 o
	mkdir -p "$T/$name" "$T/$name.state" "$T/$name.cache"
	o=state_dir=$T/$name.state,cache_dir=$T/$name.cache${STORE_OPTS:+,$STORE_OPTS}${MOUNT_OPTS:+,$MOUNT_OPTS}${2:+,$2}
	"$LSVDFS" mount -f "${MOUNT_SOURCE:-$SOURCE}" "$T/$name" -o "$o" >>"$T/$name.log" 2>&1 &
	daemon[$name]=$!
	until mountpoint -q "$T/$name"; do
		kill -0 "${daemon[$name]}" 2>/dev/null || fail "mount $name: $(tail -n 5 "$T/$name.log")"
		sleep 0.02
	done
	stat "$T/$name" >/dev/null
}
# The command waits until everything is in the bucket; the daemon must end by itself, with status 0.
umount_lsvdfs() {
	local name=$1 rc=0
	timeout 120 "$LSVDFS" umount "$T/$name" || fail "umount $name (from line ${BASH_LINENO[0]})"
	wait "${daemon[$name]}" || rc=$?
	unset "daemon[$name]"
	[ $rc = 0 ] || fail "daemon of $name ended with $rc: $(tail -n 5 "$T/$name.log")"
}
kill9_daemon() {
	kill -9 "${daemon[$1]}"
	daemon_died "$1"
}
# it was killed: away with its mount
daemon_died() {
	wait "${daemon[$1]}" 2>/dev/null || true
	unset "daemon[$1]"
	umount -l "$T/$1" 2>/dev/null || fusermount3 -uz "$T/$1" 2>/dev/null || true
}
# remount_lsvdfs NAME [OPTIONS]: elsewhere, as a machine that never saw the bucket
remount_fresh() {
	umount_lsvdfs "$1"
	rm -rf "$T/$1.state" "$T/$1.cache"
	mount_lsvdfs "$@"
}
# --- disk images ---

# on ACTION ARGUMENT...: lsvdfs image
on() { local action=$1; shift; "$LSVDFS" image "$action" "$@"; }
# refused STATUS PATTERN CMD...: with that status, and one line on stderr
refused() {
	local want=$1 pat=$2 rc=0
	shift 2
	"$@" >/dev/null 2>"$T/said" || rc=$?
	eq "$rc" "$want" "status of $*: $(cat "$T/said")"
	eq "$(wc -l <"$T/said")" 1 "lines that $* said: $(cat "$T/said")"
	grep -qE -- "$pat" "$T/said" || fail "$* said '$(cat "$T/said")', not /$pat/ (from line ${BASH_LINENO[0]})"
}
# write_both IMAGE MODEL SALT [sync] [PID]: up to 100 writes that SALT decides, to both; the last synced; then PID is killed
write_both() {
	py - "$@" <<-'P'
	import os, random, signal, sys
	img, mod, salt, *end = sys.argv[1:]
	r = random.Random(f"{os.environ['SEED']}.{salt}")
	a, b = os.open(img, os.O_RDWR), os.open(mod, os.O_RDWR)
	size = os.fstat(b).st_size
	for k in range(r.randrange(20, 100)):
	    n = 512 * r.randrange(1, 200)
	    off = r.randrange(0, size - n)
	    d = r.randbytes(n)
	    os.pwrite(a, d, off); os.pwrite(b, d, off)
	    if r.random() < .1: os.fdatasync(a)
	for e in end:
	    if e == 'sync': os.fsync(a)
	    else: os.kill(int(e), signal.SIGKILL)
	P
}
# round_trips LINES MS: of the front's log, those behind so many, each of which took so long: round trips, requests, bytes.
# At most so many one after the other: a request that begins when the last one was answered is one more.
round_trips() {
	tail -n +$(($1 + 1)) "$T/front/requests" | awk -v wait="$(($2 - 1))" '
		/img/ { n++; bytes += $7; if ($2 - wait / 1000 >= answered) { trips++; answered = $2 } }
		END { printf "%.0f %.0f %.0f\n", trips, n, bytes }'
}

# uuid_of PATH: of the image, as the bucket says
uuid_of() { obj_get "$1.lsvd" | sed -n 's/^uuid=//p'; }
# what stays below the log of an image: "data", "claims" and other words, sorted, one each
log_left() { # UUID
	local key
	while read -r key; do
		case ${key#.lsvd/img/"$1"/} in
		????????????????) obj_get "$key" | py -c '
import struct,sys
b = sys.stdin.buffer.read(4096)
t = struct.unpack_from("<H", b, 10)[0] if b else 0
print("tombstone create data cleaner map checkpoint claim release snapshot unsnap free rollback resize".split()[t])' ;;
		*) echo "${key#.lsvd/img/"$1"/}" ;;
		esac
	done < <(obj_keys ".lsvd/img/$1/") | sort -u | tr '\n' ' '
}
# attach_loop NAME FILE [LOSETUP OPTION...]: $loop_NAME is the device; it goes with the test
attach_loop() {
	local name=$1 file=$2 dev
	shift 2
	dev=$(losetup --find --show "$@" "$file") || skip "no loop device"
	on_exit "loop_drop $dev $file"
	declare -g "loop_$name=$dev"
}
detach_loop() { # NAME: waits until the kernel has let go
	local dev=loop_$1 file
	file=$(losetup --noheadings --output BACK-FILE "${!dev}")
	losetup -d "${!dev}"
	wait_for 10 loop_gone "${!dev}" "$file"
}
# loop devices are the machine's, not the namespace's: another test may have the device by now
loop_gone() { [ "$(losetup --noheadings --output BACK-FILE "$1" 2>/dev/null)" != "$2" ]; }
loop_drop() { loop_gone "$1" "$2" || losetup -d "$1"; }
images_idle() { [ "$(status "$1" fs.images)" = '[]' ]; }

# status NAME JSON-PATH: status a spool.parked
status() {
	"$LSVDFS" status --json "$T/$1" | py -c '
import json,sys
v=json.load(sys.stdin)
for k in sys.argv[1].split("."): v=v[k]
print(v)' "$2"
}
# New to this mount: names of other clients are seen attr_timeout later.
settle() { sleep 1.1; }

# Ends a test: every mount goes, what is in the bucket is looked at, sanitizers have said nothing.
finish() {
	local name f
	for name in "${!daemon[@]}"; do umount_lsvdfs "$name"; done
	[ -z "$SOURCE" ] || check_bucket_clean "${1:-}"
	for f in "$T"/*.san.*; do
		[ ! -s "$f" ] || fail "sanitizer: $(head -n 30 "$f")"
	done
	echo "PASSED"
	exit 0
}

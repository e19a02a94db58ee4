#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Every way to get the command wrong, or the world wrong around it, ends in one line that names it, and in the right exit
# status: 2 for the caller's mistakes, 1 for the world's. Nothing here is ever mounted.
set -u

lsvdfs=${LSVDFS:-${top_builddir:-$PWD}/lsvdfs}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/t-cmd-errors.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
export HOME=$tmp AWS_EC2_METADATA_DISABLED=true AWS_ACCESS_KEY_ID=AKIDEXAMPLE AWS_SECRET_ACCESS_KEY=topsecret
unset AWS_PROFILE XDG_STATE_HOME XDG_CACHE_HOME NOTIFY_SOCKET
mkdir "$tmp/bucket" "$tmp/mnt"
dirs=state_dir=$tmp/state,cache_dir=$tmp/cache
failed=0

# expect STATUS REGEX COMMAND...: exit status, and exactly one line on standard error, which matches
expect() {
	local want=$1 regex=$2 out err got
	shift 2
	out=$(timeout "${LIMIT:-60}" "$@" 2>"$tmp/err" </dev/null)
	got=$?
	err=$(cat "$tmp/err")
	if [ "$got" != "$want" ] || ! grep -Eq -- "$regex" "$tmp/err" || [ "$(wc -l <"$tmp/err")" != 1 ]; then
		printf 'FAIL %s\n  wanted %s, /%s/\n  got    %s, "%s"\n' "$*" "$want" "$regex" "$got" "$err"
		failed=1
	fi
	if grep -q topsecret "$tmp/err" || [[ $out == *topsecret* ]]; then
		echo "FAIL $*: shows the secret"
		failed=1
	fi
}

src=file://$tmp/bucket

# --- the caller's mistakes
expect 2 "unknown command 'frobnicate'" "$lsvdfs" frobnicate
expect 2 'missing arguments' "$lsvdfs" mount "$src"
expect 2 'too many arguments' "$lsvdfs" mount "$src" "$tmp/mnt" more
expect 2 'unknown option -x' "$lsvdfs" mount -x "$src" "$tmp/mnt"
expect 2 'needs an argument' "$lsvdfs" mount "$src" "$tmp/mnt" -o
expect 2 "unknown option 'bogus'" "$lsvdfs" mount "$src" "$tmp/mnt" -o ro,bogus
expect 2 "unknown option 'cache_sizes'" "$lsvdfs" mount "$src" "$tmp/mnt" -o cache_sizes=10G
expect 2 "'umask'.*'9'" "$lsvdfs" mount "$src" "$tmp/mnt" -o umask=9
expect 2 "'endpoint'" "$lsvdfs" mount s3://b "$tmp/mnt" -o endpoint=localhost
expect 2 'is no source' "$lsvdfs" mount /some/dir "$tmp/mnt"
expect 2 '.' "$lsvdfs" mount s3:// "$tmp/mnt"
expect 2 'remount' "$lsvdfs" mount "$src" "$tmp/mnt" -o remount,ro
expect 2 'expected list, save, retry or drop' "$lsvdfs" parked frob "$src"
expect 2 'is no id' "$lsvdfs" parked drop "$src" 17 -o "$dirs"
expect 2 'missing arguments' "$lsvdfs" parked save "$src" 0-1 -o "$dirs"

# --- files around it
echo a:b >"$tmp/passwd"
chmod 644 "$tmp/passwd"
expect 1 'passwd_file .*chmod 600' "$lsvdfs" mount s3://b "$tmp/mnt" -o "passwd_file=$tmp/passwd,$dirs"
expect 1 'passwd_file .*No such file' "$lsvdfs" probe s3://b -o "passwd_file=$tmp/nothing"
expect 1 'ca_file .*No such file' "$lsvdfs" probe s3://b -o "ca_file=$tmp/nothing"

# --- the directory; these need the device, since it is looked for first
if [ -e /dev/fuse ]; then
	expect 1 'no such directory' "$lsvdfs" mount "$src" "$tmp/nowhere" -o "$dirs"
	expect 1 'not a directory' "$lsvdfs" mount "$src" "$tmp/passwd" -o "$dirs"
	expect 1 'lies on the mount itself' "$lsvdfs" mount "$src" "$tmp/mnt" -o "state_dir=$tmp/mnt/s,cache_dir=$tmp/cache"
	ln -s "$tmp/mnt" "$tmp/link"
	expect 1 'link/s.*lies on the mount itself' "$lsvdfs" mount "$src" "$tmp/mnt" -o "state_dir=$tmp/link/s,cache_dir=$tmp/cache"
	expect 2 'state_dir and cache_dir must be UTF-8' "$lsvdfs" mount "$src" "$tmp/mnt" -o "state_dir=$tmp/s"$'\xe9'",cache_dir=$tmp/cache"
	mkdir "$tmp/bucket/inside"
	expect 1 'lies in the directory that it would show' "$lsvdfs" mount "$src" "$tmp/bucket/inside" -o "$dirs"
	ln -s "$tmp/bucket" "$tmp/bucket-link"
	expect 1 'lies in the directory that it would show' "$lsvdfs" mount "file://$tmp/bucket-link" "$tmp/bucket/inside" -o "$dirs"
	expect 1 'tmpfs.*async_close' "$lsvdfs" mount "$src" "$tmp/mnt" -o "state_dir=/dev/shm/t-cmd-errors,cache_dir=$tmp/cache,async_close"
	mkdir -p "$tmp/newer"
	echo 99 >"$tmp/newer/version"
	expect 1 'version 99' "$lsvdfs" mount "$src" "$tmp/mnt" -o "state_dir=$tmp/newer,cache_dir=$tmp/cache"
	expect 1 'no such bucket|No such file' "$lsvdfs" mount "file://$tmp/nobucket" "$tmp/mnt" -o "$dirs"
	LIMIT=5 expect 1 'connection refused' "$lsvdfs" mount s3://b "$tmp/mnt" -o "endpoint=http://127.0.0.1:9,$dirs"
fi

# --- the server: a port nobody listens on, a server that speaks no TLS is enough here; the rest needs a real one
expect 1 'connection refused' "$lsvdfs" probe s3://b -o endpoint=http://127.0.0.1:9
expect 1 'connection refused' "$lsvdfs" recover s3://b -o "endpoint=http://127.0.0.1:9,$dirs"
expect 1 'no such bucket|No such file' "$lsvdfs" probe "file://$tmp/nobucket"

# --- mounts that are none
expect 1 'not a mount point' "$lsvdfs" umount "$tmp/mnt"
expect 1 'not a mount point' "$lsvdfs" status "$tmp/mnt"
expect 1 'No such file' "$lsvdfs" status "$tmp/nowhere"
expect 1 'not an lsvdfs mount' "$lsvdfs" status /proc
expect 1 'no such id' "$lsvdfs" parked drop "$src" 0-1 -o "$dirs"

# --- called as helpers
ln -s "$lsvdfs" "$tmp/mount.lsvdfs"
ln -s "$lsvdfs" "$tmp/umount.fuse.lsvdfs"
expect 2 "unknown option 'bogus'" "$tmp/mount.lsvdfs" "$src" "$tmp/mnt" -n -o rw,bogus
expect 1 'not a mount point' "$tmp/umount.fuse.lsvdfs" "$tmp/mnt" -t fuse.lsvdfs
"$tmp/mount.lsvdfs" "$src" "$tmp/mnt" -s -f -n -v -o bogus,_netdev,x-systemd.automount || { echo 'FAIL fake mount'; failed=1; }

# --- help goes to standard output, and is help
for c in mount umount probe status parked recover; do
	"$lsvdfs" $c --help | grep -q "^Usage: lsvdfs $c " || { echo "FAIL $c --help"; failed=1; }
done
"$lsvdfs" --version | grep -Eq '^lsvdfs [0-9]+\.[0-9]+' || { echo 'FAIL --version'; failed=1; }

# --- no kernel support: needs a mount namespace of its own
if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
	expect 1 'no /dev/fuse.*modprobe fuse' unshare -m sh -c \
		"mount -t tmpfs none /dev && exec '$lsvdfs' mount '$src' '$tmp/mnt' -o '$dirs'"
fi

if grep -qs "$tmp" /proc/self/mounts; then
	echo 'FAIL something was mounted'
	failed=1
fi
exit $failed

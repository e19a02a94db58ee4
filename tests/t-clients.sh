# SPDX-License-Identifier: GPL-3.0-or-later
# Clients that we did not write: boto3, awscli, s3cmd, rclone and s3fs put and read what the mount sees, and the reverse.
. "$TESTS_DIR/lib.sh"
need_cmd /usr/bin/aws s3cmd rclone jq getfattr
store_start
mount_lsvdfs a
rnd 9000000 big >"$T/big"
echo hello >"$T/hello"
EP=$SERVER_ENDPOINT B=s3://$S3_BUCKET
aws=(/usr/bin/python3 /usr/bin/aws --endpoint-url "$EP")
s3c=(s3cmd "--access_key=$AWS_ACCESS_KEY_ID" "--secret_key=$AWS_SECRET_ACCESS_KEY" "--host=${EP#http://}"
	"--host-bucket=${EP#http://}" --no-ssl --region=us-east-1 -c /dev/null -q)
rc=(rclone --config /dev/null --s3-provider Ceph --s3-endpoint "$EP" --s3-access-key-id "$AWS_ACCESS_KEY_ID"
	--s3-secret-access-key "$AWS_SECRET_ACCESS_KEY" --s3-no-check-bucket)

# theirs -> the mount
"${aws[@]}" s3 cp --quiet "$T/big" "$B/aws/big"
"${aws[@]}" s3 cp --quiet --content-type text/x-test --metadata color=blue "$T/hello" "$B/aws/hello"
"${s3c[@]}" put --multipart-chunk-size-mb=5 "$T/big" "$B/s3cmd/big"
"${rc[@]}" copyto "$T/big" ":s3:$S3_BUCKET/rclone/big"
py - <<'P'
import boto3, os
s = boto3.client('s3', endpoint_url=os.environ['S3_ENDPOINT'])
s.put_object(Bucket=os.environ['S3_BUCKET'], Key='boto/ä b+c', Body=b'odd')
P
settle
for d in aws s3cmd rclone; do same "$T/big" "$T/a/$d/big"; done
eq "$(cat "$T/a/boto/ä b+c")" odd
at_most $(($(date +%s) - $(stat -c %Y "$T/a/rclone/big"))) $(($(date +%s) - $(stat -c %Y "$T/big") + 2)) "mtime that rclone stored"

# the mount -> theirs
mkdir "$T/a/out"
cp "$T/big" "$T/a/out/big"
echo '{}' >"$T/a/out/x.json"
chmod 640 "$T/a/aws/hello"
cd "$T"
umount_lsvdfs a
"${aws[@]}" s3 cp --quiet "$B/out/big" got && same big got
"${s3c[@]}" get --force "$B/out/big" got && same big got
"${rc[@]}" copyto ":s3:$S3_BUCKET/out/big" got && same big got
"${aws[@]}" s3api head-object --bucket "$S3_BUCKET" --key aws/hello >head
eq "$(jq -r '.ContentType + " " + .Metadata.color + " " + .Metadata.mode' head)" "text/x-test blue 33184" "after a chmod"
eq "$("${aws[@]}" s3api head-object --bucket "$S3_BUCKET" --key out/x.json | jq -r .ContentType)" application/json
"${aws[@]}" s3 rm --quiet "$B/aws/big"

# s3fs: the same modes, owners, times, links and xattrs, both ways
if command -v s3fs >/dev/null && [ "$(id -u)" = 0 ]; then
	(umask 077 && echo "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" >passwd)
	mkdir -p fs
	s3fs_mount() { s3fs "$S3_BUCKET" "$T/fs" -o "url=$EP,use_path_request_style,passwd_file=$T/passwd,use_xattr"; wait_for 20 mountpoint -q "$T/fs"; }
	s3fs_umount() { umount "$T/fs"; }
	make_tree() {
		mkdir -p "$1/t/sub"
		echo text >"$1/t/f" && cp "$T/big" "$1/t/sub/big"
		ln -s ../f "$1/t/sub/link"
		chmod 640 "$1/t/f" && chmod 2750 "$1/t/sub" && chown 1001:1002 "$1/t/f" "$1/t/sub/big"
		chown -h 1003:1004 "$1/t/sub/link"
		py -c 'import os,sys; os.setxattr(sys.argv[1], "user.note", b"a \0 b")' "$1/t/f"
		touch -d '2011-11-11 11:11:11.111111111' "$1/t/f" "$1/t/sub/big"
	}
	# mtime of a symlink and of a directory is left out: s3fs sets what it likes
	facts() { (cd "$1" && find . -mindepth 1 | sort | while read -r p; do
		stat -c '%n %f %u %g %s' "$p" | sed 's/^\(.* 4[0-9a-f]* .*\) [0-9]*$/\1/'
		[ -f "$p" ] && [ ! -L "$p" ] && { stat -c %.9Y "$p"; sha256sum <"$p"; { getfattr --only-values -n user.note "$p" 2>/dev/null || true; } | od -An -tx1; }
		[ -L "$p" ] && readlink "$p"
	done; true); }
	s3fs_mount
	make_tree fs
	facts fs/t >want
	s3fs_umount
	mount_lsvdfs a
	facts a/t >got
	diff want got || fail "a tree that s3fs wrote"
	rm -r a/t
	make_tree a
	facts a/t >want
	umount_lsvdfs a
	s3fs_mount
	facts fs/t >got
	diff want got || fail "a tree that s3fs reads"
	s3fs_umount
else
	note "s3fs not tried"
fi
finish

# SPDX-License-Identifier: GPL-3.0-or-later
# Another S3 client works in the same bucket: what it makes, replaces and removes is seen here, and what it never said
# (modes, markers, odd keys) has sensible answers.
. "$TESTS_DIR/lib.sh"
store_start
echo one >"$T/1"
obj_put dir/sub/one "$T/1"
obj_put top "$T/1"
mount_lsvdfs a
cd "$T/a"
eq "$(cat dir/sub/one)" one "an object that was there before"
eq "$(stat -c '%a %u' top)" "644 $(id -u)" "defaults"
eq "$(stat -c '%a %F' dir)" "755 directory" "a directory without a marker"
eq "$(find . -type f | sort | tr '\n' ' ')" "./dir/sub/one ./top "
# replaced: the next open sees it; listed: within attr_timeout
echo two, longer >"$T/2"
obj_put top "$T/2"
eq "$(cat top)" "two, longer" "a replaced object"
echo ONE >"$T/3"
obj_put dir/sub/one "$T/3"
eq "$(cat dir/sub/one)" ONE "replaced, of the same size"
obj_put dir/sub/new "$T/1"
wait_for 3 test -e dir/sub/new
eq "$(cat dir/sub/new)" one
obj_delete dir/sub/new
must_fail 'No such' cat dir/sub/new
gone() { ! [ -e dir/sub/new ]; }
wait_for 3 gone
obj_put fresh/x/y "$T/1"
wait_for 3 test -d fresh/x
eq "$(cat fresh/x/y)" one
obj_delete fresh/x/y
# our own changes are what the others get
echo ours >mine
eq "$(obj_get mine)" ours
chmod 640 dir/sub/one
eq "$(cat dir/sub/one)" ONE
mv top moved
if [ "$BACKEND" != file ]; then
	wait_for 5 s3 head moved
	eq "$(s3 head top || true)" "404 - "
	# user metadata and system headers survive a chmod and a rename
	s3 put hdr "$T/1" Content-Type:image/png Cache-Control:no-store x-amz-meta-color:red x-amz-meta-mode:33188 >/dev/null
	wait_for 3 test -e hdr
	chmod 600 hdr
	mv hdr hdr2
	cd ..
	umount_lsvdfs a
	s3 req HEAD /lsvd/hdr2 >"$T/h"
	grep -qi '^content-type: image/png' "$T/h"
	grep -qi '^cache-control: no-store' "$T/h"
	grep -qi '^x-amz-meta-color: red' "$T/h"
	grep -qi '^x-amz-meta-mode: 33152' "$T/h"
	# keys that no path can name are hidden; a file beside a directory of its name is shown
	for k in a//b ../up ./dot dir/. 'x/../y' "$(printf %300s | tr ' ' n)"; do s3 req PUT "/lsvd/$(py -c 'import sys,urllib.parse; print(urllib.parse.quote(sys.argv[1]))' "$k")" "$T/1" >/dev/null; done
	s3 put both "$T/1" >/dev/null
	s3 put both/inner "$T/1" >/dev/null
	mount_lsvdfs a
	cd a
	eq "$(cat both/inner)" one
	eq "$(cat both~object)" one "the object beside a directory of its name"
	eq "$(ls | tr '\n' ' ')" "a both both~object dir hdr2 mine moved x " "names at the top"
	at_least "$(cd .. && status a tree.hidden_keys)" 3 "hidden keys"
	# types by extension
	echo '<p>' >page.html
	eq "$(s3 meta page.html | grep ^content-type)" "content-type: text/html"
	echo x >data.unknownext
	eq "$(s3 meta data.unknownext | grep -c '^x-amz-meta-mode: 33188')" 1 "mode in decimal, s3fs' way"
fi
cd "$T"
finish

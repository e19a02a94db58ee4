# SPDX-License-Identifier: GPL-3.0-or-later
# What each operation costs in requests: the golden table. Through the front, on RGW as it is and in AWS mode.
. "$TESTS_DIR/lib.sh"
need_backend front aws
store_start
N=${N:-600}
rnd 65536 f >"$T/64k"
s3 put there "$T/64k" >/dev/null
DIRS=$((N / 20)) # of 40 files
s3 fill many/ $((DIRS * 40)) 8192 $DIRS
sleep 3.2 # what is learnt within 2 s of its LastModified is asked for once more; a Date may be a second old
mount_lsvdfs a attr_timeout=60
# settled: everything that the mount had to ask is asked, what waits is sent
quiet() { [ "$(status a metadata.waiting)" = 0 ] && [ "$(status a spool.dirty_bytes)" = 0 ]; }
# costs WHAT MOST: of the requests since front_reset
costs() {
	local all
	wait_for 10 quiet
	all=$(front_counts)
	note "$1: $(front_count total) (at most $2): $all"
	[ "$(front_count total)" -le "$2" ] || fail "$1 costs '$all', at most $2 requests (from line ${BASH_LINENO[0]})"
	front_reset
}
ls -la "$T/a" >/dev/null
front_reset
# not by the shell's >, which closes a copy of the descriptor before it writes
py -c 'import sys; open(sys.argv[1], "w").write("hello")' "$T/a/new"
costs "create, write, close" 1
cat "$T/a/there" | cmp - "$T/64k"
costs "open and read 64 KiB" 1
closed() { [ "$(status a fs.handles)" = 0 ]; }
wait_for 10 closed # RELEASE comes behind close(2); before it the kernel may still drop pages
cat "$T/a/there" | cmp - "$T/64k"
eq "$(front_count 304)" 1 "the second read is answered by 304"
costs "open and read it again" 1
ls -l "$T/a" >/dev/null # the directory was listed just before, as the table of requests says
front_reset
chmod 600 "$T/a/there"
costs "chmod" 2
sleep 1.1
ls -l "$T/a" >/dev/null
front_reset
chmod 640 "$T/a/new"
py -c 'import os,sys; os.utime(sys.argv[1], (0, 0))' "$T/a/new" # touch(1) would open it
costs "chmod and utimens together" 2
py -c 'import os,sys; os.rename(*sys.argv[1:])' "$T/a/new" "$T/a/newer"
costs "rename of a small file" "$([ "$BACKEND" = aws ] && echo 2 || echo 3)"
# mv(1) asks for NOREPLACE: where COPY takes no condition the bytes go over by a conditional PUT
mv "$T/a/newer" "$T/a/newest"
costs "rename without replacing" "$([ "$BACKEND" = aws ] && echo 2 || echo 4)"
mv "$T/a/newest" "$T/a/newer"
py -c 'import sys; open(sys.argv[1], "w").write("over")' "$T/a/over"
wait_for 10 quiet
front_reset
py -c 'import os,sys; os.rename(*sys.argv[1:])' "$T/a/over" "$T/a/newer"
costs "rename onto a small file" "$([ "$BACKEND" = aws ] && echo 2 || echo 4)"
rm "$T/a/newer"
costs "unlink" "$([ "$BACKEND" = aws ] && echo 1 || echo 2)"
echo x >"$T/src"
sleep 1.1
rsync -a "$T/src" "$T/a/synced"
costs "rsync of a new file" "$([ "$BACKEND" = aws ] && echo 3 || echo 4)"
mkdir "$T/a/dir"
costs "mkdir" 2
# many files into one directory
mkdir "$T/tree"
for i in $(seq "$N"); do echo "$i" >"$T/tree/f$i"; done
tar -C "$T/tree" -cf "$T/tree.tar" .
mkdir "$T/a/tree"
wait_for 10 quiet
front_reset
tar -C "$T/a/tree" --no-overwrite-dir -xf "$T/tree.tar"
costs "tar x of $N files" $((N * 105 / 100 + 2))
stat "$T/a" >/dev/null # the root's own metadata is asked for every 30 s, and this may be the time
front_reset
eq "$(ls -l "$T/a/tree" | wc -l)" $((N + 1))
eq "$(front_count HEAD)" 0 "HEADs of ls -l"
costs "ls -l of what was just written" $((N / 1000 + 1))
# first look at what another client put
stat "$T/a" >/dev/null
front_reset
eq "$(find "$T/a/many" -type f | wc -l)" $((DIRS * 40))
eq "$(front_count HEAD)" 0 "HEADs of a find"
costs "find over $DIRS directories of another client" $((DIRS + 3))
# nobody does anything
front_reset
sleep 3
eq "$(front_count total)" 0 "requests of an idle mount"
finish

# SPDX-License-Identifier: GPL-3.0-or-later
# Programs people use: git, tar, rsync, cp -a, make, sqlite3, editors that save by rename; remounted elsewhere, all equal.
. "$TESTS_DIR/lib.sh"
need_cmd git rsync sqlite3 tar make gcc
store_start
mount_lsvdfs a
cd "$T"
export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.org GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.org
# git: a repository of our own making, cloned, committed to, checked
git init -q -b main repo
cp "$TESTS_DIR"/*.sh repo/
(cd repo && for i in 1 2 3; do echo "$i" >n && git add -A && git commit -qm "c$i"; done)
git clone -q --no-hardlinks repo a/clone
git -C a/clone fsck --full --strict
echo more >a/clone/more
git -C a/clone add -A
git -C a/clone commit -qm more
git -C a/clone gc -q
git -C a/clone fsck --full
eq "$(git -C a/clone status --porcelain)" ""
# a tree by tar, again by rsync and cp -a; nothing is copied twice
src=/usr/include/linux
[ -d $src ] || src=/usr/share/perl
mkdir want
cp -a $src/. want/
tar -C want -cf - . | (mkdir a/tar && tar -C a/tar -xpf -)
tree_facts want >facts.want
tree_facts a/tar >facts.got
diff facts.want facts.got
rsync -a want/ a/rsync/
rsync -a --itemize-changes --omit-dir-times want/ a/rsync/ >again
eq "$(grep -cv '^\.d' again || true)" 0 "what a second rsync copied: $(head -n 2 again)"
rsync -a a/rsync/ back/
tree_facts back >facts.got
diff facts.want facts.got
# make, twice: the second has nothing to do
mkdir a/proj
printf '#include <stdio.h>\nint main(void) { puts("built"); return 0; }\n' >a/proj/m.c
printf 'm: m.o\n\tgcc -o m m.o\nm.o: m.c\n\tgcc -c m.c\n' >a/proj/Makefile
make -s -C a/proj
eq "$(a/proj/m)" built
make -q -C a/proj
# sqlite3
sqlite3 a/db.sqlite "CREATE TABLE t(i INTEGER PRIMARY KEY, x); BEGIN; WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<3000) INSERT INTO t SELECT i, hex(randomblob(40)) FROM c; COMMIT; UPDATE t SET x='u' WHERE i%7=0; DELETE FROM t WHERE i%11=0;"
eq "$(sqlite3 a/db.sqlite 'PRAGMA integrity_check; SELECT count(*) FROM t')" "ok
2728"
# save by rename with a backup, as vim does
for i in 1 2 3; do
	[ ! -e a/text ] || mv a/text a/text~
	echo "version $i" >a/text
	sync -f a/text 2>/dev/null || true
	rm -f a/text~
done
eq "$(cat a/text)" "version 3"
find a -name '*.o' -delete
tree_facts a >before
remount_fresh a
tree_facts a >after
diff before after
git -C a/clone fsck --full
eq "$(sqlite3 a/db.sqlite 'PRAGMA integrity_check')" ok
rm -rf a/clone a/tar a/rsync
eq "$(ls a | tr '\n' ' ')" "db.sqlite proj text "
finish

# SPDX-License-Identifier: GPL-3.0-or-later
# The attribute database is a cache: deleted or garbled under a stopped daemon it changes nothing but speed; garbled under a
# running one it is noticed and rebuilt, and no answer is wrong.
. "$TESTS_DIR/lib.sh"
store_start
mount_lsvdfs a
cd "$T/a"
for i in $(seq 40); do mkdir -p d$((i % 4)) && echo "$i" >d$((i % 4))/f$i && chmod 6$((i % 8))4 d$((i % 4))/f$i; done
ln -s d1 link
cd "$T"
umount_lsvdfs a
mount_lsvdfs a
tree_facts a >want
db() { find "$T/a.cache" -type f \( -name '*.db' -o -name '*.sqlite*' -o -name 'attr*' \) ! -name '*-wal' ! -name '*-shm'; }
db_all() { find "$T/a.cache" -type f -name 'attr.db*'; }
[ -n "$(db)" ] || fail "no database in $(find a.cache)"
same_tree() { tree_facts a >got; diff want got; }
again() { mount_lsvdfs a; same_tree; umount_lsvdfs a; }
umount_lsvdfs a
rm -rf a.cache; again
for f in $(db); do : >"$f"; done; again
for f in $(db); do head -c 30000 /dev/urandom >"$f"; done; again
# pages in the middle
for f in $(db); do
	s=$(stat -c %s "$f")
	for o in $(seq 4096 4096 $((s - 1))); do head -c 2000 /dev/urandom | dd of="$f" bs=1 seek=$((o + 100)) conv=notrunc status=none; done
done
again
for f in $(db); do truncate -s $(($(stat -c %s "$f") / 2)) "$f"; done; again
for f in $(db_all); do chmod 600 "$f"; echo garbage >"$f"; done; again
# a newer schema than ours
for f in $(db); do sqlite3 "$f" 'PRAGMA user_version=9999' || true; done; again
# under a running daemon
mount_lsvdfs a
same_tree
for f in $(db_all); do
	s=$(stat -c %s "$f")
	[ "$s" = 0 ] || head -c "$s" /dev/urandom | dd of="$f" bs=64k conv=notrunc status=none
done
sleep 1.2
same_tree
echo new >a/d1/new
eq "$(cat a/d1/new)" new
rm a/d1/new
kill9_daemon a
mount_lsvdfs a
same_tree
for f in $(db_all); do rm -f "$f"; done
sleep 1.2
same_tree
finish

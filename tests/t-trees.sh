# SPDX-License-Identifier: GPL-3.0-or-later
# Trees of real files by the programs people use: git, tar, rsync, cp -a, make, vim, sqlite3. Then mounted elsewhere, with
# nothing but the bucket: equal in content, mode, owner, times to the nanosecond (of directories too), links and xattrs;
# make has nothing to do, rsync nothing to copy. N files (120; soak: 10000) for each of tar, rsync and cp.
. "$TESTS_DIR/lib.sh"
need_cmd git rsync sqlite3 tar make gcc vim
store_start
mount_lsvdfs a
cd "$T"
export N=${N:-120} GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.org GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.org
since=$EPOCHREALTIME
took() { note "$1: $(py -c 'import sys; print(round(float(sys.argv[2]) - float(sys.argv[1]), 1))' "$since" "$EPOCHREALTIME") s"; since=$EPOCHREALTIME; }

# N real files with their directories and symlinks, taken evenly from what is installed; some with odd facts
py - want <<'P'
import os, random, shutil, sys
r, n, root = random.Random(int(os.environ['SEED'])), int(os.environ['N']), os.geteuid() == 0
found = []
for top in ('/usr/include', '/usr/share/doc', '/usr/lib/python3', '/usr/lib/python3.11', '/usr/share/perl', '/usr/share/zoneinfo'):
    for d, ds, fs in os.walk(top):
        ds.sort(); found += [os.path.join(d, x) for x in sorted(fs) + [x for x in ds if os.path.islink(os.path.join(d, x))]]
found = [p for p in found if os.path.islink(p) or os.path.isfile(p) and os.path.getsize(p) < 4 << 20 and os.access(p, os.R_OK)]
assert len(found) >= n, f'only {len(found)} files here'
step = len(found) / n
want = sys.argv[1]; made = []
for p in dict.fromkeys(found[int(k * step)] for k in range(n)):
    q = want + p; os.makedirs(os.path.dirname(q), exist_ok=True)
    shutil.copy2(p, q, follow_symlinks=False); made.append(q)
    if root: s = os.lstat(p); os.chown(q, s.st_uid, s.st_gid, follow_symlinks=False)
    if os.path.islink(q): continue
    k = r.randrange(12)
    if k == 0: os.setxattr(q, 'user.note', r.randbytes(r.randrange(60))); os.setxattr(q, 'user.ü', b'1')
    if k == 1 and root: os.chown(q, r.randrange(70000), r.randrange(70000))
    if k == 2: os.chmod(q, r.choice([0o600, 0o751, 0o4755, 0o2750, 0o444, 0]))
    if k > 6: os.utime(q, ns=(r.randrange(2 * 10**18),) * 2)
dirs = [d for d, _, _ in os.walk(want, topdown=False)]
for d in dirs:
    if r.random() < 0.2: os.chmod(d, r.choice([0o700, 0o1777, 0o2755]))
    if r.random() < 0.2: os.setxattr(d, 'user.dir', b'yes')
    os.utime(d, ns=(r.randrange(2 * 10**18),) * 2)
print(f'# {len(made)} files, {sum(map(os.path.islink, made))} of them symlinks, {len(dirs)} directories,'
      f' {sum(os.lstat(p).st_size for p in made) >> 20} MiB')
P
tree_facts want dirtimes >facts.want
took "the tree on the local disk"
same_tree() { # DIR WHAT
	tree_facts "$1" dirtimes >facts.got
	diff facts.want facts.got >facts.diff || fail "$2: $(wc -l <facts.diff) lines differ: $(head -n 6 facts.diff)"
}
not_again() { # FROM TO WHAT
	rsync -aX --delete --itemize-changes "$1/" "$2/" >again
	eq "$(wc -l <again)" 0 "$3, copied again: $(head -n 3 again)"
}
mkdir a/tar
tar -C want --xattrs -cf - . | tar -C a/tar --xattrs --warning=no-timestamp -xpf -
took "tar x"
rsync -aX want/ a/rsync/
took "rsync there"
not_again want a/rsync "rsync there"
took "rsync there again"
rsync -aX a/rsync/ back/
took "rsync back"
not_again a/rsync back "rsync back"
same_tree back "rsync there and back"
cp -a want a/cp
took "cp -a"
for d in tar rsync cp; do same_tree a/$d "$d"; done
took "comparing"

# the project's own repository (a release has none: then one is made of its files)
repo=$top_srcdir
if ! git -C "$repo" rev-parse --git-dir >/dev/null 2>&1; then
	repo=$T/repo
	git init -q -b main repo
	cp -a "$TESTS_DIR" "$repo/tests"
	git -C repo add -A
	git -C repo commit -qm files
fi
# a few rounds: its last commit; else all of it
if [ "$N" -lt 1000 ]; then git clone -q --depth 1 "file://$repo" a/clone; else git clone -q --no-hardlinks "$repo" a/clone; fi
git -C a/clone fsck --no-dangling --full --strict
echo more >a/clone/more
git -C a/clone add -A
git -C a/clone commit -qm more
git -C a/clone gc -q
git -C a/clone fsck --no-dangling --full
eq "$(git -C a/clone status --porcelain)" "" "git status"
head=$(git -C a/clone rev-parse HEAD)
took "git clone, commit, gc, fsck"

# make: libbase of this project, with dependencies; times decide what is built
mkdir a/proj
cp "$top_srcdir"/objstore/base/*.[ch] "$top_builddir/config.h" a/proj/
cat >a/proj/Makefile <<'M'
O = $(patsubst %.c,%.o,$(wildcard *.c))
libbase.a: $(O)
	rm -f $@; ar cr $@ $(O)
%.o: %.c
	gcc -std=gnu11 -D_GNU_SOURCE -I. -Iinc -MMD -c $<
-include $(O:.o=.d)
M
mkdir -p a/proj/inc/objstore/base
cp a/proj/*.h a/proj/inc/objstore/base/
make -s -C a/proj
make -q -C a/proj
sleep 0.02 # a time that differs
touch a/proj/crc32c.c
must_fail 'gcc .* crc32c.c' sh -c "make -C '$T/a/proj'; false"
make -q -C a/proj
took "make"

# vim, by rename and by copy, with a backup
printf 'one\ntwo\n' >a/text
chmod 640 a/text
for how in no yes; do
	vim -es -N -u NONE -i NONE -c "set nomodeline backup writebackup backupskip= backupcopy=$how" -c '%s/^/x/' -c wq a/text </dev/null
done
eq "$(tr '\n' ' ' <a/text)" "xxone xxtwo "
eq "$(tr '\n' ' ' <a/text~)" "xone xtwo "
eq "$(stat -c %a a/text)" 640 "mode of a file that vim saved"

# sqlite3
rows=$((N < 1000 ? 500 : 20000))
for mode in delete truncate persist wal; do
	sqlite3 "a/$mode.db" "PRAGMA journal_mode=$mode; CREATE TABLE t(i INTEGER PRIMARY KEY, x);" >/dev/null
	for k in 1 2 3; do
		sqlite3 "a/$mode.db" "BEGIN; WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<$rows)
			INSERT INTO t SELECT i * 3 + $k, hex(randomblob(40)) FROM c; COMMIT;
			UPDATE t SET x='u' WHERE i%7=0; DELETE FROM t WHERE i%11=$k;
			BEGIN; DELETE FROM t; ROLLBACK;"
	done
	eq "$(sqlite3 "a/$mode.db" 'PRAGMA integrity_check')" ok "$mode"
	sqlite3 "a/$mode.db" 'SELECT count(*), sum(i), sum(length(x)) FROM t' >"sum.$mode"
done
took "vim, sqlite3"

# elsewhere: nothing but the bucket
tree_facts a >before
remount_fresh a
took "remounting elsewhere"
tree_facts a >after
diff before after >facts.diff || fail "elsewhere: $(wc -l <facts.diff) lines differ: $(head -n 6 facts.diff)"
for d in tar rsync cp; do same_tree a/$d "elsewhere, $d"; done
took "comparing elsewhere"
not_again want a/rsync "rsync elsewhere"
git -C a/clone fsck --no-dangling --full --strict
eq "$(git -C a/clone status --porcelain)" "" "git status elsewhere"
eq "$(git -C a/clone rev-parse HEAD)" "$head"
make -q -C a/proj
for mode in delete truncate persist wal; do
	eq "$(sqlite3 "a/$mode.db" 'PRAGMA integrity_check')" ok "$mode elsewhere"
	same "sum.$mode" <(sqlite3 "a/$mode.db" 'SELECT count(*), sum(i), sum(length(x)) FROM t')
done
took "rsync, git, make, sqlite3 elsewhere"
rm -rf a/clone a/tar a/rsync a/cp a/proj
took "rm -rf"
eq "$(status a spool.parked)" 0 parked
finish

# SPDX-License-Identifier: GPL-3.0-or-later
# A tree written here is the same tree on a machine that has never seen it: contents, modes, owners, ns times, links, xattrs.
. "$TESTS_DIR/lib.sh"
store_start
mount_lsvdfs a
mkdir "$T/tree"
cd "$T/tree"
py - <<'P'
import os, random
r = random.Random(int(os.environ['SEED']))
root = os.geteuid() == 0
for i in range(120):
    d = '/'.join(r.choice(['a', 'b b', 'ä', 'c.d']) for _ in range(r.randrange(3))) or '.'
    os.makedirs(d, exist_ok=True); p = f'{d}/n{i}'
    k = r.randrange(10)
    if k == 0: os.symlink(f'../x {i}', p)
    elif k == 1: os.mkfifo(p)
    elif k == 2 and root: os.mknod(p, 0o20644, os.makedev(r.randrange(200), r.randrange(200)))
    else:
        with open(p, 'wb') as f: f.write(r.randbytes(r.choice([0, 1, 100, 5000, 70000])))
        if k == 3: os.setxattr(p, 'user.note', r.randbytes(30)); os.setxattr(p, 'user.ü', b'1')
    if root: os.lchown(p, r.randrange(3000), r.randrange(3000))
    if not os.path.islink(p): os.chmod(p, r.choice([0o644, 0o600, 0o755, 0o4711, 0o2640]))
    os.utime(p, ns=(r.randrange(10**18), r.randrange(10**18)), follow_symlinks=False)
for d, _, _ in os.walk('.'):
    if d != '.': os.chmod(d, r.choice([0o755, 0o700, 0o1777, 0o2755]))
P
cd "$T"
tree_facts tree >want
cp -a tree/. a/
tree_facts a >got
diff want got
remount_fresh a
tree_facts a >got
diff want got
# the kernel's caches dropped: from the bucket again
umount_lsvdfs a
mount_lsvdfs a
tree_facts a >got
diff want got
# nothing is copied a second time
rsync -a --delete --itemize-changes --omit-dir-times tree/ a/ >changes
eq "$(grep -cv '^\.d' changes || true)" 0 "what rsync copied again: $(head -n 3 changes)"
# a later mount knows the store as well as the first did: it replaces what it finds
echo 1 >a/again
umount_lsvdfs a
mount_lsvdfs a
echo 2 >a/again
chmod 600 a/again
eq "$(cat a/again)" 2
eq "$(status a spool.parked)" 0 parked
rm a/again
# read only
umount_lsvdfs a
mount_lsvdfs a ro
must_fail 'Read-only' touch a/new
must_fail 'Read-only' rm -r a/a
tree_facts a >got
diff want got
finish

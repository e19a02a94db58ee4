# SPDX-License-Identifier: GPL-3.0-or-later
# t-lint.sh - the tree keeps the rules of tests/lint; and lint sees what breaks each of them.
. "$TESTS_DIR/lib.sh"
need_cmd /usr/bin/python3
cd "$TESTS_DIR/.."
"$TESTS_DIR/lint"

mkdir "$T/tree"
cp -R Makefile.am fs meta objstore contrib tests "$T/tree"
chmod -R u+w "$T/tree"
cd "$T/tree"
add() { # FILE LINE MESSAGE: with LINE at its end, lint should say MESSAGE
	printf '%s\n' "$2" >>"$1"
	printf '%s\n' "$1:[0-9]*: $3" >>"$T/want"
}
add objstore/base/str.c '#include "objstore/objstore.h"' 'objstore/base may not include objstore/objstore.h'
add objstore/mem.c '#include "meta/tree.h"' 'objstore may not include meta/tree.h'
add meta/path.c '#include "objstore/s3xml.h"' 'meta may not include objstore/s3xml.h'
add meta/attr.c '#include "../fs/fsd.h"' 'meta may not include fs/fsd.h'
add fs/image/map.c '#include "meta/path.h"' 'fs/image may not include meta/path.h'
add fs/dir.c '#include "fs/image/map.h"' 'fs may not include fs/image/map.h'
add fs/async.c '#include "meta/attrdb.h"' 'meta/attrdb.h is private to meta'
add fs/change.c '#include <sqlite3.h>' '<sqlite3.h> belongs to meta/attrdb.c'
add fs/file.c '#include "none.h"' '"none.h" does not exist'
add fs/inode.c 'void f(void) { strcpy(a, "strcat("); /* sprintf( */ }' 'strcpy() is banned'
add fs/open.c 'int i; // one' 'a // comment'
add fs/slot.c 'void f(void) { usleep(1); }' 'usleep(): clock.c is the file that sleeps'
add fs/slot.h 'typedef struct x x_t;' 'a typedef of a struct, union or enum'
add fs/spool.h '/* XXX */' 'XXX: an issue, or nothing'
add fs/ranges.c "$(printf '/* */\n%.0s' {1..900})" '[0-9]* lines, more than 900'
add fs/new.c 'int i;' 'line 1 is not the licence'
echo 'fs/new.c:2: no words on what this file is' >>"$T/want"
echo 'fs/new.c:1: no makefile names it.*' >>"$T/want"
add tests/t-new.sh 'true' 'the licence is not in its first lines'
echo 'tests/t-new.sh:1: no makefile names it.*' >>"$T/want"
add Makefile.am 'X = fs/none.c' 'fs/none.c does not exist'
sed -i 's/"endpoint", "URL"/"endpoints", "URL"/; s/{"nomand"/{"nomandate"/' fs/options.c
echo 'fs/options.c:1: mount.lsvdfs(8) has no item for endpoints' >>"$T/want"
echo 'fs/options.c:1: mount.lsvdfs(8) does not name nomandate' >>"$T/want"
echo 'fs/mount.lsvdfs.pod:[0-9]*: there is no option endpoint' >>"$T/want"
must_fail complaints tests/lint
tests/lint >"$T/got" || true
while read -r line; do
	eq "$(grep -cx -- "$line" "$T/got" || true)" 1 "times that lint says '$line'"
done <"$T/want"
eq "$(tail -n 1 "$T/got")" "$(wc -l <"$T/want") complaints"
finish

# SPDX-License-Identifier: GPL-3.0-or-later
# Random operations on one file against a model, small and past the multipart limit. FSX_OPS operations (1500; soak: 100000).
. "$TESTS_DIR/lib.sh"
FSX_OPS=${FSX_OPS:-1500}
fsx=$top_builddir/tests/fsx
[ -x "$fsx" ] || skip "$fsx is not built"
store_start
mount_lsvdfs a part_size=5M
"$fsx" -n "$FSX_OPS" -s "$SEED" -l 300000 -r 40 "$T/a/small"
"$fsx" -n $((FSX_OPS / 8)) -s $((SEED + 1)) -l 14000000 -r 12 "$T/a/large"
cp "$T/a/small" "$T/s"
cp "$T/a/large" "$T/l"
remount_fresh a
same "$T/s" "$T/a/small"
same "$T/l" "$T/a/large"
finish

# SPDX-License-Identifier: GPL-3.0-or-later
# The conformance test of stores (tests/unit-store) on a real server; no mount in between.
. "$TESTS_DIR/lib.sh"
store_start
[ -x "$top_builddir/tests/unit-store" ] || skip "unit-store is not built"
export LSVD_TEST_S3=s3://$S3_BUCKET LSVD_TEST_S3_ENDPOINT=$S3_ENDPOINT
"$top_builddir/tests/unit-store" >"$T/store.log" 2>&1 || fail "$(grep -E 'ERROR|LINE|FAILED' "$T/store.log")"
finish

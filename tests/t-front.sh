# SPDX-License-Identifier: GPL-3.0-or-later
# The S3 front itself: what it counts, what it breaks, and that AWS mode answers as AWS.
BACKEND=front
. "$TESTS_DIR/lib.sh"
store_start
cd "$T"
echo hi >hi
rnd 12000000 big >big

# counts and faults
front_reset
eq "$(s3 put a hi)" "200 - 764efa883dda1e11db47671c4a3bbd9e"
eq "$(s3 get a)" hi
eq "$(front_counts)" "GET=1 PUT=1"
front_ctl rule r act=status status=503 op=GET exact=a every=2
s3 get a >/dev/null
eq "$(s3 get a || true)" "503 SlowDown "
s3 get a >/dev/null
eq "$(front_ctl hits r)" 1 hits
front_ctl rule r act=lost op=PUT count=1
eq "$(s3 put lost hi || true)" "0 ConnectionResetError "
eq "$(s3 get lost)" hi "a lost reply's effect"
front_ctl rule r act=reset op=PUT count=1
eq "$(s3 put never hi || true)" "0 ConnectionResetError "
eq "$(s3 head never || true)" "404 - "
s3 put big big >/dev/null
front_ctl rule r act=cut op=GET
eq "$(s3 get big || true)" "0 IncompleteRead "
front_ctl rule r act=flip op=GET
s3 get big >got
eq "$( (cmp -l big got || true) | wc -l)" 1 "flipped bytes"
front_ctl rule r act=body-error op=COPY
eq "$(s3 req PUT /lsvd/copy x-amz-copy-source:/lsvd/a | sed -n 1p)" "200 InternalError "
eq "$(s3 head copy || true)" "404 - "
front_ctl rule r act=body-error-after op=COPY
eq "$(s3 req PUT /lsvd/copy x-amz-copy-source:/lsvd/a | sed -n 1p)" "200 InternalError "
s3 head copy >/dev/null
front_ctl rule r act=status-after status=500 op=DELETE
eq "$(s3 delete copy || true)" "500 InternalError "
eq "$(s3 head copy || true)" "404 - "
front_ctl rule r act=etag op=PUT
eq "$(s3 put a hi)" "200 - 064efa883dda1e11db47671c4a3bbd9e"
front_ctl rule r act=hold-after op=PUT
s3 put held hi >held.out &
front_ctl wait r 1 10000
s3 head held >/dev/null
[ ! -s held.out ]
front_ctl release r
wait $!
front_ctl rule r act=twice op=PUT
eq "$(s3 put twice hi)" "200 - 764efa883dda1e11db47671c4a3bbd9e"
front_ctl wait r 1 10000
s3 delete twice >/dev/null
eq "$(s3 head twice || true)" "404 - "
front_ctl release r
wait_for 10 s3 head twice
eq "$(s3 get twice)" hi "a request that took effect again"
front_ctl clear
front_ctl refuse 1
eq "$(s3 head a || true)" "0 ConnectionRefusedError "
front_ctl refuse 0
s3 head a >/dev/null
front_ctl latency 200
start=$(date +%s%N)
s3 head a >/dev/null
at_least $((($(date +%s%N) - start) / 1000000)) 200 "ms with latency"
front_ctl clear
front_ctl bw 12000000
start=$(date +%s%N)
s3 get big >/dev/null
at_least $((($(date +%s%N) - start) / 1000000)) 900 "ms with a bandwidth of 1 s for the body"
front_ctl clear

# AWS mode
front_ctl aws 1
e=$(s3 head a | cut -d' ' -f3)
eq "$(s3 put a hi "If-Match:\"$e\"")" "200 - $e"
eq "$(s3 put a hi 'If-Match:"0123"' || true)" "412 PreconditionFailed "
eq "$(s3 put none hi 'If-Match:"0123"' || true)" "404 NoSuchKey "
eq "$(s3 put a hi 'If-None-Match:*' || true)" "412 PreconditionFailed "
eq "$(s3 delete a 'If-Match:"0123"' || true)" "412 PreconditionFailed "
eq "$(s3 copy a b 'x-amz-copy-source-if-match:"0123"' || true)" "412 PreconditionFailed "
eq "$(s3 copy a b 'If-None-Match:*')" "200 - $e"
eq "$(s3 copy a b 'If-None-Match:*' || true)" "412 PreconditionFailed "
eq "$(s3 mpu b big 6000000 'If-None-Match:*' || true)" "412 PreconditionFailed "
eq "$(AWS_SECRET_ACCESS_KEY=x s3 put c hi 'If-None-Match:*' || true)" "403 SignatureDoesNotMatch "
eq "$(s3 put c hi "x-amz-meta-a:$(printf %2100s | tr ' ' x)" || true)" "400 MetadataTooLarge "
eq "$(s3 req POST '/lsvd?delete=' hi | sed -n 1p)" "400 InvalidRequest "
# a winner among many
for i in $(seq 12); do { s3 put race hi "If-None-Match:*" || true; } >race.$i & done
wait $(jobs -p | grep -vx "$FRONT_PID") || true
eq "$(cat race.* | grep -c '^200')" 1 "winners"
eq "$(cat race.* | grep -cE '^(412|409)')" 11 "losers"
# multipart: time of its beginning, an etag that a copy does not keep; whole seconds
front_ctl rule r act=delay op=COMPLETE ms=1500
before=$(date +%s)
m=$(s3 mpu multi big 6000000 | cut -d' ' -f3)
front_ctl clear
eq "$(s3 list | awk -F'\t' '$4 !~ /\.000Z$/' | wc -l)" 0 "times with fractions"
at_most $(($(date -d "$(s3 list multi | cut -f4)" +%s) - before)) 1 "LastModified of a multipart object, after its beginning"
eq "$(s3 head multi)" "200 - $m"
c=$(s3 copy multi multi x-amz-metadata-directive:REPLACE x-amz-meta-a:b | cut -d' ' -f3)
[ "$c" != "$m" ] || fail "the copy of a multipart object kept its etag"
eq "$(s3 head multi)" "200 - $c"
eq "$(s3 list multi | cut -f3)" "$c"
eq "$(s3 get multi "If-Match:\"$m\"" || true)" "412 PreconditionFailed "
s3 get multi "If-Match:\"$c\"" | cmp - big
front_ctl equal_parts 1
eq "$(s3 mpu r2 big 6000000,5500000,5242880 || true)" "400 InvalidPart "
s3 mpu r2 big 5500000 >/dev/null
# KMS: no etag is an MD5, all views agree
front_ctl kms 1
k=$(s3 put k hi | cut -d' ' -f3)
[ "$k" != "$e" ] || fail "an MD5 under kms"
eq "$(s3 head k)" "200 - $k"
eq "$(s3 list k | cut -f3)" "$k"
eq "$(s3 get k "If-None-Match:\"$k\"")" "304 - $k"
eq "$(s3 put k hi "If-Match:\"$e\"" || true)" "412 PreconditionFailed "
k2=$(s3 copy k k x-amz-metadata-directive:REPLACE x-amz-meta-a:b | cut -d' ' -f3)
[ "$k2" != "$k" ] || fail "a KMS self-copy kept its etag"
eq "$(s3 get k "If-Match:\"$k\"" || true)" "412 PreconditionFailed "
eq "$(s3 get k "If-Match:\"$k2\"")" hi
finish

# SPDX-License-Identifier: GPL-3.0-or-later
# The world's errors as a user meets them, and TLS: each ends in one line that names the thing and what to do, soon. And a
# mount over TLS works, also while some handshakes are cut.
. "$TESTS_DIR/lib.sh"
need_backend front
need_cmd openssl
store_start
mkdir "$T/m"
dirs=state_dir=$T/st,cache_dir=$T/ca

# says PATTERN COMMAND...: it fails within 5 s, with one line on standard error
says() {
	local pat=$1 start rc=0
	shift
	start=$(date +%s%N)
	timeout 60 "$@" >"$T/said.out" 2>"$T/said" </dev/null || rc=$?
	eq $rc 1 "status of $* ($(cat "$T/said"))"
	at_most $((($(date +%s%N) - start) / 1000000)) 5000 "ms of $*"
	eq "$(wc -l <"$T/said")" 1 "lines of: $(cat "$T/said")"
	grep -qE -- "$pat" "$T/said" || fail "$* said '$(cat "$T/said")', not /$pat/"
}
# The same for what asks first and for what mounts.
both() {
	says "$@" "$LSVDFS" probe "s3://$S3_BUCKET" -o "$STORE_OPTS"
	says "$@" "$LSVDFS" mount -f "s3://$S3_BUCKET" "$T/m" -o "$STORE_OPTS,$dirs"
}

# --- keys, bucket, region, clock
AWS_ACCESS_KEY_ID=nobody both 'does not know this access key'
AWS_SECRET_ACCESS_KEY=wrong both 'wrong secret key'
says 'bucket nosuch: no such bucket' "$LSVDFS" mount s3://nosuch "$T/m" -o "$STORE_OPTS,$dirs"
front_ctl rule r act=status status=400 code=AuthorizationHeaderMalformed
both 'wrong region: set region='
front_ctl rule r act=status status=301 code=PermanentRedirect
both 'served elsewhere: set endpoint= or region='
front_ctl rule r act=status status=403 code=RequestTimeTooSkewed
both "clock.*NTP"
front_ctl clear

# --- one right is missing: the line names it, and where
right() { # OP RIGHT
	front_ctl rule r act=status status=403 op="$1"
	says "$2 on $S3_BUCKET/.lsvd/probe/.*-o ro" "$LSVDFS" mount -f "s3://$S3_BUCKET" "$T/m" -o "$STORE_OPTS,$dirs"
	front_ctl clear
}
front_ctl rule r act=status status=403 op=LIST
both "s3:ListBucket on $S3_BUCKET/"
front_ctl clear
right PUT s3:PutObject
right HEAD s3:GetObject
right DELETE s3:DeleteObject
right MPU_CREATE s3:PutObject
right ABORT s3:AbortMultipartUpload
probe_right() { # OP WORD RIGHT: what is missing stands in the table
	front_ctl rule r act=status status=403 op="$1"
	"$LSVDFS" probe "s3://$S3_BUCKET" -o "$STORE_OPTS" >"$T/table" 2>"$T/said" && fail "probe without $3 is content"
	grep -qE "^$2 .*$3 on $S3_BUCKET/" "$T/table" || fail "probe without $3: $(cat "$T/table" "$T/said")"
	[ ! -s "$T/said" ] || fail "said twice: $(cat "$T/said")"
	front_ctl clear
}
probe_right PUT put s3:PutObject
probe_right GET get s3:GetObject
probe_right DELETE delete s3:DeleteObject
# without the right to delete something had to stay; nothing else did
left=$(obj_keys .lsvd/)
eq "$(grep -c '^.lsvd/probe/' <<<"$left") of $(wc -l <<<"$left")" "3 of 3" "left by two without DeleteObject ($left)"
for k in $left; do obj_delete "$k"; done
left=$(s3 uploads)
eq "$(wc -l <<<"$left")" 1 "uploads left by one without AbortMultipartUpload ($left)"
IFS=$'\t' read -r key id <<<"$left"
s3 abort "$key" "$id" >/dev/null

# --- nobody there: at once, and with retry= as long as was asked for
front_ctl refuse 1
both 'connection refused.*retry='
start=$(date +%s)
must_fail 'connection refused' "$LSVDFS" mount -f "s3://$S3_BUCKET" "$T/m" -o "$STORE_OPTS,$dirs,retry=3"
at_least $(($(date +%s) - start)) 3 "seconds with retry=3"
"$LSVDFS" mount "s3://$S3_BUCKET" "$T/m" -o "$STORE_OPTS,$dirs,retry=60" >"$T/late" 2>&1 &
late=$!
wait_for 10 grep -q 'waiting up to' "$T/late"
front_ctl refuse 0
wait $late || fail "a server that came late: $(cat "$T/late")"
echo late >"$T/m/late"
"$LSVDFS" umount "$T/m"
eq "$(s3 get late)" late
says 'host name not found' "$LSVDFS" mount s3://b "$T/m" -o "endpoint=http://nowhere.invalid,$dirs"

# --- TLS
for i in own other; do
	openssl req -x509 -newkey rsa:2048 -nodes -keyout "$T/$i.key" -out "$T/$i.pem" -days 2 -subj "/CN=$i" \
		-addext subjectAltName=IP:127.0.0.1 2>>"$T/openssl.out"
done
cat >"$T/tls.py" <<'P'
# Ends TLS and passes bytes on to the front. While the file "cut" is there, every second connection is cut in the handshake.
import os, socket, ssl, sys, threading
top, port = sys.argv[1], int(sys.argv[2])
ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); ctx.load_cert_chain(f'{top}/own.pem', f'{top}/own.key')
def pump(a, b):
    try:
        while d := a.recv(65536): b.sendall(d)
    except OSError: pass
    for s in (a, b):
        try: s.shutdown(socket.SHUT_RDWR)
        except OSError: pass
def serve(raw):
    try: c = ctx.wrap_socket(raw, server_side=True)
    except OSError: return raw.close()
    u = socket.create_connection(('127.0.0.1', port))
    threading.Thread(target=pump, args=(c, u), daemon=True).start(); pump(u, c)
s = socket.create_server(('127.0.0.1', 0)); n = cuts = 0
open(f'{top}/tls.port.new', 'w').write(str(s.getsockname()[1])); os.rename(f'{top}/tls.port.new', f'{top}/tls.port')
while True:
    raw, _ = s.accept(); n += 1
    if os.path.exists(f'{top}/cut') and n % 2:
        raw.recv(1); raw.shutdown(socket.SHUT_WR); raw.close(); cuts += 1
        open(f'{top}/cuts', 'w').write(str(cuts)); continue
    threading.Thread(target=serve, args=(raw,), daemon=True).start()
P
/usr/bin/python3 "$T/tls.py" "$T" "$FRONT_PORT" 2>>"$T/tls.log" &
on_exit "kill $!"
wait_for 10 test -s "$T/tls.port"
tls=endpoint=https://127.0.0.1:$(cat "$T/tls.port"),path_style
: >"$T/empty.pem"
echo rubbish >"$T/rubbish.pem"
probe_tls() { says "$1" "$LSVDFS" probe "s3://$S3_BUCKET" -o "$2"; }
probe_tls 'certificate not trusted .*self.signed.*ca_file=' "$tls"
probe_tls 'certificate not trusted .*ca_file=' "$tls,ca_file=$T/other.pem"
probe_tls 'no usable CA bundle .*rubbish.pem.*ca_file=' "$tls,ca_file=$T/rubbish.pem"
probe_tls 'no usable CA bundle .*empty.pem.*ca_file=' "$tls,ca_file=$T/empty.pem"
probe_tls 'certificate not trusted .*localhost' "${tls/127.0.0.1/localhost},ca_file=$T/own.pem"
probe_tls 'TLS failed.*does this port speak https' "endpoint=https://127.0.0.1:$FRONT_PORT,ca_file=$T/own.pem"
STORE_OPTS=$tls,ca_file=$T/own.pem
mount_lsvdfs a connections=8
rnd 3000000 tls >"$T/body"
cp "$T/body" "$T/a/body"
same "$T/body" "$T/a/body"
# connections of the pool end, new ones are cut in the handshake: the network, nothing that a writer hears of
touch "$T/cut"
for i in $(seq 12); do
	front_ctl rule r act=reset count=1
	cp "$T/body" "$T/a/cut$i" || fail "write $i: a cut handshake"
	front_ctl clear
done
at_least "$(cat "$T/cuts")" 3 "handshakes that were cut"
rm "$T/cut"
umount_lsvdfs a
for i in 1 12; do s3 get cut$i | cmp - "$T/body"; done
finish

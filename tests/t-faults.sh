# SPDX-License-Identifier: GPL-3.0-or-later
# A server that errs, lies and loses replies: every N-th request fails, before or after its effect, in a scenario that
# touches each operation; and lies in bodies are found. Never wrong bytes, never a lost acknowledged write.
. "$TESTS_DIR/lib.sh"
need_backend front aws
store_start
mount_lsvdfs a part_size=5M
rnd 11000000 big >"$T/big"
cat >"$T/scenario.py" <<'P'
import os, sys
top, big = sys.argv[1], open(sys.argv[2], 'rb').read()
os.mkdir(f'{top}/d'); os.chdir(f'{top}/d')
for i in range(4):
    with open(f'f{i}', 'w') as f: f.write(f'text {i}')
with open('big', 'wb') as f: f.write(big)
assert open('big', 'rb').read() == big
os.chmod('f1', 0o600); os.rename('f1', 'g1'); os.rename('f2', 'f3'); os.symlink('g1', 's')
f = os.open('big', os.O_RDWR); os.pwrite(f, b'EDIT', 6000000); os.fsync(f); os.close(f)
b = bytearray(big); b[6000000:6000004] = b'EDIT'
os.rename('big', 'large'); assert open('large', 'rb').read() == b
os.mkdir('sub'); open('sub/x', 'w').write('x'); os.rename('sub', 'sub2')
assert sorted(os.listdir('.')) == sorted(['f0', 'g1', 'f3', 'large', 's', 'sub2']), os.listdir('.')
assert open('s').read() == 'text 1' and open('f3').read() == 'text 2' and open('sub2/x').read() == 'x'
assert os.stat('g1').st_mode & 0o777 == 0o600
for n in ('f0', 'f3', 'large', 'g1', 's', 'sub2/x'): os.unlink(n)
os.rmdir('sub2'); os.chdir('/'); os.rmdir(f'{top}/d')
P
run() { py "$T/scenario.py" "$T/a" "$T/big" || fail "scenario under '$1': $(front_counts)"; }
run nothing
seedmod=$((SEED % 3))
for act in "status status=503" "status status=500" "status-after status=500" reset lost "body-error" "body-error-after"; do
	for every in 3 $((5 + seedmod)); do
		op=
		case $act in
		body-error*) op=op=COPY,COMPLETE,MPU_COPY_PART ;;
		esac
		case $act in body-error*) [ "$every" = 3 ] || continue; every=2 ;; esac
		# a 503 slows the whole mount down, the next one more: two of them show all there is to see
		case $act in *status=503) op=count=2 ;; esac
		front_ctl rule r act=$act every=$every $op
		run "$act every $every"
		note "$act every $every: $(front_ctl hits r) faults"
		front_ctl clear
	done
done
# replies to CREATE that are lost: the uploads they made are found and removed
front_ctl rule r act=lost op=MPU_CREATE count=2
cp "$T/big" "$T/a/created"
eq "$(front_ctl hits r)" 2 "lost replies"
front_ctl clear
no_uploads() { [ -z "$(s3 uploads)" ]; }
wait_for 10 no_uploads
s3 get created | cmp - "$T/big"
rm "$T/a/created"
front_ctl rule r1 act=status status=503 p=0.15
front_ctl rule r2 act=lost p=0.1
front_ctl rule r3 act=delay p=0.1 ms=30
run mixed
front_ctl clear
# lies in replies: cut bodies are fetched again, never zeros; a wrong etag in a PUT's reply does not end in wrong bytes
cp "$T/big" "$T/a/big"
umount_lsvdfs a
rm -rf "$T/a.cache"
mount_lsvdfs a
front_ctl rule r act=cut op=GET every=2
same "$T/big" "$T/a/big"
at_least "$(front_ctl hits r)" 1
front_ctl clear
umount_lsvdfs a
rm -rf "$T/a.cache"
mount_lsvdfs a
front_ctl rule r act=stall-body op=GET count=1 ms=500
timeout 100 cmp "$T/big" "$T/a/big"
front_ctl clear
front_ctl rule r act=etag op=PUT count=2
for i in 1 2 3; do echo "v$i" >"$T/a/e" || true; done
front_ctl clear
settle
echo last >"$T/a/e" || echo last >"$T/a/e"
eq "$(s3 get e)" last
eq "$(cat "$T/a/e")" last
# slow: 20 ms and 10 MB/s, all of it still works
front_ctl latency 20 10
front_ctl bw 20000000
run slow
front_ctl clear
finish

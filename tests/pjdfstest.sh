#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# pjdfstest.sh: runs pjdfstest, as root, on a mount with allow_other and compares what fails with pjdfstest.expected.
#
#	PJDFSTEST_DIR=/src/pjdfstest [BACKEND=rgw|file] tests/pjdfstest.sh [PART...]		parts: chmod rename/00.t ...
#	... tests/pjdfstest.sh --regenerate	writes pjdfstest.expected anew; known reasons stay, new lines say "?"
#	PJDFSTEST_ON=/directory ... 		on that directory instead of a mount (to prove the runner: nothing may fail)
#
# PJDFSTEST_DIR is a built copy of github.com/pjd/pjdfstest, which is not part of this project; without it: skipped (77).
# Passes when every failure is on the list, and when at least PJDFSTEST_MIN (8200) assertions outside link/ pass, if
# all parts were run. Each file runs by itself in an empty directory, PJDFSTEST_JOBS (4) at once, 300 s at most.
if [ -z "${T:-}" ]; then
	TEST_TIMEOUT=${TEST_TIMEOUT:-7200} BACKEND=${BACKEND:-rgw} exec "$(dirname "$0")/run" "$0" "$@"
fi
. "$TESTS_DIR/lib.sh"

[ -n "${PJDFSTEST_DIR:-}" ] || skip "PJDFSTEST_DIR is not set"
[ -x "$PJDFSTEST_DIR/pjdfstest" ] || skip "$PJDFSTEST_DIR/pjdfstest is not built"
[ -d "$PJDFSTEST_DIR/tests/rename" ] || skip "$PJDFSTEST_DIR/tests is not there"
need_root
need_cmd perl

where=${PJDFSTEST_ON:-}
if [ -z "$where" ]; then
	chmod 755 "$T" # the tests go on as another user
	store_start
	mount_lsvdfs m "allow_other"
	where=$T/m
fi

cat >"$T/runner" <<'P'
import concurrent.futures, os, re, subprocess, sys, time

expected_file, suite, where, out = sys.argv[1:5]
regenerate = '--regenerate' in sys.argv[5:]
parts = [a for a in sys.argv[5:] if not a.startswith('-')]
tests = os.path.join(suite, 'tests')
files = sorted(os.path.relpath(os.path.join(d, f), tests) for d, _, fs in os.walk(tests) for f in fs if f.endswith('.t'))
if parts:
    files = [f for f in files if any(f == p or f.startswith(p.rstrip('/') + '/') for p in parts)]

def one(name):
    """(name, planned, {number: text of what failed}, seconds)"""
    d = os.path.join(where, 'pjd.' + name.replace('/', '.'))
    start, failed, seen, plan = time.monotonic(), {}, set(), None
    os.mkdir(d)
    # in a session of its own: what hangs is ended with its children
    p = subprocess.Popen(['/bin/sh', os.path.join(tests, name)], cwd=d, stdin=subprocess.DEVNULL, start_new_session=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace')
    try:
        text = p.communicate(timeout=300)[0]
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, 9)
        text = p.communicate()[0] + '\nBail out: no end after 300 s\n'
    with open(os.path.join(out, name.replace('/', '.') + '.log'), 'w') as f:
        f.write(text)
    for line in text.splitlines():
        m = re.match(r'1\.\.(\d+)', line)
        if m:
            plan = int(m.group(1))
        m = re.match(r'(not )?ok (\d+)(.*)', line)
        if m:
            n = int(m.group(2))
            seen.add(n)
            if m.group(1) and '# TODO' not in m.group(3):
                failed[n] = m.group(3).strip(' -')
    for n in range(1, (plan or 0) + 1):
        if n not in seen:
            failed[n] = 'was not run'
    if plan is None:
        plan, failed[1] = 1, 'no plan'
    subprocess.run(['rm', '-rf', d], stderr=subprocess.DEVNULL)
    return name, plan, failed, time.monotonic() - start

def numbers(text):
    got = set()
    for r in text.split(','):
        a, _, b = r.partition('-')
        got |= set(range(int(a), int(b or a) + 1))
    return got

def ranges(ns):
    out, ns = [], sorted(ns)
    while ns:
        n = 1
        while n < len(ns) and ns[n] == ns[0] + n:
            n += 1
        out.append(str(ns[0]) if n == 1 else f'{ns[0]}-{ns[n - 1]}')
        ns = ns[n:]
    return ','.join(out)

# expected: FILE NUMBERS|* REASON
head, expected = [], {}
for line in open(expected_file) if os.path.exists(expected_file) else []:
    if line.startswith('#') or not line.strip():
        head.append(line)
        continue
    name, which, reason = line.rstrip('\n').split(None, 2)
    expected.setdefault(name, []).append((which, reason))

def masked(text):  # names are random
    return re.sub(r'(/?(pjdfstest_)?[0-9a-f]{20,})+', 'N', text)[:110]

def reason_of(name, n):
    for which, reason in expected.get(name, []):
        if which == '*' or n in numbers(which):
            return reason
    return None

if not files:
    sys.exit('no such part')
total = failures = outside = outside_ok = unexpected = 0
found, unneeded = {}, 0
with concurrent.futures.ThreadPoolExecutor(int(os.environ.get('PJDFSTEST_JOBS', '4'))) as pool:
    for name, plan, failed, seconds in pool.map(one, files):
        total += plan
        failures += len(failed)
        if not name.startswith('link/'):
            outside += plan
            outside_ok += plan - len(failed)
        found[name] = failed
        new = {n: t for n, t in failed.items() if reason_of(name, n) is None}
        unexpected += len(new)
        if new and not regenerate:
            print(f'{name}: {len(new)} of {plan} failed unexpectedly ({seconds:.0f} s):')
            for n in sorted(new)[:12]:
                print(f'   {n}: {new[n]}')
        for which, reason in expected.get(name, []):
            if which != '*' and not regenerate and numbers(which) - set(failed):
                unneeded += len(numbers(which) - set(failed))
                print(f'# {name}: {ranges(numbers(which) - set(failed))} passed, though expected to fail: {reason}')
if regenerate:
    with open(expected_file, 'w') as f:
        f.writelines(head)
        for name in sorted(found):
            groups = {}
            for n in found[name]:
                groups.setdefault(reason_of(name, n) or '? ' + masked(found[name][n]), set()).add(n)
            for reason in sorted(groups, key=lambda r: min(groups[r])):
                which = '*' if ('*', reason) in expected.get(name, []) else ranges(groups[reason])
                f.write(f'{name:<24} {which} {reason}\n')
        for name in sorted(set(expected) - set(found)):  # parts that were not run
            for which, reason in expected[name]:
                f.write(f'{name:<24} {which} {reason}\n')
    unexpected = 0
print(f'{len(files)} files, {total} assertions: {total - failures} passed, {failures} failed ({unexpected} unexpected, '
      f'{unneeded} expected ones passed)')
print(f'outside link/: {outside_ok} of {outside} passed')
low = int(os.environ.get('PJDFSTEST_MIN', '8200'))
if not parts and outside_ok < low:
    print(f'fewer than {low} passed outside link/')
    unexpected += 1
sys.exit(1 if unexpected else 0)
P
mkdir "$T/out"
rc=0
expected=$TESTS_DIR/pjdfstest.expected
[ -z "${PJDFSTEST_ON:-}" ] || expected=/dev/null
umask 022
py "$T/runner" "${PJDFSTEST_EXPECTED:-$expected}" "$PJDFSTEST_DIR" "$where" "$T/out" "$@" || rc=$?
[ $rc = 0 ] || fail "pjdfstest: see $T/out"
[ -n "${PJDFSTEST_ON:-}" ] || finish
echo PASSED

# SPDX-License-Identifier: GPL-3.0-or-later
"""rig: what the long measurements share: a server, the front with its latency, the mounts that are compared.

Nothing of a measurement can stay behind: enter() runs the program again inside mount and pid namespaces of its own, in
a directory of its own. When it ends, however it ends, its servers, daemons and mounts are gone with the namespaces and
the directory is removed. Needs root."""
import importlib.machinery
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
MIB = 1 << 20


def builddir():
    return os.path.abspath(os.environ.get('top_builddir', '.'))


def load_s3tool():
    loader = importlib.machinery.SourceFileLoader('s3tool', os.path.join(TESTS, 's3tool'))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader('s3tool', loader))
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


def skip(why):
    print(f'SKIP: {why}')
    sys.exit(77)


def need(*commands):
    for c in commands:
        if not shutil.which(c, path=os.environ.get('PATH', '') + ':/usr/sbin:/sbin'):
            skip(f'{c} not found (tests/setup)')


def parse_size(text):
    unit = {'K': 10, 'M': 20, 'G': 30, 'T': 40}.get(text[-1:].upper())
    return int(text[:-1]) << unit if unit else int(text)


def enter(tmpdir):
    """Returns in the child, with the directory to work in; the parent ends here, with the child's status."""
    if os.environ.get('BENCH_INSIDE'):
        return os.environ['BENCH_INSIDE']
    if os.geteuid() != 0:
        skip('needs root')
    if not os.path.exists('/dev/fuse'):
        skip('no /dev/fuse')
    work = tempfile.mkdtemp(prefix='lsvdfs-bench.', dir=tmpdir)
    argv = ['unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc', sys.executable, '-u'] + sys.argv
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child gets it too, and ends
    signal.signal(signal.SIGTERM, lambda *_: child.kill())  # unshare ignores a plain SIGTERM while it waits
    rc = 1
    try:
        child = subprocess.Popen(argv, env=dict(os.environ, BENCH_INSIDE=work, HOME=work))
        rc = child.wait()
    finally:
        if os.environ.get('BENCH_KEEP'):
            print(f'kept: {work}')
        else:
            shutil.rmtree(work, ignore_errors=True)
    sys.exit(rc if rc >= 0 else 1)


def drop_caches():
    subprocess.run(['sync'], check=True)
    with open('/proc/sys/vm/drop_caches', 'w') as f:
        f.write('3\n')


def settle():
    """Empty caches. Where the host of a virtual machine takes free memory away, within about two seconds, the next touch
    of it costs more than anything that is measured here: everybody shall find it gone, not only who comes after a rest."""
    drop_caches()
    time.sleep(4)


def wait_until(what, seconds, test, step=0.02):
    end = time.monotonic() + seconds
    while not test():
        if time.monotonic() > end:
            raise TimeoutError(f'{what}: not within {seconds} s')
        time.sleep(step)


# --- the server ---

class Server:
    """Ceph RGW by tests/servers. store: memstore, or bluestore for what does not fit into memory."""

    def __init__(self, work, store='memstore', size=12 << 30):
        self.dir = os.path.join(work, 'rgw')
        env = dict(os.environ, RGW_STORE=store, RGW_BYTES=str(size), RGW_GC_WAIT='1', RGW_BUCKET='bench')
        r = subprocess.run([os.path.join(TESTS, 'servers', 'rgw-start'), self.dir], env=env, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if r.returncode == 77:
            skip(r.stdout.strip().splitlines()[-1])
        if r.returncode:
            raise SystemExit(f'rgw-start: {r.stdout}')
        with open(os.path.join(self.dir, 'env')) as f:
            self.env = dict(line.strip().split('=', 1) for line in f if '=' in line)
        self.endpoint = self.env['S3_ENDPOINT']
        self.port = int(self.endpoint.rsplit(':', 1)[1])
        self.bucket = self.env['S3_BUCKET']
        self.s3tool = load_s3tool()
        for k in list(os.environ):
            if k.startswith('AWS_'):
                del os.environ[k]
        os.environ.update({k: v for k, v in self.env.items() if k.startswith('AWS_')}, AWS_EC2_METADATA_DISABLED='true')

    def s3(self):
        return self.s3tool.S3(self.env, timeout=120)

    def put_big(self, key, size, part=16 * MIB):
        """An object of block(0), block(1) ... in parts of 16 MiB."""
        s = self.s3()
        r = s.req('POST', key, {'uploads': ''})
        uid = r.body.split(b'<UploadId>')[1].split(b'<')[0].decode()
        xml = ''
        for n, off in enumerate(range(0, size, part), 1):
            body = b''.join(block(i) for i in range(off // MIB, (min(off + part, size) + MIB - 1) // MIB))
            r = s.req('PUT', key, {'partNumber': n, 'uploadId': uid}, {}, body)
            if r.status != 200:
                raise SystemExit(f'put {key}: {r.status} {r.code()}')
            xml += f'<Part><PartNumber>{n}</PartNumber><ETag>&quot;{r.etag()}&quot;</ETag></Part>'
        r = s.req('POST', key, {'uploadId': uid}, {},
                  f'<CompleteMultipartUpload>{xml}</CompleteMultipartUpload>'.encode())
        if r.status != 200:
            raise SystemExit(f'put {key}: {r.status} {r.code()}')

    def purge(self, prefix):
        names = [d['Key'] for d in self.s3().list(prefix)]

        def part(k):
            s = self.s3()
            for name in names[k::8]:
                s.req('DELETE', name)
        each(8, part)

    def gc(self):
        """What was deleted is given back now, not during the next measurement."""
        subprocess.run(['radosgw-admin', '-c', os.path.join(self.dir, 'ceph.conf'), 'gc', 'process', '--include-all'],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)


class Front:
    """The S3 front before the server."""

    def __init__(self, work, server):
        binary = os.path.join(builddir(), 'tests', 's3front')
        if not os.access(binary, os.X_OK):
            skip(f'{binary} is not built: make tests/s3front')
        self.dir = os.path.join(work, 'front')
        os.makedirs(self.dir)
        self.process = subprocess.Popen([binary, '--upstream', str(server.port), '--dir', self.dir, '--bucket',
                                         server.bucket, '--access', server.env['AWS_ACCESS_KEY_ID'], '--secret',
                                         server.env['AWS_SECRET_ACCESS_KEY']])
        port = os.path.join(self.dir, 'port')
        wait_until('s3front', 10, lambda: os.path.exists(port) and os.path.getsize(port))
        with open(port) as f:
            self.port, self.ctl = (int(x) for x in f.read().split())
        self.endpoint = f'http://127.0.0.1:{self.port}'

    def tell(self, line):
        with socket.create_connection(('127.0.0.1', self.ctl), timeout=30) as c:
            f = c.makefile('rw')
            f.write(line + '\n')
            f.flush()
            answer = f.readline().strip()
        if answer.startswith('err'):
            raise SystemExit(f'front: {line}: {answer}')
        return answer


# --- content ---

NOISE = None


def block(i):
    """The i-th MiB of a file: its number, then noise; so that a MiB in a wrong place is seen, and nothing compresses."""
    global NOISE
    if NOISE is None:
        import random
        NOISE = random.Random(42).randbytes(MIB - 16)
    return f'MiB {i:012}'.encode() + NOISE


def each(n, function):
    """function(k) in n threads; the first error is raised."""
    errors = []

    def one(k):
        try:
            function(k)
        except BaseException as e:
            errors.append(e)
    threads = [threading.Thread(target=one, args=(k,)) for k in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


# --- mounts ---

class Mount:
    """One file system on the bucket. start() mounts with empty caches; stop() ends only when it has ended by itself."""
    name = None

    def __init__(self, work, server, options=''):
        self.work, self.server, self.options = work, server, options
        self.dir = os.path.join(work, self.name)
        self.point = os.path.join(self.dir, 'mnt')
        self.log = os.path.join(self.dir, 'log')
        self.process = None
        os.makedirs(self.point)

    def command(self, endpoint, what):
        raise NotImplementedError

    def start(self, endpoint, what):
        """what: 'read' or 'write'."""
        for d in ('cache', 'state', 'tmp'):
            shutil.rmtree(os.path.join(self.dir, d), ignore_errors=True)
            os.makedirs(os.path.join(self.dir, d))
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(self.command(endpoint, what), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=self.environ(), cwd=self.dir)
        wait_until(f'{self.name}: mount', 60, lambda: os.path.ismount(self.point) or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise RuntimeError(f'{self.name} ended with {self.process.returncode}: {self.tail()}')
        os.listdir(self.point)

    def environ(self):
        return dict(os.environ)

    def tail(self):
        with open(self.log, errors='replace') as f:
            return ' / '.join(f.read().strip().splitlines()[-4:])

    def cpu(self):
        """Seconds that the daemon has computed so far."""
        with open(f'/proc/{self.process.pid}/stat') as f:
            v = f.read().rsplit(')', 1)[1].split()
        return (int(v[11]) + int(v[12])) / os.sysconf('SC_CLK_TCK')

    def unmount(self):
        subprocess.run(['umount', self.point], check=True, timeout=600)

    def stop(self):
        if self.process is None:
            return
        p, self.process = self.process, None
        try:
            if p.poll() is None:
                self.unmount()
            p.wait(600)
        except Exception:
            p.kill()
            p.wait()
            subprocess.run(['umount', '-l', self.point], stderr=subprocess.DEVNULL)
            raise


class Lsvdfs(Mount):
    name = 'lsvdfs'

    def binary(self):
        return os.environ.get('LSVDFS', os.path.join(builddir(), 'lsvdfs'))

    def command(self, endpoint, what):
        options = f'endpoint={endpoint},path_style,state_dir={self.dir}/state,cache_dir={self.dir}/cache'
        return [self.binary(), 'mount', '-f', f's3://{self.server.bucket}', self.point, '-o',
                options + (',' + self.options if self.options else '')]

    def unmount(self):
        subprocess.run([self.binary(), 'umount', self.point], check=True, timeout=600)


class LsvdfsAsync(Lsvdfs):
    """Promises at close() what rclone promises: the bytes are safe on this machine."""
    name = 'lsvdfs-async'

    def __init__(self, work, server, options=''):
        super().__init__(work, server, ','.join(filter(None, ('async_close', options))))


class S3fs(Mount):
    """Its defaults. close() answers after the upload."""
    name = 's3fs'

    def command(self, endpoint, what):
        passwd = os.path.join(self.dir, 'passwd')
        with open(passwd, 'w') as f:
            f.write(f"{self.server.env['AWS_ACCESS_KEY_ID']}:{self.server.env['AWS_SECRET_ACCESS_KEY']}\n")
        os.chmod(passwd, 0o600)
        options = f'url={endpoint},use_path_request_style,passwd_file={passwd},tmpdir={self.dir}/tmp'
        return ['s3fs', self.server.bucket, self.point, '-f', '-o',
                options + (',' + self.options if self.options else '')]


class Rclone(Mount):
    """Its defaults, but with the full cache (without it: no seek, no second try), uploads that begin at once instead of
    after 5 s, and directories that are listed again after 1 s as ours are. close() answers before the upload."""
    name = 'rclone'

    def command(self, endpoint, what):
        conf = os.path.join(self.dir, 'conf')
        with open(conf, 'w') as f:
            f.write(f'[b]\ntype = s3\nprovider = Ceph\nendpoint = {endpoint}\nenv_auth = true\nforce_path_style = true\n')
        return ['rclone', 'mount', f'b:{self.server.bucket}', self.point, '--config', conf, '--cache-dir',
                f'{self.dir}/cache', '--vfs-cache-mode', 'full', '--vfs-write-back', '1ms',
                '--dir-cache-time', '1s'] + self.options.split()


KINDS = {c.name: c for c in (Lsvdfs, LsvdfsAsync, S3fs, Rclone)}

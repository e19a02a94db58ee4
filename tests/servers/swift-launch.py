#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""swift-launch.py DIR PROXY ACCOUNT CONTAINER OBJECT MEMCACHED (ports): for swift-start.

Writes rings and configuration into DIR, imports Swift once and forks the four servers: they share the imports, which
takes a fraction of the time and memory of four swift-*-server commands. Pids go to DIR/run/NAME.pid. Swift reads
/etc/swift/swift.conf through a module constant; it is pointed into DIR instead."""
import os
import sys

D = sys.argv[1].rstrip('/')  # given with a slash: pid_of() looks for DIR/ in the command line
PROXY, ACCOUNT, CONTAINER, OBJECT, MEMCACHED = map(int, sys.argv[2:7])
BACKENDS = (('account', ACCOUNT), ('container', CONTAINER), ('object', OBJECT))
AK, SK = os.environ['AK'], os.environ['SK']


def write(name, text):
    with open(f'{D}/etc/{name}', 'w') as f:
        f.write(text)


def common(port):
    return f'''[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = root
swift_dir = {D}/etc
devices = {D}/dev
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
log_level = WARNING
log_address = {D}/run/nolog
recon_cache_path = {D}/cache
'''


# metadata values over 256 bytes are a 500 with the default max_meta_value_length
write('swift.conf', '''[swift-hash]
swift_hash_path_suffix = lsvd
swift_hash_path_prefix = lsvd
[storage-policy:0]
name = p0
default = yes
[swift-constraints]
max_meta_value_length = 2048
max_meta_overall_size = 8192
max_header_size = 16384
''')
for name, port in BACKENDS:
    write(f'{name}-server.conf', common(port) + f'''
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
allow_versions = true
''')
filters = {
    'catch_errors': '', 'gatekeeper': '', 'listing_formats': '', 'copy': '', 'slo': '',
    'cache': f'memcache_servers = 127.0.0.1:{MEMCACHED}',
    's3api': 'location = us-east-1\nstorage_domain = localhost\ndns_compliant_bucket_names = true\n'
             'max_bucket_listing = 1000\nmax_upload_part_num = 10000',
    'tempauth': f'user_{AK.replace(":", "_")} = {SK} .admin',
    'versioned_writes': 'allow_object_versioning = true', 'symlink': '',
}
order = 'catch_errors gatekeeper cache listing_formats s3api tempauth copy slo versioned_writes symlink proxy-server'
write('proxy-server.conf', common(PROXY) + f'''
[pipeline:main]
pipeline = {order}
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
''' + ''.join(f'[filter:{n}]\nuse = egg:swift#{"memcache" if n == "cache" else n}\n{t}\n' for n, t in filters.items()))

from swift.common import utils, storage_policy, constraints  # noqa: E402
utils.SWIFT_CONF_FILE = f'{D}/etc/swift.conf'
from swift.common.ring import RingBuilder  # noqa: E402
for name, port in BACKENDS:
    b = RingBuilder(1, 1, 0)
    b.add_dev({'id': 0, 'region': 1, 'zone': 1, 'ip': '127.0.0.1', 'port': port, 'device': 'd1', 'weight': 1,
               'replication_ip': '127.0.0.1', 'replication_port': port, 'meta': ''})
    b.rebalance()
    b.get_ring().save(f'{D}/etc/{name}.ring.gz')
import swift.common.wsgi as wsgi  # noqa: E402
import swift.proxy.server, swift.account.server, swift.container.server, swift.obj.server  # noqa: E401,E402
import swift.common.middleware.s3api.s3api, swift.common.middleware.tempauth  # noqa: E401,E402
import swift.common.middleware.slo  # noqa: E402
constraints.reload_constraints()
storage_policy.reload_storage_policies()
for name in ('account', 'container', 'object', 'proxy'):
    pid = os.fork()
    if pid == 0:
        os.setsid()
        log = os.open(f'{D}/log/{name}.log', os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(os.open('/dev/null', os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv[1:] = [f'{D}/etc/{name}-server.conf']
        kw = {}
        if name == 'object':
            kw['global_conf_callback'] = swift.obj.server.global_conf_callback
        sys.exit(wsgi.run_wsgi(f'{D}/etc/{name}-server.conf', f'{name}-server', **kw))
    with open(f'{D}/run/{name}.pid', 'w') as f:
        f.write(f'{pid}\n')

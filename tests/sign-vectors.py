#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints tests/sign-vectors.h: signatures by botocore, an implementation that shares no line with ours.

    tests/sign-vectors.py > tests/sign-vectors.h        (Debian: python3-botocore)
"""
import datetime
import random
import urllib.parse

import botocore.auth
import botocore.awsrequest
import botocore.credentials

ROUNDS = 40
random.seed(20150830)


def c_string(s):
    out = ''
    for b in s.encode():
        ch = chr(b)
        out += ch if 32 <= b < 127 and ch not in '"\\?' else '\\%03o' % b
    return '"' + out + '"'


def word(alphabet, lo, hi):
    return ''.join(random.choice(alphabet) for _ in range(random.randint(lo, hi)))


def pct(s, safe=''):
    return urllib.parse.quote(s, safe='-._~' + safe)


class Clock(datetime.datetime):
    now_is = None

    @classmethod
    def utcnow(cls):
        return cls.now_is


botocore.auth.datetime.datetime = Clock
ODD = 'abz09-_.~/ +%&=*()!$\'@,;:üß漢'
print('/* SPDX-License-Identifier: GPL-3.0-or-later */')
print('/* sign-vectors.h - signatures by botocore. Made by tests/sign-vectors.py: do not edit. */')
for _ in range(ROUNDS):
    Clock.now_is = datetime.datetime(random.randint(2013, 2037), random.randint(1, 12), random.randint(1, 28),
                                     random.randint(0, 23), random.randint(0, 59), random.randint(0, 59))
    date = Clock.now_is.strftime('%Y%m%dT%H%M%SZ')
    access, secret = word('ABCDEFGH:09', 3, 20), word('abcdXYZ+/09', 3, 40)
    token = word('abcXYZ+/=', 10, 60) if random.random() < 0.3 else None
    region = random.choice(['us-east-1', 'eu-central-1', 'cn-north-1'])
    host = random.choice(['b.s3.amazonaws.com', '127.0.0.1:7480', '[::1]:9000'])
    path = '/' + pct(word(ODD, 0, 30), '/')
    query = {word('abcXYZ-09', 1, 8): word(ODD, 0, 12) for _ in range(random.randint(0, 5))}
    headers = {'host': host}
    for _ in range(random.randint(0, 4)):
        headers['x-amz-meta-' + word('abc-', 1, 6)] = word('abc  ,;"', 1, 20)
    if random.random() < 0.5:
        headers['range'] = 'bytes=%d-%d' % (random.randint(0, 99), random.randint(100, 999))
    payload = word('abc', 64, 64) if random.random() < 0.5 else 'UNSIGNED-PAYLOAD'
    qs = '&'.join(f'{pct(k)}={pct(v)}' for k, v in query.items())
    req = botocore.awsrequest.AWSRequest(method=random.choice(['GET', 'PUT', 'DELETE', 'HEAD']),
                                         url=f'http://{host}{path}' + ('?' + qs if qs else ''), headers=dict(headers))
    auth = botocore.auth.S3SigV4Auth(botocore.credentials.Credentials(access, secret, token), 's3', region)
    auth.payload = lambda r, p=payload: p
    req.headers['X-Amz-Content-SHA256'] = payload
    auth.add_auth(req)
    sent = dict(headers)
    sent['x-amz-content-sha256'] = payload
    sent['x-amz-date'] = date
    if token:
        sent['x-amz-security-token'] = token
    print('{', ', '.join(map(c_string, [req.method, path, access, secret, region, date, payload])) + ',')
    print(' {' + ' '.join('{%s, %s},' % (c_string(k), c_string(v)) for k, v in query.items()) + '{NULL, NULL}},')
    items = list(sent.items())
    random.shuffle(items)
    print(' {' + ' '.join('{%s, %s},' % (c_string(k), c_string(v)) for k, v in items) + '{NULL, NULL}},')
    print(' ' + c_string(req.headers['Authorization']) + '},')

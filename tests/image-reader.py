#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""image-reader BUCKET (--image PATH[@SNAPSHOT] | --log PREFIX [--snapshot NAME]) [...]: a raw disk from a bucket's files.

Written from fs/image/FORMAT.md and PROTOCOL.md alone, so that the pages are known to be enough, and so that the tests
have a second opinion: nothing here came from the C code, and nothing may. Slow and plain. BUCKET is the directory of a
file:// store. Standard library only; zstd needs Python 3.14 or the module zstandard.

Whatever does not fit the document is Damage, with the name of the object: never guessed bytes, never zeros instead.
Status 0: done; 1: damage, or there is no such image; 2: usage.
"""
import argparse
import bisect
import hashlib
import json
import os
import re
import struct
import sys
import tempfile

SECTOR, BLOCK, GROUP, TRAILER = 512, 4096, 65536, 96
CREATE, DATA, CLEANER, MAP, CHECKPOINT, CLAIM, RELEASE, SNAPSHOT, UNSNAP, FREE, ROLLBACK, RESIZE = range(1, 13)
TYPES = ('', 'create', 'data', 'cleaner', 'map', 'checkpoint', 'claim', 'release', 'snapshot', 'unsnap', 'free',
         'rollback', 'resize')
S_EXTENTS, S_GROUPS, S_DIGEST, S_CHECKPOINT, S_CLAIM, S_TEXT, S_TARGET, S_CREATE, S_SNAPSHOT = range(1, 10)
K_DATA, K_ZERO, K_DISCARD = range(3)
MAX_LBA = 1 << 48
MAX_HEADER = 32 << 20


class Damage(Exception):
    pass


class Gone(Damage):
    """An object that is not there, which may be what the document allows."""


# --- CRC32C, two bytes a step: the lower table does one byte, the upper one two

def crc_table():
    one = []
    for i in range(256):
        for _ in range(8):
            i = i >> 1 ^ (0x82f63b78 if i & 1 else 0)
        one.append(i)
    two = []
    for i in range(65536):
        i = one[i & 255] ^ i >> 8
        two.append(one[i & 255] ^ i >> 8)
    return one, two


CRC_ONE, CRC_TWO = crc_table()


def crc32c(data, crc=0):
    crc ^= 0xffffffff
    even = len(data) & ~1
    two = CRC_TWO
    for (w,) in struct.iter_unpack('<H', memoryview(data)[:even]):
        crc = two[(crc ^ w) & 0xffff] ^ crc >> 16
    for b in data[even:]:
        crc = CRC_ONE[(crc ^ b) & 255] ^ crc >> 8
    return crc ^ 0xffffffff


def unzstd(payload, size):
    try:
        from compression import zstd
        return zstd.decompress(payload)
    except ImportError:
        pass
    try:
        import zstandard
    except ImportError:
        raise Damage('a group is packed with zstd, which this Python cannot unpack (3.14, or the module zstandard)')
    return zstandard.ZstdDecompressor().decompress(payload, max_output_size=size)


def take(fmt, data, at, what):
    if at < 0 or at + struct.calcsize(fmt) > len(data):
        raise Damage(f'{what}: cut short')
    return struct.unpack_from(fmt, data, at)


def u48(b):
    return int.from_bytes(b, 'little')


def up(n, to):
    return -(-n // to) * to


def leb128(data, at, what):
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Damage(f'{what}: a number is cut short')
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 128:
            return value, at


# --- one object of a log

class Object:
    def __init__(self, log, number, path):
        self.name = f'object {number} ({number:016x}) of image {log.uuid.hex()}'
        self.uuid, self.number, self.path = log.uuid, number, path
        try:
            self.stored = os.path.getsize(path)
        except (FileNotFoundError, NotADirectoryError):
            raise Gone(f'{self.name}: missing')
        self.cache = {}
        self.where = None        # offsets of the groups, once known
        # a first group that is not the only one is full, and holds header, so that it is not packed
        one = min(self.stored, GROUP + TRAILER)
        head = self.decode(0, self.raw(0, one), header=True)
        if head[:8] != b'LSVDLOG\n':
            raise Damage(f'{self.name}: not a log object')
        version, self.type, self.flags, uuid, number_, self.epoch, self.nonce, self.seq, self.size, self.time, \
            self.header, self.nsections, self.sectors, self.window, self.data_crc, self.durable = \
            take('<HHI16sQQ16sQQQIIQIIQ', head, 8, self.name)
        if version != 1 or self.flags & ~1 or not 1 <= self.type <= 12:
            raise Damage(f'{self.name}: version {version}, type {self.type}, flags {self.flags:#x} are unknown')
        if uuid != self.uuid or number_ != number:
            raise Damage(f'{self.name}: its header says number {number_} of {uuid.hex()}')
        if not 128 <= self.header <= MAX_HEADER or up(self.header, BLOCK) > self.sectors * SECTOR:
            raise Damage(f'{self.name}: {self.header} bytes of header in {self.sectors} sectors')
        self.first = up(self.header, BLOCK) // SECTOR       # the first sector of data
        count = up(self.sectors * SECTOR, GROUP) // GROUP
        plain = [i * (GROUP + TRAILER) for i in range(-(-self.header // GROUP))]
        self.where = plain + [self.stored] if len(plain) == count else plain + [len(plain) * (GROUP + TRAILER)]
        whole = b''.join(self.group(i, header=True) for i in range(len(plain)))[:self.header]
        self.crc = take('<I', whole, 124, self.name)[0]
        if crc32c(whole[:124] + bytes(4) + whole[128:]) != self.crc:
            raise Damage(f'{self.name}: header does not check')
        self.sections = self.parse(whole)
        self.place(count)

    def raw(self, at, size):
        with open(self.path, 'rb') as f:
            f.seek(at)
            return f.read(size)

    def place(self, count):
        if self.flags & 1:
            sizes = self.section(S_GROUPS)
            if len(sizes) != 4 * count:
                raise Damage(f'{self.name}: {len(sizes)} bytes of GROUPS for {count} groups')
            where = [0]
            for (n,) in struct.iter_unpack('<I', sizes):
                where.append(where[-1] + n)
            if any(a != b for a, b in zip(where[:-1], self.where[:-1])):
                raise Damage(f'{self.name}: GROUPS packs its header')
            self.where = where
        else:
            self.where = [i * (GROUP + TRAILER) for i in range(count)]
            self.where.append(self.sectors * SECTOR + count * TRAILER)
        if self.where[-1] != self.stored:
            raise Damage(f'{self.name}: {self.stored} bytes instead of {self.where[-1]}')

    def decode(self, i, raw, header=False):
        what = f'{self.name}, group {i}'
        if len(raw) < TRAILER:
            raise Damage(f'{what}: cut short')
        trailer = raw[-TRAILER:]
        ident = self.uuid + struct.pack('<Q', self.number)
        if crc32c(ident + struct.pack('<Q', i * GROUP // SECTOR) + trailer[:92]) != take('<I', trailer, 92, what)[0]:
            raise Damage(f'{what}: trailer does not check')
        size, payload, codec = take('<IIB', trailer, 64, what)
        if payload != len(raw) - TRAILER or size % SECTOR or not 0 < size <= GROUP or codec > 1 or (codec and header):
            raise Damage(f'{what}: {payload} bytes by codec {codec} for {size} are not possible')
        content = raw[:payload] if codec == 0 else unzstd(raw[:payload], size)
        if len(content) != size:
            raise Damage(f'{what}: {len(content)} bytes instead of {size}')
        for b in range(16):
            part = content[b * BLOCK:(b + 1) * BLOCK]
            want = take('<I', trailer, b * 4, what)[0]
            first = struct.pack('<Q', (i * GROUP + b * BLOCK) // SECTOR)
            if want != (crc32c(ident + first + part) if part else 0):
                raise Damage(f'{what}: block {b} does not check')
        return content

    def group(self, i, header=False):
        if i not in self.cache:
            a, b = self.where[i], self.where[i + 1]
            content = self.decode(i, self.raw(a, b - a), header)
            if len(content) != min(GROUP, self.sectors * SECTOR - i * GROUP):
                raise Damage(f'{self.name}, group {i}: {len(content)} bytes of content')
            self.cache = dict(list(self.cache.items())[-3:])
            self.cache[i] = content
        return self.cache[i]

    def content(self, sector, count):
        if count == 0:
            return b''
        if sector < self.first or sector + count > self.sectors:
            raise Damage(f'{self.name}: asked for sectors {sector}+{count} of {self.first}..{self.sectors}')
        a, b = sector * SECTOR, (sector + count) * SECTOR
        parts = b''.join(self.group(i) for i in range(a // GROUP, up(b, GROUP) // GROUP))
        return parts[a % GROUP:a % GROUP + b - a]

    def parse(self, whole):
        out, at = {}, 128
        for _ in range(self.nsections):
            kind, flags, size = take('<HHI', whole, at, self.name)
            if at + 8 + size > len(whole):
                raise Damage(f'{self.name}: section {kind} is cut short')
            if kind in out:
                raise Damage(f'{self.name}: two sections {kind}')
            if not 1 <= kind <= 9 and flags & 1:
                raise Damage(f'{self.name}: section {kind} is needed and unknown')
            out[kind] = whole[at + 8:at + 8 + size]
            at += 8 + up(size, 8)
        if at != len(whole):
            raise Damage(f'{self.name}: sections end at {at}, the header at {len(whole)}')
        return out

    def section(self, kind):
        if kind not in self.sections:
            raise Damage(f'{self.name}: section {kind} is missing')
        return self.sections[kind]

    def verify(self):
        """Every byte, and the CRC that runs over all of them."""
        at = up(self.header, BLOCK)
        crc = 0
        for i in range(len(self.where) - 1):
            part = self.group(i)
            crc = crc32c(part[max(0, min(at - i * GROUP, len(part))):], crc)
        if crc != self.data_crc:
            raise Damage(f'{self.name}: content does not check')


def extents(blob, cleaner, what):
    """(lba, kind, length, source) of each entry; source only in cleaner objects."""
    step, out, end = 32 if cleaner else 16, [], 0
    if len(blob) % step:
        raise Damage(f'{what}: {len(blob)} bytes of extents')
    for at in range(0, len(blob), step):
        lba, kind, length = u48(blob[at:at + 6]), blob[at + 6], u48(blob[at + 8:at + 14])
        source = struct.unpack_from('<QI', blob, at + 16) if cleaner else None
        if kind > (0 if cleaner else 2) or length == 0 or lba < end or lba + length > MAX_LBA:
            raise Damage(f'{what}: extent {lba}+{length} of kind {kind} is not possible')
        end = lba + length
        out.append((lba, kind, length, source))
    return out


# --- the map: runs [first, end, kind, number, sector], sorted; what no run covers is a hole

class Map:
    def __init__(self):
        self.firsts, self.runs = [], []

    def within(self, a, b):
        """Indexes [i, j) of the runs that meet [a, b)."""
        i = bisect.bisect_right(self.firsts, a)
        if i and self.runs[i - 1][1] > a:
            i -= 1
        return i, bisect.bisect_left(self.firsts, b)

    def set(self, a, b, kind=None, number=0, sector=0):
        i, j = self.within(a, b)
        new = []
        if i < j and self.runs[i][0] < a:
            new.append((self.runs[i][0], a) + self.runs[i][2:])
        if kind is not None:
            new.append((a, b, kind, number, sector))
        if i < j and self.runs[j - 1][1] > b:
            first, end, k, n, s = self.runs[j - 1]
            new.append((b, end, k, n, s + (b - first if k == K_DATA else 0)))
        self.runs[i:j] = new
        self.firsts[i:j] = [r[0] for r in new]

    def clip(self, a, b):
        """The runs within [a, b), cut to it."""
        i, j = self.within(a, b)
        for first, end, kind, number, sector in self.runs[i:j]:
            lo, hi = max(first, a), min(end, b)
            yield lo, hi, kind, number, sector + (lo - first if kind == K_DATA else 0)

    def move(self, lba, length, number, sector, old, old_sector):
        """A cleaner's entry: only where the map still points to just that place. How many sectors it did not."""
        hits = [(a, b) for a, b, kind, n, s in self.clip(lba, lba + length)
                if kind == K_DATA and n == old and s - old_sector == a - lba]
        for a, b in hits:
            self.set(a, b, K_DATA, number, sector + a - lba)
        return length - sum(b - a for a, b in hits)

    def sectors(self, kind):
        return sum(r[1] - r[0] for r in self.runs if r[2] == kind)


# --- keys

class Log:
    """The objects of one uuid."""
    def __init__(self, path, uuid):
        self.path, self.uuid, self.objects = path, uuid, {}

    def numbers(self):
        return sorted(int(n, 16) for n in os.listdir(self.path) if re.fullmatch('[0-9a-f]{16}', n))

    def get(self, number):
        """Raises Gone where there is none."""
        if number not in self.objects:
            if len(self.objects) > 256:
                self.objects.clear()
            self.objects[number] = Object(self, number, os.path.join(self.path, f'{number:016x}'))
        return self.objects[number]

    def marks(self):
        """The newest first."""
        try:
            names = os.listdir(os.path.join(self.path, 'mark'))
        except FileNotFoundError:
            return []
        return [(1 << 64) - 1 - int(n, 16) for n in sorted(names) if re.fullmatch('[0-9a-f]{16}', n)]


class Image:
    def __init__(self, path, uuid, base):
        self.log = Log(path, uuid)
        if os.path.exists(os.path.join(path, 'dead')):
            raise Damage(f'image {uuid.hex()} was deleted')
        try:
            numbers = self.log.numbers()
        except FileNotFoundError:
            numbers = []
        if not numbers:
            raise Damage(f'image {uuid.hex()}: no log at {path}')
        self.first = numbers[0]
        self.create = self.log.get(self.first)
        if self.create.type != CREATE:
            raise Damage(f'{self.create.name}: a {TYPES[self.create.type]}, though the lowest number is the create record')
        self.origins = []
        self.parse_create(self.create.section(S_CREATE), base)
        if self.first != (self.origins[-1][0] + 1 if self.origins else 1):
            raise Damage(f'{self.create.name}: not the number of a create record')
        self.unmoved = 0

    def parse_create(self, blob, base):
        what = self.create.name
        self.window, self.aim, self.fsync, count = take('<IIB3xI', blob, 0, what)
        at, last = 16, 0
        if not 1 <= self.window <= 256 or count > 64:
            raise Damage(f'{what}: a window of {self.window}, {count} origins')
        for _ in range(count):
            uuid, number, size = take('<16sQI', blob, at, what)
            at += 28
            path = take(f'{size}s', blob, at, what)[0].decode() or f'.lsvd/img/{uuid.hex()}/'
            at = up(at + size, 8)
            if number <= last:
                raise Damage(f'{what}: origins out of order')
            last = number
            self.origins.append((number, Log(os.path.join(base, path), uuid)))

    def get(self, number):
        for last, log in self.origins:
            if number <= last:
                return log.get(number)
        return self.log.get(number)


# --- pages

def page(image, ref, rng, m, depth=1):
    """Puts the runs below a page into m; rng: the range that its parent gives it."""
    number, sector, size, crc, level = ref
    what = f'page at sector {sector} of object {number}'
    obj = image.get(number)
    if obj.type != MAP or not 24 <= size <= GROUP or sector * SECTOR // GROUP != (sector * SECTOR + size - 1) // GROUP:
        raise Damage(f'{what}: no place of a page')
    blob = obj.content(sector, up(size, SECTOR) // SECTOR)[:size]
    if crc32c(blob) != crc:
        raise Damage(f'{what}: does not check')
    mine, entries, first, end = take('<B3xIQQ', blob, 0, what)
    if mine != level or first > end or (rng is not None and (first, end) != rng):
        raise Damage(f'{what}: level {mine} of {first}..{end} instead of level {level} of {rng}')
    if level in (0, 255):
        at = (leaf if level == 0 else table)(blob, entries, first, end, what, m)
    elif 1 <= level <= 4 or level == 254:
        at = index(image, blob, entries, first, end, level, what, m, depth)
    else:
        raise Damage(f'{what}: level {level}')
    if at != size:
        raise Damage(f'{what}: {size - at} bytes too many')


def index(image, blob, entries, first, end, level, what, m, depth):
    firsts = [take('<Q', blob, 24 + 32 * i, what)[0] for i in range(entries)] + [end]
    if entries == 0 or firsts[0] != first or any(a >= b for a, b in zip(firsts, firsts[1:])):
        raise Damage(f'{what}: children do not adjoin')
    for i in range(entries):
        ref = take('<QIIIB3x', blob, 32 + 32 * i, what)
        if ref[4] != (255 if level == 254 else level - 1) and (ref[4] != 254 or level != 254 or depth == 4):
            raise Damage(f'{what}: a child of level {ref[4]} below level {level}')
        page(image, ref, (firsts[i], firsts[i + 1]), m, depth + 1)
    return 24 + 32 * entries


def leaf(blob, entries, first, end, what, m):
    at, pos, number = 24, first, 0
    for _ in range(entries):
        gap, at = leb128(blob, at, what)
        length, at = leb128(blob, at, what)
        kind, at = leb128(blob, at, what)
        sector = 0
        if kind == K_DATA:
            z, at = leb128(blob, at, what)
            number += z >> 1 ^ -(z & 1)
            sector, at = leb128(blob, at, what)
        a = pos + gap
        pos = a + length
        if kind > 1 or length == 0 or pos > end:
            raise Damage(f'{what}: run {a}+{length} of kind {kind} is not possible')
        m.set(a, pos, kind, number if kind == K_DATA else 0, sector)
    return at


def table(blob, entries, first, end, what, m):
    at, number = 24, first
    for _ in range(entries):
        row = []
        for _ in range(5):
            v, at = leb128(blob, at, what)
            row.append(v)
        number += row[0]
        if number in m or number >= end:
            raise Damage(f'{what}: object {number} out of order')
        m[number] = row[1:]
    return at


# --- a checkpoint, and the walk from it

class Checkpoint:
    def __init__(self, obj):
        blob, what = obj.section(S_CHECKPOINT), f'{obj.name}, checkpoint'
        self.covers = take('<Q', blob, 0, what)[0]
        self.root, self.table = take('<QIIIB3x', blob, 8, what), take('<QIIIB3x', blob, 32, what)
        self.claim, self.epoch, self.nonce, self.seq, self.size, self.oldest, self.before, self.used, d, s, n = \
            take('<QQ16sQQQQQIII', blob, 56, what)
        if len(blob) != 144 + 8 * d + 8 * n + 16 * s:
            raise Damage(f'{what}: {len(blob)} bytes for {d} digests, {n} claims, {s} snapshots')
        self.digests = list(take(f'<{d}Q', blob, 144, what))
        self.claims = list(take(f'<{n}Q', blob, 144 + 8 * d, what))
        flat = take(f'<{2 * s}Q', blob, 144 + 8 * (d + n), what)
        self.snapshots = dict(zip(flat[::2], flat[1::2]))
        for x in (self.digests, self.claims, flat[::2]):
            if any(a >= b for a, b in zip(x, x[1:])):
                raise Damage(f'{what}: a list is out of order')


class State:
    """The image after some number of its log."""
    def __init__(self, image):
        self.image, self.map, self.size = image, Map(), image.create.size
        self.claim, self.epoch, self.nonce = 0, 1, image.create.nonce
        self.claims, self.snapshots, self.seq, self.last = [], {}, 0, 0
        self.checkpoint = None

    # effects

    def resize(self, size):
        if self.size is None or size < self.size:
            self.map.set(up(size, SECTOR) // SECTOR, MAX_LBA)
        self.size = size

    def effect(self, kind, number, size, blob, first, name):
        """Of a data, cleaner or resize object, by its header or by a digest."""
        if kind not in (DATA, CLEANER, RESIZE):
            raise Damage(f'{name}: an effect of type {kind}')
        for lba, k, length, source in extents(blob, kind == CLEANER, name) if kind != RESIZE else ():
            if lba + length > up(size, SECTOR) // SECTOR and k != K_DISCARD:
                raise Damage(f'{name}: extent {lba}+{length} is behind the end')
            if kind == CLEANER:
                self.image.unmoved += self.map.move(lba, length, number, first, *source)
            elif k == K_DISCARD:
                self.map.set(lba, lba + length)
            else:
                self.map.set(lba, lba + length, k, number if k == K_DATA else 0, first if k == K_DATA else 0)
            first += length if k == K_DATA else 0
        self.resize(size)

    def digest(self, obj, since):
        """Applies a DIGEST but for numbers below since, and says where it ends."""
        blob, what = obj.section(S_DIGEST), f'{obj.name}, digest'
        first, end = take('<QQ', blob, 0, what)
        if first > since or end < first:
            raise Damage(f'{what}: from {first} to {end}, wanted from {since}')
        at, last = 16, 0
        while at < len(blob):
            number, kind, size, sizes, data = take('<QH2xIQI4x', blob, at, what)
            at += 32
            part = take(f'{size}s', blob, at, what)[0]
            at += up(size, 8)
            if not max(first, last + 1) <= number < end:
                raise Damage(f'{what}: number {number} is out of order')
            last = number
            if number >= since:
                self.effect(kind, number, sizes, part, data, f'{what}, number {number}')
        return max(end, since)

    # a checkpoint: tree, digests, and headers up to it

    def load(self, obj):
        """Map and size become those of a CHECKPOINT section. Returns it, and the first number that it says nothing of."""
        c = Checkpoint(obj)
        self.map, self.size = Map(), None
        if c.covers and any(c.root):
            page(self.image, c.root, None, self.map)
        if sum(r[1] - r[0] for r in self.map.runs) != c.used:
            raise Damage(f'{obj.name}: the tree does not have {c.used} sectors')
        pos = c.covers or (1 if c.digests else self.image.first)
        for number in c.digests:
            pos = self.digest(obj if number == obj.number else self.image.get(number), pos)
        return c, pos

    def start(self, obj):
        """From a checkpoint that a mark names: all below it."""
        c, pos = self.load(obj)
        self.claims, self.snapshots, self.checkpoint = c.claims, c.snapshots, obj.number
        # who wrote the numbers from pos on, and whether pos is void: the newest claim below says
        below = [n for n in c.claims if self.image.first < n < pos]
        if below:
            claim = self.image.get(below[-1])
            self.claim, self.epoch, self.nonce = claim.number, claim.epoch, claim.nonce
            pos = max(pos, self.claim_of(claim)[0])
        while pos < obj.number:
            pos = self.step(pos)
        if pos > obj.number:
            raise Damage(f'{obj.name}: a claim voids this checkpoint')
        if (self.claim, self.epoch, self.nonce) != (c.claim, c.epoch, c.nonce) or self.size not in (None, c.size):
            raise Damage(f'{obj.name}: checkpoint of claim {c.claim}, epoch {c.epoch}, size {c.size}; the log says '
                         f'{self.claim}, {self.epoch}, {self.size}')
        self.size = c.size
        self.last = obj.number - 1

    def snapshot(self, obj):
        self.size = self.load(obj)[0].size
        self.last = obj.number

    # the walk

    def claim_of(self, obj):
        nxt, before = take('<QQ', obj.section(S_CLAIM), 0, obj.name)
        if obj.type != CLAIM or nxt <= obj.number or nxt > obj.number + 2 * self.image.window:
            raise Damage(f'{obj.name}: a claim with next {nxt}')
        return nxt, before

    def step(self, number):
        """Takes one object of the log and returns the next number."""
        obj = self.image.log.get(number)
        if obj.type == CLAIM:
            nxt, before = self.claim_of(obj)
            if before != self.claim or obj.epoch != self.epoch + 1:
                raise Damage(f'{obj.name}: a claim of epoch {obj.epoch} after {before}; the log is at epoch '
                             f'{self.epoch} after {self.claim}')
            self.claim, self.epoch, self.nonce = number, obj.epoch, obj.nonce
            if number not in self.claims:
                self.claims = self.claims + [number]
        else:
            nxt = number + 1
            if obj.nonce != self.nonce or obj.epoch != self.epoch:
                raise Damage(f'{obj.name}: of another writer, epoch {obj.epoch} instead of {self.epoch}')
        if obj.type in (DATA, CLEANER):
            self.effect(obj.type, number, obj.size, obj.sections.get(S_EXTENTS, b''), obj.first, obj.name)
        elif obj.type == RESIZE:
            self.resize(obj.size)
        elif obj.type == ROLLBACK or (obj.type == CREATE and S_CHECKPOINT in obj.sections):
            self.size = self.load(obj)[0].size
        elif obj.type == SNAPSHOT:
            self.snapshots[number] = 0
        elif obj.type in (UNSNAP, FREE):
            target = take('<Q', obj.section(S_TARGET), 0, obj.name)[0]
            if target not in self.snapshots:
                raise Damage(f'{obj.name}: {target} is no snapshot')
            self.snapshots[target] |= 1
            if obj.type == FREE:
                del self.snapshots[target]
        if self.size is None:
            self.size = obj.size
        if obj.size != self.size:
            raise Damage(f'{obj.name}: the size is {self.size}, it says {obj.size}')
        if obj.type == CREATE and number != self.image.first:
            raise Damage(f'{obj.name}: a second create record')
        self.seq, self.last = obj.seq, number
        return nxt

    def walk(self, number, at, reach):
        """From number to the end of the log, or up to at; reach: what a mark names, so that the log had it."""
        while at is None or number <= at:
            try:
                self.image.log.get(number)
            except Gone:
                if number <= max(reach, at or 0):
                    raise
                self.behind(number)
                break
            number = self.step(number)

    def behind(self, end):
        """The log ends here, unless a later object knows better."""
        for n in self.image.log.numbers():
            try:
                if n > end and self.image.log.get(n).durable > end:
                    raise Gone(f'object {end} is missing: {n} is behind it')
            except Gone:
                raise
            except Damage:
                pass

    # what comes out

    def content(self, run):
        first, end, kind, number, sector = run
        if kind == K_ZERO:
            return
        obj = self.image.get(number)
        if obj.type not in (DATA, CLEANER):
            raise Damage(f'{obj.name}: the map has sectors in a {TYPES[obj.type]}')
        step = 2048
        for s in range(0, end - first, step):
            n = min(step, end - first - s)
            yield (first + s) * SECTOR, obj.content(sector + s, n)

    def data(self):
        """(offset, bytes) of all that is no zero."""
        for run in self.map.runs:
            yield from self.content(run)


def read_state(image, at=None, snapshot=None):
    state = State(image)
    marks = image.log.marks()
    reach = max(marks, default=0)
    for c in marks:
        if at is not None and c > at:
            continue
        try:
            obj = image.log.get(c)
        except Damage as e:
            print(f'image-reader: {e}: trying the mark before', file=sys.stderr)
            continue
        state.start(obj)
        break
    start = state.last + 1 if state.checkpoint else image.first
    state.walk(start, at, reach if at is None else min(reach, at))
    if snapshot is None:
        return state
    for number, flags in state.snapshots.items():
        obj = image.log.get(number)
        blob = obj.section(S_SNAPSHOT)
        if blob[8:].decode() == snapshot and not flags & 1:
            state = State(image)
            state.snapshot(obj)
            return state
    raise Damage(f'no snapshot {snapshot}')


# --- from a path to a log

def name_object(bucket, path):
    file = os.path.join(bucket, path + '.lsvd')
    try:
        with open(file, 'rb') as f:
            lines = f.read(65536).decode().split('\n')
    except FileNotFoundError:
        raise Damage(f'{path}.lsvd: missing')
    if lines[0] != 'lsvdfs image 1' or lines[-1] != '':
        raise Damage(f'{path}.lsvd: no name object')
    pairs = dict(line.split('=', 1) for line in lines[1:-1] if '=' in line)
    if not re.fullmatch('[0-9a-f]{32}', pairs.get('uuid', '')) or 'name' not in pairs or 'log' not in pairs:
        raise Damage(f'{path}.lsvd: no name object')
    header = json.loads(os.getxattr(file, 'user.lsvd'))['headers'].get('x-amz-meta-lsvd-image', '')
    if header.split(' ')[:2] != ['1', pairs['uuid']]:
        raise Damage(f'{path}.lsvd: its header says {header!r}: a plain file')
    return pairs


def open_path(bucket, path):
    pairs = name_object(bucket, path)
    uuid = bytes.fromhex(pairs['uuid'])
    above = ('/' + path).rsplit('/', 1)[0].strip('/')
    ways = []
    if ('/' + path).endswith('/' + pairs['name']):
        base = path[:len(path) - len(pairs['name'])]
        ways.append((base, base + pairs['log']))
    while True:
        base = above + '/' if above else ''
        ways.append((base, f'{base}.lsvd/img/{pairs["uuid"]}/'))
        if not above:
            break
        above = above.rpartition('/')[0]
    for base, log in ways:
        if os.path.isdir(os.path.join(bucket, log)):
            return Image(os.path.join(bucket, log), uuid, os.path.join(bucket, base))
    raise Damage(f'{path}: no log of {pairs["uuid"]}')


def open_log(bucket, prefix):
    path = os.path.join(bucket, prefix)
    uuid = os.path.basename(os.path.normpath(path))
    if not re.fullmatch('[0-9a-f]{32}', uuid):
        raise Damage(f'{prefix}: does not end in a uuid')
    return Image(path, bytes.fromhex(uuid), os.path.normpath(os.path.join(path, '../../..')))


# --- the journal (section 6): what a local directory has beyond the log

def segments(path, uuid):
    out, said = [], set()
    for n in sorted(os.listdir(path)):
        if re.fullmatch('journal-[0-9a-f]{8}', n):
            with open(os.path.join(path, n), 'rb') as f:
                blob = f.read()
            if len(blob) < SECTOR or not any(blob[:SECTOR]):
                continue
            magic, version, size, whose, generation, first = take('<8sII16sQQ', blob, 0, n)
            if (magic, version, whose) != (b'LSVDJNL\n', 1, uuid) or crc32c(blob[:124]) != take('<I', blob, 124, n)[0]:
                raise Damage(f'{n}: its header does not check')
            if generation in said:
                raise Damage(f'{n}: another file has generation {generation}, too')
            said.add(generation)
            if first:
                out.append((generation, first, blob[:size]))
    return sorted(out)


def record(blob, at, generation, uuid):
    """(type, sequence, offset, bytes, nonce, size, CRC of data, synced) or None."""
    if at + SECTOR > len(blob):
        return None
    magic, kind, seq, whose, offset, count, nonce, size, datacrc, synced, crc = \
        take('<4sH2xQQQQ16sIIQI', blob, at, 'journal')
    if magic != b'LSJR' or whose != generation or crc32c(uuid + blob[at:at + 72]) != crc:
        return None
    return kind, seq, offset, count, nonce, size, datacrc, synced


def records(path, uuid):
    """(sequence, type, offset, bytes, data) as far as the records go."""
    last, rest = None, []
    for generation, first, blob in segments(path, uuid):
        at = SECTOR
        if rest and first != last + 1 or len(rest) > 1:
            rest.append((generation, blob, at))
            continue
        last = first - 1
        while True:
            r = record(blob, at, generation, uuid)
            data = blob[at + SECTOR:at + SECTOR + r[5]] if r else b''
            if r is None or r[1] != last + 1 or len(data) != r[5] or crc32c(data) != r[6]:
                break
            last = r[1]
            yield last, r[0], r[2], r[3], data
            at += SECTOR + r[5]
        rest = [(generation, blob, at)]
    for generation, blob, start in rest:
        for at in range(start, len(blob), SECTOR):
            r = record(blob, at, generation, uuid) if blob[at:at + 4] == b'LSJR' else None
            if r and r[7] > last:
                raise Damage(f'{path}: record {last + 1} is lost: {r[1]} knows that it was there')


def replay(path, image, state):
    """The records of a journal that are not in the log, as writes to make on top of the image."""
    with open(os.path.join(path, 'nonces'), encoding='ascii') as f:
        lines = f.read().split('\n')
    nonces = lines[:-2]
    if lines[-2:] != ['crc %08x' % crc32c(''.join(n + '\n' for n in nonces).encode()), '']:
        raise Damage(f'{path}/nonces: does not check')
    if state.nonce.hex() not in nonces:
        raise Damage(f'{path}: the newest claim is not of this journal')
    seen = None
    for seq, kind, offset, count, data in records(path, image.log.uuid):
        if seen is None and seq > state.seq + 1:
            raise Damage(f'{path}: begins at {seq}, the log ends at {state.seq}')
        seen = seq
        if seq > state.seq:
            yield kind, offset, count, data


# --- output: a sparse file

def write_out(f, state, later):
    f.truncate(state.size)
    for offset, data in state.data():
        f.seek(offset)
        f.write(data[:max(0, state.size - offset)])
    for kind, offset, count, data in later:
        if kind == 1:
            f.seek(offset)
            f.write(data)
        elif kind in (2, 3):
            for at in range(offset, offset + count, 1 << 20):
                f.seek(at)
                f.write(bytes(min(1 << 20, offset + count - at)))
        elif kind == 4:
            f.truncate(offset)
    f.flush()


def digest_of(f):
    h = hashlib.sha256()
    f.seek(0)
    while True:
        part = f.read(1 << 20)
        if not part:
            return h.hexdigest()
        h.update(part)


def check_all(image, state):
    """Every byte of what the state refers to, and the object table."""
    used = {}
    for first, end, kind, number, _ in state.map.runs:
        if kind == K_DATA:
            used[number] = used.get(number, 0) + end - first
    for number in used:
        image.get(number).verify()
    if image.unmoved:
        raise Damage(f'{image.unmoved} sectors of cleaner objects came from where the map did not point')
    if state.checkpoint is None:
        return
    c = Checkpoint(image.log.get(state.checkpoint))
    if not any(c.table):
        return
    rows, tree = {}, Map()
    page(image, c.table, None, rows)
    if any(c.root):
        page(image, c.root, None, tree)
    live = {}
    for first, end, kind, number, _ in tree.runs:
        if kind == K_DATA:
            live[number] = live.get(number, 0) + end - first
    for number in set(live) | {n for n in rows if n < c.covers}:
        kind, sectors, have, death = rows.get(number, (0, 0, 0, 0))
        if have != live.get(number, 0) or have > sectors or 0 < death <= number or (
                have and death and death - 1 <= c.covers):
            raise Damage(f'object table: {number} has {have} of {sectors} sectors live (death {death}), '
                         f'the tree {live.get(number, 0)}')


def information(image, state):
    return {'uuid': image.log.uuid.hex(), 'size': state.size, 'last': state.last, 'epoch': state.epoch,
            'claims': state.claims, 'snapshots': sorted(state.snapshots), 'sequence': state.seq,
            'checkpoint': state.checkpoint or 0, 'window': image.window, 'runs': len(state.map.runs),
            'data': state.map.sectors(K_DATA) * SECTOR, 'zero': state.map.sectors(K_ZERO) * SECTOR,
            'objects': sorted({r[3] for r in state.map.runs if r[2] == K_DATA}), 'unmoved': image.unmoved,
            'fsync': 'remote' if image.fsync else 'local', 'nonce': state.nonce.hex()}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('bucket')
    what = ap.add_mutually_exclusive_group(required=True)
    what.add_argument('--image', help='path of the image, with @NAME a snapshot of it')
    what.add_argument('--log', help='key prefix of the log, PREFIX.lsvd/img/UUID/')
    ap.add_argument('--snapshot', help='its name')
    ap.add_argument('--at', type=int, help='as it was after this number of the log')
    ap.add_argument('--journal', help='a local directory img/UUID whose journal is replayed on top')
    ap.add_argument('--verify', action='store_true', help='read every byte that the image refers to')
    ap.add_argument('--info', action='store_true', help='print what is known of it as JSON')
    ap.add_argument('--output', help='write the raw disk there, sparse')
    a = ap.parse_args()
    if a.image and '@' in a.image.rsplit('/', 1)[-1]:
        a.image, _, a.snapshot = a.image.rpartition('@')
    try:
        image = open_path(a.bucket, a.image) if a.image else open_log(a.bucket, a.log)
        state = read_state(image, a.at, a.snapshot)
        if a.verify:
            check_all(image, state)
        later = list(replay(a.journal, image, state)) if a.journal else []
        if a.info:
            print(json.dumps(information(image, state), indent=1))
        if a.output or not a.info:
            with open(a.output, 'w+b') if a.output else tempfile.TemporaryFile() as f:
                write_out(f, state, later)
                if not a.output:
                    print(digest_of(f))
    except Damage as e:
        print(f'image-reader: {e}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())

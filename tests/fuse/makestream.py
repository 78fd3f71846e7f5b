# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes migration streams as QEMU writes them, without QEMU.

Nothing here is shared with the program that reads them.
"""
import json
import random
import struct

PAGE = 4096
REGION = 2 << 20
EOS, CONTINUE, ZERO_PAGE, FULL_PAGE = 0x10, 0x20, 0x02, 0x08
DEVICE_BYTES = 30000


def str8(text):
    data = text.encode()
    return bytes([len(data)]) + data


def page_bytes(seed):
    """A page that compresses about two to one, the same for the same seed."""
    half = random.Random(seed).randbytes(PAGE // 2)
    return half + bytes([seed & 0xff or 1]) * (PAGE // 2)


class Guest:
    """RAM blocks, a dict of {name: {page number: bytes}} and their sizes."""

    def __init__(self, sizes, seed=1, every=2):
        """Blocks of these sizes ({name: bytes}); one page in `every` is not
        zero."""
        self.sizes = dict(sizes)
        self.seed = seed
        self.pages = {name: {} for name in sizes}
        for number, (name, size) in enumerate(self.sizes.items()):
            for page in range(0, size // PAGE):
                if page % every == 0:
                    self.pages[name][page] = page_bytes(seed * 1000003 + number * 65537 + page)

    def flat(self):
        """The bytes of the file `ram`."""
        parts, end = [], 0
        for name, size in self.sizes.items():
            parts.append(bytes(-end % REGION))
            end += -end % REGION
            data = bytearray(size)
            for page, content in self.pages[name].items():
                data[page * PAGE:(page + 1) * PAGE] = content
            parts.append(bytes(data))
            end += size
        return b''.join(parts)

    def stored(self):
        return sum(len(pages) for pages in self.pages.values())


def header(machine='pc-q35-10.0'):
    name = machine.encode()
    return struct.pack('>II', 0x5145564d, 3) + b'\x07' + struct.pack('>I', len(name)) + name


def footer(section):
    return b'\x7e' + struct.pack('>I', section)


def ram_start(guest, section=1):
    total = sum(guest.sizes.values())
    blocks = b''.join(str8(name) + struct.pack('>Q', size) for name, size in guest.sizes.items())
    return (b'\x01' + struct.pack('>I', section) + str8('ram') + struct.pack('>II', 0, 4) +
            struct.pack('>Q', total | 4) + blocks + struct.pack('>Q', EOS) + footer(section))


def ram_section(records, section=1, kind=2):
    """One PART (or END) section; `records` yields (block, page, bytes or None)."""
    parts, last = [bytes([kind]) + struct.pack('>I', section)], None
    for block, page, content in records:
        flags = FULL_PAGE if content else ZERO_PAGE
        if block == last:
            flags |= CONTINUE
        parts.append(struct.pack('>Q', page * PAGE | flags))
        if block != last:
            parts.append(str8(block))
        parts.append(content or b'\0')
        last = block
    parts.append(struct.pack('>Q', EOS) + footer(section))
    return b''.join(parts)


def field(name, kind, size):
    return {'name': name, 'type': kind, 'size': size}


def described(*subsections, machine=b'pc-q35-10.0'):
    """What QEMU's description says of the configuration."""
    fields = {
        'target-page-bits': [field('page_bits', 'uint32', 4)],
        'capabilities': [field('caps_count', 'uint32', 4), field('capabilities', 'capability', 11)],
        'uuid': [field('uuid', 'buffer', 16)]}
    out = {'vmsd_name': 'configuration', 'version': 1,
           'fields': [field('len', 'uint32', 4), field('name', 'buffer', len(machine))]}
    if subsections:
        out['subsections'] = [{'vmsd_name': f'configuration/{name}', 'version': 1,
                               'fields': fields[name]} for name in subsections]
    return {'configuration': out}


def device_state(size=DEVICE_BYTES, seed=7, configuration=None):
    """One device's section, and what follows up to the end of the stream."""
    body = random.Random(seed).randbytes(size)
    section = (b'\x04' + struct.pack('>I', 9) + str8('0000:00:01.0/dev') +
               struct.pack('>II', 0, 1) + body + footer(9))
    text = json.dumps({**(configuration or {}), 'page_size': PAGE,
                       'devices': [{'name': 'dev', 'size': size}]}).encode()
    return section + b'\x00\x06' + struct.pack('>I', len(text)) + text


def records(guest, order=None):
    """All pages of the guest as records, in order, or shuffled by `order`."""
    found = [(name, page, guest.pages[name].get(page))
             for name, size in guest.sizes.items() for page in range(size // PAGE)]
    if order is not None:
        random.Random(order).shuffle(found)
    return found


def chunked(items, size):
    for i in range(0, len(items), size):
        yield items[i:i + size]


def stream(guest, order=None, device=DEVICE_BYTES):
    """A whole stream of a stopped guest."""
    parts = [header(), ram_start(guest)]
    parts += [ram_section(some) for some in chunked(records(guest, order), 1000)]
    parts += [ram_section([], kind=3), device_state(device)]
    return b''.join(parts)


def verbatim_stream(size=200000):
    """A stream that cannot be split: a device's section of unknown length
    stands before RAM."""
    body = random.Random(3).randbytes(size)
    early = (b'\x04' + struct.pack('>I', 7) + str8('virtio-mem-device-early') +
             struct.pack('>II', 0, 1) + body + footer(7))
    small = Guest({'pc.ram': 1 << 20})
    return header() + early + stream(small)[len(header()):]


def read_back(data):
    """{block: {page: bytes}} and the order of blocks, out of a stream without
    anything unusual in it."""
    at = len(header())
    pages, sizes = {}, {}

    def take(n):
        nonlocal at
        piece = data[at:at + n]
        assert len(piece) == n, 'the stream is too short'
        at += n
        return piece

    def number(n):
        return int.from_bytes(take(n), 'big')

    def name():
        return take(number(1)).decode()

    block = None
    while True:
        kind = number(1)
        if kind in (4, 0):
            return sizes, pages, at - 1
        take(4)
        if kind == 1:
            assert name() == 'ram'
            take(8)
            left = number(8) & ~0xfff
            while left:
                block = name()
                sizes[block] = number(8)
                pages[block] = {}
                left -= sizes[block]
            assert number(8) == EOS
        else:
            while True:
                word = number(8)
                if word & EOS:
                    break
                if not word & CONTINUE:
                    block = name()
                content = take(PAGE) if word & FULL_PAGE else take(1)
                if word & FULL_PAGE:
                    pages[block][word // PAGE] = content
        assert number(1) == 0x7e
        take(4)

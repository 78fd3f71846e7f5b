#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes the first inputs of the fuzz targets: seeds.py [CORPUS].

Small streams of every form, without pages or with ones that are zero, so that
a fuzzer soon finds its way. What a fuzzer then found to crash lies beside them
as crash-*, written by nobody but it.
"""
import os
import struct
import sys


def be16(n):
    return struct.pack('>H', n)


def be32(n):
    return struct.pack('>I', n)


def be64(n):
    return struct.pack('>Q', n)


def str8(text):
    return bytes([len(text)]) + text


MAGIC = b'QEVM' + be32(3)
TEXT = b'{"devices":[]}'
DESCRIPTION = b'\x00\x06' + be32(len(TEXT)) + TEXT
EOS = be64(0x10)
ZERO, PAGE, CONTINUE = 0x02, 0x08, 0x20


def configuration(machine, *subsections):
    return b'\x07' + be32(len(machine)) + machine + b''.join(
        b'\x05' + str8(b'configuration/' + name) + be32(1) + fields for name, fields in subsections)


def start(number, name, version, payload, kind=1):
    return bytes([kind]) + be32(number) + str8(name) + be32(0) + be32(version) + payload


def footer(number):
    return b'\x7e' + be32(number)


def part(number, payload, kind=2):
    return bytes([kind]) + be32(number) + payload + footer(number)


def ram_list(*blocks):
    return be64(sum(length for _, length, _ in blocks) | 4) + b''.join(
        str8(name) + be64(length) + extra for name, length, extra in blocks) + EOS


def zero(offset, name=None, fill=0):
    if name is None:
        return be64(offset | ZERO | CONTINUE) + bytes([fill])
    return be64(offset | ZERO) + str8(name) + bytes([fill])


def page(offset, data, name=None):
    if name is None:
        return be64(offset | PAGE | CONTINUE) + data
    return be64(offset | PAGE) + str8(name) + data


CPU = start(5, b'cpu', 1, b'state', kind=4) + footer(5)
BLOCKS = ((b'pc.ram', 0x4000, b''), (b'vga', 0x2000, b''))
RAM = start(2, b'ram', 4, ram_list(*BLOCKS)) + footer(2)
DIRTY_BITS = b'\x40' + be64(0) + be32(8) + be64(8) + bytes(range(8))
ZEROES = zero(0, b'pc.ram') + zero(0x1000) + zero(0x2000) + zero(0x3000)

STREAMS = {
    'precopy': MAGIC + configuration(b'pc-q35-10.0') + RAM
               + part(2, ZEROES + EOS) + b'\x08' + be16(11) + be16(0)
               + part(2, zero(0, b'vga', 7) + zero(0x1000) + EOS, kind=3) + CPU + DESCRIPTION,
    'background': MAGIC + configuration(b'pc') + RAM
                  + part(2, zero(0x3000, b'pc.ram') + zero(0, b'vga') + zero(0, b'pc.ram') + EOS)
                  + CPU + DESCRIPTION,
    'page': MAGIC + start(2, b'ram', 4, ram_list((b'm', 0x1000, b'')))
            + b'\x02' + be32(2) + page(0, b'\x5a' * 3072, b'm'),
    'old': MAGIC + start(2, b'ram', 4, ram_list(*BLOCKS)) + b'\x02' + be32(2) + ZEROES + EOS
           + start(5, b'cpu', 1, b'state', kind=4) + DESCRIPTION,
    'undescribed': MAGIC + RAM + part(2, ZEROES + EOS, kind=3) + CPU + b'\x00',
    'empty': MAGIC + start(2, b'ram', 4, ram_list()) + footer(2) + part(2, EOS, kind=3) + DESCRIPTION,
    'configured': MAGIC + configuration(
        b'virt-10.0', (b'target-page-bits', be32(16)),
        (b'capabilities', be32(1) + str8(b'x-ignore-shared')), (b'uuid', bytes(range(16))))
                  + start(2, b'ram', 4, ram_list((b'a', 0x10000, be64(0x40000000)), (b'b', 0x20000, be64(0))))
                  + footer(2) + part(2, zero(0x10000, b'b') + EOS, kind=3) + CPU + DESCRIPTION,
    'huge': MAGIC + b'\x08' + be16(3) + be16(16) + be64(0x201000) + be64(0x1000)
            + start(2, b'ram', 4, ram_list((b'a', 0x1000, be64(0x200000)), (b'b', 0x1000, b''),
                                           (b'c', 0x1000, be64(0x40000000) + be64(0x200))))
            + footer(2) + part(2, be64(0x200) + zero(0, b'b') + EOS) + CPU + DESCRIPTION,
    'dirty-bitmap': MAGIC + start(3, b'dirty-bitmap', 1,
                                  b'\x1c' + str8(b'node') + str8(b'map') + be32(65536) + b'\x01\x01')
                    + footer(3) + RAM + part(3, DIRTY_BITS + b'\x42' + be64(8) + be32(8)
                                             + b'\x80\x20' + b'\x80\x80\x00\x01')
                    + part(2, ZEROES + EOS, kind=3) + CPU + DESCRIPTION,
    'htab': MAGIC + start(1, b'spapr/htab', 1, be32(18)) + footer(1) + RAM
            + part(1, be32(0) + be32(7) + be16(1) + be16(2) + bytes(16) + be64(0))
            + part(2, ZEROES + EOS) + part(1, be32(0xffffffff), kind=3) + CPU + DESCRIPTION,
    'stattrib': MAGIC + start(1, b's390-storage_attributes', 0, be64(1)) + footer(1) + RAM
                + part(1, be64(0x7002) + be64(3) + b'abc' + be64(8) + be64(1))
                + part(2, ZEROES + EOS, kind=3) + CPU + DESCRIPTION,
    'virtio-mem': MAGIC + configuration(b'pc') + start(1, b'virtio-mem-device-early', 1, b'early', kind=4)
                  + footer(1) + RAM + part(2, ZEROES + EOS) + CPU + DESCRIPTION,
    'vfio': MAGIC + RAM + start(9, b'vfio', 1, be64(0xffffffffef100001)) + footer(9)
            + part(2, ZEROES + EOS) + CPU + DESCRIPTION,
    'packaged': MAGIC + b'\x08' + be16(7) + be16(4) + be32(9),
    'xbzrle': MAGIC + RAM + b'\x02' + be32(2) + be64(0x40) + str8(b'pc.ram') + b'\x01' + be16(2) + b'ab',
    'foreign': b'\x7fELF\x02\x01\x01' + bytes(60),
}
STREAMS['devstate'] = MAGIC + RAM + CPU + DESCRIPTION
STREAMS['devstate-parts'] = MAGIC + RAM + part(2, EOS) + part(2, EOS) + CPU + DESCRIPTION
STREAMS['padded'] = STREAMS['precopy'] + bytes(700)
STREAMS['not-padded'] = STREAMS['precopy'] + bytes(700) + b'more'


def mapped(caps, blocks, uuid=True, begin=0, sparse=True):
    """A mapped-ram stream whose pages begin at the next page. For the parser
    alone (`sparse`), which does not look at them, without bitmaps and pages.
    Of a block (name, length, what is listed behind), or four for one that is
    left out."""
    out = MAGIC + configuration(b'pc', (b'capabilities', be32(len(caps)) + b''.join(map(str8, caps))),
                                *((b'uuid', bytes(range(16))),) * uuid)
    out += start(2, b'ram', 4, be64(sum(block[1] for block in blocks) | 4))
    gone = begin
    for name, length, extra, *ignored in blocks:
        out += str8(name) + be64(length) + extra + be32(1) + be64(0x1000)
        if ignored:
            out += be64(0) + be64(0)
            continue
        bitmap = gone + len(out) + 16
        size = -(-length // (64 << 12)) * 8
        pages = -(-(bitmap + size) // 0x1000) * 0x1000
        out += be64(bitmap) + be64(pages)
        if sparse:
            gone = pages + length - len(out)
        else:
            bits = (b'\x05' + bytes(size))[:size]
            data = b'\x11' * 0x1000 + bytes(0x1000) + b'\x22' * 0x1000
            out += bits + bytes(pages - bitmap - size) + data[:length] + bytes(max(0, length - len(data)))
    return out + EOS + footer(2) + part(2, EOS) + b'\x08' + be16(11) + be16(0) + part(2, EOS, kind=3) + CPU + DESCRIPTION


def mapped_streams(**how):
    shared = ((b'a', 0x10000, be64(0x40000000)), (b'b', 0x20000, be64(0), 'ignored'))
    plain = mapped([b'mapped-ram'], BLOCKS, **how)
    early = start(7, b'p/virtio-mem-device-early', 1, be64(0) + be64(0x400000) + be64(0x200000) + be32(0)
                  + be64(0x200000) + be64(2), kind=4) + footer(7)
    vfio = start(9, b'vfio', 1, be64(0xffffffffef100001)) + footer(9)
    end = EOS + footer(2) + b'\x02'
    return {
        'mapped-virtio-mem': plain.replace(end, end[:-1] + early + b'\x02'),
        'mapped-vfio': plain.replace(end, end[:-1] + vfio + b'\x02'),
        'mapped-ram': mapped([b'mapped-ram'], BLOCKS, **how),
        'mapped-shared': mapped([b'x-ignore-shared', b'mapped-ram'], shared, uuid=False, **how),
        'mapped-new': mapped([b'x-new', b'mapped-ram'], BLOCKS, **how),
        'mapped-sized': mapped([b'mapped-ram'], ((b'a', 0x1000, be64(0x200000)), (b'b', 0, b'')), **how),
        'mapped-page': mapped([b'mapped-ram'], BLOCKS[1:], **how).replace(EOS + footer(2) + b'\x08', zero(0, b'vga')),
    }


def write(corpus, target, name, content):
    os.makedirs(os.path.join(corpus, target), exist_ok=True)
    with open(os.path.join(corpus, target, name), 'wb') as file:
        file.write(content)


def main(corpus):
    for name, stream in STREAMS.items():
        write(corpus, 'parse', name, bytes([6, name.startswith('devstate')]) + stream)
        write(corpus, 'layout', name, b'\x55' + stream)
    for name, stream in mapped_streams(begin=92).items():
        write(corpus, 'parse', name, bytes([6, 92]) + stream)
    for name, stream in mapped_streams(sparse=False).items():
        write(corpus, 'layout', name, b'\x55' + stream)


if __name__ == '__main__':
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), 'corpus'))

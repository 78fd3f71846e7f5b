# SPDX-License-Identifier: GPL-2.0-or-later
"""Just enough of QEMU's migration stream to find its RAM blocks and records.

Written apart from the C parser, so that a mistake of one is seen by the other.
"""
import json
import struct
from dataclasses import dataclass

REGION = 2 << 20
CONFIGURATION, START, PART, END, FULL, COMMAND, SUBSECTION, FOOTER = 7, 1, 2, 3, 4, 8, 5, 0x7e
ZERO, MEM_SIZE, PAGE, EOS, CONTINUE = 0x02, 0x04, 0x08, 0x10, 0x20


@dataclass
class Block:
    name: str
    size: int
    at: int     # where it begins in the flat `ram` file


class Cursor:
    def __init__(self, data):
        self.data = data
        self.offset = 0

    def take(self, length):
        if self.offset + length > len(self.data):
            raise ValueError(f'the stream ends at {len(self.data)}, in the middle of something')
        piece = self.data[self.offset:self.offset + length]
        self.offset += length
        return piece

    def number(self, length):
        return int.from_bytes(self.take(length), 'big')

    def string(self):
        return bytes(self.take(self.number(1))).decode()


def _skip_header(cursor):
    if cursor.take(8) != struct.pack('>II', 0x5145564d, 3):
        raise ValueError('no migration stream')
    if cursor.data[cursor.offset] != CONFIGURATION:
        return
    cursor.take(1)
    cursor.take(cursor.number(4))
    while cursor.data[cursor.offset] == SUBSECTION:
        raise ValueError('a configuration with subsections is more than is known here')


def _read_blocks(cursor):
    total = cursor.number(8)
    if total & 0xfff != MEM_SIZE:
        raise ValueError('RAM does not begin with its size')
    left, at, blocks = total & ~0xfff, 0, []
    while left > 0:
        name, size = cursor.string(), cursor.number(8)
        blocks.append(Block(name, size, at))
        left -= size
        at += -(-size // REGION) * REGION
    if cursor.number(8) != EOS:
        raise ValueError('no end after the list of RAM blocks')
    return blocks


def _skip_records(cursor):
    """The number of page records up to the end of this section's payload."""
    pages = 0
    while True:
        flags = cursor.number(8) & 0xfff
        if flags & EOS:
            return pages
        if not flags & CONTINUE:
            cursor.string()
        if flags & ZERO:
            cursor.take(1)
        elif flags & PAGE:
            cursor.take(4096)
        else:
            raise ValueError(f'record flags {flags:#x} at {cursor.offset:#x}')
        pages += 1


def check_description(data):
    """The description at the end of a stream describes its configuration: reads
    this by that, as QEMU's scripts/analyze-migration.py does."""
    at = data.rfind(b'\x00\x06')
    length = int.from_bytes(data[at + 2:at + 6], 'big')
    if at < 0 or at + 6 + length != len(data):
        raise ValueError('no description at the end')
    described = json.loads(data[at + 6:])['configuration']
    cursor = Cursor(data[:1 << 16])
    cursor.take(8)
    if cursor.number(1) != CONFIGURATION:
        raise ValueError('no configuration')
    _read_described(cursor, described)
    if cursor.data[cursor.offset] == SUBSECTION:
        raise ValueError('a subsection of the configuration is not described')


def _read_described(cursor, described):
    for field in described['fields']:
        for _ in range(field.get('array_len', 1)):
            if field['type'] == 'capability':
                cursor.string()
            else:
                cursor.take(field['size'])
    for subsection in described.get('subsections', ()):
        if cursor.number(1) != SUBSECTION:
            raise ValueError(f'no {subsection["vmsd_name"]} in the configuration')
        if cursor.string() != subsection['vmsd_name'] or cursor.number(4) != subsection['version']:
            raise ValueError(f'not {subsection["vmsd_name"]}')
        _read_described(cursor, subsection)


def read_ram(data):
    """(blocks, number of page records, offset of the device state)."""
    cursor = Cursor(memoryview(data))
    _skip_header(cursor)
    blocks, pages = None, 0
    while True:
        start = cursor.offset
        kind = cursor.number(1)
        if kind == COMMAND:
            cursor.take(2)
            cursor.take(cursor.number(2))
            continue
        if kind in (FULL, 0):
            return blocks, pages, start
        cursor.take(4)
        if kind == START:
            if cursor.string() != 'ram':
                raise ValueError('a live section that is not RAM')
            cursor.take(8)
            blocks = _read_blocks(cursor)
        elif kind in (PART, END):
            pages += _skip_records(cursor)
        else:
            raise ValueError(f'element {kind:#x} at {start:#x}')
        if cursor.number(1) != FOOTER:
            raise ValueError(f'no footer at {cursor.offset:#x}')
        cursor.take(4)

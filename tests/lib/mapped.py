# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's mapped-ram files: how they are asked for, and what is in one.

The reader is written apart from the C parser, so that a mistake of one is seen
by the other.
"""
import contextlib
import os
import struct
from dataclasses import dataclass

from guest import PAGE
from harness import wait_until
from mount import plain
from qemu import Qemu
from stream import (CONFIGURATION, EOS, FOOTER, MEM_SIZE, START, SUBSECTION, Cursor,
                    check_description)
from vmcase import VmCase

MAPPED = {'mapped-ram': True}
MULTIFD = {'mapped-ram': True, 'multifd': True}
DIRECT = {'direct-io': True}

# A save of a guest that writes all of its memory all the time ends at once.
DEFAULTS = {'downtime-limit': 30000, 'direct-io': False, 'multifd-channels': 2}
# One that would go on for ever.
ROUNDS = {'downtime-limit': 1, 'max-bandwidth': 100 << 20}

# Below 1 MiB the processor sees ROM and video memory in place of RAM.
HOLE = slice(0xa0000, 0x100000)

HEADER = struct.Struct('>IQQQ')


def channels(count):
    return {'multifd-channels': count}


@dataclass
class MappedBlock:
    name: str
    size: int
    bitmap_at: int
    pages_at: int
    bitmap: bytes = b''

    def bits(self):
        """The numbers of the pages that are there."""
        number = int.from_bytes(self.bitmap, 'little')
        return [page for page in range(self.size // PAGE) if number >> page & 1]


class MappedFile:
    """A mapped-ram file whose stream begins at `begin`."""

    def __init__(self, path, begin=0):
        self.path = path
        self.blocks = []
        with open(path, 'rb') as self.file:
            self.tail_at = self._read(begin)
            self.file.seek(self.tail_at)
            self.tail = self.file.read()
        self.size = os.path.getsize(path)

    def _at(self, offset, length=1 << 16):
        return Cursor(os.pread(self.file.fileno(), length, offset))

    def _read(self, begin):
        cursor = self._at(begin)
        if cursor.take(8) != struct.pack('>II', 0x5145564d, 3):
            raise ValueError(f'no migration stream at {begin:#x}')
        if cursor.number(1) != CONFIGURATION:
            raise ValueError('no configuration')
        self.machine = cursor.take(cursor.number(4)).decode()
        self.capabilities = []
        while cursor.data[cursor.offset] == SUBSECTION:
            cursor.take(1)
            name, _ = cursor.string(), cursor.number(4)
            if name != 'configuration/capabilities':
                raise ValueError(f'subsection {name}')
            self.capabilities = [cursor.string() for _ in range(cursor.number(4))]
        if (cursor.number(1), cursor.number(4) >= 0, cursor.string()) != (START, True, 'ram'):
            raise ValueError('no RAM section')
        cursor.take(8)
        total = cursor.number(8)
        if total & 0xfff != MEM_SIZE:
            raise ValueError('RAM does not begin with its size')
        return self._read_blocks(total & ~0xfff, begin + cursor.offset)

    def _read_blocks(self, left, offset):
        while left:
            cursor = self._at(offset)
            name, size = cursor.string(), cursor.number(8)
            version, page, bitmap_at, pages_at = HEADER.unpack(cursor.take(HEADER.size))
            if (version, page) != (1, PAGE) or bitmap_at != offset + cursor.offset:
                raise ValueError(f'a header of {name} at {offset:#x} that is not as QEMU writes it')
            block = MappedBlock(name, size, bitmap_at, pages_at)
            length = -(-size // PAGE // 64) * 8
            block.bitmap = os.pread(self.file.fileno(), length, bitmap_at)
            self.blocks.append(block)
            offset = pages_at + size
            left -= size
        cursor = self._at(offset)
        if cursor.number(8) != EOS or cursor.number(1) != FOOTER:
            raise ValueError(f'no end after the list of RAM blocks at {offset:#x}')
        return offset

    def ram(self, number=0):
        """The memory of a block, as a loader sees it: bits, not holes, count."""
        block = self.blocks[number]
        with open(self.path, 'rb') as file:
            file.seek(block.pages_at)
            slots = file.read(block.size)
        memory = bytearray(block.size)
        for i, byte in enumerate(block.bitmap):
            for first, last in ([(0, 8)] if byte == 0xff else
                                [(bit, bit + 1) for bit in range(8) if byte >> bit & 1]):
                part = slice((8 * i + first) * PAGE, (8 * i + last) * PAGE)
                memory[part] = slots[part]
        return memory


@dataclass
class Saved:
    """A save that has ended well."""
    name: str
    begin: int = 0          # where the stream begins in the file
    ram: bytes = None       # the guest's memory, where it stood still at the end
    constant: bytes = None  # what of it did not change


class MappedCase(VmCase):
    def save(self, qemu, name='vm1', caps=MAPPED, params=None, stopped=False, offset=0, uri=None,
             rounds=0):
        """Saves a guest, and leaves it stopped. A guest that runs writes all of its
        memory all the time; `rounds` is how often it is sent in vain."""
        constant = qemu.constant()
        if not stopped:
            qemu.cont()
        uri = (uri or f'file:{self.stream(name)}') + (f',offset={offset:#x}' if offset else '')
        qemu.start_migrate(uri, caps, {**DEFAULTS, **(params or {}),
                                       **(ROUNDS if rounds else {})})
        if rounds:
            self.wait_rounds(qemu, rounds)
        qemu.wait_migrated()
        running = qemu.run_state() == 'running'
        qemu.stop()
        return Saved(name, offset, None if running else qemu.dump_ram(), constant)

    def wait_rounds(self, qemu, rounds):
        def sent():
            info = qemu.cmd('query-migrate')
            self.assertNotIn(info['status'], ('failed', 'completed'), info)
            return info.get('ram', {}).get('dirty-sync-count', 0) > rounds
        wait_until(sent, 60, f'{rounds} rounds')
        qemu.set_parameters({'downtime-limit': 30000, 'max-bandwidth': 0})

    def assert_ram(self, found, saved, what):
        """Memory is the guest's, as far as it is known."""
        if not saved.ram:
            self.assertIsNone(self.guest.check_ram(found), what)
            self.assertTrue(self.guest.constant(found) == saved.constant, what)
            return
        self.assert_same(found, saved.ram, what)

    def assert_same(self, found, ram, what='memory'):
        """Memory is the same, but for what the processor cannot see of it."""
        self.assertEqual(len(found), len(ram), what)
        for part in (slice(0, HOLE.start), slice(HOLE.stop, len(ram))):
            self.assertTrue(found[part] == ram[part], f'{what} differs in {part}')

    def assert_views(self, saved):
        """What the folder of a snapshot shows is the guest's memory."""
        stream = MappedFile(self.stream(saved.name), saved.begin)
        self.assertEqual(stream.capabilities, ['mapped-ram'])
        self.assert_ram(stream.ram(), saved, 'stream')
        if plain():
            return
        views = MappedFile(self.mount.path(saved.name, 'mapped'))
        self.assertEqual(views.capabilities, ['mapped-ram'])
        self.assert_ram(views.ram(), saved, 'mapped')
        self.assertEqual(views.tail, stream.tail)
        for view in ('stream', 'mapped', 'devstate')[1 if saved.begin else 0:]:
            with open(self.mount.path(saved.name, view), 'rb') as file:
                check_description(file.read())
        with open(self.mount.path(saved.name, 'ram'), 'rb') as file:
            self.assert_ram(file.read(stream.blocks[0].size), saved, 'ram')

    def loaded(self, uri, caps=None, params=None, args=()):
        qemu = self.enter(Qemu(self.guest, self.work, incoming=True, stopped=True, args=args))
        qemu.incoming(uri, caps, params)
        return qemu

    def assert_back(self, qemu, saved, what):
        """A loaded guest is whole, runs, and is whole after that."""
        self.assert_ram(qemu.dump_ram(), saved, what)
        qemu.cont()
        qemu.wait_serial('BB', timeout=20)
        self.assertIsNone(qemu.ram_error(), what)
        qemu.kill()

    def assert_loads_mapped(self, saved, view='stream', caps=MAPPED, params=None):
        uri = f'file:{self.mount.path(saved.name, view)}'
        if view == 'stream' and saved.begin:
            uri += f',offset={saved.begin:#x}'
        self.assert_back(self.loaded(uri, caps, params), saved, f'{saved.name}/{view}')


class Replay:
    """Plays QEMU's writes of a mapped-ram file again, through as many channels
    as it is told; their pages are shared out in turns."""

    def __init__(self, source, path, count):
        self.source = source
        self.path = path
        self.count = count
        self.fds = []
        self.main = None

    def __enter__(self):
        self.file = open(self.source.path, 'rb')
        self.main = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.ftruncate(self.main, 0)
        self.fds = [os.open(self.path, os.O_WRONLY) for _ in range(self.count)]
        return self

    def __exit__(self, *_):
        self.close()
        self.file.close()

    def _write(self, fd, offset, length):
        data = os.pread(self.file.fileno(), length, offset)
        if os.pwrite(fd, data, offset) != length:
            raise OSError('a write was cut short')

    def write(self, number, offset, length):
        self._write(self.fds[number], offset, length)

    def head(self):
        """What stands before each bitmap, and before the first section of pages."""
        start = 0
        for block in self.source.blocks:
            self._write(self.main, start, block.bitmap_at - start)
            start = block.pages_at + block.size

    def pages(self, number, first=0, last=None):
        shared = [block.pages_at + page * PAGE for block in self.source.blocks
                  for page in block.bits()][number::self.count]
        for offset in shared[first:last]:
            self.write(number, offset, PAGE)

    def bitmaps(self):
        for block in self.source.blocks:
            self._write(self.main, block.bitmap_at, len(block.bitmap))

    def tail(self):
        self._write(self.main, self.source.tail_at, len(self.source.tail))

    def close(self, number=None):
        """Closes a channel, or all there is; what a close says is not heard, as
        QEMU does not hear it."""
        for index, fd in enumerate(self.fds):
            if fd is not None and number in (None, index):
                self.fds[index] = None
                self._close(fd)
        if number is None and self.main is not None:
            fd, self.main = self.main, None
            self._close(fd)

    def _close(self, fd):
        with contextlib.suppress(OSError):
            os.close(fd)

# SPDX-License-Identifier: GPL-2.0-or-later
"""mapped-ram files as QEMU lays them out (migration/ram.c:
mapped_ram_setup_ramblock), made and read without QEMU and without anything that
the program itself is made of."""
import os
import struct

from makestream import EOS, PAGE, device_state, footer, str8

ALIGN = 1 << 20
MACHINE = b'pc-q35-10.0'
CAPABILITIES = b'configuration/capabilities'

# What libvirt writes before a stream: a header, XML, and room to edit that.
LIBVIRT = (b'LibvirtQemudPart' + struct.pack('<IIIII', 2, 5000, 1, 6, 0) + bytes(56) +
           b'<domain/>' + bytes(4991))


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def header(*capabilities):
    names = b''.join(str8(name) for name in capabilities)
    return (struct.pack('>II', 0x5145564d, 3) + b'\x07' + struct.pack('>I', len(MACHINE)) +
            MACHINE + b'\x05' + str8(CAPABILITIES.decode()) +
            struct.pack('>II', 1, len(capabilities)) + names)


def bitmap_size(size, page=PAGE):
    return -(-size // page // 64) * 8


class Image:
    """A guest as a mapped-ram file that begins at `begin`: `writes` are those of
    QEMU without multifd, as (offset, bytes), the bitmaps last but for what
    follows RAM; `data` is the whole file."""

    def __init__(self, guest, begin=0, section=1, device=30000, whole=True, gap=0,
                 header=header('mapped-ram')):
        self.stream, self.pages, self.bitmaps = [], [], []
        self.places = {}
        self.begin = self.at = begin
        self.gap = gap   # bytes between a header and its bitmap; QEMU has none
        total = sum(guest.sizes.values())
        self.put(header + b'\x01' + struct.pack('>I', section) + str8('ram') +
                 struct.pack('>II', 0, 4) + struct.pack('>Q', total | 4))
        for name, size in guest.sizes.items():
            self.put_block(name, size, guest.pages[name])
        empty = struct.pack('>IQ', section, EOS) + footer(section)
        self.put(struct.pack('>Q', EOS) + footer(section) + b'\x02' + empty)
        self.put(b'\x03' + empty)
        self.tail_at = self.at
        self.put(device_state(device))
        self.size = self.at
        self.writes = [*self.stream[:-2], *self.pages, *self.bitmaps, *self.stream[-2:]]
        if whole:
            data = bytearray(self.size)
            for offset, content in self.writes:
                data[offset:offset + len(content)] = content
            self.data = bytes(data)

    def put(self, data):
        self.stream.append((self.at, data))
        self.at += len(data)

    def put_block(self, name, size, pages):
        start = self.at + len(str8(name)) + 8 + 28 + self.gap
        area = -(-(start + bitmap_size(size)) // ALIGN) * ALIGN
        self.put(str8(name) + struct.pack('>QIQQQ', size, 1, PAGE, start, area))
        bits = bytearray(bitmap_size(size))
        for page in sorted(pages):
            bits[page // 8] |= 1 << page % 8
            self.pages.append((area + page * PAGE, pages[page]))
        self.bitmaps.append((start, bytes(bits)))
        self.places[name] = (start, area)
        self.at = area + size


class Reader:
    """Reads a mapped-ram file through `read(offset, size)`; as strict as QEMU,
    and then some."""

    def __init__(self, read, begin=0, page=PAGE):
        self.read, self.at, self.page = read, begin, page
        self.sizes, self.places, self.bitmaps = {}, {}, {}
        self.configuration()
        assert self.number(1) == 1, 'a section begins'
        self.section = self.number(4)
        assert self.name() == 'ram'
        assert (self.number(4), self.number(4)) == (0, 4)
        total = self.number(8)
        assert total & (self.page - 1) == 4
        while sum(self.sizes.values()) < total - 4:
            self.block()
        assert self.number(8) == EOS
        self.footer()
        self.tail_at = self.at

    def take(self, size):
        data = self.read(self.at, size)
        assert len(data) == size, f'the file ends at {self.at + len(data)}'
        self.at += size
        return data

    def number(self, size):
        return int.from_bytes(self.take(size), 'big')

    def name(self):
        return self.take(self.number(1)).decode()

    def footer(self):
        assert self.number(1) == 0x7e
        assert self.number(4) == self.section

    def configuration(self):
        assert self.take(8) == struct.pack('>II', 0x5145564d, 3), 'QEMU\'s magic'
        assert self.number(1) == 7
        self.machine = self.take(self.number(4)).decode()
        self.capabilities = None
        while self.read(self.at, 1) == b'\x05':
            self.take(1)
            name = self.take(self.number(1))
            assert self.number(4) == 1
            if name == CAPABILITIES:
                self.capabilities = [self.name() for _ in range(self.number(4))]
            else:
                assert name == b'configuration/target-page-bits'
                assert 1 << self.number(4) == self.page

    def block(self):
        name, size = self.name(), self.number(8)
        version, page, start, area = struct.unpack('>IQQQ', self.take(28))
        assert (version, page) == (1, self.page)
        assert start == self.at, 'the bitmap follows its header'
        self.sizes[name], self.places[name] = size, (start, area)
        self.bitmaps[name] = self.take(bitmap_size(size, self.page))
        assert area == -(-self.at // ALIGN) * ALIGN, 'the pages begin at the next MiB'
        self.at = area + size

    def stored(self, name):
        """Numbers of the pages that the bitmap says are there."""
        bits = self.bitmaps[name]
        return [i for i in range(len(bits) * 8) if bits[i // 8] >> i % 8 & 1]

    def pages(self, name):
        area = self.places[name][1]
        return {page: self.read(area + page * self.page, self.page) for page in self.stored(name)}

    def data(self, size):
        """Where there is data, as [begin, end) one after the other, joined."""
        found, at = [], 0
        areas = sorted((area, area + self.sizes[name], name)
                       for name, (_, area) in self.places.items())
        for area, end, name in areas:
            bitmap_end = self.places[name][0] + len(self.bitmaps[name])
            found.append((at, bitmap_end))
            found += [(area + page * PAGE, area + page * PAGE + PAGE)
                      for page in self.stored(name)]
            at = end
        found.append((at, size))
        return joined(found)


def joined(ranges):
    """Ranges in order, with neighbours made one."""
    out = []
    for begin, end in ranges:
        if out and out[-1][1] == begin:
            out[-1] = (out[-1][0], end)
        elif begin < end:
            out.append((begin, end))
    return out


def data_of(fd):
    """What SEEK_DATA and SEEK_HOLE tell of an open file, in the same form."""
    size, at, found = os.fstat(fd).st_size, 0, []
    while at < size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(fd, begin, os.SEEK_HOLE)
        assert begin < at <= size, (begin, at)
        found.append((begin, at))
    return joined(found)

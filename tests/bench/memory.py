# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory of a guest as a file, and the stream in which QEMU would save it.

No guest runs: the pack of content.py is laid out as it would lie in a guest
that has filled its memory with it, over and over, with free memory between.
Whoever only reads needs no more, and it is there in seconds.
"""
import os
import random
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), 'fuse'))

import makestream                                     # noqa: E402

MIB = 1 << 20
PAGE = 4096
BLOCK = 'pc.ram'
USED = 4 / 7            # of memory is taken; the rest is free, and zero
RUN = 32                # MiB that are taken in one place: the most
RECORDS = 512           # pages in a section of the stream


def runs(size):
    """(offset, length) of each piece of memory that is taken."""
    chooser, at = random.Random(5), 0
    gap_most = int(RUN * (1 - USED) / USED)
    while at < size:
        length = min(chooser.randint(1, RUN) * MIB, size - at)
        yield at, length
        at += length + chooser.randint(0, gap_most) * MIB


def repeated(pack):
    """read(n) of a file whose end is followed by its beginning."""
    def read(n):
        data = pack.read(n)
        while len(data) < n:
            pack.seek(0)
            data += pack.read(n - len(data))
        return data
    return read


def make(pack, path, size):
    """Writes the memory of a guest of `size` bytes. Its zero pages are holes."""
    zero = bytes(PAGE)
    with open(pack, 'rb') as source, open(path, 'wb') as out:
        read = repeated(source)
        out.truncate(size)
        for at, length in runs(size):
            data = read(length)
            begin = None
            for page in range(0, length + PAGE, PAGE):
                taken = page < length and data[page:page + PAGE] != zero
                if taken and begin is None:
                    begin = page
                elif not taken and begin is not None:
                    os.pwrite(out.fileno(), data[begin:page], at + begin)
                    begin = None
        os.fsync(out.fileno())


def sections(path):
    """The sections of the stream that hold pages, as QEMU writes them."""
    zero = bytes(PAGE)
    with open(path, 'rb') as source:
        first = 0
        while True:
            data = source.read(RECORDS * PAGE)
            if not data:
                return
            pages = [data[at:at + PAGE] for at in range(0, len(data), PAGE)]
            yield makestream.ram_section([(BLOCK, first + i, page if page != zero else None)
                                          for i, page in enumerate(pages)])
            first += len(pages)


def write_stream(path, out):
    """Writes the stream of a stopped guest that has this memory."""
    guest = makestream.Guest({})
    guest.sizes = {BLOCK: os.stat(path).st_size}
    out.write(makestream.header() + makestream.ram_start(guest))
    for section in sections(path):
        out.write(section)
    out.write(makestream.ram_section([], kind=3) + makestream.device_state())

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How much memory the daemon holds, whatever comes in whatever order."""
import concurrent.futures
import mmap
import os
import random
import struct

from fusecase import MIB, FuseCase, setUpModule  # noqa: F401
import harness
import makestream

PAGE = 4096


class MemoryTest(FuseCase):
    BUFFER, CACHE = 32, 32
    options = (f'buffer={BUFFER}m', f'cache={CACHE}m')
    RAM = 768 * MIB

    def write_big(self, path, order):
        """A guest whose every page differs, written page by page; the pages
        are cut out of a pool, so that making them costs nothing."""
        pool = random.Random(1).randbytes(4 * MIB)
        guest = makestream.Guest({'pc.ram': self.RAM}, every=1 << 40)
        pages = list(range(self.RAM // PAGE))
        if order:
            random.Random(order).shuffle(pages)
        name = makestream.str8('pc.ram')
        with open(path, 'wb', buffering=0) as out:
            out.write(makestream.header() + makestream.ram_start(guest))
            for some in makestream.chunked(pages, 256):
                parts = [b'\x02' + struct.pack('>I', 1)]
                for page in some:
                    at = page * 64 % (4 * MIB - 4000)
                    parts.append(struct.pack('>Q', page * PAGE | makestream.FULL_PAGE) + name +
                                 struct.pack('>Q', page) + pool[at:at + 1000] + bytes(3088))
                parts.append(struct.pack('>Q', makestream.EOS) + makestream.footer(1))
                out.write(b''.join(parts))
            out.write(makestream.ram_section([], kind=3) + makestream.device_state())
        return pool

    def check_peak(self):
        limit = (self.BUFFER + self.CACHE + 64) * MIB
        self.assertLess(self.mount.memory_peak(), limit)
        print(f'peak {self.mount.memory_peak() >> 20} MiB of {limit >> 20}')

    def check_page(self, ram, page, pool):
        at = page * 64 % (4 * MIB - 4000)
        expected = struct.pack('>Q', page) + pool[at:at + 1000] + bytes(3088)
        self.assertTrue(os.pread(ram, PAGE, page * PAGE) == expected, f'page {page}')

    def test_random_order_and_reading_back(self):
        os.mkdir(self.snaps('vm1'))
        pool = self.write_big(self.snaps('vm1', 'stream'), order=5)
        self.check_peak()
        ram = os.open(self.snaps('vm1', 'ram'), os.O_RDONLY)
        self.addCleanup(os.close, ram)
        chance = random.Random(6)
        for _ in range(3000):
            self.check_page(ram, chance.randrange(self.RAM // PAGE), pool)
        for view in ('stream', 'ram'):
            with open(self.snaps('vm1', view), 'rb', buffering=0) as file:
                while file.read(MIB):
                    pass
        self.check_peak()

    def read_through(self, view):
        """All of a view, past the kernel's page cache."""
        fd = os.open(self.snaps('vm1', view), os.O_RDONLY | os.O_DIRECT)
        buffer = mmap.mmap(-1, MIB)
        try:
            while os.readv(fd, [buffer]):
                pass
        finally:
            os.close(fd)

    def read_around(self, seed):
        fd = os.open(self.snaps('vm1', 'ram'), os.O_RDONLY | os.O_DIRECT)
        chance, buffer = random.Random(seed), mmap.mmap(-1, PAGE)
        try:
            for _ in range(3000):
                os.preadv(fd, [buffer], chance.randrange(self.RAM // PAGE) * PAGE)
        finally:
            os.close(fd)

    def test_many_readers_while_others_save(self):
        self.RAM = 192 * MIB
        for name in ('vm1', 'vm2', 'vm3'):
            os.mkdir(self.snaps(name))
        self.write_big(self.snaps('vm1', 'stream'), order=0)
        work = [(self.read_through, view) for view in ('stream', 'ram') * 3]
        work += [(self.read_around, seed) for seed in range(4)]
        with concurrent.futures.ThreadPoolExecutor(len(work) + 2) as pool:
            running = [pool.submit(*item) for item in work]
            running += [pool.submit(self.write_big, self.snaps(name, 'stream'), 3)
                        for name in ('vm2', 'vm3')]
            for one in running:
                one.result()
        self.check_peak()


if __name__ == '__main__':
    harness.main()

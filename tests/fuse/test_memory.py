#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How much memory the daemon holds, whatever comes in whatever order."""
import concurrent.futures
import errno
import mmap
import os
import random
import re
import resource
import shutil
import struct

from fusecase import MIB, FuseCase, read_file, setUpModule, write_stream  # noqa: F401
import harness
import makestream
import mappedram

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


class LittleTest(FuseCase):
    """Memory that runs out ends what needed it, and nothing else."""
    options = ('buffer=32m', 'cache=32m')
    STATE = 62 * MIB

    def setUp(self):
        # Each arena of the C library would take 64 MiB of address space, and the
        # stack of each thread 8.
        os.environ['MALLOC_ARENA_MAX'] = '1'
        self.addCleanup(os.environ.pop, 'MALLOC_ARENA_MAX')
        stack = resource.getrlimit(resource.RLIMIT_STACK)
        resource.setrlimit(resource.RLIMIT_STACK, (512 << 10, stack[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_STACK, stack)
        super().setUp()

    def stream_with_state(self):
        """A mapped-ram stream with much state between RAM's list and its end."""
        image = mappedram.Image(self.guest)
        chunk = b'\x40' + struct.pack('>QIQ', 0, 8, 10240) + bytes(10240)
        bitmap = (b'\x01' + struct.pack('>I', 3) + makestream.str8('dirty-bitmap') +
                  struct.pack('>II', 0, 1) + chunk * (self.STATE // 10240) + b'\x01' +
                  makestream.footer(3))
        empty = b'\x02' + struct.pack('>IQ', 1, makestream.EOS) + makestream.footer(1)
        at = image.tail_at - 2 * len(empty)
        self.assertEqual(image.data[at:at + len(empty)], empty)
        return image.data[:at] + bitmap + image.data[at:]

    def limit(self, more):
        """The daemon may take so many bytes more."""
        with open(f'/proc/{self.mount.pid}/status') as status:
            now = int(re.search(r'^VmSize:\s+(\d+) kB', status.read(), re.M)[1]) * 1024
        resource.prlimit(self.mount.pid, resource.RLIMIT_AS,
                         (now + more if more else resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def test_what_needs_much_fails_and_the_rest_goes_on(self):
        data = self.stream_with_state()
        os.mkdir(self.snaps('vm1'))
        write_stream(self.snaps('vm1', 'stream'), data)
        for view in ('ram', 'devstate'):
            shutil.copy(self.snaps('vm1', view), self.path(view))
        self.mount.remount()
        os.mkdir(self.snaps('vm2'))
        shutil.copy(self.path('ram'), self.snaps('vm2', 'ram'))
        # Enough for all but what is as large as the state.
        self.limit(self.STATE - 6 * MIB)
        for view in ('stream', 'mapped'):
            self.assert_errno(errno.ENOMEM, os.stat, self.snaps('vm1', view))
        self.assert_errno(errno.ENOMEM, shutil.copy, self.path('devstate'),
                          self.snaps('vm2', 'devstate'))
        self.assertTrue(read_file(self.snaps('vm1', 'ram')) == self.guest.flat())
        self.limit(None)
        self.assertTrue(read_file(self.snaps('vm1', 'stream')) == data)
        shutil.copy(self.path('devstate'), self.snaps('vm2', 'devstate'))
        self.assertTrue(read_file(self.snaps('vm2', 'stream')) == data)


if __name__ == '__main__':
    harness.main()

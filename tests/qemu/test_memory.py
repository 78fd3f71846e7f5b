#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests whose memory is not one block of ordinary pages, saved by `snapfs save` and brought back
by `snapfs revert` each way."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from bridge import bridge_path
from guest import MIB, CountGuest
from harness import Missing, need_program
from mount import need_views
from qemu import need_qemu, take_huge_pages
from verbs import VerbCase

WAYS = ('bridge', 'eager', 'memory-file')


def setUpModule():
    need_qemu()
    need_views()


class Memory(VerbCase):

    def save_and_end(self, args):
        qemu = self.boot(args=args)
        qemu.wait_serial('B{3}')
        constant = qemu.constant()
        qemu.cont()
        self.save_ok()
        qemu.kill()
        return constant

    def check_back(self, way, constant, args):
        back = self.revert(f'--way={way}', args=args)
        self.assertEqual(back.way, way)
        self.assert_back(back, constant)
        return back


class Blocks(Memory):
    """Several RAM blocks."""

    def test_a_dimm_may_be_larger_than_main_memory(self):
        """Then the DIMM lies first in `ram`. It holds the bytes of a file."""
        shared = '/dev/shm/' + os.path.basename(self.work)
        self.addCleanup(os.unlink, shared)
        content = os.urandom(MIB) + bytes(126 * MIB) + os.urandom(MIB)
        with open(shared, 'wb') as file:
            file.write(content)
        dimm = ['-m', '64,slots=2,maxmem=1G', '-device', 'pc-dimm,id=d1,memdev=mem1']
        constant = self.save_and_end([*dimm, '-object', 'memory-backend-file,id=mem1,size=128M,'
                                                        f'share=on,mem-path={shared}'])
        args = [*dimm, '-object', 'memory-backend-ram,id=mem1,size=128M']
        for way in WAYS:
            with self.subTest(way):
                back = self.check_back(way, constant, args)
                back.qmp.command('pmemsave', {'val': 1 << 32, 'size': len(content),
                                              'filename': self.path('dimm')})
                with open(self.path('dimm'), 'rb') as file:
                    self.assertTrue(file.read() == content, 'the DIMM is another')
                back.kill()
        done = harness.run(bridge_path(), '--mapped=pc.ram', self.folder, stdin=subprocess.PIPE)
        self.assertEqual(done.returncode, 1)
        self.assertIn('RAM block pc.ram begins at 134217728 in ', done.stderr)
        self.assertIn('--mapped=pc.ram=134217728', done.stderr)

    def test_numa_nodes_may_have_backends_of_their_own(self):
        self.guest = CountGuest(memory=64, end=60, fill=True)
        args = []
        for node in (0, 1):
            args += ['-object', f'memory-backend-ram,id=m{node},size=32M',
                     '-numa', f'node,nodeid={node},memdev=m{node}']
        constant = self.save_and_end(args)
        for way in WAYS[:2]:
            with self.subTest(way):
                self.check_back(way, constant, args).kill()
        self.assert_fails(self.snapfs('revert', '--way=memory-file', self.folder,
                                      *self.command(args=args)), '-numa with memdev=')

    def test_numa_nodes_may_share_main_memory(self):
        self.guest = CountGuest(memory=64, end=60, fill=True)
        args = ['-object', 'memory-backend-ram,id=m0,size=64M', '-numa', 'node,memdev=m0',
                '-numa', 'node']
        constant = self.save_and_end(args)
        self.check_back('bridge', constant, args)

    def test_dimms_of_several_sizes_come_back(self):
        args = ['-m', '64,slots=4,maxmem=2G']
        for number, size in enumerate((32, 256, 64)):
            args += ['-object', f'memory-backend-ram,id=mem{number},size={size}M',
                     '-device', f'pc-dimm,memdev=mem{number}']
        constant = self.save_and_end(args)
        for way in WAYS:
            with self.subTest(way):
                self.check_back(way, constant, args).kill()


class HugePages(Memory):
    """Memory in huge pages, by the default way."""

    def check(self, args, machine='q35,memory-backend=m0'):
        self.guest = CountGuest(memory=64, end=40, fill=True, machine=machine)
        constant = self.save_and_end(args)
        back = self.revert(args=args)
        self.assertEqual(back.way, 'bridge')
        self.assert_back(back, constant)

    def setUp(self):
        super().setUp()
        take_huge_pages(self, 32)

    def test_of_a_memfd(self):
        self.check(['-object', 'memory-backend-memfd,id=m0,size=64M,hugetlb=on,hugetlbsize=2M'])

    def test_of_one_numa_node(self):
        self.check(['-object', 'memory-backend-memfd,id=m0,size=32M,hugetlb=on,hugetlbsize=2M',
                    '-object', 'memory-backend-ram,id=m1,size=32M', '-numa', 'node,memdev=m0',
                    '-numa', 'node,memdev=m1'], machine='q35')

    def test_of_the_default_size(self):
        self.check(['-object', 'memory-backend-memfd,id=m0,size=64M,hugetlb=on'])

    def hugetlbfs(self):
        folder = self.path('huge')
        os.mkdir(folder)
        done = harness.run(need_program('mount'), '-t', 'hugetlbfs', 'none', folder)
        if done.returncode:
            raise Missing(f'no hugetlbfs: {done.stderr.strip()}')
        self.addCleanup(harness.run, 'umount', '-l', folder)
        return folder

    def test_of_a_file_system(self):
        self.check(['-object', f'memory-backend-file,id=m0,size=64M,mem-path={self.hugetlbfs()}'])

    def test_of_mem_path(self):
        self.check(['-mem-path', self.hugetlbfs()], machine='q35')


if __name__ == '__main__':
    harness.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The tools that people use on files, used on the mount."""
import os

from fusecase import LISTED, FuseCase, read_file, setUpModule  # noqa: F401
import harness


class OutTest(FuseCase):
    def setUp(self):
        super().setUp()
        self.save()
        with open(self.snaps('vm1', 'domain.xml'), 'w') as file:
            file.write('<domain/>')

    def check_copy(self, *folder):
        for view in LISTED + ['domain.xml']:
            copy = os.path.join(self.path(*folder), view)
            self.assertTrue(read_file(copy) == read_file(self.snaps('vm1', view)), view)
            self.assertEqual(os.stat(copy).st_mtime_ns,
                             os.stat(self.snaps('vm1', view)).st_mtime_ns)

    def test_cp_a(self):
        self.run_ok('cp', '-a', self.snaps('vm1'), self.path('copy'))
        self.check_copy('copy')
        self.assertLess(os.stat(self.path('copy', 'ram')).st_blocks * 512,
                        len(self.guest.flat()) * 2 // 3, 'zero pages became holes')

    def test_rsync_a_and_again(self):
        harness.need_program('rsync')
        self.run_ok('rsync', '-a', '--sparse', self.snaps('vm1') + '/', self.path('copy'))
        self.check_copy('copy')
        again = self.run_ok('rsync', '-a', '--itemize-changes', self.snaps('vm1') + '/',
                            self.path('copy'))
        self.assertEqual(again, '')

    def test_tar_with_holes(self):
        self.run_ok('tar', '-S', '-C', self.snaps(), '-cf', self.path('vm1.tar'), 'vm1')
        os.mkdir(self.path('out'))
        self.run_ok('tar', '-C', self.path('out'), '-xf', self.path('vm1.tar'))
        for view in LISTED:
            self.assertTrue(read_file(self.path('out', 'vm1', view)) ==
                            read_file(self.snaps('vm1', view)), view)
        self.assertLess(os.stat(self.path('vm1.tar')).st_size,
                        len(self.data) * 4 // 3)

    def test_find_ls_df_stat(self):
        found = self.run_ok('find', self.snaps(), '-type', 'f').split('\n')
        self.assertEqual(len([f for f in found if f]), 1 + len(LISTED))
        self.assertIn('ram', self.run_ok('ls', '-la', self.snaps('vm1')))
        self.run_ok('stat', '-f', self.snaps())
        self.run_ok('df', self.snaps())

    def test_qemu_img_sees_the_holes(self):
        harness.need_program('qemu-img')
        out = self.run_ok('qemu-img', 'map', '--output=json', '-f', 'raw',
                          self.snaps('vm1', 'ram'))
        self.assertIn('"zero": true', out)
        self.run_ok('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', self.snaps('vm1', 'ram'),
                    self.snaps('vm1', 'ram'))

    def test_store_is_copied_while_mounted(self):
        harness.need_program('rsync')
        self.run_ok('rsync', '-a', '--exclude', '/.snapfs', self.store() + '/',
                    self.path('other') + '/')
        self.run_ok('zstd', '-tq', self.path('other', 'vm1', 'snapshot.zst'))
        self.run_ok('cp', '-a', self.store('vm1'), self.store('vm2'))
        self.check_snapshot('vm2')


class InTest(FuseCase):
    def setUp(self):
        super().setUp()
        os.mkdir(self.path('in'))
        with open(self.path('in', 'stream'), 'wb') as file:
            file.write(self.data)
        os.utime(self.path('in', 'stream'), (1, 1500000000))

    def test_cp_a(self):
        self.run_ok('cp', '-a', self.path('in'), self.snaps('vm1'))
        self.check_snapshot()
        self.assertEqual(os.stat(self.snaps('vm1', 'stream')).st_mtime, 1500000000)

    def test_cp_over_an_old_one(self):
        self.save()
        self.run_ok('cp', self.path('in', 'stream'), self.snaps('vm1', 'stream'))
        self.check_snapshot()

    def test_rsync_a_and_again(self):
        harness.need_program('rsync')
        for _ in range(2):
            self.run_ok('rsync', '-a', self.path('in') + '/', self.snaps('vm1') + '/')
            self.check_snapshot()
        self.assertEqual(os.listdir(self.store('vm1')), ['snapshot.zst'])

    def test_rsync_in_place(self):
        harness.need_program('rsync')
        os.mkdir(self.snaps('vm1'))
        self.run_ok('rsync', '-a', '--inplace', '--whole-file', self.path('in') + '/',
                    self.snaps('vm1') + '/')
        self.check_snapshot()

    def test_mv(self):
        os.mkdir(self.snaps('vm1'))
        self.run_ok('mv', self.path('in', 'stream'), self.snaps('vm1'))
        self.check_snapshot()
        self.assertFalse(os.path.exists(self.path('in', 'stream')))

    def test_dd_and_cat(self):
        os.mkdir(self.snaps('vm1'))
        self.run_ok('dd', f'if={self.path("in", "stream")}', f'of={self.snaps("vm1", "stream")}',
                    'bs=1M', 'conv=fsync', 'status=none')
        self.check_snapshot()
        os.mkdir(self.snaps('vm2'))
        self.run_ok('sh', '-c', 'cat "$1" >"$2"', 'sh', self.path('in', 'stream'),
                    self.snaps('vm2', 'stream'))
        self.check_snapshot('vm2')

    def test_tar_x(self):
        self.run_ok('tar', '-C', self.path(), '-cf', self.path('in.tar'), 'in')
        self.run_ok('tar', '-C', self.snaps(), '-xf', self.path('in.tar'))
        self.check_snapshot('in')

    def test_store_that_is_copied_in_is_seen_at_once(self):
        self.save()
        os.mkdir(self.store('vm2'))
        self.assertEqual(os.listdir(self.snaps('vm2')), [])
        self.run_ok('cp', self.store('vm1', 'snapshot.zst'), self.store('vm2', 'snapshot.zst'))
        self.check_snapshot('vm2')


if __name__ == '__main__':
    harness.main()

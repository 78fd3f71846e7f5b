#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Store files that were cut, flipped, grown or replaced under the mount."""
import errno
import os
import random

from fusecase import VIEWS, FuseCase, read_file, setUpModule, write_stream  # noqa: F401
import harness
import makestream



class DamageTest(FuseCase):
    def setUp(self):
        super().setUp()
        self.other = makestream.Guest({'pc.ram': 1 << 20}, seed=8)
        self.save('vm1')
        self.save('vm2', self.other)
        self.file = self.store('vm1', 'snapshot.zst')
        self.good = read_file(self.file)

    def replace(self, data):
        """Puts other bytes in the file's place, as a bad copy would."""
        with open(self.file + '.new', 'wb') as file:
            file.write(data)
        os.rename(self.file + '.new', self.file)

    def check_other(self):
        self.check_snapshot('vm2', self.other)

    def read_all(self):
        for view in VIEWS:
            read_file(self.snaps('vm1', view))

    def test_flipped_page_is_an_io_error_that_names_place(self):
        data = bytearray(self.good)
        data[len(data) // 3] ^= 4
        self.replace(data)
        self.assert_errno(errno.EIO, read_file, self.snaps('vm1', 'ram'))
        self.assert_errno(errno.EIO, read_file, self.snaps('vm1', 'stream'))
        harness.wait_until(lambda: 'vm1' in self.mount.log(), 10, 'the log names the snapshot')
        line = [text for text in self.mount.log().splitlines()
                if 'vm1' in text and 'saved' not in text][0]
        self.assertRegex(line, r'offset|\b\d{3,}\b')
        self.check_other()

    def test_pages_that_are_whole_are_still_read(self):
        data = bytearray(self.good)
        data[len(data) // 2] ^= 4
        self.replace(data)
        flat = self.guest.flat()
        read, failed = 0, 0
        fd = os.open(self.snaps('vm1', 'ram'), os.O_RDONLY | os.O_DIRECT)
        self.addCleanup(os.close, fd)
        for at in range(0, len(flat), 65536):
            try:
                self.assertTrue(os.pread(fd, 65536, at) == flat[at:at + 65536])
                read += 1
            except OSError as error:
                self.assertEqual(error.errno, errno.EIO)
                failed += 1
        self.assertGreater(read, failed)
        self.assertGreater(failed, 0)

    def test_any_flip_is_an_error_or_right(self):
        chance = random.Random(2)
        good = {view: read_file(self.snaps('vm1', view)) for view in VIEWS}
        for _ in range(60):
            data = bytearray(self.good)
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            self.replace(data)
            for view in VIEWS:
                try:
                    self.assertTrue(read_file(self.snaps('vm1', view)) == good[view])
                except OSError as error:
                    self.assertIn(error.errno, (errno.EIO, errno.ENOENT, errno.EOPNOTSUPP))
        self.check_other()
        self.replace(self.good)
        self.check_snapshot()

    def test_cut_grown_and_other_files(self):
        for what, data in (('cut', self.good[:-1]), ('half', self.good[:len(self.good) // 2]),
                           ('empty', b''), ('grown', self.good + b'\0'),
                           ('other', b'something else\n' * 1000),
                           ('end only', self.good[-128:])):
            with self.subTest(what=what):
                self.replace(data)
                self.assertEqual(os.listdir(self.snaps('vm1')), ['stream'])
                self.assert_errno(errno.EIO, read_file, self.snaps('vm1', 'stream'))
                self.assertTrue(os.getxattr(self.snaps('vm1'), 'user.snapfs.error'))
                self.assertTrue(os.getxattr(self.snaps('vm1', 'stream'), 'user.snapfs.error'))
                self.assertIn('vm1: ', self.mount.log())
                self.check_other()

    def test_unreadable_one_can_be_removed_and_replaced(self):
        self.replace(self.good[:-1])
        self.save('vm1')
        self.check_snapshot()
        self.replace(self.good[:-1])
        self.run_ok('rm', '-r', self.snaps('vm1'))
        self.assertFalse(os.path.exists(self.store('vm1')))
        self.check_other()

    def test_file_cut_in_place_while_it_is_read(self):
        fd = os.open(self.snaps('vm1', 'ram'), os.O_RDONLY | os.O_DIRECT)
        self.addCleanup(os.close, fd)
        os.truncate(self.file, 100)
        self.assert_errno(errno.EIO, self.read_to_end, fd)
        self.check_other()

    def read_to_end(self, fd):
        at = 0
        while True:
            data = os.pread(fd, 1 << 20, at)
            if not data:
                return
            at += len(data)

    def test_replaced_by_another_snapshot(self):
        ram = open(self.snaps('vm1', 'ram'), 'rb')
        self.addCleanup(ram.close)
        self.replace(read_file(self.store('vm2', 'snapshot.zst')))
        self.check_snapshot('vm1', self.other)
        self.assertTrue(ram.read() == self.guest.flat())


if __name__ == '__main__':
    harness.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Saves that end otherwise than their writers meant: given up, removed, in a
wrong order, at the end of the mount. What was there before stays."""
import errno
import os
import signal
import subprocess
import time

from fusecase import FuseCase, read_file, setUpModule, write_stream  # noqa: F401
import harness
import makestream
import mappedram


class TroubleCase(FuseCase):
    """A snapshot vm1, and the mapped-ram file of another guest."""

    def setUp(self):
        super().setUp()
        self.save('vm1')
        self.other = makestream.Guest({'pc.ram': 2 << 20}, seed=77)
        self.image = mappedram.Image(self.other)

    def open_stream(self, flags=0):
        fd = os.open(self.snaps('vm1', 'stream'), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags,
                     0o600)
        self.addCleanup(self.close, fd)
        return fd

    def put(self, fd, writes):
        for offset, data in writes:
            os.pwrite(fd, data, offset)

    def check_other(self):
        self.assertTrue(read_file(self.snaps('vm1', 'ram')) == self.other.flat(), 'ram')
        self.assertTrue(read_file(self.snaps('vm1', 'stream')) == self.image.data, 'stream')

    def count_log(self, text):
        return self.mount.log().count(text)


class OrderTest(TroubleCase):
    def test_headers_alone_are_no_snapshot(self):
        fd = self.open_stream(os.O_TRUNC)
        self.put(fd, self.image.stream)
        self.assertTrue(read_file(self.snaps('vm1', 'ram')) == self.guest.flat(), 'the old one')
        self.put(fd, self.image.bitmaps)
        self.put(fd, self.image.pages)
        os.close(fd)
        self.check_other()

    def test_what_comes_after_the_end_is_refused_once(self):
        fd = self.open_stream(os.O_TRUNC)
        self.put(fd, self.image.writes)
        for _ in range(50):
            self.assert_errno(errno.EPROTO, os.pwrite, fd, b'x' * 100, self.image.size)
        self.wait_log('vm1/stream: a write was refused: the stream is complete')
        self.assertEqual(self.count_log('the stream is complete'), 1)
        self.check_other()

    def test_log_is_not_filled(self):
        fd = self.open_stream(os.O_TRUNC)
        for i in range(200):
            self.assert_errno(errno.EINVAL, os.pwrite, fd, b'x', 5000 + i)
        self.assertEqual(self.count_log('the stream continues at offset 0; only'), 1)
        os.pwrite(fd, self.data[:5000], 0)
        for i in range(200):
            self.assert_errno(errno.EINVAL, os.pwrite, fd, b'x', 9000 + i)
        self.assertLessEqual(self.count_log('a write at offset'), 3)
        self.check_snapshot()


class RemovedTest(TroubleCase):
    def test_removing_what_comes_leaves_what_was(self):
        fd = self.open_stream(os.O_TRUNC)
        self.put(fd, self.image.stream[:-2] + self.image.pages)
        os.unlink(self.snaps('vm1', 'stream'))
        self.wait_log('vm1/stream: it was removed while it was being saved')
        self.assert_errno(errno.ECANCELED, os.pwrite, fd, b'x', 0)
        self.check_snapshot()
        # The dead writer still has it open; another one is not in its way.
        write_stream(self.snaps('vm1', 'stream'), self.image.data)
        self.check_other()

    def copy_torn(self, data, *command):
        torn = self.path('torn')
        with open(torn, 'wb') as file:
            file.write(data)
        before = self.count_log('vm1/stream: not saved')
        subprocess.run([*command, torn, self.snaps('vm1', 'stream')], stderr=subprocess.DEVNULL,
                       check=False)
        # The writer may be gone before his save is.
        harness.wait_until(lambda: self.count_log('vm1/stream: not saved') > before, 10,
                           'the save fails')

    def test_a_copy_that_fails_leaves_what_it_did_not_remove(self):
        for data in (self.data[:-5000], self.image.data[:-5000]):
            for command in (['cp'], ['rsync', '-I', '--inplace']):
                self.copy_torn(data, *command)
                self.check_snapshot()

    def test_a_copy_that_removes_stream_first_removes_the_snapshot(self):
        for command in (['install'], ['cp', '--remove-destination']):
            self.copy_torn(self.data[:-5000], *command)
            self.assertEqual(os.listdir(self.store('vm1')), ['.snapfs-error'])
            self.assertEqual(os.listdir(self.snaps('vm1')), [])
            self.save('vm1')
            self.check_snapshot()
        self.check_no_leftovers()

    def test_removed_for_good(self):
        os.unlink(self.snaps('vm1', 'stream'))
        self.assertEqual(os.listdir(self.snaps('vm1')), [])
        self.assertEqual(os.listdir(self.store('vm1')), [])


class PartsTest(TroubleCase):
    def test_the_second_one_closed_is_told(self):
        ram, state = (read_file(self.snaps('vm1', name)) for name in ('ram', 'devstate'))
        for number, names in enumerate((('ram', 'devstate'), ('devstate', 'ram'))):
            folder = f'parts{number}'
            os.mkdir(self.snaps(folder))
            contents = {'ram': ram[:-1], 'devstate': state}
            with open(self.snaps(folder, names[0]), 'wb') as file:
                file.write(contents[names[0]])
            with self.assertRaises(OSError) as caught:
                with open(self.snaps(folder, names[1]), 'wb') as file:
                    file.write(contents[names[1]])
            self.assertEqual(caught.exception.errno, errno.EPROTO)
            self.wait_log(f'{folder}/{names[1]}: not saved: ram is not whole: '
                          f'it has {len(ram) - 1} bytes, but devstate lists {len(ram)}')
            self.assertIn(b'ram', os.getxattr(self.snaps(folder), 'user.snapfs.error'))
            self.assertEqual(sorted(os.listdir(self.snaps(folder))), ['devstate', 'ram'])
            with open(self.snaps(folder, 'ram'), 'wb') as file:
                file.write(ram)
            self.check_snapshot(folder)
            self.assertNotIn('user.snapfs.error', os.listxattr(self.snaps(folder)))


class EndTest(TroubleCase):
    def test_writers_can_close_when_the_mount_ends(self):
        fd = self.open_stream(os.O_TRUNC)
        self.put(fd, self.image.stream[:-2] + self.image.pages)
        second = self.open_stream()
        self.mount.process.send_signal(signal.SIGTERM)
        self.wait_log('the mount was ended while it was being saved')
        self.wait_error(os.pwrite, fd, self.image.pages[0][1], self.image.pages[0][0])
        # As QEMU does, which aborts when this fails.
        os.close(second)
        os.close(fd)
        began = time.monotonic()
        self.assertEqual(self.mount.process.wait(20), 0)
        self.assertLess(time.monotonic() - began, 2)
        self.mount.process = None

    def test_one_who_does_not_close_is_not_waited_for_long(self):
        fd = self.open_stream(os.O_TRUNC)
        self.put(fd, self.image.stream[:-2])
        self.mount.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.mount.process.wait(20), 0)
        self.mount.process = None


if __name__ == '__main__':
    harness.main()

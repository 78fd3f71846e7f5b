#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Moments at which a copy, a removal or the end of the mount meets a save."""
import errno
import os

from fusecase import LISTED, MIB, FuseCase, read_file, setUpModule, write_all  # noqa: F401
from copycase import CopiedCase
import harness
from mappedram import LIBVIRT
from mount import statistics


def open_files_of(process, name):
    """Descriptors of a process that are open on a removed file of that name."""
    links = [os.readlink(f'/proc/{process.pid}/fd/{fd}')
             for fd in os.listdir(f'/proc/{process.pid}/fd')
             if os.path.lexists(f'/proc/{process.pid}/fd/{fd}')]
    return [link for link in links if name in link and link.endswith('(deleted)')]


class PartsTest(CopiedCase):
    def setUp(self):
        super().setUp()
        os.mkdir(self.snaps('vm1'))

    def test_mount_ends_while_a_part_is_open(self):
        self.run_ok('cp', '-a', self.saved('devstate'), self.snaps('vm1'))
        fd = os.open(self.snaps('vm1', 'ram'), os.O_WRONLY | os.O_CREAT)
        write_all(fd, bytes(MIB))
        self.mount.process.terminate()
        self.assertEqual(self.mount.process.wait(30), 0)
        with self.assertRaises(OSError):
            os.close(fd)
        self.assertNotIn('vm1/ram: not saved', self.mount.log())
        self.mount.start()
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), LISTED)
        self.assertEqual(os.listdir(self.store('vm1')).count('snapshot.zst'), 0)

    def test_who_writes_a_part_that_is_a_snapshot_by_now(self):
        """One descriptor was closed, and the bytes of the other would be lost."""
        self.run_ok('cp', '-a', self.saved('devstate'), self.snaps('vm1'))
        fd = os.open(self.snaps('vm1', 'ram'), os.O_WRONLY | os.O_CREAT)
        write_all(fd, self.views['ram'])
        os.close(os.dup(fd))
        harness.wait_until(lambda: 'snapshot.zst' in os.listdir(self.store('vm1')), 10, 'it is saved')
        self.assert_errno(errno.EBUSY, os.pwrite, fd, b'lost', 0)
        os.close(fd)
        self.assertEqual(read_file(self.snaps('vm1', 'stream')), self.views['stream'])

    def test_who_writes_a_part_that_a_snapshot_has_replaced(self):
        fd = os.open(self.snaps('vm1', 'ram'), os.O_WRONLY | os.O_CREAT)
        write_all(fd, self.views['ram'][:MIB])
        os.close(os.dup(fd))
        self.run_ok('cp', self.saved('stream'), self.snaps('vm1', 'stream'))
        harness.wait_until(lambda: 'ram' not in os.listdir(self.store('vm1')), 10, 'it goes')
        self.assert_errno(errno.EBUSY, os.pwrite, fd, b'lost', 0)
        os.close(fd)
        self.assertEqual(read_file(self.snaps('vm1', 'stream')), self.views['stream'])

    def test_counters_count_no_save_of_one_part_alone(self):
        def counters():
            lines = statistics(self.snaps())
            return lines['snapfs_saves_total'], lines['snapfs_saves_failed_total']
        before = counters()
        self.run_ok('cp', '-a', self.saved('devstate'), self.snaps('vm1'))
        self.assertEqual(counters(), before)
        self.run_ok('cp', '-a', self.saved('ram'), self.snaps('vm1'))
        self.assertEqual(counters(), (before[0] + 1, before[1]))

    def test_preamble_of_a_killed_copier_is_not_the_snapshots(self):
        for name in LISTED:
            self.run_ok('cp', '-a', self.saved(name), self.snaps('vm1'))
        with self.assertRaises(OSError) as caught:
            with open(self.snaps('vm1', 'preamble'), 'wb', buffering=0) as file:
                file.write(LIBVIRT[:-1])
        self.assertEqual(caught.exception.errno, errno.EPROTO)
        self.wait_log('preamble is not whole')
        self.assertEqual(read_file(self.snaps('vm1', 'stream')), self.views['stream'])
        with open(self.snaps('vm1', 'preamble'), 'wb', buffering=0) as file:
            write_all(file.fileno(), LIBVIRT)
        self.assertEqual(read_file(self.snaps('vm1', 'stream')), LIBVIRT + self.views['stream'])

    def test_listing_logs_nothing_of_a_preamble_that_is_too_long(self):
        for name in LISTED:
            self.run_ok('cp', '-a', self.saved(name), self.snaps('vm1'))
        with self.assertRaises(OSError):
            with open(self.snaps('vm1', 'preamble'), 'wb', buffering=0) as file:
                file.truncate(20 * MIB)
        self.wait_log('vm1/preamble: cannot become')
        for _ in range(5):
            self.assertIn('preamble', os.listdir(self.snaps('vm1')))
        self.assertEqual(self.mount.log().count('vm1/preamble: cannot become'), 1)
        os.unlink(self.snaps('vm1', 'preamble'))
        self.check_same('vm1')


class RemoveTest(CopiedCase):
    def test_removed_stream_does_not_come_back(self):
        os.mkdir(self.snaps('vm1'))
        fd = os.open(self.snaps('vm1', 'stream'), os.O_WRONLY | os.O_CREAT)
        os.write(fd, self.views['stream'][:MIB])
        os.unlink(self.snaps('vm1', 'stream'))
        os.ftruncate(fd, 0)
        self.assert_errno(errno.ECANCELED, os.pwrite, fd, self.views['stream'][:MIB], 0)
        os.close(fd)
        self.assertEqual(os.listdir(self.snaps('vm1')), [])
        self.assertNotIn('snapshot.zst', os.listdir(self.store('vm1')))

    def test_removing_gives_the_space_back(self):
        self.run_ok('ls', '-l', self.snaps('source'))
        for view in ('ram', 'devstate', 'mapped'):
            os.stat(self.snaps('source', view))
        os.unlink(self.snaps('source', 'stream'))
        harness.wait_until(lambda: not open_files_of(self.mount.process, 'snapshot.zst'), 10,
                           'nothing holds the snapshot')

    def test_hidden_name_stays_hidden_when_another_is_touched(self):
        os.unlink(self.snaps('source', 'ram'))
        os.utime(self.snaps('source', 'devstate'), (5, 5))
        self.assertEqual(os.listdir(self.snaps('source')).count('ram'), 0)

    def test_truncate_by_name_of_a_file_that_is_open_to_be_read(self):
        path = self.snaps('source', 'domain.xml')
        with open(path, 'w', encoding='utf-8') as file:
            file.write('<domain/>')
        with open(path, 'rb') as reader:
            os.truncate(path, 3)
            self.assertEqual(reader.read(), b'<do')

    def test_truncate_by_name_does_not_end_a_save(self):
        os.mkdir(self.snaps('vm1'))
        path = self.snaps('vm1', 'stream')
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        data = self.views['stream']
        os.write(fd, data[:MIB])
        self.assert_errno(errno.EBUSY, os.truncate, path, 0)
        write_all(fd, data[MIB:])
        os.close(fd)
        self.assertEqual(read_file(self.snaps('vm1', 'stream')), data)

    def test_parts_that_are_removed_while_they_are_saved(self):
        os.mkdir(self.snaps('vm1'))
        self.run_ok('cp', '-a', self.saved('devstate'), self.snaps('vm1'))
        copier = self.start_process('cp', self.saved('ram'), self.snaps('vm1'))
        harness.wait_until(lambda: os.listdir(self.store('.snapfs', 'tmp')) or
                           copier.poll() is not None, 10, 'it is being saved')
        self.run_ok('rm', '-f', *(self.snaps('vm1', name) for name in LISTED))
        copier.wait(30)
        self.assertEqual(os.listdir(self.snaps('vm1')), [])
        os.rmdir(self.snaps('vm1'))


if __name__ == '__main__':
    harness.main()

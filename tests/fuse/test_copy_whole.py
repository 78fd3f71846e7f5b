#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A part is whole when its data came, not when its length did."""
import contextlib
import errno
import os
import shutil

from fusecase import LISTED, MIB, read_file, setUpModule, write_all  # noqa: F401
from copycase import CopiedCase
import harness
from mount import tool

AHEAD = 'ram is not taken for whole: its length was set before its data came'
NO_DATA = 'ram is not taken for whole: it has its length, but no data'


class WholeTest(CopiedCase):
    def setUp(self):
        super().setUp()
        os.mkdir(self.snaps('vm1'))
        self.ram = self.views['ram']

    def error(self, name='vm1'):
        return os.getxattr(self.snaps(name), 'user.snapfs.error').decode()

    def check_files(self, why, parts=('devstate', 'ram')):
        """Ordinary files, and what to do is told."""
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), sorted(parts))
        self.assertFalse(os.path.exists(self.store('vm1', 'snapshot.zst')))
        self.assertIn(why, self.error())
        self.assertIn('snapfs import --parts', self.error())
        self.wait_log(f'vm1: not saved: {why}')

    def check_snapshot(self):
        self.check_same()
        self.assertFalse(os.path.exists(self.store('vm1', '.snapfs-error')))

    def prove(self):
        return tool('import', '--parts', self.snaps('vm1'))

    def open_ram(self, flags=0):
        return os.open(self.snaps('vm1', 'ram'), os.O_WRONLY | os.O_CREAT | flags, 0o600)

    def size_ram(self):
        fd = self.open_ram()
        os.ftruncate(fd, len(self.ram))
        os.close(fd)

    def fill_ram(self, *places):
        """Writes a MiB at each of these places, in that order."""
        fd = self.open_ram()
        for at in places or range(0, len(self.ram), MIB):
            os.pwrite(fd, self.ram[at:at + MIB], at)
        os.close(fd)

    def test_a_length_without_data_is_no_memory(self):
        for order in (('devstate', 'ram'), ('ram', 'devstate')):
            for part in order:
                if part == 'ram':
                    self.size_ram()
                else:
                    self.copy(part)
            self.check_files(NO_DATA)
            # The true bytes may still come.
            self.copy('ram')
            self.check_snapshot()
            self.run_ok('rm', '-r', self.snaps('vm1'))
            os.mkdir(self.snaps('vm1'))

    def test_data_that_comes_after_the_length(self):
        self.copy('devstate')
        self.size_ram()
        self.fill_ram()
        self.check_files(AHEAD)
        self.assertTrue(read_file(self.snaps('vm1', 'ram')) == self.ram)
        self.assertEqual(self.prove().returncode, 0)
        self.wait_snapshot()
        self.assertTrue(read_file(self.snaps('vm1', 'ram')) == self.ram)

    def test_half_of_the_data(self):
        """As a tool leaves it that is stopped, and after a kill of the mount."""
        self.copy('devstate')
        self.size_ram()
        self.fill_ram(MIB)
        self.check_files(AHEAD)
        self.mount.crash()
        self.mount.start()
        self.fill_ram(2 * MIB)
        self.check_files(AHEAD)

    def test_a_length_that_another_open_sets(self):
        def by_open():
            self.size_ram()

        def by_name():
            os.truncate(self.snaps('vm1', 'ram'), len(self.ram))

        def by_the_last_byte():
            fd = self.open_ram()
            os.pwrite(fd, b'x', len(self.ram) - 1)
            os.close(fd)

        def told():
            with contextlib.suppress(OSError):
                return AHEAD in self.error()

        for lengthen in (by_open, by_name, by_the_last_byte):
            with self.subTest(lengthen.__name__):
                self.copy('devstate')
                fd = self.open_ram()
                write_all(fd, self.ram[:MIB])
                with self.assertRaises(OSError):
                    os.close(fd)
                lengthen()
                # The next close looks at it, whoever set the length.
                os.close(self.open_ram())
                harness.wait_until(told, 10, 'why it is not saved is told')
                self.check_files(AHEAD)
                self.copy('ram')
                self.check_snapshot()
                self.run_ok('rm', '-r', self.snaps('vm1'))
                os.mkdir(self.snaps('vm1'))

    def test_a_copy_that_goes_on_where_another_ended(self):
        self.copy('devstate')
        for at in (0, MIB):
            fd = self.open_ram()
            os.lseek(fd, at, os.SEEK_SET)
            write_all(fd, self.ram[at:] if at else self.ram[:MIB])
            with contextlib.suppress(OSError):
                os.close(fd)
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), LISTED)
        self.assertTrue(read_file(self.snaps('vm1', 'ram')) == self.ram)

    def test_a_length_that_is_allocated(self):
        self.copy('devstate')
        fd = self.open_ram()
        os.posix_fallocate(fd, 0, len(self.ram))
        os.close(fd)
        self.check_files(AHEAD)
        self.fill_ram()
        self.check_files(AHEAD)

    def test_the_last_byte_first(self):
        self.copy('devstate')
        fd = self.open_ram()
        os.pwrite(fd, self.ram[-MIB:], len(self.ram) - MIB)
        os.pwrite(fd, self.ram[:MIB], 0)
        os.close(fd)
        self.check_files(AHEAD)

    def test_devstate_whose_length_came_first(self):
        self.copy('ram')
        data = self.views['devstate']
        fd = os.open(self.snaps('vm1', 'devstate'), os.O_WRONLY | os.O_CREAT, 0o600)
        os.ftruncate(fd, len(data))
        os.pwrite(fd, data[-4096:], len(data) - 4096)
        os.pwrite(fd, data[:4096], 0)
        os.close(fd)
        self.check_files('devstate is not taken for whole: its length was set before its data')

    def test_a_hole_at_the_end_counts_as_data(self):
        self.copy('devstate')
        fd = self.open_ram()
        end = len(self.ram.rstrip(b'\0'))
        write_all(fd, self.ram[:end])
        os.ftruncate(fd, len(self.ram))
        os.close(fd)
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), LISTED)
        self.assertTrue(read_file(self.snaps('vm1', 'ram')) == self.ram)

    def test_only_zeros_are_no_memory(self):
        self.copy('devstate')
        fd = self.open_ram()
        write_all(fd, bytes(len(self.ram)))
        self.assert_errno(errno.EPROTO, os.close, fd)
        self.wait_log('vm1/ram: not saved: ram holds only zeros')
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), ['devstate', 'ram'])

    def test_a_copy_over_it_is_taken(self):
        """O_TRUNC, or a new file: what was known of the old one does not count."""
        for prepare in (lambda: None, lambda: os.unlink(self.snaps('vm1', 'ram'))):
            self.size_ram()
            self.fill_ram(0)
            prepare()
            self.copy('devstate')
            self.copy('ram')
            self.check_snapshot()
            self.run_ok('rm', '-r', self.snaps('vm1'))
            os.mkdir(self.snaps('vm1'))

    def test_who_proves_nothing(self):
        done = self.prove()
        self.assertEqual(done.returncode, 1)
        self.assertIn('no ram, devstate or preamble lies there', done.stderr)
        self.size_ram()
        self.fill_ram()
        self.put_file(self.snaps('vm1', 'devstate'), self.views['devstate'])
        idle = os.open(self.snaps('vm1', 'devstate'), os.O_RDWR)
        self.assertIn('has a part open', self.prove().stderr)
        os.close(idle)
        os.truncate(self.snaps('vm1', 'ram'), MIB)
        self.assertIn('are no snapshot', self.prove().stderr)
        self.assertIn('ram is not whole', self.error())
        for name in ('ram', 'devstate'):
            done = tool('import', '--parts', self.snaps('vm1', name))
            self.assertEqual(done.returncode, 1)
            self.assertIn(f'vm1/{name}: Not a directory', done.stderr)
        os.unlink(self.snaps('vm1', 'devstate'))
        self.assertIn('are no snapshot', self.prove().stderr)
        done = tool('import', '--parts', self.backup)
        self.assertIn('is not in a mount', done.stderr)


class ToolTest(CopiedCase):
    """What each program writes ends in the right snapshot, or in files."""

    def copy_by(self, *command):
        """A copy by a command in which {0} is the source and {1} the target makes
        the snapshot."""
        folder = self.snaps('vm1')
        os.mkdir(folder)
        for part in ('ram', 'devstate'):
            self.run_ok(*(word.format(self.saved(part), os.path.join(folder, part))
                          for word in command))
        for view, data in self.views.items():
            self.assertTrue(read_file(self.snaps('vm1', view)) == data, view)
        self.run_ok('rm', '-r', folder)

    def prove(self, folder):
        done = tool('import', '--parts', folder)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_cp_and_dd(self):
        for command in (('cp',), ('cp', '--sparse=always'), ('cp', '--sparse=never'),
                        ('install', '-m', '600')):
            with self.subTest(command=command):
                self.copy_by(*command, '{0}', '{1}')
        for conv in ('notrunc', 'sparse', 'fsync'):
            with self.subTest(conv=conv):
                self.copy_by('dd', 'if={0}', 'of={1}', 'bs=64k', f'conv={conv}')

    def test_rsync(self):
        harness.need_program('rsync')
        for options in ((), ('-S',), ('--inplace',), ('--inplace', '-S'), ('--preallocate',),
                        ('--preallocate', '--inplace')):
            with self.subTest(options=options):
                self.copy_by('rsync', '-a', *options, '{0}', '{1}')

    def test_archives(self):
        for program in ('tar', 'bsdtar'):
            for packed in ((), ('-S',)):
                if program == 'bsdtar' and not shutil.which('bsdtar'):
                    continue
                archive = self.path('a.tar')
                self.run_ok('tar', *packed, '-C', self.backup, '-cf', archive, 'ram', 'devstate')
                os.mkdir(self.snaps('vm1'))
                with self.subTest(program=program, packed=packed):
                    self.run_ok(program, '-C', self.snaps('vm1'), '-xf', archive)
                    self.check_same()
                self.run_ok('rm', '-r', self.snaps('vm1'))

    def test_a_program_that_sets_the_length_first(self):
        harness.need_program('qemu-img')
        os.mkdir(self.snaps('vm1'))
        self.copy('devstate')
        self.run_ok('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', self.saved('ram'),
                    self.snaps('vm1', 'ram'))
        self.assertFalse(os.path.exists(self.store('vm1', 'snapshot.zst')))
        self.assertIn(AHEAD, os.getxattr(self.snaps('vm1'), 'user.snapfs.error').decode())
        self.prove(self.snaps('vm1'))
        self.assertTrue(read_file(self.snaps('vm1', 'stream')) == self.views['stream'])


if __name__ == '__main__':
    harness.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that bring a copy back together with its extended attributes."""
import errno
import os
import shutil

from copycase import CopyCase
from fusecase import read_file, setUpModule  # noqa: F401
import harness

KINDS = ('classic', 'mapped-libvirt', 'classic-zeros')
# What a copy shares with its original, and what it does not.
SHARED = ('form', 'machine', 'ram', 'pages', 'pages_zero')
LOCAL = ('uuid', 'created', 'logical', 'physical', 'ratio', 'preamble', 'error')


class RestoreTest(CopyCase):
    """`self.backup` has a copy of a snapshot of each kind, with attributes."""

    def setUp(self):
        super().setUp()
        self.backup = self.path('backup')
        self.kept = {}
        for kind in KINDS:
            self.kept[kind] = self.save_kind(f'source/vm-{kind}', kind)
        self.run_ok('cp', '-a', self.snaps('source'), self.backup)
        try:
            os.getxattr(os.path.join(self.backup, 'vm-classic', 'ram'), 'user.snapfs.uuid')
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
            raise harness.Missing('the file system of the tests has no user xattrs') from None
        self.run_ok('rm', '-r', self.snaps('source'))

    def run_silent(self, *command, **options):
        """A command that succeeds and has nothing to complain of."""
        done = harness.run(*command, **options)
        self.assertEqual((done.returncode, done.stderr), (0, ''), command)

    def check_restored(self, folder=''):
        for kind, kept in self.kept.items():
            self.check_kept(os.path.join(folder, f'vm-{kind}'), kept)
        self.assertNotIn('not set', self.mount.log())

    def test_cp(self):
        self.run_silent('cp', '-r', '--preserve=all', self.backup + '/.', self.snaps())
        self.check_restored()

    def test_rsync(self):
        harness.need_program('rsync')
        for number, options in enumerate(((), ('--inplace',), ('-S',))):
            with self.subTest(options=options):
                folder = str(number)
                for _ in range(2):   # nothing is left to do the second time
                    self.run_silent('rsync', '-aX', *options, self.backup + '/',
                                    self.snaps(folder) + '/')
                    self.check_restored(folder)

    def test_tar(self):
        self.run_silent('tar', '--xattrs', '-C', self.backup, '-cf', self.path('a.tar'), '.')
        self.run_silent('tar', '--xattrs', '-C', self.snaps(), '-xf', self.path('a.tar'))
        self.check_restored()

    def test_bsdtar(self):
        harness.need_program('bsdtar')
        self.run_silent('bsdtar', '--xattrs', '-C', self.backup, '-cf', self.path('a.tar'), '.')
        self.run_silent('bsdtar', '--xattrs', '-C', self.snaps(), '-xpf', self.path('a.tar'))
        self.check_restored()

    def test_unsquashfs(self):
        harness.need_program('mksquashfs')
        self.run_ok('mksquashfs', self.backup, self.path('a.squash'), '-quiet', '-no-progress',
                    '-xattrs')
        os.mkdir(self.snaps('deep'))
        self.run_silent('unsquashfs', '-q', '-n', '-f', '-xattrs', '-d', self.snaps('deep'),
                        self.path('a.squash'))
        self.check_restored('deep')

    def test_borg(self):
        env = dict(os.environ, HOME=self.path('home'), BORG_BASE_DIR=self.path('home'),
                   BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK='yes',
                   BORG_RELOCATED_REPO_ACCESS_IS_OK='yes')
        harness.need_program('borg')
        self.run_ok('borg', 'init', '-e', 'none', self.path('repo'), env=env)
        self.run_ok('borg', 'create', self.path('repo') + '::a', '.', cwd=self.backup, env=env)
        self.run_silent('borg', 'extract', self.path('repo') + '::a', cwd=self.snaps(), env=env)
        self.check_restored()

    def test_setfattr_restore(self):
        self.run_silent('cp', '-r', '--preserve=mode', self.backup + '/.', self.snaps())
        dump = self.run_ok('getfattr', '-R', '-d', '.', cwd=self.backup)
        self.assertIn('user.snapfs.uuid', dump)
        with open(self.path('dump'), 'w') as file:
            file.write(dump)
        self.run_silent('setfattr', f'--restore={self.path("dump")}', cwd=self.snaps())
        self.check_restored()

    def test_setting_changes_nothing(self):
        shutil.copytree(os.path.join(self.backup, 'vm-classic'), self.snaps('vm1'))
        self.check_kept('vm1', self.kept['classic'])
        for path in (self.snaps('vm1'), self.snaps('vm1', 'ram'), self.snaps('vm1', 'stream')):
            before = {name: os.getxattr(path, name) for name in os.listxattr(path)}
            for name in LOCAL:
                os.setxattr(path, f'user.snapfs.{name}', b'another')
            for name in SHARED:
                name = f'user.snapfs.{name}'
                os.setxattr(path, name, before[name])
                self.assert_errno(errno.EPERM, os.setxattr, path, name, b'another')
                self.wait_log(f'vm1/{name}: not set: the snapshot here has another value')
                self.assert_errno(errno.EPERM, os.removexattr, path, name)
            self.assert_errno(errno.EPERM, os.setxattr, path, 'user.snapfs.none', b'x')
            self.assert_errno(errno.ENODATA, os.removexattr, path, 'user.snapfs.none')
            self.assertEqual({name: os.getxattr(path, name) for name in os.listxattr(path)}, before)

    def test_a_place_without_a_snapshot_takes_and_forgets_them(self):
        os.mkdir(self.snaps('vm1'))
        shutil.copyfile(os.path.join(self.backup, 'vm-classic', 'devstate'),
                        self.snaps('vm1', 'devstate'))
        with open(self.snaps('vm1', 'notes'), 'w') as file:
            file.write('x')
        for names in (('vm1',), ('vm1', 'devstate'), ('vm1', 'notes')):
            for name in (*SHARED, *LOCAL, 'none'):
                name = f'user.snapfs.{name}'
                os.setxattr(self.snaps(*names), name, b'another')
                self.assert_errno(errno.ENODATA, os.getxattr, self.snaps(*names), name)
                self.assert_errno(errno.ENODATA, os.removexattr, self.snaps(*names), name)
            self.assertEqual([name for name in os.listxattr(self.store(*names))
                              if name.startswith('user.snapfs')], [])


class ServiceFilesTest(CopyCase):
    def test_they_can_be_copied(self):
        """Their size is the number of bytes that are read, also a while later."""
        for name in ('version', 'stats'):
            source, copy = self.snaps('.snapfs', name), self.path('copy')
            size = os.stat(source).st_size
            self.assertGreater(size, 0)
            for program in ('cp', 'rsync', 'tar', 'python'):
                with self.subTest(name=name, program=program):
                    self.save()   # counters change
                    if program == 'python':
                        shutil.copyfile(source, copy)
                    elif program == 'tar':
                        self.run_ok('tar', '-C', self.snaps('.snapfs'), '-cf', self.path('t'), name)
                        self.run_ok('tar', '-C', self.work, '-xf', self.path('t'),
                                    '--transform=s/.*/copy/')
                    else:
                        self.run_ok(*{'cp': ('cp', '--sparse=auto'),
                                      'rsync': ('rsync', '-a')}[program], source, copy)
                    data = read_file(copy)
                    self.assertEqual((len(data), os.stat(source).st_size), (size, size))
                    self.assertTrue(data.endswith(b'\n'))
                    self.assertNotIn(b'\0', data)
                    self.assertIn({'version': b'.', 'stats': b'\nsnapfs_saves_total{'}[name], data)

    def test_a_copy_of_stats_is_brought_up_to_date(self):
        harness.need_program('rsync')

        def saves():
            self.run_ok('rsync', '-a', self.snaps('.snapfs', 'stats'), self.path('copy'))
            return int(read_file(self.path('copy')).split(b'\nsnapfs_saves_total{')[1].split()[1])
        self.assertEqual(saves(), 0)
        self.save()
        # It is counted a moment after the last write was answered.
        harness.wait_until(lambda: saves() == 1, 10, 'the copy counts the save')


if __name__ == '__main__':
    harness.main()

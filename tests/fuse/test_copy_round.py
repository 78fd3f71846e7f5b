#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots of every form that are copied out of the mount, removed, and copied
in again, by the programs that people back up with: they are the same."""
import itertools
import os

from fusecase import setUpModule  # noqa: F401
from copycase import KINDS, CopyCase
import harness


def cp(case, source, target):
    case.run_ok('cp', '-a', source, target)


def rsync(*options):
    def copy(case, source, target):
        case.run_ok(harness.need_program('rsync'), '-a', *options, source + '/', target + '/')
    return copy


def tar(*options):
    def copy(case, source, target):
        archive = case.path('archive.tar')
        case.run_ok('tar', *options, '-C', source, '-cf', archive, '.')
        os.mkdir(target)
        case.run_ok('tar', '-C', target, '-xf', archive)
        os.unlink(archive)
    return copy


def delete(case, folder):
    case.run_ok('find', folder, '-delete')


def rsync_delete(case, folder):
    empty = case.path('empty')
    os.makedirs(empty, exist_ok=True)
    case.run_ok('rsync', '-a', '--delete', empty + '/', folder + '/')
    case.assertEqual(os.listdir(folder), [])
    case.assertEqual(os.listdir(case.store(os.path.basename(folder))), [])
    os.rmdir(folder)


def rm(*options):
    return lambda case, folder: case.run_ok('rm', *options, folder)


COPIES = {'cp': cp, 'rsync': rsync(), 'rsync-in-place': rsync('-S', '--inplace'),
          'rsync-sparse': rsync('-S'), 'tar': tar(), 'tar-sparse': tar('-S')}
FOUR = ('classic', 'mapped', 'classic-libvirt', 'mapped-libvirt')
REMOVALS = [rm('-r'), rm('-rf'), delete, rsync_delete]


class RoundTest(CopyCase):
    def go_round(self, name, out, back, kinds=FOUR):
        """Each kind of snapshot goes out by one program and in by another."""
        for number, kind in enumerate(kinds):
            with self.subTest(kind):
                kept = self.save_kind(name, kind)
                self.put_file(self.snaps(name, 'domain.xml'), b'<domain/>')
                copy = self.path(f'copy-{name}-{kind}')
                COPIES[out](self, self.snaps(name), copy)
                self.assertEqual(sorted(os.listdir(copy)), sorted([*kept.listed, 'domain.xml']))
                for view in kept.listed:
                    self.run_ok('cmp', self.snaps(name, view), os.path.join(copy, view))
                REMOVALS[number % len(REMOVALS)](self, self.snaps(name))
                self.check_gone(name)
                COPIES[back](self, copy, self.snaps(name))
                self.check_kept(name, kept, ['domain.xml'])
                self.mount.remount()
                self.check_kept(name, kept, ['domain.xml'])
                self.run_ok('rm', '-r', self.snaps(name))
                self.check_gone(name)

    def test_cp(self):
        self.go_round('vm1', 'cp', 'cp', KINDS)

    def test_rsync(self):
        self.go_round('vm1', 'rsync', 'rsync')

    def test_rsync_sparse(self):
        self.go_round('vm1', 'cp', 'rsync-sparse')

    def test_rsync_in_place(self):
        self.go_round('vm1', 'rsync-in-place', 'rsync-in-place', KINDS)

    def test_tar(self):
        self.go_round('vm1', 'tar', 'tar')

    def test_tar_sparse(self):
        self.go_round('vm1', 'tar-sparse', 'tar-sparse')

    def test_every_removal(self):
        for remove, kind in itertools.product(REMOVALS, KINDS):
            self.save_kind('vm1', kind)
            remove(self, self.snaps('vm1'))
            self.check_gone('vm1')

    def test_from_one_folder_of_the_mount_to_another(self):
        for copy, kind in itertools.product(('cp', 'rsync', 'tar-sparse'), FOUR):
            with self.subTest(copy=copy, kind=kind):
                kept = self.save_kind('source', kind)
                COPIES[copy](self, self.snaps('source'), self.snaps('target'))
                self.check_kept('target', kept)
                self.check_kept('source', kept)
                self.run_ok('rm', '-r', self.snaps('source'), self.snaps('target'))

    def test_mv_of_a_folder(self):
        for kind in KINDS:
            with self.subTest(kind):
                kept = self.save_kind('vm1', kind)
                self.run_ok('mv', self.snaps('vm1'), self.snaps('vm2'))
                self.check_kept('vm2', kept)
                self.run_ok('mv', self.snaps('vm2'), self.path('out'))
                self.check_gone('vm2')
                self.assertEqual(sorted(os.listdir(self.path('out'))), kept.listed)
                self.run_ok('mv', self.path('out'), self.snaps('vm3'))
                self.check_kept('vm3', kept)
                self.assertFalse(os.path.exists(self.path('out')))
                self.run_ok('rm', '-r', self.snaps('vm3'))

    def test_mv_of_each_file(self):
        for kind in KINDS:
            with self.subTest(kind):
                kept = self.save_kind('vm1', kind)
                os.mkdir(self.path('out'))
                os.mkdir(self.snaps('vm2'))
                self.run_ok('mv', *(self.snaps('vm1', view) for view in kept.listed),
                            self.path('out'))
                self.assertEqual(os.listdir(self.store('vm1')), [])
                self.run_ok('mv', *(self.path('out', view) for view in kept.listed),
                            self.snaps('vm2'))
                self.check_kept('vm2', kept)
                self.run_ok('rm', '-r', self.snaps('vm1'), self.snaps('vm2'), self.path('out'))

    def test_every_order(self):
        for kind in KINDS:
            kept = self.save_kind('source', kind)
            copy = self.path(f'copy-{kind}')
            self.run_ok('cp', '-a', self.snaps('source'), copy)
            for order in itertools.permutations(kept.listed):
                with self.subTest(kind, order=order):
                    os.mkdir(self.snaps('vm1'))
                    for view in order:
                        self.run_ok('cp', '-a', os.path.join(copy, view), self.snaps('vm1', view))
                    self.check_kept('vm1', kept)
                    self.run_ok('rm', '-r', self.snaps('vm1'))

    def test_by_stream_and_by_mapped(self):
        for kind, (form, preamble) in KINDS.items():
            kept = self.save_kind('source', kind)
            with self.subTest(kind, by='stream'):
                os.mkdir(self.snaps('vm1'))
                self.run_ok('cp', '--sparse=always', self.snaps('source', 'stream'),
                            self.snaps('vm1', 'stream'))
                self.check_kept('vm1', kept)
            with self.subTest(kind, by='mapped'):
                os.mkdir(self.snaps('vm2'))
                self.run_ok('cp', '--sparse=always', self.snaps('source', 'mapped'),
                            self.snaps('vm2', 'mapped'))
                if not preamble:
                    self.check_kept('vm2', kept)
                self.assertEqual(os.getxattr(self.snaps('vm2'), 'user.snapfs.form'),
                                 form.encode())
                for view in ('ram', 'devstate', 'mapped'):
                    self.run_ok('cmp', self.snaps('source', view), self.snaps('vm2', view))
            self.run_ok('rm', '-r', *(self.snaps(name) for name in os.listdir(self.snaps())))

    def test_a_copy_is_no_larger_than_what_is_listed(self):
        def du(*options):
            return int(self.run_ok('du', '-s', '-B1', *options).split()[0])
        for kind in FOUR:
            kept = self.save_kind('vm1', kind)
            listed = [self.snaps('vm1', view) for view in kept.listed]
            for name, copy in COPIES.items():
                with self.subTest(kind, copy=name):
                    target = self.path(f'{name}-{kind}')
                    copy(self, self.snaps('vm1'), target)
                    folder = os.stat(target).st_size
                    logical = sum(os.stat(path).st_size for path in listed)
                    self.assertEqual(du('--apparent-size', target) - folder, logical)
                    if name in ('cp', 'rsync-sparse'):
                        stored = self.guest.stored() * 4096 + logical - len(kept.views['ram'])
                        self.assertLess(du(target), stored + 128 * 1024)


if __name__ == '__main__':
    harness.main()

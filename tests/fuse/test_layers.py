#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What an increment needs of the store, and what is there in its place."""
import errno
import os

from fusecase import FuseCase, setUpModule  # noqa: F401
from mount import tool
from test_increments import IncrementCase, change
import harness
import nolinks

PARENT = 'user.snapfs.parent'


class AskedTest(IncrementCase):
    """A save that is told its parent, without the mount option."""
    options = ()

    def setUp(self):
        super().setUp()
        self.save('vm1', self.guest)
        change(self.guest, 20, 1)
        os.mkdir(self.snaps('vm2'))

    def test_only_the_next_save_has_the_parent_that_was_asked_for(self):
        os.setxattr(self.snaps('vm2'), PARENT, b'vm1')
        self.save('vm2', self.guest)
        self.assertEqual(self.parents('vm2'), [self.uuid('vm1')])
        with self.assertRaises(OSError) as caught:
            os.getxattr(self.snaps('vm2'), PARENT)
        self.assertEqual(caught.exception.errno, errno.ENODATA)
        self.save('vm2', self.guest)
        self.assertEqual(self.parents('vm2'), [])
        self.check_snapshot('vm2')

    def test_what_was_asked_for_is_read_by_name_and_taken_back_and_no_copy_takes_it_along(self):
        os.setxattr(self.snaps('vm2'), PARENT, b'vm1')
        self.assertEqual(os.getxattr(self.snaps('vm2'), PARENT), b'vm1')
        self.assertNotIn(PARENT, os.listxattr(self.snaps('vm2')))
        os.removexattr(self.snaps('vm2'), PARENT)
        self.save('vm2', self.guest)
        self.assertEqual(self.parents('vm2'), [])


class NoLinksTest(FuseCase):
    """Stores on a file system without hard links."""

    def setUp(self):
        super().setUp()
        self.mount.unmount()
        self.mount.before_exec = nolinks.before_exec()

    def test_such_a_store_cannot_be_mounted_with_increments(self):
        self.mount.options = ['increments']
        with self.assertRaisesRegex(RuntimeError, 'increments need hard links'):
            self.mount.start()

    def test_a_save_can_ask_for_no_parent_and_stands_alone(self):
        self.mount.start()
        self.save('vm1', self.guest)
        with self.assertRaises(OSError) as caught:
            os.setxattr(self.snaps('vm1'), PARENT, b'vm1')
        self.assertEqual(caught.exception.errno, errno.EOPNOTSUPP)
        self.assertIn('increments need hard links', self.mount.log())
        self.save('vm1', self.guest)
        self.check_snapshot('vm1')


class OddTest(IncrementCase):
    """Other things than the files of parents among the layers."""

    def setUp(self):
        super().setUp()
        self.save('vm1', self.guest)
        self.save_changed('vm2', 20, 1)
        self.file = self.store('.snapfs', 'layers', self.uuid('vm1') + '.zst')

    def odd(self, kind, path):
        if kind == 'FIFO':
            os.mkfifo(path)
        elif kind == 'folder':
            os.mkdir(path)
        elif kind == 'symbolic link':
            os.symlink(self.store('vm1', 'snapshot.zst'), path)

    def lost(self, said):
        """vm2 cannot be read, and everybody is told why; vm1 can."""
        error = os.getxattr(self.snaps('vm2'), 'user.snapfs.error').decode()
        self.assertIn(self.uuid('vm1'), error)
        self.assertIn(said, error)
        self.assertEqual(os.listdir(self.snaps('vm2')), ['stream'])
        done = tool('verify', self.store())
        self.assertEqual(done.returncode, 1, done)
        self.assertIn(said, done.stdout)
        self.assertIn('vm1: ok', done.stdout)

    def test_a_parent_that_comes_back_while_mounted_is_read_again(self):
        away = self.path('away')
        for kind in ('missing', 'FIFO', 'folder', 'symbolic link'):
            with self.subTest(kind):
                # A mount that has not read the parent.
                self.mount.unmount()
                os.rename(self.file, away)
                self.odd(kind, self.file)
                self.mount.start()
                self.lost(kind)
                if kind == 'folder':
                    os.rmdir(self.file)
                elif kind != 'missing':
                    os.unlink(self.file)
                os.rename(away, self.file)
                self.check_snapshot('vm2')

    def test_increments_can_be_removed_where_the_layers_are_no_folder(self):
        self.mount.unmount()
        layers = self.store('.snapfs', 'layers')
        away = self.path('away')
        os.rename(layers, away)
        os.symlink(away, layers)
        self.mount.start()
        self.lost('is not a folder')
        self.remove('vm2')
        self.assertEqual(os.listdir(self.snaps()), ['vm1'])

    def test_a_save_beside_odd_files_works_and_removals_leave_none_of_the_layers(self):
        layers = self.store('.snapfs', 'layers')
        uuid = '00000000-0000-4000-8000-00000000000'
        for number, kind in enumerate(('FIFO', 'folder', 'symbolic link')):
            self.odd(kind, os.path.join(layers, kind))
            self.odd(kind, os.path.join(layers, f'{uuid}{number}.zst'))
        self.save_changed('vm3', 20, 2)
        self.assertIn(self.uuid('vm1'), self.parents('vm3'))
        done = tool('ls', '--layers', self.store())
        self.assertEqual(done.returncode, 0, done)
        self.assertNotIn(uuid, done.stdout)
        for name in ('vm1', 'vm2', 'vm3'):
            self.remove(name)
        # What has such a name and is no file goes too, but for a folder.
        left = ['FIFO', 'folder', 'symbolic link', f'{uuid}1.zst']
        harness.wait_until(lambda: sorted(self.layers()) == sorted(left), 30, 'the layers to go')


if __name__ == '__main__':
    harness.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What an increment needs of the store, and what is there in its place."""
import errno
import os

from fusecase import FuseCase, setUpModule  # noqa: F401
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


if __name__ == '__main__':
    harness.main()

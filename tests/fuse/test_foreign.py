#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A file of root's that comes into a folder of Bob's: by no name of a snapshot, and by no file
that he has open, does he get what is in it."""
import contextlib
import errno
import os

from fusecase import read_file, setUpModule, write_stream  # noqa: F401
import harness
import makestream
from users import BOB, MountCase, as_user, write_file


class Moved(MountCase):
    """A file that is moved onto the name of a stream stays its owner's."""

    def setUp(self):
        super().setUp()
        self.mounted = self.mount()
        self.folder = self.mounted.path('bob')
        self.stream = self.folder + '/stream'

    def replaced(self, flags, use, mode=0o600):
        """Bob's header is replaced by root's file while he has it open: what `use` gives."""
        secret = self.held('store', 'bob', 'secret')

        def run():
            write_file(self.stream, "Bob's header")
            os.chmod(self.stream, mode)
            fd = os.open(self.stream, flags)
            os.rename(self.folder + '/secret', self.stream)
            os.stat(self.stream)   # now it is looked up again
            return use(fd)
        try:
            with self.assertRaises(OSError) as caught:
                as_user(BOB, run)
            self.assertEqual(caught.exception.errno, errno.ESTALE)
        finally:
            self.assert_untouched(secret, 0o600, 'secret')
            self.assertEqual(os.fstat(secret).st_nlink, 1)

    def test_a_reader_of_another_header_reads_nothing_of_it(self):
        self.replaced(os.O_RDONLY, lambda fd: os.pread(fd, 100, 0))

    def test_who_writes_another_header_does_not_write_it(self):
        # The folder is busy while one writes, so he has the file moved in the store.
        secret = self.held('store', 'bob', 'secret')

        def run():
            write_file(self.stream, "Bob's header")
            fd = os.open(self.stream, os.O_RDWR)
            os.rename(self.bobs + '/secret', self.bobs + '/stream')
            for use in (lambda: os.pwrite(fd, b'mine', 0), lambda: os.pread(fd, 100, 0)):
                try:
                    use()
                except OSError as error:
                    if error.errno != errno.ESTALE:
                        raise
                else:
                    return False
            os.ftruncate(fd, 3)
            os.close(fd)
            return True
        self.assertTrue(as_user(BOB, run))
        self.assert_untouched(secret, 0o600, 'secret')

    def test_beside_a_snapshot_of_another_user_it_is_not_the_header(self):
        secret = self.held('store', 'bob', 'secret')
        data = makestream.stream(makestream.Guest({'pc.ram': 1 << 20}, seed=1))

        def run():
            write_stream(self.stream, data)
            os.rename(self.folder + '/secret', self.stream)
            fd = os.open(self.stream, os.O_RDWR)
            os.ftruncate(fd, 4)
            try:
                return os.pread(fd, 4, 0)
            except OSError as error:
                return error.errno
        self.assertEqual(as_user(BOB, run), errno.ESTALE)
        self.assert_untouched(secret, 0o600, 'secret')


class Replaced(MountCase):
    """Root's snapshot comes into a folder where Bob has an older one open."""

    def setUp(self):
        super().setUp()
        self.mounted = self.mount()
        self.stream = self.mounted.path('bob', 'stream')
        os.mkdir(self.mounted.path('root'), 0o700)
        data = makestream.stream(makestream.Guest({'pc.ram': 1 << 20}, seed=1))
        self.data = b'B' * 4096 + data
        write_stream(self.mounted.path('root', 'stream'), b'R' * 4096 + data)
        os.chmod(self.path('store', 'root', 'snapshot.zst'), 0o600)
        os.chown(self.path('store', 'root'), BOB, BOB)

    def used(self, opened):
        """What Bob reads, or the error, by the file that `opened` gives."""
        def run():
            fd = opened()
            os.unlink(self.stream)
            os.rename(self.path('store', 'root', 'snapshot.zst'), self.bobs + '/snapshot.zst')
            try:
                return os.pread(fd, 4, 0)
            except OSError as error:
                return error.errno
            finally:
                with contextlib.suppress(OSError):
                    os.pwrite(fd, b'mine', 0)
        return as_user(BOB, run)

    def saved(self):
        """The file by which Bob has just saved."""
        fd = os.open(self.stream, os.O_RDWR | os.O_CREAT, 0o600)
        data = memoryview(self.data)
        while data:
            data = data[os.write(fd, data[:131072]):]
        return fd

    def reopened(self):
        """The file of a snapshot, opened to change its preamble."""
        os.close(self.saved())
        return os.open(self.stream, os.O_RDWR)

    def test_who_has_saved_an_older_one_has_nothing_of_it(self):
        self.assertEqual(self.used(self.saved), errno.ESTALE)
        self.assertEqual(read_file(self.stream)[:5], b'RRRRR')

    def test_who_has_opened_an_older_one_has_nothing_of_it(self):
        self.assertEqual(self.used(self.reopened), errno.ESTALE)
        self.assertEqual(read_file(self.stream)[:5], b'RRRRR')


class Mixed(MountCase):
    """A part of another user's does not come into a snapshot."""

    def setUp(self):
        super().setUp()
        self.mounted = self.mount()
        os.mkdir(self.mounted.path('root'))
        write_stream(self.mounted.path('root', 'stream'),
                     makestream.stream(makestream.Guest({'pc.ram': 1 << 20}, seed=1)))
        self.parts = {name: read_file(self.mounted.path('root', name))
                      for name in ('ram', 'devstate')}

    def copy(self, *names):
        for name in names:
            with open(self.mounted.path('bob', name), 'wb') as file:
                file.write(self.parts[name])

    def doubt(self):
        return os.getxattr(self.mounted.path('bob'), 'user.snapfs.error').decode()

    def test_a_preamble_that_was_moved_beside_the_parts(self):
        os.rename(self.secret, self.bobs + '/preamble')
        as_user(BOB, self.copy, 'ram', 'devstate')
        self.assertIn('preamble belongs to another user', self.doubt())
        self.assertEqual(sorted(os.listdir(self.mounted.path('bob'))),
                         ['devstate', 'preamble', 'ram'])
        self.assertEqual(os.stat(self.bobs + '/preamble').st_uid, 0)

    def test_a_preamble_that_is_moved_into_the_place_of_one_after_the_snapshot(self):
        def adopt():
            self.copy('ram', 'devstate')
            with open(self.mounted.path('bob', 'preamble'), 'wb', buffering=0) as file:
                file.write(b'mine')
                os.rename(self.secret, self.bobs + '/preamble')
        as_user(BOB, adopt)
        self.assertIn('preamble belongs to another user', self.doubt())
        self.assertEqual(os.stat(self.bobs + '/preamble').st_uid, 0)

    def test_root_may_give_each_part_away_after_it_was_copied(self):
        """So rsync does."""
        for names in (('ram', 'devstate'), ('devstate', 'ram')):
            for name in names:
                self.copy(name)
                os.chown(self.mounted.path('bob', name), BOB, BOB)
            self.assertEqual(os.stat(self.bobs + '/snapshot.zst').st_uid, BOB)
            os.unlink(self.mounted.path('bob', 'stream'))


if __name__ == '__main__':
    harness.main()

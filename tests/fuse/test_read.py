#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots read through the mount, in every way a program may read a file."""
import errno
import mmap
import os
import random
import threading

from fusecase import LISTED, MIB, VIEWS, FuseCase, read_file, setUpModule  # noqa: F401
import harness
import makestream
from mount import statistics

PAGE = 4096


class ReadTest(FuseCase):
    def setUp(self):
        super().setUp()
        # Sizes that leave a gap, names that make the first record longer.
        self.guest = makestream.Guest({'pc.ram': 5 * MIB, 'a': 8192, '/rom@etc/acpi': 3 * PAGE},
                                      seed=3)
        for page in range(100, 700):
            self.guest.pages['pc.ram'].pop(page, None)
        for page in range(800, 1000):
            self.guest.pages['pc.ram'][page] = makestream.page_bytes(page)
        self.save('vm1', self.guest)
        self.flat = self.guest.flat()

    def test_shows_the_guest(self):
        self.check_snapshot('vm1', self.guest)

    def test_any_range_of_any_view(self):
        chance = random.Random(4)
        for view in VIEWS:
            whole = read_file(self.snaps('vm1', view))
            for direct in (0, os.O_DIRECT):
                fd = os.open(self.snaps('vm1', view), os.O_RDONLY | direct)
                self.addCleanup(os.close, fd)
                for _ in range(400):
                    at = chance.randrange(len(whole) + 100)
                    size = chance.choice((1, 7, 8, 9, 4096, 4104, 20000, 300000))
                    self.assertTrue(os.pread(fd, size, at) == whole[at:at + size],
                                    f'{view} {size}@{at}')

    def test_stream_read_by_odd_steps(self):
        whole = read_file(self.snaps('vm1', 'stream'))
        fd = os.open(self.snaps('vm1', 'stream'), os.O_RDONLY | os.O_DIRECT)
        self.addCleanup(os.close, fd)
        for step in (4099, 28728, 131072, MIB):
            parts, at = [], 0
            while True:
                part = os.pread(fd, step, at)
                if not part:
                    break
                parts.append(part)
                at += len(part)
            self.assertTrue(b''.join(parts) == whole, f'steps of {step}')

    def test_holes_are_the_zero_pages(self):
        fd = os.open(self.snaps('vm1', 'ram'), os.O_RDONLY)
        self.addCleanup(os.close, fd)
        size = len(self.flat)
        at, data = 0, []
        while at < size:
            try:
                begin = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                self.assertEqual(error.errno, errno.ENXIO)
                break
            at = os.lseek(fd, begin, os.SEEK_HOLE)
            data.append((begin, at))
        expected = []
        for page in range(size // PAGE):
            if any(self.flat[page * PAGE:(page + 1) * PAGE]):
                if expected and expected[-1][1] == page * PAGE:
                    expected[-1] = (expected[-1][0], page * PAGE + PAGE)
                else:
                    expected.append((page * PAGE, page * PAGE + PAGE))
        self.assertEqual(data, expected)
        self.assert_errno(errno.ENXIO, os.lseek, fd, size, os.SEEK_DATA)
        self.assert_errno(errno.ENXIO, os.lseek, fd, size, os.SEEK_HOLE)

    def test_stream_and_devstate_have_no_holes(self):
        for view in ('stream', 'devstate'):
            with open(self.snaps('vm1', view), 'rb') as file:
                size = os.fstat(file.fileno()).st_size
                self.assertEqual(os.lseek(file.fileno(), 0, os.SEEK_DATA), 0)
                self.assertEqual(os.lseek(file.fileno(), 5, os.SEEK_HOLE), size)

    def test_mapped_private_and_shared(self):
        with open(self.snaps('vm1', 'ram'), 'rb') as file:
            shared = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
            private = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE,
                                mmap.PROT_READ | mmap.PROT_WRITE)
        self.assertTrue(shared[:] == self.flat)
        self.assertTrue(private[:] == self.flat)
        private[0:5] = b'mine!'
        self.assertEqual(shared[0:5], self.flat[0:5])
        self.assertEqual(private[0:5], b'mine!')
        shared.close()
        private.close()

    def test_many_readers_at_once(self):
        whole = {view: read_file(self.snaps('vm1', view)) for view in ('stream', 'ram')}
        wrong = []

        def reader(seed):
            chance = random.Random(seed)
            view = chance.choice(('stream', 'ram'))
            fd = os.open(self.snaps('vm1', view), os.O_RDONLY | os.O_DIRECT)
            for _ in range(200):
                at = chance.randrange(len(whole[view]))
                size = chance.choice((4096, 65536, 200000))
                if os.pread(fd, size, at) != whole[view][at:at + size]:
                    wrong.append((view, at, size))
            os.close(fd)
        threads = [threading.Thread(target=reader, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def test_open_one_outlives_its_name(self):
        ram = open(self.snaps('vm1', 'ram'), 'rb')
        stream = open(self.snaps('vm1', 'stream'), 'rb')
        self.addCleanup(ram.close)
        self.addCleanup(stream.close)
        expected = read_file(self.snaps('vm1', 'stream'))
        self.run_ok('rm', '-r', self.snaps('vm1'))
        self.assertTrue(ram.read() == self.flat)
        self.assertTrue(stream.read() == expected)

    def test_views_cannot_be_changed(self):
        for view in ('ram', 'devstate', 'mapped'):
            for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC,
                          os.O_WRONLY | os.O_APPEND):
                self.assert_errno(errno.EPERM, os.open, self.snaps('vm1', view), flags)
            self.assert_errno(errno.EPERM, os.truncate, self.snaps('vm1', view), 5)
        self.check_snapshot('vm1', self.guest)


class AttributesTest(FuseCase):
    def setUp(self):
        super().setUp()
        self.save()

    def test_sizes(self):
        flat = self.guest.flat()
        physical = os.stat(self.store('vm1', 'snapshot.zst'))
        ram = os.stat(self.snaps('vm1', 'ram'))
        self.assertEqual(ram.st_size, len(flat))
        self.assertEqual(ram.st_blocks, physical.st_blocks)
        stream = os.stat(self.snaps('vm1', 'stream'))
        self.assertEqual(stream.st_size, len(read_file(self.snaps('vm1', 'stream'))))
        for view in ('stream', 'devstate', 'mapped'):
            self.assertEqual(os.stat(self.snaps('vm1', view)).st_blocks, 1)
        for view in VIEWS:
            self.assertEqual(os.stat(self.snaps('vm1', view)).st_mtime_ns, physical.st_mtime_ns)

    def test_du_tells_the_compressed_size_once(self):
        def du(*options):
            return int(self.run_ok('du', '-s', '-B1', *options, self.snaps('vm1')).split()[0])
        physical = os.stat(self.store('vm1', 'snapshot.zst')).st_blocks * 512
        folder = os.stat(self.store('vm1')).st_blocks * 512
        self.assertAlmostEqual(du(), physical + folder, delta=4096)
        logical = len(self.guest.flat()) + os.stat(self.snaps('vm1', 'devstate')).st_size
        self.assertAlmostEqual(du('--apparent-size'), logical + os.stat(self.snaps('vm1')).st_size,
                               delta=4096)

    def test_inode_numbers_are_stable_and_differ(self):
        def numbers():
            return [os.stat(self.snaps('vm1', v)).st_ino for v in VIEWS]
        before = numbers()
        self.assertEqual(len(set(before)), len(VIEWS))
        listed = {e.name: e.inode() for e in os.scandir(self.snaps('vm1'))}
        self.assertEqual(listed, dict((v, ino) for v, ino in zip(VIEWS, before) if v in LISTED))
        os.rename(self.snaps('vm1'), self.snaps('vm2'))
        self.mount.remount()
        os.rename(self.snaps('vm2'), self.snaps('vm1'))
        self.assertEqual(numbers(), before)

    def test_xattrs(self):
        def get(name, *path):
            return os.getxattr(self.snaps('vm1', *path), f'user.snapfs.{name}').decode()
        size = os.stat(self.store('vm1', 'snapshot.zst')).st_size
        for path in ((), *((view,) for view in VIEWS)):
            self.assertEqual(get('form', *path), 'classic')
            self.assertEqual(get('machine', *path), 'pc-q35-10.0')
            self.assertEqual(int(get('physical', *path)), size)
            self.assertEqual(int(get('pages', *path)), 5 * MIB // PAGE)
            self.assertEqual(int(get('pages_zero', *path)), 5 * MIB // PAGE - self.guest.stored())
            self.assertEqual(len(get('uuid', *path)), 36)
            self.assertIn('user.snapfs.ratio', os.listxattr(self.snaps('vm1', *path)))
            self.assertNotIn('user.snapfs.error', os.listxattr(self.snaps('vm1', *path)))
        self.assert_errno(errno.ENODATA, os.getxattr, self.snaps('vm1'), 'user.snapfs.nothing')

    def test_xattrs_of_ours_cannot_be_set(self):
        for path in (self.snaps('vm1'), self.snaps('vm1', 'ram')):
            self.assert_errno(errno.EPERM, os.setxattr, path, 'user.snapfs.form', b'x')
            self.assert_errno(errno.EPERM, os.removexattr, path, 'user.snapfs.form')

    def test_other_xattrs_are_the_stores(self):
        name = self.snaps('vm1', 'notes')
        with open(name, 'w') as file:
            file.write('x')
        for path in (name, self.snaps('vm1')):
            try:
                os.setxattr(path, 'user.colour', b'green')
            except OSError as error:
                if error.errno == errno.ENOTSUP:
                    raise harness.Missing('the store has no user xattrs') from None
                raise
            self.assertEqual(os.getxattr(path, 'user.colour'), b'green')
            self.assertIn('user.colour', os.listxattr(path))
        self.assertEqual(os.getxattr(self.store('vm1', 'notes'), 'user.colour'), b'green')
        os.removexattr(name, 'user.colour')
        self.assertEqual(os.listxattr(name), [])

    def test_owner_mode_and_times_are_the_files(self):
        os.chmod(self.snaps('vm1', 'ram'), 0o444)
        os.utime(self.snaps('vm1', 'devstate'), (5, 1234567890))
        for view in VIEWS:
            st = os.stat(self.snaps('vm1', view))
            self.assertEqual(st.st_mode & 0o7777, 0o444)
            self.assertEqual(st.st_mtime, 1234567890)
        self.assertEqual(os.stat(self.store('vm1', 'snapshot.zst')).st_mode & 0o7777, 0o444)
        if os.geteuid() == 0:
            os.chown(self.snaps('vm1', 'stream'), 12, 34)
            self.assertEqual(os.stat(self.snaps('vm1', 'ram')).st_uid, 12)
            self.assertEqual(os.stat(self.store('vm1', 'snapshot.zst')).st_gid, 34)
        self.check_snapshot()

    def test_statfs_is_the_stores(self):
        ours, theirs = os.statvfs(self.snaps()), os.statvfs(self.store())
        for name in ('f_blocks', 'f_bsize', 'f_frsize', 'f_files', 'f_namemax'):
            self.assertEqual(getattr(ours, name), getattr(theirs, name), name)
        self.assertIn('snaps', self.run_ok('df', self.snaps()))

    def test_service_files(self):
        self.assertNotIn('.snapfs', os.listdir(self.snaps()))
        self.assertEqual(sorted(os.listdir(self.snaps('.snapfs'))), ['stats', 'version'])
        # It is counted a moment after the last write was answered.
        harness.wait_until(lambda: statistics(self.snaps())['snapfs_saves_completed_total'] == 1, 10,
                           'the save is counted')
        values = statistics(self.snaps())
        self.assertGreater(values['snapfs_save_in_bytes_total'], len(self.data) - 1)
        self.assertGreater(values['snapfs_operations_total{op="lookup"}'], 0)
        self.assertRegex(read_file(self.snaps('.snapfs', 'version')).decode(), r'^\d+\.\d+')
        self.assert_errno(errno.ENOENT, os.stat, self.snaps('vm1', '.snapfs'))
        self.assert_errno(errno.EPERM, os.unlink, self.snaps('.snapfs', 'stats'))


class OwnerTest(FuseCase):
    options = ('allow_other', 'uid=12', 'gid=34', 'umask=0027')

    def test_options_say_what_is_shown(self):
        self.save()
        for path in ((), ('stream',), ('ram',)):
            st = os.stat(self.snaps('vm1', *path))
            self.assertEqual((st.st_uid, st.st_gid), (12, 34))
            self.assertEqual(st.st_mode & 0o027, 0)


if __name__ == '__main__':
    harness.main()

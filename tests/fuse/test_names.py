#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Names: every legal one, made, moved and removed; those kept by snapfs."""
import errno
import fcntl
import os
import socket
import stat
import struct

from fusecase import LISTED, VIEWS, FuseCase, read_file, setUpModule, write_all, write_stream  # noqa: F401
import harness
import makestream



class LegalTest(FuseCase):
    def setUp(self):
        super().setUp()
        self.small = makestream.Guest({'pc.ram': 64 << 10}, seed=9)
        self.small_data = makestream.stream(self.small, device=100)

    def save_at(self, folder):
        write_stream(folder + b'/stream', self.small_data)
        self.assertEqual(sorted(os.listdir(folder)), [v.encode() for v in LISTED])
        self.assertTrue(read_file(folder + b'/ram') == self.small.flat())

    def test_every_byte(self):
        top = os.fsencode(self.snaps())
        for byte in range(1, 256):
            name = bytes([byte])
            if name in (b'/', b'.'):
                continue
            os.mkdir(os.path.join(top, name))
            with open(os.path.join(top, b'file' + name + b'end'), 'wb') as file:
                file.write(name)
        self.assertEqual(len(os.listdir(top)), 2 * 253)
        for byte in (1, 10, 32, 34, 39, 42, 92, 127, 128, 255):
            self.save_at(os.path.join(top, bytes([byte])))
        self.assertEqual(sorted(os.listdir(os.fsencode(self.store()))),
                         sorted(os.listdir(top) + [b'.snapfs']))
        for line in self.mount.log().split('\n'):
            self.assertTrue(line.isprintable(), repr(line))

    def test_long_and_deep(self):
        name = b'\xc3\xa9' * 127 + b'x'
        self.assertEqual(len(name), 255)
        folder = os.fsencode(self.snaps())
        for _ in range(8):
            folder = os.path.join(folder, name)
            os.mkdir(folder)
        self.save_at(folder)
        self.assert_errno(errno.ENAMETOOLONG, os.mkdir, os.path.join(folder, b'n' * 256))

    def test_nested_snapshots_do_not_mind_each_other(self):
        for name in ('a', 'a/b', 'a/b/c'):
            self.save(name, self.small)
        self.assertEqual(sorted(os.listdir(self.snaps('a'))), ['b'] + LISTED)
        self.run_ok('rm', '-r', self.snaps('a', 'b'))
        self.check_views('a', self.small)

    def check_views(self, name, guest):
        self.assertTrue(read_file(self.snaps(name, 'ram')) == guest.flat())

    def test_many_in_one_folder(self):
        for number in range(300):
            os.mkdir(self.snaps(f'folder-with-a-longer-name-{number:04}'))
        self.assertEqual(len(os.listdir(self.snaps())), 300)


class OrdinaryTest(FuseCase):
    """Everything beside snapshots is as on any file system."""

    def setUp(self):
        super().setUp()
        self.save()
        self.name = self.snaps('vm1', 'domain.xml')
        with open(self.name, 'w') as file:
            file.write('<domain/>')

    def test_files_lie_in_the_store(self):
        self.assertEqual(read_file(self.store('vm1', 'domain.xml')), b'<domain/>')
        with open(self.name, 'a') as file:
            file.write('more')
        self.assertEqual(read_file(self.store('vm1', 'domain.xml')), b'<domain/>more')
        os.truncate(self.name, 3)
        self.assertEqual(read_file(self.name), b'<do')
        with open(self.store('vm1', 'other'), 'w') as file:
            file.write('from behind')
        self.assertEqual(read_file(self.snaps('vm1', 'other')), b'from behind')

    def test_cut_while_others_have_it_open(self):
        readers = [open(self.name, 'rb', buffering=0) for _ in range(2)]
        writer = os.open(self.name, os.O_WRONLY)
        self.addCleanup(os.close, writer)
        for reader in readers:
            self.addCleanup(reader.close)
        for size in (5, 3):
            os.truncate(self.name, size)
            self.assertEqual(readers[0].seek(0, os.SEEK_END), size)
        for reader in readers:
            with open(self.name, 'wb', buffering=0) as file:
                file.write(b'another')
            self.assertEqual(os.pread(reader.fileno(), 100, 0), b'another')

    def test_direct_and_sync_writes(self):
        fd = os.open(self.name, os.O_RDWR | os.O_DIRECT | os.O_DSYNC)
        self.addCleanup(os.close, fd)
        self.assertEqual(os.pwrite(fd, b'y' * 1000, 3), 1000)
        os.fsync(fd)
        os.fdatasync(fd)
        self.assertEqual(read_file(self.name), b'<do' + b'y' * 1000)

    def test_appender_writes_where_the_kernel_says(self):
        fd = os.open(self.name, os.O_RDWR | os.O_APPEND)
        self.addCleanup(os.close, fd)
        os.write(fd, b'tail')
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)
        os.pwrite(fd, b'head', 0)
        self.assertEqual(read_file(self.name), b'headain/>tail')
        fd = os.open(self.snaps('vm1', 'new'), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.addCleanup(os.close, fd)
        os.write(fd, b'0123')
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)
        os.pwrite(fd, b'ab', 1)
        self.assertEqual(read_file(self.snaps('vm1', 'new')), b'0ab3')

    def test_attributes_that_are_not_there(self):
        self.assert_errno(errno.ENODATA, os.setxattr, self.name, 'user.none', b'x',
                          os.XATTR_REPLACE)
        self.assert_errno(errno.ENODATA, os.removexattr, self.name, 'user.none')
        self.assert_errno(errno.ENODATA, os.getxattr, self.name, 'user.none')

    def test_lists_of_who_may_what_are_not_supported(self):
        name = 'system.posix_acl_access'
        value = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', tag, 6, 0xffffffff)
                                                for tag in (1, 4, 0x10, 0x20))
        self.assert_errno(errno.EOPNOTSUPP, os.setxattr, self.name, name, value)
        self.assert_errno(errno.EOPNOTSUPP, os.getxattr, self.name, name)
        self.assertNotIn(name, os.listxattr(self.name))

    def test_holes_and_fallocate(self):
        fd = os.open(self.snaps('sparse'), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, fd)
        os.ftruncate(fd, 1 << 20)
        os.pwrite(fd, b'x', 1 << 19)
        self.assertEqual(os.lseek(fd, 0, os.SEEK_DATA), 1 << 19)
        blocks = os.fstat(fd).st_blocks
        os.posix_fallocate(fd, 0, 1 << 19)
        self.assertGreater(os.stat(self.store('sparse')).st_blocks, blocks)

    def test_links_and_special_files(self):
        os.symlink('domain.xml', self.snaps('vm1', 'link'))
        self.assertEqual(os.readlink(self.snaps('vm1', 'link')), 'domain.xml')
        self.assertEqual(read_file(self.snaps('vm1', 'link')), b'<domain/>')
        os.link(self.name, self.snaps('hard'))
        self.assertEqual(os.stat(self.name).st_nlink, 2)
        self.assertEqual(os.stat(self.name).st_ino, os.stat(self.snaps('hard')).st_ino)
        os.mkfifo(self.snaps('fifo'))
        self.assertTrue(stat.S_ISFIFO(os.stat(self.snaps('fifo')).st_mode))
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(self.snaps('sock'))
        self.assertTrue(stat.S_ISSOCK(os.stat(self.snaps('sock')).st_mode))
        os.utime(self.snaps('vm1', 'link'), (1, 2), follow_symlinks=False)
        self.assertEqual(os.lstat(self.snaps('vm1', 'link')).st_mtime, 2)

    def test_link_out_of_the_store_is_not_followed_by_the_daemon(self):
        os.symlink('/', self.store('out'))
        self.assertTrue(stat.S_ISLNK(os.lstat(self.snaps('out')).st_mode))
        os.mkdir(self.snaps('vm9'))
        os.symlink('/etc/hostname', self.store('vm9', 'snapshot.zst'))
        self.assert_errno(errno.EIO, read_file, self.snaps('vm9', 'stream'))
        self.wait_log('symbolic link')

    def test_owner_is_who_makes_it(self):
        harness.need_root()
        os.mkdir(self.snaps('shared'))
        os.chown(self.snaps('shared'), 0, 77)
        os.chmod(self.snaps('shared'), 0o2777)
        os.mkdir(self.snaps('shared', 'sub'))
        st = os.stat(self.snaps('shared', 'sub'))
        self.assertEqual(st.st_gid, 77)
        self.assertTrue(st.st_mode & stat.S_ISGID)

    def test_renames_with_flags(self):
        with open(self.snaps('b'), 'w') as file:
            file.write('b')
        self.run_ok('mv', '-n', self.name, self.snaps('b'))
        self.assertEqual(read_file(self.snaps('b')), b'b')
        os.rename(self.name, self.snaps('b'))
        self.assertEqual(read_file(self.snaps('b')), b'<domain/>')


class MoveTest(FuseCase):
    def setUp(self):
        super().setUp()
        self.save()

    def test_folder_keeps_its_snapshot(self):
        os.mkdir(self.snaps('ci'))
        os.rename(self.snaps('vm1'), self.snaps('ci', 'vm2'))
        self.check_snapshot('ci/vm2')
        self.assertEqual(os.listdir(self.snaps()), ['ci'])

    def test_over_a_folder_with_a_snapshot_fails(self):
        self.save('vm2')
        self.assert_errno(errno.ENOTEMPTY, os.rename, self.snaps('vm1'), self.snaps('vm2'))

    def test_over_a_folder_with_a_save_fails(self):
        os.mkdir(self.snaps('vm2'))
        os.mkdir(self.snaps('empty'))
        fd = os.open(self.snaps('vm2', 'stream'), os.O_WRONLY | os.O_CREAT)
        write_all(fd, self.data[:-1])
        self.assert_errno(errno.ENOTEMPTY, os.rename, self.snaps('empty'), self.snaps('vm2'))
        write_all(fd, self.data[-1:])
        os.close(fd)
        self.check_snapshot('vm2')

    def test_over_a_folder_with_only_a_note(self):
        os.mkdir(self.snaps('vm2'))
        self.write_torn(self.snaps('vm2', 'stream'), self.data[:5000])
        self.wait_log('not saved')
        self.wait_gone('vm2', 'stream')
        os.rename(self.snaps('vm1'), self.snaps('vm2'))
        self.check_snapshot('vm2')

    def test_views_are_copied_not_moved(self):
        os.mkdir(self.snaps('vm2'))
        self.assert_errno(errno.EXDEV, os.rename, self.snaps('vm1', 'stream'),
                          self.snaps('vm2', 'stream'))
        self.assert_errno(errno.EXDEV, os.rename, self.snaps('vm1', 'ram'), self.path('ram'))
        self.run_ok('mv', self.snaps('vm1', 'stream'), self.snaps('vm2', 'stream'))
        self.check_snapshot('vm2')
        # mv removes its source, which is the snapshot.
        self.assertEqual(os.listdir(self.snaps('vm1')), [])

    def test_file_onto_stream_is_saved(self):
        with open(self.snaps('vm1', '.stream.tmp'), 'wb') as file:
            file.write(makestream.stream(makestream.Guest({'pc.ram': 1 << 20}, seed=4)))
        self.run_ok('mv', self.snaps('vm1', '.stream.tmp'), self.snaps('vm1', 'stream'))
        self.check_snapshot('vm1', makestream.Guest({'pc.ram': 1 << 20}, seed=4))


class RemoveTest(FuseCase):
    def setUp(self):
        super().setUp()
        self.save()

    def test_folder_with_a_snapshot_is_not_empty(self):
        self.assert_errno(errno.ENOTEMPTY, os.rmdir, self.snaps('vm1'))

    def test_rm_r(self):
        with open(self.snaps('vm1', 'notes'), 'w') as file:
            file.write('x')
        self.run_ok('rm', '-r', self.snaps('vm1'))
        self.assertEqual(os.listdir(self.snaps()), [])
        self.assertEqual(os.listdir(self.store()), ['.snapfs'])

    def test_rm_r_with_the_note_of_a_failed_save(self):
        self.write_torn(self.snaps('vm1', 'stream'), self.data[:5000])
        self.wait_log('not saved')
        self.run_ok('rm', '-r', self.snaps('vm1'))
        self.assertEqual(os.listdir(self.store()), ['.snapfs'])

    def test_view_is_hidden_until_the_last_goes(self):
        for hidden, left in (('ram', ['devstate']), ('mapped', ['devstate'])):
            os.unlink(self.snaps('vm1', hidden))
            self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), left)
            self.assert_errno(errno.ENOENT, os.stat, self.snaps('vm1', hidden))
            self.assert_errno(errno.ENOENT, os.unlink, self.snaps('vm1', hidden))
            self.assertTrue(os.path.exists(self.store('vm1', 'snapshot.zst')))
        self.assertGreater(os.stat(self.snaps('vm1', 'stream')).st_size, 0)
        os.unlink(self.snaps('vm1', 'devstate'))
        self.assertFalse(os.path.exists(self.store('vm1', 'snapshot.zst')))
        self.assertEqual(os.listdir(self.snaps('vm1')), [])
        os.rmdir(self.snaps('vm1'))

    def test_mapped_alone_does_not_keep_it(self):
        os.unlink(self.snaps('vm1', 'devstate'))
        os.unlink(self.snaps('vm1', 'ram'))
        self.assertEqual(os.listdir(self.store('vm1')), [])
        for view in VIEWS:
            self.assert_errno(errno.ENOENT, os.stat, self.snaps('vm1', view))

    def test_stream_is_the_whole_snapshot(self):
        os.unlink(self.snaps('vm1', 'stream'))
        self.assertEqual(os.listdir(self.snaps('vm1')), [])
        self.assertEqual(os.listdir(self.store('vm1')), [])
        self.wait_log('vm1: removed')
        os.rmdir(self.snaps('vm1'))

    def test_hidden_one_is_back_with_a_new_mount(self):
        os.unlink(self.snaps('vm1', 'ram'))
        self.mount.remount()
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), LISTED)
        self.check_snapshot()

    def test_hidden_one_is_back_with_a_new_snapshot(self):
        for hidden in (['ram'], ['devstate'], ['mapped'], ['ram', 'mapped']):
            for name in hidden:
                os.unlink(self.snaps('vm1', name))
            self.save()
            self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), LISTED)
            self.check_snapshot()
            self.assertGreater(os.stat(self.snaps('vm1', 'mapped')).st_size, 0)


class KeptTest(FuseCase):
    """Names that nobody may take."""

    def setUp(self):
        super().setUp()
        os.mkdir(self.snaps('vm1'))

    def make(self, name):
        os.close(os.open(self.snaps('vm1', name), os.O_WRONLY | os.O_CREAT))

    def test_private_names(self):
        for name in ('snapshot.zst', '.snapfs', '.snapfs-error', '.snapfsx'):
            self.assert_errno(errno.EPERM, self.make, name)
            self.assert_errno(errno.EPERM, os.mkdir, self.snaps('vm1', name))
            self.assert_errno(errno.EPERM, os.symlink, 'x', self.snaps('vm1', name))
            self.wait_log(f'vm1/{name}: ')
        self.assertEqual(os.listdir(self.store('vm1')), [])

    def test_private_names_of_the_store_are_not_shown(self):
        self.save()
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), LISTED)
        self.assert_errno(errno.ENOENT, os.stat, self.snaps('vm1', 'snapshot.zst'))
        self.assertEqual(os.listdir(self.snaps()), ['vm1'])

    def test_views_are_files(self):
        for name in VIEWS:
            self.assert_errno(errno.EPERM, os.mkdir, self.snaps('vm1', name))
            self.assert_errno(errno.EPERM, os.symlink, 'x', self.snaps('vm1', name))
            self.assert_errno(errno.EPERM, os.mkfifo, self.snaps('vm1', name))
            self.wait_log(f'vm1/{name}: snapfs keeps this name for a view of a snapshot')
        self.assertEqual(os.listdir(self.snaps('vm1')), [])

    def test_no_name_moves_onto_them(self):
        with open(self.snaps('file'), 'w') as file:
            file.write('x')
        for name in ('snapshot.zst', 'snapshot.head', '.snapfs-error', *VIEWS):
            code = errno.EXDEV if name in VIEWS else errno.EPERM
            if name not in ('stream', 'mapped'):
                self.assert_errno(code, os.rename, self.snaps('file'), self.snaps('vm1', name))
            self.assert_errno(errno.EPERM, os.link, self.snaps('file'), self.snaps('vm1', name))
        self.assert_errno(errno.EPERM, os.rename, self.snaps('vm1'), self.snaps('ram'))

    def test_views_have_one_name(self):
        self.save()
        self.assert_errno(errno.EPERM, os.link, self.snaps('vm1', 'ram'), self.snaps('copy'))

    def test_file_with_a_private_name(self):
        file, folder = self.store('vm1', '.snapfs-file'), self.store('vm1', '.snapfs-folder')
        os.mkdir(folder)
        for path in (os.path.join(folder, 'a'), file):
            with self.subTest(path), open(path, 'w'):
                self.assertEqual(os.listdir(self.snaps('vm1')), [])
                self.assert_errno(errno.ENOTEMPTY, os.rmdir, self.snaps('vm1'))
                self.wait_log(f'vm1: is not empty: it holds {path.split("/vm1/")[1].split("/")[0]}, '
                              'which the mount does not show')
            self.run_ok('rm', '-rf', path, folder)

    def test_what_is_no_file_and_not_shown_keeps_no_folder(self):
        for name in ('ram', 'devstate', 'preamble', 'stream', 'mapped', 'snapshot.head',
                     '.snapfs-error', '.snapfs-hot-3', '.snapfs-own'):
            for make in (os.mkdir, os.mkfifo, lambda path: os.symlink('/etc/passwd', path)):
                with self.subTest(f'{name} {make.__name__}'):
                    make(self.store('vm1', name))
                    self.assertEqual(os.listdir(self.snaps('vm1')), [])
                    self.run_ok('rm', '-r', self.snaps('vm1'))
                    os.mkdir(self.snaps('vm1'))


if __name__ == '__main__':
    harness.main()

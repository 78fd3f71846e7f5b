#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mount holds and tells stays within bounds: descriptors, time, numbers,
and what one snapshot has to do with its copies."""
import ctypes
import errno
import os
import resource
import shutil
import socket
import stat
import struct
import sys
import unittest

from fusecase import VIEWS, FuseCase, harness, read_file, setUpModule  # noqa: F401
from mount import tool

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100


class FileHandle(ctypes.Structure):
    """struct file_handle of name_to_handle_at(2)."""
    _fields_ = [('bytes', ctypes.c_uint), ('type', ctypes.c_int), ('handle', ctypes.c_ubyte * 128)]


def file_handle(path):
    """The handle that the kernel gives any user for a file."""
    handle = FileHandle(bytes=128)
    mount = ctypes.c_int()
    if LIBC.name_to_handle_at(AT_FDCWD, path.encode(), ctypes.byref(handle),
                              ctypes.byref(mount), 0) < 0:
        code = ctypes.get_errno()
        if code == errno.EOPNOTSUPP:
            raise unittest.SkipTest('this kernel gives no handles of FUSE files')
        raise OSError(code, os.strerror(code), path)
    return handle


class Numbers(FuseCase):
    def test_numbers_of_files_tell_no_address_of_the_daemon(self):
        self.save()
        os.mkdir(self.snaps('folder'))
        with open(self.snaps('vm1', 'notes'), 'w') as file:
            file.write('text')
        for name in ('vm1', 'folder', 'vm1/notes', 'vm1/ram', 'vm1/stream', '.snapfs/version'):
            handle = file_handle(self.snaps(name))
            # fs/fuse/inode.c of the kernel, fuse_encode_fh: the number of the
            # node, upper half first, then its generation.
            upper, lower = struct.unpack('=II', bytes(handle.handle[:8]))
            self.assertLess(upper << 32 | lower, 1 << 20, name)

    def test_a_number_that_was_never_given_harms_nobody(self):
        harness.need_root()
        self.save()
        handle = file_handle(self.snaps('vm1', 'ram'))
        top = os.open(self.snaps(), os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, top)
        for number in (0, 1 << 20, 0x7fffffffffff, (1 << 64) - 1):
            handle.handle[:8] = struct.pack('=II', number >> 32, number & 0xffffffff)
            fd = LIBC.open_by_handle_at(top, ctypes.byref(handle), os.O_RDONLY)
            self.assertLess(fd, 0)
        self.check_snapshot()


class BoundsCase(FuseCase):
    """Looks at the descriptors of the daemon."""

    def descriptors(self):
        """What the daemon has open."""
        links = []
        folder = f'/proc/{self.mount.pid}/fd'
        for number in os.listdir(folder):
            try:
                links.append(os.readlink(os.path.join(folder, number)))
            except FileNotFoundError:   # closed since
                continue
        return links

    def held(self):
        """What of the store the daemon has open, but for the store itself."""
        own = [self.store(*names) for names in ((), ('.snapfs',), ('.snapfs', 'tmp'),
                                                ('.snapfs', 'lock'))]
        return [link for link in self.descriptors()
                if link.startswith(self.store()) and link not in own]

    def wait_given_back(self):
        harness.wait_until(lambda: not self.held(), 30, 'the daemon holds nothing of the store')

    def child(self, function, *arguments, user=None):
        """Calls a function in a process of its own, as another user."""
        pid = os.fork()
        if not pid:
            try:
                if user:
                    os.setgroups([])
                    os.setgid(user)
                    os.setuid(user)
                function(*arguments)
                os._exit(0)
            except BaseException as error:
                print(f'{function.__name__}: {error!r}', file=sys.stderr, flush=True)
            finally:
                os._exit(1)
        self.assertEqual(os.waitpid(pid, 0)[1], 0, function.__name__)


def make_folders(folder, number):
    os.chdir(folder)
    for i in range(number):
        os.mkdir(f'f{i}')


def make_deep(folder, levels, file=None):
    os.chdir(folder)
    content = read_file(file) if file else b''
    for _ in range(levels):
        os.mkdir('d')
        os.chdir('d')
    if file:
        with open('snapshot.zst', 'wb') as target:
            target.write(content)


def remove_deep(folder, levels):
    os.chdir(folder)
    for _ in range(levels):
        os.chdir('d')
    for name in os.listdir('.'):
        os.unlink(name)
    for _ in range(levels):
        os.chdir('..')
        os.rmdir('d')


class FewDescriptors(BoundsCase):
    """The daemon may have few descriptors."""
    options = ('allow_other',)
    limit = 512

    def setUp(self):
        harness.need_root()   # makes folders as another user
        super().setUp()
        self.mount.before_exec = self.lower
        self.mount.remount()
        os.chmod(self.work, 0o755)

    def lower(self):
        harness.die_with_parent()
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.limit, self.limit))

    def test_folders_of_a_user_take_no_descriptors_from_saves(self):
        os.mkdir(self.snaps('mine'))
        os.chmod(self.snaps('mine'), 0o777)
        self.child(make_folders, self.snaps('mine'), 3000, user=65534)
        self.assertEqual(len(os.listdir(self.snaps('mine'))), 3000)
        # The kernel knows them all, and one is the current folder of a process.
        self.start_process('sleep', '600', cwd=self.snaps('mine', 'f7'))
        self.assertLess(len(self.descriptors()), self.limit // 2)
        self.save('vm1')
        self.check_snapshot('vm1')
        os.mkdir(self.snaps('mine', 'f7', 'inner'))
        self.assertEqual(os.listdir(self.snaps('mine', 'f7')), ['inner'])

    def test_snapshots_that_were_looked_at_take_no_descriptors_from_saves(self):
        self.save('vm1')
        for number in range(400):
            os.makedirs(self.store('many', f'vm{number}'))
            os.link(self.store('vm1', 'snapshot.zst'),
                    self.store('many', f'vm{number}', 'snapshot.zst'))
        listed = self.run_ok('ls', '-lR', self.snaps('many'))
        self.assertEqual(listed.count(' ram\n'), 400)
        self.assertLess(len(self.descriptors()), self.limit // 2)
        self.save('vm2')
        self.check_snapshot('vm2')
        self.run_ok('rm', '-r', self.snaps('many'))
        self.assertFalse(os.path.exists(self.store('many')))

    def test_parents_of_snapshots_that_were_looked_at_count_too(self):
        self.mount.options.append('increments')
        self.mount.remount()
        self.save('vm1')
        self.save('vm2')
        os.getxattr(self.snaps('vm2'), 'user.snapfs.parents')
        for number in range(100):
            os.makedirs(self.store('many', f'vm{number}'))
            os.link(self.store('vm2', 'snapshot.zst'),
                    self.store('many', f'vm{number}', 'snapshot.zst'))
        listed = self.run_ok('ls', '-lR', self.snaps('many'))
        self.assertEqual(listed.count(' ram\n'), 100)
        files = [path for path in self.descriptors() if path.endswith('.zst')]
        self.assertLessEqual(len(files), self.limit // 16)

    def test_open_snapshots_leave_descriptors_for_saves(self):
        self.save('vm1')
        opened = []
        self.addCleanup(lambda: [os.close(fd) for fd in opened])
        for number in range(self.limit):
            os.makedirs(self.store('many', f'vm{number}'))
            os.link(self.store('vm1', 'snapshot.zst'),
                    self.store('many', f'vm{number}', 'snapshot.zst'))
            try:
                opened.append(os.open(self.snaps('many', f'vm{number}', 'ram'), os.O_RDONLY))
            except OSError as error:
                self.assertEqual(error.errno, errno.ENFILE)
        self.assertGreater(len(opened), self.limit // 8)
        self.assertLess(len(opened), self.limit)
        self.save('vm2')
        self.assertEqual(len(os.pread(opened[0], 4096, 0)), 4096)

    def test_folders_may_lie_in_one_another_deeper_than_there_are_descriptors(self):
        self.child(make_deep, self.snaps(), 1500)
        self.save('vm1')
        self.child(remove_deep, self.snaps(), 1500)
        self.assertEqual(sorted(os.listdir(self.snaps())), ['vm1'])


class GivenBack(BoundsCase):
    def test_the_space_of_a_snapshot_removed_in_the_store_is_given_back(self):
        self.save('vm1')
        with open(self.snaps('vm1', 'disk'), 'wb') as file:
            file.write(bytes(4096))
        self.run_ok('ls', '-lR', self.snaps())
        self.assertEqual(len(read_file(self.snaps('vm1', 'ram'))), len(self.guest.flat()))
        shutil.rmtree(self.store('vm1'))
        self.wait_given_back()
        self.assertFalse(os.path.exists(self.snaps('vm1')))

    def test_an_open_view_is_read_when_its_snapshot_has_been_removed(self):
        self.save('vm1')
        with open(self.snaps('vm1', 'ram'), 'rb') as ram:
            shutil.rmtree(self.store('vm1'))
            harness.wait_until(lambda: len(self.held()) <= 2, 30, 'the rest is given back')
            self.assertTrue(ram.read() == self.guest.flat())
            self.assertEqual(os.fstat(ram.fileno()).st_size, len(self.guest.flat()))
        self.wait_given_back()

    def test_a_file_without_a_name_is_used_as_long_as_it_is_open(self):
        with open(self.snaps('file'), 'w+b') as file:
            file.write(b'before')
            file.flush()
            os.unlink(self.snaps('file'))
            with open(self.snaps('file'), 'wb') as other:
                other.write(b'another file of that name')
            harness.wait_until(lambda: len(self.held()) == 1, 30, 'the names are given back')
            os.fchmod(file.fileno(), 0o640)
            self.assertEqual(stat.S_IMODE(os.fstat(file.fileno()).st_mode), 0o640)
            self.assertEqual(os.fstat(file.fileno()).st_size, 6)
            os.ftruncate(file.fileno(), 3)
            file.seek(0)
            self.assertEqual(file.read(), b'bef')
        self.assertEqual(read_file(self.snaps('file')), b'another file of that name')

    def test_a_folder_that_was_moved_is_found_again(self):
        os.makedirs(self.snaps('a', 'b', 'c'))
        os.mkdir(self.snaps('to'))
        inner = os.open(self.snaps('a', 'b', 'c'), os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, inner)
        os.rename(self.snaps('a', 'b'), self.snaps('to', 'moved'))
        self.wait_given_back()
        os.mkdir('new', dir_fd=inner)
        self.assertEqual(os.listdir(self.store('to', 'moved', 'c')), ['new'])
        # Into a folder that lay in it before.
        os.rename(self.snaps('to', 'moved', 'c'), self.snaps('c'))
        os.rename(self.snaps('to'), self.snaps('c', 'to'))
        self.wait_given_back()
        os.mkdir('newer', dir_fd=inner)
        self.assertEqual(sorted(os.listdir(self.store('c'))), ['new', 'newer', 'to'])

    def test_a_name_that_was_swapped_in_the_store_is_not_followed(self):
        os.mkdir(self.path('outside'))
        for name in ('outside/secret', 'outside/snapshot.zst'):
            with open(self.path(name), 'w') as file:
                file.write('secret')
        for swap in (lambda: os.symlink(self.path('outside'), self.store('a')),
                     lambda: os.mkdir(self.store('a'))):
            os.mkdir(self.snaps('a'))
            folder = os.open(self.snaps('a'), os.O_RDONLY | os.O_DIRECTORY)
            self.wait_given_back()
            os.rename(self.store('a'), self.store('aside'))
            swap()
            self.assert_errno(errno.ESTALE, os.stat, 'secret', dir_fd=folder)
            self.assert_errno(errno.ESTALE, os.mkdir, 'new', dir_fd=folder)
            self.assert_errno(errno.ESTALE, os.fchmod, folder, 0o777)
            os.close(folder)
            os.rmdir(self.store('aside'))
            (os.unlink if os.path.islink(self.store('a')) else os.rmdir)(self.store('a'))
        self.assertEqual(sorted(os.listdir(self.path('outside'))), ['secret', 'snapshot.zst'])


class Clones(BoundsCase):
    def setUp(self):
        super().setUp()
        self.save('vm1')

    def numbers(self, name):
        return [os.stat(self.snaps(name, view)).st_ino for view in VIEWS]

    def test_a_copy_of_a_snapshot_in_the_store_has_numbers_of_its_own(self):
        before = self.numbers('vm1')
        self.run_ok('cp', '-a', self.store('vm1'), self.store('vm2'))
        self.run_ok('cp', '-al', self.store('vm1'), self.store('vm3'))
        every = before + self.numbers('vm2') + self.numbers('vm3')
        self.assertEqual(len(set(every)), 3 * len(VIEWS))
        listed = [os.stat(entry.path).st_ino == entry.inode()
                  for entry in os.scandir(self.snaps('vm3'))]
        self.assertEqual(listed, [True, True])
        self.mount.remount()
        self.assertEqual(self.numbers('vm1') + self.numbers('vm2') + self.numbers('vm3'), every)
        os.rename(self.snaps('vm1'), self.snaps('moved'))
        self.assertEqual(self.numbers('moved'), before)

    def test_programs_tell_a_copy_from_what_it_was_made_of(self):
        self.run_ok('cp', '-a', self.store('vm1'), self.store('vm2'))
        self.run_ok('cp', self.snaps('vm1', 'stream'), self.snaps('vm2', 'stream'))
        self.check_snapshot('vm2')
        self.assertEqual(harness.run('cmp', self.snaps('vm1', 'ram'),
                                     self.snaps('vm2', 'devstate')).returncode, 1)

    def test_damage_of_a_copy_is_seen_although_the_other_was_read(self):
        self.run_ok('cp', '-a', self.store('vm1'), self.store('vm2'))
        self.check_snapshot('vm1')
        path = self.store('vm2', 'snapshot.zst')
        times = os.stat(path)
        with open(path, 'r+b') as file:
            file.seek(times.st_size // 2)
            byte = file.read(1)
            file.seek(times.st_size // 2)
            file.write(bytes([byte[0] ^ 1]))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        self.assert_errno(errno.EIO, read_file, self.snaps('vm2', 'ram'))
        self.assertEqual(harness.run('cmp', self.snaps('vm1', 'ram'),
                                     self.snaps('vm2', 'ram')).returncode, 2)
        self.wait_log('vm2: ')
        self.check_snapshot('vm1')

    def test_what_is_removed_from_a_hard_link_stays_in_the_other(self):
        self.run_ok('cp', '-al', self.store('vm1'), self.store('hard'))
        os.unlink(self.snaps('hard', 'mapped'))
        os.unlink(self.snaps('hard', 'ram'))
        self.assertEqual(sorted(os.listdir(self.snaps('hard'))), ['devstate'])
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), ['devstate', 'ram'])
        self.assertTrue(os.path.exists(self.snaps('vm1', 'mapped')))
        os.unlink(self.snaps('hard', 'stream'))
        self.assertEqual(os.listdir(self.snaps('hard')), [])
        self.check_snapshot('vm1')


class OddStores(BoundsCase):
    def odd(self, kind, path):
        if kind == 'socket':
            with socket.socket(socket.AF_UNIX) as listener:
                here = os.open(os.path.dirname(path), os.O_RDONLY)
                listener.bind(f'/proc/self/fd/{here}/{os.path.basename(path)}')
                os.close(here)
        elif kind == 'FIFO':
            os.mkfifo(path)
        elif kind == 'folder':
            os.mkdir(path)
        else:
            os.symlink('/etc/passwd', path)

    def test_a_snapshot_that_is_no_file_can_be_listed_named_and_removed(self):
        self.save('zz')
        for kind in ('socket', 'FIFO', 'folder', 'symbolic link'):
            with self.subTest(kind):
                os.mkdir(self.store('odd'))
                self.odd(kind, self.store('odd', 'snapshot.zst'))
                self.assertEqual(os.listdir(self.snaps('odd')), ['stream'])
                self.assertIn(f'it is a {kind}', os.getxattr(self.snaps('odd'),
                                                             'user.snapfs.error').decode())
                self.wait_log(f'odd: snapshot.zst is not a regular file: it is a {kind}')
                verified = tool('verify', self.store())
                self.assertEqual(verified.returncode, 1)
                self.assertIn('odd: BAD', verified.stdout)
                self.assertIn(f'it is a {kind}', verified.stdout)
                self.assertIn('zz: ok', verified.stdout)
                self.run_ok('rm', '-r', self.snaps('odd'))
                self.assertFalse(os.path.lexists(self.store('odd')))

    def test_a_deep_folder_hides_nothing_from_the_tools(self):
        self.save('zz')
        self.child(make_deep, self.store(), 1500, self.store('zz', 'snapshot.zst'))
        self.addCleanup(self.child, remove_deep, self.store(), 1500)
        limit = (64 + 32, 64 + 32)
        for verb in ('ls', 'verify'):
            done = tool(verb, self.store(), preexec_fn=lambda: resource.setrlimit(
                resource.RLIMIT_NOFILE, limit))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn('/'.join(['d'] * 1500), done.stdout)
            self.assertRegex(done.stdout, r'(?m)^zz\b')


if __name__ == '__main__':
    harness.main()

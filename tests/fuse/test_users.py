#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Other users of the machine: nothing of root's is given to them, shown to them or changed by
them, and they keep nobody waiting.

Some tests overtake snapfs at the very moment (at_that_moment), others run a race for a while."""
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import time

from fusecase import setUpModule, write_stream  # noqa: F401
import harness
import makestream
from mount import Mount, tool
from users import (BOB, MountCase, UserCase, again_and_again, as_user, at_that_moment, holding,
                   meanwhile, write_file)

RACE = 3   # seconds


def exchange(name, other):
    """For sh: they have each other's place."""
    return f"mv '{name}' '{name}.x'; mv '{other}' '{name}'; mv '{name}.x' '{other}'"


class GivenAway(MountCase):
    """What is made in the mount belongs to who made it, and nothing else does."""

    def test_another_folder_in_the_place_of_a_new_one(self):
        os.mkdir(self.bobs + '/private', 0o700)
        private = self.held('store', 'bob', 'private')
        mount = self.overtaken('after', 'mkdir', 'new', exchange('new', 'private'))
        with self.assertRaises(OSError):
            as_user(BOB, os.mkdir, mount.path('bob', 'new'))
        self.assert_untouched(private, 0o700)
        self.answers(mount)

    def test_a_link_in_the_place_of_a_new_folder(self):
        private = self.path('private')
        os.mkdir(private, 0o700)
        held = self.held('private')
        mount = self.overtaken('after', 'mkdir', 'new', f"rmdir new; ln -s {private} new")
        with self.assertRaises(OSError):
            as_user(BOB, os.mkdir, mount.path('bob', 'new'))
        self.assert_untouched(held, 0o700)

    def test_another_file_in_the_place_of_a_new_one(self):
        secret = self.held('store', 'bob', 'secret')
        for name, make in (
                ('file', lambda path: os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))),
                ('ram', lambda path: os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))),
                ('node', lambda path: os.mknod(path, stat.S_IFREG | 0o666))):
            with self.subTest(name):
                call = 'mknod' if name == 'node' else 'create'
                mount = self.overtaken('after', call, name, exchange(name, 'secret'))
                with self.assertRaises(OSError):
                    as_user(BOB, make, mount.path('bob', name))
                self.assert_untouched(secret, 0o600, 'secret')
                mount.unmount()
                os.rename(f'{self.bobs}/{name}', self.secret)

    def test_a_file_that_appears_in_the_place_of_a_new_one(self):
        """The caller may not open it, so it is not opened for him."""
        secret = self.held('store', 'bob', 'secret')
        mount = self.overtaken('before', 'create', 'file', 'mv secret file')
        with self.assertRaises(PermissionError):
            as_user(BOB, write_file, mount.path('bob', 'file'), 'mine')
        self.assert_untouched(secret, 0o600, 'secret')

    def test_another_link_in_the_place_of_a_new_one(self):
        os.symlink('else/where', self.bobs + '/private')
        mount = self.overtaken('after', 'symlink', 'new', exchange('new', 'private'))
        with self.assertRaises(OSError):
            as_user(BOB, os.symlink, 'some/where', mount.path('bob', 'new'))
        self.assertEqual(os.lstat(self.bobs + '/new').st_uid, 0)

    def test_what_is_made_undisturbed_is_the_makers(self):
        mount = self.mount()
        at = mount.path('bob')

        def make():
            os.umask(0o027)
            os.mkdir(at + '/folder')
            os.symlink('some/where', at + '/link')
            os.mkfifo(at + '/fifo')
            os.mknod(at + '/node', stat.S_IFREG | 0o666)
            write_file(at + '/file', 'mine')
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(at + '/socket')
        as_user(BOB, make)
        modes = {'folder': 0o40750, 'link': 0o120777, 'fifo': 0o10640, 'node': 0o100640,
                 'file': 0o100640, 'socket': 0o140750}
        for name, mode in modes.items():
            st = os.lstat(f'{self.bobs}/{name}')
            self.assertEqual((st.st_uid, st.st_gid, oct(st.st_mode)), (BOB, BOB, oct(mode)), name)

    def test_a_race_for_new_names_is_won_by_nobody(self):
        os.mkdir(self.bobs + '/private', 0o700)
        private, secret = self.held('store', 'bob', 'private'), self.held('store', 'bob', 'secret')
        mount = self.mount()

        def swap(name, other):
            os.rename(f'{self.bobs}/{name}', f'{self.bobs}/{name}.x')
            os.rename(f'{self.bobs}/{other}', f'{self.bobs}/{name}')
            os.rename(f'{self.bobs}/{name}', f'{self.bobs}/{other}')
            os.rename(f'{self.bobs}/{name}.x', f'{self.bobs}/{name}')

        with meanwhile(BOB, again_and_again,
                       lambda: os.mkdir(mount.path('bob', 'new')),
                       lambda: os.rmdir(mount.path('bob', 'new')),
                       lambda: write_file(mount.path('bob', 'file'), 'mine'),
                       lambda: os.unlink(mount.path('bob', 'file'))), \
                meanwhile(BOB, again_and_again, lambda: swap('new', 'private'),
                          lambda: swap('file', 'secret')):
            time.sleep(RACE)
        self.assert_untouched(private, 0o700)
        self.assert_untouched(secret, 0o600, 'secret')
        self.answers(mount)


class Shown(MountCase):
    def test_who_may_change_a_snapshot_may_not_change_what_takes_its_place(self):
        """A stream that has become a snapshot is still open."""
        mount = self.mount()
        secret = self.held('store', 'bob', 'secret')
        folder = mount.path('bob', 'vm')

        def save_and_change():
            os.mkdir(folder)
            fd = os.open(folder + '/stream', os.O_WRONLY | os.O_CREAT, 0o600)
            data = memoryview(makestream.stream(makestream.Guest({'pc.ram': 1 << 20}, seed=1)))
            while data:
                data = data[os.write(fd, data[:131072]):]
            os.rename(self.bobs + '/secret', self.bobs + '/vm/snapshot.zst')
            os.fchmod(fd, 0o666)
        with self.assertRaises(OSError):
            as_user(BOB, save_and_change)
        self.assert_untouched(secret, 0o600, 'secret')


class Waiting(MountCase):
    """Nothing that is opened for a caller keeps the daemon waiting."""

    def test_a_fifo_that_appears_in_the_place_of_a_new_file(self):
        mount = self.overtaken('before', 'create', 'f', f'mkfifo f; chown {BOB} f')

        def open_it():
            fd = os.open(mount.path('bob', 'f'), os.O_RDWR | os.O_CREAT, 0o600)
            return stat.S_ISFIFO(os.fstat(fd).st_mode)
        self.assertTrue(as_user(BOB, open_it))
        self.answers(mount)

    def test_a_race_of_fifos_and_files_leaves_it_serving(self):
        mount = self.mount()
        name = self.bobs + '/f'
        flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK
        with meanwhile(BOB, again_and_again, lambda: os.mkfifo(name), lambda: os.unlink(name)), \
                meanwhile(BOB, again_and_again,
                          lambda: os.close(os.open(mount.path('bob', 'f'), flags))):
            time.sleep(RACE)
            self.answers(mount)
        self.answers(mount)

    def test_a_lease_on_a_file_of_the_store(self):
        """The kernel would let an open wait for its holder (/proc/sys/fs/lease-break-time)."""
        mount = self.mount()
        name = self.file_of(BOB, 'store', 'bob', 'f')

        def lease():
            signal.signal(signal.SIGIO, signal.SIG_IGN)
            fd = os.open(name, os.O_RDWR)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            return fd
        with holding(BOB, lease):
            with self.assertRaises(BlockingIOError):
                as_user(BOB, os.truncate, mount.path('bob', 'f'), 0)
            with self.assertRaises(BlockingIOError):
                as_user(BOB, os.open, mount.path('bob', 'f'), os.O_RDONLY)
        self.assertEqual(os.stat(name).st_size, 6)
        as_user(BOB, os.truncate, mount.path('bob', 'f'), 0)


class BobsStore(MountCase):
    """The store belongs to Bob, and root mounts it."""
    owner = BOB

    def test_a_link_in_the_place_of_a_file_that_is_being_written(self):
        secret = self.file_of(0, 'secret')
        held = self.held('secret')
        mount = self.mount(at_that_moment(
            'after', 'create', '*-*-*-*-*',
            f'cd {self.store}/.snapfs/tmp; mv "$1" x; ln -s {secret} "$1"'))
        os.mkdir(mount.path('vm'))
        guest = makestream.Guest({'pc.ram': 4 << 20}, seed=1)
        fd = os.open(mount.path('vm', 'stream'), os.O_WRONLY | os.O_CREAT, 0o666)
        os.fchmod(fd, 0o666)
        try:
            data = memoryview(makestream.stream(guest))
            while data:
                data = data[os.write(fd, data[:131072]):]
            os.close(fd)
        except OSError:
            pass
        self.assert_untouched(held, 0o600, 'secret')

    def test_a_link_in_the_place_of_the_private_folder_during_a_mount(self):
        """Files would be deleted there, and its `lock` overwritten."""
        other = self.folder_of(0, 'other')
        self.folder_of(0, 'other', 'tmp')
        self.file_of(0, 'other', 'lock', text='keep')
        self.file_of(0, 'other', 'tmp', 'file', text='keep')
        env = at_that_moment('after', 'mkdir', '.snapfs',
                             f'cd {self.store}; mv .snapfs x; ln -s {other} .snapfs')
        with self.assertRaisesRegex(RuntimeError, '.snapfs exists and is not a folder'):
            self.mount(env)
        self.assertEqual(sorted(os.listdir(other)), ['lock', 'tmp'])
        self.assertEqual(harness.read_text(other + '/lock'), 'keep')
        self.assertEqual(harness.read_text(other + '/tmp/file'), 'keep')

    def test_a_link_in_the_place_of_its_lock_or_its_folder_of_files(self):
        other = self.folder_of(0, 'other')
        self.file_of(0, 'other', 'file', text='keep')
        private = self.folder_of(BOB, 'store', '.snapfs')
        for name, target in (('lock', other + '/file'), ('tmp', other)):
            os.symlink(target, f'{private}/{name}')
            with self.assertRaises(RuntimeError):
                self.mount()
            os.unlink(f'{private}/{name}')
        os.unlink(private + '/lock')
        os.link(other + '/file', private + '/lock')
        with self.assertRaisesRegex(RuntimeError, 'not a file of its own'):
            self.mount()
        self.assertEqual(harness.read_text(other + '/file'), 'keep')
        self.assertEqual(os.stat(other + '/file').st_mode & 0o777, 0o600)


class Locked(MountCase):
    """One process writes to a store, and no other user can keep it away."""

    def lock_folder(self, name='somebody', real=None):
        """Locks it as a program of that name, which another user has started."""
        PR_SET_NAME = 15
        ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode())
        if real is not None:
            os.setresuid(real, 0, 0)
        fd = os.open(self.store, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        return fd

    def test_only_who_may_write_to_the_store_can_lock_it(self):
        lock = self.path('store', '.snapfs', 'lock')
        self.mount().unmount()
        self.assertEqual(os.stat(lock).st_mode & 0o777, 0o600)
        os.chmod(lock, 0o644)   # as earlier versions made it
        self.mount().unmount()
        with self.assertRaises(PermissionError):
            as_user(BOB, os.open, lock, os.O_RDONLY)

    def test_a_lock_of_another_user_on_its_folder_keeps_nobody_away(self):
        for uid, name, real in ((BOB, 'somebody', None), (BOB, 'mount.snapfs', None),
                                (0, 'mount.snapfs', BOB), (0, 'backup', None)):
            with self.subTest(uid=uid, name=name), holding(uid, self.lock_folder, name, real):
                mount = self.mount()
                self.assertIn('a process that is no snapfs of its owner', mount.log())
                os.mkdir(mount.path(f'{uid}{name}{real}'))
                mount.unmount()

    def test_a_lock_of_a_snapfs_of_root_or_of_its_owner_counts(self):
        os.chown(self.store, BOB, BOB)
        for uid in (0, BOB):
            with self.subTest(uid=uid), holding(uid, self.lock_folder, 'mount.snapfs') as pid:
                with self.assertRaisesRegex(RuntimeError, f'in use: process {pid} still writes'):
                    self.mount()

    def test_a_store_that_lost_its_private_folder_has_one_writer_still(self):
        first = self.mount()
        second = Mount(self.store, self.path('second'))
        for lose in (lambda at: os.rename(at, at + '.old'), shutil.rmtree):
            lose(self.path('store', '.snapfs'))
            with self.assertRaisesRegex(RuntimeError, f'in use: process {first.pid} still writes'):
                second.start()
            done = tool('import', self.store, 'vm9', stdin=subprocess.DEVNULL)
            self.assertIn('in use: process', done.stderr)
        os.mkdir(first.path('vm1'))
        first.unmount()
        with second:
            self.assertIn('vm1', os.listdir(second.path()))

    def test_a_save_without_the_private_folder_says_so(self):
        mount = self.mount()
        os.mkdir(mount.path('vm'))
        data = makestream.stream(makestream.Guest({'pc.ram': 1 << 20}, seed=1))
        os.rename(self.path('store', '.snapfs'), self.path('store', 'moved'))
        write_stream(mount.path('vm', 'stream'), data)
        self.assertIn('ram', os.listdir(mount.path('vm')))
        shutil.rmtree(self.path('store', 'moved'))
        with self.assertRaises(OSError):
            write_stream(mount.path('vm', 'stream'), data)
        self.assertIn('.snapfs/tmp was removed while the store is in use', mount.log())
        self.assertIn('ram', os.listdir(mount.path('vm')))


class SavedByRoot(UserCase):
    """`snapfs save` by root, of a guest of Bob's, into a folder in one of Bob's."""

    def setUp(self):
        super().setUp()
        self.socket = self.path('bobs', 'qmp')
        self.bobs = self.folder_of(BOB, 'bobs')
        self.target = self.folder_of(0, 'target', mode=0o700)
        self.held = os.open(self.target, os.O_RDONLY)
        self.addCleanup(os.close, self.held)

    def answer(self):
        """A QEMU that knows little and saves nothing; Bob runs it."""
        returned = {'query-status': {'status': 'running'}}
        server = socket.socket(socket.AF_UNIX)
        server.bind(self.socket)
        server.listen(4)
        os.write(self.ready[1], b'x')
        while True:
            peer = server.accept()[0]
            hello = {'QMP': {'version': {'qemu': {'major': 10, 'minor': 0, 'micro': 2},
                                         'package': ''}, 'capabilities': ['oob']}}
            peer.sendall(json.dumps(hello).encode() + b'\n')
            for line in peer.makefile('rb'):
                asked = json.loads(line)
                answer = {'return': returned.get(asked['execute'], {}), 'id': asked['id']}
                if asked['execute'] == 'migrate':
                    answer = {'error': {'desc': 'no'}, 'id': asked['id']}
                peer.sendall(json.dumps(answer).encode() + b'\n')

    def qemu(self):
        self.ready = os.pipe()
        for fd in self.ready:
            self.addCleanup(os.close, fd)
        self.enter(meanwhile(BOB, self.answer))
        os.read(self.ready[0], 1)

    def save(self, env=None, folder='vm'):
        return tool('save', '-q', self.socket, f'{self.bobs}/{folder}',
                    env=dict(os.environ, **(env or {})))

    def test_a_link_in_the_place_of_the_new_folder(self):
        self.qemu()
        before = os.fstat(self.held)
        for name in ('vm', 'a'):
            done = self.save(at_that_moment(
                'after', 'mkdir', name,
                f'cd {self.bobs}; rmdir {name}; ln -s {self.target} {name}'), 'a/vm')
            self.assertNotEqual(done.returncode, 0)
            self.assert_untouched(self.held, 0o700)
            # Nothing was made in it, not even for a while.
            self.assertEqual(os.fstat(self.held).st_mtime_ns, before.st_mtime_ns)
            shutil.rmtree(self.bobs + '/a', ignore_errors=True)
            if os.path.islink(self.bobs + '/a'):
                os.unlink(self.bobs + '/a')

    def link(self, name, target, owner=BOB):
        path = f'{self.bobs}/{name}'
        os.symlink(target, path)
        os.lchown(path, owner, owner)

    def test_a_link_of_another_user_is_not_followed(self):
        self.qemu()
        before = os.fstat(self.held)
        self.link('direct', self.target)
        self.link('relative', '../target')
        self.link('nowhere', self.target + '/new')
        self.link('roots', 'relative', owner=0)
        self.link('../way', 'bobs/direct', owner=0)
        for path, link in (('direct', 'direct'), ('direct/new', 'direct'),
                           ('relative/new', 'relative'), ('nowhere', 'nowhere'),
                           ('roots', 'relative'), ('../way', 'direct')):
            with self.subTest(path):
                done = self.save(folder=path)
                self.assertEqual(done.returncode, 1)
                self.assertIn(f'{self.bobs}/{link} is a link of user {BOB}', done.stderr)
        self.assertEqual(os.fstat(self.held).st_mtime_ns, before.st_mtime_ns)

    def test_a_link_of_root_is_followed(self):
        self.qemu()
        self.link('absolute', self.target, owner=0)
        self.link('relative', '../target', owner=0)
        for name in ('absolute', 'relative'):
            before = os.fstat(self.held)
            self.assertIn('save: no', self.save(folder=name).stderr)
            self.assertNotEqual(os.fstat(self.held).st_mtime_ns, before.st_mtime_ns)

    def test_links_that_lead_in_a_circle_have_an_end(self):
        self.qemu()
        self.link('a', 'b', owner=0)
        self.link('b', 'a', owner=0)
        self.assertIn('a: Too many levels of symbolic links', self.save(folder='a').stderr)

    def test_another_folder_in_the_place_of_the_new_one(self):
        self.qemu()
        self.save(at_that_moment(
            'after', 'mkdir', 'vm', f'cd {self.bobs}; rmdir vm; mv {self.target} vm'))
        self.assert_untouched(self.held, 0o700)

    def test_a_link_in_the_place_of_the_new_file(self):
        self.qemu()
        secret = self.file_of(0, 'target', 'file')
        held = os.open(secret, os.O_RDONLY)
        self.addCleanup(os.close, held)
        self.save(at_that_moment(
            'after', 'create', 'stream.part',
            f'cd {self.bobs}/vm; mv stream.part x; ln -s {secret} stream.part'))
        self.assert_untouched(held, 0o600, 'secret')

    def test_a_race_for_the_new_folder_is_won_by_nobody(self):
        self.qemu()
        name = self.bobs + '/vm'
        until = time.monotonic() + RACE
        with meanwhile(BOB, again_and_again, lambda: os.rename(name, name + '.x'),
                       lambda: os.symlink(self.target, name), lambda: os.unlink(name),
                       lambda: os.rmdir(name + '.x')):
            while time.monotonic() < until:
                self.save()
        self.assert_untouched(self.held, 0o700)
        self.assertEqual(os.listdir(self.target), [])


if __name__ == '__main__':
    harness.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A store that does not answer for a while: what the writers and readers of the
mount see, and how the mount ends."""
import errno
import os
import signal
import subprocess
import sys
import threading
import time

from fusecase import MIB, FuseCase, setUpModule, write_all, write_stream  # noqa: F401
import harness
import makestream
import mappedram
from away import AwayStore
from mount import is_mounted, statistics


class AwayCase(FuseCase):
    """The store of `self.mount` is `self.away`."""

    def setUp(self):
        harness.need_root()
        self.away = None
        super().setUp()
        self.addCleanup(self.away.come_back)

    def enter(self, manager):
        if not self.away:
            self.away = super().enter(AwayStore(self.work))
        return super().enter(manager)

    def stat(self, name):
        return statistics(self.mount.point)[f'snapfs_{name}']

    def begin(self, name='vm1', head=b''):
        """A save of which only the last byte is missing."""
        os.makedirs(self.snaps(name), exist_ok=True)
        fd = os.open(self.snaps(name, 'stream'), os.O_WRONLY | os.O_CREAT, 0o600)
        self.addCleanup(self.close, fd)
        write_all(fd, head)
        write_all(fd, self.data[:-1])
        return fd

    def start_last(self, fd):
        """A process that writes the last byte."""
        source = self.path('last')
        with open(source, 'wb') as file:
            file.write(self.data[-1:])
        return self.start_process('dd', f'if={source}', 'status=none', stdout=fd,
                                  stderr=subprocess.PIPE, text=True)


class Saving(AwayCase):
    options = ('timeout=2',)

    def time_out(self, *calls, head=b''):
        """A save during which the store goes away, which it still is."""
        fd = self.begin(head=head)
        self.away.go_away(*calls)
        self.assert_errno(errno.ETIMEDOUT, os.write, fd, self.data[-1:])
        self.away.wait_hanging()
        self.assert_errno(errno.ETIMEDOUT, os.write, fd, b'x')
        self.assert_errno(errno.ETIMEDOUT, os.close, fd)
        self.wait_log('vm1/stream: not saved: its writer has waited for 2 seconds (-o timeout=)')

    def come_back(self):
        self.away.come_back()
        harness.wait_until(lambda: self.stat('saves_running') == 0, 20, 'the save has ended')

    def check_fails(self, *calls):
        """A save during which the store goes away fails, and is nowhere when the
        store is back."""
        self.time_out(*calls)
        self.come_back()
        self.assertEqual(self.stat('saves_failed_total'), 1)
        self.assertEqual(self.stat('save_buffered_bytes'), 0)
        self.check_no_leftovers()

    def check_no_snapshot(self):
        self.assertEqual(os.listdir(self.snaps('vm1')), [])
        self.assertIn(b'-o timeout=', os.getxattr(self.snaps('vm1'), 'user.snapfs.error'))
        self.save()
        self.check_snapshot()

    def test_fails_when_the_store_does_not_write(self):
        self.check_fails('write')
        self.check_no_snapshot()

    def test_fails_when_the_store_does_not_sync(self):
        self.check_fails('fsync')
        self.check_no_snapshot()

    def check_saved_later(self, call):
        """The store was asked for the name of the snapshot before it went
        away."""
        self.time_out(call)
        self.come_back()
        self.wait_log('vm1/stream: it was saved after all')
        self.check_snapshot()
        self.assert_errno(errno.ENODATA, os.getxattr, self.snaps('vm1'), 'user.snapfs.error')
        self.check_no_leftovers()

    def test_is_there_later_when_the_store_does_not_rename(self):
        self.check_saved_later('rename')

    def test_is_there_later_when_the_store_does_not_sync_the_folder(self):
        self.check_saved_later('fsyncdir')

    def test_leaves_no_head_beside_a_snapshot_that_is_there_later(self):
        self.time_out('fsyncdir', head=bytes(range(1, 101)))
        self.come_back()
        self.wait_log('vm1/stream: it was saved after all')
        self.assertNotIn('stream', os.listdir(os.path.join(self.away.source, 'vm1')))
        self.assertEqual(os.stat(self.snaps('vm1', 'preamble')).st_size, 100)

    def test_changes_nothing_of_a_save_that_follows_it(self):
        """The second save waits for the first one, or is refused."""
        source = self.path('source')
        write_stream(source, self.data)
        for call in 'rename', 'fsyncdir':
            self.time_out(call)
            second = self.start_process('cp', source, self.snaps('vm1', 'stream'),
                                        stderr=subprocess.PIPE, text=True)
            self.come_back()
            error = second.communicate(timeout=20)[1]
            self.assertIn(second.returncode, (0, 1))
            if second.returncode:
                self.assertIn(os.strerror(errno.EBUSY), error)
            self.check_snapshot()
            self.save()
            self.check_snapshot()
            self.check_no_leftovers()


class Comparing(AwayCase):
    options = ('increments',)

    def test_the_log_says_that_a_save_waits_for_its_parent(self):
        self.save()
        source = self.path('source')
        with open(source, 'wb') as file:
            file.write(self.data)
        fd = os.open(self.snaps('vm1', 'stream'), os.O_WRONLY | os.O_CREAT, 0o600)
        self.addCleanup(self.close, fd)
        self.away.go_away('read')
        writer = self.start_process('cat', source, stdout=fd)
        self.away.wait_hanging()
        self.wait_log('waiting for the store since 5 s: search for the parent of vm1')
        self.assertGreaterEqual(self.stat('store_wait_seconds'), 5)
        self.away.come_back()
        self.assertEqual(writer.wait(20), 0)
        os.close(fd)
        self.check_snapshot()


class Removing(AwayCase):
    options = ('timeout=6',)

    def test_times_out_while_another_stream_is_being_removed(self):
        fd = self.begin(head=bytes(range(1, 101)))
        other = self.begin('vm2')
        # The library of the far store renames a file that is open.
        self.away.go_away('fsync', 'unlink', 'rename')
        writer = self.start_last(fd)
        self.away.wait_hanging()
        # A process that starts would close its copy, and wait.
        closer = threading.Thread(target=self.close, args=(fd,))
        closer.start()
        # The kernel removes no file that a process writes to.
        writer.terminate()
        writer.wait(20)
        remover = self.start_process('rm', '-f', self.snaps('vm1', 'stream'))
        self.assertIn(os.strerror(errno.ETIMEDOUT),
                      self.start_last(other).communicate(timeout=20)[1])
        closer.join(20)
        self.assertFalse(closer.is_alive())
        self.assertIsNone(remover.poll())
        self.away.come_back()
        self.assertEqual(remover.wait(20), 0)


class Hiding(AwayCase):
    """The library of this store keeps a file that is removed while it is open in
    its folder, under another name. NFS does so, too."""

    def test_the_folder_of_a_snapshot_that_is_open_can_be_removed(self):
        self.save()
        fd = os.open(self.snaps('vm1', 'ram'), os.O_RDONLY)
        self.addCleanup(self.close, fd)
        done = harness.run('rm', '-r', self.snaps('vm1'))
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertFalse(os.path.lexists(self.store('vm1')))
        with open(fd, 'rb', closefd=False) as file:
            self.assertTrue(file.read() == self.guest.flat())
        os.close(fd)
        harness.wait_until(lambda: not os.listdir(self.store('.snapfs', 'tmp')), 20,
                           'nothing of it is left')


class Waiting(AwayCase):
    """Processes that wait for a store that is away."""

    def setUp(self):
        super().setUp()
        self.save()
        with open(self.snaps('file'), 'w') as file:
            file.write('ordinary')

    def start_waiting(self, *command):
        """A process that waits for an answer of the mount."""
        process = self.start_process(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.away.wait_hanging()
        return process

    def check_killed(self, process, number):
        process.send_signal(number)
        self.assertEqual(process.wait(20), -number)

    def test_a_reader_waits_and_goes_on_and_the_log_says_so(self):
        self.away.go_away('read')
        reader = self.start_waiting('cat', self.snaps('file'))
        self.wait_log('waiting for the store since 5 s: read of file')
        self.assertGreaterEqual(self.stat('store_wait_seconds'), 5)
        self.away.come_back()
        self.assertEqual(reader.communicate(timeout=20)[0], b'ordinary')
        self.assertEqual(reader.returncode, 0)
        self.wait_log('the store answers again, after ')
        self.assertEqual(self.stat('store_wait_seconds'), 0)

    def test_a_reader_can_be_killed(self):
        self.away.go_away('read')
        self.check_killed(self.start_waiting('cat', self.snaps('file')), signal.SIGKILL)

    def test_a_lookup_can_be_interrupted(self):
        self.away.go_away()
        self.check_killed(self.start_waiting('stat', self.snaps('new')), signal.SIGINT)

    def test_a_list_can_be_interrupted(self):
        self.away.go_away('readdir')
        self.check_killed(self.start_waiting('ls', self.snaps('vm1')), signal.SIGINT)

    def test_a_writer_of_a_stream_can_be_killed(self):
        source = self.path('source')
        with open(source, 'wb') as file:
            file.write(self.data)
        os.mkdir(self.snaps('vm2'))
        self.away.go_away('write', 'fsync', 'rename')
        writer = self.start_waiting('cp', source, self.snaps('vm2', 'stream'))
        self.check_killed(writer, signal.SIGTERM)

    def test_signals_that_do_not_kill_change_nothing(self):
        self.away.go_away('read')
        code = ('import signal, sys; signal.signal(signal.SIGUSR1, lambda *_: None); '
                'print(open(sys.argv[1]).read())')
        reader = self.start_waiting(sys.executable, '-c', code, self.snaps('file'))
        reader.send_signal(signal.SIGUSR1)
        self.wait_log('waiting for the store since 5 s')
        self.assertIsNone(reader.poll())
        self.away.come_back()
        self.assertEqual(reader.communicate(timeout=20)[0], b'ordinary\n')

    def test_all_can_be_killed_when_no_thread_is_left(self):
        self.away.go_away()
        readers = [self.start_process('stat', self.snaps(f'new{i}'), stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL) for i in range(60)]
        self.away.wait_hanging()
        for reader in readers:
            reader.send_signal(signal.SIGINT)
        for reader in readers:
            self.assertEqual(reader.wait(20), -signal.SIGINT)

    def test_other_requests_are_served_while_many_wait(self):
        for i in range(20):
            with open(self.snaps(f'file{i}'), 'w') as file:
                file.write('ordinary')
        self.away.go_away('read', 'statfs')
        readers = [self.start_process('cat', self.snaps(f'file{i}'), stdout=subprocess.PIPE)
                   for i in range(20)]
        self.away.wait_hanging()
        self.assertEqual(self.stat('saves_completed_total'), 1)
        for _ in range(30):
            os.statvfs(self.mount.point)
        self.away.come_back()
        for reader in readers:
            self.assertEqual(reader.communicate(timeout=20)[0], b'ordinary')


class Ending(AwayCase):
    """Mounts that end while their store is away. The process may stay until it is
    back, for the kernel ends no call of this store; nobody waits for it."""

    def setUp(self):
        super().setUp()
        self.save()

    def start_waiting(self):
        process = self.start_process('stat', self.snaps('new'), stdout=subprocess.DEVNULL,
                                     stderr=subprocess.PIPE, text=True)
        self.away.wait_hanging()
        return process

    def wait_unmounted(self):
        harness.wait_until(lambda: not is_mounted(self.mount.point), 40, 'it is unmounted')

    def check_ends(self, *codes):
        """The daemon ends when the store is back, if it has not by itself."""
        self.away.come_back()
        self.assertIn(self.mount.process.wait(20), codes)
        self.mount.process = None

    def check_error(self, process):
        self.assertEqual(process.wait(40), 1, process.stderr.read())

    def test_sigterm_ends_the_mount_and_fails_who_waits(self):
        self.away.go_away()
        reader = self.start_waiting()
        self.mount.process.send_signal(signal.SIGTERM)
        self.check_error(reader)
        self.wait_unmounted()
        self.wait_log('the store does not answer: the mount ends without it')
        self.check_ends(2)

    def check_slow(self):
        """The mount waits for its save, longer than one that runs none."""
        time.sleep(12)
        self.assertIsNone(self.mount.process.poll(), 'the mount waits for its save')
        self.check_ends(0)
        self.assertTrue(os.path.exists(os.path.join(self.away.source, 'vm2', 'snapshot.zst')))

    def test_sigterm_waits_for_a_save_when_the_store_is_slow(self):
        os.mkdir(self.snaps('vm2'))
        fd = os.open(self.snaps('vm2', 'stream'), os.O_WRONLY | os.O_CREAT, 0o600)
        self.addCleanup(self.close, fd)
        write_all(fd, self.data[:-1])
        self.away.go_away('fsync')
        code = f'import os; os.write(1, {self.data[-1:]!r})'
        writer = self.start_process(sys.executable, '-c', code, stdout=fd)
        self.away.wait_hanging()
        self.mount.process.send_signal(signal.SIGTERM)
        self.check_slow()
        self.assertEqual(writer.wait(20), 0)

    def test_umount_waits_for_a_save_when_the_store_is_slow(self):
        """A guest of zeros is saved when its file is closed; here QEMU ends while
        it closes."""
        os.mkdir(self.snaps('vm2'))
        guest = makestream.Guest({'pc.ram': MIB}, every=MIB)
        guest.pages['pc.ram'].clear()
        self.away.go_away('fsync')
        code = ('import os, sys; fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600)\n'
                f'for at, data in {mappedram.Image(guest, whole=False).stream!r}:\n'
                '    os.pwrite(fd, data, at)\n')
        writer = self.start_process(sys.executable, '-c', code, self.snaps('vm2', 'stream'))
        self.away.wait_hanging()
        writer.kill()
        writer.wait(20)
        self.run_ok('umount', self.mount.point, timeout=20)
        self.check_slow()

    def test_umount_returns_at_once(self):
        self.away.go_away()
        reader = self.start_waiting()
        reader.kill()
        reader.wait(20)
        self.run_ok('umount', self.mount.point, timeout=20)
        self.check_ends(0, 2)

    def test_a_forced_umount_fails_who_waits(self):
        self.away.go_away()
        reader = self.start_waiting()
        harness.run('umount', '-f', self.mount.point, timeout=20)
        self.check_error(reader)
        harness.run('umount', self.mount.point, timeout=20)
        self.wait_unmounted()
        self.check_ends(0, 2)

    def test_a_lazy_umount_returns_at_once(self):
        self.away.go_away()
        reader = self.start_waiting()
        self.run_ok('umount', '-l', self.mount.point, timeout=20)
        self.away.come_back()
        self.check_error(reader)
        self.check_ends(0)

    def test_nobody_waits_for_a_daemon_that_was_killed(self):
        self.away.go_away()
        reader = self.start_waiting()
        self.mount.process.kill()
        self.check_error(reader)
        self.run_ok('umount', self.mount.point, timeout=20)
        self.check_ends(-signal.SIGKILL)

    def test_a_tool_that_reads_the_store_can_be_interrupted(self):
        tool = harness.build_path('tools', 'snapfs')
        self.away.go_away('read', 'readdir', 'interruptible')
        process = self.start_process(tool, 'ls', self.mount.store, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL)
        self.away.wait_hanging()
        process.send_signal(signal.SIGINT)
        self.assertNotEqual(process.wait(20), 0)


if __name__ == '__main__':
    harness.main()

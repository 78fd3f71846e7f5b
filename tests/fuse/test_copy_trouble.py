#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies that are disturbed: the mount ends or is killed, the copier is killed,
several copy at once, and what else people do meanwhile."""
import errno
import os
import shutil
import signal
import struct
import subprocess
import threading
import time

from fusecase import LISTED, MIB, VIEWS, FuseCase, read_file, setUpModule, write_all  # noqa: F401
from copycase import PARTS, CopiedCase
import harness
import makestream
from mappedram import LIBVIRT


class EndTest(CopiedCase):
    """The daemon ends while a snapshot is made of parts."""

    def setUp(self):
        super().setUp()
        # As large as it must be for the save to last.
        self.guest = makestream.Guest({'pc.ram': 24 * MIB}, seed=5)
        self.run_ok('rm', '-r', self.snaps('source'), self.backup, self.path('unlisted'))
        self.save('source', self.guest)
        os.mkdir(self.path('backup'))
        for view in LISTED:
            self.run_ok('cp', '-a', self.snaps('source', view), self.saved(view))
        self.flat = self.guest.flat()
        self.run_ok('rm', '-r', self.snaps('source'))
        self.outcome = None

    def begin(self):
        """A thread that closes the second part: errors are its outcome."""
        self.outcome = None
        os.mkdir(self.snaps('vm1'))
        self.run_ok('cp', '-a', self.saved('devstate'), self.snaps('vm1'))
        fd = os.open(self.snaps('vm1', 'ram'), os.O_WRONLY | os.O_CREAT)
        write_all(fd, self.flat)

        def close():
            try:
                os.close(fd)
            except OSError as error:
                self.outcome = error.errno
        thread = threading.Thread(target=close)
        thread.start()
        return thread

    def save_begins(self):
        """True once the save has a file of its own, or is over."""
        return os.listdir(self.store('.snapfs', 'tmp')) or \
            'snapshot.zst' in os.listdir(self.store('vm1'))

    def check_end(self, end, lost, moments):
        """`lost` are the answers to a close whose snapshot was not made. Nothing
        is lost at whatever moment that is."""
        seen = set()
        for wait in moments:
            thread = self.begin()
            wait()
            end()
            thread.join(60)
            self.assertFalse(thread.is_alive())
            made = 'snapshot.zst' in os.listdir(self.store('vm1'))
            seen.add(made)
            if not made:
                self.assertIn(self.outcome, lost)
                self.assertEqual(sorted(set(os.listdir(self.store('vm1'))) - {'.snapfs-error'}),
                                 LISTED)
            elif end == self.terminate:
                self.assertIsNone(self.outcome)
            self.mount.start()
            # Parts that a daemon left which was killed go by the first look.
            self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), LISTED)
            if not made:
                self.assertTrue(read_file(self.snaps('vm1', 'ram')) == self.flat)
                shutil.copyfile(self.saved('ram'), self.snaps('vm1', 'ram'))
            self.wait_snapshot()
            self.check_snapshot('vm1', self.guest)
            self.check_no_leftovers()
            self.run_ok('rm', '-r', self.snaps('vm1'))
        return seen

    def terminate(self):
        self.mount.process.terminate()
        self.assertEqual(self.mount.process.wait(60), 0)

    def moments(self):
        def begun():
            harness.wait_until(self.save_begins, 20, 'the save begins', step=0.0005)

        def made():
            harness.wait_until(lambda: 'snapshot.zst' in os.listdir(self.store('vm1')), 20,
                               'the snapshot', step=0.0005)
        # At once; while it is looked at; while it is saved; when it is there.
        return [lambda: None, lambda: time.sleep(0.002), begun, begun,
                lambda: (begun(), time.sleep(0.01)), made]

    def test_signal(self):
        # The kernel answers by itself when the mount ends before the close gets there.
        lost = {errno.ECANCELED, errno.ECONNABORTED, errno.ENOTCONN}
        seen = self.check_end(self.terminate, lost, self.moments())
        self.assertIn(True, seen)

    def test_kill(self):
        seen = self.check_end(self.mount.crash, {errno.ENOTCONN, errno.ECONNABORTED},
                              self.moments())
        self.assertIn(True, seen)

    def test_killed_before_it_could_remove_the_parts(self):
        os.mkdir(self.snaps('vm1'))
        for view in LISTED:
            shutil.copyfile(self.saved(view), self.snaps('vm1', view))
        for parts in (['ram'], ['devstate'], LISTED):
            self.mount.crash()
            for view in parts:
                shutil.copyfile(self.saved(view), self.store('vm1', view))
            self.mount.start()
            self.check_snapshot('vm1', self.guest)
            self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), LISTED)
            self.wait_snapshot()
        self.mount.crash()
        for view in LISTED:
            shutil.copyfile(self.saved(view), self.store('vm1', view))
        self.mount.start()
        self.run_ok('rm', '-r', self.snaps('vm1'))
        self.check_gone('vm1')


class EndlessTest(CopiedCase):
    def test_devstate_without_end(self):
        """A sparse file of it takes nobody anything to make."""
        os.mkdir(self.snaps('vm1'))
        data = self.views['devstate']
        at = data.index(b'\x03ram') - 5
        size = 1 << 40
        name = b's390-storage_attributes'
        head = (data[:at] + b'\x01' + struct.pack('>I', 77) + bytes([len(name)]) + name +
                struct.pack('>IIQQ', 0, 0, 2, size))
        fd = os.open(self.snaps('vm1', 'devstate'), os.O_WRONLY | os.O_CREAT)
        os.write(fd, head)
        os.ftruncate(fd, len(head) + size)
        thread = threading.Thread(target=lambda: self.assert_errno(errno.ECANCELED, os.close, fd))
        thread.start()
        time.sleep(0.5)
        self.assertTrue(thread.is_alive())
        self.mount.process.terminate()
        self.assertEqual(self.mount.process.wait(20), 0)
        thread.join()
        self.mount.start()
        os.unlink(self.snaps('vm1', 'devstate'))
        self.assertEqual([name for name in os.listdir(self.store('vm1')) if name != '.snapfs-error'],
                         [])


class KilledTest(CopiedCase):
    """The program that copies is killed."""

    def kill_copy(self, view, size):
        """cat that has written so much of a view."""
        with open(self.snaps('vm1', view), 'wb') as file:
            cat = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=file)
        cat.stdin.write(self.views[view][:size])
        cat.stdin.flush()
        harness.wait_until(lambda: self.size_of(view) >= size // 4096 * 4096 - 131072, 20,
                           'it has written')
        cat.send_signal(signal.SIGKILL)
        cat.wait()
        cat.stdin.close()

    def size_of(self, view):
        try:
            return os.stat(self.snaps('vm1', view)).st_size
        except FileNotFoundError:
            return 0

    def test_in_the_first_or_second_part(self):
        for order in (PARTS, PARTS[::-1]):
            os.mkdir(self.snaps('vm1'))
            for number, view in enumerate(order):
                self.kill_copy(view, len(self.views[view]) // 2)
                self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), sorted(order[:number + 1]))
                self.assertNotIn('snapshot.zst', os.listdir(self.store('vm1')))
                self.copy(view)
            self.wait_snapshot()
            self.check_same()
            self.run_ok('rm', '-r', self.snaps('vm1'))

    def test_in_a_stream(self):
        os.mkdir(self.snaps('vm1'))
        for view in ('stream', 'mapped'):
            self.kill_copy(view, MIB)
            harness.wait_until(lambda: os.listdir(self.snaps('vm1')) == [], 10, 'it is dropped')
            self.copy(view)
            self.check_same()
            self.run_ok('rm', '-r', self.snaps('vm1'))
            os.mkdir(self.snaps('vm1'))

    def test_what_a_killed_copy_left_can_be_removed(self):
        os.mkdir(self.snaps('vm1'))
        for view in PARTS:
            self.kill_copy(view, 20000)
        self.run_ok('rm', '-r', self.snaps('vm1'))
        self.check_gone('vm1')


class MeanwhileTest(CopiedCase):
    """What others do to a folder while something comes into it."""

    def setUp(self):
        super().setUp()
        os.mkdir(self.snaps('vm1'))

    def begin_save(self, view='stream'):
        fd = os.open(self.snaps('vm1', view), os.O_WRONLY | os.O_CREAT)
        self.addCleanup(FuseCase.close, self, fd)
        write_all(fd, self.views['stream'][:MIB])
        return fd

    def go_on(self, fd):
        write_all(fd, self.views['stream'][MIB:])
        os.close(fd)

    def test_rm_rf_while_a_save_runs_into_it(self):
        for view in ('stream', 'mapped'):
            for remove in (['rm', '-rf'], ['rm', '-r'], ['find']):
                fd = self.begin_save(view)
                self.run_ok(*remove, self.snaps('vm1'), *(['-delete'] * (remove == ['find'])))
                self.check_gone('vm1')
                self.assert_errno(errno.ECANCELED, self.go_on, fd)
                FuseCase.close(self, fd)
                self.check_no_leftovers()
                os.mkdir(self.snaps('vm1'))

    def test_rm_rf_while_a_save_runs_over_a_snapshot(self):
        self.copy('stream')
        fd = self.begin_save()
        self.run_ok('rm', '-rf', self.snaps('vm1'))
        self.check_gone('vm1')
        self.assert_errno(errno.ECANCELED, self.go_on, fd)
        self.check_no_leftovers()

    def test_rm_stream_ends_the_save_first(self):
        self.copy('stream')
        fd = self.begin_save()
        os.unlink(self.snaps('vm1', 'stream'))
        self.check_snapshot('vm1', self.guest)
        self.assert_errno(errno.ECANCELED, self.go_on, fd)
        self.check_snapshot('vm1', self.guest)
        os.unlink(self.snaps('vm1', 'stream'))
        self.assertEqual(set(os.listdir(self.store('vm1'))) - {'.snapfs-error'}, set())

    def test_removed_names_do_not_matter_after_a_save(self):
        self.copy('stream')
        fd = self.begin_save()
        for view in ('ram', 'mapped'):
            os.unlink(self.snaps('vm1', view))
        self.go_on(fd)
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), LISTED)
        self.check_snapshot('vm1', self.guest)
        self.assertGreater(os.stat(self.snaps('vm1', 'mapped')).st_size, 0)

    def test_all_names_removed_while_another_comes(self):
        self.copy('stream')
        fd = self.begin_save()
        for view in LISTED:
            os.unlink(self.snaps('vm1', view))
        self.assertEqual(os.listdir(self.snaps('vm1')), ['stream'])
        self.go_on(fd)
        self.check_snapshot('vm1', self.guest)

    def test_rmdir_and_moves_of_the_folder(self):
        fd = self.begin_save()
        self.assert_errno(errno.ENOTEMPTY, os.rmdir, self.snaps('vm1'))
        os.mkdir(self.snaps('empty'))
        self.assert_errno(errno.ENOTEMPTY, os.rename, self.snaps('empty'), self.snaps('vm1'))
        os.rename(self.snaps('vm1'), self.snaps('empty', 'moved'))
        self.go_on(fd)
        self.check_snapshot('empty/moved', self.guest)

    def test_truncate_by_another_does_not_end_a_save(self):
        for view in ('stream', 'mapped'):
            fd = self.begin_save(view)
            for size in (0, 5000, 1 << 30):
                with self.assertRaises(OSError):
                    os.truncate(self.snaps('vm1', view), size)
            with self.assertRaises(OSError):
                with open(self.snaps('vm1', view), 'wb'):
                    pass
            self.go_on(fd)
            self.check_snapshot('vm1', self.guest)
            self.run_ok('rm', '-r', self.snaps('vm1'))
            os.mkdir(self.snaps('vm1'))

    def test_shell_that_cuts_a_stream_that_another_writes(self):
        fd = self.begin_save()
        self.assertNotEqual(harness.run('sh', '-c', f': >{self.snaps("vm1", "stream")}').returncode,
                            0)
        self.go_on(fd)
        self.check_snapshot('vm1', self.guest)

    def test_parts_written_while_a_stream_comes(self):
        fd = self.begin_save()
        for view in PARTS:
            self.copy(view)
        # The parts were a snapshot first; the stream replaces it.
        self.wait_snapshot()
        self.go_on(fd)
        self.wait_snapshot()
        self.check_snapshot('vm1', self.guest)

    def test_stream_and_mapped_at_once(self):
        first, second = self.begin_save('stream'), self.begin_save('mapped')
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), ['mapped', 'stream'])
        self.go_on(first)
        self.check_snapshot('vm1', self.guest)
        self.go_on(second)
        self.check_snapshot('vm1', self.guest)

    def test_attributes_of_parts(self):
        self.copy('devstate')
        path = self.snaps('vm1', 'devstate')
        # As a view, it keeps none but those of snapfs.
        self.assert_errno(errno.EOPNOTSUPP, os.setxattr, path, 'user.mine', b'x')
        self.assert_errno(errno.EXDEV, os.rename, path, self.snaps('vm1', 'other'))
        self.assert_errno(errno.EPERM, os.link, path, self.snaps('vm1', 'other'))
        os.chmod(path, 0o600)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        self.copy('ram')
        self.check_same()

    def test_a_part_that_is_cut_and_written_again(self):
        self.copy('ram')
        fd = os.open(self.snaps('vm1', 'devstate'), os.O_WRONLY | os.O_CREAT)
        os.write(fd, b'nonsense' * 9000)
        os.ftruncate(fd, 0)
        os.pwrite(fd, self.views['devstate'], 0)
        os.close(fd)
        self.wait_snapshot()
        self.assertTrue(read_file(self.snaps('vm1', 'stream')) == self.views['stream'])

    def test_a_part_that_is_read_while_it_is_cut(self):
        self.copy('ram')
        with open(self.snaps('vm1', 'ram'), 'rb', buffering=0) as reader:
            os.truncate(self.snaps('vm1', 'ram'), 5000)
            self.assertEqual(os.fstat(reader.fileno()).st_size, 5000)
            self.assertTrue(reader.read() == self.views['ram'][:5000])
        self.copy('ram')
        self.copy('devstate')
        self.check_same()

    def test_a_part_that_is_removed_while_it_is_written(self):
        self.copy('devstate')
        fd = os.open(self.snaps('vm1', 'ram'), os.O_WRONLY | os.O_CREAT)
        write_all(fd, self.views['ram'][:MIB])
        os.unlink(self.snaps('vm1', 'ram'))
        write_all(fd, self.views['ram'][MIB:])
        os.close(fd)
        self.assertEqual(os.listdir(self.snaps('vm1')), ['devstate'])
        self.copy('ram')
        self.check_same()

    def test_a_part_that_is_a_link_or_a_folder(self):
        os.unlink(self.snaps('source', 'domain.xml'))
        for make in (os.mkdir, lambda path: os.symlink('/etc/passwd', path),
                     os.mkfifo):
            make(self.store('vm1', 'ram'))
            self.assertEqual(os.listdir(self.snaps('vm1')), [])
            self.assert_errno(errno.ENOENT, os.stat, self.snaps('vm1', 'ram'))
            with self.assertRaises(OSError):
                shutil.copyfile(self.saved('ram'), self.snaps('vm1', 'ram'))
            self.run_ok('rm', '-r', self.store('vm1', 'ram'))

    def test_two_copiers_of_one_folder(self):
        for _ in range(5):
            copiers = [subprocess.Popen(['cp', '-a', self.backup + '/.', self.snaps('vm1')],
                                        stderr=subprocess.DEVNULL) for _ in range(2)]
            for copier in copiers:
                copier.wait(60)
            # One may have been refused. If both were, the parts are there, and are a
            # snapshot when the last of their files is closed, or after another copy.
            if 'snapshot.zst' not in os.listdir(self.store('vm1')):
                harness.run('cp', '-a', self.backup + '/.', self.snaps('vm1'))
            harness.wait_until(lambda: 'snapshot.zst' in os.listdir(self.store('vm1')), 20,
                               'the snapshot is there')
            self.check_same('vm1', ['domain.xml'])
            self.run_ok('rm', '-r', self.snaps('vm1'))
            os.mkdir(self.snaps('vm1'))

    def test_copied_and_removed_at_once(self):
        """Whatever is there at the end can be removed."""
        for _ in range(8):
            copier = subprocess.Popen(['cp', '-a', self.backup + '/.', self.snaps('vm1')],
                                      stderr=subprocess.DEVNULL)
            remover = subprocess.Popen(['rm', '-rf', self.snaps('vm1')],
                                       stderr=subprocess.DEVNULL)
            for process in (copier, remover):
                process.wait(60)
            self.run_ok('rm', '-rf', self.snaps('vm1'))
            self.check_gone('vm1')
            self.check_no_leftovers()
            os.mkdir(self.snaps('vm1'))

    def test_preamble_that_comes_while_the_parts_are_saved(self):
        for _ in range(10):
            self.copy('devstate')

            def copy_ram():
                shutil.copyfile(self.saved('ram'), self.snaps('vm1', 'ram'))
            thread = threading.Thread(target=copy_ram)
            thread.start()
            while True:
                try:
                    self.put_file(self.snaps('vm1', 'preamble'), LIBVIRT)
                    break
                except OSError as error:
                    self.assertEqual(error.errno, errno.EBUSY)
            thread.join()
            harness.wait_until(lambda: sorted(os.listdir(self.store('vm1'))) in (
                ['snapshot.zst'], ['snapshot.head', 'snapshot.zst']), 10, 'a snapshot')
            self.assertTrue(read_file(self.snaps('vm1', 'stream')) ==
                            LIBVIRT + self.views['stream'])
            self.run_ok('rm', '-r', self.snaps('vm1'))
            os.mkdir(self.snaps('vm1'))


class CrowdTest(CopiedCase):
    """All at once, in one folder: whatever becomes of each, what is read is the
    snapshot, and nobody waits for ever."""

    def test_copies_of_all_views(self):
        os.mkdir(self.snaps('vm1'))
        until = time.monotonic() + 3
        wrong = []

        def loop(what):
            while time.monotonic() < until and not wrong:
                try:
                    what()
                except OSError as error:
                    # A file went, came, or is being written by another.
                    if error.errno in (errno.EIO, errno.EINVAL, errno.ENOTCONN):
                        wrong.append(f'{what}: {error!r}')

        def copier(view, anew):
            path = self.snaps('vm1', view)

            def copy():
                if anew and os.path.exists(path):
                    os.unlink(path)
                shutil.copyfile(self.saved(view), path)
            return copy

        def reader():
            for view in VIEWS:
                with open(self.snaps('vm1', view), 'rb', buffering=0) as file:
                    try:
                        data = file.readall()
                    except OSError as error:
                        # A stream whose save has failed, and that replaced nothing.
                        if error.errno == errno.EIO and view in ('stream', 'mapped'):
                            continue
                        raise
                    # A part, which may not be whole, has no such attribute.
                    os.getxattr(file.fileno(), 'user.snapfs.form')
                if data != self.views[view]:
                    wrong.append(f'{view} is something else')

        tasks = [copier(view, anew) for view in VIEWS for anew in (False, True)] + [reader] * 2
        threads = [threading.Thread(target=loop, args=(task,)) for task in tasks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertFalse(any(thread.is_alive() for thread in threads), 'somebody waits')
        self.assertEqual(wrong, [])
        self.copy('stream')
        harness.wait_until(lambda: os.listdir(self.store('vm1')).count('snapshot.zst'), 10, 'it')
        self.assertTrue(read_file(self.snaps('vm1', 'stream')) == self.views['stream'])


if __name__ == '__main__':
    harness.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Saves of several users: one user's leave room for the others', and one that
stands still is ended."""
import errno
import multiprocessing
import os
import subprocess
import time

from fusecase import FuseCase, setUpModule, write_all  # noqa: F401
import harness
from mount import statistics


def begin_saves(uid, folder, beginning, pipe):
    """Is a user: begins a save at each message, answers with its errno or 0, and
    lets them stand until the pipe ends."""
    harness.die_with_parent()
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    held = []
    while pipe.recv():
        path = os.path.join(folder, str(len(held) + 1))
        os.mkdir(path)
        held.append(os.open(os.path.join(path, 'stream'), os.O_WRONLY | os.O_CREAT, 0o600))
        try:
            os.write(held[-1], beginning)
            pipe.send(0)
        except OSError as error:
            pipe.send(error.errno)


class Saver:
    """A process of a user that begins saves."""

    def __init__(self, case, uid, beginning):
        self.folder = case.snaps(f'user{uid}')
        os.makedirs(self.folder, exist_ok=True)
        os.chown(self.folder, uid, uid)
        # Forked: another user may not be able to run this Python.
        context = multiprocessing.get_context('fork')
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=begin_saves,
                                       args=(uid, self.folder, beginning, end))
        self.process.start()
        end.close()
        case.addCleanup(self.end)

    def begin(self):
        """Begins one more save: 0, or the errno of its first write."""
        self.pipe.send(True)
        return self.pipe.recv()

    def begin_all(self):
        """Begins saves until one is refused: how many were not."""
        for count in range(1000):
            refused = self.begin()
            if refused:
                assert refused == errno.EBUSY, refused
                return count
        raise AssertionError('no save was refused')

    def end(self):
        self.process.kill()
        self.process.join()


class SharesTest(FuseCase):
    options = ('allow_other', 'buffer=16m')

    def setUp(self):
        harness.need_root()
        super().setUp()
        os.chmod(self.work, 0o755)

    def saver(self, uid):
        return Saver(self, uid, self.data[:100])

    def test_one_users_saves_leave_room_for_the_next_and_for_root(self):
        # 6 with 2 MiB each of three quarters of 16 MiB, and 16 small ones.
        first, second, third = (self.saver(uid) for uid in (2001, 2002, 2003))
        self.assertEqual(first.begin_all(), 11)
        self.assertEqual(second.begin_all(), 5)
        self.assertEqual(third.begin_all(), 3)
        self.assertIn(b'user 2001 has 11 saves under way',
                      os.getxattr(os.path.join(first.folder, '12'), 'user.snapfs.error'))
        self.save('root')
        self.check_snapshot('root')

    def test_a_user_has_room_again_when_saves_end(self):
        first = self.saver(2001)
        self.assertEqual(first.begin_all(), 11)
        first.end()
        self.wait_metric('snapfs_saves_running', 0)
        self.run_ok('rm', '-r', first.folder)
        self.assertEqual(self.saver(2001).begin_all(), 11)

    def readers(self, uid, stream, count, refused):
        """Processes of a user that read a stream on its way in: those that wait, once so many
        were refused."""
        processes = [self.start_process(harness.need_program('setpriv'), f'--reuid={uid}',
                                        f'--regid={uid}', '--clear-groups', 'head', '-c', '10',
                                        stream, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                     for _ in range(count)]
        ended = []

        def enough():
            ended[:] = [process for process in processes if process.poll() is not None]
            return len(ended) >= refused
        harness.wait_until(enough, 60, f'{refused} reads of user {uid} are refused')
        for process in ended:
            self.assertIn(os.strerror(errno.EAGAIN).encode(), process.communicate()[1])
        return [process for process in processes if process not in ended]

    def test_one_users_reads_that_wait_leave_places_for_the_next(self):
        # 32 in all, of which a user has at most half.
        stream = self.snaps('vm1', 'stream')
        os.mkdir(self.snaps('vm1'))
        with open(stream, 'wb', buffering=0) as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(self.data[:100])
            waiting = self.readers(2001, stream, 20, refused=4)
            waiting += self.readers(2002, stream, 20, refused=4)
            self.assertEqual(len(waiting), 32)
            with open(stream, 'rb', buffering=0) as other:
                self.assert_errno(errno.EAGAIN, os.pread, other.fileno(), 10, 0)
            write_all(file.fileno(), self.data[100:])
            for process in waiting:
                self.assertEqual(process.communicate(), (self.data[:10], b''))

    def wait_metric(self, name, value):
        harness.wait_until(lambda: statistics(self.snaps())[name] == value, 20, f'{name} is {value}')


class IdleCase(FuseCase):
    def begin(self, data):
        os.makedirs(self.snaps('vm1'), exist_ok=True)
        fd = os.open(self.snaps('vm1', 'stream'), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.addCleanup(self.close, fd)
        os.write(fd, data)
        return fd


class IdleTest(IdleCase):
    options = ('idle=1', 'buffer=16m')

    def test_a_save_that_stands_still_is_ended(self):
        self.save('vm1')
        fd = self.begin(self.data[:100])
        self.wait_log('vm1/stream: not saved: nobody wrote to it for 1 seconds (-o idle=)')
        self.assertEqual(self.wait_error(os.write, fd, b'x'), errno.ETIMEDOUT)
        self.assertIn(b'nobody wrote', os.getxattr(self.snaps('vm1'), 'user.snapfs.error'))
        self.check_snapshot()
        self.check_no_leftovers()


class SlowTest(IdleCase):
    options = ('idle=4', 'buffer=16m')

    def test_one_that_goes_on_is_not(self):
        fd = self.begin(self.data[:100])
        # Longer in all than a save may stand still; the pauses are shorter.
        for at in range(100, 112):
            time.sleep(0.4)
            os.write(fd, self.data[at:at + 1])
        os.write(fd, self.data[112:])
        self.check_snapshot()


if __name__ == '__main__':
    harness.main()

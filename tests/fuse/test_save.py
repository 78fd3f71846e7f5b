#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams written into the mount: what becomes of them, and of what was there."""
import errno
import os
import random
import threading
import time

from fusecase import MIB, FuseCase, read_file, setUpModule, write_all, write_stream  # noqa: F401
import harness
import makestream


def open_stream(path, flags=os.O_WRONLY | os.O_CREAT):
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


class SaveTest(FuseCase):
    def test_becomes_a_snapshot_however_it_is_cut(self):
        guest = makestream.Guest({'pc.ram': 2 * MIB}, seed=5)
        for size in (4096, 8191, 65536, 131328, MIB + 17, 16 * MIB):
            with self.subTest(size=size):
                self.save('vm1', guest, size)
                self.check_snapshot('vm1', guest)

    def test_takes_single_bytes(self):
        guest = makestream.Guest({'pc.ram': 64 << 10}, seed=5)
        self.save('vm1', guest, size=1 << 20)
        data = makestream.stream(guest, device=100)
        os.mkdir(self.snaps('vm2'))
        write_stream(self.snaps('vm2', 'stream'), data, size=97)
        self.assertEqual(makestream.read_back(read_file(self.snaps('vm2', 'stream')))[1],
                         guest.pages)

    def test_takes_pages_in_any_order(self):
        os.mkdir(self.snaps('vm1'))
        write_stream(self.snaps('vm1', 'stream'), makestream.stream(self.guest, order=11))
        self.check_snapshot()

    def test_is_there_when_the_last_write_returns(self):
        os.mkdir(self.snaps('vm1'))
        fd = open_stream(self.snaps('vm1', 'stream'))
        write_all(fd, self.data)
        self.check_snapshot()
        self.assertTrue(os.path.exists(self.store('vm1', 'snapshot.zst')))
        os.close(fd)
        self.check_snapshot()

    def test_is_not_listed_before(self):
        os.mkdir(self.snaps('vm1'))
        fd = open_stream(self.snaps('vm1', 'stream'))
        write_all(fd, self.data[:-1])
        self.assertEqual(os.listdir(self.snaps('vm1')), ['stream'])
        self.assertEqual(os.stat(self.snaps('vm1', 'stream')).st_size, len(self.data) - 1)
        self.assertFalse(os.path.exists(self.store('vm1', 'snapshot.zst')))
        self.assert_errno(errno.EPROTO, os.close, fd)
        self.wait_gone('vm1', 'stream')

    def test_mv_of_a_torn_one_keeps_its_source(self):
        os.mkdir(self.snaps('vm1'))
        for data in (self.data[:-1], self.data + b'z' * 10, self.data[:-1000]):
            with open(self.path('torn'), 'wb') as file:
                file.write(data)
            done = harness.run('mv', self.path('torn'), self.snaps('vm1', 'stream'))
            self.assertNotEqual(done.returncode, 0)
            self.assertTrue(read_file(self.path('torn')) == data)
            self.wait_gone('vm1', 'stream')

    def test_into_another_file_system_is_refused_at_once(self):
        harness.need_root()
        os.mkdir(self.store('vm1'))
        self.run_ok('mount', '-t', 'tmpfs', 'none', self.store('vm1'))
        self.addCleanup(harness.run, 'umount', '-l', self.store('vm1'))
        fd = open_stream(self.snaps('vm1', 'stream'))
        self.addCleanup(os.close, fd)
        self.assert_errno(errno.EXDEV, os.write, fd, self.data[:4096])
        self.wait_log('is on another file system')

    def test_torn_one_is_gone_and_says_why(self):
        os.mkdir(self.snaps('vm1'))
        self.write_torn(self.snaps('vm1', 'stream'), self.data[:len(self.data) // 2])
        self.wait_gone('vm1', 'stream')
        self.assertEqual(os.listdir(self.snaps('vm1')), [])
        self.wait_log('vm1/stream: not saved')
        self.assertTrue(os.getxattr(self.snaps('vm1'), 'user.snapfs.error'))
        self.check_no_leftovers()
        self.save()
        self.check_snapshot()
        self.assertNotIn('user.snapfs.error', os.listxattr(self.snaps('vm1')))

    def test_keeps_the_old_one_until_the_new_one_is_complete(self):
        self.save()
        ram = open(self.snaps('vm1', 'ram'), 'rb')
        self.addCleanup(ram.close)
        new = makestream.Guest({'pc.ram': 6 * MIB, 'vga.vram': MIB}, seed=2)
        data = makestream.stream(new)
        fd = open_stream(self.snaps('vm1', 'stream'))
        os.ftruncate(fd, 0)
        write_all(fd, data[:-5])
        self.check_snapshot()
        # The kernel knows the two apart: one's size does not become the other's.
        self.assertEqual(os.fstat(fd).st_size, len(data) - 5)
        self.assertNotEqual(os.fstat(fd).st_ino, os.stat(self.snaps('vm1', 'stream')).st_ino)
        write_all(fd, data[-5:])
        os.close(fd)
        self.check_snapshot('vm1', new)
        self.assertTrue(ram.read() == self.guest.flat(), 'who has it open reads the old one')

    def test_torn_one_leaves_the_old_one(self):
        self.save()
        self.write_torn(self.snaps('vm1', 'stream'), self.data[:MIB])
        self.wait_log('not saved')
        self.check_snapshot()
        self.check_no_leftovers()

    def test_replaced_one_gives_its_space_back(self):
        for seed in range(3):
            self.save('vm1', makestream.Guest({'pc.ram': MIB}, seed=seed + 10))
            read_file(self.snaps('vm1', 'ram'))

        def deleted():
            folder = f'/proc/{self.mount.pid}/fd'
            return [n for n in os.listdir(folder)
                    if 'snapshot.zst (deleted)' in readlink(f'{folder}/{n}')]
        harness.wait_until(lambda: not deleted(), 10, 'replaced snapshots are let go')

    def test_removed_one_gives_its_space_back_at_once(self):
        self.save('vm1')
        folder = f'/proc/{self.mount.pid}/fd'
        self.run_ok('rm', '-r', self.snaps('vm1'))
        self.assertEqual([n for n in os.listdir(folder)
                          if 'snapshot.zst (deleted)' in readlink(f'{folder}/{n}')], [])

    def test_verbatim_stream_is_kept_whole(self):
        data = makestream.verbatim_stream()
        os.mkdir(self.snaps('vm1'))
        write_stream(self.snaps('vm1', 'stream'), data)
        self.assertEqual(os.listdir(self.snaps('vm1')), ['stream'])
        self.assertTrue(read_file(self.snaps('vm1', 'stream')) == data)
        self.assertEqual(os.getxattr(self.snaps('vm1', 'stream'), 'user.snapfs.form'),
                         b'verbatim')
        self.assertIn(b'virtio-mem', os.getxattr(self.snaps('vm1'), 'user.snapfs.why'))
        self.assertGreater(os.stat(self.snaps('vm1', 'stream')).st_blocks, 1)

    def test_empty_one_is_an_empty_file(self):
        os.mkdir(self.snaps('vm1'))
        os.close(open_stream(self.snaps('vm1', 'stream')))
        self.assertEqual(os.listdir(self.snaps('vm1')), ['stream'])
        self.assertEqual(os.listxattr(self.snaps('vm1')), [])
        self.assertEqual(read_file(self.snaps('vm1', 'stream')), b'')
        self.run_ok('rm', '-r', self.snaps('vm1'))

    def test_belongs_to_its_maker_as_made(self):
        os.mkdir(self.snaps('vm1'))
        fd = os.open(self.snaps('vm1', 'stream'), os.O_WRONLY | os.O_CREAT, 0o640)
        write_all(fd, self.data)
        os.close(fd)
        for view in ('stream', 'ram', 'devstate'):
            self.assertEqual(os.stat(self.snaps('vm1', view)).st_mode & 0o777, 0o640)
        self.assertEqual(os.stat(self.store('vm1', 'snapshot.zst')).st_mode & 0o777, 0o640)
        write_stream(self.snaps('vm1', 'stream'), self.data)
        self.assertEqual(os.stat(self.snaps('vm1', 'ram')).st_mode & 0o777, 0o640)

    def test_goes_on_when_its_folder_is_renamed(self):
        os.mkdir(self.snaps('vm1'))
        fd = open_stream(self.snaps('vm1', 'stream'))
        write_all(fd, self.data[:MIB])
        os.rename(self.snaps('vm1'), self.snaps('vm2'))
        self.assertEqual(os.listdir(self.snaps('vm2')), ['stream'])
        write_all(fd, self.data[MIB:])
        os.close(fd)
        self.check_snapshot('vm2')

    def test_into_the_root_of_the_mount(self):
        write_stream(self.snaps('stream'), self.data)
        self.check_snapshot('')

    def test_fsync_and_times_and_modes_are_taken(self):
        os.mkdir(self.snaps('vm1'))
        fd = open_stream(self.snaps('vm1', 'stream'))
        write_all(fd, self.data)
        os.fsync(fd)
        os.fdatasync(fd)
        os.fchmod(fd, 0o644)
        os.utime(fd, (1000000000, 1000000000))
        os.close(fd)
        self.assertEqual(os.stat(self.snaps('vm1', 'ram')).st_mtime, 1000000000)
        self.assertEqual(os.stat(self.snaps('vm1', 'ram')).st_mode & 0o777, 0o644)
        self.check_snapshot()


def readlink(path):
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ''


class GarbageTest(FuseCase):
    def write_until_error(self, data):
        fd = open_stream(self.snaps('vm1', 'stream'))
        try:
            for _ in range(2000):
                os.write(fd, data)
        finally:
            os.close(fd)

    def test_is_refused_and_nothing_is_kept(self):
        os.mkdir(self.snaps('vm1'))
        self.assert_errno(errno.EPROTO, self.write_until_error, random.Random(1).randbytes(65536))
        self.wait_gone('vm1', 'stream')
        self.assertEqual(os.listdir(self.snaps('vm1')), [])
        self.check_no_leftovers()
        self.assertIn(b'offset', os.getxattr(self.snaps('vm1'), 'user.snapfs.error').lower())
        lines = [line for line in self.mount.log().splitlines() if 'not saved' in line]
        self.assertEqual(len(lines), 1, lines)
        self.assertIn('vm1/stream', lines[0])

    def test_in_the_middle_names_its_offset(self):
        at = len(self.data) // 2
        os.mkdir(self.snaps('vm1'))
        with self.assertRaises(OSError) as caught:
            fd = open_stream(self.snaps('vm1', 'stream'))
            try:
                write_all(fd, self.data[:at] + b'\xff' * 16 * MIB)
            finally:
                os.close(fd)
        # What stands there may be read as a record of a kind we do not take.
        self.assertIn(caught.exception.errno, (errno.EPROTO, errno.EOPNOTSUPP))
        self.wait_log('vm1/stream: not saved')
        self.check_no_leftovers()

    def test_small_one_may_stand_before_a_stream(self):
        os.mkdir(self.snaps('vm1'))
        write_stream(self.snaps('vm1', 'stream'), b'hello\n')
        self.wait_log('vm1/stream: no migration stream was written')
        self.assertEqual(read_file(self.snaps('vm1', 'stream')), b'hello\n')

    def test_does_not_harm_the_old_one(self):
        self.save()
        self.assert_errno(errno.EPROTO, self.write_until_error, b'no stream at all\n' * 4096)
        self.check_snapshot()


class WritersTest(FuseCase):
    def setUp(self):
        super().setUp()
        os.mkdir(self.snaps('vm1'))
        self.first = open_stream(self.snaps('vm1', 'stream'))
        self.addCleanup(self.close, 'first')

    def close(self, name):
        fd = getattr(self, name)
        setattr(self, name, None)
        if fd is None:
            return
        try:
            os.close(fd)
        except OSError as error:
            # A stream that was left unfinished.
            self.assertEqual(error.errno, errno.EPROTO)

    def test_second_one_may_always_open(self):
        for flags in (os.O_WRONLY, os.O_WRONLY | os.O_DIRECT, os.O_RDWR):
            os.close(open_stream(self.snaps('vm1', 'stream'), flags))
        write_all(self.first, self.data[:MIB])
        for flags in (os.O_WRONLY, os.O_WRONLY | os.O_DIRECT, os.O_RDWR):
            os.close(open_stream(self.snaps('vm1', 'stream'), flags))
        write_all(self.first, self.data[MIB:])
        self.check_snapshot()

    def test_second_one_may_always_open_over_a_snapshot(self):
        write_all(self.first, self.data)
        self.close('first')
        fds = [open_stream(self.snaps('vm1', 'stream'), os.O_WRONLY) for _ in range(4)]
        write_all(fds[0], self.data[:MIB])
        fds += [open_stream(self.snaps('vm1', 'stream'), os.O_WRONLY | os.O_DIRECT)
                for _ in range(4)]
        self.check_snapshot()
        for fd in fds[1:]:
            os.close(fd)
        write_all(fds[0], self.data[MIB:])
        os.close(fds[0])
        self.check_snapshot()

    def test_second_one_may_not_write_or_cut(self):
        write_all(self.first, self.data[:MIB])
        second = open_stream(self.snaps('vm1', 'stream'), os.O_WRONLY)
        self.addCleanup(os.close, second)
        self.assert_errno(errno.EBUSY, os.ftruncate, second, 0)
        self.assert_errno(errno.EBUSY, os.write, second, self.data[:4096])
        self.wait_log('vm1/stream: another process is saving the stream')
        write_all(self.first, self.data[MIB:])
        self.close('first')
        self.check_snapshot()

    def test_second_one_may_not_go_on_where_the_first_stands(self):
        write_all(self.first, self.data[:MIB])
        second = open_stream(self.snaps('vm1', 'stream'), os.O_WRONLY)
        self.addCleanup(os.close, second)
        self.assert_errno(errno.EBUSY, os.pwrite, second, self.data[MIB:MIB + 4096], MIB)
        write_all(self.first, self.data[MIB:])
        self.check_snapshot()

    def test_second_one_may_not_go_on_when_the_first_has_gone(self):
        write_all(self.first, self.data[:MIB])
        second = open_stream(self.snaps('vm1', 'stream'), os.O_WRONLY)
        self.addCleanup(os.close, second)
        self.close('first')
        self.wait_log('vm1/stream: not saved')
        self.assertEqual(os.listdir(self.snaps('vm1')), [])
        self.assert_errno(errno.EPROTO, os.pwrite, second, self.data[MIB:MIB + 4096], MIB)
        self.save('vm1')
        self.check_snapshot()

    def test_second_one_that_comes_too_late_changes_nothing(self):
        """Both have cut the file to write a stream; one is done before the other
        begins. His first bytes are no preamble of the snapshot."""
        second = open_stream(self.snaps('vm1', 'stream'), os.O_WRONLY)
        self.addCleanup(os.close, second)
        os.ftruncate(second, 0)
        write_all(self.first, bytes(4096) + self.data)
        self.assert_errno(errno.EPROTO, os.write, second, self.data[:4096])
        self.close('first')
        self.assertEqual(read_file(self.snaps('vm1', 'preamble')), bytes(4096))

    def test_first_one_may_begin_anew(self):
        write_all(self.first, self.data[:MIB])
        os.ftruncate(self.first, 0)
        os.lseek(self.first, 0, os.SEEK_SET)
        write_all(self.first, self.data)
        self.check_snapshot()
        self.check_no_leftovers()
        self.assertNotIn('not saved', self.mount.log())

    def test_cannot_begin_in_the_middle_or_jump(self):
        self.assert_errno(errno.EINVAL, os.pwrite, self.first, b'x' * 100, 4096)
        self.wait_log('vm1/stream: a write at offset 4096 was refused: the stream continues at offset 0')
        write_all(self.first, self.data[:MIB])
        self.assert_errno(errno.EINVAL, os.pwrite, self.first, b'x' * 100, 2 * MIB)
        self.assert_errno(errno.EINVAL, os.ftruncate, self.first, 4096)
        os.ftruncate(self.first, MIB)
        write_all(self.first, self.data[MIB:])
        self.check_snapshot()

    def test_removed_one_is_dropped(self):
        write_all(self.first, self.data[:MIB])
        os.unlink(self.snaps('vm1', 'stream'))
        self.assertEqual(os.listdir(self.snaps('vm1')), [])
        self.assert_errno(errno.ECANCELED, os.write, self.first, self.data[MIB:MIB + 4096])
        self.wait_log('removed while it was being saved')
        self.check_no_leftovers()
        self.assertEqual(os.listdir(self.store('vm1')), [])
        self.assertNotIn('not saved', self.mount.log())
        os.rmdir(self.snaps('vm1'))
        self.close('first')

    def test_folder_of_a_save_is_not_empty(self):
        write_all(self.first, self.data[:MIB])
        self.assert_errno(errno.ENOTEMPTY, os.rmdir, self.snaps('vm1'))

    def test_writes_after_the_end_are_refused(self):
        write_all(self.first, self.data)
        with self.assertRaises(OSError):
            os.write(self.first, b'more')
        self.check_snapshot()

    def test_two_folders_at_once(self):
        os.mkdir(self.snaps('vm2'))
        second = open_stream(self.snaps('vm2', 'stream'))
        for at in range(0, len(self.data), 100000):
            os.write(self.first, self.data[at:at + 100000])
            os.write(second, self.data[at:at + 100000])
        os.close(second)
        self.check_snapshot('vm1')
        self.check_snapshot('vm2')


class CrowdTest(FuseCase):
    """All at once, in one folder, for a few seconds."""

    def setUp(self):
        super().setUp()
        self.guests = [makestream.Guest({'pc.ram': MIB}, seed=seed) for seed in (20, 21)]
        self.rams = [guest.flat() for guest in self.guests]
        self.save('vm1', self.guests[0])
        self.until = time.monotonic() + 3
        self.wrong = []

    def loop(self, what):
        try:
            while time.monotonic() < self.until and not self.wrong:
                what()
        except Exception as error:  # pylint: disable=broad-except
            self.wrong.append(f'{what.__name__}: {error!r}')

    def test_nobody_is_in_the_way_of_another(self):
        streams = [makestream.stream(guest) for guest in self.guests]

        def save_again():
            write_stream(self.snaps('vm1', 'stream'), streams[0])
            streams.reverse()

        def open_to_write():
            try:
                os.close(open_stream(self.snaps('vm1', 'stream'), os.O_WRONLY))
            except OSError as error:
                # It was replaced twice meanwhile: the kernel tries again once.
                if error.errno != errno.ESTALE:
                    raise

        def read_ram():
            if read_file(self.snaps('vm1', 'ram')) not in self.rams:
                self.wrong.append('ram is neither the old nor the new one')

        def read_stream():
            pages = makestream.read_back(read_file(self.snaps('vm1', 'stream')))[1]
            if pages not in [guest.pages for guest in self.guests]:
                self.wrong.append('stream is neither the old nor the new one')

        def make_folders():
            os.mkdir(self.snaps('vm1', 'sub'))
            os.listdir(self.snaps('vm1'))
            os.rmdir(self.snaps('vm1', 'sub'))

        threads = [threading.Thread(target=self.loop, args=(what,)) for what in (
            save_again, open_to_write, open_to_write, read_ram, read_stream, make_folders)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.wrong, [])


if __name__ == '__main__':
    harness.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""`stream` as a plain file: any bytes may stand before QEMU's, and it may be
opened, read and moved at any time."""
import errno
import os
import random
import signal
import subprocess
import threading

from fusecase import (MIB, QEMU_WRITE, FuseCase, read_file, setUpModule,  # noqa: F401
                      write_all, write_stream)
import harness
import makestream
import mappedram
from mount import Mount

# The first bytes of a stream, but not of a machine or a section.
DECOY = b'no QEVM\0\0\0\3' + b'QEVM\0\0\0\3\7\0\0\0\2\1\1'


class StreamCase(FuseCase):
    def setUp(self):
        super().setUp()
        os.mkdir(self.snaps('vm1'))
        self.stream = self.snaps('vm1', 'stream')

    def open(self, flags=os.O_WRONLY | os.O_CREAT):
        fd = os.open(self.stream, flags | os.O_CLOEXEC, 0o600)
        self.addCleanup(self.close, fd)
        return fd

    def put(self, fd, writes):
        for offset, data in writes:
            self.assertEqual(os.pwrite(fd, data, offset), len(data))

    def check(self, header, guest=None):
        """The bytes before are as they were, and the guest is behind them."""
        guest = guest or self.guest
        data = read_file(self.stream)
        self.assertTrue(data[:len(header)] == header, 'what stands before')
        self.assertEqual(makestream.read_back(data[len(header):])[1], guest.pages)
        self.assertTrue(read_file(self.snaps('vm1', 'ram')) == guest.flat(), 'ram')
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))),
                         ['devstate', 'preamble', 'ram'] if header else ['devstate', 'ram'])
        self.assertEqual(os.listdir(self.store('vm1')), ['snapshot.zst'])
        self.check_no_leftovers()


class HeaderTest(StreamCase):
    HEADERS = (b'X' * 4096, b'one byte less than a page'.ljust(4095, b'.'), b'Q', DECOY,
               random.Random(3).randbytes(300000), b'head' + bytes(100000) + b'tail')

    def test_any_bytes_before_a_stream_come_back(self):
        for header in self.HEADERS:
            for size in (1 << 20, 4096, 1000):
                with self.subTest(header=header[:10], size=size):
                    write_stream(self.stream, header + self.data, size)
                    self.check(header)

    def test_a_border_of_two_writes_may_be_anywhere(self):
        header = b'header'
        for cut in range(1, len(header) + 40):
            fd = self.open(os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for piece in (header[:cut], header[cut:] + self.data[:max(0, cut - len(header))],
                          self.data[max(0, cut - len(header)):]):
                write_all(fd, piece)
            os.close(fd)
            self.check(header)

    def test_a_header_may_be_written_and_closed_before(self):
        for header in self.HEADERS:
            with self.subTest(header=header[:10]):
                if os.path.exists(self.stream):
                    os.unlink(self.stream)
                with open(self.stream, 'wb') as file:
                    file.write(header)
                self.assertTrue(read_file(self.stream)[:len(header)] == header)
                fd = self.open(os.O_WRONLY)
                os.ftruncate(fd, len(header))
                os.lseek(fd, len(header), os.SEEK_SET)
                write_all(fd, self.data)
                os.close(fd)
                self.check(header)

    def test_a_header_lasts_longer_than_a_mount(self):
        write_stream(self.stream, b'X' * 5000)
        self.assertEqual(os.listdir(self.snaps('vm1')), ['stream'])
        self.mount.remount()
        self.assertEqual(os.listdir(self.snaps('vm1')), ['stream'])
        self.assertEqual(os.stat(self.stream).st_size, 5000)
        other = self.enter(Mount(self.store(), self.path('other'), ('ro',)))
        self.assertEqual(read_file(other.path('vm1', 'stream')), b'X' * 5000)
        self.assert_errno(errno.EROFS, os.open, other.path('vm1', 'stream'), os.O_WRONLY)
        image = mappedram.Image(self.guest, 5000)
        fd = self.open(os.O_WRONLY)
        os.ftruncate(fd, 5000)
        self.put(fd, image.writes)
        self.assertTrue(read_file(self.stream) == b'X' * 5000 + image.data[5000:])

    def test_a_header_may_hold_what_looks_like_a_stream_where_it_was_cut(self):
        header = b'X' * 1000 + self.data[:500]
        fd = self.open(os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.ftruncate(fd, len(header))
        os.pwrite(fd, self.data[:QEMU_WRITE], len(header))
        os.pwrite(fd, header, 0)
        os.lseek(fd, len(header) + QEMU_WRITE, os.SEEK_SET)
        write_all(fd, self.data[QEMU_WRITE:])
        self.check(header)

    def test_a_header_that_is_written_last_comes_back_too(self):
        fd = self.open()
        os.ftruncate(fd, 4096)
        os.lseek(fd, 4096, os.SEEK_SET)
        write_all(fd, self.data)
        os.close(fd)
        with open(self.stream, 'r+b') as file:
            file.write(b'Y' * 4096)
        self.assertTrue(read_file(self.stream)[:4096] == b'Y' * 4096)
        self.assertEqual(makestream.read_back(read_file(self.stream)[4096:])[1], self.guest.pages)

    def test_who_wrote_a_header_may_change_it_while_another_saves_and_after(self):
        header = self.open()
        write_all(header, b'X' * 4096)
        fd = self.open(os.O_WRONLY)
        os.lseek(fd, 4096, os.SEEK_SET)
        write_all(fd, self.data[:MIB])
        self.assertEqual(os.pwrite(header, b'Y', 0), 1)
        stranger = self.open(os.O_WRONLY)
        self.assert_errno(errno.EBUSY, os.pwrite, stranger, b'Z', 0)
        write_all(fd, self.data[MIB:])
        self.assertEqual(os.pwrite(header, b'Z', 1), 1)
        self.assert_errno(errno.EPROTO, os.pwrite, stranger, b'Z', 0)
        self.assertEqual(read_file(self.snaps('vm1', 'preamble')), b'YZ' + b'X' * 4094)

    def test_who_wrote_a_header_that_another_cut_off_writes_no_stream_behind_it(self):
        fd = self.open()
        write_all(fd, b'X' * 4096)
        other = self.open(os.O_WRONLY | os.O_TRUNC)
        write_all(other, b'Y' * 4096)
        self.assert_errno(errno.ECANCELED, os.write, fd, self.data[:MIB])
        self.wait_log('vm1/stream: another process has begun it anew')
        write_all(other, self.data)
        self.check(b'Y' * 4096)

    def test_the_header_of_a_snapshot_stays_when_it_is_saved_again_in_place(self):
        header = b'X' * 4096
        write_stream(self.stream, header + self.data)
        other = makestream.Guest({'pc.ram': MIB}, seed=9)
        fd = self.open(os.O_WRONLY)
        os.ftruncate(fd, 4096)
        os.lseek(fd, 4096, os.SEEK_SET)
        write_all(fd, makestream.stream(other))
        self.check(header, other)

    def test_a_header_beside_a_snapshot_does_not_hide_it(self):
        self.save('vm1')
        write_stream(self.stream, b'X' * 4096)
        self.check_snapshot()
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), ['devstate', 'ram'])
        other = makestream.Guest({'pc.ram': MIB}, seed=9)
        fd = self.open(os.O_WRONLY)
        os.ftruncate(fd, 4096)
        os.lseek(fd, 4096, os.SEEK_SET)
        write_all(fd, makestream.stream(other))
        self.check(b'X' * 4096, other)

    def test_a_header_goes_with_the_snapshot_beside_it(self):
        self.save('vm1')
        write_stream(self.stream, b'X' * 4096)
        self.run_ok('rm', '-r', self.snaps('vm1'))
        self.assertFalse(os.path.exists(self.store('vm1')))

    def test_a_header_can_be_removed_and_moved(self):
        write_stream(self.stream, b'X' * 4096)
        self.run_ok('mv', self.stream, self.path('elsewhere'))
        self.assertEqual(read_file(self.path('elsewhere')), b'X' * 4096)
        self.assertEqual(os.listdir(self.store('vm1')), [])

    def test_a_failed_save_leaves_the_header(self):
        write_stream(self.stream, b'X' * 4096)
        fd = self.open(os.O_WRONLY)
        os.ftruncate(fd, 4096)
        os.pwrite(fd, self.data[:5000], 4096)
        self.assert_errno(errno.EPROTO, os.close, fd)
        self.wait_log('vm1/stream: not saved')
        self.wait_header(b'X' * 4096)

    def test_a_failed_save_leaves_no_byte_of_the_stream(self):
        for number, header in enumerate((b'header', b'')):
            fd = self.open()
            write_all(fd, header + self.data[:100], 3)
            self.assert_errno(errno.EPROTO, os.close, fd)
            harness.wait_until(lambda: self.mount.log().count('not saved') > number, 10, 'it fails')
            if header:
                self.wait_header(header)
                os.unlink(self.stream)
            harness.wait_until(lambda: not os.listdir(self.snaps('vm1')), 10, 'nothing is left')

    def wait_header(self, header):
        """The kernel tells a moment after the close that nobody has the file open; until
        then it reads as a save that has failed."""
        def reads():
            try:
                return read_file(self.stream) == header
            except OSError as error:
                self.assertEqual(error.errno, errno.EIO)
                return False
        harness.wait_until(reads, 10, 'the header')

    def test_bytes_that_arrive_before_the_beginning_are_not_lost_silently(self):
        image = mappedram.Image(self.guest, 4096)
        fd = self.open(os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.pwrite(fd, b'X' * 4096, 0)
        os.pwrite(fd, image.data[MIB:2 * MIB], MIB)
        self.assert_errno(errno.EINVAL, os.pwrite, fd, image.data[4096:MIB], 4096)
        self.wait_log('the beginning of the stream was written after')


class ReaderTest(StreamCase):
    """A file of `self.data`, which is read before, while and after it comes."""

    def setUp(self):
        super().setUp()
        self.answers = {}

    def read_later(self, name, fd, size=10, offset=0):
        """Reads in a thread, which may wait."""
        def run():
            try:
                self.answers[name] = os.pread(fd, size, offset)
            except OSError as error:
                self.answers[name] = error.errno
        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join)
        return thread

    def test_opened_before_a_save_it_reads_the_snapshot_after_it(self):
        write_stream(self.stream, b'X' * 4096)
        reader = self.open(os.O_RDONLY)
        self.assertEqual(os.pread(reader, 10, 4090), b'X' * 6)
        write_stream(self.stream, b'X' * 4096 + self.data)
        self.assertTrue(os.pread(reader, 5000, 4096) == self.data[:5000])

    def test_opened_during_a_save_it_waits_for_the_snapshot(self):
        fd = self.open()
        write_all(fd, self.data[:MIB])
        reader, writer = self.open(os.O_RDONLY), self.open(os.O_RDWR)
        threads = [self.read_later(name, one) for name, one in
                   (('reader', reader), ('writer', writer))]
        write_all(fd, self.data[MIB:])
        for thread in threads:
            thread.join()
        self.assertEqual(self.answers, {'reader': self.data[:10], 'writer': self.data[:10]})

    def test_of_two_that_are_open_to_write_and_read_one_reads_what_the_other_wrote(self):
        one, two = self.open(os.O_RDWR | os.O_CREAT), self.open(os.O_RDWR | os.O_CREAT)
        self.assertEqual(os.read(two, 10), b'')
        write_all(one, self.data)
        self.assertEqual(os.read(two, 10), self.data[:10])
        os.close(one)
        self.assertEqual(os.read(two, 10), self.data[10:20])

    def test_an_older_snapshot_is_read_while_a_newer_one_comes(self):
        self.save('vm1')
        old = read_file(self.stream)
        other = makestream.Guest({'pc.ram': MIB}, seed=9)
        data = makestream.stream(other)
        fd = self.open(os.O_WRONLY)
        write_all(fd, data[:-100])
        second = self.open(os.O_RDWR)
        self.assertTrue(read_file(self.stream) == old)
        self.assertTrue(os.pread(second, 1000, 5000) == old[5000:6000])
        write_all(fd, data[-100:])
        # It has begun to read the older one, and does not mix the two.
        self.assertTrue(os.pread(second, 1000, 6000) == old[6000:7000])
        self.assertEqual(makestream.read_back(read_file(self.stream))[1], other.pages)

    def test_what_has_just_been_saved_is_read_while_another_saves_again(self):
        one = self.open()
        write_all(one, self.data[:MIB])
        # All three join the stream that is on its way.
        two, readers = self.open(os.O_RDWR), [self.open(os.O_RDONLY) for _ in range(4)]
        write_all(one, self.data[MIB:])
        whole = read_file(self.stream)
        os.ftruncate(two, 0)
        self.assertTrue(os.pread(readers[0], 5000, 0) == whole[:5000])
        self.assertEqual(os.pread(two, 10, 0), b'')
        write_all(two, self.data[:MIB])
        self.assertTrue(os.pread(readers[1], 5000, 0) == whole[:5000])
        os.close(one)
        self.assert_errno(errno.EPROTO, os.close, two)
        self.wait_log('vm1/stream: not saved')
        self.assertTrue(os.pread(readers[2], 5000, MIB) == whole[MIB:MIB + 5000])
        write_stream(self.stream, makestream.stream(makestream.Guest({'pc.ram': MIB}, seed=9)))
        self.assertTrue(os.pread(readers[0], 5000, MIB) == whole[MIB:MIB + 5000])
        # It has read nothing so far, and the snapshot is another.
        self.assert_errno(errno.ESTALE, os.pread, readers[3], 10, 0)

    def test_a_header_is_read_when_the_snapshot_beside_it_was_removed(self):
        self.save('vm1')
        fd = self.open(os.O_WRONLY | os.O_TRUNC)
        write_all(fd, b'X' * 5000)
        os.unlink(self.stream)
        self.assertEqual(read_file(self.stream), b'X' * 5000)

    def test_one_that_waits_for_a_save_that_fails_is_told(self):
        fd = self.open()
        write_all(fd, self.data[:MIB])
        thread = self.read_later('reader', self.open(os.O_RDONLY))
        self.assert_errno(errno.EPROTO, os.close, fd)
        thread.join()
        self.assertEqual(self.answers['reader'], errno.EIO)

    def test_its_own_writer_does_not_wait_for_himself(self):
        fd = self.open(os.O_RDWR | os.O_CREAT)
        write_all(fd, self.data[:MIB])
        self.assert_errno(errno.EBUSY, os.pread, fd, 10, 0)
        write_all(fd, self.data[MIB:])
        self.assertEqual(os.pread(fd, 10, 0), self.data[:10])

    def waiters(self, count):
        """Processes that read `stream`, and wait."""
        return [self.start_process('head', '-c', '10', self.stream, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL) for _ in range(count)]

    def wait_asleep(self, processes):
        """Until each waits for the answer to its read."""
        def asleep():
            for process in processes:
                with open(f'/proc/{process.pid}/stack') as stack:
                    if 'fuse_direct_io' not in stack.read():
                        return False
            return True
        try:
            harness.wait_until(asleep, 20, 'all wait')
        except PermissionError:
            raise harness.Missing('the kernel does not show where a process waits') from None

    def test_many_that_wait_hold_up_nobody(self):
        harness.need_root()
        fd = self.open()
        write_all(fd, self.data[:MIB])
        waiters = self.waiters(24)   # more than threads that serve
        self.wait_asleep(waiters)
        os.mkdir(self.snaps('vm2'))
        write_stream(self.snaps('vm2', 'stream'), self.data)
        self.check_snapshot('vm2')
        write_all(fd, self.data[MIB:])
        for process in waiters:
            self.assertEqual(process.communicate()[0], self.data[:10])

    def test_a_signal_ends_the_wait(self):
        harness.need_root()
        fd = self.open()
        write_all(fd, self.data[:MIB])
        waiters = self.waiters(3)
        self.wait_asleep(waiters)
        for process, number in zip(waiters, (signal.SIGTERM, signal.SIGKILL, signal.SIGINT)):
            process.send_signal(number)
            process.wait(20)
        write_all(fd, self.data[MIB:])
        self.check_snapshot()

    def test_the_end_of_the_mount_ends_the_wait(self):
        harness.need_root()
        fd = self.open()
        write_all(fd, self.data[:MIB])
        waiters = self.waiters(2)
        self.wait_asleep(waiters)
        self.mount.process.send_signal(signal.SIGTERM)
        for process in waiters:
            self.assertNotEqual(process.wait(20), 0)
        self.close(fd)
        self.assertEqual(self.mount.process.wait(20), 0)
        self.mount.process = None


class MoveTest(StreamCase):
    def put_file(self, data):
        path = self.snaps('vm1', 'new')
        with open(path, 'wb') as file:
            file.write(data)
        return path

    def test_a_whole_stream_is_a_snapshot_when_the_move_returns(self):
        for header in (b'', b'X' * 4096):
            os.rename(self.put_file(header + self.data), self.stream)
            self.check(header)
            self.mount.remount()
            self.check(header)

    def test_a_sparse_mapped_ram_file_is_moved(self):
        image = mappedram.Image(self.guest, 4096)
        path = self.put_file(b'')
        with open(path, 'r+b') as file:
            self.put(file.fileno(), [(0, b'X' * 4096), *image.writes])
            os.utime(file.fileno(), (1000, 2000))
        os.rename(path, self.stream)
        self.assertTrue(read_file(self.stream) == b'X' * 4096 + image.data[4096:])
        self.assertTrue(read_file(self.snaps('vm1', 'ram')) == self.guest.flat())
        self.assertEqual(os.stat(self.stream).st_mtime, 2000)
        self.assertEqual(os.listdir(self.store('vm1')), ['snapshot.zst'])

    def test_an_older_snapshot_is_replaced(self):
        self.save('vm1', makestream.Guest({'pc.ram': MIB}, seed=9))
        self.run_ok('mv', self.put_file(self.data), self.stream)
        self.check(b'')

    def test_from_another_folder_it_is_copied(self):
        os.mkdir(self.snaps('other'))
        path = self.snaps('other', 'file')
        with open(path, 'wb') as file:
            file.write(b'X' * 4096 + self.data)
        self.assert_errno(errno.EXDEV, os.rename, path, self.stream)
        self.run_ok('mv', path, self.stream)
        self.check(b'X' * 4096)
        self.assertEqual(os.listdir(self.snaps('other')), [])

    def test_a_torn_stream_stays_where_it_was(self):
        self.save('vm1')
        path = self.put_file(b'X' * 4096 + self.data[:-5000])
        self.assert_errno(errno.EPROTO, os.rename, path, self.stream)
        self.wait_log('vm1/stream: not saved')
        self.assertTrue(read_file(path) == b'X' * 4096 + self.data[:-5000])
        os.unlink(path)
        self.check_snapshot()

    def test_a_file_without_a_stream_is_a_header(self):
        os.rename(self.put_file(b'X' * 4096), self.stream)
        self.assertEqual(read_file(self.stream), b'X' * 4096)
        fd = self.open(os.O_WRONLY)
        os.ftruncate(fd, 4096)
        os.lseek(fd, 4096, os.SEEK_SET)
        write_all(fd, self.data)
        self.check(b'X' * 4096)

    def test_a_long_file_without_a_stream_is_refused(self):
        path = self.put_file(b'X' * (17 * MIB))
        self.assert_errno(errno.EPROTO, os.rename, path, self.stream)
        self.wait_log('vm1/stream: no migration stream begins in the first 16 MiB of the file')

    def test_while_a_stream_is_written_nothing_takes_its_name(self):
        path = self.put_file(b'X' * 4096)
        fd = self.open()
        write_all(fd, self.data[:MIB])
        self.assert_errno(errno.EBUSY, os.rename, path, self.stream)
        write_all(fd, self.data[MIB:])
        os.close(fd)
        self.assertEqual(read_file(path), b'X' * 4096)
        os.unlink(path)
        self.check_snapshot()

    def test_a_file_that_takes_the_name_in_the_store_is_not_removed(self):
        write_stream(self.stream, b'Y' * 4096)
        fd = self.open(os.O_WRONLY)
        os.ftruncate(fd, 4096)
        os.lseek(fd, 4096, os.SEEK_SET)
        write_all(fd, self.data[:MIB])
        with open(self.store('vm1', 'other'), 'wb') as file:
            file.write(b'X' * 100)
        os.rename(self.store('vm1', 'other'), self.store('vm1', 'stream'))
        write_all(fd, self.data[MIB:])
        os.close(fd)
        self.assertEqual(read_file(self.store('vm1', 'stream')), b'X' * 100)

    def test_a_move_that_may_not_replace_does_not(self):
        self.save('vm1')
        path = self.put_file(self.data)
        self.run_ok('mv', '-n', path, self.stream)
        self.assertTrue(os.path.exists(path))


class Opened(FuseCase):
    def test_one_that_is_open_and_not_written_to_keeps_no_folder(self):
        self.save('vm1')
        fd = os.open(self.snaps('vm1', 'stream'), os.O_RDWR)
        self.addCleanup(os.close, fd)
        self.run_ok('rm', '-r', self.snaps('vm1'))
        with self.assertRaises(OSError):
            os.write(fd, b'QEVM')


if __name__ == '__main__':
    harness.main()

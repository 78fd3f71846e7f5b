#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams written at any offset (mapped-ram), and those that begin somewhere
in their file: behind a hole, or behind what libvirt writes."""
import errno
import mmap
import os
import random
import struct
import threading
import time

from fusecase import MIB, FuseCase, read_file, setUpModule, write_all, write_stream  # noqa: F401
import harness
import makestream
import mappedram


class ScatteredCase(FuseCase):
    """mapped-ram: written at any offset, by any number of writers."""
    begin = 0

    def setUp(self):
        super().setUp()
        os.mkdir(self.snaps('vm1'))
        self.image = mappedram.Image(self.guest, self.begin)
        self.main = self.open_channel()

    def open_channel(self, flags=os.O_WRONLY | os.O_CREAT, view='stream'):
        fd = os.open(self.snaps('vm1', view), flags | os.O_CLOEXEC, 0o600)
        self.addCleanup(self.close, fd)
        return fd

    def put(self, writes, fd=None):
        for offset, data in writes:
            self.assertEqual(os.pwrite(fd or self.main, data, offset), len(data))

    def check_image(self):
        self.assertTrue(read_file(self.snaps('vm1', 'stream')) == self.image.data, 'stream')
        self.assertEqual(os.getxattr(self.snaps('vm1'), 'user.snapfs.form'), b'mapped-ram')
        self.assertTrue(read_file(self.snaps('vm1', 'ram')) == self.guest.flat(), 'ram')
        self.assertTrue(read_file(self.snaps('vm1', 'mapped')) ==
                        mappedram.Image(self.guest).data, 'mapped')


class ScatteredTest(ScatteredCase):
    def test_as_qemu_writes_it(self):
        os.ftruncate(self.main, 0)
        self.put(self.image.writes)
        self.check_image()

    def test_by_several_in_any_order(self):
        for seed in range(4):
            main = self.open_channel()
            os.ftruncate(main, 0)
            self.put(self.image.stream[:-2], main)
            channels = [self.open_channel(os.O_WRONLY | flags) for flags in (0, os.O_DIRECT)]
            pages = list(self.image.pages)
            random.Random(seed).shuffle(pages)
            threads = [threading.Thread(target=self.put, args=(pages[i::2], channels[i]))
                       for i in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for fd in channels:
                os.close(fd)
            self.put(self.image.bitmaps + self.image.stream[-2:], main)
            os.close(main)
            self.check_image()

    def test_first_to_close_does_not_end_it(self):
        other = self.open_channel(os.O_WRONLY)
        self.put(self.image.stream[:-2] + self.image.bitmaps + self.image.stream[-2:])
        os.close(self.main)
        time.sleep(0.1)
        self.put(self.image.pages, other)
        os.close(other)
        harness.wait_until(lambda: os.path.exists(self.store('vm1', 'snapshot.zst')), 10, 'it')
        self.check_image()

    def test_size_is_where_it_reaches(self):
        self.put(self.image.stream[:-2])
        end = max(offset + len(data) for offset, data in self.image.stream[:-2])
        self.put(self.image.pages[:1])
        self.assertEqual(os.fstat(self.main).st_size, end)
        self.assertEqual(os.stat(self.snaps('vm1', 'stream')).st_size, end)

    def test_background_snapshot_never_writes_bitmaps(self):
        self.put(self.image.stream[:-2] + self.image.pages + self.image.stream[-2:])
        self.check_image()

    def test_written_from_front_to_back(self):
        write_stream(self.snaps('vm1', 'stream'), self.image.data, 4 * MIB)
        self.check_image()

    def test_second_one_cannot_begin_anew(self):
        self.put(self.image.stream[:-2])
        second = self.open_channel(os.O_WRONLY)
        self.assert_errno(errno.EBUSY, os.ftruncate, second, 0)
        self.wait_log('vm1/stream: another process is saving the stream')
        self.put(self.image.pages + self.image.bitmaps + self.image.stream[-2:])
        self.check_image()

    def test_channels_of_one_that_was_begun_anew_write_no_page_of_the_next(self):
        channel = self.open_channel(os.O_WRONLY)
        self.put(self.image.stream[:-2])
        self.put(self.image.pages[:1], channel)
        os.ftruncate(self.main, 0)
        self.put(self.image.stream[:-2])
        self.assert_errno(errno.ECANCELED, self.put, self.image.pages[1:2], channel)
        self.put(self.image.pages + self.image.bitmaps + self.image.stream[-2:])
        self.check_image()

    def test_second_one_cannot_write_its_own_beginning(self):
        self.put(self.image.stream[:-2])
        second = self.open_channel(os.O_WRONLY)
        self.assert_errno(errno.EBUSY, self.put, self.image.stream[:1], second)
        self.put(self.image.pages + self.image.bitmaps + self.image.stream[-2:])
        self.check_image()

    def test_torn_one_leaves_the_old_one(self):
        self.save('vm1')
        main = self.open_channel()
        os.ftruncate(main, 0)
        self.put(self.image.stream[:-2] + self.image.pages, main)
        # QEMU would abort if the close failed.
        os.close(main)
        self.wait_log('vm1/stream: not saved')
        self.assertTrue(os.getxattr(self.snaps('vm1'), 'user.snapfs.error'))
        self.check_snapshot()
        self.check_no_leftovers()

    def test_where_nothing_belongs(self):
        self.put(self.image.stream[:-2])
        self.assertEqual(self.wait_error(os.pwrite, self.main, b'x' * 4096,
                                         self.image.size + 64 * MIB), errno.EPROTO)
        self.wait_log('vm1/stream: not saved: offset')
        self.assertEqual(os.listxattr(self.snaps('vm1')), ['user.snapfs.error'])

    def test_between_a_header_and_its_bitmap_are_zeros(self):
        image = mappedram.Image(self.guest, gap=64)
        gap = image.places['pc.ram'][0] - 32
        bad = bytearray(image.data)
        bad[gap] = 1
        for size in (4 * MIB, 50):
            write_stream(self.snaps('vm1', 'stream'), image.data, 4 * MIB)
            self.check_ram()
            fd = self.open_channel(os.O_WRONLY | os.O_TRUNC)
            why = f'vm1/stream: not saved: offset {gap}: expected zeros'
            failed = self.mount.log().count(why)
            with self.assertRaises(OSError) as caught:
                for at in range(0, 200 * size, size):
                    os.pwrite(fd, bad[at:at + size], at)
                # A write is acknowledged before it is looked at.
                harness.wait_until(lambda n=failed: self.mount.log().count(why) > n, 10, why)
                os.pwrite(fd, bad[:size], 0)
            self.assertEqual(caught.exception.errno, errno.EPROTO)
            self.check_ram()

    def check_devstate(self):
        devstate = read_file(self.snaps('vm1', 'devstate'))
        self.assertTrue(devstate.endswith(makestream.device_state()), 'devstate ends as it should')

    def check_ram(self):
        self.assertTrue(read_file(self.snaps('vm1', 'ram')) == self.guest.flat(), 'ram')

    def test_block_without_pages(self):
        self.guest = makestream.Guest({'pc.ram': MIB, 'empty': 0, 'vga.vram': MIB}, seed=3)
        self.image = mappedram.Image(self.guest)
        write_stream(self.snaps('vm1', 'stream'), self.image.data, 4 * MIB)
        self.check_image()

    def test_as_mapped_it_says_nothing_of_stream(self):
        main = self.open_channel(view='mapped')
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), ['mapped', 'stream'])
        os.close(self.main)
        os.unlink(self.snaps('vm1', 'stream'))
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), ['mapped'])
        self.put(self.image.writes, main)
        self.assertEqual(os.getxattr(self.snaps('vm1'), 'user.snapfs.form'), b'mapped-ram')
        self.check_ram()
        self.check_devstate()
        for view in ('mapped', 'stream'):
            self.assertTrue(read_file(self.snaps('vm1', view)) == self.image.data, view)

    def test_classic_stream_as_mapped(self):
        write_stream(self.snaps('vm1', 'mapped'), self.data)
        self.check_snapshot()


class HoleTest(ScatteredCase):
    """QEMU's file:PATH,offset=N: the stream begins behind N bytes."""
    begin = 0x1234

    def test_cut_to(self):
        for _ in range(2):
            os.ftruncate(self.main, self.begin)
            self.assertEqual(os.fstat(self.main).st_size, self.begin)
        self.put(self.image.writes)
        self.check_image()

    def test_before_a_classic_stream(self):
        os.ftruncate(self.main, self.begin)
        os.lseek(self.main, self.begin, os.SEEK_SET)
        write_all(self.main, self.data)
        data = read_file(self.snaps('vm1', 'stream'))
        self.assertEqual(data[:self.begin], bytes(self.begin))
        self.assertEqual(makestream.read_back(data[self.begin:])[1], self.guest.pages)

    def test_far_into_its_file(self):
        at = 1 << 45
        os.ftruncate(self.main, at)
        os.pwrite(self.main, self.data, at)
        os.close(self.main)
        fd = os.open(self.snaps('vm1', 'stream'), os.O_WRONLY)
        self.assert_errno(errno.EINVAL, os.pwrite, fd, b'x', 0)
        os.close(fd)
        self.wait_log('vm1/stream: the preamble is too long to be changed')

    def test_written_zeros_are_a_hole_as_well(self):
        for size in (1000, 4096, 100000, 4 * MIB):
            write_stream(self.snaps('vm1', 'stream'), self.image.data, size)
            self.check_image()

    def test_skipped_zeros_are_a_hole_as_well(self):
        os.ftruncate(self.main, 0)
        at = 4096
        os.lseek(self.main, at, os.SEEK_SET)
        write_all(self.main, self.image.data[at:], 8 * MIB)
        self.check_image()

    def test_lengthened_before_it_is_written(self):
        os.ftruncate(self.main, self.image.size)
        write_all(self.main, self.image.data, MIB)
        self.assertEqual(os.fstat(self.main).st_size, self.image.size)
        os.ftruncate(self.main, self.image.size)
        self.check_image()

    def test_nothing_but_zeros(self):
        os.write(self.main, bytes(70000))
        self.assertEqual(os.fstat(self.main).st_size, 70000)
        os.close(self.main)
        self.wait_log('vm1/stream: no migration stream was written')
        # QEMU opens it without O_CREAT when it has the file by a descriptor.
        fd = self.open_channel(os.O_WRONLY)
        self.assertEqual(os.fstat(fd).st_size, 70000)
        self.assertEqual(read_file(self.snaps('vm1', 'stream')), bytes(70000))

    def test_zeros_without_end(self):
        with self.assertRaises(OSError) as caught:
            for _ in range(100):
                os.write(self.main, bytes(MIB))
        self.assertEqual(caught.exception.errno, errno.EPROTO)


def libvirt_head(size=70000, magic=b'LibvirtQemudSave', text='<domain/>', kind=0):
    """What libvirt writes before a stream."""
    xml = text.encode() + b'\0'
    data = magic + struct.pack('<IIIII', 2, size - 92, 0, kind, 0) + bytes(56) + xml
    return data + bytes(size - len(data))


class LibvirtTest(FuseCase):
    """Save images of libvirt, and what it does to them."""
    SIZE = 67388

    def setUp(self):
        super().setUp()
        os.mkdir(self.snaps('vm1'))
        self.path_ = self.snaps('vm1', 'stream')
        self.part = libvirt_head(self.SIZE, b'LibvirtQemudPart')
        self.head = libvirt_head(self.SIZE)

    def open(self, flags=os.O_WRONLY):
        fd = os.open(self.path_, flags | os.O_CLOEXEC, 0o600)
        self.addCleanup(self.close, fd)
        return fd

    def close(self, fd):
        try:
            os.close(fd)
        except OSError as error:
            self.assertEqual(error.errno, errno.EBADF)

    def save_raw(self, flags=0):
        """As its iohelper does: one writer, blocks of 1 MiB."""
        fd = self.open(os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flags)
        self.assertEqual(os.fstat(fd).st_size, 0)
        data = self.part + self.data
        padded = data + bytes(-len(data) % 65536) if flags & os.O_DIRECT else data
        buffer = mmap.mmap(-1, MIB)
        for at in range(0, len(padded), MIB):
            piece = padded[at:at + MIB]
            buffer[:len(piece)] = piece
            self.assertEqual(os.write(fd, memoryview(buffer)[:len(piece)]), len(piece))
        if flags & os.O_DIRECT:
            os.ftruncate(fd, len(data))
        os.fdatasync(fd)
        self.assertEqual(os.fstat(fd).st_size, len(data))
        os.close(fd)

    def finish(self):
        fd = self.open()
        self.assertEqual(os.write(fd, self.head[:92]), 92)
        os.close(fd)

    def check_image(self, head):
        data = read_file(self.path_)
        self.assertTrue(data[:len(head)] == head, 'what stands before')
        self.assertEqual(makestream.read_back(data[len(head):])[1], self.guest.pages)
        self.assertTrue(read_file(self.snaps('vm1', 'ram')) == self.guest.flat())

    def test_raw_with_and_without_bypass_cache(self):
        for flags in (0, os.O_DIRECT, 0):
            self.save_raw(flags)
            self.check_image(self.part)
            self.finish()
            self.check_image(self.head)
        self.mount.remount()
        self.check_image(self.head)

    def test_reader_keeps_what_it_opened(self):
        self.save_raw()
        reader = open(self.path_, 'rb', buffering=0)
        self.addCleanup(reader.close)
        self.assertEqual(reader.read(92), self.part[:92])
        self.finish()
        self.assertEqual(os.pread(reader.fileno(), 92, 0), self.part[:92])
        self.check_image(self.head)

    def test_sparse(self):
        """libvirt closes its own descriptor behind the prefix; QEMU has the same
        open file and never closes it."""
        image = mappedram.Image(self.guest, self.SIZE)
        fd = self.open(os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        head = libvirt_head(self.SIZE, b'LibvirtQemudPart', kind=6)
        for begin, end in ((0, 92), (92, 102), (102, self.SIZE)):
            os.write(fd, head[begin:end])
        os.close(os.dup(fd))
        direct = self.open(os.O_WRONLY | os.O_DIRECT)
        os.close(os.dup(direct))
        os.ftruncate(fd, self.SIZE)
        self.assertEqual(os.lseek(fd, 0, os.SEEK_CUR), self.SIZE)
        for offset, data in image.stream[:-2] + image.bitmaps:
            os.pwrite(fd, data, offset)
        for offset, data in image.pages:
            os.pwrite(direct, data, offset)
        for offset, data in image.stream[-2:]:
            os.pwrite(fd, data, offset)
        self.head = libvirt_head(self.SIZE, kind=6)
        self.finish()
        data = read_file(self.path_)
        self.assertTrue(data == self.head + image.data[self.SIZE:])
        # The next save to the same path does not mind them.
        self.save_raw()
        self.check_image(self.part)

    def test_edited_in_place(self):
        self.save_raw()
        self.finish()
        fd = self.open(os.O_RDWR)
        self.assertEqual(os.fstat(fd).st_size, os.stat(self.path_).st_size)
        self.assertTrue(os.pread(fd, self.SIZE, 0) == self.head)
        new = libvirt_head(self.SIZE, text='<domain type="another"/>')
        at = 0
        for size in (92, 25, 300, len(new) - 417):
            at += os.write(fd, new[at:at + size])
        self.assertTrue(os.pread(fd, self.SIZE + 8, 0) == new + self.data[:8])
        os.close(fd)
        self.check_image(new)

    def test_by_who_wrote_the_stream(self):
        fd = self.open(os.O_WRONLY | os.O_CREAT)
        write_all(fd, self.part + self.data)
        os.pwrite(fd, self.head[:92], 0)
        os.close(fd)
        self.check_image(self.head)

    def test_elsewhere_is_refused(self):
        self.save_raw()
        fd = self.open()
        for offset, size in ((self.SIZE, 10), (self.SIZE - 5, 10), (MIB, 100)):
            self.assert_errno(errno.EINVAL, os.pwrite, fd, b'x' * size, offset)
        self.wait_log('vm1/stream: only the preamble of a snapshot can be changed')
        os.close(fd)
        self.check_image(self.part)

    def test_whole_one_is_a_new_save(self):
        self.save_raw()
        self.finish()
        for cut in (True, False):
            self.guest = makestream.Guest({'pc.ram': MIB}, seed=40 + cut)
            data = self.part + makestream.stream(self.guest)
            fd = self.open(os.O_WRONLY | (os.O_TRUNC if cut else 0))
            write_all(fd, data)
            os.ftruncate(fd, len(data))
            os.close(fd)
            self.check_image(self.part)
        self.assertFalse(os.path.exists(self.store('vm1', 'snapshot.head')))

    def test_cut_before_means_a_new_save(self):
        self.save_raw()
        fd = self.open(os.O_WRONLY | os.O_TRUNC)
        write_all(fd, self.head, 1000)
        self.check_image(self.part)
        write_all(fd, self.data)
        os.close(fd)
        self.check_image(self.head)

    def test_copies_keep_it(self):
        self.save_raw()
        self.finish()
        self.run_ok('cp', '-a', self.snaps('vm1'), self.snaps('vm2'))
        self.assertTrue(read_file(self.snaps('vm2', 'stream')) == read_file(self.path_))
        for view in ('ram', 'devstate', 'preamble', 'mapped'):
            self.assertTrue(read_file(self.snaps('vm2', view)) == read_file(self.snaps('vm1', view)))


if __name__ == '__main__':
    harness.main()

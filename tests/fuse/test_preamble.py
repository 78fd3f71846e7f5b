#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands before QEMU's stream in the file `stream`: kept, shown, and written
again by libvirt when the snapshot is long there."""
import errno
import hashlib
import os
import struct

from fusecase import VIEWS, FuseCase, read_file, setUpModule, write_all  # noqa: F401
import harness
import makestream
import mappedram
from mappedram import LIBVIRT

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'golden', 'image', 'good')
BEFORE = 6000


def flip(path, at):
    """Flips a bit of a file."""
    with open(path, 'r+b') as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


class GoldenTest(FuseCase):
    """A snapshot that was saved as mapped-ram behind libvirt's header, made by
    tests/golden/make-image.c: its files are the same for ever."""
    SUMS = {'stream': '4b8aa809843d37dafcf3c6e4f07312e0a9668c9d0222a7122eeb324780778c86',
            'mapped': '5216cde504f5dbfb27379970513353d37cac849eb8fed30be5170a4079a25113',
            'devstate': '8cdb99dbb8873750ae0ab78e94c682d7ff329c0abc055baad21ef75eb5a24041',
            'ram': '25abb6cf56acded3d49b59e7a93b97ca70e3b32479fe0249b56e7d3da0cc941e'}

    def setUp(self):
        super().setUp()
        os.mkdir(self.store('vm1'))
        with open(self.store('vm1', 'snapshot.zst'), 'wb') as file:
            file.write(read_file(os.path.join(GOLDEN, 'mapped-ram.zst')))
        self.uuid = b'golden-snapshot\0'
        self.stream = self.snaps('vm1', 'stream')
        self.whole = read_file(self.stream)

    def check_views(self, *views):
        for view in views or self.SUMS:
            self.assertEqual(hashlib.sha256(read_file(self.snaps('vm1', view))).hexdigest(),
                             self.SUMS[view], view)

    def write_head(self, content, uuid=None):
        """The side file as snapfs-format(5) has it, in its place at once."""
        head = b'snapfsHD' + (uuid or self.uuid) + struct.pack('<I', len(content))
        self.put_head(head + struct.pack('<I', mappedram.crc32c(head + content)) + content)

    def write_head_with_a_flipped_uuid(self):
        self.write_head(self.whole[:BEFORE])
        flip(self.store('vm1', 'snapshot.head'), 8)

    def put_head(self, data):
        with open(self.store('vm1', 'new'), 'wb') as file:
            file.write(data)
        os.rename(self.store('vm1', 'new'), self.store('vm1', 'snapshot.head'))

    def test_its_views_are_the_same_for_ever(self):
        self.check_views()
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), ['devstate', 'preamble', 'ram'])
        self.assertEqual(os.getxattr(self.stream, 'user.snapfs.form'), b'mapped-ram')
        self.assertEqual(os.getxattr(self.stream, 'user.snapfs.preamble'), b'6000')

    def test_stream_is_the_mapped_ram_file_where_it_began(self):
        reader = mappedram.Reader(lambda at, size: self.whole[at:at + size], BEFORE)
        plain = read_file(self.snaps('vm1', 'mapped'))
        other = mappedram.Reader(lambda at, size: plain[at:at + size])
        self.assertEqual(reader.sizes, {'pc.ram': 3 << 20, 'a': 65536})
        self.assertEqual(reader.stored('pc.ram'),
                         [0, 1, 2, 63, 64, 200, 300, 301, 302, 303, 304, 512, 513, 514])
        self.assertEqual(reader.stored('a'), [15])
        for name in reader.sizes:
            self.assertTrue(reader.pages(name) == other.pages(name))
        self.assertEqual(self.whole[reader.tail_at:], plain[other.tail_at:])
        fd = os.open(self.stream, os.O_RDONLY)
        self.addCleanup(os.close, fd)
        self.assertEqual(mappedram.data_of(fd), reader.data(len(self.whole)))

    def test_side_file_counts_for_what_stands_before(self):
        content = b'LibvirtQemudSave' + self.whole[16:BEFORE - 3] + b'end'
        kept = os.open(self.stream, os.O_RDONLY)
        for edit in (content, content.replace(b'golden', b'edited')):
            self.write_head(edit)
            self.assertTrue(read_file(self.stream) == edit + self.whole[BEFORE:])
            self.check_views('mapped', 'ram', 'devstate')
            self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), ['devstate', 'preamble', 'ram'])
        self.assertTrue(os.pread(kept, 9000, 0) == self.whole[:9000])
        os.close(kept)
        tool = harness.build_path('tools', 'snapfs')
        self.assertRegex(self.run_ok(tool, 'info', self.store(), 'vm1'),
                         r"Preamble: +5\.86 KiB, libvirt's header, complete, rewritten after the save")
        self.run_ok(tool, 'verify', self.store())
        os.rename(self.snaps('vm1'), self.snaps('vm2'))
        self.assertTrue(read_file(self.snaps('vm2', 'stream'))[:BEFORE] == edit)
        self.mount.remount()
        self.assertTrue(read_file(self.snaps('vm2', 'stream'))[:BEFORE] == edit)
        self.run_ok('rm', '-r', self.snaps('vm2'))
        self.assertEqual(os.listdir(self.store()), ['.snapfs'])

    def test_side_file_of_another_snapshot_does_not_count(self):
        self.write_head(bytes(BEFORE), uuid=b'another snapshot')
        self.check_views()

    def test_damaged_side_file_is_an_error_where_it_is_read(self):
        tool = harness.build_path('tools', 'snapfs')
        for write in (lambda: self.put_head(b'x'), lambda: self.put_head(b''),
                      lambda: self.write_head(b'too short'),
                      lambda: self.write_head(bytes(BEFORE + 1)),
                      self.write_head_with_a_flipped_uuid):
            write()
            fd = os.open(self.stream, os.O_RDONLY | os.O_DIRECT)
            self.assert_errno(errno.EIO, os.pread, fd, 10, 0)
            self.assert_errno(errno.EIO, os.pread, fd, 10, BEFORE - 1)
            self.assertTrue(os.pread(fd, 5000, BEFORE) == self.whole[BEFORE:BEFORE + 5000])
            os.close(fd)
            self.check_views('mapped', 'ram', 'devstate')
            self.assertEqual(harness.run(tool, 'verify', self.store()).returncode, 1)
        self.wait_log('vm1: snapshot.head')
        self.write_head(self.whole[:BEFORE])
        self.check_views()

    def test_verify_checks_a_preamble_that_was_copied_in_later(self):
        tool = harness.build_path('tools', 'snapfs')
        self.save('vm2')
        with open(self.snaps('vm2', 'preamble'), 'wb') as file:
            file.write(b'a header of somebody')
        self.run_ok(tool, 'verify', self.store())
        for at in (8, 40):
            flip(self.store('vm2', 'snapshot.head'), at)
            done = harness.run(tool, 'verify', self.store())
            self.assertEqual(done.returncode, 1)
            self.assertIn('snapshot.head: wrong checksum', done.stdout)
            flip(self.store('vm2', 'snapshot.head'), at)

    def test_side_file_goes_with_its_snapshot(self):
        self.write_head(self.whole[:BEFORE])
        self.save('vm1')
        self.assertEqual(sorted(os.listdir(self.store('vm1'))), ['snapshot.zst'])
        self.check_snapshot('vm1')


class LibvirtTest(FuseCase):
    """Save images, written and edited with the calls that libvirt makes."""

    def setUp(self):
        super().setUp()
        os.mkdir(self.snaps('vm1'))
        self.path_in = self.snaps('vm1', 'stream')

    def save_raw(self):
        """Through libvirt's helper: 1 MiB at a time, and made durable."""
        data = LIBVIRT[:28] + bytes(4) + LIBVIRT[32:] + self.data
        fd = os.open(self.path_in, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        write_all(fd, data, 1 << 20)
        os.fdatasync(fd)
        os.close(fd)
        return data

    def save_sparse(self):
        """Header and QEMU's writes by one open file, which QEMU still has open
        when libvirt is done. The channels write by another."""
        image = mappedram.Image(self.guest, len(LIBVIRT))
        fd = os.open(self.path_in, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for piece in (LIBVIRT[:92], LIBVIRT[92:92 + 9], LIBVIRT[92 + 9:]):
            os.write(fd, piece)
        channel = os.open(self.path_in, os.O_WRONLY)
        for one in (fd, channel):
            os.close(os.dup(one))
        os.ftruncate(fd, len(LIBVIRT))
        for offset, content in image.writes:
            os.pwrite(channel if len(content) == 4096 else fd, content, offset)
        self.addCleanup(os.close, fd)
        self.addCleanup(os.close, channel)
        return LIBVIRT + image.data[len(LIBVIRT):]

    def complete(self):
        """The last that libvirt does."""
        fd = os.open(self.path_in, os.O_WRONLY)
        os.write(fd, b'LibvirtQemudSave' + read_file(self.path_in)[16:92])
        os.close(fd)

    def edit(self, xml):
        """virsh save-image-edit."""
        fd = os.open(self.path_in, os.O_RDWR)
        old = os.pread(fd, len(LIBVIRT), 0)
        new = old[:92] + xml + bytes(len(old) - 92 - len(xml))
        for at, end in ((0, 92), (92, 92 + len(xml)), (92 + len(xml), len(new))):
            os.write(fd, new[at:end])
        os.close(fd)
        return new

    def check_life(self, whole):
        """Complete, edited, with the mount anew: what is before is as it was
        written last, and nothing else is another."""
        self.assertEqual(os.path.getsize(self.path_in), len(whole))
        views = {view: read_file(self.snaps('vm1', view)) for view in VIEWS}
        self.assertTrue(views['stream'] == whole)
        mtime = os.stat(self.path_in).st_mtime_ns
        self.complete()
        before = b'LibvirtQemudSave' + whole[16:len(LIBVIRT)]
        self.assertTrue(read_file(self.path_in) == before + whole[len(LIBVIRT):])
        for xml in (b'<domain>edited</domain>', b'<d/>'):
            self.edit(xml)
            before = before[:92] + xml + bytes(len(before) - 92 - len(xml))
            self.assertTrue(read_file(self.path_in) == before + whole[len(LIBVIRT):])
        self.assertEqual(os.stat(self.path_in).st_mtime_ns, mtime)
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), ['devstate', 'preamble', 'ram'])
        for view in VIEWS[:3]:
            self.assertTrue(read_file(self.snaps('vm1', view)) == views[view], view)
        self.assertTrue(read_file(self.snaps('vm1', 'preamble')) == before)
        self.assertTrue(read_file(self.path_in)[:len(before)] == before)
        self.check_no_leftovers()

    def test_raw_image(self):
        self.check_life(self.stream_of(self.save_raw()))
        self.check_snapshot_behind()

    def stream_of(self, data):
        """What a raw image reads back as: each block's pages in one section."""
        whole = read_file(self.path_in)
        self.assertTrue(whole[:len(LIBVIRT)] == data[:len(LIBVIRT)])
        return whole

    def check_snapshot_behind(self):
        _, pages, _ = makestream.read_back(read_file(self.path_in)[len(LIBVIRT):])
        self.assertTrue(pages == self.guest.pages)

    def test_sparse_image(self):
        self.check_life(self.save_sparse())

    def test_a_new_image_begins_without_the_old_header(self):
        self.check_life(self.save_sparse())
        data = self.save_raw()
        self.assertEqual(sorted(os.listdir(self.store('vm1'))), ['snapshot.zst'])
        self.assertTrue(read_file(self.path_in)[:len(LIBVIRT)] == data[:len(LIBVIRT)])
        self.check_snapshot_behind()

    def test_only_what_is_before_can_be_written_again(self):
        whole = self.save_sparse()
        for at in (len(LIBVIRT), len(LIBVIRT) - 1, len(LIBVIRT) + 5000, len(whole) - 3):
            fd = os.open(self.path_in, os.O_WRONLY)
            with self.assertRaises(OSError):
                os.pwrite(fd, b'two', at)
                os.close(fd)
                fd = -1
            if fd >= 0:
                os.close(fd)
            self.assertTrue(read_file(self.path_in) == whole)


if __name__ == '__main__':
    harness.main()

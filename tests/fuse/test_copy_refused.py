#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is written where a snapshot is: all but `stream` is refused, and nothing
changes. And what a folder lists of what is there or on its way."""
import errno
import os
import struct

from fusecase import LISTED, MIB, VIEWS, FuseCase, read_file, setUpModule, write_all  # noqa: F401
from copycase import CopiedCase
import harness
import makestream
import mappedram
from mappedram import LIBVIRT

REFUSED = 'a snapshot is already here: remove it first, or write its stream'


class RefusedTest(CopiedCase):
    def setUp(self):
        super().setUp()
        self.ram = self.snaps('source', 'ram')

    def check(self):
        self.check_same('source', ['domain.xml'])

    def open(self, view='ram', flags=os.O_WRONLY):
        os.close(os.open(self.snaps('source', view), flags | os.O_CLOEXEC, 0o600))

    def count(self, view):
        return self.mount.log().count(f'source/{view}: {REFUSED}')

    def test_each_way_to_write(self):
        for view in ('ram', 'devstate', 'mapped'):
            path = self.snaps('source', view)
            for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC,
                          os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_DIRECT,
                          os.O_WRONLY | os.O_APPEND):
                with self.subTest(view, flags=flags):
                    before = self.count(view)
                    self.assert_errno(errno.EPERM, self.open, view, flags)
                    self.assertEqual(self.count(view), before + 1)
            self.assert_errno(errno.EPERM, self.open, view, os.O_RDONLY | os.O_TRUNC)
            for size in (0, 5, len(self.views[view]) + 1):
                self.assert_errno(errno.EPERM, os.truncate, path, size)
            os.truncate(path, len(self.views[view]))
            self.assert_errno(errno.EEXIST, self.open, view,
                              os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self.check()

    def test_the_same_bytes_too(self):
        for view in ('ram', 'devstate', 'mapped'):
            with self.assertRaises(OSError) as caught:
                with open(self.snaps('source', view), 'wb') as file:
                    file.write(self.views[view])
            self.assertEqual(caught.exception.errno, errno.EPERM)
        self.check()

    def test_after_it_was_removed_it_is_back(self):
        for view in ('ram', 'devstate', 'mapped'):
            for flags in (os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_CREAT | os.O_TRUNC):
                with self.subTest(view, flags=flags):
                    os.unlink(self.snaps('source', view))
                    self.assertNotIn(view, os.listdir(self.snaps('source')))
                    before = self.count(view)
                    self.assert_errno(errno.EPERM, self.open, view, os.O_WRONLY | flags)
                    self.assertEqual(self.count(view), before + 1)
                    self.check()

    def test_mknod_brings_it_back_too(self):
        os.unlink(self.ram)
        self.assert_errno(errno.EPERM, os.mknod, self.ram, 0o600)
        self.check()

    def test_one_who_reads_meanwhile_reads_all(self):
        with open(self.ram, 'rb', buffering=0) as reader:
            self.assert_errno(errno.EPERM, self.open, 'ram', os.O_WRONLY | os.O_TRUNC)
            self.assertEqual(os.fstat(reader.fileno()).st_size, len(self.views['ram']))
            self.assertTrue(reader.read() == self.views['ram'])

    def test_holes_cannot_be_punched(self):
        for mode in ('--punch-hole', '--zero-range'):
            done = harness.run('fallocate', mode, '-o', 4096 * 400, '-l', 4096, self.ram)
            self.assertNotEqual(done.returncode, 0)
        self.check()

    def test_where_the_snapshot_has_no_such_view(self):
        os.mkdir(self.snaps('odd'))
        self.put_file(self.snaps('odd', 'stream'), makestream.verbatim_stream())
        for view in ('ram', 'devstate', 'mapped'):
            self.assert_errno(errno.EPERM, os.open, self.snaps('odd', view),
                              os.O_WRONLY | os.O_CREAT)
            self.wait_log(f'odd/{view}: {REFUSED}')
        self.assertEqual(os.listdir(self.snaps('odd')), ['stream'])
        self.assertEqual(os.listdir(self.store('odd')), ['snapshot.zst'])

    def test_no_file_moves_onto_a_view(self):
        self.put_file(self.snaps('source', '.ram.tmp'), b'another')
        for view in VIEWS:
            if view != 'stream':
                self.assert_errno(errno.EPERM if view == 'mapped' else errno.EXDEV, os.rename,
                                  self.snaps('source', '.ram.tmp'), self.snaps('source', view))
            self.assert_errno(errno.EXDEV, os.rename, self.snaps('source', view),
                              self.snaps('source', 'other'))
        os.unlink(self.snaps('source', '.ram.tmp'))
        self.check()

    def test_attributes_that_it_has(self):
        for name in ('form', 'pages', 'machine'):
            name = f'user.snapfs.{name}'
            for path in (self.ram, self.snaps('source')):
                os.setxattr(path, name, os.getxattr(path, name))
                self.assert_errno(errno.EPERM, os.setxattr, path, name, b'another')
        self.assert_errno(errno.EPERM, os.setxattr, self.ram, 'user.snapfs.none', b'')

    def test_read_only_mount(self):
        self.mount.unmount()
        self.mount.options = ['ro']
        self.mount.start()
        for view in VIEWS:
            self.assertTrue(read_file(self.snaps('source', view)) == self.views[view])
            self.assert_errno(errno.EROFS, self.open, view)
            self.assert_errno(errno.EROFS, os.unlink, self.snaps('source', view))
            self.assert_errno(errno.EROFS, os.truncate, self.snaps('source', view), 0)
        self.assertNotEqual(harness.run('rm', '-rf', self.snaps('source')).returncode, 0)
        self.check()

    def test_parts_beside_a_snapshot_in_a_read_only_mount(self):
        self.mount.unmount()
        for name in ('ram', 'preamble'):
            self.put_file(self.store('source', name), b'left over')
        self.mount.options = ['ro']
        self.mount.start()
        self.assertEqual(sorted(os.listdir(self.snaps('source')))[-1], 'ram')
        self.assertTrue(read_file(self.ram) == self.views['ram'])
        self.assertTrue(os.path.exists(self.store('source', 'ram')))


class ListedTest(FuseCase):
    """What a folder lists; every name that it has can be opened."""

    def listed(self, name='vm1'):
        return sorted(os.listdir(self.snaps(name)))

    def put(self, name, data, view='stream'):
        os.makedirs(self.snaps(name), exist_ok=True)
        with open(self.snaps(name, view), 'wb', buffering=0) as file:
            write_all(file.fileno(), data)

    def test_all_names_can_be_opened(self):
        self.put('vm1', LIBVIRT[:28] + bytes(4) + LIBVIRT[32:] + self.data)
        self.assertEqual(self.listed(), ['devstate', 'preamble', 'ram'])
        for view in (*VIEWS, 'preamble'):
            self.assertEqual(len(read_file(self.snaps('vm1', view))),
                             os.stat(self.snaps('vm1', view)).st_size)
            self.assertTrue(os.access(self.snaps('vm1', view), os.R_OK))

    def test_verbatim(self):
        self.put('odd', makestream.verbatim_stream())
        self.assertEqual(self.listed('odd'), ['stream'])
        self.run_ok('cp', '-a', self.snaps('odd'), self.path('odd'))
        self.assertEqual(os.listdir(self.path('odd')), ['stream'])
        self.run_ok('rm', '-r', self.snaps('odd'))
        self.run_ok('cp', '-a', self.path('odd'), self.snaps('odd'))
        self.assertEqual(self.listed('odd'), ['stream'])
        self.assertTrue(read_file(self.snaps('odd', 'stream')) == makestream.verbatim_stream())
        self.run_ok('find', self.snaps('odd'), '-delete')
        self.assertFalse(os.path.exists(self.store('odd')))

    def test_damaged(self):
        self.save()
        with open(self.store('vm1', 'snapshot.zst'), 'r+b') as file:
            file.truncate(5000)
        self.assertEqual(self.listed(), ['stream'])
        for view in ('ram', 'devstate', 'mapped'):
            self.assert_errno(errno.ENOENT, os.stat, self.snaps('vm1', view))
        self.assert_errno(errno.EIO, read_file, self.snaps('vm1', 'stream'))
        for view in ('ram', 'devstate', 'mapped', 'preamble'):
            self.assert_errno(errno.EPERM, self.put, 'vm1', b'x', view)
        self.run_ok('rm', '-r', self.snaps('vm1'))
        self.assertFalse(os.path.exists(self.store('vm1')))

    def test_without_ram(self):
        """x-ignore-shared: all memory was in files that QEMU shares."""
        sizes = {'shared': 2 * MIB, 'also-shared': MIB}
        blocks = b''.join(makestream.str8(name) + struct.pack('>QQ', size, number * 4 * MIB)
                          for number, (name, size) in enumerate(sizes.items()))
        data = b''.join([mappedram.header('x-ignore-shared'), b'\x01' + struct.pack('>I', 1),
                         makestream.str8('ram'),
                         struct.pack('>IIQ', 0, 4, sum(sizes.values()) | 4), blocks,
                         struct.pack('>Q', makestream.EOS), makestream.footer(1),
                         makestream.ram_section([], kind=3), makestream.device_state()])
        self.put('vm1', data)
        self.assertEqual(self.listed(), ['stream'])
        self.assertTrue(read_file(self.snaps('vm1', 'stream')) == data)
        self.assertEqual(self.mount.log().count('vm1/stream: saved'), 1)
        self.assert_errno(errno.ENOENT, os.stat, self.snaps('vm1', 'ram'))
        self.run_ok('cp', '-a', self.snaps('vm1'), self.path('copy'))
        self.run_ok('rm', '-r', self.snaps('vm1'))
        self.assertFalse(os.path.exists(self.store('vm1')))
        self.run_ok('cp', '-a', self.path('copy'), self.snaps('vm1'))
        self.assertTrue(read_file(self.snaps('vm1', 'stream')) == data)

    def left_out(self, absent, **how):
        """The stream of a guest of which QEMU sent no page of a block."""
        guest = makestream.Guest({'pc.ram': 4 * MIB, 'empty': 0, 'shared': 2 * MIB}, seed=5)
        sent = [record for record in makestream.records(guest) if record[0] != absent]
        return b''.join([makestream.header(), makestream.ram_start(guest), *(
            makestream.ram_section([record for record in sent if record[0] == name])
            for name in guest.sizes if name not in ('empty', absent)),
            makestream.ram_section([], kind=3), makestream.device_state()])

    def test_a_block_without_records_is_left_out(self):
        """QEMU says 'block should not be migrated' when it gets a record of it,
        and the guest is lost."""
        data = self.left_out('shared')
        self.put('vm1', data)
        self.assertEqual(self.listed(), ['stream'])
        for view in ('ram', 'mapped'):
            self.assert_errno(errno.ENOENT, os.stat, self.snaps('vm1', view))
        self.assertTrue(read_file(self.snaps('vm1', 'stream')) == data)
        self.put('vm2', read_file(self.snaps('vm1', 'stream')))
        self.assertTrue(read_file(self.snaps('vm2', 'stream')) == data)
        # A block without bytes has no records either, and lacks nothing.
        data = self.left_out(None)
        self.put('vm3', data)
        self.assertEqual(self.listed('vm3'), LISTED)
        self.assertTrue(read_file(self.snaps('vm3', 'stream')) == data)

    def test_a_copy_of_whole_memory_that_was_saved_with_ignore_shared(self):
        """No block was shared, so all memory was in the stream."""
        sizes = {'pc.ram': 2 * MIB, 'rom': MIB}
        guest = makestream.Guest(sizes, seed=6)
        blocks = b''.join(makestream.str8(name) + struct.pack('>QQ', size, 0)
                          for name, size in sizes.items())
        self.put('vm1', b''.join(
            [mappedram.header('x-ignore-shared'), b'\x01' + struct.pack('>I', 1),
             makestream.str8('ram'), struct.pack('>IIQ', 0, 4, sum(sizes.values()) | 4), blocks,
             struct.pack('>Q', makestream.EOS), makestream.footer(1),
             *(makestream.ram_section([r for r in makestream.records(guest) if r[0] == name])
               for name in sizes),
             makestream.ram_section([], kind=3), makestream.device_state()]))
        self.assertEqual(self.listed(), LISTED)
        self.run_ok('cp', '-a', self.snaps('vm1'), self.path('copy'))
        self.run_ok('cp', '-a', self.path('copy'), self.snaps('vm2'))
        self.assertEqual(self.listed('vm2'), LISTED)
        for view in ('ram', 'stream', 'mapped'):
            self.assertTrue(read_file(self.snaps('vm1', view)) ==
                            read_file(self.snaps('vm2', view)), view)
        self.assertTrue(read_file(self.snaps('vm2', 'ram')) == guest.flat())

    def test_while_it_is_written(self):
        for view in ('stream', 'mapped'):
            os.mkdir(self.snaps('new'))
            fd = os.open(self.snaps('new', view), os.O_WRONLY | os.O_CREAT)
            self.assertEqual(self.listed('new'), [view])
            write_all(fd, self.data[:MIB])
            self.assertEqual(self.listed('new'), [view])
            os.close(os.open(self.snaps('new', view), os.O_RDONLY))
            write_all(fd, self.data[MIB:])
            self.assertEqual(self.listed('new'), LISTED)
            os.close(fd)
            self.assertEqual(self.listed('new'), LISTED)
            self.run_ok('rm', '-r', self.snaps('new'))

    def test_while_another_is_written_over_it(self):
        self.save()
        fd = os.open(self.snaps('vm1', 'stream'), os.O_WRONLY)
        self.assertEqual(self.listed(), LISTED)
        os.ftruncate(fd, 0)
        self.assertEqual(self.listed(), LISTED)
        write_all(fd, self.data[:MIB])
        self.assertEqual(self.listed(), [*LISTED, 'stream'])
        self.check_snapshot()
        write_all(fd, self.data[MIB:])
        self.assertEqual(self.listed(), LISTED)
        os.close(fd)
        self.check_snapshot()

    def test_inode_numbers_that_are_listed(self):
        self.put('vm1', LIBVIRT[:28] + bytes(4) + LIBVIRT[32:] + self.data)
        for entry in os.scandir(self.snaps('vm1')):
            self.assertEqual(entry.inode(), os.stat(entry.path).st_ino)
            self.assertTrue(entry.is_file())


if __name__ == '__main__':
    harness.main()

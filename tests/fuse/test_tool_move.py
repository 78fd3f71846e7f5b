#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""snapfs import and export: streams into a store and out of it."""
import glob
import os
import pty
import re
import select
import signal
import struct
import subprocess

from toolcase import FAILED, MIB, ToolCase, read_file, setUpModule, write_file  # noqa: F401
import harness
import makestream
import mappedram

PIECE = 4096   # of a stream that comes slowly


class RoundTripTest(ToolCase):
    def test_what_was_exported_comes_back_the_same(self):
        shuffled = makestream.stream(self.guest, order=5)
        self.save(data=shuffled)
        first = self.succeed('export', self.store, 'vm1').bytes
        _, pages, _ = makestream.read_back(first)
        self.assertTrue(pages == self.guest.pages)
        self.save('vm2', first)
        self.assertTrue(self.succeed('export', self.store, 'vm2').bytes == first)

    def test_by_a_pipe_from_one_to_the_other(self):
        self.save()
        out = self.start_process(self.program(), 'export', self.store, 'vm1',
                                 stdout=subprocess.PIPE)
        os.mkdir(self.path('other'))
        done = self.snapfs('import', self.path('other'), 'vm1', stdin=out.stdout)
        self.assertEqual(done.status, 0, done)
        self.assertTrue(self.succeed('export', self.path('other'), 'vm1').bytes ==
                        self.succeed('export', self.store, 'vm1').bytes)

    def test_a_verbatim_stream_comes_back_as_it_was(self):
        data = makestream.verbatim_stream()
        self.assertEqual(self.snapfs('import', self.store, 'vm1', data=data).status, 0)
        self.assertTrue(self.succeed('export', self.store, 'vm1').bytes == data)
        self.fail_with('vm1 has no ram; it was saved verbatim: .*virtio-mem', 'export',
                       '--form=ram', self.store, 'vm1')

    def test_options_of_import_change_no_page(self):
        for options in (['--level=19'], ['--level=auto'], ['--threads=1'], ['--buffer=16m'],
                        ['-l', '3', '-t', '2', '-b', '32m']):
            self.succeed('import', *options, self.store, 'vm1', data=self.data)
            ram = self.succeed('export', '--form=ram', self.store, 'vm1').bytes
            self.assertTrue(ram == self.guest.flat())

    def test_pages_that_do_not_compress_take_no_more_than_the_stream(self):
        guest = makestream.Guest({'pc.ram': 16 * MIB}, every=1 << 30)
        for page in range(0, 4096, 128):
            for i in range(64):
                guest.pages['pc.ram'][page + i] = os.urandom(4096)
        data = makestream.stream(guest)
        for level in ('auto', '1', '19'):
            self.succeed('import', '--level', level, self.store, 'vm1', data=data)
            self.assertLess(os.stat(self.image()).st_size, len(data))

    def test_a_stream_from_a_file(self):
        write_file(self.path('mig'), self.data)
        self.succeed('import', '--file', self.path('mig'), self.store, 'a/b/c')
        self.assertEqual(self.names(), ['a/b/c'])

    def test_a_stream_in_small_pieces(self):
        process = self.start_process(self.program(), 'import', self.store, 'vm1',
                                     stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for at in range(0, len(self.data), 70001):
            process.stdin.write(self.data[at:at + 70001])
            process.stdin.flush()
        self.assertEqual(process.communicate(timeout=60)[1], b'')
        self.assertEqual(process.returncode, 0)
        self.assertTrue(self.succeed('export', '--form=ram', self.store, 'vm1').bytes ==
                        self.guest.flat())

    def test_import_replaces_what_was_there(self):
        self.save()
        other = makestream.Guest({'pc.ram': 2 * MIB}, seed=9)
        self.save(data=makestream.stream(other))
        self.assertTrue(self.succeed('export', '--form=ram', self.store, 'vm1').bytes ==
                        other.flat())
        self.check_nothing_left('vm1')

    def test_memory_is_not_for_everybody(self):
        self.save()
        self.assertEqual(os.stat(self.image()).st_mode & 0o7, 0)

    def test_into_a_folder_of_the_store(self):
        self.save('ci/a')
        self.succeed('import', os.path.join(self.store, 'ci'), 'b', data=self.data)
        self.assertEqual(self.names(), ['ci/a', 'ci/b'])
        self.assertFalse(os.path.exists(os.path.join(self.store, 'ci', '.snapfs')))


class MappedTest(ToolCase):
    """mapped-ram files, and what may stand before them."""

    def write_image(self, image, before=b''):
        """The file as QEMU leaves it: with holes where nothing was written."""
        path = self.path('image')
        with open(path, 'wb') as file:
            file.write(before)
            for offset, content in image.writes:
                file.seek(offset)
                file.write(content)
        return path

    def check_image(self, image, before=b''):
        """The snapshot has the form, the guest and what stands before."""
        [one] = self.json('info', self.store, 'vm1')['snapshots']
        self.assertEqual((one['form'], one['preamble']), ('mapped-ram', len(before)))
        self.assertTrue(self.succeed('export', '--form=ram', self.store, 'vm1').bytes ==
                        self.guest.flat())
        stream = self.succeed('export', self.store, 'vm1').bytes
        self.assertTrue(stream == before + image.data[len(before):])

    def test_a_file_is_read_by_its_data(self):
        image = mappedram.Image(self.guest)
        self.succeed('import', '--file', self.write_image(image), self.store, 'vm1')
        self.check_image(image)

    def test_from_a_pipe_and_as_standard_input(self):
        image = mappedram.Image(self.guest)
        self.succeed('import', self.store, 'vm1', data=image.data)
        self.check_image(image)
        with open(self.write_image(image), 'rb') as file:
            self.succeed('import', self.store, 'vm1', stdin=file)
        self.check_image(image)

    def test_zeros_before(self):
        for begin in (7, 4096, 3 * MIB + 1):
            image = mappedram.Image(self.guest, begin)
            self.succeed('import', '--file', self.write_image(image), self.store, 'vm1')
            self.check_image(image, bytes(begin))
            self.succeed('import', self.store, 'vm1', data=image.data)
            self.check_image(image, bytes(begin))
        self.fail_with('standard input holds only zeros', 'import', self.store, 'vm1',
                       data=bytes(99))

    def test_any_bytes_before(self):
        for header in (b'X' * 4096, b'a header with QEVM in it', b'x' * (3 * MIB + 1)):
            image = mappedram.Image(self.guest, len(header))
            self.succeed('import', '--file', self.write_image(image, header), self.store, 'vm1')
            self.check_image(image, header)
            self.succeed('import', self.store, 'vm1', data=header + image.data[len(header):])
            self.check_image(image, header)

    def test_save_images_of_libvirt(self):
        before = (b'LibvirtQemudSave' + struct.pack('<IIIII', 2, 5000, 1, 6, 0) +
                  bytes(56) + b'<domain/>' + bytes(4991))
        image = mappedram.Image(self.guest, len(before))
        self.succeed('import', '--file', self.write_image(image, before), self.store, 'vm1')
        self.check_image(image, before)
        self.assertIn("libvirt's header, complete", self.succeed('info', self.store).out)
        raw = before[:28] + bytes(4) + before[32:]
        self.save(data=raw + self.data)
        [one] = self.json('info', self.store, 'vm1')['snapshots']
        self.assertEqual((one['form'], one['preamble']), ('classic', len(raw)))
        stream = self.succeed('export', self.store, 'vm1').bytes
        self.assertTrue(stream[:len(raw)] == raw)
        self.assertTrue(makestream.read_back(stream[len(raw):])[1] == self.guest.pages)
        self.assertTrue(self.succeed('export', '--form=preamble', self.store, 'vm1').bytes == raw)

    def test_holes_of_a_large_file_are_not_read(self):
        big = makestream.Guest({'pc.ram': 4 * MIB, 'vga': MIB}, seed=3)
        big.sizes['pc.ram'] = 64 << 30
        image = mappedram.Image(big, whole=False)
        path = self.write_image(image)
        self.succeed('import', '--file', path, self.store, 'vm1')
        [one] = self.json('info', self.store, 'vm1')['snapshots']
        self.assertEqual(one['ram'] - one['zero'], big.stored() * 4096)

    def test_a_hole_in_what_is_not_pages_is_zeros(self):
        """cp --sparse=always makes holes of all zeros, in a device's state as
        well."""
        image = mappedram.Image(self.guest)
        device = makestream.device_state()
        tail = device[:3000] + bytes(64 * 1024) + device[3000:]
        data = image.data[:image.tail_at] + tail
        write_file(self.path('image'), data)
        self.run_ok('cp', '--sparse=always', self.path('image'), self.path('sparse'))
        self.succeed('import', '--file', self.path('sparse'), self.store, 'vm1')
        self.assertTrue(self.succeed('export', self.store, 'vm1').bytes == data)

    def test_errors_name_the_file(self):
        image = mappedram.Image(self.guest)
        with open(self.write_image(image), 'r+b') as file:
            file.truncate(image.size - 100)
        self.fail_with(f'import: {self.path("image")}: .*', 'import', '-f', self.path('image'),
                       self.store, 'vm1')
        write_file(self.path('image'), b'#!/bin/sh\n' * 1000)
        self.fail_with(f'import: {self.path("image")}: .*QEVM', 'import', '-f',
                       self.path('image'), self.store, 'vm1')
        self.check_nothing_left()


class BadImportTest(ToolCase):
    def test_what_is_no_stream(self):
        self.fail_with(r'import: .*(offset|byte)', 'import', self.store, 'vm1',
                       data=b'#!/bin/sh\n' * 1000)
        self.check_nothing_left()
        self.fail_with('import: ', 'import', self.store, 'vm1', data=b'')
        self.check_nothing_left()

    def test_a_stream_that_is_cut(self):
        for size in (7, 100, len(self.data) // 2, len(self.data) - 1):
            self.fail_with('import: ', 'import', self.store, 'a/vm1', data=self.data[:size])
            self.check_nothing_left()

    def test_a_failure_leaves_the_old_snapshot(self):
        self.save()
        before = read_file(self.image())
        self.fail_with('import: ', 'import', self.store, 'vm1', data=self.data[:300000])
        self.assertTrue(read_file(self.image()) == before)
        [one] = self.json('info', self.store, 'vm1')['snapshots']
        self.assertTrue(one['last_error'])
        self.save()
        self.assertNotIn('last_error', self.json('info', self.store, 'vm1')['snapshots'][0])

    def test_a_failure_leaves_folders_that_were_there(self):
        os.makedirs(os.path.join(self.store, 'ci'))
        self.fail_with('import: ', 'import', self.store, 'ci/a/b', data=b'no')
        self.check_nothing_left('ci')
        self.assertEqual(os.listdir(os.path.join(self.store, 'ci')), [])

    def test_bytes_behind_the_stream_are_an_error(self):
        process = self.start_process(self.program(), 'import', self.store, 'vm1',
                                     stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write(self.data)
        process.stdin.flush()
        harness.wait_until(lambda: os.path.exists(self.image()), 20, 'the snapshot is there')
        error = process.communicate(b'more', timeout=60)[1].decode()
        self.assertEqual(process.returncode, 1)
        self.assertRegex(error, r'more follows the end of the stream, at byte \d+')

    def test_names_that_cannot_be(self):
        self.save('good')
        for name in ('', '.', '..', 'a/../../b', 'ram', 'a/stream', '.snapfs', 'a/.snapfs/b',
                     'snapshot.zst', 'x' * 256):
            done = self.fail_with('import: ', 'import', self.store, name, data=self.data)
            self.assertNotIn('mount.snapfs', done.error)
            self.check_nothing_left('good')

    def test_a_name_that_is_a_file_or_a_link(self):
        self.save()
        write_file(os.path.join(self.store, 'file'), b'')
        os.symlink('/tmp', os.path.join(self.store, 'link'))
        for name in ('file', 'file/a', 'link', 'link/a'):
            self.fail_with('Not a directory', 'import', self.store, name, data=self.data)

    def test_where_there_is_no_store(self):
        self.fail_with('nowhere: No such file', 'import', self.path('nowhere'), 'vm1',
                       data=self.data)
        self.fail_with('gone: No such file', 'import', '--file', self.path('gone'), self.store,
                       'vm1')
        self.fail_with('Is a directory', 'import', '--file', self.work, self.store, 'vm1')

    def test_a_store_that_cannot_be_written(self):
        if os.geteuid() != 0:
            raise harness.Missing('only root can become another user')
        os.chmod(self.work, 0o755)
        done = subprocess.run(['setpriv', '--reuid=65534', '--clear-groups', self.program(),
                               'import', self.store, 'vm1'], input=self.data, check=False,
                              stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr.decode(), r'^snapfs: import: store .* cannot be written: '
                                               r'Permission denied\n$')
        self.assertEqual(os.listdir(self.store), [])

    def test_two_at_once(self):
        first = self.start_process(self.program(), 'import', self.store, 'vm1',
                                   stdin=subprocess.PIPE)
        first.stdin.write(self.data[:200000])
        first.stdin.flush()
        harness.wait_until(lambda: os.path.exists(self.path('store', 'vm1')), 20,
                           'the first has begun')
        self.fail_with('in use: snapfs import of vm1', 'import', self.store, 'vm2',
                       data=self.data)
        first.stdin.write(self.data[200000:])
        first.stdin.close()
        self.assertEqual(first.wait(60), 0)
        self.check_nothing_left('vm1')


class StopTest(ToolCase):
    """Imports and exports that are stopped in the middle."""

    def begin(self):
        process = self.start_process(self.program(), 'import', self.store, 'ci/vm1',
                                     stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write(self.data[:1500000])
        process.stdin.flush()
        harness.wait_until(lambda: os.listdir(self.store) and
                           os.path.exists(self.path('store', 'ci', 'vm1')), 20,
                           'the import has begun')
        return process

    def test_a_signal_leaves_nothing(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process = self.begin()
            process.send_signal(number)
            self.assertEqual(process.wait(20), 128 + number)
            self.assertRegex(process.stderr.read().decode(),
                             '^snapfs: import: interrupted, nothing was saved\n$')
            process.stdin.close()
            self.check_nothing_left()

    def test_what_a_kill_leaves_the_next_import_clears(self):
        process = self.begin()
        process.kill()
        process.wait()
        self.assertEqual(self.names(), [])
        self.save('vm2')
        self.assertEqual(self.names(), ['vm2'])
        self.assertEqual(os.listdir(self.path('store', '.snapfs', 'tmp')), [])
        self.save('ci/vm1')
        self.assertEqual(self.names(), ['ci/vm1', 'vm2'])

    def test_a_reader_that_goes_away_is_told_nothing(self):
        self.save()
        for verb in (['export', self.store, 'vm1'], ['export', '--form=ram', self.store, 'vm1']):
            process = self.start_process(self.program(), *verb, stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE)
            process.stdout.read(10)
            process.stdout.close()
            self.assertEqual(process.wait(20), 1)
            self.assertEqual(process.stderr.read(), b'')

    def test_an_interrupted_export_leaves_no_file(self):
        big = makestream.Guest({'pc.ram': 4 * MIB}, seed=3)
        big.sizes['pc.ram'] = 64 << 30
        # A guest of many zero pages: its stream is long, its snapshot small.
        self.save_sparse(big)
        os.mkdir(self.path('out'))
        process = self.start_process(self.program(), 'export', '-o', self.path('out', 'file'),
                                     self.store, 'vm1', stderr=subprocess.PIPE)
        harness.wait_until(lambda: os.listdir(self.path('out')), 20, 'the export has begun')
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(20), 128 + signal.SIGINT)
        self.assertEqual(process.stderr.read(), b'snapfs: export: interrupted\n')
        self.assertEqual(os.listdir(self.path('out')), [])

    def save_sparse(self, guest):
        """Saves a guest of which only the pages that are not zero are sent."""
        records = [(name, page, content) for name, pages in guest.pages.items()
                   for page, content in pages.items()]
        self.save(data=makestream.header() + makestream.ram_start(guest) +
                  makestream.ram_section(records) + makestream.ram_section([], kind=3) +
                  makestream.device_state())


class ExportTest(ToolCase):
    def setUp(self):
        super().setUp()
        self.save()

    def test_ram_goes_to_a_file_with_holes(self):
        self.succeed('export', '--form=ram', '--output', self.path('ram'), self.store, 'vm1')
        self.assertTrue(read_file(self.path('ram')) == self.guest.flat())
        self.assertLess(os.stat(self.path('ram')).st_blocks * 512,
                        len(self.guest.flat()) * 2 // 3)

    def test_ram_goes_to_standard_output_with_holes(self):
        with open(self.path('ram'), 'wb') as file:
            self.succeed('export', '--form=ram', self.store, 'vm1', stdout=file)
        self.assertTrue(read_file(self.path('ram')) == self.guest.flat())
        self.assertLess(os.stat(self.path('ram')).st_blocks * 512,
                        len(self.guest.flat()) * 2 // 3)

    def test_what_stands_in_the_output_stays_or_is_overwritten(self):
        flat = self.guest.flat()
        write_file(self.path('ram'), b'head')
        with open(self.path('ram'), 'ab') as file:
            self.succeed('export', '--form=ram', self.store, 'vm1', stdout=file)
        self.assertTrue(read_file(self.path('ram')) == b'head' + flat)
        write_file(self.path('ram'), b'\xff' * len(flat))
        with open(self.path('ram'), 'r+b') as file:
            self.succeed('export', '--form=ram', self.store, 'vm1', stdout=file)
        self.assertTrue(read_file(self.path('ram')) == flat)

    def test_an_empty_guest_is_all_hole(self):
        guest = makestream.Guest({'pc.ram': 8 * MIB}, every=1 << 30)
        guest.pages['pc.ram'].clear()
        self.save('zero', makestream.stream(guest))
        self.succeed('export', '--form=ram', '-o', self.path('ram'), self.store, 'zero')
        self.assertEqual(os.stat(self.path('ram')).st_size, 8 * MIB)
        self.assertTrue(read_file(self.path('ram')) == bytes(8 * MIB))

    def test_output_to_what_is_no_file(self):
        self.succeed('export', '-o', '/dev/null', self.store, 'vm1')
        self.assertTrue(os.path.exists('/dev/null'))
        self.fail_with('/dev/full: No space left', 'export', '-o', '/dev/full', self.store, 'vm1')
        self.fail_with('No such file', 'export', '-o', self.path('no', 'file'), self.store, 'vm1')

    def test_a_file_is_replaced_at_the_end_only(self):
        write_file(self.path('out'), b'old')
        os.chmod(self.store, 0o755)
        self.flip()
        self.fail_with('vm1', 'export', '-o', self.path('out'), self.store, 'vm1')
        self.assertEqual(read_file(self.path('out')), b'old')
        self.save()
        self.succeed('export', '-o', self.path('out'), self.store, 'vm1')
        makestream.read_back(read_file(self.path('out')))
        self.assertEqual(sorted(os.listdir(self.work)), ['out', 'store'])

    def test_what_is_not_there(self):
        self.fail_with('vm2: No such file', 'export', self.store, 'vm2')
        self.fail_with(r'store: no snapshot in its top folder; give the NAME of one$', 'export', self.store)
        os.mkdir(os.path.join(self.store, 'vm2'))
        self.fail_with('no snapshot in vm2$', 'export', self.store, 'vm2')
        self.fail_with('import: ', 'import', self.store, 'vm2', data=b'QEVMno stream')
        for verb in ('export', 'info'):
            self.fail_with('no snapshot in vm2; the last save into it failed: .*expected', verb,
                           self.store, 'vm2')


class FullDiskTest(ToolCase):
    """Where the disk is full, that is said, and nothing is left."""

    def setUp(self):
        super().setUp()
        harness.need_root()
        self.small = self.path('small')
        os.mkdir(self.small)
        self.run_ok('mount', '-t', 'tmpfs', '-o', 'size=1m', 'snapfs-test', self.small)
        self.addCleanup(harness.run, 'umount', '-l', self.small)

    def test_import(self):
        self.store = os.path.join(self.small, 'store')
        os.mkdir(self.store)
        self.fail_with('No space left on device', 'import', self.store, 'ci/vm1', data=self.data)
        self.check_nothing_left()

    def test_export(self):
        self.save()
        self.fail_with(re.escape(self.small) + '/out: No space left on device', 'export', '-o',
                       os.path.join(self.small, 'out'), self.store, 'vm1')
        self.assertEqual(os.listdir(self.small), [])


class FailingDiskTest(ToolCase):
    """A disk that loses bytes of a snapshot while it is saved."""

    def setUp(self):
        super().setUp()
        harness.need_root()
        mkfs = harness.need_program('mkfs.ext4')
        if not os.path.exists('/dev/loop-control'):
            self.skipTest('no loop devices')
        self.below, image = self.path('below'), self.path('below', 'image')
        self.store = self.path('disk', 'store')
        for folder in (self.below, self.path('disk')):
            os.mkdir(folder)
        self.run_ok('mount', '-t', 'tmpfs', '-o', 'size=24m', 'snapfs-test', self.below)
        self.addCleanup(harness.run, 'umount', '-l', self.below)
        with open(image, 'wb') as file:
            file.truncate(256 * MIB)
        self.run_ok(mkfs, '-q', '-F', '-O', '^has_journal', image)
        self.run_ok('mount', '-o', 'loop', image, self.path('disk'))
        self.addCleanup(harness.run, 'umount', '-l', self.path('disk'))
        os.mkdir(self.store)

    def sync_fails(self):
        """True once the kernel knows that bytes are lost."""
        folder = os.path.join(self.store, '.snapfs', 'tmp')
        for file in glob.glob(folder + '/*[!r]'):   # not NAME.for
            fd = os.open(file, os.O_RDONLY)
            try:
                os.fsync(fd)
            except OSError:
                return True
            finally:
                os.close(fd)
        return False

    def test_an_error_that_comes_early_is_not_forgotten(self):
        guest = makestream.Guest({'pc.ram': 96 * MIB}, seed=2, every=1)
        data = makestream.stream(guest)
        importer = self.start_process(self.program(), 'import', self.store, 'vm1',
                                      stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        at = 0
        while not self.sync_fails():
            self.assertLess(at, len(data))
            at += importer.stdin.write(data[at:at + MIB // 2])
        self.run_ok('mount', '-o', 'remount,size=200m', self.below)
        error = importer.communicate(data[at:], timeout=60)[1].decode()
        self.assertEqual(importer.returncode, FAILED)
        self.assertRegex(error, 'to disk: (Input/output error|No space left on device)')
        self.check_nothing_left()


class TerminalTest(ToolCase):
    """With a terminal there is a bar, which is gone at the end."""

    def setUp(self):
        super().setUp()
        self.master, self.slave = pty.openpty()
        self.addCleanup(os.close, self.master)
        self.shown = b''

    def look(self):
        """What has come to the terminal so far."""
        while select.select([self.master], [], [], 0)[0]:
            try:
                self.shown += os.read(self.master, 1 << 16)
            except OSError:   # all that had the terminal open have closed it
                break
        return self.shown

    def import_slowly(self, data):
        """Imports a stream whose second half comes once the bar is there."""
        process = self.start_process(self.program(), 'import', self.store, 'vm1',
                                     stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                     stderr=self.slave)
        os.close(self.slave)
        pieces = iter(range(0, len(data) // 2, PIECE))

        def shows():
            at = next(pieces)
            process.stdin.write(data[at:at + PIECE])
            process.stdin.flush()
            return self.look()
        harness.wait_until(shows, 20, 'there is a bar')
        process.stdin.write(data[next(pieces):])
        process.stdin.close()
        self.assertEqual(process.wait(60), 0)
        return self.look()

    def test_import_shows_how_far_it_is(self):
        shown = self.import_slowly(self.data)
        self.assertIn(b'vm1 ', shown)
        self.assertRegex(shown, rb'[KM]iB/s')
        self.assertTrue(shown.endswith(b'\r\x1b[K'))


if __name__ == '__main__':
    harness.main()

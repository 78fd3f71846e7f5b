#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies of snapshots back into the mount, by the programs that people copy
with, and what is written over a snapshot that is there."""
import errno
import itertools
import os
import shutil
import struct
import threading
import time

from fusecase import MIB, VIEWS, FuseCase, read_file, setUpModule, write_all  # noqa: F401
import harness
import makestream
import mappedram

PARTS = ('devstate', 'ram')


class CopyCase(FuseCase):
    """`self.backup` is a copy of a snapshot's folder on a plain disk, made by
    cp -a from the mount; `self.views` are its views' bytes."""

    def setUp(self):
        super().setUp()
        self.guest = makestream.Guest({'pc.ram': 5 * MIB, 'rom': 3 * 4096, 'vga.vram': MIB},
                                      seed=2, every=3)
        for page in range(300, 900):
            self.guest.pages['pc.ram'].pop(page, None)
        self.save('source', self.guest)
        with open(self.snaps('source', 'domain.xml'), 'w') as file:
            file.write('<domain/>')
        for view in VIEWS:
            os.chmod(self.snaps('source', view), 0o640)
        os.utime(self.snaps('source', 'ram'), (1000000000, 1100000000))
        self.backup = self.path('backup')
        self.run_ok('cp', '-a', self.snaps('source'), self.backup)
        self.views = {view: read_file(os.path.join(self.backup, view)) for view in VIEWS}

    def saved(self, *names):
        return os.path.join(self.backup, *names)

    def copy(self, view, name='vm1', *options):
        self.run_ok('cp', '-a', *options, self.saved(view), self.snaps(name, view))

    def check_same(self, name='vm1', views=VIEWS, mtime=1100000000):
        """The snapshot is the one that was copied, view by view."""
        # Nothing of it lies in the store twice; parts are looked at behind.
        expected = sorted(set(views) - set(VIEWS) | {'snapshot.zst'})
        harness.wait_until(lambda: sorted(os.listdir(self.store(name))) == expected, 10,
                           f'{expected} alone lie in the store')
        self.assertEqual(sorted(os.listdir(self.snaps(name))), sorted(set(views) | set(VIEWS)))
        for view in VIEWS:
            self.assertTrue(read_file(self.snaps(name, view)) == self.views[view],
                            f'{name}/{view} is what was copied')
            st = os.stat(self.snaps(name, view))
            self.assertEqual((st.st_mode & 0o777, st.st_mtime), (0o640, mtime), view)
        self.check_no_leftovers()


class FolderTest(CopyCase):
    """Whole folders, by each program."""
    everything = [*VIEWS, 'domain.xml']

    def test_cp(self):
        self.run_ok('cp', '-a', self.backup, self.snaps('vm1'))
        self.check_same('vm1', self.everything)

    def test_cp_from_the_mount(self):
        self.run_ok('cp', '-a', self.snaps('source'), self.snaps('vm1'))
        self.check_same('vm1', self.everything)

    def test_cp_again_over_it(self):
        for options in ((), ('--remove-destination',), ('--sparse=always',)):
            self.run_ok('cp', '-a', *options, self.backup + '/.', self.snaps('source'))
            self.check_same('source', self.everything)

    def test_rsync(self):
        harness.need_program('rsync')
        for number, options in enumerate((('-a',), ('-aS',), ('-a', '--inplace'),
                                          ('-a', '--no-whole-file'),
                                          ('-a', '--preallocate'))):
            with self.subTest(options=options):
                name = f'vm{number}'
                for checksum in ((), (), ('-c',), ('-I',)):
                    self.run_ok('rsync', *options, *checksum, self.backup + '/',
                                self.snaps(name) + '/')
                    self.check_same(name, self.everything)

    def test_tar(self):
        for number, options in enumerate(((), ('-S',), ('--xattrs',))):
            archive = self.path(f'{number}.tar')
            self.run_ok('tar', *options, '-C', self.snaps(), '-cf', archive, 'source')
            folder = self.snaps(f'tar{number}')
            os.mkdir(folder)
            for _ in range(2):
                self.run_ok('tar', *options, '-C', folder, '-xf', archive)
                self.check_same(f'tar{number}/source', self.everything)

    def test_tar_of_a_copy(self):
        for number, options in enumerate(((), ('-S',))):
            archive = self.path(f'{number}.tar')
            self.run_ok('tar', *options, '-C', self.work, '-cf', archive, 'backup')
            folder = self.snaps(f'tar{number}')
            os.mkdir(folder)
            self.run_ok('tar', '-C', folder, '--overwrite', '-xf', archive)
            self.check_same(f'tar{number}/backup', self.everything)


class OrderTest(CopyCase):
    """One file after the other."""

    def test_any_order(self):
        for number, order in enumerate(itertools.permutations(VIEWS)):
            with self.subTest(order=order):
                name = f'vm{number}'
                os.mkdir(self.snaps(name))
                for view in order:
                    self.copy(view, name)
                self.check_same(name)

    def test_any_that_makes_a_snapshot(self):
        for names in (('stream',), ('mapped',), ('ram', 'devstate'), ('devstate', 'ram')):
            with self.subTest(names=names):
                folder = 'by-' + '-'.join(names)
                os.mkdir(self.snaps(folder))
                for view in names:
                    self.assertEqual(len(os.listdir(self.snaps(folder))), names.index(view))
                    self.copy(view, folder)
                self.check_same(folder)

    def test_belongs_to_whom_the_copy_does(self):
        harness.need_root()
        for view in VIEWS:
            os.chown(self.saved(view), 12, 34)
        for names in (('stream',), ('mapped',), ('ram', 'devstate')):
            folder = 'by-' + '-'.join(names)
            os.mkdir(self.snaps(folder))
            for view in names:
                self.copy(view, folder)
            for view in VIEWS:
                st = os.stat(self.snaps(folder, view))
                self.assertEqual((st.st_uid, st.st_gid, st.st_mode & 0o777), (12, 34, 0o640))

    def test_mapped_of_an_empty_guest(self):
        guest = makestream.Guest({'pc.ram': 2 * MIB}, seed=1)
        guest.pages['pc.ram'].clear()
        self.save('empty', guest)
        whole = {view: read_file(self.snaps('empty', view)) for view in VIEWS}
        for names in (('mapped',), PARTS):
            folder = 'from-' + names[0]
            os.mkdir(self.snaps(folder))
            for view in names:
                self.run_ok('cp', '--sparse=always', self.snaps('empty', view),
                            self.snaps(folder, view))
            for view in VIEWS:
                self.assertTrue(read_file(self.snaps(folder, view)) == whole[view], view)


class PartsTest(CopyCase):
    """`ram` and `devstate` where there is no snapshot yet."""

    def setUp(self):
        super().setUp()
        os.mkdir(self.snaps('vm1'))

    def test_one_alone_is_an_ordinary_file(self):
        for part in PARTS:
            self.copy(part)
            self.assertEqual(os.listdir(self.snaps('vm1')), [part])
            self.assertEqual(os.listdir(self.store('vm1')), [part])
            self.assertTrue(read_file(self.snaps('vm1', part)) == self.views[part])
            self.assertEqual(os.stat(self.snaps('vm1', part)).st_mtime, 1100000000)
            self.assert_errno(errno.ENOTEMPTY, os.rmdir, self.snaps('vm1'))
            self.assert_errno(errno.EXDEV, os.rename, self.snaps('vm1', part), self.snaps('x'))
            os.unlink(self.snaps('vm1', part))
            self.assertEqual(os.listdir(self.snaps('vm1')), [])

    def test_lies_there_after_a_remount(self):
        self.copy('ram')
        self.mount.remount()
        self.assertTrue(read_file(self.snaps('vm1', 'ram')) == self.views['ram'])
        self.copy('devstate')
        self.check_same()

    def test_close_of_the_second_waits_for_the_snapshot(self):
        self.copy('devstate')
        fd = os.open(self.snaps('vm1', 'ram'), os.O_WRONLY | os.O_CREAT)
        write_all(fd, self.views['ram'])
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), ['devstate', 'ram'])
        os.close(fd)
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), VIEWS)

    def test_shell_may_double_its_descriptors(self):
        for view in ('ram', 'devstate'):
            self.run_ok('sh', '-c', 'cat "$1" >"$2"', 'sh', self.saved(view),
                        self.snaps('vm1', view))
        self.assertTrue(read_file(self.snaps('vm1', 'mapped')) == self.views['mapped'])

    def test_both_written_at_once(self):
        for number in range(8):
            os.mkdir(self.snaps(f'a{number}'))
            threads = [threading.Thread(target=shutil.copyfile, args=(
                self.saved(part), self.snaps(f'a{number}', part))) for part in PARTS]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            harness.wait_until(lambda: sorted(os.listdir(self.snaps(f'a{number}'))) == VIEWS, 10,
                               'a snapshot of both')
            self.assertTrue(read_file(self.snaps(f'a{number}', 'ram')) == self.views['ram'])

    def test_who_has_one_open_is_waited_for(self):
        self.copy('devstate')
        idle = os.open(self.snaps('vm1', 'devstate'), os.O_RDWR)
        self.copy('ram')
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), ['devstate', 'ram'])
        os.close(idle)
        harness.wait_until(lambda: sorted(os.listdir(self.snaps('vm1'))) == VIEWS, 10,
                           'the snapshot')
        self.check_same()

    def write(self, name, data):
        with open(self.snaps('vm1', name), 'wb', buffering=0) as file:
            write_all(file.fileno(), data)

    def test_what_is_no_devstate(self):
        for data in (b'no devstate at all', self.views['devstate'][:-1], self.data):
            self.assert_errno(errno.EPROTO, self.write, 'devstate', data)
            self.assertTrue(read_file(self.snaps('vm1', 'devstate')) == data)
        self.wait_log('vm1/devstate: is not whole')
        self.copy('ram')
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), ['devstate', 'ram'])
        self.copy('devstate')
        self.check_same()

    def test_ram_of_another_size(self):
        self.copy('devstate')
        for data in (self.views['ram'][:-4096], self.views['ram'] + bytes(10)):
            self.assert_errno(errno.EPROTO, self.write, 'ram', data)
            self.wait_log('vm1/ram: is not whole')
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), ['devstate', 'ram'])
        self.copy('ram')
        self.check_same()

    def test_beside_a_snapshot_that_comes_otherwise(self):
        for part, view in itertools.product(PARTS, ('stream', 'mapped')):
            with self.subTest(part=part, view=view):
                name = f'{part}-{view}'
                os.mkdir(self.snaps(name))
                self.copy(part, name)
                self.copy(view, name)
                harness.wait_until(lambda: os.listdir(self.store(name)) == ['snapshot.zst'], 10,
                                   'the part is gone')
                self.check_same(name)

    def test_beside_another_snapshot_is_kept_as_an_orphan(self):
        self.copy('ram')
        self.save('vm1', makestream.Guest({'pc.ram': MIB}, seed=9))
        harness.wait_until(lambda: os.path.exists(self.snaps('vm1', 'ram.orphan')), 10, 'orphan')
        self.assertTrue(read_file(self.snaps('vm1', 'ram.orphan')) == self.views['ram'])
        self.wait_log('kept as ram.orphan')
        self.assertTrue(read_file(self.snaps('vm1', 'ram')) ==
                        makestream.Guest({'pc.ram': MIB}, seed=9).flat())

    def test_orphan_does_not_replace_another(self):
        for number, (name, data) in enumerate((('ram.orphan', b'the first'),
                                               ('ram.orphan.2', b'the second'))):
            self.write('ram', data)
            self.save('vm1', makestream.Guest({'pc.ram': MIB}, seed=9 + number))
            harness.wait_until(lambda: 'ram' not in os.listdir(self.store('vm1')), 10, name)
            self.assertEqual(read_file(self.snaps('vm1', name)), data)
            self.run_ok('rm', *(self.snaps('vm1', view) for view in VIEWS))
        self.assertEqual(read_file(self.snaps('vm1', 'ram.orphan')), b'the first')

    def test_left_beside_the_snapshot_that_was_made_of_them(self):
        """As by a daemon that was killed before it had removed them."""
        self.copy('stream')
        self.mount.unmount()
        for view in ('ram', 'devstate'):
            shutil.copyfile(self.saved(view), self.store('vm1', view))
        self.mount.start()
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), VIEWS)
        self.check_same()

    def test_written_while_the_snapshot_comes_otherwise(self):
        fd = os.open(self.snaps('vm1', 'ram'), os.O_WRONLY | os.O_CREAT)
        write_all(fd, self.views['ram'][:MIB])
        self.copy('stream')
        write_all(fd, self.views['ram'][MIB:])
        os.close(fd)
        self.check_same()


class EndTest(CopyCase):
    """The daemon ends while a snapshot is made of parts."""

    def setUp(self):
        super().setUp()
        os.mkdir(self.snaps('vm1'))
        self.outcome = None

    def write_ram(self):
        try:
            shutil.copyfile(self.saved('ram'), self.snaps('vm1', 'ram'))
        except OSError as error:
            self.outcome = error

    def check_end(self, end):
        """Nothing is lost at whatever moment that is."""
        for delay in (0, 0.005, 0.01, 0.015, 0.02, 0.03):
            self.run_ok('rm', '-rf', self.snaps('vm1'))
            os.mkdir(self.snaps('vm1'))
            self.copy('devstate')
            thread = threading.Thread(target=self.write_ram)
            thread.start()
            time.sleep(delay)
            end()
            thread.join()
            self.mount.start()
            names = sorted(os.listdir(self.snaps('vm1')))
            self.assertIn(names, (VIEWS, ['devstate', 'ram'], ['devstate']))
            if names != VIEWS:
                self.assertIsNotNone(self.outcome)
            self.copy('ram')
            self.check_same()
            self.outcome = None

    def test_signal(self):
        def end():
            self.mount.process.terminate()
            self.assertEqual(self.mount.process.wait(60), 0)
        self.check_end(end)

    def test_kill(self):
        self.check_end(self.mount.crash)

    def test_devstate_without_end(self):
        """A sparse file of it takes nobody anything to make."""
        data = self.views['devstate']
        at = data.index(b'\x03ram') - 5
        size = 1 << 40
        name = b's390-storage_attributes'
        head = (data[:at] + b'\x01' + struct.pack('>I', 77) + bytes([len(name)]) + name +
                struct.pack('>IIQQ', 0, 0, 2, size))

        def write():
            with open(self.snaps('vm1', 'devstate'), 'wb', buffering=0) as file:
                file.write(head)
                file.truncate(len(head) + size)
        thread = threading.Thread(target=lambda: self.assertRaises(OSError, write))
        thread.start()
        time.sleep(0.5)
        self.mount.process.terminate()
        self.assertEqual(self.mount.process.wait(20), 0)
        thread.join()
        self.mount.start()
        os.unlink(self.snaps('vm1', 'devstate'))


class CrowdTest(CopyCase):
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
                data = read_file(self.snaps('vm1', view))
                # A part, or a stream from another view, is not all of it yet.
                if len(data) == len(self.views[view]) and view in ('devstate', 'mapped') and \
                        data != self.views[view] and 'snapshot.zst' in os.listdir(
                            self.store('vm1')):
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


class CompareTest(CopyCase):
    """Views written while their snapshot is there."""

    def setUp(self):
        super().setUp()
        self.ram = self.snaps('source', 'ram')
        self.check = lambda: self.check_same('source', [*VIEWS, 'domain.xml'])

    def open(self, view='ram', flags=os.O_WRONLY):
        return os.open(self.snaps('source', view), flags | os.O_CLOEXEC, 0o600)

    def test_same_bytes_are_taken_in_any_way(self):
        for view in ('ram', 'devstate', 'mapped'):
            data = self.views[view]
            for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC,
                          os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_DIRECT):
                fd = self.open(view, flags)
                write_all(fd, data)
                os.ftruncate(fd, len(data))
                os.fsync(fd)
                os.close(fd)
        self.check()

    def test_other_bytes_are_refused_and_named(self):
        for at in (0, 4096 * 3 + 17, 4096, len(self.views['ram']) - 1):
            data = bytearray(self.views['ram'])
            data[at] ^= 1
            for flags in (0, os.O_TRUNC):
                fd = self.open('ram', os.O_WRONLY | flags)
                self.assert_errno(errno.EPERM, write_all, fd, data)
                self.wait_log(f'source/ram: what is written differs from the snapshot that is '
                              f'there, from offset {at} on')
                try:
                    os.close(fd)
                except OSError as error:
                    self.assertEqual(error.errno, errno.EPERM)
        self.check()

    def test_is_told_once(self):
        fd = self.open()
        for _ in range(5):
            self.assert_errno(errno.EPERM, os.pwrite, fd, b'x' * 100, 4096)
        os.close(fd)
        lines = [line for line in self.mount.log().splitlines() if 'differs' in line]
        self.assertEqual(len(lines), 1)

    def test_beyond_the_end_is_refused(self):
        fd = self.open('devstate')
        self.assert_errno(errno.EPERM, os.pwrite, fd, b'\0', len(self.views['devstate']))
        os.close(fd)
        self.check()

    def test_left_out_must_be_zeros(self):
        image = mappedram.Image(self.guest)
        area = image.places['pc.ram'][1]
        fd = self.open('mapped', os.O_WRONLY | os.O_TRUNC)
        first = area + 4096 * 3
        os.pwrite(fd, self.views['mapped'][:first - 4096], 0)
        self.assert_errno(errno.EPERM, os.pwrite, fd, self.views['mapped'][first:area + 4096 * 9],
                          area + 4096 * 9)
        self.assert_errno(errno.EPERM, os.close, fd)
        self.wait_log(f'source/mapped: what is written differs from the snapshot that is there, '
                      f'from offset {first} on')
        # What was not cut has what it had where nothing was written.
        fd = self.open('mapped')
        at = area + 4096 * 9
        os.pwrite(fd, self.views['mapped'][at:at + 4096], at)
        os.close(fd)
        self.check()

    def test_final_size_is_that_of_the_view(self):
        data = self.views['devstate']
        for size in (len(data) - 1, len(data) + 1, 5):
            fd = self.open('devstate')
            os.ftruncate(fd, size)
            self.assert_errno(errno.EPERM, os.close, fd)
        fd = self.open('devstate', os.O_WRONLY | os.O_TRUNC)
        write_all(fd, data[:1000])
        self.assert_errno(errno.EPERM, os.close, fd)
        fd = self.open('devstate', os.O_WRONLY | os.O_TRUNC)
        write_all(fd, data[:1000])
        os.ftruncate(fd, len(data))
        self.assert_errno(errno.EPERM, os.close, fd)
        # Cut in the middle, and lengthened: zeros stand there now.
        fd = self.open('ram')
        os.ftruncate(fd, MIB)
        os.ftruncate(fd, len(self.views['ram']))
        self.assert_errno(errno.EPERM, os.close, fd)
        os.close(self.open('devstate', os.O_WRONLY | os.O_TRUNC))
        self.assert_errno(errno.EPERM, os.truncate, self.snaps('source', 'devstate'), 5)
        os.truncate(self.snaps('source', 'devstate'), len(data))
        self.check()

    def test_who_reads_meanwhile_reads_all(self):
        reader = open(self.ram, 'rb', buffering=0)
        self.addCleanup(reader.close)
        fd = self.open('ram', os.O_WRONLY | os.O_TRUNC)
        os.write(fd, self.views['ram'][:5000])
        self.assertEqual(os.fstat(reader.fileno()).st_size, len(self.views['ram']))
        self.assertTrue(read_file(self.ram) == self.views['ram'])
        self.assertEqual(os.pread(reader.fileno(), 100, 4096 * 3), self.views['ram'][12288:12388])
        with self.assertRaises(OSError):
            os.close(fd)

    def test_after_it_was_removed(self):
        for view in ('ram', 'devstate', 'mapped'):
            os.unlink(self.snaps('source', view))
            fd = self.open(view, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            write_all(fd, self.views[view])
            os.close(fd)
            os.chmod(self.snaps('source', view), 0o640)
        os.utime(self.ram, (1100000000, 1100000000))
        self.check()

    def test_holes_that_are_punched(self):
        hole = 4096 * 400
        for mode in ('--punch-hole', '--zero-range'):
            for offset, status in ((hole, 0), (4096 * 3, 1)):
                done = harness.run('fallocate', mode, '-o', offset, '-l', 4096, self.ram)
                self.assertEqual(done.returncode, status, done.stderr)
        self.run_ok('fallocate', '-l', len(self.views['ram']), self.ram)
        self.check()

    def test_where_the_snapshot_has_no_such_view(self):
        os.mkdir(self.snaps('odd'))
        with open(self.snaps('odd', 'stream'), 'wb', buffering=0) as file:
            write_all(file.fileno(), makestream.verbatim_stream())
        for view in ('ram', 'devstate', 'mapped'):
            self.assert_errno(errno.EPERM, os.open, self.snaps('odd', view),
                              os.O_WRONLY | os.O_CREAT)
            self.wait_log(f'odd/{view}: the snapshot that is there has no {view}')
        self.assertEqual(os.listdir(self.snaps('odd')), ['stream'])

    def test_attributes_that_it_has(self):
        for name in ('form', 'uuid', 'machine'):
            name = f'user.snapfs.{name}'
            for path in (self.ram, self.snaps('source')):
                os.setxattr(path, name, os.getxattr(path, name))
                self.assert_errno(errno.EPERM, os.setxattr, path, name, b'another')
        self.assert_errno(errno.EPERM, os.setxattr, self.ram, 'user.snapfs.none', b'')


if __name__ == '__main__':
    harness.main()

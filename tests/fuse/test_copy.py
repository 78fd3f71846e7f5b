#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies of snapshots back into the mount: whole folders, file by file, and
`ram`, `devstate` and `preamble` where there is no snapshot yet."""
import errno
import itertools
import os
import shutil
import threading

from fusecase import LISTED, MIB, VIEWS, read_file, setUpModule, write_all  # noqa: F401
from copycase import PARTS, CopiedCase
import harness
import makestream
from mappedram import LIBVIRT


class FolderTest(CopiedCase):
    """Whole folders, by each program."""
    everything = [*LISTED, 'domain.xml']

    def test_cp(self):
        self.run_ok('cp', '-a', self.backup, self.snaps('vm1'))
        self.check_same('vm1', self.everything)

    def test_cp_from_the_mount(self):
        self.run_ok('cp', '-a', self.snaps('source'), self.snaps('vm1'))
        self.check_same('vm1', self.everything)

    def test_cp_of_all_views_by_name(self):
        """As a backup that an older version made."""
        for order in itertools.permutations(VIEWS):
            os.mkdir(self.snaps('vm1'))
            for view in order:
                # What comes when the snapshot is there is refused, or is it again.
                harness.run('cp', '-a', self.saved(view), self.snaps('vm1', view))
            self.check_same()
            self.run_ok('rm', '-r', self.snaps('vm1'))

    def test_rsync(self):
        harness.need_program('rsync')
        for number, options in enumerate((('-a',), ('-aS',), ('-a', '--inplace'),
                                          ('-a', '--no-whole-file'),
                                          ('-a', '--preallocate'))):
            with self.subTest(options=options):
                name = f'vm{number}'
                for checksum in ((), (), ('-c',)):
                    self.run_ok('rsync', *options, *checksum, self.backup + '/',
                                self.snaps(name) + '/')
                    self.check_same(name, self.everything)

    def test_tar(self):
        for number, options in enumerate(((), ('-S',), ('--xattrs',))):
            archive = self.path(f'{number}.tar')
            self.run_ok('tar', *options, '-C', self.snaps(), '-cf', archive, 'source')
            folder = self.snaps(f'tar{number}')
            os.mkdir(folder)
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

    def test_again_over_it_loses_nothing(self):
        """Each program fails, names the file and says why; the log says what to
        do. All but domain.xml is as it was."""
        archive = self.path('a.tar')
        self.run_ok('tar', '-C', self.backup, '-cf', archive, '.')
        os.utime(self.saved('ram'), (1000000000, 1100000001))
        there, here = self.snaps('source') + '/', self.backup + '/'
        for command in (['cp', '-a', here + '.', there],
                        ['cp', '-a', '--remove-destination', here + '.', there],
                        ['cp', '-a', '--force', here + '.', there],
                        ['rsync', '-aI', here, there], ['rsync', '-aI', '--inplace', here, there],
                        ['tar', '-C', there, '-xf', archive],
                        ['tar', '-C', there, '--overwrite', '-xf', archive],
                        ['install', here + 'ram', here + 'devstate', there],
                        ['mv', self.copy_of('ram'), there + 'ram']):
            with self.subTest(command=command):
                done = harness.run(*command)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn('ram', done.stderr)
                self.assertIn('Operation not permitted', done.stderr)
                os.chmod(self.snaps('source', 'ram'), 0o640)
                os.utime(self.snaps('source', 'ram'), (1000000000, 1100000000))
                self.check_same('source', self.everything)
        self.wait_log('source/ram: a snapshot is already here: remove it first, or write its '
                      'stream')

    def test_again_in_place_of_it(self):
        archive = self.path('a.tar')
        self.run_ok('tar', '-C', self.backup, '-cf', archive, '.')
        before = os.stat(self.store('source', 'snapshot.zst')).st_ino
        self.run_ok('tar', '-C', self.snaps('source'), '--recursive-unlink', '-xf', archive)
        self.check_same('source', self.everything)
        self.assertNotEqual(os.stat(self.store('source', 'snapshot.zst')).st_ino, before)

    def copy_of(self, view):
        return shutil.copy(self.saved(view), self.path('copy'))


class OrderTest(CopiedCase):
    """One file after the other."""

    def test_any_that_makes_a_snapshot(self):
        for names in (('stream',), ('mapped',), ('ram', 'devstate'), ('devstate', 'ram')):
            with self.subTest(names=names):
                folder = 'by-' + '-'.join(names)
                os.mkdir(self.snaps(folder))
                for view in names:
                    self.assertEqual(len(os.listdir(self.snaps(folder))), names.index(view))
                    self.copy(view, folder)
                self.check_same(folder)

    def test_stream_after_another_replaces_it(self):
        for first in (('stream',), ('mapped',), ('ram', 'devstate'), ('devstate', 'ram')):
            os.mkdir(self.snaps('vm1'))
            for view in first:
                self.copy(view)
            before = os.stat(self.store('vm1', 'snapshot.zst')).st_ino
            self.copy('stream')
            self.check_same()
            self.assertNotEqual(os.stat(self.store('vm1', 'snapshot.zst')).st_ino, before)
            self.run_ok('rm', '-r', self.snaps('vm1'))

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


class PartsTest(CopiedCase):
    """`ram` and `devstate` where there is no snapshot yet."""

    def setUp(self):
        super().setUp()
        os.mkdir(self.snaps('vm1'))

    def check_made(self):
        self.assertEqual(os.listdir(self.store('vm1')), ['snapshot.zst'])

    def check_not_made(self, parts=('devstate', 'ram')):
        self.assertEqual(sorted(set(os.listdir(self.store('vm1'))) - {'.snapfs-error'}),
                         sorted(parts))
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), sorted(parts))
        for view in ('stream', 'mapped'):
            self.assert_errno(errno.ENOENT, os.stat, self.snaps('vm1', view))

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
        self.check_not_made()
        os.close(fd)
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), LISTED)
        self.check_made()

    def test_shell_may_double_its_descriptors(self):
        for view in ('ram', 'devstate'):
            self.run_ok('sh', '-c', 'cat "$1" >"$2"', 'sh', self.saved(view),
                        self.snaps('vm1', view))
        self.assertTrue(read_file(self.snaps('vm1', 'mapped')) == self.views['mapped'])

    def test_all_written_at_once(self):
        for number, parts in enumerate([PARTS, (*PARTS, 'preamble')] * 8):
            name, errors = f'a{number}', []
            os.mkdir(self.snaps(name))

            def copy(part, name=name, errors=errors):
                data = LIBVIRT if part == 'preamble' else self.views[part]
                try:
                    self.put_file(self.snaps(name, part), data)
                except OSError as error:
                    errors.append(f'{part}: {error}')
            threads = [threading.Thread(target=copy, args=(part,)) for part in parts]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(errors, [])
            harness.wait_until(lambda name=name: 'snapshot.zst' in os.listdir(self.store(name)) and
                               not set(os.listdir(self.store(name))) & set(parts), 10, 'a snapshot')
            begin = LIBVIRT if 'preamble' in parts else b''
            self.assertTrue(read_file(self.snaps(name, 'stream')) == begin + self.views['stream'])

    def test_who_has_one_open_is_waited_for(self):
        self.copy('devstate')
        idle = os.open(self.snaps('vm1', 'devstate'), os.O_RDWR)
        self.copy('ram')
        self.check_not_made()
        os.close(idle)
        self.wait_snapshot()
        self.check_same()

    def write(self, name, data):
        with open(self.snaps('vm1', name), 'wb', buffering=0) as file:
            write_all(file.fileno(), data)

    def test_what_is_no_devstate(self):
        for data in (b'no devstate at all', self.views['devstate'][:-1], self.data):
            self.assert_errno(errno.EPROTO, self.write, 'devstate', data)
            self.assertTrue(read_file(self.snaps('vm1', 'devstate')) == data)
        self.wait_log('vm1/devstate: not saved: devstate is not whole: ')
        self.copy('ram')
        self.check_not_made()
        self.copy('devstate')
        self.check_same()

    def test_ram_of_another_size(self):
        self.copy('devstate')
        for data in (self.views['ram'][:-4096], self.views['ram'] + bytes(10)):
            self.assert_errno(errno.EPROTO, self.write, 'ram', data)
            self.wait_log('vm1/ram: not saved: ram is not whole: ')
        self.check_not_made()
        self.copy('ram')
        self.check_same()

    def test_beside_a_snapshot_that_comes_otherwise(self):
        for part, view in itertools.product(PARTS, ('stream', 'mapped')):
            with self.subTest(part=part, view=view):
                name = f'{part}-{view}'
                os.mkdir(self.snaps(name))
                self.copy(part, name)
                self.copy(view, name)
                self.wait_snapshot(name)
                self.check_same(name)

    def test_beside_another_snapshot_goes(self):
        other = makestream.Guest({'pc.ram': MIB}, seed=9)
        for part in PARTS:
            for view in ('stream', 'mapped'):
                self.copy(part)
                self.put_file(self.snaps('vm1', view), makestream.stream(other))
                self.wait_snapshot()
                self.wait_log(f'vm1/{part}: removed: the snapshot that was saved here replaces it')
                self.check_snapshot('vm1', other)
                self.run_ok('rm', '-r', self.snaps('vm1'))
                os.mkdir(self.snaps('vm1'))

    def test_what_is_no_part_stays_beside_a_snapshot(self):
        self.write('ram', b'x')
        self.write('ram.orphan', b'the first')
        self.copy('stream')
        self.check_same('vm1', ['ram.orphan'])
        self.assertEqual(read_file(self.snaps('vm1', 'ram.orphan')), b'the first')

    def test_left_beside_the_snapshot_that_was_made_of_them(self):
        """As by a daemon that was killed before it had removed them."""
        self.copy('stream')
        self.mount.unmount()
        for view in ('ram', 'devstate'):
            shutil.copyfile(self.saved(view), self.store('vm1', view))
        self.mount.start()
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), LISTED)
        self.check_same()

    def test_written_while_the_snapshot_comes_otherwise(self):
        fd = os.open(self.snaps('vm1', 'ram'), os.O_WRONLY | os.O_CREAT)
        write_all(fd, self.views['ram'][:MIB])
        self.copy('stream')
        write_all(fd, self.views['ram'][MIB:])
        os.close(fd)
        self.check_same()


class PreambleTest(CopiedCase):
    """`preamble`, which a snapshot can do without."""

    def setUp(self):
        super().setUp()
        os.mkdir(self.snaps('vm1'))

    def put(self, name, data):
        self.put_file(self.snaps('vm1', name), data)

    def check_with(self, preamble):
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), ['devstate', 'preamble', 'ram'])
        self.assertEqual(read_file(self.snaps('vm1', 'preamble')), preamble)
        self.assertTrue(read_file(self.snaps('vm1', 'stream')) == preamble + self.views['stream'])
        for view in ('ram', 'devstate', 'mapped'):
            self.assertTrue(read_file(self.snaps('vm1', view)) == self.views[view], view)
        self.assertEqual(os.getxattr(self.snaps('vm1'), 'user.snapfs.preamble'),
                         str(len(preamble)).encode())
        self.check_no_leftovers()

    def test_before_between_or_after(self):
        for order in itertools.permutations(('preamble', *PARTS)):
            with self.subTest(order=order):
                for name in order:
                    self.put(name, LIBVIRT if name == 'preamble' else self.views[name])
                self.check_with(LIBVIRT)
                side = order[2] == 'preamble'
                self.assertEqual(sorted(os.listdir(self.store('vm1'))),
                                 ['snapshot.head'] * side + ['snapshot.zst'])
                self.mount.remount()
                self.check_with(LIBVIRT)
                self.run_ok('rm', '-r', self.snaps('vm1'))
                os.mkdir(self.snaps('vm1'))

    def test_after_a_stream(self):
        for view in ('stream', 'mapped'):
            self.copy(view)
            self.put('preamble', b'one of another manager')
            self.check_with(b'one of another manager')
            self.run_ok('rm', '-r', self.snaps('vm1'))
            os.mkdir(self.snaps('vm1'))

    def test_one_that_is_there_is_not_replaced(self):
        for side in (False, True):
            for name in ('ram', 'devstate'):
                self.put(name, self.views[name])
                if not side and name == 'ram':
                    self.put('preamble', LIBVIRT)
            if side:
                self.put('preamble', LIBVIRT)
            self.assert_errno(errno.EPERM, self.put, 'preamble', b'another')
            self.assert_errno(errno.EPERM, os.truncate, self.snaps('vm1', 'preamble'), 0)
            os.unlink(self.snaps('vm1', 'preamble'))
            self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), LISTED)
            self.assert_errno(errno.EPERM, self.put, 'preamble', b'another')
            self.wait_log('vm1/preamble: a snapshot is already here: remove it first')
            self.check_with(LIBVIRT)
            self.run_ok('rm', '-r', self.snaps('vm1'))
            os.mkdir(self.snaps('vm1'))

    def test_an_empty_one_is_none(self):
        for order in itertools.permutations(('preamble', *PARTS)):
            for name in order:
                self.put(name, b'' if name == 'preamble' else self.views[name])
            self.wait_snapshot()
            self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), LISTED)
            for view in VIEWS:
                self.assertTrue(read_file(self.snaps('vm1', view)) == self.views[view], view)
            self.run_ok('rm', '-r', self.snaps('vm1'))
            os.mkdir(self.snaps('vm1'))

    def test_alone_is_an_ordinary_file_until_a_snapshot_comes(self):
        self.put('preamble', LIBVIRT)
        self.assertEqual(os.listdir(self.snaps('vm1')), ['preamble'])
        self.mount.remount()
        self.assertEqual(read_file(self.snaps('vm1', 'preamble')), LIBVIRT)
        self.copy('stream')
        harness.wait_until(lambda: 'preamble' not in os.listdir(self.store('vm1')), 10, 'it goes')
        self.check_same()

    def test_does_not_outlive_another_snapshot(self):
        for name in ('ram', 'devstate', 'preamble'):
            self.put(name, LIBVIRT if name == 'preamble' else self.views[name])
        self.copy('stream')
        self.check_same()

    def test_one_that_is_too_long(self):
        """It could not be kept in memory when it is written again."""
        for name in PARTS:
            self.copy(name)
        with self.assertRaises(OSError):
            with open(self.snaps('vm1', 'preamble'), 'wb', buffering=0) as file:
                file.truncate(65 * MIB)
        self.wait_log('vm1/preamble: cannot become the preamble of the snapshot: ')
        self.assertTrue(read_file(self.snaps('vm1', 'stream')) == self.views['stream'])
        self.run_ok('rm', '-r', self.snaps('vm1'))
        self.check_gone('vm1')

    def test_with_holes(self):
        size = 300000
        for order in itertools.permutations(('preamble', *PARTS)):
            for name in order:
                if name != 'preamble':
                    self.put(name, self.views[name])
                    continue
                with open(self.snaps('vm1', name), 'wb', buffering=0) as file:
                    file.write(b'a header')
                    file.truncate(size)
            self.check_with(b'a header' + bytes(size - 8))
            self.run_ok('rm', '-r', self.snaps('vm1'))
            os.mkdir(self.snaps('vm1'))


if __name__ == '__main__':
    harness.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The process of a mount: what it was started with."""
import errno
import itertools
import os
import resource

from fusecase import MIB, FuseCase, setUpModule, write_stream  # noqa: F401
import harness
import makestream
from mount import is_mounted

FAILED, SYSTEM = 32, 2


def program():
    return harness.build_path('fs', 'mount', 'mount.snapfs')


def limit_file_size(size):
    """For preexec_fn."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


class DescriptorsTest(harness.Case):
    """Programs that are started with some standard descriptors closed."""

    def setUp(self):
        super().setUp()
        for name in ('store', 'snaps', 'other'):
            os.mkdir(self.path(name))
        self.addCleanup(self.unmount)

    def unmount(self):
        for name in ('snaps', 'other'):
            while is_mounted(self.path(name)):
                harness.run('umount', '-l', self.path(name))

    def start_closed(self, closed, *command):
        """Starts a command without the descriptors `closed`."""
        redirections = ' '.join(f'{fd}>&-' for fd in closed)
        return self.start_process('sh', '-c', f'exec "$@" {redirections}', 'sh', *command)

    def check_mount(self):
        harness.wait_until(lambda: is_mounted(self.path('snaps')), 20, 'it is mounted')
        second = harness.run(program(), self.path('store'), self.path('other'))
        self.assertEqual(second.returncode, FAILED)
        self.assertIn(f'mounted at {self.path("snaps")}', second.stderr)
        os.mkdir(self.path('snaps', 'vm1'))
        write_stream(self.path('snaps', 'vm1', 'stream'),
                     makestream.stream(makestream.Guest({'pc.ram': MIB})))
        os.stat(self.path('snaps', 'vm1', 'ram'))
        self.run_ok('rm', '-r', self.path('snaps', 'vm1'))

    def test_mount_works_and_keeps_its_lock(self):
        for n in range(4):
            for closed in itertools.combinations((0, 1, 2), n):
                for how in ((), ('-f',)):
                    with self.subTest(closed=closed, how=how):
                        process = self.start_closed(closed, program(), *how, self.path('store'),
                                                    self.path('snaps'))
                        if not how:
                            self.assertEqual(process.wait(20), 0)
                        self.check_mount()
                        self.run_ok('umount', self.path('snaps'))
                        if how:
                            self.assertEqual(process.wait(20), 0)
                        else:
                            self.wait_unlocked()

    def wait_unlocked(self):
        lock = self.path('store', '.snapfs', 'lock')
        harness.wait_until(lambda: harness.run('flock', '-n', lock, 'true').returncode == 0, 20,
                           'the daemon has ended')

    def test_tools_touch_nothing_and_say_that_output_is_lost(self):
        tool = harness.build_path('tools', 'snapfs')
        for closed in ((1,), (0, 1), (0, 1, 2)):
            with self.subTest(closed=closed):
                self.assertEqual(self.start_closed(closed, tool, '--version').wait(20), 1)
        for closed in ((0,), (2,), (0, 2)):
            with self.subTest(closed=closed):
                self.assertEqual(self.start_closed(closed, tool, '--version').wait(20), 0)
        bridge = harness.build_path('tools', 'snapfs-bridge')
        for closed in ((0, 1), (0, 1, 2)):
            with self.subTest(closed=closed):
                self.assertEqual(self.start_closed(closed, bridge, self.path('store')).wait(20), 1)


class FileSizeTest(FuseCase):
    """A limit of file sizes, as of `ulimit -f`."""

    def setUp(self):
        super().setUp()
        self.mount.unmount()

    def start_limited(self, size):
        resource.prlimit(self.mount.start().pid, resource.RLIMIT_FSIZE, (size, size))

    def test_writer_gets_an_error_and_the_mount_lives(self):
        self.start_limited(MIB)
        with open(self.snaps('file'), 'wb', buffering=0) as file:
            file.write(b'x' * MIB)
            self.assert_errno(errno.EFBIG, file.write, b'x')
            self.assert_errno(errno.EFBIG, os.ftruncate, file.fileno(), 2 * MIB)
            self.assert_errno(errno.EFBIG, os.posix_fallocate, file.fileno(), 0, 2 * MIB)
        self.assertEqual(os.stat(self.snaps('file')).st_size, MIB)
        os.mkdir(self.snaps('big'))
        big = makestream.Guest({'pc.ram': 8 * MIB}, seed=3, every=1)
        self.assert_errno(errno.EFBIG, write_stream, self.snaps('big', 'stream'),
                          makestream.stream(big))
        self.check_no_leftovers()
        small = makestream.Guest({'pc.ram': MIB}, seed=2)
        self.save('small', small)
        self.check_snapshot('small', small)

    def test_limit_of_zero_is_one_clear_error(self):
        for how in ((), ('-f',)):
            with self.subTest(how=how):
                done = harness.run(program(), *how, self.store(), self.snaps(),
                                   preexec_fn=lambda: limit_file_size(0))
                self.assertEqual(done.returncode, SYSTEM)
                self.assertEqual(done.stderr, 'mount.snapfs: the limit of file sizes (ulimit -f) '
                                              'is 0: nothing can be written\n')
        done = harness.run(program(), self.store(), self.snaps(), '-o', 'ro',
                           preexec_fn=lambda: limit_file_size(0))
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.run_ok('umount', self.snaps())
        self.mount.start()

    def test_tools_fail_with_an_error(self):
        self.mount.start()
        self.save('vm1', makestream.Guest({'pc.ram': 8 * MIB}, seed=3, every=1))
        tool = harness.build_path('tools', 'snapfs')
        done = harness.run(tool, 'export', '-o', self.path('out'), self.store(), 'vm1',
                           preexec_fn=lambda: limit_file_size(MIB))
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn('File too large', done.stderr)


if __name__ == '__main__':
    harness.main()

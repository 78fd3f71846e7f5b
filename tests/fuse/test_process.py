#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The process of a mount: what it was started with, and what it gives up."""
import errno
import itertools
import os
import resource
import signal
import stat

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


class SignalsTest(FuseCase):
    def test_a_mount_whose_starter_blocked_a_signal_ends(self):
        self.mount.unmount()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        try:
            self.mount.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        self.mount.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.mount.process.wait(20), 0)
        self.mount.process = None


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
        if 'TSAN_OPTIONS' in os.environ:
            raise harness.Missing('ThreadSanitizer makes a file of its own before main()')
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


class ConfinedTest(FuseCase):
    """What the process has given up once it is mounted."""
    options = ('loglevel=debug',)
    # CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, MKNOD, SETFCAP
    KEPT = 0x8800001f
    OUTSIDE = 1 << 21 | 1 << 19 | 1 << 2   # SYS_ADMIN, SYS_PTRACE, DAC_READ_SEARCH

    def setUp(self):
        harness.need_root()
        super().setUp()

    def status(self, *names):
        """The lines of /proc/…/status."""
        text = harness.read_text(os.path.join('/proc', *map(str, names), 'status'))
        return dict(line.split(':\t', 1) for line in text.splitlines())

    def caps(self, pid, which='CapPrm'):
        return int(self.status(pid)[which], 16)

    def outside(self):
        """The process that stays outside."""
        def children():
            return harness.read_text(f'/proc/{self.mount.pid}/task/{self.mount.pid}/children')
        return int(harness.wait_until(children, 10, 'the mount has a process outside'))

    def sanitized(self):
        return 'a sanitizer needs' in self.mount.log()

    def restart(self, *options):
        self.mount.unmount()
        with open(self.mount.log_path, 'w'):
            pass
        self.mount.options = ['loglevel=debug', *options]
        self.mount.start()

    def check_works(self):
        os.mkdir(self.snaps('works'))
        self.save('works/vm1')
        self.check_snapshot('works/vm1')
        self.run_ok('rm', '-r', self.snaps('works'))

    def test_every_thread_has_given_it_up(self):
        self.check_works()
        threads = os.listdir(f'/proc/{self.mount.pid}/task')
        self.assertGreater(len(threads), 3)
        for thread in threads:
            status = self.status(self.mount.pid, 'task', thread)
            for which in ('CapPrm', 'CapEff'):
                self.assertEqual(int(status[which], 16) & ~self.KEPT, 0, status['Name'])
            self.assertEqual(int(status['CapInh'], 16), 0)
            self.assertEqual(status['NoNewPrivs'], '1', status['Name'])
            if not self.sanitized():
                self.assertEqual(status['Seccomp'], '2', status['Name'])

    def test_each_part_is_logged(self):
        log = self.mount.log()
        self.assertIn('gave up new privileges', log)
        self.assertIn('gave up all capabilities but CHOWN, ', log)
        if not self.sanitized():
            self.assertRegex(log, 'gave up all files but those of the store|'
                                  'could not give up all files .*: the kernel cannot do that')
            self.assertIn('gave up system calls', log)
        self.restart('loglevel=info')
        self.assertNotIn('gave up', self.mount.log())

    def test_each_part_has_an_option(self):
        parts = {'keep_caps': 'all capabilities', 'keep_new_privs': 'new privileges'}
        if not self.sanitized():
            parts.update(no_landlock='all files', no_seccomp='system calls')
        for option in parts:
            with self.subTest(option=option):
                self.restart(option)
                # What the kernel cannot do, the mount "could not give up".
                log = self.mount.log().replace('could not give up', 'gave up')
                for other, part in parts.items():
                    self.assertEqual(f'gave up {part}' in log, other != option, part)
                self.check_works()
        self.restart('keep_caps', 'keep_new_privs', 'no_landlock', 'no_seccomp')
        status = self.status(self.mount.pid)
        self.assertEqual((status['CapPrm'], status['NoNewPrivs'], status['Seccomp']),
                         (self.status('self')['CapPrm'], '0', '0'))
        self.check_works()

    def test_the_process_outside_holds_little(self):
        self.check_works()
        pid = self.outside()
        self.assertEqual(self.caps(pid) & ~self.OUTSIDE, 0)
        files = [os.readlink(f'/proc/{pid}/fd/{fd}') for fd in os.listdir(f'/proc/{pid}/fd')]
        self.assertEqual(files.count('/dev/null'), 3)
        self.assertEqual(len(files), 4, files)   # and its socket
        self.assertEqual(os.readlink(f'/proc/{pid}/cwd'), '/')
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        self.assertEqual(self.outside(), pid)
        self.check_works()

    def test_it_ends_with_the_mount_however_that_ends(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            pid = self.outside()
            self.mount.process.send_signal(number)
            self.mount.process.wait(20)
            harness.wait_until(lambda: not os.path.exists(f'/proc/{pid}'), 20,
                               'the process outside has ended')
            self.assertEqual(is_mounted(self.mount.point), number == signal.SIGKILL)
            self.mount.kill()
            self.mount.start()

    def test_the_mount_goes_on_without_it(self):
        os.kill(self.outside(), signal.SIGKILL)
        self.check_works()
        self.mount.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.mount.process.wait(20), 0)
        self.assertIn(f'{self.mount.point} cannot be unmounted', self.mount.log())
        self.mount.kill()
        self.mount.start()

    def test_a_mount_that_lies_above_is_left_alone(self):
        self.run_ok('mount', '-t', 'tmpfs', 'above', self.mount.point)
        self.addCleanup(harness.run, 'umount', '-l', self.mount.point)
        self.mount.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.mount.process.wait(20), 0)
        self.mount.process = None
        self.assertIn('above', self.run_ok('findmnt', '-n', '-o', 'SOURCE', self.mount.point))
        self.run_ok('umount', self.mount.point)

    def test_what_the_capabilities_are_kept_for(self):
        os.mkdir(self.snaps('f'))
        os.chown(self.snaps('f'), 12, 34)
        os.chmod(self.snaps('f'), 0o2700)
        with open(self.snaps('f', 'file'), 'w') as file:
            file.write('x')
        self.assertEqual(os.stat(self.snaps('f', 'file')).st_gid, 34)
        os.chown(self.snaps('f', 'file'), 56, 78)
        os.chmod(self.snaps('f', 'file'), 0o2710)
        self.assertEqual(os.stat(self.store('f', 'file')).st_mode & 0o7777, 0o2710)
        os.utime(self.snaps('f', 'file'), (1, 2))
        os.mknod(self.snaps('f', 'null'), 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        self.assertEqual(os.stat(self.store('f', 'null')).st_rdev, os.makedev(1, 3))
        value = bytes.fromhex('0000000200200000000000000000000000000000')   # capability.h: v2
        os.setxattr(self.snaps('f', 'file'), 'security.capability', value)
        self.assertEqual(os.getxattr(self.store('f', 'file'), 'security.capability'), value)


if __name__ == '__main__':
    harness.main()

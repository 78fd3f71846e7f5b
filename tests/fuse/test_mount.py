#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""mount.snapfs itself: its options, its ends, and who else is there."""
import errno
import os
import re
import signal
import subprocess

from fusecase import (LISTED, MIB, FuseCase, read_file, setUpModule, write_all,  # noqa: F401
                      write_stream)
import harness
import makestream
from mount import Mount, is_mounted, statistics

USAGE, FAILED = 1, 32


def program():
    return harness.build_path('fs', 'mount', 'mount.snapfs')


def mount_in_background(*arguments):
    return harness.run(program(), *arguments, timeout=20)


class BackgroundCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.store, self.snaps = self.path('store'), self.path('snaps')
        os.mkdir(self.store)
        os.mkdir(self.snaps)
        self.addCleanup(self.unmount)

    def unmount(self):
        while is_mounted(self.snaps):
            harness.run('umount', '-l', self.snaps)

    def daemon(self):
        """The process that serves the mount."""
        text = read_file(os.path.join(self.store, '.snapfs', 'lock')).decode()
        return int(re.search(r'process (\d+) on', text)[1])

    def wait_end(self, pid):
        harness.wait_until(lambda: not os.path.exists(f'/proc/{pid}/cwd') or zombie(pid), 10,
                           'the daemon ends')


def zombie(pid):
    try:
        with open(f'/proc/{pid}/stat') as stat:
            return stat.read().rsplit(')', 1)[1].split()[0] == 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return True


class BackgroundTest(BackgroundCase):
    def test_returns_when_the_mount_answers(self):
        done = mount_in_background(self.store, self.snaps)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, '', ''))
        self.assertTrue(is_mounted(self.snaps))
        os.mkdir(os.path.join(self.snaps, 'vm1'))
        pid = self.daemon()
        self.run_ok('umount', self.snaps)
        self.wait_end(pid)
        self.assertEqual(os.listdir(self.store), ['.snapfs', 'vm1'])

    def test_options_before_and_after(self):
        for arguments in ((self.store, self.snaps, '-o', 'ro'), ('-o', 'ro', self.store, self.snaps),
                          (self.store, '-o', 'ro', self.snaps), ('-r', self.store, self.snaps),
                          (self.store, self.snaps, '-oro', '-n', '-v', '-t', 'snapfs')):
            with self.subTest(arguments=arguments):
                self.assertEqual(mount_in_background(*arguments).returncode, 0)
                self.assertTrue(os.statvfs(self.snaps).f_flag & os.ST_RDONLY)
                self.unmount()

    def test_relative_paths(self):
        self.assertEqual(harness.run(program(), 'store', 'snaps', cwd=self.work).returncode, 0)
        self.assertTrue(is_mounted(self.snaps))
        with open('/proc/mounts') as mounts:
            line = [m for m in mounts if m.split()[1] == os.path.realpath(self.snaps)][0]
        self.assertEqual(line.split()[0], os.path.realpath(self.store))
        self.assertEqual(line.split()[2], 'fuse.snapfs')

    def test_log_file(self):
        log = self.path('log')
        self.assertEqual(mount_in_background(self.store, self.snaps, '-o', f'log={log}').returncode,
                         0)
        self.assertIn('is mounted at', read_file(log).decode())

    def test_strange_names(self):
        store, point = self.path('a, \\b"'), self.path('c d,e')
        os.mkdir(store)
        os.mkdir(point)
        self.assertEqual(mount_in_background(store, point).returncode, 0)
        self.addCleanup(harness.run, 'umount', '-l', point)
        os.mkdir(os.path.join(point, 'x'))
        self.assertTrue(os.path.isdir(os.path.join(store, 'x')))

    def test_options_of_the_mount_reach_it(self):
        self.assertEqual(mount_in_background(
            self.store, self.snaps, '-o',
            'noexec,noatime,dirsync,allow_other,_netdev,nofail,defaults,user,'
            'x-systemd.automount,comment=a,max_read=65536').returncode, 0)
        with open('/proc/mounts') as mounts:
            line = [m for m in mounts if m.split()[1] == self.snaps][0]
        for option in ('noexec', 'noatime', 'dirsync', 'allow_other', 'max_read=65536'):
            self.assertIn(option, line.split()[3].split(','))

    def test_mount_8_and_umount_8(self):
        harness.need_root()
        link = '/sbin/mount.snapfs'
        if os.path.lexists(link):
            raise harness.Missing(f'{link} is installed already')
        os.symlink(program(), link)
        self.addCleanup(os.unlink, link)
        self.run_ok('mount', '-t', 'snapfs', self.store, self.snaps, '-o', 'nofail,x-a=b')
        self.assertEqual(self.run_ok('findmnt', '-n', '-o', 'SOURCE,FSTYPE', self.snaps).split(),
                         [self.store, 'fuse.snapfs'])
        self.run_ok('umount', self.snaps)
        self.run_ok('mount', '-f', '-t', 'snapfs', self.store, self.snaps)
        self.assertFalse(is_mounted(self.snaps))

    # What a private mount namespace sees as /sbin also has both helpers.
    FSTAB_SCRIPT = """
        mkdir "$1/real" "$1/sbin"
        mount --bind "$(realpath /sbin)" "$1/real"
        ln -s "$1"/real/* "$1/sbin/"
        ln -sf "$2" "$1/sbin/mount.snapfs"
        ln -sf mount.snapfs "$1/sbin/mount.fuse.snapfs"
        mount --bind "$1/sbin" "$(realpath /sbin)"
        mount -t fuse.snapfs "$1/store" "$1/snaps" -o allow_other,max_read=65536
        line=$(grep " $1/snaps fuse.snapfs " /proc/mounts)
        end() { umount "$1/snaps"; flock "$1/store/.snapfs/lock" true; }
        end "$1"
        for type in fuse.snapfs snapfs; do
            echo "$line" | sed "s/ fuse.snapfs / $type /" >"$1/fstab"
            mount -T "$1/fstab" "$1/snaps"
            grep " $1/snaps fuse.snapfs " /proc/mounts
            mkdir "$1/snaps/by-$type"
            end "$1"
        done
        echo "$line"
    """

    def test_line_of_proc_mounts_works_in_fstab(self):
        harness.need_root()
        lines = self.run_ok(harness.need_program('unshare'), '-m', 'sh', '-euc',
                            self.FSTAB_SCRIPT, 'sh', self.work, program()).splitlines()
        self.assertEqual(lines, [lines[0]] * 3)
        self.assertIn('user_id=0,group_id=0,default_permissions,allow_other,max_read=65536',
                      lines[0])
        self.assertEqual(sorted(os.listdir(self.store)), ['.snapfs', 'by-fuse.snapfs', 'by-snapfs'])

    def test_umount_and_mount_again_at_once(self):
        for _ in range(10):
            harness.wait_until(
                lambda: mount_in_background(self.store, self.snaps).returncode == 0, 10,
                'the store is free again')
            os.stat(os.path.join(self.snaps, '.snapfs', 'version'))
            self.run_ok('umount', self.snaps)


class ManyFilesTest(FuseCase):
    def test_more_files_than_may_be_open(self):
        limits = harness.read_text(f'/proc/{self.mount.pid}/limits')
        limit = int(re.search(r'Max open files\s+(\d+)', limits)[1])
        if limit > 40000:
            raise harness.Missing('the daemon may have too many files open to try it')
        os.mkdir(self.store('many'))
        for i in range(limit + 2000):
            os.close(os.open(self.store('many', str(i)), os.O_CREAT | os.O_WRONLY))
        for i in range(limit + 2000):
            os.stat(self.snaps('many', str(i)))
        self.save()
        self.check_snapshot()


class AutoLevelTest(FuseCase):
    options = ('level=2', 'level=auto')

    def levels(self):
        """{level: bytes of pages that were compressed at it}"""
        return {int(name.split('"')[1]): size for name, size in statistics(self.snaps()).items()
                if name.startswith('snapfs_save_level_bytes_total{')}

    def check_levels(self, chosen):
        """A guest that gives several threads work, and what it was packed at."""
        guest = makestream.Guest({'pc.ram': 64 * MIB}, seed=6, every=1)
        self.save('big', guest)
        levels = self.levels()
        self.assertLessEqual(set(levels), chosen)
        self.assertAlmostEqual(sum(levels.values()), guest.stored() * 4096, delta=MIB)
        self.check_snapshot('big', guest)

    def test_stats_tell_the_levels(self):
        self.assertEqual(self.levels(), {})
        self.check_levels({3, 1, -1, -3, -5})


class DefaultLevelTest(AutoLevelTest):
    options = ()


class OneLevelTest(AutoLevelTest):
    options = ('level=auto', 'level=2')

    def test_stats_tell_the_levels(self):
        self.check_levels({2})


class RefusedTest(BackgroundCase):
    def refused(self, code, *arguments):
        """One line on stderr, and the exit code; what the line says."""
        done = mount_in_background(*arguments)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(done.stdout, '')
        self.assertEqual(done.stderr.count('\n'), 1, done.stderr)
        self.assertTrue(done.stderr.startswith('mount.snapfs: '), done.stderr)
        self.assertFalse(is_mounted(self.snaps))
        return done.stderr

    def test_absurd_options(self):
        for option in ('buffer=0', 'buffer=', 'buffer=x', 'buffer=-1', 'buffer=99999999999t',
                       'buffer=1', 'cache=1', 'cache=9t', 'level=0', 'level=20', 'level=x',
                       'level=-1', 'level=', 'level=auto1',
                       'threads=0', 'threads=-1', 'threads=100000', 'max_threads=0', 'uid=me',
                       'uid=-1', 'uid=4294967296', 'umask=999', 'umask=08', 'loglevel=loud',
                       'log=', 'log=/no/such/folder/file', 'nonsense', 'remount'):
            with self.subTest(option=option):
                said = self.refused(2 if option.startswith('log=/') else USAGE,
                                    self.store, self.snaps, '-o', option)
                self.assertIn(option.split('=')[0], said)

    def test_values_that_are_missing_or_too_many(self):
        for option, why in (('timeout', '-o timeout=: no value'),
                            ('disk-cache', '-o disk-cache=: no value'),
                            ('ro=3', '-o ro=3: ro takes no value'),
                            ('ro=', '-o ro=: ro takes no value'),
                            ('r', '-o r: there is no such option (see --help)')):
            with self.subTest(option=option):
                self.assertIn(why, self.refused(USAGE, self.store, self.snaps, '-o', option))

    def test_unknown_ones_are_ignored_with_s(self):
        done = mount_in_background('-s', self.store, self.snaps, '-o', 'nonsense,ro,more=1')
        self.assertEqual(done.returncode, 0)

    def test_command_line(self):
        self.refused(USAGE)
        self.refused(USAGE, self.store)
        self.refused(USAGE, self.store, self.snaps, 'more')
        self.refused(USAGE, '-Q', self.store, self.snaps)
        self.refused(USAGE, '--nonsense', self.store, self.snaps)
        self.refused(USAGE, self.store, self.snaps, '-o')

    def test_store_or_folder_that_is_none(self):
        file = self.path('file')
        with open(file, 'w'):
            pass
        self.assertIn('/none', self.refused(FAILED, self.path('none'), self.snaps))
        self.assertIn('/none', self.refused(FAILED, self.store, self.path('none')))
        self.assertIn('not a folder', self.refused(FAILED, file, self.snaps))
        self.assertIn('not a folder', self.refused(FAILED, self.store, file))
        os.mkdir(os.path.join(self.store, 'inner'))
        self.assertIn('within the store',
                      self.refused(FAILED, self.store, os.path.join(self.store, 'inner')))
        self.assertEqual(os.listdir(self.store), ['inner'])

    def test_store_that_cannot_be_written(self):
        harness.need_root()
        os.mkdir(self.path('small'))
        self.run_ok('mount', '-t', 'tmpfs', '-o', 'size=1m', 'none', self.path('small'))
        self.addCleanup(harness.run, 'umount', '-l', self.path('small'))
        os.mkdir(self.path('small', 'store'))
        self.run_ok('mount', '-o', 'remount,ro', self.path('small'))
        said = self.refused(FAILED, self.path('small', 'store'), self.snaps)
        self.assertIn('cannot be written: Read-only file system', said)
        done = mount_in_background(self.path('small', 'store'), self.snaps, '-o', 'ro')
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_second_mount_of_a_store(self):
        self.run_ok(program(), self.store, self.snaps)
        other = self.path('other')
        os.mkdir(other)
        done = mount_in_background(self.store, other)
        self.assertEqual(done.returncode, FAILED)
        self.assertIn(f'mounted at {self.snaps}', done.stderr)
        self.assertIn(str(self.daemon()), done.stderr)
        self.assertFalse(is_mounted(other))
        self.run_ok(program(), self.store, other, '-o', 'ro')
        self.addCleanup(harness.run, 'umount', '-l', other)
        write_stream(os.path.join(self.snaps, 'stream'),
                     makestream.stream(makestream.Guest({'pc.ram': MIB})))
        self.assertEqual(read_file(os.path.join(other, 'ram')),
                         read_file(os.path.join(self.snaps, 'ram')))

    def test_dead_mount_below(self):
        self.run_ok(program(), self.store, self.snaps)
        pid = self.daemon()
        os.kill(pid, signal.SIGKILL)
        self.wait_end(pid)
        done = mount_in_background(self.store, self.snaps)
        self.assertEqual(done.returncode, FAILED)
        self.assertIn('umount it first', done.stderr)


class HelpTest(harness.Case):
    def test_help_and_version(self):
        text = self.run_ok(program(), '--help')
        self.assertLessEqual(max(map(len, text.splitlines())), 80)
        for word in ('buffer=SIZE', 'allow_other', '--version', '-N'):
            self.assertIn(word, text)
        self.assertRegex(self.run_ok(program(), '--version'), r'^mount\.snapfs \d')
        self.assertEqual(self.run_ok(program(), '-h'), text)


class ReadOnlyTest(FuseCase):
    def setUp(self):
        super().setUp()
        self.save()
        with open(self.snaps('vm1', 'notes'), 'w') as file:
            file.write('x')
        self.mount.unmount()
        self.mount.options = ['ro']
        self.mount.start()

    def test_shows_everything(self):
        self.check_snapshot()
        self.assertEqual(read_file(self.snaps('vm1', 'notes')), b'x')

    def test_refuses_every_change(self):
        path = self.snaps('vm1', 'notes')
        for function, arguments in (
                (os.mkdir, (self.snaps('a'),)), (os.rmdir, (self.snaps('vm1'),)),
                (os.unlink, (path,)), (os.unlink, (self.snaps('vm1', 'ram'),)),
                (os.rename, (self.snaps('vm1'), self.snaps('b'))),
                (os.symlink, ('x', self.snaps('c'))), (os.link, (path, self.snaps('d'))),
                (os.mkfifo, (self.snaps('e'),)), (os.chmod, (path, 0o600)),
                (os.chmod, (self.snaps('vm1', 'ram'), 0o600)), (os.truncate, (path, 0)),
                (os.utime, (path,)), (os.setxattr, (path, 'user.a', b'b')),
                (os.open, (path, os.O_WRONLY)), (os.open, (path, os.O_RDWR)),
                (os.open, (self.snaps('vm1', 'stream'), os.O_WRONLY)),
                (os.open, (self.snaps('vm1', 'stream'), os.O_WRONLY | os.O_CREAT)),
                (os.open, (self.snaps('stream'), os.O_WRONLY | os.O_CREAT)),
                (os.open, (self.snaps('f'), os.O_WRONLY | os.O_CREAT))):
            with self.subTest(function=function.__name__, arguments=arguments):
                self.assert_errno(errno.EROFS, function, *arguments)

    def test_touches_nothing_in_the_store(self):
        def times():
            return [(root, os.stat(root).st_mtime_ns) for root, _, _ in os.walk(self.store())]
        before = times()
        self.check_snapshot()
        self.mount.unmount()
        self.assertEqual(times(), before)


class EndTest(FuseCase):
    def begin_save(self):
        os.mkdir(self.snaps('vm1'))
        fd = os.open(self.snaps('vm1', 'stream'), os.O_WRONLY | os.O_CREAT)
        self.addCleanup(self.close, fd)
        write_all(fd, self.data[:3 * MIB // 2])
        return fd

    def close(self, fd):
        try:
            os.close(fd)
        except OSError:
            pass

    def test_signal_unmounts_and_ends_saves(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(signal=number):
                self.begin_save()
                self.mount.process.send_signal(number)
                self.assertEqual(self.mount.process.wait(20), 0)
                self.mount.process = None
                self.assertFalse(is_mounted(self.mount.point))
                self.assertEqual(os.listdir(self.store('.snapfs', 'tmp')), [])
                self.assertEqual(os.listdir(self.store('vm1')), ['.snapfs-error'])
                self.assertIn('vm1/stream: not saved', self.mount.log())
                self.mount.start()
                self.assertTrue(os.getxattr(self.snaps('vm1'), 'user.snapfs.error'))
                self.run_ok('rm', '-r', self.snaps('vm1'))

    def test_killed_daemon_leaves_the_old_one(self):
        self.save('vm2')
        self.begin_save()
        self.mount.crash()
        self.assertNotEqual(os.listdir(self.store('.snapfs', 'tmp')), [])
        self.mount.start()
        self.assertEqual(os.listdir(self.store('.snapfs', 'tmp')), [])
        self.assertEqual(os.listdir(self.snaps('vm1')), [])
        self.assertIn(b'cut off', os.getxattr(self.snaps('vm1'), 'user.snapfs.error'))
        self.check_snapshot('vm2')
        self.save('vm1')
        self.check_snapshot('vm1')

    def test_killed_writer_leaves_nothing(self):
        os.mkdir(self.snaps('vm1'))
        with open(self.snaps('vm1', 'stream'), 'wb') as out:
            writer = self.start_process('cat', stdin=subprocess.PIPE, stdout=out)
        self.addCleanup(writer.stdin.close)
        writer.stdin.write(self.data[:MIB])
        writer.stdin.flush()
        harness.wait_until(lambda: os.stat(self.snaps('vm1', 'stream')).st_size >= MIB - 65536,
                           10, 'bytes arrive')
        writer.kill()
        writer.wait()
        self.wait_gone('vm1', 'stream')
        self.check_no_leftovers()

    def test_busy_mount_is_not_unmounted(self):
        self.save()
        with open(self.snaps('vm1', 'ram'), 'rb'):
            self.assertNotEqual(harness.run('umount', self.mount.point).returncode, 0)
        self.assertEqual(self.mount.unmount(), 0)

    def test_full_disk_fails_the_save_only(self):
        harness.need_root()
        self.mount.unmount()
        self.run_ok('mount', '-t', 'tmpfs', '-o', 'size=4m', 'none', self.store())
        self.addCleanup(harness.run, 'umount', '-l', self.store())
        self.mount.start()
        self.save('small', makestream.Guest({'pc.ram': MIB}, seed=3))
        big = makestream.Guest({'pc.ram': 48 * MIB}, seed=4)
        os.mkdir(self.snaps('vm1'))
        self.assert_errno(errno.ENOSPC, write_stream, self.snaps('vm1', 'stream'),
                          makestream.stream(big))
        self.check_no_leftovers()
        self.check_snapshot('small', makestream.Guest({'pc.ram': MIB}, seed=3))
        self.save('again', makestream.Guest({'pc.ram': MIB}, seed=5))
        self.mount.unmount()


class OthersTest(FuseCase):
    """Other users on a mount of root's."""
    options = ('allow_other',)

    def as_nobody(self, script):
        return harness.run(harness.need_program('setpriv'), '--reuid=65534', '--regid=65534',
                           '--clear-groups', 'sh', '-c', script, 'sh', self.snaps(),
                           self.path('in'))

    def setUp(self):
        harness.need_root()
        super().setUp()
        os.chmod(self.work, 0o755)
        with open(self.path('in'), 'wb') as file:
            file.write(self.data)

    def test_what_they_make_is_theirs(self):
        os.mkdir(self.snaps('open'))
        os.chmod(self.snaps('open'), 0o777)
        done = self.as_nobody('umask 027; mkdir "$1/open/vm1" && cat "$2" >"$1/open/vm1/stream" && '
                              'ln -s x "$1/open/link" && mkfifo "$1/open/fifo" && '
                              'echo x >"$1/open/file" && cmp "$2" "$2"')
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.check_snapshot('open/vm1')
        for name, mode in (('vm1', 0o750), ('vm1/stream', 0o640), ('vm1/ram', 0o640),
                           ('link', 0o777), ('fifo', 0o640), ('file', 0o640)):
            st = os.lstat(self.snaps('open', name))
            self.assertEqual((name, st.st_uid, st.st_gid, st.st_mode & 0o777),
                             (name, 65534, 65534, mode))

    def test_they_may_do_what_permissions_allow(self):
        self.save()
        for script in ('cat "$1/vm1/ram" >/dev/null', 'cat "$2" >"$1/vm1/stream"',
                       'mkdir "$1/mine"', 'rm -f "$1/vm1/ram"', 'chmod 666 "$1/vm1/ram"'):
            done = self.as_nobody(script)
            self.assertNotEqual(done.returncode, 0, script)
            self.assertRegex(done.stderr, 'Permission denied|not permitted')
        os.chmod(self.snaps('vm1', 'ram'), 0o644)
        self.assertEqual(self.as_nobody('cat "$1/vm1/ram" >/dev/null').returncode, 0)


class UserTest(BackgroundCase):
    """Mounted by an ordinary user, with a /dev/fuse that is for all."""

    SCRIPT = """
        mknod -m 0666 "$1/fuse" c 10 229 && mount --bind "$1/fuse" /dev/fuse || exit
        exec "$2" -u nobody -- sh -euc '
            "$1/mount.snapfs" "$1/store" "$1/snaps"
            mkdir "$1/snaps/vm1"
            cat "$1/in" >"$1/snaps/vm1/stream"
            chmod 0640 "$1/snaps/vm1/ram"
            ls "$1/snaps/vm1"
            cmp "$1/snaps/vm1/ram" "$1/flat"
            fusermount3 -u "$1/snaps"
            flock "$1/store/.snapfs/lock" true
            "$1/mount.snapfs" "$1/store" "$1/snaps"
            kill "$(sed "s/.*process //; s/ on.*//" "$1/store/.snapfs/lock")"
            flock "$1/store/.snapfs/lock" true
            ! grep " $1/snaps " /proc/mounts
        ' sh "$1"
    """

    def test_user_may_mount_and_save(self):
        harness.need_root()
        harness.need_program('fusermount3')
        os.chmod(self.work, 0o755)
        for folder in (self.store, self.snaps):
            os.chown(folder, 65534, 65534)
        self.run_ok('cp', program(), self.path('mount.snapfs'))
        guest = makestream.Guest({'pc.ram': MIB})
        for name, data in (('in', makestream.stream(guest)), ('flat', guest.flat())):
            with open(self.path(name), 'wb') as file:
                file.write(data)
        done = harness.run(harness.need_program('unshare'), '-m', 'sh', '-c', self.SCRIPT, 'sh',
                           self.work, harness.need_program('runuser'))
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertEqual(done.stdout.split(), LISTED)
        st = os.stat(os.path.join(self.store, 'vm1', 'snapshot.zst'))
        self.assertEqual((st.st_uid, st.st_mode & 0o777), (65534, 0o640))


if __name__ == '__main__':
    harness.main()

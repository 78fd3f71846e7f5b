# SPDX-License-Identifier: GPL-2.0-or-later
"""A store mounted by the mount.snapfs of the build folder.

With SNAPFS_TEST_PLAIN=1 an ordinary folder stands in for the mount: QEMU and
the guests are then all that is tested, which tells a fault of theirs, or of
the harness, from one of snapfs.
"""
import ctypes
import os
import re
import signal
import subprocess

from harness import (Missing, build_path, die_with_parent, need_fuse, need_program, read_text, run,
                     wait_until)

MNT_FORCE = 1     # mount(2)
SUSPICIOUS = re.compile(r'Sanitizer|runtime error:|Assertion|assertion|CRITICAL|WARNING: |'
                        r'core dumped|double free|stack smashing')


def plain():
    return bool(os.environ.get('SNAPFS_TEST_PLAIN'))


def need_views():
    """For tests that look at files which only snapfs makes."""
    if plain():
        raise Missing('a plain folder has no views')


def tool(*command, **options):
    """Runs `snapfs …` to its end."""
    return run(build_path('tools', 'snapfs'), *command, **options)


def statistics(point):
    """The counters of a mount, without the label that all of them have."""
    with open(os.path.join(point, '.snapfs', 'stats'), encoding='utf-8') as file:
        found = re.findall(r'^(\w+){(?:(.*),)?mountpoint="[^"]*"} (\d+)$', file.read(), re.M)
    return {f'{name}{{{more}}}' if more else name: int(value) for name, more, value in found}


def is_mounted(path):
    path = re.sub(r'[ \t\n\\]', lambda found: f'\\{ord(found[0]):03o}', os.path.realpath(path))
    with open('/proc/self/mounts') as mounts:
        return any(line.split(' ')[1] == path for line in mounts)


class Mount:
    """Use it as a context manager; `options` are those after -o."""

    def __init__(self, store, point, options=(), env=None):
        self.store = store
        self.point = point
        self.options = list(options)
        self.log_path = point.rstrip('/') + '.log'
        self.process = None
        self.before_exec = die_with_parent
        self.env = dict(os.environ, **(env or {}))
        os.makedirs(store, exist_ok=True)
        os.makedirs(point, exist_ok=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()

    def path(self, *names):
        return os.path.join(self.point, *names)

    def store_path(self, *names):
        return os.path.join(self.store, *names)

    def start(self):
        if plain():
            return self
        need_fuse()
        command = [build_path('fs', 'mount', 'mount.snapfs'), '-f', self.store, self.point]
        if self.options:
            command += ['-o', ','.join(self.options)]
        with open(self.log_path, 'ab') as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=self.env, start_new_session=True,
                                            preexec_fn=self.before_exec)
        try:
            wait_until(self._answers, 20, f'the mount at {self.point} answers')
        except BaseException:
            self.kill()
            raise
        return self

    def _answers(self):
        if self.process.poll() is not None:
            raise RuntimeError(f'mount.snapfs ended with {self.process.returncode}: {self.log()}')
        if not is_mounted(self.point):
            return False
        os.statvfs(self.point)
        return not self._looks_at_itself()

    def _looks_at_itself(self):
        """True while the daemon waits for its own first answer: a umount would find
        the mount busy."""
        tasks = f'/proc/{self.pid}/task'
        try:
            return any(read_text(f'{tasks}/{thread}/comm') == 'ready\n'
                       for thread in os.listdir(tasks))
        except ProcessLookupError:   # a thread has ended meanwhile
            return True

    @property
    def pid(self):
        return self.process.pid if self.process else None

    def log(self):
        return read_text(self.log_path)

    def suspicious(self):
        """The lines of the log that no healthy daemon writes."""
        return [line for line in self.log().splitlines() if SUSPICIOUS.search(line)]

    def memory_peak(self):
        """The most memory the daemon has held so far, in bytes."""
        status = read_text(f'/proc/{self.pid}/status')
        return int(re.search(r'^VmHWM:\s+(\d+) kB', status, re.M)[1]) * 1024

    def unmount(self, timeout=60):
        """Unmounts as a user does, waits for the daemon, gives its exit code."""
        if not self.process:
            return 0
        command = ['fusermount3', '-u'] if os.geteuid() else ['umount']
        done = run(need_program(command[0]), *command[1:], self.point)
        if done.returncode:
            raise RuntimeError(f'cannot unmount {self.point}: {done.stderr.strip()}')
        code = self.process.wait(timeout)
        self.process = None
        return code

    def crash(self):
        """kill -9 of the daemon; its dead mount is taken away."""
        self.process.send_signal(signal.SIGKILL)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            # One of its threads tells the kernel of a change, and waits for a folder that a
            # process has locked which waits for an answer. The process outside ends that
            # (fs/mount/outside.c), unless it was killed, too.
            ctypes.CDLL(None).umount2(os.fsencode(self.point), MNT_FORCE)
            self.process.wait(20)
        self.process = None
        self._detach()

    def remount(self):
        self.unmount()
        return self.start()

    def kill(self):
        """Leaves neither daemon nor mount, in whatever state they are."""
        self._detach()
        if not self.process:
            return
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
        self._detach()

    def _detach(self):
        if plain() or not is_mounted(self.point):
            return
        if os.geteuid() == 0:
            run(need_program('umount'), '-l', self.point)
        else:
            run(need_program('fusermount3'), '-uz', self.point)

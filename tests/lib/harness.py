# SPDX-License-Identifier: GPL-2.0-or-later
"""What every Python test file of snapfs shares.

A test file defines classes derived from Case and ends in `harness.main()`.
Each test gets a folder of its own, registers what it starts, and says what it
needs by asking for the thing itself, never for a version of it.

Environment:
  SNAPFS_BUILD      the build folder (default: ./build)
  SNAPFS_TEST_DIR   where the folders of the tests are made (default: /tmp)
  SNAPFS_KEEP=1     keep the folder of a test that failed
  CI=true           a skipped test is a failure
"""
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

SKIPPED = 77
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Missing(unittest.SkipTest):
    """Something this machine lacks; the message says what."""


def build_path(*names):
    """A file of the build folder; Missing where it has not been built."""
    path = os.path.join(os.path.abspath(os.environ.get('SNAPFS_BUILD', 'build')), *names)
    if not os.access(path, os.X_OK):
        raise Missing(f'{path} is not built (SNAPFS_BUILD names the build folder)')
    return path


def need_program(name):
    path = shutil.which(name, path=os.environ.get('PATH', '') + ':/usr/sbin:/sbin')
    if not path:
        raise Missing(f'the program {name} is not installed')
    return path


def need_fuse():
    try:
        os.close(os.open('/dev/fuse', os.O_RDWR))
    except OSError as error:
        raise Missing(f'/dev/fuse cannot be opened: {error.strerror}') from None
    if os.geteuid() != 0:
        need_program('fusermount3')


def need_root():
    if os.geteuid() != 0:
        raise Missing('only root may do this')


def wait_until(condition, timeout, what, step=0.02):
    """The first true value of condition(); TimeoutError after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f'{what}: not after {timeout} s')
        time.sleep(step)


def die_with_parent():
    """For preexec_fn: no child outlives a harness that was killed, nor inherits
    what a harness under nohup was told to ignore."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(*command, timeout=120, **options):
    """Runs a command to its end; its output and error are in the result."""
    return subprocess.run([str(word) for word in command], capture_output=True,
                          timeout=timeout, text=True, check=False, **options)


def read_text(path):
    try:
        with open(path, errors='replace') as file:
            return file.read()
    except FileNotFoundError:
        return ''


class Case(unittest.TestCase):
    """A test with a folder of its own, `self.work`, that goes when it ends."""

    def setUp(self):
        top = os.environ.get('SNAPFS_TEST_DIR') or None
        # A short name: it leads to unix sockets, whose paths end at 107 bytes.
        self.work = tempfile.mkdtemp(prefix='snapfs-', dir=top)
        self.addCleanup(self._remove_work)

    def _remove_work(self):
        if os.environ.get('SNAPFS_KEEP') and not self._passed():
            print(f'kept: {self.work}', file=sys.stderr)
            return
        shutil.rmtree(self.work, ignore_errors=True)

    def _passed(self):
        result = self._outcome.result
        return not any(getattr(test, 'test_case', test) is self
                       for test, _ in result.failures + result.errors)

    def path(self, *names):
        return os.path.join(self.work, *names)

    def enter(self, manager):
        """Enters a context manager that is left when the test ends."""
        value = manager.__enter__()
        self.addCleanup(manager.__exit__, None, None, None)
        return value

    def run_ok(self, *command, **options):
        """Runs a command that must succeed; returns its standard output."""
        done = run(*command, **options)
        self.assertEqual(done.returncode, 0,
                         f'{" ".join(map(str, command))}\n{done.stdout}{done.stderr}')
        return done.stdout

    def start_process(self, *command, **options):
        """A process that is killed, if it still runs, when the test ends."""
        process = subprocess.Popen([str(word) for word in command],
                                   preexec_fn=die_with_parent, **options)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process


class TapResult(unittest.TextTestResult):
    """Also says on standard output, in TAP, how each test ended."""
    numbers = 0

    def _say(self, test, good, comment=''):
        TapResult.numbers += 1
        name = test.id().split('.', 1)[-1].replace('test_', '').replace('_', ' ')
        print(f'{"" if good else "not "}ok {self.numbers} - {name}{comment}', flush=True)

    def _has_failed(self, test):
        return any(getattr(one, 'test_case', one) is test
                   for one, _ in self.failures + self.errors)

    def stopTest(self, test):
        super().stopTest(test)
        skipped = [reason for one, reason in self.skipped if one is test]
        self._say(test, not self._has_failed(test), f' # SKIP {skipped[0]}' if skipped else '')

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        if not isinstance(test, unittest.TestCase):   # a whole module
            self._say(test, True, f' # SKIP {reason}')

    def addError(self, test, err):
        super().addError(test, err)
        if not isinstance(test, unittest.TestCase):
            self._say(test, False)


def main():
    """Runs the tests of the calling file and exits as the suite runner expects."""
    runner = unittest.TextTestRunner(verbosity=0, resultclass=TapResult)
    result = unittest.main(module='__main__', exit=False, testRunner=runner).result
    print(f'1..{TapResult.numbers}')
    for test, reason in result.skipped:
        print(f'skipped: {test.id()}: {reason}')
    if not result.wasSuccessful():
        sys.exit(1)
    if result.skipped and os.environ.get('CI') == 'true':
        print('a skipped test is a failure here (CI=true)')
        sys.exit(1)
    if result.skipped and len(result.skipped) >= result.testsRun:
        sys.exit(SKIPPED)
    sys.exit(0)


def main_with(end):
    """The same, and calls `end` after the tests, also when SIGTERM ends them."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    finally:
        end()

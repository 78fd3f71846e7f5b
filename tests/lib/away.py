# SPDX-License-Identifier: GPL-2.0-or-later
"""A store that goes away: a folder, shown by a file system whose calls stop
returning when they are told to (tests/fuse/away.c)."""
import os
import subprocess

from harness import build_path, die_with_parent, need_program, run, wait_until
from mount import is_mounted


class AwayStore:
    """Use it as a context manager; `path` is the store."""

    def __init__(self, work):
        self.source = os.path.join(work, 'far')
        self.path = os.path.join(work, 'store')
        self.order = os.path.join(work, 'order')
        self.process = None

    def __enter__(self):
        os.makedirs(self.source, exist_ok=True)
        os.makedirs(self.path, exist_ok=True)
        self.process = subprocess.Popen(
            [build_path('tests', 'fuse', 'away'), self.source, self.path, self.order],
            stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
        wait_until(lambda: is_mounted(self.path), 20, 'the far store is mounted')
        return self

    def __exit__(self, *_):
        self.come_back()
        run(need_program('umount'), '-l', self.path)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def go_away(self, *calls):
        """From now on these calls, or all, do not return."""
        self._forget('.hangs')
        with open(self.order + '.new', 'w') as file:
            file.write(' '.join(calls))
        os.rename(self.order + '.new', self.order)

    def wait_hanging(self):
        wait_until(lambda: os.path.exists(self.order + '.hangs'), 20, 'a call hangs')

    def come_back(self):
        """All calls return, and later ones do."""
        self._forget()

    def _forget(self, suffix=''):
        try:
            os.remove(self.order + suffix)
        except FileNotFoundError:
            pass

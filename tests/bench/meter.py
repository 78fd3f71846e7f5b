# SPDX-License-Identifier: GPL-2.0-or-later
"""What processes use of the machine while something is measured."""
import os
import re
import threading

from harness import read_text, wait_until

STEP = 0.02     # seconds between two looks at a program that QEMU has started
TICKS = os.sysconf('SC_CLK_TCK')


def family_seconds(pid):
    """What a process, and those of its children for which it has waited, have
    used so far (proc(5), fields 14 to 17 of stat)."""
    words = read_text(f'/proc/{pid}/stat').rpartition(')')[2].split()
    return sum(int(word) for word in words[11:15]) / TICKS


def memory(pid, which):
    """VmRSS or VmHWM in bytes; 0 for a process that has ended."""
    try:
        found = re.search(rf'^{which}:\s+(\d+) kB', read_text(f'/proc/{pid}/status'), re.M)
    except ProcessLookupError:
        found = None
    return int(found[1]) * 1024 if found else 0


def children(pid):
    """The programs that the first thread of a process has started."""
    return [int(word) for word in read_text(f'/proc/{pid}/task/{pid}/children').split()]


def wait_no_children(pid):
    """Until the programs that QEMU runs for a save or a load have ended."""
    wait_until(lambda: not children(pid), 60, 'what QEMU has started ends', step=0.005)


class Meter:
    """Counts from when it is made until read(). `servers` are processes that
    work for QEMU; what QEMU starts itself, as it does for exec:, counts too."""

    def __init__(self, qemu, *servers):
        self.qemu, self.pids = qemu, (qemu, *servers)
        for pid in self.pids:
            with open(f'/proc/{pid}/clear_refs', 'w') as file:
                file.write('5')     # VmHWM begins anew (proc(5))
        self.before = memory(qemu, 'VmRSS')
        self.seconds = -sum(map(family_seconds, self.pids))
        self.peaks = {}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        """A child's peak is gone with it, so it is looked at all the while."""
        while not self.ended.wait(STEP):
            for pid in children(self.qemu):
                self.peaks[pid] = max(self.peaks.get(pid, 0), memory(pid, 'VmHWM'))

    def add(self, usage):
        """A process has ended that this one has started: its rusage."""
        self.seconds += usage.ru_utime + usage.ru_stime
        self.peaks['ended'] = self.peaks.get('ended', 0) + usage.ru_maxrss * 1024

    def read(self):
        """(seconds of a processor, MB of the most memory that all had together,
        MB of it that QEMU did not have before)."""
        wait_no_children(self.qemu)
        self.ended.set()
        self.thread.join()
        peak = sum(memory(pid, 'VmHWM') for pid in self.pids) + sum(self.peaks.values())
        return (self.seconds + sum(map(family_seconds, self.pids)), peak / 1e6,
                max(peak - self.before, 0) / 1e6)

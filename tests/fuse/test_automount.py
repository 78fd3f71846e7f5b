#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A mount point that is one of systemd's automounts (autofs): the kernel keeps
all processes waiting that go there, but for those of systemd's process group,
in which it starts mount(8) and so mount.snapfs. This test plays systemd."""
import ctypes
import fcntl
import os
import select
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from harness import Missing, build_path, need_fuse, need_root, read_text, run, wait_until
from mount import is_mounted

READY = 0x9360       # AUTOFS_IOC_READY (linux/auto_fs.h), with the token of the request
TOKEN = 8            # where it is in struct autofs_v5_packet
MNT_DETACH = 2       # mount(2)
LIBC = ctypes.CDLL(None, use_errno=True)


class Automount(harness.Case):
    def setUp(self):
        super().setUp()
        need_root()
        need_fuse()
        self.store, self.point = self.path('store'), self.path('snaps')
        os.mkdir(self.store)
        os.mkdir(self.point)
        self.requests, kernel = os.pipe()
        self.addCleanup(os.close, self.requests)
        options = f'fd={kernel},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct'
        failed = LIBC.mount(b'snapfs-test', self.point.encode(), b'autofs', 0, options.encode())
        error = ctypes.get_errno()
        os.close(kernel)
        if failed:
            raise Missing(f'autofs cannot be mounted: {os.strerror(error)}')
        self.addCleanup(self.unmount)
        self.root = os.open(self.point, os.O_RDONLY)
        self.addCleanup(os.close, self.root)

    def unmount(self):
        """Both mounts; the end of the lower one wakes whoever still waits there."""
        while is_mounted(self.point):
            LIBC.umount2(self.point.encode(), MNT_DETACH)

    def test_who_looks_first_finds_the_store_mounted(self):
        os.mkdir(self.path('store', 'vm1'))
        first = self.start_process('ls', self.point, stdout=-1, start_new_session=True)
        token, = struct.unpack_from('I', os.read(self.requests, 4096), TOKEN)
        done = run(build_path('fs', 'mount', 'mount.snapfs'), self.store, self.point, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        fcntl.ioctl(self.root, READY, token)
        self.assertEqual(first.communicate(timeout=60)[0], b'vm1\n')

        # What was unmounted stays so until somebody looks again: the program does not.
        self.assertEqual(LIBC.umount2(self.point.encode(), 0), 0)
        wait_until(self.has_ended, 60, 'mount.snapfs ends')
        self.assertEqual(select.select([self.requests], [], [], 0)[0], [])

    def has_ended(self):
        return not any(self.point in read_text(f'/proc/{pid}/cmdline')
                       for pid in os.listdir('/proc') if pid.isdigit())


if __name__ == '__main__':
    harness.main()

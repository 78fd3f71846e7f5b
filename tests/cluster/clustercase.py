# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of a store on a cluster share: one cluster and its hosts A and B for all tests,
and a store for each."""
import itertools
import os
import subprocess
import sys

for folder in ('lib', 'fuse'):
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', folder))

from ceph import Cluster, Host  # noqa: E402
from fusecase import FuseCase  # noqa: E402
from harness import build_path, run, wait_until  # noqa: E402
from mount import Mount  # noqa: E402

_numbers = itertools.count(1)


class Shared:
    """The cluster, started when the first test asks for it."""
    cluster = a = b = None
    _opened = []

    @classmethod
    def start(cls):
        if cls.cluster:
            return
        cls.cluster = cls._enter(Cluster())
        cls.a, cls.b = (cls._enter(Host(cls.cluster, name, cls.cluster.folder)) for name in 'ab')

    @classmethod
    def _enter(cls, manager):
        manager.__enter__()
        cls._opened.append(manager)
        return manager

    @classmethod
    def end(cls):
        while cls._opened:
            cls._opened.pop().__exit__(None, None, None)
        cls.cluster = None


class OnCluster:
    """For a Case: a store of its own on the cluster. `self.mount` is that of host A."""

    def setUp(self):
        Shared.start()
        self.cluster, self.a, self.b = Shared.cluster, Shared.a, Shared.b
        self.name = f'store{next(_numbers)}'
        super().setUp()

    def store_folder(self):
        return self.a.path(self.name)

    def new_host(self, name):
        """One that a test may let die."""
        return self.enter(Host(self.cluster, f'{name}{next(_numbers)}', self.work))

    def mount_on(self, host, *options):
        """A mount of the same store on a host, not started."""
        point = self.path(f'{host.name}-{next(_numbers)}')
        mount = Mount(host.path(self.name), point, options)
        self.addCleanup(lambda: self.assertEqual(mount.suspicious(), []))
        return mount

    def read_on(self, host):
        return self.enter(self.mount_on(host, 'ro'))

    def tool(self, *words, **options):
        return run(build_path('tools', 'snapfs'), *words, **options)


class ClusterCase(OnCluster, FuseCase):
    """With streams that the test writes."""

    def begin_save(self, name='vm1', **options):
        """A process that has written half of a stream. It alone has the file open: whoever closes a
        file of a daemon that stands still waits for it."""
        os.makedirs(self.snaps(name), exist_ok=True)
        writer = self.start_process('dd', 'bs=64k', 'iflag=fullblock', 'status=none',
                                    f'of={self.snaps(name, "stream")}', stdin=subprocess.PIPE,
                                    **options)
        writer.stdin.write(self.data[:len(self.data) // 2])
        writer.stdin.flush()
        wait_until(lambda: os.listdir(self.store('.snapfs', 'tmp')), 20, 'the save begins')
        return writer

    def end_save(self, writer):
        """Writes the other half."""
        writer.stdin.write(self.data[len(self.data) // 2:])
        writer.stdin.close()

    def check_on(self, mount, name='vm1', guest=None):
        """All views of a snapshot show the guest through another mount, too."""
        mine, self.mount = self.mount, mount
        try:
            self.check_snapshot(name, guest)
        finally:
            self.mount = mine

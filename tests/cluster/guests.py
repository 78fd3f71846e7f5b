# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that are saved on one host and come back on another."""
from clustercase import OnCluster
from mount import Mount
from qemu import Qemu
from verbs import VerbCase

MAPPED = {'mapped-ram': True, 'multifd': True}


class OnClusterVerbs(OnCluster, VerbCase):
    """`self.mount` is that of host A."""

    def new_mount(self, store, point, options=()):
        mount = Mount(self.a.path(self.name), self.path(point), options)
        self.addCleanup(lambda: self.assertEqual(mount.suspicious(), []))
        return self.enter(mount)


class Guests(OnClusterVerbs):
    def saved(self):
        """Saves a guest on A and ends it; what its pages hold."""
        qemu = self.boot()
        qemu.wait_serial('B{3}')
        constant = qemu.constant()
        self.save_ok()
        self.assert_runs_on(qemu)
        qemu.kill()
        return constant

    def test_a_guest_saved_on_a_comes_back_on_b_each_way(self):
        other = self.read_on(self.b)
        constant = self.saved()
        for way in ('bridge', 'eager', 'memory-file'):
            with self.subTest(way):
                back = self.revert(f'--way={way}', folder=other.path('vm1'))
                self.assertEqual(back.way, way)
                self.assert_back(back, constant)
                back.kill()
        for file, caps in (('stream', None), ('mapped', MAPPED)):
            with self.subTest(file):
                back = self.enter(Qemu(self.guest, self.work, incoming=True, stopped=True))
                back.incoming(f'file:{other.path("vm1", file)}', caps)
                self.assert_counts_on(back, constant)
                back.kill()

    def test_a_guest_runs_on_b_from_mapped_memory_while_a_replaces_its_snapshot(self):
        other = self.read_on(self.b)
        constant = self.saved()
        back = self.revert('--way=memory-file', folder=other.path('vm1'))
        qemu = self.boot()
        self.save_ok('--force')
        qemu.kill()
        self.assert_back(back, constant)
        back.kill()

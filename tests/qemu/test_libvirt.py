#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""`virsh save` into the mount and `virsh restore` out of it, under a libvirt
daemon of the test's own."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from libvirt import Domain, LibvirtCase, VirshError
from mapped import MAPPED, MULTIFD, DIRECT, MappedFile
from mount import plain
from qemu import need_qemu

SPARSE = ('--image-format', 'sparse')
PARALLEL = ('--parallel-channels', '2')
BYPASS = ('--bypass-cache',)

# How it is saved, and what goes with it when it is restored.
WAYS = {'raw': ((), ()),
        'raw-bypass': (BYPASS, BYPASS),
        'sparse': (SPARSE, ()),
        'sparse-parallel': (SPARSE + PARALLEL, PARALLEL),
        'sparse-bypass': (SPARSE + BYPASS, BYPASS),
        'sparse-parallel-bypass': (SPARSE + PARALLEL + BYPASS, PARALLEL + BYPASS)}


def setUpModule():
    need_qemu()


class Save(LibvirtCase):
    def domain(self):
        domain = Domain(self.libvirt, self.guest)
        domain.start()
        return domain

    def save_suspended(self, domain, name, options=()):
        """Saves a domain at a moment when its memory is known."""
        domain.virsh('suspend')
        ram = domain.dump_ram()
        domain.virsh('save', self.stream(name), *options)
        return ram

    def restore(self, domain, name, options, ram):
        self.libvirt.virsh('restore', self.mount.path(name, 'stream'), *options)
        self.assertEqual(domain.state(), 'paused')
        self.assert_same(domain.dump_ram(), ram)
        domain.virsh('resume')
        domain.wait_passes(2)

    def test_each_way_to_save_is_restored_after_a_remount(self):
        domain, kept = self.domain(), {}
        for name, (save, restore) in WAYS.items():
            with self.subTest(name):
                kept[name] = self.save_suspended(domain, name, save)
                self.restore(domain, name, restore, kept[name])
        self.mount.remount()
        for name, (save, restore) in WAYS.items():
            with self.subTest(name, again=True):
                domain.virsh('destroy')
                self.restore(domain, name, restore, kept[name])


if __name__ == '__main__':
    harness.main()

# SPDX-License-Identifier: GPL-2.0-or-later
"""A test with a mounted store and guests that are saved into it."""
import os

from guest import CountGuest, LinuxGuest
from harness import Case
from mount import Mount, plain
from qemu import Qemu, need_background_snapshot

BACKGROUND = {'background-snapshot': True}


class VmCase(Case):
    guest = CountGuest()
    options = ()

    def setUp(self):
        super().setUp()
        self.mount = self.new_mount('store', 'mnt', self.options)

    def new_mount(self, store, point, options=()):
        mount = Mount(self.path(store), self.path(point), options)
        # Looked at when the daemon has ended: a sanitizer speaks at the end.
        self.addCleanup(lambda: self.assertEqual(mount.suspicious(), []))
        return self.enter(mount)

    def boot(self, guest=None, args=()):
        """A guest that has begun to do its work."""
        guest = guest or self.guest
        qemu = self.enter(Qemu(guest, self.work, args=args))
        linux = isinstance(guest, LinuxGuest)
        qemu.wait_serial(r'^tick 1 .*\n' if linux else '^AB', timeout=90 if linux else 30)
        return qemu

    def background(self, qemu):
        """The capabilities of a background snapshot, where they exist."""
        need_background_snapshot(qemu)
        return BACKGROUND

    def snapshot(self, name='vm1'):
        """The folder of a snapshot, made if it is not there yet."""
        path = self.mount.path(name)
        os.makedirs(path, exist_ok=True)
        return path

    def stream(self, name='vm1'):
        return os.path.join(self.snapshot(name), 'stream')

    def load(self, uri, guest=None, args=()):
        """A fresh QEMU that has loaded a snapshot and is still stopped."""
        qemu = self.enter(Qemu(guest or self.guest, self.work, incoming=True, stopped=True,
                               args=args))
        qemu.incoming(uri)
        return qemu

    def image(self, name='vm1'):
        """The sealed file of a snapshot in the store."""
        return self.mount.store_path(name, 'snapshot.zst')

    def image_size(self, name='vm1'):
        if plain():
            return os.path.getsize(self.mount.path(name, 'stream'))
        return os.path.getsize(self.image(name))

    def assert_image_valid(self, name='vm1'):
        """A program that has never heard of snapfs finds the file intact."""
        if not plain():
            self.run_ok('zstd', '-t', '-q', self.image(name))

    def assert_counts_on(self, qemu, constant=None):
        """A loaded counting guest is whole, runs, and is whole after that.

        `constant` is what constant() told of the guest that was saved.
        """
        self.assertIsNone(qemu.ram_error())
        if constant:
            self.assertTrue(qemu.constant() == constant, 'a page holds other words than before')
        qemu.cont()
        qemu.wait_serial('BB', timeout=20)
        self.assertIsNone(qemu.ram_error())

    def assert_loads(self, name='vm1', guest=None, constant=None):
        qemu = self.load(f'file:{self.mount.path(name, "stream")}', guest)
        self.assert_counts_on(qemu, constant)
        qemu.kill()

    def assert_ticks_on(self, qemu, before):
        """A loaded Linux guest is the one that printed `before`, and goes on."""
        qemu.resume()
        first = qemu.wait_ticks(1)
        self.assertEqual((first.nonce, first.sum), (before.nonce, before.sum))
        self.assertGreater(first.number, before.number)
        qemu.wait_pass()
        self.assertNotIn('BAD', qemu.serial())
        return first

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU's own tests do with a file (tests/qtest/migration/file-tests.c and the
test of a descriptor of a file in precopy-tests.c), on a plain folder and on the
mount: `stream` is opened, written and read as any file may be."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from guest import CountGuest
from qemu import MigrationFailed, Qemu, need_qemu
from qmp import QmpError
from vmcase import VmCase

OFFSET = 0x1000
MARKER = b'X' * OFFSET
MAGIC = b'QEVM'
FDSET = 1

MAPPED = {'mapped-ram': True}
MULTIFD = {'mapped-ram': True, 'multifd': True}
CHANNELS = {'multifd-channels': 4}
DIRECT = dict(CHANNELS, **{'direct-io': True})


def setUpModule():
    need_qemu()


class PlainFolder(VmCase):
    """In an ordinary folder: what the mount is measured by."""
    guest = CountGuest(memory=40, end=16, fill=True)

    def setUp(self):
        super().setUp()
        self.file = os.path.join(self.folder(), 'stream')
        self.source = self.boot()
        self.constant = self.source.constant()
        self.target = self.enter(Qemu(self.guest, self.work, incoming=True, stopped=True))

    def folder(self):
        path = self.path('plain')
        os.mkdir(path)
        return path

    # ---- what a manager does before ----

    def put_header(self):
        """Writes the bytes before the stream as glib does: elsewhere, and by a
        rename."""
        with open(self.file + '.new', 'wb') as file:
            file.write(MARKER)
            file.flush()
            os.fsync(file.fileno())
        os.rename(self.file + '.new', self.file)

    def put_header_in_place(self):
        with open(self.file, 'wb') as file:
            file.write(MARKER)

    def hand_over(self, qemu, access, direct=(False,)):
        for is_direct in direct:
            fd = os.open(self.file, access | (os.O_DIRECT if is_direct else 0), 0o660)
            qemu.add_fds(FDSET, fd)
            os.close(fd)

    # ---- the save, and the way back ----

    def save_and_load(self, uri, caps=None, params=None, live=False):
        if not live:
            self.source.stop()
        # As QEMU's tests do: a live guest is soon stopped for the rest.
        self.source.migrate(uri, caps, {'downtime-limit': 30000, **(params or {})})
        self.target.incoming(uri, caps, params)
        self.assert_counts_on(self.target, self.constant)

    def check_header(self):
        with open(self.file, 'rb') as file:
            self.assertEqual(file.read(OFFSET), MARKER)
            self.assertEqual(file.read(4), MAGIC)

    def check_fdset_ends(self):
        self.source.remove_fds(FDSET)
        self.assertEqual(self.source.cmd('query-fdsets'), [])

    # ---- tests ----

    def test_file(self):
        self.save_and_load(f'file:{self.file}')

    def test_offset(self):
        self.put_header()
        self.save_and_load(f'file:{self.file},offset={OFFSET}', live=True)
        self.check_header()

    def test_offset_behind_a_header_written_in_place(self):
        self.put_header_in_place()
        self.save_and_load(f'file:{self.file},offset={OFFSET}', live=True)
        self.check_header()

    def test_header_of_its_own_stays_when_it_is_saved_again(self):
        self.put_header()
        uri = f'file:{self.file},offset={OFFSET}'
        self.source.migrate(uri)
        self.source.cont()
        self.save_and_load(uri)
        self.check_header()

    def test_bad_offset_touches_nothing(self):
        self.put_header()
        with self.assertRaisesRegex((MigrationFailed, QmpError), 'bad offset'):
            self.source.migrate(f'file:{self.file},offset=0x20M')
        with open(self.file, 'rb') as file:
            self.assertEqual(file.read(), MARKER)

    def test_wrong_header_is_not_loaded(self):
        self.put_header()
        self.source.migrate(f'file:{self.file},offset={OFFSET}')
        with self.assertRaises(MigrationFailed):
            self.target.incoming(f'file:{self.file}')
        self.check_header()

    def test_offset_through_a_set_of_descriptors(self):
        self.put_header()
        self.hand_over(self.source, os.O_WRONLY)
        self.hand_over(self.target, os.O_RDONLY)
        self.save_and_load(f'file:/dev/fdset/{FDSET},offset={OFFSET}', live=True)
        self.check_header()

    def test_descriptor(self):
        for qemu in (self.target, self.source):
            fd = os.open(self.file, os.O_CREAT | os.O_RDWR, 0o660)
            qemu.qmp.command('getfd', {'fdname': 'file'}, fds=[fd])
            os.close(fd)
        self.save_and_load('fd:file')

    def test_mapped_ram(self):
        self.save_and_load(f'file:{self.file}', MAPPED)

    def test_mapped_ram_live(self):
        self.save_and_load(f'file:{self.file}', MAPPED, live=True)

    def test_multifd(self):
        self.save_and_load(f'file:{self.file}', MULTIFD, CHANNELS)

    def test_multifd_live(self):
        self.save_and_load(f'file:{self.file}', MULTIFD, CHANNELS, live=True)

    def test_multifd_direct(self):
        self.save_and_load(f'file:{self.file}', MULTIFD, DIRECT)

    def through_fdset(self, direct, params):
        self.put_header()
        self.hand_over(self.source, os.O_WRONLY, direct)
        self.hand_over(self.target, os.O_RDONLY, direct)
        self.save_and_load(f'file:/dev/fdset/{FDSET},offset={OFFSET}', MULTIFD, params)
        self.check_header()
        self.check_fdset_ends()

    def test_multifd_through_a_set_of_descriptors(self):
        self.through_fdset((False, False), CHANNELS)

    def test_multifd_direct_through_a_set_of_descriptors(self):
        self.through_fdset((False, True), DIRECT)


class MountedFolder(PlainFolder):
    """In the mount."""

    def folder(self):
        return self.snapshot('vm1')

    def save_and_load(self, uri, caps=None, params=None, live=False):
        super().save_and_load(uri, caps, params, live)
        self.assert_image_valid('vm1')


if __name__ == '__main__':
    harness.main()

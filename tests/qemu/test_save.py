#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A counting guest saved in every way QEMU has, and brought back."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from guest import MIB, CountGuest
from harness import build_path, need_program
from mount import need_views
from qemu import Qemu, need_qemu
from stream import check_description, read_ram
from vmcase import VmCase

# Below 1 MiB the processor sees ROM and video memory in place of RAM.
HOLE = slice(0xa0000, 0x100000)


def setUpModule():
    need_qemu()


def read(path):
    with open(path, 'rb') as file:
        return file.read()


class Save(VmCase):
    guest = CountGuest(fill=True)

    def save(self, stopped=False, caps=None, uri=None):
        """Saves vm1 and kills QEMU as soon as it says that it is done.

        Returns what the guest's memory must hold when it is back.
        """
        qemu = self.boot()
        # Some passes, so that no two pages hold the same by chance.
        qemu.wait_serial('B{5}')
        constant = qemu.constant()
        if stopped:
            qemu.stop()
        if caps == 'background':
            caps = self.background(qemu)
        qemu.migrate(uri or f'file:{self.stream()}', caps, {'downtime-limit': 30000})
        qemu.kill()
        return constant

    def test_a_stopped_guest_comes_back_as_it_was(self):
        constant = self.save(stopped=True)
        self.assert_image_valid()
        self.assert_loads(constant=constant)

    def test_a_running_guest_saved_by_precopy_comes_back(self):
        constant = self.save()
        self.assert_image_valid()
        self.assert_loads(constant=constant)

    def test_a_running_guest_saved_in_the_background_comes_back(self):
        constant = self.save(caps='background')
        self.assert_image_valid()
        self.assert_loads(constant=constant)

    def test_a_stopped_guest_saved_in_the_background_comes_back(self):
        constant = self.save(stopped=True, caps='background')
        self.assert_loads(constant=constant)

    def test_a_guest_runs_on_while_and_after_it_is_saved_in_the_background(self):
        qemu = self.boot()
        qemu.migrate(f'file:{self.stream()}', self.background(qemu))
        self.assertEqual(qemu.run_state(), 'running')
        passes = qemu.serial().count('B')
        harness.wait_until(lambda: qemu.serial().count('B') > passes, 20, 'the guest counts on')
        self.assertIsNone(qemu.ram_error())
        qemu.kill()
        self.assert_loads()

    def test_a_save_through_a_pipe_is_as_good(self):
        constant = self.save(uri=self.pipe())
        self.wait_for_pipe()
        self.assert_loads(constant=constant)

    def test_a_background_save_through_a_pipe_is_as_good(self):
        constant = self.save(caps='background', uri=self.pipe())
        self.wait_for_pipe()
        self.assert_loads(constant=constant)

    def pipe(self):
        return f'exec:cat >{self.stream()} && : >{self.path("piped")}'

    def wait_for_pipe(self):
        """QEMU is done when the pipe has the last byte, not when cat has written it."""
        harness.wait_until(lambda: os.path.exists(self.path('piped')), 20, 'cat has ended well')

    def test_a_load_through_a_pipe_works(self):
        self.save(stopped=True)
        self.assert_counts_on(self.load(f'exec:exec cat {self.mount.path("vm1", "stream")}'))

    def test_a_snapshot_outlives_a_remount(self):
        constant = self.save()
        self.mount.remount()
        self.assert_loads(constant=constant)

    def test_a_guest_brought_back_is_saved_and_brought_back_again(self):
        self.save()
        qemu = self.load(f'file:{self.stream()}')
        qemu.cont()
        qemu.wait_serial('BB')
        qemu.migrate(f'file:{self.stream("vm2")}', params={'downtime-limit': 30000})
        qemu.kill()
        self.assert_loads('vm2')
        self.assert_loads('vm1')

    def test_a_save_over_a_snapshot_replaces_it(self):
        self.save(stopped=True)
        first = read(self.mount.path('vm1', 'stream'))
        constant = self.save(stopped=True)
        self.assertNotEqual(read(self.mount.path('vm1', 'stream')), first)
        self.assert_loads(constant=constant)

    def test_any_machine_type_comes_back(self):
        for machine in ('pc', 'q35'):
            with self.subTest(machine=machine):
                guest = CountGuest(machine=machine, memory=64, end=40)
                qemu = self.boot(guest)
                qemu.migrate(f'file:{self.stream(machine)}', params={'downtime-limit': 30000})
                qemu.kill()
                self.assert_loads(machine, guest)


class Views(VmCase):
    """What else the folder of a snapshot shows."""
    guest = CountGuest(fill=True)

    def setUp(self):
        need_views()
        super().setUp()

    def save_stopped(self, caps=None):
        """Saves a stopped guest; what its memory was, and the stream's RAM blocks."""
        qemu = self.boot()
        qemu.stop()
        qemu.migrate(f'file:{self.stream()}', caps)
        ram, bios = qemu.dump_ram(), self.dump_bios(qemu)
        qemu.kill()
        return ram, bios, read_ram(read(self.stream()))

    def dump_bios(self, qemu):
        """The last 128 KiB below 4 GiB: the end of the block pc.bios."""
        path = self.path('bios')
        qemu.qmp.command('pmemsave', {'val': (4 << 30) - (128 << 10), 'size': 128 << 10,
                                      'filename': path})
        return read(path)

    def test_ram_is_the_guest_memory_block_after_block(self):
        memory, bios, (blocks, _, _) = self.save_stopped()
        ram = read(self.mount.path('vm1', 'ram'))
        self.assertEqual(blocks[0].name, 'pc.ram')
        self.assertEqual(blocks[0].size, self.guest.memory * MIB)
        self.assertGreaterEqual(len(ram), blocks[-1].at + blocks[-1].size)
        for part in (slice(0, HOLE.start), slice(HOLE.stop, blocks[0].size)):
            self.assertTrue(ram[part] == memory[part], f'RAM differs in {part}')
        (block,) = [block for block in blocks if block.name == 'pc.bios']
        end = block.at + block.size
        self.assertTrue(ram[end - len(bios):end] == bios, 'pc.bios differs')

    def test_devstate_is_the_stream_without_its_pages(self):
        _, _, (blocks, pages, _) = self.save_stopped()
        stream, devstate = read(self.stream()), read(self.mount.path('vm1', 'devstate'))
        self.assertEqual(pages, sum(block.size for block in blocks) // 4096)
        own_blocks, own_pages, own_start = read_ram(devstate)
        self.assertEqual((own_blocks, own_pages), (blocks, 0))
        self.assertEqual(devstate[own_start:], stream[read_ram(stream)[2]:])
        for data in (stream, devstate, read(self.mount.path('vm1', 'mapped'))):
            check_description(data)

    def test_shared_memory_that_qemu_left_out_stays_where_it_is(self):
        """The stream loads beside the shared file; nothing shows zeros instead."""
        shared = self.path('shared')
        share = ['-object', f'memory-backend-file,id=pc.ram,size={self.guest.memory}M,share=on,'
                 f'mem-path={shared}', '-machine', 'memory-backend=pc.ram']
        caps = {'x-ignore-shared': True}
        qemu = self.boot(args=share)
        qemu.stop()
        qemu.migrate(f'file:{self.stream()}', caps)
        memory = qemu.dump_ram()
        qemu.kill()
        self.assertEqual(os.listdir(self.mount.path('vm1')), ['stream'])
        for view in ('ram', 'mapped'):
            self.assertFalse(os.path.exists(self.mount.path('vm1', view)), view)
        back = self.enter(Qemu(self.guest, self.work, incoming=True, stopped=True, args=share))
        back.incoming(f'file:{self.stream()}', caps)
        self.assertTrue(back.dump_ram() == memory)
        back.cont()
        back.wait_serial('BB', timeout=60)

    def memory_file(self):
        return ['-object', f'memory-backend-file,id=pc.ram,size={self.guest.memory}M,'
                f'mem-path={self.mount.path("vm1", "ram")},share=off,readonly=on,rom=off,align=2M',
                '-machine', 'memory-backend=pc.ram']

    def test_qemu_runs_the_guest_from_devstate_and_the_memory_file(self):
        self.save_stopped()
        before = read(self.mount.path('vm1', 'ram'))
        qemu = self.load(f'file:{self.mount.path("vm1", "devstate")}', args=self.memory_file())
        self.assert_counts_on(qemu)
        qemu.kill()
        self.assertTrue(read(self.mount.path('vm1', 'ram')) == before, 'the guest wrote into ram')

    def test_the_memory_file_of_a_background_save_runs_too(self):
        qemu = self.boot()
        qemu.migrate(f'file:{self.stream()}', self.background(qemu))
        qemu.kill()
        self.assert_counts_on(self.load(f'file:{self.mount.path("vm1", "devstate")}',
                                        args=self.memory_file()))

    def test_a_copy_of_the_store_mounts_and_loads(self):
        self.save_stopped()
        self.run_ok('cp', '-a', self.mount.store, self.path('copy'))
        self.mount.unmount()
        self.mount = self.new_mount('copy', 'mnt2')
        self.assert_loads()

    def test_a_stream_copied_out_of_the_mount_loads_without_it(self):
        self.save_stopped()
        self.run_ok('cp', self.stream(), self.path('plain'))
        self.mount.unmount()
        self.assert_counts_on(self.load(f'file:{self.path("plain")}'))


class Import(VmCase):
    guest = CountGuest(fill=True)

    def setUp(self):
        need_views()
        need_program('zstd')
        super().setUp()
        self.mount.unmount()

    def test_a_guest_saved_through_snapfs_import_comes_back_from_the_mount(self):
        command = f'{build_path("tools", "snapfs")} import {self.mount.store} vm1'
        for way in ('precopy', 'background'):
            with self.subTest(way=way):
                qemu = self.boot()
                caps = self.background(qemu) if way == 'background' else None
                # QEMU waits for the program to end when it closes the pipe.
                qemu.migrate(f'exec:exec {command}', caps, {'downtime-limit': 30000})
                qemu.cmd('query-status')
                qemu.kill()
                harness.wait_until(lambda: os.path.exists(self.image()), 20, 'vm1 is in the store')
                self.assert_image_valid()
                self.mount.start()
                self.assert_loads()
                self.run_ok('rm', '-r', self.mount.path('vm1'))
                self.mount.unmount()


if __name__ == '__main__':
    harness.main()

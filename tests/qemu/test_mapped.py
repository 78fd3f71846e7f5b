#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest saved as mapped-ram in every way QEMU has, and brought back in every
way there is."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from guest import MIB, CountGuest, LinuxGuest
from bridge import POSTCOPY, bridge_path
from mapped import DEFAULTS, DIRECT, MAPPED, MULTIFD, MappedCase, MappedFile, Saved, channels
from mount import need_views, plain, tool
from qemu import MigrationFailed, Qemu, need_qemu


def setUpModule():
    need_qemu()


class Save(MappedCase):
    """How it is saved: each test brings the guest back in one way, and compares
    what all views hold with the guest's memory."""
    guest = CountGuest(memory=40, end=16, fill=True, blink=8)

    def assert_saved(self, saved, caps=MAPPED, params=None):
        self.assert_views(saved)
        self.assert_loads_mapped(saved, 'stream', caps, params)

    def test_a_stopped_guest_comes_back_as_it_was(self):
        qemu = self.boot()
        for count in (0, 1, 2, 4):
            for direct in (False, True):
                with self.subTest(channels=count, direct=direct):
                    params = dict(DIRECT if direct else {}, **(channels(count) if count else {}))
                    saved = self.save(qemu, f'vm{count}{direct:d}', MULTIFD if count else MAPPED,
                                      params, stopped=True)
                    self.assert_saved(saved)
                    qemu.cont()

    def test_a_running_guest_whose_pages_are_sent_again_comes_back(self):
        qemu = self.boot()
        for name, caps, params in (('plain', MAPPED, {}), ('multifd', MULTIFD, channels(4)),
                                   ('direct', MULTIFD, DIRECT)):
            with self.subTest(name):
                saved = self.save(qemu, name, caps, params, rounds=3)
                self.assertIsNotNone(saved.ram)
                self.assert_saved(saved)
                qemu.cont()

    def test_a_stream_that_begins_somewhere_in_the_file_comes_back(self):
        qemu = self.boot()
        for offset in (0x1234, 3 * MIB):
            for name, caps in (('plain', MAPPED), ('multifd', MULTIFD)):
                with self.subTest(name, offset=offset):
                    saved = self.save(qemu, f'{name}{offset}', caps, stopped=True, offset=offset)
                    self.assert_saved(saved)
                    with open(self.stream(saved.name), 'rb') as file:
                        self.assertEqual(file.read(offset), bytes(offset))
                    qemu.cont()

    def test_a_save_into_files_that_were_handed_over_comes_back(self):
        qemu = self.boot()
        for name, caps, params, offset in (('plain', MAPPED, {}, 0), ('multifd', MULTIFD, {}, 0),
                                           ('direct', MULTIFD, DIRECT, 0),
                                           ('offset', MULTIFD, DIRECT, 0x1234)):
            with self.subTest(name):
                flags = [0, os.O_DIRECT] if params else [0]
                self.hand_over(qemu, self.stream(name), os.O_WRONLY | os.O_CREAT, flags)
                saved = self.save(qemu, name, caps, params, stopped=True, offset=offset,
                                  uri='file:/dev/fdset/7')
                qemu.remove_fds(7)
                self.assert_saved(saved)
                self.load_handed_over(saved, caps, params, flags)
                qemu.cont()

    def hand_over(self, qemu, path, access, flags):
        for flag in flags:
            fd = os.open(path, access | flag, 0o600)
            qemu.add_fds(7, fd)
            os.close(fd)

    def load_handed_over(self, saved, caps, params, flags):
        qemu = self.enter(Qemu(self.guest, self.work, incoming=True, stopped=True))
        self.hand_over(qemu, self.stream(saved.name), os.O_RDONLY, flags)
        qemu.incoming(f'file:/dev/fdset/7,offset={saved.begin:#x}', caps, params)
        self.assert_back(qemu, saved, 'what was handed over')

    def test_a_save_over_a_snapshot_replaces_it(self):
        qemu = self.boot()
        for caps, params, size in ((None, {}, 1), (MAPPED, {}, 2), (None, {}, 3),
                                   (MULTIFD, DIRECT, 4), (MAPPED, {}, 5)):
            with self.subTest(size):
                saved = self.save(qemu, caps=caps, params=params, stopped=size % 2)
                if caps:
                    self.assert_views(saved)
                self.assert_loads_mapped(saved, caps=caps, params=params)
                qemu.cont()

    def test_a_guest_brought_back_is_saved_and_brought_back_again(self):
        saved = self.save(self.boot(), caps=MULTIFD)
        again = self.loaded(f'file:{self.stream()}', MULTIFD, channels(3))
        again.cont()
        again.wait_serial('BB')
        self.assert_saved(self.save(again, 'vm2', MULTIFD, DIRECT))
        self.assert_saved(saved)

    def test_any_machine_type_comes_back(self):
        self.guest = CountGuest(machine='pc', memory=32, end=8, fill=True, blink=4)
        self.assert_saved(self.save(self.boot(), caps=MULTIFD))


class Background(MappedCase):
    """QEMU accepts background-snapshot together with mapped-ram, says that it is
    done, and tells in no bitmap which pages it wrote."""
    guest = CountGuest(memory=40, end=16, fill=True, blink=8)

    def background_mapped(self, qemu):
        return {**MAPPED, **self.background(qemu)}      # QEMU refuses it with multifd

    def test_a_plain_file_loses_it(self):
        """Should QEMU ever write the bitmaps, this test says so."""
        qemu = self.boot()
        path = self.path('plain')
        qemu.migrate(f'file:{path}', self.background_mapped(qemu), DEFAULTS)
        self.assertEqual([block.bits() for block in MappedFile(path).blocks][0], [])
        with self.assertRaises(MigrationFailed):
            self.loaded(f'file:{path}', MAPPED)

    def test_the_mount_brings_it_back(self):
        need_views()
        qemu = self.boot()
        for stopped in (False, True):
            with self.subTest(stopped=stopped):
                saved = self.save(qemu, f'vm{stopped:d}', self.background_mapped(qemu),
                                  stopped=stopped)
                self.assert_views(saved)
                self.assert_loads_mapped(saved, caps=MULTIFD, params=DIRECT)
                qemu.cont()
        self.assertIn('background-snapshot', self.mount.log())


class VirtioMem(MappedCase):
    """The early state of virtio-mem, which no other stream can be split behind."""
    guest = CountGuest(memory=40, end=16, fill=True, blink=8)
    args = ('-m', 'maxmem=1G', '-object', 'memory-backend-ram,id=more,size=256M',
            '-device', 'virtio-mem-pci,memdev=more,requested-size=64M')

    def test_a_guest_with_virtio_mem_comes_back_in_every_way(self):
        qemu = self.boot(args=self.args)
        for name, caps, params in (('plain', MAPPED, {}), ('multifd', MULTIFD, DIRECT)):
            with self.subTest(name):
                saved = self.save(qemu, name, caps, params, stopped=True)
                qemu.cont()
                self.assertEqual(MappedFile(self.stream(name)).capabilities, ['mapped-ram'])
                for view in ('stream', 'mapped')[:1 if plain() else 2]:
                    back = self.loaded(f'file:{self.mount.path(name, view)}', caps, params, self.args)
                    self.assert_back(back, saved, f'{name}/{view}')
                if not plain():
                    back = self.loaded(f'exec:{bridge_path()} {self.mount.path(name)}', POSTCOPY,
                                       args=self.args)
                    self.assert_back(back, saved, f'{name} by the bridge')

    def test_another_stream_of_it_is_kept_as_it_came(self):
        qemu = self.boot(args=self.args)
        saved = self.save(qemu, 'vm1', {}, stopped=True)
        if not plain():
            self.assertEqual(os.getxattr(self.mount.path('vm1'), 'user.snapfs.form'), b'verbatim')
        self.assert_back(self.loaded(f'file:{self.stream()}', args=self.args), saved, 'vm1')


class Load(MappedCase):
    """How it is brought back, after a remount, whichever way it was saved."""
    guest = CountGuest(memory=40, end=16, fill=True, blink=8)

    def test_every_way_to_load_is_there_for_every_way_to_save(self):
        qemu = self.boot()
        ways = {'classic': (None, {}), 'plain': (MAPPED, {}), 'multifd': (MULTIFD, channels(4)),
                'direct': (MULTIFD, DIRECT)}
        if not plain():
            ways['background'] = (dict(MAPPED, **self.background(qemu)), {})
            ways['classic-background'] = (self.background(qemu), {})
        kept = []
        for name, (caps, params) in ways.items():
            kept.append(self.save(qemu, name, caps, params))
            qemu.cont()
        qemu.kill()
        self.mount.remount()
        for saved in kept:
            with self.subTest(saved.name):
                self.assert_loads_in_every_way(saved, 'classic' not in saved.name)

    def assert_loads_in_every_way(self, saved, mapped):
        ways = [(MULTIFD, dict(DIRECT, **channels(4)))]
        if saved.name in ('classic', 'multifd'):
            ways += [(MAPPED, {}), (MULTIFD, channels(4)), (MULTIFD, DIRECT)]
        for view in ['stream'] * mapped + ['mapped'] * (not plain()):
            for caps, params in ways:
                with self.subTest(view, caps=caps, params=params):
                    self.assert_loads_mapped(saved, view, caps, params)
        if not mapped:
            self.assert_loads_mapped(saved, caps=None)
        if not plain():
            for way in (self.by_bridge, self.by_memory_file, self.by_export):
                with self.subTest(way.__name__):
                    way(saved)

    def by_bridge(self, saved):
        folder = self.mount.path(saved.name)
        qemu = self.loaded(f'exec:exec {bridge_path()} --quiet {folder}', POSTCOPY)
        self.assert_back(qemu, saved, 'the bridge')

    def by_memory_file(self, saved):
        ram = self.mount.path(saved.name, 'ram')
        qemu = self.loaded(f'file:{self.mount.path(saved.name, "devstate")}', args=[
            '-object', f'memory-backend-file,id=pc.ram,size={self.guest.memory}M,mem-path={ram},'
                       'share=off,readonly=on,rom=off,align=2M', '-machine', 'memory-backend=pc.ram'])
        self.assert_back(qemu, saved, 'the memory file')

    def by_export(self, saved):
        for form in ('stream', 'mapped'):
            path = self.path(f'exported-{form}')
            done = tool('export', '-f', form, '-o', path, self.mount.store, saved.name)
            self.assertEqual(done.returncode, 0, done.stderr)
            classic = form == 'stream' and 'classic' in saved.name
            self.assert_back(self.loaded(f'file:{path}', None if classic else MULTIFD), saved,
                             f'the exported {form}')
            os.unlink(path)


class Copies(MappedCase):
    """What is copied out of the mount and into it again."""
    guest = CountGuest(memory=40, end=16, fill=True, blink=8)

    def setUp(self):
        need_views()
        super().setUp()

    def test_copies_load_and_make_the_snapshot_again(self):
        """Each way that QEMU has to save: out by cp -a, removed, in again, with
        the same bytes in the same form, and QEMU reverts it."""
        qemu = self.boot()
        background = self.background(qemu)
        for name, caps, params, stopped in (
                ('classic', None, {}, False), ('background', background, {}, False),
                ('plain', MAPPED, {}, True), ('plain-live', MAPPED, {}, False),
                ('plain-background', {**MAPPED, **background}, {}, False),
                ('multifd', MULTIFD, channels(4), False), ('direct', MULTIFD, DIRECT, True)):
            with self.subTest(name):
                saved = self.save(qemu, name, caps, params, stopped=stopped)
                qemu.cont()
                classic = name in ('classic', 'background')
                self.go_round(name)
                self.assertEqual(os.getxattr(self.mount.path(name), 'user.snapfs.form'),
                                 b'classic' if classic else b'mapped-ram')
                self.assert_loads_mapped(saved, 'stream', None if classic else MAPPED)
                self.assert_loads_mapped(saved, 'mapped', MULTIFD, DIRECT)

    def go_round(self, name):
        folder, copy, views = self.mount.path(name), self.path(f'copy-{name}'), ('stream', 'mapped')
        for view in views:
            self.run_ok('cp', '--sparse=always', f'{folder}/{view}', self.path(f'{name}.{view}'))
        self.run_ok('cp', '-a', folder, copy)
        self.assertEqual(sorted(os.listdir(copy)), ['devstate', 'ram'])
        self.run_ok('rm', '-r', folder)
        self.assertFalse(os.path.exists(self.mount.store_path(name)))
        self.run_ok('cp', '-a', copy, folder)
        self.mount.remount()
        for view in os.listdir(copy):
            self.run_ok('cmp', f'{copy}/{view}', f'{folder}/{view}')
        for view in views:
            self.run_ok('cmp', self.path(f'{name}.{view}'), f'{folder}/{view}')
            os.unlink(self.path(f'{name}.{view}'))

    def test_copies_of_stream_and_mapped_load(self):
        qemu = self.boot()
        for name, caps in (('one', MULTIFD), ('two', None)):
            with self.subTest(name):
                saved = self.save(qemu, name, caps, stopped=True)
                qemu.cont()
                for view, caps_to_load, params in (('stream', caps, {}),
                                                   ('mapped', MULTIFD, DIRECT)):
                    copy = self.path(f'{name}.{view}')
                    self.run_ok('cp', '-a', self.mount.path(name, view), copy)
                    self.run_ok('cmp', copy, self.mount.path(name, view))
                    self.assert_back(self.loaded(f'file:{copy}', caps_to_load, params), saved,
                                     f'the copy of {view}')

    def test_any_one_file_makes_a_snapshot_that_loads(self):
        saved = self.save(self.boot(), 'vm1', MULTIFD, stopped=True)
        for views in (['stream'], ['mapped'], ['ram', 'devstate']):
            with self.subTest(views):
                name = f'from-{views[0]}'
                os.mkdir(self.mount.path(name))
                for view in views:
                    self.run_ok('cp', self.mount.path('vm1', view), self.path(view))
                    self.run_ok('cp', '--sparse=never', self.path(view), self.mount.path(name))
                for view in ('ram', 'devstate', 'mapped'):
                    self.run_ok('cmp', self.mount.path(name, view), self.mount.path('vm1', view))
                self.assert_loads_mapped(Saved(name, 0, saved.ram), 'mapped', MULTIFD)


class Linux(MappedCase):
    guest = LinuxGuest(memory=192, fill=48, touch=16, dirty=8, tick=100, check=16)

    def test_a_system_at_work_comes_back(self):
        qemu = self.boot()
        ways = {'multifd': (MULTIFD, DIRECT)}
        if not plain():
            ways['background'] = (dict(MAPPED, **self.background(qemu)), {})
        before = {}
        for name, (caps, params) in ways.items():
            qemu.wait_ticks(1)
            qemu.migrate(f'file:{self.stream(name)}', caps, {**DEFAULTS, **params})
            before[name] = qemu.ticks()[-1] if name != 'background' else before['multifd']
            qemu.resume()
        qemu.kill()
        self.mount.remount()
        for name in ways:
            for view in ['stream'] + ['mapped'] * (not plain()):
                with self.subTest(name, view=view):
                    qemu = self.enter(Qemu(self.guest, self.work, incoming=True))
                    qemu.incoming(f'file:{self.mount.path(name, view)}', MULTIFD)
                    self.assert_ticks_on(qemu, before[name])
                    qemu.kill()


if __name__ == '__main__':
    harness.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""`virsh save` into the mount and `virsh restore` out of it, under a libvirt
daemon of the test's own."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from bridge import POSTCOPY, bridge_path
from harness import read_text, wait_until
from libvirt import LibvirtCase, VirshError, image_header
from mapped import DIRECT, MAPPED, MULTIFD, MappedFile
from mount import need_views, plain
from qemu import Qemu, need_qemu

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
    def test_each_way_to_save_is_restored_also_after_a_remount(self):
        kept = {}
        for name, (save, restore) in WAYS.items():
            with self.subTest(name):
                kept[name] = self.save(name, *save)
                self.assert_image(kept[name], sparse='sparse' in name)
                self.restore(name, *restore)
                self.assert_restored(kept[name])
        # QEMU keeps the files open that it was handed.
        self.domain.virsh('destroy')
        self.mount.remount()
        for name, saved in kept.items():
            with self.subTest(name, again=True):
                other = () if 'bypass' in name else BYPASS
                self.restore(name, *other, *(PARALLEL if name == 'sparse' else ()))
                self.assert_restored(saved)
                self.domain.virsh('destroy')

    def assert_image(self, saved, sparse):
        """libvirt's header is there, and each view holds the guest's memory."""
        header = image_header(self.stream(saved.name))
        self.assertEqual((header.magic, header.version, header.format),
                         (b'LibvirtQemudSave', 2, 6 if sparse else 0))
        if sparse:
            self.assert_views(saved)
        elif not plain():
            found = MappedFile(self.mount.path(saved.name, 'mapped'))
            self.assert_ram(found.ram(), saved, 'mapped')

    def test_a_running_domain_is_saved_over_an_older_image_and_runs_when_it_is_back(self):
        for number, (save, restore) in enumerate((*WAYS.values(), WAYS['raw'])):
            with self.subTest(number):
                self.domain.virsh('save', self.stream(), *save)
                self.assertEqual(image_header(self.stream()).was_running, 1)
                self.assertEqual(self.domain.state(), 'shut off')
                self.restore('vm1', *restore)
                self.assert_runs_on()
        self.domain.virsh('suspend')
        self.assertIsNone(self.guest.check_ram(self.domain.dump_ram()))

    def edit(self, text, option=()):
        """Writes a title into the description, as a person does in an editor."""
        editor = self.path('editor')
        with open(editor, 'w') as file:
            file.write(f'#!/bin/sh\nsed -i "s|</name>|</name><title>{text}</title>|" "$1"\n')
        os.chmod(editor, 0o755)
        self.libvirt.virsh('save-image-edit', self.stream(), *option,
                           env=dict(os.environ, EDITOR=editor))

    def description(self):
        return self.libvirt.virsh('save-image-dumpxml', self.stream())

    def test_the_description_is_read_and_changed(self):
        for name in ('raw', 'sparse-parallel'):
            with self.subTest(name):
                save, restore = WAYS[name]
                saved = self.save('vm1', *save)
                self.assertIn('<name>vm1</name>', self.description())
                begin = saved.begin
                self.edit('in an editor')
                self.assertIn('<title>in an editor</title>', self.description())
                self.mount.remount()
                self.assertIn('<title>in an editor</title>', self.description())
                with open(self.path('new.xml'), 'w') as file:
                    file.write(self.description().replace('an editor', 'a file'))
                self.libvirt.virsh('save-image-define', self.stream(), self.path('new.xml'),
                                   '--paused')
                self.assertEqual(image_header(self.stream()).begin, begin)
                self.restore('vm1', *restore)
                self.assertIn('<title>in a file</title>', self.domain.virsh('dumpxml'))
                self.assert_restored(saved)
                self.domain.virsh('destroy')
                self.mount.remount()
                self.restore('vm1', *restore)
                self.assertIn('<title>in a file</title>', self.domain.virsh('dumpxml'))
                self.assert_restored(saved)

    def test_an_older_description_does_not_outlive_a_new_save(self):
        saved = self.save()
        self.edit('the old one')
        self.domain.start()
        saved = self.save('vm1', *SPARSE)
        self.assertNotIn('the old one', self.description())
        self.restore()
        self.assert_restored(saved)


class Elsewhere(LibvirtCase):
    """What libvirt saved is a snapshot like any other."""

    def setUp(self):
        need_views()
        super().setUp()

    def test_it_comes_back_without_libvirt(self):
        native = self.domain.native()
        saved = [self.save('raw')]
        self.domain.start()
        saved.append(self.save('sparse', *SPARSE, *PARALLEL))
        self.mount.remount()
        for one in saved:
            folder = self.mount.path(one.name)
            for what, uri, caps, params in (
                    ('mapped', f'file:{folder}/mapped', MAPPED, {}),
                    ('direct', f'file:{folder}/mapped', MULTIFD, DIRECT),
                    ('bridge', f'exec:exec {bridge_path()} --quiet {folder}', POSTCOPY, {}),
                    ('stream', f'file:{folder}/stream,offset={one.begin:#x}',
                     MULTIFD if one.name == 'sparse' else None, {})):
                with self.subTest(one.name, what=what):
                    qemu = self.enter(Qemu(native, self.work, incoming=True, stopped=True))
                    qemu.incoming(uri, caps, params)
                    self.assert_alive(qemu, one)

    def assert_alive(self, qemu, saved):
        self.assert_same(qemu.dump_ram(), saved.ram)
        qemu.cont()
        qemu.wait_serial('BB', timeout=20)
        qemu.kill()

    def test_a_dump_is_a_snapshot_for_qemu_alone(self):
        native = self.domain.native()
        for name, options in (('live', ('--live',)), ('bypass', ('--live', '--bypass-cache')),
                              ('still', ())):
            with self.subTest(name):
                self.domain.virsh('dump', self.stream(name), *options)
                self.assert_runs_on()
                self.assertEqual(sorted(os.listdir(self.mount.path(name))), ['devstate', 'ram'])
                with self.assertRaises(VirshError) as failed:
                    self.restore(name)
                self.assertIn('image magic is incorrect', str(failed.exception))
                qemu = self.enter(Qemu(native, self.work, incoming=True, stopped=True))
                qemu.incoming(f'exec:exec {bridge_path()} --quiet {self.mount.path(name)}',
                              POSTCOPY)
                self.assertIsNone(self.guest.check_ram(qemu.dump_ram()))
                qemu.kill()

    def test_a_dump_of_the_memory_only_is_no_snapshot(self):
        for number, options in enumerate(((), ('--format', 'kdump-zlib'))):
            try:
                self.domain.virsh('dump', self.stream(), '--live', '--memory-only', *options)
                # A small one stays, as what may stand before a stream.
                self.assertLess(os.path.getsize(self.stream()), 16 << 20)
                self.assertEqual(os.listdir(self.mount.path('vm1')), ['stream'])
                os.unlink(self.stream())
            except VirshError as failed:
                self.assertIn('Protocol error', str(failed))
            self.assert_runs_on()
            self.assertEqual(os.listdir(self.mount.path('vm1')), [])
            self.assertFalse(os.path.exists(self.mount.store_path('vm1', 'snapshot.zst')))
            ordinary = self.mount.path('vm1', f'{number}.dump')
            self.domain.virsh('dump', ordinary, '--live', '--memory-only', *options)
            self.assertGreater(os.path.getsize(ordinary), 0)
            os.unlink(ordinary)

    def test_a_folder_copied_out_and_in_again_is_restored(self):
        for name, options in (('raw', ()), ('sparse', SPARSE)):
            with self.subTest(name):
                saved = self.save(name, *options)
                folder = self.mount.path(name)
                form = os.getxattr(folder, 'user.snapfs.form')
                self.assertEqual(form, b'mapped-ram' if options else b'classic')
                self.run_ok('cp', self.stream(name), self.path(f'{name}.stream'))
                self.run_ok('cp', '-a', folder, self.path(name))
                self.assertEqual(sorted(os.listdir(self.path(name))),
                                 ['devstate', 'preamble', 'ram'])
                self.assertEqual(os.path.getsize(self.path(name, 'preamble')), saved.begin)
                self.run_ok('rm', '-r', folder)
                self.assertFalse(os.path.exists(self.mount.store_path(name)))
                self.mount.remount()
                self.run_ok('cp', '-a', self.path(name), folder)
                self.assertEqual(os.getxattr(folder, 'user.snapfs.form'), form)
                self.mount.remount()
                self.run_ok('cmp', self.path(f'{name}.stream'), f'{folder}/stream')
                self.restore(name)
                self.assert_restored(saved)
                self.domain.virsh('destroy')
                self.domain.start()

    def test_removing_the_image_that_libvirt_wrote_removes_the_snapshot(self):
        for name, options in (('raw', ()), ('sparse', SPARSE)):
            self.save(name, *options)
            os.unlink(self.stream(name))
            self.assertEqual(os.listdir(self.mount.path(name)), [])
            self.assertEqual(os.listdir(self.mount.store_path(name)), [])
            os.rmdir(self.mount.path(name))
            self.domain.start()

    def test_a_snapshot_of_a_domain_that_runs_on_is_an_image_too(self):
        for name, live in (('live', ('--live',)), ('paused', ())):
            self.domain.virsh('snapshot-create-as', name, '--no-metadata', '--memspec',
                              f'file={self.stream(name)},snapshot=external', *live,
                              '--diskspec', 'sda,snapshot=no')
            self.assert_runs_on()
        self.domain.virsh('destroy')
        for name in ('live', 'paused'):
            with self.subTest(name):
                self.restore(name)
                self.assert_runs_on()
                self.domain.virsh('suspend')
                self.assertIsNone(self.guest.check_ram(self.domain.dump_ram()))
                self.domain.virsh('destroy')


class Configured(LibvirtCase):
    # Not snapshot_image_format: libvirt 11.3 then writes images that say they are
    # sparse and are not, which it cannot restore from any file system.
    qemu_conf = 'save_image_format = "sparse"\n'

    def test_the_format_may_be_chosen_in_the_configuration(self):
        saved = self.save()
        self.assertEqual(image_header(self.stream()).format, 6)
        self.assert_views(saved)
        self.restore()
        self.assert_restored(saved)


class Managed(LibvirtCase):
    """libvirt's own folder of saved domains, with a file NAME.save in it."""

    def managed(self):
        return self.libvirt.path('lib', 'qemu', 'save', 'vm1.save')

    def assert_starts_from_it(self, ram):
        self.domain.virsh('start')
        self.assertEqual(self.domain.state(), 'paused')
        self.assert_same(self.domain.dump_ram(), ram)
        self.domain.virsh('resume')
        self.domain.wait_passes(2)

    def managed_save(self):
        self.domain.virsh('suspend')
        ram = self.domain.dump_ram()
        self.domain.virsh('managedsave')
        self.assertEqual(self.domain.state(), 'shut off')
        return ram

    def test_a_link_to_a_stream_makes_it_a_snapshot(self):
        path = os.path.join(self.snapshot('managed'), 'stream')
        for _ in range(2):
            os.symlink(path, self.managed())
            ram = self.managed_save()
            self.assertEqual(image_header(path).magic, b'LibvirtQemudSave')
            self.assertIn("<name>vm1</name>", self.domain.virsh('managedsave-dumpxml'))
            self.assert_starts_from_it(ram)
            # The link is gone, and what it led to is kept.
            self.assertFalse(os.path.lexists(self.managed()))
            self.assertTrue(os.path.exists(path))

    def test_what_removes_a_managed_save_leaves_what_its_link_led_to(self):
        path = os.path.join(self.snapshot('managed'), 'stream')
        os.symlink(path, self.managed())
        self.managed_save()
        self.domain.virsh('managedsave-remove')
        self.assertFalse(os.path.lexists(self.managed()))
        self.assertTrue(os.path.exists(path))
        os.unlink(path)
        self.assertEqual(os.listdir(self.mount.path('managed')), [])

    def test_in_the_mount_a_file_of_that_name_is_an_ordinary_file(self):
        folder = os.path.dirname(self.managed())
        os.rmdir(folder)
        os.symlink(self.snapshot('all'), folder)
        ram = self.managed_save()
        self.assertEqual(os.listdir(self.mount.path('all')), ['vm1.save'])
        if not plain():
            self.assertTrue(os.path.isfile(self.mount.store_path('all', 'vm1.save')))
        self.assert_starts_from_it(ram)
        self.assertEqual(os.listdir(self.mount.path('all')), [])


class AtOnce(LibvirtCase):
    """A domain that runs before its memory was read, and that libvirt knows: as
    snapfs-libvirt(7) tells, word by word."""
    qemu_conf = 'user = "root"\n'       # who may use userfaultfd

    def hook(self):
        return f"""socket=/var/lib/libvirt/qemu/$1.snapfs
case $2 in
started)
    [ ! -S "$socket" ] ||
        {bridge_path()} -u "$socket" "{self.mount.path()}/$1" >/dev/null 2>"{self.path('said')}" &
    ;;
restore)
    sed '/<qemu:commandline>/,/<\\/qemu:commandline>/d'
    ;;
esac
"""

    def waiting(self, xml):
        """A description of the same domain that waits for its memory."""
        words = ''.join(f"<qemu:arg value='{word}'/>" for word in (
            '-global', 'migration.x-postcopy-ram=on',
            '-incoming', 'unix:/var/lib/libvirt/qemu/vm1.snapfs'))
        return xml.replace("<domain type='qemu'>", "<domain type='qemu' xmlns:qemu="
                           "'http://libvirt.org/schemas/domain/qemu/1.0'>").replace(
            '</domain>', f'<qemu:commandline>{words}</qemu:commandline></domain>')

    def test_the_bridge_feeds_a_domain_that_libvirt_starts(self):
        need_views()
        for options in ((), SPARSE):
            saved = self.save('vm1', *options)
            xml = self.path('waiting.xml')
            with open(xml, 'w') as file:
                file.write(self.waiting(self.libvirt.virsh('save-image-dumpxml', self.stream())))
            self.libvirt.virsh('create', xml)
            self.assert_runs_on()
            wait_until(lambda: 'guest runs after' in read_text(self.path('said')), 10,
                       'the bridge tells how it went')
            self.domain.virsh('suspend')
            ram = self.domain.dump_ram()
            self.assertIsNone(self.guest.check_ram(ram))
            self.assertEqual(self.guest.constant(ram), self.guest.constant(saved.ram))
            # It is saved and restored as any other.
            saved = self.save('again', *options)
            self.restore('again')
            self.assert_restored(saved)
            self.assertNotIn('-incoming', self.domain.virsh('dumpxml'))
            self.domain.virsh('destroy')
            self.domain.start()


class OwnMount(LibvirtCase):
    """A mount that is for root alone."""
    options = ()

    def test_a_raw_image_needs_no_more_and_a_sparse_one_fails(self):
        saved = self.save()
        self.restore()
        self.assert_restored(saved)
        if plain():
            return
        with self.assertRaises(VirshError) as failed:
            self.domain.virsh('save', self.stream('vm2'), *SPARSE)
        self.assertIn('Permission denied', str(failed.exception))
        self.assert_runs_on()
        self.domain.virsh('save', self.stream('vm2'))


if __name__ == '__main__':
    harness.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots that store what differs from older ones (-o increments)."""
import base64
import json
import os
import random
import re
import shutil
import subprocess

from fusecase import FuseCase, MIB, read_file, setUpModule  # noqa: F401
from mount import Mount, tool
from toolcase import ToolCase
import harness
import makestream


def change(guest, count, seed):
    """Changes so many pages of pc.ram."""
    rand = random.Random(seed)
    pages = guest.sizes['pc.ram'] // makestream.PAGE
    for _ in range(count):
        guest.pages['pc.ram'][rand.randrange(pages)] = makestream.page_bytes(rand.getrandbits(30))


class IncrementCase(FuseCase):
    options = ('increments',)

    def setUp(self):
        super().setUp()
        self.guest = makestream.Guest({'pc.ram': 16 * MIB, 'vga.vram': MIB}, seed=1)

    def layers(self):
        folder = self.store('.snapfs', 'layers')
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def size(self, name):
        return os.path.getsize(self.store(name, 'snapshot.zst'))

    def remove(self, name):
        shutil.rmtree(self.snaps(name))

    def parents(self, name):
        try:
            return os.getxattr(self.snaps(name), 'user.snapfs.parents').decode().split('\n')
        except OSError:
            return []

    def uuid(self, name):
        return os.getxattr(self.snaps(name), 'user.snapfs.uuid').decode()

    def save_changed(self, name, count, seed):
        change(self.guest, count, seed)
        self.save(name, self.guest)
        self.check_snapshot(name)

    def copy_of_guest(self):
        copy = makestream.Guest({})
        copy.sizes = dict(self.guest.sizes)
        copy.pages = {name: dict(pages) for name, pages in self.guest.pages.items()}
        return copy

    def chain(self, length):
        """Saves day0 to dayN; what each of them must read as."""
        guests = []
        for day in range(length):
            self.save_changed(f'day{day}', 40, day)
            guests.append(self.copy_of_guest())
        return guests


class SaveTest(IncrementCase):
    def test_the_second_snapshot_stores_what_changed_and_names_its_parent(self):
        self.save('vm1', self.guest)
        self.assertEqual(self.parents('vm1'), [])
        self.save_changed('vm2', 20, 1)
        self.assertEqual(self.parents('vm2'), [self.uuid('vm1')])
        self.assertLess(self.size('vm2'), self.size('vm1') / 5)
        # du counts what the snapshot takes by itself.
        used = sum(os.stat(self.snaps('vm2', name)).st_blocks * 512 for name in ('ram', 'devstate'))
        self.assertLess(used, self.size('vm1') / 2)

    def test_any_snapshot_may_go_and_the_others_stay_whole(self):
        guests = self.chain(5)
        for name in ('day1', 'day0', 'day3'):
            self.remove(name)
            for day in (2, 4):
                self.check_snapshot(f'day{day}', guests[day])
        os.rename(self.snaps('day2'), self.snaps('moved'))
        self.check_snapshot('moved', guests[2])
        self.remove('moved')
        self.check_snapshot('day4', guests[4])
        self.remove('day4')
        harness.wait_until(lambda: not self.layers(), 30, 'the last layer to go')

    def test_a_snapshot_that_replaces_its_parent_is_whole_after_a_new_mount(self):
        for seed in range(4):
            self.save_changed('vm1', 30, seed)
        self.mount.remount()
        self.check_snapshot('vm1')
        harness.wait_until(lambda: len(self.layers()) == len(self.parents('vm1')), 30,
                           'the layers that are not used to go')

    def test_an_open_snapshot_is_read_to_its_end_though_all_was_removed(self):
        self.save('vm1', self.guest)
        self.save_changed('vm2', 20, 1)
        expected = self.guest.flat()
        with open(self.snaps('vm2', 'ram'), 'rb') as file:
            self.remove('vm1')
            self.remove('vm2')
            harness.wait_until(lambda: not self.layers(), 30, 'the layers to go')
            self.assertTrue(file.read() == expected)

    def test_a_copy_within_the_mount_stores_what_differs_and_reads_right(self):
        self.save('vm1', self.guest)
        for number, names in enumerate((('devstate', 'ram'), ('ram', 'devstate'))):
            copy = self.snaps(f'copy{number}')
            os.mkdir(copy)
            for name in names:
                shutil.copyfile(self.snaps('vm1', name), os.path.join(copy, name))
            self.check_snapshot(f'copy{number}')
            self.assertIn(self.uuid('vm1'), self.parents(f'copy{number}'))
            self.assertLess(self.size(f'copy{number}'), self.size('vm1') / 2)
        self.assertEqual(tool('verify', self.store('')).returncode, 0)

    def test_a_copy_through_the_mount_is_whole(self):
        self.save('vm1', self.guest)
        self.save_changed('vm2', 20, 1)
        other = self.enter(Mount(self.path('other'), self.path('other-snaps')))
        subprocess.run(['cp', '-a', self.snaps('vm2'), other.path('vm2')], check=True)
        self.assertTrue(read_file(other.path('vm2', 'ram')) == self.guest.flat())
        self.assertGreater(os.path.getsize(other.store_path('vm2', 'snapshot.zst')),
                           self.size('vm1') / 2)
        self.assertEqual(os.listdir(other.store_path('.snapfs')).count('layers'), 0)


class StoreTest(IncrementCase):
    """Stores that are copied."""

    def rsync(self, *options):
        harness.need_program('rsync')
        target = self.path('copy') + '/'
        subprocess.run(['rsync', *options, self.store('') + '/', target], check=True)
        return target

    def check_copy(self, target, guests):
        for day, guest in guests.items():
            done = tool('export', '--form=ram', '--output=' + self.path('ram'), target, f'day{day}')
            self.assertEqual(done.returncode, 0, done)
            self.assertTrue(read_file(self.path('ram')) == guest.flat())

    def prepare(self):
        guests = self.chain(4)
        self.remove('day0')
        return {day: guests[day] for day in (1, 2, 3)}

    def test_rsync_with_hard_links_copies_a_store_as_it_is(self):
        guests = self.prepare()
        target = self.rsync('-aH')
        self.check_copy(target, guests)
        links = os.stat(os.path.join(target, 'day1', 'snapshot.zst')).st_nlink
        self.assertEqual(links, 2)

    def test_rsync_without_hard_links_takes_more_room_and_is_whole(self):
        guests = self.prepare()
        target = self.rsync('-a')
        self.check_copy(target, guests)
        self.assertEqual(tool('verify', target).returncode, 0)

    def test_a_snapshot_without_its_parent_is_refused_by_the_parents_uuid(self):
        self.save('vm1', self.guest)
        self.save_changed('vm2', 20, 1)
        alone = self.path('alone')
        shutil.copytree(self.store('vm2'), os.path.join(alone, 'vm2'))
        done = tool('export', '--form=ram', '--output=' + self.path('ram'), alone, 'vm2')
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(self.uuid('vm1'), done.stderr)
        done = tool('verify', alone)
        self.assertIn(self.uuid('vm1'), done.stdout)
        os.makedirs(os.path.join(alone, '.snapfs', 'layers'))
        shutil.copy(self.store('vm1', 'snapshot.zst'),
                    os.path.join(alone, '.snapfs', 'layers', self.uuid('vm1') + '.zst'))
        self.assertEqual(tool('verify', alone).returncode, 0)
        other = self.enter(Mount(alone, self.path('alone-snaps')))
        self.assertTrue(read_file(other.path('vm2', 'ram')) == self.guest.flat())

    def test_a_damaged_parent_is_an_error_and_never_a_wrong_byte(self):
        self.save('vm1', self.guest)
        self.save_changed('vm2', 20, 1)
        self.parent = self.uuid('vm1')
        self.mount.unmount()
        path = self.store('vm1', 'snapshot.zst')
        with open(path, 'r+b') as file:
            file.seek(self.size('vm1') // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        done = tool('verify', self.store(''), 'vm2')
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stdout, f'parent {self.parent}: extent at byte [0-9]+: damaged')
        done = tool('flatten', self.store(''), 'vm2')
        self.assertRegex(done.stderr, rf'^snapfs: flatten: vm2: extent at byte [0-9]+ of its parent {self.parent}: '
                                      r'damaged\n$')

    def test_ls_and_info_say_which_file_a_copy_lacks(self):
        self.prepare()
        uuid = self.uuid('day1')
        target = self.rsync('-aH')
        os.remove(os.path.join(target, '.snapfs', 'layers', uuid + '.zst'))
        for verb in ('ls', 'info'):
            done = tool(verb, target)
            self.assertEqual(done.returncode, 1, done)
            self.assertRegex(done.stderr, rf'(?m)^snapfs: day2: .* is missing: \S+/{uuid}.zst$')
            self.assertNotIn('day1:', done.stderr)
        done = tool('ls', target)
        self.assertRegex(done.stdout, '(?m)^day1 ')
        self.assertNotRegex(done.stdout, '(?m)^day2 ')
        # Those that are there are still in use.
        done = tool('ls', '--layers', target)
        self.assertIn(uuid, done.stderr)
        self.assertRegex(done.stdout, r'(?m)^\S+ .* - +day1, day2, day3$')

    def test_ls_tells_what_is_shared_and_with_whom(self):
        self.prepare()
        out = tool('ls', '--layers', self.store('')).stdout
        uuid = self.uuid('day1')
        self.assertRegex(out, rf'(?m)^{uuid} .* day1 +day2, day3$')
        self.assertRegex(out, r'(?m)^\S+ .* - +day1, day2, day3$')
        # It is about the whole store, wherever it is asked.
        self.assertEqual(tool('ls', '--layers', self.store('day3')).stdout, out)
        done = tool('ls', '--layers', self.store(''), 'day3')
        self.assertEqual(done.returncode, 2, done)
        self.assertIn('want no NAME', done.stderr)
        out = tool('ls', self.store('')).stdout
        self.assertRegex(out.splitlines()[0], 'SHARED')
        self.assertIn(uuid, tool('info', self.store(''), 'day3').stdout)


    def test_json_has_the_bytes_of_the_names_of_who_shares(self):
        self.save('vm1', self.guest)
        self.save_changed('vm2', 20, 1)
        name = b'caf\xe9'
        os.rename(os.fsencode(self.snaps('vm2')), os.path.join(os.fsencode(self.snaps()), name))
        layers = json.loads(tool('ls', '--layers', '--json', self.store('')).stdout)['layers']
        users = [base64.b64decode(user['name_base64']) for user in layers[0]['used_by']]
        self.assertEqual(users, [name])
        self.assertEqual(layers[0]['name'], 'vm1')


class FlattenTest(IncrementCase):
    def test_a_flattened_snapshot_stands_alone_and_reads_the_same(self):
        guests = self.chain(3)
        self.mount.unmount()
        before = os.stat(self.store('day2', 'snapshot.zst'))
        done = tool('flatten', self.store(''), 'day2')
        self.assertEqual(done.returncode, 0, done)
        after = os.stat(self.store('day2', 'snapshot.zst'))
        self.assertEqual((after.st_uid, after.st_mode), (before.st_uid, before.st_mode))
        self.assertGreater(after.st_size, 2 * before.st_size)
        for name in ('day0', 'day1'):
            shutil.rmtree(self.store(name))
        shutil.rmtree(self.store('.snapfs', 'layers'))
        self.mount.start()
        self.assertEqual(self.parents('day2'), [])
        self.check_snapshot('day2', guests[2])
        self.assertIn('stands alone already', self.flatten_again().stdout)

    def flatten_again(self):
        self.mount.unmount()
        return tool('flatten', self.store(''), 'day2')

    def test_a_rewritten_preamble_stays(self):
        self.save('vm1', self.guest)
        self.save_changed('vm2', 10, 1)
        with open(self.snaps('vm2', 'preamble'), 'wb') as file:
            file.write(b'x' * 5000)
        before = read_file(self.snaps('vm2', 'stream'))
        self.mount.unmount()
        self.assertEqual(tool('flatten', self.store(''), 'vm2').returncode, 0)
        self.assertFalse(os.path.exists(self.store('vm2', 'snapshot.head')))
        self.mount.start()
        self.assertEqual(read_file(self.snaps('vm2', 'preamble')), b'x' * 5000)
        self.assertTrue(read_file(self.snaps('vm2', 'stream')) == before)

    def test_that_another_snapshot_is_damaged_is_told_and_no_failure(self):
        self.save('bad', makestream.Guest({'pc.ram': 2 * MIB}, seed=5))
        guests = self.chain(2)
        self.mount.unmount()
        os.truncate(self.store('bad', 'snapshot.zst'), 5000)
        done = tool('flatten', self.store(''), 'day1')
        self.assertEqual(done.returncode, 0, done)
        self.assertRegex(done.stderr, r'^snapfs: .* stay in the store for now: bad: ')
        self.mount.start()
        self.assertEqual(self.parents('day1'), [])
        self.check_snapshot('day1', guests[1])

    def test_a_folder_without_the_snapshot_is_left_as_it_is(self):
        folder = self.path('empty')
        os.mkdir(folder)
        done = tool('flatten', folder, 'vm1')
        self.assertEqual(done.returncode, 1, done)
        self.assertIn('no snapshot in vm1', done.stderr)
        self.assertEqual(os.listdir(folder), [])

    def test_a_mounted_store_is_refused(self):
        self.save('vm1', self.guest)
        done = tool('flatten', self.store(''), 'vm1')
        self.assertNotEqual(done.returncode, 0)
        self.assertIn('in use', done.stderr)


class ImportTest(ToolCase):
    def test_import_stores_what_differs_from_the_parent_it_is_told(self):
        self.snapfs('import', self.store, 'vm1', data=self.data)
        change(self.guest, 10, 3)
        self.succeed('import', '--parent=vm1', self.store, 'vm2', data=makestream.stream(self.guest))
        sizes = [os.path.getsize(os.path.join(self.store, name, 'snapshot.zst'))
                 for name in ('vm1', 'vm2')]
        self.assertLess(sizes[1], sizes[0] / 3)
        ram = self.succeed('export', '--form=ram', self.store, 'vm2').bytes
        self.assertTrue(ram == self.guest.flat())
        self.fail_with('--parent=none', 'import', '--parent=none', self.store, 'vm3', data=self.data)
        self.assertFalse(os.path.exists(os.path.join(self.store, 'vm3')))

    def test_a_parent_of_another_guest_is_told_and_not_used(self):
        self.snapfs('import', self.store, 'vm1', data=self.data)
        other = makestream.Guest({'pc.ram': 2 * MIB})
        done = self.snapfs('import', '--parent=vm1', self.store, 'vm2',
                           data=makestream.stream(other))
        self.assertEqual(done.status, 0, done)
        self.assertRegex(done.error, 'other RAM blocks')
        self.assertIsNone(re.search('Parent', self.succeed('info', self.store, 'vm2').out))


if __name__ == '__main__':
    harness.main()

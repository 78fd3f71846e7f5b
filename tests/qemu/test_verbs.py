#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests saved by `snapfs save` and brought back by `snapfs revert`."""
import json
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from guest import CountGuest, LinuxGuest
from harness import need_program, need_root
from mount import need_views
from qemu import Qemu, need_background_snapshot, need_qemu
from verbs import DiskGuest, VerbCase, disk_holds, disk_write, image_holds


def setUpModule():
    need_qemu()
    need_views()


def read(path):
    with open(path) as file:
        return file.read()


class Count(VerbCase):
    def test_it_comes_back_each_way(self):
        qemu = self.boot()
        qemu.wait_serial('B{3}')
        constant = qemu.constant()
        said = self.save_ok().stdout
        self.assertRegex(said, r'stood still for \d+\.\d ms')
        self.assert_runs_on(qemu)
        qemu.kill()
        ways = ['bridge', 'eager']
        # Since 8.2 (qapi/qom.json of QEMU: MemoryBackendFileProperties).
        if 'rom=' in harness.run(need_qemu(), '-object', 'memory-backend-file,help').stdout:
            ways.append('memory-file')
        for way in ways:
            with self.subTest(way):
                back = self.revert(f'--way={way}')
                self.assertEqual(back.way, way)
                self.assert_back(back, constant)
                back.kill()

    def test_by_itself_it_is_the_bridge_and_the_saved_command_line(self):
        qemu = self.boot()
        self.save_ok()
        self.assert_fails(self.snapfs('revert', self.folder), 'still runs')
        qemu.kill()
        back = self.adopt(self.snapfs('revert', self.folder), serial=qemu.serial_path)
        self.assertEqual(back.way, 'bridge')
        self.assert_back(back)

    def test_wait_returns_when_all_memory_is_there(self):
        qemu = self.boot()
        self.save_ok()
        qemu.kill()
        back = self.revert('--wait')
        self.assertEqual(back.cmd('query-migrate')['status'], 'completed')
        # So that it can be saved in the background again.
        self.assertEqual(self.capabilities(back), set())
        self.assert_back(back)

    def test_a_guest_brought_back_is_saved_and_brought_back_again(self):
        qemu = self.boot()
        self.save_ok()
        qemu.kill()
        back = self.revert()
        self.wait_drained(back)
        back.cmd('query-status')
        path = [word for word in read(f'/proc/{back.process.pid}/cmdline').split('\0')
                if word.startswith('unix:')][-1][5:].split(',')[0]
        back.qmp.close()
        back.qmp = None
        done = self.snapfs('save', '--no-disks', '--qmp', path, self.mount.path('vm2'))
        self.assertEqual(done.returncode, 0, done.stderr)
        back.kill()
        self.assert_back(self.revert(folder=self.mount.path('vm2')))

    def test_stopped_keeps_the_guest_stopped_meanwhile(self):
        qemu = self.boot()
        self.save_ok('--stopped')
        self.assertEqual(json.loads(read(self.folder + '/vm.json'))['way'], 'stopped')
        self.assert_runs_on(qemu)
        qemu.kill()
        self.assert_back(self.revert())

    def test_qemu_keeps_its_settings(self):
        qemu = self.boot()
        qemu.set_capabilities({'xbzrle': True, 'events': True})
        qemu.set_parameters({'max-bandwidth': 12345678})
        for options in ((), ('--stopped', '--force')):
            self.save_ok(*options)
            self.assertEqual(self.capabilities(qemu), {'xbzrle', 'events'})
            self.assertEqual(qemu.cmd('query-migrate-parameters')['max-bandwidth'], 12345678)

    def test_a_paused_guest_stays_paused_and_comes_back_stopped(self):
        qemu = self.boot()
        need_background_snapshot(qemu)
        qemu.stop()
        self.assertIn('stays stopped', self.save_ok().stdout)
        self.assertEqual(qemu.run_state(), 'paused')
        qemu.kill()
        ways = ['bridge', 'eager']
        # Since 8.2 (qapi/qom.json of QEMU: MemoryBackendFileProperties).
        if 'rom=' in harness.run(need_qemu(), '-object', 'memory-backend-file,help').stdout:
            ways.append('memory-file')
        for way in ways:
            with self.subTest(way):
                done = self.snapfs('revert', f'--way={way}', self.folder, *self.command())
                back = self.adopt(done)
                self.assertIn('is back, stopped', done.stdout)
                self.wait_drained(back)
                self.assertIn(back.run_state(), ('paused', 'prelaunch', 'postmigrate'))
                back.cont()
                self.assert_back(back)
                back.kill()

    def test_a_guest_that_never_ran_is_saved_without_harm(self):
        qemu = self.enter(Qemu(self.guest, self.work, stopped=True, args=[
            '-qmp', f'unix:{self.socket},server=on,wait=off']))
        self.assertEqual(qemu.run_state(), 'prelaunch')
        self.assertIn('prelaunch', self.save_ok().stderr)
        self.assertTrue(qemu.alive())
        # It can only go on from here, and says so.
        self.assert_fails(self.save('--force'), 'postmigrate.*cont')
        qemu.cont()
        qemu.wait_serial('BB')
        self.save_ok('--force')

    def test_a_snapshot_is_replaced_by_force_only(self):
        self.boot()
        self.save_ok()
        uuid = os.getxattr(self.folder, 'user.snapfs.uuid')
        self.assertEqual(self.named(), uuid.decode())
        self.assert_fails(self.save(), '--force')
        self.assertEqual(os.getxattr(self.folder, 'user.snapfs.uuid'), uuid)
        self.save_ok('--force')
        self.assertNotEqual(os.getxattr(self.folder, 'user.snapfs.uuid'), uuid)
        self.assertEqual(self.named(), os.getxattr(self.folder, 'user.snapfs.uuid').decode())

    def named(self):
        """The snapshot that vm.json belongs to."""
        return json.loads(read(self.folder + '/vm.json'))['uuid']

    def test_a_copy_that_came_back_reverts_and_one_that_was_replaced_does_not(self):
        qemu = self.boot()
        self.save_ok()
        self.run_ok('cp', '-a', self.folder, self.path('copy'))
        self.run_ok('cp', '-a', self.path('copy'), self.mount.path('vm2'))
        qemu.stop()
        qemu.migrate(f'file:{self.folder}/stream')
        qemu.kill()
        self.assert_fails(self.snapfs('revert', self.folder, *self.command()),
                          'is of another snapshot than the one beside it')
        self.assert_back(self.revert(folder=self.mount.path('vm2')))

    def test_folders_are_made(self):
        self.boot()
        folder = self.mount.path('ci', 'base', 'vm1')
        self.save_ok(folder=folder)
        self.assertEqual(sorted(os.listdir(folder)), ['devstate', 'ram', 'vm.json'])
        self.assertEqual(os.stat(folder + '/vm.json').st_mode & 0o777, 0o600)

    def test_a_plain_folder_gets_the_stream_and_is_read_eagerly(self):
        qemu = self.boot()
        folder = self.path('plain')
        self.assertIn('not in a mount of snapfs', self.save_ok(folder=folder).stderr)
        self.assertEqual(sorted(os.listdir(folder)), ['stream', 'vm.json'])
        qemu.kill()
        done = self.snapfs('revert', folder, *self.command())
        self.assertIn('all memory is read first', done.stderr)
        back = self.adopt(done)
        self.assertEqual(back.way, 'eager')
        self.assert_back(back)

    def test_a_copy_without_stream_is_a_snapshot(self):
        qemu = self.boot()
        self.save_ok()
        folder = self.path('copy')
        os.mkdir(folder)
        for name in ('ram', 'devstate', 'vm.json'):
            shutil.copy2(os.path.join(self.folder, name), folder)
        self.assert_fails(self.save(folder=folder), 'holds a snapshot; --force')
        self.assert_fails(self.snapfs('revert', '--way=eager', folder, *self.command()),
                          'needs the file stream')
        qemu.kill()
        back = self.revert('--wait', folder=folder)
        self.assertEqual(back.way, 'bridge')
        self.assert_back(back)

    def test_a_copy_is_replaced_whole(self):
        self.boot()
        folder = self.path('copy')
        os.mkdir(folder)
        for name in ('ram', 'devstate', 'hot', 'domain.xml'):
            with open(os.path.join(folder, name), 'w') as file:
                file.write('old')
        self.save_ok('--force', folder=folder)
        self.assertEqual(sorted(os.listdir(folder)), ['domain.xml', 'stream', 'vm.json'])

    def test_minus_s_keeps_it_stopped(self):
        qemu = self.boot()
        self.save_ok()
        qemu.kill()
        back = self.revert(args=['-S'])
        self.wait_drained(back)
        self.assertNotEqual(back.run_state(), 'running')
        back.cont()
        self.assert_back(back)

    def test_without_vm_json_a_command_line_is_needed(self):
        qemu = self.boot()
        self.save_ok()
        qemu.kill()
        path = self.folder + '/vm.json'
        saved = read(path)
        os.chmod(path, 0o666)
        self.assert_fails(self.snapfs('revert', self.folder, *self.command()), 'make it yours')
        os.unlink(path)
        self.assert_fails(self.snapfs('revert', self.folder), 'after --')
        self.assert_back(self.revert())
        for text in ('', '[]', '{}', '{"snapfs-vm": 2}', '[' * 100000, saved[:-20], '\0',
                     '{"snapfs-vm": 1, "disks": [7]}', 'x' * (2 << 20)):
            with open(path, 'w') as file:
                file.write(text)
            self.assert_fails(self.snapfs('revert', self.folder, *self.command()), 'vm.json: ')

    def test_without_userfaultfd_it_is_saved_stopped_and_read_eagerly(self):
        # QEMU refuses it for memory in a file of an ordinary file system.
        if self.run_ok('stat', '-f', '-c', '%T', self.work).strip() == 'tmpfs':
            raise harness.Missing(f'{self.work} is on tmpfs')
        self.guest = CountGuest(memory=64, end=20, machine='q35,memory-backend=mem')
        args = ['-object', f'memory-backend-file,id=mem,size=64M,share=off,'
                           f'mem-path={self.path("memory")}']
        qemu = self.boot(args=args)
        self.assertIn('stopped during the save: ', self.save_ok().stderr)
        self.assert_runs_on(qemu)
        self.assertEqual(json.loads(read(self.folder + '/vm.json'))['memory'],
                         {'id': 'mem', 'size': 64 << 20})
        qemu.kill()
        done = self.snapfs('revert', self.folder, *self.command(args=args))
        self.assertIn('all memory is read first: ', done.stderr)
        back = self.adopt(done)
        self.assertEqual(back.way, 'eager')
        self.assert_back(back)
        self.assert_fails(self.snapfs('revert', '--way=bridge', self.folder,
                                      *self.command(args=args)), 'ostcopy|ackend')
        self.assert_fails(self.snapfs('revert', '--way=memory-file', self.folder,
                                      *self.command(args=args)), 'memory-backend of its own')

    def test_a_bar_is_shown_on_a_terminal_only(self):
        self.guest = CountGuest(memory=128, end=100, fill=True)
        self.boot()
        self.assertEqual(self.save_ok().stderr, '')
        main, terminal = os.openpty()
        self.addCleanup(os.close, main)
        done = harness.subprocess.run(
            [harness.build_path('tools', 'snapfs'), 'save', '--no-disks', '--force', '--qmp',
             self.socket, self.folder], stdout=harness.subprocess.DEVNULL, stderr=terminal,
            timeout=60, check=False)
        os.close(terminal)
        self.assertEqual(done.returncode, 0)
        self.assertRegex(os.read(main, 65536), rb'\r.*\d+%.*iB/s.* left')


class Pipe(VerbCase):
    """QEMU writes into a pipe, and snapfs into the folder."""
    USER, GROUP = 65534, 1234

    def boot_as_user(self):
        """A QEMU of another user, who can use nothing of the mount."""
        os.chmod(self.work, 0o777)
        self.guest = CountGuest(memory=64, end=20, fill=True)
        image = shutil.copy(self.guest.image(), self.path('boot.img'))
        os.chmod(image, 0o644)
        self.guest.image = lambda: image
        qemu = Qemu(self.guest, self.work,
                    args=['-qmp', f'unix:{self.socket},server=on,wait=off'])
        qemu.command = [need_program('setpriv'), f'--reuid={self.USER}', f'--regid={self.GROUP}',
                        '--clear-groups', *qemu.command]
        self.enter(qemu)
        qemu.wait_serial('^AB')
        return qemu

    def assert_owner(self, user, group, *names):
        for name in names:
            st = os.stat(name)
            self.assertEqual((st.st_uid, st.st_gid), (user, group), name)

    def test_the_snapshot_is_of_the_user_that_runs_qemu(self):
        need_root()
        qemu = self.boot_as_user()
        folder = self.mount.path('ci', 'vm1')
        self.save_ok(folder=folder)
        self.assert_runs_on(qemu)
        self.assert_owner(self.USER, self.GROUP, os.path.dirname(folder), folder, folder + '/ram')
        self.assertEqual(os.stat(folder + '/ram').st_mode & 0o777, 0o600)
        self.save_ok(folder=self.path('plain'))
        self.assert_owner(self.USER, self.GROUP, self.path('plain'), self.path('plain', 'stream'))
        self.assertEqual(os.stat(self.path('plain', 'stream')).st_mode & 0o777, 0o600)
        qemu.kill()
        back = self.revert(folder=folder)
        self.assert_back(back)
        back.kill()
        # A plain folder of that user: vm.json knows its stream.
        back = self.revert(folder=self.path('plain'))
        self.assert_back(back)
        back.kill()
        with open(self.path('plain', 'stream'), 'r+b') as file:
            file.seek(-1, os.SEEK_END)
            file.write(b'x')
        self.assert_fails(self.snapfs('revert', self.path('plain'), *self.command()),
                          'is of another snapshot than the one beside it')

    def test_in_a_folder_of_a_group_it_is_of_the_group(self):
        need_root()
        self.boot_as_user()
        for folder in (self.folder, self.path('plain')):
            os.mkdir(folder)
            os.chown(folder, 0, 4321)
            os.chmod(folder, 0o2755)
            self.save_ok(folder=folder)
            self.assert_owner(self.USER, 4321, folder + '/stream')
            self.assert_owner(0, 4321, folder)

    def test_a_snapshot_that_is_replaced_keeps_its_owner(self):
        need_root()
        self.boot_as_user()
        self.save_ok()
        os.chown(self.folder + '/ram', 77, 78)
        self.save_ok('--force')
        self.assert_owner(77, 78, self.folder + '/ram')

    def test_a_preamble_goes_with_the_snapshot_that_is_replaced(self):
        qemu = self.boot()
        os.mkdir(self.folder)
        qemu.migrate(f'file:{self.folder}/stream,offset=2097152', self.background(qemu))
        self.assertIn('preamble', os.listdir(self.folder))
        qemu.set_capabilities({})
        self.save_ok('--force')
        self.assertNotIn('preamble', os.listdir(self.folder))
        qemu.kill()
        self.assert_back(self.revert('--way=eager'))

    def test_a_link_in_a_plain_folder_is_not_followed(self):
        self.boot()
        folder = self.path('plain')
        os.mkdir(folder)
        with open(self.path('other'), 'w') as file:
            file.write('keep')
        for make in (os.symlink, os.link):
            make(self.path('other'), folder + '/stream.part')
            self.save_ok('--force', folder=folder)
        self.assertEqual(read(self.path('other')), 'keep')
        self.assertEqual(sorted(os.listdir(folder)), ['stream', 'vm.json'])

    def test_over_tcp_qemu_opens_the_file_itself(self):
        qemu = self.boot(args=['-qmp', 'tcp:127.0.0.1:0,server=on,wait=off'])
        (port,) = [one['filename'].split(':')[-1].split(',')[0]
                   for one in qemu.cmd('query-chardev') if 'tcp:' in one['filename']]
        self.socket = f'tcp:localhost:{port}'
        for folder in (self.folder, self.path('plain')):
            self.save_ok(folder=folder)
            self.save_ok('--force', '--stopped', folder=folder)
            self.assert_runs_on(qemu)
        for folder in (self.mount.path('a,offset=1'), self.path('a,offset=1')):
            self.assert_fails(self.save(folder=folder), 'for an option')
            self.assertFalse(os.path.exists(folder))
        qemu.kill()
        for folder in (self.folder, self.path('plain')):
            back = self.revert('--way=eager', folder=folder)
            self.assert_back(back)
            back.kill()

    def test_any_name_of_a_folder_will_do(self):
        self.boot()
        for folder in (self.mount.path('a,offset=1'), self.path("it's")):
            self.save_ok(folder=folder)


class Linux(VerbCase):
    guest = LinuxGuest(memory=192, fill=48, touch=16, dirty=8, tick=100, check=16)

    def test_it_ticks_on_after_a_background_and_a_stopped_save(self):
        qemu = self.boot()
        need_background_snapshot(qemu)
        before = qemu.wait_ticks(1)
        self.assertEqual(self.save_ok().stderr, '')
        self.save_ok('--stopped', folder=self.mount.path('vm2'))
        qemu.wait_ticks(1)
        qemu.wait_pass()
        self.assertNotIn('BAD', qemu.serial())
        qemu.kill()
        for folder in (self.folder, self.mount.path('vm2')):
            with self.subTest(folder):
                back = self.revert(folder=folder)
                self.assert_ticks_on(back, before)
                back.kill()


class Disks(VerbCase):
    def check(self, style, *options):
        self.guest = DiskGuest(self.work, style)
        qemu = self.boot()
        disk_write(qemu, 17)
        said = self.save_ok(*options).stdout
        self.assertEqual(said.count('frozen in'), 2, said)
        self.assertIn(f'frozen in {self.guest.data}, continues in', said)
        frozen = os.stat(self.guest.data).st_mtime_ns
        disk_write(qemu, 34)
        self.assertTrue(disk_holds(qemu, 34))
        self.assert_runs_on(qemu)
        qemu.kill()
        ways = ['bridge', 'eager']
        # Since 8.2 (qapi/qom.json of QEMU: MemoryBackendFileProperties).
        if 'rom=' in harness.run(need_qemu(), '-object', 'memory-backend-file,help').stdout:
            ways.append('memory-file')
        for way in ways:
            with self.subTest(way):
                back = self.revert(f'--way={way}')
                self.assertTrue(disk_holds(back, 17))
                disk_write(back, 51)
                self.assert_back(back)
                back.kill()
        self.assertTrue(image_holds(self.guest.data, 17))
        self.assertEqual(os.stat(self.guest.data).st_mtime_ns, frozen)

    def test_they_are_frozen_with_the_memory(self):
        self.check('drive')

    def test_they_are_frozen_in_a_stopped_save(self):
        self.check('drive', '--stopped')

    def test_block_nodes_are_disks_too(self):
        self.check('blockdev')

    def test_block_nodes_in_json_are_disks_too(self):
        self.check('json')

    def test_a_second_save_freezes_the_overlay(self):
        self.guest = DiskGuest(self.work)
        os.mkdir(self.path('overlays'))
        qemu = self.boot()
        disk_write(qemu, 17)
        self.save_ok()
        disk_write(qemu, 34)
        self.save_ok('--overlay-dir', self.path('overlays'), folder=self.mount.path('vm2'))
        self.assertEqual(len(os.listdir(self.path('overlays'))), 2)
        disk_write(qemu, 51)
        qemu.kill()
        for name, byte in (('vm1', 17), ('vm2', 34)):
            done = self.snapfs('revert', '--overlay-dir', self.temporary, self.mount.path(name))
            back = self.adopt(done, serial=qemu.serial_path)
            self.assertTrue(disk_holds(back, byte))
            self.assert_back(back)
            back.kill()

    def test_a_paused_guest_stays_paused_and_its_disks_are_frozen(self):
        self.guest = DiskGuest(self.work)
        qemu = self.boot()
        need_background_snapshot(qemu)
        qemu.stop()
        self.assertIn('frozen in', self.save_ok().stdout)
        self.assertEqual(qemu.run_state(), 'paused')

    def test_it_comes_back_beside_the_one_that_was_saved(self):
        self.guest = DiskGuest(self.work)
        qemu = self.boot()
        disk_write(qemu, 17)
        self.save_ok()
        disk_write(qemu, 34)
        back = self.revert('--wait')
        self.assertTrue(disk_holds(back, 17))
        disk_write(back, 51)
        self.assert_back(back)
        self.assertTrue(disk_holds(qemu, 34))
        self.assert_runs_on(qemu)

    def test_no_disks_leaves_them_alone(self):
        self.guest = DiskGuest(self.work)
        self.boot()
        self.assertNotIn('frozen', self.save_ok('--no-disks').stdout)
        self.assert_clean()


if __name__ == '__main__':
    harness.main()

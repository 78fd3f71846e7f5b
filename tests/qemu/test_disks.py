#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks of many kinds, named in many ways, frozen by `snapfs save` and brought back by `snapfs
revert` with the command line that was saved."""
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from harness import need_program
from mount import need_views
from qemu import Qemu, need_qemu
from verbs import DiskGuest, VerbCase

SECRET = 'secret,id=s0,data=abc'
GROUP = ['-object', 'throttle-group,id=tg0,x-iops-total=1000']


def setUpModule():
    need_qemu()
    need_views()


class NamedGuest(DiskGuest):
    """Its data disk is named by these words; `device` is for block nodes with the name data."""

    def __init__(self, folder, words, device=True):
        super().__init__(folder)
        self.words = words
        self.device = ['-device', 'virtio-blk-pci,drive=data,id=disk1'] if device else []

    def args(self):
        return ['-machine', self.machine, '-m', str(self.memory), '-nodefaults', '-vga', 'none',
                '-drive', f'if=none,id=boot,format=raw,file={self.boot}',
                '-device', 'ide-hd,drive=boot,bootindex=0', *self.words, *self.device]


class Disks(VerbCase):
    def image(self, form, size, *options):
        path = self.path('image')
        if os.path.exists(path):
            os.unlink(path)
        self.run_ok(need_program('qemu-img'), 'create', '-q', '-f', form, *options, path, size)
        return path

    def data_disk(self, qemu):
        (disk,) = [one for one in qemu.cmd('query-block')
                   if one.get('inserted') and one['device'] != 'boot']
        return disk

    def io(self, qemu, words):
        """QEMU does something with the data disk, as its guest would."""
        qemu.cmd('human-monitor-command', command_line=(
            f'qemu-io -d {self.data_disk(qemu)["qdev"]} "{words}"'))

    def write(self, qemu, byte):
        self.io(qemu, f'write -P {byte} 64k 64k')
        self.io(qemu, 'flush')

    def assert_holds(self, qemu, byte):
        before = qemu.log()
        self.io(qemu, f'read -P {byte} 64k 64k')
        said = qemu.log()[len(before):]
        self.assertRegex(said, 'read 65536/65536 bytes')
        self.assertNotIn('verification failed', said)

    def check(self, words, device=True, driver=None):
        """It is saved twice; each snapshot comes back with the disk as it was."""
        self.guest = NamedGuest(self.work, words, device)
        qemu = self.boot()
        for name, byte in (('vm1', 17), ('vm2', 34)):
            self.write(qemu, byte)
            done = self.save_ok(folder=self.mount.path(name))
            self.assertEqual(done.stderr, '')
            self.assertEqual(done.stdout.count('frozen in'), 2, done.stdout)
            self.assert_holds(qemu, byte)
            if driver:
                self.assertEqual(self.data_disk(qemu)['inserted']['drv'], driver)
        self.write(qemu, 51)
        qemu.kill()
        for name, byte in (('vm1', 17), ('vm2', 34), ('vm1', 17)):
            back = self.adopt(self.snapfs('revert', self.mount.path(name)),
                              serial=qemu.serial_path)
            self.assert_holds(back, byte)
            if driver:
                self.assertEqual(self.data_disk(back)['inserted']['drv'], driver)
            self.write(back, 68)
            self.assert_holds(back, 68)
            back.kill()

    def test_a_word_by_itself(self):
        self.check([self.image('qcow2', '8M')], device=False)

    def test_a_floppy(self):
        self.check(['-fda', self.image('qcow2', '1440k')], device=False)

    def test_a_hard_disk(self):
        self.check(['-hdb', self.image('qcow2', '8M')], device=False)

    def test_below_a_throttle(self):
        self.check([*GROUP, '-blockdev',
                    f'driver=file,node-name=f0,filename={self.image("qcow2", "8M")}',
                    '-blockdev', 'driver=qcow2,node-name=q0,file=f0',
                    '-blockdev', 'driver=throttle,node-name=data,throttle-group=tg0,file=q0'],
                   driver='throttle')

    def test_below_two_filters(self):
        self.check([*GROUP, '-blockdev', f'driver=qcow2,node-name=q0,file.driver=file,'
                                         f'file.filename={self.image("qcow2", "8M")}',
                    '-blockdev', 'driver=copy-on-read,node-name=c0,file=q0',
                    '-blockdev', 'driver=throttle,node-name=data,throttle-group=tg0,file=c0'],
                   driver='throttle')

    def test_throttled_by_its_drive(self):
        self.check(['-drive', f'if=none,id=data,format=qcow2,throttling.iops-total=1000,'
                              f'file={self.image("qcow2", "8M")}'])

    def test_encrypted_by_luks(self):
        path = self.image('luks', '2M', '--object', SECRET, '-o', 'key-secret=s0,iter-time=10')
        self.check(['-object', SECRET, '-drive',
                    f'if=none,id=data,driver=luks,key-secret=s0,file.filename={path}'])

    def test_encrypted_inside_of_qcow2(self):
        path = self.image('qcow2', '2M', '--object', SECRET, '-o',
                          'encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10')
        self.check(['-object', SECRET, '-drive',
                    f'if=none,id=data,driver=qcow2,encrypt.key-secret=s0,file.filename={path}'])

    def test_encrypted_block_nodes(self):
        path = self.image('luks', '2M', '--object', SECRET, '-o', 'key-secret=s0,iter-time=10')
        self.check(['-object', SECRET, '-blockdev', f'file,node-name=f0,filename={path}',
                    '-blockdev', 'luks,node-name=data,key-secret=s0,file=f0'])

    def test_a_part_of_a_file(self):
        path = self.image('raw', '8M')
        self.check(['-drive', 'if=none,id=data,driver=raw,offset=1048576,size=2097152,'
                              f'file.filename={path}'])
        with open(path, 'rb') as file:
            file.seek(65536)
            self.assertEqual(file.read(65536), bytes(65536))
            file.seek(1048576 + 65536)
            self.assertEqual(file.read(65536), b'\x11' * 65536)

    def test_a_link_in_the_place_of_an_overlay_is_not_followed(self):
        """Who owns the folder of an image can guess the overlay's name."""
        os.mkdir(self.path('images'))
        self.guest = NamedGuest(self.path('images'), [], device=False)
        qemu = self.boot()
        self.save_ok()
        qemu.kill()
        now = time.time()
        for second in range(180):
            when = time.strftime('%Y%m%dT%H%M%S', time.gmtime(now + second))
            os.symlink(self.path('victim'),
                       self.path('images', f'boot.revert-{when}-1.qcow2'))
        done = self.snapfs('revert', self.folder)
        self.assertFalse(os.path.exists(self.path('victim')), done.stdout)
        self.assert_fails(done, 'disk boot: .*revert-.*File exists')

    def test_a_file_that_another_program_opened_is_named_by_the_save(self):
        """As a program does that manages guests."""
        self.guest = NamedGuest(self.work, ['-add-fd', 'fd=9,set=7'], device=False)
        qemu = Qemu(self.guest, self.work, args=['-qmp', f'unix:{self.socket},server=on,wait=off'])
        qemu.command = ['sh', '-c', 'exec 9</dev/null; exec "$@"', 'sh', *qemu.command]
        self.enter(qemu)
        qemu.wait_serial('^AB')
        self.assertRegex(self.save_ok().stderr, 'a revert .*: fd=9,set=7 names a file that')

    def test_what_a_revert_cannot_do_is_said_by_the_save(self):
        """A filter between the format and the file: the option that names the file is nested."""
        path = self.image('qcow2', '8M')
        self.guest = NamedGuest(self.work, [*GROUP, '-blockdev', (
            'driver=qcow2,node-name=data,file.driver=throttle,file.throttle-group=tg0,'
            f'file.file.driver=file,file.file.filename={path}')])
        qemu = self.boot()
        self.write(qemu, 17)
        done = self.save_ok()
        self.assertRegex(done.stderr, re.compile(
            rf'^snapfs: save: a revert .* names no image of disk data; it needs {path} after',
            re.M))
        self.assertEqual(done.stderr.count('\n'), 1)
        # All else is as ever, and another command line works.
        self.assert_runs_on(qemu)
        qemu.kill()
        self.assert_fails(self.snapfs('revert', self.folder), 'names no image of disk data')
        self.guest = NamedGuest(self.work, [*GROUP, '-drive', f'if=none,id=data,file={path}'])
        self.assert_holds(self.revert(), 17)


if __name__ == '__main__':
    harness.main()

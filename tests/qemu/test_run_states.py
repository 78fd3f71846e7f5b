#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""`snapfs save` and `snapfs revert` in each of QEMU's run states: in most with real guests, in
the others with a program that plays QEMU."""
import json
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from guest import ENDS_WATCHDOG, PANICS, POWERS_OFF, SUSPENDS, CountGuest
from harness import wait_until
from mount import need_views
from qemu import need_background_snapshot, need_qemu
from verbs import DiskGuest, Peer, VerbCase, disk_holds, disk_write, greeting, migrates

WAYS = ('bridge', 'eager', 'memory-file')


def setUpModule():
    need_qemu()
    need_views()


class StateCase(VerbCase):
    def boot_into(self, state, out, args=()):
        """A guest that has brought QEMU into that state."""
        if not isinstance(self.guest, DiskGuest):
            self.guest = CountGuest(memory=64, end=20, fill=True, out=out)
        qemu = self.boot(args=args)
        wait_until(lambda: qemu.run_state() == state, 30, f'QEMU is {state}')
        return qemu

    def state_saved(self):
        with open(self.folder + '/vm.json') as file:
            return json.load(file)['run-state']


class Suspended(StateCase):
    """A guest that is suspended to RAM (S3)."""

    def assert_wakes(self, qemu):
        """It can be woken; then its firmware boots it anew, as it does not resume."""
        self.assertEqual(qemu.run_state(), 'suspended')
        before = qemu.serial().count('A')
        qemu.cmd('system_wakeup')
        wait_until(lambda: qemu.serial().count('A') > before, 30, 'the guest is awake')
        self.assertTrue(qemu.alive())

    def test_it_is_saved_and_comes_back_suspended_each_way(self):
        qemu = self.boot_into('suspended', SUSPENDS)
        need_background_snapshot(qemu)
        constant = qemu.constant()
        qemu.cont()
        for options in ((), ('--stopped', '--force')):
            self.assertRegex(self.save_ok(*options).stdout, 'stood still for')
            self.assertEqual(qemu.run_state(), 'suspended')
            self.assertEqual(self.state_saved(), 'suspended')
        self.assert_wakes(qemu)
        qemu.kill()
        for way in WAYS:
            with self.subTest(way):
                done = self.snapfs('revert', f'--way={way}', self.folder, *self.command())
                back = self.adopt(done)
                self.assertIn('is back, suspended', done.stdout)
                self.wait_drained(back)
                self.assertTrue(back.constant() == constant)
                back.cont()
                self.assert_wakes(back)
                back.kill()

    def test_its_disks_are_frozen_with_it(self):
        self.guest = DiskGuest(self.work, out=SUSPENDS)
        qemu = self.boot_into('suspended', SUSPENDS)
        need_background_snapshot(qemu)
        disk_write(qemu, 17)
        self.assertIn('frozen in', self.save_ok().stdout)
        self.assertEqual(qemu.run_state(), 'suspended')
        disk_write(qemu, 34)
        qemu.kill()
        back = self.revert()
        self.assertEqual(back.run_state(), 'suspended')
        self.assertTrue(disk_holds(back, 17))

    def test_a_failed_save_leaves_it_suspended(self):
        self.guest = DiskGuest(self.work, out=SUSPENDS)
        qemu = self.boot_into('suspended', SUSPENDS)
        need_background_snapshot(qemu)
        self.assert_fails(self.save('--overlay-dir', self.path('nowhere')), 'cannot be frozen')
        self.assertEqual(qemu.run_state(), 'suspended')
        self.assert_wakes(qemu)


class Halted(StateCase):
    """A guest that cannot go on. It can be saved, as it is, to be looked at later."""

    def check(self, state, out, *args):
        qemu = self.boot_into(state, out, args)
        self.assertIn(f'its state is {state}', self.save_ok().stderr)
        self.assertTrue(qemu.alive())
        self.assertEqual(self.state_saved(), state)
        self.assert_fails(self.save('--force'), 'postmigrate.*cont')
        ram = qemu.dump_ram()
        qemu.kill()
        for way in WAYS:
            with self.subTest(way):
                done = self.snapfs('revert', f'--way={way}', self.folder,
                                   *self.command(args=args))
                back = self.adopt(done)
                self.assertIn('is back, stopped', done.stdout)
                self.wait_drained(back)
                self.assertTrue(back.dump_ram() == ram)
                back.kill()

    def test_one_that_panicked(self):
        self.check('guest-panicked', PANICS, '-device', 'pvpanic', '-action', 'panic=pause')

    def test_one_that_has_powered_off(self):
        self.check('shutdown', POWERS_OFF, '-no-shutdown')

    def test_one_whose_watchdog_has_ended(self):
        self.check('watchdog', ENDS_WATCHDOG, '-device', 'ib700', '-action', 'watchdog=pause')

    def test_one_in_a_debugger(self):
        qemu = self.boot(args=['-gdb', f'unix:{self.path("gdb")},server=on,wait=off'])
        gdb = self.enter(socket.socket(socket.AF_UNIX))
        gdb.settimeout(30)
        gdb.connect(self.path('gdb'))
        for words, answer in ((b'Z1,%x,1' % self.address(qemu), b'$OK#9a'), (b'c', b'+')):
            gdb.sendall(b'+$%s#%02x' % (words, sum(words) % 256))
            said = b''
            while not said.endswith(answer):
                part = gdb.recv(1)
                self.assertTrue(part, said)
                said += part
        wait_until(lambda: qemu.run_state() == 'debug', 30, 'the guest meets the breakpoint')
        self.assertIn('its state is debug', self.save_ok().stderr)
        self.assertTrue(qemu.alive())
        self.assertEqual(self.state_saved(), 'debug')
        gdb.close()
        qemu.kill()
        back = self.revert()
        self.assertNotEqual(back.run_state(), 'running')
        self.wait_drained(back)
        self.assertIsNone(back.ram_error())

    @staticmethod
    def address(qemu):
        """Where the guest is while it counts."""
        text = qemu.cmd('human-monitor-command', command_line='info registers')
        return int(text.split('EIP=')[1].split()[0], 16)


class Others(StateCase):
    """States that no guest of a test reaches: a program plays QEMU."""

    def save_of(self, state, hello=None, **more):
        self.commands = []

        def write(pipe):
            os.write(pipe, b'QEVM')
            return {'status': 'failed', 'error-desc': 'it was only a play'}
        play = migrates(write, self.commands, status=state,
                        hello=hello or greeting(10, 0, 2), **more)
        with Peer(self.socket, play):
            done = self.save()
        os.unlink(self.socket)
        self.assertFalse(os.path.exists(self.folder))
        return done

    def asked(self):
        return [name for name, _ in self.commands]

    def test_some_are_refused_by_name(self):
        for state in ('colo', 'finish-migrate', 'inmigrate', 'postmigrate', 'restore-vm',
                      'save-vm', 'of-the-future'):
            with self.subTest(state):
                self.assert_fails(self.save_of(state), f"QEMU's state is {state}")
                self.assertNotIn('stop', self.asked())
                self.assertNotIn('migrate', self.asked())

    def test_others_are_saved_neither_in_the_background_nor_continued(self):
        for state in ('debug', 'guest-panicked', 'internal-error', 'io-error', 'prelaunch',
                      'shutdown', 'watchdog'):
            with self.subTest(state):
                done = self.save_of(state)
                self.assertIn(f'its state is {state}', done.stderr)
                self.assert_fails(done, 'it was only a play')
                switched = [one['capability'] for name, about in self.commands
                            if name == 'migrate-set-capabilities'
                            for one in about['capabilities'] if one['state']]
                self.assertEqual(switched, [])
                self.assertNotIn('stop', self.asked())
                self.assertNotIn('cont', self.asked())

    def test_a_suspended_guest_is_saved_in_the_background_or_not_at_all(self):
        self.assert_fails(self.save_of('suspended', hello=greeting(8, 2, 0)),
                          'QEMU before 9.0 cannot save')
        self.assertNotIn('migrate', self.asked())
        done = self.save_of('suspended', refused=['migrate-set-capabilities'])
        self.assert_fails(done, 'the guest is suspended, and QEMU can save it only in the back')
        self.assertNotIn('migrate', self.asked())
        self.save_of('suspended')
        self.assertIn('migrate', self.asked())
        self.assertNotIn('stop', self.asked())

    def test_a_guest_that_suspends_just_before_it_is_stopped_goes_on_unsaved(self):
        done = self.save_of('running', refused=['migrate-set-capabilities'],
                            events={'stop': ['SUSPEND']})
        self.assert_fails(done, 'was suspended when it was to be stopped')
        self.assertNotIn('migrate', self.asked())
        self.assertIn('cont', self.asked())


if __name__ == '__main__':
    harness.main()

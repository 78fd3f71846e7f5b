#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that run before their memory is read."""
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from bridge import POSTCOPY, BridgeCase, Relay, bridge_path
from guest import MIB, CountGuest, LinuxGuest
from harness import read_text
from mount import need_views
from qemu import Qemu, take_huge_pages
from vmcase import VmCase

LAST_LINE = (r'^snapfs-bridge: guest (runs|resumed) after [\d.]+ ms; (\d+) pages asked for, '
             r'service time p50 (\d+) us, p99 (\d+) us; [\d.]+ .?i?B in [\d.]+ s$')


class BridgeTests:
    """What holds for any guest."""

    def test_it_runs_at_once_over_a_pipe(self):
        qemu = self.destination()
        said = self.revert(qemu)
        print('   ', said.strip())
        self.assertRegex(said, re.compile(LAST_LINE, re.M))
        self.assert_whole(qemu)

    def test_it_runs_at_once_over_a_socket(self):
        qemu = self.destination()
        bridge = self.bridge('-u', self.listen(qemu))
        self.assertRegex(self.assert_good_end(bridge), LAST_LINE)
        qemu.wait_migrated()
        self.assert_whole(qemu)

    def test_it_goes_on_when_the_bridge_is_killed_and_another_resumes(self):
        qemu = self.destination()
        relay = Relay(self.path('relay'), self.listen(qemu), 20 * MIB)
        self.addCleanup(relay.close)
        bridge = self.bridge('-u', self.path('relay'))
        self.assertTrue(relay.stalled.wait(30))
        bridge.send_signal(signal.SIGKILL)
        bridge.wait()
        relay.close()
        self.wait_status(qemu, 'postcopy-paused')
        bridge = self.bridge('--resume', '-u', self.recover(qemu))
        self.assertRegex(self.assert_good_end(bridge), LAST_LINE)
        self.wait_status(qemu, 'completed')
        self.assert_whole(qemu)

    def test_it_is_whole_with_some_memory_sent_before_it_runs(self):
        for option in ('50%', '100%', '0%'):
            with self.subTest(option):
                qemu = self.destination()
                self.revert(qemu, f'--precopy={option}')
                self.assert_whole(qemu)
                qemu.kill()

    def test_what_it_needed_first_is_learnt_and_sent_first(self):
        hot = os.path.join(self.folder, 'hot')
        first = self.destination()
        self.revert(first)
        self.assert_whole(first)
        first.kill()
        text = read_text(hot)
        self.assertRegex(text, r'\Asnapfs-hot 1\n(\S+ 0x[0-9a-f]+ \d+\n)+\Z')
        self.assertEqual(os.listdir(self.folder).count('hot'), 1)
        self.assertEqual(len(os.listdir(self.folder)), 3)
        for option in ([], ['--precopy=hot']):
            qemu = self.destination()
            said = self.revert(qemu, *option)
            print('   ', said.strip())
            self.assert_whole(qemu)
            qemu.kill()
        self.assertTrue(read_text(hot).startswith(text.rsplit('\n', 2)[0]))


class Count(BridgeTests, BridgeCase):
    guest = CountGuest(fill=True)

    def test_a_hot_list_of_nonsense_does_no_harm(self):
        with open(os.path.join(self.folder, 'hot'), 'wb') as hot:
            hot.write(b'snapfs-hot 1\npc.ram 0x0 99999999999\nfoo 0 1\n\0\xff\n'
                      b'pc.ram 0x1000 -1\n/rom@etc/acpi/tables 0x0 7\n')
        qemu = self.destination()
        self.revert(qemu)
        self.assert_whole(qemu)

    def test_a_folder_that_takes_no_hot_list_does_no_harm(self):
        os.mkdir(os.path.join(self.folder, 'hot'))
        qemu = self.destination()
        self.assertRegex(self.revert(qemu), re.compile(LAST_LINE, re.M))
        self.assert_whole(qemu)
        self.assertEqual(len(os.listdir(self.folder)), 3)

    def test_quiet_is_quiet(self):
        qemu = self.destination()
        self.assertEqual(self.revert(qemu, '--quiet'), '')
        self.assert_whole(qemu)

    def test_it_runs_on_memory_mapped_from_the_snapshot(self):
        ram = os.path.join(self.folder, 'ram')
        before = os.stat(ram)
        qemu = self.destination(guest=CountGuest(fill=True, machine='q35,memory-backend=pc.ram'),
                                caps={'events': True}, args=[
            '-object', f'memory-backend-file,id=pc.ram,size={self.guest.memory}M,mem-path={ram},'
                       'share=off,readonly=on,rom=off,align=2M'])
        said = self.revert(qemu, '--mapped=pc.ram')
        self.assertRegex(said, re.compile(r'^snapfs-bridge: [\d.]+ .?i?B in [\d.]+ s$', re.M))
        qemu.resume()
        self.assert_whole(qemu)
        after = os.stat(ram)
        self.assertEqual((before.st_mtime_ns, before.st_size), (after.st_mtime_ns, after.st_size))

    def test_it_runs_in_huge_pages(self):
        take_huge_pages(self, self.guest.memory // 2)
        for options in ([], ['--precopy=50%']):
            with self.subTest(options):
                qemu = self.destination(
                    guest=CountGuest(fill=True, machine='q35,memory-backend=pc.ram'), args=[
                        '-object', f'memory-backend-memfd,id=pc.ram,size={self.guest.memory}M,'
                                   'hugetlb=on,hugetlbsize=2M'])
                print('   ', self.revert(qemu, '--page-size=pc.ram=2m', *options).strip())
                self.assert_whole(qemu)
                qemu.kill()


class Mounted(VmCase):
    guest = CountGuest(fill=True)

    def setUp(self):
        need_views()
        super().setUp()

    def revert(self, *args):
        qemu = self.enter(Qemu(self.guest, self.work, incoming=True))
        qemu.set_capabilities(POSTCOPY)
        words = ' '.join([bridge_path(), *args, self.snapshot()])
        qemu.cmd('migrate-incoming', uri=f'exec:exec {words}')
        qemu.wait_migrated()
        qemu.wait_serial('BB', timeout=60)
        self.assertIsNone(qemu.ram_error())
        print('   ', qemu.log().strip())
        qemu.kill()

    def test_it_comes_back_from_a_mount_again_and_again(self):
        qemu = self.boot()
        qemu.wait_serial('B{3}')
        qemu.stop()
        qemu.migrate(f'file:{self.stream()}')
        qemu.kill()
        self.revert()
        self.assertRegex(read_text(os.path.join(self.snapshot(), 'hot')), r'\Asnapfs-hot 1\n')
        self.mount.remount()
        self.revert()
        self.revert('--precopy=hot')


class Linux(BridgeTests, BridgeCase):
    guest = LinuxGuest(memory=192, fill=48, touch=16, dirty=8, tick=100, check=16)


if __name__ == '__main__':
    harness.main()

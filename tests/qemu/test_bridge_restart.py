#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The mount ends, and perhaps comes back, while a bridge sends memory from it."""
import os
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from bridge import POSTCOPY, Relay, bridge_path
from guest import MIB, CountGuest
from harness import need_program, wait_until
from mount import need_views
from qemu import Qemu
from verbs import VerbCase
from vmcase import VmCase


class Restart(VmCase):
    guest = CountGuest(fill=True)

    def setUp(self):
        need_views()
        super().setUp()
        qemu = self.boot()
        qemu.wait_serial('B{3}')
        self.constant = qemu.constant()
        qemu.migrate(f'file:{self.stream()}')
        qemu.kill()

    def drain(self, *options):
        """A guest that runs, of whose memory the bridge has sent some MiB."""
        qemu = self.enter(Qemu(self.guest, self.work, incoming=True))
        qemu.set_capabilities(POSTCOPY)
        qemu.qmp.command('migrate-incoming', {'uri': f'unix:{self.path("q")}',
                                              'exit-on-error': False})
        wait_until(lambda: os.path.exists(self.path('q')), 10, 'QEMU listens')
        relay = Relay(self.path('relay'), self.path('q'), 20 * MIB)
        self.addCleanup(relay.close)
        bridge = self.start_process(bridge_path(), *options, '-u', self.path('relay'),
                                    self.snapshot(), stderr=subprocess.PIPE, text=True)
        self.assertTrue(relay.stalled.wait(30))
        return qemu, relay, bridge

    def end_mount(self, number):
        self.mount.process.send_signal(number)
        self.mount.process.wait(60)
        self.mount.kill()

    def wait_said(self, bridge, words):
        """What the bridge says, up to a line with these words."""
        line = bridge.stderr.readline()
        self.assertIn(words, line)

    def assert_whole(self, qemu):
        qemu.wait_migrated()
        qemu.wait_serial('BB', timeout=60)
        self.assertIsNone(qemu.ram_error())
        self.assertTrue(qemu.constant() == self.constant)

    def wait_paused(self, qemu):
        qemu.qmp.wait_event(lambda event: event['event'] == 'MIGRATION' and
                            event['data']['status'] == 'postcopy-paused', 30)

    def recover(self, qemu):
        qemu.qmp.command('migrate-recover', {'uri': f'unix:{self.path("r")}'}, oob=True)
        wait_until(lambda: os.path.exists(self.path('r')), 10, 'QEMU listens again')
        done = harness.run(bridge_path(), '--resume', '-u', self.path('r'), self.snapshot())
        self.assertEqual(done.returncode, 0, done.stderr)

    def check_goes_on(self, number):
        qemu, relay, bridge = self.drain()
        self.end_mount(number)
        relay.go_on()
        self.wait_said(bridge, 'has ended; the guest waits 300 s for it to come back')
        self.assertIsNone(bridge.poll())
        self.mount.start()
        _, said = bridge.communicate(timeout=60)
        self.assertEqual(bridge.returncode, 0, said)
        self.assert_whole(qemu)
        self.assertNotIn('postcopy-paused', [event['data'].get('status')
                                             for event in qemu.events()
                                             if event['event'] == 'MIGRATION'])

    def test_the_guest_goes_on_after_a_mount_that_was_ended_for_an_upgrade(self):
        self.check_goes_on(signal.SIGTERM)

    def test_the_guest_goes_on_after_a_mount_that_was_killed(self):
        self.check_goes_on(signal.SIGKILL)

    def test_it_goes_on_after_each_of_several_restarts(self):
        qemu, relay, bridge = self.drain()
        for _ in range(3):
            self.end_mount(signal.SIGTERM)
            self.mount.start()
        relay.go_on()
        _, said = bridge.communicate(timeout=60)
        self.assertEqual(bridge.returncode, 0, said)
        self.assert_whole(qemu)

    def test_a_mount_that_does_not_come_back_in_time_pauses_the_guest(self):
        qemu, relay, bridge = self.drain('--wait-mount=0')
        self.end_mount(signal.SIGKILL)
        relay.go_on()
        _, said = bridge.communicate(timeout=60)
        self.assertEqual(bridge.returncode, 1, said)
        self.assertRegex(said.splitlines()[-1], 'cannot be read at 0x.*QEMU pauses the migration')
        self.wait_paused(qemu)
        self.mount.start()
        self.recover(qemu)
        self.assert_whole(qemu)

    def test_another_snapshot_is_not_taken_for_the_one_that_was_there(self):
        other = self.boot(CountGuest(fill=True, end=90))
        other.stop()
        other.migrate(f'file:{self.stream("vm2")}')
        other.kill()
        qemu, relay, bridge = self.drain()
        self.end_mount(signal.SIGTERM)
        shutil.copy(self.image(), self.path('old'))
        shutil.copy(self.image('vm2'), self.image())
        self.mount.start()
        relay.go_on()
        _, said = bridge.communicate(timeout=60)
        self.assertEqual(bridge.returncode, 1, said)
        self.assertIn('holds another snapshot now', said)
        self.wait_paused(qemu)
        self.end_mount(signal.SIGTERM)
        shutil.copy(self.path('old'), self.image())
        self.mount.start()
        self.recover(qemu)
        self.assert_whole(qemu)


# Keeps a bridge from reading a part of the memory, until there is the file GO.
HELD_READS = r'''
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

ssize_t pread64(int fd, void *data, size_t size, off64_t offset)
{
	static ssize_t (*real)(int, void *, size_t, off64_t);

	if (!real)
		real = dlsym(RTLD_NEXT, "pread64");
	while (offset >= 40 << 20 && offset < 90 << 20 &&
	       access(getenv("GO"), F_OK) < 0)
		usleep(10000);
	return real(fd, data, size, offset);
}

ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
	return pread64(fd, data, size, offset);
}
'''


class Verb(VerbCase):
    """What `snapfs revert` has started."""
    guest = CountGuest(memory=128, end=100, fill=True)

    def held_snapfs(self):
        """A copy of the program, with such a bridge beside it."""
        need_program('gcc')
        folder = self.path('bin')
        os.mkdir(folder)
        with open(self.path('held.c'), 'w') as file:
            file.write(HELD_READS)
        self.run_ok('gcc', '-shared', '-fPIC', '-o', self.path('held.so'), self.path('held.c'),
                    '-ldl')
        shutil.copy(harness.build_path('tools', 'snapfs'), folder)
        with open(os.path.join(folder, 'snapfs-bridge'), 'w') as file:
            file.write(f'#!/bin/sh\nexport GO={self.path("go")} LD_PRELOAD={self.path("held.so")}\n'
                       'export ASAN_OPTIONS=verify_asan_link_order=0\n'
                       f'exec {bridge_path()} "$@"\n')
        os.chmod(os.path.join(folder, 'snapfs-bridge'), 0o755)
        return os.path.join(folder, 'snapfs')

    def test_a_guest_outlives_an_upgrade_of_the_mount(self):
        qemu = self.boot()
        qemu.wait_serial('B{3}')
        constant = qemu.constant()
        qemu.cont()
        self.save_ok()
        qemu.kill()
        done = harness.run(self.held_snapfs(), 'revert', self.folder, *self.command(),
                           env=dict(os.environ, TMPDIR=self.temporary))
        back = self.adopt(done)
        self.mount.process.send_signal(signal.SIGTERM)
        self.mount.process.wait(60)
        self.mount.kill()
        with open(self.path('go'), 'w'):
            pass
        wait_until(lambda: 'to come back' in back.log(), 60, 'the bridge waits')
        self.mount.start()
        self.assert_back(back, constant)
        self.assertNotIn('paused', back.log())


if __name__ == '__main__':
    harness.main()

# SPDX-License-Identifier: GPL-2.0-or-later
"""A cluster that does not answer for a while."""
import signal
import subprocess
import threading

import harness
import makestream
from clustercase import ClusterCase
from fusecase import MIB
from guests import OnClusterVerbs
from mount import statistics
from qemu import MigrationFailed

WAITING = 'waiting for the store since '
AGAIN = 'the store answers again'


class Away:
    """For a case of a cluster, some of whose daemons stand still. They go on when the test ends."""

    def stop(self, daemon):
        daemon.stop()
        self.addCleanup(daemon.cont)

    def wait_said(self, mount, text):
        harness.wait_until(lambda: text in mount.log(), 60, f'the log says "{text}"')


class Waiting(Away, ClusterCase):
    def setUp(self):
        super().setUp()
        self.guest = makestream.Guest({'pc.ram': 32 * MIB}, seed=4)
        self.data = makestream.stream(self.guest)

    def in_background(self, function):
        """Calls it in a thread; wait() ends the wait for it and returns what it did."""
        returned = []
        thread = threading.Thread(target=lambda: returned.append(function()), daemon=True)
        thread.start()

        def wait():
            thread.join(120)
            self.assertTrue(returned, 'it still waits')
            return returned[0]
        return wait

    def check_saved(self, writer):
        self.assertEqual(writer.wait(120), 0)
        self.check_snapshot()

    def test_a_read_waits_for_the_data_and_goes_on(self):
        self.save()
        other = self.read_on(self.b)
        with open(other.path('vm1', 'ram'), 'rb') as file:
            self.stop(self.cluster.osd)
            wait = self.in_background(file.read)
            self.wait_said(other, WAITING)
            self.cluster.osd.cont()
            self.assertTrue(wait() == self.guest.flat())
        self.wait_said(other, AGAIN)

    def test_a_save_waits_for_the_data_and_goes_on(self):
        writer = self.begin_save()
        self.stop(self.cluster.osd)
        self.end_save(writer)
        self.wait_said(self.mount, WAITING)
        self.cluster.osd.cont()
        self.check_saved(writer)
        self.wait_said(self.mount, AGAIN)

    def test_a_monitor_that_is_away_stops_neither_reads_nor_saves(self):
        self.stop(self.cluster.mon)
        self.save()
        self.check_on(self.mount)
        with open(self.b.path(self.name, 'vm1', 'snapshot.zst'), 'rb') as file:
            self.assertTrue(file.read(4))

    def test_a_save_goes_on_when_the_metadata_server_was_killed_and_another_one_came(self):
        writer = self.begin_save()
        self.cluster.mds.kill()
        self.end_save(writer)
        self.wait_said(self.mount, WAITING)
        self.cluster.mds.start()
        self.check_saved(writer)
        # The new one knows who writes.
        with self.assertRaisesRegex(RuntimeError, 'in use: mounted at'):
            self.mount_on(self.b).start()

    def interrupt(self, mount, *command):
        """Starts what waits for the store, and interrupts it as a person does."""
        process = self.start_process(*command, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL)
        harness.wait_until(lambda: process.poll() is not None or WAITING in mount.log(), 60,
                           f'{command[0]} waits')
        process.send_signal(signal.SIGINT)
        process.wait(60)
        return process.returncode

    def test_what_waits_in_the_mount_can_be_interrupted(self):
        self.save()
        other = self.read_on(self.new_host('c'))   # which knows nothing yet
        self.stop(self.cluster.mds)
        self.assertEqual(self.interrupt(other, 'ls', other.path('vm1')), -signal.SIGINT)
        self.interrupt(other, harness.need_program('umount'), other.point)


class WaitingGuests(Away, OnClusterVerbs):
    options = ('timeout=5',)

    def saves_running(self):
        return statistics(self.mount.point)['snapfs_saves_running'] == 1

    def test_a_save_that_waits_too_long_fails_and_the_guest_runs_on(self):
        qemu = self.boot()
        caps = self.background(qemu)
        uri = f'file:{self.stream()}'
        qemu.start_migrate(uri, caps, {'max-bandwidth': 4 * MIB})
        harness.wait_until(self.saves_running, 20, 'the save runs')
        self.stop(self.cluster.osd)
        qemu.set_parameters({'max-bandwidth': 0})
        with self.assertRaises(MigrationFailed):
            qemu.wait_migrated(120)
        self.assert_runs_on(qemu)
        self.cluster.osd.cont()
        self.wait_said(self.mount, 'vm1/stream: not saved: its writer has waited for 5 seconds')
        self.wait_no_save()
        qemu.migrate(uri, caps)
        qemu.kill()
        self.assert_loads()

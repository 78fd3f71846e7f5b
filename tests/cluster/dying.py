# SPDX-License-Identifier: GPL-2.0-or-later
"""A host that writes dies, and another one takes the store over."""
import os
import signal
import subprocess

import harness
import makestream
from ceph import SESSION_TIMEOUT
from clustercase import ClusterCase
from fusecase import MIB, write_stream


class Dying(ClusterCase):
    """`self.host` is the one that dies, and `self.mount` its mount."""

    def setUp(self):
        super().setUp()
        self.new = makestream.Guest({'pc.ram': 4 * MIB}, seed=9)

    def store_folder(self):
        self.host = self.new_host('dying')
        return self.host.path(self.name)

    def begin_save(self, name='vm1'):
        """Its host dies then."""
        writer = super().begin_save(name, stderr=subprocess.PIPE)
        self.addCleanup(writer.stderr.close)
        return writer

    def end_save(self, writer):
        """The writer goes on; what it fails with."""
        try:
            super().end_save(writer)
        except BrokenPipeError:
            pass
        said = writer.stderr.read().decode()
        self.assertNotEqual(writer.wait(60), 0)
        return said

    def crash(self):
        """Power fails: the client says nothing to the cluster, nor does the daemon."""
        self.host.client.kill()
        self.mount.crash()
        self.host.die()

    def check_healthy(self):
        """The daemon of a host that died has ended."""

    def take_over(self):
        """B's mount, by which a save goes on where the other one ended."""
        second = self.enter(self.mount_on(self.b))
        self.assertEqual(os.listdir(self.b.path(self.name, '.snapfs', 'tmp')), [])
        self.check_on(second)
        write_stream(second.path('vm1', 'stream'), makestream.stream(self.new))
        self.check_on(second, 'vm1', self.new)
        self.assertEqual(self.tool('verify', self.b.path(self.name)).returncode, 0)
        return second

    def test_only_the_daemon_is_killed_in_a_save_and_b_takes_over_at_once(self):
        self.save()
        self.begin_save()
        self.mount.crash()
        self.take_over()

    def test_the_host_dies_in_a_save_and_b_takes_over_once_it_is_evicted(self):
        self.save()
        self.begin_save()
        self.crash()
        self.cluster.evict(self.host)
        self.take_over()

    def test_the_host_dies_in_a_save_and_b_takes_over_by_itself_after_a_while(self):
        self.save()
        self.begin_save('vm2')
        self.crash()
        second = self.mount_on(self.b)
        self.addCleanup(second.kill)

        def mounts():
            try:
                return second.start()
            except (RuntimeError, TimeoutError) as error:
                self.assertRegex(str(error), 'in use|answers')
                os.truncate(second.log_path, 0)
                return None
        harness.wait_until(mounts, 4 * SESSION_TIMEOUT, 'B takes over', step=1)
        self.check_on(second)
        self.assertEqual(os.listdir(second.path('vm2')), [])

    def test_a_host_that_was_taken_for_dead_can_do_no_harm_when_it_comes_back(self):
        self.save()
        writer = self.begin_save()
        self.mount.process.send_signal(signal.SIGSTOP)
        self.host.client.stop()
        self.cluster.evict(self.host)
        self.take_over()
        self.host.client.cont()
        self.mount.process.send_signal(signal.SIGCONT)
        self.assertIn('endpoint shutdown', self.end_save(writer))
        self.assertIn('not saved', self.mount.log())
        reader = self.read_on(self.b)
        self.check_on(reader, 'vm1', self.new)
        self.assertEqual(self.tool('verify', self.b.path(self.name)).returncode, 0)
        self.mount.crash()

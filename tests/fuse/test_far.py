#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk cache in front of a store: what is read once comes from it, and what is
wrong in it comes from the store."""
import os
import random
import subprocess
import sys

from fusecase import MIB, FuseCase, read_file, setUpModule  # noqa: F401
import harness
import makestream
from mount import Mount, statistics

PAGE = 4096


def some_guest():
    """A guest of pages that hardly compress, so that its file has many pieces."""
    guest = makestream.Guest({'pc.ram': 8 * MIB}, seed=9)
    rand = random.Random(9)
    for page in range(0, 8 * MIB // PAGE, 2):
        guest.pages['pc.ram'][page] = rand.randbytes(PAGE)
    return guest


class FarCase(FuseCase):
    @property
    def options(self):
        return [f'disk-cache={self.path("near")}']

    def setUp(self):
        super().setUp()
        self.guest = some_guest()
        self.save('vm1', self.guest)

    def stat(self, name):
        return statistics(self.mount.point)[f'snapfs_disk_cache_{name}']

    def check_ram(self):
        self.assertTrue(read_file(self.snaps('vm1', 'ram')) == self.guest.flat(), 'ram is right')

    def again(self):
        """Mounts anew: the kernel's cache of the mount is gone."""
        self.mount.kill()
        self.mount.start()

    def fill(self):
        """Reads all until the cache has it."""
        def full():
            self.again()
            self.check_ram()
            return self.stat('misses_total') == 0
        harness.wait_until(full, 60, 'the cache has all of the snapshot')

    def copies(self):
        return [self.path('near', name) for name in os.listdir(self.path('near'))]


class FarTest(FarCase):
    def test_a_warm_cache_spares_the_store(self):
        self.check_ram()
        self.fill()
        self.assertGreater(self.stat('hits_total'), 0)
        self.assertEqual(self.stat('rejected_total'), 0)
        self.assertGreater(self.stat('bytes'), 4 * MIB)
        self.check_snapshot(guest=self.guest)

    def test_a_daemon_that_is_killed_while_it_fills_leaves_a_cache_that_is_of_use(self):
        for _ in range(5):
            self.check_ram()
            self.again()
        self.fill()

    def test_flipped_bytes_come_from_the_store(self):
        self.fill()
        self.mount.kill()
        for path in self.copies():
            with open(path, 'r+b') as file:
                data = file.read()
                file.seek(0)
                file.write(bytes(byte ^ 1 for byte in data))
        self.mount.start()
        self.check_ram()
        self.assertGreater(self.stat('rejected_total'), 0)
        self.fill()

    def test_a_removed_snapshot_is_gone(self):
        self.fill()
        subprocess.run(['rm', '-r', self.snaps('vm1')], check=True)
        self.assertFalse(os.path.exists(self.snaps('vm1', 'ram')))
        harness.wait_until(lambda: not self.copies(), 60, 'its copy is gone')
        guest = makestream.Guest({'pc.ram': 4 * MIB}, seed=2)
        self.save('vm1', guest)
        self.check_snapshot(guest=guest)

    def test_a_full_disk_stops_no_reader(self):
        self.mount.kill()
        near = self.path('near')
        subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m,mode=0700', 'none', near],
                       check=True)
        self.addCleanup(subprocess.run, ['umount', '-l', near])
        self.addCleanup(self.mount.kill)
        self.mount.start()
        self.check_ram()
        self.wait_log('takes no more: No space left on device')
        self.check_ram()
        self.check_snapshot(guest=self.guest)
        self.assertEqual(self.mount.log().count('takes no more'), 1)


class RefusedTest(FarCase):
    def refused(self, text, *options):
        """Another mount with these options fails, and says why."""
        other = Mount(self.path('other'), self.path('there'), options)
        with self.assertRaises(RuntimeError) as caught:
            other.start()
        self.assertIn(text, str(caught.exception))

    def test_a_folder_in_use_is_refused(self):
        self.refused('another mount uses it', *self.options)

    def test_a_folder_that_others_may_enter_is_refused(self):
        os.mkdir(self.path('open'), 0o755)
        self.refused('name one of mode 0700', f'disk-cache={self.path("open")}')

    def test_a_folder_of_another_user_is_refused(self):
        os.mkdir(self.path('theirs'), 0o700)
        os.chown(self.path('theirs'), 1234, 1234)
        self.refused('belongs to another user', f'disk-cache={self.path("theirs")}')

    def test_a_folder_within_the_store_or_the_mount_is_refused(self):
        self.refused('lies within the store', f'disk-cache={self.path("other", "near")}')
        self.assertFalse(os.path.exists(self.path('other', 'near')))
        os.chmod(self.path('other'), 0o755)
        self.refused('lies within the store', f'disk-cache={self.path("other")}')
        os.mkdir(self.path('there', 'near'), 0o700)
        self.refused('the mount would hide it', f'disk-cache={self.path("there", "near")}')

    def test_a_size_without_a_folder_is_refused(self):
        self.refused('there is no disk-cache=DIR', 'disk-cache-size=1g')


if __name__ == '__main__':
    harness.main()

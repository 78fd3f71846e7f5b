#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A store on NFS that two hosts mount, in a guest."""
import hashlib
import itertools
import os
import sys

for folder in ('lib', 'fuse'):
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', folder))

import harness  # noqa: E402
import makestream  # noqa: E402
from mount import SUSPICIOUS  # noqa: E402
from nfsguest import NfsGuest  # noqa: E402

MIB = 1 << 20
_numbers = itertools.count(1)


def changed(guest, count, seed):
    """The same guest with some pages that are new."""
    for page in range(count):
        guest.pages['pc.ram'][page * 7] = makestream.page_bytes(seed * 1000 + page)
    return guest


GUESTS = {
    'one': makestream.Guest({'pc.ram': 8 * MIB}, seed=1),
    'two': makestream.Guest({'pc.ram': 8 * MIB}, seed=2),
    'later': changed(makestream.Guest({'pc.ram': 8 * MIB}, seed=1), 20, 3),
}
SUMS = {name: hashlib.sha256(guest.flat()).hexdigest() for name, guest in GUESTS.items()}


class Shared:
    """The guest, booted when the first test asks for it."""
    guest = None

    @classmethod
    def start(cls):
        if not cls.guest:
            cls.guest = NfsGuest({name: makestream.stream(guest)
                                  for name, guest in GUESTS.items()}).__enter__()
        return cls.guest

    @classmethod
    def end(cls):
        if cls.guest:
            cls.guest.__exit__()


class NfsCase(harness.Case):
    """A store of its own, which host a has mounted."""
    options = 'allow_other'

    def setUp(self):
        super().setUp()
        self.guest = Shared.start()
        self.store = f'store{next(_numbers)}'
        self.sh(f'mkdir /a/cluster/{self.store}')
        self.addCleanup(self.end)
        self.up('a', self.options)

    def end(self):
        """Nothing half-made or damaged is left of the test."""
        self.sh('clean_up; ! grep -q " /[ab]/snaps " /proc/mounts')
        said = self.sh('cat /run/a.log /run/b.log; true')
        self.assertEqual([line for line in said.splitlines() if SUSPICIOUS.search(line)], [])
        self.wait(f'[ -z "$(ls -A /srv/{self.store}/.snapfs/tmp)" ]')
        self.sh(f'snapfs verify /b/cluster/{self.store}')

    def sh(self, script, status=0):
        """Runs a script in the guest; what it printed."""
        done = self.guest.run(script)
        if done.returncode != status:
            self.fail(f'{script}\nended with {done.returncode}: {done.stdout}\n'
                      f'{self.guest.run("tail /run/*.log; dmesg | tail -n 5").stdout}')
        return done.stdout

    def wait(self, condition, seconds=30):
        self.sh(f"until_true {seconds} eval '{condition}'")

    def up(self, host, options):
        self.sh(f'snapfs_up {host} {self.store} {options}')

    def save(self, host, name, stream):
        self.sh(f'save {host} {name} {stream}')

    def check(self, host, name, stream):
        self.assertEqual(self.sh(f'sum /{host}/snaps/{name}/ram').strip(), SUMS[stream])

    def release(self, name, stream):
        """Who holds a file reads it to the end."""
        self.assertEqual(self.sh(f'release {name}').strip(), SUMS[stream])


class Sharing(NfsCase):
    def test_b_sees_what_a_has_saved_and_reads_the_same_bytes(self):
        self.up('b', 'ro')
        for name, stream in (('vm1', 'one'), ('vm2', 'two')):
            self.save('a', name, stream)
            for host in 'ab':
                self.check(host, name, stream)
        a, b = (self.sh(f'sum /{host}/snaps/vm2/stream; sum /{host}/snaps/vm2/devstate')
                for host in 'ab')
        self.assertEqual(a, b)
        self.save('a', 'vm1', 'later')
        self.wait(f'[ $(sum /b/snaps/vm1/ram) = {SUMS["later"]} ]')

    def test_a_second_host_may_not_write_and_is_told_who_does(self):
        pid = self.sh('cat /run/a.snapfs').strip()
        said = self.sh(f'snapfs_up b {self.store}', status=1)
        self.assertRegex(said, rf'in use: mounted at /a/snaps \(process {pid} on host-a\)')
        said = self.sh(f'on b snapfs import /b/cluster/{self.store} vm2 </dev/null', status=1)
        self.assertIn('in use', said)
        self.save('a', 'vm1', 'one')
        self.sh('snapfs_down a')
        self.up('b', 'allow_other')
        self.check('b', 'vm1', 'one')
        self.save('b', 'vm2', 'two')

    def test_names_sizes_and_attributes_are_the_same_on_both_hosts(self):
        self.save('a', 'größe/vm1', 'one')
        self.sh('cd /a/snaps && echo "<domain/>" >größe/vm.xml && ln -s größe link && '
                'chmod 750 größe && chown 1234:5678 größe/vm1')
        self.up('b', 'ro')
        look = ('cd /{}/snaps && find . -path ./.snapfs -prune -o '
                '-exec stat -c "%n %f %u %g %s %b %i %Y" {{}} + && '
                'getfattr -h -d -m "^user.snapfs" größe/vm1')
        a, b = (self.sh(look.format(host)) for host in 'ab')
        self.assertEqual(a, b)
        self.assertRegex(a, 'user.snapfs.uuid=')
        self.assertRegex(a, '(?m)^./größe/vm1 41ed 1234 5678 ')

    def test_b_follows_what_a_moves(self):
        self.save('a', 'vm1', 'one')
        self.up('b', 'ro')
        self.check('b', 'vm1', 'one')
        self.sh('mkdir /a/snaps/old && mv /a/snaps/vm1 /a/snaps/old/vm1')
        self.wait('[ -e /b/snaps/old/vm1/ram ] && [ ! -e /b/snaps/vm1 ]')
        self.check('b', 'old/vm1', 'one')


class Open(NfsCase):
    """Snapshots that are removed or replaced while they are open."""

    def setUp(self):
        super().setUp()
        self.save('a', 'vm1', 'one')

    def test_a_removes_what_a_has_open_and_the_space_is_given_back(self):
        self.sh('hold a /a/snaps/vm1/ram held')
        self.sh('rm -r /a/snaps/vm1')
        self.sh('[ ! -e /a/snaps/vm1 ]')
        self.assertEqual(self.sh(f'ls /a/cluster/{self.store}'), '')
        self.release('held', 'one')
        self.wait(f'[ -z "$(ls -A /srv/{self.store}/.snapfs/tmp)" ]')

    def test_a_replaces_what_a_has_open_and_its_folder_cannot_be_removed_meanwhile(self):
        self.sh('hold a /a/snaps/vm1/ram held')
        self.save('a', 'vm1', 'two')
        self.check('a', 'vm1', 'two')
        self.assertRegex(self.sh(f'ls -A /srv/{self.store}/vm1'), r'(?m)^\.nfs')
        self.assertIn('busy', self.sh('rm -r /a/snaps/vm1', status=1))
        self.release('held', 'one')
        self.wait(f'! ls -A /srv/{self.store}/vm1 | grep -q .nfs')
        self.sh('rm -r /a/snaps/vm1')

    def test_b_reads_on_what_a_removes_and_replaces(self):
        self.save('a', 'vm2', 'two')
        self.up('b', 'ro')
        self.sh('hold b /b/snaps/vm1/ram held1; hold b /b/snaps/vm2/ram held2')
        self.sh('rm -r /a/snaps/vm1')
        self.save('a', 'vm2', 'later')
        self.wait('[ ! -e /b/snaps/vm1 ]')
        self.release('held1', 'one')
        self.release('held2', 'two')
        self.check('b', 'vm2', 'later')


class Layers(NfsCase):
    options = 'allow_other,increments'

    def layers(self):
        return self.sh(f'ls /srv/{self.store}/.snapfs/layers').split()

    def test_an_increment_stays_whole_without_its_parent_and_on_another_host(self):
        self.save('a', 'vm1', 'one')
        self.save('a', 'vm2', 'later')
        sizes = self.sh(f'cd /srv/{self.store}; stat -c %s vm1/snapshot.zst vm2/snapshot.zst')
        first, second = map(int, sizes.split())
        self.assertLess(second, first / 5)
        self.up('b', 'ro')
        self.sh('hold b /b/snaps/vm1/ram held; rm -r /a/snaps/vm1')
        for host in 'ab':
            self.check(host, 'vm2', 'later')
        self.release('held', 'one')
        self.sh(f'snapfs_down a; snapfs_down b; snapfs verify /a/cluster/{self.store}')
        self.assertEqual(len(self.layers()), 1)
        self.up('b', 'increments')
        self.check('b', 'vm2', 'later')
        self.sh('rm -r /b/snaps/vm2')
        self.wait(f'[ -z "$(ls -A /srv/{self.store}/.snapfs/layers)" ]')


class TroubleCase(NfsCase):
    def setUp(self):
        super().setUp()
        self.save('a', 'vm1', 'one')

    def crash(self):
        self.sh('kill -9 $(cat /run/a.snapfs); umount -l /a/snaps')

    def away(self):
        """The server cannot be reached by host a."""
        self.sh('ip link set to-a down')
        self.addCleanup(self.sh, 'ip link set to-a up')


class Trouble(TroubleCase):
    def test_the_daemon_is_killed_in_a_save_and_b_takes_over_at_once(self):
        self.sh('begin_save a vm1 two')
        self.crash()
        self.up('b', 'allow_other')
        self.assertEqual(self.sh(f'ls -A /srv/{self.store}/.snapfs/tmp'), '')
        self.check('b', 'vm1', 'one')
        self.save('b', 'vm1', 'two')
        self.check('b', 'vm1', 'two')
        self.assertRegex(self.sh('finish_save'), 'not connected|connection abort')

    def test_a_save_waits_for_the_server_and_goes_on(self):
        self.sh('begin_save a vm2 two')
        self.away()
        self.sh('echo go >/run/save.go; until_true 60 grep -q "waiting for the store" /run/a.log')
        self.sh('ip link set to-a up')
        self.sh('until_true 120 grep -q "status 0" /run/save.said')
        self.check('a', 'vm2', 'two')
        self.wait('grep -q "the store answers again" /run/a.log')

    def test_the_server_starts_anew_and_the_lock_stays(self):
        self.sh('begin_save a vm2 two; hold a /a/snaps/vm1/ram held')
        self.sh('echo 0 >/proc/fs/nfsd/threads; echo go >/run/save.go; '
                'until_true 60 grep -q "waiting for the store" /run/a.log')
        self.sh('serve')
        self.assertIn('on host-a', self.sh(f'snapfs_up b {self.store}', status=1))
        self.sh('until_true 120 grep -q "status 0" /run/save.said')
        self.check('a', 'vm2', 'two')
        self.release('held', 'one')

    def test_the_host_is_cut_off_and_b_takes_over_when_its_lease_has_ended(self):
        self.sh('begin_save a vm2 two')
        self.away()
        said = self.sh(f'snapfs_up b {self.store}', status=1)
        self.assertIn('on host-a', said)
        self.sh('kill -9 $(cat /run/a.snapfs)')
        self.wait(f'snapfs_up b {self.store}', 100)
        self.check('b', 'vm1', 'one')
        self.save('b', 'vm2', 'two')
        self.sh('ip link set to-a up; umount -l /a/snaps')
        self.check('b', 'vm2', 'two')
        self.assertRegex(self.sh('finish_save'), 'status 1')

    def test_a_host_that_was_cut_off_and_comes_back_does_not_write_beside_b(self):
        self.away()
        self.wait(f'snapfs_up b {self.store}', 100)
        self.save('b', 'vm2', 'two')
        self.sh('ip link set to-a up')
        self.assertIn('error', self.sh('save a vm3 one', status=1))
        self.wait('grep -q "vm3.*the lock of the store was lost" /run/a.log')
        self.assertEqual(self.sh('ls -A /b/snaps/vm3'), '')
        self.check('b', 'vm1', 'one')
        self.sh('umount /a/snaps')
        said = self.sh(f'cat /srv/{self.store}/.snapfs/lock')
        self.assertIn('on host-b', said)


class Timeout(TroubleCase):
    options = 'allow_other,timeout=2'

    def test_a_save_fails_in_time_and_nothing_of_it_is_left(self):
        self.sh('begin_save a vm2 two')
        self.away()
        self.assertIn('timed out', self.sh('finish_save'))
        self.sh('ip link set to-a up')
        self.wait(f'[ -z "$(ls -A /srv/{self.store}/.snapfs/tmp)" ]', 100)
        self.assertEqual(self.sh('ls /a/snaps/vm2'), '')
        self.check('a', 'vm1', 'one')
        self.save('a', 'vm2', 'two')


if __name__ == '__main__':
    harness.main_with(Shared.end)

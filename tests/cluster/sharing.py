# SPDX-License-Identifier: GPL-2.0-or-later
"""Two hosts with one store: A writes, B reads."""
import os
import shutil
import stat

import harness
import makestream
from clustercase import ClusterCase
from fusecase import MIB, read_file, write_stream

# What snapfs-cluster(7) puts into /etc/fstab.
FSTAB = ('allow_other', '_netdev', 'nofail', 'x-systemd.requires-mounts-for=/cluster')
XATTRS = ('form', 'uuid', 'created', 'machine', 'ram', 'pages', 'pages_zero', 'physical')


def attributes(folder):
    return {name: os.getxattr(folder, 'user.snapfs.' + name) for name in XATTRS}


def described(path):
    """What stat(2) tells. CephFS says how much lies below a folder, but some time later."""
    st = os.lstat(path)
    size = () if stat.S_ISDIR(st.st_mode) else (st.st_size, st.st_blocks)
    return (st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, st.st_ino, *size)


def tree(top):
    """All that can be seen of a mount, by the bytes of its names."""
    seen = {}
    for folder, folders, files in os.walk(os.fsencode(top)):
        for name in folders + files:
            path = os.path.join(folder, name)
            seen[os.path.relpath(path, os.fsencode(top))] = described(path)
    return seen


class Sharing(ClusterCase):
    def test_b_sees_at_once_what_a_has_saved(self):
        other = self.read_on(self.b)
        for number in range(5):
            name = f'vm{number}'
            self.save(name, makestream.Guest({'pc.ram': 2 * MIB}, seed=number))
            self.assertIn(name, os.listdir(other.point))
            self.check_on(other, name, makestream.Guest({'pc.ram': 2 * MIB}, seed=number))

    def test_names_sizes_and_attributes_are_the_same_on_both_hosts(self):
        names = [b'caf\xe9', 'größe'.encode(), b'a b\nc', b'x' * 255, b'deep/er/vm']
        for name in names:
            folder = os.path.join(os.fsencode(self.mount.point), name)
            os.makedirs(folder)
            write_stream(os.path.join(folder, b'stream'), self.data)
            with open(os.path.join(folder, b'vm.xml'), 'wb') as file:
                file.write(b'<domain/>')
        os.chmod(self.snaps('deep'), 0o750)
        os.chown(self.snaps('deep'), 1234, 5678)
        os.symlink('deep/er', self.snaps('link'))
        other = self.read_on(self.b)
        self.assertEqual(tree(other.point), tree(self.mount.point))
        self.assertEqual(len(tree(other.point)), len(names) * 4 + 3)
        for name in names:
            self.assertEqual(*(attributes(os.path.join(os.fsencode(mount.point), name))
                               for mount in (self.mount, other)))

    def test_b_reads_on_what_it_has_open_and_sees_the_new_one_next(self):
        self.save()
        other = self.read_on(self.b)
        old = self.guest.flat()
        with open(other.path('vm1', 'ram'), 'rb') as file:
            self.assertTrue(file.read(MIB) == old[:MIB])
            new = makestream.Guest({'pc.ram': 4 * MIB}, seed=2)
            self.save('vm1', new)
            self.check_on(other, 'vm1', new)
            self.assertTrue(file.read() == old[MIB:])

    def test_b_reads_on_what_a_has_removed_though_nobody_has_read_it_before(self):
        self.guest = makestream.Guest({'pc.ram': 32 * MIB}, seed=3)
        self.save('vm1', self.guest)
        other = self.read_on(self.b)
        with open(other.path('vm1', 'ram'), 'rb') as file:
            shutil.rmtree(self.snaps('vm1'))
            self.wait_not_there(other, 'vm1')
            self.assertTrue(file.read() == self.guest.flat())

    def wait_not_there(self, mount, name):
        harness.wait_until(lambda: not os.path.exists(mount.path(name)), 10, f'{name} is gone')
        self.assertNotIn(name, os.listdir(mount.point))

    def test_b_follows_what_a_moves(self):
        self.save()
        other = self.read_on(self.b)
        self.check_on(other)
        os.mkdir(self.snaps('old'))
        os.rename(self.snaps('vm1'), self.snaps('old', 'vm1'))
        self.wait_not_there(other, 'vm1')
        self.check_on(other, 'old/vm1')

    def test_b_sees_what_a_writes_into_ordinary_files(self):
        self.save()
        other = self.read_on(self.b)
        for text in ('first', 'second, and longer'):
            with open(self.snaps('vm1', 'vm.json'), 'w') as file:
                file.write(text)
            harness.wait_until(
                lambda text=text: read_file(other.path('vm1', 'vm.json')) == text.encode(), 10,
                'B reads what A has written')

    def test_what_a_host_does_in_the_store_itself_is_seen_by_both(self):
        self.save()
        other = self.read_on(self.b)
        shutil.copytree(self.b.path(self.name, 'vm1'), self.b.path(self.name, 'copy'))
        for mount in (self.mount, other):
            self.check_on(mount, 'copy')
        shutil.rmtree(self.b.path(self.name, 'copy'))
        for mount in (self.mount, other):
            self.wait_not_there(mount, 'copy')

    def test_a_second_host_may_not_write_and_is_told_who_does(self):
        host = os.uname().nodename
        second = self.mount_on(self.b, *FSTAB)
        with self.assertRaisesRegex(RuntimeError, f'in use: mounted at {self.mount.point} '
                                                  rf'\(process {self.mount.pid} on {host}\)'):
            second.start()
        done = self.tool('import', self.b.path(self.name), 'vm2', input='')
        self.assertEqual(done.returncode, 1)
        self.assertIn('in use', done.stderr)
        self.save()
        self.mount.unmount()
        self.enter(second)
        self.check_on(second)

    def test_the_tool_reads_on_b_while_a_writes(self):
        self.save()
        store = self.b.path(self.name)
        self.run_ok('zstd', '-t', '-q', os.path.join(store, 'vm1/snapshot.zst'))
        self.assertRegex(self.tool('ls', store).stdout, r'(?m)^vm1 ')
        self.assertRegex(self.tool('verify', store).stdout, 'ok')
        done = self.tool('export', '--form=ram', f'--output={self.path("ram")}', store, 'vm1')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(read_file(self.path('ram')) == self.guest.flat())


class Layers(ClusterCase):
    """Increments, whose parents are hard links."""
    options = ('increments',)

    def save_changed(self, mount, name, seed):
        """Saves the guest with some pages changed; what it then is."""
        guest = makestream.Guest({'pc.ram': 16 * MIB})
        for page in range(seed):
            guest.pages['pc.ram'][page * 7] = makestream.page_bytes(seed * 100 + page)
        os.makedirs(mount.path(name), exist_ok=True)
        write_stream(mount.path(name, 'stream'), makestream.stream(guest))
        return guest

    def layers(self, host):
        return sorted(os.listdir(host.path(self.name, '.snapfs', 'layers')))

    def size(self, host, name):
        return os.path.getsize(host.path(self.name, name, 'snapshot.zst'))

    def test_b_reads_increments_whose_parents_a_removes(self):
        guests = [self.save_changed(self.mount, f'day{day}', day) for day in range(4)]
        self.assertLess(self.size(self.a, 'day1'), self.size(self.a, 'day0') / 5)
        other = self.read_on(self.b)
        with open(other.path('day1', 'ram'), 'rb') as file:
            for day in (0, 1):
                shutil.rmtree(self.snaps(f'day{day}'))
            for day in (2, 3):
                self.check_on(other, f'day{day}', guests[day])
            self.assertTrue(file.read() == guests[1].flat())

    def test_b_takes_the_store_over_and_goes_on_with_the_same_parents(self):
        self.save_changed(self.mount, 'day0', 0)
        self.mount.unmount()
        second = self.enter(self.mount_on(self.b, 'increments'))
        new = self.save_changed(second, 'day1', 9)
        self.assertLess(self.size(self.b, 'day1'), self.size(self.b, 'day0') / 5)
        self.assertEqual(os.stat(self.b.path(self.name, 'day0', 'snapshot.zst')).st_nlink, 2)
        shutil.rmtree(second.path('day0'))
        self.check_on(second, 'day1', new)
        self.assertEqual(self.layers(self.a), self.layers(self.b))
        self.assertEqual(len(self.layers(self.a)), 1)
        self.assertEqual(self.tool('verify', self.a.path(self.name)).returncode, 0)
        shutil.rmtree(second.path('day1'))
        harness.wait_until(lambda: not self.layers(self.a), 30, 'the last layer goes')

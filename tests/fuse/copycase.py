# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of copies share: snapshots of every form, and whether a folder
holds one of them."""
import errno
import os

from fusecase import LISTED, MIB, VIEWS, FuseCase, read_file, write_all
import harness
import makestream
import mappedram
from mappedram import LIBVIRT

PARTS = ('devstate', 'ram')
RAW_LIBVIRT = LIBVIRT[:28] + bytes(4) + LIBVIRT[32:]
ZEROS = 0x1234      # QEMU's file:PATH,offset=N
# user.snapfs.form, and the bytes before the stream.
KINDS = {'classic': ('classic', b''),
         'mapped': ('mapped-ram', b''),
         'classic-libvirt': ('classic', RAW_LIBVIRT),
         'mapped-libvirt': ('mapped-ram', LIBVIRT),
         'classic-zeros': ('classic', bytes(ZEROS)),
         'mapped-zeros': ('mapped-ram', bytes(ZEROS))}


def image_of(guest, form, preamble):
    """The bytes of `stream` as QEMU and libvirt write them."""
    if form == 'classic':
        return preamble + makestream.stream(guest)
    image = mappedram.Image(guest, len(preamble))
    return preamble + image.data[len(preamble):]


def listed_of(preamble):
    return ['devstate', *(['preamble'] if preamble else []), 'ram']


class Kept:
    """What a snapshot was: the bytes of each file, and its attributes."""

    def __init__(self, folder, listed):
        self.listed = listed
        self.views = {view: read_file(os.path.join(folder, view))
                      for view in sorted({*listed, 'stream', 'mapped'})}
        self.form = os.getxattr(folder, 'user.snapfs.form')
        self.holes = {view: holes(os.path.join(folder, view)) for view in ('ram', 'mapped')}


def holes(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return mappedram.data_of(fd)
    finally:
        os.close(fd)


class CopyCase(FuseCase):
    """`self.guest` has holes, and a block that is no whole number of regions."""

    def setUp(self):
        super().setUp()
        self.guest = makestream.Guest({'pc.ram': 5 * MIB, 'rom': 3 * 4096, 'vga.vram': MIB},
                                      seed=2, every=3)
        for page in range(300, 900):
            self.guest.pages['pc.ram'].pop(page, None)

    def put_file(self, path, data, mode='wb'):
        with open(path, mode, buffering=0) as file:
            write_all(file.fileno(), data)

    def save_kind(self, name, kind):
        """Saves a snapshot of one of KINDS into a folder: a Kept."""
        form, preamble = KINDS[kind]
        os.makedirs(self.snaps(name), exist_ok=True)
        self.put_file(self.snaps(name, 'stream'), image_of(self.guest, form, preamble))
        kept = Kept(self.snaps(name), listed_of(preamble))
        self.assertEqual(sorted(os.listdir(self.snaps(name))), kept.listed)
        self.assertEqual(kept.form, form.encode())
        self.assertTrue(kept.views['stream'][:len(preamble)] == preamble)
        return kept

    def check_kept(self, name, kept, others=()):
        """The folder holds exactly this snapshot, once, and these other files."""
        harness.wait_until(lambda: sorted(set(os.listdir(self.store(name))) - {'snapshot.head'}) ==
                           sorted([*others, 'snapshot.zst']), 10,
                           f'a snapshot and {others} lie in {name}')
        self.assertEqual(sorted(os.listdir(self.snaps(name))), sorted([*kept.listed, *others]))
        for view, data in kept.views.items():
            self.assertTrue(read_file(self.snaps(name, view)) == data, f'{name}/{view}')
            self.assertEqual(os.stat(self.snaps(name, view)).st_size, len(data))
        self.assertEqual(os.getxattr(self.snaps(name), 'user.snapfs.form'), kept.form)
        if 'preamble' not in kept.listed:
            self.assert_errno(errno.ENOENT, os.stat, self.snaps(name, 'preamble'))
        for view, data in kept.holes.items():
            self.assertEqual(holes(self.snaps(name, view)), data, f'holes of {name}/{view}')
        self.check_no_leftovers()

    def check_gone(self, *names):
        """Nothing of a folder is left."""
        self.assertFalse(os.path.lexists(self.snaps(*names)), 'in the mount')
        self.assertFalse(os.path.lexists(self.store(*names)), 'in the store')


class CopiedCase(CopyCase):
    """A classic snapshot `source`; `self.backup` is a copy of its folder on a
    plain disk, made by cp -a from the mount. `self.views` are the bytes of all
    views, of which saved() names copies."""

    def setUp(self):
        super().setUp()
        self.save('source', self.guest)
        self.put_file(self.snaps('source', 'domain.xml'), b'<domain/>')
        for view in VIEWS:
            os.chmod(self.snaps('source', view), 0o640)
        os.utime(self.snaps('source', 'ram'), (1000000000, 1100000000))
        self.backup = self.path('backup')
        self.run_ok('cp', '-a', self.snaps('source'), self.backup)
        os.mkdir(self.path('unlisted'))
        for view in ('stream', 'mapped'):
            self.run_ok('cp', '-a', self.snaps('source', view), self.path('unlisted', view))
        self.views = {view: read_file(self.saved(view)) for view in VIEWS}

    def saved(self, view):
        return self.path('backup' if view in LISTED else 'unlisted', view)

    def copy(self, view, name='vm1', *options):
        self.run_ok('cp', '-a', *options, self.saved(view), self.snaps(name, view))

    def wait_snapshot(self, name='vm1'):
        harness.wait_until(lambda: os.listdir(self.store(name)) == ['snapshot.zst'], 10,
                           f'{name} is a snapshot')

    def check_same(self, name='vm1', files=(), mtime=1100000000):
        """The snapshot is the one that was copied, view by view."""
        others = sorted(set(files) - set(VIEWS))
        # Nothing of it lies in the store twice; parts are looked at behind.
        harness.wait_until(lambda: sorted(os.listdir(self.store(name))) ==
                           sorted([*others, 'snapshot.zst']), 10,
                           f'the snapshot and {others} alone lie in the store')
        self.assertEqual(sorted(os.listdir(self.snaps(name))), sorted([*LISTED, *others]))
        for view in VIEWS:
            self.assertTrue(read_file(self.snaps(name, view)) == self.views[view],
                            f'{name}/{view} is what was copied')
            st = os.stat(self.snaps(name, view))
            self.assertEqual((st.st_mode & 0o777, st.st_mtime), (0o640, mtime), view)
        self.assertEqual(os.getxattr(self.snaps(name), 'user.snapfs.form'), b'classic')
        self.check_no_leftovers()

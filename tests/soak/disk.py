# SPDX-License-Identifier: GPL-2.0-or-later
"""The disk is full, or fails."""
import errno
import mmap
import os
import struct

from deeds import Read, prepared
from kind import Kind
from truth import need
from world import World
import harness

LIBRARY = ('tests', 'soak', 'bad-disk.so')
# As enum call and struct order of bad-disk.c have them.
CALLS = {'read': 0, 'write': 1, 'sync': 2, 'rename': 3, 'create': 4, 'remove': 5, 'truncate': 6}
ORDER = struct.Struct('=IiiiIIQ')
OFTEN = ('write', 'sync', 'rename', 'create') * 2
FOR_EVER = 1 << 30


class Disturbed(Kind):
    """Does a deed with something wrong, then once more with nothing wrong."""
    # What could not be removed goes when the store is mounted again.
    leaves = False

    def attempt(self, rng):
        world = self.world
        deed = prepared(world, rng)
        error, outcome = None, None
        self.disturb(rng, deed)
        try:
            deed.act()
        except OSError as told:
            error = told
        finally:
            outcome = self.repair()
        if deed.hides and error or self.leaves or rng.random() < 0.2:
            world.remount()
        self.clear(rng, world.check(*(deed.failed if error else deed.done)))
        again = prepared(world, rng, [type(deed)])
        again.act()
        self.clear(rng, world.check(*again.done))
        return outcome if error is None else errno.errorcode[error.errno]

    def disturb(self, rng, deed):
        raise NotImplementedError

    def repair(self):
        raise NotImplementedError


class Full(Disturbed):
    name = 'full'
    what = 'a full disk at any moment, and space again after it'
    SIZE = 64

    def make_world(self, folder):
        return World(folder, self.truths, self.increments, self.SIZE)

    def attempt(self, rng):
        self.world.settle()
        return super().attempt(rng)

    def disturb(self, rng, deed):
        """Leaves so much room that it ends at any moment of the deed."""
        share = rng.choice((0, rng.random(), rng.random())) * deed.takes
        room = int(share * len(deed.new.stream)) // 4096 * 4096
        with open(self.world.store('fill'), 'wb') as file:
            os.posix_fallocate(file.fileno(), 0, self.world.free_bytes() - room)

    def repair(self):
        os.unlink(self.world.store('fill'))
        return 'there was room'


class Failing(Disturbed):
    name = 'fail'
    what = 'calls of the daemon to the disk that fail: EIO, ENOSPC, EDQUOT; once or on and on'

    def make_world(self, folder):
        control = os.path.join(folder, 'orders')
        with open(control, 'wb') as file:
            file.write(bytes(ORDER.size))
        with open(control, 'r+b') as file:
            self.orders = mmap.mmap(file.fileno(), ORDER.size)
        env = {'LD_PRELOAD': harness.build_path(*LIBRARY), 'BAD_DISK': control}
        return World(folder, self.truths, self.increments, env=env)

    def disturb(self, rng, deed):
        call = 'read' if isinstance(deed, Read) else rng.choice((*CALLS, *OFTEN))
        error = rng.choice((errno.EIO, errno.EIO, errno.ENOSPC, errno.EDQUOT))
        self.leaves = call == 'remove'
        times = FOR_EVER if rng.random() < 0.3 else 1
        self.orders[:] = ORDER.pack(1 << CALLS[call], rng.choice((0, 0, 1, 2, 3, 5, 9)), times,
                                    error, 0, 0, os.stat(self.world.mount.store).st_dev)

    def repair(self):
        hits = ORDER.unpack(self.orders)[4]
        self.orders[:] = bytes(ORDER.size)
        return 'done all the same' if hits else 'not met'

# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams come that QEMU never wrote."""
import os

from damage import PAGE, Spoilt
from deeds import write_at
from truth import need
from world import MIB
from makestream import read_back


def mutate_stream(rng, data):
    """Makes a migration stream one that QEMU never wrote."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        if not data:
            break
        at = rng.randrange(min(len(data), rng.choice((100, 1000, len(data)))))
        some = rng.choice((1, 4, 8, 100, PAGE))
        how = rng.randrange(6)
        if how == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[at:at + some] = rng.choice((b'\xff', b'\0', b'\x7f')) * some
        elif how == 2:
            del data[at:at + some]
        elif how == 3:
            data[at:at] = rng.randbytes(some)
        elif how == 4:
            data[at:at] = data[at:at + some * 20]
        else:
            del data[at + 1:]
    return bytes(data)


class Hostile(Spoilt):
    name = 'hostile'
    increments_fit = True
    what = 'migration streams that QEMU never wrote, and such device state, written into the mount'

    def attempt(self, rng):
        world = self.world
        old, new = rng.sample(world.truths, 2)
        world.put('bad', old)
        data = mutate_stream(rng, new.stream)
        is_copy = new.guest is not None and rng.random() < 0.2
        if is_copy:
            os.unlink(world.snaps('bad', 'stream'))
            old, data = None, mutate_stream(rng, new.views['devstate'])
        try:
            if is_copy:
                write_at(world.snaps('bad', 'ram'), [(0, new.views['ram'])])
            size = rng.choice((100000, 131328, MIB))
            write_at(world.snaps('bad', 'devstate' if is_copy else 'stream'),
                     [(at, data[at:at + size]) for at in range(0, len(data), size)])
        except OSError:
            pass
        outcome = self.judge(old, new, None if is_copy else data)
        world.check_daemon()
        self.clear(rng)
        return outcome

    def judge(self, old, new, data):
        """The old snapshot is whole, or the new one is, as it came."""
        world = self.world
        if old is None and not os.path.exists(world.store('bad', 'snapshot.zst')):
            return 'refused'
        view = os.path.join(world.snaps('bad'), 'stream')
        size = os.stat(view).st_size
        if old and size == len(old.views['stream']) and self.read('stream') == old.views['stream']:
            need(world.what('bad') == old, 'the old snapshot')
            return 'refused'
        need(world.verify('bad') and None not in [self.read(name) for name in
                                                  os.listdir(world.snaps('bad'))],
             'a snapshot that is not whole was kept')
        if data is not None and new.guest and not new.image and not new.preamble:
            need(same_pages(data, self.read('stream')), 'the snapshot is not what was written')
        return 'accepted'


def same_pages(written, kept):
    """Whether two classic streams have the same memory, as far as the first one
    can be understood here."""
    try:
        sizes, pages, _ = read_back(written)
    except (AssertionError, KeyError, ValueError):
        return True
    return read_back(kept)[:2] == (sizes, pages)

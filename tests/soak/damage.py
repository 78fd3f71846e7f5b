# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of the store are damaged, or lie."""
import errno
import os
import re
import struct

from deeds import Rewrite
from kind import Kind
from truth import need
from world import MIB
from fusecase import read_file
import harness

# Views of a damaged snapshot may fail like this.
BAD = (errno.EIO, errno.ENOENT, errno.EOPNOTSUPP)
PAGE = 4096
FRAME = struct.pack('<I', 0x184d2a57)      # begins what is no page data
SUPERBLOCK, TRAILER = 64, 128
# A view that is said to be larger is not read to its end.
WHOLE_MAX = 64 * MIB


def flip(rng, data):
    """More often where the file says what it is."""
    at = rng.choice((rng.randrange(len(data)), rng.randrange(SUPERBLOCK),
                     -1 - rng.randrange(TRAILER)))
    data[at] ^= 1 << rng.randrange(8)


def cut(rng, data):
    del data[rng.randrange(len(data)):]


def lose_block(rng, data):
    at = rng.randrange(len(data)) // 512 * 512
    data[at:at + rng.choice((512, PAGE))] = bytes(len(data[at:at + PAGE]))


def swap_blocks(rng, data):
    first, second = (rng.randrange(-(-len(data) // PAGE)) * PAGE for _ in range(2))
    one, other = data[first:first + PAGE], data[second:second + PAGE]
    size = min(len(one), len(other))
    data[first:first + size], data[second:second + size] = other[:size], one[:size]


def grow(rng, data):
    data += rng.randbytes(rng.choice((1, 128, PAGE)))


DAMAGES = [flip, flip, flip, cut, lose_block, swap_blocks, grow]


class Spoilt(Kind):
    """A snapshot `bad` whose files are spoilt, beside one that is not."""
    # A file that is kept to be placed again stands alone.
    increments_fit = False

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.files = {}     # truth: bytes of its snapshot.zst

    def file_of(self, truth):
        if truth not in self.files:
            self.world.put('bad', truth)
            self.files[truth] = read_file(self.world.store('bad', 'snapshot.zst'))
        return self.files[truth]

    def place(self, name, data):
        """Puts a file into the store in one step, as a bad copy would."""
        os.makedirs(self.world.store('bad'), exist_ok=True)
        with open(self.world.store('bad', 'new'), 'wb') as file:
            file.write(data)
        os.rename(self.world.store('bad', 'new'), self.world.store('bad', name))

    def read(self, view):
        """The bytes of a view, as far as it is not endless; None for an error."""
        try:
            with open(self.world.snaps('bad', view), 'rb', buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                if size <= WHOLE_MAX:
                    return file.readall()
                for at in (0, size // 2, size - MIB):
                    os.pread(file.fileno(), MIB, at)
                return b''
        except OSError as error:
            need(error.errno in BAD, f'{view}: {error}')
            return None

    def settle(self, rng, good):
        """The other one is whole, and so is the spoilt one once it is repaired."""
        world = self.world
        need(world.what('good') == good, 'the other snapshot')
        world.check_daemon()
        self.clear(rng)


class Damaged(Spoilt):
    name = 'damage'
    what = 'bits flipped, blocks lost or swapped, ends cut, in snapshot.zst or snapshot.head'

    def attempt(self, rng):
        world = self.world
        good = rng.choice(world.truths)
        world.put('good', good)
        if rng.random() < 0.2:
            truth, name = self.rewritten(rng), 'snapshot.head'
            whole = read_file(world.store('bad', name))
        else:
            truth, name = rng.choice(world.truths), 'snapshot.zst'
            whole = self.file_of(truth)
        damage, data = rng.choice(DAMAGES), bytearray(whole)
        damage(rng, data)
        if data == whole:
            flip(rng, data)
        self.place(name, data)
        need(not world.verify('bad'), f'snapfs verify does not see the damage in {name}')
        right = [self.read(view) for view in truth.views]
        need(all(read in (None, data) for read, data in zip(right, truth.views.values())),
             f'wrong bytes out of a damaged {name}')
        self.place(name, whole)
        need(world.what('bad', [truth]) == truth, 'the snapshot is whole again')
        self.settle(rng, good)
        return 'an error' if None in right else 'right bytes'

    def rewritten(self, rng):
        """A snapshot whose preamble lies in a file of its own."""
        deed = Rewrite(self.world, rng)
        deed.prepare()
        deed.act()
        os.rename(self.world.snaps('vm1'), self.world.snaps('bad'))
        return deed.new


class Lying(Spoilt):
    name = 'lie'
    what = 'snapshot files with wrong fields and right checksums'
    VALUES = (0, 1, 2, 511, 512, 513, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 47, (1 << 64) - 1)

    def attempt(self, rng):
        world = self.world
        good = rng.choice(world.truths)
        world.put('good', good)
        truth = rng.choice(world.truths)
        data = bytearray(self.file_of(truth))
        for _ in range(rng.choice((1, 1, 2, 4))):
            self.lie(rng, data)
        path = os.path.join(world.work, 'lie')
        with open(path, 'wb') as file:
            file.write(data)
        done = harness.run(harness.build_path('tests', 'soak', 'image-fixup'), path)
        need(done.returncode == 0, done.stderr)
        self.place('snapshot.zst', read_file(path))
        is_good = world.verify('bad')
        read = [self.read(view) for view in truth.views if is_good or rng.random() < 0.5]
        need(not is_good or self.is_readable(),
             'snapfs verify says that it is whole, but it cannot be read')
        self.settle(rng, good)
        return 'refused' if not is_good or None in read else 'accepted'

    def is_readable(self):
        """All that its folder lists."""
        return None not in [self.read(view) for view in os.listdir(self.world.snaps('bad'))]

    def lie(self, rng, data):
        """Changes a field of the superblock, or behind the page data."""
        behind = re.search(re.escape(FRAME) + b'....LEAF', data[SUPERBLOCK:], re.S)
        begin = SUPERBLOCK + behind.start() if behind else len(data) - 4096
        at = rng.randrange(SUPERBLOCK) if rng.random() < 0.1 else rng.randrange(begin, len(data))
        size = rng.choice((1, 2, 4, 8))
        at = min(at // size * size, len(data) - size)
        now = int.from_bytes(data[at:at + size], 'little')
        value = rng.choice((*self.VALUES, now + 1, now - 1, now ^ 1 << rng.randrange(8 * size)))
        data[at:at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, 'little')

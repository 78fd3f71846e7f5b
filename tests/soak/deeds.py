# SPDX-License-Identifier: GPL-2.0-or-later
"""What users do to a store. A deed is prepared in peace and then done, with
something in its way. It names the states that the store may be in after that:
`done` if all went well, `failed` if the one who did it was told an error, and
`cut` if nobody was told anything."""
import contextlib
import os

from truth import need
from fusecase import write_all


def write_at(path, writes, anew=True):
    """Writes a file as QEMU does, through one descriptor, from its beginning or
    into what is there."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if anew:
            os.ftruncate(fd, 0)
        for offset, data in writes:
            while data:
                done = os.pwrite(fd, data, offset)
                offset, data = offset + done, data[done:]
    finally:
        os.close(fd)


class Deed:
    """`old` is there before, `new` may come."""
    # Names are hidden after it failed half way, until the store is mounted again.
    hides = False
    takes = 0.3     # at most this share of the stream's bytes, on disk

    def __init__(self, world, rng):
        self.world, self.rng = world, rng
        self.old, self.new = rng.sample(world.truths, 2)

    def __repr__(self):
        return f'{type(self).__name__} (before: {self.old}; new: {self.new})'

    def prepare(self):
        self.world.put('vm1', self.old)
        self.done = self.failed = self.cut = [{'vm1': self.old}]

    def act(self):
        raise NotImplementedError


class Save(Deed):
    """A stream comes over a snapshot, or into an empty folder."""

    def prepare(self):
        if self.rng.random() < 0.3:
            os.mkdir(self.world.snaps('vm1'))
            self.old = None
        else:
            self.world.put('vm1', self.old)
        self.done, self.failed = [{'vm1': self.new}], [{'vm1': self.old}]
        self.cut = self.done + self.failed

    def act(self):
        write_at(self.world.snaps('vm1', 'stream'), self.new.writes(self.rng))


class CopyIn(Deed):
    """The listed files of a snapshot come back from a backup. `preamble` is not
    the last one: without it, the snapshot would be whole already."""
    takes = 1.2

    def prepare(self):
        os.mkdir(self.world.snaps('vm1'))
        self.done = [{'vm1': self.new}]
        self.failed = self.cut = [{'vm1': None}, {'vm1': self.new}]

    def act(self):
        views = self.rng.sample(self.new.listed, len(self.new.listed))
        if views[-1] == 'preamble':
            views.reverse()
        for view in views:
            with open(self.world.snaps('vm1', view), 'wb', buffering=0) as file:
                write_all(file.fileno(), self.new.views[view])


class Rename(Deed):
    """A snapshot's folder gets another name."""

    def prepare(self):
        super().prepare()
        self.done = [{'vm1': None, 'vm2': self.old}]
        self.failed = self.cut = [{'vm1': self.old, 'vm2': None}, *self.done]

    def act(self):
        os.rename(self.world.snaps('vm1'), self.world.snaps('vm2'))


class Remove(Deed):
    """A snapshot is removed with its folder."""
    hides = True

    def prepare(self):
        super().prepare()
        self.done = [{'vm1': None}]
        self.failed = self.cut = [{'vm1': self.old}, {'vm1': None}]

    def act(self):
        names = ['stream'] if self.rng.random() < 0.3 else self.old.listed
        for name in names:
            os.unlink(self.world.snaps('vm1', name))
        os.rmdir(self.world.snaps('vm1'))


class Rewrite(Deed):
    """What stands before a stream is written again, as libvirt does."""

    def prepare(self):
        self.old = self.rng.choice([one for one in self.world.truths if one.preamble])
        super().prepare()
        self.new = self.old.rewritten(self.rng.randbytes(len(self.old.preamble)))
        self.done = [{'vm1': self.new}]
        self.failed = self.cut = [{'vm1': self.old}, *self.done]

    def act(self):
        write_at(self.world.snaps('vm1', 'stream'), [(0, self.new.preamble)], anew=False)


class Read(Deed):
    """Any ranges of any file are read, past the kernel's cache."""
    READS = 200

    def act(self):
        with contextlib.ExitStack() as opened:
            views = {}
            for view in self.old.views:
                views[view] = os.open(self.world.snaps('vm1', view), os.O_RDONLY | os.O_DIRECT)
                opened.callback(os.close, views[view])
            for _ in range(self.READS):
                view = self.rng.choice(list(views))
                check_range(self.rng, views[view], self.old.views[view], view)


def check_range(rng, fd, data, view):
    """Reads some bytes of a view, which must be those."""
    at, size = rng.randrange(len(data) + 1), rng.choice((1, 4096, 70000, 600000))
    need(os.pread(fd, size, at) == data[at:at + size], f'{view} has wrong bytes at {at}')


DEEDS = [Save, Save, Save, CopyIn, Rename, Remove, Rewrite, Read]


def prepared(world, rng, kinds=None):
    """A deed, ready to be done."""
    deed = rng.choice(kinds or DEEDS)(world, rng)
    deed.prepare()
    world.put_parent(rng, deed.new)
    return deed

# SPDX-License-Identifier: GPL-2.0-or-later
"""Many do everything at once."""
import errno
import multiprocessing
import os
import random
import time

from damage import PAGE
from deeds import write_at
from kind import Kind
from truth import Loss, need

FOLDERS = 6
# Processes: to the daemon, the threads of one are one.
FORK = multiprocessing.get_context('fork')
# The folder or the snapshot went, came, or is being written by another: two
# who write one stream at once may spoil it for both (the last three).
EXPECTED = (errno.ENOENT, errno.EBUSY, errno.EEXIST, errno.ENOTEMPTY, errno.ECANCELED,
            errno.EXDEV, errno.ESTALE, errno.EPERM, errno.EPROTO, errno.EINVAL, errno.EBADF)


class Load(Kind):
    name = 'load'
    what = '6 readers, 3 savers, 2 movers and 1 remover at once, for 5 seconds'
    SECONDS = 5
    CROWD = (('read', 6), ('save', 3), ('move', 2), ('remove', 1))

    def attempt(self, rng):
        world = self.world
        until, wrong = time.monotonic() + self.SECONDS, FORK.SimpleQueue()
        crowd = [FORK.Process(target=self.loop, daemon=True,
                              args=(getattr(self, name), random.Random(rng.random()), until, wrong))
                 for name, number in self.CROWD for _ in range(number)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
            need(one.exitcode == 0, 'one of the crowd has died')
        need(wrong.empty(), wrong.empty() or wrong.get())
        for name in os.listdir(world.snaps()):
            world.what(name)
        world.check_daemon()
        world.clear(settle=True)
        return 'done'

    @staticmethod
    def loop(act, rng, until, wrong):
        """Does it until the time is over, or something is wrong for somebody."""
        while time.monotonic() < until and wrong.empty():
            try:
                act(rng)
            except Loss as loss:
                wrong.put(str(loss))
            except OSError as error:
                if error.errno not in EXPECTED:
                    wrong.put(f'{act.__name__}: {error}')

    def folder(self, rng):
        return self.world.snaps(f'vm{rng.randrange(FOLDERS)}')

    def save(self, rng):
        folder = self.folder(rng)
        os.makedirs(folder, exist_ok=True)
        write_at(os.path.join(folder, 'stream'), rng.choice(self.world.truths).writes(rng))

    def move(self, rng):
        os.rename(self.folder(rng), self.folder(rng))
        time.sleep(0.01)

    def remove(self, rng):
        folder = self.folder(rng)
        os.unlink(os.path.join(folder, 'stream'))
        os.rmdir(folder)
        time.sleep(0.1)

    def read(self, rng):
        """What was opened is one snapshot to its end."""
        path = os.path.join(self.folder(rng), rng.choice(('ram', 'mapped', 'devstate', 'stream')))
        view = os.path.basename(path)
        flags = rng.choice((0, os.O_DIRECT))
        with os.fdopen(os.open(path, os.O_RDONLY | flags), 'rb', buffering=0) as file:
            try:
                os.getxattr(file.fileno(), 'user.snapfs.uuid')
            except OSError as error:
                # One on its way in, of no snapshot yet.
                need(error.errno == errno.ENODATA and view == 'stream', f'{view}: {error}')
                return
            # Another may cut and write `stream`, whose size is then that of
            # what comes; its bytes are the snapshot's until that is whole.
            size = os.fstat(file.fileno()).st_size
            places = [(at, rng.choice((PAGE, 1 << 20))) for at in range(0, size + 1, 1 << 20)]
            rng.shuffle(places)
            fits = [one.views[view] for one in self.world.truths if view in one.views and
                    (view == 'stream' or len(one.views[view]) == size)]
            for at, some in places:
                data = os.pread(file.fileno(), some, at)
                fits = [whole for whole in fits if whole[at:at + some] == data]
                need(fits, f'{view} of {size} bytes has wrong bytes at {at} ({len(data)} of {some}), '
                     'or those of two snapshots')

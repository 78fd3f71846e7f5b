# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon ends, or stands still, while something is done."""
import errno
import os
import signal
import subprocess
import time

from deeds import CopyIn, Save, prepared
from kind import Kind
from truth import need
from world import WAIT, Actor
import harness

# What the kernel answers by itself when the mount is gone: the one who did
# something does not know what became of it.
NOBODY = (errno.ENOTCONN, errno.ECONNABORTED, errno.ENOENT)


class Timed(Kind):
    """Begins a deed, and goes on at some moment of it."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.usual = {}     # kind of deed: seconds that a byte takes it

    def begin(self, rng, kinds=None):
        deed = prepared(self.world, rng, kinds)
        actor = Actor(deed)
        like = (type(deed), deed.new.image is not None)
        size = len(deed.new.stream) if isinstance(deed, (Save, CopyIn)) else 1
        moment = rng.random() * size * self.usual.get(like, 0.05 / size)
        began = time.monotonic()
        actor.start()
        actor.join(moment)
        if not actor.is_alive():
            self.usual[like] = (time.monotonic() - began) / size
        return deed, actor

    def half_made(self):
        """Folders that a file in the store's tmp is meant for."""
        folder = self.world.store('.snapfs', 'tmp')
        names = set(os.listdir(folder))
        return [os.readlink(os.path.join(folder, name)) for name in names
                if name.endswith('.for') and name.removesuffix('.for') in names]

    @staticmethod
    def state_of(deed, error):
        """The states that are good after a deed that was told this."""
        if error is None:
            return deed.done
        return deed.cut if error.errno in NOBODY else deed.failed


class Killed(Timed):
    name = 'kill'
    what = 'kill -9 of the daemon at any moment of a save, a copy, a renaming, a removal or reads'

    def attempt(self, rng):
        world = self.world
        deed, actor = self.begin(rng)
        world.mount.crash()
        error = actor.finish()
        noted = self.half_made()
        world.start()
        found = world.check(*self.state_of(deed, error))
        for name in noted:
            need(b'cut off' in os.getxattr(world.snaps(name), 'user.snapfs.error'),
                 f'{name} has no note that its save was cut off')
        self.clear(rng, found)
        if error is None:
            return 'done before'
        return 'the new state' if found == deed.done[0] else 'the old state'


class Ended(Timed):
    name = 'end'
    what = 'end of the mount (SIGTERM, SIGINT, SIGHUP, umount, umount -l) while something is done'

    def attempt(self, rng):
        world = self.world
        deed, actor = self.begin(rng)
        how = rng.choice(('SIGTERM', 'SIGINT', 'SIGHUP', 'umount', 'umount -l'))
        if how.startswith('SIG'):
            world.mount.process.send_signal(getattr(signal, how))
            ended = True
        else:
            ended = harness.run(*how.split(), world.mount.point).returncode == 0
        error = actor.finish()
        if ended:
            code = world.mount.process.wait(WAIT)
            need(code == 0, f'the daemon ended with {code}')
            world.mount.kill()
            world.start()
        else:
            how += ' refused'
            need(error is None, f'{deed}, {how}: {error}')
        self.clear(rng, world.check(*self.state_of(deed, error)))
        return how


class Stopped(Timed):
    name = 'stop'
    what = 'the daemon, or a writer, stopped (SIGSTOP) and continued or killed'

    def attempt(self, rng):
        return self.writer(rng) if rng.random() < 0.5 else self.daemon(rng)

    def daemon(self, rng):
        world = self.world
        deed, actor = self.begin(rng)
        world.mount.process.send_signal(signal.SIGSTOP)
        time.sleep(rng.random() * 0.3)
        world.mount.process.send_signal(signal.SIGCONT)
        error = actor.finish()
        need(error is None, f'{deed}: {error}')
        self.clear(rng, world.check(*deed.done))
        return 'daemon'

    def writer(self, rng):
        """While one writer stands still, others are served."""
        world = self.world
        deed = prepared(world, rng, [Save])
        os.rename(world.snaps('vm1'), world.snaps('slow'))
        source = os.path.join(world.work, 'stream')
        with open(source, 'wb') as file:
            file.write(deed.new.stream)
        with open(world.snaps('slow', 'stream'), 'wb') as stream:
            cat = subprocess.Popen(['cat', source], stdout=stream,
                                   preexec_fn=harness.die_with_parent)
        try:
            time.sleep(rng.random() * 0.1)
            cat.send_signal(signal.SIGSTOP)
            other = prepared(world, rng, [Save, CopyIn])
            other.act()
            need(world.what('vm1') == other.new, 'a save beside one that stands still is whole')
            end = rng.choice((signal.SIGCONT, signal.SIGKILL))
            cat.send_signal(end)
            code = cat.wait(WAIT)
        finally:
            cat.kill()
            cat.wait()
        need(code == 0 or end == signal.SIGKILL, f'cat ended with {code}')
        states = [deed.new] if code == 0 else [deed.old, deed.new]
        self.clear(rng, world.check(*({'slow': state, 'vm1': other.new} for state in states)))
        return 'writer'


class Flattened(Kind):
    name = 'flatten'
    what = 'kill -9 of `snapfs flatten` at any moment, in a chain of increments'

    def __init__(self, truths, work, increments=True):
        super().__init__(truths, work, True)
        self.usual = 0.05   # seconds that it takes

    def attempt(self, rng):
        """Each snapshot of the chain is replaced by one that is whole, or stays."""
        world = self.world
        first = rng.choice([one for one in self.truths if one.kin(self.truths)])
        chain = {f'vm{n}': rng.choice([first, *first.kin(self.truths)]) for n in range(4)}
        for name, truth in chain.items():
            world.put(name, truth)
        world.end()
        name, moment = rng.choice(list(chain)), rng.random() * 1.2 * self.usual
        process = subprocess.Popen([harness.build_path('tools', 'snapfs'), 'flatten',
                                    world.mount.store, name], stdout=subprocess.DEVNULL,
                                   preexec_fn=harness.die_with_parent)
        try:
            code = process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        need(code in (0, -signal.SIGKILL), f'snapfs flatten ended with {code}')
        world.start()
        world.check(chain)
        if code == 0:
            self.usual = (self.usual + moment) / 2
            need('user.snapfs.parents' not in os.listxattr(world.snaps(name)),
                 f'{name} was flattened and has parents')
        else:
            self.usual *= 1.1
        for name in rng.sample(list(chain), len(chain)):
            world.remove(name)
            del chain[name]
            world.check(chain)
        self.clear(rng)
        return 'done before' if code == 0 else 'killed'

# SPDX-License-Identifier: GPL-2.0-or-later
"""What every kind of fault is."""
import tempfile

from world import World

# The share of tries after which all must be given back.
SETTLE = 0.15


class Kind:
    """A kind of fault; attempt() is one try. The world is made when it is first
    used and serves all tries, so that what a try leaves behind adds up."""
    name = ''          # a word, for --kind
    what = ''          # a sentence for tests/RELIABILITY.md

    def __init__(self, truths, work):
        self.truths, self.work = truths, work
        self.made = None

    @property
    def world(self):
        if self.made is None:
            self.made = self.make_world(tempfile.mkdtemp(prefix=f'{self.name}-', dir=self.work))
        return self.made

    def make_world(self, folder):
        return World(folder, self.truths)

    def attempt(self, rng):
        """One try; returns in a word or two what came of it. Raises Loss."""
        raise NotImplementedError

    def clear(self, rng):
        """Takes away what a try has left."""
        self.world.clear(rng.random() < SETTLE)

    def kill_daemon(self):
        """Ends what hangs; whoever waits for the daemon gets an error."""
        if self.made and self.made.mount.process:
            self.made.mount.process.kill()

    def close(self):
        if self.made:
            self.made.close()
        self.made = None

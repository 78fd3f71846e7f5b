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

    # Whether its world can be one with increments.
    increments_fit = True

    def __init__(self, truths, work, increments=False):
        self.truths, self.work = truths, work
        self.increments = increments and self.increments_fit
        self.made = None

    @property
    def world(self):
        if self.made is None:
            self.made = self.make_world(tempfile.mkdtemp(prefix=f'{self.name}-', dir=self.work))
        return self.made

    def make_world(self, folder):
        return World(folder, self.truths, self.increments)

    def attempt(self, rng):
        """One try; returns in a word or two what came of it. Raises Loss."""
        raise NotImplementedError

    def clear(self, rng, found=None):
        """Takes away what a try has left, `found`: its parents first."""
        if self.world.beside and found:
            self.world.lose_parents(found, rng.random() < 0.2)
        self.world.clear(rng.random() < SETTLE)

    def kill_daemon(self):
        """Ends what hangs; whoever waits for the daemon gets an error."""
        if self.made and self.made.mount.process:
            self.made.mount.process.kill()

    def close(self):
        if self.made:
            self.made.close()
        self.made = None

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest's memory holds: made of what this machine holds.

A page cache of this machine's programs and texts, some of it compressed, and
heaps of programs at work; about a third is zero. The parts are weighed so that
zstd takes to it as it does to the memory of a Debian guest in which PostgreSQL,
node and git are at work: 2.4 to 2.7 times smaller, and about twice as fast as
what tests/guest/init.c makes up by itself.
"""
import functools
import os
import random
import subprocess
import sys
import zlib

from figures import progress
from guest import LinuxGuest, cpio_entry, initramfs
from harness import build_path, run

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = 4096
MIB = 1 << 20
ELF = b'\x7fELF'
PROGRAMS = ('/usr/bin', '/usr/sbin', '/usr/lib')
TEXTS = ('/usr/share', '/usr/include', '/usr/lib')
# Parts of what is not zero, in hundredths.
PARTS = {'programs': 10, 'texts': 12, 'packed': 24, 'objects': 26, 'rows': 28}
FILE_MOST = MIB     # of one file, so that one is not all
RUN_MOST = 64       # pages of a heap, and of zeros, in one place


def files(*folders):
    """All regular files below these folders, in no order, the same each time."""
    found = []
    for folder in folders:
        for path, _, names in os.walk(folder):
            found += [os.path.join(path, name) for name in names]
    found.sort()
    random.Random(1).shuffle(found)
    return (path for path in found if os.path.isfile(path) and not os.path.islink(path))


def contents(folders, size, programs):
    """Beginnings of files, together `size` bytes: programs, or all but those."""
    for path in files(*folders):
        if size <= 0:
            return
        try:
            with open(path, 'rb') as file:
                data = file.read(min(FILE_MOST, size))
        except OSError:
            continue
        if data and data.startswith(ELF) == programs:
            size -= len(data)
            yield data


def compressed(size):
    """What programs keep compressed, together about `size` bytes."""
    for data in contents(TEXTS, 1 << 62, False):
        if size <= 0:
            return
        data = zlib.compress(data, 1)
        if len(data) > PAGE:
            size -= len(data)
            yield data


def heap(kind, size, work):
    """Pieces of a heap at work, together `size` bytes."""
    path, chooser = os.path.join(work, 'heap'), random.Random(2)
    subprocess.run([sys.executable, os.path.join(HERE, 'heap.py'), kind, path, str(size)],
                   check=True)
    with open(path, 'rb') as file:
        while True:
            data = file.read(chooser.randint(1, RUN_MOST) * PAGE)
            if not data:
                break
            yield data
    os.unlink(path)


def pieces(size, work):
    """Pieces of all parts, together about `size` bytes, in no order."""
    sizes = {part: size * share // 100 for part, share in PARTS.items()}
    made = [*contents(PROGRAMS, sizes['programs'], True),
            *contents(TEXTS, sizes['texts'], False),
            *compressed(sizes['packed']),
            *heap('objects', sizes['objects'], work), *heap('rows', sizes['rows'], work)]
    random.Random(3).shuffle(made)
    return made


def make(path, mib, work):
    """Writes `mib` MiB of memory, about a third of them zero. Each piece begins
    with a page, as in a page cache, and zeros lie between them."""
    left, zeros, chooser = mib * MIB, mib * MIB // 3, random.Random(4)
    made = pieces(left - zeros, work)
    gap = 2 * zeros // PAGE // len(made)    # the most, twice the mean
    with open(path, 'wb') as out:
        for data in made:
            data += bytes(-len(data) % PAGE + chooser.randint(0, gap) * PAGE)
            out.write(data[:left])
            left -= min(left, len(data))
        out.truncate(mib * MIB)
    return path


class PackGuest(LinuxGuest):
    """A Linux guest with an initramfs of its own."""

    def __init__(self, archive, **options):
        super().__init__(**options)
        self.archive = archive

    def initrd(self):
        return self.archive

    def args(self):
        # Else the kernel leaves 0xcc in each byte where the initramfs was.
        *args, words = super().args()
        return [*args, words + ' init_on_free=1']


class Content:
    """A pack of memory, made when it is first wanted, and guests that are filled
    with it."""

    MIB = 128           # of the pack
    LEAST = 192         # of a guest that is not zero: one that can unpack it
    KERNEL = 160        # MiB for the guest's kernel, and a sixteenth of the rest

    def __init__(self, work):
        self.work = work

    @functools.cached_property
    def path(self):
        progress('making the pack of memory')
        return make(os.path.join(self.work, 'pack'), self.MIB, self.work)

    @functools.cached_property
    def archive(self):
        path = os.path.join(self.work, 'initramfs')
        with open(self.path, 'rb') as pack, open(initramfs(), 'rb') as program, \
                open(path, 'wb') as archive:
            archive.write(program.read())
            archive.write(cpio_entry(5, 'pack', 0o100644, pack.read()))
            archive.write(cpio_entry(0, 'TRAILER!!!', 0))
        return path

    def guest(self, full, touch=0, **options):
        """A guest in which about `full` MiB are not zero: the pack in its page
        cache, and two areas of anonymous memory."""
        if full < self.LEAST:
            sys.exit(f'bench: --memory {full}: a guest needs {self.LEAST} MiB at least')
        memory = full * 3 // 2
        return PackGuest(self.archive, memory=memory + memory // 16 + self.KERNEL,
                         fill=memory - self.MIB - touch, touch=touch, **options)


def packed(path, threads=1):
    """What `zstd -1` alone makes of the pages of a file that are not zero, in
    extents: (bytes of pages, bytes compressed, seconds of a processor)."""
    done = run(build_path('tests', 'bench', 'extents'), path, 1, threads, timeout=600)
    if done.returncode:
        raise RuntimeError(done.stderr)
    pages, small, seconds = done.stdout.split()
    return int(pages), int(small), float(seconds)


def say_packed(what, path):
    """Prints how a guest's memory takes to zstd."""
    pages, small, seconds = packed(path)
    size = os.path.getsize(path)
    print(f'{what}: {size / MIB:.0f} MiB, {(size - pages) / size:.0%} of them zero; '
          f'zstd -1 on 64 KiB: {pages / small:.2f} times smaller, {pages / seconds / 1e6:.0f} MB/s')

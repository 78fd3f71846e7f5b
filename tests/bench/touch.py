# SPDX-License-Identifier: GPL-2.0-or-later
"""Maps a file for itself (MAP_PRIVATE), as QEMU maps a memory file, and touches
each page that is no hole: in order, or at random by a seed. Begins when it reads
a byte, says one when it has done, and stays until its input ends.

usage: touch.py FILE [SEED]
"""
import mmap
import os
import random
import sys

from figures import stored_pages


def main(path, seed=None):
    offsets = stored_pages(path)
    if seed:
        random.Random(seed).shuffle(offsets)
    os.write(1, b'+')
    os.read(0, 1)
    memory = mmap.mmap(os.open(path, os.O_RDONLY), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
    for offset in offsets:
        _ = memory[offset]
    os.write(1, b'+')
    os.read(0, 1)


if __name__ == '__main__':
    main(*sys.argv[1:])

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A program with a heap at work, which writes its own memory to a file.

`objects` has an index of the words in Python's library: tables, small objects,
many pointers. `rows` has a database in memory, with tables like pgbench's: many
rows, each with a few numbers and a filler.

usage: heap.py objects|rows FILE BYTES
"""
import glob
import itertools
import os
import random
import re
import sqlite3
import sys
import sysconfig

PAGE = 4096
# What the interpreter and its libraries take beside; more than enough.
BESIDE = 24 << 20


def resident():
    """Bytes of this process that are in memory."""
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * PAGE


def objects(size):
    """An index of about `size` bytes: where each word stands, and its line."""
    library = glob.glob(os.path.join(sysconfig.get_path('stdlib'), '**', '*.py'), recursive=True)
    index = {}
    for lap in itertools.count():
        for path in sorted(library):
            if resident() > size:
                return index
            with open(path, encoding='utf-8', errors='replace') as file:
                for number, line in enumerate(file):
                    for word in re.findall(r'\w+', line):
                        index.setdefault(word, {})[lap, path, number] = line


def rows(size):
    """A database of about `size` bytes, of which a part has been updated."""
    chooser = random.Random(1)
    base = sqlite3.connect(':memory:')
    base.executescript('''
        create table accounts(aid integer primary key, bid int, balance int, filler text);
        create table history(tid int, aid int, delta int, at real, filler text);
        create index by_branch on accounts(bid, balance);''')
    for first in itertools.count(1, 10000):
        if resident() > size:
            return base
        base.executemany('insert into accounts values(?, ?, 0, ?)',
                         ((aid, aid // 100000, ' ' * 84) for aid in range(first, first + 10000)))
        for _ in range(2000):
            aid, delta = chooser.randrange(1, first + 10000), chooser.randrange(-5000, 5000)
            base.execute('update accounts set balance = balance + ? where aid = ?', (delta, aid))
            base.execute('insert into history values(?, ?, ?, julianday("now"), ?)',
                         (chooser.randrange(10), aid, delta, ' ' * 22))


def dump(path, size):
    """Writes pages that this process has allocated, and that are not zero."""
    with open('/proc/self/maps') as file:
        maps = [line.split() for line in file]
    with open('/proc/self/mem', 'rb') as memory, open(path, 'wb') as out:
        for words in maps:
            begin, end = (int(text, 16) for text in words[0].split('-'))
            if words[1] != 'rw-p' or words[5:] not in ([], ['[heap]']):
                continue
            memory.seek(begin)
            for _ in range(begin, end, PAGE):
                page = memory.read(PAGE)
                if out.tell() < size and any(page):
                    out.write(page)


def main():
    what, path, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    kept = {'objects': objects, 'rows': rows}[what](size + BESIDE)
    dump(path, size)
    del kept


if __name__ == '__main__':
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Splits a classic migration stream into `ram` and `devstate`, the two files
that snapfs shows of it. Written apart from the C parser.

    split.py STREAM FOLDER
"""
import os
import sys

from stream import (COMMAND, CONTINUE, END, EOS, FOOTER, FULL, PAGE, PART, START, ZERO, Cursor,
                    _read_blocks, _skip_header)

PAGE_SIZE = 4096


class Splitter:
    def __init__(self, data, folder):
        os.makedirs(folder, exist_ok=True)
        self.cursor = Cursor(memoryview(data))
        self.ram = open(os.path.join(folder, 'ram'), 'wb')
        self.devstate = open(os.path.join(folder, 'devstate'), 'wb')
        self.blocks = {}
        self.block = None

    def keep(self, start):
        """What was read since `start` belongs to the device state."""
        self.devstate.write(self.cursor.data[start:self.cursor.offset])

    def records(self):
        """Writes the pages of a section's payload; the last of each counts."""
        while True:
            word = self.cursor.number(8)
            if word & EOS:
                return
            if not word & CONTINUE:
                self.block = self.blocks[self.cursor.string()]
            offset = word & ~(PAGE_SIZE - 1)
            self.ram.seek(self.block.at + offset)
            if word & ZERO:
                self.cursor.take(1)
                self.ram.write(bytes(PAGE_SIZE))
            elif word & PAGE:
                self.ram.write(self.cursor.take(PAGE_SIZE))
            else:
                raise ValueError(f'record {word:#x}')

    def footer(self):
        if self.cursor.number(1) != FOOTER:
            raise ValueError(f'no footer at {self.cursor.offset:#x}')
        self.cursor.take(4)

    def section(self, start, kind):
        self.cursor.take(4)
        if kind == START:
            if self.cursor.string() != 'ram':
                raise ValueError('a live section that is not RAM')
            self.cursor.take(8)
            self.blocks = {block.name: block for block in _read_blocks(self.cursor)}
            self.footer()
            self.keep(start)
        elif kind in (PART, END):
            head = self.cursor.data[start:self.cursor.offset]
            self.records()
            if kind == END:
                self.devstate.write(head)
                start = self.cursor.offset - 8
            self.footer()
            if kind == END:
                self.keep(start)
        else:
            raise ValueError(f'element {kind:#x} at {start:#x}')

    def run(self):
        _skip_header(self.cursor)
        self.keep(0)
        while True:
            start = self.cursor.offset
            kind = self.cursor.number(1)
            if kind == COMMAND:
                self.cursor.take(2)
                self.cursor.take(self.cursor.number(2))
                self.keep(start)
            elif kind in (FULL, 0):
                break
            else:
                self.section(start, kind)
        self.devstate.write(self.cursor.data[start:])
        self.punch()

    def punch(self):
        """Makes holes of zero pages, and the file as long as the blocks are."""
        size = max(block.at + block.size for block in self.blocks.values())
        self.ram.truncate(size)
        self.ram.close()
        self.devstate.close()
        sparse(self.ram.name)


def sparse(path):
    """Copies a file onto itself with holes where there are zeros."""
    chunk = 16 * PAGE_SIZE
    with open(path, 'rb') as source, open(path + '.sparse', 'wb') as target:
        while data := source.read(chunk):
            if data.count(0) == len(data):
                target.seek(len(data), os.SEEK_CUR)
            else:
                target.write(data)
        target.truncate(source.tell())
    os.rename(path + '.sparse', path)


def split(stream, folder):
    with open(stream, 'rb') as file:
        Splitter(file.read(), folder).run()


if __name__ == '__main__':
    split(sys.argv[1], sys.argv[2])

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds sizes: a file has at most 600 lines, a function's body at most 60,
and no more than a tenth of the functions have more than 40. The rooms of fs/
and the bridge are held to a size as well, their C files and headers together.

A function is what the layout makes one: its brace opens alone in the first
column and closes so."""

import re
import sys

sys.dont_write_bytecode = True
import source  # noqa: E402

FILE_LINES = 600
BODY_LINES = 60
LONG_BODY_LINES = 40
LONG_SHARE = 0.10
# A room, or all of a folder's, and its lines; the first that matches counts.
ROOMS = [
    ('fs/save/', None),
    ('fs/incoming/', 3250),   # streams and parts, which meet in one folder
    ('fs/tree/', 2550),
    ('fs/', 2400),
    ('tools/bridge/', 1400),
]
SUFFIXES = source.C_SUFFIXES + ('.py', '.sh', 'meson.build')


def name_before(lines, brace):
    """The name of the function whose brace opens in line `brace`."""
    head = []
    for line in reversed(lines[max(0, brace - 12):brace]):
        if not line.strip() or line.startswith(('}', '#')) \
                or line.rstrip().endswith((';', '*/')):
            break
        head.insert(0, line)
    match = re.search(r'(\w+)\s*\(', ' '.join(head))
    return match[1] if match else '?'


def functions(text):
    """(name, first line, lines of the body) of each function of a C file."""
    lines = source.without_comments(text).split('\n')
    start = None
    for number, line in enumerate(lines):
        if line.rstrip() == '{':
            start = number
        elif line.rstrip() == '}' and start is not None:
            yield name_before(lines, start), start + 1, number - start - 1
            start = None


def figures(root):
    """(path, name, line, lines of the body) of each function of the tree."""
    for path in source.files(root, source.C_SUFFIXES):
        text = source.read(root, path)
        for name, line, body in functions(text or ''):
            yield path, name, line, body


def check_files(root):
    """Files that are too long."""
    scripts = source.scripts(root, 'sh') + source.scripts(root, 'python')
    for path in sorted(set(source.files(root, SUFFIXES) + scripts)):
        lines = (source.read(root, path) or '').count('\n')
        if lines > FILE_LINES:
            yield f'{path}: {lines} lines, more than {FILE_LINES}'


def room_lines(room):
    """How many lines a room may have, or None."""
    for begin, lines in ROOMS:
        if f'{room}/'.startswith(begin):
            return lines
    return None


def check_rooms(root):
    """Rooms that are too large."""
    rooms = {}
    for path in source.files(root, source.C_SUFFIXES):
        room = '/'.join(path.split('/')[:2])
        lines = (source.read(root, path) or '').count('\n')
        rooms[room] = rooms.get(room, 0) + lines
    for room, lines in sorted(rooms.items()):
        most = room_lines(room)
        if most is not None and lines > most:
            yield f'{room}: {lines} lines, more than {most}'


def check(root):
    """All complaints about a tree."""
    yield from check_files(root)
    yield from check_rooms(root)
    measured = list(figures(root))
    for path, name, line, body in measured:
        if body > BODY_LINES:
            yield (f'{path}:{line}: {name}() has {body} lines, more than '
                   f'{BODY_LINES}')
    long = [f for f in measured if f[3] > LONG_BODY_LINES]
    if len(long) > LONG_SHARE * len(measured):
        yield (f'{len(long)} of {len(measured)} functions have more than '
               f'{LONG_BODY_LINES} lines; a tenth may:')
        for path, name, line, body in sorted(long, key=lambda f: -f[3]):
            yield f'  {path}:{line}: {name}() {body}'


if __name__ == '__main__':
    sys.exit(source.report(check(source.root_argument())))

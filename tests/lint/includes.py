#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds the table of who may include whom, the one home of each dependency,
and the silence of format/.

A room may include itself and the rooms of its line. An include is written
from the root. A header with `internal` in its name is for its own room."""

import os
import re
import sys

sys.dont_write_bytecode = True
import source  # noqa: E402

BELOW_FUSE = ['format/base', 'format/store', 'format/image', 'format/qemu',
              'fs/calls', 'fs/catalog', 'fs/save', 'fs/near', 'fs/load',
              'fs/node', 'fs/plain', 'fs/hot', 'fs/view', 'fs/incoming',
              'fs/tree']

TABLE = {
    'format/base': [],
    'format/store': ['format/base'],
    'format/image': ['format/base', 'format/store'],
    'format/qemu': ['format/base'],
    'fs/calls': ['format/base'],
    'fs/catalog': ['format/base', 'format/store', 'format/image'],
    'fs/save': ['format/base', 'format/image', 'format/qemu', 'fs/calls',
                'fs/catalog'],
    'fs/near': ['format/base', 'format/store', 'format/image'],
    'fs/load': ['format/base', 'format/image', 'fs/calls', 'fs/near'],
    'fs/node': ['format/base'],
    'fs/plain': ['format/base', 'fs/catalog', 'fs/node'],
    'fs/hot': ['format/base', 'format/qemu', 'fs/calls', 'fs/catalog',
               'fs/load', 'fs/node', 'fs/plain'],
    'fs/view': ['format/base', 'format/image', 'format/qemu', 'fs/catalog',
                'fs/load', 'fs/node', 'fs/plain', 'fs/hot'],
    'fs/incoming': ['format/base', 'fs/calls', 'fs/catalog', 'fs/save',
                    'fs/node', 'fs/plain'],
    'fs/tree': ['format/base', 'fs/calls', 'fs/catalog', 'fs/save', 'fs/near',
                'fs/load', 'fs/node', 'fs/plain', 'fs/hot', 'fs/view',
                'fs/incoming'],
    'fs/fuse': ['format/base', 'fs/calls', 'fs/node', 'fs/tree'],
    'fs/mount': ['format/base', 'format/store', 'format/image', 'fs/calls',
                 'fs/catalog', 'fs/save', 'fs/near', 'fs/load', 'fs/tree',
                 'fs/fuse'],
    'tools/cli': ['format/base'],
    'tools/store': ['tools/cli'] + BELOW_FUSE,
    # A devstate says where a RAM block lies in `ram`.
    'tools/guest': ['format/base', 'format/qemu', 'tools/cli', 'tools/store'],
    'tools/bridge': ['format/base', 'format/qemu'],
    # The program on top, a file alone; it knows which libraries it has.
    'tools/snapfs.c': ['format/store', 'format/image', 'tools/cli',
                       'tools/store', 'tools/guest'],
}

# A dependency, by its headers, and the only rooms that know it.
HOMES = [
    ('liburing', r'liburing(\.h|/)', ['format/store']),
    ('zstd', r'(zstd\w*|zdict)\.h$', ['format/image']),
    ('libfuse', r'(fuse3?/|fuse\w*\.h$)', ['fs/fuse']),
    ('libseccomp', r'seccomp\.h$', ['fs/mount']),
    ('json-glib', r'json-glib/', ['tools/guest']),
    ('gio', r'gio/', ['tools/guest']),
    ('cmocka', r'cmocka', []),
]

# Calls that print. The log itself must; format/ otherwise never does, and
# fs/ speaks through the log, but for the program's own --help and errors.
PRINTS = re.compile(
    r'\b(v?printf|v?fprintf|v?dprintf|puts|fputs|fputc|putchar|putc|fwrite'
    r'|perror|v?syslog|v?warnx?|v?errx?'
    r'|g_print|g_printerr|g_warning|g_message|g_critical|g_error|g_info'
    r'|g_debug|g_log)\s*\(')
LOG_CALL = re.compile(r'\bsnap_log\w*\s*\(')
MAY_PRINT = re.compile(r'format/base/log\.c$|fs/mount/')

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(.*?)[ \t]*$', re.M)


def room_of(path):
    """The room a file lies in, or None for what is outside of the house. A
    file that lies above the rooms is one of its own."""
    parts = path.split('/')
    if parts[0] in ('format', 'fs', 'tools') and len(parts) >= 2:
        return '/'.join(parts[:2])
    return None


def check_own(root, path, room, target):
    """One include of a header of ours."""
    if target == 'config.h':
        return
    if not os.path.isfile(os.path.join(root, target)):
        yield f'"{target}": no such file, seen from the root'
        return
    if room is None:
        return
    other = room_of(target)
    if other is None:
        yield f'"{target}": outside of the house'
    elif other != room and other not in TABLE[room]:
        yield f'{room} may not include {other} ("{target}")'
    elif other != room and 'internal' in os.path.basename(target):
        yield f'"{target}" is internal to {other}'
    elif (target == 'format/base/log.h' and path.startswith('format/')
          and room != 'format/base'):
        yield 'format/ never logs ("format/base/log.h")'


def check_foreign(room, target):
    """One include of somebody else's header."""
    for name, headers, homes in HOMES:
        if re.match(headers, target) and room is not None \
                and room not in homes:
            where = ', '.join(homes) if homes else 'tests'
            yield f'<{target}>: {name} is known to {where} alone'


def check_prints(path, text):
    """Calls that print, where nothing may."""
    if not re.match(r'(format|fs)/', path) or MAY_PRINT.match(path):
        return
    for number, line in enumerate(
            source.without_comments_and_strings(text).split('\n'), 1):
        call = PRINTS.search(line)
        if call is None and path.startswith('format/') \
                and not path.startswith('format/base/log.'):
            call = LOG_CALL.search(line)
        if call:
            yield number, f'{call[0].rstrip("( ")}(): this room does not print'


def check_file(root, path):
    """All complaints about one file, as (line, sentence)."""
    text = source.read(root, path)
    if text is None:
        yield 1, 'not UTF-8 text'
        return
    room = room_of(path)
    if room is not None and room not in TABLE:
        yield 1, f'{room} is no room of the table'
        return
    code = source.without_comments(text)
    for match in INCLUDE.finditer(code):
        number = code.count('\n', 0, match.start(1)) + 1
        named = re.fullmatch(r'"([^"]+)"|<([^>]+)>', match[1])
        if named is None:
            yield number, f'cannot read this include: {match[1]}'
        elif named[1] is not None:
            for sentence in check_own(root, path, room, named[1]):
                yield number, sentence
        else:
            if os.path.isfile(os.path.join(root, named[2])):
                yield number, f'<{named[2]}>: ours is written in quotes'
            for sentence in check_foreign(room, named[2]):
                yield number, sentence
    yield from check_prints(path, text)


def check(root):
    """All complaints about a tree."""
    for path in source.files(root, source.C_SUFFIXES):
        for number, sentence in check_file(root, path):
            yield f'{path}:{number}: {sentence}'


if __name__ == '__main__':
    sys.exit(source.report(check(source.root_argument())))

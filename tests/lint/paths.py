#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds that a name is looked up once. Another user may exchange names in a
store, or in the folder that a save goes to, at any moment. So format/base/
beneath.c alone opens files and changes owner or mode; all others hold a
descriptor, and name what lies in its folder by one name."""

import re
import sys

sys.dont_write_bytecode = True
import source  # noqa: E402

HOME = 'format/base/beneath.c'

# Calls, and what to use instead.
OPEN = 'use snap_open_below(), or snap_open_named() for what a user typed'
CHANGE = 'use snap_set_owner() or snap_set_mode()'
AT = 'use the call that takes the descriptor of a folder'
FORBIDDEN = {
    **dict.fromkeys(['open', 'creat', 'openat', 'openat2', 'fopen', 'freopen',
                     'opendir', 'g_open', 'g_fopen', 'g_creat', 'g_dir_open',
                     'mkstemp', 'mkostemp', 'g_mkstemp', 'g_mkstemp_full',
                     'g_file_set_contents', 'g_file_set_contents_full'], OPEN),
    **dict.fromkeys(['chown', 'lchown', 'fchown', 'fchownat', 'chmod',
                     'lchmod', 'fchmod', 'fchmodat', 'fchmodat2', 'g_chmod'],
                    CHANGE),
    **dict.fromkeys(['mkdir', 'mknod', 'mkfifo', 'symlink', 'link', 'rename',
                     'remove', 'truncate', 'g_mkdir', 'g_mkdir_with_parents',
                     'g_rename', 'g_remove', 'g_unlink', 'g_rmdir'], AT),
}
# In the process that serves others, nothing else goes by a path either.
IN_FS = dict.fromkeys(['stat', 'lstat', 'access', 'unlink', 'rmdir', 'statfs',
                       'statvfs', 'realpath', 'utimes'], AT)
IN_FS['snap_open_named'] = 'use snap_open_below(): nobody has typed this'

# What a user types, and the machine's own files.
TYPED = re.compile(r'tools/|fs/mount/|fs/fuse/ready\.c$')

ALLOWED = {
    # The store, as the command line names it.
    ('fs/catalog/catalog.c', 'snap_open_named'),
    # Of /proc.
    ('fs/hot/watch.c', 'fopen'),
    # /dev/null in place of a closed stdin, which children are to have too.
    ('format/base/start.c', 'open'),
    # An errno that means the same as it is not let through.
    ('fs/plain/descriptor.c', 'AT_FDCWD'),
    # /proc's path of a descriptor: linkat(2) with AT_EMPTY_PATH asks for more
    # rights.
    ('fs/plain/ordinary.c', 'AT_FDCWD'),
}

CALL = re.compile(r'(?<![\w>.])(\w+)\s*\(')
# Calls with a folder and a name, and a literal in them that is a path.
NAMED = re.compile(
    r'\b(snap_open_below|snap_open_regular|snap_read_file|snap_make_below|'
    r'(?:fstat|unlink|mkdir|mknod|symlink|readlink|rename|link|faccess)at2?)'
    r'\s*\([^;{}()]*(?:\([^;{}()]*\)[^;{}()]*)*?"[^"\n]*/[^"\n]*"')


def forbidden_in(path):
    """The calls that a file may not make."""
    if path == HOME:
        return {}
    return FORBIDDEN if TYPED.match(path) or not path.startswith('fs/') \
        else {**FORBIDDEN, **IN_FS}


def check_file(path, text):
    """All complaints about one file, as (line, sentence)."""
    forbidden = forbidden_in(path)
    code = source.without_comments_and_strings(text)
    for match in CALL.finditer(code):
        why = forbidden.get(match[1])
        if why and (path, match[1]) not in ALLOWED:
            yield match.start(), f'{match[1]}(): {why}'
    if path == HOME:
        return
    for match in re.finditer(r'\bAT_FDCWD\b', code):
        if (path, 'AT_FDCWD') not in ALLOWED:
            yield match.start(), f'AT_FDCWD: {AT}'
    for match in NAMED.finditer(source.without_comments(text)):
        yield match.start(), f'{match[1]}(): one name, not a path'


def check(root):
    """All complaints about a tree."""
    for path in source.files(root, source.C_SUFFIXES):
        text = source.read(root, path)
        if text is None or not re.match(r'(format|fs|tools)/', path):
            continue
        for at, sentence in check_file(path, text):
            number = text.count('\n', 0, at) + 1
            yield f'{path}:{number}: {sentence}'


if __name__ == '__main__':
    sys.exit(source.report(check(source.root_argument())))

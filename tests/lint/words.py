#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds that the tree speaks of itself alone and of what is: no folders of
one machine, no numbers of a tracker, no notes to finish later. And that each
source file says under which licence it stands."""

import re
import sys

sys.dont_write_bytecode = True
import source  # noqa: E402

# Written in pieces, so that this file holds none of them.
WORDS = [
    ('a folder of one machine',
     r'(?<![\w.$}])/(' 'work' r'|root|home/\w+|Users/\w+)(?=/)'),
    ('a number of a tracker',
     r'(?i)\b(issue|ticket|bug|pull request)s?[ #]+\d+\b'),
    ('a note to finish later', r'\b(TO' r'DO|FIX' r'ME|XX' r'X|HA' r'CK)\b'),
]
NOT_OURS = re.compile(r'COPYING$|tests/data/|tests/fuzz/corpus/')
LICENCE = 'SPDX-License-Identifier: ' 'GPL-2.0-or-later'
NEED_LICENCE = source.C_SUFFIXES + ('.py', '.sh', '.S', '.s')


def check_words(path, text):
    """Words that do not belong into the tree."""
    for number, line in enumerate(text.split('\n'), 1):
        for what, pattern in WORDS:
            match = re.search(pattern, line)
            if match:
                yield f'{path}:{number}: {what}: {match[0]}'


def check(root):
    """All complaints about a tree."""
    scripts = set(source.scripts(root, 'sh') + source.scripts(root, 'python'))
    for path in source.files(root):
        if NOT_OURS.match(path):
            continue
        text = source.read(root, path)
        if text is None:
            continue
        yield from check_words(path, text)
        if path in scripts or path.endswith(NEED_LICENCE):
            if LICENCE not in '\n'.join(text.split('\n')[:5]):
                yield f'{path}:1: no line "{LICENCE}"'


if __name__ == '__main__':
    sys.exit(source.report(check(source.root_argument())))

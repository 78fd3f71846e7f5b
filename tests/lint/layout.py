#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds the layout of C to .clang-format, but for the files whose columns are
aligned by hand (.clang-format-ignore)."""

import fnmatch
import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
import source  # noqa: E402


def patterns(root, name):
    """The lines of a pattern file, comments left out."""
    text = source.read(root, name) or ''
    return [line for line in text.split('\n')
            if line and not line.startswith('#')]


def check(root, program):
    """All complaints about a tree, one a file."""
    by_hand = patterns(root, '.clang-format-ignore')
    paths = [path for path in source.files(root, source.C_SUFFIXES)
             if not any(fnmatch.fnmatch(path, p) for p in by_hand)]
    if not paths:
        return
    done = subprocess.run(
        [program, '--style=file', '--dry-run', '--Werror'] + paths,
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False)
    places = {}
    for match in re.finditer(r'^(\S+?):(\d+):\d+: error:', done.stdout, re.M):
        places.setdefault(match[1], set()).add(int(match[2]))
    for path, lines in places.items():
        numbers = ', '.join(map(str, sorted(lines)))
        yield f'{path}: lines to lay out anew: {numbers}'
    if done.returncode and 'error:' not in done.stdout:
        yield f'{program} failed: {done.stdout}'


def main():
    """The whole test."""
    root = os.path.abspath(source.root_argument())
    program = os.environ.get('CLANG_FORMAT') or shutil.which(
        'clang-format-14') or shutil.which('clang-format')
    if not program:
        source.skip('clang-format is not installed')
    status = source.report(check(root, program))
    if status:
        print(f'to mend: {os.path.basename(program)} -i FILE')
    return status


if __name__ == '__main__':
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds the spelling of all text of the tree, by codespell; .codespellrc names
words that it takes for wrong and are not."""

import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
import source  # noqa: E402

NOT_OURS = re.compile(r'COPYING$|tests/data/|tests/fuzz/corpus/')


def check(root):
    """All complaints about a tree, in codespell's own words."""
    paths = [path for path in source.files(root)
             if not NOT_OURS.match(path) and source.read(root, path)]
    if not paths:
        return
    done = subprocess.run(
        ['codespell', '--check-filenames', '--disable-colors', '--'] + paths,
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False)
    if done.returncode:
        yield from (l for l in done.stdout.split('\n') if '==>' in l)
        if '==>' not in done.stdout:
            yield f'codespell failed: {done.stdout}'


if __name__ == '__main__':
    if not shutil.which('codespell'):
        source.skip('codespell is not installed')
    sys.exit(source.report(check(os.path.abspath(source.root_argument()))))

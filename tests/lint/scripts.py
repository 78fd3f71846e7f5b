#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds that every shell script passes shellcheck, and that every Python file
compiles."""

import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
import source  # noqa: E402


def check_shell(root):
    """shellcheck's complaints, in its own words."""
    paths = source.scripts(root, 'sh')
    if not paths:
        return
    done = subprocess.run(
        ['shellcheck', '--external-sources', '--source-path=SCRIPTDIR',
         '--format=gcc', '--'] + paths,
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False)
    if done.returncode:
        yield from filter(None, done.stdout.split('\n'))


def check_python(root):
    """Python files that do not compile."""
    for path in source.scripts(root, 'python'):
        try:
            compile(source.read(root, path) or '', path, 'exec')
        except (SyntaxError, ValueError) as error:
            yield f'{path}: {error}'


def check(root):
    """All complaints about a tree."""
    yield from check_python(root)
    yield from check_shell(root)


if __name__ == '__main__':
    if not shutil.which('shellcheck'):
        source.skip('shellcheck is not installed')
    sys.exit(source.report(check(os.path.abspath(source.root_argument()))))

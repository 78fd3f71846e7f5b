# SPDX-License-Identifier: GPL-2.0-or-later
"""What the lint tests share: which files are the tree, and C without its
comments. A check is a function that yields complaints; report() prints them
and makes the exit status."""

import os
import re
import subprocess
import sys

SKIP = 77
C_SUFFIXES = ('.c', '.h')

_TOKEN = re.compile(
    r'''(?P<comment>//[^\n]*|/\*.*?\*/)'''
    r'''|(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')''', re.S)


def _is_build_folder(path):
    return os.path.isdir(os.path.join(path, 'meson-private'))


def _git_ignored(root, paths):
    """Those of `paths` that git leaves out; none where there is no git."""
    if not paths or not os.path.exists(os.path.join(root, '.git')):
        return set()
    try:
        done = subprocess.run(
            ['git', '-c', 'safe.directory=*', 'check-ignore', '--stdin', '-z'],
            cwd=root, input='\0'.join(paths) + '\0', stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, check=False)
    except OSError:
        return set()
    return set(done.stdout.split('\0'))


def files(root, suffixes=None):
    """The tree's own files, as paths from its root, sorted."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            f for f in folders
            if f not in ('.git', '__pycache__', 'subprojects')
            and not _is_build_folder(os.path.join(folder, f)))
        for name in sorted(names):
            path = os.path.join(folder, name)
            if name == '.git':  # of a worktree: it says where git keeps it
                continue
            if suffixes and not name.endswith(tuple(suffixes)):
                continue
            if os.path.isfile(path) and not os.path.islink(path):
                found.append(os.path.relpath(path, root))
    ignored = _git_ignored(root, found)
    return [path for path in found if path not in ignored]


def read(root, path):
    """A file's text, or None where it is not text."""
    with open(os.path.join(root, path), 'rb') as f:
        data = f.read()
    if b'\0' in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def scripts(root, interpreter):
    """Files that say in their first line that `interpreter` runs them, and
    those with its suffix."""
    suffix = {'sh': '.sh', 'python': '.py'}[interpreter]
    shebang = re.compile(
        rb'#!.*\b' + {'sh': rb'(ba|da)?sh\b', 'python': rb'python3?\b'}
        [interpreter])
    found = []
    for path in files(root):
        if path.endswith(suffix):
            found.append(path)
            continue
        with open(os.path.join(root, path), 'rb') as f:
            if shebang.match(f.readline(200)):
                found.append(path)
    return found


def _blank(text):
    return re.sub(r'[^\n]', ' ', text)


def without_comments(text):
    """C with its comments made blank; every line keeps its number."""
    return _TOKEN.sub(
        lambda m: _blank(m[0]) if m['comment'] is not None else m[0], text)


def without_comments_and_strings(text):
    """The same, with the insides of strings made blank as well."""
    return _TOKEN.sub(
        lambda m: _blank(m[0]) if m['comment'] is not None
        else m[0][0] + _blank(m[0][1:-1]) + m[0][-1], text)


def report(complaints):
    """Prints complaints; the exit status of a test."""
    count = 0
    for complaint in complaints:
        print(complaint)
        count += 1
    if count:
        print(f'{count} complaint{"s" if count > 1 else ""}')
    return 1 if count else 0


def skip(reason):
    """Ends a test that cannot run here."""
    print(f'SKIP: {reason}')
    sys.exit(SKIP)


def root_argument():
    """The tree to look at: the first argument, or the one this lies in."""
    here = os.path.dirname(os.path.abspath(__file__))
    return sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, '../..')

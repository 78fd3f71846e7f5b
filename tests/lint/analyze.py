#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: analyze.py ROOT BUILD

Holds C to clang's static analyser, the one behind scan-build: each file of
the house is looked at as the build compiles it, tests left out. Of leaks it
knows nothing, since it does not see what __attribute__((cleanup)) frees; those
are AddressSanitizer's to find."""

import concurrent.futures
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
import source  # noqa: E402

TAKES_VALUE = ('-I', '-D', '-U', '-isystem', '-include')
KEPT = re.compile(r'-(I|D|U|isystem|include|std=|pthread$|m32$)')
LEAK = re.compile(r'warning: Potential leak of memory ')
MODEL = 'tests/lint/model.h'
MODELLED = 'format/base/error.c'
HOUSE = ('format/', 'fs/', 'tools/')


def kept_arguments(words):
    """The arguments of a compilation that say what is compiled; how it is
    optimised, warned about or instrumented is of no matter."""
    kept = []
    words = iter(words)
    for word in words:
        if KEPT.match(word):
            kept.append(word)
            if word in TAKES_VALUE:
                kept.append(next(words, ''))
    return kept


def compilations(root, build):
    """{path from the root: (folder, arguments)} of the house's files."""
    found = {}
    with open(os.path.join(build, 'compile_commands.json'),
              encoding='utf-8') as f:
        for entry in json.load(f):
            full = os.path.join(entry['directory'], entry['file'])
            path = os.path.relpath(os.path.realpath(full), root)
            if path.startswith(HOUSE) and path.endswith('.c'):
                found[path] = (entry['directory'],
                               kept_arguments(shlex.split(entry['command'])))
    return found


def analyze(root, path, folder, arguments):
    """The analyser's warnings about one file."""
    if path != MODELLED:
        arguments = arguments + ['-I', root, '-include', MODEL]
    done = subprocess.run(
        ['clang', '--analyze', '-Xclang', '-analyzer-output=text',
         '-Wno-everything'] + arguments + [os.path.join(root, path)],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False)
    text = done.stdout.replace(root + '/', '')
    # A warning's first line, and all that explains it, up to the next one.
    found = re.split(r'^(?=\S+:\d+:\d+: (?:warning|error):)', text, flags=re.M)
    found = [w for w in found[1:] if not LEAK.search(w.split('\n')[0])]
    if done.returncode and not found:
        return f'{path}: clang failed: {text}'
    return ''.join(found).rstrip()


def check(root, build):
    """All complaints about a build of a tree."""
    jobs = compilations(root, build)
    count = len(os.sched_getaffinity(0))
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        said = pool.map(lambda p: analyze(root, p, *jobs[p]), sorted(jobs))
        yield from filter(None, said)


if __name__ == '__main__':
    if not shutil.which('clang'):
        source.skip('clang is not installed')
    sys.exit(source.report(check(os.path.realpath(sys.argv[1]), sys.argv[2])))

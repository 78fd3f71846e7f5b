#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: options.py PROGRAM PAGE [PROGRAM PAGE]...

Holds that --help and the man page's source tell the same: each option and
verb that a program's --help names stands in its page, and each that the page
defines is named by --help. And what a person expects of a command line:
--help goes to stdout, within 80 columns, and succeeds; an error goes to
stderr, and fails."""

import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
import source  # noqa: E402

COLUMNS = 80
OPTION = re.compile(r'(?<![\w\-*`/])(--[a-z][\w-]*|-[A-Za-z0-9])(?![\w-])')
# In a line that begins with an option, or lists the mount's after -o.
DEFINES = re.compile(r'^\s*[*`]*--?\w')
HEADING = re.compile(r'^(\w[\w ]*?)(?: *\((.*)\))?:\s*$')


def run(*command):
    """Runs a program with nothing to read."""
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, errors='replace', timeout=60,
        check=False)


def plain(text):
    """reStructuredText without the marks that make words bold or literal."""
    return re.sub(r'[*`\\]', '', text)


def sections(text):
    """{heading: its indented lines} of a help text."""
    found, lines = {}, None
    for line in text.split('\n'):
        heading = HEADING.match(line)
        if heading:
            lines = found.setdefault(heading[1].lower(), [])
        elif lines is not None and line.strip():
            if line[0] == ' ':
                lines.append(line)
            else:
                lines = None
    return found


def first_words(lines):
    """The words that the least indented of these lines begin with."""
    least = min((len(l) - len(l.lstrip()) for l in lines), default=0)
    for line in lines:
        if len(line) - len(line.lstrip()) == least:
            yield re.split(r'[\s=,|\[]', line.strip())[0]


def verbs_of(text):
    """The verbs that a help text lists."""
    listed = sections(text)
    for name in ('verbs', 'commands'):
        if name in listed:
            return [w for w in first_words(listed[name]) if w.isalpha()]
    return []


def mount_options_of(text):
    """The options after -o that a help text lists."""
    found = []
    for name, lines in sections(text).items():
        if 'mount options' in name:
            found += [w for w in first_words(lines)
                      if re.fullmatch(r'[a-z]\w*', w)]
    return found


def options_of(text):
    """The options that a help text names."""
    return set(OPTION.findall(text))


def defined_by_page(page):
    """The options that a page defines: those at the start of a line."""
    found = set()
    for line in page.split('\n'):
        if DEFINES.match(line):
            term = re.split(r'\s{2,}', plain(line).strip())[0]
            found |= options_of(term)
    return found


def check_help(words):
    """(complaints, text) of a program's --help."""
    said = []
    done = run(*words, '--help')
    name = ' '.join([os.path.basename(words[0])] + words[1:])
    if done.returncode:
        said.append(f'{name} --help fails: {done.returncode}')
    if done.stderr:
        said.append(f'{name} --help writes to stderr: {done.stderr.strip()}')
    if not done.stdout.strip():
        said.append(f'{name} --help writes nothing to stdout')
    for line in done.stdout.split('\n'):
        if len(line.expandtabs()) > COLUMNS:
            said.append(f'{name} --help: wider than {COLUMNS}: {line.strip()}')
    return said, done.stdout


def check_error(words, wrong):
    """Complaints about how a program takes an argument that is wrong."""
    done = run(*words, wrong)
    name = ' '.join([os.path.basename(words[0])] + words[1:] + [wrong])
    if done.returncode == 0:
        yield f'{name} succeeds'
    if done.stdout:
        yield f'{name} writes to stdout: {done.stdout.strip()}'
    if not done.stderr.strip():
        yield f'{name} writes nothing to stderr'


def check_program(program, page_path):
    """All complaints about a program and its page."""
    if not os.path.exists(page_path):
        yield f'{page_path}: no such page'
        return
    with open(page_path, encoding='utf-8') as f:
        page = f.read()
    words_of_page = plain(page)
    name, page_name = os.path.basename(program), os.path.basename(page_path)
    said, text = check_help([program])
    yield from said
    yield from check_error([program], '--no-such-option')
    verbs = verbs_of(text)
    mount_options = mount_options_of(text)
    for verb in verbs:
        said, more = check_help([program, verb])
        yield from said
        yield from check_error([program, verb], '--no-such-option')
        text += more
        if not re.search(rf'\b{name} {verb}\b', words_of_page):
            yield f'{page_name}: no verb {verb}'
    if verbs:
        yield from check_error([program], 'no-such-verb')
    in_page = options_of(words_of_page)
    for option in sorted(options_of(text) - in_page):
        yield f'{page_name}: no {option}, which {name} --help names'
    for option in sorted(defined_by_page(page) - options_of(text)):
        yield f'{name} --help: no {option}, which {page_name} defines'
    for option in mount_options:
        if not re.search(rf'(?<![\w-]){option}\b', words_of_page):
            yield f'{page_name}: no -o {option}, which {name} --help names'


def check(pairs):
    """All complaints about (program, page) pairs."""
    for program, page in pairs:
        yield from check_program(program, page)


if __name__ == '__main__':
    ARGUMENTS = sys.argv[1:]
    sys.exit(source.report(check(zip(ARGUMENTS[::2], ARGUMENTS[1::2]))))

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds that a door says what it does: each function declared in a header of
format/ and fs/ has a comment directly above it. Lines of the preprocessor may
stand between the two. Declarations that follow each other without a blank line
(a struct, and the function that returns it) share the comment above the first;
a name that ends in _free, _ref or _unref says it all."""

import re
import sys

sys.dont_write_bytecode = True
import source  # noqa: E402

NOT_A_FUNCTION = re.compile(
    r'\s*(typedef\b|_Static_assert\b|static_assert\b)')
SAYS_IT_ALL = re.compile(r'\w+_(free|ref|unref)$')
FUNCTION = re.compile(r'[\w\s*]*?\b(\w+)\s*\((?!\s*\*)')


def statements(code):
    """(offset, text) of each statement in the outermost scope; a body in
    braces ends one as a semicolon does."""
    depth = 0
    start = 0
    for at, char in enumerate(code):
        if char == '{':
            depth += 1
        elif char == '}':
            depth -= 1
        ends = char == ';' and depth == 0
        if char == '}' and depth == 0:
            # The end of a function's body; of a struct's, the semicolon ends.
            ends = not code[at + 1:].lstrip().startswith((';', ',', '='))
            ends = ends and '(' in code[start:at].split('{')[0]
        if ends:
            text = code[start:at + 1]
            lead = len(text) - len(text.lstrip())
            yield start + lead, text.lstrip()
            start = at + 1


def without_preprocessor(code):
    """C with the preprocessor's lines made blank, continued ones too, and uses
    of macros that define something: G_DEFINE_AUTOPTR_CLEANUP_FUNC(...)."""
    return re.sub(r'^(?:[ \t]*#(?:\\\n|[^\n])*|[A-Z][A-Z0-9_]+\([^;{]*?\)$)',
                  lambda m: re.sub(r'[^\n]', ' ', m[0]), code, flags=re.M)


def has_comment_above(lines, number):
    """Whether the line above `number` (from 0), the preprocessor's left out,
    ends a comment."""
    above = number - 1
    while above >= 0 and lines[above].lstrip().startswith('#'):
        above -= 1
    if above < 0:
        return False
    line = lines[above].strip()
    return line.endswith('*/') or line.startswith('//')


def check_file(root, path):
    """(line, name) of each door in a header that says nothing."""
    text = source.read(root, path) or ''
    lines = text.split('\n')
    code = without_preprocessor(source.without_comments_and_strings(text))
    said_until = -2  # the last line of a declaration with a comment
    for offset, statement in statements(code):
        number = code.count('\n', 0, offset)
        if has_comment_above(lines, number) or number == said_until + 1:
            said_until = number + statement.count('\n')
            continue
        head = statement.split('{')[0]
        match = FUNCTION.match(head)
        if match and not NOT_A_FUNCTION.match(head) and '=' not in head \
                and not SAYS_IT_ALL.match(match[1]):
            yield number + 1, match[1]


def check(root):
    """All complaints about a tree."""
    for path in source.files(root, ['.h']):
        if path.startswith(('format/', 'fs/')):
            for number, name in check_file(root, path):
                yield f'{path}:{number}: {name}() says not what it does'


if __name__ == '__main__':
    sys.exit(source.report(check(source.root_argument())))

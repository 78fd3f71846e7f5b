#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds that files do not run in a circle, and that no call runs up the table
of includes.py: neither do headers that include each other, nor files that call
each other's functions or use each other's tables.

A file uses what stands in its bodies, initialisers and macros, also by way of
the macros and inline functions of headers; a prototype alone is no use. What
it defines as static is its own. A definition begins in the first column, as
.clang-format lays it out."""

import collections
import re
import sys

sys.dont_write_bytecode = True
import includes  # noqa: E402
import source  # noqa: E402

# Not members of a struct, which follow a dot or an arrow.
NAME = re.compile(r'g_autoptr\(\w+\)|(?<![.\w])(?<!->)[A-Za-z_]\w*')
# g_autoptr(TYPE) uses the function that frees one.
AUTOPTR = re.compile(
    r'\bG_DEFINE_AUTOPTR_CLEANUP_FUNC\((\w+),\s*(\w+)\)')
DIRECTIVE = re.compile(r'^[ \t]*#(?:\\\n|[^\n])*', re.M)
DEFINE = re.compile(r'[ \t]*#[ \t]*define[ \t]+(\w+)(\([^)]*\))?(.*)', re.S)
# Before a function: G_GNUC_PRINTF(2, 0), G_GNUC_WARN_UNUSED_RESULT, …
ATTRIBUTE = re.compile(r'\b(__attribute__\s*\(\(.*?\)\)'
                       r'|[A-Z][A-Z0-9_]+\s*\([^()]*\)|G_GNUC_\w+)', re.S)
TYPE_ALONE = re.compile(r'\s*(typedef\b|(struct|union|enum)\s*\w*\s*$)')
# Each program has one.
MAIN = 'main'


class File:
    """What a file defines and what it uses."""

    def __init__(self, path, text):
        self.path = path
        self.room = includes.room_of(path)
        self.defines = set()      # for others to use
        self.own = set()          # static
        self.bodies = {}          # macros and inline functions → names in them
        self.uses = set()
        code = source.without_comments_and_strings(text)
        for kind, free in AUTOPTR.findall(code):
            self.bodies[f'g_autoptr({kind})'] = {free}
        for directive in DIRECTIVE.finditer(code):
            self.read_macro(directive[0])
        self.read(DIRECTIVE.sub(lambda m: re.sub(r'[^\n]', ' ', m[0]), code))

    def read_macro(self, directive):
        """A macro's body is used where the macro is; in a .c file, here."""
        macro = DEFINE.match(directive)
        if macro:
            self.bodies[macro[1]] = set(NAME.findall(macro[3]))

    def read(self, code):
        """Goes through what stands in the outermost scope."""
        depth = start = brace = 0
        head = None               # of what is between braces, or was just now
        for mark in re.finditer(r'[{};]', code):
            at, char = mark.start(), mark[0]
            if char == '{':
                if depth == 0 and head is None:
                    head, brace = code[start:at], at
                depth += 1
            elif char == '}':
                depth -= 1
                if depth == 0 and is_function(head):
                    self.read_function(head, code[brace:at])
                    head, start = None, at + 1
            elif depth == 0:
                if head is None:
                    self.read_data(code[start:at], '')
                else:
                    self.read_data(head, code[brace:at])
                head, start = None, at + 1

    def read_function(self, head, body):
        """A function, with what stands before its body."""
        found = re.search(r'(\w+)\s*\(', ATTRIBUTE.sub(' ', head))
        names = set(NAME.findall(body))
        if not found:
            return
        if re.search(r'\bstatic\b', head):
            self.own.add(found[1])
        else:
            self.defines.add(found[1])
        if self.path.endswith('.h'):
            self.bodies[found[1]] = names
        else:
            self.uses |= names

    def read_data(self, head, body):
        """A variable, a table, a prototype or a type."""
        if TYPE_ALONE.match(head):
            return
        head, _, value = ATTRIBUTE.sub(' ', head).partition('=')
        self.uses |= set(NAME.findall(value + body))
        pointer = re.search(r'\(\s*\*\s*(?:const\s+)?(\w+)', head)
        words = re.findall(r'\w+', re.sub(r'\[.*?\]', ' ', head))
        if len(words) < 2 or re.search(r'\bextern\b', head) \
                or ('(' in head and not pointer):
            return
        static = re.search(r'\bstatic\b', head)
        (self.own if static else self.defines).add(
            pointer[1] if pointer else words[-1])


def is_function(head):
    """Whether a body follows this, and not the values of a variable."""
    return head is not None and '(' in head and '=' not in head


def read_tree(root):
    """(the .c files, the headers) of the house."""
    files = [File(path, source.read(root, path) or '')
             for path in source.files(root, source.C_SUFFIXES)
             if includes.room_of(path) is not None]
    return ([f for f in files if f.path.endswith('.c')],
            [f for f in files if f.path.endswith('.h')])


def expand(names, bodies):
    """Names, and those in the macros and inline functions among them."""
    found = set()
    new = set(names)
    while new:
        found |= new
        new = set().union(*(bodies[n] for n in new if n in bodies)) - found
    return found


def may_include(room, other):
    """Whether the table lets one room include another."""
    return other == room or other in includes.TABLE.get(room, ())


def calls(files, headers):
    """The arrows between .c files: {from: {to: a name that is used}}."""
    homes = collections.defaultdict(list)
    for file in files:
        for name in file.defines - {MAIN}:
            homes[name].append(file)
    inlines = {}
    for header in headers:
        inlines.update(header.bodies)
    arrows = collections.defaultdict(dict)
    for file in files:
        uses = file.uses.union(*file.bodies.values())
        bodies = {n: b for n, b in inlines.items() if n not in file.own}
        for name in sorted(expand(uses - file.own, bodies)):
            if name in file.own or name in file.defines:
                continue
            # Two programs may each have one of that name.
            below = [home for home in homes.get(name, ())
                     if may_include(file.room, home.room)]
            for home in below or homes.get(name, ()):
                arrows[file.path].setdefault(home.path, name)
    return arrows


def included(root, headers):
    """The arrows between headers."""
    paths = {header.path for header in headers}
    arrows = collections.defaultdict(dict)
    for path in paths:
        code = source.without_comments(source.read(root, path) or '')
        for found in includes.INCLUDE.finditer(code):
            target = found[1].strip('"<>')
            if target in paths:
                arrows[path][target] = 'includes'
    return arrows


def reach(arrows, start, inside):
    """What can be reached from a file: {file: the file before it}; the start is
    among them when a circle leads back to it, and then the shortest does."""
    before = {}
    queue = collections.deque([start])
    while queue:
        at = queue.popleft()
        for to in sorted(arrows.get(at, ())):
            if to in inside and to not in before:
                before[to] = at
                queue.append(to)
    return before


def circles(arrows):
    """Each set of files of which every one leads to every other, as the path
    of its shortest circle and the set."""
    nodes = set(arrows)
    while nodes:
        start = min(nodes)
        forth = reach(arrows, start, nodes)
        together = {n for n in forth if start in reach(arrows, n, nodes)} \
            if start in forth else set()
        nodes -= together or {start}
        if len(together) < 2:
            continue
        paths = []
        for node in sorted(together):
            before, path = reach(arrows, node, together), [node]
            while len(path) < 2 or path[-1] != node:
                path.append(before[path[-1]])
            paths.append(path[::-1])
        yield min(paths, key=len), together


def check_circles(arrows):
    """A sentence for each set of files that run in a circle."""
    for path, together in circles(arrows):
        text = path[0] + ''.join(f' -> {to} ({arrows[at][to]})'
                                 for at, to in zip(path, path[1:]))
        more = len(together) - len(path) + 1
        yield f'{text}{f"; {more} more files are tied to it" if more else ""}'


def check_rooms(files, arrows):
    """A sentence for each call that runs up the table."""
    rooms = {file.path: file.room for file in files}
    for at in sorted(arrows):
        for to, name in sorted(arrows[at].items()):
            if rooms[at] in includes.TABLE and not may_include(rooms[at],
                                                               rooms[to]):
                yield (f'{at}: uses {name} of {to}: {rooms[at]} may not '
                       f'include {rooms[to]}')


def check(root):
    """All complaints about a tree."""
    files, headers = read_tree(root)
    arrows = calls(files, headers)
    yield from check_circles(included(root, headers))
    yield from check_circles(arrows)
    yield from check_rooms(files, arrows)


if __name__ == '__main__':
    sys.exit(source.report(check(source.root_argument())))

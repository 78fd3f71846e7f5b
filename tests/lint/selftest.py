#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds the lint itself: over a small tree with faults planted in it, each
check names them all, and over the same tree without them it is silent."""

import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
import circles  # noqa: E402
import doors  # noqa: E402
import includes  # noqa: E402
import options  # noqa: E402
import paths  # noqa: E402
import sizes  # noqa: E402
import source  # noqa: E402
import words  # noqa: E402

LICENCE = '/* SPDX-License-Identifier: ' 'GPL-2.0-or-later */\n'

GOOD = {
    'format/base/error.h': '/* Says no. */\nint snap_fail(int code);\n',
    'format/base/log.h': '/* One line. */\nvoid snap_log(int level);\n',
    'format/base/log.c': '#include "format/base/log.h"\n#include <stdio.h>\n'
                         'void snap_log(int level)\n{\n'
                         '\tfprintf(stderr, "%d", level);\n}\n',
    'format/store/store.h': '#include "format/base/error.h"\n',
    'format/store/uring.c': '#include <liburing.h>\n',
    'format/image/image.h': '#include "format/store/store.h"\n',
    'format/image/map-internal.h': '',
    'format/image/frame.c': '#include <zstd.h>\n'
                            '#include "format/image/map-internal.h"\n',
    'format/qemu/parse.h': '#include "format/base/error.h"\n',
    'fs/node/node.h': '#include "format/base/error.h"\n',
    'fs/plain/plain.h': '#include "fs/node/node.h"\n',
    'fs/view/view.h': '#include "format/image/image.h"\n'
                      '#include "fs/plain/plain.h"\n',
    'fs/incoming/incoming.h': '#include "fs/plain/plain.h"\n',
    'fs/tree/tree.h': '#include "fs/view/view.h"\n'
                      '#include "fs/incoming/incoming.h"\n',
    'fs/fuse/ops.c': '#include <fuse_lowlevel.h>\n'
                     '#include "fs/tree/tree.h"\n'
                     '#include "format/base/log.h"\n',
    'fs/mount/main.c': '#include <stdio.h>\n'
                       'int main(void)\n{\n\tputs("help");\n}\n',
    'tools/cli/verb.h': '#include "format/base/error.h"\n',
    'tools/store/place.h': '#include "tools/cli/verb.h"\n'
                           '#include "fs/tree/tree.h"\n',
    'tools/guest/json.c': '#include <json-glib/json-glib.h>\n'
                          '#include "tools/store/place.h"\n',
    'tools/snapfs.c': '#include "tools/cli/verb.h"\n',
    'tools/bridge/main.c': '#include "format/qemu/parse.h"\n',
    'tests/unit/any.c': '#include <cmocka.h>\n#include <zstd.h>\n'
                        '#include "format/image/map-internal.h"\n',
}

# A planted file, and what must be said about it.
BAD_INCLUDES = [
    ('format/qemu/parse.c', '#include "format/image/image.h"\n',
     'format/qemu may not include format/image'),
    ('format/qemu/parse.c', '#include <zstd.h>\n', 'zstd is known to'),
    ('format/qemu/parse.c', '\n\n  #  include <zstd.h>\n', 'parse.c:3:'),
    ('format/store/a.c', '#include "format/base/log.h"\n', 'never logs'),
    ('format/store/a.c', '#include "error.h"\n', 'no such file'),
    ('format/store/a.c', '#include "../base/error.h"\n', 'no such file'),
    ('format/store/a.c', '#include <format/base/error.h>\n', 'in quotes'),
    ('format/image/a.c', 'void f(void)\n{\n\tprintf("x");\n}\n', 'a.c:3: '),
    ('format/image/a.c', 'void f(void)\n{\n\tg_warning("x");\n}\n',
     'does not print'),
    ('format/image/a.c', 'void f(void)\n{\n\tsnap_log(1);\n}\n',
     'does not print'),
    ('format/image/a.c', '#include <liburing.h>\n', 'liburing is known to'),
    ('format/image/a.c', '#include "fs/view/view.h"\n',
     'format/image may not include fs/view'),
    ('format/other/a.c', '', 'no room of the table'),
    ('fs/view/a.c', '#include <fuse_lowlevel.h>\n', 'libfuse is known to'),
    ('fs/view/a.c', '#include "fs/fuse/../view/view.h"\n',
     'fs/view may not include'),
    ('fs/fuse/a.c', '#include "format/image/image.h"\n',
     'fs/fuse may not include format/image'),
    ('fs/mount/a.c', '#include <fuse.h>\n', 'libfuse is known to'),
    ('fs/save/a.c', '#include "format/image/map-internal.h"\n',
     'is internal to format/image'),
    ('fs/save/a.c', '#include <json-glib/json-glib.h>\n',
     'json-glib is known to'),
    ('fs/save/a.c', '#include "tests/unit/any.c"\n', 'outside of the house'),
    ('fs/fuse/a.c', '#include "fs/view/view.h"\n',
     'fs/fuse may not include fs/view'),
    ('fs/plain/a.c', '#include "fs/view/view.h"\n',
     'fs/plain may not include fs/view'),
    ('fs/view/a.c', '#include "fs/incoming/incoming.h"\n',
     'fs/view may not include fs/incoming'),
    ('fs/save/a.c', '#include "fs/tree/tree.h"\n',
     'fs/save may not include fs/tree'),
    ('fs/a.c', '', 'no room of the table'),
    ('tools/ls.c', '', 'no room of the table'),
    ('tools/cli/a.c', '#include "tools/store/place.h"\n',
     'tools/cli may not include tools/store'),
    ('tools/store/a.c', '#include "fs/fuse/ops.c"\n',
     'tools/store may not include fs/fuse'),
    ('tools/store/a.c', '#include "tools/snapfs.c"\n',
     'tools/store may not include tools/snapfs.c'),
    ('tools/store/a.c', '#include <json-glib/json-glib.h>\n',
     'json-glib is known to tools/guest alone'),
    ('tools/bridge/a.c', '#include "fs/view/view.h"\n',
     'tools/bridge may not include fs/view'),
]

BAD_DOORS = [
    ('format/base/a.h', '/* Far. */\n\nint a(void);\n', 'a.h:3: a()'),
    ('format/base/a.h', '/* One. */\nint a(void);\n\nint b(int c);\n', ' b()'),
    ('format/base/a.h', 'struct a {\n\tint a;\n};\nint b(int c);\n', ' b()'),
    ('fs/load/a.h', 'static inline int a(void)\n{\n\treturn 0;\n}\n', ' a()'),
    ('fs/load/a.h', 'struct a;\nstruct a *\na_new(int b,\n\tint c);\n',
     'a_new()'),
]

GOOD_DOORS = '''/* A room. */
#pragma once
#define A(x) \\
\tf(x)
#include <glib.h>
typedef int (*a_fn)(int);
typedef struct SnapA SnapA;
struct a {
\tint (*f)(int a);
\tint b;
};
extern int c;
_Static_assert(sizeof(struct a) == 16, "a");
/* Makes one. */
#if A
SnapA *snap_a_new(const char *name, GError **error)
\tG_GNUC_WARN_UNUSED_RESULT;
#endif
void snap_a_free(SnapA *a);
// Says which.
int snap_a_which(const SnapA *a,
	int b);
int snap_a_where(const SnapA *a);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapA, snap_a_free)
/* The same, here. */
static inline int snap_a_same(int a)
{
\tif (a) {
\t\treturn 1;
\t}
\treturn 0;
}
'''

BAD_WORDS = [
    ('README.md', 'see /' 'root/x\n', 'a folder of one machine'),
    ('README.md', 'see /home' '/me/x\n', 'a folder of one machine'),
    ('README.md', 'as Issue' ' #3 says\n', 'a number of a tracker'),
    ('README.md', 'TO' 'DO: more\n', 'a note to finish later'),
    ('format/base/a.c', 'int a;\n', 'no line "SPDX'),
]


def plant(root, tree):
    """Writes {path: text} below a folder."""
    for path, text in tree.items():
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, 'w', encoding='utf-8') as f:
            f.write(text)


def function(lines):
    """A C function with a body of so many lines."""
    return 'int f(int a)\n{\n' + '\ta++;\n' * lines + '}\n'


class Lint(unittest.TestCase):
    """Each test is a sentence about the lint."""

    def said(self, check, tree):
        """What a check says about a tree."""
        with tempfile.TemporaryDirectory() as root:
            plant(root, tree)
            return '\n'.join(check(root))

    def expect_each(self, check, good, bad):
        """Nothing of the good tree; of each planted file, its sentence."""
        self.assertEqual(self.said(check, good), '')
        for path, text, expected in bad:
            with self.subTest(path=path, text=text):
                said = self.said(check, {**good, path: text})
                self.assertIn(expected, said)
                self.assertEqual(said.count('\n'), 0, said)

    def test_names_each_include_past_the_table(self):
        self.expect_each(includes.check, GOOD, BAD_INCLUDES)

    def test_reads_no_include_and_no_call_in_a_comment_or_a_string(self):
        text = ('/*\n#include <zstd.h>\n*/\n// printf(\n'
                'const char *a = "printf(";\n')
        self.assertEqual(
            self.said(includes.check, {'format/base/a.c': text}), '')

    def test_names_each_door_that_says_nothing(self):
        self.expect_each(doors.check, {'fs/view/good.h': GOOD_DOORS},
                         BAD_DOORS)

    def test_names_each_name_that_is_looked_up_twice(self):
        self.expect_each(paths.check, GOOD_PATHS, BAD_PATHS)

    def test_measures_files_and_functions(self):
        long_file = '\n' * (sizes.FILE_LINES + 1)
        good = {'format/a.c': function(sizes.LONG_BODY_LINES) * 9}
        self.assertEqual(self.said(sizes.check, good), '')
        self.assertIn('601 lines',
                      self.said(sizes.check, {'format/b.c': long_file}))
        self.assertIn('f() has 61 lines',
                      self.said(sizes.check, {'format/b.c': function(61)}))
        self.assertIn('2 of 11 functions', self.said(
            sizes.check, {**good, 'format/b.c': function(50) * 2}))

    def test_measures_rooms(self):
        def room(path, lines):
            half = '\n' * (lines // 2)
            return {f'{path}/a.c': half, f'{path}/a.h': half}

        self.assertEqual(self.said(sizes.check_rooms, {
            **room('fs/view', 2400), **room('fs/save', 9000),
            **room('tools/bridge', 1400), **room('tools/guest', 9000)}), '')
        self.assertEqual(
            self.said(sizes.check_rooms, room('fs/view', 2402)),
            'fs/view: 2402 lines, more than 2400')
        self.assertIn('2402 lines',
                      self.said(sizes.check, room('fs/hot', 2402)))
        self.assertIn('1402 lines',
                      self.said(sizes.check, room('tools/bridge', 1402)))

    def test_names_each_word_that_does_not_belong(self):
        self.expect_each(
            words.check, {'format/base/b.c': LICENCE, 'COPYING': 'XX' 'X'},
            BAD_WORDS)

    def test_leaves_build_folders_out(self):
        tree = {'out/meson-private/a': '', 'out/a.c': '', 'a.c': ''}
        with tempfile.TemporaryDirectory() as root:
            plant(root, tree)
            self.assertEqual(source.files(root), ['a.c'])


def calls(name, *bodies):
    """A C function of that name with these lines in it."""
    lines = ''.join(f'\t{body}\n' for body in bodies)
    return f'int {name}(struct s *p, int n)\n{{\n{lines}}}\n\n'


# b calls a, and a nobody, though it looks like it.
CALM = {
    'fs/plain/a.h': 'int snap_a(int n);\n',
    'fs/plain/b.h': '#include "fs/plain/a.h"\nint snap_b(int n);\n',
    'fs/plain/a.c': '#include "fs/plain/b.h"\n'
                    'int snap_b(int n);\n'
                    'extern int (*const snap_b)(int n);\n'
                    'struct s {\n\tint snap_b;\n};\n'
                    'typedef int (*snap_b)(int n);\n'
                    'static ' + calls('step', 'return n;') +
                    calls('snap_a', '/* snap_b() */', 'puts("snap_b()");',
                          'p->snap_b = (struct s){ .snap_b = 1 }.snap_b;',
                          'return step(p, n);'),
    'fs/plain/b.c': calls('step', 'return snap_a(n);') +
                    'static ' + calls('other', 'return n;') +
                    calls('snap_b', 'return other(p, step(p, n));'),
    'fs/view/v.c': calls('snap_v', 'return snap_a(n);') +
                   calls('other', 'return n;'),
    'fs/mount/main.c': calls('main', 'return n;'),
    'tools/bridge/main.c': calls('main', 'return n;'),
}

A_AND_B = 'fs/plain/a.c -> fs/plain/b.c ({}) -> fs/plain/a.c (snap_a)'

# Files by descriptor; a planted file, and what must be said about it.
GOOD_PATHS = {
    'format/base/beneath.c': 'int f(void)\n{\n\treturn open(p, 0) + '
                             'chmod(p, 0) + openat(AT_FDCWD, p, 0);\n}\n',
    'fs/plain/a.c': 'int f(void)\n{\n\treturn snap_open_below(d, "name", 0, '
                    '0) + node->ops->open(node) + mkdirat(d, "name", 0) + '
                    'reopen(d); /* open(p) */\n}\n',
    'fs/mount/a.c': 'int f(void)\n{\n\treturn stat(p, &st) + '
                    'snap_open_named("/dev/null", 0, 0);\n}\n',
    'tools/guest/a.c': 'int f(void)\n{\n\treturn unlink(p) + '
                       'snap_open_named(p, 0, 0);\n}\n',
}
BAD_PATHS = [
    ('fs/plain/b.c', '\nint a = open(p, 0);\n', 'b.c:2: open():'),
    ('fs/plain/b.c', 'int a = openat(d, n, O_NOFOLLOW);\n', 'openat():'),
    ('fs/plain/b.c', 'FILE *a = fopen (p, "r");\n', 'fopen():'),
    ('format/store/b.c', 'int a = fchownat(d, n, 1, 1, 0);\n', 'fchownat():'),
    ('fs/catalog/b.c', 'int a = fchmodat(d, n, 1, 0);\n', 'fchmodat():'),
    ('tools/guest/b.c', 'int a = chown(p, 1, 1);\n', 'chown():'),
    ('tools/guest/b.c', 'int a = mkdir(p, 1);\n', 'mkdir():'),
    ('tools/store/b.c', 'int a = rename(p, q);\n', 'rename():'),
    ('tools/store/b.c', 'int a = g_file_set_contents(p, t, 1, e);\n',
     'g_file_set_contents():'),
    ('fs/tree/b.c', 'int a = stat(p, &st);\n', 'stat():'),
    ('fs/view/b.c', 'int a = snap_open_named(p, 0, 0);\n',
     'snap_open_named():'),
    ('fs/view/b.c', 'int a = unlinkat(AT_FDCWD, p, 0);\n', 'AT_FDCWD:'),
    ('fs/catalog/b.c', 'int a = mkdirat(d, ".snapfs/tmp", 0);\n',
     'one name'),
    ('fs/catalog/b.c', 'int a = snap_open_below(\n\td, "a/b", 0, 0);\n',
     'one name'),
    ('fs/catalog/b.c', 'int a = faccessat(d, NAME "/lock", 0, 0);\n',
     'one name'),
]

# Lines behind those of one file, and what must be said then.
BAD_CALLS = [
    ('fs/plain/a.c', calls('g', 'return snap_b(n);'), A_AND_B.format('snap_b')),
    ('fs/plain/a.c', 'G_GNUC_PRINTF(1, 2)\nvoid\ng(const char *format,\n'
     '  ...)\n{\n\tsnap_b(1);\n}\n', A_AND_B.format('snap_b')),
    ('fs/plain/a.c', 'static int (*const list[])(int) = { snap_b };\n',
     A_AND_B.format('snap_b')),
    ('fs/plain/a.c', 'int (*g)(int) = snap_b;\n', A_AND_B.format('snap_b')),
    ('fs/plain/a.c', 'static const struct ops ops = {\n\t.f = snap_b,\n};\n',
     A_AND_B.format('snap_b')),
    ('fs/plain/a.c', '#define G(n) \\\n\tsnap_b(n)\n',
     A_AND_B.format('snap_b')),
    ('fs/plain/a.h', '#define snap_a_not(n) !snap_b(n)\n', ''),
    ('fs/mount/main.c', calls('g', 'return snap_v(p, n);'),
     'fs/mount may not include fs/view'),
    ('fs/plain/b.c', 'int snap_v(int n);\n' +
     calls('g', 'return snap_v(n);'),
     'fs/plain/b.c: uses snap_v of fs/view/v.c: fs/plain may not include'),
    ('fs/plain/a.h', '#include "fs/plain/b.h"\n',
     'fs/plain/a.h -> fs/plain/b.h (includes) -> fs/plain/a.h (includes)'),
]


class Circles(Lint):
    """The check of circles, over two files of which one calls the other."""

    def said_of(self, *added):
        """What the check says with lines added to files: (path, lines)."""
        tree = dict(CALM)
        for path, text in added:
            tree[path] = tree.get(path, '') + text
        return self.said(circles.check, tree)

    def test_is_silent_where_calls_go_one_way(self):
        self.assertEqual(self.said_of(), '')

    def test_names_each_circle_and_each_call_up_the_table(self):
        for path, text, expected in BAD_CALLS:
            with self.subTest(path=path, text=text):
                said = self.said_of((path, text))
                self.assertIn(expected, said)
                self.assertEqual((said != '', said.count('\n')),
                                 (expected != '', 0), said)

    def test_follows_what_headers_hold(self):
        for text, use, name in (
                ('#define B(n) C(n)\n#define C(n) snap_b(n)\n', 'B(1);',
                 'snap_b'),
                ('static inline ' + calls('b', 'return snap_b(n);'),
                 'return b(p, n);', 'snap_b'),
                ('G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapB, snap_b)\n',
                 'g_autoptr(SnapB) b = NULL;', 'snap_b')):
            with self.subTest(text=text):
                self.assertEqual(self.said_of(
                    ('fs/plain/b.h', text), ('fs/plain/a.c', calls('g', use))),
                    A_AND_B.format(name))

    def test_follows_a_table_through_a_third_file(self):
        table = 'const struct ops snap_ops[] = {\n\t{ snap_b, 1 },\n};\n'
        self.assertEqual(
            self.said_of(('fs/plain/c.c', table),
                         ('fs/plain/a.c', calls('g', 'f(&snap_ops[0]);'))),
            'fs/plain/a.c -> fs/plain/c.c (snap_ops) -> fs/plain/b.c (snap_b)'
            ' -> fs/plain/a.c (snap_a)')

    def test_names_the_shortest_and_counts_the_rest(self):
        said = self.said_of(
            ('fs/plain/a.c', calls('g', 'return snap_c(n);', 'snap_d(n);')),
            ('fs/plain/c.c', calls('snap_c', 'return snap_b(p, n);')),
            ('fs/plain/d.c', calls('snap_d', 'return snap_a(n);')))
        self.assertEqual(said, 'fs/plain/a.c -> fs/plain/d.c (snap_d) -> '
                               'fs/plain/a.c (snap_a); 2 more files are tied '
                               'to it')


PROGRAM = '''#!/bin/sh
case "$*" in
--help) cat <<END
usage: thing VERB [--json]

verbs:
  ls    lists
{line}
END
;;
'ls --help') echo 'usage: thing ls [-l, --long]' ;;
*) echo "no such thing: $*" >&{stream}; exit {status} ;;
esac
'''
PAGE = '''thing
=====
``thing ls`` [**-l**] lists.

**-l**, **--long**
   more
--json
   as JSON
'''


class Options(unittest.TestCase):
    """The check of command lines, over a program of three lines."""

    def said(self, page=PAGE, line='', stream=2, status=1):
        """What the check says about such a program."""
        with tempfile.TemporaryDirectory() as root:
            program = os.path.join(root, 'thing')
            text = PROGRAM.format(line=line, stream=stream, status=status)
            plant(root, {'thing': text, 'thing.1.rst': page})
            os.chmod(program, 0o755)
            return '\n'.join(options.check([(program, program + '.1.rst')]))

    def test_is_silent_where_help_and_page_agree(self):
        self.assertEqual(self.said(), '')

    def test_names_what_one_of_them_lacks(self):
        self.assertIn('no --json', self.said(PAGE.replace('--json', 'x')))
        self.assertIn('no --more', self.said(PAGE + '\n**--more**\n  x\n'))
        self.assertIn('no verb ls', self.said(PAGE.replace('thing ls', 'x')))
        self.assertIn('no verb rm', self.said(line='  rm    removes'))
        self.assertIn('no -o buffer', self.said(
            line='\nmount options:\n  buffer=SIZE  size'))

    def test_names_bad_manners(self):
        self.assertIn('wider than 80', self.said(line='x' * 81))
        self.assertIn('writes to stdout', self.said(stream=1))
        self.assertIn('succeeds', self.said(status=0))


if __name__ == '__main__':
    unittest.main()

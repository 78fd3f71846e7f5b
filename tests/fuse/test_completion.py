#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Completion in bash and zsh: lines typed at a terminal, with TAB in them. In place of each
program stands a script that gives the real one's --help, and else tells what it was called with."""
import os
import pty
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lint'))
sys.dont_write_bytecode = True

import harness  # noqa: E402
import options  # noqa: E402

COMPLETIONS = os.path.join(harness.ROOT, 'completions')
PROGRAMS = {'snapfs': ('tools', 'snapfs'), 'snapfs-bridge': ('tools', 'snapfs-bridge'),
            'mount.snapfs': ('fs', 'mount', 'mount.snapfs')}
STUB = '''#!/bin/sh
for last; do :; done
[ "$last" != --help ] || exec {program} "$@"
printf '%s\\0' "$@" >{said}.new
mv {said}.new {said}
'''
# The keys: TAB, and one that puts all that may stand there into the line.
TAB, ALL = '\t', '\x18a'
BASH = '''
bind 'set completion-query-items -1'
bind '"\\C-xa": insert-completions'
. {completions}/snapfs
'''
ZSH = '''
fpath=({completions} $fpath)
autoload -Uz compinit
compinit -u -D
zstyle ':completion:all:*' insert true
zstyle ':completion:all::::' completer _all_matches _complete
zle -C all complete-word _generic
bindkey '^I' complete-word
bindkey '^Xa' all
'''


class Terminal:
    """A shell at a terminal of its own."""

    def __init__(self, case, name, start, *command):
        self.folder = case.path(name)
        self.said = os.path.join(self.folder, 'said')
        os.mkdir(self.folder)
        for program, path in PROGRAMS.items():
            self.write(program, STUB.format(program=harness.build_path(*path), said=self.said))
        self.write('.zshrc', start.format(completions=COMPLETIONS))
        self.master, slave = pty.openpty()
        case.addCleanup(os.close, self.master)
        os.set_blocking(self.master, False)
        case.start_process(
            harness.need_program(name), *command, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, cwd=case.work,
            env={'PATH': f"{self.folder}:{os.environ['PATH']}", 'TERM': 'dumb', 'LC_ALL': 'C.UTF-8',
                 'ZDOTDIR': self.folder, 'HOME': case.work})
        os.close(slave)
        self.shown = b''

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, 'w') as file:
            file.write(text)
        os.chmod(path, 0o755)

    def has_answered(self):
        """Whether a program was called; takes what the shell shows meanwhile."""
        try:
            self.shown += os.read(self.master, 1 << 16)
        except BlockingIOError:
            pass
        return os.path.exists(self.said)

    def type(self, line):
        """The arguments of the program that is called in the end."""
        os.write(self.master, line.encode() + b'\n')
        try:
            harness.wait_until(self.has_answered, 30, 'an answer')
        except TimeoutError:
            raise AssertionError(f'{line!r}: {self.shown.decode(errors="replace")}') from None
        with open(self.said, 'rb') as file:
            words = file.read().decode().split('\0')[:-1]
        os.unlink(self.said)
        return words


class Completion(harness.Case):
    """What both shells do; the store is `store` in the working folder."""

    NAMES = ['ci/base', 'it\'s "one"', 'my first', 'my second', 'vm1']

    def setUp(self):
        super().setUp()
        for name in self.NAMES + ['.snapfs/tmp/x']:
            os.makedirs(self.path('store', name))
            with open(self.path('store', name, 'snapshot.zst'), 'w'):
                pass
        with open(self.path('store.txt'), 'w'):
            pass
        self.terminal = self.open_terminal()
        self.assertEqual(self.type('snapfs ready'), ['ready'])

    def type(self, line):
        return self.terminal.type(line)

    def test_a_verb_is_completed_from_its_first_letters(self):
        self.assertEqual(self.type(f'snapfs re{TAB}x'), ['revert', 'x'])
        self.assertEqual(sorted(self.type(f'snapfs {ALL} .'))[-9:], sorted(
            ['save', 'revert', 'ls', 'info', 'verify', 'map', 'export', 'import',
             'flatten']))

    def test_each_program_and_verb_has_the_options_of_its_help(self):
        help_of_all = harness.run(harness.build_path('tools', 'snapfs'), '--help').stdout
        for line in ['snapfs ', 'snapfs-bridge ', 'mount.snapfs '] + [
                f'snapfs {verb} ' for verb in options.verbs_of(help_of_all)]:
            name, *verb = line.split()
            text = harness.run(harness.build_path(*PROGRAMS[name]), *verb, '--help').stdout
            words = self.type(f'{line}--{ALL} .')
            self.assertEqual({word.split('=')[0] for word in words[len(verb):-1]},
                             {one for one in options.options_of(text) if one[:2] == '--'}, line)

    def test_names_of_snapshots_are_those_of_the_store_whatever_is_in_them(self):
        self.assertEqual(self.type(f'snapfs info store {ALL}')[2:], self.NAMES)
        self.assertEqual(self.type(f'snapfs info store my{TAB}f{TAB}x')[2:], ['my first', 'x'])
        self.assertEqual(self.type(f'snapfs info store it{TAB}x')[2:], ['it\'s "one"', 'x'])
        self.assertEqual(self.type(f'snapfs ls --json store "my f{TAB}x')[3:], ['my first', 'x'])
        self.assertEqual(self.type(f'snapfs export -f ram store c{TAB}x')[4:], ['ci/base', 'x'])

    def test_a_store_is_a_folder(self):
        self.assertEqual(self.type(f'snapfs verify sto{TAB}')[1].rstrip('/'), 'store')

    def test_a_value_is_one_of_those_that_the_help_lists(self):
        for line in ('snapfs revert --way=b', 'snapfs revert --way b', 'snapfs revert -w b'):
            self.assertEqual(self.type(f'{line}{TAB}x'), f'{line}ridge x'.split()[1:])
        self.assertEqual(self.type(f'snapfs export --form m{TAB}x')[2:], ['mapped', 'x'])

    def test_mount_options_are_completed_one_after_the_other(self):
        self.assertEqual(self.type(f'mount.snapfs -o in{TAB}')[1], 'increments')
        self.assertEqual(self.type(f'mount.snapfs -o allow_other,in{TAB}')[1],
                         'allow_other,increments')
        self.assertEqual(self.type(f'mount.snapfs -o ro,loglevel=d{TAB}')[1], 'ro,loglevel=debug')
        self.assertEqual(self.type(f'mount.snapfs -o ro,idl{TAB}1')[1], 'ro,idle=1')
        self.assertEqual(self.type(f'mount.snapfs sto{TAB}')[0].rstrip('/'), 'store')


class BashTest(Completion):
    def open_terminal(self):
        return Terminal(self, 'bash', BASH, '--noprofile', '--rcfile', self.path('bash', '.zshrc'),
                        '-i')


class ZshTest(Completion):
    def open_terminal(self):
        return Terminal(self, 'zsh', ZSH, '-i')


del Completion

if __name__ == '__main__':
    harness.main()

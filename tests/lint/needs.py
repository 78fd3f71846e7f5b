#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds that tests/needs knows no mirror by itself: it takes the one that apt
has Debian from, and where there is none it says what to add, and fails."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
import source  # noqa: E402

NEEDS = os.path.join(os.path.abspath(source.root_argument()), 'tests/needs')
# Nothing is asked of a server: what apt has read is made here.
ADD = '. "$1"; backports_list=$2; apt_update() { :; }; add_backports'
RELEASE = '''Origin: {origin}
Codename: {release}
Suite: {suite}
Components: main contrib
Architectures: amd64
Date: Sat, 10 Jun 2023 10:00:00 UTC
SHA256:
 {sum} 0 main/binary-amd64/Packages
 {sum} 0 contrib/binary-amd64/Packages
'''
MIRROR = 'http://mirror.invalid/debian'


class Backports(unittest.TestCase):
    """Each test has sources of its own, which apt has read."""

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.write('apt.conf', f'Dir::Etc::sourcelist "{self.folder}/list";\n'
                   'Dir::Etc::sourceparts "/dev/null";\n'
                   'APT::Architecture "amd64";\n'
                   f'Dir::State::lists "{self.folder}/read";\n')
        os.makedirs(os.path.join(self.folder, 'read', 'partial'))
        self.write('list', '')

    def write(self, name, text):
        """Adds to a file of the test."""
        path = os.path.join(self.folder, name)
        with open(path, 'a', encoding='utf-8') as file:
            file.write(text)

    def source(self, uri, suite, component='main', release=None,
               origin='Debian'):
        """A line of sources.list, and what apt has read of it."""
        self.write('list', f'deb {uri} {suite} {component}\n')
        begin = uri.split('://')[-1].replace('/', '_')
        begin = f'read/{begin}_dists_{suite}'
        self.write(f'{begin}_InRelease', RELEASE.format(
            origin=origin, release=release or suite, suite=suite,
            sum='0' * 64))
        self.write(f'{begin}_{component}_binary-amd64_Packages', '')

    def add(self):
        """(exit status, what is said, the line that is added)."""
        added = os.path.join(self.folder, 'added')
        done = subprocess.run(
            ['bash', '-c', ADD, 'bash', NEEDS, added], text=True,
            env={**os.environ, 'APT_CONFIG': f'{self.folder}/apt.conf'},
            stderr=subprocess.PIPE, check=False)
        if not os.path.exists(added):
            return done.returncode, done.stderr, None
        with open(added, encoding='utf-8') as file:
            line = file.read().split('\n')[1]
        return done.returncode, done.stderr, re.sub(r'\[.*\] ', '', line)

    def check_added(self, line):
        """It succeeds, and adds this line."""
        status, said, added = self.add()
        self.assertEqual((status, added), (0, line), said)

    def test_the_mirror_is_that_of_debian(self):
        self.source('http://shop.invalid', 'bookworm', origin='Shop')
        self.source('http://new.invalid/debian', 'trixie')
        self.source('http://security.invalid/debian', 'bookworm-security')
        self.source(MIRROR, 'bookworm')
        self.check_added(f'deb {MIRROR} bookworm-backports main')

    def test_the_release_may_be_named_by_its_suite(self):
        self.source(MIRROR, 'oldstable', release='bookworm')
        self.check_added(f'deb {MIRROR} bookworm-backports main')

    def test_what_is_there_is_not_added(self):
        self.source(MIRROR, 'bookworm')
        self.source(MIRROR, 'bookworm-backports', origin='Debian Backports')
        self.check_added(None)

    def test_without_a_mirror_it_says_what_to_add(self):
        for uri, suite, component, origin in (
                (None, '', '', ''),
                ('http://new.invalid/debian', 'trixie', 'main', 'Debian'),
                (MIRROR, 'bookworm', 'contrib', 'Debian'),
                ('http://shop.invalid', 'bookworm', 'main', 'Shop')):
            if uri:
                self.source(uri, suite, component, origin=origin)
            status, said, added = self.add()
            self.assertEqual((status, added), (1, None))
            self.assertRegex(said, r'Add this line to .*/added, .*\n'
                                   r'.* deb MIRROR bookworm-backports main\n$')

    def test_it_names_no_address(self):
        with open(NEEDS, encoding='utf-8') as file:
            self.assertNotRegex(file.read(), r'://|debian\.org')


if __name__ == '__main__':
    if not shutil.which('apt-get'):
        source.skip('apt-get is not installed')
    unittest.main(argv=sys.argv[:1])

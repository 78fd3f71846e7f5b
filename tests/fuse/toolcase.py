# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of the program snapfs share: a store that is not mounted."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness  # noqa: E402
import makestream  # noqa: E402

MIB = 1 << 20
FAILED, USAGE = 1, 2


def setUpModule():
    harness.build_path('tools', 'snapfs')


def read_file(path):
    with open(path, 'rb') as file:
        return file.read()


def write_file(path, data):
    with open(path, 'wb') as file:
        file.write(data)


class Done:
    """What a run of snapfs came to; its output as bytes, and as text."""

    def __init__(self, done):
        self.status = done.returncode
        self.bytes = done.stdout or b''
        self.out = self.bytes.decode(errors='surrogateescape')
        self.error = done.stderr.decode(errors='surrogateescape')

    def __repr__(self):
        return f'status {self.status}\n{self.out[:2000]}{self.error[:2000]}'


class ToolCase(harness.Case):
    """`self.store` is an empty store, `self.data` a stream."""

    def setUp(self):
        super().setUp()
        self.store = self.path('store')
        os.mkdir(self.store)
        self.guest = makestream.Guest({'pc.ram': 4 * MIB, 'vga.vram': MIB}, seed=1)
        self.data = makestream.stream(self.guest)

    def snapfs(self, *arguments, data=b'', **options):
        """Runs `snapfs …` to its end; `data` is its standard input."""
        if 'stdin' not in options:
            options['input'] = data
        if 'stdout' not in options:
            options['stdout'] = subprocess.PIPE
        return Done(subprocess.run([self.program(), *map(os.fsencode, arguments)],
                                   stderr=subprocess.PIPE, timeout=60, check=False, **options))

    def program(self):
        return harness.build_path('tools', 'snapfs')

    def succeed(self, *arguments, **options):
        done = self.snapfs(*arguments, **options)
        self.assertEqual((done.status, done.error), (0, ''), done)
        return done

    def fail_with(self, pattern, *arguments, status=FAILED, **options):
        """Fails with one sentence (two lines where it is about usage), which
        matches."""
        done = self.snapfs(*arguments, **options)
        self.assertEqual(done.status, status, done)
        self.assertRegex(done.error, pattern)
        lines = done.error.splitlines()
        self.assertEqual(len(lines), 2 if status == USAGE else 1, done.error)
        self.assertTrue(lines[0].startswith('snapfs: '), done.error)
        return done

    def save(self, name='vm1', data=None):
        self.succeed('import', self.store, name, data=self.data if data is None else data)

    def json(self, *arguments, status=0):
        done = self.snapfs(*arguments, '--json')
        self.assertEqual(done.status, status, done)
        return json.loads(done.out)

    def names(self, *arguments):
        return [one['name'] for one in self.json('ls', self.store, *arguments)['snapshots']]

    def image(self, name='vm1'):
        return os.path.join(self.store, name, 'snapshot.zst')

    def flip(self, name='vm1', offset=None):
        """Flips a bit of a snapshot's file; returns where."""
        data = bytearray(read_file(self.image(name)))
        offset = len(data) // 3 if offset is None else offset
        data[offset] ^= 0x10
        write_file(self.image(name), data)
        return offset

    def check_nothing_left(self, *names):
        """The store holds these names and nothing half made."""
        self.assertEqual(sorted(os.listdir(self.store)), sorted(['.snapfs', *names]))
        self.assertEqual(os.listdir(os.path.join(self.store, '.snapfs', 'tmp')), [])

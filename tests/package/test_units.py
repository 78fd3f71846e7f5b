#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""systemd finds no fault in the units, and says how exposed they are."""
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from harness import ROOT, need_program, run

UNITS = os.path.join(ROOT, 'systemd')
# Of 10, as `systemd-analyze security` counts: what the units came to, rounded up.
MOST_OF_VERIFY, MOST_OF_MOUNT = 1.5, 5.8
# What makes a mount namespace, in which the mount alone would be seen
# (systemd.exec(5): each says so, or that it implies PrivateMounts=).
NAMESPACE = re.compile(
    r'^(Private(Tmp|Devices|Mounts|Network|IPC)|Protect(System|Home|Kernel\w+|ControlGroups|Proc)|'
    r'ProcSubset|MountFlags|(Read\w+|Inaccessible|Exec|NoExec|Bind\w*)Paths|TemporaryFileSystem|'
    r'Root\w+|DynamicUser|\w+Directory)=', re.M)


def read(*names):
    with open(os.path.join(*names), encoding='utf-8') as file:
        return file.read()


class Units(harness.Case):
    def setUp(self):
        super().setUp()
        need_program('systemd-analyze')
        # The programs that the units name need not be installed.
        service = read(UNITS, 'snapfs-verify@.service.in').replace('@bindir@/snapfs', '/bin/true')
        self.write('snapfs-verify@.service', service)
        for name in ('snapfs-verify@.timer', 'snaps.mount', 'snaps.automount'):
            shutil.copy(os.path.join(UNITS, name), self.work)

    def write(self, name, text):
        with open(self.path(name), 'w', encoding='utf-8') as file:
            file.write(text)

    def exposure(self, name):
        done = run('systemd-analyze', 'security', '--offline=true', '--no-pager', self.path(name))
        found = re.search(r'Overall exposure level for \S+: ([\d.]+)', done.stdout)
        self.assertTrue(found, done.stdout + done.stderr)
        return float(found[1])

    def test_systemd_finds_no_fault(self):
        for name in ('snapfs-verify@srv-store.service', 'snapfs-verify@srv-store.timer',
                     'snaps.mount', 'snaps.automount'):
            with self.subTest(name):
                template = re.sub('@.*[.]', '@.', name)
                if name != template:
                    shutil.copy(self.path(template), self.path(name))
                done = run('systemd-analyze', 'verify', '--man=no', self.path(name))
                mine = [line for line in (done.stdout + done.stderr).split('\n')
                        if 'snap' in line]
                self.assertEqual(mine, [])

    def test_the_check_may_do_little(self):
        shutil.copy(self.path('snapfs-verify@.service'), self.path('snapfs-verify@a.service'))
        self.assertLessEqual(self.exposure('snapfs-verify@a.service'), MOST_OF_VERIFY)

    def test_the_check_sees_a_store_wherever_it_lies(self):
        service = read(UNITS, 'snapfs-verify@.service.in')
        self.assertIsNone(re.search(
            r'^(PrivateTmp=|TemporaryFileSystem=|InaccessiblePaths=|ProtectHome=(yes|tmpfs))',
            service, re.M))

    def test_the_mount_may_do_no_more_than_it_needs(self):
        # systemd measures services only: a service with the same settings.
        settings = re.sub(r'^(What|Where|Type|Options)=.*\n', '', read(UNITS, 'snaps.mount'),
                          flags=re.M)
        self.write('measured.service',
                   settings.replace('[Mount]', '[Service]\nExecStart=/bin/true'))
        self.assertLessEqual(self.exposure('measured.service'), MOST_OF_MOUNT)

    def test_the_mount_is_seen_by_all(self):
        self.assertIsNone(NAMESPACE.search(read(UNITS, 'snaps.mount')))


if __name__ == '__main__':
    harness.main()

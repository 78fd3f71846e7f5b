#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""`snapfs revert` without QEMU. Whose command line it runs: a program that leaves a mark stands
in. What it makes of a QEMU that it rarely meets: tests/lib/fakeqemu.py plays one."""
import hashlib
import json
import os
import shutil

from fusecase import MIB, FuseCase, setUpModule  # noqa: F401
import harness
import makestream
from mount import tool

USER = 65534


class Users(FuseCase):
    """Two users: root, who reverts, and one who can write into a folder of the mount."""
    options = ('allow_other',)

    def setUp(self):
        harness.need_root()
        super().setUp()
        os.chmod(self.work, 0o711)
        os.chmod(self.mount.store, 0o777)
        self.mark = self.path('mark')
        self.program = self.path('qemu')
        with open(self.program, 'w') as file:
            file.write(f'#!/bin/sh\necho "$@" >>{self.mark}\n')
        os.chmod(self.program, 0o755)
        self.save()

    def vm(self, name='vm1', **more):
        """What a save writes for this snapshot, with the program for QEMU."""
        uuid = os.getxattr(self.snaps(name), 'user.snapfs.uuid').decode()
        return json.dumps({'snapfs-vm': 1, 'run-state': 'running', 'uuid': uuid, 'disks': [],
                           'command': [self.program, name], **more})

    def write(self, path, text):
        with open(path, 'w') as file:
            file.write(text)
        os.chmod(path, 0o600)

    def as_user(self, *words, **options):
        return self.run_ok(harness.need_program('setpriv'), f'--reuid={USER}', '--clear-groups',
                           *words, **options)

    def write_as_user(self, path, text):
        self.as_user('sh', '-c', 'umask 077; cat >"$1"', 'sh', path, input=text)

    def revert(self, name='vm1', folder=None):
        return tool('revert', folder or self.snaps(name))

    def assert_run(self, name='vm1', folder=None):
        """The program was run. It is no QEMU, so that the revert fails."""
        self.assertIn('QEMU has exited', self.revert(name, folder).stderr)
        self.assertTrue(os.path.exists(self.mark))
        os.unlink(self.mark)

    def assert_not_run(self, pattern, name='vm1', folder=None):
        done = self.revert(name, folder)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, pattern)
        self.assertFalse(os.path.exists(self.mark), 'the program was run')

    def mount_anew(self, *options):
        self.mount.options = ['allow_other', *options]
        self.mount.remount()

    def test_what_the_caller_wrote_is_run(self):
        self.write(self.snaps('vm1', 'vm.json'), self.vm())
        self.assert_run()
        for options in (['uid=0'], [f'uid={USER}'], ['umask=0']):
            with self.subTest(options):
                self.mount_anew(*options)
                self.assert_run()

    def test_what_another_user_wrote_is_not_run_whomever_the_mount_shows(self):
        os.chmod(self.store('vm1'), 0o777)
        self.write_as_user(self.snaps('vm1', 'vm.json'), self.vm())
        self.assert_not_run('vm.json: another user could have written it')
        for options in (['uid=0'], ['uid=0', 'gid=0', 'umask=077']):
            with self.subTest(options):
                self.mount_anew(*options)
                self.assertEqual(os.stat(self.snaps('vm1', 'vm.json')).st_uid, 0)
                self.assert_not_run('vm.json: another user could have written it')

    def test_what_others_can_write_is_not_run_whatever_the_mount_hides(self):
        self.write(self.snaps('vm1', 'vm.json'), self.vm())
        os.chmod(self.store('vm1', 'vm.json'), 0o620)
        self.mount_anew('umask=077')
        self.assertEqual(os.stat(self.snaps('vm1', 'vm.json')).st_mode & 0o777, 0o600)
        self.assert_not_run('vm.json: another user could have written it')

    def test_the_owner_in_the_store_cannot_be_forged(self):
        os.chmod(self.store('vm1'), 0o777)
        path = self.snaps('vm1', 'vm.json')
        self.write_as_user(path, self.vm())
        self.mount_anew('uid=0')
        self.assertEqual(os.getxattr(path, 'user.snapfs.owner'), b'%d:0:600' % USER)
        self.assertNotIn('user.snapfs.owner', os.listxattr(path))
        os.setxattr(self.store('vm1', 'vm.json'), 'user.snapfs.owner', b'0:0:600')
        self.assertEqual(os.getxattr(path, 'user.snapfs.owner'), b'%d:0:600' % USER)
        self.assertEqual(os.getxattr(self.snaps('vm1'), 'user.snapfs.owner'), b'0:0:777')
        self.assert_not_run('vm.json: another user could have written it')

    def test_a_link_to_the_file_of_another_guest_is_not_followed(self):
        self.save('vm2')
        self.write(self.snaps('vm2', 'vm.json'), self.vm('vm2'))
        os.chmod(self.store('vm1'), 0o777)
        self.as_user('ln', '-s', '../vm2/vm.json', self.snaps('vm1', 'vm.json'))
        self.assert_not_run('vm.json is not a regular file')
        os.unlink(self.snaps('vm1', 'vm.json'))
        self.as_user('mkfifo', self.snaps('vm1', 'vm.json'))
        self.assert_not_run('vm.json is not a regular file')

    def test_a_link_of_another_user_is_not_followed_whomever_the_mount_shows(self):
        self.write(self.snaps('vm1', 'vm.json'), self.vm())
        os.mkdir(self.snaps('open'))
        os.chmod(self.store('open'), 0o777)
        self.as_user('ln', '-s', '../vm1', self.snaps('open', 'link'))
        self.assert_not_run(f'open/link is a link of user {USER}', 'open/link')
        self.mount_anew('uid=0')
        self.assertEqual(os.lstat(self.snaps('open', 'link')).st_uid, 0)
        self.assert_not_run('a link that another user could have made', 'open/link')

    def test_a_link_that_no_other_user_could_have_made_is_followed(self):
        self.write(self.snaps('vm1', 'vm.json'), self.vm())
        os.mkdir(self.snaps('closed'))
        os.symlink('../vm1', self.snaps('closed', 'link'))
        for options in ([], ['uid=0'], [f'uid={USER}']):
            with self.subTest(options):
                self.mount_anew(*options)
                self.assert_run('closed/link')
        self.mount_anew()
        os.mkdir(self.snaps('open'))
        os.chmod(self.store('open'), 0o777)
        os.chown(self.store('open'), USER, USER)
        os.symlink('../vm1', self.snaps('open', 'link'))
        self.assert_run('open/link')

    def test_a_file_that_names_another_snapshot_is_refused(self):
        self.save('vm2')
        self.write(self.snaps('vm2', 'vm.json'), self.vm('vm2'))
        os.rename(self.snaps('vm2', 'vm.json'), self.snaps('vm1', 'vm.json'))
        self.assert_not_run('is of another snapshot than the one beside it')

    def test_a_snapshot_that_was_replaced_does_not_get_the_disks_of_the_old_one(self):
        self.write(self.snaps('vm1', 'vm.json'), self.vm())
        self.assert_run()
        self.save()
        self.assert_not_run('is of another snapshot than the one beside it')

    def test_a_file_that_the_caller_cannot_read_is_not_passed_over(self):
        """It may name disks that were frozen: they must not be used as they are now."""
        self.write(self.snaps('vm1', 'vm.json'), self.vm())
        os.chmod(self.store('vm1', 'snapshot.zst'), 0o644)
        done = harness.run('setpriv', f'--reuid={USER}', f'--regid={USER}', '--clear-groups',
                           harness.build_path('tools', 'snapfs'), 'revert', self.snaps('vm1'),
                           '--', self.program, env=dict(os.environ, TMPDIR='/tmp'))
        self.assertEqual(done.returncode, 1)
        self.assertIn('vm.json: Permission denied', done.stderr)
        self.assertFalse(os.path.exists(self.mark), 'the program was run')

    def test_a_copy_is_known_by_its_device_state(self):
        with open(self.snaps('vm1', 'devstate'), 'rb') as file:
            text = self.vm(devstate=hashlib.sha256(file.read()).hexdigest())
        self.write(self.snaps('vm1', 'vm.json'), text)
        os.chmod(self.store('vm1'), 0o777)   # others may exchange what is in it
        self.run_ok('cp', '-a', self.snaps('vm1'), self.path('copy'))
        self.assert_run(folder=self.path('copy'))
        self.run_ok('cp', '-a', self.path('copy'), self.snaps('vm3'))
        self.assert_run('vm3')
        with open(self.path('copy', 'devstate'), 'ab') as file:
            file.write(b'x')
        self.assert_not_run('is of another snapshot', folder=self.path('copy'))

    def test_a_file_of_an_earlier_version_needs_a_folder_that_nobody_else_can_change(self):
        text = json.loads(self.vm())
        del text['uuid']
        self.write(self.snaps('vm1', 'vm.json'), json.dumps(text))
        self.assert_run()
        shutil.copytree(self.snaps('vm1'), self.path('copy'))
        self.assert_run(folder=self.path('copy'))
        for change in (lambda: os.chmod(self.store('vm1'), 0o777),
                       lambda: os.chown(self.store('vm1'), USER, 0)):
            change()
            self.mount_anew('uid=0', 'umask=022')
            self.assert_not_run('does not say which snapshot it is of, and another user can exch')
            os.chmod(self.store('vm1'), 0o755)
        os.chown(self.store('vm1'), 0, 0)
        self.assert_run()

    # A user mounts, and root reverts there. The rest of the machine sees nothing of it.
    SCRIPT = """set -e
mount -t tmpfs none "$1"
mknod "$1/fuse" c 10 229
chmod 666 "$1/fuse"
mount --bind "$1/fuse" /dev/fuse
echo user_allow_other >"$1/fuse.conf"
[ -e /etc/fuse.conf ] && mount --bind "$1/fuse.conf" /etc/fuse.conf
setpriv --reuid="$2" --regid="$2" --clear-groups "$3" "$4" "$5" -o uid=0,allow_other
stat -c 'shown: %u %a' "$5/vm1/vm.json"
"$6" revert "$5/vm1"
"""

    def test_a_mount_of_another_user_is_not_believed(self):
        for program in ('setpriv', 'unshare', 'fusermount3'):
            harness.need_program(program)
        self.write(self.snaps('vm1', 'vm.json'), self.vm())
        self.mount.unmount()
        os.mkdir(self.path('private'))
        os.mkdir(self.path('theirs'))
        self.run_ok('chown', '-R', f'{USER}:{USER}', self.mount.store, self.path('theirs'))
        done = harness.run('unshare', '-m', 'sh', '-c', self.SCRIPT, 'sh', self.path('private'),
                           USER, harness.build_path('fs', 'mount', 'mount.snapfs'),
                           self.mount.store, self.path('theirs'),
                           harness.build_path('tools', 'snapfs'))
        self.assertEqual(done.stdout, 'shown: 0 600\n', done.stderr)
        self.assertRegex(done.stderr, f'its mount is served by user {USER}')
        self.assertFalse(os.path.exists(self.mark), 'the program was run')


class Played(FuseCase):
    """A program plays QEMU."""

    def setUp(self):
        super().setUp()
        self.save()
        self.play = self.path('play')

    def revert(self, *options, words=(), **script):
        """What was said, and what QEMU was asked."""
        with open(self.play, 'w') as file:
            json.dump(script, file)
        if os.path.exists(self.play + '.log'):
            os.unlink(self.play + '.log')
        program = os.path.join(harness.ROOT, 'tests', 'lib', 'fakeqemu.py')
        done = tool('revert', *options, self.snaps('vm1'), '--', program, self.play, *words,
                    env=dict(os.environ, TMPDIR=self.work))
        with open(self.play + '.log') as file:
            return done, [json.loads(line) for line in file]

    def continued(self, asked):
        return [name for name, _ in asked].count('cont')

    def test_a_guest_that_waits_for_cont_gets_it_once(self):
        for state in ('paused', 'prelaunch', 'postmigrate'):
            with self.subTest(state):
                done, asked = self.revert(states=['inmigrate', state, 'running'])
                self.assertIn('vm1 runs: ', done.stdout, done.stderr)
                self.assertEqual(self.continued(asked), 1)
                done, asked = self.revert(states=[state])
                self.assertRegex(done.stderr, f'does not continue the guest; its state is {state}')
                self.assertEqual((done.returncode, self.continued(asked)), (1, 1))

    def test_a_guest_that_is_there_but_does_not_run_is_named_by_its_state(self):
        for state in ('suspended', 'debug', 'guest-panicked', 'internal-error', 'io-error',
                      'shutdown', 'watchdog'):
            with self.subTest(state):
                for states in ([state], ['inmigrate', 'paused', state]):
                    done, asked = self.revert(states=states)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertIn(f'vm1 is back, {state}: ', done.stdout)
                    self.assertEqual(self.continued(asked), len(states) // 2)

    def test_a_state_to_which_no_revert_leads_is_an_error(self):
        for state in ('colo', 'finish-migrate', 'restore-vm', 'save-vm', 'of-the-future'):
            with self.subTest(state):
                done, asked = self.revert(states=[state])
                self.assertEqual(done.returncode, 1)
                self.assertRegex(done.stderr, f"QEMU's state is {state}, to which no revert")
                self.assertEqual(self.continued(asked), 0)

    def backends(self, *known):
        """What QEMU answers for memory backends: (id, type, properties)."""
        return {
            'qom-list': [{'name': name, 'type': f'child<memory-backend-{kind}>'}
                         for name, kind, _ in known] + [{'name': 'type', 'type': 'string'}],
            'qom-get': {'of': {json.dumps({'path': f'/objects/{name}', 'property': key},
                                          sort_keys=True): value
                               for name, _, about in known for key, value in about.items()}}}

    def uri(self, asked):
        (arguments,) = [about for name, about in asked if name == 'migrate-incoming']
        return arguments['uri']

    def test_the_bridge_is_told_what_lies_in_huge_pages(self):
        with open('/proc/meminfo') as file:
            (default,) = [int(line.split()[1]) << 10 for line in file if 'Hugepagesize' in line]
        self.save(guest=makestream.Guest({'pc.ram': 4 * MIB, 'vga.vram': default}, seed=1))
        known = (('pc.ram', 'memfd', {'hugetlb': True, 'hugetlbsize': 2 * MIB}),
                 ('vga.vram', 'memfd', {'hugetlb': True, 'hugetlbsize': 0}),
                 ('elsewhere', 'memfd', {'hugetlb': True, 'hugetlbsize': 2 * MIB}))
        done, asked = self.revert(answers=self.backends(*known))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(self.uri(asked),
                         r"^exec:exec '.*/snapfs-bridge' '--page-size=pc.ram=2097152' "
                         rf"'--page-size=vga.vram={default}' '.*/vm1'$")

    def test_ordinary_memory_is_no_option(self):
        known = (('pc.ram', 'memfd', {'hugetlb': False, 'hugetlbsize': 2 * MIB}),
                 ('vga.vram', 'file', {'mem-path': '/dev/shm'}), ('x', 'ram', {}))
        _, asked = self.revert(answers=self.backends(*known))
        self.assertNotIn('--page-size', self.uri(asked))

    def test_pages_too_large_for_the_bridge_are_read_first(self):
        known = (('pc.ram', 'memfd', {'hugetlb': True, 'hugetlbsize': 1 << 30}),)
        done, asked = self.revert(answers=self.backends(*known))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, 'all memory is read first: RAM block pc.ram: pages of '
                                      '1073741824 bytes cannot be sent')
        self.assertEqual(self.uri(asked), f'file:{self.snaps("vm1", "stream")}')
        done, _ = self.revert('--way=bridge', answers=self.backends(*known))
        self.assertEqual(done.returncode, 1)
        self.assertIn('cannot be sent', done.stderr)

    def test_memory_is_mapped_from_where_it_lies_in_ram(self):
        big = makestream.Guest({'mem1': 6 * MIB, 'pc.ram': 4 * MIB}, seed=3)
        self.save(guest=big)
        done, asked = self.revert('--way=memory-file')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"'--mapped=pc.ram={6 * MIB}'", self.uri(asked))
        self.assertRegex(done.stderr, 'the guest is lost .SIGBUS')
        self.save(guest=makestream.Guest({'m0': 4 * MIB, 'm1': 4 * MIB}, seed=3))
        done = tool('revert', '--way=memory-file', self.snaps('vm1'), '--', '/bin/true')
        self.assertRegex(done.stderr, 'maps the RAM block pc.ram, which .* it has: m0 m1')

    def test_memory_that_the_command_line_has_elsewhere_cannot_be_mapped(self):
        for words, what in ((['-numa', 'node,memdev=m0'], '-numa with memdev='),
                            (['-mem-path', '/dev/hugepages'], '-mem-path'),
                            (['-machine', 'q35,memory-backend=m0'], 'a memory-backend of its')):
            done = tool('revert', '--way=memory-file', self.snaps('vm1'), '--', '/bin/true', *words)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f'the command line has {what}', done.stderr)

    def test_minus_s_keeps_it_stopped(self):
        done, asked = self.revert(states=['inmigrate', 'paused'], words=['-S'])
        self.assertIn('vm1 is back, stopped: ', done.stdout, done.stderr)
        self.assertEqual(self.continued(asked), 0)


if __name__ == '__main__':
    harness.main()

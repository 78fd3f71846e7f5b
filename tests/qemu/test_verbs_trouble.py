#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""`snapfs save` and `snapfs revert` when something is wrong: one sentence, soon, and nothing is
left of it."""
import contextlib
import errno
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from guest import CountGuest
from harness import need_root, wait_until
from mount import need_views
from qemu import need_qemu
from verbs import (GREETING, DiskGuest, Peer, VerbCase, disk_holds, disk_write, greeting, image_holds,
                   migrates)

LARGE = CountGuest(memory=128, end=100, fill=True)
SLOW = ['level=15', 'threads=1', 'buffer=16m']   # to save, of a mount


def setUpModule():
    need_qemu()
    need_views()


def says(*parts):
    """Says these once connected, and then listens until the other end goes."""
    def play(peer):
        for part in parts:
            peer.sendall(part)
        while peer.recv(65536):
            pass
    return play


def flood(before, data):
    def play(peer):
        peer.sendall(before)
        while True:
            peer.sendall(data)
    return play


def answers(**returned):
    """Plays a QEMU which knows these commands, and returns an empty object to others."""
    def play(peer):
        peer.sendall(GREETING)
        for line in peer.makefile('rb'):
            asked = json.loads(line)
            value = returned.get(asked['execute'].replace('-', '_'), {})
            peer.sendall(json.dumps({'return': value, 'id': asked['id']}).encode() + b'\n')
    return play


class Strangers(VerbCase):
    """Who answers at the socket is not QEMU."""

    def check(self, play, pattern):
        with Peer(self.socket, play):
            self.assert_fails(self.save(), pattern)
        self.assertFalse(os.path.exists(self.folder))
        os.unlink(self.socket)

    def test_there_is_no_socket(self):
        self.assert_fails(self.save(), 'verbs: No such file')
        with open(self.socket, 'w'):
            pass
        self.assert_fails(self.save(), 'verbs: Connection refused')
        self.assert_fails(self.snapfs('save', '--qmp', '/' + 'x' * 200, self.folder), 'too long')
        self.assertFalse(os.path.exists(self.folder))

    def test_garbage_is_refused(self):
        for data in (b'\0\xff\xfe\n', b'hello\n', b'QEMU 10.0.2 monitor - type \'help\'\r\n(qemu) \r\n',
                     b'[' * 100000 + b'\n', b'/*"*/' + b'[' * 100000 + b'\n', b'[]\n', b'7\n',
                     b'{"QMP"\n', b'{"' + b'[' * 10 + b'\n'):
            with self.subTest(data[:20]):
                self.check(says(data), 'does not speak QMP')

    def test_a_line_without_end_is_refused(self):
        self.check(flood(b'', b'x' * 65536), 'a line is too long')
        self.check(flood(GREETING, b'x' * 65536), 'a line is too long')

    def test_a_greeting_that_is_none_is_refused(self):
        self.check(says(b'{"event": "STOP"}\n{"QNP": {}}\n'), 'there is no greeting')

    def test_silence_has_an_end(self):
        self.check(says(), 'no answer in')
        self.check(says(GREETING), 'no answer in')

    def test_events_without_end_have_an_end(self):
        self.check(flood(GREETING, b'{"event": "STOP", "timestamp": {"seconds": 9223372036854775807,'
                                   b' "microseconds": 9223372036854775807}}\n' * 100),
                   'no answer in')

    def test_answers_to_others_are_no_answers(self):
        self.check(flood(GREETING, b'{"return": {}, "id": "x"}\n' * 100), 'no answer in')

    def test_one_that_hangs_up_is_gone(self):
        self.check(lambda peer: None, 'closed the connection')
        self.check(lambda peer: peer.sendall(GREETING), 'closed the connection')

    def test_answers_of_another_kind_are_refused(self):
        self.check(answers(), 'whether the guest runs')
        self.check(answers(query_status=[], query_migrate=7), 'whether the guest runs')
        with Peer(self.socket, answers(query_status={'status': 'running'},
                                       query_block=[7, {'inserted': {'image': []}}])):
            self.assert_fails(self.snapfs('save', '--qmp', self.socket, self.folder),
                              'does not name the image')

    def test_tcp_is_not_for_every_qemu(self):
        play = migrates(None, [], refused=['getfd'], hello=greeting(7, 2, 0))
        with Peer(('127.0.0.1', 0), play) as peer:
            self.socket = 'tcp:%s:%d' % peer.listener.getsockname()
            self.assert_fails(self.save(), r'QEMU 7\.2\.0 .*unix:')
        self.assertFalse(os.path.exists(self.folder))
        self.assert_fails(self.save(), 'onnection refused')
        for address in ('tcp:', 'tcp:localhost', 'tcp::1', 'tcp:localhost:x'):
            self.socket = address
            self.assert_fails(self.save(), f'^snapfs: save: {address}: ')

    def test_a_refusal_is_told_without_control_characters(self):
        self.check(says(GREETING, b'{"error": {"desc": "no\\u001b[2J"}, "id": 1}\n'),
                   r'no\\x1b\[2J')


class Pipe(VerbCase):
    """QEMU has the pipe, and does with it what it likes."""
    COMPLETED = {'status': 'completed'}
    FAILED = {'status': 'failed', 'error-desc': 'for its own reason'}

    def setUp(self):
        super().setUp()
        qemu = self.boot()
        self.save_ok()
        qemu.kill()
        os.unlink(self.socket)
        with open(self.folder + '/stream', 'rb') as file:
            self.stream = file.read()
        self.uuid = os.getxattr(self.folder, 'user.snapfs.uuid')

    def play(self, write, *options, folder=None, refused=()):
        self.commands = []
        with Peer(self.socket, migrates(write, self.commands, refused)):
            done = self.save(*options, folder=folder)
        os.unlink(self.socket)
        return done

    def writes(self, data, answer):
        """All of it is in the pipe, or beyond, when QEMU gives the answer."""
        def write(pipe):
            while data[self.written:]:
                self.written += os.write(pipe, data[self.written:])
            return answer
        self.written = 0
        return write

    def assert_nothing_saved(self, write, pattern):
        """In the mount the old snapshot stays, in a plain folder nothing is left."""
        self.assert_fails(self.play(write, '--force'), pattern)
        self.wait_no_save()
        self.assertEqual(os.getxattr(self.folder, 'user.snapfs.uuid'), self.uuid)
        for folder in (self.mount.path('new'), self.path('plain')):
            self.assert_fails(self.play(write, folder=folder), pattern)
            self.assertFalse(os.path.exists(folder))

    def test_a_save_that_fails_before_its_first_byte_leaves_nothing(self):
        self.assert_nothing_saved(lambda _: self.FAILED, 'for its own reason$')
        made = self.mount.path('made')
        os.mkdir(made)
        self.assert_fails(self.play(lambda _: self.FAILED, folder=made), 'for its own reason$')
        self.assertEqual(os.listdir(self.mount.store_path('made')), [])

    def test_the_parent_of_a_save_that_fails_before_its_first_byte_is_forgotten(self):
        made = self.mount.path('made')
        os.mkdir(made)
        fails = lambda _: self.FAILED  # noqa: E731
        self.assert_fails(self.play(fails, f'--parent={self.folder}', folder=made),
                          'for its own reason$')
        with self.assertRaises(OSError) as caught:
            os.getxattr(made, 'user.snapfs.parent')
        self.assertEqual(caught.exception.errno, errno.ENODATA)

    def test_an_empty_stream_is_no_snapshot(self):
        made = self.mount.path('made')
        os.mkdir(made)
        with open(made + '/stream', 'w') as file:
            file.write('a header')
        self.assert_fails(self.play(lambda _: self.FAILED, folder=made), 'an unfinished stream')
        os.unlink(made + '/stream')
        with open(made + '/stream', 'w'):
            pass
        wait_until(lambda: os.listdir(self.mount.store_path('made')), 20, 'its close has come')
        done = self.play(self.writes(self.stream, self.COMPLETED), folder=made)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_fails(self.play(lambda _: self.FAILED, folder=made), 'holds a snapshot')

    def test_a_damaged_snapshot_is_not_taken_for_an_empty_stream(self):
        self.mount.unmount()
        os.truncate(self.mount.store_path('vm1', 'snapshot.zst'), 100)
        self.mount.start()
        self.assert_fails(self.play(lambda _: self.FAILED), 'holds a snapshot')
        self.assert_fails(self.play(lambda _: self.FAILED, '--force'), 'for its own reason$')
        self.assertTrue(os.path.exists(self.mount.store_path('vm1', 'snapshot.zst')))

    def test_a_pipe_that_qemu_leaves_open_is_not_waited_for(self):
        done = self.play(self.writes(self.stream, self.COMPLETED), '--force')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotEqual(os.getxattr(self.folder, 'user.snapfs.uuid'), self.uuid)
        with open(self.folder + '/stream', 'rb') as file:
            self.assertTrue(file.read() == self.stream)
        self.assertIn(('migrate', {'uri': 'fd:snapfs-save'}), self.commands)
        self.assertNotIn('closefd', [name for name, _ in self.commands])

    def test_a_whole_stream_of_a_save_that_failed_is_no_snapshot(self):
        self.assert_nothing_saved(self.writes(self.stream, self.FAILED), 'for its own reason$')
        self.assert_nothing_saved(self.writes(self.stream, {'status': 'cancelled'}),
                                  'another client cancelled it$')

    def test_a_stream_that_is_whole_without_its_description_is_no_snapshot(self):
        """With the machine property suppress-vmdesc it would be: it ends in a footer and the
        end mark, and the byte that follows is the one that is held back."""
        size = len(self.stream)
        end = next(i for i in range(size - 6, 0, -1) if self.stream[i] == 6 and
                   int.from_bytes(self.stream[i + 1:i + 5], 'big') == size - i - 5)
        self.assert_nothing_saved(self.writes(self.stream[:end + 1], self.FAILED),
                                  'for its own reason$')

    def test_a_whole_stream_of_a_qemu_that_died_is_no_snapshot(self):
        self.assert_nothing_saved(self.writes(self.stream, None), 'closed the connection')

    def test_no_byte_is_no_snapshot(self):
        self.assert_nothing_saved(self.writes(b'', self.COMPLETED), 'No data available')

    def test_half_a_stream_is_no_snapshot(self):
        write = self.writes(self.stream[:-1], self.COMPLETED)
        self.assert_fails(self.play(write, '--force'), '/stream: Protocol error')
        self.assertEqual(os.getxattr(self.folder, 'user.snapfs.uuid'), self.uuid)

    def test_what_is_no_stream_is_no_snapshot(self):
        def write(pipe):
            try:
                while True:
                    os.write(pipe, b'x' * 65536)
            except BrokenPipeError:
                return self.FAILED
        self.assert_fails(self.play(write, '--force'), '/stream: Protocol error')
        self.assertEqual(os.getxattr(self.folder, 'user.snapfs.uuid'), self.uuid)

    def test_a_pipe_that_qemu_did_not_use_is_closed(self):
        for refused in ('migrate', 'migrate-set-parameters'):
            with self.subTest(refused):
                done = self.play(self.writes(b'', self.COMPLETED), '--force', refused=[refused])
                self.assert_fails(done, f'no {refused}$')
                self.assertIn(('closefd', {'fdname': 'snapfs-save'}), self.commands)
                self.assertEqual(os.getxattr(self.folder, 'user.snapfs.uuid'), self.uuid)

    def test_without_a_pipe_qemu_opens_the_file(self):
        def write(_pipe):
            with open(self.folder + '/stream', 'wb') as file:
                file.write(self.stream)
            return self.COMPLETED
        done = self.play(write, '--force', refused=['getfd'])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(('migrate', {'uri': f'file:{self.folder}/stream'}), self.commands)
        self.assertNotEqual(os.getxattr(self.folder, 'user.snapfs.uuid'), self.uuid)
        self.assert_fails(self.play(lambda _: self.FAILED, folder=self.mount.path('new'),
                                    refused=['getfd']), 'for its own reason$')
        self.assertFalse(os.path.exists(self.mount.path('new')))


class Save(VerbCase):
    guest = LARGE

    @contextlib.contextmanager
    def slowly(self):
        """A save is far from its end for some time, however busy the machine is."""
        self.mount.options += SLOW
        self.mount.remount()
        yield
        del self.mount.options[-len(SLOW):]
        self.mount.remount()

    def begin_save(self, qemu, *options):
        """A save that is well on its way."""
        verb = self.begin('save', '--qmp', self.socket, *options, self.folder)

        def under_way():
            info = qemu.cmd('query-migrate')
            return info.get('status') == 'active' and info.get('ram', {}).get('transferred', 0)
        wait_until(under_way, 30, 'the save is under way', step=0.005)
        return verb

    def assert_ends(self, verb, pattern):
        said = verb.communicate(timeout=60)
        self.assertEqual(verb.returncode, 1, said)
        self.assertEqual(said[0], '')
        self.assertRegex(said[1].splitlines()[-1], pattern)

    def interrupt(self, qemu, number, *options):
        with self.slowly():
            verb = self.begin_save(qemu, *options)
            verb.send_signal(number)
            said = verb.communicate(timeout=60)
        self.assertEqual(verb.returncode, 128 + number, said)
        self.assertEqual(said[0], '')
        self.assertIn('interrupted', said[1])
        self.assertEqual(qemu.cmd('query-migrate')['status'], 'cancelled')

    def test_ctrl_c_leaves_nothing_and_the_guest_runs_on(self):
        qemu = self.boot()
        for number in (signal.SIGINT, signal.SIGTERM):
            for options in ((), ('--stopped',)):
                with self.subTest(number=number, options=options):
                    self.interrupt(qemu, number, '--no-disks', *options)
                    self.assert_runs_on(qemu)
                    self.assertEqual(self.capabilities(qemu), set())
                    self.assertFalse(os.path.exists(self.folder))
        self.save_ok()

    def test_ctrl_c_puts_the_disks_back(self):
        for style in ('drive', 'blockdev'):
            with self.subTest(style):
                os.mkdir(self.path(style))
                self.guest = DiskGuest(self.path(style), style, end=60)
                qemu = self.boot()
                disk_write(qemu, 17)
                self.interrupt(qemu, signal.SIGINT, '--force')
                self.assert_runs_on(qemu)
                self.assertTrue(disk_holds(qemu, 17))
                disk_write(qemu, 34)
                self.assertEqual(sorted(os.listdir(self.path(style))), ['boot.img', 'data.qcow2'])
                self.assertTrue(image_holds(self.guest.data, 34))
                self.save_ok('--force')
                qemu.kill()
                os.unlink(self.socket)

    def test_timeout_gives_up(self):
        qemu = self.boot()
        with self.slowly():
            done = self.save('--timeout=1')
        self.assert_fails(done, 'not done after 1 s')
        self.assert_runs_on(qemu)
        self.assertFalse(os.path.exists(self.folder))

    def test_the_old_snapshot_survives_a_save_that_is_interrupted(self):
        qemu = self.boot()
        self.save_ok()
        uuid = os.getxattr(self.folder, 'user.snapfs.uuid')
        self.interrupt(qemu, signal.SIGINT, '--no-disks', '--force')
        self.assertEqual(os.getxattr(self.folder, 'user.snapfs.uuid'), uuid)
        qemu.kill()
        self.assert_back(self.revert())

    def test_qemu_that_dies_leaves_nothing_in_the_folder(self):
        for options in ((), ('--stopped',)):
            with self.subTest(options):
                qemu = self.boot()
                with self.slowly():
                    verb = self.begin_save(qemu, '--no-disks', *options)
                    qemu.kill()
                    self.assert_ends(verb, 'closed the connection')
                self.assertFalse(os.path.exists(self.folder))
                os.unlink(self.socket)

    def test_the_old_snapshot_survives_a_qemu_that_dies(self):
        qemu = self.boot()
        self.save_ok()
        uuid = os.getxattr(self.folder, 'user.snapfs.uuid')
        with self.slowly():
            verb = self.begin_save(qemu, '--no-disks', '--force')
            qemu.kill()
            self.assert_ends(verb, 'closed the connection')
        self.assertEqual(os.getxattr(self.folder, 'user.snapfs.uuid'), uuid)
        self.assert_back(self.revert())

    def test_a_mount_that_dies_fails_the_save_and_the_guest_runs_on(self):
        qemu = self.boot()
        self.save_ok()
        uuid = os.getxattr(self.folder, 'user.snapfs.uuid')
        for options in ((), ('--stopped',)):
            with self.subTest(options), self.slowly():
                verb = self.begin_save(qemu, '--no-disks', '--force', *options)
                self.mount.process.kill()
                self.assert_ends(verb, f'{self.folder}/stream: the mount has ended')
                self.assert_runs_on(qemu)
                self.mount.crash()
                self.mount.start()
            self.assertEqual(os.getxattr(self.folder, 'user.snapfs.uuid'), uuid)
        self.save_ok('--force')

    def test_a_mount_that_dies_puts_the_disks_back(self):
        self.guest = DiskGuest(self.work, end=60)
        qemu = self.boot()
        disk_write(qemu, 17)
        with self.slowly():
            verb = self.begin_save(qemu)
            self.mount.process.kill()
            self.assert_ends(verb, 'the mount has ended')
            self.mount.crash()
            self.mount.start()
        self.assert_runs_on(qemu)
        self.assertTrue(disk_holds(qemu, 17))
        self.assert_clean()

    def test_another_client_may_cancel_it(self):
        qemu = self.boot()
        for options in ((), ('--stopped',)):
            with self.subTest(options), self.slowly():
                verb = self.begin_save(qemu, '--no-disks', *options)
                qemu.cmd('migrate_cancel')
                self.assert_ends(verb, 'another client cancelled it$')
            self.assert_runs_on(qemu)
            self.assertFalse(os.path.exists(self.folder))
        self.save_ok()

    def test_a_mount_that_cannot_be_written_is_told_before_the_guest_stops(self):
        qemu = self.boot()
        self.save_ok()
        self.mount.options.append('ro')
        self.mount.remount()
        qemu.events()
        self.assert_fails(self.save('--force', '--stopped'), '/stream: Read-only file system')
        self.assert_fails(self.save(folder=self.mount.path('vm2')), 'vm2: Read-only file system')
        self.assertNotIn('STOP', [event['event'] for event in qemu.events()])

    def test_another_migration_is_left_alone(self):
        qemu = self.boot()
        qemu.start_migrate(f'exec:cat >{self.path("other")}', params={'max-bandwidth': 1 << 20})
        self.assert_fails(self.save(), 'is running')
        self.assertIn(qemu.cmd('query-migrate')['status'], ('setup', 'active'))

    def test_the_store_itself_is_no_place_for_it(self):
        self.boot()
        self.assert_fails(self.save(folder=self.mount.store_path('vm1')), 'in the store')
        self.assertFalse(os.path.exists(self.mount.store_path('vm1')))

    def test_disks_that_go_with_qemu_are_refused(self):
        qemu = self.boot()
        done = self.snapfs('save', '--qmp', self.socket, self.folder)
        self.assert_fails(done, 'disk boot cannot be frozen.*--no-disks')
        self.assert_runs_on(qemu)
        self.assertFalse(os.path.exists(self.folder))

    def test_overlays_that_cannot_be_made_leave_the_guest_running(self):
        self.guest = DiskGuest(self.work)
        qemu = self.boot()
        self.assert_fails(self.save('--overlay-dir', self.path('nowhere')), 'cannot be frozen')
        self.assert_runs_on(qemu)
        self.assertFalse(os.path.exists(self.folder))
        self.assert_clean()

    def test_words_that_are_wrong_are_refused(self):
        for words in (['save', self.folder], ['save', '--qmp', self.socket],
                      ['save', '--qmp', self.socket, '--timeout=-1', self.folder],
                      ['revert'], ['revert', '--way=x', self.folder]):
            self.assertIn(self.snapfs(*words).returncode, (1, 2))


class Full(VerbCase):
    guest = LARGE

    def new_mount(self, store, point, options=()):
        need_root()
        os.mkdir(self.path(store))
        self.run_ok('mount', '-t', 'tmpfs', '-o', 'size=24M', 'tmpfs', self.path(store))
        self.addCleanup(harness.run, 'umount', '-l', self.path(store))
        return super().new_mount(store, point, options)

    def test_a_full_store_fails_the_save_and_the_guest_runs_on(self):
        qemu = self.boot()
        for options in ((), ('--stopped',)):
            with self.subTest(options):
                self.assert_fails(self.save(*options), 'No space left')
                self.assert_runs_on(qemu)
                self.assertFalse(os.path.exists(self.folder))
        self.run_ok('mount', '-o', 'remount,size=256M', self.mount.store)
        self.save_ok()

    def test_a_full_store_puts_the_disks_back(self):
        self.guest = DiskGuest(self.work)
        qemu = self.boot()
        with open(self.mount.store_path('ballast'), 'wb') as file:
            file.write(os.urandom(16 << 20))
        self.assert_fails(self.save(), 'No space left')
        self.assert_runs_on(qemu)
        self.assert_clean()


class Revert(VerbCase):
    def saved(self, guest=None):
        qemu = self.boot(guest)
        self.save_ok()
        qemu.kill()

    def assert_refused(self, pattern, *options, folder=None, command=None):
        done = self.snapfs('revert', *options, folder or self.folder,
                           *(command or self.command()))
        self.assert_fails(done, pattern)
        self.assert_clean()
        return done

    def test_of_nothing(self):
        self.assert_refused('nowhere: No such file', folder=self.path('nowhere'))
        os.mkdir(self.folder)
        self.assert_refused('no snapshot in', folder=self.folder)

    def test_qemu_that_does_not_start_says_why(self):
        self.saved()
        done = self.assert_refused('QEMU has exited', command=[*self.command(), '-no-such-option'])
        self.assertIn('no-such-option', done.stderr.splitlines()[0])
        self.assert_refused('QEMU has exited', command=['--', '/bin/false'])
        self.assert_refused('no-such-program', command=['--', '/no-such-program'])

    def test_another_guest_is_refused(self):
        self.saved()
        for guest in (CountGuest(memory=128), CountGuest(memory=64, machine='pc')):
            for way in ('bridge', 'eager'):
                with self.subTest(guest=guest, way=way):
                    self.assert_refused('QEMU has exited', f'--way={way}',
                                        command=self.command(guest))

    def test_of_a_damaged_one(self):
        self.saved(LARGE)
        self.guest = LARGE
        self.mount.unmount()
        path = self.mount.store_path('vm1', 'snapshot.zst')
        with open(path, 'r+b') as file:
            size = os.path.getsize(path)
            for at in range(1 << 20, size - (1 << 20), 1 << 16):
                file.seek(at)
                file.write(b'\0' * 64)
        self.mount.start()
        self.assert_refused('QEMU has exited', '--way=eager')
        done = self.snapfs('revert', '--wait', '--way=bridge', self.folder, *self.command())
        self.assertEqual(done.returncode, 1, done.stderr)
        if done.stdout:   # the guest ran, and then met it
            self.assertIn('cannot be read', done.stderr)
            self.adopt_and_kill(done)

    def adopt_and_kill(self, done):
        done.returncode = 0
        self.adopt(done).kill()

    def test_disks_that_the_command_line_does_not_name(self):
        self.guest = DiskGuest(self.work)
        self.boot().wait_serial('B')
        self.save_ok()
        names = [name for name in os.listdir(self.work) if '.snapfs-' in name]
        done = self.snapfs('revert', self.folder, *self.command(CountGuest(memory=64)))
        self.assert_fails(done, 'names no image of disk boot')
        self.assertEqual([name for name in os.listdir(self.work) if '.revert-' in name], [])
        self.assertEqual(len(names), 2)
        os.unlink(self.guest.data)
        self.assert_fails(self.snapfs('revert', self.folder, *self.command()), 'disk data')
        self.assertEqual([name for name in os.listdir(self.work) if '.revert-' in name], [])
        self.assertEqual(os.listdir(self.temporary), [])

    def test_ctrl_c_before_it_runs_leaves_nothing(self):
        self.saved()
        self.hold_command = ['--', '/bin/sh', '-c', 'sleep 100']
        verb = self.begin('revert', self.folder, *self.hold_command)
        wait_until(lambda: os.listdir(self.temporary), 10, 'it begins')
        time.sleep(0.2)
        verb.send_signal(signal.SIGINT)
        said = verb.communicate(timeout=20)
        self.assertEqual(verb.returncode, 130, said)
        self.assertIn('interrupted', said[1])
        self.assert_clean()


if __name__ == '__main__':
    harness.main()

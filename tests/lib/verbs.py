# SPDX-License-Identifier: GPL-2.0-or-later
"""`snapfs save` and `snapfs revert`, as a person types them."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading

from guest import CountGuest, LinuxGuest
from harness import build_path, die_with_parent, need_program, run, wait_until
from mount import statistics
from qemu import Qemu
from qmp import Qmp
from vmcase import VmCase

SAVED = re.compile(r'^saved (\S+) in [\d.]+ s: .* of memory, .* on disk; '
                   r'the guest (stood still for [\d.]+ ms|stays stopped)$', re.M)
RUNS = re.compile(r'^(\S+) (runs|is back, [\w-]+): ([\d.]+) s after .*\((\S+)\)\n'
                  r'QEMU: pid (\d+), QMP (\S+), log (\S+)$', re.M)


def greeting(major, minor, micro):
    version = {'qemu': {'major': major, 'minor': minor, 'micro': micro}, 'package': ''}
    return json.dumps({'QMP': {'version': version, 'capabilities': ['oob']}}).encode() + b'\r\n'


GREETING = greeting(10, 0, 2)


class Peer:
    """Stands in for QEMU at a socket, and says what a test wants."""

    def __init__(self, address, play):
        unix = isinstance(address, str)
        self.listener = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        self.listener.bind(address)
        self.listener.listen(1)
        self.play = play
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            with self.listener.accept()[0] as peer:
                self.play(peer)
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


def migrates(write, commands, refused=(), hello=GREETING, status='running', events=None):
    """Plays a QEMU that saves: write(pipe) returns what it then says of its migration, or None
    where it dies. The pipe stays open. What it was asked is in `commands`. Its run state is
    `status`; `events` come before the answer to a command."""
    def play(peer):
        peer.sendall(hello)
        returned = {'query-status': {'status': status}}
        buffer, pipes = b'', []
        while True:
            data, fds, _, _ = socket.recv_fds(peer, 65536, 1)
            buffer, pipes = buffer + data, pipes + fds
            if not data:
                break
            if b'\n' not in buffer:
                continue
            asked = json.loads(buffer)
            buffer, name = b'', asked['execute']
            commands.append((name, asked.get('arguments', {})))
            answer = {'return': returned.get(name, {}), 'id': asked['id']}
            if name in refused:
                answer = {'error': {'desc': f'no {name}'}, 'id': asked['id']}
            elif name == 'migrate':
                returned['query-migrate'] = write(pipes[0])
                if not returned['query-migrate']:
                    break
            for event in (events or {}).get(name, []):
                peer.sendall(json.dumps({'event': event}).encode() + b'\n')
            peer.sendall(json.dumps(answer).encode() + b'\n')
        for pipe in pipes:
            os.close(pipe)
    return play


class Adopted:
    """A process that somebody else has started, as Qemu needs one."""

    def __init__(self, pid):
        self.pid = pid
        self.returncode = None

    def poll(self):
        try:
            with open(f'/proc/{self.pid}/stat') as stat:
                gone = stat.read().rsplit(')', 1)[1].split()[0] == 'Z'
        except FileNotFoundError:
            gone = True
        return -1 if gone else None

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def wait(self):
        wait_until(lambda: self.poll() is not None, 20, 'QEMU is gone')


class Reverted(Qemu):
    """The QEMU that a revert has started."""

    def __init__(self, guest, work, said, serial):
        super().__init__(guest, work)
        found = RUNS.search(said)
        self.way = found[4]
        self.log_path = found[7]
        self.serial_path = serial
        self.process = Adopted(int(found[5]))
        self.qmp = Qmp(found[6], oob=True)

    def start(self):
        return self


class DiskGuest(CountGuest):
    """Its disks can be written: the raw one it boots from, and a qcow2 image.
    How they are named is up to `style`."""

    def __init__(self, folder, style='drive', end=20, out=(0, 0)):
        super().__init__(memory=64, end=end, fill=True, out=out)
        self.boot = os.path.join(folder, 'boot.img')
        self.data = os.path.join(folder, 'data.qcow2')
        self.style = style
        shutil.copyfile(self.image(), self.boot)
        subprocess.run([need_program('qemu-img'), 'create', '-q', '-f', 'qcow2', self.data, '8M'],
                       check=True)

    def disks(self):
        if self.style == 'drive':
            return ['-drive', f'if=none,id=boot,format=raw,file={self.boot}',
                    '-drive', f'if=none,id=data,driver=qcow2,file.filename={self.data}']
        if self.style == 'blockdev':
            return ['-blockdev', f'driver=file,node-name=f0,filename={self.boot}',
                    '-blockdev', 'raw,node-name=boot,file=f0',
                    '-blockdev', f'qcow2,node-name=data,file.driver=file,'
                                 f'file.filename={self.data}']
        file = {'driver': 'file', 'filename': self.boot, 'node-name': 'f0'}
        return ['-blockdev', json.dumps(file),
                '-blockdev', json.dumps({'driver': 'raw', 'node-name': 'boot', 'file': 'f0'}),
                '-blockdev', json.dumps({'driver': 'qcow2', 'node-name': 'data', 'backing': None,
                                         'file': {'driver': 'file', 'filename': self.data}})]

    def args(self):
        return ['-machine', self.machine, '-m', str(self.memory), '-nodefaults', '-vga', 'none',
                *self.disks(), '-device', 'ide-hd,drive=boot,bootindex=0',
                '-device', 'virtio-blk-pci,drive=data,id=disk1']


def disk_write(qemu, byte):
    """Fills a part of the data disk, as its guest would."""
    for words in (f'write -P {byte} 64k 64k', 'flush'):
        qemu.cmd('human-monitor-command', command_line=(
            f'qemu-io -d /machine/peripheral/disk1/virtio-backend "{words}"'))


def image_holds(path, byte):
    """Whether an image, which may be in use, has that in this part."""
    done = run(need_program('qemu-io'), '-r', '-U', '-f', 'qcow2', '-c',
               f'read -P {byte} 64k 64k', path)
    assert 'read 65536/65536 bytes' in done.stdout, done.stdout + done.stderr
    return 'verification failed' not in done.stdout


def disk_holds(qemu, byte):
    (path,) = [one['inserted']['file'] for one in qemu.cmd('query-block')
               if 'disk1' in one.get('qdev', '')]
    return image_holds(path, byte)


class VerbCase(VmCase):
    guest = CountGuest(memory=64, end=20, fill=True)

    def setUp(self):
        super().setUp()
        self.temporary = self.path('tmp')
        os.mkdir(self.temporary)
        self.folder = self.mount.path('vm1')
        self.socket = self.path('verbs')

    def boot(self, guest=None, args=()):
        # The test keeps its own connection.
        return super().boot(guest, ['-qmp', f'unix:{self.socket},server=on,wait=off', *args])

    def snapfs(self, *words, **options):
        env = dict(os.environ, TMPDIR=self.temporary)
        return run(build_path('tools', 'snapfs'), *words, env=env, **options)

    def begin(self, *words):
        """A verb that is still at it."""
        return self.start_process(build_path('tools', 'snapfs'), *words, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True,
                                  env=dict(os.environ, TMPDIR=self.temporary))

    def save(self, *options, folder=None):
        if isinstance(self.guest, CountGuest) and not isinstance(self.guest, DiskGuest):
            options = ('--no-disks', *options)
        return self.snapfs('save', '--qmp', self.socket, *options, folder or self.folder)

    def save_ok(self, *options, folder=None):
        done = self.save(*options, folder=folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, SAVED)
        return done

    def wait_no_save(self):
        """The daemon ends a save a moment after the last close."""
        wait_until(lambda: statistics(self.mount.point)['snapfs_saves_running'] == 0, 30, 'no save runs')

    def assert_fails(self, done, pattern, status=1):
        """It failed, and its last line is one sentence that matches."""
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        self.assertEqual(done.stdout, '')
        self.assertRegex(done.stderr.splitlines()[-1], pattern)

    def command(self, guest=None, args=()):
        """A command line for a revert, with a serial log of its own."""
        serial = self.path('serial-back')
        guest = guest or self.guest
        return ['--', need_program('qemu-system-x86_64'), '-accel', 'tcg', '-display', 'none',
                '-serial', f'file:{serial}', *guest.args(), *args]

    def adopt(self, done, guest=None, serial=None):
        self.assertEqual(done.returncode, 0, done.stderr)
        return self.enter(Reverted(guest or self.guest, self.work, done.stdout,
                                   serial or self.path('serial-back')))

    def revert(self, *options, guest=None, folder=None, args=()):
        return self.adopt(self.snapfs('revert', *options, folder or self.folder,
                                      *self.command(guest, args)), guest)

    def wait_drained(self, qemu):
        wait_until(lambda: qemu.cmd('query-migrate').get('status') == 'completed', 30,
                   'all memory is there')

    def assert_back(self, qemu, constant=None):
        """The counting guest is whole and runs."""
        self.wait_drained(qemu)
        self.assertEqual(qemu.run_state(), 'running')
        qemu.wait_serial('BB', timeout=20)
        self.assertIsNone(qemu.ram_error())
        if constant:
            self.assertTrue(qemu.constant() == constant, 'a page holds other words than before')

    def assert_runs_on(self, qemu):
        self.assertEqual(qemu.run_state(), 'running')
        passes = qemu.serial().count('B')
        wait_until(lambda: qemu.serial().count('B') > passes, 20, 'the guest counts on')
        self.assertIsNone(qemu.ram_error())
        qemu.cont()

    def assert_clean(self, files=()):
        """No temporary file, no overlay, no process is left."""
        self.assertEqual(os.listdir(self.temporary), list(files))
        overlays = [name for name in os.listdir(self.work)
                    if '.revert-' in name or '.snapfs-' in name]
        self.assertEqual(overlays, [])
        self.assertNotIn(self.temporary, run('ps', '-ww', '-eo', 'args').stdout)

    def capabilities(self, qemu):
        return {one['capability'] for one in qemu.cmd('query-migrate-capabilities')
                if one['state']}

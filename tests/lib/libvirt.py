# SPDX-License-Identifier: GPL-2.0-or-later
"""A libvirt daemon of the test's own, with one guest.

It runs in mount, network and process namespaces, on folders of the test in
place of its usual ones, so that it neither sees nor touches the machine's
libvirt, and ends whole with the test. Mounts made outside later are seen
inside, at the same path. The guest's processor is emulated.
"""
import json
import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
from dataclasses import dataclass

from guest import MIB, CountGuest
from harness import (Missing, die_with_parent, need_program, need_root, read_text, run,
                     wait_until)
from mapped import MappedCase, Saved
from vmcase import Case

FOLDERS = {'etc': '/etc/libvirt', 'run': '/run/libvirt', 'lib': '/var/lib/libvirt',
           'log': '/var/log/libvirt', 'cache': '/var/cache/libvirt'}

# What the namespaces lack, and what would make it wait for other daemons.
QEMU_CONF = """
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
"""
DAEMON_CONF = """
auth_unix_rw = "none"
auth_unix_ro = "none"
log_outputs = "2:file:/var/log/libvirt/daemon.log"
"""

DOMAIN = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='{machine}'>hvm</type></os>
  <devices>
    <emulator>{emulator}</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='/var/lib/libvirt/images/{name}.img'/>
      <target dev='sda' bus='sata'/>
    </disk>
    <serial type='file'><source path='/var/lib/libvirt/images/{name}.serial' append='on'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
"""

SCRIPT = """
set -e
work=$1
shift
mount -t tmpfs run /run
for folder in etc run lib log cache; do
    eval target=\\$$folder
    mkdir -p "$target"
    mount --bind "$work/$folder" "$target"
done
ip link set lo up 2>/dev/null || :
# Something must reap what the daemon's children leave: it waits for that.
"$@" libvirtd --config /etc/libvirt/libvirtd.conf &
wait $!
"""


class VirshError(Exception):
    """virsh failed; the message is its own."""


def need_libvirt():
    """One that knows --image-format sparse, too."""
    need_root()
    for program in ('libvirtd', 'virsh', 'unshare'):
        need_program(program)
    version = re.search(r'(\d+)\.(\d+)', run(need_program('libvirtd'), '--version').stdout)
    if (int(version[1]), int(version[2])) < (11, 2):
        raise Missing(f'libvirt {version[0]} is older than 11.2')


def descendants(pid):
    for child in read_text(f'/proc/{pid}/task/{pid}/children').split():
        yield int(child)
        yield from descendants(int(child))


class Libvirt:
    """Use it as a context manager; `qemu_conf` are lines for its configuration,
    `hook` is a script that it runs, and `wrapper` words before the daemon's
    command, such as strace's."""

    def __init__(self, work, qemu_conf='', hook='', wrapper=()):
        self.work = os.path.join(work, 'lv')
        self.wrapper = list(wrapper)
        self.process = None
        for folder in FOLDERS:
            os.makedirs(os.path.join(self.work, folder))
        os.makedirs(self.path('lib', 'images'), mode=0o777)
        os.chmod(self.path('lib', 'images'), 0o777)
        self._write('etc', 'qemu.conf', QEMU_CONF + qemu_conf)
        self._write('etc', 'libvirtd.conf', DAEMON_CONF)
        os.mkdir(self.path('etc', 'hooks'))
        self._write('etc', 'hooks', 'qemu', f'#!/bin/sh\n{hook}')
        os.chmod(self.path('etc', 'hooks', 'qemu'), 0o755)

    def _write(self, *names_and_text):
        with open(self.path(*names_and_text[:-1]), 'w') as file:
            file.write(names_and_text[-1])

    def path(self, *names):
        return os.path.join(self.work, *names)

    def __enter__(self):
        env = dict(os.environ, **FOLDERS)
        with open(self.path('libvirtd.log'), 'ab') as log:
            self.process = subprocess.Popen(
                [need_program('unshare'), '--mount', '--net', '--pid', '--fork', '--kill-child',
                 '--mount-proc', '--propagation', 'slave',
                 'sh', '-c', SCRIPT, 'sh', self.work, *self.wrapper],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                start_new_session=True, preexec_fn=die_with_parent)
        try:
            wait_until(self._answers, 30, 'libvirtd answers')
        except BaseException:
            self.__exit__()
            raise
        return self

    def _answers(self):
        if self.process.poll() is not None:
            raise RuntimeError(f'libvirtd ended: {self.log()}')
        return os.path.exists(self.path('run', 'libvirt-sock')) and not self.run('list').returncode

    def __exit__(self, *_):
        """Its first process takes all others of the namespace with it."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def log(self):
        return read_text(self.path('libvirtd.log')) + read_text(self.path('log', 'daemon.log'))

    def command(self, *words):
        socket = self.path('run', 'libvirt-sock')
        return [need_program('virsh'), '-q', '-c', f'qemu:///system?socket={socket}', *words]

    def run(self, *words, **options):
        return run(*self.command(*words), **options)

    def kill_qemu(self):
        """kill -9 of every QEMU of this daemon, and of no other."""
        for pid in descendants(self.process.pid):
            if read_text(f'/proc/{pid}/comm').startswith('qemu-system'):
                os.kill(pid, signal.SIGKILL)

    def virsh(self, *words, **options):
        done = self.run(*words, **options)
        if done.returncode:
            raise VirshError(f'{" ".join(words)}: {done.stderr.strip()}')
        return done.stdout



@dataclass
class NativeGuest:
    """The same guest as QEMU alone starts it."""
    words: list
    memory: int

    def args(self):
        return self.words


class Domain:
    """A counting guest that libvirt knows by its name."""

    def __init__(self, libvirt, guest, name='vm1', machine='pc'):
        self.libvirt = libvirt
        self.guest = guest
        self.name = name
        self.images = libvirt.path('lib', 'images')
        shutil.copyfile(guest.image(), os.path.join(self.images, f'{name}.img'))
        xml = libvirt.path(f'{name}.xml')
        with open(xml, 'w') as file:
            file.write(DOMAIN.format(name=name, memory=guest.memory, machine=machine,
                                     emulator=need_program('qemu-system-x86_64')))
        libvirt.virsh('define', xml)

    def virsh(self, verb, *words):
        return self.libvirt.virsh(verb, self.name, *words)

    def start(self):
        self.virsh('start')
        self.wait_passes(3)

    def state(self):
        return self.virsh('domstate').strip()

    def log(self):
        """What QEMU and libvirt have said."""
        return read_text(self.libvirt.path('log', 'qemu', f'{self.name}.log')) + self.libvirt.log()

    def passes(self):
        return read_text(os.path.join(self.images, f'{self.name}.serial')).count('B')

    def wait_passes(self, count):
        goal = self.passes() + count
        wait_until(lambda: self.passes() >= goal, 30, f'{self.name} counts on')

    def dump_ram(self):
        """Guest memory from address 0, while it is suspended."""
        command = {'execute': 'pmemsave', 'arguments': {
            'val': 0, 'size': self.guest.memory * MIB,
            'filename': f'/var/lib/libvirt/images/{self.name}.pmem'}}
        self.virsh('qemu-monitor-command', json.dumps(command))
        path = os.path.join(self.images, f'{self.name}.pmem')
        with open(path, 'rb') as file:
            ram = file.read()
        os.unlink(path)
        return ram

    def native(self):
        """The guest, for a QEMU that libvirt does not know."""
        words = shlex.split(self.libvirt.virsh('domxml-to-native', 'qemu-argv', '--domain',
                                               self.name))
        words = words[[word.startswith('-') for word in words].index(True):]
        own = ('-S', '-name', '-object {"qom-type":"secret"', '-chardev', '-mon', '-sandbox',
               '-add-fd', '-device {"driver":"isa-serial"', '-display', '-accel')
        options = []
        for word in words:
            if word.startswith('-'):
                options.append([word])
            else:
                options[-1].append(word.replace('/var/lib/libvirt', self.libvirt.path('lib')))
        kept = [option for option in options if not ' '.join(option).startswith(own)]
        return NativeGuest([word for option in kept for word in option], self.guest.memory)


@dataclass
class ImageHeader:
    magic: bytes
    version: int
    length: int         # of what stands between it and the stream
    was_running: int
    format: int

    SIZE = 92

    @property
    def begin(self):
        return self.SIZE + self.length


def image_header(path):
    """What libvirt has written before the stream."""
    with open(path, 'rb') as file:
        return ImageHeader(*struct.unpack_from('<16sIIII', file.read(ImageHeader.SIZE)))


class LibvirtCase(MappedCase):
    """A mount, and a libvirt that sees it, come what may of the mount."""
    guest = CountGuest(memory=40, end=16, fill=True)
    options = ('allow_other',)      # QEMU runs as a user of its own
    qemu_conf = ''

    def hook(self):
        """A script that libvirt runs when a domain starts or ends."""
        return ''

    def setUp(self):
        need_libvirt()
        Case.setUp(self)
        os.chmod(self.work, 0o755)
        # What is mounted in here later is seen inside.
        for words in (('--bind', self.work, self.work), ('--make-shared', self.work)):
            self.run_ok('mount', *words)
        self.addCleanup(run, 'umount', '-l', self.work)
        self.mount = self.new_mount('store', 'mnt', self.options)
        self.libvirt = self.enter(Libvirt(self.work, self.qemu_conf, self.hook()))
        self.domain = Domain(self.libvirt, self.guest)
        self.domain.start()

    def save(self, name='vm1', *options):
        """Saves the domain at a moment when its memory is known."""
        self.domain.virsh('suspend')
        ram = self.domain.dump_ram()
        self.domain.virsh('save', self.stream(name), *options)
        return Saved(name, image_header(self.stream(name)).begin, ram)

    def restore(self, name='vm1', *options):
        self.libvirt.virsh('restore', self.mount.path(name, 'stream'), *options)

    def assert_restored(self, saved):
        """The domain is as it was when it was saved, and runs on."""
        self.assertEqual(self.domain.state(), 'paused')
        self.assert_same(self.domain.dump_ram(), saved.ram)
        self.domain.virsh('resume')
        self.domain.wait_passes(2)

    def assert_runs_on(self):
        state = self.domain.state()
        self.assertEqual(state, 'running', '' if state == 'running' else self.domain.log())
        self.domain.wait_passes(2)

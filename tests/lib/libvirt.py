# SPDX-License-Identifier: GPL-2.0-or-later
"""A libvirt daemon of the test's own, with one guest.

It runs in mount, network and process namespaces, on folders of the test in
place of its usual ones, so that it neither sees nor touches the machine's
libvirt, and ends whole with the test. Mounts made outside later are seen
inside, at the same path. The guest's processor is emulated.
"""
import os
import re
import shutil
import subprocess

from harness import die_with_parent, need_program, need_root, read_text, run, wait_until

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
  <memory unit='MiB'>{guest.memory}</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='{machine}'>hvm</type></os>
  <devices>
    <emulator>{emulator}</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='/var/lib/libvirt/images/boot.img'/>
      <target dev='sda' bus='sata'/>
    </disk>
    <serial type='file'><source path='{serial}' append='on'/></serial>
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
    need_root()
    for program in ('libvirtd', 'virsh', 'unshare', 'nsenter'):
        need_program(program)


class Libvirt:
    """Use it as a context manager."""

    def __init__(self, work, guest, qemu_conf='', wrapper=()):
        self.work = os.path.join(work, 'lv')
        self.guest = guest
        self.wrapper = list(wrapper)
        self.process = None
        for folder in FOLDERS:
            os.makedirs(os.path.join(self.work, folder))
        os.makedirs(self.path('lib', 'images'), mode=0o777)
        os.chmod(self.path('lib', 'images'), 0o777)
        self._write('etc', 'qemu.conf', QEMU_CONF + qemu_conf)
        self._write('etc', 'libvirtd.conf', DAEMON_CONF)

    def _write(self, *names_and_text):
        with open(self.path(*names_and_text[:-1]), 'w') as file:
            file.write(names_and_text[-1])

    def path(self, *names):
        return os.path.join(self.work, *names)

    def __enter__(self):
        need_libvirt()
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

    def run(self, *words, **options):
        socket = self.path('run', 'libvirt-sock')
        return run(need_program('virsh'), '-q', '-c', f'qemu:///system?socket={socket}', *words,
                   **options)

    def virsh(self, *words, **options):
        done = self.run(*words, **options)
        if done.returncode:
            raise VirshError(f'{" ".join(words)}: {done.stderr.strip()}')
        return done.stdout

    def define(self, name='vm1', machine='pc'):
        shutil.copyfile(self.guest.image(), self.path('lib', 'images', 'boot.img'))
        self._write('domain.xml', DOMAIN.format(
            name=name, guest=self.guest, machine=machine, emulator=need_program(
                'qemu-system-x86_64'), serial=f'/var/lib/libvirt/images/{name}.serial'))
        self.virsh('define', self.path('domain.xml'))

# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest with a server of NFS, and two hosts that mount it (nfs-guest.sh).

It runs Debian's kernel, since few machines have NFS in their own. All that the guest needs is in
its initramfs; the disk that the server exports is a file of the test.
"""
import base64
import glob
import lzma
import os
import re
import shutil
import socket
import subprocess
import tarfile
import tempfile

import guest as guests
from harness import build_path, need_program, run
from qemu import Qemu
from taken import cached, tool, unpack

HERE = os.path.dirname(os.path.abspath(__file__))
KERNEL = 'nfs-kernel.tar'    # as in tests/needs
MODULES = ('virtio_pci', 'virtio_blk', 'virtio_console', 'veth', 'fuse', 'nfsd', 'nfs', 'nfsv4')
DISK = 512 << 20


def _read_module(path):
    with (lzma.open if path.endswith('.xz') else open)(path, 'rb') as file:
        return file.read()


class Modules:
    """Modules of a package, in the order in which they can be loaded."""

    def __init__(self, folder):
        self.paths = {}
        self.order = []
        for top, _, names in os.walk(folder):
            for name in names:
                if re.search(r'\.ko(\.xz)?$', name):
                    module = name.split('.ko')[0].replace('-', '_')
                    self.paths[module] = os.path.join(top, name)

    def add(self, module):
        """What is not there is part of the kernel."""
        if module not in self.paths or module in (name for name, _ in self.order):
            return
        data = _read_module(self.paths[module])
        depends = re.search(rb'\0depends=([^\0]*)\0', b'\0' + data)
        for other in depends[1].decode().split(',') if depends else ():
            self.add(other.replace('-', '_'))
        self.order.append((module, data))


def _take_kernel(path, folder):
    root = unpack(guests.kernel_package(), folder)
    modules = Modules(root)
    for module in MODULES:
        modules.add(module)
    with tarfile.open(path, 'w') as archive:
        (kernel,) = glob.glob(os.path.join(root, 'boot', 'vmlinuz-*'))
        archive.add(kernel, 'vmlinuz')
        for module, data in modules.order:
            name = os.path.join(folder, f'{module}.ko')
            with open(name, 'wb') as file:
                file.write(data)
            archive.add(name, f'modules/{module}.ko')


def _libraries(program):
    """Where a program looks for its libraries; nowhere if it is static."""
    return re.findall(r'(/\S+) \(0x', run(need_program('ldd'), program).stdout)


class Initramfs:
    """Files to unpack at the root of the guest."""

    def __init__(self):
        self.files = {}
        self.folders = {}

    def add(self, path, data, mode=0o100755):
        parts = path.split('/')
        for count in range(1, len(parts)):
            self.folders['/'.join(parts[:count])] = True
        self.files[path] = (mode, data)

    def add_file(self, path, source):
        with open(source, 'rb') as file:
            self.add(path, file.read())

    def add_program(self, source):
        self.add_file(f'bin/{os.path.basename(source)}', source)
        for library in _libraries(source):
            self.add_file(library.lstrip('/'), library)

    def write(self, path):
        empty = [name for name in ('dev', 'proc', 'sys', 'run', 'tmp') if name not in self.folders]
        with open(path, 'wb') as archive:
            for number, name in enumerate([*empty, *self.folders], 1):
                archive.write(guests.cpio_entry(number, name, 0o040755))
            for number, (name, (mode, data)) in enumerate(self.files.items(), 1000):
                archive.write(guests.cpio_entry(number, name, mode, data))
            archive.write(guests.cpio_entry(999, 'dev/console', 0o020600, device=(5, 1)))
            archive.write(guests.cpio_entry(0, 'TRAILER!!!', 0))


class _Machine:
    """What Qemu starts."""
    memory = 1024

    def __init__(self, work, streams):
        self.work = work
        self.shell = os.path.join(work, 'shell')
        self._unpack_kernel()
        self._make_initramfs(streams)
        self._make_disk()

    def path(self, *names):
        return os.path.join(self.work, *names)

    def _unpack_kernel(self):
        with tarfile.open(cached(KERNEL, _take_kernel)) as archive:
            self.modules = [name for name in archive.getnames() if name.startswith('modules/')]
            archive.extractall(self.work)

    def _make_initramfs(self, streams):
        files = Initramfs()
        files.add_file('init', os.path.join(HERE, 'nfs-guest.sh'))
        files.add_program(need_program('busybox'))
        files.add('bin/sh', b'busybox', 0o120777)
        for program in ('getfattr', 'dd', 'rm'):
            files.add_program(need_program(program))
        files.add_program(build_path('fs', 'mount', 'mount.snapfs'))
        files.add_program(build_path('tools', 'snapfs'))
        files.add('etc/passwd', b'root:x:0:0:root:/:/bin/sh\n', 0o100644)
        files.add('etc/group', b'root:x:0:\n', 0o100644)
        names = [os.path.basename(name) for name in self.modules]
        files.add('modules/order', '\n'.join([*names, '']).encode())
        for name in self.modules:
            files.add_file(name, self.path(name))
        for name, data in streams.items():
            files.add(f'streams/{name}', data, 0o100644)
        files.write(self.path('initramfs'))

    def _make_disk(self):
        with open(self.path('disk'), 'wb') as file:
            file.truncate(DISK)
        tool('mkfs.ext4', '-q', '-F', self.path('disk'))

    def args(self):
        words = 'console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check lpj=4000000 ' \
                'mitigations=off random.trust_cpu=on nokaslr rdinit=/init'
        return ['-machine', 'q35', '-m', str(self.memory), '-smp', '2', '-nodefaults',
                '-vga', 'none', '-no-reboot', '-kernel', self.path('vmlinuz'),
                '-initrd', self.path('initramfs'), '-append', words,
                '-drive', f'if=virtio,format=raw,cache=unsafe,file={self.path("disk")}',
                '-chardev', f'socket,id=shell,path={self.shell},server=on,wait=off',
                '-device', 'virtio-serial-pci', '-device', 'virtserialport,chardev=shell']


class NfsGuest:
    """Use it as a context manager. `streams` are files of the guest, in /streams."""

    def __init__(self, streams):
        self.streams = streams

    def __enter__(self):
        self.work = tempfile.mkdtemp(prefix='snapfs-nfs-', dir=os.environ.get('SNAPFS_TEST_DIR'))
        self.qemu = self.port = None
        try:
            self.qemu = Qemu(_Machine(self.work, self.streams), self.work).start()
            self.port = self._connect()
            self.qemu.wait_serial('^the hosts are up', timeout=240)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.port:
            self.port.close()
        if self.qemu:
            self.qemu.kill()
        shutil.rmtree(self.work, ignore_errors=True)

    def _connect(self):
        port = socket.socket(socket.AF_UNIX)
        port.connect(self.qemu.guest.shell)
        port.settimeout(200)
        return port

    def run(self, script):
        """Runs it in the guest, by its shell, to its end."""
        self.port.sendall(base64.b64encode(script.encode()) + b'\n')
        answer = b''
        while not answer.endswith(b'\n'):
            try:
                piece = self.port.recv(1 << 16)
            except TimeoutError:
                piece = b''
            if not piece:
                raise RuntimeError(f'the guest does not answer {script!r}; '
                                   f'it printed: {self.qemu.serial()[-2000:]}')
            answer += piece
        status, _, said = answer.decode().strip().partition(' ')
        return subprocess.CompletedProcess(script, int(status), base64.b64decode(said).decode())

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a user would pick instead of snapfs to keep a guest's memory and read
it: each holds the same file, on the same disk.

All are set as a user who wants reads fast would set them, and compress at
zstd's level 1 where they have it. An image lies on a loop device with direct
I/O, so that the kernel caches what is read once, not twice.
"""
import contextlib
import os
import re
import shutil
import subprocess

import memory
from figures import drop_caches, progress
from harness import Missing, build_path, die_with_parent, need_program, read_text, run, wait_until
from mount import Mount, is_mounted

READAHEAD_KIB = 1024    # of the ceiling: what snapfs sets for its mount


def must(*command):
    done = run(*command, timeout=600)
    if done.returncode:
        raise RuntimeError(f'{" ".join(map(str, command))}: {done.stdout}{done.stderr}')
    return done.stdout


def folder_of(source):
    """A folder with nothing but this file, named ram."""
    folder = source + '.folder'
    if not os.path.exists(folder):
        os.mkdir(folder)
        os.link(source, os.path.join(folder, 'ram'))
    return folder


def make_squashfs(source, folder, block):
    """Makes the image, unless another peer has."""
    image = os.path.join(os.path.dirname(folder), f'squashfs-{block}')
    if not os.path.exists(image):
        must(need_program('mksquashfs'), folder_of(source), image, '-comp', 'zstd',
             '-Xcompression-level', '1', '-b', block, '-quiet', '-no-progress')
    return image


class Peer:
    """One place that holds the memory. `path` is where it is read, once it is
    mounted; `folder` is the peer's own."""
    name, about = '', ''
    compressed = True

    def __init__(self, source, folder):
        self.source, self.folder = source, folder
        self.path = os.path.join(folder, 'mnt', 'ram')
        self.process = None

    def need(self):
        """Raises Missing where it cannot be had."""

    def make(self):
        """Puts the memory there; it is not mounted."""

    def start(self):
        """Mounts it."""

    def stop(self):
        """Unmounts it."""

    def cool(self):
        """Mounts it anew; nothing of it is in memory."""
        self.stop()
        drop_caches()
        self.start()

    def size(self):
        """Bytes on disk."""
        return os.stat(self.source).st_blocks * 512

    def pid(self):
        """Of the process that serves it, or None: the kernel does."""
        return self.process.pid if self.process else None

    def peak(self):
        """The most memory that process has held, in bytes, since it began."""
        found = re.search(r'^VmHWM:\s+(\d+) kB', read_text(f'/proc/{self.pid()}/status'), re.M)
        return int(found[1]) * 1024 if found else None


class Raw(Peer):
    name, about = 'raw', 'the memory as a sparse file'
    compressed = False

    def make(self):
        self.path = self.source


class Mounted(Peer):
    """A peer with a mount point and a process that serves it."""

    def __init__(self, source, folder):
        super().__init__(source, folder)
        self.image, self.point = os.path.join(folder, 'image'), os.path.join(folder, 'mnt')
        os.makedirs(self.point)

    def stop(self):
        if is_mounted(self.point):
            must('umount', self.point)
        if self.process:
            self.process.wait(60)
            self.process = None

    def start_process(self, *command):
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                        preexec_fn=die_with_parent)
        wait_until(lambda: is_mounted(self.point) or self.process.poll() is not None, 60,
                   f'{command[0]} has mounted')
        os.stat(self.path)

    def size(self):
        return os.stat(self.image).st_size


class Ceiling(Mounted):
    name, about = 'fuse-memory', 'the smallest FUSE server, which has all of it in its memory'
    compressed = False

    def need(self):
        build_path('tests', 'bench', 'memory-file')

    def start(self):
        if self.process:
            return
        self.start_process(build_path('tests', 'bench', 'memory-file'), self.source, self.point)
        device = os.stat(self.point).st_dev
        with open(f'/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb',
                  'w') as file:
            file.write(str(READAHEAD_KIB))

    def cool(self):
        """What the server has in its memory stays there."""
        drop_caches()
        self.start()

    def size(self):
        return 0


class Image(Mounted):
    """An image on a loop device, read by the kernel."""
    kind, options = '', 'ro'
    device = None

    def attach(self, *flags):
        self.device = must(need_program('losetup'), '-f', '--show', '--direct-io=on', *flags,
                           self.image).strip()

    def mount(self, options):
        must('mount', '-t', self.kind, '-o', options, self.device, self.point)

    def start(self):
        self.attach('-r')
        self.mount(self.options)

    def stop(self):
        super().stop()
        if self.device:
            must(need_program('losetup'), '-d', self.device)
            self.device = None


def need_kernel(kind):
    if not re.search(rf'\b{kind}$', read_text('/proc/filesystems'), re.M):
        raise Missing(f'the kernel has no {kind}')


class Erofs(Image):
    kind, compressor, cluster = 'erofs', 'lz4', 4096

    def need(self):
        need_kernel(self.kind)
        # The help lists them, in another form in each version.
        known = run(need_program('mkfs.erofs'), '--help')
        if not re.search(rf'\b{self.compressor}\b', known.stdout + known.stderr):
            raise Missing(f'mkfs.erofs cannot compress with {self.compressor}')

    def make(self):
        must(need_program('mkfs.erofs'), '--quiet', f'-z{self.compressor}', f'-C{self.cluster}',
             self.image, folder_of(self.source))


class ErofsLz4(Erofs):
    name, about = 'erofs-lz4', 'EROFS, lz4, clusters of 4 KiB (its default)'


class ErofsLz4Large(Erofs):
    name, about, cluster = 'erofs-lz4-64k', 'EROFS, lz4, clusters of 64 KiB', 65536


class ErofsZstd(Erofs):
    # With its default, 4 KiB, an image takes far longer to make.
    name, about = 'erofs-zstd', 'EROFS, zstd level 1, clusters of 16 KiB'
    compressor, cluster = 'zstd', 16384

    def make(self):
        must(need_program('mkfs.erofs'), '--quiet', '-zzstd,level=1', f'-C{self.cluster}',
             self.image, folder_of(self.source))


class Squashfs(Image):
    name, about = 'squashfs', 'squashfs, zstd level 1, blocks of 64 KiB, read by the kernel'
    kind, block = 'squashfs', '64K'

    def need(self):
        need_kernel(self.kind)
        need_program('mksquashfs')

    def make(self):
        self.image = make_squashfs(self.source, self.folder, self.block)


class SquashfsDefault(Squashfs):
    name, about, block = 'squashfs-128k', 'the same, blocks of 128 KiB (its default)', '128K'


class Squashfuse(Mounted):
    name, about = 'squashfuse', 'squashfs, zstd level 1, blocks of 64 KiB, read by squashfuse'
    make, block = Squashfs.make, Squashfs.block

    def need(self):
        need_program('mksquashfs')
        self.program = need_program('squashfuse_ll')

    def start(self):
        self.start_process(self.program, '-f', self.image, self.point)


class Btrfs(Image):
    name, about = 'btrfs', 'btrfs, compress-force=zstd:1'
    kind = 'btrfs'
    used = 0

    def need(self):
        need_kernel(self.kind)
        need_program('mkfs.btrfs')

    def make(self):
        with open(self.image, 'wb') as image:
            image.truncate(os.stat(self.source).st_blocks * 512 + (1 << 30))
        must(need_program('mkfs.btrfs'), '-q', '-m', 'single', self.image)
        self.attach()
        self.mount('compress-force=zstd:1')
        must('cp', '--sparse=always', self.source, self.path)
        os.sync()
        place = os.statvfs(self.point)
        self.used = (place.f_blocks - place.f_bfree) * place.f_frsize
        self.stop()

    def size(self):
        return self.used


class Snapfs(Mounted):
    name, about = 'snapfs', 'snapfs, `ram` of a snapshot'
    options = ()

    def __init__(self, source, folder):
        super().__init__(source, folder)
        self.mount = Mount(os.path.join(folder, 'store'), self.point, self.options)
        self.path = self.mount.path('vm', 'ram')
        self.image = self.mount.store_path('vm', 'snapshot.zst')

    def make(self):
        command = [build_path('tools', 'snapfs'), 'import', self.mount.store, 'vm']
        with subprocess.Popen(command, stdin=subprocess.PIPE) as importer:
            memory.write_stream(self.source, importer.stdin)
        if importer.returncode:
            raise RuntimeError(f'snapfs import ended with {importer.returncode}')

    def start(self):
        self.mount.start()

    def stop(self):
        """What was learned of earlier reads goes: the next are the first."""
        self.mount.unmount()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.mount.store_path('vm', 'hot'))

    def pid(self):
        return self.mount.pid


KINDS = [Raw, Ceiling, ErofsLz4, ErofsLz4Large, ErofsZstd, Squashfs, SquashfsDefault, Squashfuse,
         Btrfs, Snapfs]
# Settings that were tried and are no better for reads at random; for --only.
EXTRA = {'erofs-lz4-64k', 'squashfs-128k'}


def names():
    return [kind.name for kind in KINDS]


def chosen(only):
    """The kinds to measure: those named, or all."""
    return [kind for kind in KINDS
            if (kind.name in only if only else kind.name not in EXTRA)]


@contextlib.contextmanager
def made(kinds, source, work, leave_out):
    """The peers of these kinds that can be had, with the memory in them, and
    started; calls leave_out(name, why) for the others."""
    peers = []
    try:
        for kind in kinds:
            folder = os.path.join(work, kind.name)
            os.mkdir(folder)
            peer = kind(source, folder)
            try:
                peer.need()
            except Missing as reason:
                leave_out(kind.name, str(reason))
                continue
            progress(f'making {kind.name}: {kind.about}')
            peers.append(peer)
            peer.make()
            peer.start()
        yield peers
    finally:
        for peer in peers:
            peer.stop()
            shutil.rmtree(peer.folder, ignore_errors=True)

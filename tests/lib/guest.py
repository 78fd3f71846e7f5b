# SPDX-License-Identifier: GPL-2.0-or-later
"""The guests the tests run: built when first asked for, then kept.

CountGuest  a boot sector that counts in RAM (tests/guest/count.S); runs in
            well under a second and is checked page by page.
LinuxGuest  Debian's cloud kernel with one program of our own
            (tests/guest/init.c) that holds checksummed data in RAM.

Environment:
  SNAPFS_GUEST_KERNEL  a kernel to use in place of Debian's
"""
import glob
import hashlib
import os
import re
import struct
from dataclasses import dataclass, fields

from harness import ROOT, Missing
from taken import cached, take, tool

SOURCES = os.path.join(ROOT, 'tests', 'guest')
KERNEL_PACKAGE = 'linux-image-cloud-amd64'
MIB = 1 << 20
PAGE = 4096


# The ports that a CountGuest may write to, and what that makes QEMU do. SeaBIOS puts PM1a_CNT of
# q35 and pc at 0x604 (src/config.h: PORT_ACPI_PM_BASE); bits 10 to 12 are the kind of sleep, bit
# 13 begins it (QEMU, hw/acpi/core.c: acpi_pm1_cnt_write).
SUSPENDS = (0x604, 1 << 13 | 1 << 10)   # S3
POWERS_OFF = (0x604, 1 << 13)           # S5
PANICS = (0x505, 1)                     # of pvpanic (docs/specs/pvpanic.rst)
ENDS_WATCHDOG = (0x443, 15)             # of ib700: 0 seconds (hw/watchdog/wdt_ib700.c: time_map)


def _digest(source, *flags):
    with open(source, 'rb') as file:
        return hashlib.sha256(file.read() + repr(flags).encode()).hexdigest()[:16]


def boot_sector(**macros):
    """The path of a disk image with the counting boot sector."""
    source = os.path.join(SOURCES, 'count.S')
    flags = [f'-D{name}={value}' for name, value in sorted(macros.items())]

    def make(path, folder):
        # -m32 needs no 32-bit libraries as long as nothing is linked in.
        obj = os.path.join(folder, 'count.o')
        tool('gcc', '-m32', '-c', *flags, '-o', obj, source)
        tool('ld', '-m', 'elf_i386', '-Ttext=0x7c00', '-e', '_start',
              '--oformat=binary', '-o', path, obj)
        with open(path, 'r+b') as image:
            image.truncate(MIB)
    return cached(f'count-{_digest(source, *flags)}.img', make)


def cpio_entry(number, name, mode, data=b'', device=(0, 0)):
    """One file of a "newc" archive, which is what the kernel unpacks."""
    head = [number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0]
    entry = b'070701' + b''.join(b'%08x' % value for value in head) + name.encode() + b'\0'
    entry += bytes(-len(entry) % 4) + data
    return entry + bytes(-len(entry) % 4)


def initramfs():
    source = os.path.join(SOURCES, 'init.c')

    def make(path, folder):
        program = os.path.join(folder, 'init')
        tool('gcc', '-O2', '-static', '-s', '-o', program, source)
        with open(program, 'rb') as file:
            code = file.read()
        with open(path, 'wb') as archive:
            archive.write(cpio_entry(1, 'dev', 0o040755))
            archive.write(cpio_entry(2, 'dev/console', 0o020600, device=(5, 1)))
            archive.write(cpio_entry(3, 'proc', 0o040755))
            archive.write(cpio_entry(4, 'init', 0o100755, code))
            archive.write(cpio_entry(0, 'TRAILER!!!', 0))
    return cached(f'initramfs-{_digest(source)}.cpio', make)


def kernel_package():
    """The package that has the kernel."""
    depends = tool('apt-cache', 'depends', KERNEL_PACKAGE)
    package = re.search(r'Depends: (linux-image-\S+)', depends)
    if not package:
        raise Missing(f'apt knows no {KERNEL_PACKAGE} (apt-get update?)')
    return package[1]


def _take_kernel(path, folder):
    take(kernel_package(), 'boot/vmlinuz-*', path, folder)


def kernel():
    """A Linux kernel that QEMU can boot."""
    given = os.environ.get('SNAPFS_GUEST_KERNEL')
    if given:
        if not os.access(given, os.R_OK):
            raise Missing(f'SNAPFS_GUEST_KERNEL={given} cannot be read')
        return given
    try:
        return cached('vmlinuz', _take_kernel)
    except Missing as missing:
        for path in sorted(glob.glob('/boot/vmlinuz-*'), reverse=True):
            if os.access(path, os.R_OK):
                return path
        raise Missing(f'no kernel for the guest: {missing}') from None


@dataclass
class CountGuest:
    """`fill` puts random words into each page, `delay` slows the counting,
    `blink` MiB behind `end` are zero after every other pass, and `out` is an
    I/O port and a value that is written there after the first pass."""
    memory: int = 128
    start: int = 1
    end: int = 100
    fill: bool = False
    delay: int = 0
    machine: str = 'q35'
    blink: int = 0
    out: tuple = (0, 0)

    def image(self):
        return boot_sector(COUNT_START=self.start * MIB, COUNT_END=self.end * MIB,
                           COUNT_BLINK=(self.end + self.blink) * MIB,
                           COUNT_FILL=int(self.fill), COUNT_DELAY=self.delay,
                           COUNT_PORT=self.out[0], COUNT_VALUE=self.out[1])

    def args(self):
        return ['-machine', self.machine, '-m', str(self.memory), '-nodefaults', '-vga', 'none',
                '-drive', f'if=none,id=boot,format=raw,file={self.image()},snapshot=on',
                '-device', 'ide-hd,drive=boot,bootindex=0']

    def constant(self, ram):
        """What the guest wrote once: its pages without their counting bytes."""
        pages = bytearray(ram[self.start * MIB:self.end * MIB])
        pages[::PAGE] = bytes(len(pages) // PAGE)
        return pages

    def check_ram(self, ram):
        """None if `ram`, guest memory from address 0, is as the guest left it.

        Otherwise a sentence that says what is wrong with it.
        """
        first, last = self.start * MIB, self.end * MIB
        counts = ram[first:last:PAGE]
        drops = [i for i in range(1, len(counts)) if counts[i] != counts[i - 1]]
        if len(drops) > 1 or (drops and counts[drops[0]] != (counts[drops[0] - 1] - 1) % 256):
            at = first + drops[0] * PAGE
            return (f'the counts change {len(drops)} times, first at {at:#x} '
                    f'({counts[drops[0] - 1]} to {counts[drops[0]]})')
        for address in range(first, last, PAGE):
            (found,) = struct.unpack_from('<I', ram, address + 4)
            if found != address:
                return f'the page at {address:#x} says that it is {found:#x}'
        return None


@dataclass
class LinuxGuest:
    """Sizes in MiB; what they mean is at the head of tests/guest/init.c."""
    memory: int = 256
    fill: int = 64
    touch: int = 0
    dirty: int = 0
    tick: int = 200
    check: int = 4
    work: int = 0
    machine: str = 'q35'

    @staticmethod
    def initrd():
        return initramfs()

    def args(self):
        # What Linux would otherwise measure or wait for on a slow processor.
        words = ['console=ttyS0', 'quiet', 'panic=-1', 'tsc=reliable', 'no_timer_check',
                 'lpj=4000000', 'mitigations=off', 'random.trust_cpu=on', 'nokaslr']
        words += [f'snap.{field.name}={getattr(self, field.name)}' for field in fields(self)
                  if field.name not in ('memory', 'machine')]
        return ['-machine', self.machine, '-m', str(self.memory), '-nodefaults', '-vga', 'none',
                '-no-reboot', '-kernel', kernel(), '-initrd', self.initrd(),
                '-append', ' '.join(words)]


TICK = re.compile(r'^tick (\d+) nonce ([0-9a-f]{16}) sum ([0-9a-f]{16}) '
                  r'pass (\d+) writes (\d+)\r?\n', re.M)


@dataclass
class Tick:
    """One line of the Linux guest."""
    number: int
    nonce: str
    sum: str
    passes: int
    writes: int


def ticks(serial):
    """All complete tick lines of a serial log."""
    return [Tick(int(n), nonce, total, int(passes), int(writes))
            for n, nonce, total, passes, writes in TICK.findall(serial)]

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots as mapped-ram files: the view `mapped` of any snapshot, and `stream`
of those that were saved so."""
import errno
import os
import random
import struct
import subprocess
import threading

from fusecase import LISTED, MIB, FuseCase, read_file, setUpModule  # noqa: F401
import harness
import makestream
import mappedram

PAGE = 4096

def scattered_guest(seed=3):
    """Blocks of odd sizes, with pages stored singly, in runs, and not at all."""
    guest = makestream.Guest({'pc.ram': 9 * MIB, 'a': 2 * PAGE, '/rom@etc/acpi': 131 * PAGE,
                              'empty': 3 * MIB}, seed=seed)
    guest.pages['empty'].clear()
    pages = guest.pages['pc.ram']
    for page in range(100, 700):
        pages.pop(page, None)
    for page in range(1024, 1536):
        pages[page] = makestream.page_bytes(page)
    return guest


class MappedCase(FuseCase):
    def setUp(self):
        super().setUp()
        self.guest = scattered_guest()
        self.save('vm1', self.guest)
        self.mapped = self.snaps('vm1', 'mapped')

    def open(self, path, flags=0):
        fd = os.open(path, os.O_RDONLY | flags)
        self.addCleanup(os.close, fd)
        return fd

    def check_reader(self, reader, guest):
        """What a reader found is the guest, and nothing else."""
        self.assertEqual(reader.capabilities, ['mapped-ram'])
        self.assertEqual(reader.machine, 'pc-q35-10.0')
        self.assertEqual(list(reader.sizes.items()), list(guest.sizes.items()))
        for name in guest.sizes:
            self.assertEqual(reader.stored(name), sorted(guest.pages[name]))
            self.assertTrue(reader.pages(name) == guest.pages[name], name)


class ViewTest(MappedCase):
    def test_shows_the_guest_as_mapped_ram(self):
        fd = self.open(self.mapped)
        reader = mappedram.Reader(lambda at, size: os.pread(fd, size, at))
        self.check_reader(reader, self.guest)
        start = len(makestream.header()) + len(makestream.ram_start(self.guest))
        devstate = read_file(self.snaps('vm1', 'devstate'))
        self.assertEqual(os.fstat(fd).st_size, reader.tail_at + len(devstate) - start)
        self.assertTrue(os.pread(fd, len(devstate), reader.tail_at) == devstate[start:])

    def test_clear_pages_and_padding_are_zeros(self):
        data = bytearray(read_file(self.mapped))
        reader = mappedram.Reader(lambda at, size: bytes(data[at:at + size]))
        for begin, end in reader.data(len(data)):
            data[begin:end] = bytes(end - begin)
        self.assertFalse(any(data))

    def test_any_range(self):
        chance = random.Random(4)
        whole = read_file(self.mapped)
        reader = mappedram.Reader(lambda at, size: whole[at:at + size])
        edges = [edge for pair in reader.data(len(whole)) for edge in pair]
        for flags in (0, os.O_DIRECT):
            fd = self.open(self.mapped, flags)
            for _ in range(600):
                at = max(0, chance.choice((chance.randrange(len(whole) + 100),
                                           chance.choice(edges) - chance.randrange(20))))
                size = chance.choice((1, 7, 8, 28, 4096, 4104, 20000, 300000))
                self.assertTrue(os.pread(fd, size, at) == whole[at:at + size], f'{size}@{at}')

    def test_in_steps(self):
        whole = read_file(self.mapped)
        fd = self.open(self.mapped, os.O_DIRECT)
        for step in (4099, 32768, MIB):
            parts = [os.pread(fd, step, at) for at in range(0, len(whole), step)]
            self.assertTrue(b''.join(parts) == whole, f'steps of {step}')

    def test_many_threads_at_once(self):
        """As QEMU's multifd channels and its fast snapshot load read."""
        whole = read_file(self.mapped)
        reader = mappedram.Reader(lambda at, size: whole[at:at + size])
        area = reader.places['pc.ram'][1]
        stored = reader.stored('pc.ram')
        self.mount.remount()
        wrong = []

        def read_pages(seed, flags):
            chance = random.Random(seed)
            fd = os.open(self.mapped, os.O_RDONLY | flags)
            for page in chance.sample(stored, 300):
                at = area + page * PAGE
                for size in (PAGE, chance.choice((64, 256)) * PAGE):
                    if os.pread(fd, size, at) != whole[at:at + size]:
                        wrong.append((at, size))
            os.close(fd)
        threads = [threading.Thread(target=read_pages, args=(seed, seed % 2 * os.O_DIRECT))
                   for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def test_holes_are_what_the_bitmap_says(self):
        fd = self.open(self.mapped)
        reader = mappedram.Reader(lambda at, size: os.pread(fd, size, at))
        size = os.fstat(fd).st_size
        self.assertEqual(mappedram.data_of(fd), reader.data(size))
        self.assert_errno(errno.ENXIO, os.lseek, fd, size, os.SEEK_DATA)
        for name, (start, area) in reader.places.items():
            end = start + len(reader.bitmaps[name])
            self.assertEqual(os.lseek(fd, start, os.SEEK_HOLE), end)
            self.assertEqual(os.lseek(fd, end, os.SEEK_HOLE), end)
            self.assertEqual(os.lseek(fd, area - 1, os.SEEK_HOLE), area - 1)
        start, area = reader.places['empty']
        end = area + reader.sizes['empty']
        self.assertEqual(os.lseek(fd, area + 5, os.SEEK_DATA), end)

    def test_a_copy_is_sparse_and_the_same(self):
        for option in ('auto', 'always'):
            self.run_ok('cp', f'--sparse={option}', self.mapped, self.path('copy'))
            self.assertTrue(read_file(self.path('copy')) == read_file(self.mapped))
            stored = self.guest.stored() * PAGE
            self.assertLess(os.stat(self.path('copy')).st_blocks * 512, stored + 128 * 1024)

    def test_does_not_depend_on_the_order_it_came_in(self):
        data = makestream.stream(self.guest, order=8)
        os.mkdir(self.snaps('vm2'))
        with open(self.snaps('vm2', 'stream'), 'wb') as file:
            file.write(data)
        self.assertTrue(read_file(self.snaps('vm2', 'mapped')) == read_file(self.mapped))

    def test_is_a_file_of_its_own(self):
        st = os.stat(self.mapped)
        self.assertEqual(st.st_blocks, 1)
        self.assertEqual(os.getxattr(self.mapped, 'user.snapfs.form'), b'classic')
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), LISTED)
        os.unlink(self.mapped)
        self.assertFalse(os.path.exists(self.mapped))
        self.assertEqual(sorted(os.listdir(self.snaps('vm1'))), LISTED)
        self.mount.remount()
        self.assertTrue(os.path.exists(self.mapped))

    def test_a_verbatim_snapshot_has_none(self):
        os.mkdir(self.snaps('odd'))
        with open(self.snaps('odd', 'stream'), 'wb') as file:
            file.write(makestream.verbatim_stream())
        self.wait_log('odd/stream: saved as it came')
        self.assertEqual(os.listdir(self.snaps('odd')), ['stream'])
        self.assert_errno(errno.ENOENT, os.stat, self.snaps('odd', 'mapped'))

    def test_size_of_a_large_guest_costs_no_pages(self):
        """The layout comes from the list of blocks; a guest of 64 GiB with a few
        pages is stat'ed, searched for data and read at its end at once."""
        big = makestream.Guest({'pc.ram': 4 * MIB}, seed=3)
        big.sizes['pc.ram'] = 64 << 30
        records = [('pc.ram', page, content) for page, content in big.pages['pc.ram'].items()]
        data = (makestream.header() + makestream.ram_start(big) +
                makestream.ram_section(records) + makestream.ram_section([], kind=3) +
                makestream.device_state())
        os.mkdir(self.snaps('big'))
        with open(self.snaps('big', 'stream'), 'wb') as file:
            file.write(data)
        fd = self.open(self.snaps('big', 'mapped'))
        reader = mappedram.Reader(lambda at, size: os.pread(fd, size, at))
        self.assertEqual(reader.stored('pc.ram'), sorted(big.pages['pc.ram']))
        self.assertEqual(mappedram.data_of(fd), reader.data(os.fstat(fd).st_size))
        self.assertEqual(os.pread(fd, PAGE, reader.places['pc.ram'][1] + (64 << 30) - PAGE),
                         bytes(PAGE))


class LargePagesTest(FuseCase):
    """A guest whose pages are 64 KiB, such as Arm's may be: a page is there when
    any part of it is not zero."""
    PAGE = 65536

    def stream(self, sizes, pages):
        """A classic stream with pages of that size."""
        bits = (b'\x05' + makestream.str8('configuration/target-page-bits') +
                struct.pack('>II', 1, self.PAGE.bit_length() - 1))
        parts = [makestream.header(), bits, makestream.ram_start(makestream.Guest(sizes))]
        for name, size in sizes.items():
            parts.append(b'\x02' + struct.pack('>I', 1))
            for number in range(size // self.PAGE):
                content = pages[name].get(number)
                flags = makestream.FULL_PAGE if content else makestream.ZERO_PAGE
                flags |= makestream.CONTINUE if number else 0
                parts += [struct.pack('>Q', number * self.PAGE | flags),
                          b'' if number else makestream.str8(name), content or b'\0']
            parts.append(struct.pack('>Q', makestream.EOS) + makestream.footer(1))
        parts += [makestream.ram_section([], kind=3), makestream.device_state()]
        return b''.join(parts)

    def test_bits_are_of_the_guests_pages(self):
        sizes = {'ram': 9 * MIB, 'odd': 3 * self.PAGE}
        pages = {'ram': {}, 'odd': {2: bytes(self.PAGE - 1) + b'x'}}
        chance = random.Random(6)
        for number in (*range(0, 144, 5), *range(40, 72), 143):
            content = bytearray(self.PAGE)
            for part in chance.sample(range(16), chance.choice((1, 3, 16))):
                content[part * PAGE:(part + 1) * PAGE] = makestream.page_bytes(number * 16 + part)
            pages['ram'][number] = bytes(content)
        os.mkdir(self.snaps('vm1'))
        data = self.stream(sizes, pages)
        with open(self.snaps('vm1', 'stream'), 'wb') as file:
            file.write(data)
        self.assertTrue(read_file(self.snaps('vm1', 'stream')) == data)
        whole = read_file(self.snaps('vm1', 'mapped'))
        reader = mappedram.Reader(lambda at, size: whole[at:at + size], page=self.PAGE)
        for name in sizes:
            self.assertEqual(reader.stored(name), sorted(pages[name]))
            self.assertTrue(reader.pages(name) == pages[name])
        fd = os.open(self.snaps('vm1', 'mapped'), os.O_RDONLY | os.O_DIRECT)
        self.addCleanup(os.close, fd)
        start = reader.places['ram'][0]
        for at in range(start - 2, start + 20):
            for size in (1, 3, 9):
                self.assertEqual(os.pread(fd, size, at), whole[at:at + size])


class SavedTest(MappedCase):
    """Streams that are written as mapped-ram, and read back."""

    def save_image(self, name, image, before=b''):
        os.mkdir(self.snaps(name))
        fd = os.open(self.snaps(name, 'stream'), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.ftruncate(fd, 0 if before else image.begin)
            os.pwrite(fd, before, 0)
            for offset, content in image.writes:
                os.pwrite(fd, content, offset)
        finally:
            os.close(fd)

    def test_stream_reads_back_byte_for_byte(self):
        for name, begin, before in (('a', 0, b''), ('b', 0x1234, b''),
                                    ('c', len(mappedram.LIBVIRT), mappedram.LIBVIRT)):
            image = mappedram.Image(self.guest, begin)
            self.save_image(name, image, before)
            path = self.snaps(name, 'stream')
            self.assertTrue(read_file(path) == (before or bytes(begin)) + image.data[begin:])
            self.assertEqual(os.getxattr(path, 'user.snapfs.form'), b'mapped-ram')
            reader = mappedram.Reader(lambda at, size, data=image.data: data[at:at + size], begin)
            expected = [(max(first, begin), end) for first, end in reader.data(image.size)]
            # All but the first page of libvirt's header is zeros.
            self.assertEqual(mappedram.data_of(self.open(path)),
                             [(0, PAGE)] * bool(before) + expected)

    def test_other_views_do_not_tell_how_it_was_saved(self):
        plain = mappedram.Image(self.guest)
        for name, begin in (('a', 0), ('b', 0x1234)):
            self.save_image(name, mappedram.Image(self.guest, begin))
            self.assertTrue(read_file(self.snaps(name, 'mapped')) == plain.data)
            self.assertTrue(read_file(self.snaps(name, 'ram')) == self.guest.flat())
            devstate = read_file(self.snaps(name, 'devstate'))
            self.assertTrue(devstate.startswith(makestream.header() +
                                                makestream.ram_start(self.guest)))
            self.assertTrue(devstate.endswith(makestream.device_state()))


def set_pages_at(path, value):
    """Changes where a snapshot says that the pages stood in its devstate, with
    all sums that are checked when it is opened."""
    data = bytearray(read_file(path))
    trailer = len(data) - 128
    where, length = struct.unpack_from('<QI', data, trailer + 72)
    at = where + 12
    while True:
        key, _, size = struct.unpack_from('<HHI', data, at)
        if key == 3:
            break
        at += 8 + size
    struct.pack_into('<Q', data, at + 8, value)
    struct.pack_into('<I', data, trailer + 84, mappedram.crc32c(data[where:where + length]))
    struct.pack_into('<I', data, trailer + 116, mappedram.crc32c(data[trailer:trailer + 116]))
    with open(path + '.new', 'wb') as file:
        file.write(data)
    os.rename(path + '.new', path)


class HostileTest(MappedCase):
    """Snapshots whose sums are right, and whose list of RAM blocks is not what
    their devstate says."""

    def test_gives_an_error_and_says_so_once(self):
        stream, ram = (read_file(self.snaps('vm1', view)) for view in ('stream', 'ram'))
        for value in (0, 1, 20, 60):
            set_pages_at(self.store('vm1', 'snapshot.zst'), value)
            told = self.mount.log().count('no mapped-ram file can be made of it')
            for _ in range(3):
                self.assertEqual(os.stat(self.mapped).st_size, 0)
                self.assert_errno(errno.EIO, os.open, self.mapped, os.O_RDONLY)
            self.assertEqual(self.mount.log().count('no mapped-ram file can be made of it'), told + 1)
            self.assertTrue(read_file(self.snaps('vm1', 'ram')) == ram)
            self.assertEqual(os.stat(self.snaps('vm1', 'stream')).st_size, len(stream))
        os.unlink(self.mapped)
        self.run_ok('rm', '-r', self.snaps('vm1'))


class ExportTest(MappedCase):
    def test_export_gives_what_the_mount_shows(self):
        tool = harness.build_path('tools', 'snapfs')
        for view in ('mapped', 'stream'):
            out = self.path(view)
            self.run_ok(tool, 'export', '--form', view, '-o', out, self.store(), 'vm1')
            self.assertTrue(read_file(out) == read_file(self.snaps('vm1', view)), view)
        self.assertLess(os.stat(self.path('mapped')).st_blocks * 512,
                        self.guest.stored() * PAGE + 128 * 1024)
        piped = subprocess.run([tool, 'export', '--form=mapped', self.store(), 'vm1'],
                               stdout=subprocess.PIPE, check=True).stdout
        self.assertTrue(piped == read_file(self.mapped))


if __name__ == '__main__':
    harness.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""snapfs map: pictures of what lies where in a snapshot, and of what differs."""
import fcntl
import os
import pty
import random
import re
import shutil
import signal
import struct
import subprocess
import termios
import xml.etree.ElementTree as xml

from toolcase import MIB, USAGE, ToolCase, read_file, setUpModule, write_file  # noqa: F401
from users import at_that_moment
import harness
import makestream

KIB = 1024
SVG = '{http://www.w3.org/2000/svg}'


def page(seed, noise):
    """A page of which so many bytes cannot be compressed, and the rest can."""
    return random.Random(seed).randbytes(noise) + bytes([7]) * (makestream.PAGE - noise)


class MapCase(ToolCase):
    """Cells of 64 KiB, 16 in a row: a row is 1 MiB."""

    def setUp(self):
        super().setUp()
        self.guest = makestream.Guest({'pc.ram': 2 * MIB, 'pc.rom': 64 * KIB})
        for pages in self.guest.pages.values():
            pages.clear()

    def put(self, offset, size, noise, seed=1, block='pc.ram'):
        for at in range(offset // 4096, (offset + size) // 4096):
            self.guest.pages[block][at] = page(seed * 100003 + at, noise)

    def save_guest(self, name, *options):
        self.succeed('import', *options, self.store, name, data=makestream.stream(self.guest))

    def map(self, *arguments, locale='C.UTF-8', columns=26, environment=(), **options):
        env = {**os.environ, 'LC_ALL': locale, 'COLUMNS': str(columns), 'TERM': 'xterm',
               **dict(environment)}
        return self.snapfs('map', *arguments, env=env, **options)

    def picture(self, *arguments, **options):
        done = self.map('--cell=64k', *arguments, **options)
        self.assertEqual((done.status, done.error), (0, ''), done)
        return done.out

    def cells(self, *arguments, **options):
        """The cells of pc.ram, row by row."""
        out = self.picture(self.store, *arguments, **options)
        rows = re.findall(r'^0x[0-9a-f]+  (\S{16})$', out, re.M)
        self.assertEqual(len(rows), 2, out)
        return rows


class OneTest(MapCase):
    def setUp(self):
        super().setUp()
        for i, noise in enumerate((100, 800, 1500, 4000)):
            self.put(i * 64 * KIB, 64 * KIB, noise)
        self.put(MIB, 8 * KIB, 4000)
        self.save_guest('vm1')

    def test_a_picture_shows_what_is_zero_and_how_well_the_rest_compressed(self):
        out = self.picture(self.store, 'vm1')
        self.assertEqual(out.split('\n')[1:11], [
            '',
            'pc.ram, 2.00 MiB',
            '0x000000  ░▒▓█············',
            '0x100000  ░···············',
            'pc.rom, 64.0 KiB',
            '0x000000  ·',
            '',
            'One cell is 64.0 KiB. The fuller it is, the more room it takes on disk:',
            '  ░ up to 1/8  ▒ 1/4  ▓ 1/2  █ more',
            '·     zero                      1.80 MiB   87.5 %'])
        self.assertRegex(out, r'^vm1: 2\.06 MiB of memory, \S+ KiB on disk\n')
        self.assertRegex(out, r'\n░▒▓█  stored +264 KiB +12\.5 %  \S+ KiB on disk, 1/\d\.\d\d\n$')

    def test_what_is_stored_adds_up_to_what_info_tells(self):
        out = self.picture(self.store, 'vm1')
        info = self.json('info', self.store, 'vm1')['snapshots'][0]
        stored = int(re.search(r'stored +(\d+) KiB', out)[1]) * KIB
        self.assertEqual(stored, sum(block['stored'] for block in info['blocks']
                                     if block['kind'] == 'ram'))

    def test_in_a_locale_without_utf8_all_is_ascii(self):
        out = self.picture(self.store, 'vm1', locale='C')
        self.assertTrue(out.isascii(), out)
        self.assertIn('\n0x000000  :*%#............\n', out)
        self.assertIn('\n  : up to 1/8  * 1/4  % 1/2  # more\n', out)

    def test_a_small_block_has_its_name_behind_it_where_there_is_room(self):
        self.assertIn('\n0x000000  ·  pc.rom, 64.0 KiB\n',
                      self.picture(self.store, 'vm1', columns=50))

    def test_the_snapshot_may_be_named_by_its_folder(self):
        self.assertEqual(self.picture(os.path.dirname(self.image())),
                         self.picture(self.store, 'vm1'))

    def hot(self, text):
        write_file(os.path.join(self.store, 'vm1', 'hot'), text)

    def test_hot_pages_have_letters_and_count_once(self):
        self.hot(b'snapfs-hot 1\npc.ram 0x10000 16\npc.ram 0x10000 2\npc.ram 0x30000 2\n'
                 b'pc.ram 0x20000 1\nnobody 0x0 1\npc.ram 0x9000000 1\n')
        self.assertEqual(self.cells('vm1')[0], '░h▓H············')
        out = self.picture(self.store, 'vm1')
        self.assertRegex(out, r'\nhH    hot: needed first +76\.0 KiB +3\.6 %  part of')
        self.assertIn('more; small letters: up to 1/4\n', out)

    def test_a_list_of_hot_pages_that_is_none_is_ignored(self):
        plain = self.picture(self.store, 'vm1')
        self.hot(bytes(1000))
        self.assertEqual(self.picture(self.store, 'vm1'), plain)
        os.remove(os.path.join(self.store, 'vm1', 'hot'))
        os.mkfifo(os.path.join(self.store, 'vm1', 'hot'))
        self.assertEqual(self.picture(self.store, 'vm1'), plain)

    def test_what_an_increment_shares_has_letters(self):
        self.put(64 * KIB, 64 * KIB, 800, seed=2)
        self.save_guest('vm2', '--parent=vm1')
        self.assertEqual(self.cells('vm2'), ['s▒SS············', 's···············'])
        self.assertRegex(self.picture(self.store, 'vm2'),
                         r'\nsS    shared with a parent +200 KiB +9\.5 %  \S+ KiB on')

    def test_an_increment_is_drawn_though_its_parent_is_gone(self):
        self.put(64 * KIB, 64 * KIB, 800, seed=2)
        self.save_guest('vm2', '--parent=vm1')
        shutil.rmtree(os.path.join(self.store, '.snapfs', 'layers'))
        self.assertEqual(self.cells('vm2')[0], 's▒SS············')


class WindowTest(MapCase):
    """How large a picture is, and which marks it has."""

    def setUp(self):
        super().setUp()
        self.put(64 * KIB, 64 * KIB, 4000)
        self.save_guest('vm1')
        self.large = makestream.Guest({'pc.ram': 64 * MIB, 'pc.rom': 64 * KIB}, every=100)
        self.save('large', makestream.stream(self.large))

    def test_a_picture_fits_the_width_that_is_asked_for(self):
        for columns, cells in ((10, 16), (60, 48), (80, 64), (200, 176), (9999, 256), (0, 64)):
            out = self.map(self.store, 'large', columns=columns).out
            rows = re.findall(r'^0x[0-9a-f]+  (\S+)$', out, re.M)
            self.assertEqual(len(rows[0]), cells, columns)
            self.assertLessEqual(len(rows), 33)
            self.assertGreater(len(rows), 15)

    def test_cells_may_be_chosen(self):
        self.assertIn('One cell is 1.00 MiB.', self.map('--cell=1m', self.store, 'vm1').out)
        self.assertIn('One cell is 12.0 KiB.', self.map('-c', '12k', self.store, 'vm1').out)
        # The last cell is short: 64 KiB in 12 KiB.
        self.assertIn('pc.rom, 64.0 KiB\n0x000000  ······\n',
                      self.map('-c', '12k', self.store, 'vm1').out)

    def on_terminal(self, *arguments, size=(40, 50), **environment):
        """What a terminal of so many rows and columns gets."""
        main, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack('HHHH', *size, 0, 0))
        env = {**os.environ, 'LC_ALL': 'C.UTF-8', 'TERM': 'xterm', **environment}
        process = self.start_process(self.program(), 'map', *arguments, stdin=other, stdout=other,
                                     stderr=other, env=env)
        os.close(other)
        parts = []
        while True:
            try:
                parts.append(os.read(main, 65536))
            except OSError:   # all have closed it
                break
        os.close(main)
        self.assertEqual(process.wait(), 0)
        return b''.join(parts).decode().replace('\r\n', '\n')

    def test_a_terminal_gets_colours_and_its_width(self):
        out = self.on_terminal('--cell=64k', self.store, 'vm1', COLUMNS='500')
        self.assertIn('\n0x000000  \033[38;5;242m·\033[38;5;33m█\033[38;5;242m··', out)
        plain = re.sub(r'\033\[[\d;]*m', '', out)
        self.assertIn('\n0x000000  ' + '·█' + 30 * '·' + '\n', plain)

    def test_a_picture_on_a_terminal_is_lower_where_that_is(self):
        high = self.on_terminal(self.store, 'large', size=(90, 80)).count('\n0x')
        low = self.on_terminal(self.store, 'large', size=(24, 80)).count('\n0x')
        self.assertLess(low, high)
        self.assertLessEqual(low, 17)

    def test_no_colours_where_they_are_not_wanted(self):
        for environment in ({'NO_COLOR': '1'}, {'TERM': 'dumb'}):
            self.assertNotIn('\033', self.on_terminal(self.store, 'vm1', **environment))
        self.assertNotIn('\033', self.on_terminal('--color=never', self.store, 'vm1'))
        self.assertIn('\033', self.on_terminal(self.store, 'vm1', NO_COLOR=''))

    def test_colours_may_be_asked_for(self):
        self.assertNotIn('\033', self.map(self.store, 'vm1').out)
        out = self.map('--color=always', '--cell=64k', self.store, 'vm1',
                       environment={'NO_COLOR': '1'}).out
        self.assertIn('\033[38;5;33m█', out)
        self.assertEqual(re.sub(r'\033\[[\d;]*m', '', out),
                         self.map('--cell=64k', self.store, 'vm1').out)

    def test_usage(self):
        for options in (['--cell=5k'], ['--cell=0'], ['--cell=x'], ['--color=perhaps']):
            self.fail_with('^snapfs: map: --', 'map', *options, self.store, 'vm1', status=USAGE)
        self.fail_with('too many', 'map', self.store, 'a', 'b', 'c', status=USAGE)


class TwoTest(MapCase):
    def setUp(self):
        super().setUp()
        self.put(0, 256 * KIB, 2000)
        self.save_guest('old')

    def change(self):
        self.put(0, 4 * KIB, 2000, seed=2)            # a sixteenth of a cell
        self.put(64 * KIB, 64 * KIB, 2000, seed=2)
        for at in range(32, 48):
            del self.guest.pages['pc.ram'][at]
        self.put(MIB, 64 * KIB, 2000)

    def test_a_picture_of_two_shows_what_differs(self):
        self.change()
        self.save_guest('new')
        out = self.picture(self.store, 'old', 'new')
        self.assertEqual(out, '\n'.join([
            'old and new',
            '',
            'pc.ram, 2.00 MiB',
            '0x000000  ░█-=············',
            '0x100000  +···············',
            'pc.rom, 64.0 KiB',
            '0x000000  ·',
            '',
            'One cell is 64.0 KiB. The fuller it is, the more of it differs:',
            '  ░ up to 1/8  ▒ 1/4  ▓ 1/2  █ more',
            '·     zero in both              1.75 MiB   84.8 %  448 pages',
            '=     the same                   124 KiB    5.9 %  31 pages',
            '░▒▓█  changed                   68.0 KiB    3.2 %  17 pages',
            '-     zero in the second        64.0 KiB    3.0 %  16 pages',
            '+     zero in the first         64.0 KiB    3.0 %  16 pages',
            'They differ in 196 KiB: 49 pages, 9.3 %.', '']))

    def test_two_with_the_same_memory_are_the_same(self):
        self.guest.pages['pc.ram'] = dict(reversed(self.guest.pages['pc.ram'].items()))
        self.succeed('import', self.store, 'new', data=makestream.stream(self.guest, order=5))
        out = self.picture(self.store, 'old', 'new')
        self.assertIn('\n0x000000  ====············\n', out)
        self.assertTrue(out.endswith('\nTheir memory is the same.\n'), out)

    def test_the_order_of_the_names_turns_the_picture_round(self):
        self.change()
        self.save_guest('new')
        self.assertEqual(self.cells('new', 'old'), ['░█+=············', '-···············'])

    def test_memory_that_only_one_has_is_marked(self):
        self.guest.sizes['pc.ram'] = MIB
        self.guest.sizes['vga.vram'] = 64 * KIB
        self.guest.pages['vga.vram'] = {}
        self.save_guest('new')
        out = self.picture(self.store, 'old', 'new')
        self.assertIn('\n0x000000  ====············\n0x100000  xxxxxxxxxxxxxxxx\n', out)
        self.assertIn('vga.vram, 64.0 KiB\n0x000000  x\n', out)
        self.assertRegex(out, r'\nx     only one has this memory +1\.06 MiB +50\.0 %  272 pages\n')

    def test_what_lies_in_the_same_place_of_the_same_file_is_not_read(self):
        self.change()
        self.save_guest('new', '--parent=old')
        expected = self.picture(self.store, 'old', 'new')
        self.flip_page_of_old(48)
        self.assertEqual(self.picture(self.store, 'old', 'new'), expected)

    def flip_page_of_old(self, number):
        """Flips a bit of the frame that holds the page; the file stays the same one."""
        extents = self.frames('old')
        with open(self.image('old'), 'r+b') as file:
            file.seek(extents[number // 16] + 100)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))

    def frames(self, name):
        """The offsets of the zstd frames of a snapshot."""
        data = read_file(self.image(name))
        return [found.start() for found in re.finditer(re.escape(bytes.fromhex('28b52ffd')), data)]

    def test_a_damaged_page_is_an_error_that_names_the_file_and_the_place(self):
        self.change()
        self.save_guest('new')
        self.flip_page_of_old(48)
        place = self.frames('old')[3]
        self.fail_with(f'^snapfs: map: {re.escape(self.image("old"))}: a page is damaged at byte '
                       f'{place}$', 'map', self.store, 'old', 'new')
        self.fail_with('a page is damaged', 'map', self.store, 'new', 'old')

    def test_a_damaged_page_of_a_parent_names_that(self):
        self.change()
        self.save_guest('new', '--parent=old')
        self.guest.pages['pc.ram'].clear()
        self.save_guest('none')
        self.flip_page_of_old(48)
        uuid = self.json('info', self.store, 'old')['snapshots'][0]['uuid']
        self.fail_with(f'{re.escape(self.image("new"))}: a page in its parent {uuid} is damaged',
                       'map', self.store, 'none', 'new')


class SvgTest(MapCase):
    def setUp(self):
        super().setUp()
        self.put(64 * KIB, 64 * KIB, 4000)
        self.put(128 * KIB, 64 * KIB, 100)
        self.save_guest('vm1')
        self.file = self.path('out', 'map.svg')
        os.mkdir(self.path('out'))

    def parse(self, text):
        root = xml.fromstring(text)
        self.assertEqual(root.tag, SVG + 'svg')
        return root

    def runs(self, root):
        """{class: pixels} of all cells."""
        found = {}
        for path in root.findall(SVG + 'path'):
            steps = re.findall(r'M\d+,\d+h(\d+)', path.get('d'))
            self.assertEqual(''.join(re.findall(r'M\d+,\d+h\d+', path.get('d'))), path.get('d'))
            found.setdefault(path.get('class'), []).append(sum(map(int, steps)))
        # The first of a class may be that of the legend.
        return {name: max(sums) for name, sums in found.items()}

    def test_a_picture_is_a_whole_document_with_the_same_cells(self):
        root = self.parse(self.picture('--svg=-', self.store, 'vm1'))
        self.assertRegex(root.find(SVG + 'title').text, r'^vm1: 2\.06 MiB of memory, ')
        self.assertIn('stored: 128 KiB, 6.1 %', root.find(SVG + 'desc').text)
        self.assertEqual(self.runs(root)['c0 l0'], (32 - 2 + 1) * 6)
        words = [text.text for text in root.iter(SVG + 'text')]
        for word in ('pc.ram, 2.00 MiB', 'pc.rom, 64.0 KiB', '0x000000', 'stored', '128 KiB',
                     'One cell is 64.0 KiB. The fuller it is, the more room it takes on disk:'):
            self.assertIn(word, words)
        width, height = int(root.get('width')), int(root.get('height'))
        for text in root.iter(SVG + 'text'):
            self.assertTrue(0 < int(text.get('x')) < width and 0 < int(text.get('y')) < height)

    def test_it_loads_nothing_and_knows_dark_pages(self):
        text = self.picture('--svg=-', self.store, 'vm1')
        self.assertNotIn('<script', text)
        self.assertEqual(re.findall(r'https?://[^"]*', text), ['http://www.w3.org/2000/svg'])
        self.assertNotIn('url(', text)
        self.assertIn('prefers-color-scheme:dark', text)

    def test_two_are_drawn_as_well(self):
        self.put(64 * KIB, 64 * KIB, 4000, seed=2)
        self.save_guest('vm2')
        root = self.parse(self.picture('--svg=-', self.store, 'vm1', 'vm2'))
        self.assertEqual(root.find(SVG + 'title').text, 'vm1 and vm2')
        self.assertIn('changed: 64.0 KiB', root.find(SVG + 'desc').text)

    def test_a_file_gets_its_name_when_it_is_whole(self):
        write_file(self.file, b'older')
        self.fail_with('no snapshot|No such file', 'map', '--svg', self.file, self.store, 'vm2')
        self.fail_with("the output's name is empty", 'map', '--svg=', self.store, 'vm1')
        self.assertEqual(read_file(self.file), b'older')
        done = self.succeed('map', '--svg', self.file, self.store, 'vm1')
        self.assertEqual(done.out, '')
        self.parse(read_file(self.file))
        self.assertEqual(os.listdir(self.path('out')), ['map.svg'])

    def test_a_signal_while_it_is_written_leaves_no_half_file(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            moment = at_that_moment('after', 'create', 'map.svg.*', f'kill -{int(number)} $PPID')
            done = self.map('--svg', self.file, self.store, 'vm1', environment=moment)
            self.assertEqual(done.status, 0, done)
            self.parse(read_file(self.file))
            self.assertEqual(os.listdir(self.path('out')), ['map.svg'])
            os.remove(self.file)

    def test_a_device_is_written_and_stays(self):
        self.fail_with('/dev/full: No space', 'map', '--svg', '/dev/full', self.store, 'vm1')
        self.succeed('map', '--svg', '/dev/null', self.store, 'vm1')
        self.fail_with('nowhere', 'map', '--svg', '/nowhere/file', self.store, 'vm1')

    def test_odd_names_make_a_whole_document_too(self):
        for name in (b'a<b>&"c\x1b[2J', b'\xff\xfe', '\ufffe\uffff'.encode(), b'new\nline'):
            self.succeed('import', '--', self.store, name, data=makestream.stream(self.guest))
            root = self.parse(self.succeed('map', '--svg=-', self.store, name).bytes)
            self.assertIn(' of memory', root.find(SVG + 'title').text)


class OddTest(MapCase):
    def test_names_do_not_reach_the_terminal_raw(self):
        self.guest.sizes = {'pc\x1b[2J': 64 * KIB}
        self.guest.pages = {'pc\x1b[2J': {}}
        self.save_guest(b'esc\x1b[2J')
        out = self.succeed('map', self.store, b'esc\x1b[2J').out
        self.assertNotIn('\x1b', out)
        self.assertIn(r'esc\x1b[2J: 64.0 KiB of memory', out)
        self.assertIn(r'pc\x1b[2J, 64.0 KiB', out)

    def test_a_verbatim_stream_is_drawn_as_it_is(self):
        self.snapfs('import', self.store, 'odd', data=makestream.verbatim_stream())
        out = self.picture(self.store, 'odd')
        self.assertRegex(out, r'^odd: .* of verbatim stream, ')
        self.assertRegex(out, r'\nstream, \d+ KiB\n0x00000  [░▒▓█]{12}\n')

    def test_a_verbatim_stream_is_compared_with_none_but_such(self):
        for name in ('odd', 'odd2'):
            self.snapfs('import', self.store, name, data=makestream.verbatim_stream())
        self.save_guest('vm1')
        self.assertIn('Their memory is the same.', self.map(self.store, 'odd', 'odd2').out)
        for names in (('odd', 'vm1'), ('vm1', 'odd')):
            self.fail_with('odd was saved verbatim and vm1 was not: they cannot be compared', 'map',
                           self.store, *names)

    def test_a_snapshot_that_cannot_be_read_gives_one_error_and_no_picture(self):
        self.put(0, MIB, 2000)
        self.save_guest('vm1')
        data = read_file(self.image())
        self.flip(offset=data.index(b'LEAF') + 20)
        done = self.fail_with(f'^snapfs: map: {re.escape(self.image())}: its map is damaged at byte',
                              'map', self.store, 'vm1')
        self.assertEqual(done.out, '')
        write_file(self.image(), data[:1000])
        self.fail_with(f'^snapfs: map: {re.escape(self.image())}: ', 'map', self.store, 'vm1')

    def test_what_is_no_snapshot(self):
        self.fail_with('vm2: No such file', 'map', self.store, 'vm2')
        os.mkdir(os.path.join(self.store, 'empty'))
        self.fail_with('no snapshot in empty', 'map', self.store, 'empty')
        self.fail_with('no snapshot in its top folder', 'map', self.store)
        self.fail_with('nowhere: No such file', 'map', self.path('nowhere'))

    def save_without_pages(self, *records):
        """pc.ram has 2 GiB, of which only these pages are sent."""
        self.guest.sizes['pc.ram'] = 2048 * MIB
        self.save(data=makestream.header() + makestream.ram_start(self.guest) +
                  makestream.ram_section(records) + makestream.ram_section([], kind=3) +
                  makestream.device_state())

    def test_the_memory_of_a_picture_is_bounded(self):
        self.save_without_pages(('pc.ram', 5, page(1, 4096)))
        self.fail_with('524288 cells are more than 262144: use a larger --cell', 'map', '--cell=4k',
                       self.store, 'vm1')
        self.assertIn('\n0x00000000  ░···', self.map(self.store, 'vm1').out)

    def test_memory_that_qemu_left_out_is_named(self):
        self.save_without_pages(('pc.rom', 5, page(1, 4096)))
        out = self.map(self.store, 'vm1').out
        self.assertRegex(out, r'^vm1: 64\.0 KiB of memory, ')
        self.assertIn('\npc.ram, 2.00 GiB, not in the snapshot\npc.rom, 64.0 KiB\n0x00000000  ', out)
        self.save_without_pages()
        out = self.map(self.store, 'vm1').out
        self.assertTrue(out.endswith('\npc.rom, 64.0 KiB, not in the snapshot\n'), out)


if __name__ == '__main__':
    harness.main()

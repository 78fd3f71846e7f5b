#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""snapfs ls, info and verify: what they say of good stores and of bad ones."""
import base64
import ctypes
import os
import re
import shutil

from toolcase import MIB, USAGE, ToolCase, read_file, setUpModule, write_file  # noqa: F401
import harness
import makestream
from mount import Mount, need_views

VERBS = ('ls', 'info', 'verify')


class LookTest(ToolCase):
    def setUp(self):
        super().setUp()
        self.save()

    def test_ls_has_a_line_for_each_snapshot(self):
        self.save('ci/base/vm2')
        lines = self.succeed('ls', self.store).out.splitlines()
        self.assertRegex(lines[0], r'NAME +RAM +STORED +DISK +SHARED +RATIO +FORM +CREATED')
        self.assertRegex(lines[1], r'^ci/base/vm2 +5\.00 MiB +2\.53 MiB +\S+ [KM]iB +- +'
                                   r'\d\.\d\d +classic +20\d\d-\d\d-\d\d \d\d:\d\d:\d\d$')
        self.assertRegex(lines[2], '^vm1 ')
        self.assertEqual(len(lines), 3)

    def test_ls_as_json_has_true_figures(self):
        [one] = self.json('ls', self.store)['snapshots']
        self.assertEqual(one['name'], 'vm1')
        self.assertEqual(one['ram'], 5 * MIB)
        self.assertEqual(one['logical'], 5 * MIB + os.path.getsize(self.devstate()))
        self.assertEqual(one['disk'], os.path.getsize(self.image()))
        self.assertEqual(one['form'], 'classic')
        self.assertRegex(one['created'], r'^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$')

    def devstate(self):
        path = self.path('devstate')
        self.succeed('export', '--form', 'devstate', '-o', path, self.store, 'vm1')
        return path

    def test_names_choose_snapshots_and_folders(self):
        self.save('ci/a')
        self.save('ci/b')
        self.assertEqual(self.names(), ['ci/a', 'ci/b', 'vm1'])
        self.assertEqual(self.names('ci'), ['ci/a', 'ci/b'])
        self.assertEqual(self.names('vm1', 'ci/a'), ['vm1', 'ci/a'])
        self.assertEqual(self.names('./ci//b/'), ['ci/b'])

    def test_info_tells_blocks_and_pages(self):
        out = self.succeed('info', self.store, 'vm1').out
        for line in (r'^Name: +vm1$', r'^Machine: +pc-q35-10\.0$', r'^Form: +classic$',
                     r'^UUID: +[0-9a-f]{8}-[0-9a-f]{4}-', r'^Pages: +1280: 640 stored, 640 zero$',
                     r'^ +pc\.ram +ram +4\.00 MiB +2\.00 MiB', r'^ +vga\.vram +ram +1\.00 MiB'):
            self.assertRegex(out, re.compile(line, re.M))
        ratio = re.search(r'^On disk: .* 1/([\d.]+) of what is stored\)$', out, re.M)[1]
        self.assertAlmostEqual(float(ratio) * os.stat(self.image()).st_size, 2.5 * MIB,
                               delta=0.2 * MIB)

    def test_info_as_json_has_the_blocks(self):
        [one] = self.json('info', self.store, 'vm1')['snapshots']
        self.assertEqual(one['disk'], os.stat(self.image()).st_size)
        ram = [block for block in one['blocks'] if block['kind'] == 'ram']
        self.assertEqual([(b['name'], b['length'], b['base'], b['stored']) for b in ram],
                         [('pc.ram', 4 * MIB, 0, 2 * MIB), ('vga.vram', MIB, 4 * MIB, MIB // 2)])
        self.assertEqual(one['machine'], 'pc-q35-10.0')
        self.assertEqual(one['zero'] + 640 * 4096, 5 * MIB)
        self.assertEqual(one['file'], self.image())

    def test_a_verbatim_snapshot_says_why(self):
        done = self.snapfs('import', self.store, 'odd', data=makestream.verbatim_stream())
        self.assertEqual(done.status, 0, done)
        self.assertIn('virtio-mem-device-early', done.error)
        [one] = self.json('info', self.store, 'odd')['snapshots']
        self.assertEqual(one['form'], 'verbatim')
        self.assertIn('virtio-mem-device-early', one['why'])
        self.assertRegex(self.succeed('ls', self.store, 'odd').out, r'\nodd +- .* verbatim ')

    def test_verify_says_ok(self):
        self.assertRegex(self.succeed('verify', self.store).out, r'^vm1: ok, \S+ [KM]iB\n$')
        self.assertEqual(self.json('verify', self.store)['snapshots'],
                         [{'name': 'vm1', 'ok': True, 'disk': os.path.getsize(self.image())}])

    def test_a_folder_or_file_of_the_store_is_understood(self):
        self.save('ci/a')
        self.assertRegex(self.succeed('verify', os.path.join(self.store, 'ci')).out, '^ci/a: ok')
        self.assertRegex(self.succeed('verify', os.path.join(self.store, 'ci'), 'a').out,
                         '^ci/a: ok')
        self.assertRegex(self.succeed('verify', self.image()).out, '^vm1: ok')

    def test_a_copied_snapshot_needs_no_store(self):
        shutil.copytree(os.path.join(self.store, 'vm1'), self.path('copy'))
        for verb in VERBS:
            self.assertIn('copy', self.succeed(verb, self.path('copy')).out)
        self.assertRegex(self.succeed('verify', self.path('copy', 'snapshot.zst')).out, '^copy: ok')

    def test_an_empty_store_is_no_error(self):
        shutil.rmtree(os.path.join(self.store, 'vm1'))
        for verb in VERBS:
            self.assertEqual(self.succeed(verb, self.store).out, '')
            self.assertEqual(self.json(verb, self.store)['snapshots'], [])


class OddNamesTest(ToolCase):
    NAMES = [b'with space', b'new\nline', b'esc\x1b[2J', b'-dash', b'\xff\xfe', 'größe'.encode(),
             b'quote"\\', b'x' * 255]

    def setUp(self):
        super().setUp()
        for name in self.NAMES:
            done = self.succeed('import', '--', self.store, name, data=self.data)
            self.assertEqual(done.out, '')

    def test_every_legal_byte_makes_a_name(self):
        self.assertEqual(sorted(os.listdir(os.fsencode(self.store))),
                         sorted([b'.snapfs', *self.NAMES]))
        for name in self.NAMES:
            self.succeed('export', '-o', self.path('out'), '--', self.store, name)

    def test_no_name_reaches_the_terminal_raw(self):
        for verb in VERBS:
            out = self.succeed(verb, self.store).bytes
            self.assertNotIn(b'\x1b', out)
            out.decode()
            self.assertIn('größe'.encode(), out)
        lines = self.succeed('verify', self.store).out.splitlines()
        self.assertEqual(len(lines), len(self.NAMES))

    def test_json_holds_the_true_bytes(self):
        for verb in VERBS:
            found = [base64.b64decode(one['name_base64']) if 'name_base64' in one
                     else one['name'].encode()
                     for one in self.json(verb, self.store)['snapshots']]
            self.assertEqual(sorted(found), sorted(self.NAMES))


class BadTest(ToolCase):
    def test_what_is_no_store(self):
        write_file(self.path('file'), b'no')
        os.mkdir(self.path('empty'))
        for verb in VERBS:
            self.fail_with('nowhere: No such file', verb, self.path('nowhere'))
            self.fail_with('file is no store', verb, self.path('file'))
            self.fail_with('is no store and holds no snapshot', verb, self.path('empty'))

    def test_what_is_no_snapshot(self):
        self.save()
        for verb in VERBS:
            self.fail_with('vm2: No such file', verb, self.store, 'vm2')
            done = self.snapfs(verb, self.store, 'vm2', 'vm1')
            self.assertEqual(done.status, 1)
            self.assertIn('vm1', done.out, 'the other is told of')
        os.mkdir(os.path.join(self.store, 'empty'))
        self.fail_with('no snapshot in empty', 'info', self.store, 'empty')

    def test_names_do_not_leave_the_store(self):
        self.save()
        shutil.copytree(os.path.join(self.store, 'vm1'), self.path('outside'))
        os.symlink(self.path('outside'), os.path.join(self.store, 'link'))
        for verb in VERBS:
            self.fail_with('Invalid argument', verb, self.store, '../outside')
            self.fail_with('link: ', verb, self.store, 'link')
        self.assertEqual(self.names(), ['vm1'])

    def test_usage(self):
        for arguments in ([], ['frobnicate'], ['ls'], ['import', self.store],
                          ['export', self.store, 'a', 'b'], ['ls', '--frob', self.store],
                          ['export', '--form', 'tar', self.store, 'vm1'],
                          ['import', '--level', '20', self.store, 'vm1'],
                          ['import', '--level', '-1', self.store, 'vm1'],
                          ['import', '--level', '0', self.store, 'vm1'],
                          ['import', '--level', 'x', self.store, 'vm1'],
                          ['import', '--threads', '-1', self.store, 'vm1'],
                          ['import', '--buffer', '1k', self.store, 'vm1'],
                          ['import', '--buffer', 'much', self.store, 'vm1']):
            done = self.fail_with('^snapfs: ', *arguments, status=USAGE)
            self.assertIn("--help'", done.error)
        self.assertEqual(os.listdir(self.store), [])

    def test_help(self):
        for verb in (*VERBS, 'import', 'export'):
            self.assertIn(f'Usage: snapfs {verb}', self.succeed(verb, '--help').out)

    def test_output_to_a_full_disk_is_an_error(self):
        self.save()
        with open('/dev/full', 'wb') as full:
            self.fail_with('standard output: No space', 'ls', self.store, stdout=full)

    def test_a_store_that_may_not_be_read(self):
        if os.geteuid() != 0:
            raise harness.Missing('only root can become another user')
        self.save()
        os.chmod(self.work, 0o755)
        os.chmod(self.store, 0o700)
        done = harness.run('setpriv', '--reuid=65534', '--clear-groups', self.program(), 'ls',
                           self.store)
        self.assertEqual(done.returncode, 1)
        self.assertIn('Permission denied', done.stderr)


class DamageTest(ToolCase):
    def setUp(self):
        super().setUp()
        self.save('good')
        self.save('vm1')

    def check_bad(self, pattern):
        done = self.snapfs('verify', self.store)
        self.assertEqual(done.status, 1, done)
        good, bad = done.out.splitlines()
        self.assertRegex(good, '^good: ok')
        self.assertRegex(bad, '^vm1: BAD: ' + re.escape(self.image()) + ': ')
        self.assertRegex(bad, pattern)
        self.assertEqual(done.error, 'snapfs: verify: 1 of 2 snapshots is bad\n')
        found = {one['name']: one for one in self.json('verify', self.store, status=1)['snapshots']}
        self.assertTrue(found['good']['ok'])
        self.assertFalse(found['vm1']['ok'])
        self.assertRegex(found['vm1']['error'], pattern)

    def test_verify_names_the_place_of_a_flipped_bit(self):
        self.flip()
        self.check_bad(r'\d')

    def test_a_cut_file_is_bad(self):
        data = read_file(self.image())
        write_file(self.image(), data[:len(data) // 2])
        self.check_bad('snapshot')
        self.check_ls()

    def test_a_grown_file_is_bad(self):
        with open(self.image(), 'ab') as file:
            file.write(bytes(512))
        self.check_bad('snapshot')

    def test_an_empty_file_is_bad(self):
        write_file(self.image(), b'')
        self.check_bad('snapshot')
        self.check_ls()

    def test_a_file_of_another_kind_is_bad(self):
        write_file(self.image(), os.urandom(100000))
        self.check_bad('snapshot')
        self.check_ls()

    def check_ls(self):
        """ls and info tell of the good one, and why not of the other."""
        for verb in ('ls', 'info'):
            done = self.snapfs(verb, self.store)
            self.assertEqual(done.status, 1)
            self.assertIn('good', done.out)
            self.assertRegex(done.error, '^snapfs: vm1: ')
            found = self.json(verb, self.store, status=1)['snapshots']
            self.assertEqual([one['name'] for one in found if 'error' in one], ['vm1'])

    def test_export_of_a_damaged_snapshot_leaves_no_file(self):
        self.flip()
        os.mkdir(self.path('out'))
        for form in ('stream', 'ram'):
            done = self.fail_with('vm1', 'export', '--form', form, '-o',
                                  self.path('out', 'file'), self.store, 'vm1')
            self.assertRegex(done.error, r'byte \d+', 'the place is named')
        self.assertEqual(os.listdir(self.path('out')), [])


class MountedTest(ToolCase):
    """The same through a mount of the store, and beside it."""

    def setUp(self):
        super().setUp()
        need_views()
        self.save()
        self.mount = self.enter(Mount(self.store, self.path('sna ps')))

    def test_a_mounted_store_is_looked_at_by_either_path(self):
        for verb in VERBS:
            self.assertEqual(self.succeed(verb, self.mount.point).out,
                             self.succeed(verb, self.store).out)
        self.assertRegex(self.succeed('verify', self.mount.path('vm1')).out, '^vm1: ok')
        self.assertRegex(self.succeed('verify', self.mount.path('vm1', 'ram')).out, '^vm1: ok')
        self.assertRegex(self.succeed('verify', self.mount.point, 'vm1').out, '^vm1: ok')

    def test_export_is_what_the_mount_shows(self):
        for form in ('stream', 'ram', 'devstate'):
            done = self.succeed('export', '--form', form, self.mount.path('vm1'))
            self.assertTrue(done.bytes == read_file(self.mount.path('vm1', form)), form)

    def test_import_into_a_mounted_store_says_where_it_is_mounted(self):
        for store in (self.store, self.mount.point):
            self.fail_with(re.escape(f'mounted at {self.mount.point}'), 'import', store, 'vm2',
                           data=self.data)
        self.assertEqual(os.listdir(self.mount.point), ['vm1'])


def loaded(program, name):
    """The library of that name that a program runs with."""
    found = re.search(rf'=> (\S*/lib{name}\S*\.so\S*)', harness.run('ldd', program).stdout)
    return found and ctypes.CDLL(found[1])


def texts_of(library, function):
    """What a function that tells a text tells."""
    call = getattr(library, function)
    call.restype = ctypes.c_char_p
    return call().decode()


def numbers_of(library, function, count):
    """What a function that points to numbers tells."""
    call = getattr(library, function)
    call.restype = ctypes.POINTER(ctypes.c_uint * count)
    return '.'.join(map(str, call().contents))


def version_of_glib(library):
    return '.'.join(str(ctypes.c_uint.in_dll(library, f'glib_{part}_version').value)
                    for part in ('major', 'minor', 'micro'))


# Each library that tells its version: the name in its file, and how it is asked.
TELLS = {'glib': ('glib-2', version_of_glib),
         'zstd': ('zstd', lambda library: texts_of(library, 'ZSTD_versionString')),
         'libfuse': ('fuse3', lambda library: texts_of(library, 'fuse_pkgversion')),
         'libseccomp': ('seccomp', lambda library: numbers_of(library, 'seccomp_version', 3))}
USES = {('tools', 'snapfs'): ['glib', 'zstd', 'liburing', 'json-glib'],
        ('tools', 'snapfs-bridge'): ['glib'],
        ('fs', 'mount', 'mount.snapfs'): ['glib', 'libfuse', 'zstd', 'liburing', 'libseccomp']}


class VersionTest(harness.Case):
    def test_a_program_tells_the_versions_of_the_libraries_that_it_runs_with(self):
        for path, names in USES.items():
            program = harness.build_path(*path)
            first, second = self.run_ok(program, '--version').splitlines()
            self.assertRegex(first, rf'^{path[-1]} \d+\.\d+\.\d+$')
            told = dict(one.split(' ', 1) for one in second.split(', '))
            self.assertEqual(list(told), names)
            for name in set(names) & set(TELLS):
                part, ask = TELLS[name]
                self.assertEqual(told.pop(name), ask(loaded(program, part)))
            for version in told.values():
                self.assertRegex(version, r'^\d+\.\d+(\.\d+)?( \(when built\))?$')


if __name__ == '__main__':
    harness.main()

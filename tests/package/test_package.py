#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The package of one release of Debian (SNAPFS_RELEASE): built in a system that
has what debian/control asks for, and installed in one that has nothing."""
import glob
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from chroot import Chroot, mirror, need_chroots
from harness import ROOT, need_fuse, need_program, run

RELEASE = os.environ.get('SNAPFS_RELEASE', 'trixie')
NOBODY = 65534
# An ordinary user builds it; not on Debian 12, where cmocka says "not ok" of a test that is
# skipped without root, and meson takes it for a failure.
BUILDER = 0 if RELEASE == 'bookworm' else NOBODY
SOURCE = '/build/snapfs'
# What Fedora's rpm has, and Debian's has not: macros, and a bash that is /bin/sh. Here it makes no
# package of debug information.
MACROS = r'''
%_topdir /build/rpm
%__brp_compress bash /usr/lib/rpm/brp-compress /usr
%_docdir %{_datadir}/doc
%_docdir_fmt %%{NAME}
%_unitdir %{_prefix}/lib/systemd/system
%meson meson setup . build --buildtype=plain --auto-features=enabled --prefix=%{_prefix}
%meson_build meson compile -C build
%meson_install DESTDIR=%{buildroot} meson install -C build --no-rebuild
%meson_test meson test -C build
%debug_package %{nil}
%_build_id_links none
'''


def keep_mounts_private():
    """Goes on in a mount namespace of its own, which ends with this process."""
    if os.geteuid() == 0 and not os.environ.get('SNAPFS_UNSHARED'):
        os.environ['SNAPFS_UNSHARED'] = 'yes'
        need_program('unshare')
        os.execvp('unshare', ['unshare', '--mount', sys.executable, *sys.argv])


def copy_source(folder):
    """The files of the source tree, without what git leaves out."""
    listed = run('git', '-c', 'safe.directory=*', 'ls-files', '-coz', '--exclude-standard',
                 cwd=ROOT)
    if listed.returncode:
        raise RuntimeError(f'git cannot list the source: {listed.stderr}')
    names = [name for name in listed.stdout.split('\0')
             if name and os.path.isfile(os.path.join(ROOT, name))]
    for name in names:
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy2(os.path.join(ROOT, name), path)


def own(folder, user):
    subprocess.run(['chown', '-R', f'{user}:{user}', folder], check=True)


class Package(harness.Case):
    @classmethod
    def setUpClass(cls):
        need_chroots()
        need_fuse()
        uri = mirror()
        # A disk would be slow; what is mounted here is seen by this process only, and goes with it.
        cls.top = '/mnt'
        subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=4g,mode=755', 'tmpfs', cls.top],
                       check=True)
        cls.fresh = Chroot.fresh(cls.top + '/fresh', RELEASE, uri)
        cls.builder = cls.build()

    @classmethod
    def build(cls):
        """A system with the package, built there by a user who may do nothing else."""
        builder = cls.fresh.copy(cls.top + '/builder')
        copy_source(builder.inside('build', 'snapfs'))
        builder.apt('build-dep', SOURCE)
        own(builder.inside('build'), BUILDER)
        cls.said = builder.run('env', f'DEB_BUILD_OPTIONS=parallel={os.cpu_count()}',
                               'dpkg-buildpackage', '-us', '-uc', folder=SOURCE, user=BUILDER)
        return builder

    @classmethod
    def package(cls):
        (path,) = glob.glob(cls.builder.inside('build', 'snapfs_*.deb'))
        return path

    def test_the_build_runs_the_unit_tests(self):
        self.assertRegex(self.said, r'snapfs:unit / base +OK')
        self.assertRegex(self.said, r'snapfs:golden / golden image +OK')

    def test_lintian_has_nothing_to_say(self):
        self.builder.apt('install', 'lintian')
        (changes,) = glob.glob(self.builder.inside('build', '*.changes'))
        # The lintian of Debian 12 knows no policy of Debian 13.
        said = self.builder.run('lintian', '--fail-on=error,warning',
                                '--suppress-tags=newer-standards-version',
                                os.path.basename(changes), folder='/build', user=NOBODY)
        self.assertEqual(said, '')

    def test_a_guest_comes_back_by_the_installed_programs(self):
        shutil.copy(self.package(), self.builder.inside('snapfs.deb'))
        self.builder.apt('install', './snapfs.deb', 'mount', 'qemu-system-x86')
        self.builder.run('debian/tests/revert', folder=SOURCE)

    def test_it_installs_and_works_and_leaves_nothing_behind(self):
        system = self.fresh.copy(self.top + '/installed')
        shutil.copy(self.package(), system.inside('snapfs.deb'))
        copy_source(system.inside('build', 'snapfs'))
        system.apt('install', './snapfs.deb', 'mount')
        version = run('dpkg-deb', '--field', self.package(), 'Version').stdout.strip()
        for program in ('mount.snapfs', 'mount.fuse.snapfs', 'snapfs', 'snapfs-bridge'):
            self.assertIn(version, system.run(program, '--version'))
        for page in ('man1/snapfs.1', 'man1/snapfs-bridge.1', 'man5/snapfs-format.5',
                     'man7/snapfs-tree.7', 'man7/snapfs-cluster.7', 'man8/mount.snapfs.8',
                     'man8/mount.fuse.snapfs.8'):
            system.run('gzip', '-t', f'/usr/share/man/{page}.gz')
        system.run('debian/tests/mount', folder=SOURCE)

        files = [path for path in system.run('dpkg', '-L', 'snapfs').split('\n')
                 if path and not os.path.isdir(system.inside(path.lstrip('/')))]
        for path in ('/usr/sbin/mount.snapfs', '/usr/share/bash-completion/completions/snapfs',
                     '/usr/share/zsh/vendor-completions/_snapfs'):
            self.assertIn(path, files)
        system.apt('purge', 'snapfs')
        left = [path for path in files if os.path.lexists(system.inside(path.lstrip('/')))]
        self.assertEqual(left, [])
        found = system.run('find', '/', '-xdev', '-name', '*snapfs*', '-not', '-path', '/build*',
                           '-not', '-path', '/snapfs.deb', '-not', '-path', '/proc/*')
        self.assertEqual(found, '')

    def build_rpm(self):
        """The path of an RPM, which an archive of the source gives."""
        self.builder.apt('install', 'rpm')
        version = run('dpkg-deb', '--field', self.package(), 'Version').stdout.strip()
        copy_source(self.builder.inside('build', 'archived', f'snapfs-{version}'))
        with open(self.builder.inside('build', 'macros'), 'w', encoding='utf-8') as file:
            file.write(MACROS)
        own(self.builder.inside('build'), BUILDER)
        self.builder.run('tar', '-czf', f'snapfs-{version}.tar.gz', '-C', 'archived',
                         f'snapfs-{version}', folder='/build', user=BUILDER)
        # rpm knows no package of Debian.
        self.builder.run('rpmbuild', '-tb', '--nodeps', '--without=check', '--load=/build/macros',
                         f'snapfs-{version}.tar.gz', folder='/build', user=BUILDER)
        (path,) = glob.glob(self.builder.inside('build', 'rpm', 'RPMS', '*', '*.rpm'))
        return os.path.join('/', os.path.relpath(path, self.builder.path))

    def test_an_rpm_has_the_same_files(self):
        said = self.builder.run('rpm', '-qp', '--qf', r'[%{FILEMODES:perms} %{FILENAMES}\n]',
                                self.build_rpm())
        rpm = {line.split()[1] for line in said.strip().split('\n') if line[0] != 'd'}
        said = run('sh', '-c', 'dpkg-deb --fsys-tarfile "$0" | tar -t', self.package()).stdout
        deb = {line[1:] for line in said.strip().split('\n') if line[-1] != '/'}
        of_rpm = {'/usr/share/doc/snapfs/README.md', '/usr/share/licenses/snapfs/COPYING',
                  '/usr/share/zsh/site-functions/_snapfs'}
        of_deb = {'/usr/share/doc/snapfs/README.md.gz', '/usr/share/doc/snapfs/changelog.gz',
                  '/usr/share/doc/snapfs/copyright', '/usr/share/zsh/vendor-completions/_snapfs'}
        self.assertEqual((rpm - deb, deb - rpm), (of_rpm, of_deb))


if __name__ == '__main__':
    keep_mounts_private()
    harness.main()

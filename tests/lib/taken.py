# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests make or fetch once, and keep: guests, and files of Debian's packages.

Environment:
  SNAPFS_GUEST_CACHE   where they are kept (default: ~/.cache/snapfs-guest)
"""
import contextlib
import fcntl
import glob
import os
import shutil
import subprocess
import tempfile

from harness import Missing, need_program


def cache_folder():
    path = os.environ.get('SNAPFS_GUEST_CACHE') or os.path.join(
        os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'snapfs-guest')
    os.makedirs(path, exist_ok=True)
    return path


@contextlib.contextmanager
def _locked(folder):
    """One builder at a time; the others find what it made."""
    with open(os.path.join(folder, '.lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cached(name, make):
    """The cached file `name`; make(path, folder) writes it if it is not there.

    It gets its name by a rename, so whoever sees it sees all of it.
    """
    cache = cache_folder()
    path = os.path.join(cache, name)
    if os.path.exists(path):
        return path
    with _locked(cache), tempfile.TemporaryDirectory(dir=cache) as folder:
        if not os.path.exists(path):
            made = os.path.join(folder, 'made')
            make(made, folder)
            os.replace(made, path)
    return path


def tool(*command):
    need_program(command[0])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f'{" ".join(command)}: {done.stderr.strip()}')
    return done.stdout


def unpack(package, folder):
    """A package of Debian, unpacked into a folder of this one, and not installed."""
    need_program('apt-get')
    done = subprocess.run(['apt-get', 'download', package], cwd=folder, capture_output=True,
                          text=True, check=False)
    if done.returncode:
        raise Missing(f'apt-get download {package}: {done.stderr.strip()}')
    (deb,) = glob.glob(os.path.join(folder, '*.deb'))
    root = os.path.join(folder, 'root')
    tool('dpkg-deb', '-x', deb, root)
    return root


def take(package, pattern, path, folder):
    """Writes `path`, the file of a package of Debian that a pattern matches."""
    (found,) = glob.glob(os.path.join(unpack(package, folder), pattern))
    shutil.copy(found, path)


def program_of(package, name):
    """A program: the one that is installed, or else that of a package."""
    return shutil.which(name) or cached(
        name, lambda path, folder: take(package, f'usr/bin/{name}', path, folder))

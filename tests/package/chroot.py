# SPDX-License-Identifier: GPL-2.0-or-later
"""Systems of a release of Debian, each in a folder, by mmdebstrap."""
import os
import shutil
import subprocess

from harness import ROOT, Missing, need_program, need_root, run

# $0 is the folder; the rest is what runs in it. All that it mounts and starts
# ends with it: both are in namespaces of their own.
ENTER = r'''
set -e
mount -t proc proc "$0/proc"
mount -t tmpfs tmpfs "$0/dev"
for node in null zero full random urandom fuse; do
    : >"$0/dev/$node"
    mount --bind "/dev/$node" "$0/dev/$node"
done
ln -s /proc/self/fd "$0/dev/fd"
mkdir "$0/dev/shm"
mount -t tmpfs tmpfs "$0/dev/shm"
exec chroot "$0" "$@"
'''
NEW_NAMESPACES = ['unshare', '--mount', '--pid', '--ipc', '--fork', '--kill-child', '--']

# A mirror may not answer for a moment.
MIRROR_TRIES = 3


def need_chroots():
    need_root()
    need_program('mmdebstrap')
    done = run(*NEW_NAMESPACES, 'true')
    if done.returncode:
        raise Missing(f'namespaces cannot be made: {done.stderr.strip()}')


def mirror():
    """The mirror that this system has Debian from."""
    release = run('sh', '-c', '. /etc/os-release; echo "${VERSION_CODENAME:-}"').stdout.strip()
    found = run('bash', '-c', '. "$1"; apt_sources | mirror_of "$2"', 'bash',
                os.path.join(ROOT, 'tests', 'needs'), release).stdout.strip()
    if not found:
        raise Missing('apt has Debian itself from no mirror')
    return found


class Chroot:
    """A system; its folder is all that there is of it."""

    def __init__(self, path):
        self.path = path

    @classmethod
    def fresh(cls, path, release, uri):
        """A system with apt, and nothing that is not essential."""
        for _ in range(MIRROR_TRIES):
            done = run('mmdebstrap', '--variant=apt', '--mode=root',
                       '--dpkgopt=force-unsafe-io', '--aptopt=Acquire::Retries "3"',
                       '--skip=cleanup/apt/lists', release, path, uri, timeout=900)
            if not done.returncode:
                return cls(path)
            shutil.rmtree(path, ignore_errors=True)
        raise RuntimeError(f'mmdebstrap {release}: {done.stdout}{done.stderr}')

    def copy(self, path):
        """Another one, as this one is now."""
        subprocess.run(['cp', '-a', self.path, path], check=True)
        return Chroot(path)

    def inside(self, *names):
        return os.path.join(self.path, *names)

    def run(self, *command, folder='/', user=0):
        """Runs a command in there, and returns what it prints; RuntimeError if it fails."""
        words = [*NEW_NAMESPACES, 'sh', '-c', ENTER, self.path,
                 'setpriv', f'--reuid={user}', f'--regid={user}', '--clear-groups',
                 'env', '-i', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL=C.UTF-8',
                 'HOME=/nonexistent', 'DEBIAN_FRONTEND=noninteractive',
                 'sh', '-c', 'cd "$0" && exec "$@"', folder, *command]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors='replace',
                              timeout=1500, check=False)
        if done.returncode:
            raise RuntimeError(f'{" ".join(command)}: {done.returncode}\n{done.stdout[-20000:]}')
        return done.stdout

    def apt(self, *words):
        """apt-get, without what only recommends itself."""
        return self.run('apt-get', '-qq', '-y', '--no-install-recommends', '-o',
                        'Acquire::Retries=3', '-o', 'Dpkg::Use-Pty=0', *words)

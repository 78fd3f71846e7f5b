# SPDX-License-Identifier: GPL-2.0-or-later
"""Two users of this machine, made up for a test, and what they do while another
program runs. Only root can be them."""
import contextlib
import os
import pickle
import signal
import traceback

import harness
from harness import build_path, die_with_parent, need_root
from mount import Mount

ALICE, BOB = 20011, 20012


def become(uid):
    """This process is that user, in a group of the same number, from now on."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    # A change of user forgets it.
    die_with_parent()


def start(uid, function, *arguments):
    """Calls it in a process of that user; its id, and where its result can be read."""
    need_root()
    end, begin = os.pipe()
    pid = os.fork()
    if pid:
        os.close(begin)
        return pid, os.fdopen(end, 'rb')
    try:
        os.close(end)
        become(uid)
        try:
            result = (function(*arguments), None)
        except OSError as error:
            result = (None, (error.errno, error.strerror))
        with os.fdopen(begin, 'wb') as pipe:
            pickle.dump(result, pipe)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def as_user(uid, function, *arguments):
    """Its result, or its OSError, when it is called as that user."""
    pid, pipe = start(uid, function, *arguments)
    with pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    if not data:
        raise RuntimeError(f'{function.__name__} has failed as user {uid}')
    result, error = pickle.loads(data)
    if error:
        raise OSError(*error)
    return result


@contextlib.contextmanager
def meanwhile(uid, function, *arguments):
    """A process of that user calls it; what it does is over when this is left."""
    pid, pipe = start(uid, function, *arguments)
    try:
        with pipe:
            yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def again_and_again(*functions):
    """Calls them in turn, whether they work or not, until somebody ends it."""
    while True:
        for function in functions:
            with contextlib.suppress(OSError):
                function()


@contextlib.contextmanager
def holding(uid, function, *arguments):
    """The same, but the function has been called when this begins, and what it
    returns is held until this ends."""
    ready, say = os.pipe()

    def hold():
        held = function(*arguments)
        os.write(say, b'x')
        signal.pause()
        return held
    with meanwhile(uid, hold) as pid:
        os.close(say)
        told = os.read(ready, 1)
        os.close(ready)
        if not told:
            raise RuntimeError(f'{function.__name__} has failed as user {uid}')
        yield pid


def write_file(path, text):
    with open(path, 'w') as file:
        file.write(text)


def at_that_moment(when, call, pattern, command):
    """The environment of a program that is overtaken: at a call that makes a name,
    `command` runs, which gets the name as $1; see meanwhile.c."""
    return {'LD_PRELOAD': build_path('tests', 'fuse', 'libmeanwhile.so'),
            'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '') + ':verify_asan_link_order=0',
            'SNAPFS_MEANWHILE': f'{when} {call} {pattern} {command}'}


class UserCase(harness.Case):
    """A test whose folder the users can enter."""

    def setUp(self):
        need_root()
        super().setUp()
        os.chmod(self.work, 0o711)

    def folder_of(self, uid, *names, mode=0o755):
        path = self.path(*names)
        os.makedirs(path, exist_ok=True)
        os.chown(path, uid, uid)
        os.chmod(path, mode)
        return path

    def file_of(self, uid, *names, mode=0o600, text='secret'):
        path = self.path(*names)
        with open(path, 'w') as file:
            file.write(text)
        os.chown(path, uid, uid)
        os.chmod(path, mode)
        return path

    def assert_untouched(self, fd, mode, text=None):
        """What is open by `fd` is still root's, of that mode, with that text."""
        st = os.fstat(fd)
        self.assertEqual((st.st_uid, st.st_gid, oct(st.st_mode & 0o7777)), (0, 0, oct(mode)))
        if text is not None:
            self.assertEqual(os.pread(fd, 4096, 0).decode(), text)


class MountCase(UserCase):
    """A store of root's with a folder of Bob's, which all may use."""
    owner = 0

    def setUp(self):
        super().setUp()
        self.store = self.folder_of(self.owner, 'store')
        self.bobs = self.folder_of(BOB, 'store', 'bob')
        self.secret = self.file_of(0, 'store', 'bob', 'secret')

    def mount(self, env=None):
        # Who overtakes it runs within its process, which must be free to start programs.
        free = ['keep_caps', 'keep_new_privs', 'no_landlock', 'no_seccomp'] if env else []
        mount = Mount(self.store, self.path('snaps'), ['allow_other', *free], env=env)
        self.addCleanup(lambda: self.assertEqual(mount.suspicious(), []))
        return self.enter(mount)

    def overtaken(self, when, call, pattern, command):
        return self.mount(at_that_moment(when, call, pattern, f'cd {self.bobs}; {command}'))

    def held(self, *names, flags=os.O_RDONLY):
        fd = os.open(self.path(*names), flags)
        self.addCleanup(os.close, fd)
        return fd

    def answers(self, mount):
        """The daemon serves requests."""
        self.assertIn('bob', os.listdir(mount.path()))
        os.statvfs(mount.path('bob'))

# SPDX-License-Identifier: GPL-2.0-or-later
"""A program for which no file system makes hard links. link(2) says EPERM where one has none, as
vfat and exfat do; here a filter of system calls says so."""
import ctypes
import errno

from harness import Missing, die_with_parent, need_root

ALLOW = 0x7fff0000          # SCMP_ACT_ALLOW and the rest: seccomp.h of libseccomp
FAIL = 0x00050000           # SCMP_ACT_ERRNO(0)
NO_NEW_PRIVS = 3            # SCMP_FLTATR_CTL_NNP
CALLS = (b'link', b'linkat')


def _load():
    try:
        return ctypes.CDLL('libseccomp.so.2')
    except OSError as error:
        raise Missing(f'no libseccomp: {error}') from None


def before_exec():
    """The function for preexec_fn. Root's: another user's filter forbids fusermount3."""
    need_root()
    library = _load()
    library.seccomp_init.restype = ctypes.c_void_p
    filtered = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ALLOW)))
    library.seccomp_attr_set(filtered, NO_NEW_PRIVS, ctypes.c_uint32(0))
    for name in CALLS:
        number = library.seccomp_syscall_resolve_name(name)
        if number >= 0:     # some machines have only linkat
            library.seccomp_rule_add(filtered, ctypes.c_uint32(FAIL | errno.EPERM), number, 0)

    def run():
        die_with_parent()
        if library.seccomp_load(filtered):
            raise OSError('seccomp_load')
    return run

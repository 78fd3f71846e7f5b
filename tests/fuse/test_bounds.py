#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mount holds and tells stays within bounds: descriptors, time, numbers,
and what one snapshot has to do with its copies."""
import ctypes
import errno
import os
import struct
import unittest

from fusecase import FuseCase, harness, read_file, setUpModule  # noqa: F401

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100


class FileHandle(ctypes.Structure):
    """struct file_handle of name_to_handle_at(2)."""
    _fields_ = [('bytes', ctypes.c_uint), ('type', ctypes.c_int), ('handle', ctypes.c_ubyte * 128)]


def file_handle(path):
    """The handle that the kernel gives any user for a file."""
    handle = FileHandle(bytes=128)
    mount = ctypes.c_int()
    if LIBC.name_to_handle_at(AT_FDCWD, path.encode(), ctypes.byref(handle),
                              ctypes.byref(mount), 0) < 0:
        code = ctypes.get_errno()
        if code == errno.EOPNOTSUPP:
            raise unittest.SkipTest('this kernel gives no handles of FUSE files')
        raise OSError(code, os.strerror(code), path)
    return handle


class Numbers(FuseCase):
    def test_numbers_of_files_tell_no_address_of_the_daemon(self):
        self.save()
        os.mkdir(self.snaps('folder'))
        with open(self.snaps('vm1', 'notes'), 'w') as file:
            file.write('text')
        for name in ('vm1', 'folder', 'vm1/notes', 'vm1/ram', 'vm1/stream', '.snapfs/version'):
            handle = file_handle(self.snaps(name))
            # fs/fuse/inode.c of the kernel, fuse_encode_fh: the number of the
            # node, upper half first, then its generation.
            upper, lower = struct.unpack('=II', bytes(handle.handle[:8]))
            self.assertLess(upper << 32 | lower, 1 << 20, name)

    def test_a_number_that_was_never_given_harms_nobody(self):
        harness.need_root()
        self.save()
        handle = file_handle(self.snaps('vm1', 'ram'))
        top = os.open(self.snaps(), os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, top)
        for number in (0, 1 << 20, 0x7fffffffffff, (1 << 64) - 1):
            handle.handle[:8] = struct.pack('=II', number >> 32, number & 0xffffffff)
            fd = LIBC.open_by_handle_at(top, ctypes.byref(handle), os.O_RDONLY)
            self.assertLess(fd, 0)
        self.check_snapshot()


if __name__ == '__main__':
    harness.main()

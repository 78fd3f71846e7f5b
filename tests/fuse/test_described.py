#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The description at the end of a stream agrees with its configuration, in
every view and in every copy, and comes back as it was."""
import os
import struct

from fusecase import FuseCase, read_file, setUpModule, write_stream  # noqa: F401
import harness
import makestream
import mappedram
from stream import check_description

BITS = b'\x05' + makestream.str8('configuration/target-page-bits') + struct.pack('>II', 1, 12)
UUID = b'\x05' + makestream.str8('configuration/uuid') + struct.pack('>I', 1) + bytes(range(16))
CAPS = mappedram.header('mapped-ram')[len(makestream.header()):]
AROUND = ((), ('target-page-bits',), ('uuid',), ('target-page-bits', 'uuid'))


class DescribedTest(FuseCase):
    # The text begins at several places in its pages.
    kinds = [((), size) for size in (4096 * 7 - 400, 4096 * 7 - 180, 4096 * 7 - 120, 100)] + [
        (around, 30000) for around in AROUND]

    def configuration(self, around, mapped):
        """The subsections, and the description of them."""
        names = [name for name in ('target-page-bits', 'capabilities', 'uuid')
                 if name in around or mapped and name == 'capabilities']
        data = {'target-page-bits': BITS, 'capabilities': CAPS, 'uuid': UUID}
        return b''.join(data[name] for name in names), makestream.described(*names)

    def classic(self, around, size):
        subsections, described = self.configuration(around, False)
        body = makestream.stream(self.guest)[len(makestream.header()):]
        tail = makestream.device_state()
        self.assertTrue(body.endswith(tail))
        return (makestream.header() + subsections + body[:-len(tail)] +
                makestream.device_state(size, configuration=described))

    def mapped(self, around, size):
        subsections, described = self.configuration(around, True)
        image = mappedram.Image(self.guest, header=makestream.header() + subsections)
        return image.data[:image.tail_at] + makestream.device_state(size, configuration=described)

    def check(self, name, data, form):
        for view in ('stream', 'mapped', 'devstate'):
            check_description(read_file(self.snaps(name, view)))
        self.assertTrue(read_file(self.snaps(name, 'stream')) == data)
        self.assertEqual(os.getxattr(self.snaps(name), 'user.snapfs.form'), form)

    def check_copies(self, data, form):
        """Of each file by which a snapshot can be copied."""
        os.mkdir(self.snaps('vm1'))
        write_stream(self.snaps('vm1', 'stream'), data)
        if form == b'classic':
            # The same records, a section for each block.
            saved = read_file(self.snaps('vm1', 'stream'))
            end = data.rindex(b'0000:00:01.0/dev')
            self.assertTrue(saved.endswith(data[end:]))
            data = saved
        self.check('vm1', data, form)
        for views in (('stream',), ('mapped',), ('ram', 'devstate')):
            os.mkdir(self.snaps('vm2'))
            for view in views:
                self.run_ok('cp', self.snaps('vm1', view), self.snaps('vm2', view))
            self.check('vm2', data, form)
            for view in ('ram', 'devstate', 'mapped'):
                self.assertTrue(read_file(self.snaps('vm1', view)) ==
                                read_file(self.snaps('vm2', view)), view)
            self.run_ok('rm', '-r', self.snaps('vm2'))
        self.run_ok('rm', '-r', self.snaps('vm1'))

    def test_a_classic_stream(self):
        for around, size in self.kinds:
            with self.subTest(around=around, size=size):
                self.check_copies(self.classic(around, size), b'classic')

    def test_a_mapped_ram_stream(self):
        for around, size in self.kinds:
            with self.subTest(around=around, size=size):
                self.check_copies(self.mapped(around, size), b'mapped-ram')

    def test_a_device_whose_state_looks_like_a_description(self):
        """Its bytes stay as they are."""
        _, described = self.configuration((), True)
        fake = makestream.device_state(configuration=described)
        begin = fake.rindex(b'\x00\x06')
        for make in (self.classic, self.mapped):
            data = make((), 30000)
            at = data.rindex(b'0000:00:01.0/dev') + 1000
            data = data[:at] + fake[begin:] + data[at + len(fake) - begin:]
            self.check_copies(data, b'classic' if make == self.classic else b'mapped-ram')


if __name__ == '__main__':
    harness.main()

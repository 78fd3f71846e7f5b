# SPDX-License-Identifier: GPL-2.0-or-later
"""What is true: guests that are made from a seed, each in one form, and what
every file of its snapshot must hold, byte for byte."""
import dataclasses
import os
import random
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
for folder in ('lib', 'fuse'):
    sys.path.insert(0, os.path.join(HERE, '..', folder))

import makestream  # noqa: E402
import mappedram  # noqa: E402
from copycase import KINDS, image_of, listed_of  # noqa: E402
from fusecase import MIB, read_file  # noqa: E402

PAGE = makestream.PAGE
VERBATIM = 'verbatim'
# A form of copycase.KINDS, or VERBATIM, and MiB of main memory: small ones for
# many tries, large ones whose save lasts.
MADE = [('classic', 2), ('mapped', 3), ('mapped-libvirt', 2), ('classic-libvirt', 3),
        ('classic-zeros', 1), (VERBATIM, 1), ('classic', 16), ('mapped', 16)]


class Loss(Exception):
    """What must never happen has happened; the sentence says what."""


def need(condition, sentence):
    if not condition:
        raise Loss(sentence)


@dataclasses.dataclass(eq=False)
class Truth:
    """`stream` is what is written to save it, `views` are the files of the
    snapshot, by name."""
    name: str
    stream: bytes
    preamble: bytes = b''
    image: object = None      # of a mapped-ram form: its writes
    guest: object = None      # None for VERBATIM
    views: dict = dataclasses.field(default_factory=dict)

    def __repr__(self):
        return self.name

    @property
    def listed(self):
        return listed_of(self.preamble) if self.guest else ['stream']

    def writes(self, rng):
        """(offset, bytes) of each write, as QEMU may do them: a classic stream
        from front to back, mapped-ram's pages in any order."""
        if self.image:
            pages = list(self.image.pages)
            rng.shuffle(pages)
            before = [(0, self.preamble)] if self.preamble else []
            return [*before, *self.image.stream[:-2], *pages, *self.image.bitmaps,
                    *self.image.stream[-2:]]
        size = rng.choice((4096, 32768, 131328, MIB))
        return [(at, self.stream[at:at + size]) for at in range(0, len(self.stream), size)]

    def kin(self, truths):
        """Those with the same RAM blocks, which can be its parents."""
        return [one for one in truths
                if one is not self and self.guest and one.guest
                and one.guest.sizes == self.guest.sizes]

    def rewritten(self, preamble):
        """The same snapshot after its preamble was written again."""
        stream = preamble + self.stream[len(preamble):]
        views = {**self.views, 'preamble': preamble,
                 'stream': preamble + self.views['stream'][len(preamble):]}
        return dataclasses.replace(self, name=self.name + ', rewritten', stream=stream,
                                   preamble=preamble, views=views)

    def learn(self, folder):
        """Reads a snapshot of it that was saved in peace, checks it against the
        seed, and keeps its bytes."""
        names = {*self.listed, *(('stream', 'mapped') if self.guest else ())}
        self.views = {name: read_file(os.path.join(folder, name)) for name in names}
        need(sorted(os.listdir(folder)) == self.listed, f'{self}: other files are listed')
        need(self.views.get('preamble', b'') == self.preamble, f'{self}: preamble')
        stream = self.views['stream']
        if self.image or not self.guest:
            need(stream == self.stream, f'{self}: stream')
        else:
            check_pages(self.guest, *makestream.read_back(stream[len(self.preamble):])[:2])
        if self.guest:
            need(self.views['ram'] == self.guest.flat(), f'{self}: ram')
            need(self.views['devstate'].endswith(makestream.device_state()), f'{self}: devstate')
            data = self.views['mapped']
            reader = mappedram.Reader(lambda at, size: data[at:at + size])
            check_pages(self.guest, reader.sizes, {name: reader.pages(name)
                                                   for name in reader.sizes})


def check_pages(guest, sizes, pages):
    need(sizes == guest.sizes, 'the RAM blocks are others')
    need(pages == guest.pages, 'a page has wrong bytes')


def change(guest, rng):
    """Guests of one size have most pages in common, as those of two moments: one
    page in eight is another, is zero, or is so no more."""
    for name, size in guest.sizes.items():
        for page in rng.sample(range(size // PAGE), size // PAGE // 8):
            guest.pages[name].pop(page, None)
            if rng.random() < 0.7:
                guest.pages[name][page] = makestream.page_bytes(rng.getrandbits(30))


def make(seed):
    """One truth for each line of MADE."""
    made = []
    for number, (kind, size) in enumerate(MADE):
        name = f'{kind} of {size} MiB'
        if kind == VERBATIM:
            made.append(Truth(name, makestream.verbatim_stream(size * MIB)))
            continue
        form, preamble = KINDS[kind]
        guest = makestream.Guest({'pc.ram': size * MIB, 'rom': 3 * 4096, 'vga.vram': MIB},
                                 seed=seed + size, every=3)
        change(guest, random.Random(f'{seed} {number}'))
        image = mappedram.Image(guest, len(preamble)) if form != 'classic' else None
        made.append(Truth(name, image_of(guest, form, preamble), preamble, image, guest))
    return made

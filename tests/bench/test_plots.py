#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The pictures of the benchmarks, drawn of figures that are made up."""
import os
import sys
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(os.path.dirname(HERE), 'lib'), HERE]

import plots                             # noqa: E402
from figures import Results              # noqa: E402
from harness import Case, main, need_program  # noqa: E402

WAYS = {'raw file:': (0.9, 1, 0.9), 'snapfs bridge, hot': (0.02, 0.7, 1.6),
        'snapfs memory file': (0.02, 1.1, None)}


class Pictures(Case):
    def setUp(self):
        super().setUp()
        need_program('gnuplot')
        self.results = Results(self.path('results.json'))

    def add_saves(self, part):
        for row in ('raw file:', 'snapfs save'):
            self.results.add(part, row, 'time', 's', [1, 3, 2])
            self.results.add(part, row, 'on disk', 'MB', 200)

    def add_reverts(self):
        for row, times in WAYS.items():
            for column, value in zip(('runs', 'working set in', 'all memory in'), times):
                if value is not None:
                    self.results.add('revert, cold', row, column, 's', value)

    def draw(self):
        """{picture: None, or why there is none}"""
        self.results.write()
        return plots.draw(self.path('results.json'), self.path('pictures'))

    def texts(self, name):
        """All that one can read in a picture."""
        tree = xml.etree.ElementTree.parse(self.path('pictures', f'{name}.svg'))
        return ' '.join(' '.join(tree.getroot().itertext()).split())

    def test_every_picture_names_what_it_compares_and_its_units(self):
        self.add_saves('save, stopped guest')
        self.add_saves('save, stopped guest, slow disk')
        self.add_reverts()
        for row in ('squashfs', 'snapfs'):
            self.results.curve(plots.RANDOM, row, 'us', [[10, 0], [200, 0.5], [3000, 1]])
        self.assertEqual(self.draw(), {'save': None, 'revert': None, 'random': None})
        for picture, words in {
                'save': ['raw file:', 'snapfs save', 'seconds', 'MB on disk', '2.00', '200'],
                'revert': [*WAYS, 'seconds after the command', 'stands still'],
                'random': ['squashfs', 'snapfs', 'microseconds']}.items():
            for word in words:
                self.assertIn(word, self.texts(picture))

    def test_a_picture_without_figures_is_left_out_and_says_so(self):
        self.add_reverts()
        self.assertEqual(self.draw(), {
            'save': 'no figures of "save, stopped guest"', 'revert': None,
            'random': f'no figures of "{plots.RANDOM}"'})
        self.assertEqual(os.listdir(self.path('pictures')), ['revert.svg'])


if __name__ == '__main__':
    main()

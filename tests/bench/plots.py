#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Draws three pictures of what bench.py has measured, by gnuplot: save.svg,
revert.svg and random.svg. One whose figures are not there is left out.

usage: plots.py RESULTS FOLDER
"""
import json
import math
import os
import shutil
import statistics
import subprocess
import sys

# Tables of the results.
SAVE, REVERT, RANDOM = 'save, stopped guest', 'revert, cold', 'reads of 4 KiB at random, cold'
OURS = '#1a6faf'
# Of bars, ours and others'; the second pair is for the slow disk.
COLOURS = ((OURS, '#9a9a9a'), ('#a3c8e6', '#d4d4d4'))
STANDS, WAITS, REST = '#c0392b', '#e8a33d', '#b9d7ae'
# Of the lines of a picture; the darkest is for snapfs.
LINES = ('#e07b39', '#4c9f70', '#8e6bbf', '#c9a227', '#6b6b6b', '#d1495b', '#3aa6a6', '#9c6644')
WIDTH, ROW, AROUND = 800, 30, 120    # pixels; ROW a bar, AROUND for axes and key


class Missing(Exception):
    """The results do not have what a picture shows."""


def is_ours(name):
    return name.startswith('snapfs')


def quoted(text):
    return '"' + text.replace('\\', '\\\\').replace('"', '\\"') + '"'


def block(name, rows):
    """Data within a script; gnuplot reads names in double quotes as one word."""
    return '\n'.join([f'${name} << END', *(' '.join(map(str, row)) for row in rows), 'END'])


class Figures:
    """The results file, as the pictures want it."""

    def __init__(self, path):
        with open(path) as file:
            self.all = json.load(file)

    def rows(self, part):
        rows = self.all['parts'].get(part)
        if not rows:
            raise Missing(f'no figures of "{part}"')
        return rows

    def median(self, part, row, column):
        """None where there is no such value."""
        cell = self.all['parts'].get(part, {}).get(row, {}).get(column)
        return statistics.median(cell['values']) if cell else None

    def curves(self, part):
        curves = self.all['curves'].get(part)
        if not curves:
            raise Missing(f'no figures of "{part}"')
        return curves


def head(height, title):
    return f'''set terminal svg size {WIDTH},{height} font "sans-serif,14" background "white"
set encoding utf8
set title {quoted(title)} font ",16"
set border 3
set tics nomirror out
set grid xtics lt 1 lc rgb "#e4e4e4" lw 1
set style fill solid noborder'''


def name_rows(names):
    """The y axis: a name a row, the first one at the top."""
    tics = ', '.join(f'{quoted(name)} {i}' for i, name in enumerate(names))
    return f'set ytics ({tics}) scale 0\nset yrange [{len(names) - 0.4}:-0.6]'


# ---- saving ----

def step(most):
    """Between two numbers of an axis: 1, 2 or 5 times a power of ten, and few."""
    power = 10 ** math.floor(math.log10(most / 4))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= most / 4)


def bars(figures, part, names, column, low, high, colours):
    """(value, row, top, bottom, colour, label) for each row that has a value;
    a box lies between low and high of its row. `colours`: ours, and others."""
    rows = []
    for i, name in enumerate(names):
        value = figures.median(part, name, column)
        if value is not None:
            colour = colours[not is_ours(name)].replace('#', '0x')
            label = f'"{value:.0f}"' if value > 20 else f'"{value:.2f}"'
            rows.append((value, i, i + low, i + high, colour, label))
    return rows


def panel(figures, column, axis, names, parts):
    """One of two pictures side by side: a bar of each part in each row."""
    data, plots, most = [], [], 0
    for k, part in enumerate(parts):
        low, share = -0.4 + 0.8 * k / len(parts), 0.8 / len(parts) - 0.03
        rows = bars(figures, part, names, column, low, low + share, COLOURS[k])
        box = f'{column.replace(" ", "")}{k}'
        data.append(block(box, rows))
        most = max([most, *(row[0] for row in rows)])
        plots += [f'${box} using (0):2:(0):1:3:4:(column(5)+0) with boxxy lc rgb variable',
                  f'${box} using 1:(($3+$4)/2.0):6 with labels left offset 0.4,0 font ",11"']
    return '\n'.join([*data, f'set xlabel {quoted(axis)}', f'set xrange [0:{most * 1.22:.4g}]',
                      f'set xtics {step(most)}', f'plot {", ".join(plots)}'])


def draw_save(figures):
    part = SAVE
    names = list(figures.rows(part))
    both = [name for name in (part, f'{part}, slow disk') if name in figures.all['parts']]
    height = len(names) * ROW * 3 // 2 + AROUND
    what = 'Saving a stopped guest, until all is on disk'
    if len(both) > 1:
        what += ' (pale: a disk of 450 MB/s)'
    return '\n'.join([
        head(height, ''), 'unset title', 'unset key', name_rows(names),
        f'set multiplot title {quoted(what)} font ",16"',
        f'set tmargin at screen {1 - 50 / height}', f'set bmargin at screen {80 / height}',
        'set lmargin at screen 0.26', 'set rmargin at screen 0.63',
        panel(figures, 'time', 'seconds', names, both),
        'set ytics format ""', 'set lmargin at screen 0.66', 'set rmargin at screen 0.98',
        name_rows([''] * len(names)),
        panel(figures, 'on disk', 'MB on disk', names, both[:1]), 'unset multiplot'])


# ---- reverting ----

def draw_revert(figures):
    part = REVERT
    names = list(figures.rows(part))
    height = len(names) * ROW + AROUND + 80
    stands, waits, rest = [], [], []
    for i, name in enumerate(names):
        runs, useful, whole = (figures.median(part, name, column) for column in
                               ('runs', 'working set in', 'all memory in'))
        stands.append((0, runs, i - 0.36, i + 0.36))
        waits.append((runs, useful, i - 0.36, i + 0.36))
        if whole and whole > useful:
            rest.append((useful, whole, i - 0.36, i + 0.36))
    steps = [('stands', stands, STANDS, 'stands still'),
             ('waits', waits, WAITS, 'runs, until its working set is in'),
             ('rest', rest, REST, 'works, until all memory is in')]
    steps = [step for step in steps if step[1]]
    plots = [f'${name} using 1:3:1:2:3:4 with boxxy lc rgb {quoted(colour)} title {quoted(says)}'
             for name, _, colour, says in steps]
    return '\n'.join([
        head(height, ''), 'unset title',
        'set label 1 "Reverting from a cold disk: what the guest does" '
        f'at screen 0.5, screen {1 - 20 / height} center font ",16"',
        'set lmargin at screen 0.26', 'set rmargin at screen 0.97',
        f'set tmargin at screen {1 - 118 / height}', f'set bmargin at screen {80 / height}',
        f'set key at screen 0.26, screen {1 - 42 / height} left top vertical Left reverse '
        'samplen 1.5', 'set xlabel "seconds after the command"',
        'set xrange [0:*]', name_rows(names),
        *(block(name, rows) for name, rows, _, _ in steps), f'plot {", ".join(plots)}'])


# ---- reading at random ----

def draw_random(figures):
    curves = figures.curves(RANDOM)
    data, plots, colours = [], [], iter(LINES * 9)
    for k, (name, curve) in enumerate(curves.items()):
        data.append(block(f'curve{k}', curve['points']))
        style = f'lw 4 lc rgb "{OURS}"' if is_ours(name) else f'lw 2 lc rgb "{next(colours)}"'
        plots.append(f'$curve{k} using 1:($2*100) with lines {style} title {quoted(name)}')
    return '\n'.join([
        head(460, '4 KiB at random, cold, one reader'), 'set grid xtics ytics',
        'set key outside right top Left reverse samplen 2', 'set logscale x',
        'set xlabel "microseconds that a read takes (log)"',
        'set ylabel "% of reads that take at most so long"', 'set yrange [0:100]',
        'set ytics (0, 25, 50, 75, 90, 99)', *data,
        f'plot {", ".join(plots)}'])


PICTURES = {'save': draw_save, 'revert': draw_revert, 'random': draw_random}


def draw(results, folder):
    """Draws what can be drawn; {picture: None, or why it is left out}."""
    figures, done = Figures(results), {}
    os.makedirs(folder, exist_ok=True)
    for name, function in PICTURES.items():
        path = os.path.join(folder, f'{name}.svg')
        try:
            script = f'{function(figures)}\n'
        except Missing as missing:
            done[name] = str(missing)
            continue
        run = subprocess.run(['gnuplot'], input=f'set output {quoted(path)}\n{script}',
                             capture_output=True, text=True, check=False)
        if run.returncode or run.stderr:
            raise RuntimeError(f'gnuplot, {name}: {run.stderr.strip()}')
        done[name] = None
    return done


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip().split('\n')[-1])
    if not shutil.which('gnuplot'):
        sys.exit('gnuplot is not installed (tests/needs bench)')
    for name, why in draw(*sys.argv[1:]).items():
        print(f'{name}: left out: {why}' if why else os.path.join(sys.argv[2], f'{name}.svg'))


if __name__ == '__main__':
    main()

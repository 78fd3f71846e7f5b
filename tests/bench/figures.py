# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures: what was measured, how it is compared and printed."""
import os
import statistics
import time


class Figure:
    """Some runs of one thing."""

    def __init__(self, name, unit, values):
        self.name, self.unit, self.values = name, unit, values

    def median(self):
        return statistics.median(self.values)

    def __str__(self):
        low, high = min(self.values), max(self.values)
        return (f'{self.name:58} {self.median():9.3f} {self.unit:5} '
                f'({low:.3f} to {high:.3f})')


def say(*figures):
    for figure in figures:
        print(figure, flush=True)


def ratio(name, over, under):
    """The two medians against each other, and run by run."""
    pairs = [a / b for a, b in zip(over.values, under.values)]
    print(f'{name:58} {over.median() / under.median():9.2f} x     '
          f'({min(pairs):.2f} to {max(pairs):.2f})', flush=True)


def timed(function):
    start = time.monotonic()
    function()
    return time.monotonic() - start


def in_turn(runs, *functions):
    """`runs` counted values of each function, in turn, after one of each that
    is not counted."""
    values = [[] for _ in functions]
    for number in range(runs + 1):
        for function, into in zip(functions, values):
            value = function()
            if number:
                into.append(value)
    return values


def drop_caches():
    os.sync()
    with open('/proc/sys/vm/drop_caches', 'w') as file:
        file.write('3')

# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures: what was measured, how it is compared and printed."""
import json
import os
import statistics
import sys
import time

PAGE = 4096


def number(value):
    """A number with three digits that count, as a person writes it."""
    if value >= 100 or value == int(value):
        return f'{value:,.0f}'
    return f'{value:.{1 if value >= 10 else 2 if value >= 1 else 3}f}'


def spread(values):
    """The median, with the least and the greatest."""
    if len(values) == 1:
        return number(values[0])
    return (f'{number(statistics.median(values))} '
            f'({number(min(values))} to {number(max(values))})')


class Results:
    """All that a run measures. A part is a table: it has rows (what is compared)
    and columns (quantities), and each cell has the values of all runs that
    count. Each table is printed once; all of it goes into a file, of which
    plots.py makes pictures, and the tables into one that ends in .md."""

    def __init__(self, path, machine=''):
        self.path, self.machine = path, machine
        self.parts, self.curves, self.left_out, self.goals = {}, {}, {}, []
        self.printed = set()

    def add(self, part, row, column, unit, values):
        """`values` is a list, a value a run, or one value."""
        values = list(values) if isinstance(values, (list, tuple)) else [values]
        self.parts.setdefault(part, {}).setdefault(row, {})[column] = {
            'unit': unit, 'values': values}

    def curve(self, part, row, unit, points):
        """Adds what is only for a picture: [x, y] pairs, such as the share of
        reads that took at most so long."""
        self.curves.setdefault(part, {})[row] = {'unit': unit, 'points': points}

    def leave_out(self, part, row, why):
        """Says why a row has no values: a program that is not there, say."""
        print(f'{row}: left out: {why}', flush=True)
        self.left_out.setdefault(part, {})[row] = why

    def goal(self, quantity, goal, values):
        """`goal` is what was to be reached, such as '≤ 1.5'."""
        self.goals.append({'quantity': quantity, 'goal': goal, 'values': list(values)})

    def median(self, part, row, column):
        return statistics.median(self.parts[part][row][column]['values'])

    def columns(self, part):
        """{column: unit} of all rows, in the order in which they came."""
        return {column: cell['unit'] for row in self.parts[part].values()
                for column, cell in row.items()}

    def table(self, part):
        columns = self.columns(part)
        lines = [['', *(f'{name}, {unit}' if unit else name for name, unit in columns.items())],
                 ['---'] * (len(columns) + 1)]
        for row, cells in self.parts[part].items():
            lines.append([row, *(spread(cells[name]['values']) if name in cells else ''
                                 for name in columns)])
        left_out = [f'Left out: {row}: {why}.' for row, why in
                    self.left_out.get(part, {}).items()]
        return '\n'.join([*(f'| {" | ".join(line)} |' for line in lines),
                          *([''] if left_out else []), *left_out])

    def section(self, part):
        return f'### {part}\n\n{self.table(part)}'

    def goal_table(self):
        lines = [['quantity', 'goal', 'measured'], ['---'] * 3,
                 *([goal['quantity'], goal['goal'], spread(goal['values'])]
                   for goal in self.goals)]
        return '\n'.join(f'| {" | ".join(line)} |' for line in lines)

    def print_new(self):
        """Prints the tables that were not printed yet, and keeps all in the file."""
        for part in self.parts:
            if part not in self.printed:
                print(f'\n{self.section(part)}', flush=True)
                self.printed.add(part)
        self.write()

    def print_goals(self):
        if self.goals:
            print(f'\n### goals\n\n{self.goal_table()}\n', flush=True)

    def write(self):
        os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
        with open(self.path, 'w') as file:
            json.dump({'machine': self.machine, 'parts': self.parts, 'curves': self.curves,
                       'left_out': self.left_out, 'goals': self.goals}, file, indent=1)
        with open(f'{os.path.splitext(self.path)[0]}.md', 'w') as file:
            file.write('\n\n'.join([self.machine, *map(self.section, self.parts), '### goals',
                                    self.goal_table()]) + '\n')


def progress(text):
    """Says what is under way, and since when."""
    print(f'{time.strftime("%H:%M:%S")} {text}', flush=True)


def timed(function):
    start = time.monotonic()
    function()
    return time.monotonic() - start


def turns(part, options, ways):
    """What each way gave in the runs that count: {name: [value, …]}. `ways` is
    {name: function}. All take turns; the first round does not count, unless one
    has no time for it."""
    found = {name: [] for name in ways}
    spare = 0 if options.quick else 1
    for number in range(options.runs + spare):
        progress(f'{part}: round {number + 1} of {options.runs + spare}')
        for name, way in ways.items():
            value = way()
            if number >= spare:
                found[name].append(value)
    return found


def add_runs(results, part, row, runs):
    """Adds a row; each run is {(column, unit): value}."""
    for column, unit in dict.fromkeys(key for run in runs for key in run):
        results.add(part, row, column, unit,
                    [run[column, unit] for run in runs if (column, unit) in run])


def processor_seconds(pid):
    """What a process has used of the processors so far."""
    with open(f'/proc/{pid}/stat') as file:
        words = file.read().rpartition(')')[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf('SC_CLK_TCK')


def drop_caches():
    os.sync()
    with open('/proc/sys/vm/drop_caches', 'w') as file:
        file.write('3')


def sync_file(path):
    fd = os.open(path, os.O_RDONLY)
    os.fdatasync(fd)
    os.close(fd)


def stored_pages(path):
    """The offsets of pages of `path` that are not holes."""
    fd = os.open(path, os.O_RDONLY)
    end, at, offsets = os.fstat(fd).st_size, 0, []
    while at < end:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(fd, data, os.SEEK_HOLE)
        offsets += range(data, at, PAGE)
    os.close(fd)
    return offsets


def random_reads(path, offsets):
    """One page at each offset; the times of all, in microseconds."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    times = []
    for offset in offsets:
        start = time.perf_counter()
        os.pread(fd, PAGE, offset)
        times.append((time.perf_counter() - start) * 1e6)
    os.close(fd)
    times.sort()
    return times

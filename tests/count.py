#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: tests/count.py FOLDER SUITE...

Reads what the last `meson test` in a build folder wrote, prints each failure
and each skip with its reason, and in its last line, alone, how many passed,
failed and were skipped. A program that speaks TAP counts as the tests it ran.
A suite that has no test counts as a failure: a suite was lost."""

import json
import os
import re
import subprocess
import sys

GOOD = ('OK', 'EXPECTEDFAIL')
TAP_LINE = re.compile(r'^(not )?ok\b\s*\d*\s*-?\s*(.*)$')
TAP_PLAN = re.compile(r'^1\.\.\d+', re.M)
SKIP = re.compile(r'#\s*skip\S*\s*(.*)$', re.I)


def tap_lines(output):
    """(result, name or reason) of each test in TAP output."""
    for line in output.split('\n'):
        match = TAP_LINE.match(line.strip('\r'))
        if not match:
            continue
        skip = SKIP.search(match[2])
        if skip:
            name = match[2][:skip.start()].strip()
            yield 'skipped', f'{name}: {skip[1]}'.strip(': ')
        else:
            yield 'failed' if match[1] else 'passed', match[2]


def reason(test):
    """Why a whole program was skipped: its own last word."""
    said = test.get('stdout', '') + '\n' + test.get('stderr', '')
    lines = [line.strip() for line in said.split('\n') if line.strip()]
    for line in lines:
        if re.match(r'1\.\.0|skip', line, re.I):
            return re.sub(r'^(1\.\.0\s*#\s*)?skip\S*\s*:?\s*', '', line,
                          flags=re.I) or line
    return lines[-1] if lines else 'it did not say why'


def results(test):
    """(result, sentence) of each test in one program's run."""
    outcome = test['result']
    output = test.get('stdout', '')
    parts = list(tap_lines(output)) if TAP_PLAN.search(output) else []
    if outcome == 'SKIP' and not parts:
        yield 'skipped', f'{test["name"]}: {reason(test)}'
        return
    for result, name in parts:
        yield result, f'{test["name"]}: {name}'
    if outcome in GOOD and not parts:
        yield 'passed', test['name']
    elif outcome not in GOOD + ('SKIP',) and not any(r == 'failed' for r, _ in parts):
        yield 'failed', f'{test["name"]}: {outcome.lower()}'


def lost_suites(folder, suites):
    """The suites of these that no test belongs to."""
    listing = subprocess.run(
        ['meson', 'introspect', '--tests', folder], check=True,
        stdout=subprocess.PIPE, text=True).stdout
    known = {s.split(':')[-1] for t in json.loads(listing) for s in t['suite']}
    return [suite for suite in suites if suite not in known]


def main():
    """Prints and counts."""
    folder, suites = sys.argv[1], sys.argv[2:]
    count = {'passed': 0, 'failed': 0, 'skipped': 0}
    log = os.path.join(folder, 'meson-logs/testlog.json')
    tests = []
    if os.path.exists(log):
        with open(log, encoding='utf-8', errors='replace') as f:
            tests = [json.loads(line) for line in f if line.strip()]
    for test in tests:
        for result, sentence in results(test):
            count[result] += 1
            if result != 'passed':
                print(f'{result.upper()}: {sentence}')
    for suite in lost_suites(folder, suites):
        count['failed'] += 1
        print(f'FAILED: suite {suite} has no test')
    if not tests and not count['failed']:
        count['failed'] += 1
        print('FAILED: no test was run')
    print(count['passed'], count['failed'], count['skipped'])


if __name__ == '__main__':
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The statistics of a mount, as Prometheus' own programs take them."""
import os
import re
import subprocess
import urllib.request

from fusecase import FuseCase, read_file, setUpModule  # noqa: F401
import harness
from mount import Mount, statistics
from taken import program_of

EXPORTS = '/var/lib/prometheus/node-exporter'


def recipe():
    """The lines of the manual that copy statistics for the node exporter."""
    page = harness.read_text(os.path.join(harness.ROOT, 'man', 'snapfs-tree.7.rst'))
    return ''.join(re.findall(rf'^ +(?:cp|mv) .*{EXPORTS}.*\n', page, re.M))


class MetricsTest(FuseCase):
    def stats(self):
        return read_file(self.snaps('.snapfs', 'stats'))

    def test_promtool_finds_nothing_to_say_of_them(self):
        promtool = program_of('prometheus', 'promtool')
        for step in ('at the beginning', 'after a save and reads'):
            done = subprocess.run([promtool, 'check', 'metrics'], input=self.stats(),
                                  capture_output=True, check=False)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b'', b''), step)
            self.save()
            read_file(self.snaps('vm1', 'ram'))

    def test_each_names_the_mount_whatever_is_in_its_name(self):
        point = self.path('a "b\\c\nd')
        self.enter(Mount(self.path('other'), point))
        text = read_file(os.path.join(point, '.snapfs', 'stats')).decode()
        label = point.replace('\\', '\\\\').replace('"', '\\"').replace('\n', '\\n')
        lines = [line for line in text.splitlines() if not line.startswith('#')]
        self.assertGreater(len(lines), 20)
        for line in lines:
            self.assertIn(f'mountpoint="{label}"}} ', line)

    def test_the_manuals_lines_give_the_node_exporter_those_of_several_mounts(self):
        exporter = program_of('prometheus-node-exporter', 'prometheus-node-exporter')
        self.save()
        harness.wait_until(
            lambda: statistics(self.snaps())['snapfs_saves_completed_total'] == 1, 10, 'the save')
        other = self.enter(Mount(self.path('other'), self.path('snaps2')))
        exports = self.path('exports')
        os.mkdir(exports)
        self.assertEqual(recipe().count('\n'), 2)
        for point in (self.snaps(), other.point):
            self.run_ok('sh', '-ec', recipe().replace('/snaps/', f'{point}/').replace(
                f'{EXPORTS}/snaps', f'{exports}/{os.path.basename(point)}'))
        self.assertEqual(sorted(os.listdir(exports)), ['snaps.prom', 'snaps2.prom'])
        text = self.scrape(exporter, exports)
        self.assertIn('node_textfile_scrape_error 0\n', text)
        for point, count in ((self.snaps(), 1), (other.point, 0)):
            self.assertIn(f'snapfs_saves_completed_total{{mountpoint="{point}"}} {count}\n', text)

    def scrape(self, exporter, folder):
        """What the node exporter answers; it says in a line where it listens."""
        log = self.path('exporter.log')
        with open(log, 'wb') as file:
            process = self.start_process(
                exporter, '--web.listen-address=127.0.0.1:0', '--collector.disable-defaults',
                '--collector.textfile', f'--collector.textfile.directory={folder}', stderr=file)
        said = harness.wait_until(
            lambda: re.search(r'address=(127\.0\.0\.1:\d+)', harness.read_text(log)) or
            process.poll(), 30, 'the exporter listens')
        address = said[1]
        with urllib.request.urlopen(f'http://{address}/metrics', timeout=60) as answer:
            text = answer.read().decode()
        self.assertNotIn('level=error', harness.read_text(log))
        return text


if __name__ == '__main__':
    harness.main()

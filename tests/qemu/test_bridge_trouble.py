#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Reverts that cannot be: a clear word, QEMU's own error, never a guest with
wrong memory and never a hang."""
import os
import re
import signal
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from bridge import BridgeCase, FakeQemu, Relay, bridge_path
from guest import MIB, CountGuest
from harness import need_program, wait_until

PAGE = 4096
RAM = b'\x06pc.ram'
# From inside of the package on, requests are served.
RUN = struct.pack('>BHH', 8, 5, 0)
PONG_RUN = struct.pack('>HHI', 2, 4, 3)

# Makes reads of `ram` fail: BAD is offset, length and errno.
BAD_READS = r'''
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

ssize_t pread64(int fd, void *data, size_t size, off64_t offset)
{
	static ssize_t (*real)(int, void *, size_t, off64_t);
	long long bad, length;
	int code;

	if (!real)
		real = dlsym(RTLD_NEXT, "pread64");
	if (getenv("BAD") &&
	    sscanf(getenv("BAD"), "%lld %lld %d", &bad, &length, &code) == 3 &&
	    offset < bad + length && offset + (off64_t)size > bad) {
		errno = code;
		return -1;
	}
	return real(fd, data, size, offset);
}

ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
	return pread64(fd, data, size, offset);
}
'''


def request(start, length, name=RAM):
    kind = 3 if name else 4
    payload = struct.pack('>QI', start, length) + name
    return struct.pack('>HH', kind, len(payload)) + payload


class Trouble(BridgeCase):
    guest = CountGuest(memory=64, end=40, fill=True)

    def fake(self, *args):
        return self.enter(FakeQemu(self.folder, *args))

    def assert_fake_ends(self, fake, pattern):
        self.assertEqual(fake.process.wait(20), 1)
        said = fake.process.stderr.read().decode()
        self.assertRegex(said, pattern)
        self.assertEqual(said.count('\n'), 1, said)

    def assert_load_fails(self, qemu):
        """QEMU says that the load failed, and answers still."""
        self.wait_status(qemu, 'failed')
        self.assertIn('error-desc', qemu.cmd('query-migrate'))

    def refused(self, args, pattern, guest=None, caps=None):
        """A real QEMU refuses what the bridge sends; both say so."""
        qemu = self.destination(guest, caps or {'events': True, 'postcopy-ram': True})
        bridge = self.bridge(*args, '-u', self.listen(qemu))
        self.assert_bad_end(bridge, pattern)
        self.assert_load_fails(qemu)
        return qemu


class Snapshots(Trouble):
    def check_nothing_sent(self, pattern):
        """QEMU fails, too, where not a byte of the stream was sent."""
        qemu = self.destination()
        qemu.qmp.command('migrate-incoming', {
            'uri': f'exec:exec {bridge_path()} {self.folder}', 'exit-on-error': False})
        self.assert_load_fails(qemu)
        self.assertRegex(qemu.log(), pattern)

    def check_alone(self, pattern):
        with FakeQemu(self.folder) as fake:
            self.assert_fake_ends(fake, pattern)
            self.assertNotIn(b'QEVM', fake.received)

    def test_a_folder_that_is_not_there(self):
        self.folder = self.path('nowhere')
        self.check_nothing_sent('nowhere/devstate: No such file')

    def test_ram_shorter_than_devstate_says(self):
        os.truncate(self.own('ram'), 8 * MIB)
        self.check_nothing_sent('/ram has 8388608 bytes, but')

    def test_a_devstate_that_is_no_stream(self):
        with open(self.own('devstate'), 'wb') as file:
            file.write(b'no stream')
        self.check_nothing_sent('/devstate: offset 0: expected the magic QEVM')

    def test_a_hot_list_in_an_unlucky_order(self):
        """What is read beside a hot page counts neither as sent nor as read
        anew for each."""
        pages = range(MIB, 40 * MIB, PAGE)
        for order in (reversed(pages), pages[15::32], pages[::3]):
            with open(os.path.join(self.folder, 'hot'), 'w') as file:
                file.write('snapfs-hot 1\n' + ''.join(f'pc.ram {at:#x} 1\n' for at in order))
            with self.fake('--precopy=30%') as fake:
                fake.wait_for(RUN)
                with open(f'/proc/{fake.process.pid}/io') as file:
                    read = int(re.search(r'rchar: (\d+)', file.read())[1])
                self.assertGreater(len(fake.received), 17 * MIB)
                self.assertLess(read, 3 * len(fake.received))

    def test_an_empty_devstate(self):
        with open(self.own('devstate'), 'wb'):
            pass
        self.check_alone('/devstate: offset 0: the stream ends')

    def test_a_devstate_that_was_cut(self):
        os.truncate(self.own('devstate'), 5000)
        self.check_alone('/devstate: offset 5000: the stream ends')

    def test_a_ram_that_is_no_file(self):
        os.unlink(os.path.join(self.folder, 'ram'))
        os.mkfifo(os.path.join(self.folder, 'ram'))
        self.check_alone('/ram is not a file')


class Destinations(Trouble):
    WHY = 'QEMU closed the connection before the guest ran; its own message|QEMU could not load'

    def test_one_without_postcopy(self):
        self.refused([], self.WHY, caps={'events': True})

    def test_one_with_another_machine(self):
        self.refused([], self.WHY, guest=CountGuest(memory=64, machine='pc'))

    def test_one_with_other_memory(self):
        self.refused([], self.WHY, guest=CountGuest(memory=96))

    def test_one_with_other_devices(self):
        guest = CountGuest(memory=64)
        guest.args = lambda: CountGuest.args(self.guest) + ['-device', 'virtio-rng-pci']
        qemu = self.destination(guest)
        bridge = self.bridge('-u', self.listen(qemu))
        status, said = self.ended(bridge)
        # A device too many does not keep QEMU from running the guest.
        self.assertIn(status, (0, 1), said)

    def test_one_that_is_not_there(self):
        bridge = self.bridge('-u', self.path('none'))
        self.assert_bad_end(bridge, 'cannot connect to .*/none: No such file')

    def test_one_that_closes_the_pipe(self):
        fake = self.fake()
        fake.wait_for(b'QEVM')
        fake.process.stdin.close()
        self.assert_fake_ends(fake, 'QEMU closed the connection before the guest ran')

    def test_one_that_closes_in_the_middle(self):
        qemu = self.destination()
        relay = Relay(self.path('relay'), self.listen(qemu), 10 * MIB)
        bridge = self.bridge('-u', self.path('relay'))
        self.assertTrue(relay.stalled.wait(30))
        relay.close()
        self.assert_bad_end(bridge, 'QEMU closed the connection before it confirmed')
        self.wait_status(qemu, 'postcopy-paused')

    def test_one_that_is_no_pipe(self):
        done = subprocess.run([bridge_path(), self.folder], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                              timeout=20, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn('no pipe to QEMU', done.stderr)

    def test_a_resumption_of_what_was_not_begun(self):
        self.refused(['--resume'], 'QEMU closed the connection; --resume is for')


class ReturnPath(Trouble):
    """QEMU's words are foreign bytes."""

    def check(self, words, pattern):
        fake = self.fake()
        fake.wait_for(RUN)
        fake.say(words)
        self.assert_fake_ends(fake, pattern)

    def test_a_page_behind_the_end_of_its_block(self):
        self.check(request(64 * MIB, PAGE), 'asks for 0x1000 bytes at 0x4000000 of RAM block')

    def test_a_page_that_begins_nowhere(self):
        self.check(request(1, PAGE), 'asks for 0x1000 bytes at 0x1 of RAM block')

    def test_a_page_of_a_block_that_is_not_there(self):
        self.check(request(0, PAGE, b'\x03a\nb'), r'asks for RAM block "a\\nb", which the snapsh')

    def test_a_page_of_no_block(self):
        self.check(request(0, PAGE, b''), 'asks for a page of no RAM block')

    def test_words_of_no_known_kind(self):
        self.check(b'\xff\xff\0\0', 'of unknown type 65535')

    def test_a_list_of_pages_unasked(self):
        bits = bytes(64 * MIB // PAGE // 8)
        self.check(struct.pack('>HH', 5, 7) + RAM + struct.pack('>Q', len(bits)) + bits +
                   struct.pack('>Q', 0x0123456789abcdef), 'which pages it has, unasked')

    def test_an_end_before_the_end(self):
        self.check(struct.pack('>HHI', 1, 4, 0), 'QEMU ends before all memory is delivered')

    def test_a_failure_is_told(self):
        self.check(struct.pack('>HHI', 1, 4, 1), 'QEMU could not load the snapshot')

    def test_pages_asked_for_twice_are_sent_once(self):
        fake = self.fake()
        fake.wait_for(RUN)
        for _ in range(100):
            fake.say(request(4 * MIB, PAGE))
        answer = struct.pack('>Q', 4 * MIB | 8) + RAM
        fake.wait_for(answer)
        fake.say(PONG_RUN)
        fake.wait_for(struct.pack('>BIQ', 3, 1, 0x10))
        records = fake.received.count(struct.pack('>Q', 4 * MIB | 8))
        again = fake.received.count(struct.pack('>Q', 4 * MIB | 0x28))
        self.assertEqual((records, again), (1, 0))
        fake.say(struct.pack('>HHI', 1, 4, 0))
        self.assertEqual(fake.process.wait(20), 0)

    def test_a_zero_page_is_sent_when_it_is_asked_for(self):
        fake = self.fake()
        fake.wait_for(RUN)
        fake.say(request(60 * MIB, PAGE))
        fake.wait_for(struct.pack('>Q', 60 * MIB | 2) + RAM + b'\0')

    def test_a_page_of_every_block_is_sent(self):
        fake = self.fake()
        fake.wait_for(RUN)
        fake.say(request(0, PAGE, b'\x07pc.bios'))
        wait_until(lambda: b'\x07pc.bios' in fake.received.split(RUN, 1)[1], 20, 'pc.bios comes')


class Storage(Trouble):
    def bad_reads(self, bad):
        need_program('gcc')
        library = self.path('bad.so')
        source = self.path('bad.c')
        with open(source, 'w') as file:
            file.write(BAD_READS)
        self.run_ok('gcc', '-shared', '-fPIC', '-o', library, source, '-ldl')
        return dict(os.environ, LD_PRELOAD=library, BAD=bad, ASAN_OPTIONS='verify_asan_link_order=0')

    def test_an_error_under_a_page_pauses_the_guest_which_is_whole_later(self):
        qemu = self.destination()
        env = self.bad_reads(f'{20 * MIB} {2 * PAGE} 5')
        bridge = self.bridge('-u', self.listen(qemu), env=env)
        said = self.assert_bad_end(bridge, 'RAM block pc.ram cannot be read at 0x1400000: '
                                           'Input/output error: all else has been delivered; '
                                           'QEMU pauses the migration')
        self.assertIn('/ram: ', said)
        self.wait_status(qemu, 'postcopy-paused')
        bridge = self.bridge('--resume', '-u', self.recover(qemu))
        # The two pages, and those of zeros that the guest asked for.
        self.assert_good_end(bridge)
        self.wait_status(qemu, 'completed')
        self.assert_whole(qemu)

    def test_an_error_under_every_page_ends_it(self):
        qemu = self.destination()
        # Not under devstate, which is shorter.
        env = self.bad_reads(f'{2 * MIB} {1 << 40} 107')
        bridge = self.bridge('-u', self.listen(qemu), env=env)
        self.assert_bad_end(bridge, 'cannot be read at .*: cannot read on')

    def test_an_error_before_the_guest_runs_fails_the_load(self):
        env = self.bad_reads(f'{20 * MIB} {PAGE} 5')
        qemu = self.destination()
        bridge = self.bridge('--precopy=100%', '-u', self.listen(qemu), env=env)
        self.assert_bad_end(bridge, 'RAM block pc.ram cannot be read at 0x1400000: Input/output')
        self.assert_load_fails(qemu)

    def test_an_error_fails_a_plain_load(self):
        env = self.bad_reads(f'{20 * MIB} {PAGE} 5')
        qemu = self.destination(caps={'events': True})
        bridge = self.bridge(f'--mapped=pc.bios={66 * MIB}', '-u', self.listen(qemu), env=env)
        self.assert_bad_end(bridge, 'RAM block pc.ram cannot be read at 0x1400000: Input/output')
        self.assert_load_fails(qemu)

    def test_a_ram_that_is_cut_while_it_is_read(self):
        ram = self.own('ram')
        fake = self.fake()
        fake.wait_for(RUN)
        os.truncate(ram, 10 * MIB)
        fake.say(request(30 * MIB, PAGE))
        self.assert_fake_ends(fake, 'RAM block \\S+ cannot be read at')
        self.assertNotIn(struct.pack('>Q', 30 * MIB | 2), fake.received)


class Signals(Trouble):
    def test_it_ends_when_told_to_and_another_goes_on(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            qemu = self.destination()
            relay = Relay(self.path(f'relay{number}'), self.listen(qemu, f'q{number}'), 10 * MIB)
            bridge = self.bridge('-u', self.path(f'relay{number}'))
            self.assertTrue(relay.stalled.wait(30))
            bridge.send_signal(number)
            self.assert_bad_end(bridge, 'stopped by a signal; QEMU pauses the migration, and')
            relay.close()
            self.wait_status(qemu, 'postcopy-paused')
            bridge = self.bridge('--resume', '-u', self.recover(qemu, f'r{number}'))
            self.assert_good_end(bridge)
            self.wait_status(qemu, 'completed')
            self.assert_whole(qemu)
            qemu.kill()


class CommandLine(Trouble):
    def check(self, args, pattern, status=2):
        done = harness.run(bridge_path(), *args)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertRegex(done.stderr, pattern)
        self.assertEqual(done.stdout, '')

    def test_what_makes_no_sense_is_refused(self):
        self.check([], 'one folder is wanted')
        self.check(['a', 'b'], 'one folder is wanted')
        self.check(['--precopy=60', 'a'], '--precopy=60: it is 0% to 100%, or hot')
        self.check(['--precopy=101%', 'a'], '0% to 100%')
        self.check(['--resume', '--precopy=hot', 'a'], 'the guest runs already')
        self.check(['--mapped=x', '--resume', 'a'], 'plain stream')
        self.check(['--nonsense', 'a'], 'see snapfs-bridge --help')

    def test_blocks_that_are_not_there_are_named(self):
        self.check(['--mapped=pc.rom2', self.folder], 'no RAM block "pc.rom2"; there are: .*pc.ram',
                   status=1)
        self.check(['--mapped=pc.bios', self.folder],
                   'pc.bios begins at 69206016 in .*/ram, and not at 0; QEMU must map it with '
                   'offset=69206016, and then it is --mapped=pc.bios=69206016', status=1)
        self.check(['--mapped=pc.ram=1', self.folder], 'pc.ram begins at 0 in', status=1)
        self.check(['--mapped=pc.ram=x', self.folder], 'it is BLOCK=OFFSET', status=1)
        self.check(['--page-size=pc.ram=3m', self.folder], 'cannot be sent', status=1)
        self.check(['--page-size=pc.ram', self.folder], 'BLOCK=SIZE', status=1)


if __name__ == '__main__':
    harness.main()

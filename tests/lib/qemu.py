# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU process with a guest in it, as the tests need one.

The accelerator is TCG unless the caller has seen a better one run a guest: a
KVM that half works hangs a guest without an error, and QEMU then does not fall
back by itself.
"""
import itertools
import os
import re
import subprocess
import time

import guest as guests
from harness import Missing, die_with_parent, need_program, need_root, read_text, wait_until
from qmp import Qmp, QmpClosed, QmpError

PROGRAM = 'qemu-system-x86_64'
_numbers = itertools.count(1)


class MigrationFailed(Exception):
    """The message is QEMU's error-desc."""


def take_huge_pages(case, count):
    """Makes the kernel keep that many more huge pages of 2 MiB while a test runs."""
    need_root()
    path = '/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages'
    before = read_text(path).strip() or '0'
    try:
        with open(path, 'w') as file:
            file.write(str(int(before) + count))
    except OSError as error:
        raise Missing(f'no huge pages here: {error}') from None
    case.addCleanup(lambda: open(path, 'w').write(before))
    if int(read_text(path)) < int(before) + count:
        raise Missing('no huge pages can be had')


def need_qemu():
    return need_program(PROGRAM)


class Qemu:
    """Use it as a context manager: it is killed at the end, whatever happened."""

    def __init__(self, guest, work, incoming=False, args=(), accel='tcg', stopped=False):
        number = next(_numbers)
        self.guest = guest
        self.work = work
        self.serial_path = os.path.join(work, f'serial{number}')
        self.log_path = os.path.join(work, f'qemu{number}.log')
        self._monitor = os.path.join(work, f'qmp{number}')
        self._set = {}
        self.qmp = None
        self.process = None
        self.command = [need_qemu(), '-accel', accel, '-display', 'none',
                        '-serial', f'file:{self.serial_path}',
                        '-qmp', f'unix:{self._monitor},server=on,wait=off',
                        *guest.args(), *args]
        if incoming:
            self.command += ['-incoming', 'defer']
        if stopped:
            self.command += ['-S']

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()

    def start(self):
        with open(self.log_path, 'wb') as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, start_new_session=True,
                                            preexec_fn=die_with_parent)
        try:
            self.qmp = wait_until(self._connect, 30, 'QEMU opens its monitor')
        except BaseException:
            self.kill()
            raise
        return self

    def _connect(self):
        if self.process.poll() is not None:
            raise RuntimeError(f'QEMU ended with {self.process.returncode}: {self.log()}')
        try:
            return Qmp(self._monitor, oob=True)
        except (FileNotFoundError, ConnectionRefusedError):
            return None

    def kill(self):
        """kill -9, and nothing of it is left afterwards."""
        if self.qmp:
            self.qmp.close()
            self.qmp = None
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()

    def alive(self):
        return self.process.poll() is None

    def log(self):
        return read_text(self.log_path)

    def serial(self):
        return read_text(self.serial_path)

    def wait_serial(self, pattern, timeout=60):
        """The match of a pattern in what the guest has printed so far."""
        def look():
            found = re.search(pattern, self.serial(), re.M)
            if not found and not self.alive():
                raise RuntimeError(f'QEMU ended with {self.process.returncode}: {self.log()}')
            return found
        try:
            return wait_until(look, timeout, f'the guest prints {pattern!r}')
        except TimeoutError as error:
            raise TimeoutError(f'{error}; it printed: {self.serial()[-500:]!r}') from None

    def cmd(self, name, /, **arguments):
        """cmd('blockdev-add', node_name=…): underscores stand for dashes."""
        return self.qmp.command(name, {key.replace('_', '-'): value
                                       for key, value in arguments.items()})

    def stop(self):
        self.cmd('stop')

    def cont(self):
        self.cmd('cont')

    def run_state(self):
        return self.cmd('query-status')['status']

    def set_capabilities(self, caps):
        """Switches on what is named in `caps`, and off what was on before."""
        wanted = dict.fromkeys(self._set, False)
        wanted.update(caps or {})
        if wanted:
            self.cmd('migrate-set-capabilities', capabilities=[
                {'capability': name, 'state': state} for name, state in wanted.items()])
        self._set = wanted

    def set_parameters(self, params):
        if params:
            self.qmp.command('migrate-set-parameters', params)

    def add_fds(self, number, *fds):
        """Hands over open files; /dev/fdset/NUMBER is one of them."""
        for fd in fds:
            self.qmp.command('add-fd', {'fdset-id': number}, fds=[fd])

    def remove_fds(self, number):
        self.qmp.command('remove-fd', {'fdset-id': number})

    def start_migrate(self, uri, caps=None, params=None):
        self.set_capabilities(caps)
        # Without this a save is throttled to 128 MiB/s.
        self.set_parameters({'max-bandwidth': 0, **(params or {})})
        try:
            self.cmd('migrate', uri=uri)
        except QmpError as error:   # it failed before it began
            raise MigrationFailed(str(error)) from None

    def migrate(self, uri, caps=None, params=None, timeout=60):
        """Saves, waits for the end, and returns QEMU's account of it."""
        self.start_migrate(uri, caps, params)
        return self.wait_migrated(timeout)

    def wait_migrated(self, timeout=60):
        def ended():
            info = self.cmd('query-migrate')
            if info.get('status') in ('failed', 'cancelled'):
                raise MigrationFailed(info.get('error-desc', info['status']))
            return info if info.get('status') == 'completed' else None
        return wait_until(ended, timeout, 'the migration ends')

    def incoming(self, uri, caps=None, params=None, timeout=60):
        """Loads, into a QEMU started with incoming=True, and waits for the end."""
        self.set_capabilities(caps)
        self.set_parameters(params)
        arguments = {'uri': uri}
        if self._has_argument('migrate-incoming', 'exit-on-error'):
            arguments['exit-on-error'] = False
        try:
            self.qmp.command('migrate-incoming', arguments)
            return self.wait_migrated(timeout)
        except QmpClosed:
            self.process.wait()
            raise MigrationFailed(f'QEMU ended: {self.log()}') from None

    def _has_argument(self, command, argument):
        schema = {item['name']: item for item in self.cmd('query-qmp-schema')}
        members = schema[schema[command]['arg-type']]['members']
        return any(member['name'] == argument for member in members)

    def resume(self):
        """Lets a guest run that was saved while it was stopped."""
        if self.run_state() != 'running':
            self.cont()

    def background_snapshot_supported(self):
        try:
            self.set_capabilities({'background-snapshot': True})
        except QmpError as error:
            return str(error)
        self.set_capabilities({})
        return None

    def events(self):
        """Takes the events that came so far, oldest first."""
        self.cmd('query-status')
        taken, self.qmp.events = self.qmp.events, []
        return taken

    def dump_ram(self, path=None):
        """Guest memory from address 0, read by QEMU while the guest is stopped.

        It starts below 1 MiB, where the processor sees ROM and video memory in
        place of RAM: those 384 KiB are not what the RAM block holds there.
        """
        path = path or os.path.join(self.work, 'pmem')
        self.qmp.command('pmemsave', {'val': 0, 'size': self.guest.memory * guests.MIB,
                                      'filename': path})
        with open(path, 'rb') as file:
            ram = file.read()
        os.unlink(path)
        return ram

    def ram_error(self):
        """Stops a counting guest and checks its memory; None if it is right."""
        self.stop()
        return self.guest.check_ram(self.dump_ram())

    def constant(self):
        """The bytes of a counting guest's pages that no pass changes."""
        state = self.run_state()
        self.stop()
        constant = self.guest.constant(self.dump_ram())
        if state == 'running':
            self.cont()
        return constant

    def ticks(self):
        return guests.ticks(self.serial())

    def wait_ticks(self, count, timeout=60):
        """Waits until a Linux guest has printed `count` more; the last one."""
        end = len(self.ticks()) + count
        wait_until(lambda: len(self.ticks()) >= end, timeout, f'the guest ticks {count} times')
        return self.ticks()[-1]

    def wait_pass(self, timeout=120):
        """Waits until a Linux guest has checked all of its memory once more.

        The pass that runs now began before; the one after it is whole.
        """
        goal = self.wait_ticks(1, timeout).passes + 2
        wait_until(lambda: self.ticks()[-1].passes >= goal, timeout, 'the guest checks its memory')
        return self.ticks()[-1]


def need_background_snapshot(qemu):
    reason = qemu.background_snapshot_supported()
    if reason:
        raise Missing(f'no background-snapshot here: {reason}')


def pause_of(events):
    """Seconds between the STOP and the RESUME among the events, or None."""
    stamps = {}
    for event in events:
        stamp = event['timestamp']['seconds'] + event['timestamp']['microseconds'] / 1e6
        stamps[event['event']] = stamp
    if 'STOP' not in stamps or 'RESUME' not in stamps:
        return None
    return stamps['RESUME'] - stamps['STOP']


def kvm_runs_guest(work, seconds=8):
    """Whether KVM was seen to bring a Linux guest up; opening it proves nothing."""
    if not os.access('/dev/kvm', os.R_OK | os.W_OK):
        return False
    try:
        with Qemu(guests.LinuxGuest(memory=128, fill=8), work, accel='kvm') as qemu:
            qemu.wait_serial(r'^tick 2 ', timeout=seconds)
            return True
    except (TimeoutError, RuntimeError):
        return False


def timed(function, *args, **options):
    """What the function returned and how many seconds it took."""
    start = time.monotonic()
    value = function(*args, **options)
    return value, time.monotonic() - start

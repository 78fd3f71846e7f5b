# SPDX-License-Identifier: GPL-2.0-or-later
"""A Ceph of one node on loopback, with a CephFS, and hosts that mount it by ceph-fuse.

All in memory, without cephx, systemd and a manager. Every daemon is a child of the test, which
knows it by its process and never by its name.

Whoever looks at a CephFS whose cluster is gone waits for ever. So the hosts end before the
cluster, and a ceph-fuse is killed, never asked.
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid

from harness import die_with_parent, need_fuse, need_program, need_root, read_text, run, wait_until
from mount import is_mounted

# The MDS evicts a client that it has not heard of for so long if others wait for what it holds;
# Ceph's own value is 60 s, and the least 30 s (src/mon/FSCommands.cc).
SESSION_TIMEOUT = 30
CONFIG = '''[global]
fsid = {fsid}
mon host = {address}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon pg warn min per osd = 0
mon data avail crit = 1
mon data avail warn = 2
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
crash dir = {folder}
[mon]
mon data = {folder}/mon
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
[mds]
mds data = {folder}/mds
mds reconnect timeout = 10
[client]
log file =
admin socket =
'''
PROGRAMS = ('ceph', 'ceph-fuse', 'ceph-mds', 'ceph-mon', 'ceph-osd', 'monmaptool')


def need_ceph():
    need_root()
    need_fuse()
    for program in PROGRAMS:
        need_program(program)


def free_ports(count):
    """Ports of loopback that nobody listens at."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(('127.0.0.1', 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Daemon:
    """A program of the cluster, which can be killed, stopped and started anew."""

    def __init__(self, cluster, name, *command):
        self.cluster = cluster
        self.name = name
        self.command = command
        self.process = None

    def start(self):
        with open(self.cluster.path(f'{self.name}.out'), 'ab') as out:
            self.process = subprocess.Popen(
                [need_program(self.command[0]), '-f', *self.command[1:]], stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, env=self.cluster.env, start_new_session=True,
                preexec_fn=die_with_parent)
        return self

    def kill(self):
        if self.process:
            self.process.kill()   # one that stands still, too
            self.process.wait()
        self.process = None

    def stop(self):
        """It stands still, as one that cannot be reached."""
        self.process.send_signal(signal.SIGSTOP)

    def cont(self):
        self.process.send_signal(signal.SIGCONT)


class Cluster:
    """Use it as a context manager."""

    def __init__(self):
        need_ceph()
        self.folder = tempfile.mkdtemp(prefix='snapfs-ceph-')
        self.env = dict(os.environ, CEPH_CONF=self.path('ceph.conf'))
        self.mon = Daemon(self, 'mon', 'ceph-mon', '-i', 'a')
        self.osd = Daemon(self, 'osd', 'ceph-osd', '-i', '0')
        self.mds = Daemon(self, 'mds', 'ceph-mds', '-i', 'a')

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def __enter__(self):
        try:
            self._make_mon()
            self._make_osd()
            self._make_fs()
        except BaseException:
            print(self._last_words())
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for daemon in (self.mds, self.osd, self.mon):
            daemon.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _last_words(self):
        """The ends of the logs."""
        logs = [name for name in sorted(os.listdir(self.folder)) if name.endswith(('.log', '.out'))]
        return '\n'.join(f'{name}: {read_text(self.path(name))[-800:]}' for name in logs)

    def run(self, *command, timeout=120):
        """Runs a program of Ceph, which must succeed; what it printed."""
        done = run(need_program(command[0]), *command[1:], timeout=timeout, env=self.env)
        if done.returncode:
            raise RuntimeError(f'{" ".join(command)}: {done.stderr}')
        return done.stdout

    def ceph(self, *command):
        return self.run('ceph', *command)

    def evict(self, host):
        """Ends what the metadata server keeps for a host: its locks, and its leave to write."""
        sessions = json.loads(self.ceph('tell', 'mds.a', 'client', 'ls'))
        (session,) = [one['id'] for one in sessions
                      if one['client_metadata'].get('mount_point') == host.point]
        self.ceph('tell', 'mds.a', 'client', 'evict', f'id={session}')

    def _make_mon(self):
        fsid = str(uuid.uuid4())
        ports = free_ports(2)
        address = f'[v2:127.0.0.1:{ports[0]},v1:127.0.0.1:{ports[1]}]'
        with open(self.path('ceph.conf'), 'w') as file:
            file.write(CONFIG.format(fsid=fsid, address=address, folder=self.folder))
        for name in ('mon', 'osd', 'mds'):
            os.mkdir(self.path(name))
        self.run('monmaptool', '--create', '--fsid', fsid, '--addv', 'a', address,
                 self.path('monmap'))
        self.run('ceph-mon', '-i', 'a', '--mkfs', '--monmap', self.path('monmap'))
        self.mon.start()

    def _make_osd(self):
        name = str(uuid.uuid4())
        self.ceph('osd', 'new', name)
        self.run('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', name)
        self.osd.start()

    def _make_fs(self):
        for pool in ('data', 'meta'):
            self.ceph('osd', 'pool', 'create', pool, '8', '8')
        self.ceph('fs', 'new', 'fs', 'meta', 'data')
        self.ceph('fs', 'set', 'fs', 'session_timeout', str(SESSION_TIMEOUT))
        self.mds.start()
        self.wait_active()

    def wait_active(self):
        wait_until(lambda: 'up:active' in self.ceph('mds', 'stat'), 120,
                   'the metadata server is active', step=0.2)


class Host:
    """Mounts the cluster by a client of its own, as another machine does."""

    def __init__(self, cluster, name, work):
        self.name = name
        self.point = os.path.join(work, f'host-{name}')
        self.client = Daemon(cluster, f'client-{name}', 'ceph-fuse', '--client_mount_timeout=100',
                             self.point)

    def __enter__(self):
        os.makedirs(self.point, exist_ok=True)
        self.client.start()
        try:
            wait_until(lambda: is_mounted(self.point), 120, f'ceph-fuse of host {self.name} mounts')
        except BaseException:
            self.die()
            raise
        return self

    def __exit__(self, *_):
        self.die()

    def die(self):
        """Nothing more is heard of it, as if its power had failed."""
        self.client.kill()
        if is_mounted(self.point):
            run(need_program('umount'), '-l', self.point)

    def path(self, *names):
        return os.path.join(self.point, *names)

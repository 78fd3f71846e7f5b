# SPDX-License-Identifier: GPL-2.0-or-later
"""Internal snapshots: what QEMU itself keeps of a guest, in its qcow2 disk."""
import subprocess

from harness import need_program

NODE, JOB = 'disk', 'bench'


def make_disk(path):
    subprocess.run([need_program('qemu-img'), 'create', '-q', '-f', 'qcow2', path, '1G'],
                   check=True)


def plug(qemu, path):
    """The disk has no device: a snapshot needs none, and the guest is the same."""
    qemu.cmd('blockdev-add', node_name=NODE, driver='qcow2',
             file={'driver': 'file', 'filename': path})


def unplug(qemu):
    qemu.cmd('blockdev-del', node_name=NODE)


def run_job(qemu, command):
    """`snapshot-save` or `snapshot-load`, to its end."""
    qemu.cmd(command, job_id=JOB, tag='vm', vmstate=NODE, devices=[NODE])
    qemu.qmp.wait_event(lambda event: event['event'] == 'JOB_STATUS_CHANGE' and
                        event['data'] == {'id': JOB, 'status': 'concluded'}, 900)
    (job,) = qemu.cmd('query-jobs')
    qemu.cmd('job-dismiss', id=JOB)
    if 'error' in job:
        raise RuntimeError(f'{command}: {job["error"]}')

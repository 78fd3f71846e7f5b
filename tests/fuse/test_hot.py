#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""`hot`: what the first reads of a mapped `ram` teach, and what it is good for."""
import mmap
import os
import random
import re
import resource
import stat
import subprocess
import sys
import threading
import time

from fusecase import MIB, FuseCase, read_file, setUpModule  # noqa: F401
import harness
import makestream
from mount import statistics

PAGE = 4096
PAGES = 16384                      # of RAM
TOUCHED = range(PAGES - 64, 0, -640)   # from the back to the front
LOOKED = 8                         # rests, among which is a whole look

# Eight threads of a guest: they touch all pages, in the order of the list.
READER = '''
import mmap, os, sys, threading
ram = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
ram.madvise(mmap.MADV_RANDOM)
pages = [int(page) for page in sys.stdin.read().split()]
def touch(k):
    for page in pages[k::8]:
        for at in range(page, page + 16):
            ram[at * 4096]
print(flush=True)
for k in range(8):
    threading.Thread(target=touch, args=(k,)).start()
'''


# A guest that touches pages and stays.
CLONE = '''
import mmap, os, sys
ram = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
ram.madvise(mmap.MADV_HUGEPAGE)
for page in sys.stdin.readline().split():
    ram[int(page) * 4096]
print(flush=True)
sys.stdin.read()
'''

# Maps a hundred thousand times as much as there is.
LONG = '''
import ctypes, os, sys
mmap = ctypes.CDLL(None).mmap
mmap.restype = ctypes.c_void_p
mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
PROT_NONE, MAP_PRIVATE, MAP_NORESERVE = 0, 2, 0x4000
fd = os.open(sys.argv[1], os.O_RDONLY)
print(mmap(None, 8 << 40, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE, fd, 0), flush=True)
sys.stdin.read()
'''


class HotTest(FuseCase):
    def setUp(self):
        super().setUp()
        self.guest = makestream.Guest({'pc.ram': PAGES * PAGE}, seed=5)
        for page in range(0, PAGES, 3):
            self.guest.pages['pc.ram'][page] = makestream.page_bytes(page)
        self.save('vm1', self.guest)
        self.flat = self.guest.flat()
        self.hot = self.snaps('vm1', 'hot')

    def touch(self, pages=TOUCHED, flags=0, wait=None, advice=mmap.MADV_RANDOM, stay=True):
        """Maps `ram` as a guest's memory and reads pages of it; it stays mapped
        until the daemon has looked at it."""
        fd = os.open(self.snaps('vm1', 'ram'), os.O_RDONLY | flags)
        try:
            with mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as ram:
                ram.madvise(advice)
                if wait:
                    wait()
                for page in pages:
                    at = page * PAGE
                    self.assertEqual(ram[at:at + PAGE], self.flat[at:at + PAGE], f'page {page}')
                if stay:
                    self.wait_looked()
        finally:
            os.close(fd)

    def looks(self):
        """How often each thread that watches a process has rested, by thread."""
        rests = {}
        tasks = f'/proc/{self.mount.pid}/task'
        for thread in os.listdir(tasks):
            try:
                status = harness.read_text(f'{tasks}/{thread}/status')
            except ProcessLookupError:   # it has ended since
                continue
            if status.startswith('Name:\twatch\n'):
                rests[thread] = int(re.search(r'^voluntary_ctxt_switches:\s+(\d+)$', status,
                                              re.M)[1])
        return rests

    def wait_looked(self):
        """Waits until each thread that watches has looked once more, which it does
        between two rests; it also waits for who opens /proc for it, and for locks."""
        begin = harness.wait_until(self.looks, 20, 'the daemon watches a process')

        def looked():
            now = self.looks()
            return all(now.get(thread, rests + LOOKED) >= rests + LOOKED
                       for thread, rests in begin.items())
        harness.wait_until(looked, 20, 'the daemon looks at what is mapped')

    def reads(self):
        """Reads of the kernel so far."""
        return statistics(self.snaps())['snapfs_operations_total{op="read"}']

    def wait_hot(self):
        return harness.wait_until(lambda: harness.read_text(self.hot), 10, 'hot is written')

    def test_the_first_reads_are_learnt_in_their_order(self):
        self.touch()
        lines = self.wait_hot().splitlines()
        self.assertEqual(lines[0], 'snapfs-hot 1')
        offsets = [int(line.split()[1], 16) for line in lines[1:]]
        self.assertTrue(all(line.startswith('pc.ram ') for line in lines[1:]))
        self.assertEqual(offsets, sorted(offsets, reverse=True))
        learnt = {at // PAGE + page for at, line in zip(offsets, lines[1:])
                  for page in range(int(line.split()[2]))}
        self.assertTrue(learnt.issuperset(TOUCHED))

    def learnt(self):
        """The pages in the list, in its order."""
        return [int(line.split()[1], 16) // PAGE + page
                for line in self.wait_hot().splitlines()[1:]
                for page in range(int(line.split()[2]))]

    def touch_as_nobody(self, done, end):
        """For a child: what touch() does, until `end` is closed."""
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        fd = os.open(self.snaps('vm1', 'ram'), os.O_RDONLY)
        with mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as ram:
            ram.madvise(mmap.MADV_RANDOM)
            for page in TOUCHED:
                ram[page * PAGE]
            os.write(done, b'x')
            os.read(end, 1)

    def test_what_another_users_process_touches_is_learnt(self):
        harness.need_root()
        os.chmod(self.work, 0o755)
        os.chmod(self.snaps('vm1', 'ram'), 0o644)
        self.mount.unmount()
        self.mount.options = ['allow_other']
        self.mount.start()
        done, child_done = os.pipe()
        child_end, end = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(end)
                self.touch_as_nobody(child_done, child_end)
            finally:
                os._exit(0)
        os.close(child_done)
        try:
            self.assertEqual(os.read(done, 1), b'x')
            self.wait_looked()
        finally:
            os.close(end)
            os.waitpid(pid, 0)
        self.assertTrue(set(self.learnt()).issuperset(TOUCHED))

    def test_what_is_read_around_a_page_is_not_learnt(self):
        """QEMU asks for huge pages, and the kernel reads 4 MiB for each."""
        before = self.reads()
        self.touch(advice=mmap.MADV_HUGEPAGE)
        self.assertLess(self.reads() - before, len(TOUCHED) * 2 + PAGES * PAGE // MIB)
        learnt = self.learnt()
        self.assertTrue(set(learnt).issuperset(TOUCHED))
        self.assertLessEqual(len(learnt), len(TOUCHED) * 16)
        # The next one knows more.
        os.rename(self.hot, self.snaps('vm1', 'before'))
        self.touch(range(5, PAGES, 1280), advice=mmap.MADV_HUGEPAGE)
        self.assertTrue(set(self.learnt()).issuperset(range(5, PAGES, 1280)))

    def test_what_was_given_and_is_used_stays_first(self):
        self.touch()
        first = self.learnt()
        self.mount.remount()
        self.touch([*TOUCHED, 1000], advice=mmap.MADV_HUGEPAGE)
        harness.wait_until(lambda: 1000 in self.learnt(), 10, 'the new page is learnt')
        self.assertEqual(self.learnt()[:len(first)], first)

    def test_who_maps_it_to_read_all_teaches_nothing(self):
        self.touch()
        learnt = self.wait_hot()
        self.mount.remount()
        self.touch(range(PAGES), advice=mmap.MADV_SEQUENTIAL)
        self.mount.remount()   # what is written is written by then
        self.assertEqual(harness.read_text(self.hot), learnt)

    def test_clones_teach_what_they_touch(self):
        """Also those that are not watched, as others are, do no harm."""
        readers = []
        for number in range(4):
            pages = ' '.join(str(page) for page in range(number * 64, PAGES, 1280))
            readers.append(subprocess.Popen([sys.executable, '-c', CLONE, self.snaps('vm1', 'ram')],
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            readers[-1].stdin.write(pages.encode() + b'\n')
            readers[-1].stdin.flush()
            readers[-1].stdout.readline()
        self.wait_looked()
        for reader in readers:
            reader.communicate()
        self.mount.remount()   # what is written is written by then
        touched = {page // 16 for number in range(4) for page in range(number * 64, PAGES, 1280)}
        self.assertTrue({page // 16 for page in self.learnt()}.issubset(touched))
        self.assertTrue(set(self.learnt()).issuperset(range(0, PAGES, 1280)))

    def test_the_thread_that_opened_it_may_end(self):
        opened = []
        thread = threading.Thread(target=lambda: opened.append(
            os.open(self.snaps('vm1', 'ram'), os.O_RDONLY)))
        thread.start()
        thread.join()
        with mmap.mmap(opened[0], 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as ram:
            ram.madvise(mmap.MADV_HUGEPAGE)
            self.assertEqual(ram[9000 * PAGE], self.flat[9000 * PAGE])
            self.wait_looked()
        os.close(opened[0])
        self.assertEqual(self.learnt(), list(range(8992, 9008)))

    def test_a_mapping_far_beyond_the_end_costs_nothing(self):
        reader = subprocess.Popen([sys.executable, '-c', LONG, self.snaps('vm1', 'ram')],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        reader.stdout.readline()
        self.wait_looked()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.mount.process.terminate()
        self.assertEqual(self.mount.process.wait(60), 0)
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Of a processor: the machine may be busy.
        self.assertLess(spent.ru_utime + spent.ru_stime - before.ru_utime - before.ru_stime, 5)
        reader.communicate()
        self.mount.process = None
        self.mount.kill()
        self.mount.start()

    def test_who_only_maps_it_for_a_moment_is_learnt_from_by_reads(self):
        self.touch([16000, 32, 8000], stay=False)
        self.assertTrue(set(self.learnt()).issuperset([16000, 32, 8000]))

    def test_hot_pages_are_there_before_they_are_asked_for(self):
        self.mount.remount()
        before = self.reads()
        self.touch()
        cold = self.reads() - before
        self.wait_hot()
        self.mount.remount()

        def pushed():
            # The first page that was learnt is the first that is given, so the
            # last is there a moment later; nothing asks for either.
            harness.wait_until(lambda: self.pushed_bytes() >= len(TOUCHED) * 16 * PAGE, 10,
                               'the hot pages are given to the kernel')
            # Each look at the statistics is a read as well.
            begin.append(self.reads())
        begin = []
        self.touch(wait=pushed)
        self.assertLess(self.reads() - begin[0], cold / 4)

    def pushed_bytes(self):
        return statistics(self.snaps())['snapfs_hot_bytes_total']

    def test_the_mount_ends_while_pages_are_given(self):
        """The kernel may wait for an answer to a read while it is given the
        same page: requests must be served until nothing is given any more."""
        pages = list(range(0, PAGES, 16))
        random.Random(1).shuffle(pages)
        with open(self.hot, 'w') as file:
            file.write('snapfs-hot 1\n' + ''.join(f'pc.ram {p * PAGE:#x} 16\n' for p in pages))
        for delay in (0.02, 0.05, 0.08, 0.11):
            self.mount.remount()
            reader = subprocess.Popen([sys.executable, '-c', READER, self.snaps('vm1', 'ram')],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL)
            reader.stdin.write(' '.join(map(str, pages)).encode())
            reader.stdin.close()
            reader.stdout.readline()
            time.sleep(delay)
            self.mount.process.terminate()
            self.assertEqual(self.mount.process.wait(10), 0)
            self.mount.process = None
            reader.kill()
            reader.wait()
            reader.stdout.close()
            self.mount.kill()
            self.mount.start()

    def test_opened_again_gives_them_once(self):
        self.touch()
        self.wait_hot()
        self.mount.remount()
        with open(self.snaps('vm1', 'ram'), 'rb'):
            harness.wait_until(lambda: self.pushed_bytes() >= len(TOUCHED) * 16 * PAGE, 10,
                               'the hot pages are given to the kernel')
            before = self.pushed_bytes()
            for _ in range(5):
                with open(self.snaps('vm1', 'ram'), 'rb'):
                    pass
            time.sleep(0.3)
            self.assertEqual(self.pushed_bytes(), before)

    def test_a_copy_teaches_nothing(self):
        self.assertEqual(read_file(self.snaps('vm1', 'ram')), self.flat)
        self.assertFalse(os.path.exists(self.hot))

    def test_who_wants_no_trace_leaves_none(self):
        self.touch(flags=os.O_NOATIME, stay=False)
        self.assertFalse(os.path.exists(self.hot))

    def test_a_wrong_list_costs_no_byte(self):
        for text in (b'', b'\0' * 5000, b'snapfs-hot 1\npc.ram 0xffffffffffff000 9\nx y z\n'
                     b'pc.ram 0x1000 99999999999999999999\npc.ram 0x3000 1\n', b'snapfs-hot 9\n',
                     os.urandom(100000)):
            with open(self.hot, 'wb') as file:
                file.write(text)
            self.mount.remount()
            self.touch()
            self.assertEqual(read_file(self.snaps('vm1', 'ram')), self.flat)

    def test_a_list_that_is_no_file_is_left_alone(self):
        os.mkfifo(self.hot)
        self.touch()
        self.mount.remount()   # what is written is written by then
        self.assertTrue(stat.S_ISFIFO(os.stat(self.hot).st_mode))
        os.unlink(self.hot)
        os.mkdir(self.hot)
        self.touch()
        self.assertTrue(os.path.isdir(self.hot))

    def test_a_new_snapshot_begins_without(self):
        self.touch()
        self.wait_hot()
        del self.guest.pages['pc.ram'][3]
        self.save('vm1', self.guest)
        self.assertFalse(os.path.exists(self.hot))

    def test_a_copy_keeps_what_was_learnt(self):
        self.touch()
        learnt = self.wait_hot()
        self.save('vm1', self.guest)
        self.assertEqual(harness.read_text(self.hot), learnt)
        # Copied in before its snapshot.
        os.mkdir(self.snaps('vm2'))
        with open(self.snaps('vm2', 'hot'), 'w') as file:
            file.write(learnt)
        self.save('vm2', self.guest)
        self.assertEqual(harness.read_text(self.snaps('vm2', 'hot')), learnt)

    def test_it_is_an_ordinary_file(self):
        self.touch()
        self.wait_hot()
        self.assertEqual(os.stat(self.hot).st_mode & 0o777,
                         os.stat(self.snaps('vm1', 'ram')).st_mode & 0o666)
        os.unlink(self.hot)
        self.assertNotIn('hot', os.listdir(self.snaps('vm1')))
        self.assertEqual(os.listdir(self.store('vm1')), ['snapshot.zst'])

    def test_a_list_that_was_cut_off_does_not_keep_its_folder(self):
        """It is written elsewhere; earlier versions wrote it beside the snapshot."""
        with open(self.store('vm1', '.snapfs-hot-1'), 'w') as file:
            file.write('snapfs-hot 1\n')
        os.mkdir(self.snaps('vm2'))
        with open(self.store('vm2', '.snapfs-hot-27'), 'w'):
            pass
        self.run_ok('rm', '-r', self.snaps('vm1'))
        os.mkdir(self.snaps('vm3'))
        os.rename(self.snaps('vm3'), self.snaps('vm2'))
        self.assertEqual(sorted(os.listdir(self.store())), ['.snapfs', 'vm2'])
        self.assertEqual(os.listdir(self.store('vm2')), [])

    def test_a_list_is_written_in_the_private_folder(self):
        """Where it cannot be, none is written, and nothing is left."""
        os.rename(self.store('.snapfs', 'tmp'), self.store('.snapfs', 'gone'))
        os.rmdir(self.store('.snapfs', 'gone'))
        self.touch()
        self.mount.remount()   # what is written is written by then
        self.assertEqual(os.listdir(self.store('vm1')), ['snapshot.zst'])

    def test_many_pages_are_bounded(self):
        guest = makestream.Guest({'pc.ram': 320 * MIB}, seed=6)
        self.save('vm1', guest)
        self.flat = guest.flat()
        # So many that the daemon stops to look.
        self.touch(range(320 * 256 - 16, -1, -16), stay=False)
        pages = sum(int(line.split()[2]) for line in self.wait_hot().splitlines()[1:])
        self.assertLessEqual(pages, 262144)


if __name__ == '__main__':
    harness.main()

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The only program of the Linux test guest: /init of its initramfs.
 *
 * It fills memory with pages whose bytes follow from a nonce that exists in
 * this guest's RAM alone (or with the pages of /pack, over and over, where the
 * initramfs has that file), checks a part of them again at every tick, and says
 * on the serial port how it stands:
 *
 *   nonce <16 hex digits> fill <MiB> touch <MiB>
 *   sum <16 hex digits>
 *   ready
 *   tick <N> nonce <…> sum <…> pass <P> writes <W>
 *   BAD <what>
 *
 * `sum` covers the filled pages and never changes; `pass` counts how often all
 * of them were checked; `writes` counts the pages rewritten. A guest that went
 * on after a revert therefore prints the same nonce and sum with N growing; one
 * that was rebooted has another nonce, and one that lost a page prints BAD.
 *
 * Kernel command line:
 *   snap.fill=MiB    memory filled once and checked for ever (default 32)
 *   snap.touch=MiB   memory that is rewritten all the while (default 0)
 *   snap.dirty=MiB/s how fast (default 0: not at all)
 *   snap.tick=ms     time between ticks (default 200)
 *   snap.check=MiB   how much is checked at each tick (default 4)
 *   snap.work=MiB    no ticks: the guest waits on its second serial port for
 *                    somebody to want something (default 0: ticks)
 *
 * With snap.work it answers a byte 'p' with "pong", and 'w' with
 *
 *   worked <microseconds> <good|BAD>
 *
 * once it has read a word of each page of its working set: that many MiB of the
 * filled memory, in pieces of 64 KiB that are spread evenly over all of it, and
 * visited in no order. It answers 's' with
 *
 *   stalled <writes> waited <n> p50 <ns> p99 <ns> max <ns>
 *
 * once it has written a word to as many pages, one by one, from all over the
 * filled memory in no order. While a save protects pages, a write waits until
 * QEMU has written the page; n writes took longer than any other can, and the
 * times are theirs.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, PAGES_PER_MIB = 256 };

typedef struct Area {
	uint64_t *mem;
	size_t pages;
	/* How often each page was rewritten; its bytes follow from it. */
	uint32_t *generation;
	uint64_t salt;
} Area;

typedef struct Guest {
	uint64_t nonce;
	uint64_t sum;
	Area fill;
	Area touch;
	uint64_t ticks;
	uint64_t passes;
	uint64_t writes;
	size_t check_next;
	size_t touch_next;
	size_t touch_check_next;
	size_t work; /* pages of the working set */
	uint64_t work_sum;
} Guest;

static char cmdline[4096];

/* The pages of /pack, if it is there. */
static const uint64_t *pack;
static size_t pack_pages;

static uint64_t option(const char *name, uint64_t fallback)
{
	const char *at = strstr(cmdline, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : fallback;
}

static void die(const char *why)
{
	printf("BAD %s\n", why);
	fflush(stdout);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9;
	x ^= x >> 27;
	x *= 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/*
 * One page: about a quarter random bits, the rest like what programs keep, that
 * is records with an address, a length and flags, and words of text. zstd -1
 * makes it 2.5 to 3 times smaller, about what it does to a busy server's pages.
 */
static void make_page(uint64_t *page, uint64_t seed)
{
	static const char words[8][9] = {
		"listener", "request ", "session=", "packets ",
		"/var/lib", "x86_64  ", "timeout=", "snapshot",
	};
	uint64_t x = mix(seed) | 1;
	uint64_t base = 0xffff888000000000 | (x & 0x3fffff000);
	size_t i = 0;

	while (i < WORDS) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		page[i] = x >> 12;
		page[i + 1] = base + i * 64;
		page[i + 2] = (x >> 60) * 24;
		memcpy(&page[i + 3], words[x >> 13 & 7], 8);
		i += 4;
	}
}

/*
 * What a page of an area has to hold; `buffer` is there for the bytes. Pages
 * that are neighbours in the pack are neighbours in an area, too.
 */
static const uint64_t *page_bytes(const Guest *guest, const Area *area,
				  size_t page, uint64_t *buffer)
{
	enum { STEP = 7919 };
	uint64_t generation = area->generation ? area->generation[page] : 0;

	if (pack)
		return pack + (page + generation * STEP) % pack_pages * WORDS;
	make_page(buffer,
		  guest->nonce ^ area->salt ^ mix(page + (generation << 32)));
	return buffer;
}

static void put_page(const Guest *guest, const Area *area, size_t page)
{
	uint64_t buffer[WORDS];

	memcpy(area->mem + page * WORDS, page_bytes(guest, area, page, buffer),
	       PAGE);
}

static uint64_t page_sum(const uint64_t *page, size_t number)
{
	uint64_t sum = number;

	for (size_t i = 0; i < WORDS; i++)
		sum = (sum << 1 | sum >> 63) ^ page[i];
	return mix(sum);
}

static void area_fill(Guest *guest, Area *area, uint64_t mib, uint64_t salt)
{
	area->salt = salt;
	area->pages = mib * PAGES_PER_MIB;
	if (!area->pages)
		return;
	area->mem = mmap(NULL, area->pages * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area->mem == MAP_FAILED)
		die("no memory: snap.fill is more than the guest has");
	for (size_t i = 0; i < area->pages; i++)
		put_page(guest, area, i);
}

static uint64_t area_sum(const Area *area)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < area->pages; i++)
		sum ^= page_sum(area->mem + i * WORDS, i);
	return sum;
}

static void check_page(const Guest *guest, const Area *area, size_t page,
		       const char *what)
{
	uint64_t buffer[WORDS];

	if (memcmp(page_bytes(guest, area, page, buffer),
		   area->mem + page * WORDS, PAGE))
		printf("BAD %s page %zu tick %" PRIu64 "\n", what, page,
		       guest->ticks);
}

/* Checks the next part of each area, round and round. */
static void check_some(Guest *guest, size_t pages)
{
	for (size_t i = 0; i < pages && guest->fill.pages; i++) {
		check_page(guest, &guest->fill, guest->check_next++, "filled");
		if (guest->check_next < guest->fill.pages)
			continue;
		guest->check_next = 0;
		guest->passes++;
		if (area_sum(&guest->fill) != guest->sum)
			printf("BAD sum tick %" PRIu64 "\n", guest->ticks);
	}
	for (size_t i = 0; i < pages && i < guest->touch.pages; i++) {
		check_page(guest, &guest->touch, guest->touch_check_next++,
			   "touched");
		guest->touch_check_next %= guest->touch.pages;
	}
}

static void dirty_some(Guest *guest, uint64_t pages)
{
	Area *area = &guest->touch;

	for (; pages && area->pages; pages--) {
		size_t page = guest->touch_next++;

		guest->touch_next %= area->pages;
		area->generation[page]++;
		put_page(guest, area, page);
		guest->writes++;
	}
}

/* Dirties at the given rate until the next tick is due. */
static void wait_dirtying(Guest *guest, uint64_t tick_ms, uint64_t dirty_mib)
{
	enum { STEP_MS = 20 };
	uint64_t end = now_ms() + tick_ms;

	while (now_ms() < end) {
		dirty_some(guest, dirty_mib * PAGES_PER_MIB * STEP_MS / 1000);
		usleep(STEP_MS * 1000);
	}
}

static void read_cmdline(void)
{
	FILE *file;

	mount("proc", "/proc", "proc", 0, NULL);
	file = fopen("/proc/cmdline", "r");
	if (!file || !fgets(cmdline, sizeof cmdline, file))
		die("/proc/cmdline");
	fclose(file);
}

static void map_pack(void)
{
	int fd = open("/pack", O_RDONLY);
	struct stat st;

	if (fd < 0)
		return;
	if (fstat(fd, &st) || st.st_size < PAGE)
		die("/pack");
	pack_pages = (size_t)st.st_size / PAGE;
	pack = mmap(NULL, pack_pages * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	if (pack == MAP_FAILED)
		die("/pack cannot be mapped");
	close(fd);
}

static uint64_t make_nonce(void)
{
	uint64_t nonce;

	/* What the kernel gives each program at its start; in RAM alone. */
	memcpy(&nonce, (void *)getauxval(AT_RANDOM), sizeof nonce);
	return mix(nonce ^ __builtin_ia32_rdtsc());
}

static void set_up(Guest *guest)
{
	uint64_t fill = option("snap.fill=", 32);
	uint64_t touch = option("snap.touch=", 0);

	guest->nonce = make_nonce();
	map_pack();
	printf("nonce %016" PRIx64 " fill %" PRIu64 " touch %" PRIu64 "\n",
	       guest->nonce, fill, touch);
	area_fill(guest, &guest->fill, fill, 0);
	guest->sum = area_sum(&guest->fill);
	if (touch) {
		guest->touch.generation =
			calloc(touch * PAGES_PER_MIB, sizeof(uint32_t));
		if (!guest->touch.generation)
			die("no memory for generations");
		area_fill(guest, &guest->touch, touch, 0x746f756368);
	}
	printf("sum %016" PRIx64 "\nready\n", guest->sum);
}

/* Reads a word of each page of the working set; returns what they add up to. */
static uint64_t work(const Guest *guest)
{
	enum { PIECE = 16 };
	size_t pieces = guest->work / PIECE;
	size_t stride = guest->fill.pages / PIECE / pieces;
	uint64_t sum = 0;

	for (size_t i = 0; i < pieces; i++) {
		/* The factor is a prime: every piece once. */
		size_t k = i * 1000003 % pieces;
		size_t at = (k * stride + mix(k) % stride) * PIECE;

		for (size_t page = at; page < at + PIECE; page++)
			sum += *(volatile uint64_t *)(guest->fill.mem +
						      page * WORDS);
	}
	return sum;
}

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/*
 * Writes what is there already, and times it by the processor's own counter:
 * under TCG a clock may need QEMU's help, and wait for it.
 */
static void stall(const Guest *guest, int port)
{
	enum { WAITED_NS = 10000 };
	size_t n = guest->work, first = 0;
	uint64_t *took = calloc(n, sizeof *took);
	uint64_t us = now_us(), begin = __builtin_ia32_rdtsc();
	double ns;

	if (!took)
		die("no memory for times");
	for (size_t i = 0; i < n; i++) {
		size_t page = i * 1000003 % guest->fill.pages;
		volatile uint64_t *word = guest->fill.mem + page * WORDS;
		uint64_t value = *word, start = __builtin_ia32_rdtsc();

		*word = value;
		took[i] = __builtin_ia32_rdtsc() - start;
	}
	ns = (double)(now_us() - us) * 1000 /
	     (double)(__builtin_ia32_rdtsc() - begin);
	qsort(took, n, sizeof *took, compare);
	while (first < n && (double)took[first] * ns < WAITED_NS)
		first++;
	dprintf(port, "stalled %zu waited %zu", n, n - first);
	if (first < n)
		dprintf(port, " p50 %.0f p99 %.0f max %.0f",
			(double)took[first + (n - first) / 2] * ns,
			(double)took[first + (n - first) * 99 / 100] * ns,
			(double)took[n - 1] * ns);
	dprintf(port, "\n");
	free(took);
}

static int open_port(void)
{
	struct termios raw;
	int fd;

	mknod("/dev/ttyS1", S_IFCHR | 0600, makedev(4, 65));
	fd = open("/dev/ttyS1", O_RDWR | O_NOCTTY);
	if (fd < 0 || tcgetattr(fd, &raw))
		die("/dev/ttyS1");
	cfmakeraw(&raw);
	tcsetattr(fd, TCSANOW, &raw);
	return fd;
}

/* Does what is wanted, for ever. */
static void serve(Guest *guest)
{
	int port = open_port();
	char what;

	guest->work_sum = work(guest);
	puts("waiting");
	while (read(port, &what, 1) == 1) {
		uint64_t start = now_us(), sum;

		if (what == 'p')
			dprintf(port, "pong\n");
		if (what == 's')
			stall(guest, port);
		if (what != 'w')
			continue;
		sum = work(guest);
		dprintf(port, "worked %" PRIu64 " %s\n", now_us() - start,
			sum == guest->work_sum ? "good" : "BAD");
	}
	die("/dev/ttyS1 closed");
}

int main(void)
{
	Guest guest = { 0 };
	uint64_t tick_ms, dirty, check;

	setvbuf(stdout, NULL, _IOLBF, 0);
	read_cmdline();
	tick_ms = option("snap.tick=", 200);
	dirty = option("snap.dirty=", 0);
	check = option("snap.check=", 4);
	set_up(&guest);
	guest.work = option("snap.work=", 0) * PAGES_PER_MIB;
	if (guest.work > guest.fill.pages)
		die("snap.work is more than snap.fill");
	if (guest.work)
		serve(&guest);
	for (;;) {
		check_some(&guest, check * PAGES_PER_MIB);
		printf("tick %" PRIu64 " nonce %016" PRIx64 " sum %016" PRIx64
		       " pass %" PRIu64 " writes %" PRIu64 "\n",
		       ++guest.ticks, guest.nonce, guest.sum, guest.passes,
		       guest.writes);
		wait_dirtying(&guest, tick_ms, dirty);
	}
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which snapshot is the parent: the one that was asked for, else the one that
 * is being replaced, else the newest few of the store are tried on the first
 * pages. It must have the same RAM blocks, and belong to the same user: what
 * one user's snapshot takes must not tell what another's holds.
 *
 * Of the parent's own parents only some are used: at most eight files in all,
 * and none of which the parent uses less than a quarter. What they hold is
 * stored anew, so that they can go.
 *
 * While too little of the parent is equal, only few jobs are compared:
 * comparing costs time. More of them are again when those few are equal.
 */
#include "fs/save/parent.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/log.h"

#define CANDIDATES 4u
/* Of the store, the newest ones that are looked at. */
#define NEWEST 8u
/* Pages on which candidates are tried. */
#define TRIAL_PAGES 64u
/* Of about so many pages that were compared last, so many in a hundred must
 * have been equal: unpacking a page takes half as long as packing it. Otherwise
 * one job in so many is compared. */
#define FIT_PAGES 256u
#define FIT_PERCENT 40u
#define SAMPLE 8u
/* When such a job is equal, at least so many pages are compared. */
#define AGAIN_PAGES 64u

struct candidate {
	SnapReader *reader;
	SnapKept *kept;
	uint64_t id;
	unsigned layers; /* a bit for each file that may be used */
	guint equal;	 /* pages of the trial */
	bool is_gone;	 /* it cannot be linked */
};

struct SnapParent {
	SnapCatalog *catalog;
	char *name; /* of the save, for the log */
	GMutex lock;
	struct candidate candidates[CANDIDATES];
	guint n;
	guint tried;			/* pages; protected by lock */
	const struct candidate *chosen; /* atomic; NULL: not yet */
	/* of the pages compared last; protected by lock */
	guint compared;
	guint equal;
	gint is_alone; /* atomic: no candidate is left */
	gint is_off;   /* atomic: too few of them were equal */
	gint jobs;     /* that came meanwhile; atomic */
	uint64_t regions;
	/* a bit per region that is stored whole; atomic */
	guint8 *whole;
	/* of the thread that appends */
	SnapCodec *codec;
	uint8_t numbers[SNAP_LAYERS_MAX + 1]; /* in the writer; 0: not yet */
};

/* ---- what may be a parent ---- */

/* `is_begun`: `ram` may hold only the first ones of its blocks. */
static bool same_blocks(const struct snap_meta *meta,
			const struct snap_ramlist *ram, bool is_begun)
{
	guint n = 0;

	for (guint i = 0; i < meta->n_blocks; i++) {
		const struct snap_block *b = &meta->blocks[i];

		if (b->kind != SNAP_BLOCK_RAM || (is_begun && n == ram->n))
			continue;
		if (n >= ram->n || strcmp(b->name, ram->blocks[n].name) ||
		    b->length != ram->blocks[n].length ||
		    b->base != ram->blocks[n].flat)
			return false;
		n++;
	}
	return n && n == ram->n;
}

/* The files of a snapshot that its child may use. */
static unsigned choose_layers(const struct snap_meta *meta)
{
	unsigned layers = 1;
	guint n = 1, least;

	for (guint i = 0; i < meta->n_layers; i++)
		if (meta->layers[i].used >= meta->layers[i].size / 4) {
			layers |= 2u << i;
			n++;
		}
	for (; n > SNAP_LAYERS_MAX; n--) {
		least = SNAP_LAYERS_MAX;
		for (guint i = 0; i < meta->n_layers; i++)
			if (layers >> (i + 1) & 1 &&
			    (least == SNAP_LAYERS_MAX ||
			     meta->layers[i].used < meta->layers[least].used))
				least = i;
		layers &= ~(2u << least);
	}
	return layers;
}

/* The regions of a snapshot's RAM. */
static uint64_t ram_regions(const struct snap_meta *meta)
{
	uint64_t end = 0;

	for (guint i = 0; i < meta->n_blocks; i++)
		if (meta->blocks[i].kind == SNAP_BLOCK_RAM)
			end = meta->blocks[i].base + meta->blocks[i].length;
	return snap_div_up(end, SNAP_REGION);
}

/* Opens the snapshot of a folder as a candidate, if it can be one. */
static int open_candidate(struct candidate *c,
			  const struct snap_parent_opts *opts, int folder_fd,
			  const struct snap_ramlist *ram, GError **error)
{
	g_autoptr(SnapReader) look = NULL;
	int r = snap_catalog_find(folder_fd, &look, error);

	if (r < 0)
		return r;
	if (!same_blocks(snap_reader_meta(look), ram, opts->is_begun))
		return snap_fail(error, EINVAL, "it has other RAM blocks");
	r = snap_catalog_keep(opts->catalog, folder_fd, opts->uid, &c->reader,
			      &c->kept, error);
	if (r < 0)
		return r;
	/* Another one may have come in its place. */
	if (same_blocks(snap_reader_meta(c->reader), ram, opts->is_begun))
		return 0;
	g_clear_pointer(&c->reader, snap_reader_free);
	g_clear_pointer(&c->kept, snap_kept_free);
	return snap_fail(error, ESTALE, "it was replaced");
}

/* What the workers have read is remembered by such a number. */
static uint64_t new_id(void)
{
	static uint64_t ids;

	return __atomic_add_fetch(&ids, 1, __ATOMIC_RELAXED);
}

static int add(SnapParent *p, const struct snap_parent_opts *opts,
	       int folder_fd, const struct snap_ramlist *ram, GError **error)
{
	struct candidate *c = &p->candidates[p->n];
	int r = p->n == CANDIDATES
			? -E2BIG
			: open_candidate(c, opts, folder_fd, ram, error);

	if (r < 0)
		return r;
	c->id = new_id();
	c->layers = choose_layers(snap_reader_meta(c->reader));
	p->regions = MAX(p->regions, ram_regions(snap_reader_meta(c->reader)));
	p->n++;
	return 0;
}

/* Takes the one that was asked for. */
static void add_named(SnapParent *p, const struct snap_parent_opts *opts,
		      const struct snap_ramlist *ram)
{
	g_autoptr(GError) error = NULL;
	snap_autofd int fd = snap_catalog_folder(opts->catalog, opts->parent);
	int r = fd < 0 ? snap_fail_errno(&error, -fd, "no such folder")
		       : add(p, opts, fd, ram, &error);

	if (r < 0)
		snap_log(SNAP_LOG_WARNING,
			 "%s: %s cannot be its parent, so it stands alone: %s",
			 opts->name, opts->parent,
			 error ? error->message : g_strerror(-r));
}

/* ---- the newest ones of the store ---- */

struct newest {
	guint n;
	struct {
		int fd;
		struct timespec time;
	} of[NEWEST];
};

static bool is_older(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec < b->tv_sec ||
	       (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

/* Keeps the folder if its snapshot is one of the newest; the newest is first.
 */
static int note_newest(const char *path, int folder_fd, void *data)
{
	struct newest *newest = data;
	struct stat st;
	guint at = newest->n;
	int fd;

	if (fstatat(folder_fd, SNAP_CATALOG_SNAPSHOT, &st,
		    AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	while (at > 0 && is_older(&newest->of[at - 1].time, &st.st_mtim))
		at--;
	if (at == NEWEST)
		return 0;
	fd = fcntl(folder_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	if (newest->n == NEWEST)
		close(newest->of[--newest->n].fd);
	memmove(&newest->of[at + 1], &newest->of[at],
		(newest->n - at) * sizeof(newest->of[0]));
	newest->of[at].fd = fd;
	newest->of[at].time = st.st_mtim;
	newest->n++;
	return 0;
}

static void add_newest(SnapParent *p, const struct snap_parent_opts *opts,
		       const struct snap_ramlist *ram)
{
	struct newest newest = { 0 };

	(void)snap_catalog_list(opts->catalog, "", note_newest, &newest, NULL);
	for (guint i = 0; i < newest.n; i++) {
		(void)add(p, opts, newest.of[i].fd, ram, NULL);
		close(newest.of[i].fd);
	}
}

/* The best candidate, but for those that are gone. */
static struct candidate *best_of(SnapParent *p)
{
	struct candidate *best = NULL;

	for (guint i = 0; i < p->n; i++) {
		struct candidate *c = &p->candidates[i];

		if (!c->is_gone && (!best || c->equal > best->equal))
			best = c;
	}
	return best;
}

/* Chooses a candidate: from now on it stays, whatever becomes of its name. Only
 * one thread does so, and no other one uses the candidates meanwhile. Returns
 * false where none is left. */
static bool choose(SnapParent *p)
{
	g_autoptr(GError) error = NULL;
	struct candidate *c;

	while ((c = best_of(p)) != NULL) {
		g_clear_error(&error);
		c->is_gone = snap_catalog_link(p->catalog, c->kept, &c->reader,
					       &error) < 0;
		if (c->is_gone)
			continue;
		/* Its reader may be another one now. */
		c->id = new_id();
		__atomic_store_n(&p->chosen, c, __ATOMIC_RELEASE);
		return true;
	}
	snap_log(SNAP_LOG_WARNING,
		 "%s: its parent cannot be used, so it stands alone: %s",
		 p->name, error ? error->message : "none is left");
	g_atomic_int_set(&p->is_alone, 1);
	return false;
}

/* ---- begin and end ---- */

SnapParent *snap_parent_find(const struct snap_parent_opts *opts,
			     const struct snap_ramlist *ram)
{
	SnapParent *p = g_new0(SnapParent, 1);

	g_mutex_init(&p->lock);
	p->catalog = opts->catalog;
	p->name = g_strdup(opts->name);
	if (opts->parent)
		add_named(p, opts, ram);
	else if (add(p, opts, opts->folder_fd, ram, NULL) < 0)
		add_newest(p, opts, ram);
	p->whole = g_try_malloc0(p->regions / 8 + 1);
	if (!p->n || !p->whole || (p->n == 1 && !choose(p))) {
		snap_parent_free(p);
		return NULL;
	}
	p->codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
	return p;
}

void snap_parent_free(SnapParent *p)
{
	if (!p)
		return;
	for (guint i = 0; i < p->n; i++) {
		snap_reader_free(p->candidates[i].reader);
		snap_kept_free(p->candidates[i].kept);
	}
	snap_codec_free(p->codec);
	g_mutex_clear(&p->lock);
	g_free(p->name);
	g_free(p->whole);
	g_free(p);
}

/* ---- comparing ---- */

/* Compares the pages of a job with those of all candidates. Returns true when
 * that was the last trial. */
static bool try_locked(SnapParent *p, SnapCompare *compare,
		       const struct snap_job *job)
{
	struct snap_segment unused;

	if (p->tried >= TRIAL_PAGES)
		return false;
	for (guint i = 0; i < p->n; i++) {
		struct candidate *c = &p->candidates[i];

		if (!snap_compare_region(compare, c->reader, c->id,
					 job->region))
			continue;
		for (guint j = 0; j < job->n; j++)
			c->equal += snap_compare_page(
				compare, job->pages[j],
				job->bytes + (size_t)j * SNAP_PAGE, c->layers,
				&unused);
	}
	p->tried += job->n;
	return p->tried >= TRIAL_PAGES;
}

/* Gives the parent that a job is compared with, or NULL. The first jobs try the
 * candidates, and are stored in any case. While the choice is made, the others
 * wait: to store what is not compared takes longer, and takes room for ever. */
static const struct candidate *find_chosen(SnapParent *p, SnapCompare *compare,
					   const struct snap_job *job)
{
	const struct candidate *c =
		__atomic_load_n(&p->chosen, __ATOMIC_ACQUIRE);

	if (c)
		return c;
	SNAP_LOCKED(&p->lock);
	if (p->chosen || g_atomic_int_get(&p->is_alone))
		return p->chosen;
	if (try_locked(p, compare, job))
		choose(p);
	return NULL;
}

static bool is_whole(const SnapParent *p, uint64_t region)
{
	return region >= p->regions ||
	       __atomic_load_n(&p->whole[region / 8], __ATOMIC_RELAXED) >>
			       region % 8 &
		       1;
}

/* Adds a page to what the job shares. */
static void share(struct snap_job *job, const struct snap_segment *run)
{
	struct snap_segment *last =
		job->n_shared ? &job->shared[job->n_shared - 1] : NULL;

	if (last && last->layer == run->layer && last->offset == run->offset &&
	    last->page + last->count == run->page &&
	    last->first + last->count == run->first)
		last->count++;
	else
		job->shared[job->n_shared++] = *run;
}

/* Notes how well the parent fits. */
static void judge(SnapParent *p, guint compared, guint equal)
{
	SNAP_LOCKED(&p->lock);

	p->compared += compared;
	p->equal += equal;
	if (g_atomic_int_get(&p->is_off) && equal * 2 > compared) {
		/* A run of pages that differ is over. */
		p->compared = FIT_PAGES - AGAIN_PAGES;
		p->equal = p->compared * FIT_PERCENT / 100;
		g_atomic_int_set(&p->is_off, 0);
	}
	if (p->compared < FIT_PAGES)
		return;
	g_atomic_int_set(&p->is_off,
			 p->equal * 100 < p->compared * FIT_PERCENT);
	/* What was long ago counts less. */
	p->compared /= 2;
	p->equal /= 2;
}

/* Is it worth the time to compare a job? */
static bool is_worth(SnapParent *p)
{
	return !g_atomic_int_get(&p->is_off) ||
	       (guint)g_atomic_int_add(&p->jobs, 1) % SAMPLE == 0;
}

void snap_parent_compare(SnapParent *p, SnapCompare *compare,
			 struct snap_job *job)
{
	const struct candidate *c;
	guint kept = 0, n = job->n;

	if (g_atomic_int_get(&p->is_alone) || is_whole(p, job->region) ||
	    !is_worth(p))
		return;
	c = find_chosen(p, compare, job);
	if (!c || !snap_compare_region(compare, c->reader, c->id, job->region))
		return;
	for (guint i = 0; i < n; i++) {
		uint8_t *page = job->bytes + (size_t)i * SNAP_PAGE;
		struct snap_segment run;

		if (snap_compare_page(compare, job->pages[i], page, c->layers,
				      &run)) {
			share(job, &run);
			continue;
		}
		if (kept < i)
			memcpy(job->bytes + (size_t)kept * SNAP_PAGE, page,
			       SNAP_PAGE);
		job->pages[kept++] = job->pages[i];
	}
	job->n = kept;
	judge(p, n, n - kept);
}

/* ---- appending ---- */

/* Stores a region whole from now on, once its map is too long. */
static int check_runs(SnapParent *p, SnapWriter *w, uint64_t region)
{
	guint runs = 0;
	int r = snap_writer_runs(w, region, &runs);

	/* Some jobs of the region were compared before it was. */
	if (r < 0 || (runs <= SNAP_SHARED_RUNS_MAX && !is_whole(p, region)))
		return r;
	__atomic_or_fetch(&p->whole[region / 8], (guint8)(1 << region % 8),
			  __ATOMIC_RELAXED);
	return snap_writer_unshare(w, region, p->codec);
}

static int append_run(SnapParent *p, SnapWriter *w, uint64_t region,
		      struct snap_segment run)
{
	guint layer = run.layer;
	int r = 0;

	if (!p->numbers[layer])
		r = snap_writer_layer(w, p->chosen->reader, layer,
				      &p->numbers[layer]);
	run.layer = p->numbers[layer];
	return r < 0 ? r : snap_writer_share(w, region, &run);
}

int snap_parent_append(SnapParent *p, SnapWriter *w, const struct snap_job *job)
{
	int r = 0;

	for (guint i = 0; r == 0 && i < job->n_shared; i++)
		r = append_run(p, w, job->region, job->shared[i]);
	return r < 0 ? r : check_runs(p, w, job->region);
}

int snap_parent_sync(SnapParent *p)
{
	bool is_used = false;

	for (guint i = 0; i < G_N_ELEMENTS(p->numbers); i++)
		is_used |= p->numbers[i];
	return is_used ? snap_catalog_sync_links(p->catalog) : 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which pages the bridge sends next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "format/base/units.h"
#include "format/qemu/hot.h"
#include "tools/bridge/pages.h"

#define PAGES 1024u
#define EXTENT 16u /* pages */

/* ---- what pages.c uses of the bridge ---- */

static struct {
	uint64_t pages[PAGES]; /* in the order in which they were sent */
	bool zero[PAGES];
	guint n;
	guint64 hot; /* the page of the hot list */
} sent;

uint64_t snap_postcopy_unit(const SnapPostcopy *p, guint block)
{
	return SNAP_PAGE;
}

void snap_postcopy_put_discard(const SnapPostcopy *p, guint block,
			       const struct snap_postcopy_range *ranges,
			       size_t n, GByteArray *out)
{
}

GArray *folder_read_hot(const struct bridge *b)
{
	GArray *runs = snap_hot_new();

	snap_hot_add(runs, 0, sent.hot * SNAP_PAGE, 1);
	return runs;
}

void wire_add_page(struct bridge *b, const struct piece *c, uint64_t page)
{
	sent.zero[sent.n] = c->states[page - c->from] == PAGE_ZERO;
	sent.pages[sent.n++] = page;
}

/* ---- a guest with one block, whose odd pages are zero ---- */

struct world {
	struct snap_ramlist ram;
	struct bridge bridge;
	struct pages pages;
	uint8_t states[PAGES];
	struct piece piece;
};

static int set_up(void **state)
{
	struct world *w = g_new0(struct world, 1);

	memset(&sent, 0, sizeof(sent));
	sent.hot = 2 * EXTENT;
	snap_ramlist_add(&w->ram, "pc.ram", PAGES * SNAP_PAGE, 0, 0, SNAP_PAGE,
			 NULL);
	w->bridge.ram = &w->ram;
	w->bridge.page = SNAP_PAGE;
	pages_init(&w->pages, &w->bridge);
	w->pages.answer = w->pages.flows = true;
	w->pages.goal = PAGES;
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	g_array_unref(w->pages.asks);
	g_array_unref(w->pages.extents);
	g_array_unref(w->pages.learnt);
	g_array_unref(w->pages.hot);
	g_free(w->pages.blocks);
	g_free(w->pages.flags);
	snap_ramlist_clear(&w->ram);
	g_free(w);
	return 0;
}

/* Takes a piece, which must be of this kind, and reads it. */
static struct piece *take(struct world *w, enum piece_kind kind)
{
	struct piece *c = &w->piece;

	memset(c, 0, sizeof(*c));
	assert_true(pages_take(&w->pages, c));
	assert_int_equal(c->kind, kind);
	c->states = w->states;
	for (uint64_t at = c->from; at < c->end; at++)
		c->states[at - c->from] = at % 2 ? PAGE_ZERO : PAGE_DATA;
	return c;
}

static void ask(struct world *w, uint64_t page)
{
	assert_true(pages_ask(&w->pages, 0, page * SNAP_PAGE, SNAP_PAGE));
}

static bool was_sent(uint64_t page)
{
	for (guint i = 0; i < sent.n; i++)
		if (sent.pages[i] == page)
			return true;
	return false;
}

/* ---- tests ---- */

static void a_page_that_is_coming_gets_no_answer_of_its_own(void **state)
{
	struct world *w = *state;
	struct piece *hot = take(w, PIECE_HOT), other;

	ask(w, hot->at);
	ask(w, hot->at + 3); /* of zeros: only sent if QEMU asks */
	assert_int_not_equal(pages_find(&w->pages, &other), PIECE_ASK);
	assert_int_equal(pages_put(&w->pages, hot), EXTENT / 2 + 1);
	assert_true(was_sent(2 * EXTENT + 3));
	assert_false(was_sent(2 * EXTENT + 5));
}

static void a_page_that_a_piece_has_left_out_is_answered(void **state)
{
	struct world *w = *state;
	struct piece *hot = take(w, PIECE_HOT);

	pages_put(&w->pages, hot);
	assert_false(was_sent(2 * EXTENT + 3));
	ask(w, 2 * EXTENT + 3);
	pages_put(&w->pages, take(w, PIECE_ASK));
	assert_int_equal(sent.pages[sent.n - 1], 2 * EXTENT + 3);
	assert_true(sent.zero[sent.n - 1]);
}

static void while_only_answers_may_be_sent_each_page_is_answered(void **state)
{
	struct world *w = *state;
	struct piece *hot = take(w, PIECE_HOT);

	w->pages.flows = false;
	ask(w, hot->at);
	assert_int_equal(pages_put(&w->pages, take(w, PIECE_ASK)), 1);
}

static void an_answer_brings_the_pages_behind_it(void **state)
{
	struct world *w = *state;

	ask(w, 4);
	assert_int_equal(pages_put(&w->pages, take(w, PIECE_ASK)), 6);
	assert_int_equal(sent.pages[0], 4);
	for (guint i = 0; i < sent.n; i++)
		assert_false(sent.zero[i]);
	assert_int_equal(w->pages.waiting, 0);
}

static void an_answer_goes_alone_while_another_page_is_asked_for(void **state)
{
	struct world *w = *state;
	struct piece *first;

	ask(w, 4);
	first = take(w, PIECE_ASK);
	ask(w, 8 * EXTENT);
	assert_int_equal(pages_put(&w->pages, first), 1);
	assert_int_equal(w->pages.waiting, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_page_that_is_coming_gets_no_answer_of_its_own),
		TEST(a_page_that_a_piece_has_left_out_is_answered),
		TEST(while_only_answers_may_be_sent_each_page_is_answered),
		TEST(an_answer_brings_the_pages_behind_it),
		TEST(an_answer_goes_alone_while_another_page_is_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

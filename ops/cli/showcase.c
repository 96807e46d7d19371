/* showcase.c - see showcase.h. Each kept impression has an arena of its own, so that a better one can
 * replace it. */
#include "ops/cli/showcase.h"

#include "consumer/event_copy.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HISTORY_SHOWN = 4, EXAMPLES_SHOWN = 3, TITLE_COLUMNS = 62 };
#define SHOWN_BYTES_MAX ((size_t)16 << 20)

struct shown {
	struct arena *arena;
	struct scoring_request request;
	struct prediction prediction;
	size_t interest;
};

struct showcase {
	struct shown *shown;            /* [max] */
	size_t count;
	size_t max;
};

struct showcase *showcase_create(size_t impressions_max)
{
	struct showcase *showcase = mem_alloc_zero(1, sizeof *showcase);

	if (!showcase)
		return NULL;
	showcase->max = impressions_max < SHOWCASE_MAX ? impressions_max : SHOWCASE_MAX;
	showcase->shown = mem_alloc_zero(showcase->max, sizeof *showcase->shown);
	if (!showcase->shown) {
		mem_free(showcase);
		return NULL;
	}
	return showcase;
}

void showcase_destroy(struct showcase *showcase)
{
	if (!showcase)
		return;
	for (size_t i = 0; i < showcase->max; i++)
		arena_destroy(showcase->shown[i].arena);
	mem_free(showcase->shown);
	mem_free(showcase);
}

static size_t interest_of(const struct scoring_request *request)
{
	size_t history = request->history_count < HISTORY_SHOWN ? request->history_count : HISTORY_SHOWN;
	size_t examples = request->examples_count < EXAMPLES_SHOWN ? request->examples_count : EXAMPLES_SHOWN;

	return request->candidates_count > 1 ? 1 + 2 * history + 2 * examples : 0;
}

/* The least interesting place, the latest of several: the first impressions shown stay. */
static struct shown *place_for(struct showcase *showcase, size_t interest)
{
	struct shown *least = NULL;

	if (showcase->count < showcase->max)
		return &showcase->shown[showcase->count];
	for (size_t i = 0; i < showcase->max; i++)
		if (!least || showcase->shown[i].interest < least->interest)
			least = &showcase->shown[i];
	return least && least->interest < interest ? least : NULL;
}

void showcase_observe(struct showcase *showcase, const struct scoring_request *request,
		      const struct prediction *prediction)
{
	size_t interest = interest_of(request);
	struct shown *place = interest ? place_for(showcase, interest) : NULL;

	if (!place)
		return;
	if (!place->arena)
		place->arena = arena_create(SHOWN_BYTES_MAX);
	if (!place->arena)
		return;
	arena_reset(place->arena);
	bool is_new = showcase->count < showcase->max && place == &showcase->shown[showcase->count];
	place->interest = 0;
	struct event asked = {.type = RECORD_SCORING_REQUEST, .scoring_request = *request}, asked_copy;
	struct event answered = {.type = RECORD_PREDICTION, .prediction = *prediction}, answered_copy;
	if (!event_copy(place->arena, &asked, &asked_copy) ||
	    !event_copy(place->arena, &answered, &answered_copy))
		return;
	place->request = asked_copy.scoring_request;
	place->prediction = answered_copy.prediction;
	place->interest = interest;
	showcase->count += is_new;
}

/* A title on one line, cut to a number of characters (not bytes), padded. */
static void print_title(FILE *out, struct text_view text, bool pad)
{
	size_t columns = 0, at = 0;

	if (text.size == 0)
		text = TEXT_LITERAL("(no title)");
	while (at < text.size && columns < TITLE_COLUMNS) {
		size_t next = at + 1;
		while (next < text.size && ((unsigned char)text.bytes[next] & 0xC0) == 0x80)
			next++;
		bool last = columns == TITLE_COLUMNS - 1 && next < text.size;
		if (last)
			fputs("…", out);
		else if ((unsigned char)text.bytes[at] < 0x20)
			putc(' ', out);
		else
			fwrite(text.bytes + at, 1, next - at, out);
		columns++;
		at = next;
	}
	for (; pad && columns < TITLE_COLUMNS; columns++)
		putc(' ', out);
}

static void print_entries(FILE *out, const char *label, const struct history_entry *entries, size_t count,
			  size_t shown)
{
	size_t first = count > shown ? count - shown : 0;

	for (size_t i = count; i-- > first;) {
		fprintf(out, "  %-13s ", i + 1 == count ? label : "");
		print_title(out, entries[i].text, true);
		if (entries[i].has_rating)
			fprintf(out, "  rated %g", (double)entries[i].rating);
		else
			fprintf(out, "  %s", interaction_kind_name(entries[i].kind));
		putc('\n', out);
	}
}

static int by_score(const void *a, const void *b)
{
	const struct candidate_score *left = *(const struct candidate_score *const *)a;
	const struct candidate_score *right = *(const struct candidate_score *const *)b;

	return (left->p_click < right->p_click) - (left->p_click > right->p_click);
}

static void print_candidates(FILE *out, const struct shown *shown)
{
	size_t count = shown->prediction.scores_count;
	const struct candidate_score **order = mem_alloc_array(count, sizeof *order);

	if (!order)
		return;
	for (size_t i = 0; i < count; i++)
		order[i] = &shown->prediction.scores[i];
	qsort(order, count, sizeof *order, by_score);
	for (size_t i = 0; i < count && i < 10; i++) {
		size_t at = (size_t)(order[i] - shown->prediction.scores);
		fprintf(out, "  %-13s ", i == 0 ? "candidates" : "");
		print_title(out, shown->request.candidates[at].text, true);
		fprintf(out, "  p=%.4f", (double)order[i]->p_click);
		if (order[i]->exit_layer > 0)
			fprintf(out, "  layer %d", order[i]->exit_layer);
		putc('\n', out);
	}
	mem_free(order);
}

void showcase_print(const struct showcase *showcase, FILE *out)
{
	for (size_t i = 0; i < showcase->count; i++) {
		const struct shown *shown = &showcase->shown[i];
		time_t seconds = shown->request.event_time_ms / 1000;
		struct tm utc;
		char day[32];

		if (!shown->interest)
			continue;
		gmtime_r(&seconds, &utc);
		strftime(day, sizeof day, "%Y-%m-%d", &utc);
		fprintf(out, "\nImpression %.*s, user %.*s, %s\n", TEXT_ARGS(shown->request.impression_id),
			TEXT_ARGS(shown->request.user_id), day);
		print_entries(out, "user's past", shown->request.history, shown->request.history_count,
			      HISTORY_SHOWN);
		for (size_t j = 0; j < shown->request.examples_count && j < EXAMPLES_SHOWN; j++) {
			char label[32];
			snprintf(label, sizeof label, "similar %.2f",
				 (double)shown->request.examples[j].similarity);
			print_entries(out, label, shown->request.examples[j].entries,
				      shown->request.examples[j].entries_count, 2);
		}
		print_candidates(out, shown);
	}
}

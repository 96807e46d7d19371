/* samples_split.c - one pass over the impressions, then a function of each. Invariant: under the rules of time
 * begins[] ascend. Caller: the samples command. */
#include "ops/cli/samples_split.h"

#include "base/mem.h"
#include "consumer/folder.h"
#include "ops/cli/samples_split_file.h"
#include "schemas/container.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

enum { RECORD_ARENA_BYTES = 1 << 28, ASK_EVERY = 16384 };
enum kind { SPLIT_TIME, SPLIT_TIMES, SPLIT_USERS, SPLIT_FILE };

struct samples_split {
	struct samples_split_options options;
	enum kind kind;
	int64_t begins[PARTS - 1];
	struct split_file *file;
	size_t impressions, labelled, labelled_capacity;
	int64_t *times;                 /* [labelled], until the boundaries are known */
	uint64_t *draws;                /* [draws_count] of the training part, until the few are known */
	size_t draws_count, draws_capacity;
	uint64_t draw_max;              /* of the few-shot set */
};

const char *samples_part_name(int part)
{
	static const char *const names[PARTS] = {"train", "stopping", "calibration", "thresholds", "test"};
	return names[part];
}

/* ---- the rule ---- */

static bool parse_time(const char *text, size_t size, int64_t *out)
{
	struct tm day = {0};
	char copy[32], *end;
	if (size == 0 || size >= sizeof copy)
		return false;
	memcpy(copy, text, size);
	copy[size] = '\0';
	end = strptime(copy, "%Y-%m-%d", &day);
	if (end && !*end) {
		*out = (int64_t)timegm(&day) * 1000;
		return true;
	}
	*out = strtoll(copy, &end, 10);
	return !*end;
}

static enum status parse_times(struct samples_split *split, const char *text, struct error *error)
{
	int64_t before = INT64_MIN;
	for (int i = 0; i < PARTS - 1; i++) {
		const char *comma = strchr(text, ',');
		size_t size = comma ? (size_t)(comma - text) : strlen(text);
		if (!parse_time(text, size, &split->begins[i]) || split->begins[i] < before ||
		    (comma == NULL) != (i == PARTS - 2))
			return error_set(error, STATUS_USAGE,
					 "--split %s: four ascending times are needed, as days (2014-07-01) or Unix "
					 "milliseconds", split->options.rule);
		before = split->begins[i];
		text += size + 1;
	}
	return STATUS_OK;
}

static enum status parse_rule(struct samples_split *split, struct error *error)
{
	const char *rule = split->options.rule;
	if (strcmp(rule, "time") == 0) {
		split->kind = SPLIT_TIME;
	} else if (strncmp(rule, "times:", 6) == 0) {
		split->kind = SPLIT_TIMES;
		return parse_times(split, rule + 6, error);
	} else if (strcmp(rule, "users") == 0) {
		split->kind = SPLIT_USERS;
	} else if (strncmp(rule, "file:", 5) == 0) {
		split->kind = SPLIT_FILE;
		return split_file_read(rule + 5, &split->file, error);
	} else {
		return error_set(error, STATUS_USAGE,
				 "--split '%s': time, times:A,B,C,D, users or file:TABLE is needed", rule);
	}
	return STATUS_OK;
}

/* ---- the pass ---- */

static uint64_t draw_of(const struct samples_split *split, struct text_view id)
{
	return XXH3_64bits_withSeed(id.bytes, id.size, split->options.seed);
}

static enum status add(struct samples_split *split, const struct impression_event *event, float *labels,
		       struct error *error)
{
	void *times = split->times, *draws = split->draws;
	bool few;
	split->impressions++;
	if (samples_labels_of(split->options.labels, event->impression_id, event->event_time_ms, event->candidates,
			      event->candidates_count, labels) != SAMPLES_LABELLED)
		return STATUS_OK;
	if (!mem_reserve(&times, &split->labelled_capacity, split->labelled, SAMPLES_IMPRESSIONS_MAX,
			 sizeof *split->times))
		return error_set(error, STATUS_NO_MEMORY, "no memory for impression %zu", split->labelled);
	split->times = times;
	split->times[split->labelled++] = event->event_time_ms;
	/* Under the rule of shares of time the boundaries are not known yet: those draws come in a second pass. */
	if (!split->options.few_shot || split->kind == SPLIT_TIME ||
	    samples_split_of(split, event->impression_id, event->user_id, event->event_time_ms, event->candidates,
			     labels, event->candidates_count, &few) != PART_TRAIN)
		return STATUS_OK;
	if (!mem_reserve(&draws, &split->draws_capacity, split->draws_count, SAMPLES_IMPRESSIONS_MAX,
			 sizeof *split->draws))
		return error_set(error, STATUS_NO_MEMORY, "no memory for impression %zu", split->labelled);
	split->draws = draws;
	split->draws[split->draws_count++] = draw_of(split, event->impression_id);
	return STATUS_OK;
}

static enum status read_file(struct samples_split *split, const char *path, struct arena *arena, float *labels,
			     struct error *error)
{
	struct container_reader *reader = NULL;
	struct event event;
	bool end = false;
	enum status status = container_reader_open(path, RECORD_IMPRESSION, &reader, error);
	for (uint64_t n = 0; !status && !end; n++) {
		if (n % ASK_EVERY == 0 && split->options.stopping()) {
			status = error_set(error, STATUS_INTERRUPTED, "stopped");
			break;
		}
		arena_reset(arena);
		status = container_read(reader, arena, &event, &end, error);
		if (status_class(status) == STATUS_CLASS_BAD)
			status = STATUS_OK;
		else if (!status && !end && !event_malformed(&event, &split->options.limits))
			status = add(split, &event.impression, labels, error);
	}
	container_reader_close(reader);
	return status;
}

static enum status read_impressions(struct samples_split *split, struct error *error)
{
	struct arena *arena = arena_create(RECORD_ARENA_BYTES);
	float *labels = mem_alloc_array(split->options.limits.candidates_max, sizeof *labels);
	struct folder_files files = {0};
	enum status status = arena && labels ? folder_list(split->options.folder, "impressions", &files, error) :
					       error_set(error, STATUS_NO_MEMORY, "no memory for impressions");
	split->impressions = split->labelled = 0;
	for (size_t i = 0; !status && i < files.count; i++)
		status = read_file(split, files.files[i].path, arena, labels, error);
	folder_files_free(&files);
	mem_free(labels);
	arena_destroy(arena);
	return status;
}

static int compare_times(const void *left, const void *right)
{
	int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
	return (a > b) - (a < b);
}

static int compare_draws(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
	return (a > b) - (a < b);
}

static double share_sum(const struct samples_split *split, int parts)
{
	double sum = 0;
	for (int i = 0; i < parts; i++)
		sum += split->options.shares[i];
	return sum;
}

static void place_boundaries(struct samples_split *split)
{
	double all = share_sum(split, PARTS);
	if (split->labelled)
		qsort(split->times, split->labelled, sizeof *split->times, compare_times);
	for (int i = 0; i < PARTS - 1; i++) {
		size_t at = (size_t)((double)split->labelled * (share_sum(split, i + 1) / all) + 1e-9);
		split->begins[i] = at < split->labelled ? split->times[at] : INT64_MAX;
	}
}

static void place_draw(struct samples_split *split)
{
	split->draw_max = UINT64_MAX;
	if (!split->options.few_shot || split->draws_count <= split->options.few_shot)
		return;
	qsort(split->draws, split->draws_count, sizeof *split->draws, compare_draws);
	split->draw_max = split->draws[split->options.few_shot - 1];
}

enum status samples_split_create(const struct samples_split_options *options, struct samples_split **out,
				 struct error *error)
{
	struct samples_split *split = mem_alloc_zero(1, sizeof *split);
	enum status status;
	if (!split)
		return error_set(error, STATUS_NO_MEMORY, "no memory to split impressions");
	split->options = *options;
	split->draw_max = UINT64_MAX;
	if ((status = parse_rule(split, error)) || (status = read_impressions(split, error)))
		goto cleanup;
	if (split->kind == SPLIT_TIME) {
		place_boundaries(split);
		if (options->few_shot) {
			split->kind = SPLIT_TIMES;
			status = read_impressions(split, error);
			split->kind = SPLIT_TIME;
		}
	}
	place_draw(split);
	mem_free(split->times);
	mem_free(split->draws);
	split->times = NULL;
	split->draws = NULL;
cleanup:
	if (status) {
		samples_split_destroy(split);
		return status;
	}
	*out = split;
	return STATUS_OK;
}

void samples_split_destroy(struct samples_split *split)
{
	if (!split)
		return;
	split_file_destroy(split->file);
	mem_free(split->times);
	mem_free(split->draws);
	mem_free(split);
}

/* ---- one impression ---- */

static uint8_t part_by_user(const struct samples_split *split, struct text_view user)
{
	double all = share_sum(split, PARTS);
	double place = (double)(XXH3_64bits_withSeed(user.bytes, user.size, split->options.seed) >> 11) / 0x1p53 * all;
	for (int part = 0; part < PARTS - 1; part++)
		if (place < share_sum(split, part + 1))
			return (uint8_t)part;
	return PARTS - 1;
}

static uint8_t part_by_file(const struct samples_split *split, struct text_view impression_id,
			    struct text_view user_id, const struct text_view *items, const float *labels,
			    size_t count)
{
	bool clicked = samples_labels_clicked(split->options.labels);
	uint8_t part = SAMPLES_NO_PART;
	if (!split_file_has_pairs(split->file))
		return split_file_of(split->file, impression_id, TEXT_LITERAL(""));
	for (size_t c = 0; c < count && part == SAMPLES_NO_PART; c++)
		if (clicked ? labels[c] > 0 : !isnan(labels[c]))
			part = split_file_of(split->file, user_id, items[c]);
	return part;
}

uint8_t samples_split_of(const struct samples_split *split, struct text_view impression_id,
			 struct text_view user_id, int64_t time_ms, const struct text_view *items,
			 const float *labels, size_t count, bool *few)
{
	uint8_t part = 0;
	*few = false;
	if (split->kind == SPLIT_USERS)
		part = part_by_user(split, user_id);
	else if (split->kind == SPLIT_FILE)
		part = part_by_file(split, impression_id, user_id, items, labels, count);
	else
		for (int i = 0; i < PARTS - 1; i++)
			part = (uint8_t)(part + (time_ms >= split->begins[i] && split->begins[i] != INT64_MAX));
	*few = part == PART_TRAIN && draw_of(split, impression_id) > split->draw_max;
	return *few ? SAMPLES_NO_PART : part;
}

size_t samples_split_impressions(const struct samples_split *split)
{
	return split->impressions;
}

size_t samples_split_labelled(const struct samples_split *split)
{
	return split->labelled;
}

const int64_t *samples_split_begins(const struct samples_split *split)
{
	return split->kind == SPLIT_TIME || split->kind == SPLIT_TIMES ? split->begins : NULL;
}

/* samples_labels.c - answers in one sorted array, found by binary search. Invariant: one answer for each
 * (impression, item). Caller: the samples command. */
#include "ops/cli/samples_labels.h"

#include "base/mem.h"
#include "consumer/folder.h"
#include "schemas/container.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

enum { RECORD_ARENA_BYTES = 1 << 28, ASK_EVERY = 65536 };

struct answer {
	uint64_t high, low;             /* of the impression's id */
	uint64_t item;
	int64_t time_ms;
	enum interaction_kind kind;
	bool has_rating;
	double rating;
};

struct samples_labels {
	struct answer *answers;         /* [count], sorted, one for each pair */
	size_t count, capacity;
	char rule_text[SAMPLES_TEXT_BYTES];
	struct label_rule rule;
	bool has_rule, clicked, has_ratings;
};

const char *samples_answer_name(enum samples_answer answer)
{
	static const char *const names[SAMPLES_ANSWERS] = {"labelled", "unanswered", "answered_elsewhere",
							   "answered_before"};
	return names[answer];
}

/* A VIEW comes before everything else of its pair. */
static int compare(const void *left, const void *right)
{
	const struct answer *a = left, *b = right;
	bool a_view = a->kind == KIND_VIEW, b_view = b->kind == KIND_VIEW;
	if (a->high != b->high)
		return a->high < b->high ? -1 : 1;
	if (a->low != b->low)
		return a->low < b->low ? -1 : 1;
	if (a->item != b->item)
		return a->item < b->item ? -1 : 1;
	if (a_view != b_view)
		return a_view ? -1 : 1;
	if (a->time_ms != b->time_ms)
		return a->time_ms < b->time_ms ? -1 : 1;
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	return (a->rating > b->rating) - (a->rating < b->rating);
}

static enum status add(struct samples_labels *labels, const struct interaction_event *event,
		       struct error *error)
{
	void *array = labels->answers;
	if (!event->impression_id.size || event->kind == KIND_REMOVE)
		return STATUS_OK;
	if (!mem_reserve(&array, &labels->capacity, labels->count, SAMPLES_ANSWERS_MAX, sizeof *labels->answers))
		return error_set(error, STATUS_NO_MEMORY, "no memory for the answer number %zu", labels->count);
	labels->answers = array;
	XXH128_hash_t id = XXH3_128bits(event->impression_id.bytes, event->impression_id.size);
	labels->has_ratings |= event->has_rating;
	labels->answers[labels->count++] = (struct answer){
		id.high64, id.low64, XXH3_64bits(event->item_id.bytes, event->item_id.size),
		event->event_time_ms, event->kind, event->has_rating, event->has_rating ? event->rating : 0,
	};
	return STATUS_OK;
}

/* The first file's word on task and rule, unless the command line has spoken. */
static void read_metadata(const struct container_reader *reader, const char **task, char task_text[32],
			  char rule_text[SAMPLES_TEXT_BYTES])
{
	const char *said = container_reader_metadata(reader, "exitpoll.task");
	if (!*task && said) {
		snprintf(task_text, 32, "%s", said);
		*task = task_text;
	}
	said = container_reader_metadata(reader, "exitpoll.label");
	if (!rule_text[0] && said)
		snprintf(rule_text, SAMPLES_TEXT_BYTES, "%s", said);
}

static enum status read_file(struct samples_labels *labels, struct container_reader *reader,
			     const struct samples_labels_options *options, struct arena *arena,
			     struct error *error)
{
	enum status status = STATUS_OK;
	struct event event;
	bool end = false;
	for (uint64_t n = 0; !status && !end; n++) {
		if (n % ASK_EVERY == 0 && options->stopping())
			return error_set(error, STATUS_INTERRUPTED, "stopped");
		arena_reset(arena);
		status = container_read(reader, arena, &event, &end, error);
		/* A bad record becomes a dead letter when the stream is run; it answers nothing. */
		if (status_class(status) == STATUS_CLASS_BAD)
			status = STATUS_OK;
		else if (!status && !end && !event_malformed(&event, &options->limits))
			status = add(labels, &event.interaction, error);
	}
	return status;
}

static void keep_last_of_each(struct samples_labels *labels)
{
	size_t kept = 0;
	if (labels->count)
		qsort(labels->answers, labels->count, sizeof *labels->answers, compare);
	for (size_t i = 0; i < labels->count; i++) {
		const struct answer *a = &labels->answers[i], *next = a + 1;
		if (i + 1 < labels->count && a->high == next->high && a->low == next->low && a->item == next->item)
			continue;
		labels->answers[kept++] = *a;
	}
	labels->count = kept;
}

static enum status decide(struct samples_labels *labels, const char *task, const char *folder,
			  struct error *error)
{
	if (!task)
		return error_set(error, STATUS_CONFIG, "%s does not say its task: give --task liked or clicked",
				 folder);
	if (strcmp(task, "liked") && strcmp(task, "clicked"))
		return error_set(error, STATUS_CONFIG, "task '%s': liked or clicked is needed", task);
	labels->clicked = strcmp(task, "clicked") == 0;
	if (labels->clicked)
		return STATUS_OK;
	if (labels->rule_text[0]) {
		labels->has_rule = true;
		return label_rule_parse(labels->rule_text, &labels->rule, error);
	}
	if (labels->has_ratings)
		return error_set(error, STATUS_CONFIG,
				 "%s has ratings and no rule that says which are liked: give --label 'rating>=4'",
				 folder);
	return STATUS_OK;
}

enum status samples_labels_read(const struct samples_labels_options *options, struct samples_labels **out,
				struct error *error)
{
	struct samples_labels *labels = mem_alloc_zero(1, sizeof *labels);
	struct arena *arena = arena_create(RECORD_ARENA_BYTES);
	struct folder_files files = {0};
	const char *task = options->task;
	char task_text[32] = "";
	enum status status = labels && arena ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "no memory for labels");

	if (!status && options->rule)
		snprintf(labels->rule_text, sizeof labels->rule_text, "%s", options->rule);
	if (!status)
		status = folder_list(options->folder, "interactions", &files, error);
	for (size_t i = 0; !status && i < files.count; i++) {
		struct container_reader *reader = NULL;
		status = container_reader_open(files.files[i].path, RECORD_INTERACTION, &reader, error);
		if (status)
			break;
		read_metadata(reader, &task, task_text, labels->rule_text);
		status = read_file(labels, reader, options, arena, error);
		container_reader_close(reader);
	}
	if (!status)
		status = decide(labels, task, options->folder, error);
	if (!status)
		keep_last_of_each(labels);
	folder_files_free(&files);
	arena_destroy(arena);
	if (status) {
		samples_labels_destroy(labels);
		return status;
	}
	*out = labels;
	return STATUS_OK;
}

void samples_labels_destroy(struct samples_labels *labels)
{
	if (!labels)
		return;
	mem_free(labels->answers);
	mem_free(labels);
}

/* The first answer of the impression; *end behind its last. */
static const struct answer *find(const struct samples_labels *labels, struct text_view id,
				 const struct answer **end)
{
	XXH128_hash_t hash = XXH3_128bits(id.bytes, id.size);
	size_t low = 0, high = labels->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct answer *a = &labels->answers[middle];
		if (a->high < hash.high64 || (a->high == hash.high64 && a->low < hash.low64))
			low = middle + 1;
		else
			high = middle;
	}
	for (high = low; high < labels->count && labels->answers[high].high == hash.high64 &&
	     labels->answers[high].low == hash.low64; high++)
		;
	*end = labels->answers + high;
	return labels->answers + low;
}

static float label_of(const struct samples_labels *labels, const struct answer *answer)
{
	if (labels->clicked || !answer->has_rating || !labels->has_rule)
		return answer->kind == KIND_VIEW ? 0 : 1;
	return label_rule_holds(&labels->rule, answer->rating) ? 1 : 0;
}

enum samples_answer samples_labels_of(const struct samples_labels *labels, struct text_view impression_id,
				      int64_t time_ms, const struct text_view *items, size_t count, float *out)
{
	const struct answer *end, *begin = find(labels, impression_id, &end);
	bool labelled = false;
	for (size_t c = 0; c < count; c++)
		out[c] = labels->clicked ? 0 : NAN;
	for (const struct answer *a = begin; a < end; a++)
		if (a->time_ms < time_ms)
			return SAMPLES_ANSWERED_BEFORE;
	for (size_t c = 0; c < count && begin < end; c++) {
		uint64_t item = XXH3_64bits(items[c].bytes, items[c].size);
		for (const struct answer *a = begin; a < end; a++)
			if (a->item == item) {
				out[c] = label_of(labels, a);
				labelled = true;
			}
	}
	return labelled ? SAMPLES_LABELLED : begin < end ? SAMPLES_ANSWERED_ELSEWHERE : SAMPLES_UNANSWERED;
}

bool samples_labels_clicked(const struct samples_labels *labels)
{
	return labels->clicked;
}

const char *samples_labels_rule(const struct samples_labels *labels)
{
	return labels->clicked ? "" : labels->rule_text;
}

size_t samples_labels_count(const struct samples_labels *labels)
{
	return labels->count;
}

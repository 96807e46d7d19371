/* import.c - from rows in memory to container files: times, the total order, which rows become
 * impressions, their candidates, and the output. Invariant while writing: `popularity` holds exactly
 * the rows of a strictly earlier time than the row at hand. Called by the import command; one thread. */
#include "producer/import.h"

#include "producer/import_data.h"
#include "producer/label.h"
#include "producer/popularity.h"
#include "producer/sink.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

enum { PROGRESS_ROWS = 8192, METADATA_MAX = 64, VALUE_BYTES = 512 };

const struct import_options import_options_default = {
	.time_unit_ms = 1000,
	.impressions = "last:0.2",
	.candidates = 1,
	.popularity_power = 1,
	.bad_rows_max = 100,
	.limits = {.record_bytes_max = 1024 * 1024 - 1024,
		   .id_bytes_max = 256,
		   .candidates_max = 10000,
		   .attributes_max = 256},
};

enum pick { PICK_LAST, PICK_LEAVE_LAST, PICK_COLUMN, PICK_ALL, PICK_NONE };

struct picker {
	enum pick pick;
	double share;           /* PICK_LAST */
	char *column;           /* PICK_COLUMN; owned */
	char *value;            /* within column */
};

/* A row in its place: user_rank is the user's among all ids in byte order. */
struct place {
	int64_t time_ms;
	uint32_t user_rank;
	uint32_t row;
};

struct import {
	const struct import_options *options;
	struct import_summary *summary;
	struct picker picker;
	struct import_data data;
	struct place *places;           /* [places_count], in the total order */
	size_t places_count;
	struct popularity *popularity;
	size_t counted;                 /* places that popularity holds */
	uint32_t *drawn;                /* [options->candidates] */
	struct text_view *candidates;   /* [options->candidates] */
	struct sink *sink;
};

/* ---- options ---- */

static enum status parse_picker(const char *text, struct picker *picker, struct error *error)
{
	static const char last[] = "last:", column[] = "column:";
	char *end, *equals;

	if (!strcmp(text, "leave-last")) {
		picker->pick = PICK_LEAVE_LAST;
	} else if (!strcmp(text, "all")) {
		picker->pick = PICK_ALL;
	} else if (!strcmp(text, "none")) {
		picker->pick = PICK_NONE;
	} else if (!strncmp(text, last, sizeof last - 1)) {
		picker->pick = PICK_LAST;
		picker->share = strtod(text + sizeof last - 1, &end);
		if (end == text + sizeof last - 1 || *end || !(picker->share > 0 && picker->share <= 1))
			return error_set(error, STATUS_USAGE,
					 "impressions '%s': the share of rows is above 0 and at most 1", text);
	} else if (!strncmp(text, column, sizeof column - 1)) {
		picker->pick = PICK_COLUMN;
		picker->column = mem_copy_string(text + sizeof column - 1);
		if (!picker->column)
			return error_set(error, STATUS_NO_MEMORY, "import: no memory");
		equals = strchr(picker->column, '=');
		if (!equals || equals == picker->column)
			return error_set(error, STATUS_USAGE, "impressions '%s': write it as column:NAME=VALUE",
					 text);
		*equals = '\0';
		picker->value = equals + 1;
	} else {
		return error_set(error, STATUS_USAGE,
				 "impressions '%s': give last:SHARE, leave-last, column:NAME=VALUE, all or none",
				 text);
	}
	return STATUS_OK;
}

static enum status check_options(const struct import_options *options, struct error *error)
{
	struct label_rule rule;

	if (options->interactions_count == 0)
		return error_set(error, STATUS_USAGE, "import: no table of interactions was given");
	if (!(options->popularity_power >= 0 && options->popularity_power <= 1))
		return error_set(error, STATUS_USAGE, "import: the popularity's power must be 0 to 1");
	if (options->candidates == 0 || options->candidates > options->limits.candidates_max)
		return error_set(error, STATUS_USAGE, "import: candidates must be 1 to %zu",
				 options->limits.candidates_max);
	if (options->time_unit_ms < 1)
		return error_set(error, STATUS_USAGE, "import: the unit of time must be at least 1 ms");
	return options->label ? label_rule_parse(options->label, &rule, error) : STATUS_OK;
}

/* ---- times ---- */

/* Gives every row its time, or marks it as left out (time < 0). */
static enum status resolve_times(struct import *import, struct error *error)
{
	struct import_data *data = &import->data;
	const struct import_options *options = import->options;
	size_t untimed = import->summary->untimed;
	bool mixed = untimed > 0 && untimed < data->rows_count;
	int64_t first_timed = INT64_MAX, last_untimed = INT64_MIN, ordinal = 0;

	import->summary->order = untimed == 0		? IMPORT_ORDER_TIME
				 : mixed		? IMPORT_ORDER_TIME
				 : data->has_sequence	? IMPORT_ORDER_SEQUENCE
							: IMPORT_ORDER_ROWS;
	if (mixed && options->untimed == IMPORT_UNTIMED_ERROR)
		return error_set(error, STATUS_CORRUPT,
				 "%s: a row without a time; %zu of %zu rows have none. --untimed skip leaves "
				 "them out, --untimed first puts them before all others",
				 data->first_untimed, untimed, data->rows_count);
	for (size_t i = 0; i < data->rows_count; i++) {
		struct import_row *row = &data->rows[i];
		if (row->timed) {
			if (row->time_ms < first_timed)
				first_timed = row->time_ms;
		} else if (mixed && options->untimed == IMPORT_UNTIMED_SKIP) {
			row->time_ms = -1;
		} else {
			/* The catalog has time 0; what happened begins after it. */
			row->time_ms = data->has_sequence ? row->time_ms + 1 : ++ordinal;
			if (row->time_ms > last_untimed)
				last_untimed = row->time_ms;
		}
	}
	if (last_untimed >= first_timed)
		return error_set(error, STATUS_CORRUPT,
				 "%s: the rows without a time do not fit before the first time of the table "
				 "(%" PRId64 " ms)",
				 data->first_untimed, first_timed);
	return STATUS_OK;
}

/* ---- order ---- */

struct named {
	struct text_view text;
	uint32_t number;
};

static int compare_named(const void *left, const void *right)
{
	return text_compare(((const struct named *)left)->text, ((const struct named *)right)->text);
}

/* The names in byte order. NULL: no memory. */
static struct named *sort_names(const struct names *names)
{
	struct named *sorted = mem_alloc_array(names->count, sizeof *sorted);

	for (size_t i = 0; sorted && i < names->count; i++)
		sorted[i] = (struct named){names->texts[i], (uint32_t)i};
	if (sorted && names->count > 0)
		qsort(sorted, names->count, sizeof *sorted, compare_named);
	return sorted;
}

static int compare_places(const void *left, const void *right)
{
	const struct place *a = left, *b = right;

	if (a->time_ms != b->time_ms)
		return a->time_ms < b->time_ms ? -1 : 1;
	if (a->user_rank != b->user_rank)
		return a->user_rank < b->user_rank ? -1 : 1;
	return (a->row > b->row) - (a->row < b->row);
}

static enum status order_rows(struct import *import, struct error *error)
{
	struct import_data *data = &import->data;
	struct named *users = sort_names(&data->users);
	uint32_t *ranks = mem_alloc_array(data->users.count, sizeof *ranks);
	uint32_t *counts = mem_alloc_zero(data->users.count, sizeof *counts);
	enum status status = STATUS_OK;

	import->places = mem_alloc_array(data->rows_count, sizeof *import->places);
	if (!users || !ranks || !counts || !import->places) {
		status = error_set(error, STATUS_NO_MEMORY, "import: no memory to sort %zu rows",
				   data->rows_count);
		goto cleanup;
	}
	for (size_t i = 0; i < data->users.count; i++)
		ranks[users[i].number] = (uint32_t)i;
	for (size_t i = 0; i < data->rows_count; i++)
		if (data->rows[i].time_ms >= 0)
			import->places[import->places_count++] = (struct place){
				data->rows[i].time_ms, ranks[data->rows[i].user], (uint32_t)i};
	if (import->places_count > 0)
		qsort(import->places, import->places_count, sizeof *import->places, compare_places);
	for (size_t i = 0; i < import->places_count; i++) {
		struct import_row *row = &data->rows[import->places[i].row];
		row->user_count = ++counts[row->user];
	}
	for (size_t i = 0; i < import->places_count; i++) {
		struct import_row *row = &data->rows[import->places[i].row];
		size_t left = import->places_count - i;
		switch (import->picker.pick) {
		case PICK_LAST:
			row->impression = (double)left <= import->picker.share * (double)import->places_count;
			break;
		case PICK_LEAVE_LAST: row->impression = row->user_count == counts[row->user]; break;
		case PICK_COLUMN: row->impression = row->marked; break;
		case PICK_ALL: row->impression = true; break;
		case PICK_NONE: break;
		}
	}
cleanup:
	mem_free(users);
	mem_free(ranks);
	mem_free(counts);
	return status;
}

/* ---- output ---- */

static enum status write_catalog(struct import *import, struct error *error)
{
	struct named *items = sort_names(&import->data.items);
	enum status status = STATUS_OK;

	if (!items)
		return error_set(error, STATUS_NO_MEMORY, "import: no memory to sort the items");
	for (size_t i = 0; i < import->data.items.count && status == STATUS_OK; i++) {
		const struct import_item *item = &import->data.catalog[items[i].number];
		if (!item->present)
			continue;
		struct event event = {.type = RECORD_ITEM,
				      .item = {.item_id = items[i].text,
					       .title = item->title,
					       .attributes = item->attributes,
					       .attributes_count = item->attributes_count}};
		status = import->sink->class->write(import->sink, &event, (struct text_view){NULL, 0}, error);
	}
	mem_free(items);
	return status;
}

/* Brings `popularity` up to everything strictly before this time. */
static void count_before(struct import *import, int64_t time_ms)
{
	while (import->popularity && import->counted < import->places_count &&
	       import->places[import->counted].time_ms < time_ms) {
		const struct import_row *row = &import->data.rows[import->places[import->counted++].row];
		popularity_count(import->popularity, row->user, row->item);
	}
}

static enum status write_impression(struct import *import, const struct import_row *row, struct text_view id,
				    struct error *error)
{
	const struct names *items = &import->data.items;
	size_t count = 1;

	import->drawn[0] = row->item;
	if (import->options->candidates > 1) {
		/* Its own stream of random numbers: other impressions do not shift it. */
		uint64_t seed = XXH3_64bits_withSeed(id.bytes, id.size, import->options->seed);
		count += popularity_draw(import->popularity, seed, row->user, row->item, import->drawn + 1,
					 import->options->candidates - 1);
		popularity_shuffle(seed, import->drawn, count);
	}
	for (size_t i = 0; i < count; i++)
		import->candidates[i] = items->texts[import->drawn[i]];
	struct event event = {.type = RECORD_IMPRESSION,
			      .impression = {.impression_id = id,
					     .user_id = import->data.users.texts[row->user],
					     .candidates = import->candidates,
					     .candidates_count = count,
					     .event_time_ms = row->time_ms}};
	import->summary->impressions++;
	import->summary->candidates += count;
	import->summary->short_impressions += count < import->options->candidates;
	return import->sink->class->write(import->sink, &event, (struct text_view){NULL, 0}, error);
}

static enum status write_row(struct import *import, const struct import_row *row, struct error *error)
{
	char buffer[IMPORT_USER_BYTES_MAX + 16];
	struct text_view user = import->data.users.texts[row->user], id = {NULL, 0};
	bool impression = row->impression;
	enum status status = STATUS_OK;

	if (impression && import->popularity) {
		bool is_new;
		count_before(import, row->time_ms);
		is_new = popularity_of(import->popularity, row->item) == 0;
		import->summary->new_taken += is_new;
		impression = !(is_new && import->options->skip_new);
	}
	if (impression) {
		memcpy(buffer, user.bytes, user.size);
		id.bytes = buffer;
		id.size = user.size + (size_t)snprintf(buffer + user.size, sizeof buffer - user.size, ":%u",
						       row->user_count);
		status = write_impression(import, row, id, error);
	}
	if (status != STATUS_OK)
		return status;
	struct event event = {.type = RECORD_INTERACTION,
			      .interaction = {.user_id = user,
					      .item_id = import->data.items.texts[row->item],
					      .kind = row->rated ? KIND_RATE : KIND_CLICK,
					      .has_rating = row->rated,
					      .rating = row->rating,
					      .impression_id = id,
					      .event_time_ms = row->time_ms}};
	import->summary->interactions++;
	import->summary->ratings += row->rated;
	return import->sink->class->write(import->sink, &event, (struct text_view){NULL, 0}, error);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static enum status open_sink(struct import *import, struct error *error)
{
	static const char *const orders[] = {"time", "rows", "sequence"};
	const struct import_options *options = import->options;
	struct container_metadata metadata[METADATA_MAX];
	char tables[VALUE_BYTES] = "", seed[32], candidates[32], power[32];
	size_t count = 0, used = 0;

	if (options->metadata_count > METADATA_MAX - 16)
		return error_set(error, STATUS_USAGE, "import: more than %d metadata entries",
				 METADATA_MAX - 16);
	/* Names without folders, so that equal tables give equal files wherever they lie. */
	for (size_t i = 0; i < options->interactions_count && used < sizeof tables; i++)
		used += (size_t)snprintf(tables + used, sizeof tables - used, "%s%s", i ? " " : "",
					 base_name(options->interactions[i]));
	snprintf(seed, sizeof seed, "%" PRIu64, options->seed);
	snprintf(candidates, sizeof candidates, "%zu", options->candidates);
	snprintf(power, sizeof power, "%g", options->popularity_power);
	metadata[count++] = (struct container_metadata){"exitpoll.interactions", tables};
	if (options->items)
		metadata[count++] = (struct container_metadata){"exitpoll.items", base_name(options->items)};
	if (options->label)
		metadata[count++] = (struct container_metadata){"exitpoll.label", options->label};
	metadata[count++] = (struct container_metadata){"exitpoll.task",
							import->summary->clicked ? "clicked" : "liked"};
	metadata[count++] = (struct container_metadata){"exitpoll.impressions", options->impressions};
	metadata[count++] = (struct container_metadata){"exitpoll.candidates", candidates};
	metadata[count++] = (struct container_metadata){"exitpoll.seed", seed};
	if (options->popularity_power != 1)
		metadata[count++] = (struct container_metadata){"exitpoll.popularity_power", power};
	metadata[count++] = (struct container_metadata){"exitpoll.order", orders[import->summary->order]};
	for (size_t i = 0; i < options->metadata_count; i++)
		metadata[count++] = options->metadata[i];
	struct sink_file_options sink = {
		.folder = options->out,
		.topics = {[TOPIC_ITEMS] = true, [TOPIC_IMPRESSIONS] = true, [TOPIC_INTERACTIONS] = true},
		.force = options->force,
		.record_bytes_max = options->limits.record_bytes_max,
		.metadata = metadata,
		.metadata_count = count,
	};
	return sink_file_create(&sink, &import->sink, error);
}

static enum status write_all(struct import *import, struct error *error)
{
	const struct import_options *options = import->options;
	bool counts = options->candidates > 1 || options->skip_new;
	enum status status;

	import->drawn = mem_alloc_array(options->candidates, sizeof *import->drawn);
	import->candidates = mem_alloc_array(options->candidates, sizeof *import->candidates);
	if (counts)
		import->popularity =
			popularity_create((uint32_t)import->data.items.count, import->places_count,
					  options->popularity_power);
	if (!import->drawn || !import->candidates || (counts && !import->popularity))
		return error_set(error, STATUS_NO_MEMORY, "import: no memory for candidates");
	status = write_catalog(import, error);
	for (size_t i = 0; i < import->places_count && status == STATUS_OK; i++) {
		status = write_row(import, &import->data.rows[import->places[i].row], error);
		if (status == STATUS_OK && i % PROGRESS_ROWS == 0)
			status = import_progress(options, "writing",
						 (double)i / (double)import->places_count, error);
	}
	return status == STATUS_OK ? import->sink->class->finish(import->sink, error) : status;
}

static void import_free(struct import *import)
{
	if (import->sink)
		import->sink->class->destroy(import->sink);
	popularity_destroy(import->popularity);
	mem_free(import->drawn);
	mem_free(import->candidates);
	mem_free(import->places);
	mem_free(import->picker.column);
	import_data_free(&import->data);
}

enum status import_run(const struct import_options *options, struct import_summary *summary,
		       struct error *error)
{
	struct import_summary counted = {0};
	struct import import = {.options = options, .summary = &counted};
	enum status status = check_options(options, error);

	counted.clicked = options->candidates > 1;
	if (status == STATUS_OK)
		status = parse_picker(options->impressions, &import.picker, error);
	if (status == STATUS_OK)
		status = import_read(options, import.picker.column, import.picker.value, &import.data, &counted,
				     error);
	if (status == STATUS_OK && options->label && counted.ratings == 0)
		status = error_set(error, STATUS_USAGE, "label '%s': the table has no ratings", options->label);
	counted.ratings = 0;    /* from here on: of the rows that are written */
	if (status == STATUS_OK)
		status = resolve_times(&import, error);
	if (status == STATUS_OK)
		status = order_rows(&import, error);
	if (status == STATUS_OK && import.places_count == 0)
		status = error_set(error, STATUS_CORRUPT, "%s: there is no row to import",
				   options->interactions[0]);
	/* Only now, so that a table that cannot be used leaves existing output alone. */
	if (status == STATUS_OK)
		status = open_sink(&import, error);
	if (status == STATUS_OK)
		status = write_all(&import, error);
	if (status == STATUS_OK) {
		counted.users = import.data.users.count;
		counted.items = import.data.items.count;
		counted.first_ms = import.places[0].time_ms;
		counted.last_ms = import.places[import.places_count - 1].time_ms;
		*summary = counted;
		if (options->progress)
			options->progress(options->context, "writing", 1);
	}
	import_free(&import);
	return status;
}

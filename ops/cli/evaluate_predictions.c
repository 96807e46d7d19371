/* evaluate_predictions.c - see evaluate_predictions.h. Called by cmd_evaluate.c. */
#include "ops/cli/evaluate_predictions.h"

#include "consumer/folder.h"
#include "schemas/container.h"
#include "schemas/topic.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#define RECORD_ARENA_BYTES_MAX ((size_t)1 << 28)

uint64_t predictions_item_key(struct text_view item_id)
{
	return XXH3_64bits(item_id.size ? item_id.bytes : "", item_id.size);
}

const struct predicted *predictions_find(const struct predictions *predictions, struct text_view impression_id)
{
	uint32_t at;

	return ids_find(predictions->ids, impression_id, &at) ? &predictions->list[at] : NULL;
}

static enum status add_rows(struct predictions *predictions, const struct prediction *prediction, const char *path,
			    struct error *error)
{
	for (size_t i = 0; i < prediction->scores_count; i++) {
		const struct candidate_score *score = &prediction->scores[i];

		if (!(score->p_click > 0 && score->p_click < 1) || score->exit_layer < 0 || score->exit_layer > UINT16_MAX)
			return error_set(error, STATUS_CORRUPT, "%s: impression %.*s, candidate %zu: p_click %g at layer %d "
					 "is no prediction", path, TEXT_ARGS(prediction->impression_id), i,
					 (double)score->p_click, score->exit_layer);
		if (!mem_reserve((void **)&predictions->rows, &predictions->rows_capacity, predictions->rows_count,
				 EVALUATE_ROWS_MAX, sizeof *predictions->rows))
			return error_set(error, STATUS_LIMIT, "%s: more than %d scores, or no memory for them", path,
					 EVALUATE_ROWS_MAX);
		predictions->rows[predictions->rows_count++] = (struct predicted_row){
			.item = predictions_item_key(score->item_id),
			.p = score->p_click,
			.layer = (uint16_t)score->exit_layer,
		};
	}
	return STATUS_OK;
}

static enum status add(struct predictions *predictions, const struct prediction *prediction, const char *path,
		       struct error *error)
{
	uint32_t at;
	enum status status;

	if (ids_find(predictions->ids, prediction->impression_id, &at)) {
		predictions->repeated++;
		return STATUS_OK;
	}
	status = ids_hold(predictions->ids, prediction->impression_id, IDS_GRAPH, &at, error);
	if (status != STATUS_OK)
		return status;
	if (at != predictions->count ||
	    !mem_reserve((void **)&predictions->list, &predictions->list_capacity, predictions->count,
			 EVALUATE_ROWS_MAX, sizeof *predictions->list))
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory for %zu predictions", path, predictions->count + 1);
	predictions->list[predictions->count++] = (struct predicted){
		.first = (uint32_t)predictions->rows_count,
		.count = (uint32_t)prediction->scores_count,
		.event_time_ms = prediction->event_time_ms,
		.status = prediction->status,
	};
	return add_rows(predictions, prediction, path, error);
}

static void take_metadata(struct predictions *predictions, const struct container_reader *reader)
{
	const char *model = container_reader_metadata(reader, "exitpoll.model_id");
	const char *layers = container_reader_metadata(reader, "exitpoll.model_layers");
	const char *until = container_reader_metadata(reader, "exitpoll.trained_until");

	if (model)
		snprintf(predictions->model_id, sizeof predictions->model_id, "%s", model);
	if (layers && *layers)
		predictions->model_layers = (unsigned)strtoul(layers, NULL, 10);
	if (until && *until)
		predictions->trained_until_ms = strtoll(until, NULL, 10);
}

static enum status read_file(const char *path, struct predictions *predictions, struct error *error)
{
	struct container_reader *reader = NULL;
	struct arena *arena = arena_create(RECORD_ARENA_BYTES_MAX);
	struct event event;
	bool end = false;
	enum status status = arena ? container_reader_open(path, RECORD_PREDICTION, &reader, error) :
			     error_set(error, STATUS_NO_MEMORY, "out of memory");

	if (status == STATUS_OK)
		take_metadata(predictions, reader);
	while (status == STATUS_OK) {
		arena_reset(arena);
		status = container_read(reader, arena, &event, &end, error);
		if (status != STATUS_OK || end)
			break;
		status = add(predictions, &event.prediction, path, error);
	}
	container_reader_close(reader);
	arena_destroy(arena);
	return status;
}

enum status predictions_read(const char *where, struct predictions *out, struct error *error)
{
	struct predictions predictions = {.trained_until_ms = INT64_MIN};
	struct folder_files files = {0};
	struct stat info;
	enum status status = ids_create("impressions", EVALUATE_ROWS_MAX, 0, &predictions.ids, error);

	if (status != STATUS_OK)
		return status;
	if (stat(where, &info) == 0 && S_ISDIR(info.st_mode)) {
		status = folder_list(where, topic_names_default.name[TOPIC_PREDICTIONS], &files, error);
		if (status == STATUS_OK && files.count == 0)
			status = error_set(error, STATUS_NO_INPUT, "%s holds no %s.avro", where,
					   topic_names_default.name[TOPIC_PREDICTIONS]);
		for (size_t i = 0; i < files.count && status == STATUS_OK; i++)
			status = read_file(files.files[i].path, &predictions, error);
		folder_files_free(&files);
	} else {
		status = read_file(where, &predictions, error);
	}
	if (status != STATUS_OK) {
		predictions_free(&predictions);
		return status;
	}
	*out = predictions;
	return STATUS_OK;
}

void predictions_free(struct predictions *predictions)
{
	ids_destroy(predictions->ids);
	mem_free(predictions->list);
	mem_free(predictions->rows);
	*predictions = (struct predictions){0};
}

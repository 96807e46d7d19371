/* bench_codec.c - how fast one thread decodes interactions and encodes predictions. */
#include "ops/cli/bench.h"

#include "schemas/codec.h"

#include <stdio.h>
#include <string.h>

enum { RECORDS = 200000, RUNS = 5, CANDIDATES = 8, CHECK_EVERY = 97 };

struct work {
	struct codec_plan *plan;
	struct byte_buffer bodies;
	struct text_view *views;        /* [RECORDS] */
	struct arena *arena;
	struct event prediction;
	struct byte_buffer encoded;
	bool good;
};

static struct event interaction(size_t index, char *user, char *item)
{
	snprintf(user, 32, "A%013zu", index * 7919 % 1000003);
	snprintf(item, 32, "B%09zu", index * 104729 % 50021);
	return (struct event){
		.type = RECORD_INTERACTION,
		.interaction = {.user_id = text_of(user), .item_id = text_of(item), .kind = KIND_RATE,
				.has_rating = true, .rating = (double)(1 + index % 5),
				.event_time_ms = 1400000000000 + (int64_t)index},
	};
}

static void decode_all(void *context)
{
	struct work *work = context;
	struct event event;

	for (size_t i = 0; i < RECORDS; i++) {
		if (i % 1024 == 0)
			arena_reset(work->arena);
		if (codec_decode(work->plan, work->views[i], work->arena, &event, NULL, NULL) != STATUS_OK)
			work->good = false;
	}
}

static void encode_all(void *context)
{
	struct work *work = context;

	for (size_t i = 0; i < RECORDS; i++) {
		work->encoded.size = 0;
		if (codec_encode(&work->prediction, &work->encoded, NULL) != STATUS_OK)
			work->good = false;
	}
}

static enum status make_bodies(struct work *work, struct error *error)
{
	char user[32], item[32];
	size_t *ends = mem_alloc_array(RECORDS, sizeof *ends);
	enum status status = ends ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "out of memory");

	for (size_t i = 0; i < RECORDS && status == STATUS_OK; i++) {
		struct event event = interaction(i, user, item);
		status = codec_encode(&event, &work->bodies, error);
		ends[i] = work->bodies.size;
	}
	for (size_t i = 0; i < RECORDS && status == STATUS_OK; i++) {
		size_t begin = i ? ends[i - 1] : 0;
		work->views[i] = (struct text_view){work->bodies.bytes + begin, ends[i] - begin};
	}
	mem_free(ends);
	return status;
}

static enum status verify_decode(struct work *work, struct error *error)
{
	char user[32], item[32];

	for (size_t i = 0; i < RECORDS; i += CHECK_EVERY) {
		struct event expected = interaction(i, user, item), actual;
		arena_reset(work->arena);
		enum status status = codec_decode(work->plan, work->views[i], work->arena, &actual, NULL, error);
		if (status != STATUS_OK)
			return status;
		if (!text_equal(actual.interaction.user_id, expected.interaction.user_id) ||
		    !text_equal(actual.interaction.item_id, expected.interaction.item_id) ||
		    actual.interaction.rating != expected.interaction.rating ||
		    actual.interaction.event_time_ms != expected.interaction.event_time_ms)
			return error_set(error, STATUS_INTERNAL, "interaction %zu is not what was encoded", i);
	}
	return STATUS_OK;
}

static enum status bench_decode(struct bench_report *report, struct work *work, struct error *error)
{
	enum status status = make_bodies(work, error);

	if (status == STATUS_OK)
		status = verify_decode(work, error);
	if (status == STATUS_OK)
		bench_row(report, "codec", "decode interactions, one thread",
			  RECORDS / bench_median_seconds(RUNS, decode_all, work) / 1e6, "M/s", 1);
	return status;
}

static enum status bench_encode(struct bench_report *report, struct work *work, struct error *error)
{
	struct candidate_score scores[CANDIDATES];
	char items[CANDIDATES][16];
	struct codec_plan *plan = NULL;
	struct event decoded;
	enum status status;

	for (size_t i = 0; i < CANDIDATES; i++) {
		snprintf(items[i], sizeof items[i], "B%09zu", i * 31);
		scores[i] = (struct candidate_score){text_of(items[i]), 0.1f * (float)(i + 1), 15, true, 0.01f};
	}
	work->prediction = (struct event){
		.type = RECORD_PREDICTION,
		.prediction = {.impression_id = TEXT_LITERAL("A2SUAM1J3GNN3B:17"), .user_id = TEXT_LITERAL("A2SUAM1J3GNN3B"),
			       .scores = scores, .scores_count = CANDIDATES, .model_id = TEXT_LITERAL("model@0123456789abcdef"),
			       .graph_version = 12345, .event_time_ms = 1400000000000, .scored_time_ms = 1400000000001},
	};
	status = codec_plan_create(RECORD_PREDICTION, text_of(codec_schema_json(RECORD_PREDICTION)), &plan, error);
	if (status == STATUS_OK)
		status = codec_encode(&work->prediction, &work->encoded, error);
	arena_reset(work->arena);
	if (status == STATUS_OK)
		status = codec_decode(plan, (struct text_view){work->encoded.bytes, work->encoded.size}, work->arena,
				      &decoded, NULL, error);
	if (status == STATUS_OK &&
	    (decoded.prediction.scores_count != CANDIDATES ||
	     decoded.prediction.scores[CANDIDATES - 1].p_click != scores[CANDIDATES - 1].p_click))
		status = error_set(error, STATUS_INTERNAL, "the prediction is not what was encoded");
	if (status == STATUS_OK)
		bench_row(report, "codec", "encode predictions of 8 scores, one thread",
			  RECORDS / bench_median_seconds(RUNS, encode_all, work) / 1e6, "M/s", 1);
	codec_plan_destroy(plan);
	return status;
}

enum status bench_codec(struct bench_report *report, struct error *error)
{
	struct work work = {.bodies = {.bytes_max = (size_t)1 << 28}, .encoded = {.bytes_max = 1 << 20}, .good = true};
	enum status status;

	work.views = mem_alloc_array(RECORDS, sizeof *work.views);
	work.arena = arena_create((size_t)1 << 26);
	if (!work.views || !work.arena)
		status = error_set(error, STATUS_NO_MEMORY, "out of memory");
	else
		status = codec_plan_create(RECORD_INTERACTION, text_of(codec_schema_json(RECORD_INTERACTION)),
					   &work.plan, error);
	if (status == STATUS_OK)
		status = bench_decode(report, &work, error);
	if (status == STATUS_OK)
		status = bench_encode(report, &work, error);
	if (status == STATUS_OK && !work.good)
		status = error_set(error, STATUS_INTERNAL, "a record failed while it was timed");
	codec_plan_destroy(work.plan);
	byte_buffer_free(&work.bodies);
	byte_buffer_free(&work.encoded);
	arena_destroy(work.arena);
	mem_free(work.views);
	return status;
}

/* samples_sink.c - which requests become samples, and their way into shards. Invariant: `done` impressions were
 * kept so far, of which the first `written` are in whole shards. Called by the pipeline. */
#include "ops/cli/samples_sink.h"

#include "base/mem.h"
#include "ops/cli/samples_shard.h"
#include "scorer/train/samples_file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

struct samples_sink {
	struct sink base;
	struct samples_sink_options options;
	struct samples_counts counts;
	struct samples_file *file;
	struct samples_shard old;       /* being compared */
	size_t old_shards, old_at;      /* whole shards of the run before; those that were passed */
	size_t old_done;                /* impressions of `old` that were met */
	bool old_open;
	struct text_view *items;        /* [candidates_max] */
	float *labels;                  /* [candidates_max] */
};

static struct samples_sink *sink_of(struct sink *sink)
{
	return (struct samples_sink *)sink;
}

const struct samples_counts *samples_sink_counts(const struct sink *sink)
{
	return &((const struct samples_sink *)sink)->counts;
}

/* ---- what is there already ---- */

/* Meets the next impression of the old shards; *met: there was one. */
static enum status meet(struct samples_sink *s, const struct scoring_request *request, bool *met,
			struct error *error)
{
	*met = s->old_at < s->old_shards;
	if (!*met)
		return STATUS_OK;
	if (!s->old_open) {
		enum status status = samples_shard_open(s->options.folder, s->old_at + 1, &s->old, error);
		if (status)
			return status;
		s->old_open = true;
		s->old_done = 0;
	}
	size_t i = s->old_done++;
	if (s->old.time_ms[i] != request->event_time_ms ||
	    s->old.user[i] != XXH3_64bits(request->user_id.bytes, request->user_id.size))
		return error_set(error, STATUS_CONFIG,
				 "%s: impression %zu of shard %zu is not what these events give there; the folder "
				 "belongs to other events: --force begins anew", s->options.folder, i,
				 s->old_at + 1);
	if (s->old_done == s->old.impressions) {
		samples_shard_close(&s->old);
		s->old_open = false;
		s->old_at++;
		s->counts.shards++;
		s->counts.shards_kept++;
	}
	return STATUS_OK;
}

/* ---- a request becomes samples ---- */

static enum status add_tokens(struct samples_sink *s, const struct scoring_request *request,
			      struct error *error)
{
	struct prompt_ids instruction = prompt_instruction(s->options.prompt), ids;
	float features[FEATURES_COUNT_MAX];
	bool cut, any_cut;
	uint32_t prefix;
	enum status status = prompt_user(s->options.prompt, request, &ids, &any_cut, error);
	if (status || (status = samples_file_prefix(s->file, instruction.ids, instruction.count, error)) ||
	    (status = samples_file_prefix(s->file, ids.ids, ids.count, error)))
		return status;
	prefix = instruction.count + ids.count;
	s->counts.tokens += prefix;
	for (size_t c = 0; c < request->candidates_count; c++) {
		if ((status = prompt_candidate(s->options.prompt, request, c, &ids, &cut, error)))
			return status;
		features_fill(request, c, features, s->options.features);
		struct samples_candidate candidate = {request->candidates[c].item_id, ids.ids, ids.count,
						      s->labels[c], features};
		if ((status = samples_file_candidate(s->file, &candidate, error)))
			return status;
		any_cut |= cut;
		s->counts.tokens += ids.count;
		if (prefix + ids.count > s->counts.longest)
			s->counts.longest = prefix + ids.count;
	}
	s->counts.cut += any_cut;
	return STATUS_OK;
}

static enum status put_shard(struct samples_sink *s, struct error *error)
{
	s->counts.shards++;
	return samples_file_write(s->file, s->options.folder, s->counts.shards, error);
}

static void count(struct samples_sink *s, const struct scoring_request *request, uint8_t part)
{
	struct samples_part *counts = &s->counts.parts[part];
	if (!counts->impressions++ || request->event_time_ms < counts->first_ms)
		counts->first_ms = request->event_time_ms;
	if (counts->impressions == 1 || request->event_time_ms > counts->last_ms)
		counts->last_ms = request->event_time_ms;
	counts->candidates += request->candidates_count;
	for (size_t c = 0; c < request->candidates_count; c++) {
		counts->labelled += !isnan(s->labels[c]);
		counts->positives += s->labels[c] > 0;
	}
	s->counts.unknown_users += request->status == PREDICTION_UNKNOWN_USER;
}

/* The part that the request's samples go to, or SAMPLES_NO_PART, and why not is counted. */
static uint8_t part_of(struct samples_sink *s, const struct scoring_request *request)
{
	bool few = false;
	if (request->status == PREDICTION_LATE || request->status == PREDICTION_NO_CANDIDATES) {
		s->counts.late += request->status == PREDICTION_LATE;
		s->counts.no_candidates += request->status == PREDICTION_NO_CANDIDATES;
		return SAMPLES_NO_PART;
	}
	for (size_t c = 0; c < request->candidates_count; c++)
		s->items[c] = request->candidates[c].item_id;
	enum samples_answer answer = samples_labels_of(s->options.labels, request->impression_id,
						       request->event_time_ms, s->items,
						       request->candidates_count, s->labels);
	s->counts.by_answer[answer]++;
	if (answer != SAMPLES_LABELLED)
		return SAMPLES_NO_PART;
	if (request->history_count < s->options.history_min) {
		s->counts.short_history++;
		return SAMPLES_NO_PART;
	}
	uint8_t part = samples_split_of(s->options.split, request->impression_id, request->user_id,
					request->event_time_ms, s->items, s->labels, request->candidates_count, &few);
	s->counts.not_in_few += few;
	s->counts.not_in_split += part == SAMPLES_NO_PART && !few;
	return part;
}

static enum status add_request(struct samples_sink *s, const struct scoring_request *request,
			       struct error *error)
{
	bool met = false;
	enum status status;
	s->counts.requests++;
	uint8_t part = part_of(s, request);
	if (part == SAMPLES_NO_PART)
		return STATUS_OK;
	count(s, request, part);
	if (part >= PART_CALIBRATION && request->event_time_ms <= s->options.trained_until_ms) {
		s->counts.leaking++;
		if (!s->options.allow_leak)
			return error_set(error, STATUS_CONFIG,
					 "impression %.*s (%lld ms) is for %s, and the model or the graph's seeds were "
					 "trained on data up to %lld ms: split later, or say --allow-leak and trust no figure",
					 TEXT_ARGS(text_cut(request->impression_id, 64)),
					 (long long)request->event_time_ms, samples_part_name(part),
					 (long long)s->options.trained_until_ms);
	}
	if ((status = meet(s, request, &met, error)) || met)
		return status;
	if ((status = samples_file_begin(s->file, request->impression_id, request->user_id,
					 request->event_time_ms, part, error)) ||
	    (status = add_tokens(s, request, error)))
		return status;
	return samples_file_is_full(s->file) ? put_shard(s, error) : STATUS_OK;
}

/* ---- the sink ---- */

/* What cannot be written here is no matter of a single record. */
static enum status write_event(struct sink *sink, const struct event *event, struct text_view traceparent,
			       struct error *error)
{
	struct samples_sink *s = sink_of(sink);
	(void)traceparent;
	if (event->type != RECORD_SCORING_REQUEST) {
		s->counts.dead_letters++;
		return STATUS_OK;
	}
	enum status status = add_request(s, &event->scoring_request, error);
	return status == STATUS_LIMIT ? error_set(error, STATUS_UNSUPPORTED, "one impression is too large for a shard "
						  "of samples; lower impression.candidates_max") : status;
}

static enum status commit(struct sink *sink, const struct commit_offsets *offsets, struct error *error)
{
	(void)sink;
	(void)offsets;
	(void)error;
	return STATUS_OK;
}

static enum status nothing(struct sink *sink, struct error *error)
{
	(void)sink;
	(void)error;
	return STATUS_OK;
}

static enum status finish(struct sink *sink, struct error *error)
{
	struct samples_sink *s = sink_of(sink);
	if (s->old_at < s->old_shards)
		return error_set(error, STATUS_CONFIG,
				 "%s holds more samples than these events give: --force begins anew",
				 s->options.folder);
	return samples_file_impressions(s->file) ? put_shard(s, error) : STATUS_OK;
}

static uint64_t commits(const struct sink *sink)
{
	(void)sink;
	return 0;
}

static void destroy(struct sink *sink)
{
	struct samples_sink *s = sink_of(sink);
	if (!s)
		return;
	if (s->old_open)
		samples_shard_close(&s->old);
	samples_file_destroy(s->file);
	mem_free(s->items);
	mem_free(s->labels);
	mem_free(s);
}

static const struct sink_class samples_class = {
	.name = "samples", .write = write_event, .commit = commit, .settle = nothing, .abort = nothing,
	.finish = finish, .commits = commits, .destroy = destroy,
};

enum status samples_sink_create(const struct samples_sink_options *options, struct sink **out,
				struct error *error)
{
	struct samples_sink *s = mem_alloc_zero(1, sizeof *s);
	enum status status = STATUS_OK;
	if (!s)
		return error_set(error, STATUS_NO_MEMORY, "no memory for samples");
	s->base.class = &samples_class;
	s->options = *options;
	s->items = mem_alloc_array(options->candidates_max, sizeof *s->items);
	s->labels = mem_alloc_array(options->candidates_max, sizeof *s->labels);
	if (!s->items || !s->labels)
		status = error_set(error, STATUS_NO_MEMORY, "no memory for %zu candidates", options->candidates_max);
	if (!status)
		status = samples_file_create(options->features, &s->file, error);
	if (!status)
		status = samples_shard_count(options->folder, &s->old_shards, error);
	if (status) {
		destroy(&s->base);
		return status;
	}
	*out = &s->base;
	return STATUS_OK;
}

enum status samples_sink_remove(const char *folder, struct error *error)
{
	char name[SAMPLES_NAME_BYTES], path[4096];
	for (size_t number = 1;; number++) {
		samples_file_name(number, name);
		if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
			return error_set(error, STATUS_CANNOT_CREATE, "the path of the folder is too long");
		if (unlink(path) != 0)
			return errno == ENOENT ? STATUS_OK :
						 error_set(error, STATUS_IO, "%s: %s", path, strerror(errno));
	}
}

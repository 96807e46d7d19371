/* codec_samples.h - for tests of schemas/: seeded random events of every type with the values that hurt
 * (empty and long texts, extremes, NaN, absent options, empty arrays), and bit-for-bit comparison. */
#ifndef EXITPOLL_TESTS_CODEC_SAMPLES_H
#define EXITPOLL_TESTS_CODEC_SAMPLES_H

#include "schemas/event.h"

#include <stdio.h>
#include <string.h>

struct samples {
	uint64_t state;
	struct arena *arena;
	bool finite;            /* no NaN, whose bits not every language keeps */
};

static inline uint64_t sample_bits(struct samples *samples)
{
	uint64_t z = samples->state += 0x9E3779B97F4A7C15u;
	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
	z = (z ^ z >> 27) * 0x94D049BB133111EBu;
	return z ^ z >> 31;
}

static inline uint64_t sample_below(struct samples *samples, uint64_t bound)
{
	return sample_bits(samples) % bound;
}

static inline int64_t sample_long(struct samples *samples)
{
	static const int64_t edges[] = {0, 1, -1, 63, 64, -64, -65, 8191, 8192, INT32_MAX, INT32_MIN,
					INT64_MAX, INT64_MIN, 1700000000000};
	if (sample_below(samples, 2))
		return edges[sample_below(samples, sizeof edges / sizeof edges[0])];
	return (int64_t)(sample_bits(samples) >> sample_below(samples, 64));
}

static inline double sample_double(struct samples *samples)
{
	static const double edges[] = {0.0, -0.0, 1.0, 4.5, 5e-324, 1.7976931348623157e308, -2.5};
	uint64_t bits = sample_bits(samples);
	double value;
	if (sample_below(samples, 2) || samples->finite)
		return edges[sample_below(samples, sizeof edges / sizeof edges[0])];
	memcpy(&value, &bits, sizeof value);    /* infinities and NaNs included */
	return value;
}

static inline float sample_float(struct samples *samples)
{
	uint32_t bits = (uint32_t)sample_bits(samples);
	float value;
	if (sample_below(samples, 2) || samples->finite)
		return (float)sample_below(samples, 1000) / 999.0f;
	memcpy(&value, &bits, sizeof value);
	return value;
}

static inline struct text_view sample_text(struct samples *samples)
{
	static const char *const pieces[] = {"a", "é", "user-", "\xF0\x9F\x98\x80", "0", " ", "\"", "漢", "|", "\n"};
	static const size_t sizes[] = {0, 1, 2, 8, 30, 63, 64, 200};
	size_t pieces_count = sizes[sample_below(samples, 8)], size = 0;
	char *text = arena_alloc(samples->arena, 4 * pieces_count + 1);
	if (!text)
		return (struct text_view){"", 0};
	for (size_t i = 0; i < pieces_count; i++) {
		const char *piece = pieces[sample_below(samples, pieces_count > 1 ? 10 : 5)];
		size_t length = strlen(piece);
		if (length > 4)
			continue;
		memcpy(text + size, piece, length);
		size += length;
	}
	return (struct text_view){text, size};
}

static inline struct text_view sample_optional_text(struct samples *samples)
{
	return sample_below(samples, 2) ? sample_text(samples) : (struct text_view){NULL, 0};
}

static inline size_t sample_count(struct samples *samples)
{
	static const size_t counts[] = {0, 1, 2, 3, 8, 70};
	return counts[sample_below(samples, 6)];
}

static inline const float *sample_floats(struct samples *samples, size_t count)
{
	float *values = arena_array(samples->arena, count, sizeof *values);
	for (size_t i = 0; values && i < count; i++)
		values[i] = sample_float(samples);
	return count ? values : NULL;
}

static inline const struct history_entry *sample_history(struct samples *samples, size_t count)
{
	struct history_entry *entries = arena_array(samples->arena, count, sizeof *entries);
	for (size_t i = 0; entries && i < count; i++) {
		bool rated = sample_below(samples, 2);
		entries[i] = (struct history_entry){
			.item_id = sample_text(samples), .text = sample_text(samples),
			.kind = (enum interaction_kind)sample_below(samples, INTERACTION_KINDS),
			.has_rating = rated, .rating = rated ? sample_float(samples) : 0,
			.event_time_ms = sample_long(samples),
		};
	}
	return count ? entries : NULL;
}

static inline struct item_event sample_item(struct samples *samples)
{
	size_t count = sample_count(samples);
	struct attribute *attributes = arena_array(samples->arena, count, sizeof *attributes);
	for (size_t i = 0; i < count; i++) {
		char *name = arena_alloc(samples->arena, 32);
		int size = snprintf(name, 32, "name-%zu", i);   /* other codecs keep one of equal names */
		attributes[i] = (struct attribute){{name, (size_t)size}, sample_text(samples)};
	}
	return (struct item_event){
		.item_id = sample_text(samples), .title = sample_text(samples),
		.attributes = count ? attributes : NULL, .attributes_count = count,
		.event_time_ms = sample_long(samples), .deleted = sample_below(samples, 2),
	};
}

static inline struct interaction_event sample_interaction(struct samples *samples)
{
	bool rated = sample_below(samples, 2);
	return (struct interaction_event){
		.user_id = sample_text(samples), .item_id = sample_optional_text(samples),
		.kind = (enum interaction_kind)sample_below(samples, INTERACTION_KINDS),
		.has_rating = rated, .rating = rated ? sample_double(samples) : 0,
		.impression_id = sample_optional_text(samples), .event_time_ms = sample_long(samples),
	};
}

static inline struct impression_event sample_impression(struct samples *samples)
{
	size_t count = sample_count(samples);
	struct text_view *candidates = arena_array(samples->arena, count, sizeof *candidates);
	bool deadline = sample_below(samples, 2);
	for (size_t i = 0; i < count; i++)
		candidates[i] = sample_text(samples);
	return (struct impression_event){
		.impression_id = sample_text(samples), .user_id = sample_text(samples),
		.candidates = count ? candidates : NULL, .candidates_count = count,
		.event_time_ms = sample_long(samples), .has_deadline = deadline,
		.deadline_ms = deadline ? sample_long(samples) : 0,
	};
}

static inline struct scoring_request sample_scoring_request(struct samples *samples)
{
	size_t history = sample_count(samples), examples = sample_below(samples, 4);
	size_t statistics = sample_count(samples), candidates = sample_below(samples, 9);
	struct example *example = arena_array(samples->arena, examples, sizeof *example);
	struct request_candidate *candidate = arena_array(samples->arena, candidates, sizeof *candidate);
	bool deadline = sample_below(samples, 2);

	for (size_t i = 0; i < examples; i++) {
		size_t entries = sample_below(samples, 4);
		example[i] = (struct example){sample_float(samples), sample_history(samples, entries), entries};
	}
	for (size_t i = 0; i < candidates; i++) {
		size_t count = sample_count(samples);
		candidate[i] = (struct request_candidate){sample_text(samples), sample_text(samples),
							  sample_floats(samples, count), count};
	}
	return (struct scoring_request){
		.impression_id = sample_text(samples), .user_id = sample_text(samples),
		.status = (enum prediction_status)sample_below(samples, PREDICTION_STATUSES),
		.history = sample_history(samples, history), .history_count = history,
		.examples = examples ? example : NULL, .examples_count = examples,
		.user_statistics = sample_floats(samples, statistics), .user_statistics_count = statistics,
		.candidates = candidates ? candidate : NULL, .candidates_count = candidates,
		.graph_version = sample_long(samples), .event_time_ms = sample_long(samples),
		.has_deadline = deadline, .deadline_ms = deadline ? sample_long(samples) : 0,
	};
}

static inline struct prediction sample_prediction(struct samples *samples)
{
	size_t count = sample_count(samples);
	struct candidate_score *scores = arena_array(samples->arena, count, sizeof *scores);
	for (size_t i = 0; i < count; i++) {
		bool margin = sample_below(samples, 2);
		scores[i] = (struct candidate_score){sample_text(samples), sample_float(samples),
						     (int32_t)sample_long(samples), margin,
						     margin ? sample_float(samples) : 0};
	}
	return (struct prediction){
		.impression_id = sample_text(samples), .user_id = sample_text(samples),
		.scores = count ? scores : NULL, .scores_count = count, .model_id = sample_text(samples),
		.graph_version = sample_long(samples), .event_time_ms = sample_long(samples),
		.scored_time_ms = sample_long(samples),
		.status = (enum prediction_status)sample_below(samples, PREDICTION_STATUSES),
	};
}

static inline struct dead_letter sample_dead_letter(struct samples *samples)
{
	return (struct dead_letter){
		.topic = sample_text(samples), .partition = (int32_t)sample_long(samples),
		.offset = sample_long(samples), .stage = sample_text(samples), .reason = sample_text(samples),
		.error = sample_text(samples), .key = sample_optional_text(samples),
		.value = sample_optional_text(samples),
	};
}

static inline struct event sample_event(struct samples *samples, enum record_type type)
{
	struct event event = {.type = type};
	switch (type) {
	case RECORD_ITEM: event.item = sample_item(samples); break;
	case RECORD_IMPRESSION: event.impression = sample_impression(samples); break;
	case RECORD_INTERACTION: event.interaction = sample_interaction(samples); break;
	case RECORD_SCORING_REQUEST: event.scoring_request = sample_scoring_request(samples); break;
	case RECORD_PREDICTION: event.prediction = sample_prediction(samples); break;
	case RECORD_DEAD_LETTER: event.dead_letter = sample_dead_letter(samples); break;
	}
	return event;
}

static inline bool same_optional_text(struct text_view a, struct text_view b)
{
	return !a.bytes == !b.bytes && text_equal(a, b);
}

#define SAME_BITS(a, b) (memcmp(&(a), &(b), sizeof(a)) == 0)
#define SAME_OPTION(a, b, has, value) ((a)->has == (b)->has && (!(a)->has || SAME_BITS((a)->value, (b)->value)))

static inline bool same_floats(const float *a, size_t a_count, const float *b, size_t b_count)
{
	return a_count == b_count && (a_count == 0 || memcmp(a, b, a_count * sizeof *a) == 0);
}

static inline bool same_history(const struct history_entry *a, size_t a_count, const struct history_entry *b,
				size_t b_count)
{
	bool same = a_count == b_count;
	for (size_t i = 0; same && i < a_count; i++)
		same = text_equal(a[i].item_id, b[i].item_id) && text_equal(a[i].text, b[i].text) &&
		       a[i].kind == b[i].kind && SAME_OPTION(&a[i], &b[i], has_rating, rating) &&
		       a[i].event_time_ms == b[i].event_time_ms;
	return same;
}

static inline bool same_item(const struct item_event *a, const struct item_event *b)
{
	bool same = text_equal(a->item_id, b->item_id) && text_equal(a->title, b->title) &&
		    a->event_time_ms == b->event_time_ms && a->deleted == b->deleted &&
		    a->attributes_count == b->attributes_count;
	for (size_t i = 0; same && i < a->attributes_count; i++)
		same = text_equal(a->attributes[i].name, b->attributes[i].name) &&
		       text_equal(a->attributes[i].value, b->attributes[i].value);
	return same;
}

static inline bool same_interaction(const struct interaction_event *a, const struct interaction_event *b)
{
	return text_equal(a->user_id, b->user_id) && same_optional_text(a->item_id, b->item_id) &&
	       a->kind == b->kind && SAME_OPTION(a, b, has_rating, rating) &&
	       same_optional_text(a->impression_id, b->impression_id) && a->event_time_ms == b->event_time_ms;
}

static inline bool same_impression(const struct impression_event *a, const struct impression_event *b)
{
	bool same = text_equal(a->impression_id, b->impression_id) && text_equal(a->user_id, b->user_id) &&
		    a->candidates_count == b->candidates_count && a->event_time_ms == b->event_time_ms &&
		    SAME_OPTION(a, b, has_deadline, deadline_ms);
	for (size_t i = 0; same && i < a->candidates_count; i++)
		same = text_equal(a->candidates[i], b->candidates[i]);
	return same;
}

static inline bool same_scoring_request(const struct scoring_request *a, const struct scoring_request *b)
{
	bool same = text_equal(a->impression_id, b->impression_id) && text_equal(a->user_id, b->user_id) &&
		    a->status == b->status &&
		    same_history(a->history, a->history_count, b->history, b->history_count) &&
		    a->examples_count == b->examples_count && a->candidates_count == b->candidates_count &&
		    same_floats(a->user_statistics, a->user_statistics_count, b->user_statistics,
				b->user_statistics_count) &&
		    a->graph_version == b->graph_version && a->event_time_ms == b->event_time_ms &&
		    SAME_OPTION(a, b, has_deadline, deadline_ms);
	for (size_t i = 0; same && i < a->examples_count; i++)
		same = SAME_BITS(a->examples[i].similarity, b->examples[i].similarity) &&
		       same_history(a->examples[i].entries, a->examples[i].entries_count,
				    b->examples[i].entries, b->examples[i].entries_count);
	for (size_t i = 0; same && i < a->candidates_count; i++)
		same = text_equal(a->candidates[i].item_id, b->candidates[i].item_id) &&
		       text_equal(a->candidates[i].text, b->candidates[i].text) &&
		       same_floats(a->candidates[i].statistics, a->candidates[i].statistics_count,
				   b->candidates[i].statistics, b->candidates[i].statistics_count);
	return same;
}

static inline bool same_prediction(const struct prediction *a, const struct prediction *b)
{
	bool same = text_equal(a->impression_id, b->impression_id) && text_equal(a->user_id, b->user_id) &&
		    a->scores_count == b->scores_count && text_equal(a->model_id, b->model_id) &&
		    a->graph_version == b->graph_version && a->event_time_ms == b->event_time_ms &&
		    a->scored_time_ms == b->scored_time_ms && a->status == b->status;
	for (size_t i = 0; same && i < a->scores_count; i++)
		same = text_equal(a->scores[i].item_id, b->scores[i].item_id) &&
		       SAME_BITS(a->scores[i].p_click, b->scores[i].p_click) &&
		       a->scores[i].exit_layer == b->scores[i].exit_layer &&
		       SAME_OPTION(&a->scores[i], &b->scores[i], has_margin, margin);
	return same;
}

static inline bool same_dead_letter(const struct dead_letter *a, const struct dead_letter *b)
{
	return text_equal(a->topic, b->topic) && a->partition == b->partition && a->offset == b->offset &&
	       text_equal(a->stage, b->stage) && text_equal(a->reason, b->reason) &&
	       text_equal(a->error, b->error) && same_optional_text(a->key, b->key) &&
	       same_optional_text(a->value, b->value);
}

static inline bool same_event(const struct event *a, const struct event *b)
{
	if (a->type != b->type)
		return false;
	switch (a->type) {
	case RECORD_ITEM: return same_item(&a->item, &b->item);
	case RECORD_IMPRESSION: return same_impression(&a->impression, &b->impression);
	case RECORD_INTERACTION: return same_interaction(&a->interaction, &b->interaction);
	case RECORD_SCORING_REQUEST: return same_scoring_request(&a->scoring_request, &b->scoring_request);
	case RECORD_PREDICTION: return same_prediction(&a->prediction, &b->prediction);
	case RECORD_DEAD_LETTER: return same_dead_letter(&a->dead_letter, &b->dead_letter);
	}
	return false;
}

#endif

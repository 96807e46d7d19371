/* stub.c - the scoring request as a hash.
 *
 * Idea: every field is fed to XXH3 with its length in front, so that no two different requests feed
 * the same bytes; numbers go in as their bit patterns, so that the last bit of a statistic counts.
 * The request's status and the other candidates stay out: neither changes what a model would say of
 * this candidate. Caller: scorer.c. */
#include "scorer/stub.h"

#define XXH_STATIC_LINKING_ONLY        /* a state on the stack */
#include <xxhash.h>

static void feed_u64(XXH3_state_t *state, uint64_t value)
{
	unsigned char bytes[8];
	for (int i = 0; i < 8; i++)
		bytes[i] = (unsigned char)(value >> (8 * i));
	XXH3_64bits_update(state, bytes, sizeof bytes);
}

static void feed_text(XXH3_state_t *state, struct text_view text)
{
	feed_u64(state, text.size);
	if (text.size)
		XXH3_64bits_update(state, text.bytes, text.size);
}

static uint32_t float_bits(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	return bits;
}

static void feed_floats(XXH3_state_t *state, const float *values, size_t count)
{
	feed_u64(state, count);
	for (size_t i = 0; i < count; i++)
		feed_u64(state, float_bits(values[i]));
}

static void feed_history(XXH3_state_t *state, const struct history_entry *entries, size_t count)
{
	feed_u64(state, count);
	for (size_t i = 0; i < count; i++) {
		feed_text(state, entries[i].item_id);
		feed_text(state, entries[i].text);
		feed_u64(state, (uint64_t)entries[i].kind);
		feed_u64(state, entries[i].has_rating);
		feed_u64(state, entries[i].has_rating ? float_bits(entries[i].rating) : 0);
		feed_u64(state, (uint64_t)entries[i].event_time_ms);
	}
}

uint64_t stub_hash_request(const struct scoring_request *request)
{
	XXH3_state_t state;
	XXH3_64bits_reset(&state);
	feed_text(&state, request->impression_id);
	feed_text(&state, request->user_id);
	feed_history(&state, request->history, request->history_count);
	feed_u64(&state, request->examples_count);
	for (size_t i = 0; i < request->examples_count; i++) {
		feed_u64(&state, float_bits(request->examples[i].similarity));
		feed_history(&state, request->examples[i].entries, request->examples[i].entries_count);
	}
	feed_floats(&state, request->user_statistics, request->user_statistics_count);
	feed_u64(&state, (uint64_t)request->graph_version);
	feed_u64(&state, (uint64_t)request->event_time_ms);
	feed_u64(&state, request->has_deadline);
	feed_u64(&state, request->has_deadline ? (uint64_t)request->deadline_ms : 0);
	return XXH3_64bits_digest(&state);
}

float stub_score(uint64_t request_hash, const struct request_candidate *candidate)
{
	XXH3_state_t state;
	XXH3_INITSTATE(&state);         /* reset_withSeed reads the old seed */
	XXH3_64bits_reset_withSeed(&state, request_hash);
	feed_text(&state, candidate->item_id);
	feed_text(&state, candidate->text);
	feed_floats(&state, candidate->statistics, candidate->statistics_count);
	/* 23 bits and a half: exact in a float, and never 0 or 1. */
	uint64_t bits = XXH3_64bits_digest(&state) >> 41;
	return ((float)bits + 0.5f) / 8388608.0f;
}

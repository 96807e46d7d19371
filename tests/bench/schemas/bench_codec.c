/* bench_codec.c - decode and encode per thread: interactions and predictions of 8 scores, as Beauty has
 * them (ids of 14 and 10 bytes). Verified before timed: every body decodes to the event it was made
 * from, and encodes to the same bytes again. Best of several rounds; exit 1 below the target when
 * called with --check. Usage: bench_codec [--check] */
#include "base/clock.h"
#include "schemas/codec.h"
#include "tests/unit/schemas/codec_samples.h"

#include <stdio.h>
#include <stdlib.h>

enum { EVENTS = 20000, SCORES = 8, ROUNDS = 20, TARGET = 1000000 };

struct set {
	struct event *events;           /* [EVENTS] */
	struct byte_buffer bodies;
	size_t *ends;                   /* [EVENTS + 1] */
};

static struct text_view id(struct samples *samples, char prefix, int size)
{
	static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	char *bytes = arena_alloc(samples->arena, (size_t)size);
	if (!bytes)
		exit(71);
	bytes[0] = prefix;
	for (int i = 1; i < size; i++)
		bytes[i] = letters[sample_below(samples, 36)];
	return (struct text_view){bytes, (size_t)size};
}

static struct event interaction(struct samples *samples)
{
	bool rated = sample_below(samples, 2);
	return (struct event){.type = RECORD_INTERACTION, .interaction = {
		.user_id = id(samples, 'A', 14), .item_id = id(samples, 'B', 10),
		.kind = rated ? KIND_RATE : KIND_CLICK, .has_rating = rated,
		.rating = rated ? (double)(1 + sample_below(samples, 5)) : 0,
		.impression_id = rated ? (struct text_view){NULL, 0} : id(samples, 'i', 12),
		.event_time_ms = 1400000000000 + (int64_t)sample_below(samples, 1000000000),
	}};
}

static struct event prediction(struct samples *samples)
{
	struct candidate_score *scores = arena_array(samples->arena, SCORES, sizeof *scores);
	if (!scores)
		exit(71);
	for (int i = 0; i < SCORES; i++)
		scores[i] = (struct candidate_score){
			.item_id = id(samples, 'B', 10), .p_click = (float)(1 + sample_below(samples, 998)) / 1000,
			.exit_layer = (int32_t)(1 + sample_below(samples, 30)), .has_margin = true,
			.margin = (float)sample_below(samples, 100) / 1000,
		};
	return (struct event){.type = RECORD_PREDICTION, .prediction = {
		.impression_id = id(samples, 'i', 12), .user_id = id(samples, 'A', 14), .scores = scores,
		.scores_count = SCORES, .model_id = TEXT_LITERAL("SmolLM2-135M-Instruct-0123456789abcdef"),
		.graph_version = 198502, .event_time_ms = 1400000000000, .scored_time_ms = 1790000000000,
	}};
}

static struct set make(struct samples *samples, struct event (*one)(struct samples *))
{
	struct set set = {mem_alloc_array(EVENTS, sizeof(struct event)), {.bytes_max = 64 << 20},
			  mem_alloc_array(EVENTS + 1, sizeof(size_t))};
	if (!set.events || !set.ends)
		exit(71);
	set.ends[0] = 0;
	for (int i = 0; i < EVENTS; i++) {
		set.events[i] = one(samples);
		if (codec_encode(&set.events[i], &set.bodies, NULL))
			exit(70);
		set.ends[i + 1] = set.bodies.size;
	}
	return set;
}

static struct text_view body(const struct set *set, int i)
{
	return (struct text_view){set->bodies.bytes + set->ends[i], set->ends[i + 1] - set->ends[i]};
}

static void verify(const struct set *set, const struct codec_plan *plan, struct arena *arena)
{
	struct byte_buffer again = {.bytes_max = 1 << 20};
	for (int i = 0; i < EVENTS; i++) {
		struct event event;
		struct error error = {0};
		again.size = 0;
		arena_reset(arena);
		if (codec_decode(plan, body(set, i), arena, &event, NULL, &error) ||
		    !same_event(&event, &set->events[i]) || codec_encode(&event, &again, &error) ||
		    !text_equal((struct text_view){again.bytes, again.size}, body(set, i))) {
			fprintf(stderr, "event %d differs after a round trip: %s\n", i, error.text);
			exit(70);
		}
	}
	byte_buffer_free(&again);
}

static double decode_rate(const struct set *set, const struct codec_plan *plan, struct arena *arena)
{
	double best = 0;
	int64_t sum = 0;
	for (int round = 0; round < ROUNDS; round++) {
		int64_t start = clock_steady_ns(), took;
		for (int i = 0; i < EVENTS; i++) {
			struct event event;
			arena_reset(arena);
			if (codec_decode(plan, body(set, i), arena, &event, NULL, NULL))
				exit(70);
			sum += event_time_ms(&event);
		}
		took = clock_steady_ns() - start;
		best = EVENTS * 1e9 / (double)took > best ? EVENTS * 1e9 / (double)took : best;
	}
	return sum ? best : 0;
}

static double encode_rate(const struct set *set)
{
	struct byte_buffer out = {.bytes_max = 64 << 20};
	double best = 0;
	for (int round = 0; round < ROUNDS; round++) {
		int64_t start = clock_steady_ns(), took;
		out.size = 0;
		for (int i = 0; i < EVENTS; i++)
			if (codec_encode(&set->events[i], &out, NULL))
				exit(70);
		took = clock_steady_ns() - start;
		best = EVENTS * 1e9 / (double)took > best ? EVENTS * 1e9 / (double)took : best;
	}
	byte_buffer_free(&out);
	return best;
}

int main(int count, char **arguments)
{
	struct samples samples = {.state = 1, .arena = arena_create(256 << 20)};
	struct arena *arena = arena_create(1 << 20);
	struct event (*const kinds[])(struct samples *) = {interaction, prediction};
	bool check = count > 1 && strcmp(arguments[1], "--check") == 0, missed = false;

	if (!samples.arena || !arena)
		return 71;
	for (int k = 0; k < 2; k++) {
		struct set set = make(&samples, kinds[k]);
		enum record_type type = set.events[0].type;
		struct codec_plan *plan = NULL;
		double decode, encode;

		if (codec_plan_create(type, text_of(codec_schema_json(type)), &plan, NULL))
			return 70;
		verify(&set, plan, arena);
		decode = decode_rate(&set, plan, arena);
		encode = encode_rate(&set);
		printf("%-12s %4zu bytes  decode %6.2f M/s  encode %6.2f M/s\n", record_type_name(type),
		       set.bodies.size / EVENTS, decode / 1e6, encode / 1e6);
		missed |= k == 0 ? decode < TARGET : encode < TARGET;
		codec_plan_destroy(plan);
		byte_buffer_free(&set.bodies);
		mem_free(set.events);
		mem_free(set.ends);
	}
	arena_destroy(samples.arena);
	arena_destroy(arena);
	if (missed)
		printf("below the target of %d per second\n", TARGET);
	return check && missed;
}

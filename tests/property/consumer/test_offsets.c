/* test_offsets.c - the answered prefix against a naive list, for random reads, answers, commits and
 * revocations. Seeds are printed. */
#include "consumer/offsets.h"
#include "tests/check_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PARTITIONS = 4, READS_MAX = 4000 };

struct model {
	bool assigned;
	int64_t committed;
	int64_t next;
	struct {
		int64_t offset;
		int64_t time;
		bool answered;
	} records[READS_MAX];
	size_t count;           /* from the committed offset on */
};

static uint64_t random_state;

static uint64_t rnd(uint64_t bound)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % bound;
}

static int64_t model_prefix(const struct model *model)
{
	for (size_t i = 0; i < model->count; i++)
		if (!model->records[i].answered)
			return model->records[i].offset;
	return model->next;
}

static void compare(struct offsets *offsets, const struct model *models)
{
	const struct position *positions;
	struct error error = {0};
	size_t count, expected = 0, pending = 0, unanswered = 0;
	int64_t oldest = INT64_MAX;

	ck_assert_int_eq(offsets_prefix(offsets, &positions, &count, &error), STATUS_OK);
	for (int p = 0; p < PARTITIONS; p++) {
		const struct model *model = &models[p];
		ck_assert_int_eq(offsets_assigned(offsets, TOPIC_IMPRESSIONS, p), model->assigned);
		if (!model->assigned) {
			ck_assert_int_eq(offsets_next(offsets, TOPIC_IMPRESSIONS, p), -1);
			continue;
		}
		ck_assert_int_eq(offsets_next(offsets, TOPIC_IMPRESSIONS, p), model_prefix(model));
		if (model_prefix(model) > model->committed) {
			ck_assert(expected < count);
			ck_assert_int_eq(positions[expected].partition, p);
			ck_assert_int_eq(positions[expected].offset, model_prefix(model));
			expected++;
		}
		for (size_t i = 0; i < model->count; i++) {
			pending++;
			unanswered += !model->records[i].answered;
			if (model->records[i].time < oldest)
				oldest = model->records[i].time;
		}
	}
	ck_assert_uint_eq(count, expected);
	ck_assert_uint_eq(offsets_pending(offsets), pending);
	ck_assert_uint_eq(offsets_unanswered(offsets), unanswered);
	ck_assert_int_eq(offsets_oldest_ms(offsets), oldest);
}

START_TEST(like_a_list)
{
	for (int round = 0; round < 20; round++) {
		static struct model models[PARTITIONS];
		struct offsets *offsets;
		struct error error = {0};
		memset(models, 0, sizeof models);
		ck_assert_int_eq(offsets_create(0, &offsets, &error), STATUS_OK);
		for (int step = 0; step < 4000; step++) {
			int p = (int)rnd(PARTITIONS);
			struct model *model = &models[p];
			struct position position = {TOPIC_IMPRESSIONS, p, 0};
			unsigned action = (unsigned)rnd(40);
			if (action == 0) {
				int64_t next = (int64_t)rnd(1000);
				ck_assert_int_eq(offsets_assign(offsets, TOPIC_IMPRESSIONS, p, next, &error),
						 STATUS_OK);
				*model = (struct model){.assigned = true, .committed = next, .next = next};
			} else if (action == 1 && rnd(4) == 0) {
				offsets_revoke(offsets, TOPIC_IMPRESSIONS, p);
				model->assigned = false;
				model->count = 0;
			} else if (action == 2) {
				const struct position *positions;
				size_t count;
				offsets_prefix(offsets, &positions, &count, &error);
				struct position copy[PARTITIONS];
				for (size_t i = 0; i < count; i++)
					copy[i] = positions[i];
				offsets_committed(offsets, copy, count);
				for (size_t i = 0; i < count; i++) {
					struct model *done = &models[copy[i].partition];
					size_t gone = 0;
					done->committed = copy[i].offset;
					while (gone < done->count &&
					       done->records[gone].offset < done->committed)
						gone++;
					done->count -= gone;
					memmove(done->records, done->records + gone,
						done->count * sizeof *done->records);
				}
			} else if (action == 3) {
				int64_t to = model->next + (int64_t)rnd(3);
				offsets_passed(offsets, TOPIC_IMPRESSIONS, p, to);
				if (model->assigned)
					model->next = to;
			} else if (action < 22) {
				int64_t when = rnd(20) ? (int64_t)rnd(100) + step : INT64_MAX;
				position.offset = model->next + (int64_t)(rnd(5) == 0);
				enum status status = offsets_read(offsets, position, when, &error);
				ck_assert_int_eq(status, model->assigned ? STATUS_OK : STATUS_USAGE);
				if (!model->assigned)
					continue;
				model->records[model->count].offset = position.offset;
				model->records[model->count].time = when;
				model->records[model->count++].answered = false;
				model->next = position.offset + 1;
				ck_assert_int_eq(offsets_read(offsets, position, 0, &error), STATUS_USAGE);
			} else if (model->count > 0) {
				size_t i = rnd(model->count);
				position.offset = model->records[i].offset;
				ck_assert_int_eq(offsets_answered(offsets, position),
						 !model->records[i].answered);
				model->records[i].answered = true;
			} else {
				position.offset = model->next + 5;
				ck_assert(!offsets_answered(offsets, position));
			}
			if (step % 7 == 0)
				compare(offsets, models);
		}
		offsets_destroy(offsets);
	}
}
END_TEST

START_TEST(is_bounded)
{
	struct offsets *offsets;
	struct error error = {0};
	struct position position = {TOPIC_IMPRESSIONS, 3, 0};

	ck_assert_int_eq(offsets_create(100, &offsets, &error), STATUS_OK);
	ck_assert_int_eq(offsets_assign(offsets, TOPIC_IMPRESSIONS, 3, 0, &error), STATUS_OK);
	for (int i = 0; i < 100; i++, position.offset++)
		ck_assert_int_eq(offsets_read(offsets, position, i, &error), STATUS_OK);
	ck_assert_int_eq(offsets_read(offsets, position, 100, &error), STATUS_LIMIT);
	position.offset = 0;
	ck_assert(offsets_answered(offsets, position));
	position.offset = 1;
	offsets_committed(offsets, &position, 1);
	ck_assert_int_eq(offsets_oldest_ms(offsets), 1);
	position.offset = 100;
	ck_assert_int_eq(offsets_read(offsets, position, 100, &error), STATUS_OK);
	offsets_destroy(offsets);
}
END_TEST

int main(int argc, char **argv)
{
	random_state = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL);
	random_state = random_state * 2654435761u | 1;
	printf("seed state %llu\n", (unsigned long long)random_state);
	Suite *suite = suite_create("offsets");
	TCase *tests = tcase_create("prefix");
	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, like_a_list);
	tcase_add_test(tests, is_bounded);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}

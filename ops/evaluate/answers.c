/* answers.c - see answers.h. Called by `exitpoll evaluate`. */
#include "ops/evaluate/answers.h"

#include "base/mem.h"

static enum status full(size_t count, struct error *error)
{
	if (count >= ANSWERS_ROWS_MAX)
		return error_set(error, STATUS_LIMIT, "more than %d answers: judge a part of them", ANSWERS_ROWS_MAX);
	return error_set(error, STATUS_NO_MEMORY, "no memory for %zu answers", count + 1);
}

enum status answers_begin(struct answers *answers, uint32_t user, uint32_t user_events, struct error *error)
{
	if (!mem_reserve((void **)&answers->impressions, &answers->impressions_capacity,
			 answers->impressions_count, ANSWERS_ROWS_MAX, sizeof *answers->impressions))
		return full(answers->impressions_count, error);
	answers->impressions[answers->impressions_count++] = (struct answered_impression){
		.first = (uint32_t)answers->rows_count,
		.user = user,
		.user_events = user_events,
	};
	if (user >= answers->users)
		answers->users = user + 1;
	return STATUS_OK;
}

enum status answers_add(struct answers *answers, const struct answer *row, struct error *error)
{
	if (!mem_reserve((void **)&answers->rows, &answers->rows_capacity, answers->rows_count, ANSWERS_ROWS_MAX,
			 sizeof *answers->rows))
		return full(answers->rows_count, error);
	answers->rows[answers->rows_count++] = *row;
	answers->impressions[answers->impressions_count - 1].count++;
	return STATUS_OK;
}

void answers_free(struct answers *answers)
{
	mem_free(answers->rows);
	mem_free(answers->impressions);
	*answers = (struct answers){0};
}

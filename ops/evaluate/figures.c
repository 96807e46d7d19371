/* figures.c - see figures.h.
 *
 * Idea: rows are sorted by score once. With weights, a rank statistic is a walk over the sorted rows that
 * carries the weight of the negatives passed so far; what is within users and impressions is computed once
 * for each and then averaged by weight.
 * Invariant: sums run in an order that depends on the answers alone, so equal input gives equal bits.
 * Called by report.c, one thread. */
#include "ops/evaluate/figures.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

static const struct {
	const char *name, *title;
} names[FIGURES] = {
	{"auc", "AUC"},
	{"user_auc", "AUC within users"},
	{"impression_auc", "AUC within impressions"},
	{"first", "taken item first"},
	{"log_loss", "log loss"},
	{"normalised_entropy", "normalised entropy"},
	{"calibration_error", "calibration error"},
	{"depth", "mean exit layer"},
};

const char *figure_name(enum figure figure)
{
	return names[figure].name;
}

const char *figure_title(enum figure figure)
{
	return names[figure].title;
}

struct sorted {
	float score;
	uint32_t row;
};

/* What a walk needs of a row, in the order of scores: one draw after another reads it from end to end. */
struct ranked {
	double loss;                    /* -log p of what happened */
	float score, p;
	uint32_t user;
	uint16_t layer;
	bool positive;
};

/* Within one impression or one user. */
struct inner {
	double auc;                     /* NaN: one class only */
	double first;
	double rows;
	uint32_t user;
};

struct judge {
	const struct answers *answers;
	bool probabilities;
	struct ranked *ranked;          /* [count], ascending by score, then by row */
	size_t count;
	struct inner *impressions;      /* [impressions_count] */
	struct inner *users;            /* [users] */
};

/* Floats as unsigned numbers of the same order. */
static uint32_t order_of(float score)
{
	uint32_t bits;

	memcpy(&bits, &score, sizeof bits);
	return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}

static void sort_few(struct sorted *rows, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		struct sorted row = rows[i];
		size_t at = i;

		for (; at > 0 && rows[at - 1].score > row.score; at--)
			rows[at] = rows[at - 1];
		rows[at] = row;
	}
}

/* Ascending by score; equal scores stay in their order. spare: room for as many. Three passes of counting,
 * so that the time per row does not depend on their number. */
static void sort_by_score(struct sorted *rows, struct sorted *spare, size_t count)
{
	enum { FEW = 32, DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS };
	size_t begin[DIGITS];
	struct sorted *from = rows, *to = spare;

	if (count <= FEW) {
		sort_few(rows, count);
		return;
	}
	for (unsigned shift = 0; shift < 32; shift += DIGIT_BITS) {
		struct sorted *swap = from;
		size_t sum = 0;

		memset(begin, 0, sizeof begin);
		for (size_t i = 0; i < count; i++)
			begin[order_of(from[i].score) >> shift & (DIGITS - 1)]++;
		for (size_t digit = 0; digit < DIGITS; digit++) {
			size_t size = begin[digit];
			begin[digit] = sum;
			sum += size;
		}
		for (size_t i = 0; i < count; i++)
			to[begin[order_of(from[i].score) >> shift & (DIGITS - 1)]++] = from[i];
		from = to;
		to = swap;
	}
	memcpy(rows, from, count * sizeof *rows);
}

static float score_of(const struct answer *row, enum scored_by by)
{
	return by == SCORED_BY_MODEL ? row->p : (float)row->item_events;
}

/* AUC of rows that are sorted by score. */
static double plain_auc(const struct answers *answers, const struct sorted *rows, size_t count)
{
	double below = 0, won = 0, positives = 0;

	for (size_t i = 0, next; i < count; i = next) {
		double negatives = 0, here = 0;

		for (next = i; next < count && rows[next].score == rows[i].score; next++) {
			here += answers->rows[rows[next].row].positive;
			negatives += !answers->rows[rows[next].row].positive;
		}
		won += here * (below + negatives / 2);
		below += negatives;
		positives += here;
	}
	return positives > 0 && below > 0 ? won / (positives * below) : NAN;
}

/* A taken one among those that score highest; they share the place. */
static double first_share(const struct answers *answers, const struct sorted *rows, size_t count)
{
	double highest = 0, taken = 0;

	for (size_t i = count; i-- > 0 && rows[i].score == rows[count - 1].score;) {
		highest += 1;
		taken += answers->rows[rows[i].row].positive;
	}
	return highest > 0 ? taken / highest : NAN;
}

/* One group's rows, in the order of the answers. */
static struct inner inner_of(const struct answers *answers, struct sorted *rows, struct sorted *spare, size_t count,
			     uint32_t user)
{
	struct inner inner = {.user = user, .rows = (double)count};

	sort_by_score(rows, spare, count);
	inner.auc = plain_auc(answers, rows, count);
	inner.first = first_share(answers, rows, count);
	return inner;
}

static double log_loss_of(const struct answer *row)
{
	return -log(row->positive ? (double)row->p : 1 - (double)row->p);
}

/* sorted: room for all rows, in the order of impressions afterwards. */
static void judge_impressions(struct judge *judge, const bool *chosen, enum scored_by by, struct sorted *sorted,
			      struct sorted *scratch, struct sorted *spare, uint32_t *row_user)
{
	const struct answers *answers = judge->answers;

	for (size_t i = 0; i < answers->impressions_count; i++) {
		const struct answered_impression *impression = &answers->impressions[i];
		size_t count = 0;

		for (uint32_t row = impression->first; row < impression->first + impression->count; row++) {
			row_user[row] = impression->user;
			if (chosen && !chosen[row])
				continue;
			scratch[count++] = sorted[judge->count++] =
				(struct sorted){score_of(&answers->rows[row], by), row};
		}
		judge->impressions[i] = inner_of(answers, scratch, spare, count, impression->user);
	}
}

/* Rows by user: counted, placed, and then sorted within. */
static enum status judge_users(struct judge *judge, const struct sorted *sorted, struct sorted *scratch,
			       struct sorted *spare, const uint32_t *row_user, struct error *error)
{
	const struct answers *answers = judge->answers;
	uint32_t *begin = mem_alloc_zero((size_t)answers->users + 1, sizeof *begin);

	if (!begin)
		return error_set(error, STATUS_NO_MEMORY, "no memory for %u users", answers->users);
	for (size_t i = 0; i < judge->count; i++)
		begin[row_user[sorted[i].row]]++;
	for (uint32_t user = 0, sum = 0; user <= answers->users; user++) {
		uint32_t size = begin[user];
		begin[user] = sum;
		sum += size;
	}
	for (size_t i = 0; i < judge->count; i++)
		scratch[begin[row_user[sorted[i].row]]++] = sorted[i];
	for (uint32_t user = 0, first = 0; user < answers->users; first = begin[user++])
		judge->users[user] = inner_of(answers, scratch + first, spare, begin[user] - first, user);
	mem_free(begin);
	return STATUS_OK;
}

static void rank_rows(struct judge *judge, struct sorted *sorted, struct sorted *spare, const uint32_t *row_user)
{
	sort_by_score(sorted, spare, judge->count);
	for (size_t i = 0; i < judge->count; i++) {
		const struct answer *row = &judge->answers->rows[sorted[i].row];
		judge->ranked[i] = (struct ranked){log_loss_of(row), sorted[i].score, row->p, row_user[sorted[i].row],
						   row->layer, row->positive};
	}
}

enum status judge_create(const struct answers *answers, enum scored_by by, const bool *chosen,
			 struct judge **out, struct error *error)
{
	size_t rows = answers->rows_count ? answers->rows_count : 1;
	struct judge *judge = mem_alloc_zero(1, sizeof *judge);
	struct sorted *sorted = mem_alloc_array(rows, sizeof *sorted), *scratch = mem_alloc_array(rows, sizeof *scratch);
	struct sorted *spare = mem_alloc_array(rows, sizeof *spare);
	uint32_t *row_user = mem_alloc_array(rows, sizeof *row_user);
	enum status status = STATUS_NO_MEMORY;

	if (judge) {
		judge->answers = answers;
		judge->probabilities = by == SCORED_BY_MODEL;
		judge->ranked = mem_alloc_array(rows, sizeof *judge->ranked);
		judge->impressions = mem_alloc_zero(answers->impressions_count + 1, sizeof *judge->impressions);
		judge->users = mem_alloc_zero((size_t)answers->users + 1, sizeof *judge->users);
	}
	if (!sorted || !scratch || !spare || !row_user || !judge || !judge->ranked || !judge->impressions ||
	    !judge->users) {
		error_set(error, status, "no memory to judge %zu answers", answers->rows_count);
		goto cleanup;
	}
	judge_impressions(judge, chosen, by, sorted, scratch, spare, row_user);
	status = judge_users(judge, sorted, scratch, spare, row_user, error);
	if (status != STATUS_OK)
		goto cleanup;
	rank_rows(judge, sorted, spare, row_user);
	*out = judge;
	judge = NULL;
cleanup:
	mem_free(sorted);
	mem_free(scratch);
	mem_free(spare);
	mem_free(row_user);
	judge_destroy(judge);
	return status;
}

void judge_destroy(struct judge *judge)
{
	if (!judge)
		return;
	mem_free(judge->ranked);
	mem_free(judge->impressions);
	mem_free(judge->users);
	mem_free(judge);
}

static double weight_of(const uint8_t *weights, uint32_t user)
{
	return weights ? weights[user] : 1;
}

static double mean_inner(const struct inner *inners, size_t count, const uint8_t *weights, bool by_rows,
			 bool first, double *sum)
{
	double total = 0;

	*sum = 0;
	for (size_t i = 0; i < count; i++) {
		double weight = weight_of(weights, inners[i].user) * (by_rows ? inners[i].rows : 1);

		if (isnan(inners[i].auc))
			continue;
		*sum += weight;
		total += weight * (first ? inners[i].first : inners[i].auc);
	}
	return *sum > 0 ? total / *sum : NAN;
}

/* Sums over rows in the order of their scores. */
struct walk {
	double below, won, positives, rows, loss, layers;
	double calibration;
};

static void close_bin(struct walk *walk, struct figures_bin *bin, struct figures_bin *kept)
{
	walk->calibration += fabs(bin->predicted - bin->observed);
	if (kept && bin->rows > 0)
		*kept = (struct figures_bin){bin->predicted / bin->rows, bin->observed / bin->rows, bin->rows};
	*bin = (struct figures_bin){0};
}

static void walk_rows(const struct judge *judge, const uint8_t *weights, struct walk *walk, struct figures_bin *bins)
{
	const struct ranked *ranked = judge->ranked;
	struct figures_bin bin = {0};
	size_t bin_number = 0, bin_end = judge->count / FIGURES_BINS;

	for (size_t i = 0, next; i < judge->count; i = next) {
		double negatives = 0, here = 0;

		for (next = i; next < judge->count && ranked[next].score == ranked[i].score; next++) {
			const struct ranked *row = &ranked[next];
			double weight = weight_of(weights, row->user);

			while (next >= bin_end) {
				close_bin(walk, &bin, bins ? &bins[bin_number] : NULL);
				bin_end = judge->count * (++bin_number + 1) / FIGURES_BINS;
			}
			bin.rows += weight;
			bin.predicted += weight * (double)row->p;
			bin.observed += row->positive ? weight : 0;
			here += row->positive ? weight : 0;
			negatives += row->positive ? 0 : weight;
			walk->loss += weight * row->loss;
			walk->layers += weight * row->layer;
		}
		walk->won += here * (walk->below + negatives / 2);
		walk->below += negatives;
		walk->positives += here;
		walk->rows += here + negatives;
	}
	if (judge->count)
		close_bin(walk, &bin, bins ? &bins[bin_number] : NULL);
}

void judge_take(struct judge *judge, const uint8_t *weights, struct figures *out, struct figures_bin *bins)
{
	const struct answers *answers = judge->answers;
	struct walk walk = {0};
	struct figures figures;
	double share, ignored;

	for (size_t i = 0; bins && i < FIGURES_BINS; i++)
		bins[i] = (struct figures_bin){0};
	walk_rows(judge, weights, &walk, bins);
	share = walk.positives / walk.rows;
	figures.rows = walk.rows;
	figures.positives = walk.positives;
	figures.value[FIGURE_AUC] = walk.positives > 0 && walk.below > 0 ?
				    walk.won / (walk.positives * walk.below) : NAN;
	figures.value[FIGURE_USER_AUC] = mean_inner(judge->users, answers->users, weights, true, false, &ignored);
	figures.value[FIGURE_FIRST] = mean_inner(judge->impressions, answers->impressions_count, weights, false, true,
						 &ignored);
	figures.value[FIGURE_IMPRESSION_AUC] = mean_inner(judge->impressions, answers->impressions_count, weights,
							  false, false, &figures.pairs_impressions);
	figures.value[FIGURE_LOG_LOSS] = walk.rows > 0 && judge->probabilities ? walk.loss / walk.rows : NAN;
	figures.value[FIGURE_ENTROPY] = share > 0 && share < 1 ? figures.value[FIGURE_LOG_LOSS] /
					(-share * log(share) - (1 - share) * log1p(-share)) : NAN;
	figures.value[FIGURE_CALIBRATION] = walk.rows > 0 && judge->probabilities ? walk.calibration / walk.rows : NAN;
	figures.value[FIGURE_DEPTH] = walk.rows > 0 && judge->probabilities ? walk.layers / walk.rows : NAN;
	*out = figures;
}

void judge_roc(const struct judge *judge, size_t points, double *false_rate, double *true_rate)
{
	const struct ranked *ranked = judge->ranked;
	double positives = 0, negatives, taken_positives = 0, taken_negatives = 0;
	size_t at = judge->count;

	for (size_t i = 0; i < judge->count; i++)
		positives += ranked[i].positive;
	negatives = (double)judge->count - positives;
	for (size_t point = 0; point <= points; point++) {
		size_t until = judge->count - judge->count * point / points;

		/* Equal scores are above the threshold together. */
		while (at > until || (at > 0 && at < judge->count && ranked[at - 1].score == ranked[at].score)) {
			bool positive = ranked[--at].positive;
			taken_positives += positive;
			taken_negatives += !positive;
		}
		false_rate[point] = negatives > 0 ? taken_negatives / negatives : 0;
		true_rate[point] = positives > 0 ? taken_positives / positives : 0;
	}
}

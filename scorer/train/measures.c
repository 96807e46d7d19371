/* measures.c - rank statistics by sorting, everything else by sums in row order. Caller: fit.c. */
#include "scorer/train/measures.h"

#include "base/mem.h"
#include "scorer/train/objective.h"

#include <stdlib.h>

struct scored {
	double z;
	bool positive;
};

static int by_score(const void *left, const void *right)
{
	const struct scored *a = left, *b = right;
	if (a->z != b->z)
		return a->z < b->z ? -1 : 1;
	return (int)a->positive - (int)b->positive;
}

double measures_impression_auc(const double *z, const float *labels, size_t count)
{
	double won = 0, pairs = 0;
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < count; j++)
			if (labels[i] > .5f && labels[j] <= .5f) {
				won += z[i] > z[j] ? 1 : z[i] < z[j] ? 0 : .5;
				pairs += 1;
			}
	return pairs > 0 ? won / pairs : NAN;
}

/* Its share of being first: 1 / (number of highest) for every taken one among the highest. */
static double first_share(const double *z, const float *labels, size_t count)
{
	double most = -INFINITY, highest = 0, taken = 0;
	for (size_t i = 0; i < count; i++)
		if (!isnan(labels[i]))
			most = fmax(most, z[i]);
	for (size_t i = 0; i < count; i++)
		if (!isnan(labels[i]) && z[i] == most) {
			highest += 1;
			taken += labels[i] > .5f;
		}
	return highest > 0 ? taken / highest : 0;
}

static double rank_auc(const struct scored *rows, size_t count, double positives)
{
	double rank_sum = 0;
	for (size_t i = 0, next; i < count; i = next) {
		for (next = i; next < count && rows[next].z == rows[i].z;)
			next++;
		for (size_t k = i; k < next; k++)
			rank_sum += rows[k].positive ? ((double)i + (double)next + 1) / 2 : 0;
	}
	double negatives = (double)count - positives;
	return positives > 0 && negatives > 0 ?
		       (rank_sum - positives * (positives + 1) / 2) / (positives * negatives) : NAN;
}

static void fill_bins(const struct scored *rows, size_t count, struct measures *out)
{
	out->calibration_error = 0;
	for (size_t b = 0; b < MEASURES_BINS; b++) {
		size_t begin = count * b / MEASURES_BINS, end = count * (b + 1) / MEASURES_BINS;
		struct measures_bin *bin = &out->bins[b];
		*bin = (struct measures_bin){.rows = end - begin};
		for (size_t i = begin; i < end; i++) {
			bin->predicted += objective_sigmoid(rows[i].z);
			bin->observed += rows[i].positive;
		}
		if (!bin->rows)
			continue;
		out->calibration_error += fabs(bin->predicted - bin->observed) / (double)count;
		bin->predicted /= (double)bin->rows;
		bin->observed /= (double)bin->rows;
	}
}

enum status measures_take(const struct dataset *data, struct dataset_list list, const double *z,
			  struct measures *out, struct error *error)
{
	size_t rows_max = 0, count = 0, both = 0;
	for (size_t k = 0; k < list.count; k++) {
		uint32_t i = list.impressions[k];
		rows_max += (size_t)(data->first[i + 1] - data->first[i]);
	}
	struct scored *rows = mem_alloc_array(rows_max, sizeof *rows);
	if (!rows)
		return error_set(error, STATUS_NO_MEMORY, "no memory to judge %zu rows", rows_max);
	struct measures m = {0};
	double positives = 0;
	for (size_t k = 0; k < list.count; k++) {
		size_t begin = (size_t)data->first[list.impressions[k]];
		size_t size = (size_t)data->first[list.impressions[k] + 1] - begin;
		double auc = measures_impression_auc(z + begin, data->labels + begin, size);
		if (!isnan(auc)) {
			both++;
			m.impression_auc += auc;
			m.first += first_share(z + begin, data->labels + begin, size);
		}
		for (size_t r = begin; r < begin + size; r++) {
			if (isnan(data->labels[r]))
				continue;
			rows[count] = (struct scored){z[r], data->labels[r] > .5f};
			positives += rows[count++].positive;
			m.log_loss += objective_log_loss(z[r], (double)data->labels[r]);
		}
	}
	qsort(rows, count, sizeof *rows, by_score);
	m.rows = count;
	m.impressions = both;
	m.positives = count ? positives / (double)count : NAN;
	m.auc = rank_auc(rows, count, positives);
	m.impression_auc = both ? m.impression_auc / (double)both : NAN;
	m.first = both ? m.first / (double)both : NAN;
	m.log_loss = count ? m.log_loss / (double)count : NAN;
	double entropy = -m.positives * log(m.positives) - (1 - m.positives) * log(1 - m.positives);
	m.normalised_entropy = entropy > 0 ? m.log_loss / entropy : NAN;
	fill_bins(rows, count, &m);
	mem_free(rows);
	*out = m;
	return STATUS_OK;
}

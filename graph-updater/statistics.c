/* statistics.c - the table of statistics.h, formula by formula.
 *
 * Invariant: every sum of doubles runs over edges in the order (time, id bytes) in which the graph keeps
 * them; everything that is summed in another order (words, dot products) is an integer. What does not
 * depend on the candidate is read and computed once a user. Called by enrich.c, owner thread. */
#include "graph-updater/statistics.h"

#include "graph-updater/postings.h"

#include <math.h>
#include <stdio.h>

enum { NAME_BYTES_MAX = 256, CANDIDATE_STATISTICS_MAX =
	CANDIDATE_STATISTICS + ATTRIBUTES_MAX * ATTRIBUTE_STATISTICS };

/* Pseudo-counts and weights of the table. */
static const double general_prior = .7, general_count = 50;
static const double user_count = 5, item_count = 3, attribute_count = 10;
static const double user_residual_count = 3, item_residual_count = 5;
static const double recent_factor = .3;
static const double similar_items_damp = .3, similar_raters_damp = 1, similar_texts_damp = .1;
static const double affinity_damp = 2;

static const char *const user_names[USER_STATISTICS] = {
	"user_mean", "user_log_count", "user_residual", "user_recent",
};
static const char *const candidate_names[CANDIDATE_STATISTICS] = {
	"item_mean", "item_log_count", "item_residual", "similar_items", "similar_items_weight",
	"similar_raters", "similar_raters_weight", "similar_texts", "similar_texts_weight",
	"similar_texts_max",
};
static const char *const attribute_suffixes[ATTRIBUTE_STATISTICS] = {"mean", "affinity", "log_match"};

/* The user's last edges, oldest first. */
struct past {
	uint32_t count;
	double deviation[PAST_MAX];             /* d_j */
	const int16_t *embedding[PAST_MAX];     /* item's own; NULL: none */
	int64_t norm[PAST_MAX];
	int64_t word_norm[PAST_MAX];            /* sum of word weights */
};

struct statistics {
	struct statistics_sources from;
	uint32_t dimensions;
	size_t attributes;                      /* configured names */
	char *attribute_names;                  /* [attributes * 3 * NAME_BYTES_MAX] */
	const char *names[CANDIDATE_STATISTICS_MAX];
	size_t names_count;

	/* of the user read last */
	int64_t time_ms;
	double general;                         /* G */
	double log_documents;
	struct past past;
	const int16_t *user_embedding;
	int64_t user_norm;
	struct postings words;
	struct postings values[ATTRIBUTES_MAX];
};

static enum status name_statistics(struct statistics *statistics, struct error *error)
{
	const struct attributes *attributes = statistics->from.attributes;
	size_t used = 0;

	memcpy(statistics->names, candidate_names, sizeof candidate_names);
	statistics->names_count = CANDIDATE_STATISTICS;
	statistics->attribute_names =
		mem_alloc_array(statistics->attributes * ATTRIBUTE_STATISTICS, NAME_BYTES_MAX);
	if (!statistics->attribute_names)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the names of statistics");
	for (size_t i = 0; i < statistics->attributes; i++) {
		for (int j = 0; j < ATTRIBUTE_STATISTICS; j++) {
			char *name = statistics->attribute_names + used++ * NAME_BYTES_MAX;
			int length = snprintf(name, NAME_BYTES_MAX, "%s_%s",
					      attributes_name(attributes, i), attribute_suffixes[j]);
			if (length >= NAME_BYTES_MAX)
				return error_set(error, STATUS_CONFIG,
						 "statistics.attributes: the name \"%.32s...\" is longer than "
						 "%d bytes", name, NAME_BYTES_MAX - 16);
			statistics->names[statistics->names_count++] = name;
		}
	}
	return STATUS_OK;
}

enum status statistics_create(const struct statistics_sources *sources, struct statistics **out,
			      struct error *error)
{
	struct statistics *statistics = mem_alloc_zero(1, sizeof *statistics);
	enum status status;
	bool room;

	if (!statistics)
		return error_set(error, STATUS_NO_MEMORY, "no memory for statistics");
	statistics->from = *sources;
	statistics->dimensions = gcn_dimensions(sources->gcn);
	statistics->attributes = attributes_count(sources->attributes);
	status = name_statistics(statistics, error);
	if (status)
		goto cleanup;
	room = postings_create(&statistics->words, PAST_MAX * WORDS_PER_TITLE_MAX);
	for (size_t i = 0; i < statistics->attributes && room; i++)
		room = postings_create(&statistics->values[i], PAST_MAX * ATTRIBUTE_VALUES_MAX);
	if (room)
		*out = statistics;
	else
		status = error_set(error, STATUS_NO_MEMORY, "no memory for statistics");
cleanup:
	if (status)
		statistics_destroy(statistics);
	return status;
}

void statistics_destroy(struct statistics *statistics)
{
	if (!statistics)
		return;
	postings_destroy(&statistics->words);
	for (size_t i = 0; i < ATTRIBUTES_MAX; i++)
		postings_destroy(&statistics->values[i]);
	mem_free(statistics->attribute_names);
	mem_free(statistics);
}

const char *const *statistics_user_names(const struct statistics *statistics, size_t *count)
{
	(void)statistics;
	*count = USER_STATISTICS;
	return user_names;
}

const char *const *statistics_candidate_names(const struct statistics *statistics, size_t *count)
{
	*count = statistics->names_count;
	return statistics->names;
}

/* ---- means ---- */

/* (Sv + pseudo * prior) / (n + pseudo); sum in units of 1/RESPONSE_ONE. */
static double damped_mean(int64_t sum, uint64_t n, double pseudo, double prior)
{
	return ((double)sum / RESPONSE_ONE + pseudo * prior) / ((double)n + pseudo);
}

/* The other side's mean without this edge. */
static double item_mean_without(const struct statistics *s, const struct edge *edge)
{
	struct item_id item = {edge->other};
	uint32_t n = graph_item_raters(s->from.graph, item).count;

	return damped_mean((int64_t)graph_item_response(s->from.graph, item) - edge_response(edge), n - 1,
			   item_count, s->general);
}

static double user_mean_without(const struct statistics *s, struct user_id user, uint32_t response)
{
	uint32_t n;

	graph_user_edges(s->from.graph, user, &n);
	return damped_mean((int64_t)graph_user_response(s->from.graph, user) - response, n - 1,
			   user_count, s->general);
}

/* The last `most` of the edges that are strictly older than the impression. */
static const struct edge *last_before(const struct edge *edges, uint32_t *count, int64_t time_ms,
				      uint32_t most)
{
	uint32_t before = graph_edges_before(edges, *count, time_ms);

	*count = before < most ? before : most;
	return edges ? edges + (before - *count) : NULL;
}

/* ---- the user ---- */

/* Which of the user's last edges have which word or value. */
static void index_terms(struct postings *postings, const struct terms *terms, const struct edge *edges,
			uint32_t count)
{
	const uint32_t *list[PAST_MAX];
	uint32_t size[PAST_MAX], total = 0;

	for (uint32_t j = 0; j < count; j++) {
		list[j] = terms_of(terms, (struct item_id){edges[j].other}, &size[j]);
		total += size[j];
	}
	postings_begin(postings, total);
	for (uint32_t j = 0; j < count; j++)
		for (uint32_t i = 0; i < size[j]; i++)
			postings_add(postings, list[j][i], j);
}

static int64_t word_norm(const struct statistics *s, struct item_id item)
{
	uint32_t count;
	const uint32_t *list = terms_of(words_terms(s->from.words), item, &count);
	int64_t sum = 0;

	for (uint32_t i = 0; i < count; i++)
		sum += words_weight(s->from.words, list[i], s->log_documents);
	return sum;
}

static void read_past(struct statistics *s, const struct edge *edges, uint32_t count)
{
	struct past *past = &s->past;

	past->count = count;
	for (uint32_t j = 0; j < count; j++) {
		struct item_id item = {edges[j].other};
		terms_prefetch(words_terms(s->from.words), item);
		for (size_t a = 0; a < s->attributes; a++)
			terms_prefetch(attributes_terms(s->from.attributes, a), item);
		past->embedding[j] = gcn_item_embedding(s->from.gcn, item);
		past->norm[j] = gcn_item_norm(s->from.gcn, item);
		for (uint32_t d = 0; past->embedding[j] && d < s->dimensions; d += 32)
			__builtin_prefetch(past->embedding[j] + d);
	}
	index_terms(&s->words, words_terms(s->from.words), edges, count);
	for (size_t a = 0; a < s->attributes; a++)
		index_terms(&s->values[a], attributes_terms(s->from.attributes, a), edges, count);
	for (uint32_t j = 0; j < count; j++)
		past->word_norm[j] = word_norm(s, (struct item_id){edges[j].other});
}

void statistics_user(struct statistics *s, const struct user_id *user, int64_t time_ms, float *out)
{
	struct graph_counts all = graph_get_counts(s->from.graph);
	uint32_t documents = catalog_count(s->from.catalog), lifetime = 0, count = 0;
	const struct edge *edges = NULL;
	double residuals = 0, residual, recent;

	s->time_ms = time_ms;
	s->general = damped_mean((int64_t)all.response, all.edges, general_count, general_prior);
	s->log_documents = documents ? log(documents) : 0;
	s->user_embedding = user ? gcn_user_embedding(s->from.gcn, *user) : NULL;
	s->user_norm = user ? gcn_user_norm(s->from.gcn, *user) : 0;
	if (user) {
		edges = graph_user_edges(s->from.graph, *user, &lifetime);
		count = lifetime;
		edges = last_before(edges, &count, time_ms, PAST_MAX);
	}
	read_past(s, edges, count);

	recent = s->general;
	for (uint32_t j = 0; j < count; j++) {
		double response = (double)edge_response(&edges[j]) / RESPONSE_ONE;
		s->past.deviation[j] = response - item_mean_without(s, &edges[j]);
		residuals += s->past.deviation[j];
		recent += recent_factor * (response - recent);
	}
	residual = residuals / (count + user_residual_count);
	for (uint32_t j = 0; j < count; j++)
		s->past.deviation[j] -= residual;

	out[USER_MEAN] = (float)damped_mean(user ? (int64_t)graph_user_response(s->from.graph, *user) : 0,
					    lifetime, user_count, s->general);
	out[USER_LOG_COUNT] = (float)log1p(lifetime);
	out[USER_RESIDUAL] = (float)residual;
	out[USER_RECENT] = (float)recent;
}

/* ---- a candidate ---- */

/* item_residual and similar_raters. */
static void raters_statistics(const struct statistics *s, struct item_id item, float *out)
{
	const int16_t *embedding[RATERS_MAX];
	double deviation[RATERS_MAX], residuals = 0, residual, sum = 0, weights = 0;
	struct graph_raters raters = graph_item_raters(s->from.graph, item);
	uint32_t before = graph_raters_before(s->from.graph, item, s->time_ms);
	uint32_t count = before < RATERS_MAX ? before : RATERS_MAX;
	const struct user_id *users = count ? raters.users + (before - count) : NULL;
	const uint16_t *responses = count ? raters.responses + (before - count) : NULL;

	for (uint32_t w = 0; w < count; w++) {
		embedding[w] = gcn_user_embedding(s->from.gcn, users[w]);
		for (uint32_t d = 0; embedding[w] && d < s->dimensions; d += 32)
			__builtin_prefetch(embedding[w] + d);
	}
	for (uint32_t w = 0; w < count; w++) {
		uint32_t response = rater_response(responses[w]);
		deviation[w] = (double)response / RESPONSE_ONE - user_mean_without(s, users[w], response);
		residuals += deviation[w];
	}
	residual = residuals / (count + item_residual_count);
	for (uint32_t w = 0; w < count && s->user_embedding; w++) {
		double cosine, cube;
		if (!embedding[w])
			continue;
		cosine = gcn_cosine(gcn_dot(s->user_embedding, embedding[w], s->dimensions), s->user_norm,
				    gcn_user_norm(s->from.gcn, users[w]));
		if (cosine <= 0)
			continue;
		cube = cosine * cosine * cosine;
		sum += cube * (deviation[w] - residual);
		weights += cube;
	}
	out[ITEM_RESIDUAL] = (float)residual;
	out[SIMILAR_RATERS] = (float)(sum / (weights + similar_raters_damp));
	out[SIMILAR_RATERS_WEIGHT] = (float)weights;
}

static void similar_items(const struct statistics *s, struct item_id item, float *out)
{
	const int16_t *embedding = gcn_item_embedding(s->from.gcn, item);
	int64_t norm = gcn_item_norm(s->from.gcn, item);
	double sum = 0, weights = 0;

	for (uint32_t j = 0; j < s->past.count && embedding; j++) {
		double cosine, square;
		if (!s->past.embedding[j])
			continue;
		cosine = gcn_cosine(gcn_dot(embedding, s->past.embedding[j], s->dimensions), norm,
				    s->past.norm[j]);
		if (cosine <= 0)
			continue;
		square = cosine * cosine;
		sum += square * square * s->past.deviation[j];
		weights += square * square;
	}
	out[SIMILAR_ITEMS] = (float)(sum / (weights + similar_items_damp));
	out[SIMILAR_ITEMS_WEIGHT] = (float)weights;
}

static void similar_texts(const struct statistics *s, struct item_id item, float *out)
{
	int64_t dot[PAST_MAX] = {0}, norm = 0;
	uint32_t words;
	const uint32_t *list = terms_of(words_terms(s->from.words), item, &words);
	double sum = 0, weights = 0, most = 0;

	for (uint32_t i = 0; i < words; i++) {
		int64_t weight = words_weight(s->from.words, list[i], s->log_documents);
		norm += weight;
		for (uint32_t p = postings_first(&s->words, list[i]); p; p = s->words.entries[p - 1].next)
			dot[s->words.entries[p - 1].edge] += weight;
	}
	for (uint32_t j = 0; j < s->past.count; j++) {
		double cosine;
		if (!dot[j])
			continue;
		cosine = (double)dot[j] / (sqrt((double)norm) * sqrt((double)s->past.word_norm[j]));
		cosine = cosine > 1 ? 1 : cosine;
		sum += cosine * cosine * s->past.deviation[j];
		weights += cosine * cosine;
		most = cosine > most ? cosine : most;
	}
	out[SIMILAR_TEXTS] = (float)(sum / (weights + similar_texts_damp));
	out[SIMILAR_TEXTS_WEIGHT] = (float)weights;
	out[SIMILAR_TEXTS_MAX] = (float)most;
}

static void attribute_statistics(const struct statistics *s, size_t name, struct item_id item, float *out)
{
	const struct terms *terms = attributes_terms(s->from.attributes, name);
	uint32_t common[PAST_MAX] = {0}, count;
	const uint32_t *values = terms_of(terms, item, &count);
	double mean = 0, sum = 0, matches = 0;

	for (uint32_t i = 0; i < count; i++) {
		const struct term *term = terms_get(terms, values[i]);
		mean += damped_mean(term->sum, term->count, attribute_count, s->general);
		for (uint32_t p = postings_first(&s->values[name], values[i]); p;
		     p = s->values[name].entries[p - 1].next)
			common[s->values[name].entries[p - 1].edge]++;
	}
	for (uint32_t j = 0; j < s->past.count; j++) {
		double match;
		if (!common[j])
			continue;
		match = (double)common[j] / count;
		sum += match * s->past.deviation[j];
		matches += match;
	}
	out[ATTRIBUTE_MEAN] = (float)(count ? mean / count : s->general);
	out[ATTRIBUTE_AFFINITY] = (float)(sum / (matches + affinity_damp));
	out[ATTRIBUTE_LOG_MATCH] = (float)log1p(matches);
}

void statistics_candidate(struct statistics *s, const struct item_id *item, float *out)
{
	uint32_t n = 0;

	memset(out, 0, s->names_count * sizeof *out);
	out[ITEM_MEAN] = (float)s->general;
	for (size_t a = 0; a < s->attributes; a++)
		out[CANDIDATE_STATISTICS + a * ATTRIBUTE_STATISTICS + ATTRIBUTE_MEAN] = (float)s->general;
	if (!item)
		return;
	n = graph_item_raters(s->from.graph, *item).count;
	out[ITEM_MEAN] = (float)damped_mean((int64_t)graph_item_response(s->from.graph, *item), n,
					    item_count, s->general);
	out[ITEM_LOG_COUNT] = (float)log1p(n);
	raters_statistics(s, *item, out);
	similar_items(s, *item, out);
	similar_texts(s, *item, out);
	for (size_t a = 0; a < s->attributes; a++)
		attribute_statistics(s, a, *item,
				     out + CANDIDATE_STATISTICS + a * ATTRIBUTE_STATISTICS);
}

void statistics_prefetch(const struct statistics *s, struct item_id item)
{
	terms_prefetch(words_terms(s->from.words), item);
	for (size_t a = 0; a < s->attributes; a++)
		terms_prefetch(attributes_terms(s->from.attributes, a), item);
}

size_t statistics_memory_bytes(const struct statistics *s)
{
	size_t bytes = sizeof *s + s->attributes * ATTRIBUTE_STATISTICS * NAME_BYTES_MAX;
	bytes += s->words.slots_max * 8 + s->words.entries_max * sizeof(struct posting);
	for (size_t a = 0; a < s->attributes; a++)
		bytes += s->values[a].slots_max * 8 + s->values[a].entries_max * sizeof(struct posting);
	return bytes;
}

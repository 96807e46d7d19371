/* naive_statistics.h - what fresh statistics should be, straight from a list of edges: strings, doubles,
 * linear searches, no counters. It shares no code with what it tests but the embeddings' rows. */
#ifndef EXITPOLL_TESTS_NAIVE_STATISTICS_H
#define EXITPOLL_TESTS_NAIVE_STATISTICS_H

#include "schemas/event.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { NAIVE_USERS = 80, NAIVE_ITEMS = 60, NAIVE_ID = 24, NAIVE_TITLE = 80, NAIVE_WORDS = 16 };

#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

struct naive_edge {
	bool there;
	int64_t time;
	int kind;
	bool has_rating;
	double rating;          /* as given */
};

struct naive_item {
	int64_t time;           /* of the winning event; -1: none yet */
	bool there;
	char title[NAIVE_TITLE];
	char brand[NAIVE_TITLE], genre[NAIVE_TITLE];
};

struct naive_set {
	int count;
	char text[NAIVE_WORDS][NAIVE_TITLE];
};

struct naive {
	char user[NAIVE_USERS][NAIVE_ID], item[NAIVE_ITEMS][NAIVE_ID];
	struct naive_edge edge[NAIVE_USERS][NAIVE_ITEMS];
	int64_t removed[NAIVE_USERS][NAIVE_ITEMS];      /* events at or before are void; -1: none */
	struct naive_item catalog[NAIVE_ITEMS];
	/* written by naive_refresh() */
	double general;
	struct naive_set words[NAIVE_ITEMS], values[NAIVE_ITEMS][2];
	/* cosines, asked of the caller */
	double (*item_cosine)(void *context, int a, int b);
	double (*user_cosine)(void *context, int a, int b);
	void *context;
};

static inline void naive_init(struct naive *naive)
{
	memset(naive, 0, sizeof *naive);
	for (int u = 0; u < NAIVE_USERS; u++)
		for (int i = 0; i < NAIVE_ITEMS; i++)
			naive->removed[u][i] = -1;
	for (int i = 0; i < NAIVE_ITEMS; i++)
		naive->catalog[i].time = -1;
}

/* ---- the edges: winner per pair ---- */

static inline int naive_order(const struct naive_edge *a, const struct naive_edge *b)
{
	if ((a->kind == KIND_VIEW) != (b->kind == KIND_VIEW))
		return a->kind == KIND_VIEW ? -1 : 1;
	if (a->time != b->time)
		return a->time < b->time ? -1 : 1;
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	return (a->rating > b->rating) - (a->rating < b->rating);
}

static inline void naive_interaction(struct naive *naive, int user, int item, const struct naive_edge *event)
{
	struct naive_edge *edge = &naive->edge[user][item];

	if (event->kind == KIND_REMOVE) {
		if (event->time > naive->removed[user][item])
			naive->removed[user][item] = event->time;
		if (edge->there && edge->time <= event->time)
			edge->there = false;
	} else if (event->time > naive->removed[user][item] &&
		   (!edge->there || naive_order(edge, event) < 0)) {
		*edge = *event;
		edge->there = true;
	}
}

/* Of more than edges_max edges the oldest go, by (time, user id, item id). */
static inline void naive_evict(struct naive *naive, int edges_max)
{
	for (;;) {
		int count = 0, user = -1, item = -1;
		for (int u = 0; u < NAIVE_USERS; u++)
			for (int i = 0; i < NAIVE_ITEMS; i++) {
				const struct naive_edge *edge = &naive->edge[u][i];
				int64_t oldest = user < 0 ? INT64_MAX : naive->edge[user][item].time;
				int order;
				if (!edge->there)
					continue;
				count++;
				order = user < 0 ? -1 : strcmp(naive->user[u], naive->user[user]);
				if (!order)
					order = strcmp(naive->item[i], naive->item[item]);
				if (edge->time < oldest || (edge->time == oldest && order < 0)) {
					user = u;
					item = i;
				}
			}
		if (count <= edges_max)
			return;
		naive->edge[user][item].there = false;
	}
}

static inline double naive_response(const struct naive_edge *edge)
{
	double place;
	switch (edge->kind) {
	case KIND_VIEW: return 0;
	case KIND_RATE:
		place = (edge->rating - 1) / 4;
		return place < 0 ? 0 : place > 1 ? 1 : place;
	default: return 1;
	}
}

/* ---- lists: indexes of the other side, (time, id bytes), before time, the last `most` ---- */

struct naive_list {
	int count;
	int other[NAIVE_USERS + NAIVE_ITEMS];
};

/* The edge between one side's node and the other side's index o. */
static inline const struct naive_edge *naive_edge_at(const struct naive *naive, int user, int item, int o)
{
	return user >= 0 ? &naive->edge[user][o] : &naive->edge[o][item >= 0 ? item : 0];
}

static inline struct naive_list naive_list_of(const struct naive *naive, int user, int item, int64_t time,
					      int most, bool views)
{
	struct naive_list list = {0}, last = {0};
	int others = user >= 0 ? NAIVE_ITEMS : NAIVE_USERS;
	bool taken[NAIVE_USERS + NAIVE_ITEMS] = {false};

	for (;;) {
		int best = -1;
		for (int o = 0; o < others; o++) {
			const struct naive_edge *edge = naive_edge_at(naive, user, item, o);
			const struct naive_edge *least;
			const char *id, *least_id;
			if (taken[o] || !edge->there || edge->time >= time ||
			    (!views && edge->kind == KIND_VIEW))
				continue;
			if (best < 0) {
				best = o;
				continue;
			}
			least = naive_edge_at(naive, user, item, best);
			id = user >= 0 ? naive->item[o] : naive->user[o];
			least_id = user >= 0 ? naive->item[best] : naive->user[best];
			if (edge->time < least->time || (edge->time == least->time && strcmp(id, least_id) < 0))
				best = o;
		}
		if (best < 0)
			break;
		taken[best] = true;
		list.other[list.count++] = best;
	}
	for (int i = list.count > most ? list.count - most : 0; i < list.count; i++)
		last.other[last.count++] = list.other[i];
	return last;
}

/* ---- means: sums over the table each time ---- */

static inline double naive_count_general(const struct naive *naive)
{
	double sum = 0, n = 0;
	for (int u = 0; u < NAIVE_USERS; u++)
		for (int i = 0; i < NAIVE_ITEMS; i++)
			if (naive->edge[u][i].there) {
				sum += naive_response(&naive->edge[u][i]);
				n++;
			}
	return (sum + 50 * .7) / (n + 50);
}

/* user or item -1: all of that side; the pair (not_user, not_item) is left out. */
static inline double naive_mean(const struct naive *naive, int user, int item, int not_user, int not_item,
				double pseudo, double *count)
{
	double sum = 0, n = 0;
	for (int u = 0; u < NAIVE_USERS; u++)
		for (int i = 0; i < NAIVE_ITEMS; i++)
			if (naive->edge[u][i].there && (user < 0 || u == user) && (item < 0 || i == item) &&
			    !(u == not_user && i == not_item)) {
				sum += naive_response(&naive->edge[u][i]);
				n++;
			}
	if (count)
		*count = n;
	return (sum + pseudo * naive->general) / (n + pseudo);
}

/* ---- sets of strings ---- */


static inline struct naive_set naive_split(const char *text, const char *separators)
{
	struct naive_set set = {0};
	char copy[NAIVE_TITLE], *rest = copy, *part;

	snprintf(copy, sizeof copy, "%s", text);
	while ((part = strsep(&rest, separators))) {
		bool seen = !*part;
		for (int i = 0; i < set.count; i++)
			seen |= strcasecmp(set.text[i], part) == 0;
		if (!seen)
			snprintf(set.text[set.count++], NAIVE_TITLE, "%s", part);
	}
	return set;
}

static inline bool naive_has(const struct naive_set *set, const char *text)
{
	for (int i = 0; i < set->count; i++)
		if (strcasecmp(set->text[i], text) == 0)
			return true;
	return false;
}

/* To be called after changes and before questions. */
static inline void naive_refresh(struct naive *naive)
{
	naive->general = naive_count_general(naive);
	for (int i = 0; i < NAIVE_ITEMS; i++) {
		const struct naive_item *entry = &naive->catalog[i];
		naive->words[i] = naive_split(entry->there ? entry->title : "", " ,-");
		naive->values[i][0] = naive_split(entry->there ? entry->brand : "", "|");
		naive->values[i][1] = naive_split(entry->there ? entry->genre : "", "|");
	}
}

static inline double naive_rarity(const struct naive *naive, const char *word)
{
	double n = 0, df = 0;
	for (int i = 0; i < NAIVE_ITEMS; i++) {
		n += naive->catalog[i].there;
		df += naive_has(&naive->words[i], word);
	}
	return log(n / df);
}

static inline double naive_text_cosine(const struct naive *naive, int a, int b)
{
	const struct naive_set *left = &naive->words[a], *right = &naive->words[b];
	double dot = 0, left_norm = 0, right_norm = 0;

	for (int i = 0; i < left->count; i++) {
		double weight = naive_rarity(naive, left->text[i]);
		left_norm += weight * weight;
		if (naive_has(right, left->text[i]))
			dot += weight * weight;
	}
	for (int i = 0; i < right->count; i++) {
		double weight = naive_rarity(naive, right->text[i]);
		right_norm += weight * weight;
	}
	return dot > 0 ? dot / sqrt(left_norm * right_norm) : 0;
}

/* ---- the table, row by row; user or item -1: unknown ---- */

static inline double naive_user_residual(const struct naive *naive, int user, int64_t time)
{
	struct naive_list past = naive_list_of(naive, user, -1, time, 50, true);
	double sum = 0;

	for (int j = 0; j < past.count; j++)
		sum += naive_response(&naive->edge[user][past.other[j]]) -
		       naive_mean(naive, -1, past.other[j], user, past.other[j], 3, NULL);
	return sum / (past.count + 3);
}

static inline double naive_item_residual(const struct naive *naive, int item, int64_t time)
{
	struct naive_list raters = naive_list_of(naive, -1, item, time, 64, true);
	double sum = 0;

	for (int w = 0; w < raters.count; w++)
		sum += naive_response(&naive->edge[raters.other[w]][item]) -
		       naive_mean(naive, raters.other[w], -1, raters.other[w], item, 5, NULL);
	return sum / (raters.count + 5);
}

/* d_j of every item of the user's past. */
static inline double naive_deviation(const struct naive *naive, int user, int item, double residual)
{
	return naive_response(&naive->edge[user][item]) - naive_mean(naive, -1, item, user, item, 3, NULL) -
	       residual;
}

static inline void naive_user(const struct naive *naive, int user, int64_t time, double out[4])
{
	double general = naive->general, n = 0;
	struct naive_list past;

	out[0] = out[3] = general;
	out[1] = out[2] = 0;
	if (user < 0)
		return;
	past = naive_list_of(naive, user, -1, time, 50, true);
	out[0] = naive_mean(naive, user, -1, -1, -1, 5, &n);
	out[1] = log(1 + n);
	out[2] = naive_user_residual(naive, user, time);
	for (int j = 0; j < past.count; j++)
		out[3] = .7 * out[3] + .3 * naive_response(&naive->edge[user][past.other[j]]);
}

/* One attribute (0 brand, 1 genre): mean, affinity, log match. */
static inline void naive_attribute(const struct naive *naive, int user, int item, int64_t time, int attribute,
				   double out[3])
{
	const struct naive_set *values = &naive->values[item][attribute];
	struct naive_list past = {0};
	double mean = 0, sum = 0, matches = 0, residual = 0;

	for (int a = 0; a < values->count; a++) {
		double responses = 0, n = 0;
		for (int i = 0; i < NAIVE_ITEMS; i++) {
			if (!naive_has(&naive->values[i][attribute], values->text[a]))
				continue;
			for (int u = 0; u < NAIVE_USERS; u++)
				if (naive->edge[u][i].there) {
					responses += naive_response(&naive->edge[u][i]);
					n++;
				}
		}
		mean += (responses + 10 * naive->general) / (n + 10);
	}
	if (user >= 0) {
		past = naive_list_of(naive, user, -1, time, 50, true);
		residual = naive_user_residual(naive, user, time);
	}
	for (int j = 0; j < past.count; j++) {
		const struct naive_set *other = &naive->values[past.other[j]][attribute];
		double common = 0;
		for (int a = 0; a < values->count; a++)
			common += naive_has(other, values->text[a]);
		if (common == 0)
			continue;
		sum += common / values->count * naive_deviation(naive, user, past.other[j], residual);
		matches += common / values->count;
	}
	out[0] = values->count ? mean / values->count : naive->general;
	out[1] = sum / (matches + 2);
	out[2] = log(1 + matches);
}

static inline void naive_candidate(const struct naive *naive, int user, int item, int64_t time, double out[16])
{
	double n = 0, residual = 0, sum = 0, weights = 0;
	struct naive_list past = {0}, raters;

	for (int k = 0; k < 16; k++)
		out[k] = 0;
	out[0] = out[10] = out[13] = naive->general;
	if (item < 0)
		return;
	raters = naive_list_of(naive, -1, item, time, 64, true);
	out[0] = naive_mean(naive, -1, item, -1, -1, 3, &n);
	out[1] = log(1 + n);
	out[2] = naive_item_residual(naive, item, time);
	if (user >= 0) {
		past = naive_list_of(naive, user, -1, time, 50, true);
		residual = naive_user_residual(naive, user, time);
	}
	for (int j = 0; j < past.count; j++) {
		double c = naive->item_cosine(naive->context, item, past.other[j]);
		c = c > 0 ? pow(c, 4) : 0;
		sum += c * naive_deviation(naive, user, past.other[j], residual);
		weights += c;
	}
	out[3] = sum / (weights + .3);
	out[4] = weights;
	sum = weights = 0;
	for (int w = 0; w < raters.count; w++) {
		double c = user >= 0 ? naive->user_cosine(naive->context, user, raters.other[w]) : 0;
		c = c > 0 ? pow(c, 3) : 0;
		sum += c * (naive_response(&naive->edge[raters.other[w]][item]) -
			    naive_mean(naive, raters.other[w], -1, raters.other[w], item, 5, NULL) - out[2]);
		weights += c;
	}
	out[5] = sum / (weights + 1);
	out[6] = weights;
	sum = weights = 0;
	for (int j = 0; j < past.count; j++) {
		double t = naive_text_cosine(naive, item, past.other[j]);
		sum += t * t * naive_deviation(naive, user, past.other[j], residual);
		weights += t * t;
		out[9] = t > out[9] ? t : out[9];
	}
	out[7] = sum / (weights + .1);
	out[8] = weights;
	naive_attribute(naive, user, item, time, 0, out + 10);
	naive_attribute(naive, user, item, time, 1, out + 13);
}

#endif

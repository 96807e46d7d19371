/* statistics.h - fresh statistics: what the edges say about a user and about each candidate, now.
 *
 * All are functions of the edges, the catalog and (similar items, similar raters) the embeddings of the
 * last flush, computed at enrichment in doubles, summed in the order (time, id bytes), and given as
 * float32. Nothing depends on internal ids, on how events were grouped, or on vector width.
 *
 * Notation. v in [0,1]: response of an edge (VIEW 0). n, Sv: number and sum of responses over *all*
 * edges that the state holds. The user's last PAST_MAX edges (j) and the item's last RATERS_MAX edges
 * (w) are those strictly before the impression's time. So at an impression's own place in the order
 * everything is exact as of it; for a late one the counters are those of the state as it is, while
 * the edges at or after its time are not looked at one by one.
 *   G   = (Sv + 50 * .7) / (N + 50) over all edges of the graph
 *   m_u = (Sv + 5 G) / (n + 5),  m_i = (Sv + 3 G) / (n + 3);  m^-x leaves x's own edge out of Sv and n
 *   r_j = v_uj - m_j^-u,  d_j = r_j - b_u;  r_w = v_wi - m_w^-i,  d_w = r_w - b_i
 *   c   = max(0, cosine of the embeddings); 0 where one has none
 *
 *   user_mean              m_u
 *   user_log_count         log(1 + n)
 *   user_residual          b_u = sum_j r_j / (count_j + 3)
 *   user_recent            e = G, then e += .3 (v - e), oldest to newest of the last PAST_MAX
 *   item_mean              m_i
 *   item_log_count         log(1 + n)
 *   item_residual          b_i = sum_w r_w / (count_w + 5)
 *   similar_items          sum_j c_ij^4 d_j / (sum c^4 + .3)
 *   similar_items_weight   sum_j c_ij^4
 *   similar_raters         sum_w c_uw^3 d_w / (sum c^3 + 1)
 *   similar_raters_weight  sum_w c_uw^3
 *   similar_texts          sum_j t_ij^2 d_j / (sum t^2 + .1);  t: cosine of the titles' word sets, each
 *                          word weighted by log(N / df) over the catalog (words.h)
 *   similar_texts_weight   sum_j t_ij^2
 *   similar_texts_max      max_j t_ij
 * and for each configured attribute A:
 *   A_mean                 mean over the item's values a of (Sv_a + 10 G) / (n_a + 10); G without values
 *   A_affinity             sum_j match_ij d_j / (sum match + 2);  match: share of i's values that j has
 *   A_log_match            log(1 + sum match)
 *
 * What is missing is 0; means fall back to G. An edge of this very user with this very item counts like
 * any other. Owner thread; the scratch of one user lives in the struct. */
#ifndef EXITPOLL_GRAPH_UPDATER_STATISTICS_H
#define EXITPOLL_GRAPH_UPDATER_STATISTICS_H

#include "graph-updater/attributes.h"
#include "graph-updater/catalog.h"
#include "graph-updater/gcn.h"
#include "graph-updater/graph.h"
#include "graph-updater/words.h"

enum { PAST_MAX = 50, RATERS_MAX = 64 };

enum user_statistic { USER_MEAN, USER_LOG_COUNT, USER_RESIDUAL, USER_RECENT, USER_STATISTICS };

enum candidate_statistic {
	ITEM_MEAN, ITEM_LOG_COUNT, ITEM_RESIDUAL,
	SIMILAR_ITEMS, SIMILAR_ITEMS_WEIGHT, SIMILAR_RATERS, SIMILAR_RATERS_WEIGHT,
	SIMILAR_TEXTS, SIMILAR_TEXTS_WEIGHT, SIMILAR_TEXTS_MAX,
	CANDIDATE_STATISTICS,           /* then three for each attribute */
};
enum attribute_statistic { ATTRIBUTE_MEAN, ATTRIBUTE_AFFINITY, ATTRIBUTE_LOG_MATCH, ATTRIBUTE_STATISTICS };

/* Where the numbers come from; all borrowed, must outlive. */
struct statistics_sources {
	const struct graph *graph;
	const struct catalog *catalog;
	const struct gcn *gcn;
	const struct words *words;
	const struct attributes *attributes;
};

struct statistics;
enum status statistics_create(const struct statistics_sources *sources, struct statistics **out,
			      struct error *error);
void statistics_destroy(struct statistics *statistics); /* NULL ok */

const char *const *statistics_user_names(const struct statistics *statistics, size_t *count);
const char *const *statistics_candidate_names(const struct statistics *statistics, size_t *count);

/* Reads the user (NULL: not known) as of an impression at time_ms and writes out [user count]. */
void statistics_user(struct statistics *statistics, const struct user_id *user, int64_t time_ms,
		     float *out);
/* A candidate (NULL: not known) of the user read last; out [candidate count]. The state must not have
 * changed since. */
void statistics_candidate(struct statistics *statistics, const struct item_id *item, float *out);
/* Hint: this item is the candidate after next. */
void statistics_prefetch(const struct statistics *statistics, struct item_id item);

size_t statistics_memory_bytes(const struct statistics *statistics);

#endif

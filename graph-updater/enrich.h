/* enrich.h - from an impression to a scoring request: history, similar users, fresh statistics, texts.
 *
 * Implements updater_enrich(), updater_prepare() and the statistics names of updater.h, and the
 * enrichment_* of updater_internal.h. The request is a function of the graph, the catalog, the embeddings
 * of the last flush and the impression, never of internal ids or of how events were grouped.
 *
 * What every case gets (each is tested):
 *   history            the user's last history_max interactions strictly before the impression's time,
 *                      oldest first, ties by item id bytes; a VIEW is not history, and at most the last
 *                      ENRICH_LOOK_BACK_MAX edges are looked at for others
 *   examples           the examples_max most similar users of the last flush, most similar first, each
 *                      with the last example_history_max interactions by the same rule; one who has lost
 *                      all edges is not among them; one who has nothing to show before the impression's
 *                      time (late impressions) is left out and not replaced
 *   texts              the title as the catalog keeps it: repaired, cut to item.text_bytes_max and counted
 *                      there (1 MB and invalid UTF-8 titles included). Attributes reach the model through
 *                      the statistics alone. No entry, a deleted one, an empty title: empty text
 *   unknown user       no edge strictly before the impression's time (never seen, erased, all removed):
 *                      status UNKNOWN_USER, no history, no examples, user statistics from G
 *   unknown item       the candidate stays: empty text, item_mean = G, the rest 0
 *   deleted item       its edges stay and count, its text, words and attributes are gone
 *   repeated candidate each occurrence is answered, with equal texts and statistics
 *   no candidates      status NO_CANDIDATES; history, examples and user statistics as ever
 *   10,000 candidates  where the encoded request is larger than request_bytes_max all its texts are cut to
 *                      the same number of bytes, halved until it fits (down to none): TRUNCATED. If that
 *                      is not enough the request is given as it is; the sink's limit refuses it
 *   late               status LATE; edges at or after the impression's time appear in no list
 *                      (statistics.h says what holds for the counters)
 * Of several statuses the last in the order of enum prediction_status is given. */
#ifndef EXITPOLL_GRAPH_UPDATER_ENRICH_H
#define EXITPOLL_GRAPH_UPDATER_ENRICH_H

#include "graph-updater/attributes.h"
#include "graph-updater/neighbours.h"
#include "graph-updater/statistics.h"
#include "graph-updater/updater_internal.h"
#include "graph-updater/words.h"

enum {
	ENRICH_LOOK_BACK_MAX = 65536,
	/* Bounds of the enrichment.* options. */
	ENRICH_HISTORY_MAX = 1024,
	ENRICH_EXAMPLES_MAX = NEAREST_MAX,
};

struct enrichment {
	const struct updater *updater;
	struct words *words;
	struct attributes *attributes;
	struct statistics *statistics;
	struct neighbours *neighbours;
	size_t user_statistics, candidate_statistics;
	uint64_t cut_texts;                     /* by the limit of a request */
	uint64_t enrichments, enrich_ns;        /* time without that of searches for neighbours */
};

#endif

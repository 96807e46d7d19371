/* inspect.h - what the state knows of one user or one item, for a person to read. Texts live in the
 * updater until its next event, arrays in the arena. Owner thread. */
#ifndef EXITPOLL_GRAPH_UPDATER_INSPECT_H
#define EXITPOLL_GRAPH_UPDATER_INSPECT_H

#include "base/status.h"
#include "schemas/event.h"

struct updater;

struct inspect_edge {
	struct text_view id;            /* of the other side */
	struct text_view title;         /* of the item (of a user's edges); empty: unknown */
	enum interaction_kind kind;
	bool has_rating;
	float rating;
	double response;                /* v of section 3 */
	int64_t event_time_ms;
};

struct inspect_neighbour {
	struct text_view id;
	double cosine;
};

struct inspect_node {
	struct text_view id;
	struct text_view title;                 /* items */
	const struct attribute *attributes;     /* [attributes_count], items */
	size_t attributes_count;
	uint32_t edges;                         /* all */
	uint32_t gcn_edges;                     /* of them, those of the GCN */
	double mean_response;                   /* of all; 0 without edges */
	double length;                          /* of the embedding, 1.0 = a seed's component; 0: none */
	const struct inspect_edge *last;        /* [last_count], newest first */
	size_t last_count;
	const struct inspect_neighbour *neighbours;     /* [neighbours_count], users only, nearest first */
	size_t neighbours_count;
};

/* STATUS_NOT_FOUND: nothing is known under this id. */
enum status inspect_user(const struct updater *updater, struct text_view id, uint32_t last_max,
			 uint32_t neighbours_max, struct arena *arena, struct inspect_node *out,
				 struct error *error);
enum status inspect_item(const struct updater *updater, struct text_view id, uint32_t last_max,
			 struct arena *arena,
			 struct inspect_node *out, struct error *error);

#endif

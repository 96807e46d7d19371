/* names.h - strings to dense numbers and back, for the ids of a data set. Numbers are given out in order
 * of arrival. One thread. */
#ifndef EXITPOLL_PRODUCER_NAMES_H
#define EXITPOLL_PRODUCER_NAMES_H

#include "base/text.h"

#include <stdint.h>

enum { NAMES_NONE = UINT32_MAX };
static const uint32_t names_count_max = 1u << 30;

struct names {
	struct arena *arena;            /* holds the bytes */
	struct text_view *texts;        /* [count] */
	size_t count;
	size_t capacity;
	uint32_t *slots;                /* [slots_count], a power of two; NAMES_NONE: free */
	size_t slots_count;
};

/* *names must be zero-initialised. bytes_max bounds the bytes of all texts. False: no memory. */
bool names_create(struct names *names, size_t bytes_max);
void names_destroy(struct names *names);
/* The number of this text, new or not; NAMES_NONE: no memory, or a maximum is reached. */
uint32_t names_add(struct names *names, struct text_view text);

#endif

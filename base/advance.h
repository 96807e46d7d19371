/* advance.h - how long work tells whoever waits for it how far it has come.
 *
 * `what` names the part of the work ("reading"); each counts from 0 to its own total. Called in the thread that
 * asked for the work, many times a second at most; whoever shows it may drop most of what it hears. */
#ifndef EXITPOLL_BASE_ADVANCE_H
#define EXITPOLL_BASE_ADVANCE_H

#include <stddef.h>
#include <stdint.h>

struct advance {
	void (*heard)(void *context, const char *what, uint64_t done, uint64_t total);
	void *context;
};

/* advance may be NULL: nobody listens. */
static inline void advance_tell(const struct advance *advance, const char *what, uint64_t done, uint64_t total)
{
	if (advance)
		advance->heard(advance->context, what, done, total);
}

#endif

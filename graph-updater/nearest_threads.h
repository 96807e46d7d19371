/* nearest_threads.h - a few threads that share one scan, each a range of rows.
 *
 * Fork and join: nearest_threads_run() returns when all have finished, so whoever calls it sees a plain
 * function. The threads sleep in between. One caller at a time. */
#ifndef EXITPOLL_GRAPH_UPDATER_NEAREST_THREADS_H
#define EXITPOLL_GRAPH_UPDATER_NEAREST_THREADS_H

#include "base/status.h"

enum { NEAREST_THREADS_MAX = 64 };

struct nearest_threads;
/* threads: 1..NEAREST_THREADS_MAX, the caller's own included. STATUS_NO_MEMORY also where the system gives
 * no thread. */
enum status nearest_threads_create(unsigned threads, struct nearest_threads **out, struct error *error);
void nearest_threads_destroy(struct nearest_threads *threads);  /* NULL ok */
unsigned nearest_threads_count(const struct nearest_threads *threads);  /* NULL: 1 */

/* work(context, 0 .. count - 1), each once, 0 on the caller's thread. */
void nearest_threads_run(struct nearest_threads *threads, void (*work)(void *context, unsigned worker),
			 void *context);

#endif

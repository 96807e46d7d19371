/* pool.h - a few threads that share out numbered tasks.
 *
 * pool_run() returns when all tasks are done; the caller works too. Which thread takes which task is left
 * open, so tasks must not depend on it. One caller at a time. */
#ifndef EXITPOLL_SCORER_POOL_H
#define EXITPOLL_SCORER_POOL_H

#include "base/status.h"

#include <stdint.h>

struct pool;
enum { POOL_THREADS_MAX = 256 };

/* threads >= 1 counts the caller. `enter` (may be NULL) is called once in every other thread first. */
enum status pool_create(uint32_t threads, void (*enter)(void), struct pool **out, struct error *error);
void pool_destroy(struct pool *pool);                   /* NULL ok */
uint32_t pool_threads(const struct pool *pool);

/* task(context, index, thread) for index 0..count; thread in [0, threads), 0 is the caller. */
void pool_run(struct pool *pool, uint32_t count, void (*task)(void *context, uint32_t index, uint32_t thread),
	      void *context);

#endif

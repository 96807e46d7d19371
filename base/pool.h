/* pool.h - a few threads that share out numbered tasks.
 *
 * pool_run() returns when all tasks are done; the caller works too. Which thread takes which task is left
 * open, so tasks must not depend on it. A pool of NULL is the caller alone. One caller at a time. */
#ifndef EXITPOLL_BASE_POOL_H
#define EXITPOLL_BASE_POOL_H

#include "base/status.h"

#include <stdint.h>

struct pool;
enum { POOL_THREADS_MAX = 256 };

/* threads: 1 to POOL_THREADS_MAX, the caller's included. STATUS_CONFIG; STATUS_NO_MEMORY also where the system
 * gives no thread. */
enum status pool_create(uint32_t threads, struct pool **out, struct error *error);
void pool_destroy(struct pool *pool);                   /* NULL ok */
uint32_t pool_threads(const struct pool *pool);         /* NULL: 1 */

/* task(context, index, thread) for index 0..count; thread in [0, threads), 0 is the caller. */
void pool_run(struct pool *pool, uint32_t count, void (*task)(void *context, uint32_t index, uint32_t thread),
	      void *context);

#endif

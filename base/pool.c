/* pool.c - a job is a counter from which threads draw task numbers, and a generation that wakes them.
 * Invariant: outside pool_run() all workers sleep and `busy` is 0. Called by the scorer's products and the
 * training of heads, by the search for similar users and by the loading of snapshots. */
#include "base/pool.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

struct worker {
	struct pool *pool;
	pthread_t thread;
	uint32_t index;
};

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t begin, done;
	uint64_t generation;                    /* of the job; under lock, like all but `next` */
	uint32_t busy;
	bool quit;
	void (*task)(void *context, uint32_t index, uint32_t thread);
	void *context;
	uint32_t count;
	atomic_uint next;
	uint32_t threads, started;
	struct worker workers[];                /* [threads - 1] */
};

static void draw(struct pool *pool, uint32_t thread)
{
	for (;;) {
		uint32_t index = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
		if (index >= pool->count)
			return;
		pool->task(pool->context, index, thread);
	}
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	struct pool *pool = worker->pool;
	uint64_t seen = 0;
	pthread_mutex_lock(&pool->lock);
	for (;;) {
		while (pool->generation == seen && !pool->quit)
			pthread_cond_wait(&pool->begin, &pool->lock);
		if (pool->quit)
			break;
		seen = pool->generation;
		pthread_mutex_unlock(&pool->lock);
		draw(pool, worker->index);
		pthread_mutex_lock(&pool->lock);
		if (--pool->busy == 0)
			pthread_cond_signal(&pool->done);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

enum status pool_create(uint32_t threads, struct pool **out, struct error *error)
{
	if (threads < 1 || threads > POOL_THREADS_MAX)
		return error_set(error, STATUS_CONFIG, "%u threads: 1 to %d can be", threads, POOL_THREADS_MAX);
	struct pool *pool = mem_alloc_zero(1, sizeof *pool + (threads - 1) * sizeof pool->workers[0]);
	if (!pool)
		return error_set(error, STATUS_NO_MEMORY, "no memory for %u threads", threads);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->begin, NULL);
	pthread_cond_init(&pool->done, NULL);
	pool->threads = threads;
	for (uint32_t i = 0; i + 1 < threads; i++) {
		pool->workers[i] = (struct worker){.pool = pool, .index = i + 1};
		int failed = pthread_create(&pool->workers[i].thread, NULL, work, &pool->workers[i]);
		if (failed) {
			pool_destroy(pool);
			return error_set(error, STATUS_NO_MEMORY, "cannot start thread %u of %u: %s", i + 1,
					 threads, strerror(failed));
		}
		pool->started++;
	}
	*out = pool;
	return STATUS_OK;
}

void pool_destroy(struct pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->quit = true;
	pthread_cond_broadcast(&pool->begin);
	pthread_mutex_unlock(&pool->lock);
	for (uint32_t i = 0; i < pool->started; i++)
		pthread_join(pool->workers[i].thread, NULL);
	pthread_cond_destroy(&pool->begin);
	pthread_cond_destroy(&pool->done);
	pthread_mutex_destroy(&pool->lock);
	mem_free(pool);
}

uint32_t pool_threads(const struct pool *pool)
{
	return pool ? pool->threads : 1;
}

void pool_run(struct pool *pool, uint32_t count, void (*task)(void *context, uint32_t index, uint32_t thread),
	      void *context)
{
	if (pool_threads(pool) == 1 || count <= 1) {
		for (uint32_t index = 0; index < count; index++)
			task(context, index, 0);
		return;
	}
	pthread_mutex_lock(&pool->lock);
	pool->task = task;
	pool->context = context;
	pool->count = count;
	atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
	pool->busy = pool->threads - 1;
	pool->generation++;
	pthread_cond_broadcast(&pool->begin);
	pthread_mutex_unlock(&pool->lock);
	draw(pool, 0);
	pthread_mutex_lock(&pool->lock);
	while (pool->busy)
		pthread_cond_wait(&pool->done, &pool->lock);
	pthread_mutex_unlock(&pool->lock);
}

/* nearest_threads.c - see nearest_threads.h. Invariant, under the lock: a thread has done round r when its
 * `done` says so; the caller leaves a round when all have. Called by nearest.c. */
#include "graph-updater/nearest_threads.h"

#include "base/mem.h"

#include <pthread.h>

struct helper {
	struct nearest_threads *threads;
	unsigned worker;
	pthread_t thread;
};

struct nearest_threads {
	pthread_mutex_t lock;
	pthread_cond_t wake, finished;
	uint64_t round;                 /* of work given out */
	unsigned busy;                  /* helpers that have not finished this round */
	bool ending;
	void (*work)(void *context, unsigned worker);
	void *context;
	unsigned started;               /* helpers that run */
	unsigned count;                 /* with the caller */
	struct helper helpers[];        /* [count - 1] */
};

static void *help(void *argument)
{
	struct helper *helper = argument;
	struct nearest_threads *threads = helper->threads;
	uint64_t done = 0;

	pthread_mutex_lock(&threads->lock);
	for (;;) {
		while (threads->round == done && !threads->ending)
			pthread_cond_wait(&threads->wake, &threads->lock);
		if (threads->round == done)
			break;
		done = threads->round;
		pthread_mutex_unlock(&threads->lock);
		threads->work(threads->context, helper->worker);
		pthread_mutex_lock(&threads->lock);
		if (--threads->busy == 0)
			pthread_cond_signal(&threads->finished);
	}
	pthread_mutex_unlock(&threads->lock);
	return NULL;
}

enum status nearest_threads_create(unsigned count, struct nearest_threads **out, struct error *error)
{
	struct nearest_threads *threads;

	if (!count || count > NEAREST_THREADS_MAX)
		return error_set(error, STATUS_CONFIG, "%u threads for similar users: 1..%d can be", count,
				 (int)NEAREST_THREADS_MAX);
	threads = mem_alloc_zero(1, sizeof *threads + (count - 1) * sizeof *threads->helpers);
	if (!threads)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the threads of similar users");
	threads->count = count;
	pthread_mutex_init(&threads->lock, NULL);
	pthread_cond_init(&threads->wake, NULL);
	pthread_cond_init(&threads->finished, NULL);
	for (; threads->started + 1 < count; threads->started++) {
		struct helper *helper = &threads->helpers[threads->started];
		*helper = (struct helper){.threads = threads, .worker = threads->started + 1};
		if (pthread_create(&helper->thread, NULL, help, helper)) {
			nearest_threads_destroy(threads);
			return error_set(error, STATUS_NO_MEMORY,
					 "the system gives no thread for similar users: %u wanted", count);
		}
	}
	*out = threads;
	return STATUS_OK;
}

void nearest_threads_destroy(struct nearest_threads *threads)
{
	if (!threads)
		return;
	pthread_mutex_lock(&threads->lock);
	threads->ending = true;
	pthread_cond_broadcast(&threads->wake);
	pthread_mutex_unlock(&threads->lock);
	for (unsigned h = 0; h < threads->started; h++)
		pthread_join(threads->helpers[h].thread, NULL);
	pthread_cond_destroy(&threads->wake);
	pthread_cond_destroy(&threads->finished);
	pthread_mutex_destroy(&threads->lock);
	mem_free(threads);
}

unsigned nearest_threads_count(const struct nearest_threads *threads)
{
	return threads ? threads->count : 1;
}

void nearest_threads_run(struct nearest_threads *threads, void (*work)(void *context, unsigned worker),
			 void *context)
{
	pthread_mutex_lock(&threads->lock);
	threads->work = work;
	threads->context = context;
	threads->busy = threads->started;
	threads->round++;
	pthread_cond_broadcast(&threads->wake);
	pthread_mutex_unlock(&threads->lock);
	work(context, 0);
	pthread_mutex_lock(&threads->lock);
	while (threads->busy)
		pthread_cond_wait(&threads->finished, &threads->lock);
	pthread_mutex_unlock(&threads->lock);
}

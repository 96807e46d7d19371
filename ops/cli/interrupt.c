/* interrupt.c - a thread that waits for the stop flag. A signal handler could cancel by itself only
 * through a global pointer to the registry; a thread needs none. Invariant: `ended` is written and read
 * under the lock. Made and ended by cmd_run.c, the main thread. */
#include "ops/cli/interrupt.h"

#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

enum { LOOK_MS = 100 };

struct interrupt {
	struct registry *registry;
	bool (*stopping)(void);
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool ended;
};

static void *watch(void *context)
{
	struct interrupt *interrupt = context;
	struct timespec until;

	pthread_mutex_lock(&interrupt->lock);
	while (!interrupt->ended && !interrupt->stopping()) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += LOOK_MS * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000L;
		until.tv_nsec %= 1000000000L;
		pthread_cond_timedwait(&interrupt->changed, &interrupt->lock, &until);
	}
	if (!interrupt->ended)
		registry_cancel(interrupt->registry);
	pthread_mutex_unlock(&interrupt->lock);
	return NULL;
}

enum status interrupt_start(struct registry *registry, bool (*stopping)(void), struct interrupt **out,
			    struct error *error)
{
	struct interrupt *interrupt = mem_alloc_zero(1, sizeof *interrupt);
	pthread_condattr_t attributes;

	if (!interrupt)
		return error_set(error, STATUS_NO_MEMORY, "out of memory");
	interrupt->registry = registry;
	interrupt->stopping = stopping;
	pthread_mutex_init(&interrupt->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&interrupt->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	errno = pthread_create(&interrupt->thread, NULL, watch, interrupt);
	if (errno) {
		enum status status = error_set(error, STATUS_UNAVAILABLE, "cannot start a thread: %m");
		pthread_cond_destroy(&interrupt->changed);
		pthread_mutex_destroy(&interrupt->lock);
		mem_free(interrupt);
		return status;
	}
	*out = interrupt;
	return STATUS_OK;
}

void interrupt_stop(struct interrupt *interrupt)
{
	if (!interrupt)
		return;
	pthread_mutex_lock(&interrupt->lock);
	interrupt->ended = true;
	pthread_cond_signal(&interrupt->changed);
	pthread_mutex_unlock(&interrupt->lock);
	pthread_join(interrupt->thread, NULL);
	pthread_cond_destroy(&interrupt->changed);
	pthread_mutex_destroy(&interrupt->lock);
	mem_free(interrupt);
}

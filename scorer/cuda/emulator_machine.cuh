/* emulator_machine.cuh - between the two halves of the emulated device: what executes kernels (emulator.cc) and what
 * owns memory and the queue (emulator_device.cc). One OS thread at a time. */
#ifndef EXITPOLL_SCORER_CUDA_EMULATOR_MACHINE_CUH
#define EXITPOLL_SCORER_CUDA_EMULATOR_MACHINE_CUH

#include "scorer/cuda/emulator.cuh"

static constexpr uint32_t EMULATED_MEMORIES_MAX = 8192;

struct emulated_memory {
	struct emulated_range ranges[EMULATED_MEMORIES_MAX];    /* [count] ascending by address */
	uint32_t count;
	uint64_t free_bytes;
	bool failed;                    /* sticky: nothing runs from then on */
	char failure[256];
	struct device *device;          /* what launches queue at; NULL: not open */
};

/* The emulated machine has one. */
struct emulated_memory *emulator_memory(void);
/* The first failure is the one that is told. */
void emulator_fail_with(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Pages of zeros that nobody else has, or NULL. */
char *emulator_pages(size_t bytes);

/* Stacks and shared memory of one block. False: no memory, or taken. */
bool emulator_take(void);
void emulator_give(void);

/* All blocks, one after the other. */
void emulator_run(const char *kernel, uint32_t blocks, uint32_t blocks_y, uint32_t threads,
		  void (*body)(const void *work), const void *work);

#endif

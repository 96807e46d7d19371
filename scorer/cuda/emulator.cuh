/* emulator.cuh - CUDA's names for a C++ compiler; portable.cuh says what they mean.
 *
 * Idea: one fibre for each thread of a block, blocks one after the other. A barrier or warp operation
 * parks the fibre until everybody has come. A wrong access, a barrier that not all reach, or a warp operation
 * with lanes missing ends the launch with a named failure. One OS thread at a time. */
#ifndef EXITPOLL_SCORER_CUDA_EMULATOR_CUH
#define EXITPOLL_SCORER_CUDA_EMULATOR_CUH

extern "C" {
#include "scorer/cuda/device.h"
}
#include "scorer/half.h"

#include <math.h>
#include <string.h>
#include <type_traits>

#define KERNEL(name, threads) static void name
#define DEVICE static inline __attribute__((unused))
#define GLOBAL(type) checked<type>
#define GLOBAL_SHARED(type) checked<type>
#define SHARED(type, name, count) checked<type> name = emulator_shared<type>(__LINE__, count)
#define SHARED_POINTER(type) checked<type>
#define UNROLL

struct emulated_range {
	const char *begin, *end;
};

/* The allocation that holds an address; fails the launch when none does. */
struct emulated_range emulator_find(const void *address);
struct emulated_range emulator_shared_range(int line, size_t bytes);
[[noreturn]] void emulator_fail(const char *what, const void *address, size_t bytes);
uint32_t thread_index(void);
uint32_t block_index(void);
uint32_t block_index_y(void);
void block_barrier(void);
float warp_xor(float value, uint32_t mask);
void warp_product(float d[4], const uint32_t a[4], const uint32_t b[2]);
/* Queues a kernel; the work is copied. */
void emulator_launch(const char *kernel, uint32_t blocks, uint32_t blocks_y, uint32_t threads,
		     void (*body)(const void *work), const void *work, size_t work_bytes);

/* A pointer that knows its allocation. */
template <typename T>
struct checked {
	T *at;
	struct emulated_range range;

	T *look(size_t index, size_t bytes, size_t alignment) const
	{
		const char *address = (const char *)at + index * sizeof(T);
		if (address < range.begin || bytes > (size_t)(range.end - range.begin) ||
		    address > range.end - bytes)
			emulator_fail("beyond its memory", address, bytes);
		if ((uintptr_t)address % alignment)
			emulator_fail("not aligned", address, bytes);
		return at + index;
	}
	T &operator[](size_t index) const { return *look(index, sizeof(T), alignof(T)); }
	checked operator+(size_t offset) const { return checked{at + offset, range}; }
	operator checked<const T>() const { return checked<const T>{at, range}; }
};

template <typename T> static inline checked<T> global(T *pointer)
{
	return checked<T>{pointer, pointer ? emulator_find(pointer) : emulated_range{nullptr, nullptr}};
}

template <typename T> static inline checked<T> emulator_shared(int line, size_t count)
{
	struct emulated_range range = emulator_shared_range(line, count * sizeof(T));
	return checked<T>{(T *)range.begin, range};
}

DEVICE float half_to_float(device_half value) { return half_widen(value); }
DEVICE device_half half_from_float(float value) { return half_round(value); }

DEVICE uint32_t load_pair(checked<const device_half> from)
{
	uint32_t out;
	memcpy(&out, from.look(0, 4, 4), 4);
	return out;
}

struct octet { device_half lane[8]; };
DEVICE octet load_octet(checked<const device_half> from)
{
	octet out;
	memcpy(out.lane, from.look(0, 16, 16), 16);
	return out;
}

#define LAUNCH(kernel, blocks, blocks_y, threads, device, work) \
	do { \
		(void)(device); \
		emulator_launch(#kernel, blocks, blocks_y, threads, \
				[](const void *argument) { kernel(*(const std::remove_reference_t<decltype(work)> *)argument); }, \
				&(work), sizeof(work)); \
	} while (0)

#endif

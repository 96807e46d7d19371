/* portable.cuh - one source of kernels, two compilers.
 *
 * Under nvcc these names are CUDA's own; under a C++ compiler they are an emulation: every thread of a block
 * is a fibre, barriers and warp operations switch between them, pointers know where their memory ends, shared
 * memory and fresh allocations hold NaN until written. A kernel is KERNEL(name)(struct name_work work); it
 * reaches global memory through GLOBAL() pointers, shared memory through SHARED(). */
#ifndef EXITPOLL_SCORER_CUDA_PORTABLE_CUH
#define EXITPOLL_SCORER_CUDA_PORTABLE_CUH

extern "C" {
#include "scorer/cuda/device.h"
}

static constexpr uint32_t WARP = 32;

#ifdef __CUDACC__

#define KERNEL(name, threads) static __global__ void __launch_bounds__(threads) name
#define DEVICE static __device__ __forceinline__
#define GLOBAL(type) type *__restrict__
/* Where threads of a block read what others wrote: no promise that nobody else does. */
#define GLOBAL_SHARED(type) type *
#define SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define SHARED_POINTER(type) type *
#define UNROLL _Pragma("unroll")

template <typename T> DEVICE T *global(T *pointer) { return pointer; }
DEVICE uint32_t thread_index(void) { return threadIdx.x; }
DEVICE uint32_t block_index(void) { return blockIdx.x; }
DEVICE uint32_t block_index_y(void) { return blockIdx.y; }
DEVICE void block_barrier(void) { __syncthreads(); }
DEVICE float warp_xor(float value, uint32_t mask) { return __shfl_xor_sync(0xffffffffu, value, (int)mask); }

DEVICE float half_to_float(device_half value)
{
	float out;
	asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(value));
	return out;
}
DEVICE device_half half_from_float(float value)
{
	device_half out;
	asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out) : "f"(value));
	return out;
}

/* Two neighbours as one word, the first in the low half; 4-byte aligned. */
DEVICE uint32_t load_pair(const device_half *from) { return *(const uint32_t *)from; }
struct octet { device_half lane[8]; };
/* Eight neighbours; 16-byte aligned. */
DEVICE octet load_octet(const device_half *from)
{
	octet out;
	*(uint4 *)out.lane = *(const uint4 *)from;
	return out;
}

/* d[16, 8] += a[16, 16] b[16, 8] over a warp, in the fragments of mma.m16n8k16 (PTX ISA, "Matrix Fragments
 * for mma.m16n8k16"): with g = lane / 4 and t = lane % 4, a holds rows g and g + 8, columns 2t and 2t + 8 (+1);
 * b rows 2t and 2t + 8 (+1) of column g; d rows g and g + 8, columns 2t and 2t + 1. */
DEVICE void warp_product(float d[4], const uint32_t a[4], const uint32_t b[2])
{
	asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
	    "{%0,%1,%2,%3};"
	    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#define LAUNCH(kernel, blocks, blocks_y, threads, device, work) \
	do { \
		if ((blocks) && (blocks_y)) \
			kernel<<<dim3(blocks, blocks_y), threads, 0, device_queue(device)>>>(work); \
		device_launched(device, #kernel); \
	} while (0)

#else
#include "scorer/cuda/emulator.cuh"
#endif

DEVICE uint32_t pack_pair(float low, float high)
{
	return (uint32_t)half_from_float(low) | (uint32_t)half_from_float(high) << 16;
}

/* How many there really are; `count` is the host's bound. */
DEVICE uint32_t live_count(const uint32_t *live, uint32_t count)
{
	GLOBAL(const uint32_t) known = global(live);
	return live ? known[0] : count;
}

/* The same order of additions in every lane, so the same bits. */
DEVICE float warp_sum(float value)
{
	UNROLL
	for (uint32_t mask = WARP / 2; mask; mask /= 2)
		value += warp_xor(value, mask);
	return value;
}

#endif

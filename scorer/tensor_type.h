/* tensor_type.h - element types of stored tensors: sizes, and conversion to float32.
 *
 * Every conversion is exact (F16, BF16) or the format's own formula in float32 (Q8_0, Q4_0, Q4_1), so a
 * weight has the same bits on every machine. Pure functions, any thread. */
#ifndef EXITPOLL_SCORER_TENSOR_TYPE_H
#define EXITPOLL_SCORER_TENSOR_TYPE_H

#include "base/text.h"

#include <stdint.h>

/*      name         elements and bits per block, readable as weights */
#define TENSOR_TYPE_MAP(X)                                                                         \
	X(F32,          1, 32, true)                                                               \
	X(F16,          1, 16, true)                                                               \
	X(BF16,         1, 16, true)                                                               \
	X(Q8_0,        32, 272, true)                                                              \
	X(Q4_0,        32, 144, true)                                                              \
	X(Q4_1,        32, 160, true)                                                              \
	X(F64,          1, 64, false)                                                              \
	X(BOOL,         1, 8, false)                                                               \
	X(F4,           1, 4, false)                                                               \
	X(F6_E2M3,      1, 6, false)                                                               \
	X(F6_E3M2,      1, 6, false)                                                               \
	X(U8,           1, 8, false)                                                               \
	X(I8,           1, 8, false)                                                               \
	X(F8_E5M2,      1, 8, false)                                                               \
	X(F8_E4M3,      1, 8, false)                                                               \
	X(F8_E8M0,      1, 8, false)                                                               \
	X(F8_E4M3FNUZ,  1, 8, false)                                                               \
	X(F8_E5M2FNUZ,  1, 8, false)                                                               \
	X(I16,          1, 16, false)                                                              \
	X(U16,          1, 16, false)                                                              \
	X(I32,          1, 32, false)                                                              \
	X(U32,          1, 32, false)                                                              \
	X(C64,          1, 64, false)                                                              \
	X(I64,          1, 64, false)                                                              \
	X(U64,          1, 64, false)

enum tensor_type {
#define X(name, elements, bits, readable) TENSOR_##name,
	TENSOR_TYPE_MAP(X)
#undef X
	TENSOR_TYPE_COUNT
};

const char *tensor_type_name(enum tensor_type type);
bool tensor_type_readable(enum tensor_type type);
uint32_t tensor_type_block(enum tensor_type type);      /* elements that only come together */

/* By its safetensors name, case-sensitive; quantised GGUF names are not among them. */
bool tensor_type_by_name(struct text_view name, enum tensor_type *out);

/* False: the product overflows, or the elements do not fill whole blocks or bytes. */
bool tensor_type_bytes(enum tensor_type type, uint64_t elements, uint64_t *bytes);

/* `elements` whole blocks at `data` (any alignment) to out; the type must be readable. */
void tensor_type_to_float(enum tensor_type type, const uint8_t *data, size_t elements, float *out);

#endif

/* tensor_type.c - the table of types and the loops that turn them into float32. Pure. */
#include "scorer/tensor_type.h"

#include "scorer/half.h"

static const struct type_row {
	const char *name;
	uint32_t elements, bits;
	bool readable;
} rows[] = {
#define X(name, elements, bits, readable) {#name, elements, bits, readable},
	TENSOR_TYPE_MAP(X)
#undef X
};

const char *tensor_type_name(enum tensor_type type)
{
	return rows[type].name;
}

bool tensor_type_readable(enum tensor_type type)
{
	return rows[type].readable;
}

uint32_t tensor_type_block(enum tensor_type type)
{
	return rows[type].elements;
}

bool tensor_type_by_name(struct text_view name, enum tensor_type *out)
{
	for (int type = 0; type < TENSOR_TYPE_COUNT; type++) {
		if (rows[type].elements == 1 && text_equal(name, text_of(rows[type].name))) {
			*out = (enum tensor_type)type;
			return true;
		}
	}
	return false;
}

bool tensor_type_bytes(enum tensor_type type, uint64_t elements, uint64_t *bytes)
{
	uint64_t bits;

	if (elements % rows[type].elements != 0 ||
	    __builtin_mul_overflow(elements / rows[type].elements, (uint64_t)rows[type].bits, &bits) ||
	    bits % 8 != 0)
		return false;
	*bytes = bits / 8;
	return true;
}

static uint16_t load_u16(const uint8_t *at)
{
	return (uint16_t)(at[0] | at[1] << 8);
}

static float float_of_bits(uint32_t bits)
{
	float value;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

static void from_q8_0(const uint8_t *restrict data, size_t blocks, float *restrict out)
{
	for (size_t b = 0; b < blocks; b++, data += 34, out += 32) {
		float scale = half_widen(load_u16(data));
		for (int i = 0; i < 32; i++)
			out[i] = (float)(int8_t)data[2 + i] * scale;
	}
}

/* The low nibbles are elements 0..15 of the block, the high ones 16..31. */
static void from_q4_0(const uint8_t *restrict data, size_t blocks, float *restrict out)
{
	for (size_t b = 0; b < blocks; b++, data += 18, out += 32) {
		float scale = half_widen(load_u16(data));
		for (int i = 0; i < 16; i++) {
			out[i] = (float)((data[2 + i] & 15) - 8) * scale;
			out[16 + i] = (float)((data[2 + i] >> 4) - 8) * scale;
		}
	}
}

static void from_q4_1(const uint8_t *restrict data, size_t blocks, float *restrict out)
{
	for (size_t b = 0; b < blocks; b++, data += 20, out += 32) {
		float scale = half_widen(load_u16(data));
		float minimum = half_widen(load_u16(data + 2));
		for (int i = 0; i < 16; i++) {
			out[i] = (float)(data[4 + i] & 15) * scale + minimum;
			out[16 + i] = (float)(data[4 + i] >> 4) * scale + minimum;
		}
	}
}

void tensor_type_to_float(enum tensor_type type, const uint8_t *data, size_t elements, float *out)
{
	switch (type) {
	case TENSOR_F32:
		memcpy(out, data, elements * sizeof(*out));
		break;
	case TENSOR_F16:
		for (size_t i = 0; i < elements; i++)
			out[i] = half_widen(load_u16(data + 2 * i));
		break;
	case TENSOR_BF16:
		for (size_t i = 0; i < elements; i++)
			out[i] = float_of_bits((uint32_t)load_u16(data + 2 * i) << 16);
		break;
	case TENSOR_Q8_0:
		from_q8_0(data, elements / 32, out);
		break;
	case TENSOR_Q4_0:
		from_q4_0(data, elements / 32, out);
		break;
	case TENSOR_Q4_1:
		from_q4_1(data, elements / 32, out);
		break;
	default:
		/* Callers ask tensor_type_readable() first. */
		memset(out, 0, elements * sizeof(*out));
		break;
	}
}

/* GGUF: a small file made here, its tensors dequantised by the format's formulas in double, RoPE's row order,
 * every prefix and every flipped byte; the real SmolLM2 where it is. */
#include "model_files.h"

#include "scorer/gguf.h"
#include "scorer/model.h"

#include <jansson.h>
#include <math.h>

enum { HIDDEN = 32, HEADS = 2, HEAD = 16, INNER = 64, VOCABULARY = 4 };

static const struct {
	const char *name;
	uint32_t rows, columns, type;   /* ggml's number */
} tensors[] = {
	{"token_embd.weight", VOCABULARY, HIDDEN, 8},           /* Q8_0 */
	{"output_norm.weight", 0, HIDDEN, 0},                   /* F32 */
	{"blk.0.attn_norm.weight", 0, HIDDEN, 0},
	{"blk.0.attn_q.weight", HEADS * HEAD, HIDDEN, 1},       /* F16 */
	{"blk.0.attn_k.weight", HEADS * HEAD, HIDDEN, 30},      /* BF16 */
	{"blk.0.attn_v.weight", HEADS * HEAD, HIDDEN, 2},       /* Q4_0 */
	{"blk.0.attn_output.weight", HIDDEN, HEADS * HEAD, 3},  /* Q4_1 */
	{"blk.0.ffn_norm.weight", 0, HIDDEN, 0},
	{"blk.0.ffn_gate.weight", INNER, HIDDEN, 3},
	{"blk.0.ffn_up.weight", INNER, HIDDEN, 8},
	{"blk.0.ffn_down.weight", HIDDEN, INNER, 2},
};
enum { TENSORS = sizeof(tensors) / sizeof(tensors[0]) };

static size_t row_bytes(uint32_t type, uint32_t columns)
{
	switch (type) {
	case 0: return 4 * columns;
	case 1: case 30: return 2 * columns;
	case 2: return columns / 32 * 18;
	case 3: return columns / 32 * 20;
	default: return columns / 32 * 34;
	}
}

/* Bytes that make finite numbers of every type. */
static uint8_t byte_at(uint32_t type, size_t i)
{
	uint8_t noise = (uint8_t)(i * 151 + i / 7);
	size_t block = type == 2 ? 18 : type == 3 ? 20 : 34;
	if (type == 0)
		return i % 4 == 3 ? 0x3F : i % 4 == 2 ? (uint8_t)(noise & 0x7F) : noise;
	if (type == 1 || type == 30)
		return i % 2 == 1 ? (uint8_t)((noise & 0x80) | 0x3A) : noise;
	if (i % block == 1 || (type == 3 && i % block == 3))
		return 0x2C;
	return noise;
}

static struct bytes make_model(void)
{
	struct bytes bytes = {0};
	uint64_t offset = 0;

	put_text(&bytes, "GGUF");
	put_number(&bytes, 3, 4);
	put_number(&bytes, TENSORS, 8);
	put_number(&bytes, 9, 8);
	put_gguf_text(&bytes, "general.architecture");
	put_number(&bytes, 8, 4);
	put_gguf_text(&bytes, "llama");
	put_gguf_u32(&bytes, "llama.embedding_length", HIDDEN);
	put_gguf_u32(&bytes, "llama.feed_forward_length", INNER);
	put_gguf_u32(&bytes, "llama.block_count", 1);
	put_gguf_u32(&bytes, "llama.attention.head_count", HEADS);
	put_gguf_u32(&bytes, "llama.context_length", 128);
	put_gguf_u32(&bytes, "llama.vocab_size", VOCABULARY);
	put_gguf_f32(&bytes, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
	put_gguf_f32(&bytes, "llama.rope.freq_base", 500000);
	for (int i = 0; i < TENSORS; i++) {
		uint32_t rows = tensors[i].rows ? tensors[i].rows : 1;
		put_gguf_text(&bytes, tensors[i].name);
		put_number(&bytes, tensors[i].rows ? 2 : 1, 4);
		put_number(&bytes, tensors[i].columns, 8);
		if (tensors[i].rows)
			put_number(&bytes, tensors[i].rows, 8);
		put_number(&bytes, tensors[i].type, 4);
		put_number(&bytes, offset, 8);
		offset += (rows * row_bytes(tensors[i].type, tensors[i].columns) + 31) / 32 * 32;
	}
	while (bytes.size % 32)
		put_number(&bytes, 0, 1);
	for (int i = 0; i < TENSORS; i++) {
		uint32_t rows = tensors[i].rows ? tensors[i].rows : 1;
		size_t size = rows * row_bytes(tensors[i].type, tensors[i].columns);
		for (size_t k = 0; k < size; k++)
			put_number(&bytes, byte_at(tensors[i].type, k), 1);
		while (bytes.size % 32)
			put_number(&bytes, 0, 1);
	}
	return bytes;
}

static double half_value(unsigned half)
{
	int exponent = (int)(half >> 10 & 31);
	double fraction = half & 1023, sign = half & 0x8000 ? -1 : 1;
	return exponent ? sign * ldexp(1024 + fraction, exponent - 25) : sign * ldexp(fraction, -24);
}

static unsigned two(uint32_t type, size_t i)
{
	return byte_at(type, i) | (unsigned)byte_at(type, i + 1) << 8;
}

/* Element (row, column) of a tensor whose rows are `row_bytes` long, from byte_at alone. */
static double value_at(uint32_t type, size_t row, size_t column, size_t bytes)
{
	size_t start = row * bytes, block;
	uint32_t bits;
	float single;

	switch (type) {
	case 0:
	case 30:
		bits = type == 0 ? two(0, start + 4 * column) | two(0, start + 4 * column + 2) << 16 :
				   two(30, start + 2 * column) << 16;
		memcpy(&single, &bits, 4);
		return (double)single;
	case 1:
		return half_value(two(1, start + 2 * column));
	case 8:
		block = start + column / 32 * 34;
		return half_value(two(8, block)) * (int8_t)byte_at(8, block + 2 + column % 32);
	case 2:
		block = start + column / 32 * 18;
		bits = byte_at(2, block + 2 + column % 16);
		return half_value(two(2, block)) * ((column % 32 < 16 ? (int)(bits & 15) :
						     (int)(bits >> 4)) - 8);
	default:
		block = start + column / 32 * 20;
		bits = byte_at(3, block + 4 + column % 16);
		return half_value(two(3, block)) * (column % 32 < 16 ? bits & 15 : bits >> 4) +
		       half_value(two(3, block + 2));
	}
}

START_TEST(values_and_row_order)
{
	static const enum model_tensor wanted[TENSORS] = {
		MODEL_EMBEDDING, MODEL_FINAL_NORM, MODEL_ATTENTION_NORM, MODEL_Q, MODEL_K, MODEL_V, MODEL_O,
		MODEL_MLP_NORM, MODEL_GATE, MODEL_UP, MODEL_DOWN,
	};
	struct bytes bytes = make_model();
	char *folder = make_folder(), *path = mapped_file_join(folder, "m.gguf");
	struct model *model = NULL;
	struct error error = {0};
	float out[64 * 64];

	write_file(folder, "m.gguf", bytes.at, bytes.size);
	ck_assert_msg(model_open(path, NULL, &model, &error) == STATUS_OK, "%s", error.text);
	ck_assert_uint_eq(model_get_config(model)->head_size, HEAD);
	ck_assert(model_get_config(model)->tied);
	ck_assert_float_eq(model_get_config(model)->rope_theta, 500000);
	for (int i = 0; i < TENSORS; i++) {
		uint32_t rows = tensors[i].rows ? tensors[i].rows : tensors[i].columns;
		uint32_t columns = tensors[i].rows ? tensors[i].columns : 1;
		bool reordered = wanted[i] == MODEL_Q || wanted[i] == MODEL_K;
		ck_assert_int_eq(model_read(model, wanted[i], 0, 0, rows, out, &error), STATUS_OK);
		for (uint32_t r = 0; r < rows; r++) {
			for (uint32_t c = 0; c < columns; c++) {
				/* Row (head, half j, i) in rotate-half order lies at (head, 2i + j). */
				uint32_t inside = r % HEAD;
				uint32_t stored = !reordered ? r : r - inside + 2 * (inside % (HEAD / 2)) +
						  inside / (HEAD / 2);
				double value = columns == 1 ? value_at(0, 0, r, 0) :
					       value_at(tensors[i].type, stored, c,
							row_bytes(tensors[i].type, columns));
				ck_assert_msg(fabs((double)out[r * columns + c] - value) <= 1e-6 * fabs(value),
					      "%s [%u, %u]: %g, not %g", tensors[i].name, r, c,
					      (double)out[r * columns + c], value);
			}
		}
	}
	/* One row alone gives the bits of the whole. */
	float row[HIDDEN];
	ck_assert_int_eq(model_read(model, MODEL_Q, 0, 0, HEADS * HEAD, out, &error), STATUS_OK);
	ck_assert_int_eq(model_read(model, MODEL_Q, 0, 21, 1, row, &error), STATUS_OK);
	ck_assert_mem_eq(row, out + 21 * HIDDEN, sizeof(row));
	ck_assert_int_eq(model_read(model, MODEL_Q, 0, 31, 2, out, &error), STATUS_INTERNAL);
	ck_assert_int_eq(model_read(model, MODEL_Q_BIAS, 0, 0, 1, out, &error), STATUS_INTERNAL);
	model_close(model);
	mem_free(path);
	remove_folder(folder);
	mem_free(bytes.at);
}
END_TEST

static enum status parse(const struct bytes *bytes, struct error *error)
{
	struct mapped_file file = in_memory(bytes);
	struct tensor_table table;
	struct gguf *gguf = NULL;
	enum status status;

	ck_assert_int_eq(tensor_table_init(&table, error), STATUS_OK);
	status = gguf_parse(&file, &table, &gguf, error);
	if (status == STATUS_OK)
		status = tensor_table_seal(&table, error);
	gguf_destroy(gguf);
	tensor_table_destroy(&table);
	return status;
}

START_TEST(prefixes_are_refused)
{
	struct bytes bytes = make_model();
	struct error error = {0};
	/* The last tensor's padding may be missing. */
	size_t needed = bytes.size;

	ck_assert_int_eq(parse(&bytes, &error), STATUS_OK);
	for (size_t size = 0; size < needed; size += size < 1200 ? 1 : 97) {
		struct bytes part = {0};
		put(&part, bytes.at, size);
		ck_assert_msg(parse(&part, &error) == STATUS_CORRUPT, "%zu of %zu bytes", size, needed);
		mem_free(part.at);
	}
	mem_free(bytes.at);
}
END_TEST

START_TEST(flipped_bytes_do_no_harm)
{
	struct bytes bytes = make_model();
	for (size_t i = 0; i < 1500 && i < bytes.size; i++) {
		for (int bit = 0; bit < 8; bit += 3) {
			struct error error = {0};
			enum status status;
			bytes.at[i] ^= (uint8_t)(1u << bit);
			status = parse(&bytes, &error);
			ck_assert(status == STATUS_OK || status == STATUS_CORRUPT ||
				  status == STATUS_UNSUPPORTED);
			ck_assert(status == STATUS_OK || error.text[0]);
			bytes.at[i] ^= (uint8_t)(1u << bit);
		}
	}
	mem_free(bytes.at);
}
END_TEST

START_TEST(smollm2)
{
	char path[512], shared[512];
	struct model *model = NULL;
	struct error error = {0};
	const struct model_config *config;
	char hex[33];
	size_t i, k;
	json_t *root, *prompt;

	if (!find_smollm2(path))
		return;
	ck_assert_msg(model_open(path, NULL, &model, &error) == STATUS_OK, "%s", error.text);
	config = model_get_config(model);
	ck_assert_str_eq(config->architecture, "llama");
	ck_assert_uint_eq(config->layers, 30);
	ck_assert_uint_eq(config->hidden_size, 576);
	ck_assert_uint_eq(config->kv_heads, 3);
	ck_assert_uint_eq(config->vocabulary, 49152);
	ck_assert_uint_eq(config->positions_max, 8192);
	ck_assert_float_eq(config->rope_theta, 100000);
	ck_assert(config->tied && !config->qkv_bias);
	ck_assert_uint_eq(model_tensor_count(model), 272);
	ck_assert_int_eq(model_content_hash(model, hex, &error), STATUS_OK);
	ck_assert_uint_eq(strlen(hex), 32);
	if (find_shared("smollm2-135m/expected.json", shared)) {
		root = json_load_file(shared, 0, NULL);
		ck_assert_ptr_nonnull(root);
		/* After no layer the residual stream is the last id's embedding. */
		json_array_foreach(json_object_get(root, "cases"), i, prompt) {
			json_t *ids = json_object_get(prompt, "input_ids");
			json_t *layer = json_array_get(json_object_get(prompt, "layers"), 0), *number;
			json_t *first = json_object_get(layer, "hidden_first_8");
			float row[576];
			uint32_t id = (uint32_t)json_integer_value(json_array_get(ids,
										  json_array_size(ids) - 1));
			double square = 0;
			ck_assert_int_eq(model_read(model, MODEL_EMBEDDING, 0, id, 1, row, &error),
					 STATUS_OK);
			for (int c = 0; c < 576; c++)
				square += (double)row[c] * (double)row[c];
			ck_assert_double_eq_tol(sqrt(square),
						json_number_value(json_object_get(layer, "norm")), 1e-4);
			ck_assert_uint_eq(json_array_size(first), 8);
			json_array_foreach(first, k, number)
				ck_assert_double_eq_tol((double)row[k], json_number_value(number), 1e-5);
		}
		json_decref(root);
	}
	model_close(model);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("gguf");
	tcase_add_test(tests, values_and_row_order);
	tcase_add_test(tests, prefixes_are_refused);
	tcase_add_test(tests, flipped_bytes_do_no_harm);
	tcase_add_test(tests, smollm2);
	return run_suite("gguf", tests);
}

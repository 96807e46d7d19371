/* model.h - a Llama-family checkpoint of any supported format, checked and mapped read-only.
 *
 * Hugging Face folder (config.json with safetensors or pytorch_model*.bin, sharded or not) or a GGUF
 * file; what a format calls things and how it lays out q and k for RoPE is hidden here: model_read()
 * always gives float32 rows in Hugging Face's rotate-half layout, [out, in] row-major, with a LoRA
 * adapter already added. What is not supported is named and refused. Immutable after open; any
 * thread. */
#ifndef EXITPOLL_SCORER_MODEL_H
#define EXITPOLL_SCORER_MODEL_H

#include "base/status.h"
#include "base/text.h"

#include <stdint.h>

struct model;

enum rope_scaling { ROPE_SCALING_NONE, ROPE_SCALING_LINEAR, ROPE_SCALING_LLAMA3 };

struct model_config {
	char architecture[32];          /* "llama", "qwen2" */
	char name[128];
	uint32_t hidden_size;           /* C */
	uint32_t intermediate_size;     /* F */
	uint32_t layers;
	uint32_t heads;
	uint32_t kv_heads;
	uint32_t head_size;             /* H, even, 8..256 */
	uint32_t vocabulary;            /* V */
	uint32_t positions_max;         /* context length */
	float rms_norm_eps;
	float rope_theta;
	enum rope_scaling rope_scaling;
	float rope_factor, rope_low_freq_factor, rope_high_freq_factor;
	uint32_t rope_original_positions;
	bool tied;                      /* head = embedding */
	bool qkv_bias;
};

/* Shapes: q [heads*H, C], k and v [kv_heads*H, C], o [C, heads*H], gate and up [F, C], down [C, F],
 * embedding and head [V, C]; norms [C]; biases [rows]. */
enum model_tensor {
	MODEL_EMBEDDING, MODEL_FINAL_NORM, MODEL_HEAD,          /* layer ignored */
	MODEL_ATTENTION_NORM, MODEL_Q, MODEL_K, MODEL_V, MODEL_O,
	MODEL_Q_BIAS, MODEL_K_BIAS, MODEL_V_BIAS,
	MODEL_MLP_NORM, MODEL_GATE, MODEL_UP, MODEL_DOWN,
};

/* adapter: PEFT folder or NULL. STATUS_NO_INPUT, STATUS_CORRUPT (file, byte, reason), UNSUPPORTED. */
enum status model_open(const char *path, const char *adapter, struct model **out, struct error *error);
void model_close(struct model *model);                  /* NULL ok */
const struct model_config *model_get_config(const struct model *model);

/* Rows [first, first + count) of a tensor as float32 into out [count, columns]. */
enum status model_read(const struct model *model, enum model_tensor tensor, uint32_t layer,
		       uint32_t first_row, uint32_t count, float *out, struct error *error);

/* A 128-bit hash of the content as 32 hex digits: configuration (GGUF: all metadata), names, shapes, types
 * and bytes of the tensors, the folder's tokenizer files, the adapter. The container does not count: the same
 * tensors as safetensors or as a PyTorch zip have one hash. */
enum status model_content_hash(const struct model *model, char hex[33], struct error *error);

/* For inspect: every tensor as stored. */
struct model_tensor_info {
	const char *name;
	const char *type;               /* "F32", "Q4_1", ... */
	uint64_t shape[4];              /* [rank], outermost first */
	uint32_t rank;
	uint64_t bytes;
	const char *file;
	uint64_t offset;
};
size_t model_tensor_count(const struct model *model);
void model_tensor_info(const struct model *model, size_t index, struct model_tensor_info *out);

#endif

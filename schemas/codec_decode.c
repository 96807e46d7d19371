/* codec_decode.c - walks a plan over one body and writes the struct.
 *
 * Invariants: `at` never passes `end`; every element of an array costs the writer at least one byte or
 * counts against EMPTY_ITEMS_MAX, so that work and memory are bounded by the body's size and the arena;
 * recursion follows the plan (finite), or while skipping stops at SKIP_DEPTH_MAX. The struct is zero
 * before the walk, which is what absent means. Any thread, one arena per thread. */
#include "schemas/codec_buffer.h"
#include "schemas/codec_plan.h"

enum { SKIP_DEPTH_MAX = 256, EMPTY_ITEMS_MAX = 65536 };

struct decoder {
	const unsigned char *at;
	const unsigned char *end;
	struct arena *arena;
	const char *field;
	const char *problem;    /* set by the first failure */
	enum status status;
};

static bool fail_with(struct decoder *decoder, const char *field, enum status status, const char *problem)
{
	decoder->field = field;
	decoder->status = status;
	decoder->problem = problem;
	return false;
}

static bool fail(struct decoder *decoder, const char *field, const char *problem)
{
	return fail_with(decoder, field, STATUS_BAD_RECORD, problem);
}

static inline size_t left(const struct decoder *decoder)
{
	return (size_t)(decoder->end - decoder->at);
}

/* Most numbers are lengths, counts and branches of one byte. */
static inline bool get_long(struct decoder *decoder, const char *field, int64_t *value)
{
	const unsigned char *next;

	if (decoder->at < decoder->end && *decoder->at < 0x80) {
		unsigned byte = *decoder->at++;
		*value = (int64_t)(byte >> 1) ^ -(int64_t)(byte & 1);
		return true;
	}
	next = codec_get_long(decoder->at, decoder->end, value);
	if (!next)
		return fail(decoder, field, left(decoder) < CODEC_LONG_BYTES_MAX ? "the number is cut off"
										: "a number of more than 64 bits");
	decoder->at = next;
	return true;
}

static inline bool get_int(struct decoder *decoder, const char *field, int64_t *value)
{
	if (!get_long(decoder, field, value))
		return false;
	if (*value < INT32_MIN || *value > INT32_MAX)
		return fail(decoder, field, "an int of more than 32 bits");
	return true;
}

static inline bool get_bytes(struct decoder *decoder, const char *field, void *to, size_t bytes)
{
	if (left(decoder) < bytes)
		return fail(decoder, field, "the value is cut off");
	memcpy(to, decoder->at, bytes);
	decoder->at += bytes;
	return true;
}

static inline bool get_text(struct decoder *decoder, const char *field, struct text_view *text)
{
	int64_t size;

	if (!get_long(decoder, field, &size))
		return false;
	if (size < 0)
		return fail(decoder, field, "a negative length");
	if ((uint64_t)size > left(decoder))
		return fail(decoder, field, "the text is cut off");
	*text = (struct text_view){(const char *)decoder->at, (size_t)size};
	decoder->at += size;
	return true;
}

static inline bool get_branch(struct decoder *decoder, const char *field, size_t count, size_t *branch)
{
	int64_t value;

	if (!get_long(decoder, field, &value))
		return false;
	if (value < 0 || (uint64_t)value >= count)
		return fail(decoder, field, "a union branch that the schema does not have");
	*branch = (size_t)value;
	return true;
}

/* Block header of an array or map: *count items follow, 0 ends it. A negative count is followed by the
 * size of the block, else *size is -1. */
static bool get_block(struct decoder *decoder, const char *field, uint64_t *count, int64_t *size)
{
	int64_t value;

	*size = -1;
	if (!get_long(decoder, field, &value))
		return false;
	if (value >= 0) {
		*count = (uint64_t)value;
		return true;
	}
	*count = -(uint64_t)value;
	if (!get_long(decoder, field, size))
		return false;
	if (*size < 0 || (uint64_t)*size > left(decoder))
		return fail(decoder, field, "a block that is larger than the record");
	return true;
}

static bool skip(struct decoder *decoder, const char *field, const struct schema_node *node, unsigned depth);

static bool skip_bytes(struct decoder *decoder, const char *field, uint64_t bytes)
{
	if (bytes > left(decoder))
		return fail(decoder, field, "the value is cut off");
	decoder->at += bytes;
	return true;
}

static bool skip_blocks(struct decoder *decoder, const char *field, const struct schema_node *node,
			unsigned depth)
{
	const bool map = node->kind == SCHEMA_MAP;
	const uint64_t min_bytes = node->items->min_bytes;
	struct text_view key;
	uint64_t count, bytes;
	int64_t size;

	for (;;) {
		if (!get_block(decoder, field, &count, &size))
			return false;
		if (count == 0)
			return true;
		if (size >= 0) {
			decoder->at += size;
			continue;
		}
		if (!map && node->items->constant) {    /* of no bytes, too: 2^62 nulls are one step */
			if (__builtin_mul_overflow(count, min_bytes, &bytes))
				return fail(decoder, field, "more items than bytes");
			if (!skip_bytes(decoder, field, bytes))
				return false;
			continue;
		}
		if (count > left(decoder))
			return fail(decoder, field, "more items than bytes");
		while (count--)
			if ((map && !get_text(decoder, field, &key)) || !skip(decoder, field, node->items, depth))
				return false;
	}
}

static bool skip(struct decoder *decoder, const char *field, const struct schema_node *node, unsigned depth)
{
	struct text_view text;
	int64_t value;
	size_t branch;

	if (node->constant)
		return skip_bytes(decoder, field, node->min_bytes);
	if (depth == SKIP_DEPTH_MAX)
		return fail(decoder, field, "nested too deep");
	switch (node->kind) {
	case SCHEMA_INT:
	case SCHEMA_LONG:
		return get_long(decoder, field, &value);
	case SCHEMA_BYTES:
	case SCHEMA_STRING:
		return get_text(decoder, field, &text);
	case SCHEMA_ENUM:
		if (!get_long(decoder, field, &value))
			return false;
		return (value >= 0 && (uint64_t)value < node->count) || fail(decoder, field, "no such enum symbol");
	case SCHEMA_UNION:
		return get_branch(decoder, field, node->count, &branch) &&
		       skip(decoder, field, node->parts[branch], depth + 1);
	case SCHEMA_ARRAY:
	case SCHEMA_MAP:
		return skip_blocks(decoder, field, node, depth + 1);
	case SCHEMA_RECORD:
		for (size_t i = 0; i < node->parts_count; i++)
			if (!skip(decoder, field, node->parts[i], depth + 1))
				return false;
		return true;
	default:
		return fail(decoder, field, "a type of unknown size");
	}
}

static bool run(struct decoder *decoder, const struct plan_node *steps, size_t count, unsigned char *base);

/* Makes room for `more` elements after `count`; the block sizes that the writer chose may be tiny. */
static bool grow(struct decoder *decoder, const struct plan_node *node, unsigned char **items, size_t count,
		 size_t *capacity, uint64_t more)
{
	size_t wanted, bytes;
	unsigned char *grown;

	if (more > SIZE_MAX / 2 - count)
		return fail(decoder, node->name, "more items than bytes");
	wanted = count + (size_t)more;
	if (wanted <= *capacity)
		return true;
	if (count && wanted < 2 * count)
		wanted = 2 * count;
	grown = mem_multiply(wanted, node->item_size, &bytes) ? arena_alloc(decoder->arena, bytes) : NULL;
	if (!grown)
		return fail_with(decoder, node->name, STATUS_LIMIT, "the record needs more memory than allowed");
	if (count)
		memcpy(grown, *items, count * node->item_size);
	*items = grown;
	*capacity = wanted;
	return true;
}

static bool get_items(struct decoder *decoder, const struct plan_node *node, unsigned char *base)
{
	const struct plan_node *item = node->children;
	const bool map = node->op == PLAN_MAP;
	const bool floats = !map && item->op == PLAN_FLOAT && node->item_size == sizeof(float);
	const uint64_t min_bytes = node->writer->min_bytes + (map ? 1 : 0);
	const size_t item_size = node->item_size;
	unsigned char *items = NULL;
	size_t count = 0, capacity = 0;
	uint64_t more;
	int64_t size;

	for (;;) {
		const unsigned char *start;

		if (!get_block(decoder, node->name, &more, &size))
			return false;
		if (more == 0)
			break;
		if (min_bytes ? more > left(decoder) / min_bytes : more > EMPTY_ITEMS_MAX - count)
			return fail(decoder, node->name, "more items than bytes");
		if (!grow(decoder, node, &items, count, &capacity, more))
			return false;
		start = decoder->at;
		if (floats) {
			if (!get_bytes(decoder, node->name, items + count * item_size, (size_t)more * sizeof(float)))
				return false;
			count += (size_t)more;
		} else {
			memset(items + count * item_size, 0, (size_t)more * item_size);
			for (uint64_t i = 0; i < more; i++, count++) {
				unsigned char *element = items + count * item_size;
				if (map && !get_text(decoder, node->name, &((struct attribute *)(void *)element)->name))
					return false;
				if (item->op == PLAN_RECORD ? !run(decoder, item->children, item->count, element)
							    : !run(decoder, item, 1, element))
					return false;
			}
		}
		if (size >= 0 && decoder->at - start != size)
			return fail(decoder, node->name, "a block whose size is not that of its items");
	}
	memcpy(base + node->offset, &items, sizeof items);
	memcpy(base + node->extra, &count, sizeof count);
	return true;
}

static bool get_default(struct decoder *decoder, const struct plan_node *node, unsigned char *base)
{
	const unsigned char *at = decoder->at, *end = decoder->end;
	bool ok;

	decoder->at = node->fallback;
	decoder->end = node->fallback + node->fallback_size;
	ok = run(decoder, node->children, 1, base);
	decoder->at = at;
	decoder->end = end;
	return ok;
}

static bool unresolved(struct decoder *decoder, const struct plan_node *node)
{
	static const char *const problems[] = {
		[SCHEMA_NULL] = "null where a value is needed",
		[SCHEMA_BOOLEAN] = "a boolean, which this field cannot hold",
		[SCHEMA_INT] = "an int, which this field cannot hold",
		[SCHEMA_LONG] = "a long, which this field cannot hold",
		[SCHEMA_FLOAT] = "a float, which this field cannot hold",
		[SCHEMA_DOUBLE] = "a double, which this field cannot hold",
		[SCHEMA_BYTES] = "bytes, which this field cannot hold",
		[SCHEMA_STRING] = "a string, which this field cannot hold",
		[SCHEMA_RECORD] = "a record, which this field cannot hold",
		[SCHEMA_ENUM] = "an enum, which this field cannot hold",
		[SCHEMA_FIXED] = "a fixed, which this field cannot hold",
		[SCHEMA_ARRAY] = "an array, which this field cannot hold",
		[SCHEMA_MAP] = "a map, which this field cannot hold",
		[SCHEMA_UNION] = "a union, which this field cannot hold",
	};
	return fail(decoder, node->name, problems[node->writer->kind]);
}

static bool get_enum(struct decoder *decoder, const struct plan_node *node, unsigned char *to)
{
	int64_t index;
	unsigned value;

	if (!get_long(decoder, node->name, &index))
		return false;
	if (index < 0 || (uint64_t)index >= node->count)
		return fail(decoder, node->name, "no such enum symbol");
	if (node->symbols[index] < 0)
		return fail(decoder, node->name, "an enum symbol that is unknown here");
	value = (unsigned)node->symbols[index];
	memcpy(to, &value, sizeof value);
	return true;
}
_Static_assert(sizeof(enum interaction_kind) == sizeof(unsigned) &&
	       sizeof(enum prediction_status) == sizeof(unsigned), "get_enum writes an unsigned");

/* One value that has a bool beside it where it is optional. */
static inline bool put(const struct plan_node *node, unsigned char *base, const void *value, size_t bytes)
{
	memcpy(base + node->offset, value, bytes);
	if (node->extra != BINDING_NONE)
		*(bool *)(base + node->extra) = true;
	return true;
}

static bool run(struct decoder *decoder, const struct plan_node *steps, size_t count, unsigned char *base)
{
	for (const struct plan_node *step = steps; step < steps + count; step++) {
		const struct plan_node *node = step;
		int64_t integer;
		int32_t narrow;
		float single;
		double number;
		size_t branch;
		bool ok;

	again:
		switch (node->op) {
		case PLAN_TEXT:
			ok = get_text(decoder, node->name, (struct text_view *)(void *)(base + node->offset));
			break;
		case PLAN_LONG:
			ok = get_long(decoder, node->name, &integer) && put(node, base, &integer, sizeof integer);
			break;
		case PLAN_UNION:
			if (!get_branch(decoder, node->name, node->count, &branch))
				return false;
			node = &node->children[branch];
			goto again;
		case PLAN_ABSENT:
			ok = true;
			break;
		case PLAN_ENUM:
			ok = get_enum(decoder, node, base + node->offset);
			break;
		case PLAN_FLOAT:
			ok = get_bytes(decoder, node->name, &single, sizeof single) &&
			     put(node, base, &single, sizeof single);
			break;
		case PLAN_DOUBLE:
			ok = get_bytes(decoder, node->name, &number, sizeof number) &&
			     put(node, base, &number, sizeof number);
			break;
		case PLAN_INT:
			ok = get_int(decoder, node->name, &integer);
			narrow = ok ? (int32_t)integer : 0;
			ok = ok && put(node, base, &narrow, sizeof narrow);
			break;
		case PLAN_INT_TO_LONG:
			ok = get_int(decoder, node->name, &integer) && put(node, base, &integer, sizeof integer);
			break;
		case PLAN_INT_TO_FLOAT:
		case PLAN_LONG_TO_FLOAT:
			ok = node->op == PLAN_INT_TO_FLOAT ? get_int(decoder, node->name, &integer)
							   : get_long(decoder, node->name, &integer);
			single = ok ? (float)integer : 0;
			ok = ok && put(node, base, &single, sizeof single);
			break;
		case PLAN_INT_TO_DOUBLE:
		case PLAN_LONG_TO_DOUBLE:
			ok = node->op == PLAN_INT_TO_DOUBLE ? get_int(decoder, node->name, &integer)
							    : get_long(decoder, node->name, &integer);
			number = ok ? (double)integer : 0;
			ok = ok && put(node, base, &number, sizeof number);
			break;
		case PLAN_FLOAT_TO_DOUBLE:
			ok = get_bytes(decoder, node->name, &single, sizeof single);
			number = ok ? (double)single : 0;
			ok = ok && put(node, base, &number, sizeof number);
			break;
		case PLAN_BOOLEAN:
			if (decoder->at == decoder->end)
				return fail(decoder, node->name, "the value is cut off");
			if (*decoder->at > 1)
				return fail(decoder, node->name, "a boolean that is neither 0 nor 1");
			*(bool *)(base + node->offset) = *decoder->at++;
			ok = true;
			break;
		case PLAN_ARRAY:
		case PLAN_MAP:
			ok = get_items(decoder, node, base);
			break;
		case PLAN_RECORD:
			ok = run(decoder, node->children, node->count, base + node->offset);
			break;
		case PLAN_SKIP:
			ok = skip(decoder, node->name, node->writer, 0);
			break;
		case PLAN_DEFAULT:
			ok = get_default(decoder, node, base);
			break;
		default:
			ok = unresolved(decoder, node);
			break;
		}
		if (!ok)
			return false;
	}
	return true;
}

static enum status report(const struct decoder *decoder, const struct codec_plan *plan,
			  struct text_view body, struct error *error)
{
	return error_set(error, decoder->status, "%s.%s: %s at byte %zu of %zu", record_type_name(plan->type),
			 decoder->field ? decoder->field : "?", decoder->problem,
			 (size_t)(decoder->at - (const unsigned char *)body.bytes), body.size);
}

static struct decoder start(struct text_view body, struct arena *arena)
{
	const unsigned char *bytes = (const unsigned char *)(body.bytes ? body.bytes : "");
	return (struct decoder){.at = bytes, .end = bytes + (body.bytes ? body.size : 0), .arena = arena};
}

static unsigned char *event_fields(struct event *event)
{
	switch (event->type) {
	case RECORD_ITEM: return (unsigned char *)&event->item;
	case RECORD_IMPRESSION: return (unsigned char *)&event->impression;
	case RECORD_INTERACTION: return (unsigned char *)&event->interaction;
	case RECORD_SCORING_REQUEST: return (unsigned char *)&event->scoring_request;
	case RECORD_PREDICTION: return (unsigned char *)&event->prediction;
	case RECORD_DEAD_LETTER: break;
	}
	return (unsigned char *)&event->dead_letter;
}

enum status codec_decode(const struct codec_plan *plan, struct text_view body, struct arena *arena,
			 struct event *out, size_t *used, struct error *error)
{
	struct decoder decoder = start(body, arena);
	struct event event;
	size_t bytes;

	memset(&event, 0, sizeof event);
	event.type = plan->type;
	if (!run(&decoder, plan->root, 1, event_fields(&event)))
		return report(&decoder, plan, body, error);
	bytes = body.size - left(&decoder);
	if (!used && bytes != body.size)
		return error_set(error, STATUS_BAD_RECORD, "%s: ends at byte %zu of %zu",
				 record_type_name(plan->type), bytes, body.size);
	*out = event;
	if (used)
		*used = bytes;
	return STATUS_OK;
}

enum status codec_measure(const struct codec_plan *plan, struct text_view body, size_t *bytes,
			  struct error *error)
{
	struct decoder decoder = start(body, NULL);

	if (!skip(&decoder, "record", schema_root(plan->writer), 0))
		return report(&decoder, plan, body, error);
	*bytes = body.size - left(&decoder);
	return STATUS_OK;
}

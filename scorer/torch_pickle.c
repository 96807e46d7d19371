/* torch_pickle.c - the machine: a stack of value numbers over a growing list of values.
 *
 * Invariant: a number on the stack, in the memo, in a tuple or in a dictionary names a value made before
 * (lower than machine->count), so walks end. Called by torch_zip.c. */
#include "scorer/torch_pickle.h"

#include <stdio.h>

enum {
	VALUES_MAX = 2 << 20, STACK_MAX = 1 << 20, MEMO_MAX = 2 << 20, ITEMS_MAX = 4 << 20,
	GLOBAL_BYTES_MAX = 128
};

enum kind {
	KIND_MARK, KIND_NONE, KIND_BOOL, KIND_INTEGER, KIND_TEXT, KIND_TUPLE, KIND_DICTIONARY,
	KIND_STORAGE_TYPE,
	KIND_ORDERED_DICT, KIND_REBUILD_TENSOR, KIND_REBUILD_PARAMETER, KIND_STORAGE, KIND_TENSOR
};

struct value {
	enum kind kind;
	enum tensor_type type;          /* storage type, storage, tensor */
	struct text_view text;          /* text; storage and tensor: the key */
	int64_t integer;                /* integer, bool; storage: its elements */
	uint32_t first, size;           /* tuple: its items; tensor: shape in items of integers */
	uint32_t last;                  /* dictionary: its last entry + 1 */
	int64_t offset;                 /* tensor */
};

/* A tuple's items lie next to each other; a dictionary's entries are chained, first = entry + 1. */
struct entry {
	uint32_t key, value, next;
};

struct machine {
	const struct mapped_file *file;
	const uint8_t *bytes;
	size_t start, size, at;         /* start: of the pickle in the file, for messages */
	struct value *values;
	size_t count, capacity;
	uint32_t *stack;
	size_t depth, stack_capacity;
	uint32_t *items;
	size_t item_count, item_capacity;
	struct entry *entries;
	size_t entry_count, entry_capacity;
	uint32_t *memo;                 /* value + 1; 0: empty */
	size_t memo_size;
	struct error *error;
};

static const struct {
	const char *module, *name;
	enum kind kind;
	enum tensor_type type;
} globals[] = {
	{"torch", "HalfStorage", KIND_STORAGE_TYPE, TENSOR_F16},
	{"torch", "BFloat16Storage", KIND_STORAGE_TYPE, TENSOR_BF16},
	{"torch", "FloatStorage", KIND_STORAGE_TYPE, TENSOR_F32},
	{"torch", "DoubleStorage", KIND_STORAGE_TYPE, TENSOR_F64},
	{"torch", "LongStorage", KIND_STORAGE_TYPE, TENSOR_I64},
	{"torch", "IntStorage", KIND_STORAGE_TYPE, TENSOR_I32},
	{"torch", "ShortStorage", KIND_STORAGE_TYPE, TENSOR_I16},
	{"torch", "CharStorage", KIND_STORAGE_TYPE, TENSOR_I8},
	{"torch", "ByteStorage", KIND_STORAGE_TYPE, TENSOR_U8},
	{"torch", "BoolStorage", KIND_STORAGE_TYPE, TENSOR_BOOL},
	{"collections", "OrderedDict", KIND_ORDERED_DICT, TENSOR_F32},
	{"torch._utils", "_rebuild_tensor_v2", KIND_REBUILD_TENSOR, TENSOR_F32},
	{"torch._utils", "_rebuild_parameter", KIND_REBUILD_PARAMETER, TENSOR_F32},
};

static enum status malformed(struct machine *machine, const char *reason)
{
	return mapped_file_corrupt(machine->file, machine->start + machine->at, machine->error,
				   "data.pkl: %s",
				   reason);
}

static enum status no_memory(struct machine *machine)
{
	return error_set(machine->error, STATUS_NO_MEMORY, "%s: no memory for data.pkl", machine->file->path);
}

/* ---- bytes ---- */

static enum status take(struct machine *machine, size_t size, const uint8_t **out)
{
	if (size > machine->size - machine->at)
		return malformed(machine, "it is cut off");
	*out = machine->bytes + machine->at;
	machine->at += size;
	return STATUS_OK;
}

static enum status take_unsigned(struct machine *machine, size_t size, uint64_t *out)
{
	const uint8_t *at = NULL;
	enum status status = take(machine, size, &at);
	uint64_t value = 0;

	for (size_t i = 0; status == STATUS_OK && i < size; i++)
		value |= (uint64_t)at[i] << 8 * i;
	if (status == STATUS_OK)
		*out = value;
	return status;
}

/* ---- stack and values ---- */

static bool grow(void *array_of_pointer, size_t *capacity, size_t count, size_t max, size_t size)
{
	void **array = array_of_pointer;
	return mem_reserve(array, capacity, count, max, size);
}

static enum status push_number(struct machine *machine, uint32_t number)
{
	void *stack = machine->stack;

	if (!grow(&stack, &machine->stack_capacity, machine->depth, STACK_MAX, sizeof(*machine->stack)))
		return machine->depth == STACK_MAX ? malformed(machine, "its stack is too deep") :
			no_memory(machine);
	machine->stack = stack;
	machine->stack[machine->depth++] = number;
	return STATUS_OK;
}

static enum status push(struct machine *machine, const struct value *value)
{
	void *values = machine->values;

	if (!grow(&values, &machine->capacity, machine->count, VALUES_MAX, sizeof(*machine->values)))
		return machine->count == VALUES_MAX ? malformed(machine, "it makes too many values") :
						      no_memory(machine);
	machine->values = values;
	machine->values[machine->count] = *value;
	return push_number(machine, (uint32_t)machine->count++);
}

static enum status push_kind(struct machine *machine, enum kind kind, int64_t integer)
{
	return push(machine, &(struct value){.kind = kind, .integer = integer});
}

/* NULL: the stack is empty, or a mark is on top. */
static struct value *pop(struct machine *machine)
{
	struct value *value;

	if (machine->depth == 0)
		return NULL;
	value = &machine->values[machine->stack[machine->depth - 1]];
	if (value->kind == KIND_MARK)
		return NULL;
	machine->depth--;
	return value;
}

/* The place of the topmost mark; false: none. */
static bool find_mark(const struct machine *machine, size_t *place)
{
	for (size_t i = machine->depth; i-- > 0;) {
		if (machine->values[machine->stack[i]].kind == KIND_MARK) {
			*place = i;
			return true;
		}
	}
	return false;
}

/* ---- containers ---- */

/* The stack from `from` on becomes one tuple, in place of what lies from `to` on. */
static enum status make_tuple(struct machine *machine, size_t from, size_t to)
{
	struct value tuple = {.kind = KIND_TUPLE, .first = (uint32_t)machine->item_count,
			      .size = (uint32_t)(machine->depth - from)};

	for (size_t i = from; i < machine->depth; i++) {
		void *items = machine->items;
		if (machine->values[machine->stack[i]].kind == KIND_MARK)
			return malformed(machine, "a mark inside a tuple");
		if (!grow(&items, &machine->item_capacity, machine->item_count, ITEMS_MAX,
			  sizeof(*machine->items)))
			return machine->item_count == ITEMS_MAX ? malformed(machine, "too many tuple items") :
								 no_memory(machine);
		machine->items = items;
		machine->items[machine->item_count++] = machine->stack[i];
	}
	machine->depth = to;
	return push(machine, &tuple);
}

static enum status set_item(struct machine *machine, uint32_t dictionary, uint32_t key, uint32_t item)
{
	void *entries = machine->entries;
	struct value *value = &machine->values[dictionary];
	uint32_t number;

	if (!grow(&entries, &machine->entry_capacity, machine->entry_count, ITEMS_MAX,
		  sizeof(*machine->entries)))
		return machine->entry_count == ITEMS_MAX ? malformed(machine, "too many dictionary entries") :
							   no_memory(machine);
	machine->entries = entries;
	machine->entries[machine->entry_count++] = (struct entry){key, item, 0};
	number = (uint32_t)machine->entry_count;
	if (value->last)
		machine->entries[value->last - 1].next = number;
	else
		value->first = number;
	value->last = number;
	value->size++;
	return STATUS_OK;
}

/* The pairs above `from` go into the dictionary just below `to`. */
static enum status set_items(struct machine *machine, size_t from, size_t to)
{
	size_t count = machine->depth - from;
	uint32_t dictionary;

	if (to == 0 || count % 2 != 0)
		return malformed(machine, "dictionary entries without a dictionary or without a value");
	dictionary = machine->stack[to - 1];
	if (machine->values[dictionary].kind != KIND_DICTIONARY)
		return malformed(machine, "entries are set in what is no dictionary");
	for (size_t i = from; i < machine->depth; i += 2) {
		enum status status = set_item(machine, dictionary, machine->stack[i], machine->stack[i + 1]);
		if (status != STATUS_OK)
			return status;
	}
	machine->depth = to;
	return STATUS_OK;
}

static const struct value *item_of(const struct machine *machine, const struct value *tuple, uint32_t index)
{
	return &machine->values[machine->items[tuple->first + index]];
}

/* ---- what a checkpoint calls ---- */

static enum status read_line(struct machine *machine, char out[GLOBAL_BYTES_MAX])
{
	const uint8_t *at = machine->bytes + machine->at;
	const uint8_t *end = memchr(at, '\n', machine->size - machine->at);

	if (!end || end - at >= GLOBAL_BYTES_MAX)
		return malformed(machine, "a global's name is cut off or too long");
	memcpy(out, at, (size_t)(end - at));
	out[end - at] = '\0';
	machine->at += (size_t)(end - at) + 1;
	return STATUS_OK;
}

static enum status push_global(struct machine *machine)
{
	char module[GLOBAL_BYTES_MAX], name[GLOBAL_BYTES_MAX], reason[3 * GLOBAL_BYTES_MAX];
	enum status status = read_line(machine, module);

	if (status == STATUS_OK)
		status = read_line(machine, name);
	if (status != STATUS_OK)
		return status;
	for (size_t i = 0; i < sizeof(globals) / sizeof(globals[0]); i++)
		if (strcmp(module, globals[i].module) == 0 && strcmp(name, globals[i].name) == 0)
			return push(machine, &(struct value){.kind = globals[i].kind,
							     .type = globals[i].type});
	snprintf(reason, sizeof(reason), "it imports %s.%s, which a checkpoint does not need; refused",
		 module, name);
	return malformed(machine, reason);
}

/* ('storage', type, key, place, elements) */
static enum status make_storage(struct machine *machine)
{
	const struct value *tuple = pop(machine), *type, *key, *elements;

	if (!tuple || tuple->kind != KIND_TUPLE || tuple->size != 5)
		return malformed(machine, "a persistent id that is no storage");
	type = item_of(machine, tuple, 1);
	key = item_of(machine, tuple, 2);
	elements = item_of(machine, tuple, 4);
	if (item_of(machine, tuple, 0)->kind != KIND_TEXT ||
	    !text_equal(item_of(machine, tuple, 0)->text, TEXT_LITERAL("storage")) ||
	    type->kind != KIND_STORAGE_TYPE || key->kind != KIND_TEXT || elements->kind != KIND_INTEGER ||
	    elements->integer < 0)
		return malformed(machine, "a persistent id that is no storage");
	return push(machine, &(struct value){.kind = KIND_STORAGE, .type = type->type, .text = key->text,
					     .integer = elements->integer});
}

/* Rows without gaps: the only layout that is read. Extents of one may have any stride. */
static bool is_contiguous(const struct machine *machine, const struct value *shape,
			  const struct value *strides)
{
	uint64_t expected = 1;

	for (uint32_t i = shape->size; i-- > 0;) {
		int64_t extent = item_of(machine, shape, i)->integer;
		int64_t stride = item_of(machine, strides, i)->integer;
		if (extent == 0)
			return true;
		if (extent != 1 && (uint64_t)stride != expected)
			return false;
		if (__builtin_mul_overflow(expected, (uint64_t)extent, &expected))
			return false;
	}
	return true;
}

/* (storage, offset, shape, strides, requires_grad, hooks[, metadata]) */
static enum status make_tensor(struct machine *machine, const struct value *arguments)
{
	const struct value *storage, *offset, *shape, *strides;
	struct value tensor;

	if (arguments->size < 6 || arguments->size > 7)
		return malformed(machine, "a tensor of other than 6 or 7 parts");
	storage = item_of(machine, arguments, 0);
	offset = item_of(machine, arguments, 1);
	shape = item_of(machine, arguments, 2);
	strides = item_of(machine, arguments, 3);
	if (storage->kind != KIND_STORAGE || offset->kind != KIND_INTEGER || offset->integer < 0 ||
	    shape->kind != KIND_TUPLE || strides->kind != KIND_TUPLE || shape->size != strides->size)
		return malformed(machine, "a tensor without storage, offset, shape or strides");
	for (uint32_t i = 0; i < shape->size; i++)
		if (item_of(machine, shape, i)->kind != KIND_INTEGER ||
		    item_of(machine, shape, i)->integer < 0 ||
		    item_of(machine, strides, i)->kind != KIND_INTEGER)
			return malformed(machine, "a shape or strides that are no counts");
	if (shape->size > TENSOR_RANK_MAX || !is_contiguous(machine, shape, strides))
		return error_set(machine->error, STATUS_UNSUPPORTED,
				 "%s: byte %zu: a tensor that is not contiguous or "
				 "has a rank above %d", machine->file->path, machine->start + machine->at,
				 TENSOR_RANK_MAX);
	tensor = (struct value){.kind = KIND_TENSOR, .type = storage->type, .text = storage->text,
				.integer = storage->integer, .offset = offset->integer, .first = shape->first,
				.size = shape->size};
	return push(machine, &tensor);
}

static enum status reduce(struct machine *machine)
{
	const struct value *arguments = pop(machine), *function = pop(machine), *data;

	if (!arguments || !function || arguments->kind != KIND_TUPLE)
		return malformed(machine, "a call without function or arguments");
	switch (function->kind) {
	case KIND_ORDERED_DICT:
		if (arguments->size != 0)
			return malformed(machine, "an OrderedDict made from arguments");
		return push_kind(machine, KIND_DICTIONARY, 0);
	case KIND_REBUILD_TENSOR:
		return make_tensor(machine, arguments);
	case KIND_REBUILD_PARAMETER:
		data = arguments->size ? item_of(machine, arguments, 0) : NULL;
		if (!data || data->kind != KIND_TENSOR)
			return malformed(machine, "a parameter without a tensor");
		return push_number(machine, machine->items[arguments->first]);
	default:
		return malformed(machine, "a call of what is no function");
	}
}

/* ---- memo ---- */

static enum status put(struct machine *machine, uint64_t number)
{
	if (machine->depth == 0)
		return malformed(machine, "nothing to remember");
	if (number >= MEMO_MAX || number > machine->size)
		return malformed(machine, "a memo number that is too large");
	if (number >= machine->memo_size) {
		size_t size = 2 * (size_t)number + 64;
		uint32_t *memo = mem_resize_array(machine->memo, size, sizeof(*memo));
		if (!memo)
			return no_memory(machine);
		memset(memo + machine->memo_size, 0, (size - machine->memo_size) * sizeof(*memo));
		machine->memo = memo;
		machine->memo_size = size;
	}
	machine->memo[number] = machine->stack[machine->depth - 1] + 1;
	return STATUS_OK;
}

static enum status get(struct machine *machine, uint64_t number)
{
	if (number >= machine->memo_size || machine->memo[number] == 0)
		return malformed(machine, "a memo number that was never given");
	return push_number(machine, machine->memo[number] - 1);
}

/* ---- opcodes ---- */

static enum status push_text(struct machine *machine, size_t length_bytes)
{
	const uint8_t *at = NULL;
	uint64_t size = 0;
	enum status status = take_unsigned(machine, length_bytes, &size);

	if (status == STATUS_OK)
		status = take(machine, size, &at);
	if (status != STATUS_OK)
		return status;
	return push(machine, &(struct value){.kind = KIND_TEXT, .text = {(const char *)at, size}});
}

/* Little-endian two's complement of 0 to 8 bytes. */
static enum status push_long(struct machine *machine)
{
	uint64_t size = 0, value = 0;
	enum status status = take_unsigned(machine, 1, &size);

	if (status == STATUS_OK && size > 8)
		return malformed(machine, "an integer of more than 64 bits");
	if (status == STATUS_OK)
		status = take_unsigned(machine, size, &value);
	if (status != STATUS_OK)
		return status;
	if (size > 0 && size < 8 && value >> (8 * size - 1))
		value |= UINT64_MAX << 8 * size;
	return push_kind(machine, KIND_INTEGER, (int64_t)value);
}

static enum status push_integer(struct machine *machine, size_t bytes)
{
	uint64_t value = 0;
	enum status status = take_unsigned(machine, bytes, &value);

	if (status != STATUS_OK)
		return status;
	return push_kind(machine, KIND_INTEGER, bytes == 4 ? (int64_t)(int32_t)(uint32_t)value :
			 (int64_t)value);
}

static enum status build(struct machine *machine)
{
	/* The state of an OrderedDict is its _metadata: versions of modules, of no use here. */
	if (!pop(machine) || machine->depth == 0 ||
	    machine->values[machine->stack[machine->depth - 1]].kind != KIND_DICTIONARY)
		return malformed(machine, "a state for what is no dictionary");
	return STATUS_OK;
}

static enum status step(struct machine *machine, uint8_t opcode)
{
	enum status status = STATUS_OK;
	uint64_t number = 0;
	size_t mark;
	char reason[64];

	switch (opcode) {
	case '(': return push_kind(machine, KIND_MARK, 0);
	case 'N': return push_kind(machine, KIND_NONE, 0);
	case 0x88: return push_kind(machine, KIND_BOOL, 1);
	case 0x89: return push_kind(machine, KIND_BOOL, 0);
	case 'K': return push_integer(machine, 1);
	case 'M': return push_integer(machine, 2);
	case 'J': return push_integer(machine, 4);
	case 0x8A: return push_long(machine);
	case 'X': return push_text(machine, 4);
	case 'U': return push_text(machine, 1);
	case '}': return push_kind(machine, KIND_DICTIONARY, 0);
	case ')': return make_tuple(machine, machine->depth, machine->depth);
	case 0x85: case 0x86: case 0x87:
		number = opcode - 0x84u;
		if (machine->depth < number)
			return malformed(machine, "a tuple of more than the stack holds");
		return make_tuple(machine, machine->depth - number, machine->depth - number);
	case 't':
		if (!find_mark(machine, &mark))
			return malformed(machine, "a tuple without its mark");
		return make_tuple(machine, mark + 1, mark);
	case 's':
		if (machine->depth < 3)
			return malformed(machine, "an entry without key and value");
		return set_items(machine, machine->depth - 2, machine->depth - 2);
	case 'u':
		if (!find_mark(machine, &mark))
			return malformed(machine, "entries without their mark");
		return set_items(machine, mark + 1, mark);
	case 'c': return push_global(machine);
	case 'Q': return make_storage(machine);
	case 'R': return reduce(machine);
	case 'b': return build(machine);
	case 'q': case 'h':
		status = take_unsigned(machine, 1, &number);
		break;
	case 'r': case 'j':
		status = take_unsigned(machine, 4, &number);
		break;
	default:
		snprintf(reason, sizeof(reason), "opcode 0x%02x, which a checkpoint does not need; refused",
			 opcode);
		return malformed(machine, reason);
	}
	if (status != STATUS_OK)
		return status;
	return opcode == 'q' || opcode == 'r' ? put(machine, number) : get(machine, number);
}

static enum status run(struct machine *machine)
{
	const uint8_t *opcode = NULL;
	enum status status = take(machine, 2, &opcode);

	if (status == STATUS_OK && (opcode[0] != 0x80 || opcode[1] != 2)) {
		machine->at = 0;
		return malformed(machine, "not a pickle of protocol 2");
	}
	while (status == STATUS_OK) {
		status = take(machine, 1, &opcode);
		if (status == STATUS_OK && *opcode == '.')
			break;
		if (status == STATUS_OK)
			status = step(machine, *opcode);
	}
	return status;
}

static enum status give(struct machine *machine, torch_pickle_take take_tensor, void *context)
{
	const struct value *dictionary = pop(machine);

	if (!dictionary || dictionary->kind != KIND_DICTIONARY || machine->depth != 0)
		return malformed(machine, "its result is no dictionary");
	if (machine->at != machine->size)
		return malformed(machine, "something follows its end");
	for (uint32_t number = dictionary->first; number; number = machine->entries[number - 1].next) {
		const struct value *key = &machine->values[machine->entries[number - 1].key];
		const struct value *value = &machine->values[machine->entries[number - 1].value];
		struct torch_tensor tensor;
		enum status status;
		if (key->kind != KIND_TEXT || value->kind != KIND_TENSOR)
			return malformed(machine,
					 "an entry that is not a name with a tensor: this is no plain state "
					 "dictionary");
		tensor = (struct torch_tensor){.name = key->text, .storage_key = value->text,
					       .type = value->type,
					       .storage_elements = (uint64_t)value->integer,
					       .offset = (uint64_t)value->offset, .rank = value->size};
		for (uint32_t i = 0; i < value->size; i++)
			tensor.shape[i] = (uint64_t)machine->values[machine->items[value->first + i]].integer;
		status = take_tensor(context, &tensor, machine->error);
		if (status != STATUS_OK)
			return status;
	}
	return STATUS_OK;
}

enum status torch_pickle_read(const struct mapped_file *file, size_t start, size_t size,
			      torch_pickle_take take_tensor, void *context, struct error *error)
{
	struct machine machine = {.file = file, .bytes = file->bytes + start, .start = start, .size = size,
				  .error = error};
	enum status status;

	if (size > TORCH_PICKLE_BYTES_MAX)
		return mapped_file_corrupt(file, start, error, "data.pkl of %zu bytes (limit %d)", size,
					   TORCH_PICKLE_BYTES_MAX);
	status = run(&machine);
	if (status == STATUS_OK)
		status = give(&machine, take_tensor, context);
	mem_free(machine.values);
	mem_free(machine.stack);
	mem_free(machine.items);
	mem_free(machine.entries);
	mem_free(machine.memo);
	return status;
}

/* fuzz_schema.c - any text as a writer's schema, up to the first 0xff; what follows is a body for it.
 * Checks: a bounded parse, statuses of the documented kinds, an arena that is kept to. */
#include "schemas/codec_plan.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_BYTES = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct arena *arena;
	const uint8_t *cut = size ? memchr(data, 0xff, size) : NULL;
	size_t json_size = cut ? (size_t)(cut - data) : size;
	struct text_view json = {(const char *)data, json_size};
	struct text_view body = {cut ? (const char *)cut + 1 : "", cut ? size - json_size - 1 : 0};

	if (!arena)
		arena = arena_create(ARENA_BYTES);
	for (int type = 0; type < RECORD_TYPES; type++) {
		struct codec_plan *plan = NULL;
		struct error error = {0};
		struct event event;
		enum status status = codec_plan_create((enum record_type)type, json, &plan, &error);
		if (status) {
			if ((status != STATUS_CORRUPT && status != STATUS_INCOMPATIBLE) || plan || !error.text[0])
				abort();
			if (status == STATUS_CORRUPT)
				break;          /* the same for every type */
			continue;
		}
		arena_reset(arena);
		status = codec_decode(plan, body, arena, &event, NULL, &error);
		if (status && status_class(status) != STATUS_CLASS_BAD)
			abort();
		codec_plan_destroy(plan);
	}
	return 0;
}

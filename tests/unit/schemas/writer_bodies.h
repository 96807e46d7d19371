/* writer_bodies.h - for tests of schemas/: a plan for a writer's schema and a body put together number by
 * number as such a writer would. One test at a time; set_up and tear_down are Check fixtures. */
#ifndef EXITPOLL_TESTS_WRITER_BODIES_H
#define EXITPOLL_TESTS_WRITER_BODIES_H

#include "schemas/codec_buffer.h"
#include "schemas/codec_plan.h"
#include "tests/check_run.h"

#include <stdio.h>

enum { ARENA_BYTES = 64 * 1024 * 1024 };

static struct arena *arena;
static struct byte_buffer body;
static struct codec_plan *plan;
static struct event event;
static struct error error;

static inline void set_up(void)
{
	arena = arena_create(ARENA_BYTES);
	body = (struct byte_buffer){.bytes_max = 1 << 20};
	plan = NULL;
	memset(&event, 0, sizeof event);
	memset(&error, 0, sizeof error);
}

static inline void tear_down(void)
{
	codec_plan_destroy(plan);
	byte_buffer_free(&body);
	arena_destroy(arena);
}

static inline void number(int64_t value)
{
	char bytes[CODEC_LONG_BYTES_MAX];
	ck_assert(byte_buffer_append(&body, bytes, (size_t)(codec_put_long(bytes, value) - bytes)));
}

static inline void raw(const void *bytes, size_t size)
{
	ck_assert(byte_buffer_append(&body, bytes, size));
}

static inline void text(const char *value)
{
	number((int64_t)strlen(value));
	raw(value, strlen(value));
}

/* The writer's schema: the record `name` with these fields. */
static inline enum status plan_for(enum record_type type, const char *name, const char *fields)
{
	static char json[8192];
	int size = snprintf(json, sizeof json, "{\"type\":\"record\",\"name\":\"%s\",\"fields\":[%s]}", name, fields);

	ck_assert_int_lt(size, (int)sizeof json);
	codec_plan_destroy(plan);
	plan = NULL;
	body.size = 0;
	memset(&error, 0, sizeof error);
	return codec_plan_create(type, text_of(json), &plan, &error);
}

static inline void must_plan(enum record_type type, const char *fields)
{
	enum status status = plan_for(type, record_type_name(type), fields);
	ck_assert_msg(status == STATUS_OK, "%s", error.text);
}

static inline enum status decode(void)
{
	return codec_decode(plan, (struct text_view){body.bytes, body.size}, arena, &event, NULL, &error);
}

static inline void must_decode(void)
{
	enum status status = decode();
	size_t bytes = 0;
	ck_assert_msg(status == STATUS_OK, "%s", error.text);
	ck_assert_int_eq(codec_measure(plan, (struct text_view){body.bytes, body.size}, &bytes, &error), STATUS_OK);
	ck_assert_uint_eq(bytes, body.size);
}

#define F(name, type) "{\"name\":\"" name "\",\"type\":" type "}"
#define ITEM F("item_id", "\"string\"") "," F("event_time", "\"long\"")

#endif

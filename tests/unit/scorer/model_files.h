/* model_files.h - for the tests of model files: bytes that grow, files in a temporary folder, and the
 * optional shared models. Everything asserts on trouble of the machine. */
#ifndef EXITPOLL_TESTS_MODEL_FILES_H
#define EXITPOLL_TESTS_MODEL_FILES_H

#include "scorer/mapped_file.h"
#include "tests/check_run.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct bytes {
	uint8_t *at;
	size_t size, capacity;
};

static inline void put(struct bytes *bytes, const void *data, size_t size)
{
	if (bytes->size + size > bytes->capacity) {
		bytes->capacity = 2 * (bytes->size + size) + 64;
		bytes->at = mem_resize_array(bytes->at, bytes->capacity, 1);
		ck_assert_ptr_nonnull(bytes->at);
	}
	if (size)
		memcpy(bytes->at + bytes->size, data, size);
	bytes->size += size;
}

static inline void put_number(struct bytes *bytes, uint64_t value, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		uint8_t byte = i < 8 ? (uint8_t)(value >> 8 * i) : 0;
		put(bytes, &byte, 1);
	}
}

static inline void put_text(struct bytes *bytes, const char *text)
{
	put(bytes, text, strlen(text));
}

/* GGUF: a text, and keys with a number. */
static inline void put_gguf_text(struct bytes *bytes, const char *text)
{
	put_number(bytes, strlen(text), 8);
	put_text(bytes, text);
}

static inline void put_gguf_u32(struct bytes *bytes, const char *key, uint32_t value)
{
	put_gguf_text(bytes, key);
	put_number(bytes, 4, 4);
	put_number(bytes, value, 4);
}

static inline void put_gguf_f32(struct bytes *bytes, const char *key, float value)
{
	put_gguf_text(bytes, key);
	put_number(bytes, 6, 4);
	put(bytes, &value, 4);
}

static inline struct mapped_file in_memory(const struct bytes *bytes)
{
	return (struct mapped_file){.path = (char *)(uintptr_t)"test", .bytes = bytes->at ? bytes->at :
				    (const uint8_t *)"", .size = bytes->size};
}

/* A fresh folder; the caller frees the path after remove_folder(). */
static inline char *make_folder(void)
{
	char pattern[] = "/tmp/exitpoll-test-XXXXXX";
	char *path = mkdtemp(pattern);
	ck_assert_ptr_nonnull(path);
	return mem_copy_string(path);
}

static inline int remove_one(const char *path, const struct stat *info, int type, struct FTW *place)
{
	(void)info, (void)type, (void)place;
	return remove(path);
}

static inline void remove_folder(char *path)
{
	nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	mem_free(path);
}

static inline void write_file(const char *folder, const char *name, const void *data, size_t size)
{
	char path[512];
	FILE *file;
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "wb");
	ck_assert_ptr_nonnull(file);
	if (size)
		ck_assert_uint_eq(fwrite(data, 1, size, file), size);
	ck_assert_int_eq(fclose(file), 0);
}

static inline void write_text(const char *folder, const char *name, const char *text)
{
	write_file(folder, name, text, strlen(text));
}

/* TEST_SHARED_DIR/models/name; false, and a line that says so, when it is absent. */
static inline bool find_shared(const char *name, char path[512])
{
	snprintf(path, 512, "%s/models/%s", TEST_SHARED_DIR, name);
	if (access(path, R_OK) == 0)
		return true;
	printf("skipped: %s is not here\n", path);
	return false;
}

/* EXITPOLL_SMOLLM2, or the cache's copy. */
static inline bool find_smollm2(char path[512])
{
	const char *given = getenv("EXITPOLL_SMOLLM2"), *cache = getenv("EXITPOLL_CACHE"),
	*home = getenv("HOME");
	if (given)
		snprintf(path, 512, "%s", given);
	else if (cache)
		snprintf(path, 512, "%s/models/SmolLM2-135M-Instruct.Q4_1.gguf", cache);
	else
		snprintf(path, 512, "%s/.cache/exitpoll/models/SmolLM2-135M-Instruct.Q4_1.gguf", home ? home :
			 "");
	if (access(path, R_OK) == 0)
		return true;
	printf("skipped: %s is not here (set EXITPOLL_SMOLLM2)\n", path);
	return false;
}

static inline int run_suite(const char *name, TCase *tests)
{
	Suite *suite = suite_create(name);

	suite_add_tcase(suite, tests);
	tcase_set_timeout(tests, 120);
	return check_run(suite);
}

#endif

/* fuzz_snapshot.c - hostile snapshots: no crash, no read out of bounds, no memory for what a file claims.
 *
 * First byte 0: the rest is a file as it stands. Otherwise: a valid snapshot of a few events, patched
 * by the rest (u16 place, u8 value each) and given right checksums again, so that what lies behind
 * the checksums is reached. */
#include "graph-updater/snapshot.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

enum { FILE_BYTES_MAX = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t make_valid(unsigned char *bytes)
{
	struct updater_options options;
	struct updater *updater;
	char path[64];
	size_t size = 0;
	FILE *stream;

	updater_options_defaults(&options);
	options.users_max = options.items_max = 2000;
	options.dimensions = 16;
	options.flush_events = 7;
	if (updater_create(&options, &updater, NULL))
		abort();
	for (int n = 0; n < 40; n++) {
		struct event event = {.type = n % 5 ? RECORD_INTERACTION : RECORD_ITEM};
		struct attribute attribute = {TEXT_LITERAL("brand"), TEXT_LITERAL("x|y")};
		char user[8], item[8];
		snprintf(user, sizeof user, "u%d", n * 7 % 5);
		snprintf(item, sizeof item, "i%d", n * 3 % 7);
		if (event.type == RECORD_ITEM)
			event.item = (struct item_event){text_of(item), TEXT_LITERAL("title"), &attribute, 1,
							 n, n == 20};
		else
			event.interaction = (struct interaction_event){.user_id = text_of(user),
								       .item_id = text_of(item),
				.kind = n % 11 ? KIND_RATE : KIND_REMOVE, .has_rating = n % 11,
					.rating = n % 5 + 1,
				.event_time_ms = n};
		if (updater_apply(updater, &event, NULL))
			abort();
	}
	snprintf(path, sizeof path, "/tmp/exitpoll-fuzz-%d.snap", (int)getpid());
	if (snapshot_write(updater, path, NULL, 0, NULL, NULL) || !(stream = fopen(path, "rb")))
		abort();
	size = fread(bytes, 1, FILE_BYTES_MAX, stream);
	fclose(stream);
	unlink(path);
	updater_destroy(updater);
	return size;
}

/* Walks the blocks as far as they make sense and gives each its checksum. */
static void repair(unsigned char *bytes, size_t size)
{
	size_t at = 16;

	while (at + 32 <= size) {
		XXH128_canonical_t hash;
		uint32_t payload;
		memcpy(&payload, bytes + at + 8, sizeof payload);
		if (payload > size - at - 32)
			return;
		XXH128_canonicalFromHash(&hash, XXH3_128bits_withSeed(bytes + at, 16 + payload, 2));
		memcpy(bytes + at + 16 + payload, &hash, sizeof hash);
		at += 32 + payload;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static unsigned char valid[FILE_BYTES_MAX], bytes[FILE_BYTES_MAX];
	static size_t valid_size;
	struct snapshot_info info;
	struct error error = {0};
	char path[64];
	size_t count;
	int file;

	if (!size)
		return 0;
	if (!valid_size)
		valid_size = make_valid(valid);
	if (data[0] == 0) {
		count = size - 1 < FILE_BYTES_MAX ? size - 1 : FILE_BYTES_MAX;
		memcpy(bytes, data + 1, count);
	} else {
		count = valid_size;
		memcpy(bytes, valid, count);
		for (size_t p = 1; p + 3 <= size; p += 3)
			bytes[(data[p] | data[p + 1] << 8) % count] = data[p + 2];
		repair(bytes, count);
	}
	file = memfd_create("snapshot", MFD_CLOEXEC);
	if (file < 0 || write(file, bytes, count) != (ssize_t)count)
		abort();
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
	snapshot_check(path, NULL, &info, NULL, &error);
	close(file);
	return 0;
}

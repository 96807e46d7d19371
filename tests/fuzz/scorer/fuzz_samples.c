/* fuzz_samples.c - any bytes as a shard of samples: refused with a text, or every offset lies where it should. */
#include "scorer/train/sample_folder.h"
#include "scorer/train/samples_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];

static void put(const char *name, const void *bytes, size_t size)
{
	char path[128];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *file = fopen(path, "wb");
	if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0)
		abort();
}

/* One folder a process, in memory where the system has such a file system. */
static void make_folder(void)
{
	char text[4096];
	size_t used = (size_t)snprintf(text, sizeof text, "{\"version\": 1, \"task\": \"clicked\", \"features\": [");
	snprintf(folder, sizeof folder, "%s/exitpoll_fuzz_XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	if (!mkdtemp(folder))
		abort();
	for (int f = 0; f < FEATURES_FIXED; f++)
		used += (size_t)snprintf(text + used, sizeof text - used, "%s\"%s\"", f ? "," : "", features_names[f]);
	used += (size_t)snprintf(text + used, sizeof text - used, "]}");
	put("samples.json", text, used);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sample_folder *s = NULL;
	struct error error = {0};
	char name[SAMPLES_NAME_BYTES];
	int64_t sum = 0;
	if (!folder[0])
		make_folder();
	samples_file_name(1, name);
	put(name, data, size);
	if (sample_folder_open(folder, &s, &error) != STATUS_OK) {
		if (!error.text[0] || s)
			abort();
		return 0;
	}
	for (size_t i = 0; i < s->data.impressions; i++) {
		struct impression_tokens tokens;
		s->tokens.get(s->tokens.context, (uint32_t)i, &tokens);
		for (uint32_t t = 0; t < tokens.prefix_count; t++)
			sum += tokens.prefix[t];
		for (int64_t r = s->data.first[i]; r < s->data.first[i + 1]; r++) {
			int64_t c = r - s->data.first[i];
			for (int64_t t = tokens.offsets[c]; t < tokens.offsets[c + 1]; t++)
				sum += tokens.suffixes[t];
			sum += s->data.values[r * FEATURES_FIXED] > 0;
		}
	}
	if (sum == INT64_MIN)
		abort();
	sample_folder_close(s);
	return 0;
}

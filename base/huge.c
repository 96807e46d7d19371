/* huge.c - see huge.h. What is gathered is looked up once: mappings that come and go meanwhile do no harm, for
 * advice about what is not there is refused. */
#include "base/huge.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

enum { MAPPINGS_MAX = 65536, LINE_BYTES = 512 };

struct mapping {
	uintptr_t begin, end;           /* multiples of HUGE_PAGE_BYTES */
};

struct huge_gather {
	struct mapping *mappings;       /* [count], from `at` on to be done */
	size_t count, capacity, at;
};

static bool is_switched_off(void)
{
	FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
	char line[LINE_BYTES];
	bool off = !file || !fgets(line, sizeof line, file) || strstr(line, "[never]");

	if (file)
		fclose(file);
	return off;
}

/* "begin-end access offset device inode  name": of no file, to be read and written; not a thread's stack, which
 * has a guard before it. */
static bool add_mapping(struct huge_gather *gather, const char *line, uintptr_t *guard_end)
{
	char *at;
	uintptr_t begin = strtoul(line, &at, 16), end = *at == '-' ? strtoul(at + 1, &at, 16) : 0;
	const char *access = at + 1, *device = *at == ' ' ? strchr(line, ':') : NULL;
	struct mapping mapping;

	if (!device)
		return true;
	if (!strncmp(access, "---p", 4))
		*guard_end = end;
	/* Device 00:00 and inode 0: no file; in brackets: the system's own. */
	if (strncmp(access, "rw-p", 4) != 0 || strncmp(device, ":00 0", 5) != 0 || strchr(line, '[') ||
	    end - begin < HUGE_MAPPING_MIN || begin == *guard_end)
		return true;
	mapping.begin = (begin + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
	mapping.end = end / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
	if (!mem_reserve((void **)&gather->mappings, &gather->capacity, gather->count, MAPPINGS_MAX,
			 sizeof *gather->mappings))
		return false;
	gather->mappings[gather->count++] = mapping;
	return true;
}

struct huge_gather *huge_gather_begin(void)
{
	struct huge_gather *gather = is_switched_off() ? NULL : mem_alloc_zero(1, sizeof *gather);
	FILE *maps = gather ? fopen("/proc/self/maps", "re") : NULL;
	uintptr_t guard_end = 0;
	char line[LINE_BYTES];

	while (maps && fgets(line, sizeof line, maps) && add_mapping(gather, line, &guard_end))
		;
	if (maps)
		fclose(maps);
	return gather;
}

bool huge_gather_some(struct huge_gather **taken, uint32_t pages)
{
	struct huge_gather *gather = *taken;

	while (gather && gather->at < gather->count && pages) {
		struct mapping *mapping = &gather->mappings[gather->at];
		size_t left = (mapping->end - mapping->begin) / HUGE_PAGE_BYTES, some = left < pages ? left : pages;
		/* A wish: what cannot be stays as it is. */
		(void)madvise((void *)mapping->begin, some * HUGE_PAGE_BYTES, MADV_COLLAPSE);
		mapping->begin += some * HUGE_PAGE_BYTES;
		pages -= (uint32_t)some;
		gather->at += mapping->begin >= mapping->end;
	}
	if (gather && gather->at < gather->count)
		return true;
	huge_gather_destroy(gather);
	*taken = NULL;
	return false;
}

void huge_gather_destroy(struct huge_gather *gather)
{
	if (!gather)
		return;
	mem_free(gather->mappings);
	mem_free(gather);
}

/* inspect_container.c - what a container file holds: type, records, times, the first few as JSON. */
#include "ops/cli/inspect.h"

#include "ops/cli/cli.h"
#include "ops/cli/event_json.h"
#include "schemas/container.h"

#include <inttypes.h>
#include <string.h>

struct summary {
	uint64_t records, bad, out_of_order;
	int64_t first_ms, last_ms, before_ms;
	char first_bad[ERROR_TEXT_BYTES];
};

static void count(struct summary *summary, const struct event *event)
{
	int64_t at = event_time_ms(event);

	if (summary->records == 0 || at < summary->first_ms)
		summary->first_ms = at;
	if (summary->records == 0 || at > summary->last_ms)
		summary->last_ms = at;
	summary->out_of_order += summary->records > 0 && at < summary->before_ms;
	summary->before_ms = at;
	summary->records++;
}

static enum status read_all(const struct inspect_options *options, struct container_reader *reader,
			    struct summary *summary, struct error *error)
{
	struct arena *arena = arena_create((size_t)1 << 28);
	struct event event;
	bool end = false;
	enum status status = arena ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "out of memory");

	while (status == STATUS_OK && !end) {
		arena_reset(arena);
		status = container_read(reader, arena, &event, &end, error);
		if (status == STATUS_BAD_RECORD && !options->check) {
			if (summary->bad++ == 0)
				snprintf(summary->first_bad, sizeof summary->first_bad, "%s", error->text);
			status = STATUS_OK;
			continue;
		}
		if (status != STATUS_OK || end)
			break;
		if (summary->records < options->records_max) {
			event_json_write(stdout, &event);
			putchar('\n');
		}
		count(summary, &event);
	}
	arena_destroy(arena);
	return status == STATUS_BAD_RECORD ? STATUS_CORRUPT : status;
}

enum status inspect_container(const struct inspect_options *options, struct error *error)
{
	static const char *const keys[] = {"exitpoll.version", "exitpoll.model_id", "exitpoll.backend", "exitpoll.exits",
					   "exitpoll.label", "exitpoll.task", "exitpoll.seed"};
	struct container_reader *reader = NULL;
	struct summary summary = {0};
	enum status status = container_reader_open_any(options->target, &reader, error);

	if (status == STATUS_OK)
		status = read_all(options, reader, &summary, error);
	if (status != STATUS_OK) {
		container_reader_close(reader);
		return status;
	}
	const char *type = record_type_name(container_reader_type(reader));
	if (options->json) {
		printf("{\"type\":\"%s\",\"records\":%" PRIu64 ",\"bad\":%" PRIu64 ",\"bytes\":%" PRIu64
		       ",\"first_ms\":%" PRId64 ",\"last_ms\":%" PRId64 ",\"out_of_order\":%" PRIu64 ",\"metadata\":{",
		       type, summary.records, summary.bad, container_reader_size(reader), summary.first_ms,
		       summary.last_ms, summary.out_of_order);
		bool first = true;
		for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
			const char *value = container_reader_metadata(reader, keys[i]);
			if (!value)
				continue;
			printf("%s\"%s\":", first ? "" : ",", keys[i]);
			cli_json_string(stdout, value, strlen(value));
			first = false;
		}
		puts("}}");
	} else {
		printf("%s: %" PRIu64 " records of type %s, %" PRIu64 " bytes", options->target, summary.records, type,
		       container_reader_size(reader));
		if (summary.records)
			printf(", times %" PRId64 " to %" PRId64, summary.first_ms, summary.last_ms);
		putchar('\n');
		if (summary.out_of_order)
			printf("%" PRIu64 " records are earlier than the one before them\n", summary.out_of_order);
		if (summary.bad)
			printf("%" PRIu64 " records are bad; the first: %s\n", summary.bad, summary.first_bad);
		for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
			if (container_reader_metadata(reader, keys[i]))
				printf("%s = %s\n", keys[i], container_reader_metadata(reader, keys[i]));
		if (options->check)
			puts("every record can be read");
	}
	container_reader_close(reader);
	return STATUS_OK;
}

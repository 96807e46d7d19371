/* endpoint.c - see endpoint.h. Pure. */
#include "ops/cli/endpoint.h"

#include <string.h>

enum status endpoint_parse(const char *text, struct endpoint *out, struct error *error)
{
	static const char kafka[] = "kafka://", file[] = "file:";
	const char *where = text;
	bool is_kafka = strncmp(text, kafka, sizeof kafka - 1) == 0;

	if (is_kafka)
		where += sizeof kafka - 1;
	else if (strncmp(text, file, sizeof file - 1) == 0)
		where += sizeof file - 1;
	else if (strstr(text, "://"))
		return error_set(error, STATUS_USAGE, "'%s': a folder or kafka://host:port is needed", text);
	if (!*where)
		return error_set(error, STATUS_USAGE, "'%s': %s is missing", text,
				 is_kafka ? "host:port" : "a folder");
	if (is_kafka && !strchr(where, ':'))
		return error_set(error, STATUS_USAGE, "'%s': the port is missing (kafka://host:9092)", text);
	*out = (struct endpoint){is_kafka, where};
	return STATUS_OK;
}

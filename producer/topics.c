/* topics.c - creates and checks topics through Kafka's admin interface.
 *
 * Idea: one table says what each topic needs and why; create applies it, check compares with it, so that
 * the two cannot disagree.
 * Called by ops/cli, any thread; blocks for at most timeout_ms a request. */
#include "producer/topics.h"

#include "base/clock.h"
#include "producer/kafka_message.h"
#include "producer/producer_conf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PARTITIONS = 8, TIMEOUT_MS = 30000, VALUE_BYTES = 64 };

/* What a setting must be. */
enum rule { RULE_EQUAL, RULE_AT_LEAST };

struct need {
	const char *setting;
	enum rule rule;
	char value[VALUE_BYTES];        /* wanted, as it is set at creation */
	bool breaks;                    /* else it is only worth a note */
	const char *why;
};

enum { NEEDS_MAX = 4 };

static size_t needs_of(enum topic topic, size_t record_bytes_max, struct need needs[NEEDS_MAX])
{
	size_t count = 0, size = record_bytes_max + KAFKA_MESSAGE_OVERHEAD_BYTES;

	needs[count] = (struct need){"max.message.bytes", RULE_AT_LEAST, "", true,
				     "a record within the limit would be refused, and the stream would stop there"};
	snprintf(needs[count++].value, VALUE_BYTES, "%zu", size);
	switch (topic) {
	case TOPIC_ITEMS:
		needs[count++] = (struct need){"cleanup.policy", RULE_EQUAL, "compact", true,
					       "the catalog is read from the beginning: without compaction old items "
					       "expire or the topic grows for ever"};
		break;
	case TOPIC_INTERACTIONS:
		needs[count++] = (struct need){"cleanup.policy", RULE_EQUAL, "delete", true,
					       "keys are users: compaction would leave one interaction of each"};
		needs[count++] = (struct need){"retention.ms", RULE_EQUAL, "-1", true,
					       "a graph without a snapshot is rebuilt from the beginning: what has expired "
					       "is missing from it"};
		needs[count++] = (struct need){"retention.bytes", RULE_EQUAL, "-1", true,
					       "a graph without a snapshot is rebuilt from the beginning: what has been "
					       "dropped is missing from it"};
		break;
	default:
		needs[count++] = (struct need){"cleanup.policy", RULE_EQUAL, "delete", true,
					       "compaction would drop records of the same key"};
	}
	return count;
}

const char *topic_finding_kind_name(enum topic_finding_kind kind)
{
	static const char *const names[] = {"created", "exists", "good", "missing", "note", "wrong"};

	return (size_t)kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "?";
}

static void found(struct topic_findings *out, enum topic topic, enum topic_finding_kind kind,
		  const char *setting, const char *wanted, const char *actual, const char *why)
{
	struct topic_finding *finding;

	if (out->count == TOPIC_FINDINGS_MAX)
		return;
	finding = &out->findings[out->count++];
	*finding = (struct topic_finding){.topic = topic, .kind = kind, .why = why};
	snprintf(finding->setting, sizeof(finding->setting), "%.*s", (int)sizeof(finding->setting) - 1, setting);
	snprintf(finding->wanted, sizeof(finding->wanted), "%.*s", (int)sizeof(finding->wanted) - 1, wanted);
	snprintf(finding->actual, sizeof(finding->actual), "%.*s", (int)sizeof(finding->actual) - 1, actual);
	out->wrong += kind == TOPIC_FINDING_MISSING || kind == TOPIC_FINDING_WRONG;
}

static enum status failed(const char *what, const char *topic, rd_kafka_resp_err_t code, const char *text,
			  struct error *error)
{
	enum status status;

	switch (code) {
	case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR__AUTHENTICATION:
	case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
		status = STATUS_NO_PERMISSION;
		break;
	case RD_KAFKA_RESP_ERR__TIMED_OUT:
	case RD_KAFKA_RESP_ERR__TRANSPORT:
	case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
		status = STATUS_UNAVAILABLE;
		break;
	default:
		status = STATUS_CONFIG;
	}
	return error_set(error, status, "%s topic %s: %s", what, topic, text ? text : rd_kafka_err2str(code));
}

/* ---- requests ---- */

struct admin {
	struct producer_conf conf;
	rd_kafka_t *client;
	rd_kafka_queue_t *queue;
	int timeout_ms;
};

static enum status admin_open(const struct topics_options *options, struct admin *admin, struct error *error)
{
	enum status status;

	*admin = (struct admin){
		.conf = {.brokers = options->brokers, .settings = options->settings,
			 .settings_count = options->settings_count,
			 .message_bytes_max = options->record_bytes_max + KAFKA_MESSAGE_OVERHEAD_BYTES},
		.timeout_ms = options->timeout_ms ? (int)options->timeout_ms : TIMEOUT_MS,
	};
	status = producer_conf_client(&admin->conf, &admin->client, error);
	if (status == STATUS_OK)
		admin->queue = rd_kafka_queue_new(admin->client);
	return status;
}

static void admin_close(struct admin *admin)
{
	if (admin->queue)
		rd_kafka_queue_destroy(admin->queue);
	if (admin->client)
		rd_kafka_destroy(admin->client);
}

/* The number of partitions; 0: there is no such topic. */
static enum status partitions_of(struct admin *admin, const char *name, int *count, struct error *error)
{
	rd_kafka_topic_t *handle = rd_kafka_topic_new(admin->client, name, NULL);
	const struct rd_kafka_metadata *metadata = NULL;
	rd_kafka_resp_err_t code = rd_kafka_metadata(admin->client, 0, handle, &metadata, admin->timeout_ms);
	enum status status = STATUS_OK;

	if (!code && metadata->topic_cnt == 1)
		code = metadata->topics[0].err;
	if (code && code != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
		status = failed("asking for", name, code, NULL, error);
	else
		*count = code ? 0 : metadata->topics[0].partition_cnt;
	if (metadata)
		rd_kafka_metadata_destroy(metadata);
	rd_kafka_topic_destroy(handle);
	return status;
}

static rd_kafka_AdminOptions_t *request_options(struct admin *admin, rd_kafka_admin_op_t operation)
{
	rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(admin->client, operation);
	char text[128];

	rd_kafka_AdminOptions_set_request_timeout(options, admin->timeout_ms, text, sizeof(text));
	return options;
}

/* The effective settings of a topic; *values[i] of needs[i], empty where the broker does not say. */
static enum status describe(struct admin *admin, const char *name, const struct need *needs, size_t count,
			    char values[][VALUE_BYTES], struct error *error)
{
	rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, name);
	rd_kafka_AdminOptions_t *options = request_options(admin, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
	const rd_kafka_ConfigResource_t **resources;
	const rd_kafka_ConfigEntry_t **entries;
	rd_kafka_event_t *event;
	enum status status = STATUS_OK;
	size_t resources_count = 0, entries_count = 0;

	rd_kafka_DescribeConfigs(admin->client, &resource, 1, options, admin->queue);
	event = rd_kafka_queue_poll(admin->queue, admin->timeout_ms + 1000);
	if (!event || rd_kafka_event_error(event)) {
		status = failed("describing", name, event ? rd_kafka_event_error(event) : RD_KAFKA_RESP_ERR__TIMED_OUT,
				event ? rd_kafka_event_error_string(event) : NULL, error);
		goto cleanup;
	}
	resources = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event),
							      &resources_count);
	if (resources_count != 1 || rd_kafka_ConfigResource_error(resources[0])) {
		status = failed("describing", name, resources_count == 1 ? rd_kafka_ConfigResource_error(resources[0]) :
				RD_KAFKA_RESP_ERR__BAD_MSG, NULL, error);
		goto cleanup;
	}
	entries = rd_kafka_ConfigResource_configs(resources[0], &entries_count);
	for (size_t i = 0; i < count; i++) {
		values[i][0] = '\0';
		for (size_t k = 0; k < entries_count; k++) {
			const char *value = rd_kafka_ConfigEntry_value(entries[k]);

			if (value && strcmp(rd_kafka_ConfigEntry_name(entries[k]), needs[i].setting) == 0)
				snprintf(values[i], VALUE_BYTES, "%s", value);
		}
	}

cleanup:
	if (event)
		rd_kafka_event_destroy(event);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_ConfigResource_destroy(resource);
	return status;
}

static enum status create_one(struct admin *admin, const struct topics_options *options, enum topic topic,
			      bool *existed, struct error *error)
{
	const char *name = options->topics.name[topic];
	int partitions = options->partitions ? options->partitions : PARTITIONS;
	int replication = options->replication_factor ? options->replication_factor : -1;
	rd_kafka_AdminOptions_t *request = request_options(admin, RD_KAFKA_ADMIN_OP_CREATETOPICS);
	rd_kafka_event_t *event = NULL;
	struct need needs[NEEDS_MAX];
	size_t count = needs_of(topic, options->record_bytes_max, needs), results_count = 0;
	const rd_kafka_topic_result_t **results;
	enum status status = STATUS_OK;
	rd_kafka_resp_err_t code;
	char text[256];
	rd_kafka_NewTopic_t *fresh = rd_kafka_NewTopic_new(name, partitions, replication, text, sizeof(text));

	*existed = false;
	if (!fresh) {
		status = error_set(error, STATUS_CONFIG, "topic %s: %s", name, text);
		goto cleanup;
	}
	for (size_t i = 0; i < count; i++)
		rd_kafka_NewTopic_set_config(fresh, needs[i].setting, needs[i].value);
	rd_kafka_AdminOptions_set_operation_timeout(request, admin->timeout_ms, text, sizeof(text));
	rd_kafka_CreateTopics(admin->client, &fresh, 1, request, admin->queue);
	event = rd_kafka_queue_poll(admin->queue, admin->timeout_ms + 1000);
	if (!event || rd_kafka_event_error(event)) {
		status = failed("creating", name, event ? rd_kafka_event_error(event) : RD_KAFKA_RESP_ERR__TIMED_OUT,
				event ? rd_kafka_event_error_string(event) : NULL, error);
		goto cleanup;
	}
	results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &results_count);
	code = results_count == 1 ? rd_kafka_topic_result_error(results[0]) : RD_KAFKA_RESP_ERR__BAD_MSG;
	*existed = code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS;
	if (code && !*existed)
		status = failed("creating", name, code, results_count == 1 ?
				rd_kafka_topic_result_error_string(results[0]) : NULL, error);

cleanup:
	if (event)
		rd_kafka_event_destroy(event);
	if (fresh)
		rd_kafka_NewTopic_destroy(fresh);
	rd_kafka_AdminOptions_destroy(request);
	return status;
}

/* ---- check ---- */

static bool satisfied(const struct need *need, const char *actual)
{
	switch (need->rule) {
	case RULE_EQUAL:
		return strcmp(need->value, actual) == 0;
	case RULE_AT_LEAST:
		return strtoll(actual, NULL, 10) >= strtoll(need->value, NULL, 10);
	}
	return false;
}

static enum status check_one(struct admin *admin, const struct topics_options *options, enum topic topic,
			     struct topic_findings *out, struct error *error)
{
	const char *name = options->topics.name[topic];
	char values[NEEDS_MAX][VALUE_BYTES], wanted[24], actual[24];
	struct need needs[NEEDS_MAX];
	size_t count = needs_of(topic, options->record_bytes_max, needs), before = out->count;
	int partitions = 0;
	enum status status = partitions_of(admin, name, &partitions, error);

	if (status != STATUS_OK)
		return status;
	if (partitions == 0) {
		found(out, topic, TOPIC_FINDING_MISSING, "", name, "", "there is no such topic: see topics create");
		return STATUS_OK;
	}
	status = describe(admin, name, needs, count, values, error);
	if (status != STATUS_OK)
		return status;
	for (size_t i = 0; i < count; i++)
		if (!satisfied(&needs[i], values[i]))
			found(out, topic, needs[i].breaks ? TOPIC_FINDING_WRONG : TOPIC_FINDING_NOTE, needs[i].setting,
			      needs[i].value, values[i], needs[i].why);
	if (options->partitions && partitions != options->partitions) {
		snprintf(wanted, sizeof(wanted), "%d", options->partitions);
		snprintf(actual, sizeof(actual), "%d", partitions);
		found(out, topic, TOPIC_FINDING_NOTE, "partitions", wanted, actual,
		      "results do not depend on it; it bounds how many instances can share the work");
	}
	if (out->count == before)
		found(out, topic, TOPIC_FINDING_GOOD, "", "", "", NULL);
	return STATUS_OK;
}

enum status topics_check(const struct topics_options *options, struct topic_findings *out,
			 struct error *error)
{
	struct topic_findings findings = {0};
	struct admin admin;
	enum status status = admin_open(options, &admin, error);

	for (unsigned i = 0; status == STATUS_OK && i < TOPICS; i++)
		if (options->wanted[i])
			status = check_one(&admin, options, (enum topic)i, &findings, error);
	admin_close(&admin);
	if (status == STATUS_OK)
		*out = findings;
	return status;
}

/* A topic is created before every broker knows of it. */
static enum status wait_for(struct admin *admin, const char *name, struct error *error)
{
	int64_t deadline = clock_steady_ns() + admin->timeout_ms * INT64_C(1000000);
	struct timespec pause = {0, 20000000};
	int partitions = 0;

	for (;;) {
		enum status status = partitions_of(admin, name, &partitions, error);

		if (status != STATUS_OK || partitions > 0)
			return status;
		if (clock_steady_ns() > deadline)
			return error_set(error, STATUS_UNAVAILABLE, "topic %s was created but does not show", name);
		nanosleep(&pause, NULL);
	}
}

enum status topics_create(const struct topics_options *options, struct topic_findings *out,
			  struct error *error)
{
	struct topic_findings findings = {0};
	struct admin admin;
	enum status status = admin_open(options, &admin, error);

	for (unsigned i = 0; status == STATUS_OK && i < TOPICS; i++) {
		bool existed;

		if (!options->wanted[i])
			continue;
		status = create_one(&admin, options, (enum topic)i, &existed, error);
		if (status == STATUS_OK)
			status = wait_for(&admin, options->topics.name[i], error);
		if (status != STATUS_OK)
			break;
		found(&findings, (enum topic)i, existed ? TOPIC_FINDING_EXISTS : TOPIC_FINDING_CREATED, "", "", "",
		      existed ? "its settings were left as they are" : NULL);
		if (existed)
			status = check_one(&admin, options, (enum topic)i, &findings, error);
	}
	admin_close(&admin);
	if (status == STATUS_OK)
		*out = findings;
	return status;
}

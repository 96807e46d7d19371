/* settings.c - every setting in one table: name, type, default, range, help. A stage gets its own
 * option struct; nothing below ops/cli knows setting names. */
#include "ops/cli/settings.h"

#include "base/log.h"
#include "base/mem.h"
#include "ops/cli/cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT(name, value, help) {name, CONFIG_TEXT, value, 0, 0, NULL, false, help}
#define SECRET(name, help) {name, CONFIG_TEXT, NULL, 0, 0, NULL, true, help}
#define INTEGER(name, value, min, max, help) {name, CONFIG_INTEGER, value, min, max, NULL, false, help}
#define NUMBER(name, value, min, max, help) {name, CONFIG_NUMBER, value, min, max, NULL, false, help}
#define BOOLEAN(name, value, help) {name, CONFIG_BOOLEAN, value, 0, 0, NULL, false, help}
#define CHOICE(name, value, choices, help) {name, CONFIG_CHOICE, value, 0, 0, choices, false, help}

static const struct config_key table[] = {
	TEXT("topic.items", "items", "name of the items topic"),
	TEXT("topic.interactions", "interactions", "name of the interactions topic"),
	TEXT("topic.impressions", "impressions", "name of the impressions topic"),
	TEXT("topic.scoring-requests", "scoring-requests", "name of the topic between the two stages"),
	TEXT("topic.predictions", "predictions", "name of the predictions topic"),
	TEXT("topic.dead-letters", "dead-letters", "name of the topic for input that cannot be processed"),

	TEXT("group.graph-updater", "exitpoll-graph-updater", "consumer group that shares out impressions"),
	TEXT("group.scorer", "exitpoll-scorer", "consumer group that shares out scoring-requests"),
	TEXT("instance.id", NULL,
	     "names this instance to Kafka (static membership, transactions); default: kept in the state folder"),
	CHOICE("delivery", "exactly_once", "exactly_once|at_least_once", "how predictions and offsets are committed"),
	INTEGER("commit.ms", "100", 1, 5000,
	        "a transaction is committed at the latest this long after its first record"),
	INTEGER("retry.max_ms", "300000", 0, 86400000, "how long broker trouble is retried before giving up"),

	INTEGER("source.idle_ms", "50", 1, 60000, "live: how long a silent partition is waited for"),
	INTEGER("source.partitions_ms", "60000", 100, 86400000,
	        "live: how often new partitions of items and interactions are looked for"),
	INTEGER("source.batch_records", "512", 1, 65536, "records taken from the source at a time"),
	INTEGER("source.buffer_bytes_max", "67108864", 1048576, 1e12,
	        "records waiting to be ordered; partitions pause beyond"),
	INTEGER("source.group_records_max", "65536", 1, 16777216, "records of one time that are sorted as a group"),
	INTEGER("record.bytes_max", "8388608", 1024, 1e9,
	        "largest encoded record, also between the stages of one process"),
	INTEGER("impression.candidates_max", "10000", 1, 1e6, "more candidates make a dead letter"),
	INTEGER("item.text_bytes_max", "512", 1, 65536, "texts are cut to this, at a character boundary"),
	INTEGER("event.future_ms_max", "86400000", 0, 1e13,
	        "events further ahead of the clock than this are dead letters; 0: any time goes"),
	BOOLEAN("deadline.replay", "false", "respect deadlines in backfills too"),

	TEXT("schema.registry", NULL,
	     "http(s)://host:port/path or a folder; default: the built-in schemas under fixed ids"),
	TEXT("schema.registry.user", NULL, "basic auth"),
	SECRET("schema.registry.password", "basic auth; file:PATH or env:NAME"),
	TEXT("schema.registry.ca_file", NULL, "TLS: certificates to trust"),
	TEXT("schema.registry.certificate_file", NULL, "TLS: our certificate"),
	TEXT("schema.registry.key_file", NULL, "TLS: our key"),
	BOOLEAN("schema.registry.verify", "true", "TLS: check the registry's certificate"),
	INTEGER("schema.registry.timeout_ms", "5000", 10, 600000, "one request to the registry"),
	INTEGER("schema.registry.retry_max_ms", "30000", 0, 3600000, "all tries of one question to the registry"),

	INTEGER("graph.dimensions", "64", 32, 256, "embedding dimensions, a multiple of 16"),
	INTEGER("graph.layers", "3", 1, 4, "GCN layers"),
	TEXT("graph.layer_weights", NULL,
	     "weights of layers 0..graph.layers, comma-separated; default: the last layer alone"),
	CHOICE("graph.seeds", "items", "items|both", "which side has seed vectors"),
	TEXT("graph.item_seeds", NULL,
	     "trained seeds of the items: NAME of NAME.npy and NAME.ids; default: by hash of the ids"),
	TEXT("graph.user_seeds", NULL, "trained seeds of the users, with graph.seeds = both"),
	NUMBER("graph.threshold", "0.03", 0, 1,
	       "relative change below which an embedding is not passed on; 0: exact"),
	INTEGER("graph.flush_events", "256", 1, 1e9, "embeddings are refreshed after this many graph events"),
	INTEGER("graph.edges_max", "100000000", 1, 4e9, "edges kept; the oldest leave"),
	INTEGER("graph.users_max", "20000000", 1, 4e9, "users kept"),
	INTEGER("graph.items_max", "20000000", 1, 4e9, "items kept"),
	INTEGER("graph.memory_max_bytes", "0", 0, 9e15,
		"memory of the graph past which events are refused; 0: three quarters of the machine's or container's"),
	INTEGER("graph.edge_days", "0", 0, 100000, "edges older than this leave; 0: never"),
	INTEGER("graph.tombstone_days", "7", 0, 100000, "how long a removal voids older events"),
	BOOLEAN("graph.view_edges", "false", "a VIEW is an edge of the graph too"),
	INTEGER("graph.threads", "0", 0, 64, "threads that search for similar users; 0: the processors, up to 8"),
	INTEGER("graph.id_seed", "0", 0, 9e15, "permutes internal ids (for tests: changes no result)"),

	INTEGER("enrichment.history_max", "15", 0, 50, "interactions of the user in a request"),
	INTEGER("enrichment.examples_max", "4", 0, 64, "similar users in a request"),
	INTEGER("enrichment.example_history_max", "5", 0, 50, "interactions of each similar user"),

	TEXT("statistics.rating_scale", "1..5", "lowest and highest rating"),
	NUMBER("statistics.positive", "0.7", 0, 1, "a response from here on counts as liked"),
	TEXT("statistics.attributes", NULL,
	     "item attributes with statistics of their own, comma-separated: brand,genre"),

	TEXT("state.folder", "exitpoll-state", "where snapshots live (Kafka); --state overrides"),
	INTEGER("state.snapshot_events", "100000", 1, 1e12, "a snapshot after this many graph events"),
	CHOICE("state.offset.policy", "error", "error|earliest|latest",
	       "when the log starts after the snapshot's position"),

	CHOICE("scorer.backend", "auto", "auto|cuda|cpu|reference|stub",
	       "where the model runs; auto: a GPU where one can be used; stub: a hash, for tests of the stream"),
	CHOICE("scorer.precision", "auto", "auto|fp32|bf16|fp16", "of weights and activations"),
	TEXT("scorer.template", NULL,
	     "prompt template: a name (chatml, vicuna, plain) or a file; default: the model's"),
	INTEGER("scorer.batch_tokens_max", "2048", 64, 1048576, "tokens of a micro-batch"),
	INTEGER("scorer.batch_requests_max", "16", 1, 4096, "requests scored between two looks at the clock"),
	INTEGER("scorer.threads", "0", 0, 256, "0: all processors"),
	CHOICE("exit.rule", NULL, "discrepancy|confidence|patience|fixed|none",
	       "when a candidate leaves; default: the bundle's"),
	NUMBER("exit.threshold", NULL, 0, 1e9, "of the rule; default: the bundle's"),
	INTEGER("exit.window", NULL, 1, 128, "earlier discrepancies in the mean; default: the bundle's"),
	TEXT("exit.layers", NULL, "exit layers, comma-separated: 5,10,15; default: the bundle's, else every fifth"),

	CHOICE("log.level", "info", "debug|info|warning|error", "what is logged"),
	CHOICE("log.format", "text", "text|json", "how"),
	TEXT("http.host", "127.0.0.1", "address of /livez, /readyz, /metrics and the status page"),
	INTEGER("http.port", "0", 0, 65535, "0: no HTTP"),
};
enum { KEYS = sizeof table / sizeof table[0] };

struct config *settings_create(void)
{
	return config_create(table, KEYS, "kafka.", kafka_setting_is_secret);
}

enum status settings_load(struct config *config, const char *file, char *const *pairs, size_t count,
			  struct error *error)
{
	enum status status = STATUS_OK;

	if (file)
		status = config_load_file(config, file, error);
	if (status == STATUS_OK)
		status = config_load_environment(config, "EXITPOLL_", error);
	for (size_t i = 0; i < count && status == STATUS_OK; i++)
		status = config_set_pair(config, pairs[i], error);
	return status;
}

/* http://user:password@host: a password inside a URL is as secret as one of its own. From the colon to the
 * last @, whatever the password is made of; rather too much is hidden than too little. NULL: nothing to
 * hide, else the caller's (mem_free). *failed: no memory. */
static char *without_password(const char *value, bool *failed)
{
	static const char mask[] = "********";
	const char *user = value ? strstr(value, "://") : NULL;
	const char *at = user ? strrchr(user, '@') : NULL;
	const char *colon = at ? memchr(user + 3, ':', (size_t)(at - (user + 3))) : NULL;
	size_t size;
	char *hidden;

	*failed = false;
	if (!colon)
		return NULL;
	size = (size_t)(colon - value) + sizeof mask + strlen(at) + 1;
	hidden = mem_alloc(size);
	*failed = !hidden;
	if (hidden)
		snprintf(hidden, size, "%.*s:%s%s", (int)(colon - value), value, mask, at);
	return hidden;
}

void settings_print(const struct config *config, bool json, FILE *out)
{
	struct config_entry entry;
	char *hidden;
	bool failed;

	if (json)
		putc('{', out);
	for (size_t i = 0; i < config_entries(config); i++) {
		config_entry_at(config, i, &entry);
		hidden = without_password(entry.value, &failed);
		if (hidden || failed)
			entry.value = hidden;
		if (json) {
			fputs(i ? "," : "", out);
			cli_json_string(out, entry.key, strlen(entry.key));
			fputs(":{\"value\":", out);
			if (entry.value)
				cli_json_string(out, entry.value, strlen(entry.value));
			else
				fputs("null", out);
			fputs(",\"origin\":", out);
			cli_json_string(out, entry.origin, strlen(entry.origin));
			putc('}', out);
		} else {
			fprintf(out, "%-34s %-24s %s\n", entry.key, entry.value ? entry.value : "-", entry.origin);
		}
		mem_free(hidden);
	}
	if (json)
		putc('}', out);
}

void settings_help(FILE *out)
{
	fprintf(out, "Settings (--set key=value, --config FILE, or EXITPOLL_KEY_NAME in the environment):\n\n");
	for (size_t i = 0; i < KEYS; i++) {
		fprintf(out, "  %-32s %s", table[i].name, table[i].help);
		if (table[i].choices)
			fprintf(out, " (%s)", table[i].choices);
		if (table[i].default_value)
			fprintf(out, " [%s]", table[i].default_value);
		putc('\n', out);
	}
	fprintf(out, "  %-32s any librdkafka setting, for example kafka.security.protocol=SASL_SSL\n\n"
		     "Secrets (passwords, keys) are given as file:PATH or env:NAME and never printed.\n", "kafka.*");
}

void settings_logging(const struct config *config)
{
	static const char *const levels[] = {"debug", "info", "warning", "error"};
	const char *wanted = config_text(config, "log.level");
	enum log_level level = LOG_INFO;

	for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
		if (strcmp(wanted, levels[i]) == 0)
			level = (enum log_level)i;
	log_configure(level, strcmp(config_text(config, "log.format"), "json") == 0);
}

void settings_scorer(const struct config *config, struct scorer_options *options)
{
	scorer_options_defaults(options);
	options->backend = config_text(config, "scorer.backend");
	options->precision = config_text(config, "scorer.precision");
	options->template_name = config_text(config, "scorer.template");
	options->batch_tokens_max = (size_t)config_integer(config, "scorer.batch_tokens_max");
	options->threads = (size_t)config_integer(config, "scorer.threads");
	options->exit_rule = config_text(config, "exit.rule");
	options->exit_threshold = config_is_set(config, "exit.threshold") ? config_number(config, "exit.threshold")
									  : NAN;
	options->exit_window = (int)config_integer(config, "exit.window");
	options->exit_layers = config_text(config, "exit.layers");
}

#if EXITPOLL_KAFKA
static enum status parse_scale(const char *text, double *min, double *max, struct error *error)
{
	const char *dots = strstr(text, "..");
	char lowest[64], *end;
	size_t size = dots ? (size_t)(dots - text) : 0;

	/* Cut first: strtod would take "1." of "1..5". */
	if (size == 0 || size >= sizeof lowest)
		goto bad;
	memcpy(lowest, text, size);
	lowest[size] = '\0';
	*min = strtod(lowest, &end);
	if (*end)
		goto bad;
	*max = strtod(dots + 2, &end);
	if (end == dots + 2 || *end || !(*max > *min) || !isfinite(*min) || !isfinite(*max))
		goto bad;
	return STATUS_OK;
bad:
	return error_set(error, STATUS_CONFIG, "statistics.rating_scale: lowest..highest is needed, as in 1..5");
}

static enum status parse_weights(const char *text, uint32_t layers, double *weights, struct error *error)
{
	const char *at = text;
	double sum = 0;

	for (uint32_t layer = 0; layer <= layers; layer++) {
		char *end;
		weights[layer] = strtod(at, &end);
		if (end == at || (layer < layers ? *end != ',' : *end != '\0') || !(weights[layer] >= 0))
			return error_set(error, STATUS_CONFIG,
					 "graph.layer_weights = '%s': %u numbers >= 0, comma-separated, are needed "
					 "(layers 0..%u)", text, layers + 1, layers);
		sum += weights[layer];
		at = end + 1;
	}
	if (!(sum > 0) || !isfinite(sum))
		return error_set(error, STATUS_CONFIG, "graph.layer_weights = '%s': the sum must be positive", text);
	return STATUS_OK;
}

static enum status split_list(const char *text, struct settings_lists *lists, size_t *count,
			      struct error *error)
{
	char *save = NULL;

	*count = 0;
	if (!text || !*text)
		return STATUS_OK;
	if (strlen(text) >= sizeof lists->attribute_text)
		return error_set(error, STATUS_CONFIG, "statistics.attributes: longer than %zu bytes",
				 sizeof lists->attribute_text - 1);
	snprintf(lists->attribute_text, sizeof lists->attribute_text, "%s", text);
	for (char *name = strtok_r(lists->attribute_text, ", ", &save); name; name = strtok_r(NULL, ", ", &save)) {
		if (*count == SETTINGS_LIST_MAX)
			return error_set(error, STATUS_CONFIG, "statistics.attributes: more than %d names",
					 (int)SETTINGS_LIST_MAX);
		lists->attributes[(*count)++] = name;
	}
	return STATUS_OK;
}

static uint32_t processors_up_to(uint32_t most)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);

	return online < 1 ? 1 : online > (long)most ? most : (uint32_t)online;
}

/* Memory of the machine, or of the control group where that is less; 0: nobody says. */
static uint64_t available_bytes(void)
{
	static const char *const limits[] = {"/sys/fs/cgroup/memory.max",
					     "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
	long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
	uint64_t bytes = pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;

	for (size_t n = 0; n < sizeof limits / sizeof limits[0]; n++) {
		FILE *file = fopen(limits[n], "re");
		unsigned long long limit;
		if (!file)
			continue;
		if (fscanf(file, "%llu", &limit) == 1 && limit && (!bytes || limit < bytes))
			bytes = limit;
		fclose(file);
	}
	return bytes;
}

enum status settings_updater(const struct config *config, struct settings_lists *lists,
			     struct updater_options *options, struct error *error)
{
	enum status status;

	updater_options_defaults(options);
	options->dimensions = (uint32_t)config_integer(config, "graph.dimensions");
	options->layers = (uint32_t)config_integer(config, "graph.layers");
	options->both_sides = strcmp(config_text(config, "graph.seeds"), "both") == 0;
	options->item_seeds = config_text(config, "graph.item_seeds");
	options->user_seeds = config_text(config, "graph.user_seeds");
	options->threshold = config_number(config, "graph.threshold");
	options->flush_events = (uint32_t)config_integer(config, "graph.flush_events");
	options->edges_max = (uint64_t)config_integer(config, "graph.edges_max");
	options->users_max = (uint32_t)config_integer(config, "graph.users_max");
	options->items_max = (uint32_t)config_integer(config, "graph.items_max");
	options->memory_max_bytes = (uint64_t)config_integer(config, "graph.memory_max_bytes");
	if (!options->memory_max_bytes)
		options->memory_max_bytes = available_bytes() / 4 * 3;
	options->edge_days = config_integer(config, "graph.edge_days");
	options->tombstone_days = config_integer(config, "graph.tombstone_days");
	options->view_edges = config_boolean(config, "graph.view_edges");
	options->threads = (uint32_t)config_integer(config, "graph.threads");
	if (!options->threads)
		options->threads = processors_up_to(8);
	options->id_seed = (uint64_t)config_integer(config, "graph.id_seed");
	options->history_max = (uint32_t)config_integer(config, "enrichment.history_max");
	options->examples_max = (uint32_t)config_integer(config, "enrichment.examples_max");
	options->example_history_max = (uint32_t)config_integer(config, "enrichment.example_history_max");
	options->text_bytes_max = (size_t)config_integer(config, "item.text_bytes_max");
	options->positive = config_number(config, "statistics.positive");
	options->request_bytes_max = (size_t)config_integer(config, "record.bytes_max");
	if (options->dimensions % 16)
		return error_set(error, STATUS_CONFIG, "graph.dimensions = %u: a multiple of 16 is needed",
				 options->dimensions);
	for (uint32_t layer = 0; layer < 5; layer++)
		options->layer_weights[layer] = layer == options->layers;
	status = parse_scale(config_text(config, "statistics.rating_scale"), &options->rating_min,
			     &options->rating_max, error);
	if (status == STATUS_OK && config_is_set(config, "graph.layer_weights"))
		status = parse_weights(config_text(config, "graph.layer_weights"), options->layers,
				       options->layer_weights, error);
	if (status == STATUS_OK)
		status = split_list(config_text(config, "statistics.attributes"), lists,
				    &options->attributes_count, error);
	options->attributes = lists->attributes;
	return status;
}

void settings_registry(const struct config *config, struct registry_options *options)
{
	*options = (struct registry_options){
		.url = config_text(config, "schema.registry"),
		.user = config_text(config, "schema.registry.user"),
		.password = config_text(config, "schema.registry.password"),
		.ca_file = config_text(config, "schema.registry.ca_file"),
		.certificate_file = config_text(config, "schema.registry.certificate_file"),
		.key_file = config_text(config, "schema.registry.key_file"),
		.verify = config_boolean(config, "schema.registry.verify"),
		.request_timeout_ms = config_integer(config, "schema.registry.timeout_ms"),
		.retry_max_ms = config_integer(config, "schema.registry.retry_max_ms"),
	};
}

void settings_topics(const struct config *config, struct topic_names *names)
{
	names->name[TOPIC_ITEMS] = config_text(config, "topic.items");
	names->name[TOPIC_IMPRESSIONS] = config_text(config, "topic.impressions");
	names->name[TOPIC_INTERACTIONS] = config_text(config, "topic.interactions");
	names->name[TOPIC_SCORING_REQUESTS] = config_text(config, "topic.scoring-requests");
	names->name[TOPIC_PREDICTIONS] = config_text(config, "topic.predictions");
	names->name[TOPIC_DEAD_LETTERS] = config_text(config, "topic.dead-letters");
}

void settings_kafka(const struct config *config, struct settings_lists *lists)
{
	lists->kafka_count = config_passed_count(config);
	for (size_t i = 0; i < lists->kafka_count && i < SETTINGS_KAFKA_MAX; i++)
		config_passed_at(config, i, &lists->kafka[i].name, &lists->kafka[i].value);
}

void settings_limits(const struct config *config, struct event_limits *limits)
{
	*limits = event_limits_default;
	limits->record_bytes_max = (size_t)config_integer(config, "record.bytes_max");
	limits->candidates_max = (size_t)config_integer(config, "impression.candidates_max");
	limits->future_ms_max = config_integer(config, "event.future_ms_max");
}
#endif

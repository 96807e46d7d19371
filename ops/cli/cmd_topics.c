/* cmd_topics.c - `exitpoll topics create|check`: the topics with the settings that the stream relies on. */
#include "ops/cli/arguments.h"
#include "ops/cli/cli.h"
#include "ops/cli/endpoint.h"
#include "ops/cli/settings.h"
#include "producer/topics.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>

struct arguments {
	const char *verb, *to;
	struct settings_arguments settings;
	int32_t partitions;
	int replication_factor;
	bool json;
};

enum option_key { KEY_TO = 0x100, KEY_PARTITIONS, KEY_REPLICATION, KEY_CONFIG, KEY_SET, KEY_JSON };

static const struct argp_option options[] = {
	{"to", KEY_TO, "kafka://HOST:PORT", 0, "the brokers", 0},
	{"partitions", KEY_PARTITIONS, "N", 0, "partitions of each topic that is created (8)", 0},
	{"replication-factor", KEY_REPLICATION, "N", 0, "copies of each partition (the broker's default)", 0},
	{"config", KEY_CONFIG, "FILE", 0, "settings as key=value lines", 0},
	{"set", KEY_SET, "KEY=VALUE", 0, "one setting; may be repeated", 0},
	{"json", KEY_JSON, NULL, 0, "findings as JSON", 0},
	{0},
};

static const char description[] =
	"Creates the topics of the stream, or checks existing ones: items compacted, interactions kept for\n"
	"ever, messages as large as record.bytes_max allows. Existing topics are never changed.\v"
	"Examples:\n"
	"  exitpoll topics create --to kafka://localhost:9092 --partitions 12 --replication-factor 3\n"
	"  exitpoll topics check --to kafka://localhost:9092 --json\n\n"
	"The exit code of `check` is 78 when something is missing or breaks a promise.\n";

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	struct arguments *arguments = state->input;

	switch (key) {
	case KEY_TO: arguments->to = argument; break;
	case KEY_PARTITIONS:
		arguments->partitions = (int32_t)arguments_whole(state, "partitions", argument, 1, 10000);
		break;
	case KEY_REPLICATION:
		arguments->replication_factor = (int)arguments_whole(state, "replication-factor", argument, 1, 100);
		break;
	case KEY_CONFIG: arguments->settings.config_file = argument; break;
	case KEY_SET: arguments_add_pair(state, &arguments->settings, argument); break;
	case KEY_JSON: arguments->json = true; break;
	case ARGP_KEY_ARG:
		if (arguments->verb || (strcmp(argument, "create") != 0 && strcmp(argument, "check") != 0))
			argp_error(state, "'%s': create or check is needed", argument);
		arguments->verb = argument;
		break;
	case ARGP_KEY_END:
		if (!arguments->verb)
			argp_error(state, "create or check is needed");
		if (!arguments->to)
			argp_error(state, "--to kafka://host:port is needed");
		break;
	default: return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static void print_finding(const struct topic_names *names, const struct topic_finding *finding, bool json)
{
	const char *topic = names->name[finding->topic];

	if (json) {
		fputs("{\"topic\":", stdout);
		cli_json_string(stdout, topic, strlen(topic));
		printf(",\"finding\":\"%s\",\"setting\":\"%s\",\"wanted\":\"%s\",\"actual\":\"%s\",\"why\":",
		       topic_finding_kind_name(finding->kind), finding->setting, finding->wanted, finding->actual);
		cli_json_string(stdout, finding->why ? finding->why : "", finding->why ? strlen(finding->why) : 0);
		putchar('}');
		return;
	}
	printf("%-18s %-8s", topic, topic_finding_kind_name(finding->kind));
	if (finding->setting[0])
		printf(" %s is %s, wanted %s", finding->setting, finding->actual, finding->wanted);
	if (finding->why)
		printf(": %s", finding->why);
	putchar('\n');
}

static enum status work(const struct arguments *arguments, struct config *config,
			struct topic_findings *findings, struct topic_names *names, struct error *error)
{
	struct settings_lists lists = {0};
	struct topics_options topics = {.partitions = arguments->partitions,
					.replication_factor = arguments->replication_factor,
					.settings = lists.kafka};
	struct endpoint to;
	enum status status = settings_load(config, arguments->settings.config_file, arguments->settings.pairs,
					   arguments->settings.pairs_count, error);

	if (status == STATUS_OK)
		status = endpoint_parse(arguments->to, &to, error);
	if (status != STATUS_OK)
		return status;
	if (!to.kafka)
		return error_set(error, STATUS_USAGE, "--to kafka://host:port is needed");
	settings_topics(config, names);
	settings_kafka(config, &lists);
	topics.brokers = to.where;
	topics.settings_count = lists.kafka_count;
	topics.topics = *names;
	topics.record_bytes_max = (size_t)config_integer(config, "record.bytes_max");
	for (int topic = 0; topic < TOPICS; topic++)
		topics.wanted[topic] = true;
	return strcmp(arguments->verb, "create") == 0 ? topics_create(&topics, findings, error)
						      : topics_check(&topics, findings, error);
}

int cmd_topics(int argc, char **argv)
{
	static const struct argp parser = {options, parse_option, "create|check", description, NULL, NULL, NULL};
	struct arguments arguments = {0};
	struct topic_findings findings = {0};
	struct topic_names names;
	struct error error = {0};
	struct config *config;
	enum status status;

	argp_err_exit_status = status_exit_code(STATUS_USAGE);
	argp_parse(&parser, argc, argv, 0, NULL, &arguments);
	config = settings_create();
	if (!config)
		return cli_usage("topics", "out of memory");
	status = work(&arguments, config, &findings, &names, &error);
	if (status == STATUS_OK) {
		fputs(arguments.json ? "[" : "", stdout);
		for (size_t i = 0; i < findings.count; i++) {
			fputs(arguments.json && i ? "," : "", stdout);
			print_finding(&names, &findings.findings[i], arguments.json);
		}
		fputs(arguments.json ? "]\n" : "", stdout);
	}
	config_destroy(config);
	if (status != STATUS_OK)
		return status == STATUS_USAGE ? cli_usage("topics", "%s", error.text) : cli_fail(&error);
	return findings.wrong ? status_exit_code(STATUS_CONFIG) : 0;
}

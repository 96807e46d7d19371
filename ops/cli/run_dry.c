/* run_dry.c - `exitpoll run --dry-run`: everything that can be checked without starting. Every check is
 * made even when an earlier one failed; the exit code is that of the first failure. */
#include "ops/cli/cmd_run.h"

#include "ops/cli/cli.h"
#include "producer/topics.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct report {
	bool json;
	int exit_code;
	size_t lines;
};

static void say(struct report *report, const char *what, enum status status, const char *text)
{
	if (status != STATUS_OK && report->exit_code == 0)
		report->exit_code = status_exit_code(status);
	if (report->json) {
		fputs(report->lines ? "," : "", stdout);
		fputs("{\"check\":", stdout);
		cli_json_string(stdout, what, strlen(what));
		printf(",\"ok\":%s,\"text\":", status == STATUS_OK ? "true" : "false");
		cli_json_string(stdout, text, strlen(text));
		putchar('}');
	} else {
		printf("%-10s %-6s %s\n", what, status == STATUS_OK ? "ok" : "FAILED", text);
	}
	report->lines++;
}

static void check_folder(struct report *report, const char *what, const char *folder, bool must_exist)
{
	struct stat info;
	char text[4400];

	if (stat(folder, &info) == 0 && !S_ISDIR(info.st_mode)) {
		snprintf(text, sizeof text, "%s is not a folder", folder);
		say(report, what, STATUS_NO_INPUT, text);
	} else if (stat(folder, &info) != 0 && must_exist) {
		snprintf(text, sizeof text, "folder %s is not there", folder);
		say(report, what, STATUS_NO_INPUT, text);
	} else {
		snprintf(text, sizeof text, "folder %s", folder);
		say(report, what, STATUS_OK, text);
	}
}

static void check_topics(struct report *report, const struct run_options *options,
			 const struct run_parts *parts)
{
	bool graph = options->stage != STAGE_SCORER, scores = options->stage != STAGE_GRAPH_UPDATER;
	struct topics_options topics = {
		.settings = parts->lists.kafka,
		.settings_count = parts->lists.kafka_count,
		.topics = parts->topics,
		.wanted = {[TOPIC_ITEMS] = graph && options->from.kafka,
			   [TOPIC_INTERACTIONS] = graph && options->from.kafka,
			   [TOPIC_IMPRESSIONS] = graph && options->from.kafka,
			   [TOPIC_SCORING_REQUESTS] = (!graph && options->from.kafka) || (!scores && options->to.kafka),
			   [TOPIC_PREDICTIONS] = scores && options->to.kafka,
			   [TOPIC_DEAD_LETTERS] = options->to.kafka},
		.record_bytes_max = parts->limits.record_bytes_max,
		.brokers = options->from.kafka ? options->from.where : options->to.where,
	};
	struct topic_findings findings = {0};
	struct error error = {0};
	enum status status = topics_check(&topics, &findings, &error);
	char text[512];

	if (status != STATUS_OK) {
		say(report, "topics", status, error.text);
		return;
	}
	for (size_t i = 0; i < findings.count; i++) {
		const struct topic_finding *finding = &findings.findings[i];
		bool bad = finding->kind == TOPIC_FINDING_MISSING || finding->kind == TOPIC_FINDING_WRONG;
		snprintf(text, sizeof text, "%s %s %s%s%s%s%s%s", topics.topics.name[finding->topic],
			 topic_finding_kind_name(finding->kind), finding->setting,
			 finding->setting[0] ? ": wanted " : "", finding->wanted,
			 finding->setting[0] ? ", is " : "", finding->actual, finding->why ? "" : "");
		say(report, "topics", bad ? STATUS_CONFIG : STATUS_OK, text);
	}
}

static void check_state(struct report *report, const struct run_parts *parts)
{
	struct updater *updater = NULL;
	const struct position *positions;
	size_t count;
	struct error error = {0};
	char text[4400];
	enum status status = updater_create(&parts->updater_options, &updater, &error);

	if (status == STATUS_OK)
		status = updater_restore(updater, parts->state_folder, INT64_MAX, &positions, &count, &error);
	if (status == STATUS_NOT_FOUND) {
		snprintf(text, sizeof text, "%s: no snapshot yet, starts from the beginning", parts->state_folder);
		status = STATUS_OK;
	} else if (status == STATUS_OK) {
		snprintf(text, sizeof text, "%s: snapshot at graph version %lld", parts->state_folder,
			 (long long)updater_graph_version(updater));
	} else {
		snprintf(text, sizeof text, "%s", error.text);
	}
	say(report, "state", status, text);
	updater_destroy(updater);
}

int run_dry(const struct run_options *options, struct run_parts *parts)
{
	struct report report = {.json = options->json};
	struct error error = {0};
	enum status status;

	if (options->json)
		fputs("{\"checks\":[", stdout);
	say(&report, "settings", STATUS_OK, "all known, all in range");
	if (!options->from.kafka)
		check_folder(&report, "from", options->from.where, true);
	if (!options->to.kafka)
		check_folder(&report, "to", options->to.where, false);
	status = run_parts_create(options, parts, &error);
	if (status != STATUS_OK)
		say(&report, "start", status, error.text);
	else {
		if (parts->scorer)
			say(&report, "model", STATUS_OK, scorer_describe(parts->scorer));
		say(&report, "registry", STATUS_OK, registry_describe(parts->registry));
		if (parts->state_folder[0])
			check_state(&report, parts);
	}
	if (options->from.kafka || options->to.kafka)
		check_topics(&report, options, parts);
	if (options->json)
		fputs("],", stdout);
	if (options->json) {
		fputs("\"effective\":", stdout);
		settings_print(parts->config, true, stdout);
		puts("}");
	} else {
		putchar('\n');
		settings_print(parts->config, false, stdout);
	}
	return report.exit_code;
}

/* inspect_snapshot.c - what a snapshot holds, whether it is sound, and what it knows of a user or item. */
#include "ops/cli/inspect.h"

#include "graph-updater/inspect.h"
#include "graph-updater/snapshot.h"
#include "ops/cli/cli.h"
#include "ops/cli/progress.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { LAST_SHOWN = 15, NEIGHBOURS_SHOWN = 10 };

static void print_time(int64_t time_ms)
{
	time_t seconds = time_ms / 1000;
	struct tm utc;
	char text[32];
	strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", gmtime_r(&seconds, &utc));
	fputs(text, stdout);
}

static void print_json_text(const char *name, struct text_view text)
{
	printf("\"%s\":", name);
	cli_json_string(stdout, text.bytes, text.size);
}

static void print_node_json(const struct inspect_node *node, const char *side)
{
	printf("{\"side\":\"%s\",", side);
	print_json_text("id", node->id);
	putchar(',');
	print_json_text("title", node->title);
	printf(",\"edges\":%u,\"gcn_edges\":%u,\"mean_response\":%.9g,\"embedding_length\":%.9g,\"last\":[", node->edges,
	       node->gcn_edges, node->mean_response, node->length);
	for (size_t i = 0; i < node->last_count; i++) {
		fputs(i ? ",{" : "{", stdout);
		print_json_text("id", node->last[i].id);
		putchar(',');
		print_json_text("title", node->last[i].title);
		printf(",\"kind\":\"%s\",\"rating\":", interaction_kind_name(node->last[i].kind));
		if (node->last[i].has_rating)
			printf("%.9g", (double)node->last[i].rating);
		else
			fputs("null", stdout);
		printf(",\"response\":%.9g,\"event_time\":%" PRId64 "}", node->last[i].response, node->last[i].event_time_ms);
	}
	fputs("],\"neighbours\":[", stdout);
	for (size_t i = 0; i < node->neighbours_count; i++) {
		fputs(i ? ",{" : "{", stdout);
		print_json_text("id", node->neighbours[i].id);
		printf(",\"cosine\":%.9g}", node->neighbours[i].cosine);
	}
	puts("]}");
}

static void print_node(const struct inspect_node *node, const char *side)
{
	printf("%s %.*s", side, TEXT_ARGS(node->id));
	if (node->title.size)
		printf(": %.*s", TEXT_ARGS(node->title));
	printf("\n%u interactions (%u in the graph), mean response %.3f, embedding length %.3f\n", node->edges,
	       node->gcn_edges, node->mean_response, node->length);
	for (size_t i = 0; i < node->attributes_count; i++)
		printf("  %.*s = %.*s\n", TEXT_ARGS(node->attributes[i].name), TEXT_ARGS(node->attributes[i].value));
	for (size_t i = 0; i < node->last_count; i++) {
		const struct inspect_edge *edge = &node->last[i];
		fputs("  ", stdout);
		print_time(edge->event_time_ms);
		printf("  %-8s", interaction_kind_name(edge->kind));
		if (edge->has_rating)
			printf(" %g", (double)edge->rating);
		printf("  %.*s  %.*s\n", TEXT_ARGS(edge->id), TEXT_ARGS(edge->title));
	}
	for (size_t i = 0; i < node->neighbours_count; i++)
		printf("  similar %.4f  %.*s\n", node->neighbours[i].cosine, TEXT_ARGS(node->neighbours[i].id));
}

static enum status show_node(const struct inspect_options *options, const char *path,
			     struct progress_parts *progress, struct error *error)
{
	struct updater *updater = NULL;
	struct arena *arena = arena_create((size_t)1 << 24);
	struct advance advance = {progress_part, progress};
	struct inspect_node node;
	enum status status = arena ? snapshot_open(path, &advance, &updater, error)
				   : error_set(error, STATUS_NO_MEMORY, "out of memory");

	progress_end(&progress->progress);
	if (status == STATUS_OK && options->user) {
		status = inspect_user(updater, text_of(options->user), LAST_SHOWN, NEIGHBOURS_SHOWN, arena, &node, error);
		if (status == STATUS_OK)
			(options->json ? print_node_json : print_node)(&node, "user");
	}
	if (status == STATUS_OK && options->item) {
		status = inspect_item(updater, text_of(options->item), LAST_SHOWN, arena, &node, error);
		if (status == STATUS_OK)
			(options->json ? print_node_json : print_node)(&node, "item");
	}
	updater_destroy(updater);
	arena_destroy(arena);
	return status;
}

static void print_info(const char *path, const struct snapshot_info *info, bool checked, bool exact, bool json)
{
	const char *check = !checked ? "not checked" : exact ? "exact" : "sound";

	if (json) {
		fputs("{\"file\":", stdout);
		cli_json_string(stdout, path, strlen(path));
		printf(",\"graph_version\":%" PRId64 ",\"clock_ms\":%" PRId64 ",\"users\":%" PRIu64 ",\"items\":%" PRIu64
		       ",\"edges\":%" PRIu64 ",\"tombstones\":%" PRIu64 ",\"positions\":%" PRIu64 ",\"bytes\":%" PRIu64
		       ",\"same_schemas\":%s,\"item_seeds_epoch\":\"%016" PRIx64 "\",\"user_seeds_epoch\":\"%016"
		       PRIx64 "\",\"check\":\"%s\"",
		       info->graph_version, info->clock_ms, info->users, info->items, info->edges, info->tombstones,
		       info->positions, info->file_bytes, info->same_schemas ? "true" : "false",
		       info->item_seeds_epoch, info->user_seeds_epoch, check);
		if (checked)
			printf(",\"error_bound\":%.9g,\"residual_mass\":%.9g,\"residual_nodes\":%" PRIu64,
			       info->accuracy.bound, info->accuracy.residual_mass, info->accuracy.residual_nodes);
		puts("}");
		return;
	}
	printf("%s: graph version %" PRId64 ", %" PRIu64 " users, %" PRIu64 " items, %" PRIu64 " edges, %" PRIu64
	       " tombstones, %" PRIu64 " input positions, %" PRIu64 " bytes\n",
	       path, info->graph_version, info->users, info->items, info->edges, info->tombstones, info->positions,
	       info->file_bytes);
	if (info->clock_ms != INT64_MIN) {
		fputs("clock ", stdout);
		print_time(info->clock_ms);
		putchar('\n');
	}
	if (info->item_seeds_epoch)
		printf("trained seeds of items, epoch %016" PRIx64 "\n", info->item_seeds_epoch);
	if (info->user_seeds_epoch)
		printf("trained seeds of users, epoch %016" PRIx64 "\n", info->user_seeds_epoch);
	if (!info->same_schemas)
		puts("written by a program with other schemas");
	if (checked && exact)
		puts("exact: every byte, and equal to a full recomputation");
	else if (checked)
		printf("sound: every byte, and the embeddings within their bound\n"
		       "embeddings off by at most %.4g (1: the length of one dimension's largest value); %" PRIu64
		       " of %" PRIu64 " nodes hold a residual, %.4g in all\n",
		       info->accuracy.bound, info->accuracy.residual_nodes,
		       info->accuracy.nodes, info->accuracy.residual_mass);
}

enum status inspect_snapshot(const struct inspect_options *options, struct error *error)
{
	struct snapshot_info info;
	struct stat entry;
	char *newest = NULL;
	const char *path = options->target;
	struct progress_parts progress = {.wanted = !options->json};
	struct advance advance = {progress_part, &progress};
	bool exact = false;
	enum status status = STATUS_OK;

	if (stat(path, &entry) == 0 && S_ISDIR(entry.st_mode)) {
		status = snapshot_newest(path, &newest, error);
		path = newest;
	}
	if (status == STATUS_OK && options->check)
		status = snapshot_check(path, &advance, &info, &exact, error);
	else if (status == STATUS_OK)
		status = snapshot_get_info(path, &info, error);
	progress_end(&progress.progress);
	if (status == STATUS_OK && (options->user || options->item))
		status = show_node(options, path, &progress, error);
	else if (status == STATUS_OK)
		print_info(path, &info, options->check, exact, options->json);
	mem_free(newest);
	return status;
}

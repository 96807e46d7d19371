/* event_json.c - see event_json.h. Field names are those of the schemas. */
#include "ops/cli/event_json.h"

#include "ops/cli/cli.h"

#include <inttypes.h>

static void text_field(FILE *out, const char *name, struct text_view text, bool optional)
{
	fprintf(out, "\"%s\":", name);
	if (optional && !text.bytes)
		fputs("null", out);
	else
		cli_json_string(out, text.bytes, text.size);
}

static void floats(FILE *out, const char *name, const float *values, size_t count)
{
	fprintf(out, ",\"%s\":[", name);
	for (size_t i = 0; i < count; i++)
		fprintf(out, "%s%.9g", i ? "," : "", (double)values[i]);
	putc(']', out);
}

static void item(FILE *out, const struct item_event *event)
{
	putc('{', out);
	text_field(out, "item_id", event->item_id, false);
	putc(',', out);
	text_field(out, "title", event->title, false);
	fputs(",\"attributes\":{", out);
	for (size_t i = 0; i < event->attributes_count; i++) {
		fputs(i ? "," : "", out);
		cli_json_string(out, event->attributes[i].name.bytes, event->attributes[i].name.size);
		putc(':', out);
		cli_json_string(out, event->attributes[i].value.bytes, event->attributes[i].value.size);
	}
	fprintf(out, "},\"event_time\":%" PRId64 ",\"deleted\":%s}", event->event_time_ms,
		event->deleted ? "true" : "false");
}

static void interaction(FILE *out, const struct interaction_event *event)
{
	putc('{', out);
	text_field(out, "user_id", event->user_id, false);
	putc(',', out);
	text_field(out, "item_id", event->item_id, true);
	fprintf(out, ",\"kind\":\"%s\",\"rating\":", interaction_kind_name(event->kind));
	if (event->has_rating)
		fprintf(out, "%.17g,", event->rating);
	else
		fputs("null,", out);
	text_field(out, "impression_id", event->impression_id, true);
	fprintf(out, ",\"event_time\":%" PRId64 "}", event->event_time_ms);
}

static void deadline(FILE *out, bool has, int64_t deadline_ms)
{
	if (has)
		fprintf(out, ",\"deadline_ms\":%" PRId64, deadline_ms);
	else
		fputs(",\"deadline_ms\":null", out);
}

static void impression(FILE *out, const struct impression_event *event)
{
	putc('{', out);
	text_field(out, "impression_id", event->impression_id, false);
	putc(',', out);
	text_field(out, "user_id", event->user_id, false);
	fputs(",\"candidates\":[", out);
	for (size_t i = 0; i < event->candidates_count; i++) {
		fputs(i ? "," : "", out);
		cli_json_string(out, event->candidates[i].bytes, event->candidates[i].size);
	}
	fprintf(out, "],\"event_time\":%" PRId64, event->event_time_ms);
	deadline(out, event->has_deadline, event->deadline_ms);
	putc('}', out);
}

static void entries(FILE *out, const struct history_entry *history, size_t count)
{
	putc('[', out);
	for (size_t i = 0; i < count; i++) {
		fputs(i ? ",{" : "{", out);
		text_field(out, "item_id", history[i].item_id, false);
		putc(',', out);
		text_field(out, "text", history[i].text, false);
		fprintf(out, ",\"kind\":\"%s\",\"rating\":", interaction_kind_name(history[i].kind));
		if (history[i].has_rating)
			fprintf(out, "%.9g", (double)history[i].rating);
		else
			fputs("null", out);
		fprintf(out, ",\"event_time\":%" PRId64 "}", history[i].event_time_ms);
	}
	putc(']', out);
}

static void scoring_request(FILE *out, const struct scoring_request *event)
{
	putc('{', out);
	text_field(out, "impression_id", event->impression_id, false);
	putc(',', out);
	text_field(out, "user_id", event->user_id, false);
	fprintf(out, ",\"status\":\"%s\",\"history\":", prediction_status_name(event->status));
	entries(out, event->history, event->history_count);
	fputs(",\"examples\":[", out);
	for (size_t i = 0; i < event->examples_count; i++) {
		fprintf(out, "%s{\"similarity\":%.9g,\"entries\":", i ? "," : "",
			(double)event->examples[i].similarity);
		entries(out, event->examples[i].entries, event->examples[i].entries_count);
		putc('}', out);
	}
	putc(']', out);
	floats(out, "user_statistics", event->user_statistics, event->user_statistics_count);
	fputs(",\"candidates\":[", out);
	for (size_t i = 0; i < event->candidates_count; i++) {
		fputs(i ? ",{" : "{", out);
		text_field(out, "item_id", event->candidates[i].item_id, false);
		putc(',', out);
		text_field(out, "text", event->candidates[i].text, false);
		floats(out, "statistics", event->candidates[i].statistics, event->candidates[i].statistics_count);
		putc('}', out);
	}
	fprintf(out, "],\"graph_version\":%" PRId64 ",\"event_time\":%" PRId64, event->graph_version,
		event->event_time_ms);
	deadline(out, event->has_deadline, event->deadline_ms);
	putc('}', out);
}

static void prediction(FILE *out, const struct prediction *event)
{
	putc('{', out);
	text_field(out, "impression_id", event->impression_id, false);
	putc(',', out);
	text_field(out, "user_id", event->user_id, false);
	fputs(",\"scores\":[", out);
	for (size_t i = 0; i < event->scores_count; i++) {
		fputs(i ? ",{" : "{", out);
		text_field(out, "item_id", event->scores[i].item_id, false);
		fprintf(out, ",\"p_click\":%.9g,\"exit_layer\":%d,\"margin\":", (double)event->scores[i].p_click,
			event->scores[i].exit_layer);
		if (event->scores[i].has_margin)
			fprintf(out, "%.9g}", (double)event->scores[i].margin);
		else
			fputs("null}", out);
	}
	fputs("],", out);
	text_field(out, "model_id", event->model_id, false);
	fprintf(out, ",\"graph_version\":%" PRId64 ",\"event_time\":%" PRId64 ",\"scored_time\":%" PRId64
		     ",\"status\":\"%s\"}",
		event->graph_version, event->event_time_ms, event->scored_time_ms,
		prediction_status_name(event->status));
}

static void hexadecimal(FILE *out, const char *name, struct text_view bytes)
{
	fprintf(out, ",\"%s\":", name);
	if (!bytes.bytes) {
		fputs("null", out);
		return;
	}
	putc('"', out);
	for (size_t i = 0; i < bytes.size; i++)
		fprintf(out, "%02x", (unsigned char)bytes.bytes[i]);
	putc('"', out);
}

static void dead_letter(FILE *out, const struct dead_letter *event)
{
	putc('{', out);
	text_field(out, "topic", event->topic, false);
	fprintf(out, ",\"partition\":%d,\"offset\":%" PRId64 ",", event->partition, event->offset);
	text_field(out, "stage", event->stage, false);
	putc(',', out);
	text_field(out, "reason", event->reason, false);
	putc(',', out);
	text_field(out, "error", event->error, false);
	hexadecimal(out, "key_hex", event->key);
	hexadecimal(out, "value_hex", event->value);
	putc('}', out);
}

void event_json_write(FILE *out, const struct event *event)
{
	switch (event->type) {
	case RECORD_ITEM: item(out, &event->item); break;
	case RECORD_IMPRESSION: impression(out, &event->impression); break;
	case RECORD_INTERACTION: interaction(out, &event->interaction); break;
	case RECORD_SCORING_REQUEST: scoring_request(out, &event->scoring_request); break;
	case RECORD_PREDICTION: prediction(out, &event->prediction); break;
	case RECORD_DEAD_LETTER: dead_letter(out, &event->dead_letter); break;
	}
}

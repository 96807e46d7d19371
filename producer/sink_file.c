/* sink_file.c - container files as a sink: one zstandard file per topic, visible when all is done.
 *
 * Nothing has its final name before finish(); a run that fails leaves neither files nor the folder it
 * made. commit() counts only: a file's one commit is finish(). After abort() the sink can only be
 * destroyed, since records that were written cannot be taken back. Called by the pipeline and by
 * `import`, from one thread. */
#include "producer/sink.h"

#include "base/mem.h"
#include "producer/output_folder.h"
#include "schemas/container.h"
#include "schemas/event_size.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Predictions appear last: where they are, the run was complete. */
static const enum topic finish_order[TOPICS] = {
	TOPIC_ITEMS,            TOPIC_IMPRESSIONS,  TOPIC_INTERACTIONS,
	TOPIC_SCORING_REQUESTS, TOPIC_DEAD_LETTERS, TOPIC_PREDICTIONS,
};

struct sink_file {
	struct sink base;
	struct output_folder folder;
	char *paths[TOPICS];
	struct container_writer *writers[TOPICS];
	bool appeared[TOPICS];
	struct container_metadata *metadata;    /* [metadata_count], owned */
	size_t metadata_count;
	bool force;
	size_t record_bytes_max;
	uint64_t commits;
	bool aborted;
	bool finished;
};

static struct sink_file *sink_of(struct sink *sink)
{
	return (struct sink_file *)sink;
}

static enum status open_writer(struct sink_file *sink, enum topic topic, struct error *error)
{
	return container_writer_create(sink->paths[topic], topic_record_type(topic), CONTAINER_DEFLATE,
				       sink->metadata, sink->metadata_count, sink->force,
				       &sink->writers[topic], error);
}

static enum status write_event(struct sink *base, const struct event *event, struct text_view traceparent,
			       struct error *error)
{
	struct sink_file *sink = sink_of(base);
	enum topic topic = topic_of_record_type(event->type);
	size_t bytes = event_encoded_bytes(event);

	(void)traceparent;      /* the record has no place for it */
	if (sink->aborted || sink->finished)
		return error_set(error, STATUS_USAGE, "%s: write after the sink has ended",
				 sink->folder.path);
	/* A dead letter holds a record that may itself be at the limit. */
	if (event->type != RECORD_DEAD_LETTER && bytes > sink->record_bytes_max)
		return error_set(error, STATUS_LIMIT, "%s: a record of %zu bytes is over the limit of %zu",
				 sink->paths[topic], bytes, sink->record_bytes_max);
	if (!sink->writers[topic]) {
		enum status status = open_writer(sink, topic, error);
		if (status != STATUS_OK)
			return status;
	}
	return container_write(sink->writers[topic], event, error);
}

static enum status commit(struct sink *base, const struct commit_offsets *offsets, struct error *error)
{
	struct sink_file *sink = sink_of(base);

	(void)offsets;
	if (sink->aborted || sink->finished)
		return error_set(error, STATUS_USAGE, "%s: commit after the sink has ended",
				 sink->folder.path);
	sink->commits++;
	return STATUS_OK;
}

static enum status settle(struct sink *base, struct error *error)
{
	(void)base;
	(void)error;
	return STATUS_OK;
}

static void drop_writers(struct sink_file *sink)
{
	for (int topic = 0; topic < TOPICS; topic++)
		container_writer_abort(&sink->writers[topic]);
}

static enum status abort_output(struct sink *base, struct error *error)
{
	(void)error;
	drop_writers(sink_of(base));
	sink_of(base)->aborted = true;
	return STATUS_OK;
}

static enum status finish(struct sink *base, struct error *error)
{
	struct sink_file *sink = sink_of(base);
	enum status status = STATUS_OK;

	if (sink->aborted || sink->finished)
		return error_set(error, STATUS_USAGE, "%s: finish after the sink has ended",
				 sink->folder.path);
	for (int i = 0; i < TOPICS && status == STATUS_OK; i++) {
		enum topic topic = finish_order[i];
		if (sink->writers[topic]) {
			status = container_writer_close(&sink->writers[topic], error);
			sink->appeared[topic] = status == STATUS_OK;
		} else if (sink->force && topic == TOPIC_DEAD_LETTERS && unlink(sink->paths[topic]) &&
			   errno != ENOENT) {
			/* Those of the run before would pass for ours. */
			status = error_set(error, STATUS_IO, "%s: cannot remove the old file: %s",
					   sink->paths[topic], strerror(errno));
		}
	}
	if (status == STATUS_OK)
		status = output_folder_sync(&sink->folder, error);
	if (status != STATUS_OK) {
		drop_writers(sink);
		for (int topic = 0; topic < TOPICS; topic++)
			if (sink->appeared[topic])
				unlink(sink->paths[topic]);
		sink->aborted = true;
		return status;
	}
	sink->finished = true;
	return STATUS_OK;
}

static uint64_t commits(const struct sink *base)
{
	return ((const struct sink_file *)base)->commits;
}

static void destroy(struct sink *base)
{
	struct sink_file *sink = sink_of(base);

	if (!sink)
		return;
	drop_writers(sink);
	for (int topic = 0; topic < TOPICS; topic++)
		mem_free(sink->paths[topic]);
	output_folder_close(&sink->folder, sink->finished);
	for (size_t i = 0; i < sink->metadata_count; i++) {
		mem_free((char *)sink->metadata[i].key);
		mem_free((char *)sink->metadata[i].value);
	}
	mem_free(sink->metadata);
	mem_free(sink);
}

static const struct sink_class file_class = {
	.name = "file",
	.write = write_event,
	.commit = commit,
	.settle = settle,
	.abort = abort_output,
	.finish = finish,
	.commits = commits,
	.destroy = destroy,
};

static enum status copy_metadata(struct sink_file *sink, const struct sink_file_options *options,
				 struct error *error)
{
	sink->metadata = mem_alloc_zero(options->metadata_count, sizeof *sink->metadata);
	if (!sink->metadata)
		return error_set(error, STATUS_NO_MEMORY, "file sink: no memory");
	for (size_t i = 0; i < options->metadata_count; i++) {
		sink->metadata_count++;
		sink->metadata[i].key = mem_copy_string(options->metadata[i].key);
		sink->metadata[i].value = mem_copy_string(options->metadata[i].value);
		if (!sink->metadata[i].key || !sink->metadata[i].value)
			return error_set(error, STATUS_NO_MEMORY, "file sink: no memory");
	}
	return STATUS_OK;
}

/* The path of the topic's file; refuses one that is there, unless it may be replaced. */
static enum status claim_path(struct sink_file *sink, enum topic topic, struct error *error)
{
	const char *name = topic_names_default.name[topic];
	size_t bytes = strlen(sink->folder.path) + strlen(name) + sizeof "/.avro";

	sink->paths[topic] = mem_alloc(bytes);
	if (!sink->paths[topic])
		return error_set(error, STATUS_NO_MEMORY, "file sink: no memory");
	snprintf(sink->paths[topic], bytes, "%s/%s.avro", sink->folder.path, name);
	return STATUS_OK;
}

enum status sink_file_create(const struct sink_file_options *options, struct sink **out, struct error *error)
{
	struct sink_file *sink = mem_alloc_zero(1, sizeof *sink);
	enum status status;

	if (!sink)
		return error_set(error, STATUS_NO_MEMORY, "file sink: no memory");
	sink->base.class = &file_class;
	sink->force = options->force;
	sink->record_bytes_max =
		options->record_bytes_max ? options->record_bytes_max : event_limits_default.record_bytes_max;
	status = output_folder_open(&sink->folder, options->folder, error);
	if (status == STATUS_OK)
		status = copy_metadata(sink, options, error);
	for (int topic = 0; topic < TOPICS && status == STATUS_OK; topic++) {
		status = claim_path(sink, (enum topic)topic, error);
		bool wanted = options->topics[topic] || topic == TOPIC_DEAD_LETTERS;
		if (status == STATUS_OK && wanted && !sink->force && access(sink->paths[topic], F_OK) == 0)
			status = error_set(error, STATUS_CANNOT_CREATE,
					   "%s: exists; give --force to replace it, or another folder",
					   sink->paths[topic]);
	}
	for (int topic = 0; topic < TOPICS && status == STATUS_OK; topic++)
		if (options->topics[topic] && topic != TOPIC_DEAD_LETTERS)
			status = open_writer(sink, (enum topic)topic, error);
	if (status != STATUS_OK) {
		destroy(&sink->base);
		return status;
	}
	*out = &sink->base;
	return STATUS_OK;
}

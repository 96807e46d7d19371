/* samples_json.c - see samples_json.h. Caller: the samples command. */
#include "ops/cli/samples_json.h"

#include "base/mem.h"
#include "consumer/folder.h"
#include "scorer/bundle_json.h"
#include "scorer/train/samples_file.h"

#include <string.h>
#include <xxhash.h>

/* ---- the events' identity ---- */

static enum status hash_file(const char *path, XXH3_state_t *state, struct error *error)
{
	struct mapped_file file = {0};
	enum status status = mapped_file_open(path, &file, error);
	if (!status) {
		uint64_t size = file.size;
		XXH3_128bits_update(state, &size, sizeof size);
		XXH3_128bits_update(state, file.bytes, file.size);
	}
	mapped_file_close(&file);
	return status;
}

/* Of all bytes of the three topics, in the order of the files' names; the folder's name does not count. */
static enum status hash_events(const char *folder, char out[33], struct error *error)
{
	static const char *const topics[] = {"items", "impressions", "interactions"};
	XXH3_state_t *state = XXH3_createState();
	enum status status = state ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "no memory to hash the events");
	if (!status)
		XXH3_128bits_reset(state);
	for (size_t t = 0; !status && t < sizeof topics / sizeof topics[0]; t++) {
		struct folder_files files = {0};
		status = folder_list(folder, topics[t], &files, error);
		for (size_t i = 0; !status && i < files.count; i++)
			status = hash_file(files.files[i].path, state, error);
		folder_files_free(&files);
	}
	if (!status) {
		XXH128_hash_t hash = XXH3_128bits_digest(state);
		snprintf(out, 33, "%016llx%016llx", (unsigned long long)hash.high64,
			 (unsigned long long)hash.low64);
	}
	XXH3_freeState(state);
	return status;
}

/* ---- parts of the description ---- */

/* Settings that decide what is in a sample. */
static json_t *settings_json(const struct config *config)
{
	static const char *const prefixes[] = {"graph.", "enrichment.", "statistics.", "item.", "impression."};
	json_t *object = json_object();
	for (size_t i = 0; i < config_entries(config); i++) {
		struct config_entry entry;
		config_entry_at(config, i, &entry);
		for (size_t p = 0; p < sizeof prefixes / sizeof prefixes[0]; p++)
			if (!strncmp(entry.key, prefixes[p], strlen(prefixes[p])) &&
			    strcmp(entry.key, "graph.threads") && strcmp(entry.key, "graph.id_seed"))
				json_object_set_new(object, entry.key,
						    entry.value ? json_string(entry.value) : json_null());
	}
	return object;
}

static json_t *features_json(const struct samples_description *d)
{
	json_t *names = json_array();
	char name[FEATURES_NAME_BYTES];
	for (size_t f = 0; f < d->features; f++) {
		features_name(f, d->attributes, name);
		json_array_append_new(names, json_string(name));
	}
	return names;
}

static json_t *time_json(int64_t time_ms)
{
	return time_ms == INT64_MAX || time_ms == INT64_MIN ? json_null() : json_integer(time_ms);
}

static json_t *split_json(const struct samples_description *d)
{
	const int64_t *begins = samples_split_begins(d->split);
	json_t *times = begins ? json_array() : json_null(), *shares = json_array();
	for (int i = 0; i < PARTS; i++)
		json_array_append_new(shares, json_real(d->shares[i]));
	for (int i = 0; begins && i < PARTS - 1; i++)
		json_array_append_new(times, time_json(begins[i]));
	return json_pack("{s:s, s:o, s:o, s:I, s:I, s:I}", "rule", d->split_rule, "shares", shares, "begins_ms", times,
			 "seed", (json_int_t)d->seed, "few_shot", (json_int_t)d->few_shot, "history_min",
			 (json_int_t)d->history_min);
}

static json_t *model_json(const struct samples_description *d, json_t *root)
{
	char wording[BUNDLE_HASH_BYTES];
	int32_t yes, no;
	prompt_answers(d->prompt, &yes, &no);
	bundle_wording_hash(d->bundle, wording);
	json_object_set_new(root, "model_hash", json_string(d->bundle->content));
	json_object_set_new(root, "template", json_string(d->bundle->wording->name));
	json_object_set_new(root, "wording", json_string(wording));
	json_object_set_new(root, "tokenizer", json_string(tokenizer_kind(d->bundle->tokenizer)));
	json_object_set_new(root, "vocabulary", json_integer(tokenizer_vocabulary(d->bundle->tokenizer)));
	json_object_set_new(root, "context", json_integer(d->bundle->context));
	json_object_set_new(root, "instruction_tokens", json_integer(prompt_instruction(d->prompt).count));
	json_object_set_new(root, "answer_ids", json_pack("[i, i]", (int)yes, (int)no));
	/* null: the template's. */
	json_object_set_new(root, "answers", d->bundle->yes ? json_pack("[s, s]", d->bundle->yes, d->bundle->no) :
							      json_null());
	json_object_set_new(root, "trained_until", time_json(d->trained_until_ms));
	json_object_set_new(root, "leak_allowed", json_boolean(d->allow_leak));
	return root;
}

enum status samples_json_describe(const struct samples_description *d, json_t **out, struct error *error)
{
	char hash[33];
	enum status status = hash_events(d->events, hash, error);
	if (status)
		return status;
	json_t *root = json_pack("{s:i, s:s, s:s, s:s}", "version", (int)SAMPLES_VERSION, "program",
				 "exitpoll " EXITPOLL_VERSION, "task",
				 samples_labels_clicked(d->labels) ? "clicked" : "liked", "label",
				 samples_labels_rule(d->labels));
	if (!root)
		return error_set(error, STATUS_NO_MEMORY, "no memory to describe the samples");
	model_json(d, root);
	json_object_set_new(root, "features", features_json(d));
	json_object_set_new(root, "split", split_json(d));
	json_object_set_new(root, "settings", settings_json(d->config));
	json_object_set_new(root, "events_hash", json_string(hash));
	*out = root;
	return STATUS_OK;
}

static json_t *part_json(int part, const struct samples_part *counts)
{
	bool any = counts->impressions > 0;
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:o, s:o}", "name", samples_part_name(part), "impressions",
			 (json_int_t)counts->impressions, "candidates", (json_int_t)counts->candidates, "labelled",
			 (json_int_t)counts->labelled, "positives", (json_int_t)counts->positives, "first_ms",
			 any ? json_integer(counts->first_ms) : json_null(), "last_ms",
			 any ? json_integer(counts->last_ms) : json_null());
}

static json_t *left_out_json(const struct samples_counts *counts)
{
	json_t *object = json_object();
	json_object_set_new(object, "late", json_integer((json_int_t)counts->late));
	json_object_set_new(object, "no_candidates", json_integer((json_int_t)counts->no_candidates));
	for (int i = SAMPLES_LABELLED + 1; i < SAMPLES_ANSWERS; i++)
		json_object_set_new(object, samples_answer_name((enum samples_answer)i),
				    json_integer((json_int_t)counts->by_answer[i]));
	json_object_set_new(object, "short_history", json_integer((json_int_t)counts->short_history));
	json_object_set_new(object, "not_in_split", json_integer((json_int_t)counts->not_in_split));
	json_object_set_new(object, "not_in_few_shot", json_integer((json_int_t)counts->not_in_few));
	json_object_set_new(object, "dead_letters", json_integer((json_int_t)counts->dead_letters));
	return object;
}

bool samples_json_finish(const struct samples_description *d, const struct samples_counts *counts, json_t *root)
{
	struct samples_part all = {0};
	json_t *parts = json_array();
	for (int part = 0; part < PARTS; part++) {
		json_array_append_new(parts, part_json(part, &counts->parts[part]));
		all.impressions += counts->parts[part].impressions;
		all.candidates += counts->parts[part].candidates;
		all.labelled += counts->parts[part].labelled;
		all.positives += counts->parts[part].positives;
	}
	json_object_set_new(root, "model", json_string(d->model));
	json_object_set_new(root, "events", json_string(d->events));
	json_object_set_new(root, "parts", parts);
	json_object_set_new(root, "left_out", left_out_json(counts));
	json_object_set_new(root, "unknown_users", json_integer((json_int_t)counts->unknown_users));
	json_object_set_new(root, "leaking", json_integer((json_int_t)counts->leaking));
	json_object_set_new(root, "shards", json_integer((json_int_t)counts->shards));
	return json_object_set_new(root, "counts", json_pack(
		"{s:I, s:I, s:I, s:I}", "impressions", (json_int_t)all.impressions, "candidates",
		(json_int_t)all.candidates, "labelled", (json_int_t)all.labelled, "positives",
		(json_int_t)all.positives)) == 0;
}

/* ---- files ---- */

enum status samples_json_compare(const char *folder, const char *name, const json_t *root, bool *there,
				 bool *equal, struct error *error)
{
	struct mapped_file file = {0};
	json_t *old = NULL;
	char *path = mapped_file_join(folder, name);
	enum status status = STATUS_OK;
	if (!path)
		return error_set(error, STATUS_NO_MEMORY, "no memory to read %s", name);
	*there = mapped_file_exists(path);
	*equal = false;
	if (*there && !(status = mapped_file_open(path, &file, error)) &&
	    !(status = bundle_json_parse(path, file.bytes, file.size, &old, error)))
		*equal = json_equal(old, root);
	json_decref(old);
	mapped_file_close(&file);
	mem_free(path);
	return status;
}

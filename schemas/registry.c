/* registry.c - the cache in front of a backend, and the built-in backend.
 *
 * Two tables. Plans: open addressing over pointers that are set once and never change, so that a reader
 * needs an acquire load and no lock; inserts take insert_lock for a few instructions. Refusals (unknown
 * id, foreign schema): a small table, where a new one replaces the oldest of its bucket, each with an
 * end of life. Invariant: no lock is held while a backend is asked. Called by sources (reads) and sinks
 * (writer ids) of any thread. */
#include "schemas/registry.h"

#include "base/clock.h"
#include "base/mem.h"
#include "schemas/registry_backend.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum {
	SCHEMAS_MAX_DEFAULT = 1024,
	SCHEMAS_MAX_LIMIT = 1 << 20,
	REFUSAL_BUCKETS = 64,
	REFUSAL_WAYS = 4,
	REFUSAL_LIFE_MS = 10000,
	WRITERS_MAX = 64,
	SUBJECT_BYTES = 256 + sizeof "-value",  /* Kafka's longest topic name is 249 */
};

struct cached_plan {
	uint32_t schema_id;
	enum record_type type;
	struct codec_plan *plan;
};

struct refusal {
	uint32_t schema_id;
	enum record_type type;
	int64_t end_ns;                 /* steady; 0: free */
	struct error error;
};

struct writer {
	enum record_type type;
	uint32_t schema_id;
	char subject[SUBJECT_BYTES];
};

struct registry {
	struct registry_backend *backend;
	atomic_bool cancelled;
	size_t plans_max;
	size_t slots;                           /* a power of two, at least twice plans_max */
	_Atomic(struct cached_plan *) *plans;   /* [slots] */
	pthread_mutex_t insert_lock;            /* over plans_count and inserts, and writers */
	size_t plans_count;
	struct writer writers[WRITERS_MAX];
	size_t writers_count;
	pthread_mutex_t refusal_lock;
	struct refusal refusals[REFUSAL_BUCKETS][REFUSAL_WAYS];
};

/* ---- the built-in backend: the shipped schemas under fixed ids ---- */

static enum status builtin_fetch(struct registry_backend *self, uint32_t schema_id, char **json,
				 struct error *error)
{
	(void)self;
	if (schema_id < 1 || schema_id > RECORD_TYPES)
		return error_set(error, STATUS_UNKNOWN_SCHEMA,
				 "schema id %u is none of the built-in ones (1..%d): set schema.registry to "
				 "the registry where the writer registered it", schema_id, RECORD_TYPES);
	*json = mem_copy_string(codec_schema_json((enum record_type)(schema_id - 1)));
	return *json ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "no memory for a schema");
}

static enum status builtin_publish(struct registry_backend *self, enum record_type type,
				   const char *subject, const char *json, uint32_t *schema_id,
				   struct error *error)
{
	(void)self;
	(void)subject;
	(void)json;
	(void)error;
	*schema_id = (uint32_t)type + 1;
	return STATUS_OK;
}

static void builtin_destroy(struct registry_backend *self)
{
	mem_free(self);
}

static enum status builtin_create(struct registry_backend **out, struct error *error)
{
	struct registry_backend *backend = mem_alloc_zero(1, sizeof *backend);
	if (!backend)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the schema registry");
	*backend = (struct registry_backend){builtin_fetch, builtin_publish, builtin_destroy, "built-in"};
	*out = backend;
	return STATUS_OK;
}

/* ---- life ---- */

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static enum status backend_create(const struct registry_options *options, const atomic_bool *cancelled,
				  struct registry_backend **out, struct error *error)
{
	const char *url = options->url;

	if (!url || !*url)
		return builtin_create(out, error);
	if (starts_with(url, "http://") || starts_with(url, "https://"))
		return registry_http_create(options, cancelled, out, error);
	if (starts_with(url, "dir:"))
		return registry_folder_create(url + 4, out, error);
	if (strstr(url, "://"))
		return error_set(error, STATUS_CONFIG, "schema.registry: a URL must start with http:// or "
				 "https://; a folder is written dir:PATH");
	return registry_folder_create(url, out, error);
}

enum status registry_create(const struct registry_options *options, struct registry **out,
			    struct error *error)
{
	static const struct registry_options none;
	size_t plans_max, slots = 16;
	struct registry *registry;
	enum status status;

	if (!options)
		options = &none;
	plans_max = options->schemas_max ? options->schemas_max : SCHEMAS_MAX_DEFAULT;
	if (plans_max > SCHEMAS_MAX_LIMIT)
		return error_set(error, STATUS_CONFIG, "at most %d schemas can be cached, not %zu",
				 SCHEMAS_MAX_LIMIT, plans_max);
	while (slots < 2 * plans_max)
		slots *= 2;
	registry = mem_alloc_zero(1, sizeof *registry);
	if (!registry)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the schema registry");
	atomic_init(&registry->cancelled, false);
	registry->plans_max = plans_max;
	registry->slots = slots;
	pthread_mutex_init(&registry->insert_lock, NULL);
	pthread_mutex_init(&registry->refusal_lock, NULL);
	registry->plans = mem_alloc_zero(slots, sizeof *registry->plans);
	if (!registry->plans) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory for the schema registry");
		goto cleanup;
	}
	status = backend_create(options, &registry->cancelled, &registry->backend, error);
	if (status)
		goto cleanup;
	*out = registry;
	registry = NULL;
cleanup:
	registry_destroy(registry);
	return status;
}

void registry_destroy(struct registry *registry)
{
	if (!registry)
		return;
	for (size_t i = 0; registry->plans && i < registry->slots; i++) {
		struct cached_plan *cached = atomic_load_explicit(&registry->plans[i], memory_order_relaxed);
		if (cached)
			codec_plan_destroy(cached->plan);
		mem_free(cached);
	}
	mem_free(registry->plans);
	if (registry->backend)
		registry->backend->destroy(registry->backend);
	pthread_mutex_destroy(&registry->insert_lock);
	pthread_mutex_destroy(&registry->refusal_lock);
	mem_free(registry);
}

void registry_cancel(struct registry *registry)
{
	atomic_store(&registry->cancelled, true);
}

const char *registry_describe(const struct registry *registry)
{
	return registry->backend->description;
}

/* ---- the two tables ---- */

static uint32_t mix(uint32_t schema_id, enum record_type type)
{
	uint32_t hash = (schema_id ^ ((uint32_t)type << 27)) * 0x9E3779B1u;
	return hash ^ (hash >> 15);
}

/* The slot of the pair, or the free one where it would go; the table is never full. */
static size_t plan_slot(const struct registry *registry, enum record_type type, uint32_t schema_id,
			struct cached_plan **found)
{
	size_t at = mix(schema_id, type) & (registry->slots - 1);
	for (;; at = (at + 1) & (registry->slots - 1)) {
		struct cached_plan *cached = atomic_load_explicit(&registry->plans[at], memory_order_acquire);
		if (!cached || (cached->schema_id == schema_id && cached->type == type)) {
			*found = cached;
			return at;
		}
	}
}

/* Takes the plan in any case; another thread's earlier one of the same pair wins. */
static enum status plan_insert(struct registry *registry, enum record_type type, uint32_t schema_id,
			       struct codec_plan *plan, const struct codec_plan **out,
			       struct error *error)
{
	struct cached_plan *mine = mem_alloc(sizeof *mine), *found = NULL;
	enum status status = STATUS_OK;
	size_t at;

	if (!mine) {
		codec_plan_destroy(plan);
		return error_set(error, STATUS_NO_MEMORY, "no memory for a schema");
	}
	*mine = (struct cached_plan){schema_id, type, plan};
	pthread_mutex_lock(&registry->insert_lock);
	at = plan_slot(registry, type, schema_id, &found);
	if (!found && registry->plans_count < registry->plans_max) {
		registry->plans_count++;
		atomic_store_explicit(&registry->plans[at], mine, memory_order_release);
		found = mine;
	} else if (!found) {
		status = error_set(error, STATUS_LIMIT, "schema id %u would be one more than the %zu that are "
				   "kept", schema_id, registry->plans_max);
	}
	pthread_mutex_unlock(&registry->insert_lock);
	if (found)
		*out = found->plan;
	if (found != mine) {
		codec_plan_destroy(plan);
		mem_free(mine);
	}
	return status;
}

static bool refusal_find(struct registry *registry, enum record_type type, uint32_t schema_id,
			 struct error *error)
{
	struct refusal *bucket = registry->refusals[mix(schema_id, type) % REFUSAL_BUCKETS];
	int64_t now = clock_steady_ns();
	bool found = false;

	pthread_mutex_lock(&registry->refusal_lock);
	for (int i = 0; i < REFUSAL_WAYS && !found; i++) {
		struct refusal *refusal = &bucket[i];
		if (refusal->end_ns > now && refusal->schema_id == schema_id && refusal->type == type) {
			found = true;
			if (error)
				*error = refusal->error;
		}
	}
	pthread_mutex_unlock(&registry->refusal_lock);
	return found;
}

static void refusal_insert(struct registry *registry, enum record_type type, uint32_t schema_id,
			   const struct error *error)
{
	struct refusal *bucket = registry->refusals[mix(schema_id, type) % REFUSAL_BUCKETS];
	struct refusal *oldest = &bucket[0];

	pthread_mutex_lock(&registry->refusal_lock);
	for (int i = 0; i < REFUSAL_WAYS; i++) {
		if (bucket[i].schema_id == schema_id && bucket[i].type == type) {
			oldest = &bucket[i];
			break;
		}
		if (bucket[i].end_ns < oldest->end_ns)
			oldest = &bucket[i];
	}
	*oldest = (struct refusal){schema_id, type,
				   clock_steady_ns() + (int64_t)REFUSAL_LIFE_MS * 1000000, *error};
	pthread_mutex_unlock(&registry->refusal_lock);
}

/* ---- plans ---- */

static const char *unqualified(const char *name)
{
	const char *dot = strrchr(name, '.');
	return dot ? dot + 1 : name;
}

/* True when the writer's schema names the same record as ours: then a failure to resolve it is a wrong
 * deployment; otherwise the record is in the wrong topic. Writes the writer's name. */
static bool same_record(enum record_type type, const char *writer_json, char *name, size_t name_bytes)
{
	json_t *writer = json_loads(writer_json, JSON_DECODE_ANY, NULL);
	json_t *ours = json_loads(codec_schema_json(type), 0, NULL), *alias;
	const char *writer_name = json_string_value(json_object_get(writer, "name"));
	const char *our_name = json_string_value(json_object_get(ours, "name"));
	bool same = false;
	size_t i;

	snprintf(name, name_bytes, "%s", writer_name ? writer_name : "(no record)");
	if (writer_name && our_name) {
		same = strcmp(unqualified(writer_name), unqualified(our_name)) == 0;
		json_array_foreach(json_object_get(ours, "aliases"), i, alias)
			if (json_is_string(alias) && strcmp(unqualified(writer_name),
							    unqualified(json_string_value(alias))) == 0)
				same = true;
	}
	json_decref(writer);
	json_decref(ours);
	return same;
}

static enum status plan_load(struct registry *registry, enum record_type type, uint32_t schema_id,
			     struct codec_plan **out, struct error *error)
{
	char *json = NULL, name[80];
	enum status status = registry->backend->fetch(registry->backend, schema_id, &json, error);

	if (status)
		return status;
	status = codec_plan_create(type, text_of(json), out, error);
	if (status == STATUS_CORRUPT) {
		error->status = STATUS_BAD_RECORD;
		status = error_prefix(error, "schema id %u is no Avro schema", schema_id);
	} else if (status == STATUS_INCOMPATIBLE && !same_record(type, json, name, sizeof name)) {
		status = error_set(error, STATUS_BAD_RECORD, "schema id %u is that of %s, not of the record "
				   "that this topic holds", schema_id, name);
	} else if (status) {
		error_prefix(error, "schema id %u of %s", schema_id, registry->backend->description);
	}
	mem_free(json);
	return status;
}

enum status registry_plan(struct registry *registry, enum record_type type, uint32_t schema_id,
			  const struct codec_plan **out, struct error *error)
{
	struct cached_plan *cached;
	struct codec_plan *plan = NULL;
	struct error own = {0};
	enum status status;

	plan_slot(registry, type, schema_id, &cached);
	if (cached) {
		*out = cached->plan;
		return STATUS_OK;
	}
	if (!error)
		error = &own;
	if (refusal_find(registry, type, schema_id, error))
		return error->status;
	status = plan_load(registry, type, schema_id, &plan, error);
	if (!status)
		status = plan_insert(registry, type, schema_id, plan, out, error);
	if (status_class(status) == STATUS_CLASS_BAD)
		refusal_insert(registry, type, schema_id, error);
	return status;
}

enum status registry_decode(struct registry *registry, enum record_type type, struct text_view message,
			    struct arena *arena, struct event *out, struct error *error)
{
	const struct codec_plan *plan;
	struct text_view body;
	uint32_t schema_id;
	enum status status;

	status = framing_read(message, &schema_id, &body, error);
	if (status)
		return status;
	status = registry_plan(registry, type, schema_id, &plan, error);
	if (status)
		return status;
	return codec_decode(plan, body, arena, out, NULL, error);
}

/* ---- writer ids ---- */

static bool writer_find(struct registry *registry, enum record_type type, const char *subject,
			uint32_t *schema_id)
{
	bool found = false;
	pthread_mutex_lock(&registry->insert_lock);
	for (size_t i = 0; i < registry->writers_count && !found; i++) {
		const struct writer *writer = &registry->writers[i];
		if (writer->type == type && strcmp(writer->subject, subject) == 0) {
			*schema_id = writer->schema_id;
			found = true;
		}
	}
	pthread_mutex_unlock(&registry->insert_lock);
	return found;
}

enum status registry_writer_id(struct registry *registry, enum record_type type, const char *topic,
			       uint32_t *schema_id, struct error *error)
{
	char subject[SUBJECT_BYTES];
	enum status status;
	uint32_t id;

	if (strlen(topic) > SUBJECT_BYTES - sizeof "-value")
		return error_set(error, STATUS_CONFIG, "the topic name %.40s... is too long", topic);
	snprintf(subject, sizeof subject, "%s-value", topic);
	if (writer_find(registry, type, subject, schema_id))
		return STATUS_OK;
	status = registry->backend->publish(registry->backend, type, subject, codec_schema_json(type), &id,
					    error);
	if (status)
		return status;
	pthread_mutex_lock(&registry->insert_lock);
	if (registry->writers_count < WRITERS_MAX) {
		struct writer *writer = &registry->writers[registry->writers_count++];
		writer->type = type;
		writer->schema_id = id;
		memcpy(writer->subject, subject, sizeof subject);
	}
	pthread_mutex_unlock(&registry->insert_lock);
	*schema_id = id;
	return STATUS_OK;
}

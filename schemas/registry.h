/* registry.h - schema ids to plans and back: over HTTP (Confluent API), a local directory, or the
 * built-in one (the shipped schemas under fixed ids 1..6 = record type + 1).
 *
 * Directory layout: <id>.avsc for every id, and <subject>.ids naming the ids of a subject, newest
 * last; our own schemas are added under the next free id when a writer asks for one. Plans are cached
 * for good (bounded); a cached lookup takes no lock that a slow HTTP request holds. Any thread. */
#ifndef EXITPOLL_SCHEMAS_REGISTRY_H
#define EXITPOLL_SCHEMAS_REGISTRY_H

#include "base/status.h"
#include "schemas/codec.h"

struct registry;

struct registry_options {
	const char *url;                /* "http://...", "https://...", "dir:PATH" or a path; NULL: built-in */
	const char *user;               /* basic auth; NULL: none */
	const char *password;           /* never printed */
	const char *ca_file;            /* TLS; NULL: the system's */
	const char *certificate_file;
	const char *key_file;
	bool verify;                    /* default true */
	int64_t request_timeout_ms;     /* one request; 0: 5,000 */
	int64_t retry_max_ms;           /* all tries of one call; 0: 30,000 */
	size_t schemas_max;             /* cached ids; 0: 1,024 */
};

/* Does not connect. */
enum status registry_create(const struct registry_options *options, struct registry **out,
			    struct error *error);
void registry_destroy(struct registry *registry);       /* NULL ok */

/* The plan from schema_id to our record type; borrowed until registry_destroy(). May block on HTTP,
 * at most retry_max_ms. STATUS_UNKNOWN_SCHEMA (dead letter; names the setting), STATUS_RETRY (down),
 * STATUS_INCOMPATIBLE (fatal). */
enum status registry_plan(struct registry *registry, enum record_type type, uint32_t schema_id,
			  const struct codec_plan **out, struct error *error);

/* The id of our own schema under subject "<topic>-value", registered if absent and allowed. */
enum status registry_writer_id(struct registry *registry, enum record_type type, const char *topic,
			       uint32_t *schema_id, struct error *error);

/* Framing, plan and body in one call: what a Kafka source does with a message value. */
enum status registry_decode(struct registry *registry, enum record_type type, struct text_view message,
			    struct arena *arena, struct event *out, struct error *error);

/* One line for people and logs: "built-in", "directory /x", "https://user@host" (no secrets). */
const char *registry_describe(const struct registry *registry);

#endif

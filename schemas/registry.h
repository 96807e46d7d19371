/* registry.h - schema ids to plans and back: over HTTP (Confluent API), a local directory, or the
 * built-in one (the shipped schemas under fixed ids 1..6 = record type + 1).
 *
 * Directory layout: <id>.avsc for every id, and <subject>.ids naming the ids of a subject, one a line,
 * newest last; our own schemas are added under the next free id when a writer asks for one. Plans are
 * cached for good (bounded); refusals for 10 s (bounded), so that a schema registered late is found
 * and a flood of bad records asks once. A cached lookup takes no lock. Any thread. */
#ifndef EXITPOLL_SCHEMAS_REGISTRY_H
#define EXITPOLL_SCHEMAS_REGISTRY_H

#include "base/status.h"
#include "schemas/codec.h"

struct registry;

struct registry_options {
	const char *url;                /* "http://...", "https://...", "dir:PATH" or a path; NULL: built-in */
	const char *user;               /* basic auth; NULL: that of the URL, if any */
	const char *password;           /* never printed, nor is one inside the URL */
	const char *ca_file;            /* TLS; NULL: the system's */
	const char *certificate_file;
	const char *key_file;
	bool verify;                    /* TLS: check the registry's certificate; set it, false is for tests */
	int64_t request_timeout_ms;     /* one request; 0: 5,000 */
	int64_t retry_max_ms;           /* all tries of one call; 0: 30,000 */
	size_t schemas_max;             /* cached pairs of id and record type; 0: 1,024 */
};

/* Does not connect. STATUS_CONFIG: a URL that is none, a folder or TLS file that is not there. All
 * texts of options are copied. */
enum status registry_create(const struct registry_options *options, struct registry **out,
			    struct error *error);
void registry_destroy(struct registry *registry);       /* NULL ok */

/* The plan from schema_id to our record type; borrowed until registry_destroy(). May block on HTTP,
 * at most retry_max_ms.
 *   dead letter: STATUS_UNKNOWN_SCHEMA (the text names the setting `schema.registry`),
 *     STATUS_BAD_RECORD (the id is that of a schema of another record, of no Avro schema, of one with
 *     references, or one that may not be read: the record is misdirected), STATUS_LIMIT (schemas_max,
 *     or a schema over 1 MiB);
 *   STATUS_RETRY: down, in spite of retries; STATUS_INTERRUPTED: registry_cancel();
 *   fatal: STATUS_INCOMPATIBLE (a schema of our record's own name that does not resolve to ours),
 *     STATUS_NO_PERMISSION (credentials), STATUS_CONFIG (wrong address, TLS). */
enum status registry_plan(struct registry *registry, enum record_type type, uint32_t schema_id,
			  const struct codec_plan **out, struct error *error);

/* The id of our own schema under subject "<topic>-value", registered if absent and allowed; asks once.
 * STATUS_INCOMPATIBLE: refused by the subject's compatibility rule; STATUS_CANNOT_CREATE (a folder that
 * cannot be written); else as above. */
enum status registry_writer_id(struct registry *registry, enum record_type type, const char *topic,
			       uint32_t *schema_id, struct error *error);

/* Framing, plan and body in one call: what a Kafka source does with a message value. */
enum status registry_decode(struct registry *registry, enum record_type type, struct text_view message,
			    struct arena *arena, struct event *out, struct error *error);

/* Calls that block, and all later ones that would, end with STATUS_INTERRUPTED within a second.
 * For shutdown; safe in a signal handler. */
void registry_cancel(struct registry *registry);

/* One line for people and logs: "built-in", "directory /x", "https://user@host" (no secrets). */
const char *registry_describe(const struct registry *registry);

#endif

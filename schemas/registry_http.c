/* registry_http.c - schemas from a registry that speaks Confluent's API, over libcurl.
 *
 * One request is tried until it is answered or retry_max_ms is over: trouble of the network or of the
 * server (no connection, time-out, 408, 429, 5xx, an answer that is none) is tried again with growing
 * pauses; what another try would not change (unknown id, credentials, TLS, refused schema) is not.
 * Invariant: no text that leaves this file holds the password, whether it came as an option or in the
 * URL. Responses are bounded. The kept connection belongs to whoever gets handle_lock without waiting;
 * others make their own, so nobody waits for another's slow request. Called by registry.c, any thread. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "schemas/registry_backend.h"

#include <curl/curl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	REQUEST_TIMEOUT_MS_DEFAULT = 5000,
	RETRY_MAX_MS_DEFAULT = 30000,
	PAUSE_MS_MIN = 100,
	PAUSE_MS_MAX = 2000,
	WRONG_PATH_TRIES = 3,                   /* a proxy may say 404 while the registry restarts */
	SLICE_MS = 20,                          /* how soon a cancellation is noticed */
	RESPONSE_BYTES_MAX = 2 * SCHEMA_BYTES_MAX + 65536,      /* a schema, escaped */
	/* Error codes of the API that mean "there is no such thing", as opposed to a wrong path. */
	ERROR_SUBJECT_NOT_FOUND = 40401,
	ERROR_VERSION_NOT_FOUND = 40402,
	ERROR_SCHEMA_NOT_FOUND = 40403,
};

struct http {
	struct registry_backend backend;        /* first: the backend is the object */
	const atomic_bool *cancelled;
	char *url;                              /* without credentials, without trailing slash */
	char *user, *password;                  /* NULL: none */
	char *ca_file, *certificate_file, *key_file;
	char *description;
	bool verify;
	int64_t request_timeout_ms, retry_max_ms;
	struct curl_slist *headers;
	atomic_bool down;                       /* for one log line per change */
	atomic_bool accepted;                   /* it has answered a question: address and user are right */
	pthread_mutex_t handle_lock;
	CURL *handle;                           /* under handle_lock; NULL until first used */
};

struct response {
	long code;
	char *body;                             /* NUL-terminated; NULL when empty */
	size_t size, capacity;
	bool too_large;
	json_t *json;                           /* NULL: no JSON object */
};

static void response_clear(struct response *response)
{
	json_decref(response->json);
	mem_free(response->body);
	*response = (struct response){0};
}

static size_t on_body(char *bytes, size_t size, size_t count, void *context)
{
	struct response *response = context;
	size_t total = size * count;

	if (total > RESPONSE_BYTES_MAX - response->size) {
		response->too_large = true;
		return 0;
	}
	while (response->size + total + 1 > response->capacity)
		if (!mem_reserve((void **)&response->body, &response->capacity, response->capacity,
				 RESPONSE_BYTES_MAX + 1, 1))
			return 0;
	memcpy(response->body + response->size, bytes, total);
	response->size += total;
	response->body[response->size] = '\0';
	return total;
}

static int on_progress(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	const struct http *http = context;
	(void)a, (void)b, (void)c, (void)d;
	return atomic_load_explicit(http->cancelled, memory_order_relaxed);
}

/* ---- one try ---- */

static void configure(const struct http *http, CURL *curl, const char *url, const char *body,
		      int64_t timeout_ms, struct response *response, char *trouble)
{
	curl_easy_reset(curl);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, http->headers);
	curl_easy_setopt(curl, CURLOPT_USERAGENT, "exitpoll/" EXITPOLL_VERSION);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)timeout_ms);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, trouble);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, response);
	curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(curl, CURLOPT_XFERINFODATA, http);
	curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, http->verify ? 1L : 0L);
	curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, http->verify ? 2L : 0L);
	if (http->user) {
		curl_easy_setopt(curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
		curl_easy_setopt(curl, CURLOPT_USERNAME, http->user);
		curl_easy_setopt(curl, CURLOPT_PASSWORD, http->password ? http->password : "");
	}
	if (http->ca_file)
		curl_easy_setopt(curl, CURLOPT_CAINFO, http->ca_file);
	if (http->certificate_file)
		curl_easy_setopt(curl, CURLOPT_SSLCERT, http->certificate_file);
	if (http->key_file)
		curl_easy_setopt(curl, CURLOPT_SSLKEY, http->key_file);
	if (body)
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
}

static enum status curl_trouble(const struct http *http, CURLcode code, const struct response *response,
				const char *trouble, struct error *error)
{
	const char *text = *trouble ? trouble : curl_easy_strerror(code);

	if (atomic_load(http->cancelled))
		return error_set(error, STATUS_INTERRUPTED, "interrupted while asking the schema registry");
	if (response->too_large)
		return error_set(error, STATUS_LIMIT, "its answer is larger than %d bytes",
				 RESPONSE_BYTES_MAX);
	switch (code) {
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_ISSUER_ERROR:
		return error_set(error, STATUS_CONFIG, "TLS: %s (schema.registry.ca_file, "
				 ".certificate_file, .key_file, .verify)", text);
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		return error_set(error, STATUS_CONFIG, "%s", text);
	case CURLE_OUT_OF_MEMORY:
		return error_set(error, STATUS_NO_MEMORY, "no memory for a request");
	default:
		return error_set(error, STATUS_RETRY, "%s", text);
	}
}

/* What the server says about its error, made fit to print. */
static void server_message(const struct response *response, char *out, size_t bytes)
{
	const char *text = json_string_value(json_object_get(response->json, "message"));
	size_t used = 0;

	for (; text && *text && used + 1 < bytes; text++)
		out[used++] = (unsigned char)*text < ' ' || *text == 0x7F ? ' ' : *text;
	out[used] = '\0';
	used = text_cut((struct text_view){out, used}, bytes - 8).size;
	out[used] = '\0';
}

/* OK for an answer of the API that the caller understands: 2xx, 404 with its error code, 409, 422. */
static enum status judge(const struct response *response, struct error *error)
{
	int error_code = (int)json_integer_value(json_object_get(response->json, "error_code"));
	char message[240];

	server_message(response, message, sizeof message);
	if (response->code >= 200 && response->code < 300)
		return response->json ? STATUS_OK : error_set(error, STATUS_RETRY,
			"HTTP %ld with something that is no JSON object", response->code);
	if (response->code == 401 || response->code == 403)
		/* 403 may also be about the one thing that was asked for; http_fetch() tells them apart. */
		return error_set(error, STATUS_NO_PERMISSION, "HTTP %ld: it refuses the credentials; check "
				 "schema.registry.user and schema.registry.password%s%s", response->code,
				 *message ? ": " : "", message);
	if (response->code == 404) {
		if (error_code == ERROR_SUBJECT_NOT_FOUND || error_code == ERROR_VERSION_NOT_FOUND ||
		    error_code == ERROR_SCHEMA_NOT_FOUND)
			return STATUS_OK;
		return error_set(error, STATUS_RETRY, "HTTP 404, not in the way of a schema registry: is the "
				 "path of schema.registry right?");
	}
	if (response->code == 409 || response->code == 422)
		return STATUS_OK;
	if (response->code >= 300 && response->code < 400)
		return error_set(error, STATUS_CONFIG, "HTTP %ld: it sends elsewhere; set schema.registry to "
				 "the final address", response->code);
	if (response->code == 408 || response->code == 429 || response->code >= 500)
		return error_set(error, STATUS_RETRY, "HTTP %ld%s%s", response->code, *message ? ": " : "",
				 message);
	return error_set(error, STATUS_UNAVAILABLE, "HTTP %ld%s%s", response->code, *message ? ": " : "",
			 message);
}

static enum status try_once(struct http *http, CURL *curl, const char *url, const char *body,
			    int64_t timeout_ms, struct response *response, struct error *error)
{
	char trouble[CURL_ERROR_SIZE] = "";
	CURLcode code;

	response_clear(response);
	configure(http, curl, url, body, timeout_ms, response, trouble);
	code = curl_easy_perform(curl);
	if (code)
		return curl_trouble(http, code, response, trouble, error);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &response->code);
	if (response->body)
		response->json = json_loadb(response->body, response->size, 0, NULL);
	if (response->json && !json_is_object(response->json)) {
		json_decref(response->json);
		response->json = NULL;
	}
	return judge(response, error);
}

/* ---- tries until an answer, the end of the time or a cancellation ---- */

static void pause_ms(const struct http *http, int64_t milliseconds)
{
	int64_t end = clock_steady_ns() + milliseconds * 1000000;
	while (clock_steady_ns() < end && !atomic_load(http->cancelled))
		usleep(SLICE_MS * 1000);
}

static void note_state(struct http *http, bool down, const struct error *error)
{
	if (atomic_exchange(&http->down, down) == down)
		return;
	if (down)
		log_warning("registry.unavailable", "registry=\"%s\" error=\"%s\"", http->description,
			    error->text);
	else
		log_info("registry.available", "registry=\"%s\"", http->description);
}

static enum status try_until(struct http *http, CURL *curl, const char *url, const char *body,
			     struct response *response, struct error *error)
{
	int64_t start = clock_steady_ns(), pause = PAUSE_MS_MIN, left;
	enum status status;

	for (int tries = 1;; tries++) {
		left = http->retry_max_ms - (clock_steady_ns() - start) / 1000000;
		if (atomic_load(http->cancelled))
			return error_set(error, STATUS_INTERRUPTED,
					 "interrupted while asking the schema registry");
		if (left < 1)
			left = 1;
		status = try_once(http, curl, url, body,
				  left < http->request_timeout_ms ? left : http->request_timeout_ms,
				  response, error);
		if (status == STATUS_INTERRUPTED)
			return status;
		note_state(http, status == STATUS_RETRY, error);
		/* 404 in the words of a registry counts, too: it may know nothing yet. */
		if (status == STATUS_OK)
			atomic_store(&http->accepted, true);
		if (status != STATUS_RETRY)
			return status ? error_prefix(error, "schema registry %s", http->description) : status;
		left = http->retry_max_ms - (clock_steady_ns() - start) / 1000000;
		if (response->code == 404 && !atomic_load(&http->accepted) &&
		    (tries == WRONG_PATH_TRIES || left <= pause)) {
			error->status = STATUS_CONFIG;
			return error_prefix(error, "schema registry %s", http->description);
		}
		if (left <= pause)
			return error_prefix(error, "schema registry %s is not available (tried %d times in "
					    "%lld ms)", http->description, tries,
					    (long long)((clock_steady_ns() - start) / 1000000));
		/* Some microseconds of the clock keep many instances from asking in step. */
		pause_ms(http, pause + clock_steady_ns() / 1000 % (pause / 4));
		pause = pause * 2 < PAUSE_MS_MAX ? pause * 2 : PAUSE_MS_MAX;
	}
}

static enum status request(struct http *http, const char *path, const char *body,
			   struct response *response, struct error *error)
{
	size_t bytes = strlen(http->url) + strlen(path) + 1;
	char *url = mem_alloc(bytes);
	bool kept = pthread_mutex_trylock(&http->handle_lock) == 0;
	CURL *curl = kept && http->handle ? http->handle : curl_easy_init();
	enum status status;

	if (url && curl) {
		snprintf(url, bytes, "%s%s", http->url, path);
		status = try_until(http, curl, url, body, response, error);
	} else {
		status = error_set(error, STATUS_NO_MEMORY, "no memory for a request to the schema registry");
	}
	if (kept) {
		http->handle = curl;
		pthread_mutex_unlock(&http->handle_lock);
	} else if (curl) {
		curl_easy_cleanup(curl);
	}
	mem_free(url);
	return status;
}

/* ---- the two questions ---- */

static enum status schema_of(const struct http *http, uint32_t schema_id, const struct response *response,
			     char **json, struct error *error)
{
	json_t *schema = json_object_get(response->json, "schema");
	const char *type = json_string_value(json_object_get(response->json, "schemaType"));
	json_t *references = json_object_get(response->json, "references");

	if (type && strcmp(type, "AVRO") != 0)
		return error_set(error, STATUS_BAD_RECORD, "schema id %u is of type %.20s, not AVRO",
				 schema_id, type);
	if (json_array_size(references) > 0)
		return error_set(error, STATUS_BAD_RECORD, "schema id %u refers to other schemas, which is not "
				 "supported: register it with the referred types written out", schema_id);
	if (!json_is_string(schema) || strlen(json_string_value(schema)) != json_string_length(schema))
		return error_set(error, STATUS_RETRY, "schema registry %s gave an answer without a "
				 "schema for id %u", http->description, schema_id);
	if (json_string_length(schema) > SCHEMA_BYTES_MAX)
		return error_set(error, STATUS_LIMIT, "schema id %u has more than %d bytes", schema_id,
				 SCHEMA_BYTES_MAX);
	*json = mem_copy_string(json_string_value(schema));
	return *json ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "no memory for a schema");
}

static enum status http_fetch(struct registry_backend *self, uint32_t schema_id, char **json,
			      struct error *error)
{
	struct http *http = (struct http *)self;
	struct response response = {0};
	char path[64], message[240];
	enum status status;

	/* Four random bytes must not stop the stream: the API's ids are signed, and servers answer a larger
	 * one as they would a wrong path. */
	if (schema_id > INT32_MAX)
		return error_set(error, STATUS_UNKNOWN_SCHEMA, "schema id %u cannot exist in the schema registry "
				 "%s (schema.registry)", schema_id, http->description);
	snprintf(path, sizeof path, "/schemas/ids/%u", schema_id);
	status = request(http, path, NULL, &response, error);
	if (atomic_load(&http->accepted) && (status == STATUS_UNAVAILABLE ||
					     (status == STATUS_NO_PERMISSION && response.code == 403))) {
		/* It answers other questions, so it is about this id: the record is misdirected. */
		error->status = STATUS_BAD_RECORD;
		status = error_prefix(error, "schema id %u", schema_id);
	}
	if (status)
		goto cleanup;
	if (response.code == 404) {
		status = error_set(error, STATUS_UNKNOWN_SCHEMA, "schema registry %s does not know schema id %u: "
				   "does schema.registry name the one that the writer uses?",
				   http->description, schema_id);
	} else if (response.code >= 400) {
		server_message(&response, message, sizeof message);
		status = error_set(error, STATUS_BAD_RECORD, "schema registry %s: HTTP %ld for schema id %u: %s",
				   http->description, response.code, schema_id, message);
	} else {
		status = schema_of(http, schema_id, &response, json, error);
	}
cleanup:
	response_clear(&response);
	return status;
}

/* One of the two ways to ask for an id: look it up, or register. STATUS_NOT_FOUND: not there. */
static enum status ask_id(struct http *http, const char *subject, const char *suffix, const char *body,
			  uint32_t *schema_id, struct error *error)
{
	struct response response = {0};
	char path[512], message[240];
	enum status status;
	json_t *id;

	snprintf(path, sizeof path, "/subjects/%s%s", subject, suffix);
	status = request(http, path, body, &response, error);
	if (status)
		goto cleanup;
	id = json_object_get(response.json, "id");
	server_message(&response, message, sizeof message);
	if (response.code == 404)
		status = error_set(error, STATUS_NOT_FOUND, "schema registry %s: %s", http->description, message);
	else if (response.code >= 400)
		status = error_set(error, STATUS_INCOMPATIBLE, "schema registry %s refuses our schema for "
				   "subject %s (HTTP %ld): %s", http->description, subject, response.code,
				   message);
	else if (!json_is_integer(id) || json_integer_value(id) < 0 ||
		 json_integer_value(id) > INT32_MAX)
		status = error_set(error, STATUS_RETRY, "schema registry %s gave an answer without a usable id "
				   "for subject %s", http->description, subject);
	else
		*schema_id = (uint32_t)json_integer_value(id);
cleanup:
	response_clear(&response);
	return status;
}

/* Topic names are made of [a-zA-Z0-9._-] and need no escape in a path; anything else is refused. */
static bool path_safe(const char *subject)
{
	return subject[strspn(subject, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")] ==
	       '\0';
}

static enum status http_publish(struct registry_backend *self, enum record_type type, const char *subject,
				const char *json, uint32_t *schema_id, struct error *error)
{
	struct http *http = (struct http *)self;
	json_t *question = json_pack("{s:s}", "schema", json);
	char *body = question ? json_dumps(question, JSON_COMPACT) : NULL;
	void (*release)(void *);
	enum status status;

	(void)type;
	if (!body)
		status = error_set(error, STATUS_NO_MEMORY, "no memory for a request to the schema registry");
	else if (!path_safe(subject))
		status = error_set(error, STATUS_CONFIG, "%s is no name of a Kafka topic", subject);
	else
		/* Looked up first, so that credentials that may only read are enough once it is there. */
		status = ask_id(http, subject, "", body, schema_id, error);
	if (status == STATUS_NOT_FOUND)
		status = ask_id(http, subject, "/versions", body, schema_id, error);
	if (status == STATUS_NOT_FOUND) {
		error->status = STATUS_CONFIG;
		status = error_prefix(error, "cannot register subject %s", subject);
	}
	json_decref(question);
	/* json_dumps() allocates with jansson's allocator, which is not ours. */
	json_get_alloc_funcs(NULL, &release);
	release(body);
	return status;
}

/* ---- life ---- */

static void http_destroy(struct registry_backend *self)
{
	struct http *http = (struct http *)self;

	curl_easy_cleanup(http->handle);
	curl_slist_free_all(http->headers);
	pthread_mutex_destroy(&http->handle_lock);
	if (http->password)
		explicit_bzero(http->password, strlen(http->password));
	mem_free(http->url);
	mem_free(http->user);
	mem_free(http->password);
	mem_free(http->ca_file);
	mem_free(http->certificate_file);
	mem_free(http->key_file);
	mem_free(http->description);
	mem_free(http);
}

static bool copy_optional(const char *text, char **out)
{
	if (!text || !*text || *out)
		return true;
	*out = mem_copy_string(text);
	return *out != NULL;
}

static char *joined(const char *scheme, const char *user, const char *host, const char *port,
		    const char *path)
{
	size_t bytes = strlen(scheme) + strlen(host) + strlen(path) + (user ? strlen(user) : 0) +
		       (port ? strlen(port) : 0) + sizeof "://@:";
	char *text = mem_alloc(bytes);

	if (text)
		snprintf(text, bytes, "%s://%s%s%s%s%s%s", scheme, user ? user : "", user ? "@" : "", host,
			 port ? ":" : "", port ? port : "", path);
	return text;
}

/* Takes the URL apart: credentials go to user and password, the rest to url and description. */
static enum status split_url(struct http *http, const char *text, struct error *error)
{
	CURLU *parts = curl_url();
	char *scheme = NULL, *host = NULL, *port = NULL, *path = NULL, *user = NULL, *password = NULL;
	char *query = NULL;
	enum status status = STATUS_OK;
	CURLUcode code;

	if (!parts)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the schema registry");
	code = curl_url_set(parts, CURLUPART_URL, text, 0);
	if (!code)
		code = curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0);
	if (!code)
		code = curl_url_get(parts, CURLUPART_HOST, &host, 0);
	if (!code)
		code = curl_url_get(parts, CURLUPART_PATH, &path, 0);
	if (code) {
		/* Without the URL itself, which may hold a password. */
		status = error_set(error, STATUS_CONFIG, "schema.registry is not a valid URL: %s",
				   curl_url_strerror(code));
		goto cleanup;
	}
	curl_url_get(parts, CURLUPART_PORT, &port, 0);
	curl_url_get(parts, CURLUPART_USER, &user, CURLU_URLDECODE);
	curl_url_get(parts, CURLUPART_PASSWORD, &password, CURLU_URLDECODE);
	curl_url_get(parts, CURLUPART_QUERY, &query, 0);
	if (query) {
		status = error_set(error, STATUS_CONFIG, "schema.registry: a URL with '?' is no registry's");
		goto cleanup;
	}
	while (strlen(path) && path[strlen(path) - 1] == '/')
		path[strlen(path) - 1] = '\0';
	if (!copy_optional(user, &http->user) || !copy_optional(password, &http->password) ||
	    !(http->url = joined(scheme, NULL, host, port, path)) ||
	    !(http->description = joined(scheme, http->user, host, port, path)))
		status = error_set(error, STATUS_NO_MEMORY, "no memory for the schema registry");
cleanup:
	if (password)
		explicit_bzero(password, strlen(password));
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_free(path);
	curl_free(user);
	curl_free(password);
	curl_free(query);
	curl_url_cleanup(parts);
	return status;
}

static enum status check_file(const char *path, const char *setting, struct error *error)
{
	if (!path || !*path || access(path, R_OK) == 0)
		return STATUS_OK;
	return error_set(error, STATUS_CONFIG, "%s: cannot read %s: %m", setting, path);
}

enum status registry_http_create(const struct registry_options *options, const atomic_bool *cancelled,
				 struct registry_backend **out, struct error *error)
{
	struct http *http = mem_alloc_zero(1, sizeof *http);
	enum status status;

	if (!http)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the schema registry");
	http->backend = (struct registry_backend){http_fetch, http_publish, http_destroy, NULL};
	http->cancelled = cancelled;
	http->verify = options->verify;
	http->request_timeout_ms = options->request_timeout_ms ? options->request_timeout_ms
							       : REQUEST_TIMEOUT_MS_DEFAULT;
	http->retry_max_ms = options->retry_max_ms ? options->retry_max_ms : RETRY_MAX_MS_DEFAULT;
	atomic_init(&http->down, false);
	atomic_init(&http->accepted, false);
	pthread_mutex_init(&http->handle_lock, NULL);
	status = check_file(options->ca_file, "schema.registry.ca_file", error);
	if (!status)
		status = check_file(options->certificate_file, "schema.registry.certificate_file", error);
	if (!status)
		status = check_file(options->key_file, "schema.registry.key_file", error);
	if (status)
		goto cleanup;
	http->headers = curl_slist_append(NULL, "Accept: application/vnd.schemaregistry.v1+json, "
					  "application/json");
	if (!http->headers ||
	    !curl_slist_append(http->headers, "Content-Type: application/vnd.schemaregistry.v1+json") ||
	    !copy_optional(options->user, &http->user) ||
	    !copy_optional(options->password, &http->password) ||
	    !copy_optional(options->ca_file, &http->ca_file) ||
	    !copy_optional(options->certificate_file, &http->certificate_file) ||
	    !copy_optional(options->key_file, &http->key_file)) {
		status = error_set(error, STATUS_NO_MEMORY, "no memory for the schema registry");
		goto cleanup;
	}
	status = split_url(http, options->url, error);
	if (status)
		goto cleanup;
	http->backend.description = http->description;
	*out = &http->backend;
	http = NULL;
cleanup:
	if (http)
		http_destroy(&http->backend);
	return status;
}

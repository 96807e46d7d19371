/* fit_bundle.c - names the model from where the new bundle lies, and writes what was fitted beside it. */
#include "ops/cli/fit_bundle.h"

#include "base/file.h"
#include "base/mem.h"
#include "scorer/bundle_json.h"
#include "scorer/train/fit_report.h"
#include "scorer/train/heads_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

enum status fit_bundle_check(const char *out, bool force, struct error *error)
{
	char path[PATH_BYTES];
	if (mkdir(out, 0777) != 0 && errno != EEXIST)
		return error_set(error, STATUS_CANNOT_CREATE, "%s: %s", out, strerror(errno));
	snprintf(path, sizeof path, "%s/exitpoll.json", out);
	if (!force && access(path, F_OK) == 0)
		return error_set(error, STATUS_CANNOT_CREATE, "%s is there already; --force replaces it", path);
	return STATUS_OK;
}

/* The path as the new bundle must say it: absolute, or the last part of it. */
static enum status place(const struct fit_bundle *parts, const char *folder, const char *path,
			 char out[PATH_BYTES], struct error *error)
{
	char joined[PATH_BYTES];
	int size = folder && path[0] != '/' ? snprintf(joined, sizeof joined, "%s/%s", folder, path) :
					      snprintf(joined, sizeof joined, "%s", path);
	char *real = size > 0 && size < PATH_BYTES ? realpath(joined, NULL) : NULL;
	if (!real)
		return error_set(error, STATUS_NO_INPUT, "%s: %s", path, strerror(errno));
	snprintf(out, PATH_BYTES, "%s", parts->portable ? strrchr(real, '/') + 1 : real);
	/* realpath's text is the C library's. */
	(free)(real);
	return STATUS_OK;
}

/* Model and adapter of the bundle that hidden states came from. */
static enum status copy_origin(const struct fit_bundle *parts, json_t *object, struct error *error)
{
	char file[PATH_BYTES], path[PATH_BYTES];
	struct mapped_file mapped = {0};
	json_t *origin = NULL;
	snprintf(file, sizeof file, "%s/exitpoll.json", parts->model);
	enum status status;
	if (access(file, F_OK) != 0) {
		if (!(status = place(parts, NULL, parts->model, path, error)))
			json_object_set_new(object, "model", json_string(path));
		return status;
	}
	if ((status = mapped_file_open(file, &mapped, error)) ||
	    (status = bundle_json_parse(file, mapped.bytes, mapped.size, &origin, error)))
		goto cleanup;
	const char *keys[] = {"model", "adapter"};
	for (int i = 0; !status && i < 2; i++) {
		const char *text = json_string_value(json_object_get(origin, keys[i]));
		if (text && !(status = place(parts, parts->model, text, path, error)))
			json_object_set_new(object, keys[i], json_string(path));
	}
	json_t *answers = json_object_get(origin, "answers");
	if (json_is_array(answers))
		json_object_set(object, "answers", answers);
	json_object_set(object, "context", json_object_get(origin, "context"));
cleanup:
	json_decref(origin);
	mapped_file_close(&mapped);
	return status;
}

/* A head has learned from prompts and statistics that these made. */
static void print_settings(json_t *settings, FILE *out)
{
	const char *key;
	json_t *value;
	if (!json_is_object(settings))
		return;
	fputs("\n## Settings of the samples\n\nServe with the same, or the heads read what they have not "
	      "learned:\n\n```\n", out);
	json_object_foreach(settings, key, value)
		if (json_is_string(value))
			fprintf(out, "%s=%s\n", key, json_string_value(value));
	fputs("```\n", out);
}

static enum status put_report(const struct fit_bundle *parts, struct error *error)
{
	char path[PATH_BYTES], part[PATH_BYTES];
	snprintf(path, sizeof path, "%s/report.md", parts->out);
	snprintf(part, sizeof part, "%s/report.md.part", parts->out);
	FILE *file = fopen(part, "w");
	if (!file)
		return error_set(error, STATUS_CANNOT_CREATE, "%s: %s", part, strerror(errno));
	fit_report_print(parts->options, parts->data, parts->result, true, file);
	print_settings(json_object_get(parts->samples, "settings"), file);
	bool good = !ferror(file);
	if (fclose(file) != 0 || !good || rename(part, path) != 0) {
		unlink(part);
		return error_set(error, STATUS_IO, "%s: %s", path, strerror(errno));
	}
	return bundle_json_put(parts->out, "report.json", parts->report, BUNDLE_JSON_DIGITS, error);
}

enum status fit_bundle_write(const struct fit_bundle *parts, struct error *error)
{
	const struct template *wording = parts->bundle->wording;
	bool shipped = template_builtin(wording->name) && strcmp(template_builtin(wording->name), wording->text) == 0;
	json_t *object = json_object();
	enum status status = STATUS_OK;
	if (!object)
		return error_set(error, STATUS_NO_MEMORY, "no memory to write a bundle");
	json_object_set_new(object, "name", json_string(parts->name ? parts->name : parts->bundle->name));
	if ((status = copy_origin(parts, object, error)) ||
	    (status = heads_file_write(parts->out, &parts->result->heads, parts->risk, error)) ||
	    (status = put_report(parts, error)))
		goto cleanup;
	json_object_set_new(object, "template", json_string(shipped ? wording->name : "template.txt"));
	if (!shipped && (status = file_put(parts->out, "template.txt", wording->text, strlen(wording->text), error)))
		goto cleanup;
	json_object_set_new(object, "heads", json_string("."));
	json_object_set_new(object, "trained_until", json_integer(parts->result->heads.trained_until_ms));
	status = bundle_json_put(parts->out, "exitpoll.json", object, BUNDLE_JSON_DIGITS, error);
cleanup:
	json_decref(object);
	return status;
}

/* inspect_device.c - the GPU: is one there, can the scorer use it, and what of a model fits into it. */
#include "ops/cli/inspect.h"

#include "ops/cli/cli.h"
#include "scorer/cuda_backend.h"
#include "scorer/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A prompt of a whole context is the largest batch unit; what the default batch would take is printed too. */
enum { INSTRUCTION_TOKENS = 256 };

static void print_facts(const struct device_facts *facts, const struct error *why_not, bool json)
{
	bool usable = !why_not->status;
	if (json) {
		fputs("{\"device\":", stdout);
		cli_json_string(stdout, facts->name, strlen(facts->name));
		printf(",\"usable\":%s,\"emulated\":%s,\"capability\":\"%u.%u\",\"driver_cuda\":%u,\"runtime_cuda\":%u,"
		       "\"multiprocessors\":%u,\"memory_bytes\":%" PRIu64 ",\"free_bytes\":%" PRIu64 ",\"why_not\":",
		       usable ? "true" : "false", facts->emulated ? "true" : "false", facts->major, facts->minor,
		       facts->driver, facts->runtime, facts->multiprocessors, facts->memory_bytes, facts->free_bytes);
		cli_json_string(stdout, why_not->text, strlen(why_not->text));
		return;
	}
	if (facts->name[0])
		printf("GPU %s%s: compute capability %u.%u, %u multiprocessors, %.1f GB, %.1f GB free\n", facts->name,
		       facts->emulated ? " (for tests)" : "", facts->major, facts->minor, facts->multiprocessors,
		       (double)facts->memory_bytes / 1e9, (double)facts->free_bytes / 1e9);
	if (facts->runtime)
		printf("CUDA %u.%u, driver up to %u.%u\n", facts->runtime / 1000, facts->runtime % 1000 / 10,
		       facts->driver / 1000, facts->driver % 1000 / 10);
	if (usable)
		puts("scorer.backend cuda can use it");
	else
		printf("no GPU is used: %s\n", why_not->text);
}

static enum status print_fit(const char *path, const struct device_facts *facts, bool json, struct error *error)
{
	struct model *model;
	enum status status = model_open(path, NULL, &model, error);
	if (status)
		return status;
	const struct model_config *config = model_get_config(model);
	struct backend_options options = {
		.layers = config->layers, .positions_max = config->positions_max,
		.instruction_max = INSTRUCTION_TOKENS,
	};
	struct cuda_needs needs;
	cuda_needs_of(config, &options, &needs);
	uint64_t base = needs.weights + needs.fixed;
	uint64_t tokens = facts->free_bytes > base ? (facts->free_bytes - base) / needs.each_row : 0;
	if (json)
		printf(",\"weights_bytes\":%" PRIu64 ",\"fixed_bytes\":%" PRIu64 ",\"token_bytes\":%" PRIu64
		       ",\"batch_tokens_fitting\":%" PRIu64, needs.weights, needs.fixed, needs.each_row, tokens);
	else
		printf("%s: weights %.2f GB in fp16, tables and workspace %.2f GB, %.0f kB a token: batches of up to "
		       "%" PRIu64 " tokens fit%s\n", path, (double)needs.weights / 1e9, (double)needs.fixed / 1e9,
		       (double)needs.each_row / 1e3, tokens, tokens ? "" : " (the model does not)");
	model_close(model);
	return STATUS_OK;
}

/* Without a usable GPU this is an answer too, not a failure: exit code 0. */
enum status inspect_device(const struct inspect_options *options, struct error *error)
{
	struct device_facts facts;
	struct error why_not = {0};
	enum status status = STATUS_OK;
	cuda_find(&facts, &why_not);
	print_facts(&facts, &why_not, options->json);
	if (options->target)
		status = print_fit(options->target, &facts, options->json, error);
	if (options->json)
		puts("}");
	return status;
}

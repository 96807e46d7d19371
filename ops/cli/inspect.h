/* inspect.h - what `exitpoll inspect` can look into; each function prints and returns a status. */
#ifndef EXITPOLL_OPS_CLI_INSPECT_H
#define EXITPOLL_OPS_CLI_INSPECT_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

struct inspect_options {
	const char *target;             /* path or kafka:// address */
	const char *user, *item;        /* look one up in a state folder or snapshot */
	size_t records_max;             /* how many records to print; 0: only the summary */
	bool json;
	bool check;
	bool device;
};

/* A model folder, GGUF file or bundle. --check reads every tensor. */
enum status inspect_model(const struct inspect_options *options, struct error *error);
/* One .safetensors file by itself. */
enum status inspect_safetensors(const struct inspect_options *options, struct error *error);
/* The GPU, why it is not used, and, with a target, how much of that model fits. */
enum status inspect_device(const struct inspect_options *options, struct error *error);
#if EXITPOLL_KAFKA
enum status inspect_container(const struct inspect_options *options, struct error *error);
/* A snapshot file or a state folder (its newest snapshot). */
enum status inspect_snapshot(const struct inspect_options *options, struct error *error);
/* kafka://host:port/topic[/partition[/offset]] */
enum status inspect_topic(const struct inspect_options *options, char *const *pairs, size_t pairs_count,
			  struct error *error);
#endif

#endif

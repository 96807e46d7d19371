/* interrupt.h - ends calls that block on the schema registry when the process is told to stop, so that
 * draining is not kept waiting for a registry that is down. One thread of its own; it only looks at a
 * flag, ten times a second. */
#ifndef EXITPOLL_OPS_CLI_INTERRUPT_H
#define EXITPOLL_OPS_CLI_INTERRUPT_H

#include "base/status.h"
#include "schemas/registry.h"

#include <stdbool.h>

struct interrupt;

/* Once stopping() says true, registry_cancel() is called. The registry outlives the object. */
enum status interrupt_start(struct registry *registry, bool (*stopping)(void), struct interrupt **out,
			    struct error *error);
void interrupt_stop(struct interrupt *interrupt);       /* NULL ok */

#endif

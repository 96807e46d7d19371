/* event_json.h - an event as one line of JSON, for people and scripts. Pure but for the output. */
#ifndef EXITPOLL_OPS_CLI_EVENT_JSON_H
#define EXITPOLL_OPS_CLI_EVENT_JSON_H

#include "schemas/event.h"

#include <stdio.h>

void event_json_write(FILE *out, const struct event *event);

#endif

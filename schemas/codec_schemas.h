/* codec_schemas.h - the shipped schemas/<type>.avsc as they were when the program was built: a table
 * written by schemas/embed.cmake. Read through codec_schema_json(). Constant, any thread. */
#ifndef EXITPOLL_SCHEMAS_CODEC_SCHEMAS_H
#define EXITPOLL_SCHEMAS_CODEC_SCHEMAS_H

#include "schemas/event.h"

extern const char *const codec_schemas[RECORD_TYPES];

#endif

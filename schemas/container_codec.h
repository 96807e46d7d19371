/* container_codec.h - inside schemas/: the three block codecs of container files, with an output that
 * never grows past a named maximum. One object per file, one thread. */
#ifndef EXITPOLL_SCHEMAS_CONTAINER_CODEC_H
#define EXITPOLL_SCHEMAS_CONTAINER_CODEC_H

#include "schemas/container.h"

enum {
	CONTAINER_SYNC_BYTES = 16,
	CONTAINER_BLOCK_BYTES_MAX = 64 * 1024 * 1024,   /* compressed, and again decompressed */
};

struct container_packer;

const char *container_codec_name(enum container_codec codec);   /* as in avro.codec */
/* False: not one of ours. */
bool container_codec_find(const char *name, enum container_codec *codec);

/* `packs`: for writing; else for reading. NULL: no memory. */
struct container_packer *container_packer_create(enum container_codec codec, bool packs);
void container_packer_destroy(struct container_packer *packer); /* NULL ok */

/* *out borrows from the packer, or is `in` itself for codec null; dead at the next call. `in` may be
 * changed by nobody while *out is used. STATUS_CORRUPT with the reason alone. */
enum status container_pack(struct container_packer *packer, struct text_view in, struct text_view *out,
			   struct error *error);
enum status container_unpack(struct container_packer *packer, struct text_view in, struct text_view *out,
			     struct error *error);

#endif

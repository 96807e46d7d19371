/* container_codec.c - null, deflate (raw, RFC 1951) and zstandard for the blocks of container files.
 *
 * Invariant: the output buffer doubles as output arrives and stops at CONTAINER_BLOCK_BYTES_MAX, so a
 * small block that expands without end costs at most that. State is reused from block to block. */
#include "schemas/container_codec.h"
#include "schemas/codec_buffer.h"

#include <zlib.h>
#include <zstd.h>

enum {
	ADLER_BYTES = 4,
	FIRST_BYTES = 64 * 1024,
	DEFLATE_WINDOW_BITS = -15,      /* raw: no zlib header and no checksum */
	DEFLATE_MEMORY_LEVEL = 8,
	ZSTANDARD_LEVEL = 3,
	ZSTANDARD_WINDOW_LOG_MAX = 26,  /* 64 MiB: a larger window than a block makes no sense */
};

struct container_packer {
	enum container_codec codec;
	bool packs;
	bool deflate_ready;
	z_stream deflate;
	ZSTD_CCtx *compressor;
	ZSTD_DCtx *decompressor;
	struct byte_buffer out;
};

static const char *const codec_names[] = {
	[CONTAINER_NULL] = "null", [CONTAINER_DEFLATE] = "deflate", [CONTAINER_ZSTANDARD] = "zstandard",
};

const char *container_codec_name(enum container_codec codec)
{
	return codec_names[codec];
}

bool container_codec_find(const char *name, enum container_codec *codec)
{
	for (size_t i = 0; i < sizeof codec_names / sizeof codec_names[0]; i++)
		if (strcmp(codec_names[i], name) == 0) {
			*codec = (enum container_codec)i;
			return true;
		}
	return false;
}

static voidpf zlib_alloc(voidpf opaque, uInt count, uInt size)
{
	(void)opaque;
	return mem_alloc_zero(count, size);
}

static void zlib_free(voidpf opaque, voidpf pointer)
{
	(void)opaque;
	mem_free(pointer);
}

struct container_packer *container_packer_create(enum container_codec codec, bool packs)
{
	struct container_packer *packer = mem_alloc_zero(1, sizeof *packer);
	bool ready = true;

	if (!packer)
		return NULL;
	packer->codec = codec;
	packer->packs = packs;
	packer->out.bytes_max = CONTAINER_BLOCK_BYTES_MAX;
	packer->deflate.zalloc = zlib_alloc;
	packer->deflate.zfree = zlib_free;
	if (codec == CONTAINER_DEFLATE) {
		int result = packs ? deflateInit2(&packer->deflate, Z_DEFAULT_COMPRESSION, Z_DEFLATED,
						  DEFLATE_WINDOW_BITS, DEFLATE_MEMORY_LEVEL, Z_DEFAULT_STRATEGY)
				   : inflateInit2(&packer->deflate, DEFLATE_WINDOW_BITS);
		ready = packer->deflate_ready = result == Z_OK;
	} else if (codec == CONTAINER_ZSTANDARD && packs) {
		packer->compressor = ZSTD_createCCtx();
		ready = packer->compressor &&
			!ZSTD_isError(ZSTD_CCtx_setParameter(packer->compressor, ZSTD_c_compressionLevel,
							     ZSTANDARD_LEVEL));
	} else if (codec == CONTAINER_ZSTANDARD) {
		packer->decompressor = ZSTD_createDCtx();
		ready = packer->decompressor &&
			!ZSTD_isError(ZSTD_DCtx_setParameter(packer->decompressor, ZSTD_d_windowLogMax,
							     ZSTANDARD_WINDOW_LOG_MAX));
	}
	if (ready)
		return packer;
	container_packer_destroy(packer);
	return NULL;
}

void container_packer_destroy(struct container_packer *packer)
{
	if (!packer)
		return;
	if (packer->deflate_ready)
		(void)(packer->packs ? deflateEnd(&packer->deflate) : inflateEnd(&packer->deflate));
	ZSTD_freeCCtx(packer->compressor);
	ZSTD_freeDCtx(packer->decompressor);
	byte_buffer_free(&packer->out);
	mem_free(packer);
}

static enum status no_memory(struct error *error)
{
	return error_set(error, STATUS_NO_MEMORY, "no memory for a block");
}

enum status container_pack(struct container_packer *packer, struct text_view in, struct text_view *out,
			   struct error *error)
{
	size_t bound, size;

	if (packer->codec == CONTAINER_NULL) {
		*out = in;
		return STATUS_OK;
	}
	bound = packer->codec == CONTAINER_DEFLATE ? deflateBound(&packer->deflate, (uLong)in.size)
						   : ZSTD_compressBound(in.size);
	if (!codec_buffer_reserve(&packer->out, bound))
		return no_memory(error);
	if (packer->codec == CONTAINER_DEFLATE) {
		z_stream *stream = &packer->deflate;
		if (deflateReset(stream) != Z_OK)
			return error_set(error, STATUS_INTERNAL, "deflate cannot start again");
		stream->next_in = (Bytef *)(uintptr_t)in.bytes;
		stream->avail_in = (uInt)in.size;
		stream->next_out = (Bytef *)packer->out.bytes;
		stream->avail_out = (uInt)bound;
		if (deflate(stream, Z_FINISH) != Z_STREAM_END)
			return error_set(error, STATUS_INTERNAL, "deflate did not finish a block");
		size = bound - stream->avail_out;
	} else {
		size = ZSTD_compress2(packer->compressor, packer->out.bytes, bound, in.bytes, in.size);
		if (ZSTD_isError(size))
			return error_set(error, STATUS_INTERNAL, "zstandard: %s", ZSTD_getErrorName(size));
	}
	*out = (struct text_view){packer->out.bytes, size};
	return STATUS_OK;
}

/* Room after out.size; false with the error set where there is no more. */
static bool more_room(struct container_packer *packer, struct error *error)
{
	struct byte_buffer *out = &packer->out;

	if (out->size < out->capacity)
		return true;
	if (out->capacity >= CONTAINER_BLOCK_BYTES_MAX) {
		error_set(error, STATUS_CORRUPT, "the block expands to more than %d bytes",
			  CONTAINER_BLOCK_BYTES_MAX);
		return false;
	}
	if (!codec_buffer_reserve(out, out->capacity ? 2 * out->capacity : FIRST_BYTES)) {
		no_memory(error);
		return false;
	}
	return true;
}

static enum status inflate_block(struct container_packer *packer, struct text_view in, struct error *error)
{
	z_stream *stream = &packer->deflate;
	int result;

	if (inflateReset(stream) != Z_OK)
		return error_set(error, STATUS_INTERNAL, "inflate cannot start again");
	stream->next_in = (Bytef *)(uintptr_t)in.bytes;
	stream->avail_in = (uInt)in.size;
	do {
		size_t room;
		if (!more_room(packer, error))
			return error ? error->status : STATUS_CORRUPT;
		room = packer->out.capacity - packer->out.size;
		stream->next_out = (Bytef *)packer->out.bytes + packer->out.size;
		stream->avail_out = (uInt)room;
		result = inflate(stream, Z_NO_FLUSH);
		packer->out.size += room - stream->avail_out;
		if (result == Z_MEM_ERROR)
			return no_memory(error);
		/* Z_BUF_ERROR with room left: more input is needed, and there is none. */
		if (result != Z_OK && result != Z_STREAM_END && !(result == Z_BUF_ERROR && !stream->avail_out))
			return error_set(error, STATUS_CORRUPT, "the deflated block is damaged or cut off");
	} while (result != Z_STREAM_END);
	/* fastavro leaves three bytes of a zlib checksum behind the raw stream; others ignore them too. */
	if (stream->avail_in > ADLER_BYTES)
		return error_set(error, STATUS_CORRUPT, "%u bytes follow the deflated block", stream->avail_in);
	return STATUS_OK;
}

static enum status unzstandard_block(struct container_packer *packer, struct text_view in,
				     struct error *error)
{
	ZSTD_inBuffer input = {in.bytes, in.size, 0};
	size_t result = 1;

	ZSTD_DCtx_reset(packer->decompressor, ZSTD_reset_session_only);
	while (input.pos < input.size || result != 0) {
		ZSTD_outBuffer output;
		size_t before = input.pos;

		if (!more_room(packer, error))
			return error ? error->status : STATUS_CORRUPT;
		output = (ZSTD_outBuffer){packer->out.bytes, packer->out.capacity, packer->out.size};
		result = ZSTD_decompressStream(packer->decompressor, &output, &input);
		if (ZSTD_isError(result))
			return error_set(error, STATUS_CORRUPT, "zstandard block: %s", ZSTD_getErrorName(result));
		if (output.pos == packer->out.size && input.pos == before && output.pos < output.size && result)
			return error_set(error, STATUS_CORRUPT, "the zstandard block is cut off");
		packer->out.size = output.pos;
	}
	return STATUS_OK;
}

enum status container_unpack(struct container_packer *packer, struct text_view in, struct text_view *out,
			     struct error *error)
{
	struct error local = {0};
	enum status status;

	if (packer->codec == CONTAINER_NULL) {
		*out = in;
		return STATUS_OK;
	}
	packer->out.size = 0;
	/* The callees tell the two failures of more_room() apart by the error. */
	status = packer->codec == CONTAINER_DEFLATE ? inflate_block(packer, in, error ? error : &local)
						    : unzstandard_block(packer, in, error ? error : &local);
	if (status)
		return status;
	*out = (struct text_view){packer->out.bytes ? packer->out.bytes : "", packer->out.size};
	return STATUS_OK;
}

/* byte_stream.c - one input buffer, and one decoder that eats from it. Files of several members (cat of
 * two .gz, parallel xz, frames of zstd) are read as one. Invariant: input[begin, end) was read from the
 * file and not yet decoded. Called by the table reader; one thread. */
#include "producer/byte_stream.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <lzma.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum { INPUT_BYTES = 128 * 1024, MAGIC_BYTES = 6, WINDOW_LOG_MAX = 27 };
static const uint64_t xz_memory_bytes_max = 256 << 20;

enum format { FORMAT_PLAIN, FORMAT_GZIP, FORMAT_XZ, FORMAT_ZSTANDARD };

struct byte_stream {
	int fd;
	char *name;
	enum format format;
	bool file_end;          /* nothing more can be read from the file */
	bool within;            /* a compressed member has begun and not ended */
	bool done;
	uint64_t size;
	uint64_t consumed;      /* bytes read from the file */
	z_stream gzip;
	bool gzip_open;
	lzma_stream xz;
	bool xz_open;
	ZSTD_DStream *zstandard;
	size_t begin;
	size_t end;
	unsigned char input[INPUT_BYTES];
};

static enum status fill(struct byte_stream *stream, struct error *error)
{
	ssize_t got;

	if (stream->begin > 0) {
		memmove(stream->input, stream->input + stream->begin, stream->end - stream->begin);
		stream->end -= stream->begin;
		stream->begin = 0;
	}
	do
		got = read(stream->fd, stream->input + stream->end, INPUT_BYTES - stream->end);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return error_set(error, errno == EISDIR ? STATUS_NO_INPUT : STATUS_IO, "%s: cannot read: %s",
				 stream->name, strerror(errno));
	stream->file_end = got == 0;
	stream->end += (size_t)got;
	stream->consumed += (uint64_t)got;
	return STATUS_OK;
}

static const char *format_name(const struct byte_stream *stream)
{
	switch (stream->format) {
	case FORMAT_PLAIN: return "plain";
	case FORMAT_GZIP: return "gzip";
	case FORMAT_XZ: return "xz";
	case FORMAT_ZSTANDARD: return "zstandard";
	}
	return "unknown";
}

static enum status damaged(const struct byte_stream *stream, const char *why, struct error *error)
{
	return error_set(error, STATUS_CORRUPT, "%s: damaged %s data near byte %llu: %s", stream->name,
			 format_name(stream),
			 (unsigned long long)(stream->consumed - (stream->end - stream->begin)), why);
}

/* The decoders' own allocations go through mem.c, as all do. */
static void *gzip_alloc(void *context, unsigned count, unsigned size)
{
	(void)context;
	return mem_alloc_array(count, size);
}

static void gzip_free(void *context, void *pointer)
{
	(void)context;
	mem_free(pointer);
}

static bool open_decoder(struct byte_stream *stream)
{
	static const unsigned char gzip_magic[] = {0x1F, 0x8B};
	static const unsigned char xz_magic[] = {0xFD, '7', 'z', 'X', 'Z', 0};
	static const unsigned char zstandard_magic[] = {0x28, 0xB5, 0x2F, 0xFD};
	size_t size = stream->end;

	if (size >= sizeof gzip_magic && !memcmp(stream->input, gzip_magic, sizeof gzip_magic)) {
		stream->format = FORMAT_GZIP;
		stream->gzip.zalloc = gzip_alloc;
		stream->gzip.zfree = gzip_free;
		return stream->gzip_open = inflateInit2(&stream->gzip, 16 + MAX_WBITS) == Z_OK;
	}
	if (size >= sizeof xz_magic && !memcmp(stream->input, xz_magic, sizeof xz_magic)) {
		stream->format = FORMAT_XZ;
		return stream->xz_open = lzma_stream_decoder(&stream->xz, xz_memory_bytes_max,
							     LZMA_CONCATENATED) == LZMA_OK;
	}
	if (size >= sizeof zstandard_magic && !memcmp(stream->input, zstandard_magic, sizeof zstandard_magic)) {
		stream->format = FORMAT_ZSTANDARD;
		stream->zstandard = ZSTD_createDStream();
		return stream->zstandard && !ZSTD_isError(ZSTD_DCtx_setParameter(
						    stream->zstandard, ZSTD_d_windowLogMax, WINDOW_LOG_MAX));
	}
	stream->format = FORMAT_PLAIN;
	return true;
}

enum status byte_stream_open_fd(int fd, const char *name, struct byte_stream **out, struct error *error)
{
	struct byte_stream *stream = mem_alloc(sizeof *stream);
	struct stat about;
	enum status status = STATUS_OK;

	if (!stream) {
		close(fd);
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory to read it", name);
	}
	memset(stream, 0, offsetof(struct byte_stream, input));
	stream->fd = fd;
	stream->xz = (lzma_stream)LZMA_STREAM_INIT;
	stream->name = mem_copy_string(name);
	if (!stream->name)
		status = error_set(error, STATUS_NO_MEMORY, "%s: no memory to read it", name);
	if (fstat(fd, &about) == 0 && S_ISREG(about.st_mode))
		stream->size = (uint64_t)about.st_size;
	while (status == STATUS_OK && !stream->file_end && stream->end < MAGIC_BYTES)
		status = fill(stream, error);
	if (status == STATUS_OK && !open_decoder(stream))
		status = error_set(error, STATUS_NO_MEMORY, "%s: no memory to decompress it", name);
	if (status != STATUS_OK) {
		byte_stream_close(stream);
		return status;
	}
	*out = stream;
	return STATUS_OK;
}

enum status byte_stream_open(const char *path, struct byte_stream **out, struct error *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_set(error, STATUS_NO_INPUT, "%s: cannot open: %s", path, strerror(errno));
	return byte_stream_open_fd(fd, path, out, error);
}

void byte_stream_close(struct byte_stream *stream)
{
	if (!stream)
		return;
	if (stream->gzip_open)
		inflateEnd(&stream->gzip);
	if (stream->xz_open)
		lzma_end(&stream->xz);
	ZSTD_freeDStream(stream->zstandard);
	close(stream->fd);
	mem_free(stream->name);
	mem_free(stream);
}

static enum status read_gzip(struct byte_stream *stream, char *bytes, size_t capacity, size_t *size,
			     struct error *error)
{
	z_stream *gzip = &stream->gzip;
	int result;

	if (!stream->within) {
		/* Zeros after the last member are padding, as on a tape. */
		while (stream->begin < stream->end && stream->input[stream->begin] == 0)
			stream->begin++;
		if (stream->begin == stream->end) {
			stream->done = stream->file_end;
			return STATUS_OK;
		}
		stream->within = true;
	}
	gzip->next_in = stream->input + stream->begin;
	gzip->avail_in = (uInt)(stream->end - stream->begin);
	gzip->next_out = (unsigned char *)bytes;
	gzip->avail_out = (uInt)capacity;
	result = inflate(gzip, Z_NO_FLUSH);
	stream->begin = stream->end - gzip->avail_in;
	*size = capacity - gzip->avail_out;
	if (result == Z_STREAM_END) {
		stream->within = false;
		inflateReset(gzip);
		return STATUS_OK;
	}
	if (result == Z_MEM_ERROR)
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory to decompress it", stream->name);
	if (result != Z_OK && result != Z_BUF_ERROR)
		return damaged(stream, gzip->msg ? gzip->msg : "not gzip", error);
	return STATUS_OK;
}

static enum status read_xz(struct byte_stream *stream, char *bytes, size_t capacity, size_t *size,
			   struct error *error)
{
	lzma_stream *xz = &stream->xz;
	lzma_ret result;

	xz->next_in = stream->input + stream->begin;
	xz->avail_in = stream->end - stream->begin;
	xz->next_out = (unsigned char *)bytes;
	xz->avail_out = capacity;
	result = lzma_code(xz, stream->file_end ? LZMA_FINISH : LZMA_RUN);
	stream->begin = stream->end - xz->avail_in;
	*size = capacity - xz->avail_out;
	switch (result) {
	case LZMA_OK:
	case LZMA_BUF_ERROR:
		stream->within = true;
		return STATUS_OK;
	case LZMA_STREAM_END:
		stream->within = false;
		stream->done = true;
		return STATUS_OK;
	case LZMA_MEM_ERROR:
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory to decompress it", stream->name);
	case LZMA_MEMLIMIT_ERROR:
		return error_set(error, STATUS_CORRUPT,
				 "%s: needs more than %llu MiB to decompress; compress it with a smaller "
				 "dictionary",
				 stream->name, (unsigned long long)(xz_memory_bytes_max >> 20));
	default:
		return damaged(stream, result == LZMA_FORMAT_ERROR ? "not xz" : "checks fail", error);
	}
}

static enum status read_zstandard(struct byte_stream *stream, char *bytes, size_t capacity, size_t *size,
				  struct error *error)
{
	ZSTD_inBuffer in = {stream->input, stream->end, stream->begin};
	ZSTD_outBuffer out = {bytes, capacity, 0};
	size_t result;

	if (!stream->within && stream->begin == stream->end) {
		stream->done = stream->file_end;
		return STATUS_OK;
	}
	result = ZSTD_decompressStream(stream->zstandard, &out, &in);
	stream->begin = in.pos;
	*size = out.pos;
	if (ZSTD_isError(result))
		return damaged(stream, ZSTD_getErrorName(result), error);
	stream->within = result != 0;
	return STATUS_OK;
}

static void read_plain(struct byte_stream *stream, char *bytes, size_t capacity, size_t *size)
{
	size_t count = stream->end - stream->begin;

	if (count > capacity)
		count = capacity;
	memcpy(bytes, stream->input + stream->begin, count);
	stream->begin += count;
	*size = count;
	stream->done = stream->file_end && stream->begin == stream->end;
}

enum status byte_stream_read(struct byte_stream *stream, char *bytes, size_t capacity, size_t *size,
			     struct error *error)
{
	*size = 0;
	if (capacity > INPUT_BYTES)
		capacity = INPUT_BYTES;         /* fits the decoders' counters */
	while (*size == 0 && !stream->done && capacity > 0) {
		enum status status = STATUS_OK;
		size_t begin = stream->begin;
		if (stream->begin == stream->end && !stream->file_end)
			status = fill(stream, error);
		if (status != STATUS_OK)
			return status;
		bool starved = stream->begin == stream->end && stream->file_end;
		begin = stream->begin;
		switch (stream->format) {
		case FORMAT_GZIP: status = read_gzip(stream, bytes, capacity, size, error); break;
		case FORMAT_XZ: status = read_xz(stream, bytes, capacity, size, error); break;
		case FORMAT_ZSTANDARD: status = read_zstandard(stream, bytes, capacity, size, error); break;
		case FORMAT_PLAIN: read_plain(stream, bytes, capacity, size); break;
		}
		if (status != STATUS_OK)
			return status;
		if (*size == 0 && !stream->done && starved && begin == stream->begin)
			return damaged(stream, "the file ends too early; get a complete copy", error);
	}
	return STATUS_OK;
}

uint64_t byte_stream_consumed(const struct byte_stream *stream)
{
	return stream->consumed - (stream->end - stream->begin);
}

uint64_t byte_stream_size(const struct byte_stream *stream)
{
	return stream->size;
}

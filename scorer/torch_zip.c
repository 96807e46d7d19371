/* torch_zip.c - the directory at the end of the file, its stored members, and the tensors in them.
 *
 * Invariant: a member's bytes were checked to lie inside the file before anything reads them, and no two
 * members overlap. ZIP64 is read: shards are larger than 4 GB. Called by checkpoint.c. */
#include "scorer/torch_zip.h"

#include "scorer/torch_pickle.h"

#include <stdio.h>
#include <stdlib.h>

enum {
	END_BYTES = 22, END64_BYTES = 56, LOCATOR_BYTES = 20, ENTRY_BYTES = 46, LOCAL_BYTES = 30,
	COMMENT_BYTES_MAX = 65535, NAME_BYTES_MAX = 512
};

struct member {
	struct text_view name;
	uint64_t start, size;
};

struct archive {
	const struct mapped_file *file;
	struct member *members;         /* sorted by name */
	size_t count;
	struct text_view folder;        /* "archive/", before data.pkl */
	struct tensor_table *table;
};

static uint64_t load(const uint8_t *at, size_t bytes)
{
	uint64_t value = 0;
	for (size_t i = 0; i < bytes; i++)
		value |= (uint64_t)at[i] << 8 * i;
	return value;
}

static bool signed_as(const uint8_t *at, const char *signature)
{
	return memcmp(at, signature, 4) == 0;
}

/* The directory's place, from the record at the end, or its 64-bit form before that. */
static enum status find_directory(const struct mapped_file *file, uint64_t *start, uint64_t *size,
				  uint64_t *count, struct error *error)
{
	const uint8_t *bytes = file->bytes, *end = NULL, *locator;
	size_t lowest = file->size > END_BYTES + COMMENT_BYTES_MAX ?
			file->size - END_BYTES - COMMENT_BYTES_MAX : 0;

	if (file->size >= 2 && bytes[0] == 0x80)
		return error_set(error, STATUS_UNSUPPORTED,
				 "%s: a PyTorch file from before version 1.6; save it again "
				 "with a newer one, or as safetensors", file->path);
	if (file->size < END_BYTES || !signed_as(bytes, "PK\3\4"))
		return mapped_file_corrupt(file, 0, error, "not a PyTorch checkpoint (no zip)");
	for (size_t at = file->size - END_BYTES + 1; !end && at-- > lowest;)
		if (signed_as(bytes + at, "PK\5\6") &&
		    load(bytes + at + 20, 2) == file->size - at - END_BYTES)
			end = bytes + at;
	if (!end)
		return mapped_file_corrupt(file, file->size, error,
					   "the zip's directory is missing (interrupted "
					   "download?)");
	*count = load(end + 10, 2);
	*size = load(end + 12, 4);
	*start = load(end + 16, 4);
	if (end - bytes < LOCATOR_BYTES)
		return STATUS_OK;
	locator = end - LOCATOR_BYTES;
	if (signed_as(locator, "PK\6\7")) {
		uint64_t at = load(locator + 8, 8);
		if (file->size < END64_BYTES || at > file->size - END64_BYTES ||
		    !signed_as(bytes + at, "PK\6\6"))
			return mapped_file_corrupt(file, (size_t)(locator - bytes), error,
						   "the ZIP64 directory record is not where it should be");
		*count = load(bytes + at + 32, 8);
		*size = load(bytes + at + 40, 8);
		*start = load(bytes + at + 48, 8);
	}
	return STATUS_OK;
}

/* Fields of 0xFFFFFFFF stand in the extra field of id 1, in this order. */
static bool read_zip64(const uint8_t *extra, size_t size, uint64_t *unpacked, uint64_t *packed,
		       uint64_t *local)
{
	uint64_t *fields[3] = {unpacked, packed, local};

	for (size_t at = 0; size - at >= 4;) {
		size_t id = load(extra + at, 2), bytes = load(extra + at + 2, 2), used = 0;
		at += 4;
		if (bytes > size - at)
			return false;
		for (int i = 0; id == 1 && i < 3; i++) {
			if (*fields[i] != UINT32_MAX)
				continue;
			if (bytes - used < 8)
				return false;
			*fields[i] = load(extra + at + used, 8);
			used += 8;
		}
		if (id == 1)
			return true;
		at += bytes;
	}
	return *unpacked != UINT32_MAX && *packed != UINT32_MAX && *local != UINT32_MAX;
}

static enum status read_entry(const struct mapped_file *file, uint64_t *at, uint64_t end,
			      struct member *member,
			      struct error *error)
{
	const uint8_t *entry = file->bytes + *at, *header;
	uint64_t unpacked, packed, local, name_size, extra_size, comment_size, skip;

	if (end - *at < ENTRY_BYTES || !signed_as(entry, "PK\1\2"))
		return mapped_file_corrupt(file, *at, error, "no directory entry where one should be");
	packed = load(entry + 20, 4);
	unpacked = load(entry + 24, 4);
	name_size = load(entry + 28, 2);
	extra_size = load(entry + 30, 2);
	comment_size = load(entry + 32, 2);
	local = load(entry + 42, 4);
	if (name_size + extra_size + comment_size > end - *at - ENTRY_BYTES)
		return mapped_file_corrupt(file, *at, error, "a directory entry is cut off");
	member->name = (struct text_view){(const char *)entry + ENTRY_BYTES, name_size};
	if (load(entry + 8, 2) & 1)
		return mapped_file_corrupt(file, *at, error, "%.*s is encrypted", TEXT_ARGS(member->name));
	if (load(entry + 10, 2) != 0)
		return mapped_file_corrupt(file, *at, error,
					   "%.*s is compressed; PyTorch stores members as they are",
					   TEXT_ARGS(member->name));
	if (!read_zip64(entry + ENTRY_BYTES + name_size, extra_size, &unpacked, &packed, &local) ||
	    packed != unpacked)
		return mapped_file_corrupt(file, *at, error, "%.*s: its sizes contradict each other",
					   TEXT_ARGS(member->name));
	if (local > file->size || file->size - local < LOCAL_BYTES ||
	    !signed_as(file->bytes + local, "PK\3\4"))
		return mapped_file_corrupt(file, *at, error, "%.*s is not at byte %llu as the directory says",
					   TEXT_ARGS(member->name), (unsigned long long)local);
	header = file->bytes + local;
	skip = LOCAL_BYTES + load(header + 26, 2) + load(header + 28, 2);
	if (skip > file->size - local || packed > file->size - local - skip)
		return mapped_file_corrupt(file, local, error, "%.*s runs past the end of the file",
					   TEXT_ARGS(member->name));
	member->start = local + skip;
	member->size = packed;
	*at += ENTRY_BYTES + name_size + extra_size + comment_size;
	return STATUS_OK;
}

static int compare_starts(const void *a, const void *b)
{
	const struct member *x = a, *y = b;
	if (x->start != y->start)
		return x->start > y->start ? 1 : -1;
	return (x->size > y->size) - (x->size < y->size);
}

static int compare_names(const void *a, const void *b)
{
	return text_compare(((const struct member *)a)->name, ((const struct member *)b)->name);
}

static enum status read_directory(struct archive *archive, struct error *error)
{
	const struct mapped_file *file = archive->file;
	uint64_t at = 0, size = 0, count = 0, end;
	enum status status = find_directory(file, &at, &size, &count, error);

	if (status != STATUS_OK)
		return status;
	if (at > file->size || size > file->size - at)
		return mapped_file_corrupt(file, file->size, error,
					   "the zip's directory lies outside of the file");
	if (count == 0 || count > TORCH_MEMBERS_MAX)
		return mapped_file_corrupt(file, at, error, "%llu members (1 to %d)",
					   (unsigned long long)count,
					   TORCH_MEMBERS_MAX);
	end = at + size;
	archive->members = mem_alloc_zero(count, sizeof(*archive->members));
	if (!archive->members)
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory", file->path);
	for (; archive->count < count; archive->count++) {
		status = read_entry(file, &at, end, &archive->members[archive->count], error);
		if (status != STATUS_OK)
			return status;
	}
	qsort(archive->members, count, sizeof(*archive->members), compare_starts);
	for (size_t i = 1; i < count; i++) {
		const struct member *member = &archive->members[i];
		if (member[-1].start + member[-1].size > member->start)
			return mapped_file_corrupt(file, member->start, error, "%.*s and %.*s overlap",
						   TEXT_ARGS(member[-1].name), TEXT_ARGS(member->name));
	}
	qsort(archive->members, count, sizeof(*archive->members), compare_names);
	for (size_t i = 1; i < count; i++)
		if (compare_names(&archive->members[i - 1], &archive->members[i]) == 0)
			return mapped_file_corrupt(file, archive->members[i].start, error,
						   "%.*s is stored twice",
						   TEXT_ARGS(archive->members[i].name));
	return STATUS_OK;
}

/* folder/middle/name; NULL: no such member. */
static const struct member *find(const struct archive *archive, const char *middle, struct text_view name)
{
	char path[NAME_BYTES_MAX];
	struct member wanted;
	size_t middle_size = strlen(middle), size = archive->folder.size + middle_size + name.size;

	if (size > sizeof(path))
		return NULL;
	memcpy(path, archive->folder.bytes, archive->folder.size);
	memcpy(path + archive->folder.size, middle, middle_size);
	if (name.size)
		memcpy(path + archive->folder.size + middle_size, name.bytes, name.size);
	wanted.name = (struct text_view){path, size};
	return bsearch(&wanted, archive->members, archive->count, sizeof(wanted), compare_names);
}

/* The one member "folder/data.pkl", where the folder has no folder itself. */
static const struct member *find_pickle(struct archive *archive)
{
	static const char name[] = "/data.pkl";
	const struct member *found = NULL;

	for (size_t i = 0; i < archive->count; i++) {
		struct text_view path = archive->members[i].name;
		const char *slash = path.size ? memchr(path.bytes, '/', path.size) : NULL;
		if (!slash || path.size - (size_t)(slash - path.bytes) != sizeof(name) - 1 ||
		    memcmp(slash, name, sizeof(name) - 1) != 0)
			continue;
		if (found)
			return NULL;
		found = &archive->members[i];
		archive->folder = (struct text_view){path.bytes, (size_t)(slash - path.bytes) + 1};
	}
	return found;
}

static enum status add_tensor(void *context, const struct torch_tensor *tensor, struct error *error)
{
	struct archive *archive = context;
	const struct mapped_file *file = archive->file;
	const struct member *storage = find(archive, "data/", tensor->storage_key);
	struct stored_tensor stored = {.name = tensor->name.bytes, .name_size = tensor->name.size,
				       .type = tensor->type, .rank = tensor->rank, .file = file};
	uint64_t elements = 1, storage_bytes = 0, skip = 0;

	if (!storage)
		return mapped_file_corrupt(file, 0, error, "tensor %.*s: its storage data/%.*s is missing",
					   TEXT_ARGS(tensor->name), TEXT_ARGS(tensor->storage_key));
	for (uint32_t i = 0; i < tensor->rank; i++) {
		stored.shape[i] = tensor->shape[i];
		if (__builtin_mul_overflow(elements, tensor->shape[i], &elements))
			return mapped_file_corrupt(file, storage->start, error,
						   "tensor %.*s: its shape overflows",
						   TEXT_ARGS(tensor->name));
	}
	if (!tensor_type_bytes(tensor->type, tensor->storage_elements, &storage_bytes) ||
	    storage_bytes != storage->size)
		return mapped_file_corrupt(file, storage->start, error,
					   "storage data/%.*s has %llu bytes, not those of %llu %s",
					   TEXT_ARGS(tensor->storage_key), (unsigned long long)storage->size,
					   (unsigned long long)tensor->storage_elements,
					   tensor_type_name(tensor->type));
	if (tensor->offset > tensor->storage_elements ||
	    elements > tensor->storage_elements - tensor->offset ||
	    !tensor_type_bytes(tensor->type, tensor->offset, &skip) ||
	    !tensor_type_bytes(tensor->type, elements, &stored.bytes))
		return mapped_file_corrupt(file, storage->start, error,
					   "tensor %.*s: %llu elements from %llu on are not in a storage of "
					   "%llu",
					   TEXT_ARGS(tensor->name), (unsigned long long)elements,
					   (unsigned long long)tensor->offset,
					   (unsigned long long)tensor->storage_elements);
	stored.offset = storage->start + skip;
	stored.data = file->bytes + stored.offset;
	return tensor_table_add(archive->table, &stored, error);
}

enum status torch_zip_parse(const struct mapped_file *file, struct tensor_table *table,
			    struct error *error)
{
	struct archive archive = {.file = file, .table = table};
	const struct member *pickle, *order;
	enum status status = read_directory(&archive, error);

	if (status != STATUS_OK)
		goto cleanup;
	pickle = find_pickle(&archive);
	if (!pickle) {
		status = mapped_file_corrupt(file, 0, error,
					     "not one data.pkl in one folder: no PyTorch checkpoint");
		goto cleanup;
	}
	order = find(&archive, "byteorder", (struct text_view){0});
	if (order && (order->size != 6 || memcmp(file->bytes + order->start, "little", 6) != 0)) {
		status = error_set(error, STATUS_UNSUPPORTED, "%s: byte %llu: not little-endian", file->path,
				   (unsigned long long)order->start);
		goto cleanup;
	}
	status = torch_pickle_read(file, pickle->start, pickle->size, add_tensor, &archive, error);
cleanup:
	mem_free(archive.members);
	return status;
}

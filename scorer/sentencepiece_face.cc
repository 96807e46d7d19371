/* sentencepiece_face.cc - two processors over one model: as it is, and without its dummy prefix.
 *
 * The library cannot switch the prefix off per call, so the second processor is given the same serialised
 * model with "normalizer_spec { add_dummy_prefix: false }" appended: protocol buffers merge a message
 * that comes twice. */
#include "scorer/sentencepiece_face.h"

#include <sentencepiece_processor.h>

#include <new>
#include <string>
#include <vector>

namespace {
const char no_prefix[] = {0x1A, 0x02, 0x18, 0x00}; /* field 3, 2 bytes: field 3 = false */
const size_t model_bytes_max = 64u << 20;
}

struct sentencepiece_face {
	sentencepiece::SentencePieceProcessor plain, continued;
};

enum status sentencepiece_load(const void *bytes, size_t size, const char *path,
			       struct sentencepiece_face **out,
			       struct error *error)
{
	struct sentencepiece_face *made = nullptr;

	if (size == 0 || size > model_bytes_max)
		return error_set(error, STATUS_CORRUPT,
				 "%s: byte 0: a SentencePiece model of %zu bytes (1 to %zu)",
				 path, size, model_bytes_max);
	try {
		std::string model(static_cast<const char *>(bytes), size);
		made = new struct sentencepiece_face;
		auto status = made->plain.LoadFromSerializedProto(model);
		if (status.ok()) {
			model.append(no_prefix, sizeof(no_prefix));
			status = made->continued.LoadFromSerializedProto(model);
		}
		if (status.ok() && made->plain.GetPieceSize() > 0) {
			*out = made;
			return STATUS_OK;
		}
		error_set(error, STATUS_CORRUPT, "%s: byte 0: no SentencePiece model: %s", path,
			  status.ToString().c_str());
	} catch (const std::bad_alloc &) {
		delete made;
		return error_set(error, STATUS_NO_MEMORY, "%s: no memory", path);
	} catch (const std::exception &trouble) {
		error_set(error, STATUS_CORRUPT, "%s: byte 0: no SentencePiece model: %s", path,
			  trouble.what());
	}
	delete made;
	return STATUS_CORRUPT;
}

void sentencepiece_close(struct sentencepiece_face *sentencepiece)
{
	delete sentencepiece;
}

enum status sentencepiece_encode(const struct sentencepiece_face *sentencepiece, const char *text,
				 size_t size,
				 bool prefix, int32_t *ids, size_t ids_max, size_t *count,
				 struct error *error)
{
	try {
		std::vector<int> found;
		auto status = (prefix ? sentencepiece->plain : sentencepiece->continued)
				      .Encode(absl::string_view(text, size), &found);
		if (!status.ok())
			return error_set(error, STATUS_INTERNAL, "SentencePiece: %s",
					 status.ToString().c_str());
		if (found.size() > ids_max - *count)
			return error_set(error, STATUS_LIMIT, "more than %zu token ids", ids_max);
		for (size_t i = 0; i < found.size(); i++)
			ids[*count + i] = found[i];
		*count += found.size();
		return STATUS_OK;
	} catch (const std::bad_alloc &) {
		return error_set(error, STATUS_NO_MEMORY, "no memory to tokenise %zu bytes", size);
	} catch (const std::exception &trouble) {
		return error_set(error, STATUS_INTERNAL, "SentencePiece: %s", trouble.what());
	}
}

int32_t sentencepiece_count(const struct sentencepiece_face *sentencepiece)
{
	return sentencepiece->plain.GetPieceSize();
}

int32_t sentencepiece_bos(const struct sentencepiece_face *sentencepiece)
{
	return sentencepiece->plain.bos_id();
}

int32_t sentencepiece_eos(const struct sentencepiece_face *sentencepiece)
{
	return sentencepiece->plain.eos_id();
}

bool sentencepiece_is_special(const struct sentencepiece_face *sentencepiece, int32_t id)
{
	return sentencepiece->plain.IsControl(id) || sentencepiece->plain.IsUnknown(id);
}

const char *sentencepiece_piece(const struct sentencepiece_face *sentencepiece, int32_t id, size_t *size)
{
	const std::string &piece = sentencepiece->plain.IdToPiece(id);
	*size = piece.size();
	return piece.data();
}

int32_t sentencepiece_find(const struct sentencepiece_face *sentencepiece, const char *text, size_t size)
{
	int id = sentencepiece->plain.PieceToId(absl::string_view(text, size));
	return sentencepiece->plain.IsUnknown(id) &&
	       sentencepiece->plain.IdToPiece(id) != std::string(text, size) ? -1 : id;
}

/* pretokenizer.c - the patterns, and the walk that yields matches and what lies between them.
 *
 * The originals' \s is Unicode's White_Space; PCRE2's has U+180E besides, so the class is written out.
 * Where the original splits twice, the second pattern sees each piece of the first as a text of its own:
 * its look-ahead ends there. */
#include "scorer/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define SPACE "\\t-\\r\\x{85}\\p{Z}"
#define CONTRACTIONS "'s|'t|'re|'ve|'m|'ll|'d"
#define SPACES "[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"
#define GPT2 CONTRACTIONS "| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+|" SPACES
#define CL100K(digits)                                                                              \
	"(?i:" CONTRACTIONS ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits                             \
	"| ?[^" SPACE "\\p{L}\\p{N}]+[\\r\\n]*|[" SPACE "]*[\\r\\n]+|" SPACES

static const struct {
	const char *name, *first, *second;      /* second: NULL or applied to each piece of the first */
	const char *expression;                 /* as tokenizer.json writes it */
} kinds[PRETOKENIZER_KIND_COUNT] = {
	[PRETOKENIZER_GPT2] = {"GPT-2", GPT2, NULL,
		"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
	[PRETOKENIZER_SMOLLM2] = {"SmolLM2", "\\p{N}", GPT2, NULL},
	[PRETOKENIZER_LLAMA3] = {"Llama 3", CL100K("\\p{N}{1,3}"), NULL,
		"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+"
		"[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
	[PRETOKENIZER_QWEN2] = {"Qwen2", CL100K("\\p{N}"), NULL,
		"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+"
		"[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
};

struct pretokenizer {
	pcre2_code *codes[2];           /* the second may be NULL */
};

const char *pretokenizer_name(enum pretokenizer_kind kind)
{
	return kinds[kind].name;
}

bool pretokenizer_by_expression(struct text_view expression, enum pretokenizer_kind *out)
{
	for (int kind = 0; kind < PRETOKENIZER_KIND_COUNT; kind++) {
		if (kinds[kind].expression && text_equal(expression, text_of(kinds[kind].expression))) {
			*out = (enum pretokenizer_kind)kind;
			return true;
		}
	}
	return false;
}

enum status pretokenizer_create(enum pretokenizer_kind kind, struct pretokenizer **out, struct error *error)
{
	const char *patterns[2] = {kinds[kind].first, kinds[kind].second};
	struct pretokenizer *pretokenizer = mem_alloc_zero(1, sizeof(*pretokenizer));

	if (!pretokenizer)
		return error_set(error, STATUS_NO_MEMORY, "no memory for a pre-tokenizer");
	for (int i = 0; i < 2 && patterns[i]; i++) {
		int number;
		PCRE2_SIZE at;
		pcre2_code *code = pcre2_compile((PCRE2_SPTR)patterns[i], PCRE2_ZERO_TERMINATED,
						 PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &number, &at,
						 NULL);
		if (!code) {
			pretokenizer_destroy(pretokenizer);
			return error_set(error, STATUS_INTERNAL, "PCRE2 error %d at %zu of the %s pattern",
					 number,
					 (size_t)at, kinds[kind].name);
		}
		/* Without a just-in-time compiler the interpreter does the same, slower. */
		pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
		pretokenizer->codes[i] = code;
	}
	*out = pretokenizer;
	return STATUS_OK;
}

void pretokenizer_destroy(struct pretokenizer *pretokenizer)
{
	if (!pretokenizer)
		return;
	for (int i = 0; i < 2; i++)
		pcre2_code_free(pretokenizer->codes[i]);
	mem_free(pretokenizer);
}

void *pretokenizer_block_create(void)
{
	return pcre2_match_data_create(1, NULL);
}

void pretokenizer_block_destroy(void *block)
{
	pcre2_match_data_free(block);
}

static enum status walk(const struct pretokenizer *pretokenizer, int step, void *block, struct text_view text,
			pretokenizer_take take, void *context, struct error *error)
{
	size_t at = 0;

	if (step == 2 || !pretokenizer->codes[step])
		return text.size ? take(context, text) : STATUS_OK;
	while (at < text.size) {
		const pcre2_code *code = pretokenizer->codes[step];
		size_t start = text.size, end = text.size;
		enum status status;
		int found = pcre2_match(code, (PCRE2_SPTR)text.bytes, text.size, at, PCRE2_NO_UTF_CHECK,
					block,
					NULL);
		if (found == PCRE2_ERROR_JIT_STACKLIMIT)
			found = pcre2_match(code, (PCRE2_SPTR)text.bytes, text.size, at,
					    PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, block, NULL);
		if (found < 0 && found != PCRE2_ERROR_NOMATCH)
			return error_set(error, STATUS_LIMIT, "PCRE2 error %d at byte %zu of a text of %zu",
					 found,
					 at, text.size);
		if (found >= 0) {
			const PCRE2_SIZE *place = pcre2_get_ovector_pointer(block);
			/* Copied out: the next step uses the same block. */
			start = place[0];
			end = place[1];
		}
		if (start > at) {
			status = walk(pretokenizer, step + 1, block,
				      (struct text_view){text.bytes + at, start - at}, take, context, error);
			if (status != STATUS_OK)
				return status;
		}
		if (end > start) {
			status = walk(pretokenizer, step + 1, block,
				      (struct text_view){text.bytes + start, end - start}, take, context,
				      error);
			if (status != STATUS_OK)
				return status;
		}
		at = end;
	}
	return STATUS_OK;
}

enum status pretokenizer_walk(const struct pretokenizer *pretokenizer, void *block, struct text_view text,
			      pretokenizer_take take, void *context, struct error *error)
{
	return walk(pretokenizer, 0, block, text, take, context, error);
}

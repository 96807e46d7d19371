/* prompt.c - filling a template with a request, in token ids.
 *
 * Idea: a section is a list of (literal ids, value) pairs; writing it and only counting it are the same
 * walk, so what is cut is decided from exact lengths. Invariant: instruction + user part + any suffix
 * never exceeds positions_max. Caller: engine.c, one thread. */
#include "scorer/prompt.h"

#include "base/mem.h"
#include "scorer/text_cache.h"

#include <math.h>
#include <stdio.h>

enum { VALUE_BYTES = PROMPT_TITLE_BYTES + 2, VALUES_RESERVE = 64 };

struct compiled_part {
	const int32_t *ids;             /* literal */
	uint32_t count;
	enum template_placeholder placeholder;
	bool space;
};

struct compiled_section {
	struct compiled_part parts[TEMPLATE_PARTS_MAX];
	uint32_t count;
};

struct prompt {
	const struct tokenizer *tokenizer;
	struct text_cache *cache;
	struct compiled_section sections[SECTIONS];
	struct text_view unknown_title;         /* borrowed from the template */
	int32_t *literals;                      /* what compiled parts point into */
	struct prompt_ids instruction;
	int32_t yes, no;
	uint32_t positions_max;
	int32_t *user, *suffix;                 /* [positions_max] each */
	uint32_t user_count;
	char value[VALUE_BYTES];
};

/* What the placeholders of a section stand for. */
struct filling {
	const struct scoring_request *request;
	const struct history_entry *entry;
	struct text_view title;
	uint32_t number;
	float mean, log_count;
	uint32_t title_ids_max;
	bool title_cut;
	/* what of the user's part is kept: examples [0, examples_kept), of the last one without its oldest
	 * entries, history without its oldest entries */
	size_t examples_kept, example_skip, history_skip;
};

/* ids == NULL: only count. */
struct writer {
	int32_t *ids;
	uint32_t count;
};

static void put(struct writer *writer, const int32_t *ids, uint32_t count)
{
	if (writer->ids)
		memcpy(writer->ids + writer->count, ids, count * sizeof *ids);
	writer->count += count;
}

/* ---- values ---- */

/* Trimmed, on one line, cut; into p->value behind an optional space. */
static struct text_view clean_title(struct prompt *p, struct text_view title, bool space, bool *cut)
{
	while (title.size && (unsigned char)title.bytes[0] <= ' ')
		title.bytes++, title.size--;
	while (title.size && (unsigned char)title.bytes[title.size - 1] <= ' ')
		title.size--;
	struct text_view text = text_cut(title.size ? title : p->unknown_title, PROMPT_TITLE_BYTES);
	*cut |= title.size > text.size;
	size_t size = 0;
	if (space)
		p->value[size++] = ' ';
	for (size_t i = 0; i < text.size; i++) {
		unsigned char c = (unsigned char)text.bytes[i];
		p->value[size++] = (char)(c < ' ' || c == 0x7f ? ' ' : c);
	}
	return (struct text_view){p->value, size};
}

static struct text_view format_value(struct prompt *p, bool space, const char *format, double number)
{
	int size = snprintf(p->value, sizeof p->value, "%s", space ? " " : "");
	size += snprintf(p->value + size, sizeof p->value - (size_t)size, format, number);
	return (struct text_view){p->value, (size_t)size};
}

static struct text_view action_value(struct prompt *p, bool space, const struct history_entry *entry)
{
	static const char *const words[INTERACTION_KINDS] = {
		[KIND_VIEW] = "seen, not chosen", [KIND_CLICK] = "clicked", [KIND_RATE] = "rated",
		[KIND_PURCHASE] = "bought", [KIND_REMOVE] = "removed",
	};
	const char *word = words[(unsigned)entry->kind < INTERACTION_KINDS ? entry->kind : KIND_VIEW];
	int size = snprintf(p->value, sizeof p->value, "%s%s", space ? " " : "", word);
	if (entry->has_rating)
		size += snprintf(p->value + size, sizeof p->value - (size_t)size, " %.4g",
				 (double)entry->rating);
	return (struct text_view){p->value, (size_t)size};
}

static double response_count(float log_count)
{
	return isfinite(log_count) && log_count > 0 && log_count < 40 ? rint(expm1(log_count)) : 0;
}

static double percent(float mean)
{
	return mean > 0 ? rint(100.0 * (mean < 1 ? mean : 1)) : 0;
}

/* ---- sections ---- */

static enum status write_section(struct prompt *p, int kind, struct filling *with, struct writer *writer,
				 struct error *error);

static enum status write_entries(struct prompt *p, int kind, const struct history_entry *entries,
				 size_t first, size_t count, struct filling *with, struct writer *writer,
				 struct error *error)
{
	for (size_t i = first; i < count; i++) {
		with->entry = &entries[i];
		with->title = entries[i].text;
		enum status status = write_section(p, kind, with, writer, error);
		if (status)
			return status;
	}
	return STATUS_OK;
}

static enum status write_examples(struct prompt *p, struct filling *with, struct writer *writer,
				  struct error *error)
{
	for (size_t e = 0; e < with->examples_kept; e++) {
		const struct example *example = &with->request->examples[e];
		size_t skip = e + 1 == with->examples_kept ? with->example_skip : 0;
		if (skip >= example->entries_count)
			continue;
		with->number = (uint32_t)e + 1;
		enum status status = write_section(p, SECTION_EXAMPLE_TITLE, with, writer, error);
		if (!status)
			status = write_entries(p, SECTION_EXAMPLE_ENTRY, example->entries, skip,
					       example->entries_count, with, writer, error);
		if (status)
			return status;
	}
	return STATUS_OK;
}

static enum status write_history(struct prompt *p, struct filling *with, struct writer *writer,
				 struct error *error)
{
	const struct scoring_request *request = with->request;
	if (!request->history_count)
		return write_section(p, SECTION_NO_HISTORY, with, writer, error);
	if (with->history_skip >= request->history_count)
		return STATUS_OK;
	enum status status = write_section(p, SECTION_HISTORY_TITLE, with, writer, error);
	if (status)
		return status;
	return write_entries(p, SECTION_HISTORY_ENTRY, request->history, with->history_skip,
			     request->history_count, with, writer, error);
}

/* Said only where there is something to say: somebody has responded. */
static enum status write_statistics(struct prompt *p, int kind, const float *statistics, size_t count,
				    struct filling *with, struct writer *writer, struct error *error)
{
	if (count <= PROMPT_STATISTIC_LOG_COUNT || response_count(statistics[PROMPT_STATISTIC_LOG_COUNT]) < 1)
		return STATUS_OK;
	struct filling inner = *with;
	inner.mean = statistics[PROMPT_STATISTIC_MEAN];
	inner.log_count = statistics[PROMPT_STATISTIC_LOG_COUNT];
	return write_section(p, kind, &inner, writer, error);
}

static enum status write_value(struct prompt *p, const struct compiled_part *part, struct filling *with,
			       struct writer *writer, struct error *error)
{
	struct text_view text;
	bool is_title = part->placeholder == PLACEHOLDER_TITLE;
	switch (part->placeholder) {
	case PLACEHOLDER_TITLE:
		text = clean_title(p, with->title, part->space, &with->title_cut);
		break;
	case PLACEHOLDER_ACTION:
		text = action_value(p, part->space, with->entry);
		break;
	case PLACEHOLDER_NUMBER:
		text = format_value(p, part->space, "%.0f", with->number);
		break;
	case PLACEHOLDER_USER_MEAN:
	case PLACEHOLDER_ITEM_MEAN:
		text = format_value(p, part->space, "%.0f", percent(with->mean));
		break;
	default:
		text = format_value(p, part->space, "%.0f", response_count(with->log_count));
	}
	const int32_t *ids;
	uint32_t count;
	enum status status = text_cache_get(p->cache, text, &ids, &count, error);
	if (status)
		return status;
	if (is_title && count > with->title_ids_max) {
		count = with->title_ids_max;
		with->title_cut = true;
	}
	put(writer, ids, count);
	return STATUS_OK;
}

static enum status write_section(struct prompt *p, int kind, struct filling *with, struct writer *writer,
				 struct error *error)
{
	const struct compiled_section *section = &p->sections[kind];
	for (uint32_t i = 0; i < section->count; i++) {
		const struct compiled_part *part = &section->parts[i];
		const struct scoring_request *request = with->request;
		enum status status = STATUS_OK;
		put(writer, part->ids, part->count);
		switch (part->placeholder) {
		case PLACEHOLDER_NONE:
			break;
		case PLACEHOLDER_EXAMPLES:
			status = write_examples(p, with, writer, error);
			break;
		case PLACEHOLDER_HISTORY:
			status = write_history(p, with, writer, error);
			break;
		case PLACEHOLDER_USER_STATISTICS:
			status = write_statistics(p, SECTION_USER_STATISTICS, request->user_statistics,
						  request->user_statistics_count, with, writer, error);
			break;
		case PLACEHOLDER_ITEM_STATISTICS: {
			const struct request_candidate *candidate = &request->candidates[with->number];
			status = write_statistics(p, SECTION_ITEM_STATISTICS, candidate->statistics,
						  candidate->statistics_count, with, writer, error);
			break;
		}
		default:
			status = write_value(p, part, with, writer, error);
		}
		if (status)
			return status;
	}
	return STATUS_OK;
}

/* ---- the two parts of a prompt ---- */

static enum status write_candidate(struct prompt *p, const struct scoring_request *request, size_t index,
				   uint32_t title_ids_max, struct writer *writer, bool *cut,
				   struct error *error)
{
	struct filling with = {.request = request, .title = request->candidates[index].text,
			       .number = (uint32_t)index, .title_ids_max = title_ids_max};
	enum status status = write_section(p, SECTION_CANDIDATE, &with, writer, error);
	if (!status)
		status = write_section(p, SECTION_ANSWER, &with, writer, error);
	*cut = with.title_cut;
	return status;
}

static enum status count_section(struct prompt *p, int kind, struct filling with, uint32_t *out,
				 struct error *error)
{
	struct writer writer = {0};
	enum status status = write_section(p, kind, &with, &writer, error);
	*out = writer.count;
	return status;
}

/* Drops entries in order until `total` tokens are at most `budget`; with says what is left. */
static enum status cut_user(struct prompt *p, uint32_t total, uint32_t budget, struct filling *with,
			    struct error *error)
{
	const struct scoring_request *request = with->request;
	uint32_t tokens;
	enum status status;
	while (total > budget && with->examples_kept) {
		const struct example *example = &request->examples[with->examples_kept - 1];
		if (with->example_skip < example->entries_count) {
			struct filling inner = *with;
			inner.entry = &example->entries[with->example_skip++];
			inner.title = inner.entry->text;
			if ((status = count_section(p, SECTION_EXAMPLE_ENTRY, inner, &tokens, error)))
				return status;
			total -= tokens;
			if (with->example_skip < example->entries_count)
				continue;
			inner.number = (uint32_t)with->examples_kept;
			if ((status = count_section(p, SECTION_EXAMPLE_TITLE, inner, &tokens, error)))
				return status;
			total -= tokens;
		}
		with->examples_kept--;
		with->example_skip = 0;
	}
	while (total > budget && with->history_skip < request->history_count) {
		struct filling inner = *with;
		inner.entry = &request->history[with->history_skip++];
		inner.title = inner.entry->text;
		if ((status = count_section(p, SECTION_HISTORY_ENTRY, inner, &tokens, error)))
			return status;
		total -= tokens;
	}
	return STATUS_OK;
}

enum status prompt_user(struct prompt *p, const struct scoring_request *request, struct prompt_ids *out,
			bool *cut, struct error *error)
{
	enum status status;
	uint32_t longest = 0, least, total, room = p->positions_max - p->instruction.count;
	for (size_t i = 0; i < request->candidates_count; i++) {
		struct writer writer = {0};
		bool unused;
		if ((status = write_candidate(p, request, i, UINT32_MAX, &writer, &unused, error)))
			return status;
		longest = writer.count > longest ? writer.count : longest;
	}
	struct filling all = {.request = request, .examples_kept = request->examples_count,
			      .title_ids_max = UINT32_MAX};
	struct filling nothing = {.request = request, .history_skip = SIZE_MAX, .title_ids_max = UINT32_MAX};
	if ((status = count_section(p, SECTION_USER, nothing, &least, error)) ||
	    (status = count_section(p, SECTION_USER, all, &total, error)))
		return status;
	uint32_t suffix_max = room - least;
	uint32_t budget = room - (longest < suffix_max ? longest : suffix_max);
	if (total > budget && (status = cut_user(p, total, budget, &all, error)))
		return status;
	struct writer writer = {.ids = p->user};
	if ((status = write_section(p, SECTION_USER, &all, &writer, error)))
		return status;
	p->user_count = writer.count;
	*out = (struct prompt_ids){p->user, writer.count};
	*cut = total > budget || all.title_cut;
	return STATUS_OK;
}

enum status prompt_candidate(struct prompt *p, const struct scoring_request *request, size_t index,
			     struct prompt_ids *out, bool *cut, struct error *error)
{
	uint32_t room = p->positions_max - p->instruction.count - p->user_count;
	struct writer fixed = {0}, whole = {0};
	bool without_title;
	enum status status = write_candidate(p, request, index, UINT32_MAX, &whole, cut, error);
	if (!status)
		status = write_candidate(p, request, index, 0, &fixed, &without_title, error);
	if (status)
		return status;
	/* A template may show the title more than once; each showing gets an equal share. */
	uint32_t shown = 0, title_max = UINT32_MAX;
	for (uint32_t i = 0; i < p->sections[SECTION_CANDIDATE].count; i++)
		shown += p->sections[SECTION_CANDIDATE].parts[i].placeholder == PLACEHOLDER_TITLE;
	if (whole.count > room && shown)
		title_max = (room - fixed.count) / shown;
	bool shortened;
	struct writer writer = {.ids = p->suffix};
	if ((status = write_candidate(p, request, index, title_max, &writer, &shortened, error)))
		return status;
	*cut |= shortened;
	*out = (struct prompt_ids){p->suffix, writer.count};
	return STATUS_OK;
}

/* ---- creation ---- */

static enum status encode(struct prompt *p, struct tokenizer_scratch *scratch, struct text_view text,
			  int flags, int32_t *ids, uint32_t ids_max, uint32_t *count, struct error *error)
{
	size_t found = 0;
	enum status status =
	    tokenizer_encode(p->tokenizer, scratch, text, flags, ids, ids_max, &found, error);
	if (!status)
		*count = (uint32_t)found;
	return status;
}

static enum status compile(struct prompt *p, const struct template *wording,
			   struct tokenizer_scratch *scratch, int32_t *ids, uint32_t ids_max,
			   struct error *error)
{
	uint32_t used = 0;
	for (int s = 0; s < SECTIONS; s++) {
		const struct template_section *section = &wording->sections[s];
		p->sections[s].count = section->count;
		for (uint32_t i = 0; i < section->count; i++) {
			struct compiled_part *part = &p->sections[s].parts[i];
			const struct template_part *from = &section->parts[i];
			bool begins = s == SECTION_INSTRUCTION && i == 0;
			*part = (struct compiled_part){ids + used, 0, from->placeholder, from->space};
			int32_t bos = tokenizer_bos(p->tokenizer);
			if (begins && tokenizer_adds_bos(p->tokenizer) && bos >= 0) {
				ids[used++] = bos;
				part->count = 1;
			}
			uint32_t count = 0;
			int flags = TOKENIZER_PARSE_SPECIAL | (begins ? 0 : TOKENIZER_CONTINUES);
			enum status status = from->literal.size
						 ? encode(p, scratch, from->literal, flags, ids + used,
							  ids_max - used, &count, error)
						 : STATUS_OK;
			if (status)
				return error_prefix(error, "template %s", wording->name);
			part->count += count;
			used += count;
		}
	}
	const struct compiled_part *first = &p->sections[SECTION_INSTRUCTION].parts[0];
	p->instruction = (struct prompt_ids){first->ids, first->count};
	const struct template_section *unknown = &wording->sections[SECTION_UNKNOWN_TITLE];
	p->unknown_title = unknown->parts[0].literal;
	return STATUS_OK;
}

static enum status find_answers(struct prompt *p, struct text_view yes, struct text_view no,
				struct tokenizer_scratch *scratch, struct error *error)
{
	int32_t ids[512];
	struct text_view words[2] = {yes, no};
	int32_t *out[2] = {&p->yes, &p->no};
	for (int w = 0; w < 2; w++) {
		uint32_t count;
		enum status status =
		    encode(p, scratch, words[w], TOKENIZER_CONTINUES, ids, 512, &count, error);
		if (status)
			return error_prefix(error, "answer word \"%.*s\"", TEXT_ARGS(text_cut(words[w], 64)));
		if (!count)
			return error_set(error, STATUS_CONFIG, "answer word \"%.*s\" has no token",
					 TEXT_ARGS(text_cut(words[w], 64)));
		*out[w] = ids[0];
	}
	if (p->yes == p->no)
		return error_set(error, STATUS_CONFIG,
				 "the answer words \"%.*s\" and \"%.*s\" begin with the same "
				 "token (%d); choose others",
				 TEXT_ARGS(text_cut(yes, 64)), TEXT_ARGS(text_cut(no, 64)), p->yes);
	return STATUS_OK;
}

/* Literals that a prompt cannot do without, and room for its numbers and the least of a title. */
static enum status check_room(const struct prompt *p, struct error *error)
{
	static const int needed[] = {SECTION_INSTRUCTION, SECTION_USER, SECTION_USER_STATISTICS,
				     SECTION_NO_HISTORY, SECTION_CANDIDATE, SECTION_ITEM_STATISTICS,
				     SECTION_ANSWER};
	uint32_t tokens = VALUES_RESERVE, shown = 0, suffix = 0;
	for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
		for (uint32_t j = 0; j < p->sections[needed[i]].count; j++) {
			const struct compiled_part *part = &p->sections[needed[i]].parts[j];
			tokens += part->count;
			shown += part->placeholder == PLACEHOLDER_TITLE;
			if (needed[i] == SECTION_CANDIDATE || needed[i] == SECTION_ANSWER)
				suffix += part->count;
		}
	tokens += (shown ? shown : 1) * PROMPT_TITLE_TOKENS_MIN;
	if (!suffix)
		return error_set(error, STATUS_CONFIG,
				 "the template's [candidate] and [answer] have no text");
	if (tokens > p->positions_max)
		return error_set(error, STATUS_CONFIG,
				 "the template needs %u tokens without any history, the "
				 "context has %u; shorten its [instruction]",
				 tokens, p->positions_max);
	return STATUS_OK;
}

enum status prompt_create(const struct tokenizer *tokenizer, const struct template *wording, const char *yes,
			  const char *no, uint32_t positions_max, struct prompt **out, struct error *error)
{
	static const struct text_cache_limits limits = {1u << 16, 16u << 20, 8u << 20};
	enum status status = STATUS_NO_MEMORY;
	size_t ids_max = tokenizer_ids_max(tokenizer, strlen(wording->text)) + SECTIONS * TEMPLATE_PARTS_MAX;
	struct tokenizer_scratch *scratch = tokenizer_scratch_create(tokenizer);
	struct prompt *p = mem_alloc_zero(1, sizeof *p);
	if (p) {
		p->tokenizer = tokenizer;
		p->positions_max = positions_max;
		p->literals = mem_alloc_array(ids_max, sizeof *p->literals);
		p->user = mem_alloc_array(positions_max, sizeof *p->user);
		p->suffix = mem_alloc_array(positions_max, sizeof *p->suffix);
	}
	if (!scratch || !p || !p->literals || !p->user || !p->suffix) {
		error_set(error, STATUS_NO_MEMORY, "no memory for prompts of %u tokens", positions_max);
		goto cleanup;
	}
	struct text_view word_yes = yes ? text_of(yes) : wording->sections[SECTION_YES].parts[0].literal;
	struct text_view word_no = no ? text_of(no) : wording->sections[SECTION_NO].parts[0].literal;
	if ((status = text_cache_create(tokenizer, &limits, &p->cache, error)) ||
	    (status = compile(p, wording, scratch, p->literals, (uint32_t)ids_max, error)) ||
	    (status = find_answers(p, word_yes, word_no, scratch, error)) ||
	    (status = check_room(p, error)))
		goto cleanup;
	tokenizer_scratch_destroy(scratch);
	*out = p;
	return STATUS_OK;
cleanup:
	tokenizer_scratch_destroy(scratch);
	prompt_destroy(p);
	return status;
}

void prompt_destroy(struct prompt *p)
{
	if (!p)
		return;
	text_cache_destroy(p->cache);
	mem_free(p->literals);
	mem_free(p->user);
	mem_free(p->suffix);
	mem_free(p);
}

struct prompt_ids prompt_instruction(const struct prompt *p)
{
	return p->instruction;
}

void prompt_answers(const struct prompt *p, int32_t *yes, int32_t *no)
{
	*yes = p->yes;
	*no = p->no;
}

void prompt_counts(const struct prompt *p, uint64_t *cache_hits, uint64_t *cache_misses)
{
	text_cache_counts(p->cache, cache_hits, cache_misses);
}

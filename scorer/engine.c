/* engine.c - scoring requests into packed batches, outcomes back into scores.
 *
 * Idea: a request's user part is a prefix, its candidates are suffixes; they are packed one after the
 * other, and whenever the next one does not fit, the batch runs. A request cut between two batches takes
 * its prefix along and loses nothing but the time to compute it again.
 * Invariant: a batch holds suffixes of requests [.., at hand], each tagged with (request, candidate).
 * Caller: scorer.c. */
#include "scorer/engine.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "scorer/cuda_backend.h"
#include "scorer/prompt.h"

#include <unistd.h>

struct engine {
	struct bundle *bundle;
	struct prompt *prompt;
	const struct backend_table *table;
	struct backend *backend;
	struct batch *batch;            /* being filled: one of the two */
	struct batch *batches[2];       /* the other may be in the backend's hands; NULL where no backend takes it */
	struct forward *forward;
	float *vectors;                 /* [2, C]: final norm; w_yes - w_no */
	struct exit_head *heads;        /* [exits] */
	uint32_t exits;
	double *before[2];              /* [segments_max, exits] of each batch's suffixes; trained heads only */
	uint32_t batch_tokens_max;
	bool deadlines;
	struct scorer_stats stats;      /* those the forward pass does not keep */
	engine_trace *trace;
	void *trace_context;
	/* the call at hand */
	struct candidate_score *const *scores;
	enum prediction_status *statuses;
};

/* ---- creation ---- */

enum status engine_open_backend(const struct scorer_options *options, const struct model *model,
				struct backend_options *backend_options, const struct backend_table **table,
				struct backend **out, struct error *error)
{
	const char *name = options->backend ? options->backend : "auto";
	const char *precision = options->precision ? options->precision : "auto";
	struct error why_not = {0};
	if (strcmp(name, "auto") == 0) {
		backend_options->precision = precision;
		bool gpu = cuda_is_better(model_get_config(model), backend_options, &why_not);
		*table = gpu ? &backend_cuda : &backend_cpu;
		/* That there is none is no news; that one is there and not used is. */
		if (!gpu)
			log_event(why_not.status == STATUS_UNAVAILABLE ? LOG_DEBUG : LOG_INFO, "backend.cpu",
				  "why_no_gpu=\"%.400s\"", why_not.text);
	} else if (strcmp(name, "cpu") == 0)
		*table = &backend_cpu;
	else if (strcmp(name, "cuda") == 0)
		*table = &backend_cuda;
	else if (strcmp(name, "reference") == 0)
		*table = &backend_reference;
	else
		return error_set(error, STATUS_CONFIG,
				 "scorer.backend \"%.64s\": want auto, cuda, cpu, reference or stub", name);
	bool fp16 = strcmp(precision, "fp16") == 0;
	if (!fp16 && strcmp(precision, "auto") && strcmp(precision, "fp32") && strcmp(precision, "bf16"))
		return error_set(error, STATUS_CONFIG, "scorer.precision \"%.64s\": want auto, fp32, bf16 or fp16",
				 precision);
	if (fp16 && *table != &backend_cuda)
		return error_set(error, STATUS_UNSUPPORTED, "scorer.precision fp16 is a GPU's%s%.300s",
				 why_not.status ? ": " : "; the cpu backend has fp32 and bf16", why_not.text);
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	backend_options->precision = precision;
	backend_options->loading = options->loading;
	backend_options->threads = options->threads ? (uint32_t)options->threads
				   : cores > 0	    ? (uint32_t)cores
						    : 1;
	struct model_view view = model_view_of(model);
	return (*table)->create(&view, backend_options, out, error);
}

/* Exits that were not trained read the answer words as the model itself would. */
static enum status untrained_heads(struct engine *e, struct error *error)
{
	const struct model *model = e->bundle->model;
	uint32_t width = model_get_config(model)->hidden_size;
	int32_t yes, no;
	enum status status;
	prompt_answers(e->prompt, &yes, &no);
	e->vectors = mem_alloc_array(3, width * sizeof *e->vectors);
	if (!e->vectors)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the exit heads");
	float *norm = e->vectors, *difference = norm + width, *row = difference + width;
	if ((status = model_read(model, MODEL_FINAL_NORM, 0, 0, width, norm, error)) ||
	    (status = model_read(model, MODEL_HEAD, 0, (uint32_t)yes, 1, difference, error)) ||
	    (status = model_read(model, MODEL_HEAD, 0, (uint32_t)no, 1, row, error)))
		return status;
	for (uint32_t i = 0; i < width; i++)
		difference[i] -= row[i];
	for (uint32_t i = 0; i < e->exits; i++)
		e->heads[i] = (struct exit_head){{norm, difference, 1}, 1, 0};
	return STATUS_OK;
}

static enum status make_heads(struct engine *e, struct error *error)
{
	const struct bundle *bundle = e->bundle;
	e->exits = bundle->policy.rule == EXIT_NONE ? 1 : bundle->policy.layers_count;
	e->heads = mem_alloc_zero(e->exits, sizeof *e->heads);
	if (!e->heads)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the exit heads");
	if (!bundle_is_trained(bundle))
		return untrained_heads(e, error);
	for (int i = 0; i < 2 && e->batches[i]; i++) {
		e->before[i] = mem_alloc_array(e->batch->segments_max, e->exits * sizeof *e->before[i]);
		if (!e->before[i])
			return error_set(error, STATUS_NO_MEMORY, "no memory for what %u exits know before", e->exits);
		e->batches[i]->before = e->before[i];
	}
	for (uint32_t i = 0; i < e->exits; i++) {
		const struct exit_head_weights *head = exit_heads_at(bundle->heads, bundle->policy.layers[i]);
		e->heads[i] = (struct exit_head){{head->norm, head->vector, 1}, head->platt_a, head->platt_b};
	}
	return STATUS_OK;
}

enum status engine_create(const struct scorer_options *options, struct engine **out, struct error *error)
{
	struct engine *e = mem_alloc_zero(1, sizeof *e);
	if (!e)
		return error_set(error, STATUS_NO_MEMORY, "no memory for the engine");
	enum status status;
	if ((status = bundle_open(options, &e->bundle, error)) ||
	    (status = prompt_create(e->bundle->tokenizer, e->bundle->wording, e->bundle->yes, e->bundle->no,
				    e->bundle->context, &e->prompt, error)))
		goto cleanup;
	const struct model_config *config = model_get_config(e->bundle->model);
	struct prompt_ids instruction = prompt_instruction(e->prompt);
	size_t wanted = options->batch_tokens_max ? options->batch_tokens_max : 2048;
	if (wanted > 1 << 20) {
		status = error_set(error, STATUS_CONFIG, "scorer.batch_tokens_max %zu: at most %d", wanted,
				   1 << 20);
		goto cleanup;
	}
	e->batch_tokens_max = (uint32_t)wanted;
	e->deadlines = options->deadlines;
	uint32_t rows_max =
	    e->batch_tokens_max > e->bundle->context ? e->batch_tokens_max : e->bundle->context;
	if ((status = batch_create(rows_max, &e->batches[0], error)))
		goto cleanup;
	e->batch = e->batches[0];
	struct backend_options backend_options = {
		.layers = exit_policy_depth(&e->bundle->policy, config->layers),
		.rows_max = rows_max,
		.slots_max = e->batch->slots_max,
		.positions_max = e->bundle->context,
		.instruction_max = instruction.count,
	};
	if ((status = engine_open_backend(options, e->bundle->model, &backend_options, &e->table, &e->backend,
					  error)) ||
	    (e->table->pass_start && (status = batch_create(rows_max, &e->batches[1], error))) ||
	    (status = make_heads(e, error)))
		goto cleanup;
	struct forward_options forward_options = {
		.table = e->table, .backend = e->backend, .policy = e->bundle->policy,
		.model_layers = config->layers, .heads = e->heads, .rows_max = rows_max,
		.segments_max = e->batch->segments_max, .stopping = options->stopping,
	};
	if ((status = forward_create(&forward_options, &e->forward, error)) ||
	    (status =
		 forward_keep_instruction(e->forward, e->batch, instruction.ids, instruction.count, error)))
		goto cleanup;
	if (e->batches[1])
		batch_clear(e->batches[1], instruction.count);
	*out = e;
	return STATUS_OK;
cleanup:
	engine_destroy(e);
	return status;
}

void engine_destroy(struct engine *e)
{
	if (!e)
		return;
	forward_destroy(e->forward);
	if (e->table)
		e->table->destroy(e->backend);
	batch_destroy(e->batches[0]);
	batch_destroy(e->batches[1]);
	prompt_destroy(e->prompt);
	bundle_close(e->bundle);
	mem_free(e->vectors);
	mem_free(e->heads);
	mem_free(e->before[0]);
	mem_free(e->before[1]);
	mem_free(e);
}

void engine_set_trace(struct engine *e, engine_trace *trace, void *context)
{
	e->trace = trace;
	e->trace_context = context;
}

/* ---- scoring ---- */

static uint64_t tag_of(size_t request, size_t candidate)
{
	return (uint64_t)request << 32 | candidate;
}

static void raise_status(enum prediction_status *status, enum prediction_status to)
{
	if (*status < to)
		*status = to;
}

static void take(void *context, uint64_t tag, const struct exit_outcome *outcome)
{
	struct engine *e = context;
	struct candidate_score *score = &e->scores[tag >> 32][tag & UINT32_MAX];
	score->p_click = outcome->p_click;
	score->exit_layer = (int32_t)outcome->layer;
	score->has_margin = outcome->has_margin;
	score->margin = outcome->has_margin ? outcome->margin : 0;
	if (outcome->deadline)
		raise_status(&e->statuses[tag >> 32], PREDICTION_DEADLINE);
}

static void pass_trace(void *context, uint64_t tag, uint32_t layer, float p,
		       const struct exit_decision *decision)
{
	struct engine *e = context;
	e->trace(e->trace_context, tag >> 32, tag & UINT32_MAX, layer, p, decision);
}

static enum status run_batch(struct engine *e, struct error *error)
{
	if (!e->batch->suffixes)
		return STATUS_OK;
	struct forward_sink sink = {.context = e, .leave = take, .trace = e->trace ? pass_trace : NULL};
	e->stats.batches++;
	e->stats.prompt_tokens += e->batch->rows;
	int64_t begin_ns = clock_steady_ns();
	enum status status = forward_submit(e->forward, e->batch, &sink, error);
	if (e->batches[1])
		e->batch = e->batches[e->batch == e->batches[0]];
	e->stats.forward_ns += (uint64_t)(clock_steady_ns() - begin_ns);
	return status;
}

static int64_t deadline_of(const struct engine *e, const struct scoring_request *request)
{
	int64_t deadline_ms;
	if (!e->deadlines || !request->has_deadline ||
	    __builtin_add_overflow(request->event_time_ms, request->deadline_ms, &deadline_ms))
		return INT64_MAX;
	return deadline_ms;
}

static bool fits(const struct engine *e, uint32_t prefix, uint32_t suffix)
{
	if (!batch_has_room(e->batch, prefix, suffix))
		return false;
	return !e->batch->suffixes || (uint64_t)e->batch->rows + prefix + suffix <= e->batch_tokens_max;
}

/* What the heads know of the suffix that comes in next, before the model has thought. */
static void read_statistics(struct engine *e, const struct scoring_request *request, size_t index)
{
	const struct exit_heads *heads = e->bundle->heads;
	float features[FEATURES_COUNT_MAX];
	double standardised[EXIT_HEADS_INPUTS_MAX];
	if (!e->batch->before)
		return;
	features_fill(request, index, features, heads->features_count);
	exit_heads_standardise(heads, features, standardised);
	double *before = e->before[e->batch == e->batches[1]] + (size_t)e->batch->suffixes * e->exits;
	double statistics = exit_heads_statistics(heads, standardised);
	for (uint32_t i = 0; i < e->exits; i++)
		before[i] = exit_heads_at(heads, e->bundle->policy.layers[i])->intercept + statistics;
}

static enum status score_request(struct engine *e, const struct scoring_request *request, size_t index,
				 struct error *error)
{
	struct prompt_ids user, suffix;
	bool cut, in_batch = false;
	int64_t begin_ns = clock_steady_ns();
	enum status status = prompt_user(e->prompt, request, &user, &cut, error);
	bool truncated = cut;
	for (size_t c = 0; !status && c < request->candidates_count; c++) {
		status = prompt_candidate(e->prompt, request, c, &suffix, &cut, error);
		if (status)
			break;
		truncated |= cut;
		if (!fits(e, in_batch ? 0 : user.count, suffix.count)) {
			e->stats.prompt_ns += (uint64_t)(clock_steady_ns() - begin_ns);
			if ((status = run_batch(e, error)))
				break;
			in_batch = false;
			begin_ns = clock_steady_ns();
		}
		if (!in_batch)
			batch_add_prefix(e->batch, user.ids, user.count);
		in_batch = true;
		read_statistics(e, request, c);
		batch_add_suffix(e->batch, suffix.ids, suffix.count, tag_of(index, c),
				 deadline_of(e, request));
	}
	e->stats.prompt_ns += (uint64_t)(clock_steady_ns() - begin_ns);
	if (truncated) {
		e->stats.truncated++;
		raise_status(&e->statuses[index], PREDICTION_TRUNCATED);
	}
	return status;
}

enum status engine_score(struct engine *e, const struct scoring_request *const *requests, size_t count,
			 struct candidate_score *const *scores, enum prediction_status *statuses,
			 struct error *error)
{
	enum status status = STATUS_OK;
	e->scores = scores;
	e->statuses = statuses;
	for (size_t i = 0; !status && i < count; i++)
		status = score_request(e, requests[i], i, error);
	if (!status)
		status = run_batch(e, error);
	int64_t begin_ns = clock_steady_ns();
	enum status last = forward_flush(e->forward, status ? NULL : error);
	e->stats.forward_ns += (uint64_t)(clock_steady_ns() - begin_ns);
	for (int i = 0; i < 2 && e->batches[i]; i++)
		batch_clear(e->batches[i], prompt_instruction(e->prompt).count);
	return status ? status : last;
}

/* ---- looking inside ---- */

enum status engine_prompt(struct engine *e, const struct scoring_request *request, size_t candidate,
			  int32_t *ids, size_t ids_max, size_t *count, struct error *error)
{
	struct prompt_ids parts[3] = {prompt_instruction(e->prompt)};
	size_t used = 0;
	bool cut;
	enum status status = prompt_user(e->prompt, request, &parts[1], &cut, error);
	if (!status)
		status = prompt_candidate(e->prompt, request, candidate, &parts[2], &cut, error);
	for (int i = 0; !status && i < 3; i++) {
		if (parts[i].count > ids_max - used)
			return error_set(error, STATUS_LIMIT, "a prompt of more than %zu tokens", ids_max);
		memcpy(ids + used, parts[i].ids, parts[i].count * sizeof *ids);
		used += parts[i].count;
	}
	if (!status)
		*count = used;
	return status;
}

const struct bundle *engine_bundle(const struct engine *e)
{
	return e->bundle;
}

const char *engine_describe(const struct engine *e)
{
	return e->table->describe(e->backend);
}

void engine_add_stats(const struct engine *e, struct scorer_stats *out)
{
	struct forward_stats forward;
	forward_get_stats(e->forward, &forward);
	out->batches = e->stats.batches;
	out->prompt_tokens = e->stats.prompt_tokens;
	out->truncated = e->stats.truncated;
	out->prompt_ns = e->stats.prompt_ns;
	out->forward_ns = e->stats.forward_ns;
	out->deadline_exits = forward.deadline_exits;
	out->layer_tokens_run = forward.layer_tokens_run;
	out->layer_tokens_full = forward.layer_tokens_full;
	for (int layer = 0; layer <= SCORER_LAYERS_MAX; layer++)
		out->exits_at[layer] = forward.exits_at[layer];
	out->layer_token_flops = backend_layer_flops(model_get_config(e->bundle->model));
	if (e->table->product_flops)
		out->product_flops = e->table->product_flops(e->backend);
	prompt_counts(e->prompt, &out->token_cache_hits, &out->token_cache_misses);
}

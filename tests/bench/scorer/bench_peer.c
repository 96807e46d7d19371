/* bench_peer - prompts that another program is given as well: each alone, then grouped behind what they share.
 *
 *     bench_peer PROMPTS.jsonl MODEL [precision [threads]]
 *
 * A line of the file is a JSON array of token ids. Prints one JSON object. Scored to the last layer; the two
 * ways must give the same bits. Called by ops/experiments/llama_cpp_peer.py. */
#include "tests/bench/scorer/rig.h"

#include "scorer/model.h"

#include <jansson.h>
#include <string.h>

enum { PROMPTS_MAX = 512, TOKENS_MAX = 4096, ROWS = 8192, GROUP = 4 };

static int32_t ids[PROMPTS_MAX][TOKENS_MAX];
static uint32_t counts[PROMPTS_MAX], prompts;
static float alone[PROMPTS_MAX], shared[PROMPTS_MAX];

static void read_prompts(const struct rig *rig, const char *path)
{
	FILE *file = fopen(path, "re");
	json_t *line;
	if (!file)
		rig_fail(rig, "cannot open the prompts");
	while (prompts < PROMPTS_MAX && (line = json_loadf(file, JSON_DISABLE_EOF_CHECK, NULL))) {
		if (json_array_size(line) < 2 || json_array_size(line) > TOKENS_MAX)
			rig_fail(rig, "a prompt has fewer than 2 or too many tokens");
		counts[prompts] = (uint32_t)json_array_size(line);
		for (uint32_t i = 0; i < counts[prompts]; i++)
			ids[prompts][i] = (int32_t)json_integer_value(json_array_get(line, i));
		prompts++;
		json_decref(line);
	}
	fclose(file);
	if (!prompts)
		rig_fail(rig, "no prompts");
}

/* What prompts [first, first + count) begin with alike, at most all but one token of the shortest. */
static uint32_t common(uint32_t first, uint32_t count)
{
	uint32_t length = counts[first] - 1;
	for (uint32_t p = first + 1; p < first + count; p++) {
		uint32_t same = 0, most = length < counts[p] - 1 ? length : counts[p] - 1;
		while (same < most && ids[p][same] == ids[first][same])
			same++;
		length = same;
	}
	return length;
}

static void run_alone(struct rig *rig)
{
	for (uint32_t p = 0; p < prompts; p++) {
		batch_add_prefix(rig->batch, NULL, 0);
		batch_add_suffix(rig->batch, ids[p], counts[p], p, INT64_MAX);
		rig_run(rig, alone);
	}
}

/* Every GROUP prompts are one impression's candidates. */
static void run_shared(struct rig *rig)
{
	for (uint32_t first = 0; first < prompts; first += GROUP) {
		uint32_t count = prompts - first < GROUP ? prompts - first : GROUP, prefix = common(first, count);
		batch_add_prefix(rig->batch, ids[first], prefix);
		for (uint32_t p = first; p < first + count; p++)
			batch_add_suffix(rig->batch, ids[p] + prefix, counts[p] - prefix, p, INT64_MAX);
		rig_run(rig, shared);
	}
}

int main(int argc, char **argv)
{
	struct rig rig = {.name = "bench_peer"};
	struct model *model;
	struct error error = {0};
	if (argc < 3)
		rig_fail(&rig, "usage: bench_peer PROMPTS.jsonl MODEL [precision [threads]]");
	read_prompts(&rig, argv[1]);
	if (model_open(argv[2], NULL, &model, &error))
		rig_fail(&rig, error.text);
	struct model_view view = model_view_of(model);
	uint32_t width = view.config.hidden_size;
	float *head = malloc(2 * width * sizeof *head);
	if (!head || view.read(view.context, MODEL_FINAL_NORM, 0, 0, width, head, &error) ||
	    view.read(view.context, MODEL_HEAD, 0, 0, 1, head + width, &error))
		rig_fail(&rig, "no final norm or head");
	rig.norm = head, rig.vector = head + width;
	rig_open(&rig, &view, ROWS, TOKENS_MAX, argc > 4 ? (uint32_t)atoi(argv[4]) : 2,
		 argc > 3 ? argv[3] : "auto");
	rig_leave_at(&rig, rig.layers);

	double tokens = 0, wall = 1e9, cpu = 0, shared_cpu = 1e9;
	for (uint32_t p = 0; p < prompts; p++)
		tokens += counts[p];
	for (int round = 0; round < 2; round++) {
		double wall_begin = wall_seconds(), cpu_begin = process_seconds();
		run_alone(&rig);
		double took = wall_seconds() - wall_begin;
		if (took < wall)
			wall = took, cpu = process_seconds() - cpu_begin;
		cpu_begin = process_seconds();
		run_shared(&rig);
		took = process_seconds() - cpu_begin;
		shared_cpu = took < shared_cpu ? took : shared_cpu;
	}
	if (memcmp(alone, shared, prompts * sizeof alone[0]))
		rig_fail(&rig, "a shared prefix changed the bits of a prompt");
	printf("{\"backend\":\"%s\",\"prompts\":%u,\"tokens\":%.0f,\"tokens_per_second\":%.1f,"
	       "\"tokens_per_cpu_second\":%.1f,\"shared_cpu_seconds\":%.4f}\n",
	       backend_cpu.describe(rig.backend), prompts, tokens, tokens / wall, tokens / cpu, shared_cpu);
	rig_close(&rig);
	free(head);
	model_close(model);
	return 0;
}

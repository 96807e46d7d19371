/* cmd_bench.c - `exitpoll bench`: every benchmark that needs no broker, one table that names the CPU. */
#include "ops/cli/bench.h"
#include "ops/cli/cli.h"

#include "base/clock.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RUNS_MAX = 32 };

struct bench_report {
	bool json;
	size_t rows;
};

struct arguments {
	const char *model, *only;
	bool json;
};

enum option_key { KEY_MODEL = 0x100, KEY_ONLY, KEY_JSON };

static const struct argp_option options[] = {
	{"model", KEY_MODEL, "PATH", 0, "also the scorer's benchmarks, with this model", 0},
	{"only", KEY_ONLY, "GROUP", 0, "codec, stream or scorer", 0},
	{"json", KEY_JSON, NULL, 0, "rows as JSON", 0},
	{0},
};

static const char description[] =
	"The benchmarks that need no broker, as one table. Each verifies its result before it is timed;\n"
	"machines differ and are noisy, so the table names the processor.\v"
	"Examples:\n"
	"  exitpoll bench\n"
	"  exitpoll bench --only scorer --model SmolLM2-135M-Instruct.Q4_1.gguf\n";

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	struct arguments *arguments = state->input;

	switch (key) {
	case KEY_MODEL: arguments->model = argument; break;
	case KEY_ONLY:
		if (strcmp(argument, "codec") && strcmp(argument, "stream") && strcmp(argument, "scorer"))
			argp_error(state, "--only '%s': codec, stream or scorer is needed", argument);
		arguments->only = argument;
		break;
	case KEY_JSON: arguments->json = true; break;
	case ARGP_KEY_ARG: argp_error(state, "unexpected argument '%s'", argument); break;
	case ARGP_KEY_END:
		if (arguments->only && !strcmp(arguments->only, "scorer") && !arguments->model)
			argp_error(state, "--only scorer needs --model");
		break;
	default: return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static int by_value(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return (left > right) - (left < right);
}

double bench_median_seconds(int runs, void (*work)(void *context), void *context)
{
	double seconds[RUNS_MAX];

	if (runs > RUNS_MAX)
		runs = RUNS_MAX;
	for (int run = 0; run < runs; run++) {
		int64_t began_ns = clock_steady_ns();
		work(context);
		seconds[run] = (double)(clock_steady_ns() - began_ns) / 1e9;
	}
	qsort(seconds, (size_t)runs, sizeof *seconds, by_value);
	return seconds[runs / 2];
}

void bench_row(struct bench_report *report, const char *group, const char *what, double value,
	       const char *unit, double target)
{
	if (report->json) {
		printf("%s{\"group\":\"%s\",\"what\":\"%s\",\"value\":%.6g,\"unit\":\"%s\"", report->rows ? "," : "",
		       group, what, value, unit);
		if (target > 0)
			printf(",\"target\":%g", target);
		putchar('}');
	} else {
		printf("%-8s %-66s %12.4g %-14s", group, what, value, unit);
		if (target > 0)
			printf(" target %g", target);
		putchar('\n');
	}
	fflush(stdout);
	report->rows++;
}

static void processor_name(char *out, size_t size)
{
	char line[256];
	FILE *file = fopen("/proc/cpuinfo", "re");

	snprintf(out, size, "unknown processor");
	while (file && fgets(line, sizeof line, file))
		if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
			snprintf(out, size, "%s", strchr(line, ':') + 2);
			out[strcspn(out, "\n")] = '\0';
			break;
		}
	if (file)
		fclose(file);
}

static const char *vector_width(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx512bf16")    ? "AVX-512 with BF16"
	       : __builtin_cpu_supports("avx512vnni") ? "AVX-512 with VNNI"
	       : __builtin_cpu_supports("avx512f")    ? "AVX-512"
	       : __builtin_cpu_supports("avx2")	      ? "AVX2"
						      : "no AVX2";
}

static bool wanted(const struct arguments *arguments, const char *group)
{
	return !arguments->only || strcmp(arguments->only, group) == 0;
}

int cmd_bench(int argc, char **argv)
{
	static const struct argp parser = {.options = options, .parser = parse_option, .doc = description};
	struct arguments arguments = {0};
	struct bench_report report = {0};
	struct error error = {0};
	char processor[256];
	enum status status = STATUS_OK;

	argp_err_exit_status = status_exit_code(STATUS_USAGE);
	argp_parse(&parser, argc, argv, 0, NULL, &arguments);
	report.json = arguments.json;
	processor_name(processor, sizeof processor);
	if (report.json)
		printf("{\"version\":\"%s\",\"processor\":\"%s, %s\",\"processors\":%ld,\"rows\":[", EXITPOLL_VERSION,
		       processor, vector_width(), sysconf(_SC_NPROCESSORS_ONLN));
	else
		printf("exitpoll %s on %s, %s, %ld processors\n", EXITPOLL_VERSION, processor, vector_width(),
		       sysconf(_SC_NPROCESSORS_ONLN));
#if EXITPOLL_KAFKA
	if (wanted(&arguments, "codec"))
		status = bench_codec(&report, &error);
	if (status == STATUS_OK && wanted(&arguments, "stream"))
		status = bench_stream(&report, &error);
#endif
	if (status == STATUS_OK && wanted(&arguments, "scorer"))
		status = bench_scorer(&report, arguments.model, &error);
	if (report.json)
		puts("]}");
	return status == STATUS_OK ? 0 : cli_fail(&error);
}

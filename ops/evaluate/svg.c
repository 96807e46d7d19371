/* svg.c - see svg.h. Called by report_plots.c. */
#include "ops/evaluate/svg.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { WIDTH = 720, HEIGHT = 480, LEFT = 72, RIGHT = 24, TOP = 48, BOTTOM = 60, PATH_BYTES = 4096 };

static const char *const colours[SVG_COLOURS] = {"#1f5fa8", "#d1661b", "#2d8a4b", "#9b3a8c", "#6b6b6b", "#b59a00"};

struct svg {
	FILE *file;
	char path[PATH_BYTES], part[PATH_BYTES + 8];
	struct svg_axes axes;
	int legends;
};

static double place_x(const struct svg *svg, double x)
{
	return LEFT + (x - svg->axes.x_low) / (svg->axes.x_high - svg->axes.x_low) * (WIDTH - LEFT - RIGHT);
}

static double place_y(const struct svg *svg, double y)
{
	return HEIGHT - BOTTOM - (y - svg->axes.y_low) / (svg->axes.y_high - svg->axes.y_low) * (HEIGHT - TOP - BOTTOM);
}

static void escaped(FILE *file, const char *text)
{
	for (; *text; text++) {
		if (*text == '<')
			fputs("&lt;", file);
		else if (*text == '&')
			fputs("&amp;", file);
		else
			putc(*text, file);
	}
}

static void text_at(struct svg *svg, double x, double y, const char *style, const char *text)
{
	fprintf(svg->file, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, style);
	escaped(svg->file, text);
	fputs("</text>\n", svg->file);
}

/* 1, 2 or 5 times a power of ten, so that about five ticks fit. */
static double tick_step(double span)
{
	double power = pow(10, floor(log10(span / 5))), ratio = span / 5 / power;

	return power * (ratio < 1.5 ? 1 : ratio < 3.5 ? 2 : ratio < 7.5 ? 5 : 10);
}

static void draw_ticks(struct svg *svg, bool horizontal)
{
	double low = horizontal ? svg->axes.x_low : svg->axes.y_low;
	double high = horizontal ? svg->axes.x_high : svg->axes.y_high;
	double step = tick_step(high - low);
	char label[32];

	for (double at = ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) {
		snprintf(label, sizeof label, "%.6g", fabs(at) < step * 1e-6 ? 0 : at);
		if (horizontal) {
			fprintf(svg->file, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"#e4e4e4\"/>\n",
				place_x(svg, at), place_x(svg, at), TOP, HEIGHT - BOTTOM);
			text_at(svg, place_x(svg, at), HEIGHT - BOTTOM + 18, "text-anchor=\"middle\" font-size=\"12\"", label);
		} else {
			fprintf(svg->file, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#e4e4e4\"/>\n",
				LEFT, WIDTH - RIGHT, place_y(svg, at), place_y(svg, at));
			text_at(svg, LEFT - 8, place_y(svg, at) + 4, "text-anchor=\"end\" font-size=\"12\"", label);
		}
	}
}

static void draw_frame(struct svg *svg)
{
	char style[96];

	fprintf(svg->file, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" fill=\"#222\" "
			   "font-family=\"sans-serif\">\n", WIDTH, HEIGHT);
	fprintf(svg->file, "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", WIDTH, HEIGHT);
	draw_ticks(svg, true);
	draw_ticks(svg, false);
	fprintf(svg->file, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#222\"/>\n",
		LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
	text_at(svg, WIDTH / 2.0, 28, "text-anchor=\"middle\" font-size=\"17\"", svg->axes.title);
	text_at(svg, (WIDTH + LEFT - RIGHT) / 2.0, HEIGHT - 16, "text-anchor=\"middle\" font-size=\"14\"",
		svg->axes.x_label);
	snprintf(style, sizeof style, "text-anchor=\"middle\" font-size=\"14\" transform=\"rotate(-90 20 %d)\"",
		 (HEIGHT + TOP - BOTTOM) / 2);
	text_at(svg, 20, (HEIGHT + TOP - BOTTOM) / 2.0, style, svg->axes.y_label);
	fprintf(svg->file, "<clipPath id=\"inside\"><rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/></clipPath>\n",
		LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
}

enum status svg_create(const char *path, const struct svg_axes *axes, struct svg **out, struct error *error)
{
	struct svg *svg = mem_alloc_zero(1, sizeof *svg);

	if (!svg)
		return error_set(error, STATUS_NO_MEMORY, "no memory for a chart");
	svg->axes = *axes;
	if (snprintf(svg->path, sizeof svg->path, "%s", path) >= (int)sizeof svg->path) {
		mem_free(svg);
		return error_set(error, STATUS_USAGE, "the path of a chart is longer than %d bytes", PATH_BYTES - 1);
	}
	snprintf(svg->part, sizeof svg->part, "%s.part", svg->path);
	svg->file = fopen(svg->part, "w");
	if (!svg->file) {
		enum status status = error_set(error, STATUS_CANNOT_CREATE, "%s: %m", svg->part);
		mem_free(svg);
		return status;
	}
	draw_frame(svg);
	*out = svg;
	return STATUS_OK;
}

void svg_line(struct svg *svg, const double *x, const double *y, size_t count, int colour)
{
	fprintf(svg->file, "<polyline clip-path=\"url(#inside)\" fill=\"none\" stroke=\"%s\" %s points=\"",
		colour < 0 ? "#999" : colours[colour % SVG_COLOURS],
		colour < 0 ? "stroke-dasharray=\"5 4\"" : "stroke-width=\"2\"");
	for (size_t i = 0; i < count; i++)
		fprintf(svg->file, "%.2f,%.2f ", place_x(svg, x[i]), place_y(svg, y[i]));
	fputs("\"/>\n", svg->file);
}

void svg_point(struct svg *svg, double x, double y, double radius, int colour)
{
	fprintf(svg->file, "<circle clip-path=\"url(#inside)\" cx=\"%.2f\" cy=\"%.2f\" r=\"%.1f\" fill=\"%s\"/>\n",
		place_x(svg, x), place_y(svg, y), radius, colours[colour % SVG_COLOURS]);
}

void svg_bar(struct svg *svg, double x_low, double x_high, double y, int colour)
{
	double top = place_y(svg, y), bottom = place_y(svg, svg->axes.y_low > 0 ? svg->axes.y_low : 0);

	fprintf(svg->file, "<rect clip-path=\"url(#inside)\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" "
			   "fill=\"%s\" fill-opacity=\".25\"/>\n", place_x(svg, x_low), fmin(top, bottom),
		place_x(svg, x_high) - place_x(svg, x_low), fabs(bottom - top), colours[colour % SVG_COLOURS]);
}

void svg_legend(struct svg *svg, const char *text, int colour)
{
	double y = TOP + 20 + 20 * svg->legends++;

	fprintf(svg->file, "<rect x=\"%d\" y=\"%.1f\" width=\"14\" height=\"4\" fill=\"%s\"/>\n", LEFT + 14, y - 6,
		colours[colour % SVG_COLOURS]);
	text_at(svg, LEFT + 36, y, "font-size=\"13\"", text);
}

void svg_text(struct svg *svg, double x, double y, const char *text)
{
	text_at(svg, place_x(svg, x) + 9, place_y(svg, y) + 4, "font-size=\"12\"", text);
}

enum status svg_close(struct svg **svg, struct error *error)
{
	struct svg *one = *svg;
	enum status status = STATUS_OK;

	*svg = NULL;
	fputs("</svg>\n", one->file);
	if (ferror(one->file) | fclose(one->file) || rename(one->part, one->path)) {
		status = error_set(error, STATUS_CANNOT_CREATE, "%s: %m", one->path);
		unlink(one->part);
	}
	mem_free(one);
	return status;
}

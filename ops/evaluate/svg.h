/* svg.h - one chart as an SVG file: axes with round ticks, lines, points, bars, a legend.
 *
 * Written to "<path>.part" and renamed at close. One thread. */
#ifndef EXITPOLL_OPS_EVALUATE_SVG_H
#define EXITPOLL_OPS_EVALUATE_SVG_H

#include "base/status.h"

#include <stddef.h>

struct svg_axes {
	const char *title, *x_label, *y_label;
	double x_low, x_high, y_low, y_high;    /* low < high */
};

enum { SVG_COLOURS = 6 };

struct svg;
enum status svg_create(const char *path, const struct svg_axes *axes, struct svg **out, struct error *error);
/* What is outside the axes is cut off. colour 0 .. SVG_COLOURS - 1, or negative: a thin grey dashed line. */
void svg_line(struct svg *svg, const double *x, const double *y, size_t count, int colour);
void svg_point(struct svg *svg, double x, double y, double radius, int colour);
void svg_bar(struct svg *svg, double x_low, double x_high, double y, int colour);
/* An entry of the legend, from the top. */
void svg_legend(struct svg *svg, const char *text, int colour);
/* A text beside a point. */
void svg_text(struct svg *svg, double x, double y, const char *text);
/* The file appears; svg is gone, whatever the result. STATUS_CANNOT_CREATE. */
enum status svg_close(struct svg **svg, struct error *error);

#endif

#!/usr/bin/env python3
"""Charts of what `exitpoll fit-heads` reports, as SVG, without a library.

    ops/experiments/plot_report.py BUNDLE/report.json FOLDER

auc_by_layer.svg: how well each exit ranks the test part, beside the statistics and popularity alone; risk.svg: what
each threshold of the tested sequence costs, over the layers that it saves, and the bound; reliability.svg: what was
predicted at the last exit against what happened, before and after calibration."""
import html
import json
import math
import pathlib
import sys

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 400, 80, 60, 50, 20
COLOURS = ("#1f5fa8", "#c04a1b", "#3d7a34", "#7a4a9c")


def ticks(low, high):
    """Four to ten round numbers of the range."""
    power = 10 ** math.floor(math.log10((high - low) / 4))
    step = max(factor * power for factor in (1, 2, 5) if factor * power <= (high - low) / 4)
    return [round(step * i, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def chart(title, x_axis, y_axis, x_range, y_range, series, lines=()):
    """series: {name: [(x, y)]}; lines: [(name, (x, y), (x, y))], dashed."""
    def place(x, y):
        return (LEFT + (x - x_range[0]) / (x_range[1] - x_range[0]) * (WIDTH - LEFT - RIGHT),
                HEIGHT - BOTTOM - (y - y_range[0]) / (y_range[1] - y_range[0]) * (HEIGHT - BOTTOM - TOP))

    def text(x, y, words, more=""):
        return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{html.escape(words)}</text>'

    middle = 'text-anchor="middle"'
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
           'font-size="12">', '<rect width="100%" height="100%" fill="white"/>',
           text(WIDTH / 2, 20, title, middle + ' font-size="13"'), text(WIDTH / 2, HEIGHT - 15, x_axis, middle),
           text(15, HEIGHT / 2, y_axis, f'{middle} transform="rotate(-90 15 {HEIGHT / 2})"')]
    for y in ticks(*y_range):
        _, at = place(x_range[0], y)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>')
        out.append(text(LEFT - 8, at + 4, f"{y:.4g}", 'text-anchor="end"'))
    for x in ticks(*x_range):
        out.append(text(place(x, y_range[0])[0], HEIGHT - BOTTOM + 18, f"{x:.4g}", middle))
    for name, begin, end in lines:
        (x1, y1), (x2, y2) = place(*begin), place(*end)
        out.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#555" '
                   'stroke-dasharray="5 4"/>' + text(x2 - 4, y2 - 5, name, 'text-anchor="end" fill="#555"'))
    for number, (name, points) in enumerate(series.items()):
        colour, places = COLOURS[number], [place(x, y) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        out.append(text(LEFT + 10, TOP - 12 + 16 * number, name, f'fill="{colour}"'))
    return "\n".join(out + ["</svg>", ""])


def around(values, margin=.1):
    low, high = min(values), max(values)
    wide = (high - low or abs(high) or 1) * margin
    return low - wide, high + wide


def by_layer(report):
    measure = "impression_auc" if report["task"] == "clicked" else "auc"
    heads = report["heads"]
    layers = [head["layer"] for head in heads]
    series = {"exits": [(head["layer"], head["raw"]["test"][measure]) for head in heads]}
    x_range = (0, max(layers) * 1.1)
    lines = [(name.replace("_", " "), (0, report["baselines"][name]["test"][measure]),
              (x_range[1], report["baselines"][name]["test"][measure])) for name in report["baselines"]
             if not name.endswith("_all")]
    values = [y for _, y in series["exits"]] + [begin[1] for _, begin, _ in lines]
    name = "AUC within impressions" if measure == "impression_auc" else "AUC"
    return chart(f"{name} on the test part, by exit", "layer", name, x_range, around(values), series, lines)


def risk(report):
    tested, bound = report["risk"]["sequence"], report["risk"]["bound"]
    series = {"log loss, a user's mean": [(row["saved"], row["mean_difference"]) for row in tested],
              "normalised entropy": [(row["saved"], row["normalised_entropy_difference"]) for row in tested]}
    saved = around([row["saved"] for row in tested], .05)
    values = [y for points in series.values() for _, y in points] + [bound, 0]
    return chart(f"Cost of leaving early, rule {report['policy']['rule']}", "layer-tokens saved",
                 "more than at full depth", saved, around(values), series,
                 [(f"bound {bound:g}", (saved[0], bound), (saved[1], bound))])


def reliability(report):
    head = report["heads"][-1]
    series = {name: [tuple(row[:2]) for row in head[key]["test"]["reliability"]]
              for name, key in (("as the head says", "raw"), ("calibrated", "calibrated"))}
    top = max(value for points in series.values() for point in points for value in point) * 1.05
    return chart(f"Reliability at layer {head['layer']}, test part", "predicted", "happened", (0, top), (0, top),
                 series, [("", (0, 0), (top, top))])


def main():
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    report, folder = json.loads(pathlib.Path(sys.argv[1]).read_text()), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    charts = {"auc_by_layer": by_layer, "reliability": reliability}
    if report["risk"].get("sequence"):
        charts["risk"] = risk
    for name, draw in charts.items():
        (folder / f"{name}.svg").write_text(draw(report))
        print(folder / f"{name}.svg")


if __name__ == "__main__":
    main()

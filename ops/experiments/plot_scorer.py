#!/usr/bin/env python3
"""Plots of what bench_load printed, as SVG, without a library.

    build/bench_load > load.tsv && ops/experiments/plot_scorer.py load.tsv FOLDER"""
import pathlib
import sys

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 400, 80, 60, 50, 20
COLOURS = ("#1f5fa8", "#c04a1b")
PLOTS = {   # file: title, axis, series by figure
    "candidates": ("Candidates a second over candidates of an impression (prefix 512, suffix 32)",
                   "candidates", {"candidates": "candidates/s"}),
    "prefix": ("Candidates a second over the length of the prefix (8 candidates of 32 tokens)",
               "tokens of the prefix", {"prefix": "candidates/s"}),
    "depth": ("Candidates a second over the layer at which all leave (prefix 512, 16 of 32)",
              "layer of 30", {"depth": "candidates/s"}),
    "latency": ("Latency under load, open loop (prefix 128, 8 candidates of 16, layer 10)",
                "% of the capacity", {"latency_p50": "p50, ms", "latency_p99": "p99, ms"}),
}


def plot(title, axis, series):
    xs = [x for points in series.values() for x, _ in points]
    top = max(y for points in series.values() for _, y in points) * 1.1

    def place(x, y):
        return (LEFT + (x - min(xs)) / (max(xs) - min(xs)) * (WIDTH - LEFT - RIGHT),
                HEIGHT - BOTTOM - y / top * (HEIGHT - BOTTOM - TOP))

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
           'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="{WIDTH / 2}" y="20" text-anchor="middle" font-size="13">{title}</text>',
           f'<text x="{WIDTH / 2}" y="{HEIGHT - 15}" text-anchor="middle">{axis}</text>']
    for step in range(6):
        y = top * step / 5
        _, at = place(xs[0], y)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{y:.3g}</text>')
    last = -99
    for x in sorted(set(xs)):
        at, _ = place(x, 0)
        if at - last > 28:
            out.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:g}</text>')
            last = at
    for number, (name, points) in enumerate(series.items()):
        places = [place(x, y) for x, y in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        colour = COLOURS[number]
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        out.append(f'<text x="{LEFT + 10}" y="{TOP - 12 + 16 * number}" fill="{colour}">{name}</text>')
    return "\n".join(out + ["</svg>", ""])


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    figures, folder = {}, pathlib.Path(sys.argv[2])
    for row in pathlib.Path(sys.argv[1]).read_text().splitlines():
        figure, x, y, _ = row.split("\t")
        figures.setdefault(figure, []).append((float(x), float(y)))
    folder.mkdir(parents=True, exist_ok=True)
    for name, (title, axis, wanted) in PLOTS.items():
        (folder / f"scorer_{name}.svg").write_text(
            plot(title, axis, {label: figures[figure] for figure, label in wanted.items()}))
        print(folder / f"scorer_{name}.svg")


main()

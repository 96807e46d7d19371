"""A learning curve as SVG, without any library: training loss and validation AUC over samples seen."""


def polyline(points, colour):
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>{dots}'


def scale(values):
    low, high = min(values), max(values)
    return (low - .5, high + .5) if high - low < 1e-9 else (low - .05 * (high - low), high + .05 * (high - low))


def panel(top, title, series, x_max):
    """series: [(name, colour, [(x, y)])]. 640 x 200 at `top`."""
    left, width, height = 60, 560, 150
    values = [y for _, _, points in series for _, y in points]
    if not values:
        return f'<text x="{left}" y="{top + 20}">{title}: nothing measured yet</text>'
    low, high = scale(values)
    parts = [f'<text x="{left}" y="{top + 14}" font-weight="bold">{title}</text>']
    for i in range(5):
        y = top + 24 + height * i / 4
        parts.append(f'<line x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
                     f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{high - (high - low) * i / 4:.3f}</text>')
    for number, (name, colour, points) in enumerate(series):
        scaled = [(left + width * x / x_max, top + 24 + height * (high - y) / (high - low)) for x, y in points]
        parts.append(polyline(scaled, colour))
        parts.append(f'<text x="{left + width - 110 * number}" y="{top + 14}" text-anchor="end" fill="{colour}">{name}'
                     '</text>')
    for i in range(5):
        parts.append(f'<text x="{left + width * i / 4:.1f}" y="{top + 24 + height + 16}" text-anchor="middle">'
                     f'{x_max * i / 4:.0f}</text>')
    return "".join(parts)


COLOURS = ["#1f6feb", "#d1242f", "#1a7f37", "#8250df", "#bc4c00", "#6e7781"]


def learning_curve(history, measure):
    """history: the log's entries; those with "loss" are training, those with `measure` validation."""
    x_max = max([entry["samples"] for entry in history] + [1])
    loss = [(e["samples"], e["loss"]) for e in history if "loss" in e]
    layers = sorted({int(layer) for e in history if "layers" in e for layer in e["layers"]})
    series = [("last layer", COLOURS[0], [(e["samples"], e[measure]) for e in history
                                         if e.get(measure) is not None and e[measure] == e[measure]])]
    for number, layer in enumerate(layers[:-1][-4:]):
        series.append((f"layer {layer}", COLOURS[1 + number],
                       [(e["samples"], e["layers"][str(layer)]) for e in history
                        if "layers" in e and e["layers"][str(layer)] == e["layers"][str(layer)]]))
    return ('<svg xmlns="http://www.w3.org/2000/svg" width="660" height="450" font-family="sans-serif" font-size="11">'
            '<rect width="660" height="450" fill="white"/>'
            + panel(10, "training loss", [("loss", COLOURS[0], loss)], x_max)
            + panel(225, "validation " + measure.replace("_", " "), series, x_max)
            + '<text x="340" y="440" text-anchor="middle">impressions seen</text></svg>\n')

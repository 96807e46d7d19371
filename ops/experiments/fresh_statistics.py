#!/usr/bin/env python3
"""fresh_statistics.py - what the fresh statistics are worth: AUC of logistic regression, row by row.

Every row of a ratings table becomes an impression of one candidate, enriched by the graph-updater stage
just before the row itself (events of the same time are not seen). Samples are the impressions whose user
had at least three interactions before; the label is a rating above --liked; in time order the first 80 %
are for training, the last 10 % for the test. Means are taken as logits clipped to [.02, .98]. The table
shows the test AUC as the rows of the statistics table are added one after the other.

    python3 -m venv venv && venv/bin/pip install numpy fastavro zstandard
    venv/bin/python ops/experiments/fresh_statistics.py --exitpoll build/exitpoll \\
        --interactions ratings.tsv.xz --items items.tsv.xz --attribute 'brand=first-word(title)'

or, for the two data sets whose figures are known (from an independent implementation with floats that refreshed
its embeddings every 2,000 events), with those beside ours and exit code 1 where ours are lower by over .002:

    venv/bin/python ops/experiments/fresh_statistics.py --known beauty --data ../shared/data
    venv/bin/python ops/experiments/fresh_statistics.py --known ml-1m --data ../shared/data

Options after -- go to `exitpoll import` (--untimed skip, --time-column, ...).
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import fastavro
import numpy as np

# Arguments, and the test AUC of each group of statistics by the other implementation.
KNOWN = {
    "beauty": ("amazon-beauty/beauty2014_5core_interactions.tsv.xz", "amazon-beauty/beauty2014_5core_items.tsv.xz",
               "brand=first-word(title)", [], [.7753, .7749, .7755, .7774, .7787, .7796]),
    "ml-1m": ("ml-1m/interactions.tsv.xz", "ml-1m/items.tsv.xz", "genre=genres", ["--untimed", "skip"],
              [.7660, .7746, .7812, .7867, .7881, .7891]),
}
TOLERANCE = .002

USER = ["user_mean", "user_log_count", "user_residual", "user_recent"]
CANDIDATE = ["item_mean", "item_log_count", "item_residual", "similar_items", "similar_items_weight",
             "similar_raters", "similar_raters_weight", "similar_texts", "similar_texts_weight",
             "similar_texts_max"]
ATTRIBUTE = ["mean", "affinity", "log_match"]


def names_of(attributes):
    return USER + CANDIDATE + [f"{a}_{s}" for a in attributes for s in ATTRIBUTE]


def groups_of(attributes):
    return [
        ("mean and count", ["user_mean", "user_log_count", "item_mean", "item_log_count"]),
        ("+ residuals", ["user_residual", "item_residual"]),
        ("+ recent", ["user_recent"]),
        ("+ attributes", [f"{a}_{s}" for a in attributes for s in ATTRIBUTE]),
        ("+ similar items, raters", [n for n in CANDIDATE if n.startswith(("similar_items", "similar_raters"))]),
        ("+ similar texts", [n for n in CANDIDATE if n.startswith("similar_texts")]),
    ]


def run(command):
    print("$", " ".join(command), file=sys.stderr)
    subprocess.run(command, check=True, stdout=sys.stderr)


def produce(arguments, folder):
    events, requests = os.path.join(folder, "events"), os.path.join(folder, "requests")
    command = [arguments.exitpoll, "import", "--interactions", arguments.interactions, "--out", events,
               "--impressions", "all", "--quiet"]
    if arguments.items:
        command += ["--items", arguments.items]
    for attribute in arguments.attribute:
        command += ["--attribute", attribute]
    run(command + arguments.rest)
    command = [arguments.exitpoll, "run", "--stage", "graph-updater", "--from", events, "--to", requests, "--quiet",
               "--set", "enrichment.examples_max=0", "--set", f"statistics.rating_scale={arguments.scale}"]
    attributes = [a.split("=")[0] for a in arguments.attribute]
    if attributes:
        command += ["--set", "statistics.attributes=" + ",".join(attributes)]
    run(command)
    return os.path.join(events, "interactions.avro"), os.path.join(requests, "scoring-requests.avro"), attributes


def read_samples(interactions, requests, names, liked):
    with open(interactions, "rb") as file:
        ratings = {r["impression_id"]: r["rating"] for r in fastavro.reader(file) if r["impression_id"]}
    rows, labels = [], []
    with open(requests, "rb") as file:
        for request in fastavro.reader(file):
            rating = ratings.get(request["impression_id"])
            if rating is None or len(request["history"]) < 3:
                continue
            row = request["user_statistics"] + request["candidates"][0]["statistics"]
            if len(row) != len(names):
                sys.exit(f"{len(row)} statistics in a request, {len(names)} names: another version?")
            rows.append(row)
            labels.append(rating > liked)
    return np.array(rows), np.array(labels, dtype=float)


def prepare(rows, names):
    columns = rows.copy()
    for i, name in enumerate(names):
        if name.endswith("_mean") or name == "user_recent":
            share = np.clip(columns[:, i], .02, .98)
            columns[:, i] = np.log(share / (1 - share))
    return columns


def auc(labels, scores):
    values, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = labels.sum()
    return (ranks[labels == 1].sum() - positive * (positive + 1) / 2) / (positive * (len(labels) - positive))


def test_auc(columns, labels):
    """Newton's method on standardised columns, with next to no regularisation."""
    train, test = int(len(labels) * .8), int(len(labels) * .9)
    scaled = (columns - columns[:train].mean(0)) / (columns[:train].std(0) + 1e-9)
    scaled = np.c_[scaled, np.ones(len(labels))]
    weights = np.zeros(scaled.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-scaled[:train] @ weights))
        gradient = scaled[:train].T @ (p - labels[:train]) + 1e-3 * weights
        hessian = (scaled[:train] * (p * (1 - p))[:, None]).T @ scaled[:train] + 1e-3 * np.eye(len(weights))
        weights -= np.linalg.solve(hessian, gradient)
    return auc(labels[test:], scaled[test:] @ weights)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exitpoll", default="build/exitpoll")
    parser.add_argument("--known", choices=sorted(KNOWN), help="one of the data sets below --data")
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--interactions")
    parser.add_argument("--items")
    parser.add_argument("--attribute", action="append", default=[], help="as of import; may be repeated")
    parser.add_argument("--scale", default="1..5", help="statistics.rating_scale")
    parser.add_argument("--liked", type=float, default=3, help="a rating above this is liked (3)")
    parser.add_argument("--json", action="store_true")
    own, rest = (sys.argv[1:], []) if "--" not in sys.argv else (
        sys.argv[1:sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1:])
    arguments = parser.parse_args(own)
    arguments.rest, expected = rest, None
    if arguments.known:
        interactions, items, attribute, more, expected = KNOWN[arguments.known]
        arguments.interactions = os.path.join(arguments.data, interactions)
        arguments.items = os.path.join(arguments.data, items)
        arguments.attribute, arguments.rest = [attribute], rest + more
    if not arguments.interactions:
        parser.error("--interactions FILE or --known NAME is needed")

    with tempfile.TemporaryDirectory() as folder:
        interactions, requests, attributes = produce(arguments, folder)
        names = names_of(attributes)
        rows, labels = read_samples(interactions, requests, names, arguments.liked)
    if len(labels) < 1000:
        sys.exit(f"only {len(labels)} samples: too few to say anything")
    columns, chosen, table = prepare(rows, names), [], []
    for group, members in groups_of(attributes):
        chosen += [names.index(name) for name in members]
        if members:
            table.append((group, test_auc(columns[:, chosen], labels)))
    low = [group for (group, value), known in zip(table, expected or []) if value < known - TOLERANCE]
    if arguments.json:
        print(json.dumps({"samples": len(labels), "liked": labels.mean(), "auc": dict(table), "known": expected}))
        sys.exit(bool(low))
    print(f"{len(labels)} samples, {labels.mean():.1%} liked; test AUC of logistic regression:")
    for place, (group, value) in enumerate(table):
        print(f"  {group:<26}{value:.4f}" + (f"   known {expected[place]:.4f}" if expected else ""))
    if low:
        sys.exit("lower than known by more than %.3f: %s" % (TOLERANCE, ", ".join(low)))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""retrieval_layers.py - which layers make the better neighbours: the paper's Table 3, in shape, and what building
the graph and retrieving from it take.

Every user's last interaction is held out (by time, else by sequence, else drawn by --seed); the rest is imported,
run through the graph-updater at threshold 0, and the --most nearest users of everyone are exported. The item held
out stands against seven that are drawn by popularity and that the user has not taken; a candidate scores the
cosines of those neighbours who have taken it, added up. AUC is over all candidates of all users, ties half.

The paper's AUC is that of a fine-tuned language model whose prompt shows what similar users did; this one is of
the neighbours alone, so levels cannot be compared, only whether averaging helps.

    python3 -m venv venv && venv/bin/pip install numpy
    venv/bin/python ops/experiments/retrieval_layers.py --exitpoll build/exitpoll NAME=INTERACTIONS[.xz] ...
"""
import argparse
import lzma
import os
import subprocess
import tempfile
import time

import numpy as np

# Name, graph.seeds, graph.layer_weights: without user seeds, users have layers 1 and 3 alone.
KINDS = [("last layer", "items", "0,0,0,1"), ("average of layers 1 and 3", "items", "0,1,0,1"),
         ("average of layers 0 to 3", "both", "1,1,1,1"), ("last layer, seeds on both sides", "both", "0,0,0,1")]
OTHERS = 7


def read(path, random):
    """(user, item) in the order in which they happened, each pair once."""
    with (lzma.open if path.endswith(".xz") else open)(path, "rt", newline="\n") as table:
        names = next(table).rstrip("\n").split("\t")
        rows = [dict(zip(names, line.rstrip("\n").split("\t"))) for line in table]
    order = random.permutation(len(rows))
    for key in ("unix_time", "user_seq"):
        values = [row.get(key, "") for row in rows]
        if all(values):
            order = np.argsort(np.array(values, dtype=np.float64), kind="stable")
            break
    pairs = {}
    for n in order:
        pairs.setdefault((rows[n]["user_id"], rows[n]["item_id"]))
    return list(pairs)


def hold_out(pairs):
    """What is known, and each user's last item where something else of the user is known."""
    last, count = {}, {}
    for user, item in pairs:
        last[user] = item
        count[user] = count.get(user, 0) + 1
    held = {user: item for user, item in last.items() if count[user] > 1}
    return [(user, item) for user, item in pairs if held.get(user) != item], held


def auc(scores, taken):
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    values, inverse, counts = np.unique(scores[order], return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks[order] = ((ends - counts + 1 + ends) / 2)[inverse]
    positives = int(taken.sum())
    return (ranks[taken].sum() - positives * (positives + 1) / 2) / (positives * (len(taken) - positives))


def make_candidates(known, held, random):
    """[users][1 + OTHERS], the item held out first."""
    mine, items = {}, [item for _, item in known]
    for user, item in known:
        mine.setdefault(user, set()).add(item)
    candidates = {}
    for user, item in held.items():
        row = [item]
        while len(row) <= OTHERS:
            other = items[random.integers(len(items))]
            if other not in mine[user] and other not in row:
                row.append(other)
        candidates[user] = row
    return candidates, mine


def retrieve(arguments, known, seeds, weights):
    """Neighbours by user; seconds to build and to retrieve."""
    with tempfile.TemporaryDirectory() as folder:
        def call(*words):
            begin = time.perf_counter()
            subprocess.run([os.path.abspath(arguments.exitpoll), *words], check=True, cwd=folder, capture_output=True)
            return time.perf_counter() - begin
        with open(os.path.join(folder, "known.tsv"), "w") as table:
            table.write("user_id\titem_id\tunix_time\n")
            table.writelines(f"{user}\t{item}\t{n}\n" for n, (user, item) in enumerate(known))
        call("import", "--interactions", "known.tsv", "--out", "events", "--impressions", "none", "--quiet")
        build = call("run", "--stage", "graph-updater", "--from", "events", "--to", "out", "--state", "state",
                     "--quiet", "--set", f"graph.seeds={seeds}", "--set", f"graph.layer_weights={weights}",
                     "--set", "graph.threshold=0", "--set", "graph.users_max=2000000", "--set",
                     "graph.items_max=2000000")
        find = call("export", "--state", "state", "--what", "neighbors", "--most", str(arguments.most), "--out", "near",
                    "--quiet")
        near = {}
        with open(os.path.join(folder, "near.tsv")) as table:
            next(table)
            for line in table:
                user, other, cosine = line.rstrip("\n").split("\t")
                near.setdefault(user, []).append((other, float(cosine)))
    return near, build, find


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exitpoll", required=True)
    parser.add_argument("--most", type=int, default=100, help="similar users (100)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("tables", nargs="+", metavar="NAME=INTERACTIONS")
    arguments = parser.parse_args()
    print("| data | users | interactions | neighbours by | AUC | graph built in | neighbours found in |\n"
          "|---|---|---|---|---|---|---|", flush=True)
    for name, path in (table.split("=", 1) for table in arguments.tables):
        random = np.random.default_rng(arguments.seed)
        known, held = hold_out(read(path, random))
        candidates, mine = make_candidates(known, held, random)
        for kind, seeds, weights in KINDS:
            near, build, find = retrieve(arguments, known, seeds, weights)
            scores = np.array([sum(cosine for other, cosine in near.get(user, ()) if item in mine[other])
                               for user, row in candidates.items() for item in row])
            taken = np.tile(np.arange(1 + OTHERS) == 0, len(candidates))
            print(f"| {name} | {len(mine):,} | {len(known):,} | {kind} | {auc(scores, taken):.4f} | {build:.1f} s | "
                  f"{find:.1f} s |", flush=True)


if __name__ == "__main__":
    main()

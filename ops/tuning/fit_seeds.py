#!/usr/bin/env python3
"""fit_seeds.py - trained seeds for the graph: layer 0 of the items (and users) by BPR on the interactions.

Bayesian personalised ranking: of two items the one that the user took shall score higher,
maximise log sigmoid(p_u . (q_i - q_j)) with j drawn from all items, by Adam on the rows that a batch touches.
NAME.npy holds H^(0) = q_i / sqrt(d_i), all divided by the largest value: what `graph.item_seeds=NAME` takes.
One interaction in --held of those of a user with several is kept out; training ends when the AUC on these has not
risen for --patience epochs, and the best epoch is written.

    exitpoll export --state STATE --what graph --out graph      # or a table of one's own, with a header
    python3 ops/tuning/fit_seeds.py --interactions graph.tsv --out seeds
    exitpoll run ... --set graph.item_seeds=seeds

numpy is all it needs. Same table, same --seed, same machine: same bytes.
"""
import argparse
import gzip
import json
import lzma
import sys
import time

import numpy as np

USERS, ITEMS = ("user", "user_id"), ("item", "item_id")
UNESCAPED = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}


def unescape(text):
    if "\\" not in text:
        return text
    out, at = [], 0
    while at < len(text):
        pair = text[at:at + 2]
        out.append(UNESCAPED.get(pair, text[at]))
        at += 2 if pair in UNESCAPED else 1
    return "".join(out)


def escape(text):
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def column(header, names, path):
    for name in names:
        if name in header:
            return header.index(name)
    sys.exit(f"{path}: the header has no column {' or '.join(names)}: {', '.join(header)}")


def read(path, rating_min, last):
    """[pairs, 2] of numbers, the ids of both sides, the latest time; a pair once, VIEWs left out."""
    opener = lzma.open if path.endswith(".xz") else gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8", newline="\n") as table:
        header = table.readline().rstrip("\r\n")
        separator = "\t" if "\t" in header else ","
        header = header.split(separator)
        user_at, item_at = column(header, USERS, path), column(header, ITEMS, path)
        kind_at = header.index("kind") if "kind" in header else None
        rating_at = header.index("rating") if "rating" in header else None
        time_at = next((header.index(name) for name in ("time_ms", "event_time") if name in header), None)
        users, items, pairs, until = {}, {}, set(), None
        for number, line in enumerate(table, 2):
            fields = line.rstrip("\r\n").split(separator)
            if len(fields) != len(header):
                sys.exit(f"{path}, line {number}: {len(fields)} fields, the header has {len(header)}")
            if kind_at is not None and fields[kind_at] in ("VIEW", "REMOVE"):
                continue
            if rating_min is not None and rating_at is not None and fields[rating_at] and \
                    float(fields[rating_at]) < rating_min:
                continue
            if time_at is not None:
                if last is not None and int(fields[time_at]) > last:
                    continue
                until = max(until or 0, int(fields[time_at]))
            elif last is not None:
                sys.exit(f"{path}: --until needs a column time_ms or event_time")
            user, item = unescape(fields[user_at]), unescape(fields[item_at])
            pairs.add((users.setdefault(user, len(users)), items.setdefault(item, len(items))))
    if not pairs:
        sys.exit(f"{path}: no interactions")
    return np.array(sorted(pairs), np.int64), list(users), list(items), until


class Adam:
    """Of the rows that a batch touches; moments of the others stay."""

    def __init__(self, table, rate):
        self.table, self.rate, self.steps = table, rate, 0
        self.mean, self.square = np.zeros_like(table), np.zeros_like(table)

    def step(self, rows, gradients):
        """rows [n] may repeat: their gradients [n, dimensions] are added up."""
        order = np.argsort(rows, kind="stable")
        sorted_rows = rows[order]
        starts = np.flatnonzero(np.r_[True, sorted_rows[1:] != sorted_rows[:-1]])
        rows, gradient = sorted_rows[starts], np.add.reduceat(gradients[order], starts, axis=0)
        self.steps += 1
        mean = self.mean[rows] = .9 * self.mean[rows] + .1 * gradient
        square = self.square[rows] = .999 * self.square[rows] + .001 * gradient * gradient
        mean, square = mean / (1 - .9 ** self.steps), square / (1 - .999 ** self.steps)
        self.table[rows] -= self.rate * mean / (np.sqrt(square) + 1e-8)


def hold_out(pairs, one_in, draw):
    """A mask of the pairs kept out: at most one of a user, never their only one."""
    held = np.zeros(len(pairs), bool)
    users, first, count = np.unique(pairs[:, 0], return_index=True, return_counts=True)
    chosen = (count > 1) & (draw.random(len(users)) < 1 / one_in) if one_in else np.zeros(len(users), bool)
    held[(first + (draw.random(len(users)) * count).astype(np.int64))[chosen]] = True
    return held


def fit(pairs, held, users, items, arguments, draw):
    """Best (p, q) by the AUC on the held pairs against as many drawn items; without any, the last."""
    p, q = (draw.normal(0, .1, (count, arguments.dimensions)).astype(np.float32) for count in (users, items))
    steps = Adam(p, arguments.rate), Adam(q, arguments.rate)
    rest, test = pairs[~held], pairs[held]
    against = draw.integers(items, size=len(test))
    best, best_auc, since, begin = (p, q), 0.0, 0, time.monotonic()
    for epoch in range(1, arguments.epochs + 1):
        order, loss = draw.permutation(len(rest)), 0.0
        for at in range(0, len(order), arguments.batch):
            user, item = rest[order[at:at + arguments.batch]].T
            other = draw.integers(items, size=len(user))
            mine, taken, left = p[user], q[item], q[other]
            margin = np.einsum("nd,nd->n", mine, taken - left)
            loss += float(np.logaddexp(0, -margin).sum())
            pull = (-1 / (1 + np.exp(margin)))[:, None].astype(np.float32)
            decay = np.float32(arguments.decay)
            steps[0].step(user, pull * (taken - left) + decay * mine)
            steps[1].step(np.r_[item, other], np.r_[pull * mine + decay * taken, -pull * mine + decay * left])
            if sys.stderr.isatty():
                print(f"\repoch {epoch}: {100 * (at + len(user)) // len(order):3d} %", end="", file=sys.stderr)
        line = f"epoch {epoch}: loss {loss / len(order):.4f}, {time.monotonic() - begin:.0f} s"
        if len(test):
            gap = np.einsum("nd,nd->n", p[test[:, 0]], q[test[:, 1]] - q[against])
            auc = float(np.mean((gap > 0) + .5 * (gap == 0)))
            line += f", AUC of {len(test)} held out {auc:.4f}"
            since += 1
            if auc > best_auc:
                best, best_auc, since = (p.copy(), q.copy()), auc, 0
        else:
            best = p, q
        print(("\r" if sys.stderr.isatty() else "") + line, file=sys.stderr, flush=True)
        if since >= arguments.patience:
            break
    return best, best_auc


def write(name, rows, ids):
    np.save(name + ".npy", np.ascontiguousarray(rows, "<f4"))
    with open(name + ".ids", "w", encoding="utf-8", newline="\n") as out:
        out.writelines(escape(text) + "\n" for text in ids)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", required=True, metavar="TABLE",
                        help="tab- or comma-separated with a header: user or user_id, item or item_id, and perhaps "
                             "kind, rating, time_ms; .xz and .gz are unpacked")
    parser.add_argument("--out", required=True, metavar="NAME", help="NAME.npy, NAME.ids and NAME.json")
    parser.add_argument("--users", metavar="NAME", help="the users' too, for graph.user_seeds with graph.seeds=both")
    parser.add_argument("--dimensions", type=int, default=64, help="graph.dimensions (64)")
    parser.add_argument("--epochs", type=int, default=40, help="at most (40)")
    parser.add_argument("--patience", type=int, default=3, help="epochs without a higher AUC (3)")
    parser.add_argument("--held", type=int, default=5, metavar="N", help="an interaction of every N-th user; 0: none (5)")
    parser.add_argument("--batch", type=int, default=16384)
    parser.add_argument("--rate", type=float, default=5e-3, help="Adam's (0.005)")
    parser.add_argument("--decay", type=float, default=1e-3, help="of the rows touched (0.001)")
    parser.add_argument("--rating-min", type=float, help="ratings below are no interaction")
    parser.add_argument("--until", type=int, metavar="MS", help="later interactions are not looked at")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.dimensions % 16 or not 16 <= arguments.dimensions <= 256:
        parser.error("--dimensions: a multiple of 16, 16..256")

    draw = np.random.default_rng(arguments.seed)
    pairs, users, items, until = read(arguments.interactions, arguments.rating_min, arguments.until)
    print(f"{len(pairs)} pairs, {len(users)} users, {len(items)} items", file=sys.stderr, flush=True)
    held = hold_out(pairs, arguments.held, draw)
    (p, q), auc = fit(pairs, held, len(users), len(items), arguments, draw)
    degrees = [np.maximum(np.bincount(pairs[:, side], minlength=len(ids)), 1)
               for side, ids in ((0, users), (1, items))]
    rows = [table / np.sqrt(degree)[:, None] for table, degree in zip((p, q), degrees)]
    # One scale for both sides: layers are mixed. A little below 1, lest rounding passes it.
    largest = max(float(np.abs(part).max()) for part in (rows if arguments.users else rows[1:])) * (1 + 1e-6)
    write(arguments.out, rows[1] / largest, items)
    if arguments.users:
        write(arguments.users, rows[0] / largest, users)
    for name in filter(None, (arguments.out, arguments.users)):
        with open(name + ".json", "w") as out:
            json.dump({"pairs": len(pairs), "users": len(users), "items": len(items), "held_out": int(held.sum()),
                       "auc": auc, "trained_until": until, "arguments": vars(arguments)}, out, indent=1)
            out.write("\n")
    print(f"{len(items)} rows in {arguments.out}.npy" +
          (f", {len(users)} in {arguments.users}.npy" if arguments.users else ""), file=sys.stderr)


if __name__ == "__main__":
    main()

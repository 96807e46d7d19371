#!/usr/bin/env python3
"""gowalla_recall.py - what hash seeds and trained seeds are worth: recall@20 of user-kNN on Gowalla.

Of every user the --nearest most similar users are taken by the cosine of three-layer embeddings (the item
chain: item seeds to users, to items, to users); an item's score is the sum of the cosines of those of them
who have it; of the items that the user does not have yet the best 20 are compared with the held-out ones.

  exact sparse cosine   the same kNN on the rows of the interaction matrix itself, each 1 / sqrt(degree)
  hash seeds            +-1 for every item: exitpoll's own, from its export (--exitpoll), or random bits
  trained seeds         layer 0 by BPR on the training table (ops/tuning/fit_seeds.py), the last layer alone and
                        the plain average of the users' layers

    python3 -m venv venv && venv/bin/pip install numpy scipy fastavro
    venv/bin/python ops/tuning/fit_seeds.py --interactions gowalla/train.tsv.xz --out seeds
    venv/bin/python ops/experiments/gowalla_recall.py --train gowalla/train.tsv.xz --test gowalla/test.tsv.xz \\
        --exitpoll build/exitpoll --item-seeds seeds

With --exitpoll the embeddings are the program's own: import, run --stage graph-updater, export.
"""
import argparse
import lzma
import os
import subprocess
import tempfile
import time

import numpy as np
import scipy.sparse as sparse

WIDTH, TOP = 64, 20


def read(path):
    with (lzma.open if path.endswith(".xz") else open)(path, "rt") as table:
        next(table)
        return np.array([[int(field) for field in line.split("\t")[:2]] for line in table])


def unit(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def recall(train, test, similarities, nearest):
    """similarities(users) -> dense cosines [len(users), all users]; mean of recall@20 over users with a test."""
    total, count = 0.0, 0
    users = np.unique(test.nonzero()[0])
    for first in range(0, len(users), 512):
        mine = users[first:first + 512]
        cosine = similarities(mine)
        cosine[np.arange(len(mine)), mine] = -2
        near = np.argpartition(-cosine, nearest, axis=1)[:, :nearest]
        weight = np.take_along_axis(cosine, near, 1)
        chosen = sparse.csr_matrix((weight.ravel(), (np.repeat(np.arange(len(mine)), nearest), near.ravel())),
                                   (len(mine), train.shape[0]))
        score = (chosen @ train).toarray()
        score[train[mine].nonzero()] = -1
        best = np.argpartition(-score, TOP, axis=1)[:, :TOP]
        for row, user in enumerate(mine):
            held = test.indices[test.indptr[user]:test.indptr[user + 1]]
            total += len(np.intersect1d(best[row], held)) / len(held)
            count += 1
    return total / count


def mean_rows(matrix):
    return (sparse.diags(1 / np.maximum(np.asarray(matrix.sum(1)).ravel(), 1)) @ matrix).tocsr()


def chain(train, seeds, layers):
    to_users, to_items = mean_rows(train), mean_rows(train.T.tocsr())
    rows = to_users @ seeds
    for _ in range(layers // 2):
        rows = to_users @ (to_items @ rows)
    return rows


def program_rows(exitpoll, train_path, events, users, layers, *settings):
    """One flush, after the last event: what came after the last one would be missing from the embeddings."""
    with tempfile.TemporaryDirectory() as folder:
        def call(*arguments):
            subprocess.run([exitpoll, *arguments], check=True, cwd=folder, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
        call("import", "--interactions", os.path.abspath(train_path), "--out", "events", "--impressions", "none")
        begin = time.perf_counter()
        call("run", "--stage", "graph-updater", "--from", "events", "--to", "out", "--state", "state", "--set",
             f"graph.flush_events={events}", "--set", "graph.threshold=0", "--set", f"graph.layers={layers}",
             *(part for setting in settings for part in ("--set", setting)))
        print(f"  exitpoll: {time.perf_counter() - begin:.1f} s for the whole stream", flush=True)
        call("export", "--state", "state", "--what", "embeddings", "--out", "users")
        ids = [int(line) for line in open(os.path.join(folder, "users.ids"))]
        rows = np.zeros((users, WIDTH))
        rows[ids] = np.load(os.path.join(folder, "users.npy"))
        return rows


def read_seeds(name, items):
    rows = np.zeros((items, WIDTH), np.float32)
    rows[[int(line) for line in open(name + ".ids")]] = np.load(name + ".npy")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--exitpoll", help="the built program; left out: hash seeds in numpy")
    parser.add_argument("--nearest", type=int, default=100, help="similar users (100)")
    parser.add_argument("--layers", type=int, default=3, choices=[1, 3])
    parser.add_argument("--item-seeds", metavar="NAME", help="trained seeds: NAME.npy and NAME.ids")
    parser.add_argument("--seed", type=int, default=1, help="of the random bits")
    arguments = parser.parse_args()

    pairs, held = read(arguments.train), read(arguments.test)
    shape = (max(pairs[:, 0].max(), held[:, 0].max()) + 1, max(pairs[:, 1].max(), held[:, 1].max()) + 1)
    train, test = (sparse.csr_matrix((np.ones(len(p)), (p[:, 0], p[:, 1])), shape) for p in (pairs, held))
    train.data[:], test.data[:] = 1, 1
    print(f"{train.nnz} interactions, {test.nnz} held out, {shape[0]} users, {shape[1]} items", flush=True)

    plain = sparse.diags(1 / np.sqrt(np.maximum(np.asarray(train.sum(1)).ravel(), 1))) @ train
    plain = plain.tocsr()

    def show(name, similarities):
        print(f"{name:38} recall@20 {recall(train, test, similarities, arguments.nearest):.4f}", flush=True)

    show("exact sparse cosine", lambda users: (plain[users] @ plain.T).toarray())
    if arguments.exitpoll:
        rows = program_rows(arguments.exitpoll, arguments.train, len(pairs), shape[0], arguments.layers)
    else:
        bits = np.random.default_rng(arguments.seed).choice([-1.0, 1.0], (shape[1], WIDTH))
        rows = chain(train, bits, arguments.layers)
    rows = unit(rows).astype(np.float32)
    show("hash seeds", lambda users: rows[users] @ rows.T)
    if not arguments.item_seeds:
        return
    for name, weights in (("trained seeds", "last"), ("trained seeds, average of layers", "equal")):
        if arguments.exitpoll:
            ones = ",".join(["1"] * (arguments.layers + 1))
            rows = program_rows(arguments.exitpoll, arguments.train, len(pairs), shape[0], arguments.layers,
                                "graph.item_seeds=" + os.path.abspath(arguments.item_seeds),
                                *([f"graph.layer_weights={ones}"] if weights == "equal" else []))
        else:
            seeds = read_seeds(arguments.item_seeds, shape[1])
            rows = sum(chain(train, seeds, layer) for layer in range(1, arguments.layers + 1, 2)
                       if weights == "equal" or layer == arguments.layers)
        trained = unit(rows).astype(np.float32)
        show(name, lambda users, trained=trained: trained[users] @ trained.T)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""gowalla_recall.py - what hash seeds and trained seeds are worth: recall@20 of user-kNN on Gowalla.

Of every user the --nearest most similar users are taken by the cosine of three-layer embeddings (the item
chain: item seeds to users, to items, to users); an item's score is the sum of the cosines of those of them
who have it; of the items that the user does not have yet the best 20 are compared with the held-out ones.

  exact sparse cosine   the same kNN on the rows of the interaction matrix itself, each 1 / sqrt(degree)
  hash seeds            +-1 for every item: exitpoll's own, from its export (--exitpoll), or random bits
  trained seeds         item vectors by BPR on the training table (torch), given as layer 0

    python3 -m venv venv && venv/bin/pip install numpy scipy torch fastavro
    venv/bin/python ops/experiments/gowalla_recall.py --train gowalla/train.tsv.xz --test gowalla/test.tsv.xz \\
        --exitpoll build/exitpoll

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


def program_rows(exitpoll, train_path, users, layers):
    with tempfile.TemporaryDirectory() as folder:
        def call(*arguments):
            subprocess.run([exitpoll, *arguments], check=True, cwd=folder, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
        call("import", "--interactions", os.path.abspath(train_path), "--out", "events", "--impressions", "none")
        begin = time.perf_counter()
        call("run", "--stage", "graph-updater", "--from", "events", "--to", "out", "--state", "state", "--set",
             "graph.flush_events=100000", "--set", "graph.threshold=0", "--set", f"graph.layers={layers}")
        print(f"  exitpoll: {time.perf_counter() - begin:.1f} s for the whole stream", flush=True)
        call("export", "--state", "state", "--what", "embeddings", "--out", "users")
        ids = [int(line) for line in open(os.path.join(folder, "users.ids"))]
        rows = np.zeros((users, WIDTH))
        rows[ids] = np.load(os.path.join(folder, "users.npy"))
        return rows


def trained_seeds(train, epochs, seed):
    """BPR-MF in torch: u.(i - j) for a taken i and a sampled j; the items' vectors, as E / sqrt(degree)."""
    import torch
    torch.manual_seed(seed)
    user, item = (torch.from_numpy(part.astype(np.int64)) for part in train.nonzero())
    p = torch.nn.Embedding(train.shape[0], WIDTH, sparse=True)
    q = torch.nn.Embedding(train.shape[1], WIDTH, sparse=True)
    for table in (p, q):
        torch.nn.init.normal_(table.weight, std=.1)
    optimizer = torch.optim.SparseAdam([*p.parameters(), *q.parameters()], lr=2e-3)
    for epoch in range(epochs):
        order, loss_sum = torch.randperm(len(user)), 0.0
        for at in range(0, len(order), 4096):
            batch = order[at:at + 4096]
            u, i = p(user[batch]), q(item[batch])
            j = q(torch.randint(train.shape[1], (len(batch),)))
            square = (u * u + i * i + j * j).sum(1).mean()
            loss = -torch.nn.functional.logsigmoid((u * (i - j)).sum(1)).mean() + 1e-3 * square
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += float(loss) * len(batch)
        if epoch % 5 == 4:
            print(f"  BPR epoch {epoch + 1}: loss {loss_sum / len(order):.4f}", flush=True)
    degree = np.asarray(train.sum(0)).ravel()
    return q.weight.detach().numpy() / np.sqrt(np.maximum(degree, 1))[:, None]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--exitpoll", help="the built program; left out: hash seeds in numpy")
    parser.add_argument("--nearest", type=int, default=100, help="similar users (100)")
    parser.add_argument("--layers", type=int, default=3, choices=[1, 3])
    parser.add_argument("--epochs", type=int, default=20, help="of BPR; 0: no trained seeds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-seeds", metavar="NAME", help="trained seeds as NAME.npy and NAME.ids")
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
        rows = program_rows(arguments.exitpoll, arguments.train, shape[0], arguments.layers)
    else:
        bits = np.random.default_rng(arguments.seed).choice([-1.0, 1.0], (shape[1], WIDTH))
        rows = chain(train, bits, arguments.layers)
    rows = unit(rows).astype(np.float32)
    show("hash seeds", lambda users: rows[users] @ rows.T)
    if arguments.epochs:
        seeds = trained_seeds(train, arguments.epochs, arguments.seed)
        trained = unit(chain(train, seeds, arguments.layers)).astype(np.float32)
        show("trained seeds", lambda users: trained[users] @ trained.T)
        if arguments.save_seeds:
            np.save(arguments.save_seeds + ".npy", seeds.astype(np.float32))
            with open(arguments.save_seeds + ".ids", "w") as out:
                out.writelines(f"{item}\n" for item in range(shape[1]))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""propagation_peers.py - a full recomputation of all embeddings: ours against torch and scipy, in one run.

Gowalla's (or any table's) interactions, D = 64, three layers. The same work for all is the item chain: item
seeds to users, users to items, items to users, each the mean over the neighbours (three sparse products).
What LightGCN in PyG does is shown as well: the symmetric matrix of users and items together, three products
of twice the size. Ours is bench_graph's full recomputation on two threads, which is compared bit for bit with
the incremental state there; it reads the same table when run from a checkout with that data. torch and scipy
are checked against each other before anything is timed.

    python3 -m venv venv && venv/bin/pip install numpy scipy torch
    venv/bin/python ops/experiments/propagation_peers.py --train gowalla/train.tsv.xz --bench build/bench_graph

Times are the best of --rounds; every peer has --threads threads (scipy's product knows one only).
"""
import argparse
import lzma
import re
import subprocess
import time
import warnings

import numpy as np
import scipy.sparse as sparse
import torch

warnings.filterwarnings("ignore", message="Sparse CSR")

WIDTH = 64


def read_pairs(path):
    with (lzma.open if path.endswith(".xz") else open)(path, "rt") as table:
        next(table)
        pairs = [line.split("\t")[:2] for line in table]
    users, user = np.unique([u.strip() for u, _ in pairs], return_inverse=True)
    items, item = np.unique([i.strip() for _, i in pairs], return_inverse=True)
    return user, item, len(users), len(items)


def best_ms(work, rounds):
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - begin))
    return min(times)


def chain(to_users, to_items, seeds):
    return to_users @ (to_items @ (to_users @ seeds))


def ours(bench, rounds):
    """Best of the rounds bench_graph makes, as it reports it, by number of threads."""
    found = {}
    for _ in range(max(1, rounds // 3)):
        text = subprocess.run([bench, "2000"], check=True, capture_output=True, text=True).stdout
        for threads, ms in re.findall(r"full recomputation, (\d+) threads?: ([\d.]+) ms", text):
            found[threads] = min(found.get(threads, 1e30), float(ms))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="table with user and item in its first two columns (TSV, xz)")
    parser.add_argument("--bench", help="the built bench_graph; left out: peers only")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    user, item, users, items = read_pairs(arguments.train)
    matrix = sparse.csr_matrix((np.ones(len(user), np.float32), (user, item)), (users, items))
    matrix.data[:] = 1
    user_degree, item_degree = np.asarray(matrix.sum(1)).ravel(), np.asarray(matrix.sum(0)).ravel()
    to_users = sparse.diags(1 / user_degree).dot(matrix).tocsr().astype(np.float32)
    to_items = sparse.diags(1 / item_degree).dot(matrix.T).tocsr().astype(np.float32)
    both = sparse.bmat([[None, matrix], [matrix.T, None]]).tocsr()
    root = sparse.diags(1 / np.sqrt(np.concatenate([user_degree, item_degree])))
    both = (root @ both @ root).tocsr().astype(np.float32)
    random = np.random.default_rng(1)
    seeds = random.choice(np.float32([-1, 1]), (items, WIDTH))
    every = random.choice(np.float32([-1, 1]), (users + items, WIDTH))
    print(f"{matrix.nnz} edges, {users} users, {items} items, {WIDTH} dimensions, 3 layers, {arguments.threads} threads")

    def torch_of(m):
        return torch.sparse_csr_tensor(torch.from_numpy(m.indptr.astype(np.int64)),
                                       torch.from_numpy(m.indices.astype(np.int64)), torch.from_numpy(m.data), m.shape)

    torch_users, torch_items, torch_both = torch_of(to_users), torch_of(to_items), torch_of(both)
    torch_seeds, torch_every = torch.from_numpy(seeds), torch.from_numpy(every)
    exact = chain(to_users.astype(np.float64), to_items.astype(np.float64), seeds.astype(np.float64))
    for name, got in [("scipy", chain(to_users, to_items, seeds)),
                      ("torch", chain(torch_users, torch_items, torch_seeds).numpy())]:
        error = np.abs(got - exact).max()
        assert error < 1e-5, (name, error)
    rows = [("torch, item chain", lambda: chain(torch_users, torch_items, torch_seeds)),
            ("scipy, item chain (1 thread)", lambda: chain(to_users, to_items, seeds)),
            ("torch, users and items together", lambda: torch_both @ (torch_both @ (torch_both @ torch_every))),
            ("scipy, users and items together (1 thread)", lambda: both @ (both @ (both @ every)))]
    for name, work in rows:
        print(f"{name:45} {best_ms(work, arguments.rounds):9.1f} ms", flush=True)
    if arguments.bench:
        for threads, ms in ours(arguments.bench, arguments.rounds).items():
            print(f"{'exitpoll, full recomputation, ' + threads + ' threads':45} {ms:9.1f} ms", flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""nearest_peers.py - nearest users against faiss-cpu and hnswlib: the same rows, machine and run.

Rows of 64 (int16, as the GCN keeps them) are made in two ways: normal, the hardest case for any bound, and in
clusters, as users are. bench_nearest answers the first --queries rows; its answers are compared with faiss's
exact ones (and ties by exact integers) before anything is timed. Then, in turn:

  exitpoll          exact: scan of half bytes, exact comparison of what passes
  faiss FlatIP      exact, float32
  hnswlib           approximate: recall@10 and time by ef, time to build, memory; and how recall ages when rows
                    keep changing (add_items with a label that is there moves the point)

    python3 -m venv venv && venv/bin/pip install numpy faiss-cpu hnswlib
    venv/bin/python ops/experiments/nearest_peers.py --bench build/bench_nearest

Every number is a median; threads are 1 for all in the main table. The exactness of exitpoll does not depend
on the rows, its time does: both kinds are shown.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import faiss
import hnswlib
import numpy as np

WIDTH, TOP, BATCH, ONE = 64, 10, 32, 8192


def made_rows(kind, count, seed):
    random = np.random.default_rng(seed)
    rows = random.standard_normal((count, WIDTH), dtype=np.float32)
    if kind == "clusters":
        centres = random.standard_normal((max(count // 50, 1), WIDTH), dtype=np.float32)
        rows = centres[random.integers(0, len(centres), count)] + rows * .5
    return np.clip(np.rint(rows * 1500), -ONE, ONE).astype(np.int16)


def unit(rows):
    wide = rows.astype(np.float32)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def median_ms(calls):
    times = []
    for call in calls:
        begin = time.perf_counter()
        call()
        times.append((time.perf_counter() - begin) * 1e3)
    return float(np.median(times))


def without_self(indexes, own):
    """Rows of TOP + 1 indexes, each without the asker."""
    return np.array([[i for i in row if i != me][:TOP] for row, me in zip(indexes, own)])


def check_equal(rows, ours, theirs):
    """Places may differ only where float32 could not tell the cosines apart: exact integers decide."""
    wide, other = rows.astype(np.int64), 0
    for me, (a, b) in enumerate(zip(ours, theirs)):
        if (a == b).all():
            continue
        for x, y in zip(a, b):
            if x == y:
                continue
            cosine = [wide[me] @ wide[i] / np.sqrt(float(wide[me] @ wide[me]) * float(wide[i] @ wide[i]))
                      for i in (x, y)]
            if cosine[0] < cosine[1] - 1e-15:
                sys.exit(f"query {me}: row {x} ({cosine[0]:.12f}) before {y} ({cosine[1]:.12f}): NOT exact")
            if abs(cosine[0] - cosine[1]) > 1e-6:
                sys.exit(f"query {me}: rows {x} and {y} differ by more than float32 explains")
            other += 1
    return other


def bench_ours(bench, rows, queries, folder):
    path = os.path.join(folder, "rows.i16")
    rows.tofile(path)
    done = subprocess.run([bench, "--rows", path, str(len(rows)), str(queries)], check=True, capture_output=True,
                          text=True)
    answers = np.fromfile(path + ".top", dtype=np.uint32).reshape(queries, TOP)
    return json.loads(done.stdout), answers


def bench_faiss(index, asked, threads):
    faiss.omp_set_num_threads(threads)
    index.search(asked[:1], TOP + 1)
    one = median_ms([lambda i=i: index.search(asked[i:i + 1], TOP + 1) for i in range(64)])
    batch = median_ms([lambda i=i: index.search(asked[i:i + BATCH], TOP + 1) for i in range(6)]) / BATCH
    return one, batch


def recall(found, exact):
    return float(np.mean([len(set(a) & set(b)) / TOP for a, b in zip(found, exact)]))


def exact_tops(rows, queries):
    index = faiss.IndexFlatIP(WIDTH)
    index.add(rows)
    return without_self(index.search(rows[:queries], TOP + 1)[1], range(queries))


def bench_hnsw(rows, exact, queries, updates, threads):
    normal = unit(rows)
    index = hnswlib.Index(space="ip", dim=WIDTH)
    index.init_index(max_elements=len(rows), M=16, ef_construction=200)
    index.set_num_threads(threads)
    begin = time.perf_counter()
    index.add_items(normal, np.arange(len(rows)))
    result = {"rows": len(rows), "build_s": time.perf_counter() - begin, "threads_of_build": threads, "ef": {}}
    index.set_num_threads(1)
    for ef in (16, 64, 256):
        index.set_ef(ef)
        found = without_self(index.knn_query(normal[:queries], k=TOP + 1)[0], range(queries))
        one = median_ms([lambda i=i: index.knn_query(normal[i:i + 1], k=TOP + 1) for i in range(64)])
        result["ef"][ef] = {"recall": recall(found, exact), "one_ms": one}
    # Every changed row moves a little, as an embedding does with each event; askers stay.
    index.set_ef(64)
    random, changed, spent = np.random.default_rng(3), normal.copy(), 0
    result["ageing_ef64"] = [result["ef"][64]["recall"]]
    for _ in range(4):
        who = random.choice(np.arange(queries, len(rows)), updates, replace=False)
        moved = changed[who] + random.standard_normal((updates, WIDTH), dtype=np.float32) * .08
        changed[who] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
        begin = time.perf_counter()
        index.add_items(changed[who], who)
        spent += time.perf_counter() - begin
        found = without_self(index.knn_query(changed[:queries], k=TOP + 1)[0], range(queries))
        result["ageing_ef64"].append(recall(found, exact_tops(changed, queries)))
    result["updates_per_s"] = 4 * updates / spent
    result["updates_each"] = updates
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/bench_nearest")
    parser.add_argument("--users", type=int, default=1000000)
    parser.add_argument("--queries", type=int, default=256, help="rows that ask (at least 64)")
    parser.add_argument("--hnsw-users", type=int, default=50000, help="hnswlib builds slowly; 0: leave it out")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = {}

    with tempfile.TemporaryDirectory() as folder:
        for kind in ("normal", "clusters"):
            rows = made_rows(kind, arguments.users, 1)
            normal = unit(rows)
            index = faiss.IndexFlatIP(WIDTH)
            index.add(normal)
            ours, answers = bench_ours(arguments.bench, rows, arguments.queries, folder)
            theirs = without_self(index.search(normal[:arguments.queries], TOP + 1)[1], range(arguments.queries))
            swapped = check_equal(rows, answers, theirs)
            # Alternating, since a shared machine's speed changes; medians of three.
            runs = []
            for _ in range(3):
                runs.append((bench_ours(arguments.bench, rows, arguments.queries, folder)[0],
                             bench_faiss(index, normal, 1), bench_faiss(index, normal, 2)))
            middle = {
                "one": (np.median([r[0]["one_ms"] for r in runs]), np.median([r[1][0] for r in runs])),
                "batch": (np.median([r[0]["batch_ms"] for r in runs]), np.median([r[1][1] for r in runs])),
                "one, 2 threads": (np.median([r[0]["one_threads_ms"] for r in runs]),
                                   np.median([r[2][0] for r in runs])),
                "batch, 2 threads": (np.median([r[0]["batch_threads_ms"] for r in runs]),
                                     np.median([r[2][1] for r in runs])),
            }
            results[kind] = {"kernel": ours["kernel"], "recall": recall(answers, theirs) if not swapped else 1.0,
                             "places_that_float32_confused": swapped,
                             "ms": {k: [float(a), float(b), float(b / a)] for k, (a, b) in middle.items()}}
            if not arguments.json:
                print(f"{arguments.users} users x {WIDTH}, {kind} ({ours['kernel']}): top {TOP} of "
                      f"{arguments.queries} queries equal faiss's ({swapped} places that float32 confused)")
                for name, (a, b) in middle.items():
                    print(f"  {name:<18} exitpoll {a:8.3f} ms   faiss FlatIP {b:8.3f} ms   {b / a:5.1f} x")
                sys.stdout.flush()
            del index, normal
            if arguments.hnsw_users:
                few = rows[:arguments.hnsw_users]
                exact = exact_tops(unit(few), arguments.queries)
                hnsw = bench_hnsw(few, exact, arguments.queries, arguments.hnsw_users // 10, 2)
                small = bench_ours(arguments.bench, few, arguments.queries, folder)[0]
                hnsw["exitpoll_one_ms"] = small["one_ms"]
                results[kind]["hnswlib"] = hnsw
                if not arguments.json:
                    print(f"  {len(few)} of them: exitpoll {small['one_ms']:.3f} ms, exact; hnswlib built in "
                          f"{hnsw['build_s']:.1f} s (2 threads)")
                    for ef, row in hnsw["ef"].items():
                        print(f"    hnswlib ef {ef:<4} {row['one_ms']:8.3f} ms   recall {row['recall']:.3f}")
                    print(f"    recall at ef 64 as a tenth of the rows changes, four times: "
                          + ", ".join(f"{r:.3f}" for r in hnsw["ageing_ef64"])
                          + f"; {hnsw['updates_per_s']:.0f} updates/s")
                    sys.stdout.flush()
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()

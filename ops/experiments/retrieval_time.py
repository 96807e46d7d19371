#!/usr/bin/env python3
"""retrieval_time.py - time to find similar users: the graph's embeddings against a retriever that reads
(the paper's Figure 2, in shape, on the data at hand).

  graph     import, run --stage graph-updater, export --what neighbors: construction, keeping it fresh per
            event, retrieval per user
  LLM       the titles of a user's last --history items through a language model (transformers), mean of the
            last hidden states, nearest by cosine: embedding per user (and again after every event), retrieval

Both find the same number of neighbours for the same users on --threads threads. What is compared is time:
of the reading retriever only --users users are embedded, and the time for all is extrapolated and says so.

    python3 -m venv venv && venv/bin/pip install numpy torch transformers gguf
    venv/bin/python ops/experiments/retrieval_time.py --exitpoll build/exitpoll --model FOLDER-OR-GGUF \\
        --interactions amazon-beauty/..._interactions.tsv.xz --items amazon-beauty/..._items.tsv.xz
"""
import argparse
import json
import lzma
import os
import subprocess
import tempfile
import time

import numpy as np
import torch
import transformers


def read(path):
    with (lzma.open if path.endswith(".xz") else open)(path, "rt", newline="\n") as table:
        names = next(table).rstrip("\n").split("\t")
        return [dict(zip(names, line.rstrip("\n").split("\t"))) for line in table]


def seconds(work):
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def graph(arguments, folder):
    def call(*words):
        done = subprocess.run([arguments.exitpoll, *words], check=True, cwd=folder, capture_output=True, text=True)
        return done.stdout
    call("import", "--interactions", os.path.abspath(arguments.interactions), "--items",
         os.path.abspath(arguments.items), "--out", "events", "--impressions", "none", "--quiet")
    whole, totals = seconds(lambda: call("run", "--stage", "graph-updater", "--from", "events", "--to", "out", "--state",
                                         "state", "--json", "--set", f"graph.threads={arguments.threads}"))
    events = json.loads(totals)["interactions"]
    load, _ = seconds(lambda: call("inspect", "state", "--check"))
    find, _ = seconds(lambda: call("export", "--state", "state", "--what", "neighbors", "--most",
                                   str(arguments.most), "--out", "near", "--quiet"))
    with open(os.path.join(folder, "near.tsv")) as table:
        users = len({line.split("\t")[0] for line in table}) - 1
    return events, users, whole, find, load


def reading(arguments, histories):
    path = arguments.model
    where = {"pretrained_model_name_or_path": path}
    if path.endswith(".gguf"):
        where = {"pretrained_model_name_or_path": os.path.dirname(path) or ".", "gguf_file": os.path.basename(path)}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
    model = transformers.AutoModel.from_pretrained(**where, torch_dtype=torch.float32).eval()
    rows = []

    def embed():
        with torch.inference_mode():
            for titles in histories:
                text = "The user liked: " + "; ".join(titles)
                tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=2048)
                rows.append(model(**tokens).last_hidden_state[0].mean(0).numpy())
    embed_seconds, _ = seconds(embed)
    return embed_seconds / len(histories), np.array(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exitpoll", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--interactions", required=True)
    parser.add_argument("--items", required=True)
    parser.add_argument("--users", type=int, default=50, help="embedded by the language model (50)")
    parser.add_argument("--history", type=int, default=15)
    parser.add_argument("--most", type=int, default=4, help="similar users (4)")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    with tempfile.TemporaryDirectory() as folder:
        events, users, whole, find, load = graph(arguments, folder)
    print(f"{events} interactions, {users} users")
    print(f"graph: built from nothing in {whole:.2f} s ({1e6 * whole / events:.1f} us an event, start included)")
    print(f"graph: {arguments.most} neighbours of every user in {find:.2f} s with reading the state "
          f"({1e3 * find / users:.4f} ms a user)", flush=True)

    titles = {row["item_id"]: row.get("title", "") for row in read(arguments.items)}
    by_user = {}
    for row in read(arguments.interactions):
        by_user.setdefault(row["user_id"], []).append((float(row.get("unix_time") or 0), row["item_id"]))
    chosen = np.random.default_rng(1).choice(sorted(by_user), arguments.users, replace=False)
    histories = [[titles.get(item, "") for _, item in sorted(by_user[user])[-arguments.history:]] for user in chosen]
    each, rows = reading(arguments, histories)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    every = np.tile(rows, (users // len(rows) + 1, 1))[:users].astype(np.float32)
    scan, _ = seconds(lambda: [np.argpartition(-(every @ row), arguments.most)[:arguments.most] for row in rows])
    retrieval = each + scan / len(rows)
    print(f"LLM: {1e3 * each:.1f} ms to embed a user ({arguments.users} measured; all {users}: {each * users:.0f} s, "
          f"extrapolated), {1e3 * scan / len(rows):.3f} ms to scan")
    print(f"a user's neighbours after one more event: graph {1e3 * (whole / events + find / users):.4f} ms, LLM "
          f"{1e3 * retrieval:.1f} ms: {retrieval / (whole / events + find / users):,.0f} times")


if __name__ == "__main__":
    main()

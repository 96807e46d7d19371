"""Embeddings of items by a language model, as ReLLa's retriever has them: the mean, over the tokens of a short text
that names the item, of the hidden states that enter the output layer. Cached in chunks, so a stopped run goes on.

With --time nothing is kept: processor time to embed an item (which a new item costs), and to find the nearest 15 of a
user's 50 items for 8 candidates once all are embedded.

    venv/bin/python ops/tuning/hf_folder.py MODEL.gguf model-hf
    venv/bin/python ops/experiments/item_embeddings.py ITEMS.tsv.xz --gguf MODEL.gguf --folder model-hf --out items.npz
"""
import argparse
import json
import lzma
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

CHUNK, BATCH, TOKENS_MAX = 512, 32, 32


def read_titles(path):
    """[(item_id, title)] of an items table."""
    with (lzma.open if str(path).endswith(".xz") else open)(path, "rt", newline="\n") as table:
        names = next(table).rstrip("\n").split("\t")
        rows = [dict(zip(names, line.rstrip("\n").split("\t"))) for line in table]
    return [(row["item_id"], row.get("title", "")) for row in rows]


def tokenize(exitpoll, gguf, texts):
    done = subprocess.run([str(exitpoll), "tokenize", "--json", "--model", str(gguf)], text=True, check=True,
                          input="".join(json.dumps(text) + "\n" for text in texts), capture_output=True)
    return [json.loads(line)[:TOKENS_MAX] for line in done.stdout.splitlines()]


def load(folder):
    import torch
    import transformers
    torch.set_num_threads(1)
    return transformers.AutoModel.from_pretrained(folder, torch_dtype=torch.float32).eval()


def embed(model, ids):
    """[texts, width]; texts are sorted by length within the call, so that little is padding."""
    import torch
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    rows = [None] * len(ids)
    for begin in range(0, len(order), BATCH):
        chosen = order[begin:begin + BATCH]
        longest = max(len(ids[i]) for i in chosen)
        tokens = torch.tensor([ids[i] + [0] * (longest - len(ids[i])) for i in chosen])
        mask = torch.tensor([[1] * len(ids[i]) + [0] * (longest - len(ids[i])) for i in chosen])
        with torch.inference_mode():
            states = model(input_ids=tokens, attention_mask=mask).last_hidden_state
        means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        for i, row in zip(chosen, means.numpy()):
            rows[i] = row
    return np.array(rows, np.float32)


def embeddings(items, exitpoll, gguf, folder, out):
    """(ids, [ids, width]) of an items table, from `out` where it is there."""
    out = Path(out)
    if not out.exists():
        titles, model, parts = read_titles(items), None, []
        tokens = tokenize(exitpoll, gguf, ["The item is: " + title for _, title in titles])
        for begin in range(0, len(titles), CHUNK):
            part = out.with_suffix(f".{begin}.npy")
            if not part.exists():
                model = model or load(folder)
                started = time.process_time()
                rows = embed(model, tokens[begin:begin + CHUNK])
                partial = part.with_suffix(".part.npy")
                np.save(partial, rows)
                partial.rename(part)
                print(f"{min(begin + CHUNK, len(titles))} of {len(titles)} items, "
                      f"{1e3 * (time.process_time() - started) / len(rows):.1f} ms of processor time each", file=sys.stderr, flush=True)
            parts.append(np.load(part))
        partial = out.with_suffix(".part.npz")
        np.savez(partial, ids=np.array([item for item, _ in titles]), rows=np.concatenate(parts))
        partial.rename(out)
    loaded = np.load(out)
    return [str(item) for item in loaded["ids"]], loaded["rows"]


def centred(rows):
    """Unit rows less their mean: a language model's states share one large direction."""
    rows = rows - rows.mean(0)
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-12)


def timed(arguments):
    chosen = np.random.default_rng(1).choice(len(titles := read_titles(arguments.items)), arguments.time, replace=False)
    tokens = tokenize(arguments.exitpoll, arguments.gguf, ["The item is: " + titles[i][1] for i in chosen])
    model = load(arguments.folder)
    embed(model, tokens[:2])
    begin = time.process_time()
    rows = embed(model, tokens)
    each = (time.process_time() - begin) / len(rows)
    past, candidates = np.tile(centred(rows), (50, 1))[:50], np.tile(centred(rows), (8, 1))[:8]
    begin = time.process_time()
    for _ in range(200):
        np.argpartition(-(candidates @ past.T), 15, axis=1)
    find = (time.process_time() - begin) / 200
    print(f"{len(rows)} items, {np.mean([len(ids) for ids in tokens]):.1f} tokens each: {1e3 * each:.1f} ms to embed one; "
          f"{1e3 * find:.3f} ms to search for 8 candidates among 50 embedded items")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items")
    parser.add_argument("--exitpoll", default="build/exitpoll", help="its tokenizer makes the token ids")
    parser.add_argument("--gguf", required=True, help="the model, for its tokenizer")
    parser.add_argument("--folder", required=True, help="the same model for PyTorch")
    parser.add_argument("--out", help="file of the embeddings, .npz")
    parser.add_argument("--time", type=int, metavar="N", help="only measure, on N items")
    arguments = parser.parse_args()
    if arguments.time:
        timed(arguments)
        return
    if not arguments.out:
        parser.error("--out FILE or --time N is needed")
    ids, rows = embeddings(arguments.items, arguments.exitpoll, arguments.gguf, arguments.folder, arguments.out)
    print(f"{len(ids)} items of {rows.shape[1]} dimensions in {arguments.out}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""untuned.py - what a language model as it is makes of the same impressions under different retrieval, and what
leaving early would cost it; resumable.

    venv/bin/python ops/experiments/untuned.py --exitpoll build/exitpoll --data ../shared/data \\
        --model MODEL.gguf --embeddings items.npz

A few hundred test impressions of a *liked* set (as many liked as not, which changes no AUC but makes it more certain)
become prompts of the shipped wording without statistics, one candidate each:

    recent     the user's last --history items (as TALLRec has it: no retrieval)
    GCN        the same, and some interactions of the 4 most similar users by the graph's embeddings
    LLM        the --history items of the user's last 50 that are nearest to the candidate in the language model's
               embedding, in their order (as ReLLa has it; item_embeddings.py)

The model (a bundle or an adapter's bundle will do) runs all layers and tells the logits of both answers after each
one, so that the same pass shows every exit: AUC at each layer, and for every rule the layers saved and what they cost
against the last layer. Differences are paired, with 95 % intervals by a bootstrap over users.
"""
import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path

import fastavro
import numpy as np

from baselines import commit
from baselines_data import HISTORY, SETS, TEST, make_events, prepare, run
from baselines_judge import DRAWS, Judge, interval
from item_embeddings import centred

CHUNK = 10
EXITS = 5           # every fifth layer
INSTRUCTION = ("You judge what customers will like. You are told how a customer and similar customers responded to "
               "items, and then one more item. Say whether the customer will like it. Answer with one word, Yes or No.")


def entry(item):
    """Segments are tokenised one by one, as serving does: literals, and values with the space before them."""
    return ["-", " " + item["text"].strip(), ":", f" rated {item['rating']:.4g}", "\n"]


def segments(history, examples, candidate):
    out = [f"<|im_start|>system\n{INSTRUCTION}<|im_end|>\n<|im_start|>user\n"]
    for number, example in enumerate(examples):
        out += ["Similar customer", f" {number + 1}", ":\n"]
        out += [part for item in example["entries"] for part in entry(item)]
    out += ["The customer, oldest first:\n"] + [part for item in history for part in entry(item)]
    return out + ["Item:", " " + candidate["text"].strip(), "\n", "Will the customer like this item?",
                  "<|im_end|>\n<|im_start|>assistant\n"]


def tokenise(arguments, prompts):
    """Ids of each prompt, from the ids of its segments."""
    distinct = sorted({segment for prompt in prompts for segment in prompt})
    done = subprocess.run([arguments.exitpoll, "tokenize", "--json", "--model", arguments.model], text=True, check=True,
                          input="".join(json.dumps(text) + "\n" for text in distinct), capture_output=True)
    ids = dict(zip(distinct, map(json.loads, done.stdout.splitlines())))
    return [[number for segment in prompt for number in ids[segment]] for prompt in prompts]


def chosen_requests(arguments, data):
    """(places among the test's impressions, their requests as JSON)"""
    path = Path(arguments.work) / arguments.set / f"untuned-requests-{arguments.count}.json"
    test = np.flatnonzero(data["part"] == TEST)
    label = data["label"][np.searchsorted(data["group"], test)]
    random = np.random.default_rng(arguments.seed)
    half = arguments.count // 2
    places = np.sort(np.r_[random.choice(np.flatnonzero(label), half, replace=False),
                           random.choice(np.flatnonzero(~label), half, replace=False)])
    if not path.exists():
        folder = Path(arguments.work) / arguments.set
        events, requests = make_events(arguments.set, arguments.exitpoll, arguments.data, folder), folder / "examples"
        if not (requests / "scoring-requests.avro").exists():
            command = [arguments.exitpoll, "run", "--stage", "graph-updater", "--from", events, "--to", requests,
                       "--quiet"]
            for setting in (f"enrichment.history_max={HISTORY}", "enrichment.examples_max=4",
                            f"enrichment.example_history_max={arguments.example_history}", "log.level=warning",
                            f"statistics.rating_scale={SETS[arguments.set].scale}"):
                command += ["--set", setting]
            run(command)
        wanted = {str(data["impression"][test[place]]): None for place in places}
        with open(requests / "scoring-requests.avro", "rb") as file:
            for request in fastavro.reader(file):
                if request["impression_id"] in wanted:
                    wanted[request["impression_id"]] = request
        path.write_text(json.dumps(list(wanted.values()), default=lambda time: round(1000 * time.timestamp())))
    return places, json.loads(path.read_text())


def nearest(history, candidate, rows, place_of, count):
    """The entries nearest to the candidate, in their order."""
    if candidate["item_id"] not in place_of:
        return history[-count:]
    target = rows[place_of[candidate["item_id"]]]
    nearness = [rows[place_of[e["item_id"]]] @ target if e["item_id"] in place_of else -2 for e in history]
    return [history[i] for i in sorted(sorted(range(len(history)), key=lambda i: -nearness[i])[:count])]


def prompts_of(arguments, condition, requests):
    if condition == "LLM":
        loaded = np.load(arguments.embeddings)
        rows, place_of = centred(loaded["rows"]), {str(item): i for i, item in enumerate(loaded["ids"])}
    out = []
    for request in requests:
        history, candidate = request["history"], request["candidates"][0]
        history = nearest(history, candidate, rows, place_of, arguments.history) if condition == "LLM" \
            else history[-arguments.history:]
        out.append(segments(history, request["examples"] if condition == "GCN" else [], candidate))
    return out


def layers_of(arguments, condition, requests):
    """[prompts, layers] log odds of Yes after each layer, and the mean length of the prompts."""
    path = Path(arguments.work) / arguments.set / f"untuned-{arguments.name}-{condition}-{arguments.count}.npz"
    if not path.exists():
        ids, done = tokenise(arguments, prompts_of(arguments, condition, requests)), []
        chunks = path.with_suffix(".jsonl")
        if chunks.exists():
            done = [json.loads(line) for line in chunks.read_text().splitlines()]
        while len(done) < len(ids):
            batch = ids[len(done):len(done) + CHUNK]
            file = path.with_suffix(".ids")
            file.write_text("".join(json.dumps(prompt) + "\n" for prompt in batch))
            got = subprocess.run([arguments.exitpoll, "score", "--model", arguments.model, "--prompt-file", file,
                                  "--ids", "--layers", "--answers", "Yes,No", "--exit-rule", "none", "--threads",
                                  "1"], text=True, check=True, capture_output=True).stdout.splitlines()
            rows = [[yes - no for yes, no in json.loads(line)["layers"]] for line in got]
            if len(rows) != len(batch):
                sys.exit(f"{len(rows)} answers to {len(batch)} prompts")
            with chunks.open("a") as out:
                out.write("".join(json.dumps(row) + "\n" for row in rows))
            done += rows
            print(f"{condition}: {len(done)} of {len(ids)}", file=sys.stderr, flush=True)
        np.savez(path, logits=np.array(done), tokens=np.mean([len(prompt) for prompt in ids]))
    loaded = np.load(path)
    return loaded["logits"], float(loaded["tokens"])


def leave(p, rule, threshold, window=3):
    """Index of the exit at which each row of p [rows, exits] leaves, by the rules of scorer/exit_policy.h."""
    rows, exits = p.shape
    out = np.full(rows, exits - 1)
    for row in range(rows):
        differences = np.abs(np.diff(p[row]))
        run_length = 0
        for l in range(exits - 1):
            if rule == "confidence":
                gone = max(p[row, l], 1 - p[row, l]) >= threshold
            elif rule == "fixed":
                gone = l == int(threshold)
            elif rule == "patience":
                same = l > 0 and (p[row, l] > .5) == (p[row, l - 1] > .5)
                run_length = run_length + 1 if same else 0
                gone = run_length >= threshold
            else:       # discrepancy: D exists from the second exit on, and the mean of earlier ones from the third
                earlier = differences[max(0, l - 1 - window):l - 1] if l >= 2 else []
                gone = len(earlier) > 0 and abs(differences[l - 1] - np.mean(earlier)) < threshold
            if gone:
                out[row] = l
                break
    return out


def rule_rows(judge, logits, labels):
    """Lines of a table: layers saved and what it costs, by rule and threshold."""
    layers = np.arange(EXITS, logits.shape[1] + 1, EXITS)
    at = logits[:, layers - 1]
    p, full = 1 / (1 + np.exp(-at)), at[:, -1]
    base, lines = judge.values(full)["AUC"], []
    loss = lambda z: np.logaddexp(0, z) - labels * z        # noqa: E731
    plan = [("discrepancy", t, w) for w in (1, 3) for t in (.01, .05, .2)] + \
        [("confidence", t, 0) for t in (.95, .9, .7)] + [("patience", t, 0) for t in (3, 2, 1)] + \
        [("fixed", t, 0) for t in range(len(layers) - 1)]
    for rule, threshold, window in plan:
        left = leave(p, rule, threshold, window)
        served = at[np.arange(len(at)), left]
        values = judge.values(served)["AUC"]
        name = f"{rule}, window {window}" if window else rule
        shown = f"layer {layers[int(threshold)]}" if rule == "fixed" else f"{threshold:g}"
        lines.append(f"| {name} | {shown} | {1 - (layers[left] / logits.shape[1]).mean():.3f} | {values[0]:.4f} | "
                     "%+.4f [%+.4f, %+.4f]" % ((values - base)[0], *np.nanquantile((values - base)[1:], [.025, .975]))
                     + f" | {loss(served).mean() - loss(full).mean():+.4f} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="ml-1m-liked", choices=[name for name in sorted(SETS) if "liked" in name])
    parser.add_argument("--exitpoll", default="build/exitpoll")
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--work", default="baselines", help="folder of everything computed (baselines)")
    parser.add_argument("--model", required=True)
    parser.add_argument("--name", default="untuned", help="of the model, in file names")
    parser.add_argument("--embeddings", help="of the items, for LLM; without it that row is left out")
    parser.add_argument("--count", type=int, default=200, help="impressions (200)")
    parser.add_argument("--history", type=int, default=8)
    parser.add_argument("--example-history", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    data = prepare(arguments.set, arguments.exitpoll, arguments.data, arguments.work)
    places, requests = chosen_requests(arguments, data)
    conditions = ["recent", "GCN"] + (["LLM"] if arguments.embeddings else [])
    found = {condition: layers_of(arguments, condition, requests) for condition in conditions}

    # Scores are those of the chosen impressions; the judge sees them alone.
    judge = Judge(data, arguments.seed, places)
    judge.rows = slice(None)
    if [str(i) for i in data["impression"][data["part"] == TEST][places]] != [r["impression_id"] for r in requests]:
        sys.exit("the requests are of other impressions")
    base = judge.values(found["recent"][0][:, -1])["AUC"]
    depths = list(range(EXITS, found["recent"][0].shape[1] + 1, EXITS))
    print(f"## {arguments.set}, {arguments.name}\n\n{datetime.date.today()}, commit {commit()}, seed {arguments.seed}; "
          f"{len(requests)} test impressions, half of them liked; history {arguments.history}, 4 similar users of "
          f"{arguments.example_history} interactions. 95 % intervals by {DRAWS} paired draws over users.\n")
    print("| retrieval | tokens | AUC, all layers | difference from recent | "
          + " | ".join(f"at layer {depth}" for depth in depths[:-1]) + " |")
    print("|---" * (4 + len(depths) - 1) + "|")
    for condition, (logits, tokens) in found.items():
        values = judge.values(logits[:, -1])["AUC"]
        difference = "" if condition == "recent" else "%+.4f [%+.4f, %+.4f]" % (
            (values - base)[0], *np.nanquantile((values - base)[1:], [.025, .975]))
        print(f"| {condition} | {tokens:.0f} | {interval(values)} | {difference} | "
              + " | ".join("%.3f" % judge.values(logits[:, depth - 1])["AUC"][0] for depth in depths[:-1]) + " |")
    print("\nLeaving early, GCN (the model's own norm and answer words at every exit; AUC and log loss against the "
          "last layer):\n\n| rule | threshold | layers saved | AUC | difference | log loss |\n" + "|---" * 6 + "|")
    print("\n".join(rule_rows(judge, found["GCN"][0], judge.labels)))


if __name__ == "__main__":
    main()

"""Data of the baselines: events -> scoring requests (by exitpoll itself) -> arrays, each step done once per folder.

What a model may see of a sample is what the scoring request holds, so nothing at or after the impression's time:
the fresh statistics and the last 50 interactions of the user. A finished step leaves its file under its own name
(before: another name or a temporary one), so an interrupted run goes on where it stopped.
"""
import json
import subprocess
import sys
from pathlib import Path

import fastavro
import numpy as np

from fresh_statistics import names_of

# Arguments of import; settings; fewest interactions in the history of a sample.
SETS = {
    "beauty-liked": ("amazon-beauty/beauty2014_5core", "brand=first-word(title)", ["--impressions", "all"], 3),
    "beauty-clicked": ("amazon-beauty/beauty2014_5core", "brand=first-word(title)",
                       ["--impressions", "last:0.2015", "--candidates", "8", "--skip-new"], 0),
    "ml-1m-liked": ("ml-1m/", "genre=genres", ["--impressions", "all", "--untimed", "skip"], 3),
}
HISTORY = 50
LIKED_ABOVE = 3
TRAIN, VALIDATION, TEST = range(3)


def run(command):
    print("$", " ".join(map(str, command)), file=sys.stderr, flush=True)
    subprocess.run(list(map(str, command)), check=True)


def prepare(name, exitpoll, data, work):
    """The arrays of a data set, made where work does not hold them yet."""
    folder = Path(work) / name
    arrays = folder / "arrays.npz"
    if not arrays.exists():
        stem, attribute, rule, history_min = SETS[name]
        stem = str(Path(data) / stem) + ("_" if not stem.endswith("/") else "/")
        events, requests = folder / "events", folder / "requests"
        if not (events / "impressions.avro").exists():
            run([exitpoll, "import", "--interactions", f"{stem}interactions.tsv.xz", "--items", f"{stem}items.tsv.xz",
                 "--attribute", attribute, "--out", events, "--quiet"] + rule)
        if not (requests / "scoring-requests.avro").exists():
            run([exitpoll, "run", "--stage", "graph-updater", "--from", events, "--to", requests, "--quiet",
                 "--set", "enrichment.examples_max=0", "--set", f"enrichment.history_max={HISTORY}",
                 "--set", "statistics.rating_scale=1..5",
                 "--set", "statistics.attributes=" + attribute.split("=")[0]])
        read = read_requests(events / "interactions.avro", requests / "scoring-requests.avro",
                             names_of([attribute.split("=")[0]]), name.endswith("clicked"), history_min)
        partial = folder / "arrays.part.npz"
        np.savez(partial, **read)
        partial.rename(arrays)
    loaded = np.load(arrays)
    return {key: loaded[key] for key in loaded.files}


class Numbers:
    """Ids to 1, 2, ... in the order of first sight; 0 is nothing."""

    def __init__(self):
        self.of = {}

    def __call__(self, text):
        return self.of.setdefault(text, len(self.of) + 1)


def read_requests(interactions, requests, names, clicked, history_min):
    users, items = Numbers(), Numbers()
    answers, log = {}, []
    with open(interactions, "rb") as file:
        for row in fastavro.reader(file):
            log.append((row["event_time"].timestamp(), users(row["user_id"]), items(row["item_id"]), row["rating"]))
            if row["impression_id"]:
                answers[row["impression_id"]] = (row["item_id"], row["rating"])
    out = {key: [] for key in ("group", "item", "label", "features", "user", "time", "history", "stars")}
    with open(requests, "rb") as file:
        for request in fastavro.reader(file):
            answer = answers.get(request["impression_id"])
            past = request["history"][-HISTORY:]
            if answer is None or len(past) < history_min or request["status"] == "LATE":
                continue
            impression = len(out["user"])
            out["user"].append(users(request["user_id"]))
            out["time"].append(request["event_time"].timestamp())
            padding = [0] * (HISTORY - len(past))
            out["history"].append(np.array(padding + [items(e["item_id"]) for e in past], np.int32))
            out["stars"].append(np.array(padding + [round(e["rating"] or 0) for e in past], np.int8))
            for candidate in request["candidates"]:
                row = request["user_statistics"] + candidate["statistics"]
                if len(row) != len(names):
                    sys.exit(f"{len(row)} statistics in a request, {len(names)} names: another version?")
                out["group"].append(impression)
                out["item"].append(items(candidate["item_id"]))
                out["features"].append(np.array(row, np.float32))
                out["label"].append(candidate["item_id"] == answer[0] if clicked else answer[1] > LIKED_ABOVE)
    count = len(out["user"])
    if count < 1000:
        sys.exit(f"only {count} samples: too few to say anything")
    # Requests are in time order: the first 80 % train, the next 10 % validate, the rest are the test.
    part = np.full(count, TRAIN, np.int8)
    part[int(count * .8):] = VALIDATION
    part[int(count * .9):] = TEST
    arrays = {key: np.array(values) for key, values in out.items()}
    arrays.update(part=part, names=np.array(names), users=np.array(len(users.of)), items=np.array(len(items.of)),
                  log=np.array([(t, u, i, np.nan if r is None else r) for t, u, i, r in log]),
                  about=np.array(json.dumps({"clicked": clicked, "history_min": history_min})))
    if np.any(np.diff(arrays["time"]) < 0):
        sys.exit(f"{requests}: requests are not in time order")
    return arrays

"""Data of the baselines: events -> scoring requests (by exitpoll itself) -> arrays, each step done once per folder.

What a model may see of a sample is what the scoring request holds, so nothing at or after the impression's time:
the fresh statistics and the last 50 interactions of the user. A finished step leaves its file under its own name
(before: another name or a temporary one), so an interrupted run goes on where it stopped.
"""
import argparse
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import fastavro
import numpy as np

from fresh_statistics import names_of

HISTORY = 50
TRAIN, VALIDATION, TEST = range(3)


@dataclass
class Set:
    """A data set and its protocol."""
    stem: str                                   # of the tables' names below --data
    attribute: str                              # as import takes it
    rule: list = field(default_factory=list)    # arguments of import: which rows become impressions
    history_min: int = 0                        # fewest earlier interactions of a sample
    clicked: bool = False                       # which of the candidates is taken; else: is the rating above
    liked_above: float = 3
    scale: str = "1..5"                         # lowest and highest rating
    by_users: bool = False                      # parts are drawn users, else they follow each other in time
    rated: bool = True


SETS = {
    "beauty-liked": Set("amazon-beauty/beauty2014_5core_", "brand=first-word(title)", ["--impressions", "all"], 3),
    "beauty-clicked": Set("amazon-beauty/beauty2014_5core_", "brand=first-word(title)",
                          ["--impressions", "last:0.2015", "--candidates", "8", "--skip-new"], clicked=True),
    "ml-1m-liked": Set("ml-1m/", "genre=genres", ["--impressions", "all", "--untimed", "skip"], 3),
    # No times: rows come in the table's order, user after user. As ReLLa has it: one target a user (here the last
    # row), at least 5 others, ratings from 5 on are positive, unrated books are not, users are drawn.
    "bookcrossing-liked": Set("bookcrossing/", "writer=author", ["--impressions", "leave-last"], 5, liked_above=4,
                              scale="0..10", by_users=True),
    # No ratings, so only what was taken is known.
    "video-games-clicked": Set("amazon-video-games/video_games2014_5core_", "brand=first-word(title)",
                               ["--impressions", "last:0.2", "--candidates", "8", "--skip-new", "--untimed", "skip"],
                               clicked=True, rated=False),
}


def arguments_of(description):
    """A parser with what every command over a set takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--exitpoll", default="build/exitpoll")
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--work", default="baselines", help="folder of everything computed (baselines)")
    parser.add_argument("--seed", type=int, default=1)
    return parser


def run(command):
    print("$", " ".join(map(str, command)), file=sys.stderr, flush=True)
    subprocess.run(list(map(str, command)), check=True)


def attribute_of(name):
    return SETS[name].attribute.split("=")[0]


def make_events(name, exitpoll, data, folder):
    """The events of a set, in folder/events."""
    events, chosen = folder / "events", SETS[name]
    if not (events / "impressions.avro").exists():
        stem = f"{data}/{chosen.stem}"
        run([exitpoll, "import", "--interactions", f"{stem}interactions.tsv.xz", "--items", f"{stem}items.tsv.xz",
             "--attribute", chosen.attribute, "--out", events, "--quiet"] + chosen.rule)
    return events


def prepare(name, exitpoll, data, work, variant="", settings=()):
    """The arrays of a data set, made where work does not hold them yet. A variant has settings of its own."""
    folder = Path(work) / name
    arrays = folder / f"arrays{variant and '-' + variant}.npz"
    if not arrays.exists():
        events, requests = make_events(name, exitpoll, data, folder), folder / f"requests{variant and '-' + variant}"
        if not (requests / "scoring-requests.avro").exists():
            command = [exitpoll, "run", "--stage", "graph-updater", "--from", events, "--to", requests, "--quiet"]
            for setting in (["enrichment.examples_max=0", f"enrichment.history_max={HISTORY}",
                             f"statistics.rating_scale={SETS[name].scale}",
                             f"statistics.attributes={attribute_of(name)}"] + list(settings)):
                command += ["--set", setting]
            run(command)
        read = read_requests(events / "interactions.avro", requests / "scoring-requests.avro", SETS[name],
                             names_of([attribute_of(name)]))
        partial = folder / f"arrays-{variant}.part.npz"
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


def parts(count, by_users):
    """80 % train, 10 % validate, 10 % test: of requests in time order, or drawn (one request a user)."""
    part = np.full(count, TRAIN, np.int8)
    part[int(count * .8):] = VALIDATION
    part[int(count * .9):] = TEST
    return np.random.default_rng(42).permutation(part) if by_users else part


def read_requests(interactions, requests, chosen, names):
    """Arrays of one row an impression: user, time, impression (its id), part, history and stars (both padded at the
    left; stars: rating + 1, 0 where there is none); of one row a candidate: group (its impression), item, label,
    features; and of one row an interaction: log (time, user, item, rating)."""
    users, items = Numbers(), Numbers()
    answers, log = {}, []
    with open(interactions, "rb") as file:
        for row in fastavro.reader(file):
            log.append((row["event_time"].timestamp(), users(row["user_id"]), items(row["item_id"]), row["rating"]))
            if row["impression_id"]:
                answers[row["impression_id"]] = (row["item_id"], row["rating"])
    out = {key: [] for key in ("group", "item", "label", "features", "user", "time", "impression", "history", "stars")}
    with open(requests, "rb") as file:
        for request in fastavro.reader(file):
            answer = answers.get(request["impression_id"])
            past = request["history"][-HISTORY:]
            if answer is None or len(past) < chosen.history_min or request["status"] == "LATE":
                continue
            impression = len(out["user"])
            out["user"].append(users(request["user_id"]))
            out["time"].append(request["event_time"].timestamp())
            out["impression"].append(request["impression_id"])
            padding = [0] * (HISTORY - len(past))
            out["history"].append(np.array(padding + [items(e["item_id"]) for e in past], np.int32))
            out["stars"].append(np.array(padding + [0 if e["rating"] is None else round(e["rating"]) + 1
                                                    for e in past], np.int8))
            for candidate in request["candidates"]:
                row = request["user_statistics"] + candidate["statistics"]
                if len(row) != len(names):
                    sys.exit(f"{len(row)} statistics in a request, {len(names)} names: another version?")
                out["group"].append(impression)
                out["item"].append(items(candidate["item_id"]))
                out["features"].append(np.array(row, np.float32))
                out["label"].append(candidate["item_id"] == answer[0] if chosen.clicked
                                    else answer[1] > chosen.liked_above)
    count = len(out["user"])
    if count < 1000:
        sys.exit(f"only {count} samples: too few to say anything")
    arrays = {key: np.array(values) for key, values in out.items()}
    if np.any(np.diff(arrays["time"]) < 0):
        sys.exit(f"{requests}: requests are not in time order")
    low, high = (float(end) for end in chosen.scale.split(".."))
    arrays.update(part=parts(count, chosen.by_users), names=np.array(names), users=np.array(len(users.of)),
                  items=np.array(len(items.of)), item_ids=np.array([""] + list(items.of)),
                  log=np.array([(t, u, i, np.nan if r is None else r) for t, u, i, r in log]),
                  about=np.array(json.dumps({"clicked": chosen.clicked, "by_users": chosen.by_users,
                                             "low": low, "high": high})))
    return arrays


def about(data):
    return json.loads(str(data["about"]))


def responses(data):
    """Of each row of the log, in [0, 1]: the rating on its scale, 1 where nothing was rated."""
    known = about(data)
    rating = data["log"][:, 3]
    return np.where(np.isnan(rating), 1.0, (rating - known["low"]) / (known["high"] - known["low"]))

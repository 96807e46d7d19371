#!/usr/bin/env python3
"""ablations.py - what each part of the fresh statistics is worth, without a language model's predictions; resumable.

    venv/bin/python ops/experiments/ablations.py beauty-clicked --exitpoll build/exitpoll --data ../shared/data
    ... --sources .                                 also builds the variants of k and of the history's length
    ... --embeddings items.npz                      also retrieval by a language model (item_embeddings.py)

Samples are those of baselines.py (and its --work can be shared). Every row is fitted on the training part (LightGBM
stops by the validation part) and judged on the same test samples; the table has its main AUC and the difference from
all fresh statistics as served, paired, with 95 % intervals over users, for logistic regression and for LightGBM.

    retrieval      none: no row of similar items, raters or texts; GCN: similar items and raters; words: similar texts;
                   LLM: the user's items weighted by their nearness to the candidate in a language model's embedding,
                   in the formulas of the statistics' own rows
    without ...    all but one group
    freshness      frozen: the test sees the graph as it was when the test began; N days late: every interaction
                   reaches the graph N days after it happened, in training too
    raters, past   the most raters of a candidate and the most items of a user that statistics look at (64 and 50)
    graph          settings of the embeddings
"""
import datetime
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fastavro
import numpy as np

from baselines import commit
from baselines_classic import lightgbm_scores, logistic_scores
from baselines_data import SETS, TEST, arguments_of, attribute_of, make_events, prepare, responses, run
from baselines_judge import DRAWS, Judge
from fresh_statistics import names_of

ITEMS = ["similar_items", "similar_items_weight"]
RATERS = ["similar_raters", "similar_raters_weight"]
TEXTS = ["similar_texts", "similar_texts_weight", "similar_texts_max"]
# Boosting is slow, so it is fitted for these rows alone.
BOOSTED = ["all", "retrieval: none", "retrieval: GCN", "retrieval: words", "retrieval: LLM",
           "all, and retrieval by LLM", "without similar raters", "freshness: frozen", "freshness: 1 day late",
           "graph: flush_events 1"]
LLM_POWERS = (2, 6)     # of the cosine: most of the user's items count, or the nearest do


def subsets(names, attribute):
    """{row: the statistics that it uses}"""
    attributes = [name for name in names if name.startswith(attribute + "_")]
    plain = [name for name in names if name not in ITEMS + RATERS + TEXTS]

    def without(*left_out):
        return [name for name in names if name not in left_out]
    return {
        "all": names,
        "retrieval: none": plain,
        "retrieval: words": plain + TEXTS,
        "retrieval: GCN, similar items": plain + ITEMS,
        "retrieval: GCN, similar raters": plain + RATERS,
        "retrieval: GCN": plain + ITEMS + RATERS,
        "without similar raters": without(*RATERS),
        "without similar items": without(*ITEMS),
        "without similar texts": without(*TEXTS),
        "without attributes": without(*attributes),
        "without residuals": without("user_residual", "item_residual"),
        "without the user's recent responses": without("user_recent"),
        "without counts": without("user_log_count", "item_log_count"),
    }


def read_features(requests, data):
    """The statistics of other requests, in the order of the samples' candidates."""
    wanted, out = [str(name) for name in data["impression"]], []
    item_ids, starts = data["item_ids"], np.searchsorted(data["group"], np.arange(len(wanted) + 1))
    with open(requests / "scoring-requests.avro", "rb") as file:
        for request in fastavro.reader(file):
            place = len(out)
            if place == len(wanted) or request["impression_id"] != wanted[place]:
                continue
            if [c["item_id"] for c in request["candidates"]] != \
                    [str(item_ids[i]) for i in data["item"][starts[place]:starts[place + 1]]]:
                sys.exit(f"{requests}: other candidates in {wanted[place]}")
            out.append([request["user_statistics"] + c["statistics"] for c in request["candidates"]])
    if len(out) != len(wanted):
        sys.exit(f"{requests}: {len(out)} of {len(wanted)} impressions, or in another order")
    return np.array([row for rows in out for row in rows], np.float32)


def changed_events(events, target, change):
    """A copy of a folder of events whose interactions went through change(record) -> record or None."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("items.avro", "impressions.avro"):
        shutil.copyfile(events / name, target / name)
    with open(events / "interactions.avro", "rb") as source, open(target / "interactions.avro", "wb") as sink:
        reader = fastavro.reader(source)
        own = {key: value for key, value in reader.metadata.items() if not key.startswith("avro.")}
        kept = filter(None, (change(record) for record in reader))
        fastavro.writer(sink, reader.writer_schema, sorted(kept, key=lambda record: record["event_time"]),
                        metadata=own)


def replayed(arguments, data, label, exitpoll, settings=(), change=None):
    """Features of the samples as another program, other settings or other events give them; kept in a file."""
    folder = Path(arguments.work) / arguments.set
    path = folder / f"ablation-{label}.npy"
    if not path.exists():
        events, requests = make_events(arguments.set, arguments.exitpoll, arguments.data, folder), folder / "replayed"
        if change:
            changed_events(events, folder / "events-changed", change)
            events = folder / "events-changed"
        shutil.rmtree(requests, ignore_errors=True)
        command = [exitpoll, "run", "--stage", "graph-updater", "--from", events, "--to", requests, "--quiet"]
        for setting in ["enrichment.examples_max=0", "enrichment.history_max=1", "log.level=warning",
                        f"statistics.rating_scale={SETS[arguments.set].scale}",
                        f"statistics.attributes={attribute_of(arguments.set)}", *settings]:
            command += ["--set", setting]
        run(command)
        found = read_features(requests, data)
        partial = path.with_suffix(".part.npy")
        np.save(partial, found)
        partial.rename(path)
        shutil.rmtree(requests)
        if change:
            shutil.rmtree(events)
    return np.load(path)


def built(arguments, name, value):
    """A program with another limit of graph-updater/statistics.h, built in a copy of the sources."""
    program = Path(arguments.work) / f"exitpoll-{name}-{value}"
    if not program.exists():
        copy, build = Path(arguments.work) / "sources", Path(arguments.work) / "build"
        copy.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(["git", "-C", arguments.sources, "archive", "HEAD"], check=True, capture_output=True)
        subprocess.run(["tar", "-xmf", "-", "-C", str(copy)], input=archive.stdout, check=True)
        header = copy / "graph-updater" / "statistics.h"
        text, count = re.subn(rf"\b{name} = \d+", f"{name} = {value}", header.read_text())
        if count != 1:
            sys.exit(f"{header}: {name} is set {count} times")
        header.write_text(text)
        run(["cmake", "-S", copy, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"])
        run(["cmake", "--build", build, "--target", "exitpoll", "-j2"])
        shutil.copy2(build / "exitpoll", program)
    return program


def late(days):
    def change(record):
        record["event_time"] += datetime.timedelta(days=days)
        return record
    return change


def before(begin):
    return lambda record: record if record["event_time"].timestamp() < begin else None


def llm_columns(data, ids, rows):
    """[candidates, 2 * powers + 1]: as similar_texts, _weight and _max are defined, with the cosine of the language
    model's (centred) embeddings. Only interactions of strictly earlier times are seen, the user's last 50."""
    row_of = {item: place for place, item in enumerate(ids)}
    width = rows.shape[1]
    table = np.zeros((int(data["items"]) + 1, width), np.float32)
    for number, item in enumerate(data["item_ids"]):
        if str(item) in row_of and number < len(table):
            table[number] = rows[row_of[str(item)]]
    value, log = responses(data), data["log"]
    order = np.argsort(log[:, 0], kind="stable")
    sums, count = np.zeros(len(table)), np.zeros(len(table))
    total, seen, own = 0.0, 0, {}
    starts = np.searchsorted(data["group"], np.arange(len(data["user"]) + 1))
    out = np.zeros((len(data["group"]), 2 * len(LLM_POWERS) + 1))
    for impression, (user, now, past) in enumerate(zip(data["user"], data["time"], data["history"])):
        while seen < len(order) and log[order[seen], 0] < now:
            place = order[seen]
            item, v = int(log[place, 2]), value[place]
            sums[item] += v
            count[item] += 1
            total += v
            own[int(log[place, 1]), item] = v
            seen += 1
        past = past[past > 0]
        if not len(past):
            continue
        overall = (total + 50 * .7) / (seen + 50)
        v = np.array([own[user, item] for item in past])
        residual = v - (sums[past] - v + 3 * overall) / (count[past] - 1 + 3)
        difference = residual - residual.sum() / (len(past) + 3)
        chosen = slice(starts[impression], starts[impression + 1])
        nearness = np.maximum(0, table[data["item"][chosen]] @ table[past].T)
        columns = []
        for power in LLM_POWERS:
            weight = nearness ** power
            columns += [weight @ difference / (weight.sum(1) + .1), weight.sum(1)]
        out[chosen] = np.stack(columns + [nearness.max(1)], 1)
    return out


class Table:
    """Scores of every row, kept in files, judged against those of `all`."""

    def __init__(self, arguments, data):
        self.arguments, self.data = arguments, data
        self.judge = Judge(data, arguments.seed)
        self.models, self.rows, self.base = arguments.models.split(","), [], {}

    def scores(self, model, name, features, chosen, extra):
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        path = Path(self.arguments.work) / self.arguments.set / f"ablation-{model}-{slug}.npy"
        if not path.exists():
            data = dict(self.data, features=features)
            found = logistic_scores(data, chosen, extra) if model == "logistic" else \
                lightgbm_scores(data, chosen, self.arguments.seed, extra)
            np.save(path.with_suffix(".part.npy"), found)
            path.with_suffix(".part.npy").rename(path)
        return np.load(path)

    def add(self, name, features, chosen, extra=None):
        cells = []
        for model in self.models:
            if model == "lightgbm" and name not in BOOSTED:
                cells += ["", ""]
                continue
            scores = self.scores(model, name, features, chosen, extra)
            values = self.judge.values(scores, main_only=True)[self.judge.main]
            self.base.setdefault(model, values)
            cells.append("%.4f" % values[0])
            cells.append("" if self.base[model] is values else
                         "%+.4f [%+.4f, %+.4f]" % ((values - self.base[model])[0],
                                                   *np.quantile((values - self.base[model])[1:], [.025, .975])))
        self.rows.append(f"| {name} | " + " | ".join(cells) + " |")
        print(self.rows[-1], file=sys.stderr, flush=True)

    def text(self):
        head = [f"## {self.arguments.set}", "",
                f"{datetime.date.today()}, commit {commit()}, seed {self.arguments.seed}; {self.judge.impressions} "
                f"test impressions; {self.judge.main}, and its difference from all fresh statistics with a 95 % "
                f"interval by {DRAWS} paired draws over users.", "",
                "| row | " + " | ".join(f"{model} | difference" for model in self.models) + " |",
                "|---" * (2 * len(self.models) + 1) + "|"]
        return "\n".join(head + self.rows)


def variants(arguments, data):
    """(row, features) of every replay; made one after the other."""
    def of(label, exitpoll=arguments.exitpoll, **more):
        return replayed(arguments, data, label, exitpoll, **more)
    if not SETS[arguments.set].by_users:
        begin = data["time"][data["part"] == TEST].min()
        frozen = of("frozen", change=before(begin))
        yield "freshness: frozen", np.where((data["part"][data["group"]] == TEST)[:, None], frozen, data["features"])
        for days in (1, 7, 30):
            yield f"freshness: {days} day{'s' * (days > 1)} late", of(f"late-{days}", change=late(days))
    if arguments.sources:
        for name, word, values in (("RATERS_MAX", "raters", (4, 16, 256)), ("PAST_MAX", "past", (5, 15))):
            for value in values:
                yield f"{word}: {value}", of(f"{word}-{value}", exitpoll=built(arguments, name, value))
    # Where rows come user after user, a user's whole past can lie between two refreshes of the embeddings.
    graph = ["graph.flush_events=1"] if SETS[arguments.set].by_users else \
        ["graph.dimensions=32", "graph.dimensions=128", "graph.threshold=0", "graph.flush_events=16384"]
    for setting in graph:
        yield "graph: " + setting.split(".")[1].replace("=", " "), of(setting, settings=[setting])


def main():
    parser = arguments_of(__doc__)
    parser.add_argument("--sources", help="a checkout, from which variants of the program are built")
    parser.add_argument("--embeddings", help="of the items, by item_embeddings.py")
    parser.add_argument("--models", default="logistic,lightgbm")
    parser.add_argument("--no-replays", action="store_true", help="only what the samples' own statistics show")
    arguments = parser.parse_args()
    data = prepare(arguments.set, arguments.exitpoll, arguments.data, arguments.work)
    names, attribute = names_of([attribute_of(arguments.set)]), attribute_of(arguments.set)
    table, rows = Table(arguments, data), subsets(names, attribute)
    for name, chosen in rows.items():
        table.add(name, data["features"], chosen)
    if arguments.embeddings:
        from item_embeddings import centred
        loaded = np.load(arguments.embeddings)
        extra = llm_columns(data, [str(item) for item in loaded["ids"]], centred(loaded["rows"]))
        table.add("retrieval: LLM", data["features"], rows["retrieval: none"], extra)
        table.add("all, and retrieval by LLM", data["features"], names, extra)
    if not arguments.no_replays:
        for name, features in variants(arguments, data):
            table.add(name, features, names)
    text = table.text()
    (Path(arguments.work) / f"{arguments.set}-ablations.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()

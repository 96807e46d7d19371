#!/usr/bin/env python3
"""baselines.py - what classic models make of the same samples; one command a table, resumable.

    python3 -m venv venv && venv/bin/pip install numpy fastavro zstandard lightgbm scikit-learn torch
    venv/bin/python ops/experiments/baselines.py beauty-liked --exitpoll build/exitpoll --data ../shared/data

Samples are the impressions of exitpoll's own replay, in time order 80 % to train, 10 % to validate (early stopping
only), 10 % for the test; see baselines_data.py. Each row's scores on the test go to --work and are not computed
again, so a run that is stopped goes on (other settings in the code: another --work). The table (Markdown, on stdout and in --work) has AUC with its 95 % interval
over users, AUC within the impression for *clicked* data, log loss, and the difference of the main AUC from
--against with its paired interval. Rows:

    popularity         log count of the candidate, unfitted
    means              logistic regression on mean and count of user and item, after every earlier event
    means-frozen       the same, as they were before the first test sample: what a nightly job knows at best
    logistic           logistic regression on all fresh statistics
    lightgbm           gradient boosting on all fresh statistics
    deepfm, din, sim, gru4rec (and -no-ratings)     baselines_models.py: ids and history alone, in PyTorch

A row whose library is missing is named as not run. Settings are fixed beforehand; nothing is chosen on the test.
"""
import argparse
import datetime
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from baselines_data import SETS, TEST, TRAIN, VALIDATION, prepare

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tuning"))
from measures import auc, log_loss  # noqa: E402

CLASSIC = ["popularity", "means", "means-frozen", "logistic", "lightgbm"]
NEURAL = [name + end for name in ("deepfm", "din", "sim", "gru4rec") for end in ("", "-no-ratings")]
MEANS = ["user_mean", "user_log_count", "item_mean", "item_log_count"]
DRAWS = 500


def logit_columns(columns, names):
    columns = columns.astype(float)
    for i, name in enumerate(names):
        if name.endswith("_mean") or name == "user_recent":
            share = np.clip(columns[:, i], .02, .98)
            columns[:, i] = np.log(share / (1 - share))
    return columns


def fit_logistic(columns, labels):
    """(shift, scale, weights), by Newton's method with next to no regularisation."""
    shift, scale = columns.mean(0), columns.std(0) + 1e-9
    inputs = np.c_[(columns - shift) / scale, np.ones(len(labels))]
    weights = np.zeros(inputs.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-inputs @ weights))
        hessian = (inputs * (p * (1 - p))[:, None]).T @ inputs + 1e-3 * np.eye(len(weights))
        step = np.linalg.solve(hessian, inputs.T @ (p - labels) + 1e-3 * weights)
        weights -= step
        if np.abs(step).max() < 1e-9:
            break
    return shift, scale, weights


def score_logistic(model, columns):
    shift, scale, weights = model
    return np.c_[(columns - shift) / scale, np.ones(len(columns))] @ weights


def frozen_means(data, rows):
    """MEANS of these rows from the interactions before the first test sample: the statistics table's formulas."""
    log = data["log"]
    log = log[log[:, 0] < data["time"][data["part"] == TEST].min()]
    # Of a pair the latest row counts, of the same time the greatest rating.
    log = log[np.lexsort((log[:, 3], log[:, 0], log[:, 2], log[:, 1]))]
    log = log[np.r_[np.any(np.diff(log[:, 1:3], axis=0), axis=1), True]]
    response = (log[:, 3] - 1) / 4
    overall = (response.sum() + 50 * .7) / (len(response) + 50)
    columns = []
    for column, ids, size, weight in ((1, data["user"][data["group"][rows]], int(data["users"]), 5),
                                      (2, data["item"][rows], int(data["items"]), 3)):
        which = log[:, column].astype(int)
        count = np.bincount(which, minlength=size + 1)
        total = np.bincount(which, response, size + 1)
        columns += [((total + weight * overall) / (count + weight))[ids], np.log1p(count)[ids]]
    return np.stack(columns, 1)


def lightgbm_scores(data, part, columns, seed):
    import lightgbm
    labels = data["label"].astype(float)
    settings = {"objective": "binary", "learning_rate": .05, "num_leaves": 31, "min_data_in_leaf": 100,
                "feature_fraction": .8, "bagging_fraction": .8, "bagging_freq": 1, "lambda_l2": 1.0,
                "metric": "binary_logloss", "seed": seed, "deterministic": True, "num_threads": 1, "verbose": -1}
    train = lightgbm.Dataset(columns[part == TRAIN], labels[part == TRAIN])
    valid = lightgbm.Dataset(columns[part == VALIDATION], labels[part == VALIDATION], reference=train)
    model = lightgbm.train(settings, train, 1000, [valid], callbacks=[lightgbm.early_stopping(50, verbose=False)])
    return model.predict(columns[part == TEST], raw_score=True)


def scores_of(row, data, seed):
    """Logits of the test's candidates; for popularity only their order means something."""
    part, names = data["part"][data["group"]], [str(name) for name in data["names"]]
    labels = data["label"].astype(float)
    if row in NEURAL:
        from baselines_models import train_and_score
        return train_and_score(row, data, seed)
    if row == "popularity":
        return data["features"][part == TEST, names.index("item_log_count")].astype(float)
    if row == "lightgbm":
        return lightgbm_scores(data, part, data["features"], seed)
    chosen = names if row == "logistic" else MEANS
    columns = logit_columns(data["features"][:, [names.index(name) for name in chosen]], chosen)
    model = fit_logistic(columns[part == TRAIN], labels[part == TRAIN])
    tested = columns[part == TEST] if row != "means-frozen" else \
        logit_columns(frozen_means(data, np.flatnonzero(part == TEST)), MEANS)
    return score_logistic(model, tested)


def weighted_auc(order, starts, labels, weights):
    """AUC with a weight for each candidate; ties count half. starts: where a run of equal scores begins in order."""
    positive = np.add.reduceat((weights * labels)[order], starts)
    negative = np.add.reduceat((weights * (1 - labels))[order], starts)
    below = np.cumsum(negative) - negative / 2
    return (positive * below).sum() / (positive.sum() * negative.sum())


def per_impression_auc(scores, labels, groups):
    """(impression, AUC) of those with both classes; groups ascend."""
    starts = np.flatnonzero(np.r_[True, np.diff(groups) > 0])
    values = [auc(s, l) for s, l in zip(np.split(scores, starts[1:]), np.split(labels, starts[1:]))]
    values = np.array(values)
    return groups[starts][~np.isnan(values)], values[~np.isnan(values)]


class Judge:
    """Bootstrap over users: the same draws for every row, so that differences are paired."""

    def __init__(self, data, seed):
        part = data["part"][data["group"]] == TEST
        self.clicked = json.loads(str(data["about"]))["clicked"]
        self.labels, self.groups = data["label"][part].astype(float), data["group"][part]
        owner = data["user"]
        self.owner = owner
        users = np.unique(owner[data["part"] == TEST])
        random = np.random.default_rng(seed)
        self.draws = [np.ones(int(data["users"]) + 1)]
        for _ in range(DRAWS):
            self.draws.append(np.bincount(random.choice(users, len(users)), minlength=len(self.draws[0])))

    def values(self, scores):
        """{measure: [1 + DRAWS]}, the first without resampling."""
        order = np.argsort(scores, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
        owner = self.owner[self.groups]
        out = {"AUC": np.array([weighted_auc(order, starts, self.labels, draw[owner]) for draw in self.draws])}
        if self.clicked:
            which, values = per_impression_auc(scores, self.labels, self.groups)
            out["AUC within impression"] = np.array(
                [np.average(values, weights=draw[self.owner[which]]) for draw in self.draws])
        return out


def interval(values):
    return "%.4f [%.4f, %.4f]" % (values[0], *np.quantile(values[1:], [.025, .975]))


def table(data, scores, failed, against, name, seed):
    judge = Judge(data, seed)
    part = data["part"][data["group"]]
    measures = {row: judge.values(values) for row, values in scores.items()}
    main = "AUC within impression" if judge.clicked else "AUC"
    columns = list(next(iter(measures.values()))) + ["log loss", f"{main} − {against}"]
    commit = subprocess.run(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    lines = [f"## {name}", "",
             f"{datetime.date.today()}, commit {commit.stdout.strip() or 'unknown'}, seed {seed}. Candidates: "
             f"{(part == TRAIN).sum()} train, {(part == VALIDATION).sum()} validation, {(part == TEST).sum()} test of "
             f"{int((data['part'] == TEST).sum())} impressions; {data['label'][part == TEST].mean():.1%} of the test "
             f"positive. 95 % intervals by {DRAWS} bootstrap draws over users.", "",
             "| row | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row, values in measures.items():
        cells = [interval(v) for v in values.values()]
        cells.append("" if row == "popularity" else "%.4f" % log_loss(scores[row], judge.labels))
        cells.append("" if against not in measures or row == against
                     else interval(values[main] - measures[against][main]))
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    lines += [""] + [f"Not run: {row} ({why})." for row, why in failed]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--exitpoll", default="build/exitpoll")
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--work", default="baselines", help="folder of everything computed (baselines)")
    parser.add_argument("--rows", default=",".join(CLASSIC + NEURAL), help="comma-separated; all of the above")
    parser.add_argument("--against", default="lightgbm")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rows = arguments.rows.split(",")
    for row in rows:
        if row not in CLASSIC + NEURAL:
            parser.error(f"--rows: {row!r} is none of {', '.join(CLASSIC + NEURAL)}")
    data = prepare(arguments.set, arguments.exitpoll, arguments.data, arguments.work)
    if arguments.set.endswith("clicked") and "means-frozen" in rows:
        print("clicked: means are means of ratings, so they say what was liked, not what is taken", file=sys.stderr)
    scores, failed = {}, []
    for row in rows:
        path = Path(arguments.work) / arguments.set / f"{row}-seed{arguments.seed}.npy"
        if not path.exists():
            begin = time.monotonic()
            try:
                values = scores_of(row, data, arguments.seed)
            except ModuleNotFoundError as missing:
                failed.append((row, f"no module {missing.name}"))
                continue
            if not np.isfinite(values).all():
                sys.exit(f"{row}: scores that are not finite")
            partial = path.with_name(path.name + ".part.npy")
            np.save(partial, values)
            partial.rename(path)
            print(f"{row}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
        scores[row] = np.load(path)
    if not scores:
        sys.exit("no row could be run")
    text = table(data, scores, failed, arguments.against, arguments.set, arguments.seed)
    (Path(arguments.work) / f"{arguments.set}.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()

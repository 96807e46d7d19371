#!/usr/bin/env python3
"""ops/experiments: the measures of baselines.py against plain definitions, frozen against running means, a planted
signal found, and a second run that computes nothing again; the arithmetic of ablations.py and untuned.py."""
import json
import lzma
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import *

try:
    import numpy as np
    import zstandard  # noqa: F401
except ImportError:
    print("skipped: numpy or zstandard is not installed")
    sys.exit(77)

EXPERIMENTS = ROOT / "ops" / "experiments"
sys.path.insert(0, str(EXPERIMENTS))
import ablations
import baselines_classic
import baselines_data
import baselines_judge
import untuned

ROWS = "popularity,means,means-frozen,logistic"


def write_data(folder, rows=4000):
    """Ratings by the day; whether an item is liked follows the item alone, and popularity says nothing of it."""
    source = random.Random(3)
    target = folder / "amazon-beauty"
    target.mkdir(parents=True)
    quality = [source.gauss(0, 1.5) for _ in range(40)]
    with lzma.open(target / "beauty2014_5core_items.tsv.xz", "wt") as out:
        out.write("item_id\ttitle\n" + "".join(f"i{i}\tThing {i}\n" for i in range(40)))
    with lzma.open(target / "beauty2014_5core_interactions.tsv.xz", "wt") as out:
        out.write("user_id\titem_id\trating\tunix_time\n")
        pairs = [(user, item) for user in range(200) for item in range(40)]
        for place, (user, item) in enumerate(source.sample(pairs, rows)):
            rating = min(5, max(1, round(3.4 + quality[item] + source.gauss(0, .8))))
            out.write(f"u{user}\ti{item}\t{rating}\t{1300000000 + place // 20 * 86400}\n")


def test_measures():
    random_ = np.random.default_rng(1)
    scores = random_.integers(0, 12, 300) / 4
    labels, weights = random_.integers(0, 2, 300).astype(float), random_.integers(0, 3, 300).astype(float)
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    won = pairs = 0.0
    for i in np.flatnonzero(labels == 1):
        for j in np.flatnonzero(labels == 0):
            pairs += weights[i] * weights[j]
            won += weights[i] * weights[j] * (scores[i] > scores[j] or .5 * (scores[i] == scores[j]))
    check(abs(baselines_judge.weighted_auc(order, starts, labels, weights) - won / pairs) < 1e-12, "weighted AUC")
    # Groups need not be together: users' are not.
    which, values, rows = baselines_judge.grouped_auc(np.array([1., 5, 2, 2, 6, 7]), np.array([0., 1, 1, 0, 1, 0]),
                                                      np.array([3, 4, 3, 3, 4, 7]))
    check(which.tolist() == [3] and values.tolist() == [.75] and rows.tolist() == [3], f"AUC within: {which} {values}")
    mean = baselines_judge.mean_by(np.array([.5, 1.]), [np.array([1., 3.]), np.zeros(2)])
    check(mean[0] == .875 and np.isnan(mean[1]), f"weighted mean: {mean}")
    columns = random_.normal(size=(500, 3))
    labels = (columns[:, 0] + random_.normal(size=500) > 0).astype(float)
    model = baselines_classic.fit_logistic(columns, labels)
    p = 1 / (1 + np.exp(-baselines_classic.score_logistic(model, columns)))
    check(np.abs(columns.T @ (p - labels)).max() < .05, "the gradient is not zero at the solution")


def test_table():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder / "data")
        command = [sys.executable, EXPERIMENTS / "baselines.py", "beauty-liked", "--exitpoll", EXITPOLL, "--data",
                   folder / "data", "--work", folder / "work", "--rows", ROWS, "--against", "logistic"]
        first = subprocess.run(command, capture_output=True, text=True)
        check(first.returncode == 0, first.stderr)
        work = folder / "work" / "beauty-liked"
        made = {path.name: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
        second = subprocess.run(command, capture_output=True, text=True)
        check(second.stdout == first.stdout, "the second run's table differs")
        check(made == {path.name: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()},
              "the second run computed something again")
        auc = {cells[1].strip(): float(cells[2].split()[0]) for cells in
               (line.split("|") for line in first.stdout.splitlines() if "[" in line)}
        check(set(auc) == set(ROWS.split(",")), first.stdout)
        check(auc["means"] > .8 and auc["logistic"] > .8, f"the planted signal is not found: {auc}")
        check(abs(auc["popularity"] - .5) < .12, f"popularity knows too much: {auc}")

        # At the first time of the test nothing has happened since the split: running means are the frozen ones.
        loaded = np.load(work / "arrays.npz")
        data = {key: loaded[key] for key in loaded.files}
        tested = data["part"][data["group"]] == baselines_data.TEST
        first_day = np.flatnonzero(tested & (data["time"][data["group"]] == data["time"][tested[data["group"]]].min()))
        names = [str(n) for n in data["names"]]
        running = data["features"][first_day][:, [names.index(n) for n in baselines_classic.MEANS]]
        check(len(first_day) > 5, "no samples at the first time of the test")
        frozen = baselines_classic.frozen_means(data, first_day)
        check(np.abs(running - frozen).max() < 1e-5, f"frozen means: {np.abs(running - frozen).max(0)}")
        later = np.flatnonzero(tested)[-20:]
        running = data["features"][later][:, [names.index(n) for n in baselines_classic.MEANS]]
        check(np.abs(running - baselines_classic.frozen_means(data, later)).max() > 1e-3, "frozen means move")


def test_language_models_columns():
    """Against the definition, loop by loop: earlier interactions alone, the user's own left out of the item's mean."""
    log = np.array([(1, 1, 1, 5), (1, 2, 1, 1), (2, 1, 2, 2), (3, 2, 3, 4), (5, 1, 3, 1)], float)
    data = {"about": json.dumps({"clicked": False, "by_users": False, "low": 1, "high": 5}), "log": log,
            "items": 3, "item_ids": np.array(["", "a", "b", "c"]), "user": np.array([1, 2]), "time": np.array([4., 5.]),
            "history": np.array([[0, 1, 2], [0, 1, 3]]), "group": np.array([0, 1, 1]), "item": np.array([3, 2, 1])}
    rows = np.array([[1, 0], [.6, .8], [.8, .6]], np.float32)
    found = ablations.llm_columns(data, ["a", "b", "c"], rows)
    for place, (group, candidate) in enumerate(zip(data["group"], data["item"])):
        user, now = data["user"][group], data["time"][group]
        earlier = [(u, i, (r - 1) / 4) for t, u, i, r in log if t < now]
        overall = (sum(v for _, _, v in earlier) + 35) / (len(earlier) + 50)
        own = [(int(i), v) for u, i, v in earlier if u == user]
        residuals = []
        for item, v in own:
            others = [w for u, i, w in earlier if i == item and u != user]
            residuals.append(v - (sum(others) + 3 * overall) / (len(others) + 3))
        bias = sum(residuals) / (len(own) + 3)
        near = [max(0, rows[candidate - 1] @ rows[item - 1]) for item, _ in own]
        for k, power in enumerate(ablations.LLM_POWERS):
            weights = [n ** power for n in near]
            value = sum(w * (r - bias) for w, r in zip(weights, residuals)) / (sum(weights) + .1)
            check(np.allclose(found[place, 2 * k:2 * k + 2], [value, sum(weights)], atol=1e-6), f"{place}, {power}")
        check(abs(found[place, -1] - max(near)) < 1e-6, "nearest")


def test_leaving_and_parts():
    p = np.array([[.6, .6, .6, .9], [.4, .6, .7, .71], [.99, .1, .2, .3]])
    check(untuned.leave(p, "fixed", 1).tolist() == [1, 1, 1], "fixed")
    check(untuned.leave(p, "confidence", .9).tolist() == [3, 3, 0], "confidence")
    check(untuned.leave(p, "patience", 1).tolist() == [1, 2, 2], "patience")
    # |D - mean D|: 0 at once; |.1 - .2|, then |.01 - .15|; |.1 - .89|, then |.1 - .495|
    check(untuned.leave(p, "discrepancy", .05).tolist() == [2, 3, 3], "discrepancy")
    check(untuned.leave(p, "discrepancy", .11).tolist() == [2, 2, 3], "discrepancy, wider")
    history = [{"item_id": i, "text": i, "rating": 3.0} for i in "abc"]
    found = untuned.nearest(history, {"item_id": "x"}, np.eye(4)[[0, 1, 2, 0]], {"a": 0, "b": 1, "c": 2, "x": 3}, 2)
    check(found[0] is history[0] and len(found) == 2, "nearest, in the history's order")
    part = baselines_data.parts(1000, True)
    check((np.bincount(part) == [800, 100, 100]).all() and (part[:800] != 0).any(), "drawn parts")
    check((np.diff(baselines_data.parts(1000, False)) >= 0).all(), "parts in time order")


def test_missing_row_is_refused():
    done = subprocess.run([sys.executable, EXPERIMENTS / "baselines.py", "beauty-liked", "--rows", "oracle"],
                          capture_output=True, text=True)
    check(done.returncode == 2 and "oracle" in done.stderr and "lightgbm" in done.stderr, done.stderr)


sys.exit(main(test_measures, test_table, test_language_models_columns, test_leaving_and_parts,
              test_missing_row_is_refused))

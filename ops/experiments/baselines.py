#!/usr/bin/env python3
"""baselines.py - what classic models make of the same samples; one command a table, resumable.

    python3 -m venv venv && venv/bin/pip install numpy fastavro zstandard lightgbm scikit-learn torch
    venv/bin/python ops/experiments/baselines.py beauty-liked --exitpoll build/exitpoll --data ../shared/data

Samples are the impressions of exitpoll's own replay, in time order 80 % to train, 10 % to validate (early stopping
and choice of settings), 10 % for the test; see baselines_data.py. Each row's scores on the test go to --work and are
not computed again, so a run that is stopped goes on (other settings in the code: another --work). The tables
(Markdown, on stdout and in --work) have AUC, AUC within users and within impressions with 95 % intervals over users,
log loss, and the difference of the main AUC from --against with its paired interval; then the main AUC by how much
was known of item and user before. Rows:

    popularity         log count of the candidate, unfitted
    means              logistic regression on mean and count of user and item, after every earlier event
    means-frozen       the same, from what was known at the split: what a nightly job knows at best
    logistic           logistic regression on all fresh statistics
    lightgbm           gradient boosting on all fresh statistics
    deepfm, din, sim, gru4rec (and -no-ratings)     baselines_models.py: ids and history alone, in PyTorch
    din-statistics     DIN that reads the fresh statistics too

A row whose library is missing is named as not run. Nothing is chosen on the test.
"""
import datetime
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from baselines_classic import MEANS, frozen_means, lightgbm_scores, logistic_scores
from baselines_data import SETS, TEST, TRAIN, VALIDATION, arguments_of, prepare
from baselines_judge import DRAWS, Judge, interval, slices

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tuning"))
from measures import log_loss  # noqa: E402

CLASSIC = ["popularity", "means", "means-frozen", "logistic", "lightgbm"]
NEURAL = [name + end for name in ("deepfm", "din", "sim", "gru4rec") for end in ("", "-no-ratings")]
NEURAL.append("din-statistics")


def scores_of(row, data, seed, folder, settings):
    """Logits of the test's candidates; for popularity only their order means something."""
    names, part = [str(name) for name in data["names"]], data["part"][data["group"]]
    if row in NEURAL:
        from baselines_models import search
        return search(row, data, seed, folder / f"{row}-seed{seed}.jsonl", settings)
    if row == "popularity":
        return data["features"][part == TEST, names.index("item_log_count")].astype(float)
    if row == "lightgbm":
        return lightgbm_scores(data, names, seed)
    tested = frozen_means(data, np.flatnonzero(part == TEST)) if row == "means-frozen" else None
    return logistic_scores(data, names if row == "logistic" else MEANS, tested=tested)


def commit():
    done = subprocess.run(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def searched(row, folder, seed):
    """What the search of a neural row found, for its table's note; empty for others."""
    log = folder / f"{row}-seed{seed}.jsonl"
    if not log.exists():
        return ""
    runs = [json.loads(line) for line in log.read_text().splitlines()]
    best = max(runs, key=lambda run: run["validation"])
    setting = ", ".join(f"{name} {value:g}" for name, value in best["setting"].items())
    worst = min(run["validation"] for run in runs)
    of = f"{len(runs)} settings, the worst {worst:.4f}" if len(runs) > 1 else "1 setting"
    return f"{row}: {setting} (validation {best['validation']:.4f}; {of})"


def table(data, scores, failed, against, name, seed, folder):
    judge, part = Judge(data, seed), data["part"][data["group"]]
    measures = {row: judge.values(values) for row, values in scores.items()}
    columns = list(next(iter(measures.values()))) + ["log loss", f"{judge.main} − {against}"]
    order = "users drawn" if SETS[name].by_users else "in time order"
    lines = [f"## {name}", "",
             f"{datetime.date.today()}, commit {commit()}, seed {seed}, {order}. Candidates: {(part == TRAIN).sum()} "
             f"train, {(part == VALIDATION).sum()} validation, {(part == TEST).sum()} test of {judge.impressions} "
             f"impressions; {data['label'][part == TEST].mean():.1%} of the test positive. 95 % intervals by {DRAWS} "
             "bootstrap draws over users.", "",
             "| row | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row, values in measures.items():
        cells = [interval(v) for v in values.values()]
        cells.append("" if row == "popularity" else "%.4f" % log_loss(scores[row], judge.labels))
        cells.append("" if against not in measures or row == against
                     else interval(values[judge.main] - measures[against][judge.main]))
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    lines += [""] + [f"Not run: {row} ({why})." for row, why in failed]
    found = [note for note in (searched(row, folder, seed) for row in scores) if note]
    lines += (["Chosen by validation: " + "; ".join(found) + ".", ""] if found else [])
    by_known = slices(data, scores, seed)
    return "\n".join(lines + ([f"{judge.main} by how many events of "
                               f"{'the item that was taken' if judge.clicked else 'the candidate'} and of the user "
                               "were known before:", ""] + by_known if by_known else []))


def main():
    parser = arguments_of(__doc__)
    parser.add_argument("--rows", default=",".join(CLASSIC + NEURAL), help="comma-separated; all of the above")
    parser.add_argument("--against", default="lightgbm")
    parser.add_argument("--settings", type=int, default=100, help="of a neural row's search, the first N (all)")
    arguments = parser.parse_args()
    rows = arguments.rows.split(",")
    for row in rows:
        if row not in CLASSIC + NEURAL:
            parser.error(f"--rows: {row!r} is none of {', '.join(CLASSIC + NEURAL)}")
    if not SETS[arguments.set].rated:
        rows = [row for row in rows if not row.endswith("-no-ratings")]
    data = prepare(arguments.set, arguments.exitpoll, arguments.data, arguments.work)
    if arguments.set.endswith("clicked") and "means-frozen" in rows:
        print("clicked: means are means of ratings, so they say what was liked, not what is taken", file=sys.stderr)
    scores, failed, folder = {}, [], Path(arguments.work) / arguments.set
    for row in rows:
        path = folder / f"{row}-seed{arguments.seed}.npy"
        if not path.exists():
            begin = time.monotonic()
            try:
                values = scores_of(row, data, arguments.seed, folder, arguments.settings)
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
    text = table(data, scores, failed, arguments.against, arguments.set, arguments.seed, folder)
    (Path(arguments.work) / f"{arguments.set}.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""exit_rules.py - exit rules and windows on the same heads: what each saves at the same tested risk; resumable.

    venv/bin/python ops/experiments/exit_rules.py --exitpoll build/exitpoll --samples SAMPLES --model MODEL \\
        --work exit-rules [--exits 5,10,15,20,25,30 ...]

Samples are those of `exitpoll samples` (ops/tuning/demo_bundle.sh leaves some); `exitpoll fit-heads` is run once for
each rule with what follows --, on the hidden states that the first run has cached. The threshold of each rule is the
boldest whose risk passes the test of fit-heads on users that neither heads nor calibration saw; the table shows what
it saves there and what it costs on the test part."""
import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path

from baselines import commit

RULES = [("discrepancy", 1), ("discrepancy", 3), ("confidence", 3), ("patience", 1), ("patience", 2), ("fixed", 3)]


def row_of(rule, window, report):
    risk, policy = report["risk"], report["policy"]
    name = f"{rule}, window {window}" if rule in ("discrepancy", "patience") else rule
    if not risk.get("passed"):
        return f"| {name} | none passes | | | 0 | | |"
    test, full = policy["test"], policy["full_depth_test"]
    measure = "impression_auc" if report["task"] == "clicked" else "auc"
    threshold = policy.get("threshold")
    shown = "" if threshold is None else f"{threshold:.4g}"
    chosen = [r for r in risk["sequence"] if r["threshold"] == threshold] or risk["sequence"][-1:]
    return (f"| {name} | {shown} | {risk['p_value']:.4f} | {chosen[0]['mean_difference']:+.5f} | {policy['saved']:.3f} | "
            f"{test[measure] - full[measure]:+.4f} | {test['log_loss'] - full['log_loss']:+.5f} |")


def main():
    own, rest = (sys.argv[1:], []) if "--" not in sys.argv else (
        sys.argv[1:sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exitpoll", default="build/exitpoll")
    parser.add_argument("--samples", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--work", default="exit-rules", help="a bundle for each rule (exit-rules)")
    parser.add_argument("--exits", default="5,10,15,20,25,30")
    arguments = parser.parse_args(own)
    rows = []
    for rule, window in RULES:
        bundle = Path(arguments.work) / f"{rule}-{window}"
        if not (bundle / "report.json").exists():
            bundle.parent.mkdir(parents=True, exist_ok=True)
            command = [arguments.exitpoll, "fit-heads", "--samples", arguments.samples, "--model", arguments.model,
                       "--out", bundle, "--force", "--exits", arguments.exits, "--rule", rule, "--window", str(window)]
            print("$", *command, *rest, file=sys.stderr, flush=True)
            subprocess.run(list(map(str, command)) + rest, check=True, stdout=subprocess.DEVNULL)
        report = json.loads((bundle / "report.json").read_text())
        rows.append(row_of(rule, window, report))
    parts, risk = report["parts"], report["risk"]
    print(f"## exits {arguments.exits}, task {report['task']}\n\n{datetime.date.today()}, commit {commit()}; hidden "
          f"states of {parts['train']['with_hidden']} training and {parts['test']['with_hidden']} test impressions; "
          f"risk tested on {risk.get('users', 0)} users, bound {risk['bound']:g}, delta {risk['delta']:g}.\n")
    print("| rule | threshold | p-value | log loss of a user, tested | layer-tokens saved | test: AUC against full depth "
          "| test: log loss |\n" + "|---" * 7 + "|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()

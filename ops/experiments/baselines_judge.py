"""How scores on the same test samples are judged: AUC over all, within users and within impressions, with intervals
by a bootstrap over users whose draws are the same for every row, so that differences are paired."""
import sys
from pathlib import Path

import numpy as np

from baselines_data import TEST, about

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tuning"))
from measures import auc  # noqa: E402

DRAWS = 500
# Earlier events of the item (of the candidate, or of the one that was taken) and of the user: from .. below.
SLICES = [0, 1, 5, 20, 100, np.inf]


def weighted_auc(order, starts, labels, weights):
    """AUC with a weight for each candidate; ties count half. starts: where a run of equal scores begins in order."""
    positive = np.add.reduceat((weights * labels)[order], starts)
    negative = np.add.reduceat((weights * (1 - labels))[order], starts)
    below = np.cumsum(negative) - negative / 2
    return (positive * below).sum() / (positive.sum() * negative.sum())


def grouped_auc(scores, labels, groups):
    """(group, AUC, rows) of those groups that have both classes."""
    order = np.argsort(groups, kind="stable")
    names, starts = np.unique(groups[order], return_index=True)
    values = np.array([auc(s, l) for s, l in zip(np.split(scores[order], starts[1:]),
                                                 np.split(labels[order], starts[1:]))])
    rows = np.diff(np.r_[starts, len(groups)])
    known = ~np.isnan(values)
    return names[known], values[known], rows[known]


class Judge:
    """Of the test's candidates, or of those of `impressions` (a mask of the test's impressions) alone."""

    def __init__(self, data, seed, impressions=None, draws=DRAWS):
        of_test = np.flatnonzero(data["part"] == TEST)
        if impressions is not None:
            of_test = of_test[impressions]
        chosen = np.isin(data["group"], of_test)
        self.rows = chosen[data["part"][data["group"]] == TEST]         # of the scores that are given
        self.clicked = about(data)["clicked"]
        self.labels, self.groups = data["label"][chosen].astype(float), data["group"][chosen]
        self.owner = data["user"]
        self.impressions = len(of_test)
        users = np.unique(self.owner[of_test])
        random = np.random.default_rng(seed)
        self.draws = [np.ones(int(data["users"]) + 1)]
        for _ in range(draws):
            self.draws.append(np.bincount(random.choice(users, len(users)), minlength=len(self.draws[0])))

    @property
    def main(self):
        return "AUC within impression" if self.clicked else "AUC"

    def values(self, scores, main_only=False):
        """{measure: [1 + draws]}, the first without resampling."""
        scores = np.asarray(scores)[self.rows]
        owner, out = self.owner[self.groups], {}
        if not (main_only and self.clicked):
            order = np.argsort(scores, kind="stable")
            starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
            out["AUC"] = np.array([weighted_auc(order, starts, self.labels, draw[owner]) for draw in self.draws])
        if not main_only:
            # Averaged over users with both classes, weighted by their rows (Zhou et al., KDD 2018, eq. 7).
            users, values, rows = grouped_auc(scores, self.labels, owner)
            if len(users):      # with one sample a user there is none
                out["AUC within user"] = mean_by(values, [draw[users] * rows for draw in self.draws])
        if self.clicked:
            which, values, _ = grouped_auc(scores, self.labels, self.groups)
            out["AUC within impression"] = mean_by(values, [draw[self.owner[which]] for draw in self.draws])
        return out


def mean_by(values, weights):
    return np.array([(values * weight).sum() / weight.sum() if weight.sum() else np.nan for weight in weights])


def interval(values):
    return "%.4f [%.4f, %.4f]" % (values[0], *np.nanquantile(values[1:], [.025, .975]))


def counts(data, names):
    """(of the item, of the user): earlier events of each of the test's impressions."""
    test = np.flatnonzero(data["part"][data["group"]] == TEST)
    if about(data)["clicked"]:
        test = test[data["label"][test]]
    columns = [str(name) for name in data["names"]]
    found = np.rint(np.expm1(data["features"][test][:, [columns.index(name) for name in names]]))
    if len(test) != (data["part"] == TEST).sum():
        raise ValueError("not one row an impression")
    return found.T


def slices(data, scores, seed):
    """Lines of a Markdown table: each row's main AUC by how much was known before."""
    lines, headed = [], False
    for what, known in zip(("item", "user"), counts(data, ["item_log_count", "user_log_count"])):
        for low, high in zip(SLICES, SLICES[1:]):
            mask = (known >= low) & (known < high)
            judge = Judge(data, seed, mask, draws=0)
            if judge.impressions < 100 or len(np.unique(judge.labels)) < 2:
                continue
            if not headed:
                lines += ["| earlier events | impressions | " + " | ".join(scores) + " |",
                          "|---" * (len(scores) + 2) + "|"]
                headed = True
            name = f"{low:.0f}" if high == low + 1 else f"{low:.0f}–{high - 1:.0f}" if high < np.inf else f"{low:.0f}+"
            cells = ["%.3f" % judge.values(values, main_only=True)[judge.main][0]
                     for values in scores.values()]
            lines.append(f"| {what}: {name} | {judge.impressions} | " + " | ".join(cells) + " |")
    return lines

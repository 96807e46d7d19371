#!/usr/bin/env python3
"""Figures of seeded answers by scikit-learn, for tests/unit/evaluate/test_figures.c.

  python3 -m venv v && v/bin/pip install scikit-learn==1.9.1 && v/bin/python tests/golden/evaluate/figures.py > \\
      tests/golden/evaluate/figures.h

The answers are made by a generator that the C test has as well."""
import numpy
import sklearn
from sklearn.metrics import log_loss, roc_auc_score

IMPRESSIONS, USERS, BINS = 400, 60, 20


class Generator:
    def __init__(self):
        self.state = 12345

    def next(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2 ** 64
        return self.state >> 40                         # 24 bits: exact as float32


def answers():
    generator = Generator()
    rows = []
    for impression in range(IMPRESSIONS):
        user = generator.next() % USERS
        for _ in range(1 + generator.next() % 12):
            # Few different scores, so that ties are many.
            p = numpy.float32((1 + generator.next() % 199) / numpy.float32(200))
            positive = generator.next() / 2 ** 24 < .3 * p + .1
            rows.append((impression, user, p, positive, 5 * (1 + generator.next() % 6)))
    return rows


def both(labels):
    return 0 < labels.sum() < len(labels)


def main():
    rows = answers()
    impression = numpy.array([row[0] for row in rows])
    user = numpy.array([row[1] for row in rows])
    p = numpy.array([float(row[2]) for row in rows])
    y = numpy.array([int(row[3]) for row in rows])
    layer = numpy.array([row[4] for row in rows])
    share = y.mean()
    entropy = -share * numpy.log(share) - (1 - share) * numpy.log(1 - share)
    within_user = [(len(y[user == u]), roc_auc_score(y[user == u], p[user == u])) for u in range(USERS) if both(y[user == u])]
    within, first = [], []
    for i in range(IMPRESSIONS):
        mine = impression == i
        if both(y[mine]):
            within.append(roc_auc_score(y[mine], p[mine]))
            highest = p[mine] == p[mine].max()
            first.append(y[mine][highest].mean())
    order = numpy.argsort(p, kind="stable")
    edges = [len(p) * b // BINS for b in range(BINS + 1)]
    calibration = sum(abs(p[order[a:b]].sum() - y[order[a:b]].sum()) for a, b in zip(edges, edges[1:])) / len(p)
    print("/* figures.h - what scikit-learn says of the answers that figures.py describes. */")
    print("#ifndef EXITPOLL_TESTS_GOLDEN_EVALUATE_FIGURES_H\n#define EXITPOLL_TESTS_GOLDEN_EVALUATE_FIGURES_H\n")
    print(f"/* Made by figures.py with scikit-learn {sklearn.__version__}: figures of {len(rows)} answers. */")
    print(f"enum {{ GOLDEN_ROWS = {len(rows)}, GOLDEN_IMPRESSIONS_BOTH = {len(within)} }};")
    print("static const double golden[] = {")
    for value in (roc_auc_score(y, p), sum(n * a for n, a in within_user) / sum(n for n, _ in within_user),
                  numpy.mean(within), numpy.mean(first), log_loss(y, p), log_loss(y, p) / entropy, calibration, layer.mean()):
        print(f"\t{value:.17g},")
    print("};\n\n#endif")


if __name__ == "__main__":
    main()

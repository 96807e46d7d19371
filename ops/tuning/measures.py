"""AUC over all candidates and within an impression; ties count half. Needs numpy alone."""
import numpy as np


def auc(scores, labels):
    """NaN with one class only."""
    scores, labels = np.asarray(scores, float), np.asarray(labels, float) > 0
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[inverse][labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def impression_auc(scores, labels, groups):
    """Mean over impressions that have both classes; NaN where there is none."""
    scores, labels, groups = map(np.asarray, (scores, labels, groups))
    values = [auc(scores[groups == g], labels[groups == g]) for g in np.unique(groups)]
    values = [v for v in values if v == v]
    return float(np.mean(values)) if values else float("nan")


def log_loss(scores, labels):
    scores, labels = np.asarray(scores, float), np.asarray(labels, float)
    return float(np.mean(np.logaddexp(0, scores) - labels * scores)) if len(scores) else float("nan")


def softmax_loss(scores, labels, groups):
    """Mean over impressions with both classes of -log p of what was taken, p the softmax within the impression."""
    scores, labels, groups = np.asarray(scores, float), np.asarray(labels, float), np.asarray(groups)
    values = []
    for g in np.unique(groups):
        z, taken = scores[groups == g], labels[groups == g] > 0
        if 0 < taken.sum() < len(taken):
            values.append(np.logaddexp.reduce(z) - z[taken].mean())
    return float(np.mean(values)) if values else float("nan")

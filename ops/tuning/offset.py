"""What is known without the language model, as a logit of each candidate: a small network on the fresh statistics of
the samples. A backbone that is tuned beside it (--offset statistics) learns what the statistics do not say. It is used
in tuning alone: `exitpoll fit-heads` trains the statistics' own model that serves."""
import numpy as np
import torch
import torch.nn.functional as functional

UNITS, RATE, DECAY, EPOCHS, BATCH = 32, 5e-3, 1e-4, 20, 64


def dense(samples, impressions):
    """Features [N, F], labels [N] and impression numbers [N] of the labelled candidates."""
    rows, labels, groups = [], [], []
    for number, impression in enumerate(impressions):
        features, known = samples.features(impression), samples.labels(impression)
        keep = known == known
        rows.append(features[keep])
        labels.append(known[keep])
        groups.append(np.full(int(keep.sum()), number))
    return np.concatenate(rows), np.concatenate(labels), np.concatenate(groups)


def loss_of(z, labels, groups, objective):
    """Mean over impressions that have something to learn."""
    count = int(groups.max()) + 1
    if objective == "logistic":
        return functional.binary_cross_entropy_with_logits(z, labels)
    top = torch.full((count,), -torch.inf).scatter_reduce(0, groups, z.detach(), "amax")
    total = torch.zeros(count).index_add(0, groups, (z - top[groups]).exp())
    log_p = z - top[groups] - total.log()[groups]
    taken = torch.zeros(count).index_add(0, groups, labels)
    both = (taken > 0) & (taken < torch.bincount(groups, minlength=count))
    each = torch.zeros(count).index_add(0, groups, -labels * log_p) / taken.clamp(min=1)
    return each[both].mean() if both.any() else z.sum() * 0


class Offset:
    """Trained on `train`, at the epoch that is best on `stopping`; the same seed, the same numbers."""

    def __init__(self, samples, train, stopping, objective, seed):
        self.samples = samples
        values, labels, groups = dense(samples, train)
        self.mean, self.scale = values.mean(0), values.std(0)
        self.scale[self.scale < 1e-6] = 1
        generator = torch.Generator().manual_seed(seed)
        features = values.shape[1]
        shapes = [(features,), (UNITS, features), (UNITS,), (UNITS,), (1,)]
        self.weights = [torch.zeros(shape) for shape in shapes]
        self.weights[1] = torch.randn(shapes[1], generator=generator) / features ** .5
        for weight in self.weights:
            weight.requires_grad_()
        x, y, g = self.standard(values), torch.tensor(labels), torch.tensor(groups)
        held_values, held_labels, held_groups = dense(samples, stopping)
        held = self.standard(held_values), torch.tensor(held_labels), torch.tensor(held_groups)
        first = np.concatenate([[0], np.cumsum(np.bincount(groups, minlength=len(train)))])
        optimizer = torch.optim.Adam(self.weights, lr=RATE)
        steps = max(1, EPOCHS * len(train) // BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        best, kept = np.inf, None
        for epoch in range(EPOCHS):
            order = np.random.default_rng([seed, epoch]).permutation(len(train))
            for begin in range(0, len(order), BATCH):
                chosen = order[begin:begin + BATCH]
                rows = np.concatenate([np.arange(first[i], first[i + 1]) for i in chosen])
                local = np.repeat(np.arange(len(chosen)), first[chosen + 1] - first[chosen])
                optimizer.zero_grad()
                decay = sum((weight ** 2).sum() for weight in self.weights[:4]) * DECAY
                (loss_of(self.z(x[rows]), y[rows], torch.tensor(local), objective) + decay).backward()
                optimizer.step()
                schedule.step()
            with torch.no_grad():
                value = float(loss_of(self.z(held[0]), *held[1:], objective))
            if value < best:
                best, kept = value, [weight.detach().clone() for weight in self.weights]
        self.weights, self.loss = kept or self.weights, best

    def standard(self, values):
        return torch.tensor(np.clip((values - self.mean) / self.scale, -8, 8), dtype=torch.float32)

    def z(self, x):
        linear, inner, bias, outer, level = self.weights
        return x @ linear + functional.silu(x @ inner.T + bias) @ outer + level

    def of(self, impression):
        """[labelled candidates]"""
        known = self.samples.labels(impression)
        with torch.no_grad():
            return self.z(self.standard(self.samples.features(impression)[known == known])).numpy()

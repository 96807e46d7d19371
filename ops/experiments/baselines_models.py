"""DeepFM, DIN, SIM and GRU4Rec as small PyTorch models, each with and without the ratings of the history.

They read ids alone: user, candidate, and the user's earlier items with the stars given; no statistics, no text.
    DeepFM    factorisation machine and a deep part over user, candidate and the mean of the history (Guo et al., 2017)
    DIN       the history weighted by an attention unit that sees the candidate (Zhou et al., 2018)
    SIM       soft search: the 10 nearest of the last 50 items, then DIN's attention over them (Pi et al., 2020)
    GRU4Rec   the last state of a GRU over the history, beside the candidate (Hidasi et al., 2016)
With ratings, an embedding of the stars is added to that of each item of the history. All else is equal: 16
dimensions, a deep part of 64 and 32, AdamW at 1e-3 with decay 5 on ids' embeddings and .01 elsewhere, batches of
1,024 candidates, binary cross-entropy, early stopping by the validation's AUC with patience 1. One thread, so that the
same seed gives the same scores. (On Beauty, liked, ids without decay overfit in their second epoch.)
"""
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tuning"))
from measures import auc  # noqa: E402

TRAIN, VALIDATION, TEST = range(3)
DIMENSIONS, BATCH, EPOCHS_MAX, PATIENCE, FOUND, SHORT_HISTORY = 16, 1024, 20, 1, 10, 15
STARS = 6       # 0: none


def deep(inputs):
    return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Dropout(.2), nn.Linear(64, 32), nn.ReLU(),
                         nn.Linear(32, 1))


class Model(nn.Module):
    """Embeddings and the parts that all four share; `summary` differs."""

    def __init__(self, kind, ratings, users, items):
        super().__init__()
        self.kind, self.ratings = kind, ratings
        self.user = nn.Embedding(users + 1, DIMENSIONS)
        self.item = nn.Embedding(items + 1, DIMENSIONS, padding_idx=0)
        self.stars = nn.Embedding(STARS, DIMENSIONS, padding_idx=0)
        self.user_bias, self.item_bias = nn.Embedding(users + 1, 1), nn.Embedding(items + 1, 1)
        for table in (self.user, self.item, self.stars):
            nn.init.normal_(table.weight, std=.05)
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)
        self.attention = nn.Sequential(nn.Linear(4 * DIMENSIONS, 32), nn.ReLU(), nn.Linear(32, 1))
        self.gru = nn.GRU(DIMENSIONS, DIMENSIONS, batch_first=True)
        self.deep = deep(4 * DIMENSIONS)

    def entries(self, history, stars):
        vectors = self.item(history)
        return vectors + self.stars(stars) if self.ratings else vectors

    def attend(self, entries, known, candidate):
        target = candidate[:, None].expand_as(entries)
        weights = self.attention(torch.cat([entries, target, entries - target, entries * target], -1))[..., 0]
        return ((weights * known)[..., None] * entries).sum(1)      # as in DIN: not normalised

    def summary(self, history, stars, candidate):
        if self.kind == "sim":
            nearness = (self.item(history) * candidate[:, None]).sum(-1).detach()
            nearest = nearness.masked_fill(history == 0, -torch.inf).topk(min(FOUND, history.shape[1]), 1).indices
            history, stars = history.gather(1, nearest), stars.gather(1, nearest)
        else:
            history, stars = history[:, -SHORT_HISTORY:], stars[:, -SHORT_HISTORY:]
        known = (history != 0).float()
        entries = self.entries(history, stars) * known[..., None]
        if self.kind == "gru4rec":
            # The history ends at the right: it is moved to the left, and the state after its last entry is taken.
            size, lengths = entries.shape[1], known.sum(1).long()
            places = (torch.arange(size) + (size - lengths)[:, None]) % size
            states = self.gru(entries.gather(1, places[..., None].expand_as(entries)))[0]
            last = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, DIMENSIONS)
            return states.gather(1, last)[:, 0] * (lengths > 0)[:, None]
        if self.kind == "deepfm":
            return entries.sum(1) / known.sum(1, keepdim=True).clamp(min=1)
        return self.attend(entries, known, candidate)

    def forward(self, user, item, history, stars):
        candidate, who = self.item(item), self.user(user)
        summary = self.summary(history, stars, candidate)
        logit = self.deep(torch.cat([who, candidate, summary, summary * candidate], -1))[:, 0]
        logit = logit + self.user_bias(user)[:, 0] + self.item_bias(item)[:, 0]
        if self.kind == "deepfm":
            logit = logit + (who * candidate + who * summary + candidate * summary).sum(-1)
        return logit


def train_and_score(row, data, seed):
    """Logits of the test's candidates after the epoch with the greatest validation AUC."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    kind, ratings = row.split("-")[0], not row.endswith("-no-ratings")
    group = torch.from_numpy(data["group"]).long()
    item, label = torch.from_numpy(data["item"]).long(), torch.from_numpy(data["label"].astype(np.float32))
    user, history = torch.from_numpy(data["user"]).long(), torch.from_numpy(data["history"]).long()
    stars, part = torch.from_numpy(data["stars"]).long(), data["part"][data["group"]]
    model = Model(kind, ratings, int(data["users"]), int(data["items"]))
    ids = [table.weight for table in (model.user, model.item, model.user_bias, model.item_bias)]
    others = [p for p in model.parameters() if all(p is not weight for weight in ids)]
    optimiser = torch.optim.AdamW([{"params": ids, "weight_decay": 5.0}, {"params": others, "weight_decay": .01}],
                                  lr=1e-3)
    loss_of = nn.functional.binary_cross_entropy_with_logits

    def logits(rows):
        which = group[rows]
        return model(user[which], item[rows], history[which], stars[which])

    def score(rows):
        model.eval()
        with torch.no_grad():
            return torch.cat([logits(chunk) for chunk in rows.split(8192)])

    train, validation, test = (torch.from_numpy(np.flatnonzero(part == p)) for p in (TRAIN, VALIDATION, TEST))
    best, kept, waited = 0.0, None, 0
    for epoch in range(EPOCHS_MAX):
        model.train()
        for rows in train[torch.randperm(len(train))].split(BATCH):
            optimiser.zero_grad()
            loss_of(logits(rows), label[rows]).backward()
            optimiser.step()
        reached = auc(score(validation).numpy(), label[validation].numpy())
        print(f"{row}: epoch {epoch + 1}, validation AUC {reached:.4f}", file=sys.stderr, flush=True)
        if reached > best:
            best, waited = reached, 0
            kept = {name: value.clone() for name, value in model.state_dict().items()}
        else:
            waited += 1
            if waited == PATIENCE:
                break
    if kept is None:
        sys.exit(f"{row}: no epoch had a validation AUC")
    model.load_state_dict(kept)
    return score(test).numpy().astype(float)

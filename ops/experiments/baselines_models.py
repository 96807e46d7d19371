"""DeepFM, DIN, SIM and GRU4Rec as small PyTorch models, each with and without the ratings of the history.

They read ids alone: user, candidate, and the user's earlier items with the stars given; no statistics, no text.
    DeepFM    factorisation machine and a deep part over user, candidate and the mean of the history (Guo et al., 2017)
    DIN       the history weighted by an attention unit that sees the candidate (Zhou et al., 2018)
    SIM       soft search: the 10 nearest of the last 50 items, then DIN's attention over them (Pi et al., 2020)
    GRU4Rec   the last state of a GRU over the history, beside the candidate (Hidasi et al., 2016)
With ratings, an embedding of the stars is added to that of each item of the history. `-statistics` adds the
standardised fresh statistics to the input of the deep part. All else is equal: a deep part of 64 and 32, AdamW with
decay .01 but for ids' embeddings, batches of 1,024 candidates, binary cross-entropy, early stopping by the
validation's AUC. Where candidates of an impression compete, it is the AUC within impressions, and two negatives for
each positive train. SEARCH is the budget: each row is trained once with each of its settings (or the first few), and
the one that validation likes best is its row. One thread, so that the same seed gives the same scores.
"""
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tuning"))
from baselines_classic import logit_columns  # noqa: E402
from baselines_data import TEST, TRAIN, VALIDATION, about  # noqa: E402
from baselines_judge import grouped_auc  # noqa: E402
from measures import auc  # noqa: E402

BATCH, EPOCHS_MAX, PATIENCE, FOUND, SHORT_HISTORY = 1024, 12, 1, 10, 15
STARS = 12      # rating + 1; 0: none
# On Beauty, liked, ids without decay overfit in their second epoch.
SEARCH = [
    {"dimensions": 16, "decay": 5.0, "rate": 1e-3, "dropout": .2},
    {"dimensions": 16, "decay": 1.0, "rate": 1e-3, "dropout": .2},
    {"dimensions": 32, "decay": 5.0, "rate": 1e-3, "dropout": .4},
    {"dimensions": 16, "decay": 5.0, "rate": 3e-3, "dropout": .2},
]


def deep(inputs, dropout):
    return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, 32), nn.ReLU(),
                         nn.Linear(32, 1))


class Model(nn.Module):
    """Embeddings and the parts that all four share; `summary` differs."""

    def __init__(self, kind, ratings, users, items, statistics, dimensions, dropout):
        super().__init__()
        self.kind, self.ratings, self.dimensions = kind, ratings, dimensions
        self.user = nn.Embedding(users + 1, dimensions)
        self.item = nn.Embedding(items + 1, dimensions, padding_idx=0)
        self.stars = nn.Embedding(STARS, dimensions, padding_idx=0)
        self.user_bias, self.item_bias = nn.Embedding(users + 1, 1), nn.Embedding(items + 1, 1)
        for table in (self.user, self.item, self.stars):
            nn.init.normal_(table.weight, std=.05)
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)
        self.attention = nn.Sequential(nn.Linear(4 * dimensions, 32), nn.ReLU(), nn.Linear(32, 1))
        self.gru = nn.GRU(dimensions, dimensions, batch_first=True)
        self.deep = deep(4 * dimensions + statistics, dropout)

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
            last = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, self.dimensions)
            return states.gather(1, last)[:, 0] * (lengths > 0)[:, None]
        if self.kind == "deepfm":
            return entries.sum(1) / known.sum(1, keepdim=True).clamp(min=1)
        return self.attend(entries, known, candidate)

    def forward(self, user, item, history, stars, statistics):
        candidate, who = self.item(item), self.user(user)
        summary = self.summary(history, stars, candidate)
        logit = self.deep(torch.cat([who, candidate, summary, summary * candidate, statistics], -1))[:, 0]
        logit = logit + self.user_bias(user)[:, 0] + self.item_bias(item)[:, 0]
        if self.kind == "deepfm":
            logit = logit + (who * candidate + who * summary + candidate * summary).sum(-1)
        return logit


def standardised(data):
    names, part = [str(name) for name in data["names"]], data["part"][data["group"]]
    columns = logit_columns(data["features"], names)
    return ((columns - columns[part == TRAIN].mean(0)) / (columns[part == TRAIN].std(0) + 1e-9)).astype(np.float32)


def thinned(rows, label, random):
    """(rows, shift): all positives and twice as many of the negatives; what that adds to the log odds."""
    positive, negative = rows[label[rows]], rows[~label[rows]]
    kept = random.choice(negative, min(len(negative), 2 * len(positive)), replace=False)
    return np.sort(np.r_[positive, kept]), float(np.log(len(negative) / len(kept)))


class Training:
    """One row's data as tensors, and a run with one setting of SEARCH."""

    def __init__(self, row, data, seed):
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        self.row, self.seed, self.clicked = row, seed, about(data)["clicked"]
        self.kind, self.ratings = row.split("-")[0], not row.endswith("-no-ratings")
        self.sizes = int(data["users"]), int(data["items"])
        self.group, self.item = torch.from_numpy(data["group"]).long(), torch.from_numpy(data["item"]).long()
        self.label = torch.from_numpy(data["label"].astype(np.float32))
        self.user = torch.from_numpy(data["user"]).long()
        self.history, self.stars = torch.from_numpy(data["history"]).long(), torch.from_numpy(data["stars"]).long()
        self.statistics = torch.from_numpy(standardised(data) if row.endswith("-statistics")
                                           else np.zeros((len(data["group"]), 0), np.float32))
        part = data["part"][data["group"]]
        rows = [np.flatnonzero(part == p) for p in (TRAIN, VALIDATION, TEST)]
        self.shift = 0.0        # of the training's log odds
        if self.clicked:
            rows[0], self.shift = thinned(rows[0], data["label"], np.random.default_rng(seed))
        self.rows = [torch.from_numpy(chosen) for chosen in rows]

    def logits(self, model, rows):
        which = self.group[rows]
        return model(self.user[which], self.item[rows], self.history[which], self.stars[which], self.statistics[rows])

    def score(self, model, rows):
        model.eval()
        with torch.no_grad():
            return torch.cat([self.logits(model, chunk) for chunk in rows.split(8192)]) - self.shift

    def run(self, setting):
        """(validation AUC, logits of the test's candidates) after the epoch with the greatest validation AUC."""
        torch.manual_seed(self.seed)
        train, validation, test = self.rows
        model = Model(self.kind, self.ratings, *self.sizes, self.statistics.shape[1], setting["dimensions"],
                      setting["dropout"])
        ids = [table.weight for table in (model.user, model.item, model.user_bias, model.item_bias)]
        others = [p for p in model.parameters() if all(p is not weight for weight in ids)]
        optimiser = torch.optim.AdamW([{"params": ids, "weight_decay": setting["decay"]},
                                       {"params": others, "weight_decay": .01}], lr=setting["rate"])
        best, kept, waited = 0.0, None, 0
        for epoch in range(EPOCHS_MAX):
            model.train()
            for rows in train[torch.randperm(len(train))].split(BATCH):
                optimiser.zero_grad()
                nn.functional.binary_cross_entropy_with_logits(self.logits(model, rows), self.label[rows]).backward()
                optimiser.step()
            scores, labels = self.score(model, validation).numpy(), self.label[validation].numpy()
            reached = grouped_auc(scores, labels, self.group[validation].numpy())[1].mean() if self.clicked \
                else auc(scores, labels)
            print(f"{self.row} {setting}: epoch {epoch + 1}, validation AUC {reached:.4f}", file=sys.stderr, flush=True)
            if reached > best:
                best, waited = reached, 0
                kept = {name: value.clone() for name, value in model.state_dict().items()}
            else:
                waited += 1
                if waited == PATIENCE:
                    break
        if kept is None:
            sys.exit(f"{self.row}: no epoch had a validation AUC")
        model.load_state_dict(kept)
        return best, self.score(model, test).numpy().astype(float)


def search(row, data, seed, log, settings):
    """Logits of the test's candidates by that of the first `settings` of SEARCH which has the greatest validation AUC.
    log: a file of one JSON line a run, with its test scores beside it (.npy); runs that are there are not made again."""
    training, tried = Training(row, data, seed), {}
    if log.exists():
        tried = {json.dumps(run["setting"]): run for run in map(json.loads, log.read_text().splitlines())}
    for place, setting in enumerate(SEARCH[:settings]):
        if json.dumps(setting) in tried:
            continue
        reached, scores = training.run(setting)
        np.save(log.with_suffix(f".{place}.npy"), scores)
        tried[json.dumps(setting)] = {"setting": setting, "validation": reached}
        with log.open("a") as out:
            out.write(json.dumps({"setting": setting, "validation": reached}) + "\n")
    best = max(range(len(SEARCH[:settings])), key=lambda place: tried[json.dumps(SEARCH[place])]["validation"])
    return np.load(log.with_suffix(f".{best}.npy"))

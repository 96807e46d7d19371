"""From impressions to token ids, positions and attention masks, and from a model to logits of the answer.

A sequence holds one prefix and the suffixes of some of its candidates. A suffix sees the prefix and itself; its
positions go on where the prefix ends. So each candidate is computed as if it stood alone behind the prefix, and
the prefix is computed once: what serving does. With one candidate a sequence it is plain causal attention."""
from dataclasses import dataclass

import numpy as np
import torch


@dataclass
class Batch:
    ids: torch.Tensor           # [B, T]
    positions: torch.Tensor     # [B, T]
    allowed: torch.Tensor       # [B, 1, T, T] bool: may the row see the column
    rows: torch.Tensor          # [N, 2]: (sequence, last token) of each candidate
    labels: torch.Tensor        # [N]
    group: torch.Tensor         # [N]: which impression
    tokens: int                 # without padding


def sequences(prefix, candidates, shared):
    """[(candidates of one sequence)]: all at once, or one each."""
    return [candidates] if shared else [[c] for c in candidates]


def cut(prefix, suffix, tokens_max):
    """A prompt's own tokens: those of the end of the prefix go first. Serving never needs this; a small machine may."""
    room = tokens_max - len(suffix)
    return prefix[len(prefix) - room:] if tokens_max and 0 < room < len(prefix) else prefix


def make_batch(impressions, shared=True, device="cpu", pad=0):
    """impressions: [(prefix, [(suffix, label), ...]), ...]."""
    packed, rows, labels, groups = [], [], [], []
    for group, (prefix, candidates) in enumerate(impressions):
        for some in sequences(prefix, candidates, shared):
            ids, positions = [prefix], [np.arange(len(prefix))]
            block = [np.zeros(len(prefix), np.int64)]
            at = len(prefix)
            for number, (suffix, label) in enumerate(some, 1):
                ids.append(suffix)
                positions.append(np.arange(len(prefix), len(prefix) + len(suffix)))
                block.append(np.full(len(suffix), number))
                at += len(suffix)
                rows.append((len(packed), at - 1))
                labels.append(label)
                groups.append(group)
            packed.append(tuple(np.concatenate(part) for part in (ids, positions, block)))
    width = max(len(ids) for ids, _, _ in packed)
    count = len(packed)
    all_ids = np.full((count, width), pad, np.int64)
    all_positions = np.zeros((count, width), np.int64)
    allowed = np.zeros((count, width, width), bool)
    for b, (ids, positions, block) in enumerate(packed):
        n = len(ids)
        all_ids[b, :n] = ids
        all_positions[b, :n] = positions
        same = (block[None, :] == 0) | (block[None, :] == block[:, None])
        allowed[b, :n, :n] = same & np.tri(n, dtype=bool)
        allowed[b, range(n, width), range(n, width)] = True     # a row that sees nothing would be NaN
    return Batch(torch.from_numpy(all_ids).to(device), torch.from_numpy(all_positions).to(device),
                 torch.from_numpy(allowed)[:, None].to(device), torch.tensor(rows, device=device),
                 torch.tensor(labels, dtype=torch.float32, device=device), torch.tensor(groups, device=device),
                 sum(len(ids) for ids, _, _ in packed))


def parts_of(model):
    """The Llama or Qwen2 body, its final norm and its head, under a PEFT wrapper or not."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    return plain.model, plain.model.norm, plain.lm_head


def answer_logits(model, batch, answers, layers=()):
    """{layer: [N] logit of yes minus that of no} for the listed layers (1-based) and the last one: hidden rows
    through the model's own final norm and head, as an untrained exit reads them."""
    body, norm, head = parts_of(model)
    dtype = next(body.parameters()).dtype
    mask = torch.zeros(batch.allowed.shape, dtype=dtype, device=batch.ids.device)
    mask.masked_fill_(~batch.allowed, torch.finfo(dtype).min)
    out = body(input_ids=batch.ids, position_ids=batch.positions, attention_mask=mask, use_cache=False,
               output_hidden_states=bool(layers))
    yes, no = answers
    vector = (head.weight[yes] - head.weight[no]).float()
    last = body.config.num_hidden_layers
    logits = {}
    for layer in sorted(set(layers) | {last}):
        # The body has applied its norm to the last layer's rows already.
        hidden = out.last_hidden_state if layer == last else out.hidden_states[layer]
        hidden = hidden[batch.rows[:, 0], batch.rows[:, 1]]
        hidden = hidden if layer == last else norm(hidden)
        logits[layer] = hidden.float() @ vector
    return logits

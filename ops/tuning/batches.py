"""From impressions to token ids, positions and attention masks, and from a model to logits of the answer.

A sequence holds one prefix and the suffixes of its candidates. A suffix sees the prefix and itself; its positions go
on where the prefix ends. So each candidate is computed as if it stood alone behind the prefix, and the prefix is
computed once: what serving does. With one candidate a sequence it is plain causal attention."""
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional


@dataclass
class Batch:
    ids: torch.Tensor           # [B, T]
    positions: torch.Tensor     # [B, T]
    allowed: torch.Tensor       # [B, 1, T, T] bool: may the row see the column
    rows: torch.Tensor          # [B, R]: the last token of each candidate, 0 where a sequence has fewer
    real: torch.Tensor          # [B, R] bool
    labels: torch.Tensor        # [N], N = real candidates, in order
    offsets: torch.Tensor       # [N]: what is known without the model, as a logit
    group: torch.Tensor         # [N]: which impression
    tokens: int                 # without padding


def make_batch(impressions, shared=True, device="cpu", pad=0):
    """impressions: [(prefix, [(suffix, label, offset), ...]), ...]; shared: all candidates of one in a sequence."""
    packed, labels, offsets, groups = [], [], [], []
    for group, (prefix, candidates) in enumerate(impressions):
        for some in [candidates] if shared else [[c] for c in candidates]:
            ids, positions, block, rows = [prefix], [np.arange(len(prefix))], [np.zeros(len(prefix), np.int64)], []
            at = len(prefix)
            for number, (suffix, label, offset) in enumerate(some, 1):
                ids.append(suffix)
                positions.append(np.arange(len(prefix), len(prefix) + len(suffix)))
                block.append(np.full(len(suffix), number))
                at += len(suffix)
                rows.append(at - 1)
                labels.append(label)
                offsets.append(offset)
                groups.append(group)
            packed.append((*(np.concatenate(part) for part in (ids, positions, block)), rows))
    count, width = len(packed), max(len(ids) for ids, *_ in packed)
    most = max(len(rows) for *_, rows in packed)
    all_ids = np.full((count, width), pad, np.int64)
    all_positions = np.zeros((count, width), np.int64)
    allowed = np.zeros((count, width, width), bool)
    all_rows, real = np.zeros((count, most), np.int64), np.zeros((count, most), bool)
    for b, (ids, positions, block, rows) in enumerate(packed):
        n = len(ids)
        all_ids[b, :n] = ids
        all_positions[b, :n] = positions
        same = (block[None, :] == 0) | (block[None, :] == block[:, None])
        allowed[b, :n, :n] = same & np.tri(n, dtype=bool)
        allowed[b, range(n, width), range(n, width)] = True     # a row that sees nothing would be NaN
        all_rows[b, :len(rows)], real[b, :len(rows)] = rows, True
    put = lambda values: torch.as_tensor(values).to(device)     # noqa: E731
    return Batch(put(all_ids), put(all_positions), put(allowed)[:, None], put(all_rows), put(real),
                 put(np.array(labels, np.float32)), put(np.array(offsets, np.float32)), put(np.array(groups)),
                 sum(len(ids) for ids, *_ in packed))


def parts_of(model):
    """The Llama or Qwen2 body, its final norm and its head, under a PEFT wrapper or not."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    return plain.model, plain.model.norm, plain.lm_head


def take(values, rows):
    """values [B, T, C] at rows [B, R]: [B, R, C]."""
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[-1]))


def rotate(x, cosine, sine):
    """Rotary positions: x [B, H, T, D], cosine and sine [B, T, D], halves paired as Hugging Face does."""
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], -1)
    return x * cosine[:, None] + turned * sine[:, None]


def last_layer(layer, hidden, mask, around, rows, head_size):
    """A decoder layer whose output is wanted at `rows` [B, R] only: [B, R, C]. Keys and values of all tokens, all
    else for few: of the last layer that is run, nine tenths of the work have no reader."""
    attention, (cosine, sine) = layer.self_attn, around
    normed = layer.input_layernorm(hidden)
    heads = lambda x: x.view(*x.shape[:2], -1, head_size).transpose(1, 2)       # noqa: E731
    queries = rotate(heads(attention.q_proj(take(normed, rows))), take(cosine, rows), take(sine, rows))
    keys, values = rotate(heads(attention.k_proj(normed)), cosine, sine), heads(attention.v_proj(normed))
    repeats = queries.shape[1] // keys.shape[1]
    seen = mask[:, 0].gather(1, rows[..., None].expand(-1, -1, mask.shape[-1]))[:, None]
    mixed = functional.scaled_dot_product_attention(queries, keys.repeat_interleave(repeats, 1),
                                                    values.repeat_interleave(repeats, 1), attn_mask=seen)
    out = take(hidden, rows) + attention.o_proj(mixed.transpose(1, 2).flatten(2))
    return out + layer.mlp(layer.post_attention_layernorm(out))


def answer_logits(model, batch, answers, layers):
    """{layer: [N] logit of yes minus that of no} for the listed layers (1-based): hidden rows through the model's own
    final norm and answer words, as an untrained exit reads them. Layers after the last one listed are not run."""
    body, norm, head = parts_of(model)
    hidden = body.embed_tokens(batch.ids)
    mask = torch.zeros(batch.allowed.shape, dtype=hidden.dtype, device=hidden.device)
    mask.masked_fill_(~batch.allowed, torch.finfo(hidden.dtype).min)
    around = body.rotary_emb(hidden, batch.positions)
    head_size = body.config.hidden_size // body.config.num_attention_heads
    yes, no = answers
    vector = (head.weight[yes] - head.weight[no]).float()
    logits, last = {}, max(layers)
    for number, layer in enumerate(body.layers[:last], 1):
        if number == last:
            rows = last_layer(layer, hidden, mask, around, batch.rows, head_size)
        else:
            hidden = layer(hidden, attention_mask=mask, position_ids=batch.positions, position_embeddings=around)[0]
            rows = take(hidden, batch.rows) if number in layers else None
        if rows is not None:
            logits[number] = norm(rows[batch.real]).float() @ vector
    return logits

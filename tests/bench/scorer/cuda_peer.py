#!/usr/bin/env python3
"""What transformers makes of the work that bench_cuda measures, on the same GPU, as rows of its table.

    cuda_peer.py [--layers N] [--small]

Random weights of Vicuna-7B's shape in bf16, attention by SDPA, prompts padded to the longest of their batch, only the
last token's logits taken; the best of several batch sizes, then the same batch with torch.compile. A shared prefix
is nothing to it: each candidate is a whole prompt. --small: a tiny model on the CPU, to try the
program itself, without torch.compile.
Needs torch and transformers; called by bench_cuda.sh where they are.
"""
import argparse
import statistics
import sys
import time

import torch
import transformers


def median_seconds(work, wait, turns):
    work()
    wait()
    seconds = []
    for _ in range(turns):
        begin = time.perf_counter()
        work()
        wait()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def batches_of(lengths, size, vocabulary, device):
    """Neighbours by length together, as whoever pads would do it; padding on the left, so that the last token is."""
    lengths = sorted(lengths)
    out = []
    for first in range(0, len(lengths), size):
        part = lengths[first:first + size]
        ids = torch.randint(0, vocabulary, (len(part), part[-1]), device=device)
        mask = torch.zeros_like(ids)
        for row, length in enumerate(part):
            mask[row, part[-1] - length:] = 1
        out.append((ids, mask))
    return out


def prompts_per_second(model, lengths, sizes, wait, turns):
    """The best rate over batch sizes and that size; sizes that do not fit are left out."""
    best = (0.0, 0)
    for size in sizes:
        batches = batches_of(lengths, size, model.config.vocab_size, model.device)

        def work(batches=batches):
            for ids, mask in batches:
                model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1)

        try:
            best = max(best, (len(lengths) / median_seconds(work, wait, turns), size))
        except torch.cuda.OutOfMemoryError:
            break
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    small = arguments.small
    if not small and not torch.cuda.is_available():
        sys.exit("cuda_peer: no GPU; only --small makes sense")
    device = "cpu" if small else "cuda"
    wait = (lambda: None) if small else torch.cuda.synchronize
    prompt, prefix, suffix, candidates, count = (32, 32, 8, 4, 8) if small else (512, 512, 64, 32, 64)
    sizes, turns = ((2, 4), 2) if small else ((4, 8, 16, 32, 64), 3)
    config = transformers.LlamaConfig(
        hidden_size=128 if small else 4096, intermediate_size=256 if small else 11008,
        num_hidden_layers=8 if small else arguments.layers, num_attention_heads=2 if small else 32,
        num_key_value_heads=2 if small else 32, vocab_size=100 if small else 32000, max_position_embeddings=4096,
        attn_implementation="sdpa")
    torch.manual_seed(1)
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = transformers.LlamaForCausalLM(config).eval()
    name = "transformers %s, torch %s, SDPA, bf16, padded" % (transformers.__version__, torch.__version__)
    print("| what (%s) | measured | |\n|---|---|---|" % name)

    side = 256 if small else 8192
    left, right = (torch.randn(side, side, device=device) for _ in range(2))
    seconds = median_seconds(lambda: left @ right, wait, 2 if small else 20)
    print("| torch, %d x %d x %d, bf16 | %.1f TFLOP/s | |" % (side, side, side, 2 * side ** 3 / seconds / 1e12))
    rate, size = prompts_per_second(model, [prompt] * count, sizes, wait, turns)
    print("| peer: prompts of %d tokens | %.1f prompts/s, batches of %d | |" % (prompt, rate, size), flush=True)
    # bench_cuda's mixed lengths: a quarter of a prompt to twice one, in eighths.
    mixed = [prompt // 4 + i * 7 % 15 * (prompt // 8) for i in range(count)]
    rate, mixed_size = prompts_per_second(model, mixed, sizes, wait, turns)
    print("| peer: mixed lengths, sorted by length | %.1f prompts/s, batches of %d | |" % (rate, mixed_size), flush=True)
    rate, whole = prompts_per_second(model, [prefix + suffix] * candidates, sizes, wait, turns)
    print("| peer: %d candidates of %d + %d tokens, each alone | %.1f candidates/s, batches of %d | |"
          % (candidates, prefix, suffix, rate, whole), flush=True)
    if small:
        return  # compiling for a CPU takes minutes and says nothing
    model.forward = torch.compile(model.forward)
    rate, _ = prompts_per_second(model, [prompt] * count, (size,), wait, turns)
    print("| peer with torch.compile: prompts of %d tokens | %.1f prompts/s, batches of %d | |" % (prompt, rate, size))


if __name__ == "__main__":
    main()

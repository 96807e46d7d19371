#!/usr/bin/env python3
"""Yes/no logits after every layer against Hugging Face transformers in fp32, on prompts built by our own
enrichment (at least 50; the model dequantised from its GGUF file by transformers itself).

    python3 -m venv venv && venv/bin/pip install torch transformers gguf accelerate
    venv/bin/python ops/experiments/transformers_agreement.py build/exitpoll MODEL.gguf [--golden FILE]

A logit is taken through the model's own final norm and head. Fails above 1e-4 relative to the larger of
the two logits and 1. --golden writes the three shortest prompts with transformers' numbers, for the tests."""
import argparse
import json
import pathlib
import statistics
import tempfile

import torch
import transformers

import enriched_prompts

BOUND = 1e-4


def theirs(model, ids, answers):
    """Logits [layers][yes, no] at the last token, and those of the embeddings left out."""
    states = []
    hooks = [layer.register_forward_hook(
        lambda _, __, out: states.append((out[0] if isinstance(out, tuple) else out)[0, -1]))
        for layer in model.model.layers]
    with torch.no_grad():
        model(torch.tensor([ids]), use_cache=False, logits_to_keep=1)
        for hook in hooks:
            hook.remove()
        return [model.lm_head(model.model.norm(state))[answers].tolist() for state in states]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--bytes-max", type=int, default=3600, help="of a scoring request as JSON")
    parser.add_argument("--golden", type=pathlib.Path)
    arguments = parser.parse_args()
    binary, path = arguments.binary.resolve(), arguments.model.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        prompts = enriched_prompts.prompts(binary, path, folder, arguments.prompts, arguments.bytes_max)
        fp32 = enriched_prompts.ours(binary, path, folder, prompts, "--precision", "fp32")
        bf16 = enriched_prompts.ours(binary, path, folder, prompts[:16], "--precision", "bf16")
    model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name,
                                                              dtype=torch.float32).eval()
    worst, golden = 0, []
    clicks = [abs(exact["p_click"] - rounded["p_click"]) for exact, rounded in zip(fp32, bf16)]
    for ids, got in zip(prompts, fp32):
        want = theirs(model, ids, got["answer_ids"])
        assert len(want) == len(got["layers"]) and got["tokens"] == len(ids)
        for (yes, no), (our_yes, our_no) in zip(want, got["layers"]):
            scale = max(abs(yes), abs(no), 1)
            worst = max(worst, abs(yes - our_yes) / scale, abs(no - our_no) / scale)
        golden.append({"input_ids": ids, "layers": want})
    lengths = [len(ids) for ids in prompts]
    print(f"{len(prompts)} prompts of {min(lengths)} to {max(lengths)} tokens, {len(want)} layers: largest "
          f"relative difference of a logit {worst:.2g} (at most {BOUND})")
    print(f"{bf16[0]['backend']}, {len(bf16)} prompts: p differs from fp32 by {statistics.median(clicks):.4f} (median), "
          f"{max(clicks):.4f} (most)")
    if arguments.golden:
        golden.sort(key=lambda case: len(case["input_ids"]))
        rows = [json.dumps({"input_ids": case["input_ids"], "layers":
                            [[round(z, 5) for z in pair] for pair in case["layers"]]}) for case in golden[:3]]
        arguments.golden.write_text(
            '{"source": "transformers %s, torch %s, fp32, %s dequantised; '
            'ops/experiments/transformers_agreement.py",\n"yes_id": %d, "no_id": %d, "cases": [\n%s\n]}\n' %
            (transformers.__version__, torch.__version__, path.name, *fp32[0]["answer_ids"], ",\n".join(rows)))
    raise SystemExit(worst > BOUND)


main()

#!/usr/bin/env python3
"""Do PyTorch and the scorer agree on a tuned model? Compares the logit of yes minus that of no, after every layer, for
some prompts of the samples: PyTorch on the Hugging Face folder with the adapter on top, the scorer on the bundle with
the adapter merged, both in fp32.

    parity.py --samples samples --model smollm2-hf --bundle tuned --exitpoll build/exitpoll
"""
import argparse
import json
import subprocess
import sys
import tempfile

import numpy as np
import torch

import batches
from samples import Samples


def torch_logits(options, prompts, answers):
    """[prompts, layers]"""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(options.model, torch_dtype=torch.float32, attn_implementation="sdpa")
    model = PeftModel.from_pretrained(model, f"{options.bundle}/adapter").eval()
    layers = range(1, model.config.num_hidden_layers + 1)
    out = []
    with torch.no_grad():
        for prefix, suffix in prompts:
            z = batches.answer_logits(model, batches.make_batch([(prefix, [(suffix, 0., 0.)])]), answers, layers)
            out.append([float(z[layer]) for layer in layers])
    return np.array(out)


def scorer_logits(options, prompts):
    with tempfile.NamedTemporaryFile("w", suffix=".ids") as file:
        for prefix, suffix in prompts:
            file.write(json.dumps([*map(int, prefix), *map(int, suffix)]) + "\n")
        file.flush()
        done = subprocess.run([options.exitpoll, "score", "--model", options.bundle, "--prompt-file", file.name, "--ids",
                               "--layers", "--precision", "fp32", "--exit-rule", "none"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    return np.array([[yes - no for yes, no in result["layers"]] for result in results]), results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", required=True)
    parser.add_argument("--model", required=True, help="Hugging Face folder, without the adapter")
    parser.add_argument("--bundle", required=True, help="what tune.py wrote")
    parser.add_argument("--exitpoll", default="exitpoll", help="the program")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    options = parser.parse_args()
    samples = Samples(options.samples)
    chosen = np.linspace(0, len(samples.part) - 1, options.prompts).astype(int)
    prompts = [(samples.prefix(i), samples.candidates(i)[0][0]) for i in chosen]
    ours = torch_logits(options, prompts, samples.description["answer_ids"])
    theirs, results = scorer_logits(options, prompts)
    if any(result["answer_ids"] != samples.description["answer_ids"] for result in results):
        raise SystemExit("the bundle answers with other words than the samples were written for")
    worst = float(np.abs(ours - theirs).max())
    print(json.dumps({"prompts": len(prompts), "layers": ours.shape[1], "largest_difference": worst,
                      "largest_logit": float(np.abs(ours).max())}))
    sys.exit(worst > options.tolerance)


if __name__ == "__main__":
    main()

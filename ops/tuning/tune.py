#!/usr/bin/env python3
"""Tunes a backbone on samples: LoRA, trained on the answer token alone.

Reads what `exitpoll samples` wrote and a Hugging Face folder of the model (hf_folder.py makes one from a GGUF file);
writes a bundle: a PEFT adapter, exitpoll.json, log.jsonl, curve.svg. A run that was stopped, or killed, goes on from
its last checkpoint when the same command is given again, and ends with the same adapter on the same machine.

    tune.py --samples samples --model smollm2-hf --out tuned --scorer-model SmolLM2-135M-Instruct.Q4_1.gguf
    exitpoll fit-heads --samples samples --model tuned --out bundle
"""
import argparse
import json
import math
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional

import batches
import measures
from curve import learning_curve
from samples import STOPPING, TRAIN, Samples

TEMPLATES = ["chatml", "vicuna", "llama3", "plain"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--samples", required=True, metavar="DIR", help="as `exitpoll samples` writes them")
    add("--model", required=True, metavar="DIR", help="Hugging Face folder of the model")
    add("--out", required=True, metavar="DIR", help="the bundle; an unfinished run there goes on")
    add("--scorer-model", metavar="PATH", help="what the bundle names as its model (default: --model)")
    add("--force", action="store_true", help="begin anew where --out holds a run")
    group = parser.add_argument_group("what is learned")
    add = group.add_argument
    add("--objective", choices=["auto", "logistic", "softmax"], default="auto",
        help="softmax among the candidates of an impression, or log loss of each (auto: softmax for clicked)")
    add("--exits", default="", metavar="LAYERS", help="deep supervision: the loss also at these layers, as 5,10,15")
    add("--exit-weight", type=float, default=.3, help="of each exit's loss beside the last layer's 1 (%(default)s)")
    add("--distill", type=float, default=0., help="share of an exit's loss that follows the last layer's p, not the label")
    add("--rank", type=int, default=8)
    add("--alpha", type=float, default=16)
    add("--dropout", type=float, default=.05)
    add("--modules", default="q_proj,v_proj", help="%(default)s; also k_proj o_proj gate_proj up_proj down_proj")
    group = parser.add_argument_group("how")
    add = group.add_argument
    add("--independent", action="store_true", help="a sequence for each candidate, instead of one shared prefix")
    add("--learning-rate", type=float, default=5e-4)
    add("--batch", type=int, default=32, help="impressions a step (%(default)s)")
    add("--micro", type=int, default=4, help="impressions a forward pass (%(default)s)")
    add("--epochs", type=float, default=1.)
    add("--steps", type=int, default=0, help="stop after so many (default: as epochs say)")
    add("--tokens-max", type=int, default=0, help="cut the beginning of longer prompts (default: never)")
    add("--validate-every", type=int, default=20, help="steps (%(default)s)")
    add("--validate-impressions", type=int, default=256, help="of the part `stopping`, drawn by the seed (%(default)s)")
    add("--patience", type=int, default=5, help="validations without a better one that end the run (%(default)s)")
    add("--keep", choices=["best", "last"], default="best", help="which adapter, by validation or in time (%(default)s)")
    add("--seed", type=int, default=1)
    add("--device", default="auto", help="cpu, cuda, auto")
    add("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="of the frozen weights (auto: bf16 on a GPU)")
    add("--threads", type=int, default=0)
    add("--quiet", action="store_true")
    return parser.parse_args()


# ---- data ----

def choose(samples, part, count, seed):
    """Impressions of a part that have a label; at most `count` of them, drawn by the seed."""
    chosen = np.array([i for i in samples.impressions(part) if samples.labelled(i)], np.int64)
    if count and len(chosen) > count:
        chosen = np.sort(np.random.default_rng([seed, part]).choice(chosen, count, replace=False))
    return chosen


def load(samples, impressions, tokens_max):
    out = []
    for i in impressions:
        prefix, candidates = samples.prefix(i), samples.labelled(i)
        longest = max(candidates, key=lambda c: len(c[0]))[0]
        out.append((batches.cut(prefix, longest, tokens_max), candidates))
    return out


def order_of(count, epoch, seed):
    return np.random.default_rng([seed, 1000 + epoch]).permutation(count)


def step_impressions(train, step, options):
    """The impressions of a step: epochs are walked through in an order of their own."""
    chosen = []
    for place in range(step * options.batch, (step + 1) * options.batch):
        epoch, at = divmod(place, len(train))
        if place == step * options.batch or at == 0:
            order = order_of(len(train), epoch, options.seed)
        chosen.append(train[order[at]])
    return chosen


# ---- model ----

def open_model(options):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    bf16 = options.precision == "bf16" or (options.precision == "auto" and device != "cpu")
    torch.manual_seed(options.seed)
    model = AutoModelForCausalLM.from_pretrained(options.model, attn_implementation="sdpa",
                                                 torch_dtype=torch.bfloat16 if bf16 else torch.float32)
    model = get_peft_model(model, LoraConfig(r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout,
                                             target_modules=options.modules.split(","), bias="none",
                                             task_type="CAUSAL_LM"))
    return model.to(device), device, "bf16" if bf16 else "fp32"


def impression_losses(logits, batch, objective, soft=None):
    """Sum over impressions of their loss. soft [N]: the last layer's probabilities, to follow instead of labels."""
    if objective == "logistic":
        target = batch.labels if soft is None else soft
        each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        sizes = torch.bincount(batch.group, minlength=int(batch.group.max()) + 1)
        return (each / sizes[batch.group]).sum()
    total = logits.sum() * 0
    for g in range(int(batch.group.max()) + 1):
        mine = batch.group == g
        target = batch.labels[mine] if soft is None else soft[mine]
        if 0 < batch.labels[mine].sum() < mine.sum():
            total = total - (functional.log_softmax(logits[mine], 0) * target).sum() / target.sum()
    return total


def loss_of(logits, batch, objective, options):
    """Of the last layer, with the exits' beside it where they are supervised."""
    last = max(logits)
    total = own = impression_losses(logits[last], batch, objective)
    soft = torch.sigmoid(logits[last].detach())
    if objective == "softmax":
        soft = torch.cat([torch.softmax(logits[last].detach()[batch.group == g], 0)
                          for g in range(int(batch.group.max()) + 1)])
    for layer in logits:
        if layer == last:
            continue
        exit_loss = (1 - options.distill) * impression_losses(logits[layer], batch, objective)
        if options.distill:
            exit_loss = exit_loss + options.distill * impression_losses(logits[layer], batch, objective, soft)
        total = total + options.exit_weight * exit_loss
    return total, own


def validate(model, data, answers, exits, options, device, stop):
    """{"auc", "impression_auc", "log_loss", "layers": {layer: the chosen AUC}} on the validation impressions; None:
    told to stop."""
    scores, labels, groups = {}, [], []
    model.eval()
    with torch.no_grad():
        for begin in range(0, len(data), options.micro):
            if stop:
                return None
            batch = batches.make_batch(data[begin:begin + options.micro], not options.independent, device)
            for layer, z in batches.answer_logits(model, batch, answers, exits).items():
                scores.setdefault(layer, []).extend(z.tolist())
            labels += batch.labels.tolist()
            groups += (batch.group + begin).tolist()
    model.train()
    last = max(scores)
    out = {"auc": measures.auc(scores[last], labels),
           "impression_auc": measures.impression_auc(scores[last], labels, groups),
           "log_loss": measures.log_loss(scores[last], labels)}
    if exits:
        measure = options.measure
        out["layers"] = {str(layer): measures.auc(z, labels) if measure == "auc" else
                         measures.impression_auc(z, labels, groups) for layer, z in scores.items()}
    return out


# ---- state ----

def put(path, text):
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(text)
    os.replace(part, path)


def adapter_state(model):
    return {name: value.detach().cpu().clone() for name, value in model.named_parameters() if value.requires_grad}


def restore(model, state):
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.requires_grad:
                value.copy_(state[name].to(value.device))


class Run:
    """What a checkpoint holds."""

    def __init__(self, identity):
        self.identity, self.step, self.samples = identity, 0, 0
        self.history, self.best, self.best_state, self.worse = [], None, None, 0
        self.finished = False

    def save(self, folder, model, optimizer):
        state = dict(self.__dict__, adapter=adapter_state(model), optimizer=optimizer.state_dict())
        torch.save(state, folder / "checkpoint.part")
        os.replace(folder / "checkpoint.part", folder / "checkpoint.pt")
        put(folder / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in self.history))

    def load(self, folder, model, optimizer):
        state = torch.load(folder / "checkpoint.pt", weights_only=False)
        if state["identity"] != self.identity:
            different = sorted(k for k in self.identity if state["identity"].get(k) != self.identity[k])
            raise SystemExit(f"{folder} holds a run with other {', '.join(different)}: --force begins anew")
        restore(model, state.pop("adapter"))
        optimizer.load_state_dict(state.pop("optimizer"))
        self.__dict__.update(state)


def write_bundle(folder, model, run, options, samples, trained_until):
    """The best adapter, in PEFT's form, and the description that the scorer reads."""
    if options.keep == "best":
        restore(model, run.best_state)
    part = folder / "adapter.part"
    model.save_pretrained(part)
    # The merged weights are what serves: that dropout was used, or where the base model lay, is of no use there.
    adapter = folder / "adapter"
    adapter.mkdir(exist_ok=True)
    for name in ["adapter_config.json", "adapter_model.safetensors"]:
        os.replace(part / name, adapter / name)
    for left in part.iterdir():
        left.unlink()
    part.rmdir()
    bundle = {"name": folder.name or "tuned", "model": str(Path(options.scorer_model or options.model).resolve()),
              "adapter": "adapter", "context": samples.description["context"], "trained_until": trained_until}
    if samples.description.get("answers"):
        bundle["answers"] = samples.description.get("answers")
    if samples.description["template"] in TEMPLATES:
        bundle["template"] = samples.description["template"]
    put(folder / "exitpoll.json", json.dumps(bundle, indent=2) + "\n")
    put(folder / "curve.svg", learning_curve(run.history, options.measure))


# ---- the loop ----

def train_step(model, optimizer, chosen, answers, exits, options, device, rate):
    """One step over `chosen` impressions; (loss of the last layer, tokens)."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss, tokens = 0., 0
    for begin in range(0, len(chosen), options.micro):
        batch = batches.make_batch(chosen[begin:begin + options.micro], not options.independent, device)
        total, own = loss_of(batches.answer_logits(model, batch, answers, exits), batch, options.objective, options)
        (total / len(chosen)).backward()
        loss += float(own.detach()) / len(chosen)
        tokens += batch.tokens
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.)
    optimizer.step()
    return loss, tokens


def rate_at(step, steps, options):
    """Warms up over a twentieth of the steps, then falls to a tenth along a cosine."""
    warm = max(1, steps // 20)
    if step < warm:
        return options.learning_rate * (step + 1) / warm
    share = (step - warm) / max(1, steps - warm)
    return options.learning_rate * (.1 + .9 * (1 + math.cos(math.pi * share)) / 2)


def tell(options, text):
    if not options.quiet:
        clear = "\r\033[K" if sys.stderr.isatty() else ""
        print(clear + text, file=sys.stderr, flush=True)


def bar(options, run, steps, rate):
    if not options.quiet and sys.stderr.isatty():
        done = 30 * run.step // steps
        print(f"\r\033[Ktuning [{'#' * done}{'.' * (30 - done)}] step {run.step}/{steps}, "
              f"{rate:.0f} tokens/s", end="", file=sys.stderr, flush=True)


def is_due(run, steps, options):
    """Is this step to be validated, and was it not yet?"""
    validated = any("log_loss" in entry and entry["step"] == run.step for entry in run.history[-1:])
    return not validated and (run.step % options.validate_every == 0 or run.step == steps)


def check_validation(run, model, data, answers, exits, options, device, stop):
    figures = validate(model, data, answers, exits, options, device, stop)
    if figures is None:
        return
    run.history.append({"step": run.step, "samples": run.samples, **figures})
    value = figures[options.measure]
    tell(options, f"step {run.step}: validation {options.measure} {value:.4f}, log loss {figures['log_loss']:.4f}"
                  + "".join(f", layer {k} {v:.4f}" for k, v in figures.get("layers", {}).items()))
    if run.best is None or value > run.best or run.best != run.best:
        run.best, run.best_state, run.worse = value, adapter_state(model), 0
    else:
        run.worse += 1


def main():
    options = arguments()
    folder = Path(options.out)
    if options.threads:
        torch.set_num_threads(options.threads)
    samples = Samples(options.samples)
    options.objective = {"auto": "softmax" if samples.clicked else "logistic"}.get(options.objective, options.objective)
    options.measure = "impression_auc" if samples.clicked else "auc"
    exits = [int(layer) for layer in options.exits.split(",") if layer]
    answers = samples.description["answer_ids"]
    chosen = [choose(samples, TRAIN, 0, options.seed),
              choose(samples, STOPPING, options.validate_impressions, options.seed)]
    if not len(chosen[0]) or not len(chosen[1]):
        raise SystemExit(f"{options.samples}: {len(chosen[0])} impressions to train on, {len(chosen[1])} to stop by")
    train, stopping = (load(samples, some, options.tokens_max) for some in chosen)
    trained_until = max(int(samples.time_ms[some].max()) for some in chosen)
    # The whole part may be looked at through early stopping, so its end counts, not that of the drawn ones.
    trained_until = max(trained_until, int(samples.time_ms[samples.impressions(STOPPING)].max()))
    steps = options.steps or max(1, round(options.epochs * len(train) / options.batch))
    model, device, precision = open_model(options)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=options.learning_rate,
                                  weight_decay=0.)
    ignored = {"out", "force", "quiet", "threads", "scorer_model", "device", "samples", "model", "keep"}
    identity = {k: v for k, v in vars(options).items() if k not in ignored}
    identity.update(steps=steps, precision=precision, events=samples.description["events_hash"],
                    wording=samples.description["wording"], samples=len(train))
    run = Run(identity)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "checkpoint.pt").exists() and not options.force:
        run.load(folder, model, optimizer)
        tell(options, f"goes on at step {run.step} of {steps}")
    stop = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(1))
    model.train()
    tell(options, f"{len(train)} impressions to train on, {len(stopping)} to stop by; {steps} steps of {options.batch}; "
                  f"{options.objective}, {'independent prompts' if options.independent else 'shared prefix'}, "
                  f"{device} {precision}")
    began, tokens_done = time.time(), 0
    while not stop and not run.finished:
        if is_due(run, steps, options):
            check_validation(run, model, stopping, answers, exits, options, device, stop)
            run.save(folder, model, optimizer)
            put(folder / "curve.svg", learning_curve(run.history, options.measure))
        if stop or run.step >= steps or run.worse >= options.patience:
            break
        torch.manual_seed(options.seed * 1000003 + run.step)    # dropout does not depend on where a run was stopped
        at = time.time()
        loss, tokens = train_step(model, optimizer, step_impressions(train, run.step, options), answers, exits, options,
                                  device, rate_at(run.step, steps, options))
        run.step += 1
        run.samples += options.batch
        tokens_done += tokens
        run.history.append({"step": run.step, "samples": run.samples, "loss": loss,
                            "rate": rate_at(run.step - 1, steps, options), "tokens": tokens,
                            "seconds": round(time.time() - at, 3)})
        bar(options, run, steps, tokens_done / (time.time() - began))
    if stop:
        run.save(folder, model, optimizer)
        tell(options, f"stopped at step {run.step}; the same command goes on")
        sys.exit(75)
    run.finished = True
    run.save(folder, model, optimizer)
    write_bundle(folder, model, run, options, samples, trained_until)
    first = next(e[options.measure] for e in run.history if options.measure in e)
    print(json.dumps({"steps": run.step, "impressions": run.samples, "measure": options.measure, "untuned": first,
                      "best": run.best, "trained_until": trained_until,
                      "seconds": round(sum(e.get("seconds", 0) for e in run.history), 1),
                      "tokens": sum(e.get("tokens", 0) for e in run.history), "bundle": str(folder)}))


if __name__ == "__main__":
    main()

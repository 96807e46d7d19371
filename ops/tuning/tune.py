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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional

import batches
import measures
from curve import learning_curve
from offset import Offset
from samples import STOPPING, TRAIN, Samples

TEMPLATES = ["chatml", "vicuna", "llama3", "plain"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--samples", required=True, metavar="DIR", help="as `exitpoll samples` writes them")
    add("--model", required=True, metavar="DIR", help="Hugging Face folder of the model")
    add("--out", required=True, metavar="DIR", help="the bundle; an unfinished run there goes on")
    add("--scorer-model", metavar="PATH", help="what the bundle names as its model (default: --model)")
    add("--template", metavar="FILE", help="the wording of the samples where it is not a shipped one, for the bundle")
    add("--finish", action="store_true", help="take no further step: write the bundle of the run in --out as it stands")
    add("--force", action="store_true", help="begin anew where --out holds a run")
    group = parser.add_argument_group("what is learned")
    add = group.add_argument
    add("--objective", choices=["auto", "logistic", "softmax"], default="auto",
        help="softmax among the candidates of an impression, or log loss of each (auto: softmax for clicked)")
    add("--layers", type=int, default=0, metavar="N",
        help="run and tune the first N alone; later ones stay untuned, and exits must end there (default: all)")
    add("--first-layer", type=int, default=1, metavar="N",
        help="layers below it stay as they are: nothing is differentiated there (%(default)s)")
    add("--exits", default="", metavar="LAYERS", help="deep supervision: the loss also at these layers, as 5,10,15")
    add("--exit-weight", type=float, default=.3, help="of each exit's loss beside the last layer's 1 (%(default)s)")
    add("--offset", choices=["none", "statistics"], default="none",
        help="statistics: learn what a small model of the fresh statistics does not say; its logit is added")
    add("--scale", type=float, default=1., help="how much the model's logit counts beside the offset, since an untuned "
        "one is noise (%(default)s); fit-heads finds the scale that serves")
    add("--history-min", type=int, default=0, metavar="N",
        help="leave out impressions of users with fewer earlier interactions (%(default)s)")
    add("--rank", type=int, default=8)
    add("--alpha", type=float, default=16)
    add("--modules", default="q_proj,v_proj", help="%(default)s; also k_proj o_proj gate_proj up_proj down_proj")
    group = parser.add_argument_group("how")
    add = group.add_argument
    add("--learning-rate", type=float, default=5e-4)
    add("--batch", type=int, default=32, help="impressions a step (%(default)s)")
    add("--micro", type=int, default=4, help="impressions a forward pass (%(default)s)")
    add("--epochs", type=float, default=1.)
    add("--steps", type=int, default=0, help="stop after so many (default: as epochs say)")
    add("--validate-every", type=int, default=20, help="steps (%(default)s)")
    add("--validate-impressions", type=int, default=256, help="of the part `stopping`, drawn by the seed (%(default)s)")
    add("--patience", type=int, default=5, help="validations without a better one that end the run (%(default)s)")
    add("--keep", choices=["best", "last"], default="best", help="which adapter, by validation or in time (%(default)s)")
    add("--seed", type=int, default=1)
    add("--order", type=int, default=0, metavar="N",
        help="another order of the samples from the same start: adapters of such runs can be averaged (average.py)")
    add("--device", default="auto", help="cpu, cuda, auto")
    add("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="of the frozen weights (auto: bf16 on a GPU)")
    add("--threads", type=int, default=0,
        help="on a CPU each has micro-batches of its own (default: all processors)")
    add("--quiet", action="store_true")
    return parser.parse_args()


# ---- data ----

def choose(samples, part, count, history_min, seed):
    """Impressions of a part that have a label; at most `count` of them, drawn by the seed."""
    chosen = [i for i in samples.impressions(part) if (samples.labels(i) == samples.labels(i)).any()]
    if history_min:
        column = samples.description["features"].index("user_log_count")
        chosen = [i for i in chosen if np.expm1(samples.features(i)[0, column]) > history_min - .5]
    chosen = np.array(chosen, np.int64)
    if count and len(chosen) > count:
        chosen = np.sort(np.random.default_rng([seed, part]).choice(chosen, count, replace=False))
    return chosen


def load(samples, impressions, offset):
    """[(prefix, [(suffix, label, offset)])]"""
    out = []
    for i in impressions:
        candidates = samples.labelled(i)
        known = offset.of(i) if offset else np.zeros(len(candidates))
        out.append((samples.prefix(i), [(*c, float(z)) for c, z in zip(candidates, known)]))
    return out


def order_of(count, epoch, options):
    more = [options.order] if options.order else []
    return np.random.default_rng([options.seed, 1000 + epoch, *more]).permutation(count)


def step_impressions(train, step, options):
    """The impressions of a step: epochs are walked through in an order of their own."""
    chosen = []
    for place in range(step * options.batch, (step + 1) * options.batch):
        epoch, at = divmod(place, len(train))
        if place == step * options.batch or at == 0:
            order = order_of(len(train), epoch, options)
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
    layers = model.config.num_hidden_layers
    depth, first = options.layers or layers, options.first_layer
    if not 0 < first <= depth <= layers or any(not 0 < layer <= depth for layer in options.exit_layers):
        raise SystemExit(f"the model has {layers} layers; --first-layer {first}, --layers {depth}, "
                         f"--exits {options.exits}: out of range")
    chosen = None if first == 1 and depth == layers else list(range(first - 1, depth))
    model = get_peft_model(model, LoraConfig(r=options.rank, lora_alpha=options.alpha, lora_dropout=0.,
                                             target_modules=options.modules.split(","), bias="none",
                                             layers_to_transform=chosen, task_type="CAUSAL_LM"))
    options.exit_layers = sorted({*options.exit_layers, depth})
    return model.to(device), device, "bf16" if bf16 else "fp32"


def impression_losses(logits, batch, objective):
    """Sum over impressions of their loss."""
    if objective == "logistic":
        each = functional.binary_cross_entropy_with_logits(logits, batch.labels, reduction="none")
        sizes = torch.bincount(batch.group, minlength=int(batch.group.max()) + 1)
        return (each / sizes[batch.group]).sum()
    total = logits.sum() * 0
    for g in range(int(batch.group.max()) + 1):
        mine = batch.group == g
        taken = batch.labels[mine]
        if 0 < taken.sum() < mine.sum():
            total = total - (functional.log_softmax(logits[mine], 0) * taken).sum() / taken.sum()
    return total


def loss_of(logits, batch, options):
    """(what is descended, the last layer's part of it)"""
    losses = {layer: impression_losses(options.scale * z + batch.offsets, batch, options.objective)
              for layer, z in logits.items()}
    own = losses.pop(max(losses))
    return own + options.exit_weight * sum(losses.values()), own


def by_length(impressions):
    """Alike ones side by side, so that little of a batch is padding."""
    return sorted(impressions, key=lambda i: len(i[0]) + sum(len(c[0]) for c in i[1]))


def in_micro_batches(function, impressions, options, device, pool):
    """function(batch) of every micro-batch, in order. On a CPU each thread has its own: threads that wait for each
    other at every matrix lose most of their time where a machine has other work."""
    parts = [impressions[begin:begin + options.micro] for begin in range(0, len(impressions), options.micro)]
    return list(pool.map(lambda part: function(batches.make_batch(part, device=device)), parts))


def figures_of(scores, labels, groups, objective):
    softmax = objective == "softmax"
    return {"auc": measures.auc(scores, labels), "impression_auc": measures.impression_auc(scores, labels, groups),
            "validation_loss": measures.softmax_loss(scores, labels, groups) if softmax else
            measures.log_loss(scores, labels)}


def validate(model, data, answers, options, device, pool, stop):
    """Figures of the last layer and, under "layers", the chosen AUC of each exit, all with the offset in; None: told to
    stop."""
    scores, labels, groups = {}, [], []
    model.eval()
    for begin in range(0, len(data), 8 * options.micro):
        if stop:
            return None

        def function(batch):
            with torch.no_grad():
                logits = batches.answer_logits(model, batch, answers, options.exit_layers)
            return batch, {layer: options.scale * z + batch.offsets for layer, z in logits.items()}

        at = begin
        for batch, logits in in_micro_batches(function, data[begin:begin + 8 * options.micro], options, device, pool):
            for layer, z in logits.items():
                scores.setdefault(layer, []).extend(z.tolist())
            labels += batch.labels.tolist()
            groups += (batch.group + at).tolist()
            at += options.micro
    model.train()
    layers = {layer: figures_of(z, labels, groups, options.objective) for layer, z in scores.items()}
    return {**layers[max(layers)], "layers": {str(layer): f[options.measure] for layer, f in layers.items()}}


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


def weights_of(path):
    """Where the weights lie that a bundle is to name: of a bundle those that it names itself."""
    described = Path(path) / "exitpoll.json"
    if not described.exists():
        return Path(path).resolve()
    inner = json.loads(described.read_text())
    if inner.get("adapter"):
        raise SystemExit(f"{path} has an adapter of its own, and a bundle holds one: name its model instead")
    return (Path(path) / inner["model"]).resolve()


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
    bundle = {"name": folder.name or "tuned", "model": str(options.scorer_model),
              "adapter": "adapter", "context": samples.description["context"], "trained_until": trained_until}
    if samples.description.get("answers"):
        bundle["answers"] = samples.description.get("answers")
    if samples.description["template"] in TEMPLATES:
        bundle["template"] = samples.description["template"]
    elif options.template:
        bundle["template"] = "template.txt"
        put(folder / "template.txt", Path(options.template).read_text())
    put(folder / "exitpoll.json", json.dumps(bundle, indent=2) + "\n")
    put(folder / "curve.svg", learning_curve(run.history, options.measure))


# ---- the loop ----

def train_step(model, optimizer, chosen, answers, options, device, pool, rate):
    """One step over `chosen` impressions; (loss of the last layer, tokens)."""
    parameters = [p for p in model.parameters() if p.requires_grad]

    def function(batch):
        total, own = loss_of(batches.answer_logits(model, batch, answers, options.exit_layers), batch, options)
        return torch.autograd.grad(total / len(chosen), parameters), float(own.detach()), batch.tokens

    done = in_micro_batches(function, by_length(chosen), options, device, pool)
    for group in optimizer.param_groups:
        group["lr"] = rate
    for number, parameter in enumerate(parameters):
        parameter.grad = sum(gradients[number] for gradients, _, _ in done)
    torch.nn.utils.clip_grad_norm_(parameters, 1.)
    optimizer.step()
    return sum(own for _, own, _ in done) / len(chosen), sum(tokens for _, _, tokens in done)


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
    validated = any("validation_loss" in entry and entry["step"] == run.step for entry in run.history[-1:])
    return not validated and (run.step % options.validate_every == 0 or run.step == steps)


def check_validation(run, model, data, answers, options, device, pool, stop):
    figures = validate(model, data, answers, options, device, pool, stop)
    if figures is None:
        return
    run.history.append({"step": run.step, "samples": run.samples, **figures})
    value = figures["validation_loss"]
    tell(options, f"step {run.step}: validation loss {value:.4f}, {options.measure} {figures[options.measure]:.4f}"
                  + "".join(f", layer {k} {v:.4f}" for k, v in figures["layers"].items()))
    if run.best is None or value < run.best or run.best != run.best:
        run.best, run.best_state, run.worse = value, adapter_state(model), 0
    else:
        run.worse += 1


def main():
    options = arguments()
    options.scorer_model = weights_of(options.scorer_model or options.model)
    folder = Path(options.out)
    workers = options.threads or len(os.sched_getaffinity(0))
    samples = Samples(options.samples)
    options.objective = {"auto": "softmax" if samples.clicked else "logistic"}.get(options.objective, options.objective)
    options.measure = "impression_auc" if samples.clicked else "auc"
    options.exit_layers = [int(layer) for layer in options.exits.split(",") if layer]
    answers = samples.description["answer_ids"]
    chosen = [choose(samples, TRAIN, 0, options.history_min, options.seed),
              choose(samples, STOPPING, options.validate_impressions, options.history_min, options.seed)]
    if not len(chosen[0]) or not len(chosen[1]):
        raise SystemExit(f"{options.samples}: {len(chosen[0])} impressions to train on, {len(chosen[1])} to stop by")
    offset = None
    if options.offset == "statistics":
        offset = Offset(samples, *(choose(samples, part, 0, 0, options.seed) for part in (TRAIN, STOPPING)),
                        options.objective, options.seed)
    train, stopping = (load(samples, some, offset) for some in chosen)
    stopping = by_length(stopping)
    trained_until = max(int(samples.time_ms[some].max()) for some in chosen)
    # The whole part may be looked at through early stopping, so its end counts, not that of the drawn ones.
    trained_until = max(trained_until, int(samples.time_ms[samples.impressions(STOPPING)].max()))
    steps = options.steps or max(1, round(options.epochs * len(train) / options.batch))
    model, device, precision = open_model(options)
    if device == "cpu":
        torch.set_num_threads(1)
    else:
        workers = 1
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=options.learning_rate,
                                  weight_decay=0.)
    # A run may be given more or fewer steps on the way: the learning rate then follows the new number.
    ignored = {"out", "force", "quiet", "threads", "scorer_model", "template", "device", "samples", "model", "keep",
               "finish", "steps", "epochs", *([] if options.order else ["order"])}
    identity = {k: v for k, v in vars(options).items() if k not in ignored}
    identity.update(precision=precision, events=samples.description["events_hash"],
                    wording=samples.description["wording"], samples=len(train))
    run = Run(identity)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "checkpoint.pt").exists() and not options.force:
        run.load(folder, model, optimizer)
        tell(options, f"goes on at step {run.step} of {steps}")
    stop = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(1))
    pool = ThreadPoolExecutor(workers)
    model.train()
    tell(options, f"{len(train)} impressions to train on, {len(stopping)} to stop by; {steps} steps of "
                  f"{options.batch}; {options.objective}, layers {','.join(map(str, options.exit_layers))}; {device} {precision}, "
                  f"{workers} threads"
                  + (f"; the statistics' loss on the whole stopping part: {offset.loss:.4f}" if offset else ""))
    began, tokens_done = time.time(), 0
    while not stop and not run.finished and not options.finish:
        if is_due(run, steps, options):
            check_validation(run, model, stopping, answers, options, device, pool, stop)
            run.save(folder, model, optimizer)
            put(folder / "curve.svg", learning_curve(run.history, options.measure))
        if stop or run.step >= steps or run.worse >= options.patience:
            break
        at = time.time()
        loss, tokens = train_step(model, optimizer, step_impressions(train, run.step, options), answers, options,
                                  device, pool, rate_at(run.step, steps, options))
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
    if run.best_state is None:
        raise SystemExit(f"{folder}: nothing was validated yet")
    run.finished = True
    run.save(folder, model, optimizer)
    write_bundle(folder, model, run, options, samples, trained_until)
    judged = [e for e in run.history if "validation_loss" in e]
    best = min(judged, key=lambda e: e["validation_loss"])
    print(json.dumps({"steps": run.step, "impressions": run.samples, "measure": options.measure,
                      "untuned": judged[0][options.measure], "best": best[options.measure], "best_step": best["step"],
                      "validation_loss": run.best, "trained_until": trained_until,
                      "seconds": round(sum(e.get("seconds", 0) for e in run.history), 1),
                      "tokens": sum(e.get("tokens", 0) for e in run.history), "bundle": str(folder)}))


if __name__ == "__main__":
    main()

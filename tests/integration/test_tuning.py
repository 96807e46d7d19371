#!/usr/bin/env python3
"""ops/tuning: it learns, goes on after a kill to the same adapter, shared prefixes equal independent prompts, and the
scorer agrees with PyTorch. Skipped where PyTorch is not installed (ops/tuning/requirements.txt)."""
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness import *
from test_learning import MODEL, TORCH, samples, write_model

TUNING = ROOT / "ops" / "tuning"
EQUAL = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, torch, batches
from transformers import AutoModelForCausalLM
from samples import Samples
model = AutoModelForCausalLM.from_pretrained(sys.argv[3], torch_dtype=torch.float32, attn_implementation="sdpa").eval()
samples = Samples(sys.argv[2])
some = [(samples.prefix(i), [(*c, 0.) for c in samples.candidates(i)]) for i in range(0, 40, 8)]
answers = samples.description["answer_ids"]
ids = lambda p, c: torch.tensor(np.concatenate([p, c[0]]), dtype=torch.long)[None]
with torch.no_grad():
    both = [batches.answer_logits(model, batches.make_batch(some, shared), answers, [1, 2]) for shared in (True, False)]
    only = batches.answer_logits(model, batches.make_batch(some), answers, [1])
    whole = torch.stack([torch.diff(model(ids(p, c)).logits[0, -1, answers[::-1]])[0] for p, cs in some for c in cs])
print(len(whole), *[float((a - b).abs().max()) for a, b in [(both[0][1], both[1][1]), (both[0][2], both[1][2]),
                                                         (both[0][1], only[1]), (both[0][2], whole)]], float(whole.std()))
"""


def python(*arguments, code=0):
    done = subprocess.run([TORCH, *map(str, arguments)], capture_output=True, text=True, timeout=900)
    check(done.returncode == code, f"{arguments[0]}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout


def make_events(folder, candidates=1, rows=1200):
    """Four words of the title are liked, four are not: what a model can read and no earlier rating of an item says."""
    source = random.Random(9)
    words = ["rose", "mint", "clay", "honey", "amber", "cedar", "lemon", "sage"]
    with open(folder / "items.csv", "w") as out:
        out.write("item_id,title\n")
        for i in range(rows):
            out.write(f"B{i},{words[i % 8]} {words[i % 8]}\n")
    with open(folder / "ratings.csv", "w") as out:
        out.write("user_id,item_id,rating,unix_time\n")
        for i, item in enumerate(source.sample(range(rows), rows)):
            out.write(f"u{source.randrange(40)},B{item},{5 if item % 8 < 4 else 1},{1300000000 + 60 * i}\n")
    write_model(folder)
    (folder / "serving.properties").write_text("enrichment.history_max=1\nenrichment.examples_max=0\n")
    run("import", "--interactions", folder / "ratings.csv", "--items", folder / "items.csv", "--out", folder / "events",
        "--label", "rating>=4", "--quiet", "--impressions", "last:0.8", "--candidates", candidates)


def tune(folder, out, *more):
    return [str(TORCH), str(TUNING / "tune.py"), "--samples", str(folder / "samples"), "--model", str(MODEL), "--out",
            str(folder / out), "--threads", "1", *map(str, more)]


def test_shared_prefix_equals_independent_prompts():
    with Scratch() as folder:
        make_events(folder, candidates=4)
        samples(folder, "samples", "--task", "clicked")
        count, *differences, spread = python("-c", EQUAL, TUNING, folder / "samples", MODEL).split()
        check(int(count) == 20 and float(spread) > .01, f"{count} candidates, spread {spread}")
        check(max(map(float, differences)) < 1e-5, f"logits differ by {differences}")


def test_it_learns_and_the_scorer_agrees():
    with Scratch() as folder:
        make_events(folder)
        samples(folder, "samples")
        options = ["--batch", "16", "--steps", "60", "--validate-every", "20", "--learning-rate", "1e-2", "--modules",
                   "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj", "--exits", "1", "--quiet"]
        done = subprocess.run(tune(folder, "tuned", *options), capture_output=True, text=True)
        check(done.returncode == 0, done.stderr[-3000:])
        said = json.loads(done.stdout)
        print(f"  validation AUC {said['untuned']:.3f} untuned, {said['best']:.3f} tuned")
        check(said["untuned"] < .8 < .9 < said["best"], f"{said}")
        log = [json.loads(line) for line in (folder / "tuned" / "log.jsonl").read_text().splitlines()]
        check(sum("loss" in e for e in log) == said["steps"], "a log entry for each step")
        check("<svg" in (folder / "tuned" / "curve.svg").read_text(), "curve")
        check((folder / "tuned" / "adapter" / "adapter_model.safetensors").exists(), "adapter")
        parity = json.loads(python(TUNING / "parity.py", "--samples", folder / "samples", "--model", MODEL, "--bundle",
                                   folder / "tuned", "--exitpoll", EXITPOLL))
        print(f"  PyTorch and the scorer differ by {parity['largest_difference']:.1e}")
        check(parity["largest_difference"] < 1e-4 and parity["largest_logit"] > 1, f"{parity}")
        # The tuned bundle says what it has seen: samples whose later parts lie behind it are good.
        said = json.loads(run("samples", "--from", folder / "events", "--out", folder / "again", "--model",
                              folder / "tuned", "--config", folder / "serving.properties", "--json").stdout)
        check(said["leaking"] == 0 and said["trained_until"] is not None, "trained_until")


def test_a_killed_run_goes_on_to_the_same_adapter():
    with Scratch() as folder:
        make_events(folder, rows=400)
        samples(folder, "samples")
        options = ["--batch", "4", "--steps", "24", "--validate-every", "2", "--validate-impressions", "16", "--keep",
                   "last", "--patience", "100", "--learning-rate", "1e-3", "--offset", "statistics", "--scale", ".1",
                   "--first-layer", "2", "--quiet"]
        done = subprocess.run(tune(folder, "whole", *options), capture_output=True, text=True)
        check(done.returncode == 0, done.stderr[-3000:])
        # Similar titles of the past tell what is liked, so the statistics, which count beside the model, know it.
        said = json.loads(done.stdout)
        print(f"  validation AUC {said['untuned']:.3f} with the statistics' logit beside an untuned model's")
        check(said["untuned"] > .8, f"{said}")
        tensors = (folder / "whole" / "adapter" / "adapter_model.safetensors").read_bytes()
        check(b"layers.1." in tensors and b"layers.0." not in tensors, "layers that should stay as they are")
        process = subprocess.Popen(tune(folder, "killed", *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until = time.time() + 300
        while process.poll() is None and not (folder / "killed" / "checkpoint.pt").exists():
            check(time.time() < until, "no checkpoint")
            time.sleep(.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        check(not (folder / "killed" / "exitpoll.json").exists(), "the run was over before it could be killed")
        refused = subprocess.run(tune(folder, "killed", *options, "--seed", "7"), capture_output=True, text=True)
        check(refused.returncode == 1 and "other seed" in refused.stderr, refused.stderr[-500:])
        done = subprocess.run(tune(folder, "killed", *options), capture_output=True, text=True)
        check(done.returncode == 0, done.stderr[-3000:])
        a, b = ((folder / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in ("whole", "killed"))
        check(a == b, "another adapter after a kill")


if __name__ == "__main__":
    if not MODEL.exists() or not TORCH.exists():
        print("skipped: the tiny model or PyTorch (ops/tuning/requirements.txt) is not there")
        sys.exit(77)
    main(test_shared_prefix_equals_independent_prompts, test_it_learns_and_the_scorer_agrees,
         test_a_killed_run_goes_on_to_the_same_adapter)

#!/usr/bin/env python3
"""llama.cpp beside exitpoll: independent prompts in prompt tokens a second, CPU-seconds a request, and whether
both put the prompts in the same order.

    python3 -m venv venv && venv/bin/pip install llama-cpp-python numpy
    venv/bin/python ops/experiments/llama_cpp_peer.py build/exitpoll build/bench_peer MODEL.gguf

Prompts are built by our own enrichment. llama.cpp runs every format that its quantiser makes of MODEL.gguf
(the file as it is, F32, F16, BF16, Q8_0), batches of 512 and 2048 and every number of threads up to the
processors, each prompt alone as its server would with no prefix in common; its best counts. exitpoll runs the
same prompts alone, and once more as impressions whose candidates share a prefix. Order of answers: Spearman's
rank correlation of z_yes - z_no at the last layer, exitpoll in fp32 over the same dequantised weights."""
import argparse
import ctypes
import json
import os
import pathlib
import subprocess
import tempfile
import time

import llama_cpp
import numpy

import enriched_prompts

FORMATS = {"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7}   # enum llama_ftype


@llama_cpp.llama_log_callback
def silent(*_):
    pass


def quantise(source, target, kind):
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.allow_requantize, settings.pure = FORMATS[kind], True, True
    code = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(settings))
    return code == 0 and target.exists()


class Peer:
    def __init__(self, path, batch, threads):
        self.model = llama_cpp.Llama(str(path), n_ctx=2048, n_batch=batch, n_ubatch=batch, n_threads=threads,
                                     n_threads_batch=threads, verbose=False)

    def run(self, prompts, answers):
        """Seconds of the wall, of the processor, and z_yes - z_no of each prompt."""
        scores, wall, cpu = [], time.perf_counter(), time.process_time()
        for ids in prompts:
            self.model.reset()
            self.model.eval(ids)
            pointer = llama_cpp.llama_get_logits_ith(self.model.ctx, -1)
            scores.append(pointer[answers[0]] - pointer[answers[1]])
        return time.perf_counter() - wall, time.process_time() - cpu, scores


def spearman(a, b):
    return float(numpy.corrcoef(numpy.argsort(numpy.argsort(a)), numpy.argsort(numpy.argsort(b)))[0, 1])


def bench(binary, model, prompts_path, precision, threads):
    """bench_peer: the same prompts alone by our engine, as JSON."""
    return json.loads(subprocess.run([str(binary), str(prompts_path), str(model), precision, str(threads)],
                                     check=True, text=True, capture_output=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("bench", type=pathlib.Path)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--batches", nargs="+", type=int, default=[512, 2048])
    parser.add_argument("--threads", nargs="+", type=int, default=list(range(1, len(os.sched_getaffinity(0)) + 1)))
    arguments = parser.parse_args()
    binary, bench_binary, model = (path.resolve() for path in (arguments.binary, arguments.bench, arguments.model))
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    processors = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        prompts = enriched_prompts.prompts(binary, model, folder, arguments.prompts)
        ours = enriched_prompts.ours(binary, model, folder, prompts, "--precision", "fp32")
        answers = ours[0]["answer_ids"]
        truth = [layers[-1][0] - layers[-1][1] for layers in (result["layers"] for result in ours)]
        tokens = sum(map(len, prompts))
        print(f"{len(prompts)} prompts, {tokens} tokens; llama-cpp-python {llama_cpp.__version__}")

        files = {"as it is": model}
        for kind in arguments.formats:
            if quantise(model, folder / f"{kind}.gguf", kind):
                files[kind] = folder / f"{kind}.gguf"
        best = 0
        for kind, path in files.items():
            for batch in arguments.batches:
                for threads in arguments.threads:
                    peer = Peer(path, batch, threads)
                    peer.run(prompts[:2], answers)
                    wall, cpu, scores = min((peer.run(prompts, answers) for _ in range(2)), key=lambda run: run[0])
                    del peer
                    print(f"  llama.cpp {kind:9} batch {batch:4} threads {threads}: {tokens / wall:6.0f} tokens/s, "
                          f"{tokens / cpu:6.0f} per CPU second; order agrees {spearman(scores, truth):.3f}",
                          flush=True)
                    if tokens / wall > best:
                        best, best_cpu, best_kind = tokens / wall, tokens / cpu, kind
        for precision in ("fp32", "bf16"):
            run = bench(bench_binary, model, folder / "prompts.jsonl", precision, processors)
            print(f"  {run['backend']}: {run['tokens_per_second']:.0f} tokens/s, "
                  f"{run['tokens_per_cpu_second']:.0f} per CPU second")
            print(f"  against llama.cpp's best ({best_kind}): {run['tokens_per_second'] / best:.2f} x, "
                  f"per CPU second {run['tokens_per_cpu_second'] / best_cpu:.2f} x; the same prompts as impressions: "
                  f"{run['shared_cpu_seconds'] / len(prompts):.3f} CPU s a candidate against "
                  f"{tokens / best_cpu / len(prompts):.3f}")


main()

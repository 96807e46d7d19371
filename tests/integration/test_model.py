#!/usr/bin/env python3
"""The program with a real language model (SmolLM2-135M-Instruct), and with the small checkpoints of the
shared folder where that is present: same bytes every time, titles never speak to the model, malformed files
are named."""
from harness import *

MODEL = Path(os.environ.get("EXITPOLL_SMOLLM2", CACHE / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"))
SHARED = Path(os.environ.get("EXITPOLL_SHARED", ROOT.parent / "shared")) / "models"
if not MODEL.exists():
    print("skipped: the model is not there (ops/setup.sh --model)")
    sys.exit(77)
SHORT = ["--set", "enrichment.history_max=3", "--set", "enrichment.examples_max=1", "--set",
         "enrichment.example_history_max=2", "--set", "item.text_bytes_max=60"]


def events(folder):
    run("import", "--interactions", ROOT / "ops/demo-data/beauty_interactions.tsv.xz", "--items",
        ROOT / "ops/demo-data/beauty_items.tsv.xz", "--out", folder / "events", "--impressions", "last:0.0002",
        "--candidates", "4", "--attribute", "brand=first-word(title)")


def test_same_bytes_in_any_batch():
    with Scratch() as folder:
        events(folder)
        results = []
        for name, settings in (("a", []), ("b", ["--set", "scorer.batch_tokens_max=256"]),
                               ("c", ["--set", "scorer.threads=1", "--set", "scorer.batch_requests_max=1"])):
            run("run", "--from", folder / "events", "--to", folder / name, "--model", MODEL, *SHORT, *settings)
            results.append(comparable(read_file(folder / name / "predictions.avro")))
        check(len(results[0]) >= 4, "too few impressions")
        check_equal(results[0], results[1], "small batches")
        check_equal(results[0], results[2], "one thread")
        for prediction in results[0].values():
            check("SmolLM2" in prediction["model_id"] and "@" in prediction["model_id"], prediction["model_id"])
            check(all(0 < s["p_click"] < 1 and 1 <= s["exit_layer"] <= 30 for s in prediction["scores"]), "scores")
        different = {s["p_click"] for p in results[0].values() for s in p["scores"]}
        check(len(different) > len(results[0]), "the model gives every candidate the same score")


def test_two_stages_equal_one():
    with Scratch() as folder:
        events(folder)
        run("run", "--from", folder / "events", "--to", folder / "one", "--model", MODEL, *SHORT)
        run("run", "--stage", "graph-updater", "--from", folder / "events", "--to", folder / "middle", *SHORT)
        run("run", "--stage", "scorer", "--from", folder / "middle", "--to", folder / "two", "--model", MODEL)
        check_equal(comparable(read_file(folder / "one" / "predictions.avro")),
                    comparable(read_file(folder / "two" / "predictions.avro")), "two stages")


def test_scoring_takes_longer_than_a_transaction():
    """On Kafka, a batch that the model thinks about for longer than the transaction time-out (10 s) is committed
    piece by piece, and gives what files give."""
    with Scratch() as folder, Broker() as broker:
        run("import", "--interactions", ROOT / "ops/demo-data/beauty_interactions.tsv.xz", "--items",
            ROOT / "ops/demo-data/beauty_items.tsv.xz", "--out", folder / "events", "--impressions", "last:0.0006",
            "--candidates", "8")
        settings = ["--model", MODEL, "--set", "enrichment.history_max=8", "--set", "enrichment.examples_max=2",
                    "--set", "item.text_bytes_max=100"]
        run("run", "--from", folder / "events", "--to", folder / "files", *settings)
        expected = comparable(read_file(folder / "files" / "predictions.avro"))
        create_topics(broker, 2)
        run("replay", "--from", folder / "events", "--to", broker.url, "--speed", "max")
        totals = json.loads(run("run", "--from", broker.url, "--to", broker.url, "--until", "end", "--state",
                                folder / "state", "--json", *settings, timeout=180).stdout)
        check_equal(expected, comparable(predictions_on(broker, len(expected))), "through Kafka with a model")
        check(totals["retries"] == 0 and totals["commits"] > 1, f"not committed piece by piece: {totals}")


def test_sigterm_ends_a_long_thought():
    """One impression that keeps the model busy for minutes does not keep SIGTERM waiting; it is not answered
    in part, and a file run leaves nothing that looks whole."""
    rows, keys = make_events(seed=71, users=20, items=60, interactions=200, impressions=2)
    at = max(row["event_time"] for row in rows["interaction"]) + 1
    items = [row["item_id"] for row in rows["item"][:50]]
    short = {"impression_id": "short", "user_id": rows["interaction"][0]["user_id"], "candidates": items[:1],
             "event_time": at, "deadline_ms": None}
    rows["impression"] = [short, dict(short, impression_id="long", candidates=items * 60, event_time=at + 1)]

    def stop(process, code):
        began = time.time()
        got = process.stop()
        check(got == code, f"exit code {got}, not {code}")
        check(time.time() - began < 5, f"ending took {time.time() - began:.1f} s")

    with Scratch() as folder, Broker() as broker:
        write_folder(folder / "events", rows)
        process = Process(folder / "log", "run", "--from", folder / "events", "--to", folder / "out", "--model",
                          MODEL, *SHORT)
        time.sleep(5)
        check(process.alive(), (folder / "log").read_text())
        stop(process, 75)
        check("nothing was written" in (folder / "log").read_text(), (folder / "log").read_text())
        check(not list(folder.glob("out*")), "output of an interrupted run")

        create_topics(broker, 1)
        produce(broker, rows, keys)
        for until, code in (([], 0), (["--until", "end"], 75)):
            process = Process(folder / "log", "run", "--from", broker.url, "--to", broker.url, "--state",
                              folder / "state", "--model", MODEL, *SHORT, *until)
            time.sleep(5)
            check(process.alive(), (folder / "log").read_text())
            stop(process, code)
            answered = comparable(predictions_on(broker, 1, quiet_s=10))
            check(list(answered) == ["short"], f"answered: {list(answered)}")


def test_score_and_trace():
    request = {"history": [{"text": "Rose Balm", "rating": 5}],
               "candidates": [{"item_id": "a", "text": "Lip Balm"}, {"item_id": "b", "text": "Engine Oil"}]}
    answer = json.loads(run("score", "--model", MODEL, "--trace", "--precision", "fp32", stdin=json.dumps(request)).stdout)
    check([s["item_id"] for s in answer["scores"]] == ["a", "b"], "order of candidates")
    for score in answer["scores"]:
        check(score["trace"][-1]["leaves"] and score["trace"][-1]["layer"] == score["exit_layer"], "trace")
        check(score["trace"][-1]["p"] == score["p_click"], "an untrained head is not calibrated")
    alone = json.loads(run("score", "--model", MODEL, "--precision", "fp32",
                           stdin=json.dumps({**request, "candidates": request["candidates"][1:]})).stdout)
    check(alone["scores"][0]["p_click"] == answer["scores"][1]["p_click"], "another candidate changed a score")
    fixed = json.loads(run("score", "--model", MODEL, "--exit-rule", "fixed", "--exit-threshold", "10",
                           stdin=json.dumps(request)).stdout)
    check({s["exit_layer"] for s in fixed["scores"]} == {10}, "rule fixed")
    run("score", "--model", MODEL, stdin="{not json", code=65)
    run("score", "--model", MODEL, stdin='{"candidates": 3}', code=65)


def test_prompts_and_precisions():
    """The ids that --prompts shows give the same p when they come back through --ids; bf16 is near fp32."""
    request = {"history": [{"text": "Rose Balm", "rating": 5}],
               "candidates": [{"text": "Lip Balm"}, {"text": "Engine Oil"}]}
    last = ("--exit-rule", "none")
    shown = json.loads(run("score", "--model", MODEL, "--prompts", "--precision", "fp32", *last,
                           stdin=json.dumps(request)).stdout)["scores"]
    check(all(len(score["prompt_ids"]) > 50 for score in shown), "prompts are short")
    with Scratch() as folder:
        path = folder / "prompts.jsonl"
        path.write_text("".join(json.dumps(score["prompt_ids"]) + "\n" for score in shown))
        for precision, bound in (("fp32", 1e-5), ("bf16", .02)):
            lines = run("score", "--model", MODEL, "--prompt-file", path, "--ids", "--precision", precision,
                        *last).stdout.splitlines()
            check(len(lines) == 2, f"{len(lines)} results")
            for line, score in zip(map(json.loads, lines), shown):
                check(abs(line["p_click"] - score["p_click"]) < bound, f"{precision}: {line} {score['p_click']}")
                check(f"cpu: {precision}" in line["backend"], line["backend"])
        path.write_text("[1, 2.5]\n")
        check("line 1" in run("score", "--model", MODEL, "--prompt-file", path, "--ids", code=65).stderr, "no line")
        path.write_text("[1, 99999999]\n")
        run("score", "--model", MODEL, "--prompt-file", path, "--ids", code=65)


def test_titles_never_speak_to_the_model():
    """A title that spells special tokens is text: it must tokenise as text does, and not end the turn."""
    special = json.loads(run("tokenize", "--model", MODEL, "--json", stdin='"<|im_end|>"\n').stdout)
    plain = json.loads(run("tokenize", "--model", MODEL, "--json", "--no-special", stdin='"<|im_end|>"\n').stdout)
    check(len(special) == 1 and len(plain) > 1, f"{special} {plain}")


def test_tokens_of_standard_input():
    """A text as it stands, with a SentencePiece vocabulary in a GGUF file: "a", " b", " ab"."""
    vocabulary = ROOT / "tests/fuzz/corpus/fuzz_gguf/pieces"
    done = run("tokenize", "--model", vocabulary, stdin="a b ab")
    check(done.stdout == "7 3 5 3 6\n", done.stdout)
    done = run("tokenize", "--model", vocabulary, "--pieces", stdin="ab</s>")
    check(done.stdout.splitlines() == ["3\t\u2581", "6\tab", "2\t</s>"], done.stdout)


def test_tokens_of_the_original():
    if not SHARED.exists():
        print("skipped: no shared models")
        return
    vectors = json.loads((SHARED / "smollm2-135m" / "tokens.json").read_text())
    cases = vectors["cases"] if isinstance(vectors, dict) and "cases" in vectors else vectors
    cases = cases.get("texts", cases) if isinstance(cases, dict) else cases
    texts = [c["text"] for c in cases]
    lines = run("tokenize", "--model", MODEL, "--json",
                stdin="".join(json.dumps(t) + "\n" for t in texts)).stdout.splitlines()
    key = "ids" if "ids" in cases[0] else "input_ids"
    wrong = [t for t, line, c in zip(texts, lines, cases) if json.loads(line) != c[key]]
    check(len(lines) == len(texts) and not wrong, f"{len(wrong)} of {len(texts)} texts differ: {wrong[:2]}")


def test_malformed_files_are_named():
    if not SHARED.exists():
        print("skipped: no shared models")
        return
    for path in sorted((SHARED / "safetensors-cases").glob("*.safetensors")):
        done = run("inspect", path, code=None)
        expected = 0 if path.name.startswith("ok_") else 65
        check(done.returncode == expected, f"{path.name}: exit code {done.returncode}, not {expected}: {done.stderr}")
        if expected:
            check(path.name in done.stderr, f"{path.name}: the message does not name the file")
    for name in ("stories260k-hf", "stories260k-hf-f16-sharded", "stories260k-hf-f16-torch", "tinystories-656k",
                 "tinystories-656k-bf16"):
        run("inspect", "--check", SHARED / name)
    with Scratch() as folder:
        bad = folder / "cut.gguf"
        bad.write_bytes(MODEL.read_bytes()[:5_000_000])
        done = run("inspect", bad, code=65)
        check("cut.gguf" in done.stderr, done.stderr)
        run("run", "--from", folder, "--to", folder / "o", "--model", bad, code=65)


if __name__ == "__main__":
    main(test_same_bytes_in_any_batch, test_two_stages_equal_one,
         test_scoring_takes_longer_than_a_transaction, test_sigterm_ends_a_long_thought, test_score_and_trace,
         test_prompts_and_precisions, test_titles_never_speak_to_the_model, test_tokens_of_the_original,
         test_malformed_files_are_named)

#!/usr/bin/env python3
"""From events to a served bundle on a small checkpoint of the shared folder: import, samples, fit-heads, run.
The bundle that was reported is the one that is served, bytes depend on the seed alone, and what does not
belong together is refused."""
import math

from harness import *

SHARED = Path(os.environ.get("EXITPOLL_SHARED", ROOT.parent / "shared")) / "models"
CHECKPOINT = SHARED / "stories260k-hf"
if not (CHECKPOINT / "model.safetensors").exists():
    print("skipped: the shared checkpoints are not there")
    sys.exit(77)
SETTINGS = ["--set", "statistics.attributes=brand", "--set", "enrichment.history_max=2", "--set",
            "enrichment.examples_max=0", "--set", "item.text_bytes_max=40"]
FILES = ["exitpoll.json", "exit_heads.safetensors", "exit_policy.json", "report.md", "report.json"]


def prepare(folder):
    # Its vocabulary of 512 pieces has neither Yes nor No.
    (folder / "model").mkdir()
    (folder / "model/exitpoll.json").write_text(json.dumps(
        {"name": "stories", "model": str(CHECKPOINT), "answers": ["was", "the"], "template": "plain"}))
    run("import", "--interactions", ROOT / "ops/demo-data/beauty_interactions.tsv.xz", "--items",
        ROOT / "ops/demo-data/beauty_items.tsv.xz", "--out", folder / "events", "--impressions", "last:0.03",
        "--candidates", "4", "--skip-new", "--attribute", "brand=first-word(title)", "--label", "rating>=4")
    run("samples", "--from", folder / "events", "--out", folder / "samples", "--model", folder / "model",
        *SETTINGS)


def fit(folder, out, *more, code=0):
    return run("fit-heads", "--samples", folder / "samples", "--model", folder / "model", "--out", folder / out, "--exits",
               "1,3,5", "--epochs", "4", "--iterations", "30", "--hidden-samples", "40", *more, code=code)


def test_events_become_a_bundle():
    with Scratch() as folder:
        prepare(folder)
        said = fit(folder, "one", "--json", "--threads", "1")
        report = json.loads(said.stdout)
        for name in FILES:
            check((folder / "one" / name).stat().st_size > 0, f"{name} is missing")
        check(report["task"] == "clicked" and report["features"] == "statistics", "task and features")
        check([head["layer"] for head in report["heads"]] == [1, 3, 5], "the exits")
        check(report["samples"]["settings"]["statistics.attributes"] == "brand", "the samples' settings")
        check("## Leaving early" in (folder / "one" / "report.md").read_text(), "the page")
        policy = json.loads((folder / "one" / "exit_policy.json").read_text())
        check(len(policy["features"]) == 17 and policy["features"][14] == "brand_mean", "the features")
        parts = report["samples"]["parts"]
        check(policy["trained_until"] == max(part["last_ms"] for part in parts[:4]), "trained_until")
        check(policy["risk"]["passed"] == (policy["policy"]["threshold"] is not None), "the promise")

        # The same bytes for any number of threads; the second run finds all hidden states.
        fit(folder, "two", "--threads", "2")
        for name in FILES[1:3]:
            check((folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes(), f"{name} differs")
        fit(folder, "two", code=73)
        fit(folder, "two", "--force", "--features", "none", "--rule", "fixed", "--users", "any", "--bound", "1")
        none = json.loads((folder / "two" / "exit_policy.json").read_text())
        check(none["features"] == [] and all(head["hidden"] for head in none["heads"]), "heads without statistics")
        check(none["policy"]["rule"] == "fixed" and none["risk"]["passed"], "a bound of 1 is kept by any exit")

        # Served: the test part's log loss is the report's.
        run("run", "--from", folder / "events", "--to", folder / "out", "--model", folder / "one", *SETTINGS)
        taken = {row["impression_id"]: row["item_id"] for row in read_file(folder / "events/interactions.avro")
                 if row["impression_id"]}
        # Hidden states were given to the newest impressions of the part.
        count = report["parts"]["test"]["with_hidden"]
        newest = [row for row in read_file(folder / "out/predictions.avro") if row["impression_id"] in taken][-count:]
        loss, rows = 0.0, 0
        for row in newest:
            for score in row["scores"]:
                p = score["p_click"]
                loss -= math.log(p if score["item_id"] == taken[row["impression_id"]] else 1 - p)
                rows += 1
        check(rows == report["policy"]["test"]["rows"], f"{rows} candidates served in the test part")
        check(abs(loss / rows - report["policy"]["test"]["log_loss"]) < 1e-6,
              f"served {loss / rows}, reported {report['policy']['test']['log_loss']}")


def test_what_does_not_belong_together():
    with Scratch() as folder:
        prepare(folder)
        fit(folder, "bundle")
        done = run("run", "--from", folder / "events", "--to", folder / "out", "--model", folder / "bundle", code=78)
        check("statistics.attributes=brand" in done.stderr, done.stderr)
        done = fit(folder, "other", "--template", "vicuna", code=78)
        check("another template" in done.stderr, done.stderr)
        description = json.loads((folder / "bundle/exitpoll.json").read_text())
        description["model"] = str(SHARED / "stories260k-hf-f16-sharded")
        (folder / "bundle/exitpoll.json").write_text(json.dumps(description))
        done = run("score", "--model", folder / "bundle", stdin='{"candidates": [{"item_id": "a"}]}', code=78)
        check("trained on model" in done.stderr, done.stderr)
        fit(folder, "x", "--exits", "1,9", code=78)
        fit(folder, "x", "--rule", "none", code=64)
        fit(folder, "x", "--cache-max", "0", code=64)
        # A model that has learned from what heads are calibrated on.
        description = json.loads((folder / "model/exitpoll.json").read_text())
        description["trained_until"] = json.loads((folder / "samples/samples.json").read_text())["parts"][3]["last_ms"]
        (folder / "model/exitpoll.json").write_text(json.dumps(description))
        done = fit(folder, "x", code=78)
        check("--allow-leak" in done.stderr, done.stderr)
        done = fit(folder, "x", "--allow-leak")
        check("too good to be true" in done.stderr, done.stderr)
        (folder / "samples/samples-00001.safetensors").write_bytes(b"torn")
        fit(folder, "torn", code=65)


if __name__ == "__main__":
    main(test_events_become_a_bundle, test_what_does_not_belong_together)

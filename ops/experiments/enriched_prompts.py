"""Prompts as the stream makes them: the demo's excerpt imported, enriched by the graph, and every candidate's
token ids as the model is given them. For the experiments beside this file."""
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "ops" / "demo-data"


def call(binary, *arguments, given=None):
    done = subprocess.run([str(binary), *map(str, arguments)], input=given, text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(f"exitpoll {' '.join(map(str, arguments))}\n{done.stderr}")
    return done.stdout


def requests(binary, folder, count, bytes_max=3600):
    """`count` scoring requests of at most so many bytes, spread over the stream, as JSON objects."""
    events, enriched = folder / "events", folder / "requests"
    if not (enriched / "scoring-requests.avro").exists():
        call(binary, "import", "--interactions", DATA / "beauty_interactions.tsv.xz", "--items",
             DATA / "beauty_items.tsv.xz", "--attribute", "brand=first-word(title)", "--label", "rating>=4",
             "--impressions", "last:0.1", "--candidates", "8", "--out", events)
        call(binary, "run", "--stage", "graph-updater", "--from", events, "--to", enriched, "--set",
             "statistics.attributes=brand", "--set", "enrichment.history_max=6", "--set",
             "enrichment.examples_max=1")  # a few hundred tokens: the peers take their time
    lines = call(binary, "inspect", enriched / "scoring-requests.avro", "--records", "2400").splitlines()
    found = [json.loads(line) for line in lines if line.startswith('{"impression_id"')]
    for request in found:
        request["candidates"] = request["candidates"][:4]
    found = [request for request in found if len(json.dumps(request)) <= bytes_max]
    return found[:: max(1, len(found) // count)][:count]


def prompts(binary, model, folder, count, bytes_max=3600):
    """Token ids of `count` prompts, four of each impression."""
    out = []
    for request in requests(binary, folder, count // 4 + 1, bytes_max):
        scored = json.loads(call(binary, "score", "--model", model, "--prompts", "--exit-rule", "fixed",
                                 "--exit-layers", "1", given=json.dumps(request)))
        out += [score["prompt_ids"] for score in scored["scores"]]
    if len(out) < count:
        raise SystemExit(f"only {len(out)} prompts")
    return out[:count]


def ours(binary, model, folder, ids, *arguments):
    """`score --layers` of every prompt; logits [layer][yes, no], and the seconds of a whole run."""
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(prompt) + "\n" for prompt in ids))
    lines = call(binary, "score", "--model", model, "--prompt-file", path, "--ids", "--layers", "--answers",
                 "Yes,No", "--exit-rule", "none", *arguments).splitlines()
    return [json.loads(line) for line in lines]

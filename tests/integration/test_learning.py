#!/usr/bin/env python3
"""From a table to a served bundle: the commands of ops/tuning/README.md as they stand there; and what `exitpoll
samples` promises: no future, no leak, a run that goes on, splits, labels."""
import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

from harness import *

SHARED = Path(os.environ.get("EXITPOLL_SHARED", str(ROOT.parent / "shared")))
MODEL = SHARED / "models" / "tinystories-656k"
TORCH = Path(os.environ.get("EXITPOLL_TUNING_PYTHON", str(CACHE / "tuning" / "bin" / "python")))
SETTINGS = "enrichment.history_max=3\nenrichment.examples_max=0\nstatistics.attributes=brand\n"
START = 1300000000


def write_tables(folder, rows=1500, more=()):
    """What a user likes follows the item and the user; `more` rows are added at the end."""
    source = random.Random(5)
    words = ["rose", "mint", "clay", "honey", "amber", "cedar", "lemon", "sage"]
    items = [f"B{i:03d}" for i in range(40)]
    quality = {item: source.gauss(0, 1.2) for item in items}
    users = {f"u{i:02d}": source.gauss(0, .8) for i in range(60)}
    with open(folder / "items.csv", "w") as out:
        out.write("item_id,title,brand\n")
        for i, item in enumerate(items):
            out.write(f"{item},{source.choice(words)} soap {i},{source.choice(words)}\n")
    at, table = START, []
    for _ in range(rows):
        at += source.randrange(1, 7200)
        user, item = source.choice(list(users)), source.choice(items)
        rating = round(3.4 + quality[item] + users[user] + source.gauss(0, .7))
        table.append((user, item, min(5, max(1, rating)), at))
    with open(folder / "ratings.csv", "w") as out:
        out.write("user_id,item_id,rating,unix_time\n")
        for row in [*table, *more]:
            out.write(",".join(map(str, row)) + "\n")
    return table


def write_model(folder, **more):
    """A bundle of the tiny model whose answer words differ in their first token."""
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "exitpoll.json").write_text(json.dumps(
        {"model": str(MODEL), "template": "plain", "answers": ["Yes", "No"], **more}))
    (folder / "serving.properties").write_text(SETTINGS)


def make_events(folder, name="events", *arguments, **options):
    table = write_tables(folder, **options)
    write_model(folder)
    run("import", "--interactions", folder / "ratings.csv", "--items", folder / "items.csv",
        "--out", folder / name, "--label", "rating>=4", "--quiet", *(arguments or ["--impressions", "last:0.5"]))
    return table


def samples(folder, out, *arguments, events="events", code=0):
    return run("samples", "--from", folder / events, "--out", folder / out, "--model", folder / "model", "--config",
               folder / "serving.properties", "--json", *arguments, code=code)


def describe(done):
    return json.loads(done.stdout)


def shard(folder, number=1):
    """{name: (type, shape, bytes)}"""
    data = (folder / f"samples-{number:05d}.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    return {name: (e["dtype"], e["shape"], data[8 + size + e["data_offsets"][0]:8 + size + e["data_offsets"][1]])
            for name, e in header.items()}


def numbers(tensor):
    kind, _, data = tensor
    form = {"I32": "i", "I64": "q", "U64": "Q", "F32": "f", "U8": "B"}[kind]
    return list(struct.unpack(f"<{len(data) // struct.calcsize(form)}{form}", data))


def commands():
    """The lines of the page's sh blocks."""
    page = (ROOT / "ops" / "tuning" / "README.md").read_text()
    return [line for block in re.findall(r"```sh\n(.*?)```", page, re.S) for line in block.splitlines()
            if line and not line.startswith("#")]


def test_the_page():
    with Scratch() as folder:
        write_tables(folder)
        write_model(folder)
        (folder / "bin").mkdir()
        (folder / "bin" / "exitpoll").symlink_to(Path(EXITPOLL).resolve())
        (folder / "ops").symlink_to(ROOT / "ops")
        (folder / "model-hf").symlink_to(MODEL)
        environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        helped = run("--help").stdout
        ran = 0
        for line in commands():
            if "tuning/bin/python" in line and not TORCH.exists():
                print("  left out, PyTorch is not installed:", line[:60], "...")
                continue
            line = line.replace("~/.cache/exitpoll/tuning/bin/python", str(TORCH))
            if not TORCH.exists():
                line = line.replace("--model tuned", "--model model")
            command = re.match(r"exitpoll ([a-z-]+)", line)
            if command and not re.search(rf"^  {command[1]} ", helped, re.M):
                print("  left out, this build has no", command[1])
                continue
            done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True,
                                  timeout=600)
            check(done.returncode == 0, f"{line}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
            ran += 1
        check(ran >= 6, f"only {ran} commands of the page ran")
        predictions = read_file(folder / "predictions" / "predictions.avro")
        check(len(predictions) == 750, f"{len(predictions)} predictions of 750 impressions")
        check(any((folder / "bundle").iterdir()), "no bundle")


def test_nothing_at_or_after_an_impression_is_in_its_sample():
    """Rows at the very time of an impression and after it: not a bit of this and the earlier samples changes."""
    with Scratch() as folder:
        times = ["--split", f"times:{(START + 10**9) * 1000},{(START + 10**9) * 1000},{(START + 10**9) * 1000},"
                            f"{(START + 10**9) * 1000}"]
        table = make_events(folder)
        samples(folder, "plain", *times)
        at = table[1100]
        others = [(f"u{i:02d}", at[1], 5, at[3]) for i in range(60) if f"u{i:02d}" != at[0]]
        later = [(at[0], f"B{i:03d}", 1, at[3] + 1 + i) for i in range(40)]
        # The planted rows make no impressions: those are the same rows as before.
        marked = [(user, item, rating, when, int(i >= 750)) for i, (user, item, rating, when) in enumerate(table)]
        with open(folder / "ratings.csv", "w") as out:
            out.write("user_id,item_id,rating,unix_time,mark\n")
            for row in marked + [(*row, 0) for row in others + later]:
                out.write(",".join(map(str, row)) + "\n")
        run("import", "--interactions", folder / "ratings.csv", "--items", folder / "items.csv",
            "--out", folder / "planted", "--label", "rating>=4", "--quiet", "--impressions",
            "column:mark=1")
        samples(folder, "future", *times, events="planted")
        plain, future = shard(folder / "plain"), shard(folder / "future")
        when = numbers(plain["time_ms"])
        check(when == numbers(future["time_ms"]), "other impressions")
        upto = when.index(at[3] * 1000) + 1
        check(300 < upto < len(when), f"the planted time is at {upto}")
        for name, per in [("prefix_offsets", 1), ("suffix_offsets", 1), ("labels", 1), ("features", 17), ("user", 1)]:
            a, b = (numbers(tensors[name])[:upto * per] for tensors in (plain, future))
            check(struct.pack(f"{len(a)}d", *a) == struct.pack(f"{len(b)}d", *b), f"{name} saw the future")
        for tokens, offsets in [("prefix_tokens", "prefix_offsets"), ("suffix_tokens", "suffix_offsets")]:
            end = numbers(plain[offsets])[upto]
            check(numbers(plain[tokens])[:end] == numbers(future[tokens])[:end], f"{tokens} saw the future")
        check(numbers(plain["features"])[upto * 17:] != numbers(future["features"])[upto * 17:],
              "the planted rows change nothing later either: this test tests nothing")


def test_labels_and_parts():
    with Scratch() as folder:
        table = make_events(folder)
        said = describe(samples(folder, "out"))
        check([p["impressions"] for p in said["parts"]] == [450, 75, 75, 75, 75], f"parts {said['parts']}")
        tensors = shard(folder / "out")
        labels = numbers(tensors["labels"])
        check(labels == [float(row[2] >= 4) for row in table[750:]], "labels do not follow the rule")
        check(numbers(tensors["time_ms"]) == [row[3] * 1000 for row in table[750:]], "times")
        check(numbers(tensors["split"]) == [0] * 450 + [1] * 75 + [2] * 75 + [3] * 75 + [4] * 75, "split")
        check(bytes(tensors["user_ids"][2]) == "".join(row[0] for row in table[750:]).encode(), "user ids")
        check(bytes(tensors["item_ids"][2]) == "".join(row[1] for row in table[750:]).encode(), "item ids")
        # clicked: what was taken is 1 among sampled ones
        make_events(folder, "clicks", "--impressions", "last:0.2", "--candidates", "4")
        said = describe(samples(folder, "clicked", events="clicks"))
        check(said["task"] == "clicked" and said["counts"]["positives"] == said["counts"]["impressions"] == 300, f"{said}")
        labels = numbers(shard(folder / "clicked")["labels"])
        check(all(sum(labels[i:i + 4]) == 1 for i in range(0, 1200, 4)), "one of four was taken")
        # a table of the user's own
        with open(folder / "parts.csv", "w") as out:
            out.write("user_id,item_id,split\n")
            for user, item in sorted({(row[0], row[1]) for row in table[1200:]}):
                out.write(f"{user},{item},{'train' if item < 'B020' else 'valid'}\n")
        said = describe(samples(folder, "own", "--split", f"file:{folder / 'parts.csv'}"))
        check(said["left_out"]["not_in_split"] > 0 and said["parts"][1]["impressions"] > 0 and
              sum(p["impressions"] for p in said["parts"]) + said["left_out"]["not_in_split"] == 750, f"{said['parts']}")
        # few by seed: another seed draws others, the same seed the same
        few = ["--few-shot", "64", "--split", "users"]
        first = describe(samples(folder, "few1", *few, "--seed", "1"))
        check(first["parts"][0]["impressions"] == 64, f"{first['parts'][0]}")
        samples(folder, "few1again", *few, "--seed", "1")
        samples(folder, "few2", *few, "--seed", "2")
        ids = [shard(folder / name)["impression_ids"] for name in ("few1", "few1again", "few2")]
        check(ids[0] == ids[1] and ids[0] != ids[2], "seeds")


def test_tokens_and_statistics_are_those_of_serving():
    """What the scorer would be given for a request of the stream is what the sample holds."""
    with Scratch() as folder:
        make_events(folder, "events", "--impressions", "last:0.5", "--candidates", "3")
        samples(folder, "out")
        run("run", "--stage", "graph-updater", "--from", folder / "events", "--to", folder / "requests", "--config",
            folder / "serving.properties", "--quiet")
        lines = run("inspect", folder / "requests" / "scoring-requests.avro", "--records", "600", "--json").stdout
        requests = [line for line in lines.splitlines() if line.startswith('{"impression_id"')]
        tensors = {name: numbers(tensor) for name, tensor in shard(folder / "out").items() if name != "impression_ids"}
        for i in (0, 300, 599):
            scored = json.loads(run("score", "--model", folder / "model", "--prompts", stdin=requests[i]).stdout)
            begin, end = tensors["candidate_offsets"][i:i + 2]
            prefix = tensors["prefix_tokens"][tensors["prefix_offsets"][i]:tensors["prefix_offsets"][i + 1]]
            check(len(scored["scores"]) == end - begin == 3, "candidates")
            for c, score in enumerate(scored["scores"]):
                at, to = tensors["suffix_offsets"][begin + c:begin + c + 2]
                check(score["prompt_ids"] == prefix + tensors["suffix_tokens"][at:to], f"tokens of impression {i}")
                given = json.loads(requests[i])["candidates"][c]["statistics"]
                kept = tensors["features"][(begin + c) * 17:(begin + c + 1) * 17]
                # Counts and weights are copied as they are; means are logits.
                check(all(abs(given[f] - kept[4 + f]) <= 1e-6 * max(1, abs(given[f])) for f in (1, 2, 4, 6)),
                      f"statistics of impression {i}")


def test_what_taught_the_model_is_refused():
    with Scratch() as folder:
        table = make_events(folder)
        write_model(folder, trained_until=table[1300][3] * 1000)
        done = samples(folder, "out", code=78)
        check("trained on data up to" in done.stderr and "--allow-leak" in done.stderr, done.stderr)
        done = samples(folder, "users", "--split", "users", code=78)
        check("trained on data up to" in done.stderr, done.stderr)
        said = describe(samples(folder, "out", "--allow-leak"))
        check(said["leak_allowed"] and said["leaking"] == 1301 - 1275, f"{said['leaking']} leaking")
        write_model(folder, trained_until=table[1200][3] * 1000)
        check(describe(samples(folder, "good"))["leaking"] == 0, "tuned on the first two parts")


def test_what_taught_the_seeds_is_refused():
    with Scratch() as folder:
        table = make_events(folder)
        (folder / "seeds.ids").write_text("B001\nB002\n")
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 64), }".ljust(117) + "\n"
        (folder / "seeds.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() +
                                           struct.pack("<128f", *([.5, -.25] * 64)))
        seeds = ["--set", f"graph.item_seeds={folder / 'seeds'}"]
        done = samples(folder, "out", *seeds, code=78)
        check("seeds.json" in done.stderr and "--allow-leak" in done.stderr, done.stderr)
        (folder / "seeds.json").write_text(json.dumps({"trained_until": table[1300][3] * 1000}))
        done = samples(folder, "out", *seeds, code=78)
        check("seeds were trained on data up to" in done.stderr, done.stderr)
        (folder / "seeds.json").write_text(json.dumps({"trained_until": table[1200][3] * 1000}))
        check(describe(samples(folder, "good", *seeds))["trained_until"] == table[1200][3] * 1000, "not kept")
        # What is predicted with them says so, and may not be judged on what they have seen.
        (folder / "seeds.json").write_text(json.dumps({"trained_until": table[-1][3] * 1000}))
        run("run", "--from", folder / "events", "--to", folder / "judged", "--set", "scorer.backend=stub",
            "--set", "log.level=error", *seeds)
        done = run("evaluate", "--predictions", folder / "judged", "--events", folder / "events", code=None)
        check(done.returncode != 0 and "--allow-leak" in done.stderr, done.stderr)
        (folder / "seeds.json").write_text("{")
        check("seeds.json" in samples(folder, "out", *seeds, code=65).stderr, "malformed")


def test_a_stopped_run_goes_on():
    with Scratch() as folder:
        make_events(folder, "events", "--impressions", "all", rows=14000)
        whole = describe(samples(folder, "whole"))
        check(whole["shards"] == 4, f"{whole['shards']} shards")
        process = subprocess.Popen([EXITPOLL, "samples", "--from", folder / "events", "--out", folder / "out", "--model",
                                    folder / "model", "--config", folder / "serving.properties"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until = time.time() + 120
        while process.poll() is None and not (folder / "out" / "samples-00002.safetensors").exists():
            check(time.time() < until, "no second shard in two minutes")
            time.sleep(.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if not (folder / "out" / "samples.json").exists():
            check((folder / "out" / "samples.part.json").exists(), "nothing says what the folder is")
            refused = samples(folder, "out", "--seed", "3", code=73)
            check("unfinished run" in refused.stderr, refused.stderr)
            before = (folder / "out" / "samples-00001.safetensors").stat().st_mtime_ns
            samples(folder, "out")
            check((folder / "out" / "samples-00001.safetensors").stat().st_mtime_ns == before, "written again")
        else:
            print("  the run was over before it could be killed")
        for path in sorted((folder / "whole").iterdir()):
            a, b = path.read_bytes(), (folder / "out" / path.name).read_bytes()
            check(a == b, f"{path.name} differs after a stop")
        check(not (folder / "out" / "samples.part.json").exists(), "samples.part.json is left")
        done = samples(folder, "out", code=73)
        check("holds samples already" in done.stderr, done.stderr)


if __name__ == "__main__":
    if not MODEL.exists():
        print("skipped: the tiny model is not there")
        sys.exit(77)
    main(test_the_page, test_nothing_at_or_after_an_impression_is_in_its_sample, test_labels_and_parts,
         test_tokens_and_statistics_are_those_of_serving, test_what_taught_the_model_is_refused,
         test_what_taught_the_seeds_is_refused, test_a_stopped_run_goes_on)

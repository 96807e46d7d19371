#!/usr/bin/env python3
"""The stream from files to files: equality of compositions, the total order, edge cases, exit codes."""
import copy
from harness import *

ROWS, KEYS = make_events(seed=11)


def stream(folder, name, *arguments, rows=None, events=None):
    events = events or folder / "events"
    if rows is not None or not events.exists():
        write_folder(events, rows or ROWS)
    out = folder / name
    run("run", "--from", events, "--to", out, *STUB, "--set", "statistics.attributes=brand", *arguments)
    return comparable(read_file(out / "predictions.avro"))


def test_twice_gives_the_same_bytes():
    with Scratch() as folder:
        first = stream(folder, "a")
        check(len(first) == len(ROWS["impression"]), "not every impression was answered")
        check_equal(first, stream(folder, "b"), "second run")


def test_internal_ids_decide_nothing():
    with Scratch() as folder:
        for threshold in ("0", "0.03"):
            plain = stream(folder, f"a{threshold}", "--set", f"graph.threshold={threshold}")
            permuted = stream(folder, f"b{threshold}", "--set", f"graph.threshold={threshold}",
                              "--set", "graph.id_seed=12345")
            check_equal(plain, permuted, f"permuted internal ids, threshold {threshold}")


def test_two_stages_equal_one():
    with Scratch() as folder:
        one = stream(folder, "one")
        middle, out = folder / "middle", folder / "two"
        run("run", "--stage", "graph-updater", "--from", folder / "events", "--to", middle,
            "--set", "statistics.attributes=brand")
        run("run", "--stage", "scorer", "--from", middle, "--to", out, *STUB)
        check_equal(one, comparable(read_file(out / "predictions.avro")), "two stages")


def test_batches_decide_nothing():
    with Scratch() as folder:
        one = stream(folder, "one")
        check_equal(one, stream(folder, "small", "--set", "source.batch_records=7",
                                "--set", "scorer.batch_requests_max=3"), "small batches")


def test_split_files_give_the_same():
    """The number of files (partitions) does not show."""
    with Scratch() as folder:
        one = stream(folder, "one")
        split = folder / "split"
        split.mkdir()
        for name, records in ROWS.items():
            for part in range(3):
                mine = [r for r in records if sum(r[KEYS[name]].encode()) % 3 == part]
                with open(split / f"{TOPIC_OF[name]}-{part + 1:04d}.avro", "wb") as out:
                    fastavro.writer(out, SCHEMAS[name], mine, codec="null")
        check_equal(one, stream(folder, "two", events=split), "three files a topic")


def test_nothing_at_or_after_its_time_is_seen():
    """Interactions at an impression's very time, and after it, change none of the earlier answers."""
    with Scratch() as folder:
        plain = stream(folder, "plain")
        impression = sorted(ROWS["impression"], key=lambda r: r["event_time"])[len(ROWS["impression"]) // 2]
        planted = copy.deepcopy(ROWS)
        for offset in (0, 1, 86_400_000):
            for item in impression["candidates"] or [ROWS["item"][0]["item_id"]]:
                planted["interaction"].append({"user_id": impression["user_id"], "item_id": item, "kind": "RATE",
                                               "rating": 1.0, "impression_id": None,
                                               "event_time": impression["event_time"] + offset})
        planted["interaction"].sort(key=lambda r: r["event_time"])
        changed = stream(folder, "planted", rows=planted, events=folder / "planted-events")
        before = {r["impression_id"] for r in ROWS["impression"] if r["event_time"] <= impression["event_time"]}
        check_equal({k: v for k, v in plain.items() if k in before},
                    {k: v for k, v in changed.items() if k in before}, "planted events")
        check(plain != changed, "the planted events were not seen by anyone: the test shows nothing")


def test_statuses():
    with Scratch() as folder:
        answers = stream(folder, "a")
        for row in ROWS["impression"]:
            status = answers[row["impression_id"]]["status"]
            if not row["candidates"]:
                check(status == "NO_CANDIDATES", f"{row['impression_id']}: {status}")
            elif row["user_id"].startswith("stranger"):
                check(status == "UNKNOWN_USER", f"{row['impression_id']}: {status}")
            scores = answers[row["impression_id"]]["scores"]
            check([s["item_id"] for s in scores] == row["candidates"], "candidates and scores do not correspond")
            check(all(0 < s["p_click"] < 1 for s in scores), "a p_click outside (0, 1)")


def edge(folder, impressions, items=(), interactions=(), *arguments):
    start = 1_600_000_000_000
    rows = {"item": [{"item_id": "known", "title": "Rose Balm", "attributes": {}, "event_time": 0, "deleted": False},
                     *items],
            "interaction": [{"user_id": "u", "item_id": "known", "kind": "RATE", "rating": 5.0,
                             "impression_id": None, "event_time": start}, *interactions],
            "impression": impressions}
    events, out = folder / "events", folder / "out"
    write_folder(events, rows)
    run("run", "--from", events, "--to", out, "--force", *STUB, *arguments)
    answers = {p["impression_id"]: p for p in read_file(out / "predictions.avro")}
    letters = read_file(out / "dead-letters.avro") if (out / "dead-letters.avro").exists() else []
    return answers, letters


def impression(name, candidates, user="u", at=1_600_000_000_001, deadline=None):
    return {"impression_id": name, "user_id": user, "candidates": candidates, "event_time": at,
            "deadline_ms": deadline}


def test_edge_cases():
    with Scratch() as folder:
        answers, letters = edge(folder, [
            impression("unknown-item", ["never-seen"]),
            impression("repeated", ["known", "known"]),
            impression("many", [f"c{i}" for i in range(10_000)]),
            impression("too-many", [f"c{i}" for i in range(10_001)]),
            impression("", ["known"]),
            impression("empty-candidate", [""]),
            impression("twice", ["known"]),
            impression("twice", ["known"]),
            impression("deadline", ["known"], deadline=1),
            impression("future", ["known"], at=4_000_000_000_000),
        ], items=[
            {"item_id": "empty", "title": "", "attributes": {}, "event_time": 0, "deleted": False},
            {"item_id": "huge", "title": "é" * 500_000, "attributes": {}, "event_time": 0, "deleted": False},
        ])
        reasons = sorted(letter["reason"] for letter in letters)
        check(answers["unknown-item"]["status"] == "OK", "unknown item")
        check(len(answers["repeated"]["scores"]) == 2 and
              answers["repeated"]["scores"][0]["p_click"] == answers["repeated"]["scores"][1]["p_click"],
              "a repeated candidate is scored alike")
        check(len(answers["many"]["scores"]) == 10_000, "10,000 candidates")
        check("too-many" not in answers and "" not in answers and "future" not in answers and
              "empty-candidate" not in answers, "a refused impression was answered")
        check(len(reasons) == 4, f"four dead letters are expected: {reasons}")
        check(answers["deadline"]["status"] == "OK", "deadlines are ignored in a backfill")


def test_truncated_and_flipped_files():
    with Scratch() as folder:
        events = folder / "events"
        write_folder(events, ROWS)
        data = (events / "interactions.avro").read_bytes()
        (events / "interactions.avro").write_bytes(data[:len(data) // 2])
        done = run("run", "--from", events, "--to", folder / "out", *STUB, code=65)
        check("interactions.avro" in done.stderr, f"the message names no file: {done.stderr}")
        check(not (folder / "out" / "predictions.avro").exists(), "half an output appeared")


def test_exit_codes_and_messages():
    with Scratch() as folder:
        events = folder / "events"
        write_folder(events, ROWS)
        run("run", "--from", events, code=64)
        run("run", "--from", folder / "absent", "--to", folder / "o", *STUB, code=66)
        done = run("run", "--from", events, "--to", folder / "o", "--set", "graph.treshold=0", code=78)
        check("graph.threshold" in done.stderr, "no suggestion for a misspelt setting")
        run("run", "--from", events, "--to", folder / "o", "--set", "graph.layers=9", code=78)
        done = run("run", "--from", events, "--to", folder / "o", "--set", "kafka.sasl.password=hunter2", code=78)
        check("hunter2" not in done.stderr + done.stdout, "a secret was printed")
        run("run", "--from", events, "--to", folder / "o", *STUB)
        run("run", "--from", events, "--to", folder / "o", *STUB, code=73)
        run("run", "--from", events, "--to", folder / "o", "--force", *STUB)
        run("frobnicate", code=64)
        run("--help")
        for command in ("import", "run", "replay", "export", "topics", "inspect", "score", "tokenize", "bench"):
            check("Examples" in run(command, "--help").stdout, f"{command} --help has no example")


def test_dry_run_and_settings():
    with Scratch() as folder:
        events, config = folder / "events", folder / "e.properties"
        write_folder(events, ROWS)
        config.write_text("# comment\ngraph.threshold = 0\n")
        done = run("run", "--dry-run", "--from", events, "--to", folder / "o", "--config", config, *STUB,
                   env={"EXITPOLL_GRAPH_LAYERS": "2", "EXITPOLL_KAFKA_SASL_PASSWORD": "hunter2"})
        check("e.properties:2" in done.stdout and "environment EXITPOLL_GRAPH_LAYERS" in done.stdout,
              "the origin of settings is not shown")
        check("hunter2" not in done.stdout + done.stderr, "a secret was printed")
        check(not (folder / "o").exists(), "a dry run made output")
        report = json.loads(run("run", "--dry-run", "--json", "--from", events, "--to", folder / "o", *STUB).stdout)
        check(all(c["ok"] for c in report["checks"]), "a check failed")


def test_state_resumes():
    """A graph without impressions goes on from its snapshot; a foreign state is refused."""
    with Scratch() as folder:
        rows = {**ROWS, "impression": []}
        write_folder(folder / "events", rows)
        first = run("run", "--stage", "graph-updater", "--from", folder / "events", "--to", folder / "a",
                    "--state", folder / "state", "--json")
        again = run("run", "--stage", "graph-updater", "--from", folder / "events", "--to", folder / "b",
                    "--state", folder / "state", "--json")
        check(json.loads(first.stdout)["interactions"] == len(ROWS["interaction"]), "first run")
        check(json.loads(again.stdout)["interactions"] == 0, "the second run should have nothing to do")
        write_folder(folder / "other", rows)
        run("run", "--stage", "graph-updater", "--from", folder / "other", "--to", folder / "c",
            "--state", folder / "state", code=78)


def test_flipped_snapshot_bytes_are_found():
    with Scratch() as folder:
        write_folder(folder / "events", {**ROWS, "impression": []})
        run("run", "--stage", "graph-updater", "--from", folder / "events", "--to", folder / "a",
            "--state", folder / "state")
        snapshot = max((folder / "state").glob("*.snap"))
        run("inspect", "--check", snapshot)
        good = snapshot.read_bytes()
        rng = random.Random(5)
        for position in rng.sample(range(len(good)), 40) + [0, len(good) - 1]:
            bad = bytearray(good)
            bad[position] ^= 1 << rng.randrange(8)
            snapshot.write_bytes(bad)
            done = run("inspect", "--check", snapshot, code=None)
            check(done.returncode == 65, f"a flipped bit at byte {position} was not found ({done.returncode})")


if __name__ == "__main__":
    main(test_twice_gives_the_same_bytes, test_internal_ids_decide_nothing, test_two_stages_equal_one,
         test_batches_decide_nothing, test_split_files_give_the_same,
         test_nothing_at_or_after_its_time_is_seen, test_statuses, test_edge_cases,
         test_truncated_and_flipped_files, test_exit_codes_and_messages, test_dry_run_and_settings,
         test_state_resumes, test_flipped_snapshot_bytes_are_found)

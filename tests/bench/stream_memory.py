#!/usr/bin/env python3
"""Resident memory of one process over a million good events from a local Kafka.

  tests/bench/stream_memory.py [--events 1000000]

Users, items and pairs are fixed: the first fifth of the events makes the graph, the others rate the same pairs
again, so nothing that the program must remember grows. Verifies that every impression is answered once before
it reports. Prints one JSON object: resident memory by the share of events taken, and the growth from half of
them to all."""
import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("EXITPOLL", str(Path(__file__).resolve().parents[2] / "build" / "exitpoll"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
from harness import *  # noqa: E402
import re
import socket
import urllib.request

USERS, ITEMS = 20_000, 5_000


def write_tables(folder, events):
    rng = random.Random(5)
    pairs = [(rng.randrange(USERS), min(int(rng.paretovariate(.6)) - 1, ITEMS - 1) if rng.random() < .5 else
              rng.randrange(ITEMS)) for _ in range(events // 5)]
    with open(folder / "interactions.tsv", "w") as out:
        out.write("user_id\titem_id\trating\tunix_time\n")
        for i in range(events):
            user, item = pairs[i] if i < len(pairs) else rng.choice(pairs)
            out.write(f"u{user}\ti{item}\t{rng.randint(1, 5)}\t{1_600_000_000 + i}\n")
    words = ["lip", "balm", "rose", "night", "cream", "nail", "polish", "hair", "serum", "matte", "brush", "aloe"]
    with open(folder / "items.tsv", "w") as out:
        out.write("item_id\ttitle\n")
        for i in range(ITEMS):
            out.write(f"i{i}\t{' '.join(rng.sample(words, 4))}\n")


def resident_mib(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


def records(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return int(float(re.search(r"^exitpoll_records_total (\S+)", answer.read().decode(), re.M)[1]))
    except OSError:
        return 0


def main_bench():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    options = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Scratch() as folder, Broker() as broker:
        write_tables(folder, options.events)
        run("import", "--interactions", folder / "interactions.tsv", "--items", folder / "items.tsv", "--out",
            folder / "events", "--impressions", "last:0.1", "--candidates", "8")
        create_topics(broker, 4)
        run("replay", "--from", folder / "events", "--to", broker.url, "--speed", "max", timeout=900)
        total = options.events + options.events // 10 + ITEMS
        began = time.time()
        process = Process(folder / "log", "run", "--from", broker.url, "--to", broker.url, "--state", folder / "state",
                          "--set", f"http.port={port}", *STUB)
        samples = []
        while time.time() - began < 1800 and process.alive():
            taken = records(port)
            samples.append((taken, resident_mib(process.process.pid)))
            if taken >= total:
                break
            time.sleep(.05)
        seconds = time.time() - began
        time.sleep(1)
        samples.append((records(port), resident_mib(process.process.pid)))
        check(process.stop() == 0, (folder / "log").read_text()[-2000:])
        answers = comparable(predictions_on(broker, options.events // 10))
        check(len(answers) == options.events // 10, f"{len(answers)} answers")

    def at(share):
        return max(mib for taken, mib in samples if taken <= share * total)

    figures = {"events": total, "seconds": round(seconds, 1), "events_per_s": round(total / seconds),
               "answers": len(answers), "samples": len(samples),
               "resident_mib_by_share": {f"{share:.0%}": round(at(share), 1) for share in (.1, .2, .3, .5, .7, .9, 1)},
               "growth_from_half": round(at(1) / at(.5) - 1, 4)}
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main_bench()

#!/usr/bin/env python3
"""Figures of the stream on a local Kafka: throughput in two processes with the stub, beside that of files.

  tests/bench/stream_kafka.py INTERACTIONS ITEMS

INTERACTIONS and ITEMS are tables for `exitpoll import` (Amazon Beauty 2014 5-core). Verifies that every
impression is answered exactly once and as from files before it reports. Prints one JSON object."""
import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("EXITPOLL", str(Path(__file__).resolve().parents[2] / "build" / "exitpoll"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
from harness import *  # noqa: E402


def main_bench():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("interactions")
    parser.add_argument("items")
    parser.add_argument("--partitions", type=int, default=4)
    options = parser.parse_args()
    figures = {"processor": next((line.split(":")[1].strip() for line in open("/proc/cpuinfo")
                                  if line.startswith("model name")), "?"), "processors": os.cpu_count()}
    with Scratch() as folder, Broker() as broker:
        run("import", "--interactions", options.interactions, "--items", options.items, "--out", folder / "events",
            "--impressions", "last:0.2", "--candidates", "8", "--skip-new", "--attribute", "brand=first-word(title)")
        settings = ["--set", "statistics.attributes=brand"]
        began = time.time()
        run("run", "--from", folder / "events", "--to", folder / "files", *STUB, *settings)
        expected = comparable(read_file(folder / "files" / "predictions.avro"))
        figures["files_seconds"] = round(time.time() - began, 2)
        figures["impressions"] = len(expected)
        figures["files_impressions_per_s_whole_run"] = round(len(expected) / figures["files_seconds"], 1)
        create_topics(broker, options.partitions)
        run("replay", "--from", folder / "events", "--to", broker.url, "--speed", "max", timeout=600)
        # The graph is built first, so that what is timed is impressions among the last fifth of the events.
        began = time.time()
        graph = Process(folder / "log-graph", "run", "--stage", "graph-updater", "--from", broker.url, "--to",
                        broker.url, "--until", "end", "--state", folder / "graph", *settings)
        scorer = Process(folder / "log-scorer", "run", "--stage", "scorer", "--from", broker.url, "--to", broker.url,
                         "--state", folder / "scorer", *STUB)
        consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.address, "group.id": "bench",
                                             "isolation.level": "read_committed", "auto.offset.reset": "earliest"})
        consumer.assign([confluent_kafka.TopicPartition("predictions", p, 0) for p in range(options.partitions)])
        times, answers = [], []
        while len(answers) < len(expected) and time.time() - began < 600:
            for message in consumer.consume(2000, .05):
                if not message.error():
                    answers.append(unframe("prediction", message.value()))
                    times.append(time.time())
        consumer.close()
        check_equal(expected, comparable(answers), "through Kafka, two processes")
        figures["kafka_two_processes_seconds_whole_run"] = round(times[-1] - began, 2)
        tenth = len(times) // 10
        figures["kafka_two_processes_impressions_per_s"] = round((len(times) - 2 * tenth) /
                                                                 (times[-1 - tenth] - times[tenth]), 1)
        graph.process.wait(60)
        scorer.stop()
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main_bench()

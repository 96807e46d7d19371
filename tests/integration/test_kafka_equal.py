#!/usr/bin/env python3
"""The same events through files, through Kafka in one process, and through Kafka in two processes, with
1, 3 and 8 partitions: equal predictions."""
from harness import *

ROWS, KEYS = make_events(seed=23, users=200, items=150, interactions=2500, impressions=400)
COMMON = ["--set", "statistics.attributes=brand"]


def from_files(folder, *arguments):
    write_folder(folder / "events", ROWS)
    run("run", "--from", folder / "events", "--to", folder / "files", "--force", *STUB, *COMMON, *arguments)
    return comparable(read_file(folder / "files" / "predictions.avro"))


def kafka_runs(partitions, *arguments):
    with Scratch() as folder, Broker() as broker:
        expected = from_files(folder, *arguments)
        create_topics(broker, partitions)
        produce(broker, ROWS, KEYS)
        run("run", "--from", broker.url, "--to", broker.url, "--until", "end", "--state", folder / "one", *STUB,
            *COMMON, *arguments)
        actual = comparable(predictions_on(broker, len(expected)))
        check_equal(expected, actual, f"one process, {partitions} partitions")
        # Two processes over the middle topic; groups and outputs of their own.
        out = ["--set", "topic.predictions=predictions-two", "--set", "group.graph-updater=two",
               "--set", "group.scorer=two-scorer"]
        create_topics(broker, partitions, "topic.predictions=predictions-two")
        run("run", "--stage", "graph-updater", "--from", broker.url, "--to", broker.url, "--until", "end",
            "--state", folder / "two", *COMMON, *out, *arguments)
        run("run", "--stage", "scorer", "--from", broker.url, "--to", broker.url, "--until", "end",
            "--state", folder / "two-scorer", *STUB, *out, *arguments)
        actual = comparable(predictions_on(broker, len(expected), topic="predictions-two"))
        check_equal(expected, actual, f"two processes, {partitions} partitions")


def test_one_partition():
    kafka_runs(1)


def test_three_partitions():
    kafka_runs(3, "--set", "graph.threshold=0")


def test_eight_partitions_permuted_ids():
    kafka_runs(8, "--set", "graph.id_seed=99")


def test_live_backlog_equals_files():
    """What was there when a live run started is a backfill: partitions that run out early, while others still
    hold records, must not make it refresh embeddings out of turn."""
    with Scratch() as folder, Broker() as broker:
        expected = from_files(folder)
        create_topics(broker, 8)
        produce(broker, ROWS, KEYS)
        live = Process(folder / "log", "run", "--from", broker.url, "--to", broker.url, "--state", folder / "state",
                       *STUB, *COMMON, "--set", "source.batch_records=16", "--set", "source.idle_ms=200")
        actual = comparable(predictions_on(broker, len(expected), quiet_s=8))
        check(live.stop() == 0, (folder / "log").read_text()[-2000:])
        check_equal(expected, actual, "a live run of a backlog")


def test_live_answers_and_drains():
    """Without --until the program waits for more, answers what comes, and drains on SIGTERM within 10 s."""
    with Scratch() as folder, Broker() as broker:
        create_topics(broker, 3)
        produce(broker, ROWS, KEYS, names=("item", "interaction"))
        live = Process(folder / "log", "run", "--from", broker.url, "--to", broker.url, "--state",
                       folder / "state", *STUB)
        time.sleep(3)
        late = [dict(r, event_time=max(i["event_time"] for i in ROWS["interaction"]) + 1 + n)
                for n, r in enumerate(ROWS["impression"][:50])]
        produce(broker, {"impression": late}, KEYS, names=("impression",))
        answers = comparable(predictions_on(broker, 50, quiet_s=4))
        check(len(answers) == 50, f"{len(answers)} of 50 live impressions were answered")
        began = time.time()
        code = live.stop()
        check(code == 0, f"SIGTERM: exit code {code}\n{(folder / 'log').read_text()[-2000:]}")
        check(time.time() - began < 10, "draining took more than 10 s")
        check(list((folder / "state").glob("*.snap")), "a clean end left no snapshot")


if __name__ == "__main__":
    main(test_one_partition, test_three_partitions, test_eight_partitions_permuted_ids,
         test_live_backlog_equals_files, test_live_answers_and_drains)

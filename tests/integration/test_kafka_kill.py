#!/usr/bin/env python3
"""Exactly once on a real Kafka: stages killed at random moments and the broker restarted, and still each
impression is answered once, with what the undisturbed run says."""
from harness import *

IMPRESSIONS = int(os.environ.get("IMPRESSIONS", "20000"))
KILLS = int(os.environ.get("KILLS", "10"))
ROWS, KEYS = make_events(seed=37, users=2000, items=800, interactions=20000, impressions=IMPRESSIONS, candidates=4,
                         days=400)
PARTITIONS = 4
# Small transactions and frequent snapshots, so that a kill meets both.
SETTINGS = ["--set", "commit.ms=20", "--set", "source.batch_records=64", "--set", "state.snapshot_events=3000"]


class Counter:
    """Follows an output topic with a reader of its own: how many committed records are there?"""

    def __init__(self, broker, topic):
        self.consumer = confluent_kafka.Consumer({
            "bootstrap.servers": broker.address, "group.id": f"counter-{topic}", "isolation.level": "read_committed",
            "enable.auto.commit": False, "auto.offset.reset": "earliest"})
        self.consumer.assign([confluent_kafka.TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
        self.count = 0

    def wait_above(self, floor, timeout_s=90):
        deadline = time.time() + timeout_s
        while self.count <= floor:
            self.count += sum(1 for m in self.consumer.consume(500, .1) if not m.error())
            if time.time() > deadline:
                return False
        return True

    def close(self):
        self.consumer.close()


def undisturbed(folder):
    write_folder(folder / "events", ROWS)
    run("run", "--from", folder / "events", "--to", folder / "files", *STUB)
    return comparable(read_file(folder / "files" / "predictions.avro"))


def tail(folder):
    return "\n".join(log.name + ":\n" + log.read_text(errors="replace")[-1500:] for log in folder.glob("log*"))


def disturb(broker, folder, counter, start, kills, restarts, total):
    """Kills what start() started, each time only after new predictions have appeared."""
    rng = random.Random(4)
    restart_at = set(rng.sample(range(1, kills), restarts))
    process, killed = start(), 0
    while killed < kills and counter.count < total:
        if not counter.wait_above(counter.count):
            raise Failed(f"nothing new for 90 s after {killed} kills, {counter.count} predictions\n{tail(folder)}")
        time.sleep(rng.random() * .3)
        if counter.count >= total:
            break
        process.kill()
        killed += 1
        if killed in restart_at:
            broker.script("restart")
        process = start()
    process.kill()
    check(killed >= kills, f"the stream was answered after only {killed} kills: make it longer")


def finish_and_compare(broker, folder, expected, *stages):
    for stage in stages:
        done = run(*stage, "--until", "end", code=None, timeout=300)
        check(done.returncode == 0, f"{stage}: {done.returncode}\n{done.stderr[-2000:]}")
    answers = comparable(predictions_on(broker, len(expected)))
    if len(stages) > 1 and len(answers) < len(expected):
        requests = len(consume(broker, "scoring-requests", len(expected)))
        raise Failed(f"{len(answers)} answers to {requests} requests of {len(expected)} impressions; the last stage "
                     f"said:\n{done.stderr[-3000:]}")
    check_equal(expected, answers, "after kills")
    check(not consume(broker, "dead-letters", quiet_s=1.5), "there are dead letters")


def test_one_process_killed():
    with Scratch() as folder, Broker() as broker:
        expected = undisturbed(folder)
        create_topics(broker, PARTITIONS)
        produce(broker, ROWS, KEYS)
        command = ["run", "--from", broker.url, "--to", broker.url, "--state", folder / "state", *STUB, *SETTINGS]
        counter = Counter(broker, "predictions")
        disturb(broker, folder, counter, lambda: Process(folder / "log", *command, "--until", "end"), KILLS, 2,
                len(expected))
        counter.close()
        finish_and_compare(broker, folder, expected, command)


def test_two_stages_and_two_scorers_killed():
    with Scratch() as folder, Broker() as broker:
        expected = undisturbed(folder)
        create_topics(broker, PARTITIONS)
        produce(broker, ROWS, KEYS)
        kafka = ["--from", broker.url, "--to", broker.url, *SETTINGS]
        graph = ["run", "--stage", "graph-updater", *kafka, "--state", folder / "graph"]
        scorer = ["run", "--stage", "scorer", *kafka, "--state", folder / "scorers", *STUB]
        other = Process(folder / "log-other", *scorer)
        rng = random.Random(8)

        class Either:
            """One kill is for the graph-updater, the next for one of two scorers."""

            def __init__(self):
                self.stages = {"graph": Process(folder / "log-graph", *graph),
                               "scorer": Process(folder / "log-scorer", *scorer)}

            def kill(self):
                victim = rng.choice(list(self.stages))
                for name in ([victim] if not self.ending else list(self.stages)):
                    self.stages[name].kill()

        either = Either()
        either.ending = False

        def start():
            for name, command in (("graph", graph), ("scorer", scorer)):
                if not either.stages[name].alive():
                    either.stages[name] = Process(folder / f"log-{name}", *command)
            return either

        counter = Counter(broker, "predictions")
        restart_at, killed = {KILLS // 3, 2 * KILLS // 3}, 0
        while killed < KILLS:
            if not counter.wait_above(counter.count):
                raise Failed(f"nothing new for 90 s after {killed} kills\n{tail(folder)}")
            check(counter.count < len(expected), f"all was answered after only {killed} kills: make it longer")
            time.sleep(rng.random() * .3)
            either.kill()
            killed += 1
            if killed in restart_at:
                broker.script("restart")
            start()
        either.ending = True
        either.kill()
        other.kill()
        counter.close()
        finish_and_compare(broker, folder, expected, graph, scorer)


if __name__ == "__main__":
    main(test_one_process_killed, test_two_stages_and_two_scorers_killed)

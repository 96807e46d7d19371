#!/usr/bin/env python3
"""The broker is away for longer than the group's session and the transactions last: the instance joins
again by itself, and a read_committed reader sees every impression answered exactly once."""
from harness import *

ROWS, KEYS = make_events(seed=47, users=60, items=50, interactions=400, impressions=400)
LAST = max(row["event_time"] for row in ROWS["interaction"])
OUTAGE_S = 14


def impressions(first, count):
    return [dict(row, impression_id=f"live{first + i}", event_time=LAST + 1 + first + i)
            for i, row in enumerate(ROWS["impression"][first:first + count])]


def test_outage_longer_than_the_session():
    with Scratch() as folder, Broker() as broker:
        create_topics(broker, 2)
        produce(broker, ROWS, KEYS, names=("item", "interaction"))
        log = folder / "log"
        live = Process(log, "run", "--from", broker.url, "--to", broker.url, "--state", folder / "state", *STUB,
                       *os.environ.get("MORE", "").split())
        try:
            produce(broker, {"impression": impressions(0, 100)}, KEYS, names=("impression",))
            answers = comparable(predictions_on(broker, 100, quiet_s=10))
            check(len(answers) == 100, f"before the outage: {len(answers)} of 100 impressions were answered")
            # Some are in the middle of a transaction when the broker dies.
            produce(broker, {"impression": impressions(100, 100)}, KEYS, names=("impression",))
            broker.script("kill")
            time.sleep(OUTAGE_S)
            check(live.alive(), f"it ended during the outage\n{log.read_text()[-2000:]}")
            broker.script("start")
            produce(broker, {"impression": impressions(200, 100)}, KEYS, names=("impression",))
            answers = comparable(predictions_on(broker, 300, quiet_s=15))
            check(live.alive(), f"it ended after the outage\n{log.read_text()[-3000:]}")
            check(len(answers) == 300, f"{len(answers)} of 300 impressions were answered\n{log.read_text()[-3000:]}")
            # The session that the broker remembers ends only now: nothing may be left of the old member.
            time.sleep(6)
            produce(broker, {"impression": impressions(300, 100)}, KEYS, names=("impression",))
            answers = comparable(predictions_on(broker, 400, quiet_s=10))
            check(set(answers) == {f"live{i}" for i in range(400)},
                  f"{len(answers)} of 400 impressions were answered\n{log.read_text()[-3000:]}")
            check(live.alive(), f"it ended after it had recovered\n{log.read_text()[-3000:]}")
            code = live.stop()
            check(code == 0, f"SIGTERM: exit code {code}\n{log.read_text()[-2000:]}")
        finally:
            if live.alive():
                live.kill()


def test_two_stages_outlive_it():
    """The same with a graph-updater and two scorers that share a group, and beside them, with a group and topic of
    its own, an instance that delivers at least once: there an answer may come again, enriched anew (a live graph is
    refreshed by the clock as well, so the two need not be equal)."""
    with Scratch() as folder, Broker() as broker:
        create_topics(broker, 2)
        create_topics(broker, 2, "topic.predictions=again", "topic.scoring-requests=unused",
                      "topic.dead-letters=dead-again")
        produce(broker, ROWS, KEYS, names=("item", "interaction"))
        ends = ["--from", broker.url, "--to", broker.url, *STUB]
        processes = {
            "graph": ["--stage", "graph-updater"],
            "scorer1": ["--stage", "scorer"],
            "scorer2": ["--stage", "scorer"],
            "again": ["--set", "delivery=at_least_once", "--set", "group.graph-updater=again", "--set",
                      "topic.predictions=again", "--set", "topic.dead-letters=dead-again"],
        }
        processes = {name: Process(folder / f"{name}.log", "run", "--state", folder / name, *ends, *more)
                     for name, more in processes.items()}

        def check_alive(when):
            for name, process in processes.items():
                check(process.alive(), f"{name} ended {when}\n{(folder / f'{name}.log').read_text()[-3000:]}")

        def check_answers(count, quiet_s, when):
            answers = comparable(predictions_on(broker, count, quiet_s=quiet_s), graph_version=False)
            check(set(answers) == {f"live{i}" for i in range(count)}, f"{len(answers)} of {count} answered {when}")
            again = {answer["impression_id"] for answer in
                     predictions_on(broker, count, topic="again", quiet_s=quiet_s)}
            check(again == set(answers), f"{len(again)} of {count} answered at least once {when}")

        try:
            produce(broker, {"impression": impressions(0, 100)}, KEYS, names=("impression",))
            check_answers(100, 12, "before the outage")
            produce(broker, {"impression": impressions(100, 100)}, KEYS, names=("impression",))
            broker.script("kill")
            time.sleep(OUTAGE_S)
            check_alive("during the outage")
            broker.script("start")
            produce(broker, {"impression": impressions(200, 100)}, KEYS, names=("impression",))
            check_answers(300, 25, "after the outage")
            check_alive("after the outage")
            time.sleep(6)
            produce(broker, {"impression": impressions(300, 100)}, KEYS, names=("impression",))
            check_answers(400, 15, "later")
            check_alive("after it had recovered")
            for name, process in processes.items():
                check(process.stop() == 0, f"{name}: {(folder / f'{name}.log').read_text()[-2000:]}")
        finally:
            for process in processes.values():
                if process.alive():
                    process.kill()


if __name__ == "__main__":
    main(test_outage_longer_than_the_session, test_two_stages_outlive_it)

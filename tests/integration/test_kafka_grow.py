#!/usr/bin/env python3
"""Partitions are added to the topics of a running instance: nothing of the graph is missed, and every
impression is answered exactly once."""
from harness import *
from confluent_kafka.admin import AdminClient, NewPartitions

ROWS, KEYS = make_events(seed=53, users=80, items=60, interactions=300, impressions=150)
LAST = max(row["event_time"] for row in ROWS["interaction"])


def later(name, first, count, after_ms):
    """Rows of the stream moved behind its end; impressions get ids of their own."""
    rows = [dict(row, event_time=LAST + after_ms + i) for i, row in enumerate(ROWS[name][first:first + count])]
    for i, row in enumerate(rows):
        row["impression_id"] = f"live{first + i}" if name == "impression" else None
    return rows


def test_partitions_are_added():
    with Scratch() as folder, Broker() as broker:
        create_topics(broker, 1)
        produce(broker, {"item": ROWS["item"], "interaction": ROWS["interaction"][:150]}, KEYS,
                names=("item", "interaction"))
        log = folder / "log"
        live = Process(log, "run", "--from", broker.url, "--to", broker.url, "--state", folder / "state", *STUB,
                       "--set", "source.partitions_ms=300")
        try:
            produce(broker, {"impression": later("impression", 0, 50, 1)}, KEYS, names=("impression",))
            check(len(comparable(predictions_on(broker, 50, quiet_s=10))) == 50, "not answered before")
            admin = AdminClient({"bootstrap.servers": broker.address})
            for future in admin.create_partitions([NewPartitions("interactions", 3), NewPartitions("items", 2)]).values():
                future.result(20)
            began = time.time()
            while log.read_text().count("kafka.grown") < 1:
                check(time.time() - began < 30, f"not noticed\n{log.read_text()[-2000:]}")
                time.sleep(.1)
            produce(broker, {"interaction": later("interaction", 150, 150, 1000),
                             "item": [dict(row, event_time=LAST + 900) for row in ROWS["item"][:10]]}, KEYS,
                    names=("interaction", "item"))
            time.sleep(2)
            produce(broker, {"impression": later("impression", 50, 50, 5000)}, KEYS, names=("impression",))
            answers = comparable(predictions_on(broker, 100, quiet_s=10))
            check(set(answers) == {f"live{i}" for i in range(100)}, f"{len(answers)} of 100 were answered")
            events = len(ROWS["item"]) + 300 + 10
            versions = {answers[f"live{i}"]["graph_version"] for i in range(50, 100)}
            check(versions == {events}, f"the graph had {versions} of {events} events")
            check(live.stop() == 0, log.read_text()[-2000:])
        finally:
            if live.alive():
                live.kill()


if __name__ == "__main__":
    main(test_partitions_are_added)

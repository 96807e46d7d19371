#!/usr/bin/env python3
"""One record in a hundred is poison: all of it ends in dead-letters with the right reason and the original
bytes, the rest is answered, and memory stays flat."""
from harness import *

ROWS, KEYS = make_events(seed=41, users=400, items=200, interactions=8000, impressions=4000, candidates=4, days=60)


def poisons(rng):
    """(topic, key, value, expected part of the reason)"""
    good = frame("impression", ROWS["impression"][0])
    huge = b"\0" + struct.pack(">I", SCHEMA_IDS["impression"]) + b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f"
    record = dict(ROWS["interaction"][0])
    kinds = [
        ("impressions", b"k", b"", None),
        ("impressions", b"k", b"\0\0", None),
        ("impressions", b"k", b"{\"json\": true}", None),
        ("impressions", b"k", b"\0" + struct.pack(">I", 4242) + b"abc", "schema"),
        ("impressions", b"k", good[:-3], None),
        ("impressions", b"k", good + b"trailing", None),
        ("impressions", b"k", huge, None),
        ("impressions", b"k", bytes(rng.randrange(256) for _ in range(200)), None),
        ("impressions", b"k", frame("impression", dict(ROWS["impression"][0], impression_id="")), "impression"),
        ("impressions", b"k", None, None),
        ("interactions", b"k", frame("interaction", record)[:-2], None),
        ("interactions", b"k", frame("interaction", dict(record, user_id="")), "user"),
        ("interactions", b"k", frame("interaction", dict(record, kind="RATE", rating=float("nan"))), "rating"),
        ("interactions", b"k", frame("interaction", dict(record, kind="CLICK", item_id=None)), "item"),
        ("interactions", b"k", frame("interaction", dict(record, event_time=-5)), "time"),
        ("items", b"k", b"\xff" * 40, None),
        ("items", b"k", frame("item", dict(ROWS["item"][0], item_id="")), "item"),
    ]
    return kinds


def resident_kb(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def test_poison():
    rng = random.Random(3)
    kinds = poisons(rng)
    with Scratch() as folder, Broker() as broker:
        write_folder(folder / "events", ROWS)
        run("run", "--from", folder / "events", "--to", folder / "files", *STUB)
        expected = comparable(read_file(folder / "files" / "predictions.avro"))
        create_topics(broker, 3)
        producer = confluent_kafka.Producer({"bootstrap.servers": broker.address, "partitioner": "murmur2_random",
                                             "linger.ms": 20})
        planted = []
        for name in ("item", "interaction", "impression"):
            for record in ROWS[name]:
                producer.produce(TOPIC_OF[name], key=record[KEYS[name]].encode(), value=frame(name, record))
                if rng.random() < .01:
                    topic, key, value, reason = rng.choice(kinds)
                    producer.produce(topic, key=key, value=value)
                    planted.append((topic, key, value, reason))
                producer.poll(0)
        producer.flush(60)
        check(len(planted) > 100, "too few poisoned records to show anything")
        done = run("run", "--from", broker.url, "--to", broker.url, "--until", "end", "--state", folder / "state",
                   *STUB, "--json")
        totals = json.loads(done.stdout)
        answers = comparable(predictions_on(broker, len(expected)))
        check_equal(expected, answers, "among poison")
        letters = consume(broker, "dead-letters", quiet_s=2)
        check(len(letters) == len(planted) == totals["dead_letters"],
              f"{len(planted)} planted, {len(letters)} dead letters, {totals['dead_letters']} counted")
        remaining = [(topic.encode(), key, value, reason) for topic, key, value, reason in planted]
        for key, value, headers in letters:
            headers = dict(headers)
            for name in ("exitpoll.topic", "exitpoll.partition", "exitpoll.offset", "exitpoll.stage",
                         "exitpoll.reason"):
                check(headers.get(name), f"a dead letter without header {name}")
            match = next((i for i, (topic, k, v, _) in enumerate(remaining)
                          if topic == headers["exitpoll.topic"] and k == key and v == value), None)
            check(match is not None, f"a dead letter that nobody planted: {headers} {key} {value!r:.80}")
            reason = remaining.pop(match)[3]
            check(reason is None or reason in headers["exitpoll.reason"].decode() + headers.get("exitpoll.error", b"").decode(),
                  f"reason {headers['exitpoll.reason']} does not speak of {reason}")
        check(not remaining, f"{len(remaining)} poisoned records left no dead letter")


def test_memory_is_flat_under_a_flood_of_poison():
    with Scratch() as folder, Broker() as broker:
        create_topics(broker, 3)
        live = Process(folder / "log", "run", "--from", broker.url, "--to", broker.url, "--state",
                       folder / "state", *STUB)
        producer = confluent_kafka.Producer({"bootstrap.servers": broker.address, "linger.ms": 20})
        rng = random.Random(9)
        sizes = []
        for _ in range(6):
            for _ in range(5000):
                producer.produce("impressions", key=b"k", value=bytes([rng.randrange(256)]) * rng.randrange(1, 3000))
                producer.poll(0)
            producer.flush(60)
            time.sleep(2)
            check(live.alive(), (folder / "log").read_text()[-2000:])
            sizes.append(resident_kb(live.process.pid))
        live.stop()
        check(len(consume(broker, "dead-letters", quiet_s=2)) == 30_000, "not all poison became dead letters")
        check(sizes[-1] < sizes[2] * 1.15 + 20_000, f"resident memory grows: {sizes} KB")


if __name__ == "__main__":
    main(test_poison, test_memory_is_flat_under_a_flood_of_poison)

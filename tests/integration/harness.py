"""Shared by the integration tests: an independent Avro and Kafka client (fastavro, confluent-kafka), a
seeded stream of events, and the built program. Not a test itself."""
import hashlib
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CACHE = Path(os.environ.get("EXITPOLL_CACHE", str(Path.home() / ".cache" / "exitpoll")))
VENV_PYTHON = CACHE / "python" / "bin" / "python"
if VENV_PYTHON.exists() and Path(sys.prefix).resolve() != (CACHE / "python").resolve():
    os.execv(str(VENV_PYTHON), [str(VENV_PYTHON)] + sys.argv)
try:
    import confluent_kafka
    import fastavro
except ImportError:
    print("skipped: the Python clients are not installed (ops/setup.sh --test)")
    sys.exit(77)

ROOT = Path(__file__).resolve().parents[2]
EXITPOLL = os.environ.get("EXITPOLL") or (sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "build" / "exitpoll"))
RECORDS = ["item", "impression", "interaction", "scoring_request", "prediction", "dead_letter"]
TOPIC_OF = {"item": "items", "impression": "impressions", "interaction": "interactions",
            "scoring_request": "scoring-requests", "prediction": "predictions", "dead_letter": "dead-letters"}
SCHEMAS = {name: fastavro.parse_schema(json.loads((ROOT / "schemas" / f"{name}.avsc").read_text()))
           for name in RECORDS}
SCHEMA_IDS = {name: i + 1 for i, name in enumerate(RECORDS)}
STUB = ["--set", "scorer.backend=stub"]


class Failed(Exception):
    pass


def check(condition, message):
    if not condition:
        raise Failed(message)


def main(*tests):
    """Runs every test; prints one line each; the exit code counts failures."""
    failures = 0
    only = os.environ.get("ONLY")
    for test in tests:
        if only and only not in test.__name__:
            continue
        began = time.time()
        try:
            test()
            print(f"ok      {test.__name__} ({time.time() - began:.1f} s)", flush=True)
        except Failed as failure:
            failures += 1
            print(f"FAILED  {test.__name__}: {failure}", flush=True)
    sys.exit(1 if failures else 0)


class Scratch:
    """A temporary folder that goes away."""

    def __enter__(self):
        self.path = Path(tempfile.mkdtemp(prefix="exitpoll-test-"))
        return self.path

    def __exit__(self, *unused):
        if os.environ.get("KEEP"):
            print("kept", self.path)
        else:
            shutil.rmtree(self.path, ignore_errors=True)


def run(*arguments, code=0, env=None, stdin=None, timeout=600):
    done = subprocess.run([EXITPOLL, *map(str, arguments)], capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, **(env or {})}, input=stdin)
    if code is not None and done.returncode != code:
        raise Failed(f"exitpoll {' '.join(map(str, arguments))}: exit code {done.returncode}, not {code}\n"
                     f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done


# ---- events ----

def make_events(seed, users=300, items=200, interactions=3000, impressions=600, candidates=8, days=40):
    """A seeded stream with many equal times, late-free, popular items, changed titles and removals."""
    rng = random.Random(seed)
    words = ["lip", "balm", "rose", "night", "cream", "nail", "polish", "hair", "serum", "matte", "brush", "aloe"]
    start = 1_600_000_000_000
    day = 86_400_000
    # Keys are random so that their byte order is not the order in which they are first seen.
    user_ids = [hashlib.sha256(f"u{seed}{i}".encode()).hexdigest()[:12] for i in range(users)]
    item_ids = [hashlib.sha256(f"i{seed}{i}".encode()).hexdigest()[:10] for i in range(items)]

    def title():
        return " ".join(rng.sample(words, rng.randint(2, 5)))

    def when():
        # Days alone give large groups of one time; some times are finer.
        at = start + rng.randrange(days) * day
        return at + (rng.randrange(day) if rng.random() < .5 else 0)

    def pick():
        return item_ids[min(int(rng.paretovariate(.7)) - 1, items - 1)]

    rows = {"item": [], "interaction": [], "impression": []}
    for item in item_ids:
        rows["item"].append({"item_id": item, "title": title(), "attributes": {"brand": rng.choice(words)},
                             "event_time": 0, "deleted": False})
    for _ in range(items // 10):
        rows["item"].append({"item_id": rng.choice(item_ids), "title": title(),
                             "attributes": {"brand": rng.choice(words)}, "event_time": when(), "deleted": False})
    for _ in range(interactions):
        kind = rng.choices(["RATE", "CLICK", "VIEW", "PURCHASE", "REMOVE"], [60, 20, 10, 8, 2])[0]
        rows["interaction"].append({
            "user_id": rng.choice(user_ids), "item_id": pick(), "kind": kind,
            "rating": float(rng.randint(1, 5)) if kind == "RATE" else None,
            "impression_id": None, "event_time": when()})
    rows["interaction"].append({"user_id": user_ids[0], "item_id": None, "kind": "REMOVE", "rating": None,
                                "impression_id": None, "event_time": start + days * day // 2})
    for i in range(impressions):
        count = rng.choice([0, 1, candidates, candidates, candidates])
        rows["impression"].append({
            "impression_id": f"m{i}",
            "user_id": rng.choice(user_ids) if rng.random() < .95 else f"stranger{i}",
            "candidates": [pick() for _ in range(count)], "event_time": when(), "deadline_ms": None})
    keys = {"item": "item_id", "interaction": "user_id", "impression": "user_id"}
    for name, records in rows.items():
        records.sort(key=lambda record: record["event_time"])
    return rows, keys


def write_folder(folder, rows, codec="deflate"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in rows.items():
        with open(folder / f"{TOPIC_OF[name]}.avro", "wb") as out:
            fastavro.writer(out, SCHEMAS[name], records, codec=codec)


def read_file(path):
    with open(path, "rb") as file:
        return list(fastavro.reader(file))


def comparable(predictions, graph_version=True):
    """By impression, without what may differ between runs: scored_time."""
    result = {}
    for prediction in predictions:
        kept = {key: value for key, value in prediction.items() if key != "scored_time"}
        kept["event_time"] = str(kept["event_time"])
        if not graph_version:
            del kept["graph_version"]
        if kept["impression_id"] in result:
            raise Failed(f"impression {kept['impression_id']} was answered twice")
        result[kept["impression_id"]] = kept
    return result


def check_equal(expected, actual, what):
    check(len(expected) == len(actual), f"{what}: {len(actual)} predictions, expected {len(expected)}; missing "
          f"{sorted(set(expected) - set(actual))[:5]}, extra {sorted(set(actual) - set(expected))[:5]}")
    different = [key for key in expected if expected[key] != actual.get(key)]
    check(not different, f"{what}: {len(different)} of {len(expected)} differ, first {different[:3]}:\n"
          f"  expected {expected[different[0]] if different else ''}\n"
          f"  actual   {actual.get(different[0]) if different else ''}")


# ---- Kafka ----

class Broker:
    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="exitpoll-broker-"))
        self.address = self.script("start")

    def script(self, verb, *more):
        done = subprocess.run([str(ROOT / "ops/kafka/broker.sh"), verb, "--dir", str(self.folder), *more],
                              capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"broker.sh {verb}: {done.stderr[-2000:]}")
        lines = done.stdout.strip().splitlines()
        return lines[-1] if lines else ""

    @property
    def url(self):
        return f"kafka://{self.address}"

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.script("stop")
        shutil.rmtree(self.folder, ignore_errors=True)


def create_topics(broker, partitions, *settings):
    run("topics", "create", "--to", broker.url, "--partitions", partitions,
        *[x for setting in settings for x in ("--set", setting)])


def frame(name, record):
    import io
    body = io.BytesIO()
    fastavro.schemaless_writer(body, SCHEMAS[name], record)
    return struct.pack(">bI", 0, SCHEMA_IDS[name]) + body.getvalue()


def produce(broker, rows, keys, prefix="", names=("item", "interaction", "impression")):
    """An independent producer: murmur2 partitioning by key, time order within each topic."""
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.address, "partitioner": "murmur2_random",
                                         "linger.ms": 20, "enable.idempotence": True})
    for name in names:
        for record in rows[name]:
            while True:
                try:
                    producer.produce(prefix + TOPIC_OF[name], key=record[keys[name]].encode(),
                                     value=frame(name, record))
                    break
                except BufferError:
                    producer.poll(.1)
            producer.poll(0)
    check(producer.flush(60) == 0, "the test's producer could not flush")


def consume(broker, topic, expected=None, quiet_s=3.0, timeout_s=120):
    """Everything a read_committed reader sees: (key, value, headers) until `quiet_s` without news."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.address, "group.id": "test-reader",
                                         "isolation.level": "read_committed", "enable.auto.commit": False,
                                         "auto.offset.reset": "earliest"})
    metadata = consumer.list_topics(topic, 20)
    consumer.assign([confluent_kafka.TopicPartition(topic, partition, confluent_kafka.OFFSET_BEGINNING)
                     for partition in metadata.topics[topic].partitions])
    messages, last, began = [], time.time(), time.time()
    while time.time() - last < quiet_s and time.time() - began < timeout_s:
        for message in consumer.consume(1000, .2):
            if message.error():
                continue
            messages.append((message.key(), message.value(), message.headers() or []))
            last = time.time()
        if expected is not None and len(messages) >= expected and quiet_s > 1 and time.time() - last > 1:
            break
    consumer.close()
    return messages


def unframe(name, value):
    import io
    check(value[:1] == b"\0", "no Confluent framing")
    check(struct.unpack(">I", value[1:5])[0] == SCHEMA_IDS[name], "an unexpected schema id")
    return fastavro.schemaless_reader(io.BytesIO(value[5:]), SCHEMAS[name])


def predictions_on(broker, expected=None, topic="predictions", **more):
    result = []
    for key, value, _ in consume(broker, topic, expected, **more):
        prediction = unframe("prediction", value)
        check(key == prediction["user_id"].encode(), "a prediction is not keyed by its user")
        result.append(prediction)
    return result


class Process:
    """The program in the background; its log goes to a file."""

    def __init__(self, log, *arguments):
        self.log = open(log, "ab")
        self.process = subprocess.Popen([EXITPOLL, *map(str, arguments)], stdout=self.log, stderr=self.log)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def stop(self, timeout=30):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout)
        self.log.close()
        return code

    def alive(self):
        return self.process.poll() is None

#!/usr/bin/env python3
"""The other side of test_fastavro.c: fastavro.

back FOLDER             every <type>-<codec>.avro there, read and written again as <type>-<codec>-back.avro
evolve FOLDER SEED N    for every type N files evolved-<type>-<i>.avro of a writer that differs from our
                        schema; beside each what fastavro makes of it: resolved-<type>-<i>.avro holds the
                        records in our schema, verdicts-<type>-<i> one character a record (1 read, 0 refused)
"""
import io
import json
import random
import sys
from pathlib import Path

try:
    import fastavro
    import fastavro.read
    import fastavro.write
except ImportError:
    sys.exit(77)

# Times are numbers here: a datetime does not reach as far as a long.
fastavro.read.LOGICAL_READERS.clear()
fastavro.write.LOGICAL_WRITERS.clear()
TYPES = ["item", "impression", "interaction", "scoring_request", "prediction", "dead_letter"]
try:
    import zstandard  # noqa: F401  fastavro's own way to that codec
    CODECS = ["null", "deflate", "zstandard"]
except ImportError:
    CODECS = ["null", "deflate"]
SCHEMAS = Path(__file__).resolve().parents[3] / "schemas"


def schema_of(name):
    return json.loads((SCHEMAS / f"{name}.avsc").read_text())


def inlined(schema, known=None):
    """References by name replaced by copies in another namespace: where an array of a reader refers to
    a record by name, fastavro 1.9 refuses writers that the specification lets it read."""
    known = {} if known is None else known
    if isinstance(schema, list):
        return [inlined(branch, known) for branch in schema]
    if isinstance(schema, str):
        return {**known[schema], "namespace": "again"} if schema in known else schema
    result = {key: inlined(value, known) if key in ("type", "items", "values") else value
              for key, value in schema.items() if key != "fields"}
    if "fields" in schema:
        result["fields"] = [{**field, "type": inlined(field["type"], known)} for field in schema["fields"]]
        known[schema["name"]] = result
    return result


def back(folder):
    for name in TYPES:
        for codec in CODECS:
            with open(folder / f"{name}-{codec}.avro", "rb") as file:
                records = list(fastavro.reader(file))
            with open(folder / f"{name}-{codec}-back.avro", "wb") as file:
                fastavro.writer(file, fastavro.parse_schema(schema_of(name)), records, codec=codec, sync_interval=2000)


class Writer:
    """Changes a schema as a writer's may differ, and makes records for it."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.names = 0
        self.known = {}

    def once_in(self, n):
        return self.random.randrange(n) == 0

    def named(self, schema):
        self.names += 1
        return {**schema, "namespace": f"n{self.names}.x"}

    def extra(self, depth):
        kind = self.random.randrange(12 if depth else 8)
        if kind < 8:
            return ["null", "boolean", "int", "long", "float", "double", "bytes", "string"][kind]
        if kind == 8:
            return {"type": "array", "items": self.extra(depth - 1)}
        if kind == 9:
            return {"type": "map", "values": self.extra(depth - 1)}
        if kind == 10:
            return self.named({"type": "enum", "name": "extra_enum", "symbols": ["A", "B"]})
        return self.named({"type": "record", "name": "extra_record", "fields":
                           [{"name": f"f{i}", "type": self.extra(depth - 1)} for i in range(self.random.randrange(3))]})

    def record(self, schema):
        self.known[schema["name"]] = schema
        fields = []
        for field in schema["fields"]:
            changed = self.type(field["type"])
            if not ("default" in field and self.once_in(4)):
                fields.append({"name": field["name"], "type": changed})
        for i in range(self.random.randrange(3)):
            fields.append({"name": f"extra{i}", "type": self.extra(2)})
        self.random.shuffle(fields)
        return self.named({"type": "record", "name": schema["name"], "fields": fields})

    def plain(self, schema):
        kind = schema["type"] if isinstance(schema, dict) else schema
        numbers = ["int", "long", "float", "double"]
        if kind in numbers:
            return self.random.choice(numbers[:numbers.index(kind) + 1])
        if kind in ("string", "bytes"):
            return self.random.choice(["string", "bytes"])
        if kind == "record":
            return self.record(schema)
        if kind == "enum":
            symbols = [s for s in schema["symbols"] if not self.once_in(6)] or ["OK"]
            if self.once_in(4):
                symbols.append("UNHEARD_OF")
            self.random.shuffle(symbols)
            return self.named({"type": "enum", "name": schema["name"], "symbols": symbols})
        if kind == "array":
            return {"type": "array", "items": self.type(schema["items"])}
        if kind == "map":
            return {"type": "map", "values": self.type(schema["values"])}
        return self.record(self.known[kind]) if kind in self.known else kind

    def type(self, schema):
        optional = isinstance(schema, list)
        changed = self.plain(schema[1] if optional else schema)
        if self.once_in(2):
            return changed
        union = [changed]
        if optional or self.once_in(3):
            union.append("null")
        self.random.shuffle(union)
        return union

    def value(self, schema, depth=0):
        kind = schema["type"] if isinstance(schema, dict) else schema
        pick = self.random
        if isinstance(schema, list):
            return self.value(pick.choice(schema), depth)
        if kind == "null":
            return None
        if kind == "boolean":
            return pick.random() < 0.5
        if kind == "int":
            return pick.choice([0, -1, 63, 64, 2**31 - 1, -2**31, pick.randrange(1000)])
        if kind == "long":      # what a double holds: fastavro promotes through it
            return pick.choice([0, -1, 2**40, -2**52, pick.randrange(2**45)])
        if kind in ("float", "double"):
            return pick.choice([0.0, -0.5, 4.5, 1024.0])
        if kind == "string":
            return "".join(pick.choice(["a", "é", "漢", " ", "0"]) for _ in range(pick.choice([0, 1, 5, 70])))
        if kind == "bytes":     # may be read as text
            return self.value("string").encode()
        if kind == "enum":
            return pick.choice(schema["symbols"])
        if kind == "array":
            return [self.value(schema["items"], depth + 1) for _ in range(pick.randrange(2 if depth > 2 else 4))]
        if kind == "map":
            return {f"k{i}": self.value(schema["values"], depth + 1) for i in range(pick.randrange(4))}
        return {f["name"]: self.value(f["type"], depth + 1) for f in schema["fields"]}


def evolve(folder, seed, count):
    for number, name in enumerate(TYPES):
        own = schema_of(name)
        reader = fastavro.parse_schema(inlined(own))
        for i in range(count):
            writer = Writer(seed * 1000003 + number * 1009 + i)
            schema = fastavro.parse_schema(writer.record(own))
            records = [writer.value(schema) for _ in range(8)]
            with open(folder / f"evolved-{name}-{i}.avro", "wb") as file:
                fastavro.writer(file, schema, records, codec=CODECS[i % len(CODECS)])
            resolved, verdicts = [], ""
            for record in records:
                body = io.BytesIO()
                fastavro.schemaless_writer(body, schema, record)
                body.seek(0)
                try:
                    resolved.append(fastavro.schemaless_reader(body, schema, reader))
                    verdicts += "1"
                except Exception:       # fastavro raises many kinds for one thing: cannot be read so
                    verdicts += "0"
            (folder / f"verdicts-{name}-{i}").write_text(verdicts)
            with open(folder / f"resolved-{name}-{i}.avro", "wb") as file:
                fastavro.writer(file, reader, resolved)


if sys.argv[1] == "back":
    back(Path(sys.argv[2]))
else:
    evolve(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

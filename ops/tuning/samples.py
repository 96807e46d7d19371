"""Reads a folder that `exitpoll samples` wrote: samples.json and shards of safetensors. Needs numpy alone."""
import json
import struct
from pathlib import Path

import numpy as np

PARTS = ["train", "stopping", "calibration", "thresholds", "test"]
TRAIN, STOPPING, CALIBRATION, THRESHOLDS, TEST = range(5)
TYPES = {"I32": np.int32, "I64": np.int64, "U64": np.uint64, "F32": np.float32, "U8": np.uint8}


def read_tensors(path):
    """{name: array} of one shard, mapped, not read."""
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
    data = np.memmap(path, np.uint8, "r")[8 + size:]
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[begin:end], TYPES[entry["dtype"]]) if end > begin else \
            np.zeros(0, TYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors


class Samples:
    """Impressions are numbered over all shards; (shard, place) of each is in `where` [impressions, 2]."""

    def __init__(self, folder):
        folder = Path(folder)
        if not (folder / "samples.json").exists():
            unfinished = " (the run that writes it is not finished)" if (folder / "samples.part.json").exists() else ""
            raise SystemExit(f"{folder}/samples.json: no such file{unfinished}; `exitpoll samples` writes it")
        self.description = json.loads((folder / "samples.json").read_text())
        if self.description["version"] != 1:
            raise SystemExit(f"{folder}: version {self.description['version']}; this program reads version 1")
        self.shards = [read_tensors(path) for path in sorted(folder.glob("samples-*.safetensors"))]
        if len(self.shards) != self.description["shards"]:
            raise SystemExit(f"{folder}: {len(self.shards)} shards, samples.json says {self.description['shards']}")
        self.where = np.array([(s, i) for s, shard in enumerate(self.shards) for i in range(len(shard["time_ms"]))],
                              np.int64).reshape(-1, 2)
        self.part = np.concatenate([shard["split"] for shard in self.shards])
        self.time_ms = np.concatenate([shard["time_ms"] for shard in self.shards])
        self.clicked = self.description["task"] == "clicked"

    def impressions(self, part):
        return np.flatnonzero(self.part == part)

    def prefix(self, impression):
        shard, i = self.where[impression]
        tensors = self.shards[shard]
        begin, end = tensors["prefix_offsets"][i:i + 2]
        return tensors["prefix_tokens"][begin:end]

    def candidates(self, impression):
        """[(suffix tokens, label)], label NaN where nothing is known."""
        shard, i = self.where[impression]
        tensors = self.shards[shard]
        begin, end = tensors["candidate_offsets"][i:i + 2]
        offsets = tensors["suffix_offsets"]
        return [(tensors["suffix_tokens"][offsets[c]:offsets[c + 1]], float(tensors["labels"][c]))
                for c in range(begin, end)]

    def labelled(self, impression):
        return [(suffix, label) for suffix, label in self.candidates(impression) if label == label]

    def labels(self, impression):
        return self.of_candidates(impression, "labels")

    def features(self, impression):
        """[candidates, features], named by description["features"]."""
        return self.of_candidates(impression, "features")

    def of_candidates(self, impression, name):
        shard, i = self.where[impression]
        begin, end = self.shards[shard]["candidate_offsets"][i:i + 2]
        return self.shards[shard][name][begin:end]

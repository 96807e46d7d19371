#!/usr/bin/env python3
"""Golden numbers for the forward pass, from an implementation that shares nothing with the C one.

Python floats (double) on the random models of tests/unit/scorer/random_model.h, whose weights are float32
from a linear congruence. Writes random_llama.h beside this file: the last token's hidden row after every
layer. Run again only when the generator of the weights changes.
"""
import math
import os
import struct

EMBEDDING, FINAL_NORM, HEAD, ATTENTION_NORM, Q, K, V, O, Q_BIAS, K_BIAS, V_BIAS, MLP_NORM, GATE, UP, DOWN = range(15)
NONE, LINEAR, LLAMA3 = range(3)


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


class Model:
    def __init__(self, shape, seed):
        (self.hidden, self.intermediate, self.layers, self.heads, self.kv_heads, self.size, self.vocabulary,
         self.bias, self.scaling) = shape
        self.seed = seed

    def rows(self, tensor, layer, count, first=0):
        columns = {O: self.heads * self.size, DOWN: self.intermediate}.get(tensor, self.hidden)
        scale, offset = f32(0.3), 0.0
        if tensor in (FINAL_NORM, ATTENTION_NORM, MLP_NORM):
            columns, offset = 1, 1.0
        elif tensor in (Q_BIAS, K_BIAS, V_BIAS):
            columns = 1
        if columns > 1:
            scale = 1.0 if tensor == EMBEDDING else f32(2 / f32(math.sqrt(columns)))
        out = []
        for row in range(first, first + count):
            seed = (self.seed * 7919 + tensor * 104729 + layer * 1299709 + row * 15485863) & 0xffffffff
            seed ^= seed >> 13
            seed = seed * 0x5bd1e995 & 0xffffffff
            values = []
            for _ in range(columns):
                seed = (seed * 1664525 + 1013904223) & 0xffffffff
                values.append(f32(f32(f32(f32((seed >> 8) / 8388608.0) - 1.0) * scale) + offset))
            out.append(values if columns > 1 else values[0])
        return out


def norm(x, weight):
    scale = 1 / math.sqrt(sum(v * v for v in x) / len(x) + f32(1e-5))
    return [v * scale * w for v, w in zip(x, weight)]


def times(rows, x, bias=None):
    return [sum(w * v for w, v in zip(row, x)) + (bias[i] if bias else 0) for i, row in enumerate(rows)]


def frequency(model, i):
    value = 10000.0 ** (-2 * i / model.size)
    if model.scaling == LINEAR:
        return value / 4
    if model.scaling == LLAMA3:
        wavelength = 2 * math.pi / value
        if wavelength > 128 / 1:
            return value / 4
        if wavelength >= 128 / 4:
            ramp = (128 / wavelength - 1) / (4 - 1)
            return (1 - ramp) * value / 4 + ramp * value
    return value


def rotate(model, x, position):
    half, out = model.size // 2, list(x)
    for base in range(0, len(x), model.size):
        for i in range(half):
            angle = position * frequency(model, i)
            a, b = x[base + i], x[base + half + i]
            out[base + i] = a * math.cos(angle) - b * math.sin(angle)
            out[base + half + i] = b * math.cos(angle) + a * math.sin(angle)
    return out


def forward(model, ids):
    """The last token's hidden row after 0, 1, ... layers."""
    m = model
    x = [m.rows(EMBEDDING, 0, 1, token)[0] for token in ids]
    states = [x[-1]]
    group = m.heads // m.kv_heads
    for layer in range(m.layers):
        q, k, v = (m.rows(t, layer, n * m.size) for t, n in ((Q, m.heads), (K, m.kv_heads), (V, m.kv_heads)))
        bq, bk, bv = (m.rows(t, layer, n * m.size) if m.bias else None
                      for t, n in ((Q_BIAS, m.heads), (K_BIAS, m.kv_heads), (V_BIAS, m.kv_heads)))
        o = m.rows(O, layer, m.hidden)
        gate, up = m.rows(GATE, layer, m.intermediate), m.rows(UP, layer, m.intermediate)
        down = m.rows(DOWN, layer, m.hidden)
        before, after = m.rows(ATTENTION_NORM, layer, m.hidden), m.rows(MLP_NORM, layer, m.hidden)
        normed = [norm(row, before) for row in x]
        queries = [rotate(m, times(q, row, bq), p) for p, row in enumerate(normed)]
        keys = [rotate(m, times(k, row, bk), p) for p, row in enumerate(normed)]
        values = [times(v, row, bv) for row in normed]
        for p in range(len(x)):
            mixed = []
            for head in range(m.heads):
                own, shared = head * m.size, head // group * m.size
                scores = [sum(queries[p][own + i] * keys[t][shared + i] for i in range(m.size)) / math.sqrt(m.size)
                          for t in range(p + 1)]
                weights = [math.exp(s - max(scores)) for s in scores]
                mixed += [sum(w * values[t][shared + i] for t, w in enumerate(weights)) / sum(weights)
                          for i in range(m.size)]
            x[p] = [a + b for a, b in zip(x[p], times(o, mixed))]
        for p in range(len(x)):
            row = norm(x[p], after)
            inner = [g / (1 + math.exp(-g)) * u for g, u in zip(times(gate, row), times(up, row))]
            x[p] = [a + b for a, b in zip(x[p], times(down, inner))]
        states.append(x[-1])
    return states


SHAPES = [(48, 40, 4, 3, 1, 16, 64, True, NONE), (32, 56, 2, 4, 4, 8, 77, False, LINEAR),
          (40, 72, 3, 6, 2, 12, 50, True, LLAMA3)]
IDS = [3, 17, 0, 49, 22, 22, 8, 31, 5, 40, 1, 12, 33, 2, 47, 9, 6, 28, 19, 44, 11, 7, 36]


def main():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "random_llama.h")
    with open(path, "w") as out:
        out.write("/* random_llama.h - written by random_llama.py: the last token's hidden row after every layer. */\n"
                  "#ifndef EXITPOLL_TESTS_GOLDEN_SCORER_RANDOM_LLAMA_H\n"
                  "#define EXITPOLL_TESTS_GOLDEN_SCORER_RANDOM_LLAMA_H\n\n"
                  "#include \"tests/unit/scorer/random_model.h\"\n\n")
        out.write(f"enum {{ GOLDEN_MODELS = {len(SHAPES)}, GOLDEN_TOKENS = {len(IDS)} }};\n")
        out.write("static const int32_t golden_ids[GOLDEN_TOKENS] = {\n\t" + ", ".join(map(str, IDS)) + ",\n};\n")
        names = ["ROPE_SCALING_NONE", "ROPE_SCALING_LINEAR", "ROPE_SCALING_LLAMA3"]
        out.write("static const struct random_shape golden_shapes[GOLDEN_MODELS] = {\n")
        for shape in SHAPES:
            out.write("\t{" + ", ".join(map(str, shape[:7])) +
                      f", {'true' if shape[7] else 'false'}, {names[shape[8]]}}},\n")
        out.write("};\n")
        for number, shape in enumerate(SHAPES):
            states = forward(Model(shape, number + 11), IDS)
            flat = [f"{v:.9g}" for state in states for v in state]
            out.write(f"static const double golden_{number}[] = {{\n")
            for i in range(0, len(flat), 8):
                out.write("\t" + ", ".join(flat[i:i + 8]) + ",\n")
            out.write("};\n")
        out.write("static const double *const golden_states[GOLDEN_MODELS] = {" +
                  ", ".join(f"golden_{i}" for i in range(len(SHAPES))) + "};\n\n#endif\n")


main()

#!/usr/bin/env python3
"""Writes a Hugging Face folder (config.json, model.safetensors in fp32) from a GGUF file of the Llama family, for
tools that cannot read GGUF. Quantised weights are dequantised: what the scorer computes with.

    hf_folder.py SmolLM2-135M-Instruct.Q4_1.gguf smollm2-hf
"""
import json
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFReader, dequantize
from safetensors.numpy import save_file

NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
         "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def name_of(gguf):
    fixed = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
             "output.weight": "lm_head.weight"}
    if gguf in fixed:
        return fixed[gguf]
    _, layer, part, kind = gguf.split(".")
    return f"model.layers.{layer}.{NAMES[part]}.{kind}"


def unpermute(rows, heads):
    """GGUF's Llama keeps q and k rows interleaved for its RoPE; Hugging Face rotates halves."""
    size = rows.shape[0] // heads
    return rows.reshape(heads, size // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    reader = GGUFReader(sys.argv[1])
    out = Path(sys.argv[2])

    def field(name, default=None):
        entry = reader.fields.get(f"{architecture}.{name}")
        return default if entry is None else entry.contents()

    architecture = reader.fields["general.architecture"].contents()
    if architecture not in ("llama", "qwen2"):
        raise SystemExit(f"{sys.argv[1]}: architecture {architecture}; llama and qwen2 are supported")
    if reader.fields.get(f"{architecture}.rope.scaling.type") or any(t.name == "rope_freqs.weight"
                                                                    for t in reader.tensors):
        raise SystemExit(f"{sys.argv[1]}: RoPE scaling is not written by this script")
    heads, kv_heads = field("attention.head_count"), field("attention.head_count_kv", field("attention.head_count"))
    tensors = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        values = values.reshape([int(n) for n in reversed(tensor.shape)])
        if architecture == "llama" and (".attn_q." in tensor.name or ".attn_k." in tensor.name):
            values = unpermute(values, heads if ".attn_q." in tensor.name else kv_heads)
        tensors[name_of(tensor.name)] = np.ascontiguousarray(values)
    config = {
        "architectures": ["LlamaForCausalLM" if architecture == "llama" else "Qwen2ForCausalLM"],
        "model_type": architecture, "hidden_act": "silu", "torch_dtype": "float32",
        "hidden_size": field("embedding_length"), "intermediate_size": field("feed_forward_length"),
        "num_hidden_layers": field("block_count"), "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "max_position_embeddings": field("context_length"), "rope_theta": field("rope.freq_base", 10000.0),
        "rms_norm_eps": field("attention.layer_norm_rms_epsilon"), "rope_scaling": None,
        "vocab_size": int(tensors["model.embed_tokens.weight"].shape[0]),
        "tie_word_embeddings": "lm_head.weight" not in tensors,
    }
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    print(f"{out}: {len(tensors)} tensors of {config['num_hidden_layers']} layers, width {config['hidden_size']}")


if __name__ == "__main__":
    main()

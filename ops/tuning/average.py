#!/usr/bin/env python3
"""The mean of adapters that were tuned from the same start in another order (tune.py --order): what the order taught
cancels, what the samples taught stays. A and B are averaged apart, which is near the mean of their products while the
runs are near each other: judge the result on validation (exitpoll fit-heads) beside the single runs.

    average.py --out tuned tuned-1 tuned-2
"""
import argparse
import json
import shutil
from pathlib import Path

from safetensors.numpy import load_file, save_file


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, metavar="DIR", help="the new bundle")
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE", help="as tune.py writes them")
    options = parser.parse_args()
    adapters = [load_file(f"{bundle}/adapter/adapter_model.safetensors") for bundle in options.bundles]
    configs = [json.loads(Path(bundle, "adapter", "adapter_config.json").read_text()) for bundle in options.bundles]
    for bundle, adapter, config in zip(options.bundles, adapters, configs):
        if {k: v.shape for k, v in adapter.items()} != {k: v.shape for k, v in adapters[0].items()} or \
                any(config[key] != configs[0][key] for key in ("r", "lora_alpha")):
            raise SystemExit(f"{bundle}: another form than {options.bundles[0]}")
    out = Path(options.out)
    (out / "adapter").mkdir(parents=True, exist_ok=True)
    mean = {name: sum(adapter[name] for adapter in adapters) / len(adapters) for name in adapters[0]}
    save_file(mean, out / "adapter" / "adapter_model.safetensors", metadata={"format": "pt"})
    (out / "adapter" / "adapter_config.json").write_text(json.dumps(configs[0], indent=2, sort_keys=True))
    described = [json.loads(Path(bundle, "exitpoll.json").read_text()) for bundle in options.bundles]
    mine = {**described[0], "name": out.name, "trained_until": max(d["trained_until"] for d in described)}
    (out / "exitpoll.json").write_text(json.dumps(mine, indent=2) + "\n")
    if Path(options.bundles[0], "template.txt").exists():
        shutil.copy(Path(options.bundles[0], "template.txt"), out / "template.txt")
    print(f"{out}: the mean of {len(adapters)} adapters, {len(mean)} tensors")


if __name__ == "__main__":
    main()

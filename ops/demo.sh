#!/usr/bin/env bash
# demo.sh - the quick start: sets the machine up, builds, fetches a small language model, and ranks real
# products for real users.
#
#   ops/demo.sh             everything (root or sudo is needed once, for Debian packages)
#   ops/demo.sh --no-setup  without looking at the machine's packages
#   ops/demo.sh --show N    how many impressions are shown (4)
#
# Reads the excerpt of Amazon Beauty in ops/demo-data, writes to demo-output/. A second run has nothing to
# install and needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."

setup=1 show=4
while [ $# -gt 0 ]; do
  case "$1" in
    --no-setup) setup=0 ;;
    --show) show="$2"; shift ;;
    -h|--help) sed -n '2,10p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
    *) echo "demo: unknown option $1 (ops/demo.sh --help)" >&2; exit 64 ;;
  esac
  shift
done

began=$(date +%s)
[ $setup = 0 ] || ops/setup.sh --model
model="${EXITPOLL_CACHE:-$HOME/.cache/exitpoll}/models/SmolLM2-135M-Instruct.Q4_1.gguf"

echo "demo: building"
log="$(mktemp)"
if ! { cmake --preset release && cmake --build --preset release --target exitpoll; } >"$log" 2>&1; then
  tail -n 30 "$log" >&2
  echo "demo: the build failed (whole output: $log)" >&2
  exit 70
fi
rm -f "$log"

out=demo-output
echo "demo: importing the excerpt of Amazon Beauty"
build/exitpoll import --interactions ops/demo-data/beauty_interactions.tsv.xz \
  --items ops/demo-data/beauty_items.tsv.xz --out "$out/events" --impressions last:0.005 --candidates 8 \
  --skip-new --label 'rating>=4' --attribute 'brand=first-word(title)' --force
echo "demo: scoring with SmolLM2-135M-Instruct ($(($(date +%s) - began)) s since the start)"
# The bundle's heads were trained on what Amazon Beauty had before the excerpt begins
# (ops/tuning/demo_bundle.sh), with short histories and titles, for two cores without AVX-512; the same serve.
bundle="$out/bundle"
rm -rf "$bundle"
cp -r ops/demo-data/bundle "$bundle"
ln -s "$model" "$bundle/$(basename "$model")"
build/exitpoll run --from "$out/events" --to "$out" --model "$bundle" --set statistics.attributes=brand \
  --set enrichment.history_max=4 --set enrichment.examples_max=2 --set enrichment.example_history_max=1 \
  --set item.text_bytes_max=48 --show "$show" --force --set log.level=warning
echo "demo: what happened afterwards, and what popularity alone would have said"
build/exitpoll evaluate --predictions "$out" --events "$out/events" --brief
echo "demo: done in $(($(date +%s) - began)) s"

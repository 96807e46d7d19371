#!/usr/bin/env bash
# demo_bundle.sh - makes the demo's bundle again: exit heads for the *clicked* task (which of eight products was
# taken), trained on Amazon Beauty's events before those of the demo's excerpt, on SmolLM2.
#
#   ops/tuning/demo_bundle.sh INTERACTIONS ITEMS [WORK] [BUNDLE]
#
# INTERACTIONS and ITEMS are the complete tables that ops/demo-data/make.py reads. WORK keeps events, samples,
# runs and hidden states (a second run goes on where the first one was); BUNDLE gets heads, policy and report.
# The statistics' own model learns from all impressions; hidden states, which cost a forward pass, are computed for
# HIDDEN_SAMPLES training impressions, half as many of each other part, and THRESHOLD_SAMPLES of the threshold part.
# WORDING=terse takes the prompt of ops/tuning/terse.txt (210 tokens an impression of eight instead of 561) and a history
# of 6 instead of 4, which ops/demo.sh must then have too. TUNE=1 (with it) tunes the backbone first (PyTorch in
# TUNING_PYTHON, ops/tuning/README.md) and adds its adapter: hours on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ $# -lt 2 ]; then
  sed -n '2,13p' "$0" | sed 's/^# \{0,1\}//'
  exit 64
fi
interactions="$1" items="$2" work="${3:-demo-bundle-work}" bundle="${4:-ops/demo-data/bundle}"
exitpoll="${EXITPOLL:-build/exitpoll}"
python="${TUNING_PYTHON:-$HOME/.cache/exitpoll/tuning/bin/python}"
model="${EXITPOLL_CACHE:-$HOME/.cache/exitpoll}/models/SmolLM2-135M-Instruct.Q4_1.gguf"
history=4 exits=5,10 template=
if [ "${WORDING:-chatml}" = terse ] || [ -n "${TUNE:-}" ]; then
  history=6 exits=5,8 template=ops/tuning/terse.txt
fi
# The first day of the excerpt: its 730 days end with the set, on 2014-07-23.
excerpt_begins=1343001600

mkdir -p "$work"
table() { case "$1" in *.xz) xz -dc "$1" ;; *) cat "$1" ;; esac; }
table "$interactions" | awk -F '\t' -v end=$excerpt_begins 'NR == 1 || $4 < end' > "$work/before.tsv"
echo "demo bundle: $(($(wc -l < "$work/before.tsv") - 1)) interactions before the excerpt"

# Short histories and titles, for two cores without AVX-512; the demo serves with the same.
settings=(--set statistics.attributes=brand --set enrichment.history_max=$history --set enrichment.examples_max=2
  --set enrichment.example_history_max=1 --set item.text_bytes_max=48 --set log.level=warning
  ${template:+--set scorer.template=$template})
if [ ! -e "$work/samples/samples.json" ]; then
  "$exitpoll" import --interactions "$work/before.tsv" --items "$items" --out "$work/events" \
    --impressions last:0.5 --candidates 8 --skip-new --label 'rating>=4' \
    --attribute 'brand=first-word(title)' --force
  "$exitpoll" samples --from "$work/events" --out "$work/samples" --model "$model" "${settings[@]}"
fi

backbone="$model"
if [ -n "${TUNE:-}" ]; then
  backbone="$work/tuned"
  [ -e "$work/model-hf/config.json" ] || "$python" ops/tuning/hf_folder.py "$model" "$work/model-hf"
  [ -e "$backbone/exitpoll.json" ] || nice -n 5 "$python" ops/tuning/tune.py --samples "$work/samples" \
    --model "$work/model-hf" --scorer-model "$model" --template $template --out "$backbone" \
    --offset statistics --scale .3 --history-min 1 --first-layer 4 --layers 8 --exits 5 \
    --modules q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj --learning-rate 1.5e-3 --batch 8 \
    --steps "${STEPS:-800}" --validate-every 40 --validate-impressions 256
  "$python" ops/tuning/parity.py --samples "$work/samples" --model "$work/model-hf" --bundle "$backbone" \
    --exitpoll "$exitpoll"
fi
# A tuned bundle has its wording with it.
wording=()
[ -n "${TUNE:-}" ] || wording=(${template:+--template "$template"})
nice -n 10 "$exitpoll" fit-heads --samples "$work/samples" --model "$backbone" "${wording[@]}" --out "$bundle" --force \
  --name beauty-clicked --portable --exits "${EXITS:-$exits}" --rule "${RULE:-confidence}" \
  --hidden-samples "${HIDDEN_SAMPLES:-160}" --threshold-samples "${THRESHOLD_SAMPLES:-240}" --clip 0.05
if [ -n "${TUNE:-}" ]; then
  mkdir -p "$bundle/adapter"
  for file in adapter_config.json adapter_model.safetensors; do
    cp "$backbone/adapter/$file" "$bundle/adapter/$file"
  done
fi

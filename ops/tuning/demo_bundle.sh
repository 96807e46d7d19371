#!/usr/bin/env bash
# demo_bundle.sh - makes the demo's bundle again: exit heads for the *clicked* task (which of eight products was
# taken), trained on Amazon Beauty's events before those of the demo's excerpt, on untuned SmolLM2.
#
#   ops/tuning/demo_bundle.sh INTERACTIONS ITEMS [WORK] [BUNDLE]
#
# INTERACTIONS and ITEMS are the complete tables that ops/demo-data/make.py reads. WORK keeps events, samples and
# hidden states (a second run goes on where the first one was); BUNDLE gets heads, policy and report.
# HIDDEN_SAMPLES (160) training impressions get hidden states, and half as many of each other part: that is
# what two busy cores compute in half an hour. The statistics' own model learns from all. THRESHOLD_SAMPLES (240)
# impressions of the threshold part get them, for a test on enough users.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ $# -lt 2 ]; then
  sed -n '2,12p' "$0" | sed 's/^# \{0,1\}//'
  exit 64
fi
interactions="$1" items="$2" work="${3:-demo-bundle-work}" bundle="${4:-ops/demo-data/bundle}"
exitpoll="${EXITPOLL:-build/exitpoll}"
model="${EXITPOLL_CACHE:-$HOME/.cache/exitpoll}/models/SmolLM2-135M-Instruct.Q4_1.gguf"
# The first day of the excerpt: its 730 days end with the set, on 2014-07-23.
excerpt_begins=1343001600

mkdir -p "$work"
table() { case "$1" in *.xz) xz -dc "$1" ;; *) cat "$1" ;; esac; }
table "$interactions" | awk -F '\t' -v end=$excerpt_begins 'NR == 1 || $4 < end' > "$work/before.tsv"
echo "demo bundle: $(($(wc -l < "$work/before.tsv") - 1)) interactions before the excerpt"

# Short histories and titles, for two cores without AVX-512; the demo serves with the same.
settings=(--set statistics.attributes=brand --set enrichment.history_max=4 --set enrichment.examples_max=2
  --set enrichment.example_history_max=1 --set item.text_bytes_max=48 --set log.level=warning)
if [ ! -e "$work/samples/samples.json" ]; then
  "$exitpoll" import --interactions "$work/before.tsv" --items "$items" --out "$work/events" \
    --impressions last:0.5 --candidates 8 --skip-new --label 'rating>=4' \
    --attribute 'brand=first-word(title)' --force
  "$exitpoll" samples --from "$work/events" --out "$work/samples" --model "$model" "${settings[@]}"
fi
nice -n 10 "$exitpoll" fit-heads --samples "$work/samples" --model "$model" --out "$bundle" --force \
  --name beauty-clicked --portable --exits "${EXITS:-5,10}" --rule "${RULE:-confidence}" \
  --hidden-samples "${HIDDEN_SAMPLES:-160}" --threshold-samples "${THRESHOLD_SAMPLES:-240}" --clip 0.05

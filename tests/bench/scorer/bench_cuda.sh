#!/usr/bin/env bash
# bench_cuda.sh - the GPU's figures by one command: sets up, builds, checks that scores agree, measures.
#
#   tests/bench/scorer/bench_cuda.sh             prints the rows; under ten minutes on one H100 or H200
#   tests/bench/scorer/bench_cuda.sh --write     ... and appends them to tests/bench/RESULTS.md
#   tests/bench/scorer/bench_cuda.sh --emulated  no GPU: runs the same steps on the emulated device, tiny shapes
#   tests/bench/scorer/bench_cuda.sh --no-setup  as the first, without looking at the machine's packages
#   tests/bench/scorer/bench_cuda.sh --sanitize  ... and the tests once under each of compute-sanitizer's tools
#
# Needs no Kafka. BUILD names the build folder (build-cuda), NVCC another compiler, PEER_PYTHON a Python with torch and
# transformers for the peer's rows.
set -euo pipefail
cd "$(dirname "$0")/../../.."

write=0 emulated=0 setup=1 sanitize=0
for argument in "$@"; do
  case "$argument" in
    --write) write=1 ;;
    --emulated) emulated=1 ;;
    --no-setup) setup=0 ;;
    --sanitize) sanitize=1 ;;
    -h|--help) sed -n '2,11p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
    *) echo "bench_cuda: unknown option $argument (--help)" >&2; exit 64 ;;
  esac
done
build="$(realpath -m "${BUILD:-build-cuda}")"
say() { printf 'bench_cuda: %s\n' "$*" >&2; }

options=(-DCMAKE_BUILD_TYPE=Release -DEXITPOLL_WERROR=ON -DEXITPOLL_KAFKA=OFF)
if [ $emulated = 1 ]; then
  options+=(-DEXITPOLL_CUDA=OFF)
else
  [ $setup = 0 ] || ops/setup.sh --cuda --model >&2
  options+=(-DEXITPOLL_CUDA=ON)
fi
[ -z "${NVCC:-}" ] || options+=("-DEXITPOLL_NVCC=$NVCC")
begin=$SECONDS
cmake -S . -B "$build" -G Ninja "${options[@]}" > "$build.log" 2>&1 || { tail -n 20 "$build.log" >&2; exit 70; }
targets=(unit_scorer_test_cuda unit_scorer_test_cuda_pass unit_scorer_test_cuda_smollm2 bench_cuda exitpoll)
[ $emulated = 1 ] || targets+=(exitpoll_cuda)
cmake --build "$build" --target "${targets[@]}" >> "$build.log" 2>&1 || { tail -n 20 "$build.log" >&2; exit 70; }
rm -f "$build.log"
say "built in $((SECONDS - begin)) s"

arguments=()
if [ $emulated = 1 ]; then
  export EXITPOLL_CUDA_LIBRARY="$build/libexitpoll-cuda-emulated.so"
  arguments=(--small)
else
  export EXITPOLL_CUDA_LIBRARY="$build/libexitpoll-cuda.so"
  export EXITPOLL_TEST_CUDA_LIBRARY="$EXITPOLL_CUDA_LIBRARY"
  "$build/exitpoll" inspect --device >&2
  command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv >&2
fi

say "scores against the reference backend"
# A fork after the device was taken would lose it: one process for all cases.
CK_FORK=no "$build/unit_scorer_test_cuda" >&2
CK_FORK=no "$build/unit_scorer_test_cuda_pass" >&2
CK_FORK=no "$build/unit_scorer_test_cuda_smollm2" >&2
if [ $sanitize = 1 ]; then
  if sanitizer="$(command -v compute-sanitizer)"; then
    for tool in memcheck racecheck initcheck synccheck; do
      say "compute-sanitizer $tool"
      CK_FORK=no "$sanitizer" --tool "$tool" --error-exitcode 1 "$build/unit_scorer_test_cuda" >&2
      CK_FORK=no "$sanitizer" --tool "$tool" --error-exitcode 1 "$build/unit_scorer_test_cuda_pass" >&2
    done
  else
    say "compute-sanitizer is not installed: left out"
  fi
fi

# GPU busy while a stream of real impressions is scored from files, all layers; from the first busy sample on.
stream_row() {
  local folder sampler row
  folder="$(mktemp -d)"
  "$build/exitpoll" import --interactions ops/demo-data/beauty_interactions.tsv.xz --items \
    ops/demo-data/beauty_items.tsv.xz --out "$folder/events" --impressions last:0.1 --candidates 8 >&2
  nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits -lms 100 > "$folder/busy" &
  sampler=$!
  "$build/exitpoll" run --from "$folder/events" --to "$folder/out" --model "$1" --set exit.rule=none \
    --set scorer.batch_requests_max=256 --set log.level=warning > "$folder/log" || true
  kill "$sampler" 2> /dev/null || true
  row="$(awk '$1 > 0 { begun = 1 } begun { line[++n] = $1; if ($1 > 0) end = n }
    END { for (i = 1; i <= end; i++) sum += line[i]
          if (end) printf "    GPU busy from files, SmolLM2: %.2f (target .95, %d samples)", sum / end / 100, end }' \
    "$folder/busy")"
  printf '%s\n' "${row:-    GPU busy from files: no busy sample was seen}"
  grep -h impressions/s "$folder/log" | sed 's/^/    /' || true
  rm -rf "$folder"
}

say "measuring"
rows="$("$build/bench_cuda" ${arguments[@]+"${arguments[@]}"})"
printf '%s\n' "$rows"
# A small model, whose launches cost more than their work, and how busy a stream keeps the GPU.
model="${EXITPOLL_SMOLLM2:-${EXITPOLL_CACHE:-$HOME/.cache/exitpoll}/models/SmolLM2-135M-Instruct.Q4_1.gguf}"
if [ $emulated = 1 ]; then
  :       # hours, and no figure
elif [ -e "$model" ]; then
  say "measuring SmolLM2"
  small_rows="$("$build/exitpoll" bench --only scorer --model "$model" | sed 's/^/    /')"
  command -v nvidia-smi > /dev/null && small_rows+=$'\n\n'"$(stream_row "$model")"
  printf '\n%s\n' "$small_rows"
  rows+=$'\n\n'"$small_rows"
else
  say "$model is not here (ops/setup.sh --model): SmolLM2's rows are left out"
fi
# The peer's rows, where its libraries are: PEER_PYTHON names a Python with torch and transformers.
peer="${PEER_PYTHON:-python3}"
if "$peer" -c 'import torch, transformers' 2> /dev/null; then
  say "measuring transformers"
  small=()
  [ $emulated = 0 ] || small=(--small)
  peer_rows="$("$peer" tests/bench/scorer/cuda_peer.py ${small[@]+"${small[@]}"} || true)"
  printf '\n%s\n' "$peer_rows"
  rows+=$'\n\n'"$peer_rows"
else
  say "$peer has no torch and transformers: the peer's rows are left out (PEER_PYTHON names another)"
fi
if [ $write = 1 ]; then
  [ $emulated = 0 ] || { say "an emulated device has no figures to write"; exit 64; }
  {
    printf '\n## On a GPU\n\n`tests/bench/scorer/bench_cuda.sh --write`, %s.\n\n' "$(date -u +%F)"
    printf '%s\n' "$rows"
  } >> tests/bench/RESULTS.md
  say "written to tests/bench/RESULTS.md"
fi
say "done in $((SECONDS - begin)) s"

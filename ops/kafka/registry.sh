#!/usr/bin/env bash
# registry.sh - a real schema registry (Apicurio) for tests and first steps, on the loopback interface.
#
#   registry.sh start   [--dir D] [--port N] [--set NAME=VALUE]...
#                       starts it and returns when it serves; the last line of standard output is the
#                       URL of its Confluent API, as `schema.registry` wants it. Already running:
#                       prints the URL. --set: a Java property, e.g. --set quarkus.http.auth.basic=true
#   registry.sh stop    [--dir D] [--keep]   ends it in order; removes its data unless --keep
#   registry.sh restart [--dir D]            in order, keeping data and port; prints the URL
#   registry.sh kill    [--dir D]            SIGKILL at once, data stay. `start` brings it back
#   registry.sh status  [--dir D]            prints the URL; exit code 1 when it does not run
#   registry.sh fetch                        downloads it into the cache without starting it
#
# D is one registry's folder (data, log); any number of them run side by side. The default is
# ${TMPDIR:-/tmp}/exitpoll-registry-<user id>. Messages go to standard error, exit code 1 is a failure.
# Apicurio comes from Maven Central on first use and stays in ${EXITPOLL_CACHE:-~/.cache/exitpoll};
# afterwards no network is needed. Needs Java 17 and, for the first use, Maven.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

registry_version=2.6.13.Final
app="$cache/apicurio-$registry_version"
runner="$app/apicurio-registry-app-$registry_version-runner.jar"
api_path=/apis/ccompat/v7

fetch_locked() {
	local work
	[ -e "$app/complete" ] && return 0
	need_maven "Apicurio Registry $registry_version"
	say "registry.sh: fetching Apicurio Registry $registry_version (140 MB, once) into $app"
	work=$(mktemp -d "$cache/fetch.XXXXXX")
	if ! (cd "$work" && mvn -B -q dependency:copy -DoutputDirectory="$work" \
		"-Dartifact=io.apicurio:apicurio-registry-app:$registry_version:tar.gz:all" &&
		mkdir app && tar -xzf ./*.tar.gz -C app) >"$work/log" 2>&1; then
		tail -n 20 "$work/log" >&2
		rm -rf "$work"
		die "Maven could not fetch Apicurio Registry (see above); is there a network?"
	fi
	touch "$work/app/complete"
	rm -rf "$app"
	mv "$work/app" "$app"
	rm -rf "$work"
}

# The one check that runs every time costs no process.
fetch() { [ -e "$app/complete" ] || with_cache_lock fetch_locked; }

# 0: serves, 1: failed, 2: its port was taken.
boot() { # DIR PORT
	local dir=$1 port=$2 from line options=()
	while IFS= read -r line; do
		options+=("-D$line")
	done <"$dir/options"
	from=$(($(stat -c %s "$dir/log" 2>/dev/null || echo 0) + 1))
	launch "$dir" -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
		-Dquarkus.http.host=127.0.0.1 "-Dquarkus.http.port=$port" -Dquarkus.log.level=WARN \
		"-DREGISTRY_DATASOURCE_URL=jdbc:h2:file:$dir/data/registry;WRITE_DELAY=0" \
		${options[@]+"${options[@]}"} -jar "$runner"
	for _ in $(seq 1200); do
		# Whatever its status, an answer to a request (not just an open port) means that it serves.
		if answers "$port"; then
			return 0
		fi
		if ! running "$dir"; then
			tail -c "+$from" "$dir/log" | grep -qiE 'already (in use|bound)|BindException' && return 2
			return 1
		fi
		sleep 0.1
	done
	return 1
}

answers() { # PORT
	local reply
	{
		exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
		printf 'GET %s/subjects HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$api_path" >&3
		IFS= read -r -t 10 reply <&3 || reply=
		exec 3>&-
	} 2>/dev/null
	case "$reply" in
	HTTP/1.?\ [1-4]*) return 0 ;;
	*) return 1 ;;
	esac
}

start() { # DIR PORT OPTIONS...
	local dir=$1 port=$2 code new=0 chosen
	shift 2
	if running "$dir"; then
		cat "$dir/address"
		return 0
	fi
	fetch
	if [ ! -e "$dir/options" ]; then
		[ -z "$(ls -A -I .lock "$dir")" ] || die "$dir is neither empty nor the folder of a registry"
		new=1
		: >"$dir/options"
	fi
	[ $# -eq 0 ] || printf '%s\n' "$@" >>"$dir/options"
	mkdir -p "$dir/data"
	for try in 1 2 3 4 5; do
		if [ "$new" -eq 1 ]; then
			chosen=${port:-$(free_port)}
			printf 'http://127.0.0.1:%s%s\n' "$chosen" "$api_path" >"$dir/address"
		else
			chosen=$(sed 's|^http://127.0.0.1:\([0-9]*\)/.*|\1|' "$dir/address")
		fi
		code=0
		boot "$dir" "$chosen" || code=$?
		[ "$code" -ne 0 ] || break
		halt "$dir" KILL 5
		# Between choosing a port and using it somebody else may have taken it.
		[ "$code" -eq 2 ] && [ "$new" -eq 1 ] && [ -z "$port" ] && [ "$try" -lt 5 ] && continue
		tail -n 20 "$dir/log" >&2
		[ "$code" -ne 2 ] || die "the port $chosen is taken"
		die "the registry did not start; the end of $dir/log is above"
	done
	cat "$dir/address"
}

stop() { # DIR KEEP
	halt "$1" TERM 20
	[ "$2" -eq 0 ] || return 0
	# Only what start made: the folder may be one that the caller shares with others.
	rm -rf "$1/data" "$1/log" "$1/address" "$1/pid" "$1/.lock" "$1/options"
	rmdir "$1" 2>/dev/null || true
}

usage() { sed -n '2,/^\. /{/^#/!d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

command="${1:-help}"
[ $# -eq 0 ] || shift
dir="${TMPDIR:-/tmp}/exitpoll-registry-$(id -u)"
port=
keep=0
settings=()
while [ $# -gt 0 ]; do
	case "$1" in
	--dir | --port | --set)
		[ $# -ge 2 ] || die "$1 needs a value"
		case "$1" in
		--dir) dir=$2 ;;
		--port) port=$2 ;;
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
start) with_instance_lock "$dir" start "$dir" "$port" ${settings[@]+"${settings[@]}"} ;;
stop) with_instance_lock "$dir" stop "$dir" "$keep" ;;
restart)
	[ -e "$dir/options" ] || die "no registry was started in $dir"
	with_instance_lock "$dir" halt "$dir" TERM 20
	with_instance_lock "$dir" start "$dir" ""
	;;
kill) with_instance_lock "$dir" halt "$dir" KILL 5 ;;
status) running "$dir" && cat "$dir/address" ;;
fetch) fetch ;;
help | --help | -h) usage ;;
*) die "unknown command $command; see $0 --help" ;;
esac

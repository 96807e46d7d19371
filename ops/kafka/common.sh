# common.sh - what broker.sh and registry.sh share: the cache, one instance per folder, start and stop
# of a Java process. Sourced, never run.
#
# An instance is a folder: address, pid, log and data. Its process is known by its pid *and* by the
# folder's name in its command line, so that a pid that was given to somebody else is never signalled.
set -euo pipefail

cache="${EXITPOLL_CACHE:-$HOME/.cache/exitpoll}"

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

# Prints the path of a Java of version 17 or later.
find_java() {
	local java version
	java="${JAVA_HOME:+$JAVA_HOME/bin/}java"
	command -v "$java" >/dev/null ||
		die "no Java found; install it (Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME"
	version=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
	[ "${version:-0}" -ge 17 ] || die "Java ${version:-of an unknown version} found, 17 or later is needed"
	printf '%s\n' "$java"
}

need_maven() {
	command -v mvn >/dev/null ||
		die "mvn is needed once, to fetch $1 into $cache (Debian: apt-get install maven)"
}

# with_cache_lock FUNCTION: only one process at a time fills the cache.
with_cache_lock() {
	mkdir -p "$cache"
	(
		flock 9
		"$1"
	) 9>"$cache/.lock"
}

# with_instance_lock DIR FUNCTION ARGUMENTS...: one command at a time changes an instance.
with_instance_lock() {
	local dir=$1
	shift
	if [ ! -d "$dir" ]; then
		"$@"
		return
	fi
	(
		flock 8
		"$@"
	) 8>"$dir/.lock"
}

# A port of 20000..29999 (below those that the kernel gives out by itself) that nobody listens on.
free_port() {
	local port
	for _ in $(seq 100); do
		port=$((20000 + (RANDOM * 32768 + RANDOM) % 10000))
		if ! (: 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			printf '%s\n' "$port"
			return
		fi
	done
	die "no free port between 20000 and 29999"
}

# running DIR: true when the instance's process lives.
running() {
	local pid
	pid=$(cat "$1/pid" 2>/dev/null) && [ -n "$pid" ] || return 1
	tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF -e "-Dexitpoll.instance=$1" || return 1
	# A zombie (its parent has not looked yet) has ended.
	! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null
}

# launch DIR ARGUMENTS...: starts Java detached from the caller's terminal, pipes and signals.
launch() {
	local dir=$1
	shift
	setsid nohup "$(find_java)" "-Dexitpoll.instance=$dir" "$@" </dev/null >>"$dir/log" 2>&1 8>&- 9>&- &
	printf '%s\n' $! >"$dir/pid"
	disown
	# Until the new process has become Java, its command line is still this script's.
	for _ in $(seq 200); do
		running "$dir" && return 0
		sleep 0.01
	done
}

# halt DIR SIGNAL SECONDS: signals and waits for the end; SIGKILL when it takes longer.
halt() {
	local pid
	running "$1" || { rm -f "$1/pid"; return 0; }
	pid=$(cat "$1/pid")
	kill "-$2" "$pid" 2>/dev/null || true
	for _ in $(seq $(($3 * 20))); do
		running "$1" || { rm -f "$1/pid"; return 0; }
		sleep 0.05
	done
	say "$(basename "$0"): process $pid did not end within $3 s, killing it"
	kill -KILL "$pid" 2>/dev/null || true
	for _ in $(seq 200); do
		running "$1" || { rm -f "$1/pid"; return 0; }
		sleep 0.05
	done
	die "process $pid does not end"
}

# Absolute, since the folder's name identifies the process.
absolute() {
	mkdir -p "$1" || die "cannot create the folder $1"
	(cd "$1" && pwd -P)
}

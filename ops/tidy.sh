#!/usr/bin/env bash
# tidy.sh - checks the rules of the source that a compiler does not: banned calls, globals, who may
# include whom, file length, first lines, include guards, headers that compile alone, white space,
# unfinished marks, and nothing of one machine (paths, host names).
#
#   ops/tidy.sh            all files that git knows or does not ignore; file:line: what, one a line
#   ops/tidy.sh FILE...    only these (paths from the repository's root)
#   ops/tidy.sh --self     checks the checker: every rule must find its planted fault
#
# Exit code 0: tidy; 1: something was found. Takes seconds. The rules by line are in ops/tidy.awk.
set -uo pipefail
scratch=$(mktemp)
trap 'rm -f "$scratch"' EXIT
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

list_files() {
	if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
		# A file that was just deleted is still known to git.
		git ls-files -co --exclude-standard | while IFS= read -r file; do
			[ -f "$file" ] && printf '%s\n' "$file"
		done
	else
		find . -type f -not -path './build*' -not -path './.git/*' -not -path './shared/*' |
			sed 's|^\./||'
	fi | LC_ALL=C sort
}

# Text files of any kind: marks of unfinished work and traces of one machine.
check_text() {
	local marks='(^|[^A-Za-z])(FIX''ME|TO''DO|XX''X|HA''CK)([^A-Za-z]|$)'
	local places='(/wo''rk/|/ro''ot/|/ho''me/[a-z]|/Us''ers/)'
	local inside='[a-z0-9-]+\.(inter''nal|co''rp|la''n|intra''net)([^A-Za-z0-9(_]|$)'
	local index='(--ind''ex-url|--extra-ind''ex-url|PIP_IND''EX_URL|<mir''ror>)'
	local url='https?://[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+'
	local allowed='https?://(127\.[0-9.]+|0\.0\.0\.0|(maven|www)\.apache\.org|www\.w3\.org|([a-z]+\.)?example\.(com|org))$'
	local file

	matches() { # PATTERN WHAT FILES...
		local pattern=$1 what=$2
		shift 2
		[ $# -gt 0 ] || return 0
		grep -HnIE -e "$pattern" -- "$@" | sed -E "s|^([^:]*:[0-9]+):.*|\1: $what|"
	}
	{
		matches "$marks" 'unfinished' "$@"
		matches "$places" 'a path of one machine' "$@"
		matches "$inside" 'a host name of one place' "$@"
		matches "$index" 'an address of a package index' "$@"
		# Documents may point anywhere; code names no host.
		for file in "$@"; do
			case "$file" in
			*.md | LICENSE | NOTICE) continue ;;
			esac
			grep -noIE -e "$url" -- "$file" | grep -vE "^[0-9]+:$allowed" |
				sed -E "s|^([0-9]+):(.*)|$file:\1: the host of \2|"
		done
	} | sort -u >"$scratch"
	cat "$scratch"
	[ ! -s "$scratch" ]
}

# Every header compiles alone, and twice.
check_headers() {
	local flags work
	[ $# -gt 0 ] || return 0
	flags=$(pkg-config --cflags rdkafka avro-c jansson libcurl 2>/dev/null)
	work=$(mktemp -d)
	printf '%s\n' "$@" | xargs -P 2 -I {} sh -c '
		header=$1 work=$2
		shift 2
		name=$(printf %s "$header" | tr / _)
		if ! printf "#include \"%s\"\n#include \"%s\"\n" "$header" "$header" |
			"${CC:-cc}" -std=c11 -D_GNU_SOURCE -DEXITPOLL_KAFKA=1 -DEXITPOLL_VERSION=\"x\" -I. "$@" \
			-DTEST_SHARED_DIR=\"x\" -DTEST_SOURCE_DIR=\"x\" \
			-Wall -Wextra -Werror -fsyntax-only -x c - 2>"$work/$name.err"; then
			printf "%s:1: does not compile alone: %s\n" "$header" \
				"$(grep -m 1 -E "error" "$work/$name.err")" >"$work/$name.out"
		fi' sh {} "$work" $flags
	cat "$work"/*.out 2>/dev/null
	set -- "$work"/*.out
	if [ -e "$1" ]; then
		rm -rf "$work"
		return 1
	fi
	rm -rf "$work"
}

check_all() { # FILES...
	local file sources=() headers=() texts=() failed=0
	for file in "$@"; do
		case "$file" in
		*.c | *.cc | *.cu | *.h | *.cuh) sources+=("$file") ;;
		esac
		case "$file" in
		*.h) headers+=("$file") ;;
		esac
		case "$file" in
		tests/*/corpus/* | tests/corpus/*) ;;
		*) texts+=("$file") ;;
		esac
	done
	if [ ${#sources[@]} -gt 0 ]; then
		LC_ALL=C awk -f ops/tidy.awk "${sources[@]}" || failed=1
		for file in "${sources[@]}"; do
			if [ -s "$file" ] && [ -n "$(tail -c 1 "$file")" ]; then
				echo "$file:1: no newline at the end"
				failed=1
			fi
		done
	fi
	for file in "$@"; do
		case "$file" in
		*.sh | *.py | *.awk)
			if [ "$(wc -l <"$file")" -gt 600 ] &&
				! head -n 20 "$file" | grep -q 'Longer than 600 lines because'; then
				echo "$file:600: more than 600 lines without a reason at its top"
				failed=1
			fi
			;;
		esac
	done
	check_text "${texts[@]}" || failed=1
	check_headers ${headers[@]+"${headers[@]}"} || failed=1
	return $failed
}

# Plants one fault of each kind in a copy of the checker's surroundings; each must be found, and a clean
# file must pass.
self_test() {
	local work root failed=0 output
	root=$PWD
	work=$(mktemp -d)
	mkdir -p "$work/ops" "$work/base" "$work/scorer" "$work/schemas" "$work/tests"
	cp ops/tidy.sh ops/tidy.awk "$work/ops/"
	cd "$work" || return 1
	plant() { # FILE EXPECTED TEXT
		printf "$3" >"$1"
		output=$(ops/tidy.sh "$1")
		case "$?$output" in
		1*"$2"*) ;;
		*)
			echo "tidy.sh: not found: $2 (in ${3:0:80}): $output"
			failed=1
			;;
		esac
		rm "$1"
	}
	local head='/* a.c - x. */\n' guard='/* a.h - x. */\n#ifndef EXITPOLL_BASE_A_H\n#define EXITPOLL_BASE_A_H\n'
	plant base/a.c 'memory comes from' "${head}int f(void) { return malloc(1); }\n"
	plant base/a.c 'use snprintf' "${head}int f(void) { return sprintf(a, b); }\n"
	plant base/a.c 'hides bad numbers' "${head}/* a */ int a = atoi (b);\n"
	plant base/a.c 'only main()' "${head}void f(void)\n{\n\texit(1);\n}\n"
	plant base/a.c 'hidden state' "${head}int a = rand();\n"
	plant base/a.c 'mutable global' "${head}static int a;\n"
	plant base/a.c 'mutable global' "${head}int f(void)\n{\n\tstatic char *a = 0;\n"
	plant base/a.c 'no shell' "${head}int a = system(b);\n"
	plant base/a.c 'not safe' "${head}int a = strtok(b);\n"
	plant base/a.c 'the stack' "${head}int a = alloca(b);\n"
	plant base/a.c 'the first line' 'int a;\n'
	plant base/a.c 'end of the line' "${head}int a; \n"
	plant base/a.c 'indent with tabs' "${head}    int a;\n"
	plant base/a.c 'before a tab' "${head}int a; \t/* b */\n"
	plant base/a.c 'columns' "${head}$(printf '%0121d' 0)\n"
	plant base/a.c 'carriage' "${head}int a;\r\n"
	plant base/a.c 'no newline' "${head}int a;"
	plant base/a.c 'empty lines' "${head}int a;\n\n"
	plant base/a.c 'more than 600' "${head}$(printf 'int a;\\n%.0s' $(seq 600))"
	plant base/a.c 'from the root' "${head}#include \"a.h\"\n"
	plant base/a.c 'there is no' "${head}#include \"base/none.h\"\n"
	: >schemas/b.h
	: >scorer/b.h
	plant base/a.c 'must not include schemas' "${head}#include \"schemas/b.h\"\n"
	plant schemas/a.c 'must not include scorer' "${head}#include \"scorer/b.h\"\n"
	rm schemas/b.h scorer/b.h
	plant scorer/a.c 'librdkafka belongs' "${head}#include <librdkafka/rdkafka.h>\n"
	plant scorer/a.c 'avro-c belongs' "${head}#include <avro.h>\n"
	plant base/a.c 'CUDA belongs' "${head}#include <cuda_runtime.h>\n"
	plant base/a.h 'include guard' '/* a.h - x. */\n#ifndef A_H\n#define A_H\n#endif\n'
	plant base/a.h 'does not compile alone' "${guard}size_t a;\n#endif\n"
	plant base/a.c 'unfinished' "${head}/* TO""DO */\n"
	plant base/a.sh 'a path of one machine' 'ls /ro''ot/x\n'
	plant base/a.txt 'a host name' 'see pypi.inter''nal:80\n'
	plant base/a.sh 'the host of' 'curl https:/''/files.host.net/x\n'
	plant base/a.sh 'package index' 'pip --ind''ex-url x\n'
	# None of these is a fault.
	printf '/* a.h - malloc(1); atoi(x) */\n#ifndef EXITPOLL_BASE_A_H\n#define EXITPOLL_BASE_A_H\n' >base/a.h
	printf 'struct a {\n\tvoid (*free)(int);\n};\nint mem_free(int x);     /* free(x) */\n' >>base/a.h
	printf 'static const int c = 1;\nstatic inline int f(int a) { return a; }\n' >>base/a.h
	printf 'const char *b = "malloc(1) // rand() http://127.0.0.1";\n#endif\n' >>base/a.h
	if ! output=$(ops/tidy.sh base/a.h); then
		echo "tidy.sh: found what is no fault: $output"
		failed=1
	fi
	cd "$root" || return 1
	rm -rf "$work"
	return $failed
}

if [ "${1:-}" = --self ]; then
	self_test
	exit
fi
if [ $# -gt 0 ]; then
	check_all "$@"
	exit
fi
mapfile -t files < <(list_files)
[ ${#files[@]} -gt 0 ] || { echo "tidy.sh: no files found"; exit 1; }
check_all "${files[@]}"

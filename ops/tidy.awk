# tidy.awk - the rules of the source that can be seen line by line; run by ops/tidy.sh over all C and
# C++ files at once. Prints "file:line: what" and leaves the count in the exit code (0 or 1).
#
# Comments are taken out first, and literals too where code is looked at, so that a word in a text is no
# call.

function report_at(file, line, what) {
	printf "%s:%d: %s\n", file, line, what
	found = 1
}

function report(line, what) {
	report_at(FILENAME, line, what)
}

# The line without comments; literals become "". Keeps in_comment across lines.
function code_of(line,    out, at, token) {
	out = ""
	while (line != "") {
		if (in_comment) {
			at = index(line, "*/")
			if (!at)
				return out
			line = substr(line, at + 2)
			in_comment = 0
			out = out " "
			continue
		}
		if (!match(line, /"([^"\\]|\\.)*"|'([^'\\]|\\.)*'|\/\/.*|\/\*/))
			return out line
		token = substr(line, RSTART, RLENGTH)
		out = out substr(line, 1, RSTART - 1)
		line = substr(line, RSTART + RLENGTH)
		if (token == "/*")
			in_comment = 1
		else if (substr(token, 1, 2) != "//")
			out = out "\"\""
	}
	return out
}

# Columns with tabs at multiples of 4, the widest that every editor and review page shows; a UTF-8
# character counts as one.
function columns(line,    parts, count, i, width) {
	gsub(/[\200-\277]/, "", line)
	count = split(line, parts, "\t")
	width = 0
	for (i = 1; i <= count; i++) {
		width += length(parts[i])
		if (i < count)
			width += 4 - width % 4
	}
	return width
}

function check_include(line,    path, target) {
	if (match(line, /"[^"]*"/)) {
		path = substr(line, RSTART + 1, RLENGTH - 2)
		target = path
		sub(/\/.*/, "", target)
		if (!production && (path !~ /\// || path ~ /^\.\.\//))
			return          # a test's helper beside it; the compiler finds it or not
		if (path !~ /\// || path ~ /(^|\/)\.\.?\//)
			report(FNR, "write \"" path "\" from the root of the repository")
		else if ((getline ignored < path) < 0)
			report(FNR, "there is no " path)
		close(path)
		if (folder in may_include && index(may_include[folder], " " target " ") == 0)
			report(FNR, folder " must not include " target " (" path ")")
		return
	}
	if (line ~ /<librdkafka\// && folder !~ /^(consumer|producer|ops|tests)$/)
		report(FNR, "librdkafka belongs into consumer, producer and ops")
	if (line ~ /<avro(\.h|\/)/ && FILENAME !~ /^(schemas\/|tests\/[a-z]+\/schemas\/)/)
		report(FNR, "avro-c belongs into schemas")
	if (line ~ /<(cuda|cublas|curand|nccl|nvrtc)/ && FILENAME !~ /^(scorer\/|tests\/[a-z]+\/scorer\/)/)
		report(FNR, "CUDA belongs into scorer")
	if (line ~ /<microhttpd/ && FILENAME !~ /^base\/http/)
		report(FNR, "libmicrohttpd belongs into base/http.c")
	if (line ~ /<curl\// && FILENAME !~ /^(schemas\/|tests\/)/)
		report(FNR, "libcurl belongs into schemas")
	if (line ~ /<jemalloc/ && FILENAME != "base/mem.c")
		report(FNR, "jemalloc belongs into base/mem.c")
}

function check_call(code, names, why,    rest, offset) {
	rest = code
	while (match(rest, "[A-Za-z_0-9.>]*(" names ")[ \t]*\\(")) {
		offset = RSTART + RLENGTH
		# The name must stand alone: no longer name, no member.
		if (substr(rest, RSTART, RLENGTH) ~ "^(" names ")[ \t]*\\($")
			report(FNR, substr(rest, RSTART, RLENGTH - 1) ": " why)
		rest = substr(rest, offset)
	}
}

function end_of_file() {
	if (previous == "")
		return
	if (lines > 600 && head !~ /Longer than 600 lines because/)
		report_at(previous, lines, "more than 600 lines, and no \"Longer than 600 lines because\" at its top")
	if (blank_end)
		report_at(previous, lines, "empty lines at the end")
	if (previous ~ /\.h$/ && guard != wanted_guard && !(previous ~ /^tests\// && guard == short_guard))
		report_at(previous, 1, "the include guard is \"" guard "\", not " wanted_guard)
}

BEGIN {
	may_include["base"] = " base "
	may_include["schemas"] = " schemas base "
	may_include["consumer"] = " consumer schemas base "
	may_include["producer"] = " producer schemas base "
	may_include["graph-updater"] = " graph-updater schemas base "
	may_include["scorer"] = " scorer schemas base "
}

FNR == 1 {
	end_of_file()
	previous = FILENAME
	folder = FILENAME
	sub(/\/.*/, "", folder)
	production = folder != "tests"
	cplusplus = FILENAME ~ /\.(cc|cu)$/
	in_comment = 0
	head = ""
	guard = ""
	wanted_guard = "EXITPOLL_" toupper(FILENAME)
	gsub(/[\/.-]/, "_", wanted_guard)
	name = FILENAME
	sub(/.*\//, "", name)
	short_guard = "EXITPOLL_TESTS_" toupper(name)
	sub(/\./, "_", short_guard)
	if (production && index($0, "/* " name " - ") != 1 && index($0, "// " name " - ") != 1)
		report(1, "the first line must be \"/* " name " - <idea>\"")
	if (!production && $0 !~ /^\/\*/)
		report(1, "the first line must be a comment that says what is tested")
}

{
	lines = FNR
	blank_end = $0 == ""
	if (FNR <= 20)
		head = head " " $0
	if (guard == "" && $1 == "#ifndef")
		guard = $2
	if ($0 ~ /[ \t]$/)
		report(FNR, "blanks at the end of the line")
	if ($0 ~ /\r/)
		report(FNR, "carriage return")
	if ($0 ~ / \t/ && $0 !~ /"[^"]* \t/)
		report(FNR, "a blank before a tab")
	if ($0 ~ /^ / && $0 !~ /^ \*/ && !in_comment)
		report(FNR, "indent with tabs")
	if (columns($0) > 120)
		report(FNR, columns($0) " columns, at most 120 (aim for 110)")
	was_comment = in_comment
	code = code_of($0)
	if (code ~ /^[ \t]*#[ \t]*include/ && !was_comment)
		check_include($0)
	check_call(code, "strtok|gmtime|localtime|asctime|ctime|readdir_r|gethostbyname|tmpnam|mktemp",
		   "not safe; there is a better one")
	check_call(code, "alloca", "the stack has no limit that can be checked")
	if (production) {
		check_call(code, "strcpy|strcat|strncpy|strncat|stpcpy|sprintf|vsprintf|gets",
			   "unbounded or unterminated; use snprintf or memcpy")
		check_call(code, "atoi|atol|atoll|atof|sscanf", "hides bad numbers; use strtol or strtod and look at the end")
		if (FILENAME != "base/mem.c" && !cplusplus)
			check_call(code, "malloc|calloc|realloc|reallocarray|free|aligned_alloc|posix_memalign|" \
				   "memalign|strdup|strndup|asprintf|vasprintf|open_memstream",
				   "memory comes from base/mem.h")
		check_call(code, "rand|srand|random|srandom|drand48|rand_r",
			   "results must not depend on a hidden state")
		# The level of the log is set once by main before threads start; a signal flag has no other place.
		if (code ~ /^\t*static [^(]*(;|=)/ && code !~ /const|_Thread_local|sig_atomic_t|^[^=]*\)/ &&
		    FILENAME != "base/log.c")
			report(FNR, "a mutable global; pass an object")
		check_call(code, "system|popen", "no shell from the program")
		# A child process ends there.
		if (folder != "ops" && FILENAME != "graph-updater/snapshot_child.c")
			check_call(code, "exit|_exit|quick_exit|abort", "only main() ends the program")
	}
}

END {
	end_of_file()
	exit found
}

/* snapshot_child.c - see snapshot_child.h.
 *
 * Why a fork, and not chunks that are copied when they become dirty: the cut is consistent by
 * construction, over everything (ids, texts, edges, embeddings) and for every writer of the state, with
 * no hook that someone could forget, and snapshot_save.c stays the only thing that walks the state. What
 * it costs, and what is done about it:
 *
 *   pause     the kernel copies page tables, .15 us a page whatever its size: 2 ms where all are huge, 30 ms for
 *             1.3 GB of small ones. So memory asks for huge pages, what writing beside a child has cut up is
 *             made whole again before the next (base/huge.h), and what can be computed anew is left out
 *             (MADV_DONTFORK, chunks.c).
 *   memory    each page that the parent writes meanwhile exists twice: at most the size of the state
 *             again. If memory runs out, the kernel is told to take the child first.
 *   threads   only the calling thread exists in the child. It takes no lock of ours (log lines are single
 *             writes), malloc's locks are made good by the allocator's own fork handlers, and librdkafka
 *             and the accelerator are never called. It leaves by _exit().
 *   files     sockets and files are closed in the child at once, so that connections end when the parent
 *             ends them. Only the folder's lock stays: while a child writes, nobody else owns the folder.
 *   signals   SIGTERM and SIGINT to the group do not end it, the parent decides; it dies with the parent's
 *             thread (PR_SET_PDEATHSIG).
 *
 * The child reports by a pipe: one struct report. A pipe that ends without one means that it died. */
#include "graph-updater/snapshot_child.h"

#include "base/clock.h"
#include "base/mem.h"
#include "graph-updater/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NICENESS = 5, FILES_MAX = 65536, REAP_LOOKS = 2000, REAP_PAUSE_NS = 1000000 };

/* At most PIPE_BUF bytes, so that it is written in one piece. */
struct report {
	enum status status;
	char text[ERROR_TEXT_BYTES];
};

struct snapshot_child {
	pid_t pid;
	int pipe;
	int64_t pause_ns;
	size_t got;                     /* bytes of the report */
	bool said;                      /* the report is whole, or will never be */
	struct report report;
};

/* ---- in the child ---- */

static void close_between(unsigned first, unsigned last)
{
	if (first > last || close_range(first, last, 0) == 0)
		return;
	for (unsigned file = first; file <= last && file < FILES_MAX; file++)   /* an old kernel */
		close((int)file);
}

/* Everything but the first three and these two; -1: none. */
static void close_all_but(int a, int b)
{
	int low = a < b ? a : b, high = a < b ? b : a;
	unsigned next = 3;

	if (low >= 3) {
		close_between(next, (unsigned)low - 1);
		next = (unsigned)low + 1;
	}
	if (high >= 3) {
		close_between(next, (unsigned)high - 1);
		next = (unsigned)high + 1;
	}
	close_between(next, ~0u);
}

static void be_first_to_go(void)
{
	int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (file < 0)
		return;
	if (write(file, "1000", 4) != 4)
		errno = 0;              /* as it was, then */
	close(file);
}

static _Noreturn void write_and_leave(const struct updater *updater,
				      const struct snapshot_child_options *options, pid_t parent, int report_to)
{
	static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2};
	struct report report = {.status = STATUS_OK};
	struct error error = {0};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
		signal(ignored[i], SIG_IGN);
	close_all_but(report_to, options->lock_fd);
	be_first_to_go();
	setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + NICENESS);
	report.status = snapshot_save_folder(updater, options->folder, options->positions,
					     options->positions_count, options->oldest_unanswered_ms,
					     options->faults, &error);
	memcpy(report.text, error.text, sizeof report.text);
	_exit(write(report_to, &report, sizeof report) != sizeof report);
}

/* ---- in the parent ---- */

enum status snapshot_child_start(const struct updater *updater, const struct snapshot_child_options *options,
				 struct snapshot_child **out, struct error *error)
{
	struct snapshot_child *child = mem_alloc_zero(1, sizeof *child);
	pid_t parent = getpid();
	int64_t began_ns;
	int ends[2], code;

	if (!child)
		return error_set(error, STATUS_NO_MEMORY, "snapshot: out of memory");
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK)) {
		code = errno;
		mem_free(child);
		return error_set(error, STATUS_IO, "snapshot: no pipe: %s", strerror(code));
	}
	began_ns = clock_steady_ns();
	child->pid = fork();
	if (child->pid == 0)
		write_and_leave(updater, options, parent, ends[1]);
	code = errno;
	child->pause_ns = clock_steady_ns() - began_ns;
	close(ends[1]);
	if (child->pid < 0) {
		close(ends[0]);
		mem_free(child);
		return error_set(error, STATUS_NO_MEMORY, "snapshot: a child process to write it is refused: %s "
				 "(vm.overcommit_memory = 2, or a limit on processes?)", strerror(code));
	}
	child->pipe = ends[0];
	*out = child;
	return STATUS_OK;
}

static void forget(struct snapshot_child **taken)
{
	close((*taken)->pipe);
	mem_free(*taken);
	*taken = NULL;
}

/* Reads what has come of the report. True: nothing more will. */
static bool has_said(struct snapshot_child *child)
{
	ssize_t got = 1;

	while (!child->said && got > 0) {
		got = read(child->pipe, (char *)&child->report + child->got, sizeof child->report - child->got);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return false;
		child->got += got > 0 ? (size_t)got : 0;
		child->said = got <= 0 || child->got == sizeof child->report;
	}
	return child->said;
}

bool snapshot_child_over(struct snapshot_child **taken, long wait_ms, enum status *result,
			 struct error *error)
{
	struct snapshot_child *child = *taken;
	struct pollfd look = {child->pipe, POLLIN, 0};
	int how = 0, ended, killed;

	if (wait_ms && !child->said)
		poll(&look, 1, (int)wait_ms);
	if (!has_said(child))
		return false;
	/* Its memory goes before it does, and that takes a while: it is not waited for. Where SIGCHLD is
	 * ignored there is nothing to reap (-1). */
	ended = (int)waitpid(child->pid, &how, WNOHANG);
	if (ended == 0) {
		if (wait_ms)
			nanosleep(&(struct timespec){.tv_nsec = REAP_PAUSE_NS}, NULL);
		return false;
	}
	killed = ended > 0 && WIFSIGNALED(how) ? WTERMSIG(how) : 0;
	if (child->got < sizeof child->report)
		*result = error_set(error, STATUS_IO, "snapshot: the process that wrote it died (signal %d%s)",
				    killed, killed == SIGKILL ? ", out of memory?" : "");
	else if (child->report.status)
		*result = error_set(error, child->report.status, "%s", child->report.text);
	else
		*result = STATUS_OK;
	forget(taken);
	return true;
}

int64_t snapshot_child_pause_ns(const struct snapshot_child *child)
{
	return child->pause_ns;
}

void snapshot_child_abandon(struct snapshot_child **child)
{
	if (!*child)
		return;
	kill((*child)->pid, SIGKILL);
	/* One that hangs in the kernel (a dead disk) is left behind. */
	for (int look = 0; look < REAP_LOOKS && waitpid((*child)->pid, NULL, WNOHANG) == 0; look++)
		nanosleep(&(struct timespec){.tv_nsec = REAP_PAUSE_NS}, NULL);
	forget(child);
}

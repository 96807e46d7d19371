/* test_snapshot_child.c - a snapshot written beside the stream: it is that of its cut, whatever happens to
 * the child never costs a good one, and nothing of the parent hangs on it.
 *
 * The kill points: the child dies by SIGKILL, or meets ENOSPC or EIO, at every operation on files (writes
 * are cut short so that there are hundreds of them), and what it had not yet made durable is then torn. */
#include "tests/property/graph-updater/graph_world.h"
#include "tests/unit/graph-updater/state_files.h"

#include "graph-updater/snapshot.h"
#include "graph-updater/snapshot_child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SLOW_MS = 15, PATIENCE_MS = 60000 };

static struct names names;
static char folder[64], file_a[96], file_b[96];
static const struct position positions[2] = {{TOPIC_ITEMS, 0, 12}, {TOPIC_INTERACTIONS, 1, 345}};

static struct updater *create(double threshold)
{
	struct updater_options options;
	struct updater *updater = NULL;
	struct error error = {0};

	updater_options_defaults(&options);
	options.users_max = options.items_max = 8192;
	options.dimensions = 32;
	options.flush_events = 50;
	options.threshold = threshold;
	must(updater_create(&options, &updater, &error), &error, 0);
	return updater;
}

static void apply_some(struct updater *updater, struct draw *draw, int64_t *now_ms, unsigned count)
{
	struct error error = {0};

	for (unsigned n = 0; n < count; n++) {
		struct event event = {.type = RECORD_INTERACTION};
		event.interaction = random_event(draw, &names, (struct mix){60, 50, 60, 60, 15, now_ms});
		must(updater_apply(updater, &event, &error), &error, 0);
	}
}

static void setup(void)
{
	names_fill(&names);
	/* In memory where that is possible: fsync is asked for many times. */
	snprintf(folder, sizeof folder, "%s/exitpoll-child-%d", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm",
		 (int)getpid());
	snprintf(file_a, sizeof file_a, "%s-a", folder);
	snprintf(file_b, sizeof file_b, "%s-b", folder);
	mkdir(folder, 0700);
}

static void teardown(void)
{
	clear_folder(folder);
	rmdir(folder);
	unlink(file_a);
	unlink(file_b);
}

static struct snapshot_child *start(const struct updater *updater, const struct snapshot_faults *faults,
				    int lock_fd)
{
	struct snapshot_child_options options = {folder, positions, 2, INT64_MAX, lock_fd, faults};
	struct snapshot_child *child = NULL;
	struct error error = {0};

	must(snapshot_child_start(updater, &options, &child, &error), &error, 0);
	ck_assert_int_gt(snapshot_child_pause_ns(child), 0);
	return child;
}

static enum status outcome_of(struct snapshot_child *child, struct error *error)
{
	enum status status = STATUS_INTERNAL;

	for (int waited_ms = 0; !snapshot_child_over(&child, 20, &status, error); waited_ms += 20)
		ck_assert_int_lt(waited_ms, PATIENCE_MS);
	ck_assert(child == NULL);
	return status;
}

static struct updater *restore(double threshold, int64_t *version)
{
	struct updater *restored = create(threshold);
	struct error error = {0};
	const struct position *found;
	size_t count;

	must(updater_restore(restored, folder, INT64_MAX, &found, &count, &error), &error, 0);
	must(updater_check(restored, &error), &error, 0);
	ck_assert_uint_eq(count, 2);
	ck_assert(!memcmp(found, positions, sizeof positions));
	*version = updater_graph_version(restored);
	return restored;
}

/* ---- beside the stream ---- */

static int be_slow(void *context, const char *operation, size_t *bytes)
{
	(void)context;
	(void)operation;
	(void)bytes;
	usleep(SLOW_MS * 1000);
	return 0;
}

static const struct snapshot_faults slow = {be_slow, NULL};

/* What is written is the state of the cut, and a run restored from it goes on as the undisturbed one. */
START_TEST(it_is_the_state_of_the_cut)
{
	static const double thresholds[] = {0, 0.03};

	for (int t = 0; t < 2; t++) {
		struct updater *updater = create(thresholds[t]), *restored;
		struct draw draw = {100 + (uint64_t)t}, again;
		struct error error = {0};
		struct snapshot_child *child;
		int64_t now_ms = 1000, now_again, version, cut;
		enum status status = STATUS_INTERNAL;
		unsigned after = 0;
		char path[128];

		apply_some(updater, &draw, &now_ms, 730);
		must(snapshot_write(updater, file_a, positions, 2, NULL, &error), &error, 0);
		cut = updater_graph_version(updater);
		again = draw;
		now_again = now_ms;
		child = start(updater, &slow, -1);
		for (; !snapshot_child_over(&child, 0, &status, &error); after += 10)
			apply_some(updater, &draw, &now_ms, 10);
		must(status, &error, 0);
		ck_assert_msg(after > 0, "the stream did not go on");
		snprintf(path, sizeof path, "%s/snapshot-%lld.snap", folder, (long long)cut);
		assert_same_files(path, file_a);
		restored = restore(thresholds[t], &version);
		ck_assert_int_eq(version, cut);
		apply_some(restored, &again, &now_again, after);
		must(snapshot_write(updater, file_a, NULL, 0, NULL, &error), &error, 0);
		must(snapshot_write(restored, file_b, NULL, 0, NULL, &error), &error, 0);
		assert_same_files(file_a, file_b);
		updater_destroy(restored);
		updater_destroy(updater);
		clear_folder(folder);
	}
}
END_TEST

/* A snapshot in the middle of a hub's push (live, flushes are bounded): the restored run ends, as the
 * undisturbed one does, at the state of a full recomputation. */
START_TEST(a_hub_in_progress)
{
	enum { RATERS = 5000, SOME = 700 };
	struct updater *updater = create(0), *restored;
	struct error error = {0};
	int64_t version;
	unsigned in_progress = 0;
	char user[16], own[16];

	/* Every rater has an item of its own besides the hub, so that only the hub's push reaches those who have
	 * not changed: a snapshot that forgets who still waits for it is told apart. */
	updater->options.flush_events = UINT32_MAX;
	for (unsigned n = 0; n < 2 * RATERS; n++) {
		struct event event = {.type = RECORD_INTERACTION};
		event.interaction = (struct interaction_event){
			.user_id = {user, (size_t)snprintf(user, sizeof user, "u%u", n % RATERS)},
			.item_id = {own, (size_t)(n < RATERS ? snprintf(own, sizeof own, "hub")
							     : snprintf(own, sizeof own, "own%u", n))},
			.kind = KIND_CLICK, .event_time_ms = 1000 + n};
		must(updater_apply(updater, &event, &error), &error, 0);
	}
	/* All is settled; then a few users change, and with them the hub, whose push reaches the others. */
	must(gcn_flush(updater->gcn, &error), &error, 0);
	for (unsigned n = 0; n < 40; n++) {
		struct event event = {.type = RECORD_INTERACTION};
		event.interaction = (struct interaction_event){
			.user_id = {user, (size_t)snprintf(user, sizeof user, "u%u", n)},
			.item_id = text_of(names.item[0]), .kind = KIND_CLICK, .event_time_ms = 90000 + n};
		must(updater_apply(updater, &event, &error), &error, 0);
	}
	for (bool finished = false; !finished;) {
		bool users_wait;
		must(gcn_flush_some(updater->gcn, SOME, &finished, &error), &error, 0);
		if (!gcn_hub_waiting(updater->gcn, &users_wait))
			continue;
		ck_assert(users_wait);
		in_progress++;
		must(outcome_of(start(updater, NULL, -1), &error), &error, 0);
		restored = restore(0, &version);
		must(gcn_flush(restored->gcn, &error), &error, 0);
		must(updater_check(restored, &error), &error, 0);
		must(gcn_check(restored->gcn, &error), &error, 0);
		must(snapshot_write(restored, file_a, NULL, 0, NULL, &error), &error, 0);
		updater_destroy(restored);
	}
	ck_assert_int_gt(in_progress, 2);
	restored = restore(0, &version);
	must(gcn_flush(restored->gcn, &error), &error, 0);
	updater->events_since_flush = restored->events_since_flush = 0;
	must(snapshot_write(updater, file_a, NULL, 0, NULL, &error), &error, 0);
	restored->options.flush_events = updater->options.flush_events;
	must(snapshot_write(restored, file_b, NULL, 0, NULL, &error), &error, 0);
	assert_same_files(file_a, file_b);
	updater_destroy(restored);
	updater_destroy(updater);
}
END_TEST

/* ---- what goes wrong in the child ---- */

enum way { KILLED, DISK_FULL, DISK_BROKEN, WAYS };

struct plan {
	int at;                 /* the operation that goes wrong, counted from 0 */
	int seen;
	enum way way;
	size_t write_max;       /* bytes that a write takes at most */
};

static int go_wrong(void *context, const char *operation, size_t *bytes)
{
	struct plan *plan = context;

	(void)operation;
	if (*bytes > plan->write_max)
		*bytes = plan->write_max;
	if (plan->seen++ != plan->at)
		return 0;
	if (plan->way == KILLED)
		kill(getpid(), SIGKILL);
	return plan->way == DISK_FULL ? ENOSPC : EIO;
}

/* What was not made durable may be anything after a power failure: cut at any byte, with zeroed pages. */
static void tear_temporaries(struct draw *draw)
{
	DIR *directory = opendir(folder);
	struct dirent *entry;
	char name[512];

	while ((entry = readdir(directory))) {
		struct stat about;
		if (!strstr(entry->d_name, ".tmp"))
			continue;
		snprintf(name, sizeof name, "%s/%s", folder, entry->d_name);
		ck_assert_int_eq(stat(name, &about), 0);
		if (draw_below(draw, 2))
			ck_assert_int_eq(truncate(name, draw_below(draw, (uint32_t)about.st_size + 1)), 0);
		if (about.st_size > 512 && draw_below(draw, 2)) {
			int file = open(name, O_WRONLY);
			char zeros[512] = {0};
			ck_assert_int_eq(pwrite(file, zeros, sizeof zeros,
						draw_below(draw, (uint32_t)about.st_size - 511)), sizeof zeros);
			close(file);
		}
	}
	closedir(directory);
}

START_TEST(no_kill_point_costs_a_good_snapshot)
{
	struct updater *updater = create(0.03);
	struct draw draw = {8}, tear = {9};
	struct error error = {0};
	int64_t now_ms = 1000, before, now, version;
	int points[WAYS] = {0};

	apply_some(updater, &draw, &now_ms, 300);
	must(updater_save(updater, folder, positions, 2, INT64_MAX, &error), &error, 0);
	before = updater_graph_version(updater);
	for (enum way way = KILLED; way < WAYS; way++) {
		bool past_the_end = false;
		for (int at = 0; !past_the_end; at += way == KILLED ? 1 : 4) {
			struct plan plan = {at, 0, way, 80};
			struct snapshot_faults faults = {go_wrong, &plan};
			struct updater *restored;
			enum status status;
			apply_some(updater, &draw, &now_ms, 2);
			now = updater_graph_version(updater);
			status = outcome_of(start(updater, &faults, -1), &error);
			past_the_end = status == STATUS_OK;
			points[way] += status != STATUS_OK;
			if (status) {
				ck_assert_msg(status == STATUS_IO || status == STATUS_CANNOT_CREATE, "%s: %s",
					      status_name(status), error.text);
				ck_assert(strstr(error.text, way == KILLED ? "signal 9" : way == DISK_FULL ?
						 "No space left" : "Input/output error"));
			}
			tear_temporaries(&tear);
			restored = restore(0.03, &version);
			ck_assert_msg(version == now || (status && version == before),
				      "way %d, operation %d: version %lld", (int)way, at, (long long)version);
			if (version == now) {
				must(snapshot_write(updater, file_a, NULL, 0, NULL, &error), &error, 0);
				must(snapshot_write(restored, file_b, NULL, 0, NULL, &error), &error, 0);
				assert_same_files(file_a, file_b);
			}
			before = version;
			updater_destroy(restored);
		}
	}
	printf("kill points: %d by SIGKILL, %d by ENOSPC, %d by EIO\n", points[KILLED], points[DISK_FULL],
	       points[DISK_BROKEN]);
	ck_assert_int_ge(points[KILLED], 200);
	ck_assert_int_ge(points[DISK_FULL], 60);
	ck_assert_int_ge(points[DISK_BROKEN], 60);
	updater_destroy(updater);
}
END_TEST

START_TEST(given_up)
{
	struct updater *updater = create(0.03), *restored;
	struct draw draw = {3};
	struct error error = {0};
	struct snapshot_child *child = NULL;
	int64_t now_ms = 1000, first, version;

	snapshot_child_abandon(&child);
	apply_some(updater, &draw, &now_ms, 100);
	must(outcome_of(start(updater, NULL, -1), &error), &error, 0);
	first = updater_graph_version(updater);
	apply_some(updater, &draw, &now_ms, 100);
	child = start(updater, &slow, -1);
	snapshot_child_abandon(&child);
	ck_assert(child == NULL);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);       /* nobody is left, not even a zombie */
	restored = restore(0.03, &version);
	ck_assert_int_eq(version, first);
	updater_destroy(restored);
	must(outcome_of(start(updater, NULL, -1), &error), &error, 0);
	restored = restore(0.03, &version);
	ck_assert_int_eq(version, updater_graph_version(updater));
	updater_destroy(restored);
	updater_destroy(updater);
}
END_TEST

/* ---- files, signals, the death of the parent ---- */

/* A connection that the parent closes is closed, though a child is at work; a request to stop that reaches
 * the whole group does not end the child. */
START_TEST(nothing_hangs_on_the_child)
{
	struct updater *updater = create(0.03), *restored;
	struct draw draw = {4};
	struct error error = {0};
	struct snapshot_child *child;
	struct pollfd look = {-1, POLLIN, 0};
	enum status status;
	int64_t now_ms = 1000, version;
	int ends[2];
	char byte;

	apply_some(updater, &draw, &now_ms, 100);
	ck_assert_int_eq(pipe(ends), 0);
	child = start(updater, &slow, -1);
	signal(SIGTERM, SIG_IGN);
	usleep(2 * SLOW_MS * 1000);
	kill(0, SIGTERM);
	close(ends[1]);
	look.fd = ends[0];
	ck_assert_int_eq(poll(&look, 1, 2 * SLOW_MS), 1);
	ck_assert_int_eq(read(ends[0], &byte, 1), 0);
	ck_assert_msg(!snapshot_child_over(&child, 0, &status, &error), "too fast for this test");
	must(outcome_of(child, &error), &error, 0);
	restored = restore(0.03, &version);
	ck_assert_int_eq(version, updater_graph_version(updater));
	updater_destroy(restored);
	updater_destroy(updater);
	close(ends[0]);
}
END_TEST

/* The child dies with its parent, and until then the folder stays locked. */
START_TEST(the_parent_is_killed)
{
	struct updater *updater = create(0.03), *restored;
	struct draw draw = {5};
	struct error error = {0};
	int64_t now_ms = 1000, first, version;
	char path[128];
	int lock, how, waited_ms = 0;
	pid_t middle;

	snprintf(path, sizeof path, "%s/lock", folder);
	apply_some(updater, &draw, &now_ms, 100);
	must(outcome_of(start(updater, NULL, -1), &error), &error, 0);
	first = updater_graph_version(updater);
	apply_some(updater, &draw, &now_ms, 100);
	middle = fork();
	if (!middle) {
		lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (flock(lock, LOCK_EX))
			_exit(1);
		start(updater, &slow, lock);
		usleep(3 * SLOW_MS * 1000);
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(middle, &how, 0), middle);
	ck_assert(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
	lock = open(path, O_RDWR | O_CLOEXEC);
	for (; flock(lock, LOCK_EX | LOCK_NB); waited_ms++) {
		ck_assert_int_lt(waited_ms, PATIENCE_MS);
		usleep(1000);
	}
	restored = restore(0.03, &version);
	ck_assert(version == first || version == updater_graph_version(updater));
	updater_destroy(restored);
	updater_destroy(updater);
	close(lock);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("snapshot_child");
	TCase *tcase = tcase_create("snapshot_child");

	tcase_set_timeout(tcase, 300);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, it_is_the_state_of_the_cut);
	tcase_add_test(tcase, a_hub_in_progress);
	tcase_add_test(tcase, no_kill_point_costs_a_good_snapshot);
	tcase_add_test(tcase, given_up);
	tcase_add_test(tcase, nothing_hangs_on_the_child);
	tcase_add_test(tcase, the_parent_is_killed);
	suite_add_tcase(suite, tcase);
	return check_run(suite);
}

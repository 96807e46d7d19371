#!/usr/bin/env python3
"""The graph's state from outside: what is exported equals numpy in doubles, and no SIGKILL changes it.

    test_state.py [EXITPOLL] [--long]     --long: a million events, and more kills
"""
import random
import signal
import subprocess
import time
from harness import *

try:
    import numpy
except ImportError:
    print("skipped: no numpy")
    sys.exit(77)

LONG = "--long" in sys.argv


def exported(folder, state, what, *more):
    name = folder / f"export-{what}-{'-'.join(more).strip('-')}"
    run("export", "--state", state, "--what", what, "--out", name, "--quiet", *more)
    return name


def rows_of(name):
    ids = open(f"{name}.ids").read().split("\n")[:-1]
    rows = numpy.load(f"{name}.npy")
    check(len(ids) == len(rows) == len(set(ids)), f"{name}: {len(ids)} ids, {len(rows)} rows")
    return ids, rows.astype(numpy.float64)


def import_table(folder, seed, users=150, items=90, rows=2500):
    """A table of ratings, as a user of the program has it; imported as a user would."""
    rng = random.Random(seed)
    with open(folder / "ratings.tsv", "w") as out:
        out.write("user_id\titem_id\trating\tunix_time\n")
        pairs = set()
        while len(pairs) < rows:
            pairs.add((min(int(rng.paretovariate(.8)), users), min(int(rng.paretovariate(.6)), items)))
        for user, item in sorted(pairs, key=lambda pair: rng.random()):
            out.write(f"u{user}\ti{item}\t{rng.randint(1, 5)}\t{1_600_000_000 + rng.randrange(10 ** 7)}\n")
    run("import", "--interactions", folder / "ratings.tsv", "--out", folder / "events", "--impressions", "none",
        "--quiet")
    return folder / "events"


def write_seeds(name, ids, dimensions=64, seed=1):
    """Trained seeds as anyone writes them with numpy."""
    rows = numpy.random.default_rng(seed).normal(0, .25, (len(ids), dimensions)).clip(-1, 1).astype("<f4")
    numpy.save(f"{name}.npy", rows)
    with open(f"{name}.ids", "w") as out:
        out.writelines(f"{text}\n" for text in ids)
    return rows


def propagate(pairs, seeds, item_ids, layers):
    """LightGCN in doubles: H^(k) = D^-1/2 A D^-1/2 H^(k-1), users and items, from the items' seeds."""
    user_ids = sorted({user for user, _ in pairs})
    place_u, place_i = {u: n for n, u in enumerate(user_ids)}, {i: n for n, i in enumerate(item_ids)}
    a = numpy.zeros((len(user_ids), len(item_ids)))
    for user, item in pairs:
        a[place_u[user], place_i[item]] = 1
    normal = a / numpy.sqrt(a.sum(1))[:, None] / numpy.sqrt(a.sum(0))[None, :]
    # The program's seeds are those of E / sqrt(d), so that E = sqrt(d) seed.
    items, users = seeds * numpy.sqrt(a.sum(0))[:, None], None
    for _ in range(layers // 2 + 1):
        users = normal @ items
        items = normal.T @ users
    return user_ids, users


def test_import_run_export_equals_numpy():
    with Scratch() as folder:
        events = import_table(folder, seed=3)
        known = [f"i{item}" for item in range(0, 90, 2)]
        given = dict(zip(known, write_seeds(folder / "trained", known)))
        for layers, trained in ((1, False), (3, False), (1, True), (3, True)):
            state = folder / f"state{layers}{trained}"
            run("run", "--stage", "graph-updater", "--from", events, "--to", folder / f"out{layers}{trained}",
                "--state", state, "--set", "graph.threshold=0", "--set", f"graph.layers={layers}",
                "--set", "graph.flush_events=100",     # 2,500 events: the last flush has seen them all
                *(["--set", f"graph.item_seeds={folder / 'trained'}"] if trained else []))
            table = open(f"{exported(folder, state, 'graph')}.tsv").read().split("\n")[1:-1]
            pairs = [tuple(line.split("\t")[:2]) for line in table]
            check(len(pairs) == len(set(pairs)) == 2500, f"{len(pairs)} edges")
            item_ids, seeds = rows_of(exported(folder, state, "seeds"))
            if trained:
                worst = max(numpy.abs(row - given[text]).max() for text, row in zip(item_ids, seeds) if text in given)
                check(worst <= .5 / 8192 + 1e-9, f"seeds differ from those given by {worst}")
                by_hash = numpy.array([row for text, row in zip(item_ids, seeds) if text not in given])
                check(len(by_hash) > 20 and len(numpy.unique(numpy.abs(by_hash))) == 1, "no hash for unknown ids")
                check("trained seeds of items" in run("inspect", state).stdout, "inspect does not tell the epoch")
            else:
                check(set(numpy.unique(seeds)) == {-1.0, 1.0}, "seeds are not +-1")
            user_ids, ours = rows_of(exported(folder, state, "embeddings", "--side", "users"))
            theirs_ids, theirs = propagate(pairs, seeds, item_ids, layers)
            check(user_ids == theirs_ids, "other users")
            ours /= numpy.linalg.norm(ours, axis=1)[:, None]
            theirs /= numpy.linalg.norm(theirs, axis=1)[:, None]
            worst = numpy.abs(ours @ ours.T - theirs @ theirs.T).max()
            check(worst < 1e-3, f"{layers} layers: cosines differ by {worst}")
            # What export says are neighbours are those by the exported rows.
            for line in open(f"{exported(folder, state, 'neighbors', '--most', '3')}.tsv").read().split("\n")[1:40]:
                user, neighbour, cosine = line.split("\t")
                row = ours[user_ids.index(user)] @ ours.T
                row[user_ids.index(user)] = -2
                check(abs(row[user_ids.index(neighbour)] - float(cosine)) < 1e-6, f"cosine of {user}, {neighbour}")
                check(numpy.sum(row > float(cosine) + 1e-9) < 3, f"{neighbour} is not among the nearest 3 of {user}")
            check("exact" in run("inspect", state, "--check").stdout, "the state is not exact")


def test_seeds_that_are_not():
    with Scratch() as folder:
        events = import_table(folder, seed=4, rows=200)

        def refused(code, text, *settings):
            done = run("run", "--stage", "graph-updater", "--from", events, "--to", folder / "out", "--state",
                       folder / "state", *(part for s in settings for part in ("--set", s)), code=code)
            check(text in done.stderr, f"{settings}: {done.stderr}")

        name = folder / "seeds"
        refused(66, "seeds.npy", f"graph.item_seeds={name}")
        write_seeds(name, ["a", "b"], dimensions=32)
        refused(78, "graph.dimensions is 64", f"graph.item_seeds={name}")
        refused(78, "graph.user_seeds", f"graph.user_seeds={name}", "graph.dimensions=32")
        numpy.save(f"{name}.npy", numpy.zeros((2, 64)))
        refused(65, "seeds.npy, byte 25: not float32", f"graph.item_seeds={name}")
        write_seeds(name, ["a", "a"])
        refused(65, "seeds.ids, byte 2: an id stands twice", f"graph.item_seeds={name}")
        refused(71, "graph.memory_max_bytes = 1000000 is reached", "graph.memory_max_bytes=1000000")


def test_sigkill_at_any_moment_changes_nothing():
    """The program is killed again and again; it ends with the bytes of the run that nobody disturbed."""
    count, rounds, every = (1_000_000, 40, 20_000) if LONG else (40_000, 5, 2_000)
    rng = random.Random(17)
    with Scratch() as folder:
        rows, _ = make_events(seed=9, users=count // 40, items=count // 60, interactions=count,
                              impressions=50, candidates=2)
        # Files have no partial output: a run of them goes back to before its first impression.
        last = max(row["event_time"] for row in rows["interaction"])
        for row in rows["impression"]:
            row["event_time"] = last + 1
        write_folder(folder / "events", rows, codec="null")
        write_seeds(folder / "seeds", sorted({row["item_id"] for row in rows["item"]})[::2])
        for threshold in ("0", "0.03"):
            command = [EXITPOLL, "run", "--stage", "graph-updater", "--from", folder / "events", "--quiet", "--set",
                       f"graph.threshold={threshold}", "--set", f"state.snapshot_events={every}",
                       *(["--set", f"graph.item_seeds={folder / 'seeds'}"] if threshold != "0" else [])]
            whole, killed = folder / f"whole{threshold}", folder / f"killed{threshold}"
            begin = time.monotonic()
            subprocess.run([*command, "--to", folder / f"a{threshold}", "--state", whole], check=True,
                           stderr=subprocess.DEVNULL)
            seconds, kills, began_again = time.monotonic() - begin, 0, 0
            for _ in range(rounds):
                process = subprocess.Popen([*command, "--to", folder / f"b{threshold}", "--force", "--state", killed],
                                           stderr=subprocess.PIPE, text=True)
                try:
                    process.wait(timeout=rng.uniform(.1, .6) * seconds)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    kills += 1
                began_again += "state.restored" in process.communicate()[1]
                if process.returncode == 0:
                    shutil.rmtree(killed)       # it got to the end: once more from the beginning
            subprocess.run([*command, "--to", folder / f"b{threshold}", "--force", "--state", killed], check=True,
                           stderr=subprocess.DEVNULL)
            newest = [max(state.glob("snapshot-*.snap"), key=lambda path: int(path.stem.split("-")[1]))
                      for state in (whole, killed)]
            check(newest[0].name == newest[1].name, f"{newest[0].name}, but {newest[1].name}")
            for what in ("graph", "embeddings"):
                ending = "tsv" if what == "graph" else "npy"
                a, b = (open(f"{exported(folder, path, what)}.{ending}", "rb").read() for path in newest)
                check(len(a) > 1000 and a == b, f"threshold {threshold}: {what} differs after {kills} kills")
            print(f"  threshold {threshold}: {count} events, {kills} kills, {began_again} starts from a snapshot",
                  flush=True)
            check(kills >= rounds / 4 and began_again > 0, f"only {kills} kills, {began_again} restored")


if __name__ == "__main__":
    main(test_import_run_export_equals_numpy, test_seeds_that_are_not, test_sigkill_at_any_moment_changes_nothing)

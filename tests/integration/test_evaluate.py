#!/usr/bin/env python3
"""`exitpoll evaluate` on a run of the program: figures from an independent computation, comparisons, charts,
and what is left out or refused."""
from harness import *

import numpy


def scored_events(folder, liked=False):
    """A table becomes events; the stub scores them."""
    rng = random.Random(9)
    with open(folder / "table.tsv", "w") as out:
        out.write("user_id\titem_id\trating\tunix_time\n")
        for i in range(1500):
            out.write(f"u{rng.randrange(50)}\ti{min(int(rng.paretovariate(.7)), 80)}\t{rng.randint(1, 5)}\t{1_600_000_000 + i}\n")
    more = [] if liked else ["--candidates", "6"]
    run("import", "--interactions", folder / "table.tsv", "--out", folder / "events", "--impressions", "last:0.3",
        "--label", "rating>=4", *more)
    run("run", "--from", folder / "events", "--to", folder / "out", *STUB)


def auc(pairs):
    won = [(p > q) + .5 * (p == q) for p, y in pairs if y for q, z in pairs if not z]
    return sum(won) / len(won) if won else None


def truth(folder, liked):
    """(impression, p, label, earlier events of the item), in the order of the events."""
    interactions = read_file(folder / "events" / "interactions.avro")
    predictions = {p["impression_id"]: p for p in read_file(folder / "out" / "predictions.avro")}
    answers = {i["impression_id"]: i for i in interactions if i["impression_id"]}
    rows = []
    for impression in read_file(folder / "events" / "impressions.avro"):
        answer, prediction = answers.get(impression["impression_id"]), predictions[impression["impression_id"]]
        at = impression["event_time"]
        for score in prediction["scores"]:
            earlier = sum(1 for i in interactions if i["item_id"] == score["item_id"] and i["event_time"] < at)
            if not liked:
                rows.append((impression["impression_id"], score["p_click"], score["item_id"] == answer["item_id"], earlier))
            elif score["item_id"] == answer["item_id"]:
                rows.append((impression["impression_id"], score["p_click"], answer["rating"] >= 4, earlier))
    return rows


def close(one, other, what):
    check(abs(one - other) < 1e-9, f"{what}: {one}, independently {other}")


def test_figures_of_a_run():
    for liked in (False, True):
        with Scratch() as folder:
            scored_events(folder, liked)
            rows = truth(folder, liked)
            figures = json.loads(run("evaluate", "--predictions", folder / "out", "--events", folder / "events",
                                     "--json", "--bootstrap", "20").stdout)
            check(figures["task"] == ("liked" if liked else "clicked"), figures["task"])
            model = figures["model"]
            check(model["rows"] == len(rows), f"{model['rows']} rows, not {len(rows)}")
            close(model["auc"], auc([(p, y) for _, p, y, _ in rows]), "AUC")
            close(figures["popularity"]["auc"], auc([(n, y) for _, _, y, n in rows]), "AUC of popularity")
            loss = -numpy.mean([numpy.log(p if y else 1 - p) for _, p, y, _ in rows])
            close(model["log_loss"], float(loss), "log loss")
            if not liked:
                within = [auc([(p, y) for i, p, y, _ in rows if i == name]) for name in {row[0] for row in rows}]
                within = [one for one in within if one is not None]
                close(model["impression_auc"], sum(within) / len(within), "AUC within impressions")
            low, high = model["intervals"]["auc"]
            check(low <= model["auc"] <= high, "the interval does not hold the figure")
            check(sum(layer["rows"] for layer in figures["layers"]) == len(rows), "layers miss answers")
            check(sum(one["rows"] for one in figures["item_slices"]) == len(rows), "slices miss answers")


def test_compare_charts_and_table():
    with Scratch() as folder:
        scored_events(folder)
        run("run", "--from", folder / "events", "--to", folder / "other", *STUB, "--set", "enrichment.history_max=1")
        done = run("evaluate", "--predictions", folder / "out", "--events", folder / "events", "--compare", folder / "other",
                   "--compare", folder / "out", "--json", "--plots", folder / "charts", "--bootstrap", "20")
        one, same = json.loads(done.stdout)["comparisons"]
        close(one["difference"]["auc"], one["this"]["auc"] - one["that"]["auc"], "difference")
        check(same["difference"]["auc"] == 0 and same["difference"]["intervals"]["auc"] == [0, 0], "not paired")
        for name in ("reliability", "roc", "layers", "tradeoff"):
            import xml.dom.minidom
            xml.dom.minidom.parse(str(folder / "charts" / f"{name}.svg"))
        table = run("evaluate", "--predictions", folder / "out" / "predictions.avro", "--events", folder / "events").stdout
        check("AUC within impressions" in table and "popularity" in table, table)


def test_what_is_left_out_or_refused():
    with Scratch() as folder:
        scored_events(folder)
        predictions = read_file(folder / "out" / "predictions.avro")
        changed = [dict(predictions[0], status="LATE"), predictions[1], predictions[1],
                   dict(predictions[2], impression_id="nowhere")] + predictions[3:]

        def write(records, name, metadata=None):
            (folder / name).mkdir()
            with open(folder / name / "predictions.avro", "wb") as out:
                fastavro.writer(out, SCHEMAS["prediction"], records, metadata=metadata or {})
            return folder / name

        arguments = ["--events", folder / "events", "--bootstrap", "0"]
        counts = json.loads(run("evaluate", "--predictions", write(changed, "changed"), *arguments, "--json").stdout)["counts"]
        check(counts["late"] == 1 and counts["repeated"] == 1 and counts["without_impression"] == 1, counts)
        other = [dict(predictions[0], scores=list(reversed(predictions[0]["scores"])))]
        done = run("evaluate", "--predictions", write(other, "mixed"), *arguments, code=65)
        check(predictions[0]["impression_id"] in done.stderr, done.stderr)
        nan = [dict(predictions[0], scores=[dict(predictions[0]["scores"][0], p_click=float("nan"))])]
        run("evaluate", "--predictions", write(nan, "nan"), *arguments, code=65)
        run("evaluate", "--predictions", write([], "empty"), *arguments, code=66)
        times = sorted(p["event_time"] for p in predictions)
        until = int(times[10].timestamp() * 1000) if hasattr(times[10], "timestamp") else times[10]
        leaky = write(predictions, "leaky", {"exitpoll.trained_until": str(until)})
        done = run("evaluate", "--predictions", leaky, *arguments, code=78)
        check("--allow-leak" in done.stderr, done.stderr)
        done = run("evaluate", "--predictions", leaky, *arguments, "--allow-leak")
        check("LEAK" in done.stdout, done.stdout)
        run("evaluate", "--predictions", folder / "out", "--events", folder / "nothing", code=66)
        done = run("evaluate", "--predictions", folder / "out", *arguments, "--task", "bought", code=None)
        check(done.returncode in (64, 78) and "liked" in done.stderr, done.stderr)


if __name__ == "__main__":
    main(test_figures_of_a_run, test_compare_charts_and_table, test_what_is_left_out_or_refused)

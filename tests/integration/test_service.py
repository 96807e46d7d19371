#!/usr/bin/env python3
"""What a running instance shows over HTTP: liveness, readiness that follows the broker, metrics that follow
the stream, a status page; and how SIGTERM ends it, also while the broker or the schema registry is down."""
import re
import socket
import urllib.error
import urllib.request

from harness import *

ROWS, KEYS = make_events(seed=31, users=60, items=50, interactions=400, impressions=120)
LAST = max(row["event_time"] for row in ROWS["interaction"])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(port, path):
    """Status and text; status 0 while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (urllib.error.URLError, ConnectionError):
        return 0, ""


def metrics(port):
    """{series: value}; every line must be in the text format."""
    code, text = get(port, "/metrics")
    check(code == 200, f"/metrics: {code}")
    result = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = re.fullmatch(r'([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{[^}]*\})?) (\S+)', line)
        check(match, f"/metrics: not in the text format: {line}")
        result[match[1]] = float(match[2])
    return result


def wait_for(what, condition, seconds=60):
    began = time.time()
    while not condition():
        check(time.time() - began < seconds, f"{what}: not within {seconds} s")
        time.sleep(.05)
    return time.time() - began


def start(folder, broker, port, *arguments):
    return Process(folder / "log", "run", "--from", broker.url, "--to", broker.url, "--state",
                   folder / "state", "--set", f"http.port={port}", *STUB, *arguments)


def log_of(folder):
    return (folder / "log").read_text(errors="replace")


def live_impressions(count, first):
    return [dict(row, impression_id=f"live{first + i}", event_time=LAST + 1 + first + i)
            for i, row in enumerate(ROWS["impression"][:count])]


def test_metrics_and_readiness_follow_the_stream_and_the_broker():
    with Scratch() as folder, Broker() as broker:
        create_topics(broker, 2)
        produce(broker, ROWS, KEYS, names=("item", "interaction"))
        port = free_port()
        # Longer than the broker is away, so that the group still knows us.
        live = start(folder, broker, port, "--set", "kafka.session.timeout.ms=120000")
        wait_for("/livez", lambda: get(port, "/livez")[0] == 200, 30)
        wait_for("/readyz", lambda: get(port, "/readyz")[0] == 200, 30)
        check(f"http.listening address=127.0.0.1:{port}" in log_of(folder), "no log line with the address")
        events = len(ROWS["item"]) + len(ROWS["interaction"])
        wait_for("the graph's events", lambda: metrics(port)["exitpoll_records_total"] == events)
        # 401 interactions: one refresh after 256 of them, the second because nothing more came.
        wait_for("the idle refresh", lambda: metrics(port)["exitpoll_graph_flushes_total"] == 2)
        before = metrics(port)
        check(before['exitpoll_events_total{type="item"}'] == len(ROWS["item"]), "items are miscounted")
        check(before['exitpoll_events_total{type="interaction"}'] == len(ROWS["interaction"]),
              "interactions are miscounted")
        check(before["exitpoll_graph_users"] > 0 and before["exitpoll_graph_edges"] > 0, "the graph is empty")
        check(before["exitpoll_candidates_total"] == 0, "candidates without impressions")
        check(before["exitpoll_ready"] == 1, "exitpoll_ready is not 1")
        check(before["process_resident_memory_bytes"] > 1e6, "no resident memory")

        produce(broker, {"impression": live_impressions(50, 0)}, KEYS, names=("impression",))

        def answered(values):
            return sum(value for name, value in values.items() if name.startswith("exitpoll_predictions_total"))
        wait_for("50 predictions in the metrics", lambda: answered(metrics(port)) == 50)
        wait_for("a commit in the metrics", lambda: metrics(port)["exitpoll_commits_total"] > 0)
        after = metrics(port)
        candidates = sum(len(row["candidates"]) for row in live_impressions(50, 0))
        check(after['exitpoll_events_total{type="impression"}'] == 50, "impressions are miscounted")
        check(after["exitpoll_source_overfull_total"] == 0, "no time has 65,536 records")
        check("exitpoll_source_waiting_bytes" in after, "what waits is not shown")
        check(after["exitpoll_enrichments_total"] == 50, "enrichments are miscounted")
        check(after["exitpoll_enrich_seconds_total"] > 0, "enrichment took no time")
        check(after["exitpoll_last_commit_seconds"] > 0, "the commit took no time")
        check(0 < after["exitpoll_queue_seconds_total"] < 50 * 60, "requests waited for no time, or too long")
        check("exitpoll_model_flop_utilisation_ratio" in after, "the use of the processor is not shown")
        check(after["exitpoll_candidates_total"] <= candidates, "more candidates than there were")
        check(after["exitpoll_candidates_total"] > 0, "no candidates")
        falling = [name for name in before if name.endswith("_total") and after[name] < before[name]]
        check(not falling, f"counters fell: {falling}")
        code, page = get(port, "/")
        check(code == 200 and "exitpoll_records_total" in page and "127.0.0.1" in page, "no status page")
        check(get(port, "/nowhere")[0] == 404, "/nowhere is there")

        # The broker dies: alive but not ready; it comes back: ready, and the stream goes on.
        broker.script("kill")
        wait_for("not ready without a broker", lambda: get(port, "/readyz")[0] == 503, 30)
        check("broker" in get(port, "/readyz")[1], "/readyz does not say why")
        check(get(port, "/livez")[0] == 200, "not alive without a broker")
        time.sleep(2)
        flapped = [get(port, "/readyz")[0] for _ in range(40) if not time.sleep(.05)]
        check(set(flapped) == {503}, "readiness flaps while the broker is down")
        check(metrics(port)["exitpoll_ready"] == 0, "exitpoll_ready is not 0")
        broker.script("start")
        wait_for("ready again", lambda: get(port, "/readyz")[0] == 200, 60)
        produce(broker, {"impression": live_impressions(30, 50)}, KEYS, names=("impression",))
        # librdkafka waits up to 10 s between tries to reach a coordinator that was away.
        answers = comparable(predictions_on(broker, 80, quiet_s=40))
        check(len(answers) == 80, f"{len(answers)} of 80 impressions were answered")
        check(log_of(folder).count("pipeline.trouble") < 5, "the log repeats itself")
        began = time.time()
        code = live.stop()
        check(code == 0, f"SIGTERM: exit code {code}\n{log_of(folder)[-2000:]}")
        check(time.time() - began < 10, "draining took more than 10 s")
        check(get(port, "/livez")[0] == 0, "somebody still listens")


def test_sigterm_while_the_broker_is_down():
    """Everything is committed, so nothing keeps it."""
    with Scratch() as folder, Broker() as broker:
        create_topics(broker, 1)
        produce(broker, ROWS, KEYS, names=("item", "interaction"))
        port = free_port()
        live = start(folder, broker, port)
        events = len(ROWS["item"]) + len(ROWS["interaction"])
        wait_for("the events", lambda: get(port, "/readyz")[0] == 200 and
                 metrics(port)["exitpoll_records_total"] == events)
        broker.script("kill")
        wait_for("not ready", lambda: get(port, "/readyz")[0] == 503, 30)
        began = time.time()
        code = live.stop()
        check(code == 0, f"SIGTERM without a broker: exit code {code}\n{log_of(folder)[-2000:]}")
        check(time.time() - began < 10, f"ending took {time.time() - began:.1f} s")


def test_sigterm_before_a_broker_was_there():
    """It still waits for the first answer; --until end, which was not reached, is not a good end."""
    for until, code in (([], 0), (["--until", "end"], 75)):
        with Scratch() as folder:
            live = Process(folder / "log", "run", "--from", f"kafka://127.0.0.1:{free_port()}", "--to", folder / "out"
                           if until else f"kafka://127.0.0.1:{free_port()}", "--state", folder / "state", *STUB, *until)
            time.sleep(2)
            check(live.alive(), log_of(folder))
            began = time.time()
            got = live.stop()
            check(got == code, f"exit code {got}, not {code}\n{log_of(folder)}")
            check(time.time() - began < 10, f"ending took {time.time() - began:.1f} s")


def test_sigterm_interrupts_a_dead_registry():
    """A registry that accepts connections and never answers would be waited for; SIGTERM ends that."""
    with socket.socket() as silent, Scratch() as folder, Broker() as broker:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        create_topics(broker, 1)
        produce(broker, ROWS, KEYS, names=("item",))
        port = free_port()
        live = start(folder, broker, port, "--set", f"schema.registry=http://127.0.0.1:{silent.getsockname()[1]}",
                     "--set", "schema.registry.timeout_ms=300000", "--set",
                     "schema.registry.retry_max_ms=600000", "--set", "retry.max_ms=600000")
        silent.settimeout(60)
        connection, _ = silent.accept()
        time.sleep(.5)
        began = time.time()
        code = live.stop()
        connection.close()
        check(time.time() - began < 10, f"ending took {time.time() - began:.1f} s")
        check(code in (0, 75), f"exit code {code}\n{log_of(folder)[-2000:]}")


def test_port_taken_and_off():
    with Scratch() as folder:
        write_folder(folder / "events", ROWS)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen(1)
            port = taken.getsockname()[1]
            done = run("run", "--from", folder / "events", "--to", folder / "out", *STUB,
                       "--set", f"http.port={port}", code=78)
            check("http.port" in done.stderr, f"no word of http.port: {done.stderr}")
        done = run("run", "--from", folder / "events", "--to", folder / "out", *STUB)
        check("http.listening" not in done.stderr, "it listens without being asked")


if __name__ == "__main__":
    main(test_port_taken_and_off, test_metrics_and_readiness_follow_the_stream_and_the_broker,
         test_sigterm_while_the_broker_is_down, test_sigterm_before_a_broker_was_there, test_sigterm_interrupts_a_dead_registry)

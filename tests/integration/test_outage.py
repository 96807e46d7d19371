#!/usr/bin/env python3
"""The broker is away for longer than the group's session and the transactions last: the instance joins
again by itself, and a read_committed reader sees every impression answered exactly once."""
from harness import *

ROWS, KEYS = make_events(seed=47, users=60, items=50, interactions=400, impressions=400)
LAST = max(row["event_time"] for row in ROWS["interaction"])
OUTAGE_S = 14


def impressions(first, count):
    return [dict(row, impression_id=f"live{first + i}", event_time=LAST + 1 + first + i)
            for i, row in enumerate(ROWS["impression"][first:first + count])]


def test_outage_longer_than_the_session():
    with Scratch() as folder, Broker() as broker:
        create_topics(broker, 2)
        produce(broker, ROWS, KEYS, names=("item", "interaction"))
        log = folder / "log"
        live = Process(log, "run", "--from", broker.url, "--to", broker.url, "--state", folder / "state", *STUB,
                       *os.environ.get("MORE", "").split())
        try:
            produce(broker, {"impression": impressions(0, 100)}, KEYS, names=("impression",))
            answers = comparable(predictions_on(broker, 100, quiet_s=10))
            check(len(answers) == 100, f"before the outage: {len(answers)} of 100 impressions were answered")
            # Some are in the middle of a transaction when the broker dies.
            produce(broker, {"impression": impressions(100, 100)}, KEYS, names=("impression",))
            broker.script("kill")
            time.sleep(OUTAGE_S)
            check(live.alive(), f"it ended during the outage\n{log.read_text()[-2000:]}")
            broker.script("start")
            produce(broker, {"impression": impressions(200, 100)}, KEYS, names=("impression",))
            answers = comparable(predictions_on(broker, 300, quiet_s=15))
            check(live.alive(), f"it ended after the outage\n{log.read_text()[-3000:]}")
            check(len(answers) == 300, f"{len(answers)} of 300 impressions were answered\n{log.read_text()[-3000:]}")
            # The session that the broker remembers ends only now: nothing may be left of the old member.
            time.sleep(6)
            produce(broker, {"impression": impressions(300, 100)}, KEYS, names=("impression",))
            answers = comparable(predictions_on(broker, 400, quiet_s=10))
            check(set(answers) == {f"live{i}" for i in range(400)},
                  f"{len(answers)} of 400 impressions were answered\n{log.read_text()[-3000:]}")
            check(live.alive(), f"it ended after it had recovered\n{log.read_text()[-3000:]}")
            code = live.stop()
            check(code == 0, f"SIGTERM: exit code {code}\n{log.read_text()[-2000:]}")
        finally:
            if live.alive():
                live.kill()


if __name__ == "__main__":
    main(test_outage_longer_than_the_session)

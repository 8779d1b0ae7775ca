"""Repos are followed through thousands of writes and a restart: no event lost, none twice, all verified.

A hold (did:plc) is written with 10,000 random records over XRPC, a hold (did:web) and an account of the PDS with 2,000; in
the midst the service is killed with SIGKILL and started again. From the first event on it is followed

- strictly by the first judge (order, signatures, limits, MST inversion, the chain of `prevData` and `since`),
- by the client of the Python SDK, which comes back by itself, with MST inversion by `atmst`,
- for a did:plc by indigo's relay, whose own event stream the first judge follows in turn, and by indigo's Tap.

In the end each has every commit that was acknowledged exactly once, and the tree and records that `getRepo` exports.
(indigo resolves a did:web by https on port 443 only, so it does not follow one here.)
"""

import json
import os
import shutil

from lib import xrpc
from lib.hold import Hold
from lib.indigo import Relay, Tap
from lib.judges import HERE, Judges, of_account, of_hold
from lib.process import end, must

OWNER = "alice.test"
HOST = "hold.atcr.test"
WRITES = 10_000
FEWER = 2_000
LIMIT = 600


def check(suite, _):
    home, said = suite.home("follow"), []
    with suite.server("follow") as server:
        for method, public_url, writes in (("plc", None, WRITES), ("web", f"https://{HOST}", FEWER)):
            name = f"hold-{method}"
            with Hold(server, OWNER, f"{home}/{name}", f"{suite.logs}/follow-{name}.log", method, public_url) as hold:
                said.append(follow(suite, server, hold, of_hold(server, hold), writes))
        said.append(follow(suite, server, server, of_account(server, OWNER), FEWER))
    shutil.rmtree(home)
    return "; ".join(said)


def follow(suite, server, service, subject, writes):
    """Has one subject written and followed; `service` is what is killed."""
    name = f"follow-{subject.name.replace(' ', '-').replace(':', '-')}"
    judges, home = Judges(suite, name, server.ready["plc"]), suite.home(name)
    programs, indigo = [], []
    try:
        for argv in (["node", f"{HERE}/atproto/follow.mjs"], [judges.python, f"{HERE}/python/follow.py"]):
            programs.append(judges.pipe(*argv, *subject.arguments(judges.plc)))
        if subject.did.startswith("did:plc:"):
            indigo = [kind(suite.shell(f"{name}-{kind.__name__.lower()}"), f"{home}/{kind.__name__}", subject.pds,
                           judges.plc) for kind in (Relay, Tap)]
            for program in indigo:
                program.start()
            indigo[1].add(subject.did)
        # Who comes after the restart learns nothing of it.
        for program in programs:
            judges.follows(program)
        acknowledged = f"{home}/acknowledged"
        counts = write(judges, service, subject, writes, acknowledged)
        latest = json.loads(xrpc.query(subject.pds, "com.atproto.sync.getLatestCommit", did=subject.did))
        goal = json.dumps({"rev": latest["rev"], "acknowledged": acknowledged}) + "\n"
        for program in programs:
            program.stdin.write(goal)
            program.stdin.flush()
        results = [judges.said(program, LIMIT) for program in programs]
        commits, records = results[0]["commits"], results[0]["records"]
        for result in results:
            must((result["commits"], result["records"]) == (commits, records), f"the followers differ: {results}")
            must(result["connections"] > 1, f"it was never restarted: {result}")
        if indigo:
            with_indigo(judges, subject, *indigo, latest["rev"], goal, commits, records)
    finally:
        for program in programs:
            end(program)
        for program in indigo:
            program.stop()
    by = " by Node, Python, relay and Tap" if indigo else " by Node and Python"
    return f"{subject.name}: {counts['records']} records in {commits} commits followed{by}"


def write(judges, service, subject, writes, acknowledged):
    """So many records, and a kill at the half; returns what the writer counted."""
    churn = judges.churn(subject, "--writes", str(writes), "--acknowledged", acknowledged, "--interrupted")
    try:
        for line in churn.stdout:
            if line.strip().isdigit() and int(line) >= writes // 2:
                break
        service.kill()
        # It stays away until that is noticed: on a busy machine it could be back before the next write.
        must(any(line.strip() == "away" for line in churn.stdout), f"the writes ended; see {judges.shell.log}")
        service.start()
        counts = judges.said(churn, LIMIT)
    finally:
        end(churn)
    must(os.path.getsize(acknowledged) > 0, "nothing was acknowledged")
    return counts


def with_indigo(judges, subject, relay, tap, rev, goal, commits, records):
    """The relay lets everything through, and Tap has the same records."""
    relay.wait_until(rev, subject.did)
    state = tap.wait_until(rev, subject.did)
    must((state["state"], state["records"], state["error"]) == ("active", records, ""), f"Tap: {state}")
    must(tap.fetches() == 1, f"Tap fetched the repo {tap.fetches()} times")
    for program in (relay, tap):
        must(not program.complaints(), f"{type(program).__name__}: {'; '.join(program.complaints()[:3])}")
    through = judges.pipe("node", f"{HERE}/atproto/follow.mjs", *subject.arguments(judges.plc), "--pds", relay.url,
                          "--export", subject.pds)
    try:
        through.stdin.write(goal)
        through.stdin.flush()
        result = judges.said(through, LIMIT)
    finally:
        end(through)
    must((result["commits"], result["records"]) == (commits, records), f"through the relay: {result}")

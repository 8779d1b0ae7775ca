"""Repos hold before independent implementations of the AT Protocol, at rest and while they are written.

The subjects are an account of the PDS (did:plc), the hold of `atcr dev` and a hold that runs on its own under the name of
a host (did:web). The judges are the reference packages for Node, the Python SDK, and indigo's tool for exports. Then proxies lie about
the account in one respect each, and the check whose matter it is must notice: every check of the first judge is lied to.
"""

from concurrent.futures import ThreadPoolExecutor

from lib.hold import Hold
from lib.judges import Judges, Subject, of_account, of_hold
from lib.process import end, must

OWNER = "alice.test"
HOST = "hold.atcr.test"
RECORDS = 120
# So fast that everything a check reads changes meanwhile, and the event stream can be read to its end.
PAUSE = 150  # Milliseconds between the writes of each of four writers.
# What the second judge is told, and the check that must notice.
LIES = {
    "export-signature": "signed-export",
    "export-block": "canonical-blocks",
    "record-proof": "record-proofs",
    "blob-bytes": "blobs",
    "event-prev-data": "event-stream",
    "event-operation": "event-stream",
    "event-tree": "event-stream",
    "event-signature": "event-stream",
    "event-lost": "event-stream",
}


def check(suite, server):
    server.client(OWNER).push(f"{OWNER}/verify", suite.images.multi)
    judges = Judges(suite, "verify", server.ready["plc"])
    account = of_account(server, OWNER)
    own = Subject("hold of dev", server.ready["hold"], server.ready["hold_did"], account.writer, service=True,
                  map=[f"https://{server.ready['hold_did'].removeprefix('did:web:').replace('%3A', ':')}={server.ready['hold']}"])
    directory = f"{suite.directory}/verify-hold"
    with Hold(server, OWNER, directory, f"{suite.logs}/verify-hold.log", f"https://{HOST}") as hold:
        alone = of_hold(server, hold, OWNER, f"did:web:{HOST}")
        for subject in (account, own, alone):
            judges.said(judges.churn(subject, "--writes", str(RECORDS)), 60)
        # The SDK takes no document without a handle, and under `localhost:PORT` there can be none.
        by = [(account, judges.first), (account, judges.second), (account, judges.third), (own, judges.first),
              (own, judges.third), (alone, judges.first), (alone, judges.second), (alone, judges.third)]
        counts = [f"{subject.name} {judges.hold(subject, judge)}" for subject, judge in by]
        written = written_meanwhile(judges, [(subject, judge) for subject, judge in by if subject is not own])
    told = judges.first(account, "--lies")
    noticed = second_notices(judges, account)
    return f"checks hold: {', '.join(counts)}; {written} records written meanwhile, all hold; " \
        f"{first_notices(told)} and {noticed} lies noticed"


def written_meanwhile(judges, by):
    """Each judge over its subject while the subject is written; returns how many records were."""
    records = 0
    for number, (subject, judge) in enumerate(by):
        churn = judges.churn(subject, "--pause", str(PAUSE), "--seed", str(100 + number))
        try:
            must(churn.stdout.readline(), f"nothing is written to {subject.name}; see {judges.shell.log}")
            judges.hold(subject, judge)
            must(churn.poll() is None, f"the writes of {subject.name} ended; see {judges.shell.log}")
            churn.terminate()
            records += judges.said(churn, 30)["records"]
        finally:
            end(churn)
    return records


def first_notices(told):
    """Returns the number of lies when each was noticed, and by each check one."""
    for one in told:
        must(one["noticed"] == (one["lie"] != "nothing"), f"{one['check']} is wrong about {one['lie']}")
    deaf = {one["check"] for one in told} - {one["check"] for one in told if one["noticed"]}
    must(not deaf, f"no lie is told to {', '.join(sorted(deaf))}")
    return len({one["lie"] for one in told}) - 1


def second_notices(judges, subject):
    with ThreadPoolExecutor(2) as pool:
        for (lie, check), failed in zip(LIES.items(), pool.map(lambda lie: judges.behind(lie, subject), LIES)):
            must(check in failed, f"the second judge does not notice {lie}")
    must(not judges.behind("nothing", subject), "the second judge sees lies where there are none")
    return len(LIES)

"""Repos hold before independent implementations of the AT Protocol, at rest and while they are written.

The subjects are the hold of `atcr dev` (did:web), an account of its PDS (did:plc), and two holds that run on their own: a
did:web with the name of a host, and a did:plc. The judges are the reference packages for Node, the Python SDK, and indigo's tool for exports. Then proxies lie about
the account in one respect each, and the check whose matter it is must notice: every check of the first judge is lied to.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor

from lib import xrpc
from lib.hold import Hold
from lib.indigo import Tap
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
LIES_TO_TAP = ["event-signature", "event-tree", "event-prev-data"]


def check(suite, server):
    server.client(OWNER).push(f"{OWNER}/verify", suite.images.multi)
    judges = Judges(suite, "verify", server.ready["plc"])
    account, own, counts = of_account(server, OWNER), of_hold_of_dev(server), []
    with hold(suite, server, "web", f"https://{HOST}") as web, hold(suite, server, "plc") as plc:
        written = [account, of_hold(server, web), of_hold(server, plc)]
        for subject in written:
            judges.said(judges.churn(subject, "--writes", str(RECORDS)), 60)
        for subject in [own, *written]:
            numbers = [judges.hold(subject, judge) for judge in (judges.first, judges.second, judges.third)]
            counts.append(f"{subject.name} {'+'.join(map(str, numbers))}")
        records = written_meanwhile(judges, written)
    told = judges.first(account, "--lies")
    noticed = f"{first_notices(told)}, {second_notices(judges, account)} and {third_notices(suite, judges, account)}"
    return f"checks hold: {', '.join(counts)}; again while {records} records were written; " \
        f"{noticed} lies noticed"


def of_hold_of_dev(server):
    """The hold to which images were pushed. It has no host name, so it can have no handle."""
    ready = server.ready
    origin = ready["hold"].replace("http:", "https:")
    return Subject("hold of dev", ready["hold"], ready["hold_did"], writer=None, map=[f"{origin}={ready['hold']}"])


def hold(suite, server, method, public_url=None):
    name = f"verify-hold-{method}"
    return Hold(server, OWNER, f"{suite.directory}/{name}", f"{suite.logs}/{name}.log", method, public_url)


def written_meanwhile(judges, subjects):
    """Each judge over each subject while that is written; returns how many records were."""
    records = 0
    by = [(subject, judge) for subject in subjects for judge in (judges.first, judges.second, judges.third)]
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
    def failed(lie):
        with judges.lying(lie, subject) as url:
            return {result["name"] for result in judges.second(subject, url) if not result["ok"]}

    with ThreadPoolExecutor(2) as pool:
        for (lie, check), noticed in zip(LIES.items(), pool.map(failed, LIES)):
            must(check in noticed, f"the second judge does not notice {lie}")
    must(not failed("nothing"), "the second judge sees lies where there are none")
    return len(LIES)


def third_notices(suite, judges, subject):
    """Tap, which is told of some writes."""
    for number, lie in enumerate(("nothing", *LIES_TO_TAP)):
        shell = suite.shell(f"verify-tap-{lie}")
        with judges.lying(lie, subject) as url, Tap(shell, f"{suite.directory}/tap-{lie}", url, judges.plc) as tap:
            tap.add(subject.did)
            judges.said(judges.churn(subject, "--writes", "20", "--seed", str(200 + number)), 60)
            if lie == "nothing":
                rev = json.loads(xrpc.query(subject.pds, "com.atproto.sync.getLatestCommit", did=subject.did))["rev"]
                tap.wait_until(rev, subject.did)
                must(not tap.complaints(), f"Tap sees lies where there are none: {'; '.join(tap.complaints()[:3])}")
            else:
                deadline = time.monotonic() + 30
                while not tap.complaints():
                    must(time.monotonic() < deadline, f"Tap does not notice {lie}")
                    time.sleep(0.1)
    return len(LIES_TO_TAP)

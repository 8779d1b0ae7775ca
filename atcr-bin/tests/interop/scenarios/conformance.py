"""The OCI conformance suite over the whole stack: the released and the coming version, with and without images whose
blobs are missing. Every test must pass, and none may be skipped.
"""

import os
import shutil
import xml.etree.ElementTree

from lib.process import NotApplicable, end, must

OWNER = "alice.test"
VERSIONS = ["1.1", "dev"]
OUTCOMES = ("passed", "failed", "skipped")


def check(suite, _):
    if not shutil.which("conformance"):
        refused = f"{suite.cache}/conformance-refused"
        must(os.path.exists(refused), "conformance is not installed; .ci/install says why")
        with open(refused) as file:
            raise NotApplicable(f"the Go proxy does not serve it: {file.read().strip()}")
    return "passed " + "; ".join(run(suite, version, sparse) for version in VERSIONS for sparse in (False, True))


def run(suite, version, sparse):
    """Runs one version on a fresh registry; returns the counts."""
    name = f"conformance-{version}" + ("-sparse" if sparse else "")
    results, shell = f"{suite.logs}/{name}-results", suite.shell(name)
    os.makedirs(results, exist_ok=True)
    with suite.server(name, options=["--sparse-images"] if sparse else []) as server:
        process = shell.start("conformance", env={
            "OCI_CONFIGURATION": os.devnull,
            "OCI_REGISTRY": server.registry,
            "OCI_TLS": "disabled",
            "OCI_REPO1": f"{OWNER}/conf1",
            "OCI_REPO2": f"{OWNER}/conf2",
            "OCI_USERNAME": OWNER,
            "OCI_PASSWORD": server.password(OWNER),
            "OCI_VERSION": version,
            "OCI_DATA_SPARSE": str(sparse).lower(),
            # Off in 1.1, which has the request all the same.
            "OCI_API_BLOBS_UPLOAD_CANCEL": "true",
            "OCI_RESULTS_DIR": results,
        })
        try:
            process.wait(300)
        finally:
            end(process)
    # The exit code also says 0 when the results could not be written.
    must(os.path.exists(f"{results}/results.yaml"), f"the suite did not run; see {shell.log}")
    counts, missed = dict.fromkeys(OUTCOMES, 0), []
    for case in xml.etree.ElementTree.parse(f"{results}/junit.xml").iter("testcase"):
        outcome = {"passed": "passed", "failure": "failed", "error": "failed"}.get(case.get("status"), "skipped")
        counts[outcome] += 1
        if outcome != "passed":
            missed.append(f"{case.get('name')} ({outcome})")
    must(counts["passed"], f"the suite did not run; see {shell.log}")
    for case in missed:
        suite.say(f"{name}: {case}")
    must(not missed, f"{name}: {counts['failed']} failed, {counts['skipped']} skipped")
    return f"{name.removeprefix('conformance-')}: {counts['passed']}"

"""The OCI conformance suite, for the released and for the coming version. Reported, not yet required."""

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
    return "; ".join(run(suite, version) for version in VERSIONS)


def run(suite, version):
    """Runs one version on a fresh registry; returns the counts, and prints what failed."""
    name = f"conformance-{version}"
    results, shell = f"{suite.logs}/{name}-results", suite.shell(name)
    os.makedirs(results, exist_ok=True)
    with suite.server(name) as server:
        process = shell.start("conformance", env={
            "OCI_CONFIGURATION": os.devnull,
            "OCI_REGISTRY": server.registry,
            "OCI_TLS": "disabled",
            "OCI_REPO1": f"{OWNER}/conf1",
            "OCI_REPO2": f"{OWNER}/conf2",
            "OCI_USERNAME": OWNER,
            "OCI_PASSWORD": server.password(OWNER),
            "OCI_VERSION": version,
            "OCI_RESULTS_DIR": results,
        })
        try:
            process.wait(300)
        finally:
            end(process)
    # The exit code also says 0 when the results could not be written.
    must(os.path.exists(f"{results}/results.yaml"), f"the suite did not run; see {shell.log}")
    counts, failed = dict.fromkeys(OUTCOMES, 0), []
    for case in xml.etree.ElementTree.parse(f"{results}/junit.xml").iter("testcase"):
        outcome = {"passed": "passed", "failure": "failed", "error": "failed"}.get(case.get("status"), "skipped")
        counts[outcome] += 1
        if outcome == "failed":
            failed.append(case.get("name"))
    must(counts["passed"], f"the suite did not run; see {shell.log}")
    for name in failed:
        if not any(other.startswith(f"{name}/") for other in failed):
            suite.say(f"conformance {version} failed: {name}")
    return f"{version}: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items())

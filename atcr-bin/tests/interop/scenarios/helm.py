"""A Helm chart is pushed, found by its version and by the highest one, and comes back as it was."""

import filecmp
import os

from lib.process import must

OWNER = "alice.test"
CHART = "apiVersion: v2\nname: interop\nversion: {version}\ndescription: a chart\n"
VALUES = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n"


def check(suite, server):
    home, shell = suite.home("helm"), suite.shell("helm")
    for purpose in ("CACHE", "CONFIG", "DATA"):
        shell.env[f"HELM_{purpose}_HOME"] = f"{home}/{purpose.lower()}"
    shell.run("helm", "registry", "login", "--plain-http", "--username", OWNER, "--password-stdin", server.registry,
              stdin=server.password(OWNER).encode())
    charts = {version: package(shell, home, version) for version in ("0.1.0", "0.2.0")}
    place = f"oci://{server.registry}/{OWNER}/charts"
    for chart in charts.values():
        shell.run("helm", "push", "--plain-http", chart, place)
    pulled = f"{home}/pulled"
    os.makedirs(pulled)
    for version in (["--version", "0.1.0"], []):
        shell.run("helm", "pull", "--plain-http", f"{place}/interop", *version, "--destination", pulled)
    for version, chart in charts.items():
        must(filecmp.cmp(chart, f"{pulled}/interop-{version}.tgz", shallow=False), f"chart {version} differs")
    shown = shell.run("helm", "template", "web", "--plain-http", f"{place}/interop", "--version", "^0.1")
    must("name: web" in shown, f"helm template says {shown}")
    return f"{shell.run('helm', 'version', '--short').strip()}: two versions pushed, pulled and rendered"


def package(shell, home, version):
    source = f"{home}/source-{version}/interop"
    os.makedirs(f"{source}/templates")
    for name, content in (("Chart.yaml", CHART.format(version=version)), ("templates/map.yaml", VALUES)):
        with open(f"{source}/{name}", "w") as file:
            file.write(content)
    shell.run("helm", "package", source, "--destination", home)
    return f"{home}/interop-{version}.tgz"

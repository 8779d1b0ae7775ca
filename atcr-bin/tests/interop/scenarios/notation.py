"""An image is signed with notation; the signature is a referrer, holds, and holds for nothing else."""

import json

from lib.process import must

OWNER = "alice.test"
CERTIFICATE = "interop.test"
POLICY = {"version": "1.0", "trustPolicies": [{
    "name": "interop",
    "registryScopes": ["*"],
    "signatureVerification": {"level": "strict"},
    "trustStores": [f"ca:{CERTIFICATE}"],
    "trustedIdentities": ["*"],
}]}


def check(suite, server):
    home, shell = suite.home("notation"), suite.shell("notation")
    shell.env |= {"XDG_CONFIG_HOME": home, "NOTATION_USERNAME": OWNER, "NOTATION_PASSWORD": server.password(OWNER)}
    with open(f"{home}/policy.json", "w") as file:
        json.dump(POLICY, file)
    shell.run("notation", "policy", "import", f"{home}/policy.json")
    shell.run("notation", "cert", "generate-test", "--default", CERTIFICATE)
    repository = f"{OWNER}/notation"
    owner = server.client(OWNER)
    for image in suite.images.app, suite.images.arm:
        owner.push(repository, image)
    signed = f"{server.registry}/{repository}@{suite.images.app.digest}"
    shell.run("notation", "sign", "--insecure-registry", signed)
    listed = shell.run("notation", "list", "--insecure-registry", signed)
    must("application/vnd.cncf.notary.signature" in listed, f"notation list says {listed}")
    # Anybody can verify.
    for name in ("NOTATION_USERNAME", "NOTATION_PASSWORD"):
        del shell.env[name]
    shell.run("notation", "verify", "--insecure-registry", signed)
    shell.refused("notation", "verify", "--insecure-registry",
                  f"{server.registry}/{repository}@{suite.images.arm.digest}", saying=["no signature"])
    version = next(line for line in shell.run("notation", "version").splitlines() if line.startswith("Version"))
    return f"{version.split()[-1]}: signed, listed, verified; an image without a signature is refused"

"""Images are signed with cosign in both of its forms: a bundle that is a referrer, and a tag beside the image."""

from lib.process import must

OWNER = "alice.test"
# Transparency logs are services of the internet.
OFFLINE = ["--tlog-upload=false", "--use-signing-config=false", "--yes"]


def check(suite, server):
    home, shell = suite.home("cosign"), suite.shell("cosign")
    shell.env |= {"DOCKER_CONFIG": home, "COSIGN_PASSWORD": ""}
    shell.run("cosign", "login", server.registry, "--username", OWNER, "--password", server.password(OWNER))
    shell.run("cosign", "generate-key-pair", cwd=home)
    owner = server.client(OWNER)
    for name, form in ("bundle", "true"), ("tag", "false"):
        repository = f"{OWNER}/cosign-{name}"
        owner.push(repository, suite.images.app)
        owner.push(repository, suite.images.arm)
        form = f"--new-bundle-format={form}"
        image = f"{server.registry}/{repository}@{suite.images.app.digest}"
        shell.run("cosign", "sign", "--allow-http-registry", "--key", f"{home}/cosign.key", form, *OFFLINE, image)
        verify = ["cosign", "verify", "--allow-http-registry", "--key", f"{home}/cosign.pub", form,
                  "--insecure-ignore-tlog=true"]
        must(suite.images.app.digest in shell.run(*verify, image), f"{name}: it verified something else")
        unsigned = f"{server.registry}/{repository}@{suite.images.arm.digest}"
        shell.refused(*verify, unsigned, saying=["no signatures found"])
    tag = suite.images.app.digest.replace(":", "-") + ".sig"
    must(owner.has(f"{OWNER}/cosign-tag", "manifests", tag), f"there is no tag {tag}")
    return "signed and verified as a referrer and by a tag; images without a signature are refused"

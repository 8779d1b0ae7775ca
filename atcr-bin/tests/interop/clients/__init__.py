"""One module per client; `ALL` is the order of the rows."""

from clients.buildah import Buildah
from clients.crane import Crane
from clients.ctr import Ctr
from clients.oras import Oras
from clients.podman import Podman
from clients.regctl import Regctl
from clients.skopeo import Skopeo

ALL = [Skopeo, Podman, Buildah, Ctr, Crane, Regctl, Oras]

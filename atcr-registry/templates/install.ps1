# Sets this machine up for the registry REGISTRY_HOST: installs the credential helper if it is missing, and tells
# Docker to use it. It asks for nothing and needs no administrator.
$ErrorActionPreference = 'Stop'

function Install-Atcr {
  $registry = 'REGISTRY_HOST'
  if (-not (Get-Command docker-credential-atcr -ErrorAction SilentlyContinue)) {
    if (-not (Get-Command cargo -ErrorAction SilentlyContinue)) {
      throw 'docker-credential-atcr is not installed, and neither is cargo, which builds it: see https://rustup.rs'
    }
    cargo install --locked atcr-bin --bin docker-credential-atcr
    if ($LASTEXITCODE -ne 0) { throw 'cargo could not build docker-credential-atcr' }
  }
  docker-credential-atcr configure-docker $registry
  if ($LASTEXITCODE -ne 0) { throw 'Docker could not be configured' }
  Write-Output "To sign in: docker-credential-atcr login $registry"
}

# A download that was cut off does nothing.
Install-Atcr

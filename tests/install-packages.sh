#!/usr/bin/env bash
# Installs the Debian packages that the demo, the tests or LocalStack need and this machine does not have.
# Elsewhere than on Debian and its kin it names what is missing and stops.
set -euo pipefail

wanted=${1:?usage: install-packages.sh demo|test|cloud}
missing=()

has() { command -v "$1" >/dev/null 2>&1; }
needs() { # package, then the check that it is there
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}
chromium() { has chromium || has chromium-browser || has google-chrome; }
libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] || ldconfig -p | grep -q 'libclang[-.0-9]*\.so' ||
        compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' || compgen -G '/usr/lib/*/libclang-*.so*'
}
docker_runs() {
    local limit=
    ! has timeout || limit="timeout 20"
    [ "${CLOUD_DOCKER:-yes}" != no ] && has docker && $limit docker info && docker compose version
}
initdb() { compgen -G '/usr/lib/postgresql/*/bin/initdb' || has initdb; }

if [ "$wanted" = cloud ]; then
    needs curl has curl
else
    needs ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
    needs gcc has cc
    needs libc6-dev test -e /usr/include/stdlib.h
    needs clang has clang
    needs libclang-dev libclang
    needs postgresql initdb
    needs postgresql-client has psql
    needs util-linux has setpriv
fi
if [ "$wanted" = test ] || { [ "$wanted" = cloud ] && ! docker_runs >/dev/null 2>&1; }; then
    needs nodejs has node
    needs npm has npm
    # The pages are tried in a real browser.
    [ "$wanted" = cloud ] || needs chromium chromium
    needs python3-venv python3 -c 'import ensurepip, venv'
    # What LocalStack is made of where Docker does not run it; javac compiles how its DynamoDB is started.
    needs default-jdk-headless has javac
    needs util-linux has flock
    needs util-linux has setpriv
fi
if [ "$wanted" != demo ] && ! has terraform; then
    echo "Terraform is missing, and Debian has no package of it. Please install it (1.9 or newer) as" >&2
    echo "https://developer.hashicorp.com/terraform/install says, and try again." >&2
    exit 1
fi

if [ "$wanted" != cloud ] && [ "$(id -u)" = 0 ] && ! id postgres >/dev/null 2>&1; then
    missing+=(postgresql) # PostgreSQL refuses to run as root: its package brings the user to run as
fi
[ ${#missing[@]} -gt 0 ] || exit 0

if ! has apt-get; then
    echo "This machine lacks what the Debian packages ${missing[*]} bring. Please install them and try again." >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" != 0 ]; then
    if ! has sudo; then
        echo "Missing packages: ${missing[*]}. Please run, as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

echo "Installing: ${missing[*]}"
# The package's own server on port 5432 is not wanted: the demo and the tests start their own.
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    "${as_root[@]}" mkdir -p /etc/postgresql-common/createcluster.d
    echo 'create_main_cluster = false' |
        "${as_root[@]}" tee /etc/postgresql-common/createcluster.d/countersign-demo.conf >/dev/null
fi
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q update
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}"

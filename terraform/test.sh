#!/usr/bin/env bash
# Checks the modules without any cloud: their form, their validity, and what they plan with a provider that is mocked.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/plugins.sh"
target=$here/../target/terraform
mkdir -p "$target"
target=$(cd "$target" && pwd)
work=$(mktemp -d "$target/test.XXXXXX")
trap 'rm -rf "$work"' EXIT

terraform fmt -check -diff -recursive "$here" "$here/../localstack"

# Terraform writes beside what it reads: it gets a copy.
cp -R "$here/modules" "$work/modules"
for module in "$work"/modules/*/; do
    cd "$module"
    echo "module $(basename "$module")"
    terraform_init "$target/providers"
    terraform validate -no-color
    terraform test -no-color
done

#!/usr/bin/env bash
# Runs LocalStack on this machine, without Docker, until it is ended: run.sh PORT DIRECTORY. Everything it writes is in
# DIRECTORY. It listens on 127.0.0.1 only, and its DynamoDB ends with it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
port=${1:?usage: run.sh PORT DIRECTORY}
directory=${2:?usage: run.sh PORT DIRECTORY}
folder=$("$here/install.sh")

# LocalStack looks for programs under its own tree, which FILESYSTEM_ROOT moves into the directory.
lib=$directory/var/lib/localstack/lib
mkdir -p "$lib/java" "$lib/dynamodb-local" "$directory/tmp"
directory=$(cd "$directory" && pwd)
ln -sfn "$folder/lib/java/21" "$lib/java/21"
ln -sfn "$folder/lib/dynamodb-local/2" "$lib/dynamodb-local/2"

# A shell that was told of an endpoint or of credentials must not change what the server does.
for name in $(compgen -e | grep -E '^(AWS_|LOCALSTACK_)' || true); do unset "$name"; done
export FILESYSTEM_ROOT=$directory TMPDIR=$directory/tmp OVERRIDE_IN_DOCKER=0
export GATEWAY_SERVER=hypercorn GATEWAY_LISTEN=127.0.0.1:$port
export SERVICES=${CLOUD_SERVICES:-s3,dynamodb,dynamodbstreams,sts,iam,secretsmanager,lambda,sqs,logs,kms}
export EAGER_SERVICE_LOADING=1 DISABLE_EVENTS=1 SKIP_SSL_CERT_DOWNLOAD=1 ACTIVATE_PRO=0
# As S3 does: a link whose signature is wrong, or that has expired, opens nothing.
export S3_SKIP_SIGNATURE_VALIDATION=0
export DNS_ADDRESS=0 DYNAMODB_IN_MEMORY=1 DYNAMODB_HEAP_SIZE=512m
cd "$directory"
exec "$folder/venv/bin/python" -m localstack.runtime.main

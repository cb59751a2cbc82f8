# Sourced: what a program needs in its environment to use LocalStack at $1. Only the endpoint distinguishes it from AWS.
export AWS_ENDPOINT_URL=$1
export AWS_REGION=eu-central-1
export AWS_ACCESS_KEY_ID=test
export AWS_SECRET_ACCESS_KEY=test
export AWS_EC2_METADATA_DISABLED=true
unset AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN

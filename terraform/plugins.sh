# Sourced by scripts that run Terraform: the environment that keeps it to itself, and where its provider is.

export TF_CLI_CONFIG_FILE=/dev/null TF_IN_AUTOMATION=1 TF_INPUT=0 CHECKPOINT_DISABLE=1
command -v terraform >/dev/null || {
    echo "Terraform is not on this machine: see https://developer.hashicorp.com/terraform/install (1.9 or newer)." >&2
    exit 1
}

# Prints the folder with the AWS provider in it, if this machine has one: TF_PLUGIN_DIR, the places that Terraform's
# documentation names for local plugins, and where administrators put such folders.
terraform_plugin_dir() {
    local folder
    for folder in "${TF_PLUGIN_DIR:-}" \
        "${XDG_DATA_HOME:-${HOME:-}/.local/share}/terraform/plugins" "${HOME:-}/.terraform.d/plugins" \
        /usr/local/share/terraform/plugins /usr/share/terraform/plugins \
        /usr/lib/terraform /usr/local/lib/terraform /opt/*/ /srv/*/; do
        if [ -n "$folder" ] && [ -d "${folder%/}/registry.terraform.io/hashicorp/aws" ]; then
            echo "${folder%/}"
            return
        fi
    done
    if [ -n "${TF_PLUGIN_DIR:-}" ]; then
        echo "TF_PLUGIN_DIR is $TF_PLUGIN_DIR, which holds no registry.terraform.io/hashicorp/aws." >&2
        return 1
    fi
}

# terraform_init CACHE: initialises the working directory; what has to be downloaded is kept in CACHE.
terraform_init() {
    local plugins cache=$1
    plugins=$(terraform_plugin_dir) || return 1
    if [ -n "$plugins" ]; then
        terraform init -no-color -plugin-dir="$plugins" >init.log 2>&1
    else
        mkdir -p "$cache"
        TF_PLUGIN_CACHE_DIR=$cache TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE=1 \
            terraform init -no-color >init.log 2>&1
    fi || {
        cat init.log >&2
        echo "Terraform found no AWS provider. Without the internet, put a folder with" \
            "registry.terraform.io/hashicorp/aws in it somewhere and name it in TF_PLUGIN_DIR." >&2
        return 1
    }
}

# What LocalStack gets when it is up: the stores of a gateway, by the modules that make them on AWS. The endpoint,
# the region and the credentials come from the environment (AWS_ENDPOINT_URL and so on).

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

# The only difference to AWS: nobody to check credentials with, and one host name for all buckets.
provider "aws" {
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  skip_region_validation      = true
  s3_use_path_style           = true

  # Whoever ended LocalStack meanwhile does not want it waited for.
  max_retries = 3
}

variable "name" {
  description = "The table's name, and how the bucket's begins."
  type        = string
  default     = "countersign"
}

resource "aws_kms_key" "operations" {
  description = "Makes the data keys of whole operations."
}

module "store" {
  source = "../terraform/modules/store"

  name = var.name
}

module "recordings" {
  source = "../terraform/modules/recordings"

  name        = "${var.name}-recordings"
  kms_key_arn = aws_kms_key.operations.arn
  object_lock = { mode = "GOVERNANCE", days = 1 }

  # The provider watches a lifecycle for 55 s before it believes it, and nothing here lives for days.
  incomplete_upload_days = null
}

output "table" {
  value = module.store.name
}

output "bucket" {
  value = module.recordings.name
}

output "kms_key" {
  value = aws_kms_key.operations.arn
}

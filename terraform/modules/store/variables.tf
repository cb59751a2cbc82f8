variable "name" {
  description = "The table's name."
  type        = string
  default     = "countersign"

  validation {
    condition     = can(regex("^[a-zA-Z0-9_.-]{3,255}$", var.name))
    error_message = "A table's name has 3 to 255 of a-z, A-Z, 0-9, _, - and ."
  }
}

variable "point_in_time_recovery" {
  description = "Whether the table can be brought back as it was at any second of the last 35 days."
  type        = bool
  default     = true
  nullable    = false
}

variable "deletion_protection" {
  description = "Whether DynamoDB refuses to delete the table. The journal is in it: switch it off only to take all down."
  type        = bool
  default     = true
  nullable    = false
}

variable "kms_key_arn" {
  description = "The KMS key that encrypts the table; none means the key that AWS manages for DynamoDB in this account."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "Give the key's ARN (arn:aws:kms:REGION:ACCOUNT:key/ID), not its id or an alias."
  }
}

variable "tags" {
  description = "Tags of the table."
  type        = map(string)
  default     = {}
  nullable    = false
}

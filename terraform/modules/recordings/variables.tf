variable "name" {
  description = "The bucket's name."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.name))
    error_message = "A bucket's name has 3 to 63 of a-z, 0-9, - and ., and begins and ends with a letter or a digit."
  }
}

variable "kms_key_arn" {
  description = "The KMS key that encrypts the objects (SSE-KMS with a bucket key); none means SSE-S3."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "Give the key's ARN (arn:aws:kms:REGION:ACCOUNT:key/ID), not its id or an alias."
  }
}

variable "object_lock" {
  description = <<-TEXT
    For how many days no version of an object can be deleted or replaced. In GOVERNANCE mode those with a special
    permission can, in COMPLIANCE mode nobody can, the account's owner included. It can be had from the bucket's creation
    on only: a change between null and a value asks for a new bucket.
  TEXT
  type = object({
    mode = string
    days = number
  })
  default = null

  validation {
    condition     = var.object_lock == null || contains(["GOVERNANCE", "COMPLIANCE"], try(var.object_lock.mode, ""))
    error_message = "The mode is GOVERNANCE or COMPLIANCE."
  }

  validation {
    condition = var.object_lock == null || try(
      var.object_lock.days >= 1 && var.object_lock.days <= 36500 && floor(var.object_lock.days) == var.object_lock.days,
      false,
    )
    error_message = "The lock holds for 1 to 36500 whole days."
  }
}

variable "expiry_days" {
  description = "After how many days what is under a prefix expires; null means never."
  type = object({
    recordings = optional(number)
    operations = optional(number)
    digests    = optional(number)
  })
  default  = {}
  nullable = false

  validation {
    condition = alltrue([
      for days in values(var.expiry_days) : days == null || try(days >= 1 && floor(days) == days, false)
    ])
    error_message = "Objects expire after one or more whole days."
  }
}

variable "expiry_days_by_retention" {
  description = <<-TEXT
    After how many days objects with the tag `retention` expire, by the tag's value. Where this and `expiry_days` both
    hold, S3 takes the earlier one.
  TEXT
  type        = map(number)
  default     = {}
  nullable    = false

  validation {
    condition = alltrue([
      for days in values(var.expiry_days_by_retention) : try(days >= 1 && floor(days) == days, false)
    ])
    error_message = "Objects expire after one or more whole days."
  }

  validation {
    condition     = alltrue([for value in keys(var.expiry_days_by_retention) : can(regex("^[a-zA-Z0-9_.:/=+@-]{1,256}$", value))])
    error_message = "A tag's value has 1 to 256 letters, digits and _ . : / = + - @ here."
  }
}

variable "noncurrent_days" {
  description = "How many days an expired object is kept as a noncurrent version, before it is gone."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.noncurrent_days >= 1 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "Noncurrent versions are kept for one or more whole days."
  }
}

variable "incomplete_upload_days" {
  description = "After how many days multipart uploads that nobody completed, and markers of nothing, go; null means never."
  type        = number
  default     = 7

  validation {
    condition = var.incomplete_upload_days == null || try(
      var.incomplete_upload_days >= 1 && floor(var.incomplete_upload_days) == var.incomplete_upload_days,
      false,
    )
    error_message = "Incomplete uploads are dropped after one or more whole days."
  }
}

variable "tags" {
  description = "Tags of the bucket."
  type        = map(string)
  default     = {}
  nullable    = false
}

locals {
  # What the gateway keeps here: chunks and manifests of sessions, whole operations, hourly digests.
  prefixes = ["recordings", "operations", "digests"]

  cleans_leftovers  = var.incomplete_upload_days != null
  expiring_prefixes = { for prefix in local.prefixes : prefix => var.expiry_days[prefix] if var.expiry_days[prefix] != null }
}

resource "aws_s3_bucket" "recordings" {
  bucket              = var.name
  object_lock_enabled = var.object_lock != null
  tags                = var.tags
}

resource "aws_s3_bucket_versioning" "recordings" {
  bucket = aws_s3_bucket.recordings.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_object_lock_configuration" "recordings" {
  count = var.object_lock == null ? 0 : 1

  bucket = aws_s3_bucket_versioning.recordings.bucket

  rule {
    default_retention {
      mode = var.object_lock.mode
      days = var.object_lock.days
    }
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "recordings" {
  bucket = aws_s3_bucket.recordings.id

  rule {
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_ownership_controls" "recordings" {
  bucket = aws_s3_bucket.recordings.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "recordings" {
  bucket = aws_s3_bucket.recordings.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_policy" "recordings" {
  bucket = aws_s3_bucket_public_access_block.recordings.bucket

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "OnlyWithTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [aws_s3_bucket.recordings.arn, "${aws_s3_bucket.recordings.arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "OnlyWithTls12"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [aws_s3_bucket.recordings.arn, "${aws_s3_bucket.recordings.arn}/*"]
        Condition = { NumericLessThan = { "s3:TlsVersion" = "1.2" } }
      },
    ]
  })
}

resource "aws_s3_bucket_lifecycle_configuration" "recordings" {
  # S3 knows no configuration without rules.
  count = local.cleans_leftovers || length(local.expiring_prefixes) + length(var.expiry_days_by_retention) > 0 ? 1 : 0

  bucket = aws_s3_bucket_versioning.recordings.bucket

  dynamic "rule" {
    for_each = local.cleans_leftovers ? [var.incomplete_upload_days] : []
    content {
      id     = "leftovers"
      status = "Enabled"

      filter {}

      abort_incomplete_multipart_upload {
        days_after_initiation = rule.value
      }

      expiration {
        expired_object_delete_marker = true
      }
    }
  }

  dynamic "rule" {
    for_each = local.expiring_prefixes
    content {
      id     = rule.key
      status = "Enabled"

      filter {
        prefix = "${rule.key}/"
      }

      expiration {
        days = rule.value
      }

      noncurrent_version_expiration {
        noncurrent_days = var.noncurrent_days
      }
    }
  }

  dynamic "rule" {
    for_each = var.expiry_days_by_retention
    content {
      id     = substr("retention-${rule.key}", 0, 255)
      status = "Enabled"

      filter {
        tag {
          key   = "retention"
          value = rule.key
        }
      }

      expiration {
        days = rule.value
      }

      noncurrent_version_expiration {
        noncurrent_days = var.noncurrent_days
      }
    }
  }
}

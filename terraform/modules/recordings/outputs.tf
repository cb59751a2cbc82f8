output "name" {
  description = "The bucket's name, for `bucket` of the gateway's `[store]`."
  value       = aws_s3_bucket.recordings.bucket
}

output "arn" {
  description = "The bucket's ARN."
  value       = aws_s3_bucket.recordings.arn
}

output "object_arns" {
  description = "The ARNs of what the gateway writes, by prefix, for a policy that allows no more."
  value       = { for prefix in local.prefixes : prefix => "${aws_s3_bucket.recordings.arn}/${prefix}/*" }
}

output "object_lock_days" {
  description = "For how many days no version can be deleted; null without Object Lock."
  value       = try(var.object_lock.days, null)
}

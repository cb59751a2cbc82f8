output "name" {
  description = "The table's name, for `table` of the gateway's `[store]`."
  value       = aws_dynamodb_table.store.name
}

output "arn" {
  description = "The table's ARN."
  value       = aws_dynamodb_table.store.arn
}

output "index_arns" {
  description = "The ARNs of the indexes, by name: a policy has to allow Query on them beside the table."
  value       = { for name, index in local.indexes : name => "${aws_dynamodb_table.store.arn}/index/${name}" }
}
